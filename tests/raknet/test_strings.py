r"""Tests for what may be typed behind C{raknet:}."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import SECOND
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint


class RakNetStringTests(SynchronousTestCase):
    """C{serverFromString} and C{clientFromString} with C{raknet:}."""

    def refused(self, parse: Any, description: str) -> str:
        """
        @return: the text of the C{ValueError}.
        """
        return str(self.assertRaises(ValueError, parse, Clock(), description))

    def test_server(self) -> None:
        """
        C{raknet:19132} alone makes a server with the constructor's defaults, and
        every argument has its effect (STR-3).
        """
        plain = serverFromString(Clock(), "raknet:19132")
        self.assertIsInstance(plain, RakNetServerEndpoint)
        self.assertEqual(repr(plain), "<RakNetServerEndpoint *:19132>")
        full: Any = serverFromString(
            Clock(),
            r"raknet:port=1:interface=\:\:1:motd=a\:b:guid=ff00:protocol=10:mtu=1400:"
            "mode=messages:password=secret:idleTimeout=3:cookies=no:backlog=5:maxSessions=6:"
            "limitFrequency=yes",
        )
        self.assertEqual(full._pongData(), b"\0\3a:b")
        self.assertEqual(full.guid, 0xFF00)
        self.assertFalse(full.cookies)
        self.assertTrue(full.limitFrequency)
        self.assertEqual((full._limits().backlog, full._limits().maxSessions), (5, 6))
        settings = full._settings
        self.assertEqual(settings.accepted, frozenset({10}))
        self.assertEqual((settings.mtu, settings.timeout), (1400, 3 * SECOND))
        self.assertEqual((settings.stream, settings.password), (False, b"secret"))

    def test_versions(self) -> None:
        """
        A server takes several versions and tells the newest, a client speaks one; both
        may have a magic of their own.
        """
        magic = "00112233445566778899AABBCCDDEEFF"
        server: Any = serverFromString(Clock(), f"raknet:1:protocol=9+11+10:magic={magic}")
        self.assertEqual(server._settings.accepted, frozenset({9, 10, 11}))
        self.assertEqual(server._settings.magic, bytes.fromhex(magic))
        client: Any = clientFromString(Clock(), f"raknet:h:1:protocol=9:magic={magic}")
        self.assertEqual(client._settings.protocol, 9)
        self.assertEqual(client._settings.magic, bytes.fromhex(magic))
        server = RakNetServerEndpoint(Clock(), 1, protocol=[10, 11])
        self.assertEqual(server._settings.accepted, frozenset({10, 11}))

    def test_client(self) -> None:
        """C{raknet:HOST:PORT} makes a client."""
        client: Any = clientFromString(Clock(), "raknet:example.org:19132:userId=9a:timeout=3")
        self.assertIsInstance(client, RakNetClientEndpoint)
        self.assertEqual(client._settings.user_id, 0x9A)
        self.assertEqual(client.timeout, 3)

    def test_profile(self) -> None:
        """
        C{profile=go-raknet-2023} brings the tick, timeouts and limits of that fork (raknet.md 14);
        what is given beside it wins.
        """
        client = RakNetClientEndpoint(Clock(), "h", 1, profile="go-raknet-2023", idleTimeout=9)
        settings = client._settings
        self.assertEqual(settings.mtu, 1400)
        self.assertEqual((settings.jump, settings.split_count), (2048, 256))
        self.assertEqual(settings.resend_factor, 1.5)
        self.assertEqual(settings.timeout, 9 * SECOND)
        self.assertEqual(settings.congestion, "none")

    def test_refused(self) -> None:
        """What is wrong is named, with its value and what would be right (STR-4)."""
        for description, words in (
            ("raknet:1:guid=xyz", "guid='xyz'"),
            ("raknet:1:protocol=300", "protocol='300'"),
            ("raknet:1:protocol=10+", "protocol='10+'"),
            ("raknet:1:protocol=10+256", "joined by +"),
            ("raknet:1:magic=00ff", "32 hexadecimal digits"),
            ("raknet:1:mtu=100", "an integer from 400 to 1492"),
            ("raknet:1:mode=packets", "stream or messages"),
            ("raknet:1:userId=10", "userId='10'"),
            ("raknet:1:motd=" + "x" * 398, "at most 397 bytes"),
            ("raknet:1:timeout=3", "argument of the client"),
            ("raknet:", "port is missing"),
        ):
            self.assertIn(words, self.refused(serverFromString, description))
        self.assertIn("motd", self.refused(clientFromString, "raknet:h:1:motd=x"))
        self.assertIn("protocol", self.refused(clientFromString, "raknet:h:1:protocol=10+11"))
        for wrong in ((), (10, 300), 256, -1):
            with self.assertRaisesRegex(ValueError, "protocol"):
                RakNetServerEndpoint(Clock(), 1, protocol=wrong)
        with self.assertRaisesRegex(ValueError, "protocol"):
            RakNetClientEndpoint(Clock(), "h", 1, protocol={10, 11})
        with self.assertRaisesRegex(ValueError, "magic"):
            RakNetClientEndpoint(Clock(), "h", 1, magic=b"short")
        self.assertRaises(ValueError, RakNetServerEndpoint, Clock(), 1, guid=1 << 64)
        self.assertRaises(ValueError, RakNetServerEndpoint, Clock(), 1, profile="fast")
        self.assertRaises(ValueError, RakNetServerEndpoint, Clock(), 1, idleTimeout=0)
