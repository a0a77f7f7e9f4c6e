"""Multiplexed connections beside one that is as fast as the link."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory

from tests.endpoints.muxes import DELAY, KINDS, MuxTestCase
from tests.endpoints.talks import Collecting, Talk
from twisted_rudp.endpoints.mux import MuxClientEndpoint, MuxServerEndpoint
from twisted_rudp.testing.impairments import Impairments


class Filling(Talk):
    """Sends as much as is taken, after the first byte."""

    def __init__(self) -> None:
        super().__init__()
        self.going = False

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        transport: Any = self.transport
        if data == b"fill":
            transport.registerProducer(self, True)
            self.resumeProducing()
        else:
            transport.write(data)

    def resumeProducing(self) -> None:
        assert self.transport is not None
        self.going = True
        while self.going:
            self.transport.write(bytes(65536))

    def pauseProducing(self) -> None:
        self.going = False

    def stopProducing(self) -> None:
        self.going = False


class Pausing(Filling):
    """Takes its time for each part, as what reads a file or another connection does."""

    PART = 65536
    PAUSE = 0.01

    def __init__(self, clock: Any) -> None:
        super().__init__()
        self.clock = clock

    def resumeProducing(self) -> None:
        self.going = True
        self.clock.callLater(self.PAUSE, self.more)

    def more(self) -> None:
        """Write a part."""
        if self.going:
            assert self.transport is not None
            self.transport.write(bytes(self.PART))
            self.clock.callLater(self.PAUSE / 4, self.more)


class Asking(Talk):
    """Wants an answer, and knows when it came."""

    def __init__(self, clock: Any) -> None:
        super().__init__()
        self.clock, self.began, self.took = clock, clock.seconds(), 0.0

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"?")

    def dataReceived(self, data: bytes) -> None:
        self.took = self.took or self.clock.seconds() - self.began


class BesideBulkTests(MuxTestCase):
    """New connections while another one is as fast as the link."""

    RATE = 500_000.0

    def firstBytes(self, kind: str, loss: float, **more: Any) -> list[float]:
        """Seconds to the first byte of twenty connections, sorted."""
        queue = int(self.RATE * 6 * DELAY)
        link = Impairments(delay=DELAY, loss=loss, rate=self.RATE, queue=queue)
        self.network.impair(link, self.here, self.there)
        self.factory = Collecting(Filling)
        server = MuxServerEndpoint(self.plainServer(kind, **more))
        self.successResultOf(server.listen(self.factory))
        endpoint = MuxClientEndpoint(self.plainClient(kind, **more))
        bulk = self.open(endpoint)
        bulk.transport.write(b"fill")
        self.network.runFor(2)
        asked = []
        for _ in range(20):
            asking = Asking(self.network.clock)
            asked.append(asking)
            factory = Factory.forProtocol(lambda made=asking: made)
            factory.noisy = False
            endpoint.connect(factory)
            self.network.runFor(0.05)
        got = len(bulk.heard)
        self.network.runFor(1)
        self.assertTrue(len(bulk.heard) - got > 0.8 * self.RATE)
        return sorted(each.took or 9.0 for each in asked)

    def test_firstByte(self) -> None:
        """
        The first byte takes a round trip and what waits in the queue of the link, which is up to
        another one: nothing of the bulk data stands before it at this end.
        """
        for kind in KINDS:
            self.setUp()
            took = self.firstBytes(kind, 0.0)
            self.assertTrue(took[10] <= 4 * DELAY, (kind, took))
            # A probe for more rate fills the queue further for a moment.
            self.assertTrue(took[-1] <= 7 * DELAY, (kind, took))

    def test_pausing(self) -> None:
        """
        A producer that is faster than the link fills it, and no more: its queue is empty at times,
        but start-up ends, and the round trip is that of the link.
        """
        for kind in KINDS:
            for multiplexed in (True, False):
                self.setUp()
                rate = 25 * self.RATE
                link = Impairments(delay=DELAY, rate=rate, queue=int(rate / 10))
                self.network.impair(link, self.there, self.here)
                self.factory = Collecting(lambda: Pausing(self.network.clock))
                server, client = self.plainServer(kind), self.plainClient(kind)
                if multiplexed:
                    server, client = MuxServerEndpoint(server), MuxClientEndpoint(client)
                self.successResultOf(server.listen(self.factory))
                bulk = self.open(client)
                bulk.transport.write(b"fill")
                self.network.runFor(1)
                got = len(bulk.heard)
                self.network.runFor(0.2)
                self.assertTrue(len(bulk.heard) - got > 0.18 * rate, (kind, multiplexed))
                trip = self.factory.built[0].transport.facts()["round_trip"]
                self.assertTrue(trip < 3 * DELAY, (kind, multiplexed, trip))

    def test_idleStreams(self) -> None:
        """Connections that are open and say nothing take nothing from one that fills the link."""
        for kind in KINDS:
            self.setUp()
            link = Impairments(delay=DELAY, rate=25 * self.RATE)
            self.network.impair(link, self.there, self.here)
            self.factory = Collecting(Filling)
            endpoint = MuxClientEndpoint(self.plainClient(kind))
            server = MuxServerEndpoint(self.plainServer(kind))
            self.successResultOf(server.listen(self.factory))
            for _ in range(40):
                self.open(endpoint).transport.write(b"?")
                self.network.runFor(3 * DELAY)
            bulk = self.open(endpoint)
            bulk.transport.write(b"fill")
            self.network.runFor(1)
            got = len(bulk.heard)
            self.network.runFor(0.2)
            self.assertTrue(len(bulk.heard) - got > 0.19 * link.rate, kind)

    def test_firstByteLossy(self) -> None:
        """The same with a loss of 1 %, where streams do not wait for each other."""
        took = self.firstBytes("qotp", 0.01)
        self.assertTrue(took[18] <= 4 * DELAY + 0.01, took)

    def test_copiesBesideBulk(self) -> None:
        """Each answer is copied twice beside bulk data, which uses all that the pacer allows."""
        self.firstBytes("qotp", 0.0)
        counters = self.factory.built[0].transport.counters()
        self.assertTrue(counters["retransmitted"] >= 2 * 20, counters)
