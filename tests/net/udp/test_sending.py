"""Tests for L{twisted_rudp.net.udp.sending}."""

from __future__ import annotations

import errno
import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.net.udp.fakes import PEER, fakePort
from twisted_rudp.net.udp.sending import SendBacklog


class SourceTests(SynchronousTestCase):
    """The address that a run leaves from."""

    def test_held(self) -> None:
        """A run that was held back leaves from its own, and the next one from that of then."""
        port, sock, _, _ = fakePort()
        here, there = (struct.pack("=I4s4x", 0, bytes((192, 0, 2, each))) for each in (1, 2))
        port.sendFrom = here
        sock.failures.append(errno.EAGAIN)
        port.send(b"held", 4, PEER)
        port.sendFrom = there
        port.doWrite()
        self.assertEqual(port.sendFrom, there)
        port.send(b"next", 4, PEER)
        self.assertEqual([data for data, _, _ in sock.sent], [b"held", b"next"])
        # The first attempt found no room.
        self.assertEqual(sock.sources, [here, here, there])


class HeldRunsTests(SynchronousTestCase):
    """L{SendBacklog}."""

    @given(st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 9))), st.data())
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_queue(self, runs: list[tuple[bytes, int]], data: st.DataObject) -> None:
        """
        In any mixture of entering and leaving, bytes leave once, in order, and no more
        than the limit (or one run) is here.
        """
        held = SendBacklog(limit=100)
        expected = b""
        left = b""
        waiting = 0
        for run, size in runs:
            room = not waiting or waiting + len(run) <= 100
            self.assertEqual(held.append(run, size, PEER), room)
            if room:
                expected += run
                waiting += len(run)
            while held and data.draw(st.booleans()):
                head, headSize, _, _ = held.head()
                taken = min(len(head), headSize * data.draw(st.integers(0, 5)))
                left += bytes(head[:taken])
                waiting -= taken
                held.shorten(taken)
        self.assertEqual(bool(held), waiting > 0)
        while held:
            head, _, _, _ = held.head()
            left += bytes(head)
            held.shorten(len(head))
        self.assertEqual(left, expected)

    def test_clear(self) -> None:
        """Clearing tells how many datagrams are gone, and makes room."""
        held = SendBacklog(limit=10)
        held.append(b"aabbc", 2, PEER)
        held.shorten(2)
        held.append(b"dddd", 4, PEER)
        self.assertEqual(held.clear(), 3)
        self.assertFalse(held)
        self.assertTrue(held.append(b"e" * 6, 6, PEER))
        self.assertTrue(held.append(b"f" * 4, 4, PEER))
        self.assertFalse(held.append(b"g", 1, PEER))
