"""L{twisted_rudp.endpoints.mux}: many connections over few sessions of each transport."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.endpoints.muxes import DELAY, KINDS, MuxTestCase
from tests.endpoints.talks import Collecting, Talk
from twisted_rudp.endpoints.kcptun import KCPTunClientEndpoint
from twisted_rudp.endpoints.mux import (
    PREFACE_TIMEOUT,
    MuxClientEndpoint,
    MuxServerEndpoint,
    carrying,
    multiplexes,
)
from twisted_rudp.errors import PeerReset
from twisted_rudp.mux.control import NONCE_SIZE, Offer, pack_preface
from twisted_rudp.testing.impairments import Impairments


class Greeting(Talk):
    """Speaks first."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")


class Patient(Talk):
    """Pauses at once."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.pauseProducing()


class Leaving(Talk):
    """Closes at once."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


@implementer(IHalfCloseableProtocol)
class HalfOpen(Talk):
    """Goes on when one half has ended."""

    def readConnectionLost(self) -> None:
        """The other end has ended its half."""

    def writeConnectionLost(self) -> None:
        """So have we."""


class SharedTests(MuxTestCase):
    """Connections that share a session."""

    def test_interfaces(self) -> None:
        """Both are endpoints of Twisted's."""
        verifyObject(IStreamServerEndpoint, MuxServerEndpoint(self.plainServer("kcp")))
        verifyObject(IStreamClientEndpoint, MuxClientEndpoint(self.plainClient("kcp")))

    def test_shared(self) -> None:
        """
        A second connection is there at once, and its first byte answered after one round trip;
        each has its own bytes and its own end, over one session.
        """
        for kind in KINDS:
            self.setUp()
            endpoint = self.both(kind)
            first = self.open(endpoint)
            self.network.runFor(1)
            second = self.successResultOf(endpoint.connect(Collecting(Talk)))
            second.transport.write(b"two")
            self.network.runFor(2.5 * DELAY)
            self.assertEqual(second.heard, b"two", kind)
            first.transport.write(b"one")
            first.transport.loseConnection()
            self.network.runFor(1)
            self.assertEqual(len(self.here.ports), 1)
            self.assertIsNotNone(self.factory.built[0].lost, kind)
            self.assertIs(self.factory.built[0].lost.type, ConnectionDone)
            self.assertEqual(self.factory.built[0].heard, b"one")
            self.assertIs(first.lost.type, ConnectionDone)
            self.assertIsNone(second.lost)
            self.assertEqual(self.said(), [])
            self.network.run(endpoint.disconnect())
            self.network.runFor(1)
            self.assertIsNotNone(second.lost)
            self.assertEqual(self.here.ports, [])

    def test_lossy(self) -> None:
        """Fifty connections at once over a path that loses 5 %: each has its own bytes."""
        for kind in KINDS:
            self.setUp()
            endpoint = self.both(kind)
            self.network.impair(Impairments(delay=DELAY, loss=0.05), self.here, self.there)
            wanted = [self.network.random.randbytes(4000) for _ in range(50)]
            waiting = [endpoint.connect(Collecting(Talk)) for _ in wanted]
            self.network.run(waiting[-1])
            talks: list[Any] = [self.successResultOf(each) for each in waiting]
            for talk, data in zip(talks, wanted, strict=True):
                talk.transport.write(data)
            self.network.runFor(10)
            self.assertEqual([bytes(talk.heard) for talk in talks], wanted, kind)
            self.assertEqual(len(self.here.ports), 1)

    def test_firstByte(self) -> None:
        """
        Where 5 % are lost, the answer to the first bytes of a connection comes after a round trip
        and two short pauses in all but few cases: both are sent three times.
        """
        for kind in KINDS:
            self.setUp()
            endpoint = self.both(kind)
            self.open(endpoint)
            for way in ((self.here, self.there), (self.there, self.here)):
                self.network.impair(Impairments(seed=3, delay=DELAY, loss=0.05), *way)
            self.network.runFor(1)
            late = 0
            for _ in range(100):
                talk = self.open(endpoint)
                # A request that comes after the address, as over TCP.
                self.network.runFor(DELAY / 10)
                talk.transport.write(b"hello")
                self.network.runFor(3.1 * DELAY)
                late += talk.heard != b"hello"
                talk.transport.loseConnection()
                self.network.runFor(DELAY)
            self.assertTrue(late <= 2, (kind, late))

    def test_aborted(self) -> None:
        """An abort reaches the other end as one, in both directions."""
        for kind in KINDS:
            self.setUp()
            endpoint = self.both(kind)
            mine, other = self.open(endpoint), self.open(endpoint)
            for talk in (mine, other):
                talk.transport.write(b"hello")
            self.network.runFor(1)
            mine.transport.abortConnection()
            self.factory.built[1].transport.abortConnection()
            self.network.runFor(1)
            self.assertIs(self.factory.built[0].lost.type, PeerReset, kind)
            self.assertIs(other.lost.type, PeerReset, kind)

    def test_unread(self) -> None:
        """A connection that nobody reads fills its own window, and stops no other."""
        for kind in ("kcp", "raknet"):
            self.setUp()
            endpoint = self.both(kind)
            stuck = [self.open(endpoint) for _ in range(3)]
            other = self.open(endpoint)
            self.network.runFor(1)
            for number, talk in enumerate(stuck):
                self.factory.built[number].transport.pauseProducing()
                talk.transport.write(bytes(1_000_000))
            self.network.runFor(3)
            other.transport.write(b"hello")
            self.network.runFor(0.2)
            self.assertEqual(other.heard, b"hello", kind)
            for number in range(3):
                self.factory.built[number].transport.resumeProducing()
            self.network.runFor(10)
            self.assertEqual([len(talk.heard) for talk in stuck], [1_000_000] * 3)

    def test_pausedAtOnce(self) -> None:
        """
        What comes with the opening of a connection waits while its protocol pauses, which it may
        do as soon as it is made, and is not for one that has closed.
        """
        for kind in KINDS:
            self.setUp()
            factory = Collecting(Patient)
            server = MuxServerEndpoint(self.plainServer(kind))
            self.successResultOf(server.listen(factory))
            talk = self.open(MuxClientEndpoint(self.plainClient(kind)), Greeting)
            self.network.runFor(1)
            [patient] = factory.built
            self.assertEqual(patient.heard, b"", kind)
            talk.transport.write(b", world")
            talk.transport.loseConnection()
            self.network.runFor(1)
            self.assertIsNone(patient.lost, kind)
            patient.transport.resumeProducing()
            self.network.runFor(1)
            self.assertEqual(patient.heard, b"hello, world", kind)
            self.assertIs(patient.lost.type, ConnectionDone, kind)
            factory.kind = Leaving
            self.open(MuxClientEndpoint(self.plainClient(kind)), Greeting)
            self.network.runFor(1)
            self.assertEqual(factory.built[-1].heard, b"", kind)

    def test_lateReader(self) -> None:
        """
        Who pauses has all that a connection brought and its orderly end, though the other end
        has closed long ago. Of a connection over QOTP's multiplexer it had nothing, and was told
        of a reset, as were those over KCP and QOTP alone that had brought nothing.
        """
        for kind, multiplexed in product(KINDS, (True, False)):
            for size in (0, 1000, 100_000):
                self.setUp()
                server, client = self.plainServer(kind), self.plainClient(kind)
                if multiplexed:
                    server, client = MuxServerEndpoint(server), MuxClientEndpoint(client)
                self.successResultOf(server.listen(self.factory))
                talk = self.open(client)
                self.network.runFor(1)
                talk.transport.pauseProducing()
                [echo] = self.factory.built
                echo.transport.write(bytes(size))
                echo.transport.loseConnection()
                self.network.runFor(100)
                self.assertEqual(talk.heard, b"")
                talk.transport.resumeProducing()
                self.network.runFor(2)
                case = (kind, multiplexed, size)
                self.assertEqual(len(talk.heard), size, case)
                self.assertIs(talk.lost.type, ConnectionDone, case)
                self.assertIs(echo.lost.type, ConnectionDone, case)

    def test_writingToOneThatClosed(self) -> None:
        """
        Who writes on where the other end has closed is reset, and reads before what that end had
        written. What it writes then goes nowhere, and raises nothing.
        """
        for kind in KINDS:
            self.setUp()
            endpoint = self.both(kind)
            talk = self.open(endpoint)
            self.network.runFor(1)
            talk.transport.pauseProducing()
            [echo] = self.factory.built
            echo.transport.write(bytes(1000))
            echo.transport.loseConnection()
            self.network.runFor(1)
            for _ in range(5):
                talk.transport.write(bytes(1000))
                self.network.runFor(1)
            self.assertIsNone(talk.lost, kind)
            talk.transport.resumeProducing()
            self.network.runFor(2)
            self.assertEqual(len(talk.heard), 1000, kind)
            self.assertIsNotNone(talk.lost, kind)

    def test_abortedBehindItsEnd(self) -> None:
        """Who has ended only its own half and aborts then is heard of at once."""
        for kind in KINDS:
            self.setUp()
            self.factory = Collecting(HalfOpen)
            endpoint = self.both(kind)
            talk = self.open(endpoint, HalfOpen)
            talk.transport.write(b"request")
            talk.transport.loseWriteConnection()
            self.network.runFor(1)
            [half] = self.factory.built
            self.assertEqual((half.heard, half.lost), (b"request", None))
            talk.transport.abortConnection()
            self.network.runFor(1)
            self.assertIs(half.lost.type, PeerReset, kind)

    def test_sessions(self) -> None:
        """Several sessions are dialled, and a connection goes to the one with the fewest."""
        endpoint = self.both("kcp", sessions=3)
        endpoint.hold()
        self.network.runFor(1)
        self.assertEqual(len(endpoint.sessions), 3)
        talks = [self.successResultOf(endpoint.connect(Collecting(Talk))) for _ in range(6)]
        self.assertEqual([each.streams for each in endpoint.sessions], [2, 2, 2])
        for talk in talks[:2]:
            talk.transport.loseConnection()  # type: ignore[attr-defined]
        self.network.runFor(1)
        before = sorted(each.streams for each in endpoint.sessions)
        self.successResultOf(endpoint.connect(Collecting(Talk)))
        self.successResultOf(endpoint.connect(Collecting(Talk)))
        self.assertEqual(before, [1, 1, 2])
        self.assertEqual([each.streams for each in endpoint.sessions], [2, 2, 2])

    def test_refused(self) -> None:
        """What carries no streams, or does already, is refused by name."""
        for bad in (
            object(),
            KCPTunClientEndpoint(self.here.reactor, "192.0.2.1", 1),
            self.plainClient("kcp", mode="messages"),
            MuxClientEndpoint(self.plainClient("kcp")),
        ):
            self.assertIn("mux: ", str(self.assertRaises(ValueError, MuxClientEndpoint, bad)))
        plain = self.plainClient("kcp")
        for more in (
            {"sessions": 0}, {"sessions": 65}, {"patience": -1.0}, {"secret": b"short"},
            {"secretFile": "/nonexistent"}, {"secret": bytes(32), "secretFile": "x"},
        ):  # fmt: skip
            error = self.assertRaises(ValueError, MuxClientEndpoint, plain, **more)
            self.assertIn(next(iter(more)), str(error))


class Closing(Talk):
    """Ends the session at the first byte."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        assert self.transport is not None
        self.transport.loseConnection()


class CloseTests(MuxTestCase):
    """The end of a session."""

    def test_server(self) -> None:
        """An end that a server asks for comes at once, and is an orderly one."""
        for kind in KINDS:
            self.setUp()
            closing = Collecting(Closing)
            self.successResultOf(carrying(self.plainServer(kind)).listen(closing))
            talk = self.open(carrying(self.plainClient(kind)))
            talk.transport.write(b"x")
            self.network.runFor(1)
            for each in (talk, closing.built[0]):
                self.assertIsNotNone(each.lost, kind)
                self.assertIs(each.lost.type, ConnectionDone)


class RetireTests(MuxTestCase):
    """A server that is replaced."""

    def test_retire(self) -> None:
        """Its sessions end when their last stream does."""
        for kind in KINDS:
            self.setUp()
            server = self.listen(kind)
            endpoint = MuxClientEndpoint(self.plainClient(kind))
            talk = self.open(endpoint)
            talk.transport.write(b"x")
            self.network.runFor(1)
            server.retire()
            self.network.runFor(5)
            talk.transport.write(b"y")
            self.network.runFor(1)
            self.assertEqual(talk.heard, b"xy", kind)
            talk.transport.loseConnection()
            self.network.runFor(4)
            self.assertEqual(endpoint.sessions, [])
            self.assertIs(talk.lost.type, ConnectionDone)


class LostTests(MuxTestCase):
    """The far end goes and comes again."""

    def test_again(self) -> None:
        """
        A session that is lost is dialled again; who connects meanwhile waits, and is served when
        the far end is there again.
        """
        endpoint = self.both("kcp")
        endpoint.hold()
        self.network.runFor(1)
        talk = self.open(endpoint)
        self.network.run(self.port.stopListening())
        self.network.runFor(3)
        self.assertIsNotNone(talk.lost)
        waiting: Deferred[Any] = endpoint.connect(Collecting(Talk))
        self.network.runFor(10)
        self.assertNoResult(waiting)
        self.listen("kcp")
        self.network.run(waiting)
        again = self.successResultOf(waiting)
        again.transport.write(b"hello")
        self.network.runFor(1)
        self.assertEqual(again.heard, b"hello")

    def test_tooLong(self) -> None:
        """Nobody waits longer than C{patience}, and then nothing is dialled any more."""
        endpoint = MuxClientEndpoint(self.plainClient("kcp", timeout=2), patience=9)
        waiting = endpoint.connect(Collecting(Talk))
        self.network.runFor(8.9)
        self.assertNoResult(waiting)
        self.network.runFor(0.2)
        self.failureResultOf(waiting)
        self.network.runFor(3)
        self.assertEqual(self.here.ports, [])

    def test_longHandshake(self) -> None:
        """A session that is not there yet is not kept alive, and lasts as long as it may."""
        for kind in KINDS:
            self.setUp()
            self.listen(kind)
            endpoint = MuxClientEndpoint(self.plainClient(kind, timeout=100), patience=200)
            self.network.cut(self.here, self.there)
            waiting = endpoint.connect(Collecting(Talk))
            self.network.runFor(90)
            self.network.mend(self.here, self.there)
            self.network.runFor(15)
            self.assertIsNone(self.successResultOf(waiting).lost, kind)
            self.assertEqual(self.said(), [], kind)

    def test_cancelled(self) -> None:
        """Who no longer waits lets the dialling end."""
        endpoint = MuxClientEndpoint(self.plainClient("kcp"))
        waiting = endpoint.connect(Collecting(Talk))
        self.network.runFor(1)
        waiting.cancel()
        self.failureResultOf(waiting)
        self.network.runFor(1)
        self.assertEqual(self.here.ports, [])


    def test_closedFirst(self) -> None:
        """Who ends a session before the far end has answered has nothing to complain of."""
        for kind in KINDS:
            self.setUp()
            endpoint = self.both(kind)
            talk = self.open(endpoint)
            talk.transport.loseConnection()
            self.network.run(endpoint.disconnect())
            self.network.runFor(PREFACE_TIMEOUT + 3)
            self.assertEqual(self.said(), [], kind)
            self.assertEqual(self.here.ports, [])


class MismatchTests(MuxTestCase):
    """One end multiplexes, the other does not."""

    def test_plainServer(self) -> None:
        """The client says so in one line, and its connections end."""
        for kind in KINDS:
            self.setUp()
            silent = Collecting(Talk)
            self.successResultOf(self.plainServer(kind).listen(silent))
            endpoint = MuxClientEndpoint(self.plainClient(kind))
            talk = self.open(endpoint)
            self.network.runFor(0.5)
            plain = silent.built[0]
            self.assertTrue(multiplexes(plain.transport, bytes(plain.heard)), kind)
            self.network.runFor(PREFACE_TIMEOUT + 3)
            [line] = self.said()
            self.assertIn("give --mux, or mux:, at both ends", line)
            self.assertIn(self.there.address, line)
            self.assertIsNotNone(talk.lost, kind)
            self.network.run(endpoint.disconnect())

    def test_answers(self) -> None:
        """The same when what is behind the plain server answers."""
        for kind in KINDS:
            self.setUp()
            self.successResultOf(self.plainServer(kind).listen(Collecting(Shouting)))
            talk = self.open(MuxClientEndpoint(self.plainClient(kind)))
            self.network.runFor(PREFACE_TIMEOUT + 3)
            [line] = self.said()
            self.assertIn("give --mux, or mux:, at both ends", line)
            self.assertIsNotNone(talk.lost, kind)

    def test_plainClient(self) -> None:
        """The server says so in one line, whether the client speaks or not, and hears nothing."""
        for kind in KINDS:
            for data in (b"", b"GET / HTTP/1.1\r\n\r\n"):
                self.setUp()
                self.listen(kind)
                talk = self.open(self.plainClient(kind))
                talk.transport.write(data)
                self.network.runFor(PREFACE_TIMEOUT + 3)
                [line] = self.said()
                self.assertIn("give --mux, or mux:, at both ends", line)
                self.assertEqual(talk.heard, b"")
                self.assertIsNotNone(talk.lost, kind)
                self.assertEqual(self.factory.built, [])


    def test_outage(self) -> None:
        """
        Where the path or the peer is gone before the two ends know each other, the line says that,
        and no word of options.
        """
        for kind in KINDS:
            for more, expected in (
                ({}, "nothing was acknowledged for 10 seconds"),
                ({"idleTimeout": 5.0}, "no multiplexer answered ("),
            ):
                self.setUp()
                self.listen(kind)
                endpoint = MuxClientEndpoint(self.plainClient(kind, **more))
                waiting = endpoint.connect(Collecting(Talk))
                waiting.addCallback(lambda _: self.network.cut(self.here, self.there))
                self.network.run(waiting)
                self.network.runFor(PREFACE_TIMEOUT + 3)
                [line] = [said for said in self.said() if "ClientEndpoint" in said]
                self.assertIn(expected, line)
                self.assertNotIn("--mux", line)
                self.network.run(endpoint.disconnect())


class Shouting(Talk):
    """Answers as a server does that takes what it hears for nonsense."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3)


class SecretTests(MuxTestCase):
    """A secret of both ends."""

    def trial(self, kind: str, mine: bytes | None, theirs: bytes | None) -> bytes:
        """What comes back to a client."""
        self.setUp()
        self.listen(kind, secret=theirs)
        endpoint = MuxClientEndpoint(self.plainClient(kind), secret=mine, patience=5)
        talks = Collecting(Talk)
        waiting = endpoint.connect(talks)
        waiting.addCallbacks(lambda talk: talk.transport.write(b"hello"), lambda failure: None)
        self.network.runFor(PREFACE_TIMEOUT)
        return b"".join(bytes(talk.heard) for talk in talks.built)

    def test_secret(self) -> None:
        """Both have to know it; otherwise nothing reaches the factory, and the log says why."""
        for kind in KINDS:
            one, another = b"one" * 8, b"another" * 8
            self.assertEqual(self.trial(kind, one, one), b"hello", kind)
            self.assertEqual(self.said(), [])
            for mine, theirs, words in (
                (one, another, "the peer has another secret"),
                (None, another, "the peer wants a secret"),
                (one, None, "the peer has no secret"),
            ):
                self.assertEqual(self.trial(kind, mine, theirs), b"", kind)
                self.assertIn(words, "\n".join(self.said()), kind)
                if theirs is not None:
                    self.assertEqual(self.factory.built, [])

    def test_noProof(self) -> None:
        """A client that greets and then proves nothing, or leaves, is named and gets no stream."""
        for leaves in (False, True):
            self.setUp()
            self.listen("qotp", secret=b"secret" * 8)
            talk = self.open(self.plainClient("qotp"))
            talk.transport.write(pack_preface(Offer.SECRET | Offer.STREAMS, bytes(NONCE_SIZE)))
            self.network.runFor(1)
            if leaves:
                talk.transport.abortConnection()
            self.network.runFor(PREFACE_TIMEOUT + 3)
            [line] = self.said()
            self.assertIn("no proof of the secret came", line)
            self.assertEqual("in time" in line, not leaves)
            self.assertIsNotNone(talk.lost)
            self.assertEqual(self.factory.built, [])


class StringTests(MuxTestCase):
    """Endpoint strings."""

    def test_strings(self) -> None:
        """Both ends, around every transport, with the arguments of both."""
        reactor = self.here.reactor
        path = self.mktemp()
        Path(path).write_text("0123456789abcdef\n")
        for kind, (_, plain) in KINDS.items():
            client = clientFromString(
                reactor, f"mux:{kind}:host=2001\\:db8\\:\\:1:port=4000:sessions=2:patience=5"
            )
            assert isinstance(client, MuxClientEndpoint)
            self.assertIsInstance(client.carrier, plain)
            self.assertEqual((client.carrier.host, client.carrier.port), ("2001:db8::1", 4000))
            server = serverFromString(reactor, f"mux:{kind}:4000:secretFile={path}")
            self.assertIsInstance(server, MuxServerEndpoint)
            self.assertEqual(server.side.secret, b"0123456789abcdef")
        self.assertIsInstance(clientFromString(reactor, "mux:node:alice"), MuxClientEndpoint)

    def test_invalid(self) -> None:
        """What is wrong is named."""
        reactor = self.here.reactor
        for bad, words in (
            ("mux:", "expected an endpoint"),
            ("mux:kcp:h:1:sessions=0", "sessions='0' is invalid"),
            ("mux:kcp:h:1:sesions=2", "unknown argument 'sesions'"),
            ("mux:tcp:h:1", "expected kcp:"),
            ("mux:kcptun:h:1:nocomp=yes", "has a multiplexer already"),
            ("mux:kcp:h:1:secretFile=/nonexistent", "secretFile='/nonexistent'"),
        ):
            error = self.assertRaises(ValueError, clientFromString, reactor, bad)
            self.assertTrue(str(error).startswith("mux: "), error)
            self.assertIn(words, str(error))
        error = self.assertRaises(ValueError, serverFromString, reactor, "mux:kcp:1:sessions=2")
        self.assertIn("mux: ", str(error))
