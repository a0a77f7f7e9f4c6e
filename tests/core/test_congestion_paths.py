"""The controllers over simulated paths: how well they fill them, and what they do to others."""

from __future__ import annotations

from statistics import mean

from twisted.trial.unittest import SynchronousTestCase

from tests.core.flows import MSS, Bottleneck, Flow, link
from twisted_rudp.core.congestion.bbr import BBR, Phase
from twisted_rudp.core.congestion.controller import Controller, FixedWindow, Sample
from twisted_rudp.core.congestion.cubic import Cubic
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.testing.impairments import BurstLoss

RATE = 2.5e6


class PathCase(SynchronousTestCase):
    """Runs flows over a path."""

    def transfer(
        self,
        controller: Controller,
        round_trip: float = 0.04,
        seconds: float = 6.0,
        queue: float = 1.0,
        loss: float = 0.0,
        burst: BurstLoss | None = None,
        rate: float = RATE,
    ) -> tuple[Flow, Bottleneck]:
        """One flow by itself."""
        there, back = link(rate, round_trip, queue, loss)
        there.burst = burst
        flow = Flow(controller)
        path = Bottleneck(there, back, [flow])
        path.run(seconds)
        return flow, path

    def share(self, flow: Flow, rate: float = RATE) -> float:
        """How much of the path's rate has arrived in the second half of the time."""
        half = len(flow.marks) // 2
        seconds = (len(flow.marks) - 1 - half) / 10
        return (flow.marks[-1] - flow.marks[half]) / seconds / rate

    def waiting(self, path: Bottleneck) -> float:
        """Milliseconds that a datagram waited in the mean."""
        return mean(path.delays) / MILLISECOND


class BBRTests(PathCase):
    """L{BBR}."""

    def test_clean(self) -> None:
        """A clean path is full, with few repetitions and nearly no queue, also with a long one."""
        for queue in (1.0, 4.0):
            flow, path = self.transfer(BBR(MSS), queue=queue)
            self.assertTrue(self.share(flow) > 0.985, self.share(flow))
            self.assertTrue(flow.sent < 1.02 * flow.arrived)
            self.assertTrue(self.waiting(path) < 7, self.waiting(path))

    def test_loss(self) -> None:
        """Random loss costs what is lost and nothing else, over short and long paths."""
        for round_trip, seconds in ((0.04, 6.0), (0.2, 12.0)):
            for loss in (0.01, 0.05):
                flow, _ = self.transfer(BBR(MSS), round_trip, seconds, loss=loss)
                self.assertTrue(self.share(flow) > 0.97, (round_trip, loss, self.share(flow)))
                self.assertTrue(flow.sent < (1.03 + 1.1 * loss) * flow.arrived)

    def test_bursts(self) -> None:
        """Losses in bursts too."""
        burst = BurstLoss(0.01, 0.25)
        flow, _ = self.transfer(BBR(MSS), burst=burst)
        self.assertTrue(self.share(flow) > 0.95, self.share(flow))
        self.assertTrue(flow.sent < 1.08 * flow.arrived)

    def test_noise(self) -> None:
        """
        It learns what the path loses, and that a clean one loses nothing. An acknowledgement that
        is lost on the way back counts too: this sender's peer does not repeat them.
        """
        controller = BBR(MSS)
        self.transfer(controller, seconds=10.0, loss=0.1)
        self.assertTrue(0.1 < controller.noise < 0.28, controller.noise)
        controller = BBR(MSS)
        self.transfer(controller)
        self.assertEqual(controller.noise, 0.0)

    def test_shallow(self) -> None:
        """Where the queue holds a few datagrams it does not send for nothing."""
        for queue in (4.0, 1.5):
            flow, _ = self.transfer(BBR(MSS), 0.02, 20.0, queue=queue, rate=1e5)
            self.assertTrue(self.share(flow, 1e5) > 0.9)
            self.assertTrue(flow.sent < 1.25 * flow.arrived, flow.sent / flow.arrived)

    def test_two(self) -> None:
        """Two flows share alike, also when the second comes four seconds later."""
        for late in (0, 4):
            there, back = link(RATE, 0.04)
            flows = [Flow(BBR(MSS)), Flow(BBR(MSS), start=late * SECOND)]
            Bottleneck(there, back, flows).run(late + 8.0)
            first, second = (flow.marks[-1] - flow.marks[-20] for flow in flows)
            self.assertTrue(0.4 < first / (first + second) < 0.6, (first, second))

    def test_newFlow(self) -> None:
        """
        Also over a longer path that loses, the second of two flows has its share five seconds
        after its first datagram: the first gives way. Before it did so it kept two thirds.
        """
        shares = []
        for queue, loss in ((1.0, 0.01), (1.0, 0.05), (4.0, 0.01)):
            for seed in (1, 2, 3):
                there, back = link(RATE / 2, 0.1, queue, loss, seed)
                flows = [Flow(BBR(MSS)), Flow(BBR(MSS), start=4 * SECOND)]
                Bottleneck(there, back, flows).run(12.0)
                first, second = (flow.marks[-1] - flow.marks[-31] for flow in flows)
                shares.append(second / (first + second))
                # Both measure the empty path once in this time.
                self.assertTrue(first + second > 0.88 * 3 * RATE / 2, first + second)
        self.assertTrue(0.42 < mean(shares) < 0.6, shares)
        self.assertTrue(min(shares) > 0.25 and max(shares) < 0.7, shares)

    def test_many(self) -> None:
        """
        Several flows share a path without overrunning it. Each took the overflow of the others for
        loss that no sender causes, and half of what ten flows sent was lost.
        """
        for count in (4, 10):
            there, back = link(RATE, 0.04)
            flows = [Flow(BBR(MSS), start=number * SECOND // 10) for number in range(count)]
            path = Bottleneck(there, back, flows)
            path.run(12.0)
            before = [(flow.arrived, flow.sent) for flow in flows]
            path.run(8.0)
            arrived = [flow.arrived - was for flow, (was, _) in zip(flows, before, strict=True)]
            sent = sum(flow.sent - was for flow, (_, was) in zip(flows, before, strict=True))
            total = sum(arrived)
            self.assertTrue(total > 0.95 * 8 * RATE, total)
            self.assertTrue(sent < 1.15 * total, sent / total)
            # The index of Jain: 1 where all have the same, 1 / count where one has all.
            fairness = total**2 / (count * sum(each**2 for each in arrived))
            self.assertTrue(fairness > 0.75, fairness)

    def test_crowd(self) -> None:
        """
        More flows than the path has datagrams for, and a queue that is short: it is always full,
        and never so long that it would show. One flow or two took all and lost half of what they
        sent.
        """
        for count, queue in ((15, 1.0), (6, 0.3)):
            there, back = link(RATE / 2, 0.04, queue)
            flows = [Flow(BBR(MSS), start=number * SECOND // 10) for number in range(count)]
            path = Bottleneck(there, back, flows)
            path.run(14.0)
            before = [(flow.arrived, flow.sent) for flow in flows]
            path.run(12.0)
            arrived = [flow.arrived - was for flow, (was, _) in zip(flows, before, strict=True)]
            sent = sum(flow.sent - was for flow, (_, was) in zip(flows, before, strict=True))
            total = sum(arrived)
            self.assertTrue(total > 0.95 * 12 * RATE / 2, total)
            self.assertTrue(sent < 1.25 * total, sent / total)
            fairness = total**2 / (count * sum(each**2 for each in arrived))
            self.assertTrue(fairness > 0.55, fairness)

    def test_young(self) -> None:
        """The moment at which all flows measure the path does not hold up one that has begun."""
        arrived = []
        for start in (1, 7):
            there, back = link(RATE, 0.2, 0.2, 0.02)
            flow = Flow(BBR(MSS), start=start * SECOND)
            Bottleneck(there, back, [flow]).run(start + 5.0)
            arrived.append(flow.arrived)
        self.assertGreater(arrived[1], 0.97 * arrived[0])

    def test_manyLossy(self) -> None:
        """Also where the path loses something itself, which each of them has to find out."""
        there, back = link(RATE, 0.04, loss=0.03)
        flows = [Flow(BBR(MSS), start=number * SECOND // 10) for number in range(4)]
        path = Bottleneck(there, back, flows)
        path.run(12.0)
        before = sum(flow.arrived for flow in flows), sum(flow.sent for flow in flows)
        path.run(8.0)
        arrived = sum(flow.arrived for flow in flows) - before[0]
        sent = sum(flow.sent for flow in flows) - before[1]
        self.assertTrue(arrived > 0.93 * 8 * RATE * 0.97, arrived)
        self.assertTrue(sent < 1.1 * arrived, sent / arrived)

    def test_shallowAndLossy(self) -> None:
        """
        Where no queue of its own can be seen to go, what the path loses is found out after the
        path was measured: the flow has come down and loses as much as before.
        """
        flow, _ = self.transfer(BBR(MSS), seconds=24.0, queue=0.1, loss=0.03)
        self.assertTrue(self.share(flow) > 0.9, self.share(flow))

    def test_besideCubic(self) -> None:
        """
        Beside a flow that fills any queue and answers losses each has its share: way is given to
        it, but not for ever, and probes that overflow its queue leave it time to grow back.
        """
        for queue in (1.0, 4.0):
            there, back = link(RATE, 0.04, queue)
            flows: list[Flow] = [Flow(BBR(MSS)), Flow(Cubic(MSS), start=4 * SECOND)]
            Bottleneck(there, back, flows).run(16.0)
            first, second = (flow.marks[-1] - flow.marks[-61] for flow in flows)
            self.assertTrue(0.4 < first / (first + second) < 0.6, (first, second))

    def test_longerPath(self) -> None:
        """A path whose delay grows from 20 ms to a second is used again within 15 s."""
        there, back = link(RATE, 0.02, queue=50.0)
        flow = Flow(BBR(MSS))
        path = Bottleneck(there, back, [flow])
        path.run(3.0)
        there.delay = back.delay = 0.5
        path.run(15.0)
        before = flow.arrived
        path.run(5.0)
        self.assertTrue(flow.arrived - before > 0.8 * 5 * RATE, (flow.arrived - before) / 5e6)

    def test_moreRoom(self) -> None:
        """A path that carries eight times as much is full within a few seconds."""
        there, back = link(RATE / 8, 0.04, queue=8.0)
        flow = Flow(BBR(MSS))
        path = Bottleneck(there, back, [flow])
        path.run(4.0)
        there.rate = RATE
        path.run(4.0)
        before = flow.arrived
        path.run(2.0)
        self.assertTrue(flow.arrived - before > 0.95 * 2 * RATE, (flow.arrived - before) / 2e6)

    def test_lessRoom(self) -> None:
        """A path that carries an eighth of what it did is not overrun for long."""
        there, back = link(RATE, 0.04)
        flow = Flow(BBR(MSS))
        path = Bottleneck(there, back, [flow])
        path.run(4.0)
        there.rate, there.queue = RATE / 8, int(RATE / 8 * 0.04)
        path.run(4.0)
        before, sent = flow.arrived, flow.sent
        path.run(4.0)
        self.assertTrue(flow.arrived - before > 0.9 * 4 * RATE / 8)
        self.assertTrue(flow.sent - sent < 1.15 * (flow.arrived - before))

    def test_outage(self) -> None:
        """After an outage of five seconds it is as fast as before within two."""
        there, back = link(RATE, 0.04)
        flow = Flow(BBR(MSS))
        path = Bottleneck(there, back, [flow])
        path.run(3.0)
        there.cut = True
        path.run(5.0)
        there.cut = False
        path.run(6.0)
        before = flow.arrived
        path.run(2.0)
        self.assertTrue(flow.arrived - before > 0.9 * 2 * RATE, (flow.arrived - before) / 2e6)

    def test_short(self) -> None:
        """
        A megabyte over 200 ms takes no longer than doubling from 32 datagrams does: five flights
        and what arrives of a sixth.
        """
        there, back = link(12.5e6, 0.2)
        flow = Flow(BBR(MSS), size=1_000_000 // MSS * MSS)
        Bottleneck(there, back, [flow]).run(4.0)
        self.assertTrue(0 < flow.finished < 1.12 * SECOND, flow.finished / SECOND)

    def test_phases(self) -> None:
        """It leaves start-up, and stays at the path's rate."""
        controller = BBR(MSS)
        self.transfer(controller)
        self.assertIs(controller.phase, Phase.PROBE_BANDWIDTH)
        self.assertTrue(0.95 * RATE < controller.bandwidth < 1.05 * RATE)


class CubicTests(PathCase):
    """L{Cubic}."""

    def test_clean(self) -> None:
        """A clean path with a queue of a bandwidth-delay product is full."""
        flow, _ = self.transfer(Cubic(MSS))
        self.assertTrue(self.share(flow) > 0.98)
        self.assertTrue(flow.sent < 1.02 * flow.arrived)

    def test_loss(self) -> None:
        """It takes loss for congestion: that is what it is."""
        flow, _ = self.transfer(Cubic(MSS), loss=0.02, seconds=10.0)
        self.assertTrue(self.share(flow) < 0.5)

    def test_timeout(self) -> None:
        """After silence it begins anew, with slow start up to seven tenths."""
        controller = Cubic(MSS)
        before = controller.window
        controller.on_timeout(SECOND)
        self.assertEqual(controller.window, 4 * MSS)
        self.assertAlmostEqual(controller.threshold, 0.7 * before)


class FixedWindowTests(SynchronousTestCase):
    """L{FixedWindow}."""

    def test_constant(self) -> None:
        """Nothing changes it."""
        controller = FixedWindow(5000)
        controller.on_turn(Sample(SECOND, acked=1000, lost=500))
        controller.on_timeout(SECOND)
        self.assertEqual((controller.window, controller.pacing_rate), (5000, 0.0))
        self.assertFalse(controller.draining)
