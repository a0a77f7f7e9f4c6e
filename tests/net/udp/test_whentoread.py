"""Tests for L{twisted_rudp.net.udp.whentoread}."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.net.udp.fakes import PEER, fakePort
from twisted_rudp.net.udp.own import READ_BYTES
from twisted_rudp.net.udp.port import PortCounters
from twisted_rudp.net.udp.whentoread import (
    BURST,
    EPISODE,
    LONGEST_PAUSE,
    LONGEST_WAIT,
    PATIENCE,
    SHARE,
    SHORTEST_WAIT,
    Allowance,
    WhenToRead,
    readiness,
)

TURN = 20_000
"""Nanoseconds of a turn here."""


class Peer:
    """A clock, and a peer that answers each turn after some time. Looking takes a microsecond."""

    def __init__(self, delay: int) -> None:
        self.now = 1_000_000_000
        self.delay = delay
        self.turns = 0
        self.polled = 0
        self.answered = self.now + delay
        self.counters = PortCounters()
        self.polling = WhenToRead(self.ready, self.counters, Allowance(), lambda: self.now)

    def ready(self, milliseconds: int) -> bool:
        assert milliseconds == 0
        self.now += 1000
        self.polled += 1000
        return self.now >= self.answered

    def episode(self, turn: Callable[[], bool]) -> None:
        """As a port does: turns, for as long as something comes soon."""
        while self.polling.arrives(0) and turn():
            pass

    def turn(self) -> bool:
        self.turns += 1
        self.now += TURN
        self.answered = self.now + self.delay
        return True

    def sleepAndWake(self) -> None:
        """What the reactor does when there was nothing: wait for the peer, have a turn."""
        self.now = max(self.now, self.answered) + PATIENCE // 2
        self.turn()


class LookingTests(SynchronousTestCase):
    """L{WhenToRead.arrives}."""

    def test_promptPeer(self) -> None:
        """Turn follows turn without the reactor, for one episode."""
        peer = Peer(PATIENCE // 4)
        begun = peer.now
        peer.episode(peer.turn)
        self.assertGreater(peer.turns, EPISODE // (2 * (PATIENCE // 4 + TURN)))
        self.assertEqual(peer.counters.polls, peer.turns)
        self.assertEqual(peer.counters.pollsInVain, 0)
        self.assertGreaterEqual(peer.now - begun, EPISODE)
        self.assertLess(peer.now - begun, EPISODE + PATIENCE + TURN)

    def test_slowPeer(self) -> None:
        """One poll in vain ends the episode; then there is a pause."""
        peer = Peer(2 * PATIENCE)
        begun = peer.now
        peer.episode(peer.turn)
        self.assertEqual((peer.turns, peer.counters.polls, peer.counters.pollsInVain), (0, 0, 1))
        self.assertLess(peer.now - begun, PATIENCE + 2000)
        spent = peer.polled
        peer.answered = peer.now
        peer.episode(peer.turn)
        self.assertEqual((peer.turns, peer.polled), (0, spent))

    def test_pauses(self) -> None:
        """
        Where nothing ever comes soon the port polls twice a second, for a tenth of a
        millisecond.
        """
        peer = Peer(2 * PATIENCE)
        for _ in range(200_000):
            peer.episode(peer.turn)
            peer.sleepAndWake()
        seconds = (peer.now - 1_000_000_000) / 1e9
        self.assertLess(peer.counters.pollsInVain, 10 + seconds * 1e9 / (PATIENCE << LONGEST_PAUSE))
        self.assertGreater(peer.counters.pollsInVain, seconds)

    def test_peerBecomesPrompt(self) -> None:
        """It is found out within the longest pause, and then every poll counts."""
        peer = Peer(2 * PATIENCE)
        for _ in range(100):
            peer.episode(peer.turn)
            peer.sleepAndWake()
        peer.delay = PATIENCE // 4
        changed = peer.now
        while not peer.counters.polls:
            peer.episode(peer.turn)
            peer.sleepAndWake()
        self.assertLess(peer.now - changed, 2 * (PATIENCE << LONGEST_PAUSE))
        vain = peer.counters.pollsInVain
        for _ in range(20):
            peer.episode(peer.turn)
            peer.sleepAndWake()
        self.assertEqual(peer.counters.pollsInVain, vain)

    def test_ended(self) -> None:
        """A turn that closes the port is the last."""
        peer = Peer(0)
        peer.episode(lambda: peer.turn() and False)
        self.assertEqual(peer.turns, 1)

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(share=st.floats(0.0, 0.5), seed=st.integers(0, 1 << 16))
    def test_unlucky(self, share: float, seed: int) -> None:
        """
        Where clearly less than two of three polls would find something, little time is
        spent on them.
        """
        chance = random.Random(seed)
        peer = Peer(0)
        for _ in range(3000):
            peer.delay = TURN if chance.random() < share else 3 * PATIENCE
            peer.episode(peer.turn)
            peer.sleepAndWake()
        self.assertLess(peer.polled, (peer.now - 1_000_000_000) // 8)


    def test_nobodyNear(self) -> None:
        """Junk, and peers that are far away, are not looked for."""
        peer = Peer(0)
        for patience in (-1, SHORTEST_WAIT, LONGEST_WAIT):
            self.assertFalse(peer.polling.arrives(patience))
        self.assertEqual(peer.polled, 0)


class WaitingTests(SynchronousTestCase):
    """L{WhenToRead.wait}."""

    def setUp(self) -> None:
        self.now = 1_000_000_000
        self.counters = PortCounters()
        self.when = WhenToRead(None, self.counters, Allowance(), lambda: self.now)

    def come(self, times: int, gap: int, datagrams: int = 1, patience: int = LONGEST_WAIT) -> int:
        """So many turns, each some time after the last."""
        wait = 0
        for _ in range(times):
            self.now += gap
            wait = self.when.wait(datagrams, patience)
            if wait:
                break
        return wait

    def test_fast(self) -> None:
        """Ten datagrams a millisecond are waited for, for as long as they come."""
        self.assertEqual(self.come(12, 100_000), LONGEST_WAIT)
        for _ in range(100):
            self.now += LONGEST_WAIT
            self.assertEqual(self.when.wait(20, LONGEST_WAIT), LONGEST_WAIT)
        self.assertEqual(self.counters.waits, 101)

    def test_slow(self) -> None:
        """Where less than two come in the longest wait, each is read when it is there."""
        self.assertEqual(self.come(1000, 1_100_000), 0)

    def test_lone(self) -> None:
        """A message now and then is never waited for, nor one of many datagrams."""
        self.assertEqual(self.come(1000, 20_000_000), 0)
        self.assertEqual(self.come(100, 20_000_000, datagrams=30), 0)

    def test_gathersNothing(self) -> None:
        """A wait that was for nothing is the last, until they come fast again."""
        for gathered in (0, 1):
            self.assertTrue(self.come(12, 100_000))
            self.now += LONGEST_WAIT
            self.assertEqual(self.when.wait(gathered, LONGEST_WAIT), 0)
            self.assertEqual(self.come(5, 100_000), 0)

    def test_near(self) -> None:
        """Nobody is waited for whom that would slow, however fast datagrams come."""
        for patience in (-1, 0, SHORTEST_WAIT - 1):
            self.assertEqual(self.come(100, 10_000, 64, patience), 0)
        self.assertEqual(self.come(12, 50_000, 1, 700_000), 700_000)
        self.now += 700_000
        self.assertEqual(self.when.wait(14, SHORTEST_WAIT - 1), 0)

    def test_buffer(self) -> None:
        """No more gather than the receive buffer holds, by shorter waits or by none."""
        self.when.most = 100
        wait = self.come(100, 10_000)
        self.assertEqual(self.when.wait(150, LONGEST_WAIT), wait * 100 // 150)
        self.assertEqual(self.when.wait(1000, LONGEST_WAIT), 0)


class AllowanceTests(SynchronousTestCase):
    """L{Allowance}."""

    def test_many(self) -> None:
        """
        A thousand ports that all poll in vain for the first time spend no more together
        than one may.
        """
        allowance = Allowance()
        now = 5_000_000_000
        begun, polls = now, 0
        while now < begun + 1_000_000_000:
            if allowance.admits(now):
                polls += 1
                now += PATIENCE
                allowance.spend(now)
            now += TURN
        self.assertGreater(polls, 1_000_000_000 // (PATIENCE * SHARE))
        self.assertLess(polls, BURST + 5 + 1_000_000_000 // (PATIENCE * SHARE))


class ReadinessTests(SynchronousTestCase):
    """L{readiness}, on a real socket."""

    def test_datagram(self) -> None:
        """It is true once there is a datagram, and until that is read."""
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(one.close)
        one.bind(("127.0.0.1", 0))
        ready = readiness(one.fileno())
        assert ready is not None
        self.assertFalse(ready(0))
        one.sendto(b"x", one.getsockname())
        self.assertTrue(ready(1000))
        one.recv(10)
        self.assertFalse(ready(0))


class PortTests(SynchronousTestCase):
    """A port that polls."""

    def test_turns(self) -> None:
        """What comes soon after a turn is a turn of its own."""
        port, sock, _, receiver = fakePort(ready=lambda milliseconds: bool(sock.incoming))
        more = [b"b", b"c"]
        receiver.hook = lambda entry: (
            sock.incoming.append((more.pop(), [], 0, PEER)) if entry == ("turn",) and more else None
        )
        sock.incoming += [(b"a", [], 0, PEER)]
        port.doRead()
        self.assertEqual(receiver.kinds(), ["run", "turn"] * 3)

    def test_closed(self) -> None:
        """A port that its owner has closed is not polled."""
        port, sock, _, receiver = fakePort(ready=lambda milliseconds: self.fail("polled"))
        sock.incoming += [(b"a", [], 0, PEER)]
        receiver.hook = lambda entry: port.stopListening()
        port.doRead()
        self.assertTrue(port.closed)

    def test_waits(self) -> None:
        """
        While datagrams come fast from far away the port is no reader; what has gathered
        is read in one turn, and when there is nothing it is a reader again.
        """
        port, sock, reactor, receiver = fakePort()
        receiver.patient = LONGEST_WAIT
        arrived = (b"a", [], 0, PEER)
        while port in reactor.readers:
            sock.incoming += [arrived, arrived]
            port.doRead()
        self.assertLess(port.counters.datagramsIn, 20)
        for _ in range(3):
            sock.incoming += [arrived] * 20
            receiver.log.clear()
            reactor.advance(LONGEST_WAIT / 1e9)
            self.assertEqual(receiver.log, [("run", b"a" * 20, 1, PEER), ("turn",)])
            self.assertEqual(reactor.readers, [])
        reactor.advance(LONGEST_WAIT / 1e9)
        self.assertEqual((reactor.readers, reactor.getDelayedCalls()), ([port], []))

    def test_readsOn(self) -> None:
        """
        A port does not wait behind a turn that ended before the socket was empty: a server that
        cannot keep up would be idle while its queue is full.
        """
        port, sock, reactor, _ = self.waiting()
        sock.incoming += [(b"a" * 1000, [], 0, PEER)] * (3 * READ_BYTES // 1000)
        reactor.advance(LONGEST_WAIT / 1e9)
        self.assertEqual((reactor.readers, reactor.getDelayedCalls()), ([port], []))
        while len(sock.incoming) > READ_BYTES // 1000:
            port.doRead()
            self.assertEqual((reactor.readers, reactor.getDelayedCalls()), ([port], []))
        while sock.incoming:
            port.doRead()
        unfinished = port.counters.unfinished
        self.assertGreater(unfinished, 0)
        sock.incoming.append((b"a", [], 0, PEER))
        port.doRead()
        self.assertEqual(port.counters.unfinished, unfinished)

    def waiting(self) -> Any:
        """A port that is waiting, with its reactor, socket and receiver."""
        port, sock, reactor, receiver = fakePort()
        receiver.patient = LONGEST_WAIT
        while port in reactor.readers:
            sock.incoming += [(b"a", [], 0, PEER)] * 2
            port.doRead()
        receiver.log.clear()
        return port, sock, reactor, receiver

    def test_pending(self) -> None:
        """Who has something to do meanwhile has it read first."""
        port, sock, reactor, receiver = self.waiting()
        sock.incoming += [(b"b", [], 0, PEER)]
        port.readPending()
        self.assertEqual(receiver.log, [("run", b"b", 1, PEER), ("turn",)])
        self.assertEqual(len(reactor.getDelayedCalls()), 1)
        ready, _, _, _ = fakePort()
        ready.readPending()

    def test_closedWhileWaiting(self) -> None:
        """Nothing stays scheduled of a port that is closed while it waits."""
        port, _, reactor, _ = self.waiting()
        port.stopListening()
        self.assertEqual((reactor.readers, reactor.getDelayedCalls()), ([], []))

    def test_closedByWhatCame(self) -> None:
        """What has gathered may be the reason to close the port."""
        port, sock, reactor, receiver = self.waiting()
        sock.incoming += [(b"b", [], 0, PEER)]
        receiver.hook = lambda entry: port.stopListening()
        reactor.advance(LONGEST_WAIT / 1e9)
        self.assertTrue(port.closed)
        self.assertEqual((reactor.readers, reactor.getDelayedCalls()), ([], []))

    def test_errorWhileWaiting(self) -> None:
        """An error event does not make the port read."""
        port, _, reactor, _ = self.waiting()
        port.readConnectionLost(Failure(Exception()))
        self.assertEqual(reactor.readers, [])
