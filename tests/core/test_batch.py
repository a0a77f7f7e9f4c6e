"""Tests for L{twisted_rudp.core.batch}."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.batch import RUN_BYTES, RUN_DATAGRAMS, RunWriter, run_capacity
from twisted_rudp.core.engine import Address, Buffer

PEER = ("192.0.2.1", 4000)

pieces = st.lists(
    st.one_of(
        st.integers(1, 6).map(lambda size: (size, size)),
        st.tuples(st.integers(1, 6), st.integers(1, 500)),
    ),
    max_size=20,
)


class RunWriterTests(SynchronousTestCase):
    """L{RunWriter}."""

    def setUp(self) -> None:
        self.runs: list[tuple[bytes, int]] = []
        self.room = True

    def emit(self, run: Buffer, size: int, address: Address) -> bool:
        """What a port does."""
        self.assertEqual(address, PEER)
        self.runs.append((bytes(run), size))
        return self.room

    def datagrams(self) -> list[bytes]:
        """What would be on the wire."""
        return [run[at : at + size] for run, size in self.runs for at in range(0, len(run), size)]

    @given(pieces=pieces, overhead=st.sampled_from([0, 3, 20_000]))
    @settings(max_examples=200, deadline=None, derandomize=True)
    def test_model(self, pieces: list[tuple[int, int]], overhead: int) -> None:
        """
        The same datagrams in the same order, whatever they were given as; no run is
        longer than allowed, and only the last of a run is shorter.
        """
        self.setUp()
        writer = RunWriter(self.emit, PEER, overhead)
        wanted: list[bytes] = []
        for number, (size, length) in enumerate(pieces):
            run = bytes([number]) * length
            wanted += [run[at : at + size] for at in range(0, length, size)]
            if length <= size:
                writer.add(run)
            else:
                writer.add_run(run, size)
            self.assertEqual(writer.cost, sum(map(len, wanted)))
        writer.finish()
        self.assertEqual(self.datagrams(), wanted)
        self.assertEqual(writer.spent, sum(map(len, wanted)))
        for run, size in self.runs:
            self.assertTrue(-(-len(run) // size) <= run_capacity(size + overhead))

    def test_joined(self) -> None:
        """Equally long ones leave together, a shorter one ends the run."""
        writer = RunWriter(self.emit, PEER)
        for datagram in (b"aa", b"bb", b"c", b"dd", b"eee"):
            writer.add(datagram)
        writer.finish()
        self.assertEqual(self.runs, [(b"aabbc", 2), (b"dd", 2), (b"eee", 3)])

    def test_blocked(self) -> None:
        """A full socket is noticed, and nothing is lost."""
        writer = RunWriter(self.emit, PEER)
        writer.add(b"aa")
        writer.finish()
        self.assertFalse(writer.blocked)
        self.room = False
        writer.add(b"bb")
        writer.finish()
        self.assertTrue(writer.blocked)
        self.assertEqual(self.datagrams(), [b"aa", b"bb"])

    def test_capacity(self) -> None:
        """Bounded by number, by bytes, and never nothing."""
        self.assertEqual(run_capacity(1), RUN_DATAGRAMS)
        self.assertEqual(run_capacity(RUN_BYTES // 2), 2)
        self.assertEqual(run_capacity(RUN_BYTES + 500), 1)
