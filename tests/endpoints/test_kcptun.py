"""Endpoints that speak as kcptun does."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import ConnectionDone, NoProtocol
from twisted.internet.protocol import Factory
from twisted.logger import Logger, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.endpoints.talks import Collecting, Echo, Talk
from twisted_rudp.endpoints.kcp import KCPServerEndpoint
from twisted_rudp.endpoints.kcptun import (
    DEFAULT_PASSWORD,
    KCPTunClientEndpoint,
    KCPTunEndpoint,
    KCPTunServerEndpoint,
)
from twisted_rudp.net.hub import Hub
from twisted_rudp.testing import MemoryNetwork
from twisted_rudp.testing.impairments import Impairments


class TunnelTests(SynchronousTestCase):
    """Both ends of ours."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=7, delay=0.02)
        self.here = self.network.host("client")
        self.there = self.network.host("server")
        self.factory = Collecting(Echo)

    def both(self, loss: float = 0.0, **more: Any) -> KCPTunClientEndpoint:
        """A listening server and a client for it."""
        entropy = self.network.random.randbytes
        shared = {"entropy": entropy, **more}
        mine = {name: shared.pop(name) for name in ("conn", "autoexpire", "scavengettl")
                if name in shared}  # fmt: skip
        server = KCPTunServerEndpoint(self.there.reactor, 29900, **shared)
        self.port = self.successResultOf(server.listen(self.factory))
        if loss:
            self.network.impair(Impairments(delay=0.02, loss=loss), self.here, self.there)
        return KCPTunClientEndpoint(
            self.here.reactor, self.there.address, 29900, **shared, **mine
        )

    def open(self, endpoint: KCPTunClientEndpoint) -> Any:
        """A stream."""
        waiting = endpoint.connect(Collecting(Talk))
        self.network.run(waiting)
        return self.successResultOf(waiting)

    def test_shared(self) -> None:
        """Connections share a session; the second is there at once, and each has its own bytes."""
        endpoint = self.both()
        first = self.open(endpoint)
        second = self.successResultOf(endpoint.connect(Collecting(Talk)))
        first.transport.write(b"one")
        second.transport.write(b"two")
        self.network.runFor(1)
        self.assertEqual((first.heard, second.heard), (b"one", b"two"))
        self.assertEqual(len(self.factory.built), 2)
        first.transport.loseConnection()
        self.network.runFor(2)
        self.assertIs(first.lost.type, ConnectionDone)
        self.assertIs(self.factory.built[0].lost.type, ConnectionDone)
        self.assertIsNone(second.lost)
        second.transport.write(b" more")
        self.network.runFor(1)
        self.assertEqual(second.heard, b"two more")

    def test_options(self) -> None:
        """Much data over a lossy path, with every combination that kcptun has."""
        data = self.network.random.randbytes(200_000)
        for more in (
            {},
            {"smuxver": 1},
            {"nocomp": True},
            {"crypt": "none"},
            {"crypt": "aes-128-gcm", "password": "secret"},
            {"dataShards": 0, "parityShards": 0, "profile": "default"},
            {"qpp": True, "qppCount": 7, "password": "secret"},
            {"key": "5a" * 32, "profile": "fast3"},
        ):
            self.setUp()
            endpoint = self.both(0.02, **more)
            talk = self.open(endpoint)
            talk.transport.write(data)
            self.network.runFor(20)
            self.assertEqual(talk.heard, data, more)

    def test_firstByte(self) -> None:
        """
        Where 5 % are lost, the answer to the first bytes of a connection comes after a round trip
        and two short pauses in all but few cases: both are sent three times.
        """
        endpoint = self.both(0.05)
        self.network.impair(Impairments(seed=3, delay=0.02, loss=0.05), self.there, self.here)
        self.open(endpoint)
        self.network.runFor(1)
        late = 0
        for _ in range(100):
            talk = self.open(endpoint)
            talk.transport.write(b"hello")
            self.network.runFor(0.063)
            late += talk.heard != b"hello"
            talk.transport.loseConnection()
            self.network.runFor(0.02)
        self.assertTrue(late <= 2, late)

    def test_parity(self) -> None:
        """
        While little is lost an upload has less parity than the groups may have, once it has gone
        on for a while; where much is, and with C{fec=fixed}, it has all.
        """
        for loss, more, least, most in (
            (0.0, {}, 0.1, 0.2),
            (0.05, {}, 0.2, 0.31),
            (0.0, {"fec": "fixed"}, 0.29, 0.31),
        ):
            self.setUp()
            endpoint = self.both(loss, nocomp=True, crypt="none", **more)
            talk = self.open(endpoint)
            found = []
            for half in (1, 2):
                talk.transport.write(bytes(8_000_000))
                self.network.runFor(4)
                (there,) = self.factory.built
                self.assertEqual(len(there.heard), half * 8_000_000)
                found.append(there.transport.counters()["FECParityShards"])
            parity = (found[1] - found[0]) / (8_000_000 / 1302)
            self.assertTrue(least < parity < most, (loss, more, parity))

    def test_disconnect(self) -> None:
        """What was written arrives before the sessions end, and nothing is left behind."""
        endpoint = self.both()
        talk = self.open(endpoint)
        talk.transport.write(bytes(100_000))
        ended = endpoint.disconnect()
        self.network.run(ended)
        self.successResultOf(ended)
        self.network.runFor(1)
        self.assertEqual(len(self.factory.built[0].heard), 100_000)
        self.assertIsNotNone(talk.lost)
        self.assertEqual(self.here.ports, [])
        self.assertIsNone(self.successResultOf(endpoint.disconnect()))

    def test_again(self) -> None:
        """A session that is lost is dialled anew for the next connection."""
        endpoint = self.both()
        talk = self.open(endpoint)
        ended = endpoint.disconnect()
        self.network.run(ended)
        again = self.open(endpoint)
        again.transport.write(b"hello")
        self.network.runFor(1)
        self.assertEqual(again.heard, b"hello")
        self.assertIsNotNone(talk.lost)

    def test_conn(self) -> None:
        """Several sessions take the connections in turn."""
        endpoint = self.both(conn=3)
        talks = [self.open(endpoint) for _ in range(6)]
        for number, talk in enumerate(talks):
            talk.transport.write(b"%d" % number)
        self.network.runFor(1)
        self.assertEqual([talk.heard for talk in talks], [b"%d" % n for n in range(6)])
        self.assertEqual(len(self.here.ports), 3)

    def test_autoexpire(self) -> None:
        """An old session gives way to a new one, and ends with its last stream or in time."""
        endpoint = self.both(autoexpire=10.0, scavengettl=20.0)
        old = self.open(endpoint)
        self.network.runFor(11)
        young = self.open(endpoint)
        self.assertEqual(len(self.here.ports), 2)
        old.transport.write(b"still here")
        self.network.runFor(1)
        self.assertEqual(old.heard, b"still here")
        self.network.runFor(25)
        self.assertIsNotNone(old.lost)
        young.transport.write(b"so am I")
        self.network.runFor(1)
        self.assertEqual(young.heard, b"so am I")

    def test_nobody(self) -> None:
        """Without a server the connection fails when the time is over."""
        endpoint = KCPTunClientEndpoint(
            self.here.reactor, self.there.address, 29900, timeout=5,
            entropy=self.network.random.randbytes,
        )  # fmt: skip
        waiting = endpoint.connect(Collecting(Talk))
        self.network.runFor(6)
        self.assertIsNotNone(self.failureResultOf(waiting))
        self.assertEqual(self.here.ports, [])

    def test_cancelled(self) -> None:
        """Who no longer waits lets the dialling end, unless somebody else waits too."""
        endpoint = self.both()
        first: Deferred[Any] = endpoint.connect(Collecting(Talk))
        second: Deferred[Any] = endpoint.connect(Collecting(Talk))
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.network.run(second)
        self.assertIsInstance(self.successResultOf(second), Talk)
        self.network.run(endpoint.disconnect())
        third: Deferred[Any] = endpoint.connect(Collecting(Talk))
        third.cancel()
        self.failureResultOf(third, CancelledError)
        self.network.runFor(10)
        self.assertEqual(self.here.ports, [])

    def test_unwanted(self) -> None:
        """A factory that declines costs its own connection only."""
        endpoint = self.both()
        talk = self.open(endpoint)

        class Declining(Factory):
            noisy = False

            def buildProtocol(self, addr: Any) -> None:
                return None

        self.failureResultOf(endpoint.connect(Declining()), NoProtocol)
        talk.transport.write(b"hello")
        self.network.runFor(1)
        self.assertEqual(talk.heard, b"hello")

    def test_stopListening(self) -> None:
        """The server's end reaches the connections."""
        endpoint = self.both()
        talk = self.open(endpoint)
        talk.transport.write(b"hello")
        self.network.runFor(1)
        self.network.run(self.port.stopListening())
        self.network.runFor(2)
        self.assertIsNotNone(talk.lost)

    def mismatch(self, here: dict[str, Any], there: dict[str, Any]) -> list[str]:
        """What two ends with different arguments write to the log, and why the dialler fails."""
        self.setUp()
        events: list[dict[str, Any]] = []
        for place in (KCPTunEndpoint, Hub):
            self.patch(place, "_log", Logger(observer=events.append))
        self.both(**there)
        endpoint = KCPTunClientEndpoint(
            self.here.reactor, self.there.address, 29900,
            entropy=self.network.random.randbytes, **here,
        )  # fmt: skip
        talks, failures = Collecting(Talk), []
        endpoint.connect(talks).addCallbacks(
            lambda talk: talk.transport.write(b"hello"), failures.append
        )
        self.network.runFor(40)
        lines = [formatEvent(event) for event in events if event["log_level"] >= LogLevel.warn]
        for talk in talks.built:
            self.assertEqual(talk.heard, b"" if lines else b"hello")
            self.assertEqual(talk.lost is None, not lines)
        return lines + [failure.getErrorMessage() for failure in failures]

    def test_mismatch(self) -> None:
        """
        What does not fit ends the connection and is named in one line of each end that can tell;
        ends that fit say nothing.
        """
        plain, packed = "does not compress: set nocomp", "compresses: set nocomp"
        version = "speaks smux version"
        for here, there, words in (
            ({}, {}, set()),
            ({"nocomp": True}, {"nocomp": True}, set()),
            ({"smuxver": 2}, {"smuxver": 1}, {version}),
            ({"smuxver": 1}, {"smuxver": 2}, {version}),
            ({"nocomp": True}, {}, {plain}),
            ({}, {"nocomp": True}, {packed}),
            ({"password": "x"}, {"password": "y"}, {"a different key", "nothing ever came"}),
        ):
            lines = self.mismatch(here, there)
            for line in lines:
                self.assertTrue(any(word in line for word in words), (line, words))
            self.assertEqual(bool(lines), bool(words), (here, there))

    def test_silence(self) -> None:
        """
        A peer that closes its session without a word, as kcptun does when it does not understand
        what comes, is told of as well.
        """
        events: list[dict[str, Any]] = []
        self.patch(KCPTunEndpoint, "_log", Logger(observer=events.append))
        plain = KCPServerEndpoint(
            self.there.reactor, 29900, crypt="aes", password=DEFAULT_PASSWORD,
            entropy=self.network.random.randbytes,
        )  # fmt: skip
        self.successResultOf(plain.listen(Collecting(Talk)))
        endpoint = KCPTunClientEndpoint(
            self.here.reactor, self.there.address, 29900, entropy=self.network.random.randbytes
        )
        talk = self.open(endpoint)
        self.network.runFor(70)
        self.assertIsNotNone(talk.lost)
        (line,) = [formatEvent(event) for event in events if event["log_level"] >= LogLevel.warn]
        self.assertIn("nothing ever came of smux: set key, crypt, nocomp and smuxver alike", line)

    def test_strings(self) -> None:
        """Both ends by endpoint strings, with what is invalid named."""
        reactor = self.here.reactor
        client = clientFromString(
            reactor, "kcptun:host=192.0.2.1:port=29900:smuxver=1:nocomp=yes:conn=2"
        )
        self.assertIsInstance(client, KCPTunClientEndpoint)
        self.assertEqual((client.smuxver, client.nocomp, client.conn), (1, True, 2))
        server = serverFromString(reactor, "kcptun:29900:crypt=salsa20:streambuf=100000")
        self.assertIsInstance(server, KCPTunServerEndpoint)
        self.assertEqual((server.crypt, server.streambuf), ("salsa20", 100_000))
        error = self.assertRaises(ValueError, serverFromString, reactor, "kcptun:1:smuxver=3")
        self.assertIn("smuxver", str(error))
        self.assertRaises(
            ValueError, KCPTunServerEndpoint, reactor, 1, keepalive=31.0
        )
        self.assertRaises(ValueError, KCPTunServerEndpoint, reactor, 1, key="5a" * 32, qpp=True)

    def test_gone(self) -> None:
        """A peer that is gone shows as a lost connection."""
        endpoint = self.both()
        talk = self.open(endpoint)
        self.network.impair(Impairments(cut=True), self.here, self.there)
        self.network.runFor(200)
        self.assertIsNotNone(talk.lost)
        self.assertFalse(talk.lost.check(ConnectionDone))
