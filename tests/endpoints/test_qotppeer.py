"""Peers on one socket, and their way through NATs."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.endpoints.support import Collecting, Nats
from twisted_rudp.endpoints.qotp import exportKey
from twisted_rudp.endpoints.qotppeer import QOTPPeer
from twisted_rudp.errors import PeerForgot
from twisted_rudp.qotp.keys import KeyPair
from twisted_rudp.testing import MemoryNetwork


class PeerCase(SynchronousTestCase):
    """Two peers on a simulated network."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=3, delay=0.02)
        self.hosts = [self.network.host("one"), self.network.host("two")]
        self.peers = []
        self.incoming = []
        self.ports = []
        for host, number in zip(self.hosts, (4001, 4002), strict=True):
            peer = QOTPPeer(
                host.reactor, number, seed=f"peer {number}", entropy=self.network.random.randbytes
            )
            factory = Collecting()
            self.ports.append(self.successResultOf(peer.listen(factory)))
            self.peers.append(peer)
            self.incoming.append(factory)

    def place(self, index: int) -> tuple[str, int]:
        return self.hosts[index].address, 4001 + index


class DiallingTests(PeerCase):
    """Both roles on one socket."""

    def test_bothDial(self) -> None:
        """
        3.1: peers that dial each other, twice each, have four connections on their
        two sockets, and none is taken for another.
        """
        outgoing = [Collecting(), Collecting()]
        waiting = []
        for index in (0, 1, 0, 1):
            key = self.peers[1 - index].publicKey
            waiting.append(
                self.peers[index].connect(outgoing[index], *self.place(1 - index), serverKey=key)
            )
        for each in waiting:
            self.network.run(each)
        for index, factory in enumerate(outgoing):
            for number, talk in enumerate(factory.built):
                assert talk.transport is not None
                talk.transport.write(b"%d %d" % (index, number))
        self.network.runFor(1)
        for index in (0, 1):
            heard = sorted(talk.heard for talk in self.incoming[1 - index].built)
            self.assertEqual(heard, [b"%d 0" % index, b"%d 1" % index])
        self.assertEqual([len(host.ports) for host in self.hosts], [1, 1])
        facts = outgoing[0].built[0].transport.facts()  # type: ignore[union-attr]
        self.assertTrue(facts["peer_key_proved"])
        self.assertEqual(facts["peer_key"], self.peers[1].publicKey.hex())

    def test_wrongKey(self) -> None:
        """12.1: a peer that does not own the key that was expected is not connected to."""
        dialling = self.peers[0].connect(
            Collecting(), *self.place(1), serverKey=self.peers[0].publicKey, timeout=2
        )
        with self.assertRaises(AssertionError):
            self.network.run(dialling, limit=1.9)
        self.network.runFor(1)
        self.failureResultOf(dialling)
        self.assertEqual(self.incoming[1].built, [])

    def test_exporter(self) -> None:
        """10: both ends of a connection derive the same secret, others another."""
        out = Collecting()
        for _ in range(2):
            self.network.run(self.peers[0].connect(out, *self.place(1)))
        self.network.runFor(1)
        ours = [exportKey(talk.transport, b"test") for talk in out.built]
        theirs = [exportKey(talk.transport, b"test") for talk in self.incoming[1].built]
        self.assertEqual(sorted(ours), sorted(theirs))
        self.assertNotEqual(*ours)
        self.assertNotEqual(ours[0], exportKey(out.built[0].transport, b"test", b"more"))

    def test_close(self) -> None:
        """Connections dialled from the shared socket close in order and leave it open."""
        out = Collecting()
        self.network.run(self.peers[0].connect(out, *self.place(1)))
        self.network.runFor(1)
        out.built[0].transport.loseConnection()  # type: ignore[union-attr]
        self.network.run(lambda: out.built[0].lost and self.incoming[1].built[0].lost)
        self.network.run(self.peers[0].connect(out, *self.place(1)))

    def test_notListening(self) -> None:
        """There is nothing to dial from before the peer listens, and it listens once."""
        peer = QOTPPeer(self.hosts[0].reactor, seed="x")
        with self.assertRaises(RuntimeError):
            peer.connect(Collecting(), *self.place(1))
        with self.assertRaises(RuntimeError):
            peer.punch(Collecting(), *self.place(1), peerKey=b"k" * 32)
        self.failureResultOf(self.peers[0].listen(Collecting()), RuntimeError)


class IdentityTests(PeerCase):
    """Each peer has one identity, and knows the other's."""

    def test_bothProved(self) -> None:
        """Whoever dials, both have proof of the other's key."""
        for index in (0, 1):
            out = Collecting()
            key = self.peers[1 - index].publicKey
            self.network.run(self.peers[index].connect(out, *self.place(1 - index), serverKey=key))
            self.network.runFor(1)
            ends = (out.built[0], self.incoming[1 - index].built[0])
            for talk, owner in zip(ends, (1 - index, index), strict=True):
                facts = talk.transport.facts()  # type: ignore[union-attr]
                self.assertTrue(facts["peer_key_proved"])
                self.assertEqual(facts["peer_key"], self.peers[owner].publicKey.hex())

    def test_restarted(self) -> None:
        """
        A peer that was restarted with its key is noticed within a round trip, by those whom it
        had dialled as well as by those who had dialled it.
        """
        out = [Collecting(), Collecting()]
        for index in (0, 1):
            self.network.run(self.peers[index].connect(out[index], *self.place(1 - index)))
        self.network.runFor(1)
        self.hosts[1].reactor.disconnectAll()
        again = QOTPPeer(self.hosts[1].reactor, 4002, seed="peer 4002")
        self.successResultOf(again.listen(Collecting()))
        for talk in (out[0].built[0], self.incoming[0].built[0]):
            self.assertIsNone(talk.lost)
            talk.transport.write(b"are you still there?")  # type: ignore[union-attr]
        self.network.runFor(0.05)
        for talk in (out[0].built[0], self.incoming[0].built[0]):
            assert talk.lost is not None
            self.assertIs(talk.lost.type, PeerForgot)


class PunchingTests(PeerCase):
    """Through two NATs."""

    def punch(self, delays: tuple[float, float]) -> list[Any]:
        nats = Nats(self.network, self.hosts, (4001, 4002))
        factories = [Collecting(), Collecting()]
        results: list[Any] = []
        for index, delay in enumerate(delays):
            self.network.clock.callLater(
                delay,
                lambda index=index: results.append(
                    self.peers[index].punch(
                        factories[index],
                        *nats.outside[1 - index],
                        peerKey=self.peers[1 - index].publicKey,
                    )
                ),
            )
        self.network.runFor(max(delays) + 4)
        self.assertTrue(nats.kept, "no NAT was in the way")
        return [self.successResultOf(each) for each in results]

    def check(self, ends: list[Any]) -> None:
        for end, word in zip(ends, (b"here", b"there"), strict=True):
            end.transport.write(word)
        self.network.runFor(1)
        self.assertEqual({end.heard for end in ends}, {b"here", b"there"})
        self.assertEqual([factory.built for factory in self.incoming], [[], []])
        self.assertEqual([end.lost for end in ends], [None, None])

    def test_together(self) -> None:
        """Both sides begin at once and have one connection, one protocol each."""
        self.check(self.punch((0, 0)))

    def test_oneAfterTheOther(self) -> None:
        """It does not matter who begins, or how much earlier."""
        self.check(self.punch((0, 1.7)))

    def test_theOtherFirst(self) -> None:
        """As before, the other way round."""
        self.check(self.punch((1.7, 0)))

    def test_nobody(self) -> None:
        """Whether the side dials or waits: without the other it fails in time."""
        Nats(self.network, self.hosts, (4001, 4002))
        for index in (0, 1):
            key = self.peers[1 - index].publicKey
            waiting = self.peers[index].punch(
                Collecting(), "203.0.113.77", 7, peerKey=key, timeout=3
            )
            self.network.runFor(4)
            self.failureResultOf(waiting)

    def test_another(self) -> None:
        """Who waits for a peer is not given another one that comes from its address."""
        pairs = (KeyPair.from_text(f"somebody else {number}") for number in range(100))
        wanted = next(pair for pair in pairs if pair.public < self.peers[0].publicKey)
        waiting = self.peers[0].punch(
            Collecting(), *self.place(1), peerKey=wanted.public, timeout=3
        )
        self.network.run(self.peers[1].connect(Collecting(), *self.place(0)))
        self.network.runFor(1)
        self.assertNoResult(waiting)
        self.assertEqual(len(self.incoming[0].built), 1)
        self.network.runFor(3)
        self.failureResultOf(waiting)
