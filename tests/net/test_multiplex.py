from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.net.support import HalfRecorder, Pair, Recorder, RecordingFactory
from tests.toys.paths import PathDemultiplexer
from twisted_rudp.errors import PeerReset
from twisted_rudp.interfaces import IMultiplexed
from twisted_rudp.net import multiplex


class MultiplexCase(SynchronousTestCase):
    def setUp(self) -> None:
        random = Random(5)
        self.pair = Pair(demux=lambda: PathDemultiplexer(random))
        self.client, self.server = self.pair.connected()
        self.opened, self.accepted = RecordingFactory(), RecordingFactory()

    def stream(self, kind: Any = Recorder) -> tuple[Any, Any]:
        """One more stream, with its first byte across."""
        self.opened.kind = self.accepted.kind = kind
        self.server.transport.acceptStreams(self.accepted)
        ours = self.client.transport.openStream(self.opened)
        before = len(self.accepted.built)
        ours.transport.write(b"!")
        self.pair.run(lambda: len(self.accepted.built) > before)
        theirs = self.accepted.built[-1]
        self.pair.run(lambda: theirs.data == b"!")
        return ours, theirs


class HandshakeTests(MultiplexCase):
    def test_keys(self) -> None:
        """The dialler's session is found under the id that it was given later (KEYS)."""
        self.server.transport.write(b"banner")
        self.pair.run(lambda: self.client.data == b"banner")
        engines = [each.transport.session.engine for each in (self.client, self.server)]
        self.assertEqual(engines[0].keys(), engines[1].keys())

    def test_halfOpen(self) -> None:
        """Nothing stays half open behind a handshake."""
        self.assertEqual(self.pair.serverDemux.halfOpen, {})
        self.pair.network.runFor(5)
        self.assertEqual(self.pair.network.clock.getDelayedCalls(), [])

    def test_path(self) -> None:
        """A peer that appears elsewhere is proved there, then answered there (TR-6)."""
        inside = ("10.0.0.1", self.server.transport.getPeer().port)
        self.pair.client.rebind(inside, ("10.0.0.99", 999))
        self.client.transport.write(b"from elsewhere")
        self.pair.network.runFor(1)
        self.assertEqual(self.server.data, b"from elsewhere")
        self.assertEqual(self.server.transport.getPeer().host, "10.0.0.99")
        self.server.transport.write(b"to there")
        self.pair.run(lambda: self.client.data == b"to there")


class StreamsTests(MultiplexCase):
    def test_interface(self) -> None:
        """A session with streams provides C{IMultiplexed}; its streams do not."""
        self.assertTrue(verifyObject(IMultiplexed, self.client.transport))
        ours, _ = self.stream()
        self.assertFalse(IMultiplexed.providedBy(ours.transport))

    def test_separate(self) -> None:
        """Each stream has its own bytes, in both directions."""
        one, two = self.stream(), self.stream()
        for ours, theirs in (one, two):
            ours.transport.write(str(ours.transport.stream).encode())
            theirs.transport.write(b"re:" + str(ours.transport.stream).encode())
        self.client.transport.write(b"main")
        self.pair.network.runFor(1)
        for ours, theirs in (one, two):
            number = str(ours.transport.stream).encode()
            self.assertEqual((theirs.data, ours.data), (b"!" + number, b"re:" + number))
        self.assertEqual(self.server.data, b"main")

    def test_peerOpens(self) -> None:
        """Either side may open."""
        self.client.transport.acceptStreams(self.accepted)
        protocol = self.server.transport.openStream(self.opened)
        protocol.transport.write(b"hello")
        self.pair.run(lambda: [each for each in self.accepted.built if each.data == b"hello"])

    def test_waiting(self) -> None:
        """Streams opened before anybody accepts wait with their bytes, a bounded number."""
        self.patch(multiplex, "MAX_WAITING", 2)
        ours = [self.client.transport.openStream(self.opened) for _ in range(3)]
        for each in ours:
            each.transport.write(b"early")
        self.pair.network.runFor(1)
        self.assertEqual([each.reason is None for each in ours], [True, True, False])
        self.assertIsInstance(ours[2].reason.value, PeerReset)
        self.server.transport.acceptStreams(self.accepted)
        self.pair.network.runFor(1)
        self.assertEqual([each.data for each in self.accepted.built], [b"early"] * 2)

    def test_lose(self) -> None:
        """A stream ends in order and leaves the connection alone."""
        ours, theirs = self.stream()
        ours.transport.write(b"x" * 5000)
        ours.transport.loseConnection()
        self.assertIsNone(ours.reason)
        self.pair.lost(ours, theirs)
        self.assertEqual(len(theirs.data), 5001)
        for each in (ours, theirs):
            self.assertIs(type(each.reason.value), ConnectionDone)
        self.assertIsNone(self.client.reason)
        self.assertEqual(self.client.transport._streams, {})

    def test_abort(self) -> None:
        """An aborted stream is told in a later turn, and its peer too (CLOSE-7)."""
        ours, theirs = self.stream()
        ours.transport.abortConnection()
        self.assertIsNone(ours.reason)
        self.pair.lost(ours, theirs)
        self.assertIs(type(ours.reason.value), ConnectionAborted)
        self.assertIs(type(theirs.reason.value), PeerReset)
        self.assertIsNone(self.server.reason)

    def test_halfClose(self) -> None:
        """Each half of a stream ends by itself (CLOSE-9)."""
        ours, theirs = self.stream(HalfRecorder)
        ours.transport.loseWriteConnection()
        self.pair.run(lambda: "readLost" in theirs.told)
        theirs.transport.write(b"answer")
        theirs.transport.loseConnection()
        self.pair.run(lambda: "readLost" in ours.told)
        self.assertEqual(ours.data, b"answer")
        ours.transport.loseConnection()
        self.pair.lost(ours, theirs)

    def test_exception(self) -> None:
        """A failing protocol costs its stream only (FAC-5)."""
        ours, theirs = self.stream()
        theirs.onData = lambda data: 1 / 0
        ours.transport.write(b"x")
        self.pair.lost(ours, theirs)
        self.assertIsInstance(theirs.reason.value, ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIsNone(self.server.reason)

    def test_factory(self) -> None:
        """A factory that wants no stream, or raises, costs that stream only (PORT-6)."""
        self.server.transport.acceptStreams(self.accepted)
        for kind in (lambda: None, lambda: 1 / 0):
            self.accepted.kind = kind
            ours = self.client.transport.openStream(self.opened)
            ours.transport.write(b"x")
            self.pair.lost(ours)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIsNone(self.server.reason)
        self.opened.kind = lambda: None
        self.assertIsNone(self.client.transport.openStream(self.opened))

    def test_withTheConnection(self) -> None:
        """The end of the connection ends its streams."""
        ours, theirs = self.stream()
        self.client.transport.loseConnection()
        self.pair.lost(ours, theirs, self.client, self.server)
        self.assertRaises(RuntimeError, self.client.transport.openStream, self.opened)

    def test_openedAtTheEnd(self) -> None:
        """
        Who is told of the end of a stream because its session has ended opens no other one on
        that session: nobody would be told of its end.
        """
        ours, _ = self.stream()
        refused: list[Any] = []

        def lost(reason: Any) -> None:
            with self.assertRaises(RuntimeError):
                self.client.transport.openStream(self.opened)
            refused.append(reason)

        ours.connectionLost = lost
        self.pair.client.reactor.disconnectAll()
        self.assertEqual(len(refused), 1)

    def test_socketLost(self) -> None:
        """A lost socket ends the streams too (PORT-5)."""
        _, theirs = self.stream()
        self.pair.server.reactor.disconnectAll()
        self.assertIsInstance(theirs.reason.value, ConnectionLost)
        self.assertIsInstance(self.server.reason.value, ConnectionLost)
