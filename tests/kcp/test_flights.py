"""What was sent and is not acknowledged yet."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.kcp.flights import NEVER, SETTLED, Cause, Flight, Flights, Policy


class FlightsTests(SynchronousTestCase):
    """
    L{Flights} against the rules of kcp.md 1.9 and 1.11, and against a model
    that keeps a record of every segment.
    """

    def launch(self, flights: Flights, count: int, now: int = 0, size: int | None = None) -> Flight:
        """Segments of 10 bytes, the last of C{size}."""
        data = bytes(10 * count if size is None else 10 * (count - 1) + size)
        flight = Flight(flights.nxt, count, data, 10, 0)
        flight.launch(now, 100, flights.delivered)
        flights.add(flight)
        return flight

    def policy(self, now: int, threshold: int = 2, early: bool = False) -> Policy:
        return Policy(now, threshold, early, 100, 50)

    def test_forgetting(self) -> None:
        """
        A cumulative acknowledgement drops whole flights and counts within the
        first one; bytes and segments are kept in step.
        """
        flights = Flights(0)
        self.launch(flights, 3, size=4)
        self.launch(flights, 2, size=1)
        flights.forget(2)
        self.assertEqual((flights.outstanding, flights.delivered, len(flights.queue)), (3, 20, 2))
        flights.forget(3)
        self.assertEqual((flights.outstanding, flights.delivered, len(flights.queue)), (2, 24, 1))
        flights.forget(5)
        self.assertEqual((flights.outstanding, flights.delivered, len(flights.queue)), (0, 35, 0))

    def test_noRecordsWithoutLoss(self) -> None:
        """Without loss no segment gets a record."""
        flights = Flights(0)
        flight = self.launch(flights, 3)
        flights.forget(2)
        self.assertEqual((flight.arrived, flight.stragglers), (None, None))

    def test_skips(self) -> None:
        """
        Each acknowledgement counts as a skip of what is missing below it,
        unless it is older than that was sent.
        """
        flights = Flights(0)
        first = self.launch(flights, 3, now=10)
        second = self.launch(flights, 3, now=20)
        flights.acknowledge([(1, 10), (4, 15)])
        self.assertEqual({i: s.skips for i, s in (first.stragglers or {}).items()}, {0: 2, 2: 1})
        self.assertIsNone(second.stragglers)
        flights.acknowledge([(5, 20)])
        self.assertEqual({i: s.skips for i, s in (first.stragglers or {}).items()}, {0: 3, 2: 2})
        self.assertEqual({i: s.skips for i, s in (second.stragglers or {}).items()}, {0: 1})

    def test_fastThenSettled(self) -> None:
        """A fast retransmission happens once until a timeout."""
        flights = Flights(0)
        flight = self.launch(flights, 4)
        flights.acknowledge([(2, 0), (3, 0)])
        self.assertEqual(
            flight.repeats(0, self.policy(5)), [(0, Cause.FAST), (1, Cause.FAST)]
        )
        flights.acknowledge([(2, 5), (3, 5)])
        self.assertEqual(flight.straggler(0).skips, SETTLED)
        self.assertEqual(flight.repeats(0, self.policy(6)), [])
        self.assertLessEqual(flight.next_due(), 105)
        self.assertEqual(
            flight.repeats(0, self.policy(105)), [(0, Cause.TIMEOUT), (1, Cause.TIMEOUT)]
        )
        self.assertEqual((flight.straggler(0).skips, flight.straggler(0).due), (0, 255))

    def test_unsettled(self) -> None:
        """
        If it does not settle, a segment is skipped again by what was sent after it, and
        only by that.
        """
        flights = Flights(0)
        flight = self.launch(flights, 4)
        policy = self.policy(5)._replace(settle=False)
        flights.acknowledge([(1, 0), (2, 0)])
        self.assertEqual(flight.repeats(0, policy), [(0, Cause.FAST)])
        flights.acknowledge([(3, 5)])
        self.assertEqual(flight.straggler(0).skips, 0)
        later = self.launch(flights, 2)
        flights.acknowledge([(later.first, 6), (later.first + 1, 6)])
        again = self.policy(7)._replace(settle=False)
        self.assertEqual(flight.repeats(0, again), [(0, Cause.FAST)])

    def test_early(self) -> None:
        """A single skip is enough when nothing new is sent."""
        flights = Flights(0)
        flight = self.launch(flights, 2)
        flights.acknowledge([(1, 0)])
        self.assertEqual(flight.repeats(0, self.policy(5)), [])
        self.assertTrue(flight.has_skips)
        self.assertEqual(flight.repeats(0, self.policy(5, early=True)), [(0, Cause.EARLY)])
        self.assertFalse(flight.has_skips)

    def test_commonTimeout(self) -> None:
        """What has no story of its own expires together, in order with the others."""
        flights = Flights(0)
        flight = self.launch(flights, 5)
        flights.acknowledge([(3, 0)])
        flight.straggler(1).skips = 2
        self.assertEqual(flight.repeats(0, self.policy(50)), [(1, Cause.FAST)])
        expired = flight.repeats(0, self.policy(100))
        self.assertEqual([index for index, _ in expired], [0, 2, 4])
        self.assertEqual(flight.next_due(), 150)
        self.assertEqual(flight.most_sendings(), 2)

    def test_postponed(self) -> None:
        """Postponing waits once more without counting a transmission."""
        flights = Flights(0)
        flight = self.launch(flights, 2)
        flight.straggler(1)
        flight.postpone(130)
        self.assertEqual((flight.next_due(), flight.most_sendings()), (230, 1))

    def test_nothingLeftToExpire(self) -> None:
        """When only segments with records are missing, the common timeout ends."""
        flights = Flights(0)
        flight = self.launch(flights, 2)
        flights.acknowledge([(1, 0)])
        flight.repeats(0, self.policy(5, early=True))
        flight.repeats(0, self.policy(100))
        self.assertEqual(flight.due, NEVER)

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
        flights = Flights(0)
        model: dict[int, dict[str, int]] = {}
        for now, (count, size) in enumerate(launches):
            for sn in range(flights.nxt, flights.nxt + count):
                model[sn] = {"ts": now, "rto": 100, "due": now + 100, "skips": 0, "done": 0}
                model[sn]["size"] = 10
            self.launch(flights, count, now, size)
            model[flights.nxt - 1]["size"] = size
        now = 10
        for una, acks, wait in rounds:
            if flights.una <= una <= flights.nxt:
                flights.forget(una)
                model = {sn: one for sn, one in model.items() if sn >= una}
            acks = [ack for ack in acks if flights.una <= ack[0] < flights.nxt]
            for sn, ts in acks:
                model[sn]["done"] = 1
                for other, one in model.items():
                    if other < sn and one["skips"] != SETTLED and ts >= one["ts"]:
                        one["skips"] += 1
            if acks:
                flights.acknowledge(acks)
            now += 120 if wait else 3
            policy = self.policy(now)
            expected = {sn: self.repeat(one, policy) for sn, one in model.items()}
            found = {
                flight.first + index: cause
                for flight in flights
                for index, cause in flight.repeats(flights.start_of(flight), policy)
            }
            self.assertEqual(found, {sn: cause for sn, cause in expected.items() if cause})
            missing = [one for one in model.values() if not one["done"]]
            self.assertEqual(flights.outstanding, len(missing))
            in_flight = flights.numbered - flights.delivered
            self.assertEqual(in_flight, sum(one["size"] for one in missing))
            due = min((flight.next_due() for flight in flights), default=NEVER)
            self.assertLessEqual(due, min((one["due"] for one in missing), default=NEVER))

    def repeat(self, one: dict[str, int], policy: Policy) -> Cause | None:
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
