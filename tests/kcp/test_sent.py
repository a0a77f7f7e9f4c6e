"""What was sent and is not acknowledged yet."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.timers import NEVER
from twisted_rudp.kcp.kcpgo import SkipRecovery
from twisted_rudp.kcp.packing import Transmitter
from twisted_rudp.kcp.sent import SETTLED, Cause, RetransmitPolicy, SentBatch, SentSegments
from twisted_rudp.kcp.settings import Settings
from twisted_rudp.kcp.wire import Counters


class Sent:
    """
    What was sent, with the recovery that counts skips.

    @ivar segments: L{SentSegments}.
    """

    def __init__(self) -> None:
        counters, settings = Counters(), Settings(nc=True)
        self.segments = SentSegments(0)
        transmitter = Transmitter(counters, 0, 0)
        self.recovery = SkipRecovery(settings, self.segments, transmitter, counters)

    def launch(self, count: int, now: int = 0, size: int | None = None) -> SentBatch:
        """Segments of 10 bytes, the last of C{size}."""
        data = bytes(10 * count if size is None else 10 * (count - 1) + size)
        batch = SentBatch(self.segments.nxt, data, 10, 0)
        batch.launch(now, 100)
        self.segments.add(batch)
        return batch

    def totals(self) -> tuple[int, int, int]:
        """Segments outstanding, bytes delivered, batches."""
        segments = self.segments
        return segments.outstanding, segments.delivered, len(segments.batches)

    def acknowledge(self, *acks: tuple[int, int]) -> None:
        """Pairs of number and echoed clock arrive in one datagram."""
        self.recovery.acknowledge([(number, ts, 1) for number, ts in acks], 0, False)

    def retransmit(self, batch: SentBatch, policy: RetransmitPolicy) -> list[tuple[int, Cause]]:
        """What of a batch is sent again."""
        return batch.retransmit(self.segments, policy)


class SentSegmentsTests(SynchronousTestCase):
    """
    L{SentSegments} and L{SkipRecovery} against the rules of kcp.md 1.9 and 1.11, and
    against a model that keeps a record of every segment.
    """

    def policy(self, now: int, threshold: int = 2, early: bool = False) -> RetransmitPolicy:
        return RetransmitPolicy(now, threshold, early, 100, 50)

    def test_forgetting(self) -> None:
        """
        A cumulative acknowledgement drops whole batches and counts within the
        first one; bytes and segments are kept in step.
        """
        sent = Sent()
        sent.launch(3, size=4)
        sent.launch(2, size=1)
        sent.segments.cover(2)
        self.assertEqual(sent.totals(), (3, 20, 2))
        sent.segments.cover(3)
        self.assertEqual(sent.totals(), (2, 24, 1))
        sent.segments.cover(5)
        self.assertEqual(sent.totals(), (0, 35, 0))

    def test_stretches(self) -> None:
        """A stretch that arrived counts as its segments one by one, whatever was known of it."""
        for known in ((), (2,), (0, 1, 2, 3, 4, 5, 6, 7)):
            for first, end in ((0, 8), (1, 7), (2, 3), (3, 5), (7, 8)):
                one, many = Sent(), Sent()
                for sent in (one, many):
                    for count, size in ((3, 4), (2, 1), (3, 7)):
                        sent.launch(count, size=size)
                    sent.segments.mark(known)
                one.segments.mark(range(first, end))
                many.segments.mark_stretch(first, end)
                self.assertEqual(many.totals(), one.totals())
                self.assertEqual(many.segments.arrived, one.segments.arrived)

    def test_noRecordsWithoutLoss(self) -> None:
        """Without loss no segment gets a record."""
        sent = Sent()
        batch = sent.launch(3)
        sent.segments.cover(2)
        self.assertIsNone(batch.states)

    def test_skips(self) -> None:
        """
        Each acknowledgement counts as a skip of what is missing below it,
        unless it is older than that was sent.
        """
        sent = Sent()
        first = sent.launch(3, now=10)
        second = sent.launch(3, now=20)
        sent.acknowledge((1, 10), (4, 15))
        self.assertEqual({i: s.skips for i, s in (first.states or {}).items()}, {0: 2, 2: 1})
        self.assertIsNone(second.states)
        sent.acknowledge((5, 20))
        self.assertEqual({i: s.skips for i, s in (first.states or {}).items()}, {0: 3, 2: 2})
        self.assertEqual({i: s.skips for i, s in (second.states or {}).items()}, {3: 1})

    def test_fastThenSettled(self) -> None:
        """A fast retransmission happens once until a timeout."""
        sent = Sent()
        batch = sent.launch(4)
        sent.acknowledge((2, 0), (3, 0))
        self.assertEqual(
            sent.retransmit(batch, self.policy(5)), [(0, Cause.FAST), (1, Cause.FAST)]
        )
        sent.acknowledge((2, 5), (3, 5))
        self.assertEqual(batch.state(0).skips, SETTLED)
        self.assertEqual(sent.retransmit(batch, self.policy(6)), [])
        self.assertLessEqual(batch.next_due(), 105)
        self.assertEqual(
            sent.retransmit(batch, self.policy(105)), [(0, Cause.TIMEOUT), (1, Cause.TIMEOUT)]
        )
        self.assertEqual((batch.state(0).skips, batch.state(0).due), (0, 255))

    def test_unsettled(self) -> None:
        """
        If it does not settle, a segment is skipped again by what was sent after it, and
        only by that.
        """
        sent = Sent()
        batch = sent.launch(4)
        policy = self.policy(5)._replace(settle=False)
        sent.acknowledge((1, 0), (2, 0))
        self.assertEqual(sent.retransmit(batch, policy), [(0, Cause.FAST)])
        sent.acknowledge((3, 5))
        self.assertEqual(batch.state(0).skips, 0)
        later = sent.launch(2)
        sent.acknowledge((later.first, 6), (later.first + 1, 6))
        again = self.policy(7)._replace(settle=False)
        self.assertEqual(sent.retransmit(batch, again), [(0, Cause.FAST)])

    def test_early(self) -> None:
        """A single skip is enough when nothing new is sent."""
        sent = Sent()
        batch = sent.launch(2)
        sent.acknowledge((1, 0))
        self.assertEqual(sent.retransmit(batch, self.policy(5)), [])
        self.assertTrue(batch.has_skips)
        self.assertEqual(sent.retransmit(batch, self.policy(5, early=True)), [(0, Cause.EARLY)])
        self.assertFalse(batch.has_skips)

    def test_commonTimeout(self) -> None:
        """What has no story of its own expires together, in order with the others."""
        sent = Sent()
        batch = sent.launch(5)
        sent.acknowledge((3, 0))
        batch.state(1).skips = 2
        self.assertEqual(sent.retransmit(batch, self.policy(50)), [(1, Cause.FAST)])
        expired = sent.retransmit(batch, self.policy(100))
        self.assertEqual([index for index, _ in expired], [0, 2, 4])
        self.assertEqual(batch.next_due(), 150)
        self.assertEqual(batch.most_sendings(), 2)

    def test_postponed(self) -> None:
        """Postponing waits once more without counting a transmission."""
        sent = Sent()
        batch = sent.launch(2)
        batch.state(1)
        batch.postpone(130)
        self.assertEqual((batch.next_due(), batch.most_sendings()), (230, 1))

    def test_nothingLeftToExpire(self) -> None:
        """When only segments with records are missing, the common timeout ends."""
        sent = Sent()
        batch = sent.launch(2)
        sent.acknowledge((1, 0))
        sent.retransmit(batch, self.policy(5, early=True))
        sent.retransmit(batch, self.policy(100))
        self.assertEqual(batch.due, NEVER)

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(
        st.lists(st.tuples(st.integers(1, 6), st.integers(1, 10)), min_size=1, max_size=6),
        st.lists(
            st.tuples(
                st.integers(0, 20),
                st.lists(st.tuples(st.integers(0, 35), st.integers(0, 30)), max_size=6),
                st.booleans(),
            ),
            max_size=12,
        ),
    )
    def test_model(
        self,
        launches: list[tuple[int, int]],
        rounds: list[tuple[int, list[tuple[int, int]], bool]],
    ) -> None:
        """
        The same segments are repeated for the same cause, and the same is
        outstanding, as with a record of every segment.
        """
        sent = Sent()
        model: dict[int, dict[str, int]] = {}
        for now, (count, size) in enumerate(launches):
            for sn in range(sent.segments.nxt, sent.segments.nxt + count):
                model[sn] = {"ts": now, "rto": 100, "due": now + 100, "skips": 0, "done": 0}
                model[sn]["size"] = 10
            sent.launch(count, now, size)
            model[sent.segments.nxt - 1]["size"] = size
        now = 10
        for una, acks, wait in rounds:
            if sent.segments.una <= una <= sent.segments.nxt:
                sent.segments.cover(una)
                model = {sn: one for sn, one in model.items() if sn >= una}
            acks = [ack for ack in acks if sent.segments.una <= ack[0] < sent.segments.nxt]
            for sn, ts in acks:
                model[sn]["done"] = 1
                for other, one in model.items():
                    if other < sn and one["skips"] != SETTLED and ts >= one["ts"]:
                        one["skips"] += 1
            if acks:
                sent.acknowledge(*acks)
            now += 120 if wait else 3
            policy = self.policy(now)
            expected = {sn: self.repeat(one, policy) for sn, one in model.items()}
            found = {
                number: cause
                for batch in sent.segments.batches
                for number, cause in sent.retransmit(batch, policy)
            }
            self.assertEqual(found, {sn: cause for sn, cause in expected.items() if cause})
            missing = [one for one in model.values() if not one["done"]]
            self.assertEqual(sent.segments.outstanding, len(missing))
            self.assertEqual(sent.segments.in_flight, sum(one["size"] for one in missing))
            due = min((batch.next_due() for batch in sent.segments.batches), default=NEVER)
            self.assertLessEqual(due, min((one["due"] for one in missing), default=NEVER))

    def repeat(self, one: dict[str, int], policy: RetransmitPolicy) -> Cause | None:
        if one["done"]:
            return None
        if one["skips"] >= policy.threshold:
            cause, one["rto"], one["skips"] = Cause.FAST, policy.timeout, SETTLED
        elif policy.now >= one["due"]:
            cause, one["skips"] = Cause.TIMEOUT, 0
            one["rto"] += policy.growth
        else:
            return None
        one["ts"] = policy.now
        one["due"] = policy.now + one["rto"]
        return cause
