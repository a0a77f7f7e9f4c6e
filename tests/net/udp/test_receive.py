"""Tests for L{twisted_rudp.net.udp.receive}."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.net.udp.fakes import OTHER, PEER, Recorder
from twisted_rudp.net.udp.port import LONGEST_DATAGRAM, PortCounters
from twisted_rudp.net.udp.receive import Joiner

ARRIVALS = st.lists(
    st.one_of(
        st.tuples(st.just("one"), st.integers(0, 5), st.sampled_from([PEER, OTHER])),
        st.tuples(st.just("one"), st.integers(20_000, 60_000), st.just(PEER)),
        st.tuples(st.just("run"), st.integers(1, 9), st.sampled_from([PEER, OTHER])),
    ),
    max_size=30,
)


class JoinerTests(SynchronousTestCase):
    """L{Joiner}."""

    def setUp(self) -> None:
        self.receiver = Recorder()
        self.counters = PortCounters()
        self.joiner = Joiner(self.receiver, self.counters)

    @given(ARRIVALS)
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_nothingChanges(self, arrivals: list[tuple[str, int, tuple[str, int]]]) -> None:
        """
        Whatever arrives: runs hold the same datagrams of the same peers in the same
        order, none is empty and none longer than a receive buffer.
        """
        self.setUp()
        expected = []
        for number, (kind, length, address) in enumerate(arrivals):
            data = bytes([number]) * length
            if kind == "one":
                self.joiner.add(data, address)
                expected += [(data, address)] if data else []
            else:
                self.joiner.addRun(data, 2, address)
                expected += [(data[i : i + 2], address) for i in range(0, length, 2)]
        self.joiner.flush()
        received = []
        for _, run, size, address in self.receiver.log:
            self.assertTrue(0 < len(run) <= LONGEST_DATAGRAM)
            received += [(run[i : i + size], address) for i in range(0, len(run), size)]
        self.assertEqual(received, expected)
        self.assertEqual(self.counters.datagramsIn, len(expected))
        self.assertEqual(self.counters.bytesIn, sum(len(data) for data, _ in expected))
        self.assertEqual(self.counters.runsIn, len(self.receiver.log))

    def test_joins(self) -> None:
        """Equal lengths of one peer become one run, which a shorter datagram ends."""
        for data in (b"aa", b"bb", b"c", b"d", b"ee"):
            self.joiner.add(data, PEER)
        self.joiner.flush()
        self.assertEqual(
            self.receiver.log,
            [("run", b"aabbc", 2, PEER), ("run", b"d", 1, PEER), ("run", b"ee", 2, PEER)],
        )

    def test_closed(self) -> None:
        """A closed joiner gives nothing, also when closed from inside the receiver."""
        self.receiver.hook = lambda entry: self.joiner.close()
        self.joiner.add(b"a", PEER)
        self.joiner.add(b"b", OTHER)
        self.joiner.addRun(b"c", 1, PEER)
        self.joiner.flush()
        self.assertEqual(self.receiver.log, [("run", b"a", 1, PEER)])
