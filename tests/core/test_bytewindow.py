"""Tests for L{twisted_rudp.core.bytewindow}."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.bytewindow import (
    LossWindow,
    SmoothedRoundTrip,
    TolerantBytes,
    Unlimited,
)

UNIT = 1000

steps = st.lists(
    st.tuples(
        st.sampled_from(["acknowledged", "idle", "lost", "expired"]), st.integers(0, 50_000)
    ),
    max_size=60,
)


class LossWindowTests(SynchronousTestCase):
    """The window of raknet.md 10."""

    def test_slowStart(self) -> None:
        """
        It begins with ten datagrams and doubles each round trip, but only where it
        was what held the sender back.
        """
        window = LossWindow(UNIT)
        window.acknowledged(10 * UNIT, False, 0, 0)
        self.assertEqual(window.window, 10 * UNIT)
        window.acknowledged(10 * UNIT, True, 0, 0)
        self.assertEqual(window.window, 20 * UNIT)

    def test_loss(self) -> None:
        """
        A loss takes it to seven tenths once for each round trip; then it grows by
        one datagram each round trip.
        """
        window = LossWindow(UNIT)
        window.acknowledged(90 * UNIT, True, 0, 0)
        window.lost(5, 10, UNIT)
        window.lost(9, 11, UNIT)
        self.assertEqual(window.window, 70 * UNIT)
        window.acknowledged(70 * UNIT, True, 0, 0)
        self.assertEqual(window.window, 71 * UNIT)
        window.lost(10, 20, UNIT)
        self.assertEqual(window.window, 71 * UNIT * 7 // 10)

    def test_timeout(self) -> None:
        """A timeout takes it to two datagrams, then it doubles up to half of what it was."""
        window = LossWindow(UNIT)
        window.acknowledged(90 * UNIT, True, 0, 0)
        window.expired(5, 10, UNIT, 0)
        self.assertEqual(window.window, 2 * UNIT)
        window.acknowledged(2 * UNIT, True, 0, 0)
        self.assertEqual((window.window, window.threshold), (4 * UNIT, 50 * UNIT))

    @given(steps=steps)
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_bounds(self, steps: list[tuple[str, int]]) -> None:
        """
        Whatever happens it keeps two datagrams, and grows by no more than what was
        acknowledged.
        """
        window = LossWindow(UNIT)
        for now, (kind, size) in enumerate(steps):
            before = window.window
            if kind in ("acknowledged", "idle"):
                window.acknowledged(size, kind == "acknowledged", 0, 0)
                self.assertLessEqual(window.window, before + size)
                self.assertGreaterEqual(window.window, before)
            else:
                if kind == "lost":
                    window.lost(now, now, size)
                else:
                    window.expired(now, now, size, 0)
                self.assertLessEqual(window.window, before)
            self.assertGreaterEqual(window.window, 2 * UNIT)

    def test_unlimited(self) -> None:
        """Without congestion control nothing changes the window."""
        window = Unlimited()
        before = window.window
        window.acknowledged(5, True, 0, 0)
        window.lost(1, 2, UNIT)
        window.expired(1, 2, UNIT, 0)
        self.assertEqual(window.window, before)


class TolerantBytesTests(SynchronousTestCase):
    """The tolerant window in bytes."""

    def round(self, window: TolerantBytes, lost: float, elapsed: int = 0) -> None:
        """A whole window is sent; a share of it is reported missing, the rest arrives."""
        sent = window.window
        missing = int(sent * lost)
        if missing:
            window.lost(0, 0, missing)
        window.acknowledged(sent - missing, True, missing, elapsed)

    def test_doubles(self) -> None:
        """It doubles each round trip while nothing is lost, up to what the wire allows."""
        window = TolerantBytes(UNIT, 500, 120)
        self.assertEqual(window.window, 32 * UNIT)
        self.round(window, 0)
        self.assertEqual(window.window, 64 * UNIT)
        for _ in range(8):
            self.round(window, 0)
        self.assertEqual(window.window, 500 * UNIT)

    def test_tolerant(self) -> None:
        """A loss of one in ten is noise; of every other datagram it is not."""
        window = TolerantBytes(UNIT, 500, 120)
        for _ in range(12):
            self.round(window, 0.1)
        self.assertGreater(window.window, 400 * UNIT)
        for _ in range(20):
            self.round(window, 0.5)
        self.assertLess(window.window, 100 * UNIT)

    def test_delayedAcknowledgements(self) -> None:
        """
        Round trips that differ by what the peer keeps acknowledgements back are no
        sign of a queue; longer ones end the doubling.
        """
        patient, busy = (TolerantBytes(UNIT, 5000, 120) for _ in range(2))
        for turn in range(6):
            self.round(patient, 0, 100_000_000 * (turn % 2))
            self.round(busy, 0, 200_000_000 * (turn > 0))
        self.assertEqual(patient.window, 2048 * UNIT)
        self.assertLess(busy.window, 500 * UNIT)

    def test_silence(self) -> None:
        """When most of what was sent times out the window halves."""
        window = TolerantBytes(UNIT, 500, 120)
        window.expired(0, 1, 30 * UNIT, 2 * UNIT)
        self.assertEqual(window.window, 16 * UNIT)


class SmoothedRoundTripTests(SynchronousTestCase):
    """The estimator of RFC 6298."""

    def test_samples(self) -> None:
        """
        The first sample is mean and half of it deviation; later ones count an eighth
        and a quarter.
        """
        trip = SmoothedRoundTrip(400, 100, 3000, 30, 20)
        self.assertEqual((trip.smoothed, trip.timeout), (None, 400))
        trip.sample(80)
        self.assertEqual((trip.smoothed, trip.variation, trip.timeout), (80, 40, 260))
        trip.sample(160)
        self.assertEqual((trip.smoothed, trip.variation), (90, 50))

    def test_bounds(self) -> None:
        """The timeout stays within its bounds, also when backed off by half each time."""
        trip = SmoothedRoundTrip(400, 100, 3000, 30, 20)
        for _ in range(20):
            trip.sample(0)
        self.assertEqual(trip.timeout, 100)
        self.assertEqual([trip.backed_off(n) for n in range(4)], [100, 150, 225, 337])
        self.assertEqual(trip.backed_off(100), 3000)
        trip.sample(100_000)
        self.assertEqual(trip.timeout, 3000)
