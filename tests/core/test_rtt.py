"""Tests for L{twisted_rudp.core.rtt}."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.rtt import LEAST_AGE, RoundTrip


class RoundTripTests(SynchronousTestCase):
    """L{RoundTrip}."""

    def make(self, granularity: int = 0, allowance: int = 0) -> RoundTrip:
        """One with limits of 100 ms and 2 s."""
        return RoundTrip(200 * MILLISECOND, 100 * MILLISECOND, 2 * SECOND, granularity, allowance)

    def test_first(self) -> None:
        """The first sample is the mean, half of it the deviation (RFC 6298 2.2)."""
        trip = self.make()
        self.assertEqual((trip.smoothed, trip.timeout), (0, 200 * MILLISECOND))
        self.assertTrue(trip.sample(80 * MILLISECOND, 1))
        self.assertEqual(trip.smoothed, 80 * MILLISECOND)
        self.assertEqual(trip.variation, 40 * MILLISECOND)
        self.assertEqual(trip.timeout, 240 * MILLISECOND)

    def test_later(self) -> None:
        """An eighth and a quarter of the news count (RFC 6298 2.3)."""
        trip = self.make()
        trip.sample(80 * MILLISECOND, 1)
        trip.sample(160 * MILLISECOND, 2)
        self.assertEqual(trip.smoothed, 90 * MILLISECOND)
        self.assertEqual(trip.variation, 50 * MILLISECOND)
        self.assertEqual(trip.latest, 160 * MILLISECOND)

    @given(samples=st.lists(st.integers(-5, 100 * SECOND), max_size=40))
    @settings(max_examples=200, deadline=None, derandomize=True)
    def test_limits(self, samples: list[int]) -> None:
        """The time-out stays within its limits whatever is measured."""
        trip = self.make(granularity=10 * MILLISECOND, allowance=25 * MILLISECOND)
        for now, elapsed in enumerate(samples):
            used = trip.sample(elapsed, now)
            self.assertEqual(used, 0 < elapsed <= 30 * SECOND)
            self.assertTrue(100 * MILLISECOND <= trip.timeout <= 2 * SECOND)
            self.assertTrue(trip.timeout >= min(trip.smoothed, 2 * SECOND))

    def test_allowance(self) -> None:
        """A steady round trip leaves the granularity and the peer's delay in the time-out."""
        trip = self.make(granularity=50 * MILLISECOND, allowance=25 * MILLISECOND)
        for now in range(200):
            trip.sample(80 * MILLISECOND, now)
        self.assertEqual(trip.timeout - trip.smoothed, 75 * MILLISECOND)

    def test_leastExpires(self) -> None:
        """The least round trip is that of ten seconds: a path that got longer is believed."""
        trip = self.make()
        trip.sample(20 * MILLISECOND, 0)
        trip.sample(500 * MILLISECOND, LEAST_AGE - 1)
        self.assertEqual(trip.least, 20 * MILLISECOND)
        trip.sample(500 * MILLISECOND, LEAST_AGE)
        self.assertEqual(trip.least, 500 * MILLISECOND)

    def test_backedOff(self) -> None:
        """Half as long again each time, up to the largest."""
        trip = self.make()
        self.assertEqual(trip.backed_off(0), 200 * MILLISECOND)
        self.assertEqual(trip.backed_off(2), 450 * MILLISECOND)
        self.assertEqual(trip.backed_off(10_000), 2 * SECOND)
