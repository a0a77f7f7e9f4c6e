"""Packing segments into runs."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.kcp.segments import Wire
from twisted_rudp.kcp.packing import RUN_BYTES, RUN_DATAGRAMS, Packer, segments_per_run


class PackerTests(SynchronousTestCase):
    """L{Packer}."""

    def pack(self, *lengths: int, mtu: int = 100) -> list[tuple[int, int]]:
        """
        @return: length of the run and size of its datagrams, for each run.
        """
        wire = Wire()
        packer = Packer(wire, mtu, 0)
        for length in lengths:
            packer.add(bytes(length))
        packer.finish()
        return [(len(run), size) for run, size in wire.runs]

    def test_sharing(self) -> None:
        """Small segments share a datagram up to the mtu."""
        self.assertEqual(self.pack(30, 30, 40), [(100, 100)])

    def test_equal(self) -> None:
        """Datagrams of one length make one run, a shorter one ends it."""
        self.assertEqual(self.pack(80, 80, 80, 50, 80), [(290, 80), (80, 80)])

    def test_longer(self) -> None:
        """A longer datagram begins a run."""
        self.assertEqual(self.pack(80, 90, 90), [(80, 80), (180, 90)])

    def test_oversized(self) -> None:
        """A segment longer than the mtu goes alone."""
        self.assertEqual(self.pack(30, 150, 30), [(30, 30), (180, 150)])

    def test_limits(self) -> None:
        """A run ends at 64 datagrams and at 65000 bytes."""
        self.assertEqual(self.pack(*[100] * 65), [(6400, 100), (100, 100)])
        self.assertEqual(
            self.pack(*[1400] * 50, mtu=1400), [(46 * 1400, 1400), (4 * 1400, 1400)]
        )

    def test_joiningRuns(self) -> None:
        """Full datagrams and a run of the same size become one run."""
        wire = Wire()
        packer = Packer(wire, 100, 0)
        packer.add(bytes(100))
        packer.add_run(bytes(200), 100)
        packer.add_run(bytes(250), 100)
        packer.add(bytes(50))
        packer.finish()
        self.assertEqual([(len(run), size) for run, size in wire.runs], [(600, 100)])

    def test_passing(self) -> None:
        """
        A run that nothing can be added to is emitted at once, others wait for what
        comes next; L{Packer.admits} says how much that may be.
        """
        wire = Wire()
        packer = Packer(wire, 1000, 0)
        self.assertEqual([packer.admits(budget) for budget in (1, 1_001, 1 << 20)], [1, 2, 64])
        self.assertEqual(packer.admits(0), 0)
        packer.pass_run(bytes(64_000), 1000)
        self.assertEqual([len(run) for run, _ in wire.runs], [64_000])
        packer.pass_run(bytes(60_000), 1000)
        budgets = (124_001, 126_001, 1 << 20)
        self.assertEqual([packer.admits(budget) for budget in budgets], [0, 3, 4])
        self.assertEqual(packer.admits(124_000), 0)
        self.assertEqual(len(wire.runs), 1)
        packer.pass_run(bytes(4_000), 1000)
        self.assertEqual([len(run) for run, _ in wire.runs], [64_000, 64_000])
        packer.pass_run(bytes(1_500), 1000)
        packer.finish()
        self.assertEqual(wire.runs[-1][1], 1000)
        self.assertEqual(len(wire.runs[-1][0]), 1_500)

    def test_blocked(self) -> None:
        """A run that left at once tells whether more may be made."""
        packer = Packer(Wire(room=1), 1000, 0)
        packer.pass_run(bytes(64_000), 1000)
        self.assertTrue(packer.blocked)
        self.assertEqual(packer.admits(1 << 20), 0)

    def test_headers(self) -> None:
        """Headers are divided at their borders."""
        wire = Wire()
        packer = Packer(wire, 100, 0)
        packer.add_headers(bytes(24 * 9))
        packer.finish()
        self.assertEqual([(len(run), size) for run, size in wire.runs], [(216, 96)])

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(
        st.lists(st.tuples(st.integers(1, 130), st.integers(1, 5)), max_size=60),
        st.integers(0, 40),
    )
    def test_anything(self, items: list[tuple[int, int]], overhead: int) -> None:
        """
        Whatever is added comes out in order; only the last datagram of a run is
        shorter; C{cost} is what was emitted with the overhead.
        """
        wire = Wire()
        packer = Packer(wire, 100, overhead)
        expected = b""
        for number, (length, count) in enumerate(items):
            segments = bytes([number % 256]) * (length * count)
            expected += segments
            packer.add_run(segments, length) if count > 1 else packer.add(segments)
        announced = packer.cost
        packer.finish()
        self.assertEqual(b"".join(run for run, _ in wire.runs), expected)
        cost = 0
        for run, size in wire.runs:
            count = -(-len(run) // size)
            cost += len(run) + overhead * count
            self.assertLessEqual(count, RUN_DATAGRAMS)
            self.assertLessEqual(len(run) + overhead * count, RUN_BYTES)
        self.assertEqual((packer.cost, announced), (cost, cost))


class SegmentsPerRunTests(SynchronousTestCase):
    """L{segments_per_run}."""

    def test_figures(self) -> None:
        """64 datagrams, 65000 bytes, at least one."""
        self.assertEqual(segments_per_run(1376, 0), 46)
        self.assertEqual(segments_per_run(100, 0), 64)
        self.assertEqual(segments_per_run(65_400, 50), 1)
