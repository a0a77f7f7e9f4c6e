"""The sending half of a connection (qotp.md 6, 7, 11 and 17)."""

from __future__ import annotations

from collections import Counter
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.qotp.pair import Pair
from tests.qotp.test_engine import write
from twisted_rudp.core.lifecycle import Role
from twisted_rudp.core.timers import NEVER, Timers
from twisted_rudp.qotp import timers
from twisted_rudp.qotp.extensions import CONTROL, Extensions, Peer
from twisted_rudp.qotp.protection import PacketProtection
from twisted_rudp.qotp.sender import FIRST_WINDOW, RAISE_INTERVAL, Sender
from twisted_rudp.qotp.settings import Settings


class SenderTests(SynchronousTestCase):
    """L{Sender} alone."""

    def setUp(self) -> None:
        settings = Settings(entropy=Random(1).randbytes)
        protection = PacketProtection(bytes(8), Role.CLIENT, settings.mtu, Counter(), None, 0)
        self.timers = Timers(timers.COUNT)
        self.extensions = Extensions()
        self.sender = Sender(settings, protection.sealer, self.extensions, self.timers)

    def test_newestWindow(self) -> None:
        """Of the windows that a peer announces the one in its newest datagram counts (W4)."""
        sender = self.sender
        self.assertEqual(sender.peer_window, FIRST_WINDOW)
        for number, window, expected in ((7, 5000, 5000), (5, 9000, 5000), (8, 100, 100)):
            sender.note_window(number, window)
            self.assertEqual(sender.peer_window, expected)

    def test_pings(self) -> None:
        """
        A PING for the release has an offset that no stream reaches (R8); an extended peer
        names the number of what it acknowledges, so that it needs none.
        """
        for _ in range(20):
            ping = self.sender.ping()
            self.assertEqual((ping.stream, ping.offset >> 47), (0, 1))
        self.extensions.peer = Peer.EXTENDED
        self.assertEqual((self.sender.ping().stream, self.sender.ping().offset), (CONTROL, 0))

    def test_longer(self) -> None:
        """
        A path that took no long datagrams is tried again after a while, with a frame that
        fills one; the release has no such frame.
        """
        sender = self.sender
        sender.shrink(1300)
        self.assertEqual(sender.mtu, 1280)
        self.assertEqual(self.timers.due[timers.RAISE], RAISE_INTERVAL)
        sender.raise_mtu(RAISE_INTERVAL)
        self.assertEqual(list(sender.frames), [])
        self.extensions.peer = Peer.EXTENDED
        sender.raise_mtu(RAISE_INTERVAL)
        (fill,) = sender.frames
        self.assertIn(len(fill.body), range(1281, sender.path_mtu.probe()))
        self.assertEqual(self.timers.due[timers.RAISE], 2 * RAISE_INTERVAL)

    def test_nothing(self) -> None:
        """With nothing in flight nothing is asked for."""
        self.sender.arm()
        self.assertEqual(self.timers.due[timers.PROBE], NEVER)
        self.assertFalse(self.sender.window_blocked)
        self.assertFalse(self.sender.stalled)


class WindowTests(SynchronousTestCase):
    """A peer that has no room."""

    def test_openedAnew(self) -> None:
        """
        Questions for room are rare only while nothing fits: after the peer has read, the
        first is asked soon again.
        """
        pair = Pair()
        pair.connect()
        pair.server.reading = False
        write(pair.client, 0, bytes(3_000_000))
        pair.run(5000)
        before = len(pair.client.sent)
        pair.run(5000)
        self.assertIn(len(pair.client.sent) - before, range(4, 7))
        pair.server.reading = True
        pair.server.turn(pair.server.engine)
        pair.run(30)
        pair.server.reading = False
        before = -1
        while len(pair.client.sent) != before:
            before = len(pair.client.sent)
            pair.run(20)
        self.assertLess(len(pair.server.streams[0]), 2_000_000)
        pair.run(500)
        self.assertIn(len(pair.client.sent) - before, range(3, 7))
