"""Keys, ciphers and FEC as arguments of the KCP endpoints."""

from __future__ import annotations

from typing import Any, get_args

from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint, secretFor
from twisted_rudp.kcp.crypto import NAMES, CipherName
from twisted_rudp.strings import KCP, EndpointParser
from twisted_rudp.testing import MemoryNetwork


class ArgumentTests(SynchronousTestCase):
    """What is typed, and what comes of it."""

    def parse(self, arguments: str) -> Any:
        """A server endpoint."""
        pairs = (each.partition("=") for each in arguments.split(":"))
        named = {name: value for name, _, value in pairs}
        return EndpointParser(KCP).parseStreamServer(Clock(), "4000", **named)

    def test_secrets(self) -> None:
        """What is wrong with a key is said without repeating it (STR-6)."""
        for argument, named in (
            ("key=73656372", "32"),
            ("key=sesame", "password"),
            ("key=:crypt=aes", "key is empty"),
            ("password=sesame:crypt=null", "encrypts nothing"),
            ("key=73656372:password=sesame", "give one of them"),
            ("keyFile=/nowhere/at/all", "keyFile='/nowhere/at/all'"),
            ("crypt=aes", "needs a key"),
            ("crypt=rot13:password=sesame", "crypt='rot13' is invalid"),
            ("dataShards=10", "parityShards=0"),
            ("mtu=50:password=sesame:dataShards=10:parityShards=3", "leaves nothing"),
        ):
            error = self.assertRaises(ValueError, self.parse, argument)
            self.assertIn(named, str(error))
            self.assertTrue(str(error).startswith("kcp: "), str(error))
            for secret in ("73656372", "sesame"):
                self.assertNotIn(secret, str(error))

    def test_protected(self) -> None:
        """Encryption and FEC by a string; the endpoint shows no secret (EP-6)."""
        endpoint = self.parse("password=sesame:dataShards=10:parityShards=3")
        self.assertEqual(repr(endpoint), "<KCPServerEndpoint *:4000>")
        self.assertNotIn("sesame", repr(vars(endpoint)))
        self.assertEqual(endpoint.settings.mtu, 1400 - 20 - 8)

    def test_everyCipher(self) -> None:
        """Strings and type checkers know the ciphers that there are, in their order."""
        kind = KCP.server.table()["crypt"].kind
        self.assertEqual(kind.expected, f"{', '.join(NAMES[:-1])} or {NAMES[-1]}")
        self.assertEqual(get_args(CipherName), NAMES)

    def test_keyFile(self) -> None:
        """
        A key in a file is read when the endpoint is made; white space around it
        does not count; what is wrong with the file is said.
        """
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("00" * 32 + "\n")
        self.assertEqual(secretFor(None, None, None, path).reveal(), bytes(32))
        with open(path, "wb") as file:
            file.write(bytes(range(128, 160)))
        error = self.assertRaises(ValueError, secretFor, None, None, None, path)
        self.assertIn("not a text file", str(error))

    def test_same(self) -> None:
        """Both classes take every argument of their strings."""
        for cls, role, leading in (
            (KCPServerEndpoint, KCP.server, 1),
            (KCPClientEndpoint, KCP.client, 2),
        ):
            known = set(cls.__init__.__annotations__) - {"reactor", "entropy", "return"}
            self.assertEqual(known, set(role.table()), leading)

    def test_noneWithPassword(self) -> None:
        """
        kcptun's users always give a key, also with C{none}, which does not use it: the same
        arguments work here. C{null} stays an error: nobody gets plaintext by mistake.
        """
        for argument in ("password=sesame", "key=" + "00" * 32):
            endpoint = self.parse(f"{argument}:crypt=none")
            self.assertEqual(endpoint.settings.mtu, 1400 - 20)
            with self.assertRaises(ValueError):
                self.parse(f"{argument}:crypt=null")

    def test_warned(self) -> None:
        """
        Whoever listens or dials without any protection is told, once; who has said so
        meant it.
        """
        for arguments, wanted in (
            ("", "nothing is encrypted"),
            ("crypt=xor:password=sesame", "hides nothing"),
            ("crypt=tea:password=sesame", "computed in Python"),
            ("crypt=null", None),
            ("crypt=none:password=sesame", None),
            ("password=sesame", None),
        ):
            pairs = (each.partition("=") for each in arguments.split(":") if each)
            named = {name: value for name, _, value in pairs}
            reactor = MemoryNetwork(seed=1).host("server", "10.0.0.1").reactor
            endpoint = EndpointParser(KCP).parseStreamServer(reactor, "0", **named)
            lines: list[Any] = []
            globalLogPublisher.addObserver(lines.append)
            for _ in range(2):
                self.successResultOf(endpoint.listen(Factory()))
            globalLogPublisher.removeObserver(lines.append)
            texts = [
                formatEvent(line) for line in lines if line["log_level"] is LogLevel.warn
            ]
            self.assertEqual(len(texts), 0 if wanted is None else 1, texts)
            if wanted is not None:
                self.assertIn(wanted, texts[0])

    def test_bytes(self) -> None:
        """A program may give a key as bytes, or in hexadecimal digits."""
        for key in (bytes(range(32)), bytes(range(32)).hex()):
            self.assertEqual(secretFor(None, key, None, None).reveal(), bytes(range(32)))

    def test_mtu(self) -> None:
        """
        The session's mtu is the longest UDP payload, whatever is in front of the
        ARQ (kcp.md 2.1): 1400 leaves 1376, 1368, 1356, 1348 bytes of data.
        """
        fec = {"dataShards": 10, "parityShards": 3}
        for named, mss in (
            ({}, 1376),
            (fec, 1368),
            ({"password": "x"}, 1356),
            ({"password": "x", **fec}, 1348),
            ({"password": "x", "crypt": "aes-128-gcm"}, 1348),
            ({"password": "x", "crypt": "aes-128-gcm", **fec}, 1340),
        ):
            arguments: dict[str, Any] = named
            self.assertEqual(KCPServerEndpoint(Clock(), 1, **arguments).settings.mss, mss)

    def test_xorReach(self) -> None:
        """C{xor} has 1500 bytes for a datagram."""
        for mtu in (1500, 1501):
            named: dict[str, Any] = {"crypt": "xor", "password": "x", "mtu": mtu}
            if mtu == 1500:
                KCPServerEndpoint(Clock(), 1, **named)
            else:
                self.assertRaises(ValueError, KCPServerEndpoint, Clock(), 1, **named)
