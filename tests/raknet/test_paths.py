"""Bulk transfers over paths that lose, change and are poor, on the simulated network."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.testing import Impairments, MemoryNetwork

PORT = 4000


class Sink(Protocol):
    """Counts."""

    received = 0

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)


@implementer(IPushProducer)
class Source(Protocol):
    """Writes as much as is wanted."""

    def connectionMade(self) -> None:
        self.wanted = True
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self.wanted = True
        while self.wanted:
            self.transport.write(bytes(65_536))

    def pauseProducing(self) -> None:
        self.wanted = False

    def stopProducing(self) -> None:
        self.wanted = False


class PathTestCase(SynchronousTestCase):
    """A sender and a receiver."""

    def begin(self, rate: float, delay: float, queue: int, **settings: Any) -> None:
        """
        Connect them.

        @param rate: bytes a second, of the way of the data.
        @param settings: others of that way.
        """
        self.network = MemoryNetwork(seed=1)
        self.near, self.far = self.network.host("near"), self.network.host("far")
        self.there = Impairments(seed=1, rate=rate, delay=delay, queue=queue, **settings)
        self.back = Impairments(seed=2, rate=rate, delay=delay, queue=queue, **settings)
        self.network.setLink(self.near, self.far, self.there)
        self.network.setLink(self.far, self.near, self.back)
        self.sink, self.source = Sink(), Source()
        server = RakNetServerEndpoint(self.far.reactor, PORT, idleTimeout=60)
        self.successResultOf(server.listen(Factory.forProtocol(lambda: self.sink)))
        client = RakNetClientEndpoint(self.near.reactor, self.far.address, PORT, idleTimeout=60)
        client.connect(Factory.forProtocol(lambda: self.source)).addErrback(self.fail)

    def goodput(self, seconds: float) -> float:
        """Bytes a second that arrive in the next seconds."""
        before = self.sink.received
        self.network.runFor(seconds)
        return (self.sink.received - before) / seconds

    def overhead(self) -> float:
        """Bytes sent for each that has arrived, so far."""
        sent: int = self.source.transport.counters()["bytes_out"]
        return sent / self.sink.received


class PathTests(PathTestCase):
    """What a transfer gets, and at which price."""

    RATE = 2.5e6

    def test_loss(self) -> None:
        """Random loss costs what is lost, no more."""
        for loss, most in ((0.0, 1.05), (0.01, 1.06), (0.05, 1.11)):
            self.begin(self.RATE, 0.02, 100_000, loss=loss)
            self.network.runFor(2)
            self.assertGreater(self.goodput(3), (0.95 - loss) * self.RATE, loss)
            self.assertLess(self.overhead(), most, loss)

    def test_longPath(self) -> None:
        """So it does at 200 ms, where several windows wait behind gaps."""
        self.begin(self.RATE, 0.1, 500_000, loss=0.05)
        self.network.runFor(4)
        self.assertGreater(self.goodput(4), 0.88 * self.RATE)

    def test_policed(self) -> None:
        """A queue of two datagrams is not flooded."""
        self.begin(100_000, 0.02, 3_000)
        self.network.runFor(25)
        self.assertLess(self.overhead(), 1.4)
        self.assertGreater(self.sink.received, 25 * 75_000)

    def test_shallow(self) -> None:
        """Own overflow is not taken for noise."""
        self.begin(1e6, 0.02, 100_000)
        self.network.runFor(8)
        self.assertLess(self.overhead(), 1.05)

    def test_reordering(self) -> None:
        """What overtakes is not taken for loss."""
        self.begin(self.RATE, 0.02, 100_000, reorder=0.5, reorder_delay=0.005)
        self.network.runFor(2)
        self.assertGreater(self.goodput(2), 0.95 * self.RATE)
        self.assertLess(self.overhead(), 1.06)

    def test_longer(self) -> None:
        """A path that becomes ten times as long is used again after some seconds."""
        self.begin(1e6, 0.01, 200_000)
        self.network.runFor(3)
        self.there.delay = self.back.delay = 0.1
        self.network.runFor(12)
        self.assertGreater(self.goodput(3), 800_000)

    def test_outage(self) -> None:
        """After an outage it does not take long either."""
        self.begin(self.RATE, 0.02, 100_000)
        self.network.runFor(2)
        self.network.cut(self.near, self.far)
        self.network.runFor(20)
        self.network.mend(self.near, self.far)
        self.network.runFor(4)
        self.assertGreater(self.goodput(1), 0.9 * self.RATE)
