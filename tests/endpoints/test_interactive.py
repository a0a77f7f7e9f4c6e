"""Tests for the profile C{interactive} of KCP: small messages in time over a path that loses."""

from __future__ import annotations

from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.testing.impairments import BurstLoss, Impairments
from twisted_rudp.testing.network import MemoryNetwork

PORT = 4000
SIZE = 1000
INTERVAL = 0.02


class Echo(Protocol):
    """Sends back what comes."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class Asking(Protocol):
    """Sends a message at each interval and notes how long its echo takes."""

    def __init__(self, reactor: object) -> None:
        self.sent: list[float] = []
        self.waits: list[float] = []
        self.received = 0
        self.loop = LoopingCall(self.ask)
        self.loop.clock = reactor

    def connectionMade(self) -> None:
        self.loop.start(INTERVAL)

    def ask(self) -> None:
        assert self.transport is not None
        self.sent.append(self.loop.clock.seconds())
        self.transport.write(bytes(SIZE))

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        for _ in range(len(self.waits), self.received // SIZE):
            self.waits.append(self.loop.clock.seconds() - self.sent[len(self.waits)])


class InteractiveTests(SynchronousTestCase):
    """Echoes over paths that lose."""

    def waits(
        self,
        profile: str,
        delay: float,
        loss: float,
        seconds: int,
        burst: BurstLoss | None = None,
    ) -> tuple[list[float], float, str]:
        """
        All waits but those of the first five seconds, ascending, bytes sent for each byte of a
        message, and the FEC groups at the end.
        """
        network = MemoryNetwork(seed=3)
        near, far = network.host("near"), network.host("far")
        for seed, ends in enumerate(((near, far), (far, near)), 10):
            path = Impairments(seed=seed, rate=12.5e6, delay=delay, loss=loss, burst=burst)
            network.setLink(*ends, path)
        server = KCPServerEndpoint(far.reactor, PORT, profile=profile)
        self.successResultOf(server.listen(Factory.forProtocol(Echo)))
        asking = Asking(near.reactor)
        client = KCPClientEndpoint(near.reactor, far.address, PORT, profile=profile)
        client.connect(Factory.forProtocol(lambda: asking)).addErrback(self.fail)
        network.runFor(5 + seconds)
        asking.loop.stop()
        transport: ITransport = asking.transport
        sent = transport.counters()["OutBytes"] / len(asking.sent) / SIZE
        waits = sorted(asking.waits[round(5 / INTERVAL) :])
        return waits, sent, transport.facts()["fec_out"]

    def test_late(self) -> None:
        """One in twenty waits for a retransmission with the default, hardly one with this."""
        usual, _, _ = self.waits("default", 0.02, 0.05, 8)
        quick, sent, shape = self.waits("interactive", 0.02, 0.05, 12)
        self.assertGreater(usual[len(usual) * 95 // 100], 0.09)
        self.assertLess(quick[len(quick) * 95 // 100], 0.067)
        self.assertLess(quick[len(quick) * 99 // 100], 0.09)
        self.assertLess(sent, 1.56)
        self.assertEqual(shape, "3+1")

    def test_bursts(self) -> None:
        """Where four are lost in a row, few messages wait for more than one repetition."""
        burst = BurstLoss(0.005, 0.25)
        for delay, most in ((0.02, 0.125), (0.1, 0.46)):
            waits, sent, _ = self.waits("interactive", delay, 0, 30, burst)
            self.assertLess(waits[len(waits) * 99 // 100], most)
            self.assertLess(sent, 1.6)

    def test_far(self) -> None:
        """Where a repetition takes long, groups become longer and repair more."""
        waits, sent, shape = self.waits("interactive", 0.1, 0.05, 18)
        self.assertEqual(shape, "6+3")
        self.assertLess(waits[len(waits) * 99 // 100], 0.315)
        self.assertLess(sent, 1.6)

    def test_clean(self) -> None:
        """Where nothing is lost, less parity is sent."""
        waits, sent, shape = self.waits("interactive", 0.1, 0, 15)
        self.assertEqual(shape, "5+1")
        self.assertLess(waits[-1], 0.205)
        self.assertLess(sent, 1.45)
