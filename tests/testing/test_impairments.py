"""Tests for L{twisted_rudp.testing.impairments}."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.testing.impairments import BurstLoss, Fate, Impairments

probability = st.floats(0.0, 1.0)
impairments = st.builds(
    Impairments,
    seed=st.integers(0, 1000),
    loss=probability,
    burst=st.none() | st.builds(BurstLoss, probability, probability, probability),
    delay=st.floats(0.0, 1.0),
    jitter=st.floats(0.0, 1.0),
    reorder=probability,
    reorder_delay=st.floats(0.0, 1.0),
    duplicate=probability,
    rate=st.none() | st.floats(1.0, 1e6),
    queue=st.none() | st.integers(0, 10_000),
    mtu=st.none() | st.integers(1, 2000),
)
datagrams = st.lists(st.tuples(st.floats(0.0, 0.1), st.integers(0, 2000)), max_size=50)


class SettingsTests(SynchronousTestCase):
    """What the constructor accepts."""

    def test_aPerfectPath(self) -> None:
        """Without settings every datagram arrives once and at once."""
        path = Impairments()
        self.assertEqual([path.fate(t, 1000) for t in range(5)], [[0.0]] * 5)
        self.assertEqual(path.counters["delivered"], 5)

    def test_nonsense(self) -> None:
        """What is no probability, time, size or rate is refused."""
        nonsense = {
            "loss": 1.5,
            "reorder": -0.1,
            "duplicate": float("nan"),
            "burst": BurstLoss(0.1, 2.0),
            "delay": -1.0,
            "jitter": -1.0,
            "queue": -1,
            "mtu": -1,
            "rate": 0.0,
        }
        for name, value in nonsense.items():
            error = self.assertRaises(ValueError, lambda s: Impairments(**s), {name: value})
            self.assertIn(name, str(error))


class FateTests(SynchronousTestCase):
    """Each impairment by itself."""

    def fates(self, path: Impairments, count: int, gap: float = 0.001) -> list[list[float]]:
        return [path.fate(n * gap, 100) for n in range(count)]

    def test_loss(self) -> None:
        """Independent losses come in about the asked share and are counted."""
        path = Impairments(seed=1, loss=0.2)
        lost = self.fates(path, 2000).count([])
        self.assertEqual(lost, path.counters["lost"])
        self.assertTrue(300 < lost < 500, lost)

    def test_burstLoss(self) -> None:
        """The mean length of a burst is the inverse of the probability to leave."""
        path = Impairments(seed=2, burst=BurstLoss(enter=0.01, leave=0.25))
        marks = "".join(" " if arrivals else "x" for arrivals in self.fates(path, 20_000))
        bursts = marks.split()
        mean = sum(map(len, bursts)) / len(bursts)
        self.assertTrue(3.5 < mean < 4.5, mean)
        self.assertEqual(path.counters["burst_lost"], marks.count("x"))

    def test_delayAndJitter(self) -> None:
        """Delay is a floor, jitter stays inside its range and does not reorder."""
        path = Impairments(seed=3, delay=0.05, jitter=0.02)
        fates = self.fates(path, 500)
        self.assertTrue(all(0.05 - 1e-9 <= f[0] <= 0.07 + 1e-9 for f in fates))
        arrivals = [n * 0.001 + f[0] for n, f in enumerate(fates)]
        self.assertEqual(arrivals, sorted(arrivals))
        self.assertTrue(len({f[0] for f in fates}) > 100)

    def test_reorder(self) -> None:
        """A held-back datagram arrives behind those sent after it."""
        path = Impairments(seed=4, delay=0.05, reorder=0.1, reorder_delay=0.0045)
        arrivals = [n * 0.001 + f[0] for n, f in enumerate(self.fates(path, 500))]
        overtaken = sum(b < a for a, b in pairwise(arrivals))
        self.assertNotEqual(overtaken, 0)
        self.assertTrue(overtaken <= path.counters["reordered"] < 100)

    def test_duplicate(self) -> None:
        """A duplicated datagram arrives twice."""
        path = Impairments(seed=5, duplicate=0.5)
        twice = sum(len(f) == 2 for f in self.fates(path, 200))
        self.assertEqual(twice, path.counters["duplicated"])
        self.assertTrue(70 < twice < 130, twice)

    def test_rate(self) -> None:
        """The bottleneck carries so many bytes a second, one datagram after the other."""
        path = Impairments(rate=1000.0, delay=1.0)
        arrivals = [path.fate(0.0, 100)[0] for _ in range(3)]
        for got, wanted in zip(arrivals, [1.1, 1.2, 1.3], strict=True):
            self.assertAlmostEqual(got, wanted)
        self.assertAlmostEqual(path.fate(10.0, 100)[0], 1.1)

    def test_queue(self) -> None:
        """
        What does not fit before the bottleneck is dropped; there is room again
        after as much has left.
        """
        path = Impairments(rate=1000.0, queue=250)
        self.assertEqual([len(path.fate(0.0, 100)) for _ in range(4)], [1, 1, 0, 0])
        self.assertIs(path.last_fate, Fate.QUEUE_FULL)
        self.assertEqual(len(path.fate(0.1, 100)), 1)
        self.assertEqual(path.counters["queue_full"], 2)

    def test_mtu(self) -> None:
        """Longer datagrams than the path takes vanish."""
        path = Impairments(mtu=1200)
        self.assertEqual([len(path.fate(0.0, n)) for n in (1200, 1201)], [1, 0])
        self.assertIs(path.last_fate, Fate.TOO_BIG)

    def test_scripted(self) -> None:
        """
        Datagrams are dropped by number and by content, and the fate of all others
        stays what it would have been.
        """
        plain = Impairments(seed=6, loss=0.3)
        scripted = Impairments(
            seed=6, loss=0.3, drop_indices={0, 7}, drop_if=lambda data: data == b"\x05"
        )
        for n in range(50):
            before = plain.fate(float(n), 1, bytes([n]))
            after = scripted.fate(float(n), 1, bytes([n]))
            self.assertEqual(after, [] if n in (0, 5, 7) else before)
        self.assertEqual(scripted.counters["scripted"], 3)

    def test_reseeded(self) -> None:
        """A reseeded copy has the settings, not the history."""
        path = Impairments(seed=1, loss=0.5, rate=10.0)
        self.fates(path, 10)
        other = path.reseeded(2)
        self.assertEqual((other.loss, other.rate, other.seed), (0.5, 10.0, 2))
        self.assertEqual(other.counters["offered"], 0)


class PropertyTests(SynchronousTestCase):
    """What holds whatever the settings are."""

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(path=impairments, traffic=datagrams)
    def test_accounts(self, path: Impairments, traffic: list[tuple[float, int]]) -> None:
        """
        Every datagram is in exactly one counter, no copy arrives before it was sent
        and the same seed gives the same fates.
        """
        twin = path.reseeded(path.seed)
        now = 0.0
        copies = 0
        for gap, size in traffic:
            now += gap
            arrivals = path.fate(now, size)
            self.assertEqual(arrivals, twin.fate(now, size))
            self.assertTrue(all(arrival >= 0.0 for arrival in arrivals))
            self.assertEqual(bool(arrivals), path.last_fate is Fate.DELIVERED)
            copies += len(arrivals)
        self.assertEqual(sum(path.counters[fate] for fate in Fate), len(traffic))
        self.assertEqual(copies, path.counters["delivered"] + path.counters["duplicated"])
