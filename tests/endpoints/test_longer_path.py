"""
Messages over a path that becomes much longer from one moment to the next, as where a queue on the
way fills or a route changes, with whole endpoints.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.testing import Impairments, MemoryNetwork

SIZE, EACH = 1000, 0.02
"""Bytes of a message, and seconds between two."""

SHORT, LONG = 0.02, 0.5
"""Seconds, one way."""

BEFORE, AFTER, SETTLING = 2.0, 8.0, 3.0
"""Seconds with the short path, with the long one, and of those until all is as it should be."""

WORST, SETTLED = 1.5, 0.6
"""Seconds that a message may take, while the path is new, and then. Before: 4 to 9."""

CASES = {
    "default": "kcp:{place}",
    "interactive": "kcp:{place}:profile=interactive",
    "cubic": "kcp:{place}:congestion=cubic",
    "raknet": "raknet:{place}",
    "qotp": "qotp:{place}",
}


class Arrivals(Protocol):
    """Notes when each message was complete."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._received = 0
        self.times: list[float] = []

    def dataReceived(self, data: bytes) -> None:
        self._received += len(data)
        while len(self.times) < self._received // SIZE:
            self.times.append(self._clock.seconds())


class LongerPathTests(SynchronousTestCase):
    """The round trip grows from 40 ms to a second."""

    def delays(self, text: str) -> list[float]:
        """How long each message took."""
        network = MemoryNetwork(seed=1)
        near, far = network.host("near"), network.host("far")
        network.impair(Impairments(delay=SHORT, rate=12.5e6))
        arrivals = Arrivals(far.reactor)
        server = serverFromString(far.reactor, text.format(place="port=4000"))
        server.listen(Factory.forProtocol(lambda: arrivals))
        place = f"host={far.address}:port=4000"
        client = clientFromString(near.reactor, text.format(place=place))
        connected = client.connect(Factory.forProtocol(Protocol))
        network.runFor(0.5)
        transport: Any = self.successResultOf(connected).transport
        sent: list[float] = []
        for number in range(int((BEFORE + AFTER) / EACH)):
            if number == int(BEFORE / EACH):
                network.impair(Impairments(delay=LONG, rate=12.5e6))
            sent.append(near.reactor.seconds())
            transport.write(bytes(SIZE))
            network.runFor(EACH)
        network.runFor(LONG + 0.5)
        self.assertEqual(len(arrivals.times), len(sent))
        return [there - here for here, there in zip(sent, arrivals.times, strict=True)]

    def check(self, name: str) -> None:
        """
        No message waits much longer than the path and what the timeouts of before take: that
        nothing is acknowledged for a while is no congestion here.
        """
        delays = self.delays(CASES[name])
        settled = int((BEFORE + SETTLING) / EACH)
        self.assertLess(max(delays), WORST)
        self.assertLess(max(delays[settled:]), SETTLED)

    def test_default(self) -> None:
        """KCP."""
        self.check("default")

    def test_interactive(self) -> None:
        """KCP with the profile for messages."""
        self.check("interactive")

    def test_cubic(self) -> None:
        """KCP with CUBIC, whose window has to grow from what it is at first."""
        self.assertLess(max(self.delays(CASES["cubic"])), WORST)

    def test_raknet(self) -> None:
        """RakNet."""
        self.check("raknet")

    def test_qotp(self) -> None:
        """QOTP."""
        self.check("qotp")
