"""Tests for L{twisted_rudp.core.pacer}."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.pacer import LATE, Pacer
from twisted_rudp.core.timers import NEVER

MSS = 1400


class PacerTests(SynchronousTestCase):
    """L{Pacer}."""

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(
        rate=st.floats(1e3, 1e9),
        late=st.lists(st.integers(0, 3 * MILLISECOND), min_size=1, max_size=20),
    )
    def test_rate(self, rate: float, late: list[int]) -> None:
        """
        Who sends what is allowed whenever it is woken gets the rate, however late the
        wake-ups are within L{LATE}, and never more than that.
        """
        pacer, now, sent, index = Pacer(MSS, 0), 0, 0, 0
        pacer.allowed(0, rate)
        end = int(max(SECOND // 2, 40 * MSS * SECOND / rate))
        while now < end:
            size = pacer.allowed(now, rate)
            pacer.credit -= size
            sent += size
            now = max(pacer.wake(now, rate), now + 1) + late[index % len(late)]
            index += 1
        fair = rate * now / SECOND
        spare = max(rate * (LATE + 4 * MILLISECOND) / SECOND, 12 * MSS)
        self.assertTrue(sent <= fair + 1, (sent, fair))
        self.assertTrue(sent >= fair - spare, (sent, fair))

    def test_burst(self) -> None:
        """Nothing leaves before half a burst is there: wake-ups are few."""
        pacer = Pacer(MSS, 0)
        rate = 100e6
        pacer.allowed(0, rate)
        self.assertEqual(pacer.allowed(MILLISECOND * 2 // 5, rate), 0)
        self.assertEqual(pacer.allowed(MILLISECOND * 3 // 5, rate), 60_000)

    def test_unpaced(self) -> None:
        """Without a rate everything may leave at once, and nobody waits."""
        pacer = Pacer(MSS, 0)
        self.assertTrue(pacer.allowed(0, 0.0) > 1 << 30)
        self.assertEqual(pacer.wake(0, 0.0), NEVER)

    def test_roundTrip(self) -> None:
        """Bursts grow with the round trip, to 4 ms, where they are no more than 32 datagrams."""
        for rate, trip, expected in (
            (10e6, 0, 1.0),
            (10e6, 10, 1.0),
            (10e6, 40, 2.5),
            (10e6, 64, 4.0),
            (10e6, 1000, 4.0),
            (20e6, 64, 32 * MSS / 20e3),
            (100e6, 64, 1.0),
        ):
            pacer = Pacer(MSS, 0)
            pacer.adapt(trip * MILLISECOND)
            pacer.allowed(0, rate)
            self.assertApproximates(pacer.wake(0, rate) / MILLISECOND, expected, 0.01)
            self.assertEqual(pacer.allowed(int(expected * MILLISECOND * 0.4), rate), 0)
            self.assertTrue(pacer.allowed(int(expected * MILLISECOND * 0.6), rate) > 0)

    def test_relaxed(self) -> None:
        """The timer comes later where an acknowledgement is expected before."""
        for trip, expected in ((0, 5.0), (20, 6.25), (40, 12.0), (200, 12.0)):
            pacer = Pacer(MSS, 0)
            pacer.adapt(trip * MILLISECOND)
            pacer.allowed(0, 5e6)
            self.assertApproximates(pacer.wake(0, 5e6, True) / MILLISECOND, expected, 0.01)
