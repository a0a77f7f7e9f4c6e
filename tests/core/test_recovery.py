"""Tests for L{twisted_rudp.core.recovery}."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.recovery import MOST_PROBES, REORDERING, Copies, Recovery
from twisted_rudp.core.rtt import RoundTrip
from twisted_rudp.core.timers import NEVER

SIZE = 1000
TRIP = 40 * MILLISECOND

steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 8), st.integers(1, SIZE)),
        st.tuples(st.just("ack"), st.integers(-5, 90), st.integers(1, 12)),
        st.tuples(st.just("supersede"), st.integers(-5, 90), st.integers(1, 4)),
        st.tuples(st.just("skip"), st.integers(1, 3), st.just(0)),
        st.tuples(st.just("turn"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("probe"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


def make(first: int = 0) -> Recovery:
    """With nothing in flight."""
    return Recovery(RoundTrip(200 * MILLISECOND, 20 * MILLISECOND, 60 * SECOND), first)


class ModelTests(SynchronousTestCase):
    """L{Recovery} beside a dictionary of what is in flight."""

    @given(steps=steps, first=st.sampled_from([0, 1, 1 << 24]))
    @settings(max_examples=300, deadline=None, derandomize=True)
    def test_accounts(self, steps: list[tuple[str, int, int]], first: int) -> None:
        """
        Whatever happens in whatever order: what is in flight is what was sent and
        neither acknowledged, superseded nor lost; nothing is lost twice, nothing that
        was acknowledged is lost, and each byte is delivered once.
        """
        recovery, now = make(first), SECOND
        sizes: dict[int, int] = {}
        flying: set[int] = set()
        arrived: set[int] = set()
        lost: set[int] = set()
        for kind, a, b in steps:
            now += MILLISECOND
            if kind == "send":
                number = recovery.on_sent(a, SIZE, now, b)
                self.assertEqual(number, first + len(sizes))
                for each in range(a):
                    sizes[number + each] = SIZE if each < a - 1 else b
                    flying.add(number + each)
            elif kind == "skip":
                for _ in range(a):
                    sizes[first + len(sizes)] = 0
                recovery.on_skipped(a)
            elif kind in ("ack", "supersede"):
                numbers = [n for n in range(first + a, first + a + b) if n in sizes]
                if kind == "ack":
                    recovery.on_acknowledged(first + a, first + a + b)
                    # What was settled long ago may be out of the books.
                    arrived.update(n for n in numbers if n in flying)
                else:
                    recovery.on_superseded(first + a, first + a + b)
                flying.difference_update(numbers)
            elif kind == "turn":
                now += a * MILLISECOND
                sample = recovery.turn(now)
                if sample is not None:
                    self.assertEqual(sample.in_flight, recovery.in_flight)
            else:
                recovery.probe(now)
            for low, end in recovery.lost:
                numbers = list(range(low, end))
                self.assertTrue(numbers)
                self.assertTrue(flying.issuperset(numbers), (numbers, flying))
                flying.difference_update(numbers)
                lost.update(numbers)
            recovery.lost.clear()
            self.assertEqual(recovery.in_flight, sum(sizes[n] for n in flying))
            self.assertTrue(recovery.delivered >= sum(sizes[n] for n in arrived))
            self.assertTrue(recovery.delivered <= sum(sizes[n] for n in arrived | lost))


class DetectionTests(SynchronousTestCase):
    """What counts as lost, and when."""

    def sent(self, count: int) -> Recovery:
        """So many datagrams left together at 1 s."""
        recovery = make()
        recovery.on_sent(count, SIZE, SECOND)
        return recovery

    def test_order(self) -> None:
        """Three later ones tell of a loss, two do not (RFC 9002 6.1.1)."""
        recovery = self.sent(10)
        recovery.on_acknowledged(1, REORDERING)
        recovery.turn(SECOND + TRIP)
        self.assertEqual(recovery.lost, [])
        recovery.on_acknowledged(REORDERING, REORDERING + 1)
        sample = recovery.turn(SECOND + TRIP)
        self.assertEqual(recovery.lost, [(0, 1)])
        assert sample is not None
        self.assertEqual((sample.lost, sample.acked), (SIZE, SIZE))

    def test_time(self) -> None:
        """Nine eighths of the round trip after its sending it is lost, if a later one arrived."""
        recovery = self.sent(2)
        recovery.on_acknowledged(1, 2)
        recovery.turn(SECOND + TRIP)
        self.assertEqual(recovery.loss_at, SECOND + TRIP * 9 // 8)
        recovery.turn(SECOND + TRIP * 9 // 8 - 1)
        self.assertEqual(recovery.lost, [])
        recovery.turn(SECOND + TRIP * 9 // 8)
        self.assertEqual(recovery.lost, [(0, 1)])
        self.assertEqual(recovery.in_flight, 0)
        self.assertEqual(recovery.loss_at, NEVER)

    def test_nothingLater(self) -> None:
        """The last one sent is not lost by time alone: a probe finds out."""
        recovery = self.sent(2)
        recovery.on_acknowledged(0, 1)
        recovery.turn(SECOND + TRIP)
        self.assertEqual(recovery.loss_at, NEVER)
        self.assertIsNone(recovery.turn(10 * SECOND))
        self.assertTrue(recovery.probe_deadline() < 2 * SECOND)

    def test_spurious(self) -> None:
        """Who arrives after all was not lost: the threshold grows by half."""
        recovery = self.sent(10)
        recovery.on_acknowledged(1, 6)
        recovery.turn(SECOND + TRIP)
        self.assertEqual(recovery.lost, [(0, 1)])
        recovery.on_sent(10, SIZE, SECOND + TRIP)
        self.assertEqual(recovery.on_acknowledged(0, 1), 1)
        recovery.on_acknowledged(10, 11)
        recovery.turn(SECOND + 2 * TRIP)
        self.assertEqual((recovery.spurious, recovery.reordering), (1, REORDERING + 1))
        self.assertEqual(recovery.on_acknowledged(0, 1), 0)
        self.assertEqual(recovery.spurious, 1)

    def test_reordering(self) -> None:
        """On a path where datagrams overtake each other by tens, losses soon are none."""
        recovery, now = make(), SECOND
        for _ in range(40):
            first = recovery.on_sent(40, SIZE, now)
            now += TRIP
            recovery.on_acknowledged(first + 20, first + 40)
            recovery.turn(now)
            recovery.on_acknowledged(first, first + 20)
            recovery.turn(now + MILLISECOND)
        self.assertTrue(recovery.reordering > 20)
        recovery.lost.clear()
        first = recovery.on_sent(40, SIZE, now)
        recovery.on_acknowledged(first + 20, first + 40)
        recovery.turn(now + TRIP)
        self.assertEqual(recovery.lost, [])

    def test_repair(self) -> None:
        """Where error correction repairs, nothing is lost before it has had the time."""
        recovery = make()
        recovery.expect_reordering(13)
        self.assertEqual(recovery.reordering, 13)
        recovery.on_sent(30, SIZE, SECOND)
        recovery.on_acknowledged(1, 13)
        recovery.turn(SECOND + TRIP)
        self.assertEqual(recovery.lost, [])
        recovery.on_acknowledged(13, 14)
        recovery.turn(SECOND + TRIP)
        self.assertEqual(recovery.lost, [(0, 1)])

    def test_givenUp(self) -> None:
        """What all was given up and arrives after all tells how long the path is by now."""
        recovery = make()
        recovery.on_sent(10, SIZE, SECOND)
        self.assertTrue(recovery.declare_lost())
        recovery.on_sent(1, SIZE, SECOND + TRIP)
        recovery.on_acknowledged(0, 10)
        sample = recovery.turn(3 * SECOND)
        assert sample is not None
        self.assertEqual((sample.acked, sample.lost), (0, 0))
        self.assertEqual(recovery.round_trip.latest, 2 * SECOND)
        self.assertGreater(recovery.probe_timeout(), 2 * SECOND)

    def test_givenUpOften(self) -> None:
        """Only the last batches that were given up are remembered."""
        recovery = make()
        for turn in range(40):
            recovery.on_sent(1, SIZE, SECOND + turn * TRIP)
            recovery.declare_lost()
        recovery.on_acknowledged(0, 1)
        self.assertIsNone(recovery.turn(20 * SECOND))
        recovery.on_acknowledged(39, 40)
        self.assertIsNotNone(recovery.turn(20 * SECOND))

    def test_lateness(self) -> None:
        """On a path where datagrams come some milliseconds late, that soon is no loss either."""
        recovery, now = make(), SECOND
        late = TRIP // 2
        for _ in range(40):
            first = recovery.on_sent(2, SIZE, now)
            recovery.on_sent(1, SIZE, now + MILLISECOND)
            recovery.on_acknowledged(first + 1, first + 2)
            recovery.turn(now + TRIP)
            recovery.turn(now + TRIP + late)
            recovery.on_acknowledged(first, first + 3)
            now += TRIP + late + MILLISECOND
            recovery.turn(now)
        self.assertTrue(recovery.spurious < 12)
        self.assertEqual(recovery.in_flight, 0)

    def test_forgetting(self) -> None:
        """After some dozens of round trips without another such case it is judged as at first."""
        recovery, now = self.sent(10), SECOND
        recovery.on_acknowledged(1, 6)
        recovery.turn(now + TRIP)
        recovery.on_acknowledged(0, 10)
        recovery.turn(now + TRIP)
        self.assertTrue(recovery.reordering > REORDERING)
        for _ in range(100):
            now += TRIP
            first = recovery.on_sent(1, SIZE, now)
            recovery.on_acknowledged(first, first + 1)
            recovery.turn(now + TRIP)
        self.assertEqual(recovery.reordering, REORDERING)

    def test_eager(self) -> None:
        """
        An eager flow takes what is not acknowledged in its time for lost, ever later while
        nothing is.
        """
        recovery, now = make(), SECOND
        recovery.eager = True
        recovery.on_sent(1, SIZE, now)
        recovery.on_acknowledged(0, 1)
        recovery.turn(now + TRIP)
        waits = []
        for _ in range(3):
            now += SECOND
            recovery.on_sent(1, SIZE, now)
            recovery.turn(now)
            waits.append(recovery.loss_at - now)
            recovery.turn(recovery.loss_at)
        self.assertEqual(recovery.lost, [(1, 2), (2, 3), (3, 4)])
        self.assertTrue(TRIP < waits[0] < 3 * TRIP)
        self.assertEqual(waits[1:], [2 * waits[0], 4 * waits[0]])

    def test_eagerRepair(self) -> None:
        """An eager flow waits for error correction before it takes something for lost."""
        waits = []
        for repair in (0, TRIP):
            recovery = make()
            recovery.eager = True
            recovery.repair = repair
            recovery.on_sent(1, SIZE, SECOND)
            recovery.on_acknowledged(0, 1)
            recovery.turn(SECOND + TRIP)
            recovery.on_sent(1, SIZE, 2 * SECOND)
            recovery.turn(2 * SECOND)
            waits.append(recovery.loss_at - 2 * SECOND)
        self.assertEqual(waits[1], waits[0] + TRIP)

    def test_eagerRest(self) -> None:
        """Of what left together the first has arrived: the rest is lost when its time is over."""
        recovery = make()
        recovery.eager = True
        recovery.on_sent(4, SIZE, SECOND)
        recovery.on_acknowledged(0, 1)
        recovery.turn(SECOND + TRIP)
        self.assertEqual(recovery.lost, [])
        recovery.turn(recovery.loss_at)
        self.assertEqual((recovery.lost, recovery.loss_at), ([(1, 4)], NEVER))

    def test_eagerOvertaken(self) -> None:
        """
        What an eager flow sent is lost no later when something sent behind it has arrived,
        however far datagrams have overtaken each other.
        """
        waits = []
        for overtaken in (False, True):
            recovery, now = make(), 2 * SECOND
            recovery.eager = True
            recovery.expect_reordering(12)
            for number in range(20):
                recovery.on_sent(1, SIZE, SECOND)
                recovery.on_acknowledged(number, number + 1)
                recovery.turn(SECOND + TRIP)
            recovery.on_sent(1, SIZE, now)
            if overtaken:
                recovery.on_sent(1, SIZE, now + MILLISECOND)
                recovery.on_acknowledged(21, 22)
            recovery.turn(now + TRIP)
            waits.append(recovery.loss_at - now)
            recovery.turn(recovery.loss_at)
            self.assertEqual(recovery.lost, [(20, 21)])
        self.assertLess(waits[1], TRIP * 9 // 8)
        self.assertLessEqual(waits[1], waits[0])

    def test_runs(self) -> None:
        """What one turn sends is acknowledged and lost as if each run had been noted alone."""
        recovery = make()
        for count, last in ((10, SIZE), (10, SIZE), (5, 400)):
            recovery.on_sent(count, SIZE, SECOND, last)
        self.assertEqual(recovery.in_flight, 24 * SIZE + 400)
        recovery.on_acknowledged(12, 25)
        sample = recovery.turn(SECOND + TRIP)
        assert sample is not None
        self.assertEqual((sample.acked, sample.lost), (12 * SIZE + 400, 12 * SIZE))
        self.assertEqual((recovery.lost, recovery.in_flight), ([(0, 12)], 0))

    def test_bounded(self) -> None:
        """What was settled long ago is forgotten."""
        recovery, now = make(), SECOND
        for _ in range(200):
            first = recovery.on_sent(100, SIZE, now)
            recovery.on_acknowledged(first + 1, first + 100)
            now += TRIP
            recovery.turn(now)
            recovery.turn(now + TRIP)
        self.assertEqual(recovery.on_acknowledged(0, 1), 0)
        self.assertEqual(recovery.on_acknowledged(recovery.next - 100, recovery.next - 99), 1)

    def test_probes(self) -> None:
        """Probes come at growing intervals; at the third the congestion is persistent."""
        recovery = self.sent(5)
        recovery.on_acknowledged(0, 1)
        recovery.turn(SECOND + TRIP)
        times = []
        for count in range(1, MOST_PROBES + 1):
            times.append(recovery.probe_deadline())
            self.assertEqual(recovery.probe(times[-1]), count == MOST_PROBES)
        self.assertEqual((recovery.lost, recovery.in_flight), ([], 4 * SIZE))
        first, second, third = times
        self.assertEqual(third - second, 2 * (second - first))

    def test_persisting(self) -> None:
        """
        What is acknowledged does not count: the probes go on, less and less often, also when
        nothing is in flight any more, but at once when they were far apart.
        """
        recovery = self.sent(5)
        recovery.on_acknowledged(0, 1)
        recovery.turn(SECOND + TRIP)
        recovery.persisting = True
        for _ in range(6):
            at = recovery.probe_deadline()
            recovery.probe(at)
        self.assertEqual(recovery.probes, 6)
        waits = recovery.probe_deadline() - at
        self.assertGreater(waits, SECOND)
        recovery.declare_lost()
        self.assertEqual(recovery.probe_deadline(), at + waits)
        number = recovery.on_sent(1, SIZE, at)
        recovery.on_acknowledged(number, number + 1)
        recovery.turn(at + TRIP)
        self.assertEqual(recovery.probe_deadline(), at + 2 * TRIP)
        self.assertEqual(recovery.probes, 6)
        recovery.persisting = False
        self.assertEqual(recovery.probe_deadline(), NEVER)

    def test_putOff(self) -> None:
        """Each acknowledgement puts the probe off, from when it came."""
        recovery = self.sent(5)
        recovery.on_acknowledged(0, 1)
        recovery.turn(SECOND + TRIP)
        self.assertEqual(recovery.probe_deadline(), SECOND + TRIP + recovery.probe_timeout())
        recovery.on_acknowledged(1, 2)
        recovery.turn(SECOND + 2 * TRIP)
        self.assertEqual(recovery.probe_deadline(), SECOND + 2 * TRIP + recovery.probe_timeout())

    def test_shorter(self) -> None:
        """A last datagram that is shorter than the others counts with its own size."""
        recovery = make()
        recovery.on_sent(2, SIZE, SECOND, last_size=300)
        recovery.on_sent(4, SIZE, SECOND)
        recovery.on_acknowledged(0, 1)
        recovery.on_acknowledged(2, 6)
        sample = recovery.turn(SECOND + TRIP)
        assert sample is not None
        self.assertEqual((recovery.lost, sample.lost), ([(1, 2)], 300))
        self.assertEqual(recovery.in_flight, 0)

    def test_longerRepair(self) -> None:
        """The time that error correction has is longer as well, and stays so."""
        recovery = make()
        recovery.expect_reordering(13)
        now = SECOND
        for _ in range(40):
            first = recovery.on_sent(1, SIZE, now)
            recovery.on_acknowledged(first, first + 1)
            recovery.turn(now + TRIP)
            now += TRIP
        recovery.on_sent(2, SIZE, now)
        recovery.on_acknowledged(recovery.next - 1, recovery.next)
        recovery.turn(now + TRIP)
        self.assertEqual(recovery.loss_at, now + TRIP * 11 // 8)

    def test_eagerLess(self) -> None:
        """
        A path that delivers nothing is tried less and less often, also what is under way, unless
        losses are known to come in runs.
        """
        for runs in (False, True):
            recovery = make()
            recovery.on_sent(1, SIZE, SECOND)
            recovery.on_acknowledged(0, 1)
            recovery.turn(SECOND + TRIP)
            recovery.eager = True
            recovery.runs = runs
            now = 2 * SECOND
            recovery.on_sent(1, SIZE, now)
            wait = recovery.loss_at - now
            recovery.on_sent(1, SIZE, now + MILLISECOND)
            recovery.turn(now + wait)
            self.assertEqual(recovery.lost, [(1, 2)])
            recovery.turn(now + wait + MILLISECOND)
            self.assertEqual(recovery.lost, [(1, 2), (2, 3)] if runs else [(1, 2)])
            if not runs:
                self.assertEqual(recovery.loss_at, now + MILLISECOND + 2 * wait)
                continue
            now += wait
            recovery.on_sent(1, SIZE, now)
            self.assertEqual(recovery.loss_at, now + 2 * wait)
            recovery.turn(now + 2 * wait)
            self.assertEqual(recovery.lost, [(1, 2), (2, 3), (3, 4)])
            recovery.on_sent(1, SIZE, now + 2 * wait)
            self.assertEqual(recovery.loss_at, now + 6 * wait)

    def test_stop(self) -> None:
        """After the end nothing is waited for."""
        recovery = self.sent(5)
        recovery.stop()
        self.assertEqual((recovery.in_flight, recovery.lost), (0, []))
        self.assertEqual(recovery.probe_deadline(), NEVER)


class SampleTests(SynchronousTestCase):
    """What the controller is told."""

    def test_rate(self) -> None:
        """Ten datagrams a round trip apart are a rate of ten datagrams in a round trip."""
        recovery, now = make(), SECOND
        for _ in range(5):
            recovery.on_sent(10, SIZE, now)
            now += TRIP
            recovery.on_acknowledged(recovery.next - 10, recovery.next)
            sample = recovery.turn(now)
            assert sample is not None
            self.assertEqual(sample.round_trip, TRIP)
            self.assertAlmostEqual(sample.rate, 10 * SIZE / 0.04, delta=1)
            self.assertFalse(sample.app_limited)

    def test_limited(self) -> None:
        """Who had nothing to send says nothing of the path, until a round trip later."""
        recovery = make()
        recovery.on_sent(1, SIZE, SECOND)
        recovery.on_app_limited()
        recovery.on_sent(1, SIZE, SECOND)
        recovery.on_acknowledged(0, 2)
        sample = recovery.turn(SECOND + TRIP)
        assert sample is not None
        self.assertTrue(sample.app_limited)
        recovery.on_sent(1, SIZE, SECOND + TRIP)
        recovery.on_acknowledged(2, 3)
        sample = recovery.turn(SECOND + 2 * TRIP)
        assert sample is not None
        self.assertFalse(sample.app_limited)

    def test_pause(self) -> None:
        """What is sent first after a pause says nothing either: the path had been empty."""
        recovery = make()
        recovery.on_sent(1, SIZE, SECOND)
        recovery.on_app_limited()
        recovery.on_acknowledged(0, 1)
        recovery.turn(SECOND + TRIP)
        recovery.on_sent(1, SIZE, 2 * SECOND)
        recovery.on_acknowledged(1, 2)
        sample = recovery.turn(2 * SECOND + TRIP)
        assert sample is not None
        self.assertTrue(sample.app_limited)

    def test_noNews(self) -> None:
        """What was acknowledged before, or never sent, is no news."""
        recovery = make()
        recovery.on_sent(3, SIZE, SECOND)
        self.assertEqual(recovery.on_acknowledged(0, 3), 3)
        self.assertIsNotNone(recovery.turn(SECOND + TRIP))
        self.assertEqual(recovery.on_acknowledged(0, 100), 0)
        self.assertIsNone(recovery.turn(SECOND + TRIP))

    def test_settled(self) -> None:
        """What was sent while the controller drained is reported by itself."""
        recovery = make()
        recovery.on_sent(10, SIZE, SECOND, draining=True)
        recovery.on_acknowledged(0, 5)
        recovery.on_acknowledged(6, 10)
        sample = recovery.turn(SECOND + TRIP)
        assert sample is not None
        self.assertEqual((sample.settled, sample.settled_lost), (7 * SIZE, SIZE))

    def test_reportedWhileDraining(self) -> None:
        """What the peer reports lost of them counts as such, once, and the others settle."""
        recovery = make()
        recovery.on_sent(6, SIZE, SECOND, draining=True)
        recovery.on_sent(4, SIZE, SECOND + MILLISECOND)
        recovery.on_reported_lost(1, 3)
        recovery.on_reported_lost(1, 3)
        recovery.on_reported_lost(6, 7)
        sample = recovery.turn(SECOND + 10 * MILLISECOND)
        assert sample is not None
        self.assertEqual((sample.lost, sample.settled_lost), (3 * SIZE, 2 * SIZE))
        recovery.on_acknowledged(0, 10)
        sample = recovery.turn(SECOND + TRIP)
        assert sample is not None
        self.assertEqual((sample.lost, sample.settled, sample.settled_lost), (0, 6 * SIZE, 0))


class CopiesTests(SynchronousTestCase):
    """L{Copies}."""

    def test_times(self) -> None:
        """A copy after a time and another after twice that, each once."""
        copies = Copies()
        self.assertEqual(copies.due, NEVER)
        copies.plan(100, 10, 1, 3)
        copies.plan(105, 10, 3, 4)
        self.assertEqual((copies.due, copies.take(109)), (110, []))
        self.assertEqual((copies.take(112), copies.due), ([(1, 3)], 115))
        self.assertEqual((copies.take(120), copies.due), ([(3, 4), (1, 3)], 125))
        self.assertEqual((copies.take(200), copies.due), ([(3, 4)], NEVER))
        copies.plan(300, 10, 5, 6)
        # Both at once, where a turn came late.
        self.assertEqual((copies.take(400), copies.due), ([(5, 6)], NEVER))
        copies.plan(400, 10, 6, 7)
        copies.clear()
        self.assertEqual((copies.take(500), copies.due), ([], NEVER))
