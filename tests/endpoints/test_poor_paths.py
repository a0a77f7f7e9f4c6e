"""Paths that are slow, pause, grow longer or reorder: what every transport makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.testing.impairments import Fate, Impairments
from twisted_rudp.testing.network import MemoryNetwork

PORT = 4000


class Sink(Protocol):
    received = 0

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)


class Flood(Sink):
    """Sends as long as it may."""

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self.wanted = True
        while self.wanted:
            self.transport.write(bytes(16384))

    def pauseProducing(self) -> None:
        self.wanted = False

    def stopProducing(self) -> None:
        self.wanted = False


class PoorPaths:
    """Tests for one transport."""

    server: Any
    client: Any
    failureException: Any
    assertGreater: Callable[..., None]
    assertLess: Callable[..., None]
    fail: Callable[..., Any]
    RATE = 250_000

    def begin(
        self,
        source: Protocol,
        rate: float,
        delay: float,
        queue: int,
        sink: Sink | None = None,
        **way: Any,
    ) -> None:
        self.network = MemoryNetwork(seed=1)
        near, far = self.network.host("near"), self.network.host("far")
        self.ways = [
            Impairments(seed=seed, rate=rate, delay=delay, queue=queue, **way) for seed in (1, 2)
        ]
        for this, ends in zip(self.ways, ((near, far), (far, near)), strict=True):
            self.network.setLink(*ends, this)
        self.sink, self.source = sink or Sink(), source
        self.server(far.reactor, PORT, idleTimeout=60).listen(
            Factory.forProtocol(lambda: self.sink)
        ).addErrback(self.fail)
        self.client(near.reactor, far.address, PORT, idleTimeout=60).connect(
            Factory.forProtocol(lambda: self.source)
        ).addErrback(self.fail)

    def share(self, seconds: float) -> float:
        """How much of the link arrives in the next seconds."""
        before = self.sink.received
        self.network.runFor(seconds)
        return (self.sink.received - before) / seconds / self.RATE

    def test_slow(self) -> None:
        """
        On a link of 1 kB/s hardly anything is sent twice, though its round trip is unknown when
        20 kB are written, and they take twenty seconds: what is written then is not late.
        """
        self.begin(Protocol(), 1000, 0.02, 100_000)
        self.network.runFor(15)
        self.source.transport.write(bytes(20_000))
        self.network.runFor(30)
        self.source.transport.write(b"x")
        self.network.runFor(1)
        self.assertGreater(self.sink.received, 20_000)

    def test_shallow(self) -> None:
        """
        A queue of two datagrams is not overrun all the time, though one alone takes as long on
        the link as the round trip or longer. Up to half of what was sent was lost there.
        """
        for rate, delay in ((100_000, 0.01), (20_000, 0.02)):
            self.begin(Flood(), rate, delay, 3000)
            self.network.runFor(10)
            arrived, counted = self.sink.received, dict(self.ways[0].counters)
            self.network.runFor(20)
            self.assertGreater(self.sink.received - arrived, 0.85 * 20 * rate)
            offered, dropped = (
                self.ways[0].counters[each] - counted[each] for each in ("offered", Fate.QUEUE_FULL)
            )
            self.assertLess(dropped, 0.28 * offered, (rate, dropped, offered))

    def test_crawling(self) -> None:
        """
        Where a datagram takes longer than any timeout that is not measured yet, and the first
        window overflows the queue, the link is used nevertheless, and not for repetitions.
        """
        self.begin(Flood(), 1000, 0.1, 6000)
        self.network.runFor(80)
        self.assertGreater(self.sink.received, 40_000)
        offered = self.ways[0].counters["offered"]
        self.assertLess(offered, 250, offered)

    def test_bothWays(self) -> None:
        """
        Both ends send all they can. KCP's acknowledgements came behind data that said the same, and
        what was not measured stayed as slow as it was: a fifth of the link, for ever.
        """
        source, sink = Flood(), Flood()
        self.begin(source, 4 * self.RATE, 0.005, 20_000, sink)
        self.network.runFor(2)
        before = source.received, sink.received
        self.network.runFor(4)
        for end, was in zip((source, sink), before, strict=True):
            self.assertGreater(end.received - was, 0.6 * 4 * 4 * self.RATE)

    def test_outage(self) -> None:
        """After three seconds in which nothing passed the link is used again within two."""
        self.begin(Flood(), self.RATE, 0.02, 10_000, loss=0.01)
        self.network.runFor(4)
        for way in self.ways:
            way.cut = True
        self.network.runFor(3)
        for way in self.ways:
            way.cut = False
        self.network.runFor(2)
        self.assertGreater(self.share(3), 0.8)

    def test_longer(self) -> None:
        """A path whose round trip grows from 20 ms to a second is used again within 15 s."""
        self.begin(Flood(), self.RATE, 0.01, 10_000)
        self.network.runFor(4)
        for way in self.ways:
            way.delay, way.queue = 0.5, self.RATE
        self.network.runFor(15)
        # Start-up may overflow the queue, and what waits behind a hole comes later.
        self.assertGreater(self.share(8), 0.8)

    def test_farAway(self) -> None:
        """A peer is reached whose answers take six seconds, as over TCP."""
        self.begin(Protocol(), 1e6, 3.0, 1_000_000)
        self.network.run(lambda: self.source.transport is not None, 30)
        self.source.transport.write(b"hello")
        self.network.runFor(25)
        self.assertEqual(self.sink.received, 5)

    def test_reordering(self) -> None:
        """Half of the datagrams late by 5 ms cost hardly anything."""
        self.begin(Flood(), self.RATE, 0.02, 10_000, reorder=0.5, reorder_delay=0.005)
        self.network.runFor(3)
        self.assertGreater(self.share(4), 0.9)


class KCPTests(PoorPaths, SynchronousTestCase):
    server, client = KCPServerEndpoint, KCPClientEndpoint


class RakNetTests(PoorPaths, SynchronousTestCase):
    server, client = RakNetServerEndpoint, RakNetClientEndpoint


class QOTPTests(PoorPaths, SynchronousTestCase):
    server, client = QOTPServerEndpoint, QOTPClientEndpoint
