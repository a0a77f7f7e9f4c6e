"""Which FEC groups fit a path."""

from __future__ import annotations

from itertools import pairwise, product

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.serial import MASK32
from twisted_rudp.kcp.shapechoice import (
    FIRST_LOSS,
    LARGEST,
    LEFT,
    MEASURED,
    MOST_SENT,
    SLOW,
    THRIFTY_LARGEST,
    ParityChoice,
    ShapeChoice,
    choose,
    delay,
    failures,
    unrepaired,
    wire,
)

PROPERTY = settings(max_examples=40, deadline=None, derandomize=True)


class ModelTests(SynchronousTestCase):
    """What a shape can do."""

    def test_unrepaired(self) -> None:
        """Of two and a parity one that is lost is rebuilt, unless another of the three is."""
        self.assertAlmostEqual(unrepaired(2, 1, 0.1, 0), 0.1 * (1 - 0.9**2))
        self.assertAlmostEqual(unrepaired(2, 2, 0.1, 0), 0.1 * (1 - 0.9**3 - 3 * 0.1 * 0.9**2))

    def test_runs(self) -> None:
        """Where losses come in runs, each packet's fate follows that of the one before it."""
        loss, running = 0.1, 0.6
        begins = loss * (1 - running) / (1 - loss)
        for data, parity in ((2, 1), (3, 1), (4, 2)):
            packets = groups = 0.0
            for fates in product((False, True), repeat=data + parity):
                chance = loss if fates[0] else 1 - loss
                for before, fate in pairwise(fates):
                    lost = running if before else begins
                    chance *= lost if fate else 1 - lost
                if sum(fates) > parity and any(fates[:data]):
                    packets += chance * sum(fates[:data]) / data
                    groups += chance / data
            found = failures(data, parity, loss, running)
            self.assertAlmostEqual(found[0], packets)
            self.assertAlmostEqual(found[1], groups)

    def test_delay(self) -> None:
        """One in a hundred waits: for the parity of its group, or for a repetition."""
        self.assertEqual(delay(6, 3, 0.05, 0, 0.2, 0.02), 0.1)
        self.assertTrue(0.06 < delay(4, 2, 0.05, 0, 0.2, 0.02) < 0.08)
        self.assertGreater(delay(4, 2, 0.06, 0, 0.2, 0.02), 0.1)
        self.assertEqual(delay(2, 1, 0.001, 0, 0.2, 0.02), 0)
        self.assertTrue(0.2 < delay(2, 1, 0.05, 0.5, 0.2, 0.02) < 0.24)

    def test_wire(self) -> None:
        """Where repetitions wait for a group that repairs nearly all, hardly any is sent."""
        self.assertAlmostEqual(wire(6, 3, 0.05, 0), 1.5, 2)
        self.assertAlmostEqual(wire(2, 1, 0.02, 0), 1.5 * 1.04)
        self.assertAlmostEqual(wire(2, 1, 0.3, 0), 1.5 * 1.1)


class ChooseTests(SynchronousTestCase):
    """The shape for a path."""

    def test_message_each_20_ms(self) -> None:
        """Small groups where a repetition is soon there; little parity where little is lost."""
        for round_trip, loss, shape in (
            (0.04, 0.0, (3, 1)),
            (0.04, 0.01, (3, 1)),
            (0.04, 0.05, (3, 1)),
            (0.2, 0.0, (5, 1)),
            (0.2, 0.01, (4, 1)),
            (0.2, 0.05, (6, 3)),
        ):
            self.assertEqual(choose(loss, 0, round_trip, 0.02), shape, (round_trip, loss))

    def test_runs(self) -> None:
        """Losses in runs want longer groups with more parity, unless that comes too late."""
        data, parity = choose(0.02, 0.5, 0.2, 0.02)
        self.assertGreater(data, 8)
        self.assertGreater(parity, 4)
        self.assertEqual(choose(0.02, 0.5, 0.04, 0.02), (3, 1))

    def test_bytes(self) -> None:
        """Parity and repetitions together are about half of the data, at usual losses."""
        for loss in (2**-7, 2**-6, 2**-5, 2**-4):
            for running in (loss + part / 4 * (1 - loss) for part in range(4)):
                for trip in (0.04, 0.1, 0.2, 0.4):
                    shape = choose(loss, running, trip, 0.02)
                    self.assertLessEqual(wire(*shape, loss, running), MOST_SENT, shape)

    def test_thrifty(self) -> None:
        """Of a fast transfer little is parity, more with more loss, and most of it is repaired."""
        share = 0.0
        for loss in (0.0, 0.02, 0.05, 0.1, 0.2):
            data, parity = choose(loss, 0, 0.04, 0.0001, thrifty=True)
            self.assertGreater(parity / data, share)
            self.assertLess(unrepaired(data, parity, loss, 0), 0.2 * loss + 1e-9)
            share = parity / data
        self.assertEqual(choose(0, 0, 0.04, 0.0001, thrifty=True), (THRIFTY_LARGEST, 1))

    @PROPERTY
    @given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 100), st.floats(0, 100), st.booleans())
    def test_bounds(
        self, loss: float, running: float, trip: float, interval: float, thrifty: bool
    ) -> None:
        """Whatever is measured, parity is at most half of the data."""
        data, parity = choose(loss, running, trip, interval, thrifty)
        self.assertTrue(2 <= data <= (THRIFTY_LARGEST if thrifty else LARGEST))
        self.assertTrue(1 <= parity <= data / 2)


class ShapeChoiceTests(SynchronousTestCase):
    """What is measured becomes a choice."""

    def reports(
        self, choice: ShapeChoice, loss: float, seconds: int, start: int = 0, first: int = 0
    ) -> None:
        """Fifty packets a second, of which so many are missed."""
        for second in range(start, start + seconds):
            missed = first + round(50 * loss * second)
            choice.learn(second * SECOND, 50 * second + 1, missed & MASK32, missed & MASK32)

    def test_loss(self) -> None:
        """The measured loss is the average of some seconds."""
        choice = ShapeChoice()
        self.reports(choice, 0.1, 60)
        self.assertTrue(0.09 < choice.loss < 0.11, choice.loss)
        self.assertTrue(49 < choice.rate < 51, choice.rate)

    def test_soon(self) -> None:
        """What is assumed at first does not count for long."""
        for loss in (0.0, 0.1):
            choice = ShapeChoice()
            self.reports(choice, loss, 6)
            self.assertTrue(abs(choice.loss - loss) < 0.4 * abs(FIRST_LOSS - loss), choice.loss)

    def test_wrap(self) -> None:
        """Counts of the peer go on from 0 behind the last of 32 bits."""
        choice = ShapeChoice()
        self.reports(choice, 0.1, 60, first=MASK32 - 100)
        self.assertTrue(0.09 < choice.loss < 0.11, choice.loss)

    def test_copies(self) -> None:
        """A report that comes twice, or that was overtaken, teaches nothing."""
        choice = ShapeChoice()
        self.reports(choice, 0.1, 60)
        loss = choice.loss
        choice.learn(61 * SECOND, 50 * 59 + 1, 5, 5)
        choice.learn(61 * SECOND, 50 * 60 + 1, 5, 5)
        self.assertEqual(choice.loss, loss)

    def test_pause(self) -> None:
        """After a pause the rate is not taken for that of the pause."""
        choice = ShapeChoice()
        self.reports(choice, 0.0, 30)
        choice.learn(600 * SECOND, 50 * 30 + 1, 0, 0)
        self.assertGreater(choice.rate, 20)

    def test_change(self) -> None:
        """Another shape is chosen once, and not again while things are as they are."""
        choice = ShapeChoice()
        trip = 200 * MILLISECOND
        self.assertIsNone(choice.change(0, (2, 1), trip))
        self.reports(choice, 0.05, 30)
        shape = choice.change(30 * SECOND, (2, 1), trip)
        assert shape is not None
        self.reports(choice, 0.05, 10, start=30)
        self.assertIsNone(choice.change(40 * SECOND, shape, trip))
        self.assertIsNone(choice.change(41 * SECOND, shape, 0))

    def test_repair_delay(self) -> None:
        """A repetition waits for a shape that repairs nearly all, and for no other."""
        choice = ShapeChoice()
        self.assertEqual(choice.repair_delay((6, 3)), 0)
        self.reports(choice, 0.05, 60)
        self.assertEqual(choice.repair_delay((2, 1)), 0)
        self.assertEqual(round(choice.repair_delay((6, 3)) / MILLISECOND), 100)

    def test_runLength(self) -> None:
        """Runs of losses last as long as hardly any goes on, and none do where each is alone."""
        for runs, least, most in ((1, 80, 200), (4, 0, 0)):
            choice = ShapeChoice()
            for second in range(60):
                # Four of a hundred packets: one after the other, or each for itself.
                bad = second // 2
                choice.learn(second * SECOND, 50 * second + 1, 4 * bad, runs * bad)
            length = choice.run_length() / MILLISECOND
            self.assertTrue(least <= length <= most, (runs, length))
        self.assertEqual(ShapeChoice().run_length(), 0)

    def test_unknown(self) -> None:
        """Before anything is measured some loss is assumed."""
        self.assertEqual(ShapeChoice().loss, FIRST_LOSS)


class ParityChoiceTests(SynchronousTestCase):
    """L{ParityChoice}."""

    def measured(
        self, *shares: float, shape: tuple[int, int] = (10, 3), every: int = SECOND
    ) -> list[int]:
        """The parity after each thousand data packets of which such a share was sent again."""
        choice, found, now, numbered, repeated = ParityChoice(), [], 0, 0, 0
        for share in shares:
            now += every
            numbered += MEASURED
            repeated += round(MEASURED * share)
            found.append(choice.measure(now, numbered, repeated, shape))
        return found

    def test_share(self) -> None:
        """The more has to be sent again, the more parity there is, and never more than all."""
        for share, expected in ((0.0, 1), (0.002, 1), (0.005, 2), (0.01, 3), (0.3, 3), (2.0, 3)):
            found = self.measured(*(share,) * 10)
            self.assertEqual((found[0], found[-1]), (3, expected), share)

    def test_shapes(self) -> None:
        """Of other groups it is as little as leaves few of the losses to repetitions."""
        for shape in ((10, 3), (20, 5), (5, 2), (70, 30), (1, 1), (10, 1)):
            found = self.measured(*(0.003,) * 10, shape=shape)[-1]
            self.assertTrue(1 <= found <= shape[1])
            if found > 1:
                self.assertTrue(unrepaired(shape[0], found - 1, 0.0125, 0) > LEFT, shape)
            if found < shape[1]:
                self.assertTrue(unrepaired(shape[0], found, 0.008, 0) < LEFT, shape)

    def test_average(self) -> None:
        """Losses that begin are answered at once, and those that end soon."""
        found = self.measured(*(0.0,) * 10, 0.05, *(0.0,) * 10)
        self.assertEqual(found[9:11], [1, 3])
        self.assertEqual(found[-1], 1)
        self.assertEqual(sorted(found[10:], reverse=True), found[10:])

    def test_slow(self) -> None:
        """What is sent slowly tells nothing: neither that little is lost nor that much is."""
        self.assertEqual(self.measured(*(0.0,) * 10, every=SLOW), [3] * 10)
        choice = ParityChoice()
        for at in range(1, 11):
            choice.measure(at * SECOND, at * MEASURED, 0, (10, 3))
        self.assertEqual(choice.measure(10 * SECOND + SLOW, 11 * MEASURED, 999, (10, 3)), 1)
