"""
How to test a program on a simulated network: no sockets, no waiting, the same result
each time.

    python -m twisted.trial examples/test_simulated.py
"""

from __future__ import annotations

from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.wire import Echo
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.errors import PeerTimedOut
from twisted_rudp.testing import Impairments, MemoryNetwork


class Collecting(Protocol):
    """Keeps what it is given."""

    def __init__(self):
        self.received = b""
        self.reason = None

    def dataReceived(self, data):
        self.received += data

    def connectionLost(self, reason):
        self.reason = reason


class EchoTests(SynchronousTestCase):
    """An echo over a bad link."""

    def setUp(self):
        self.network = MemoryNetwork(seed=1)
        self.client = self.network.host("client")
        self.server = self.network.host("server")
        bad = Impairments(delay=0.05, jitter=0.01, loss=0.1)
        self.network.impair(bad, self.client, self.server)
        KCPServerEndpoint(self.server.reactor, 4000).listen(Factory.forProtocol(Echo))
        endpoint = KCPClientEndpoint(self.client.reactor, "server", 4000)
        connecting = connectProtocol(endpoint, Collecting())
        self.network.run(connecting)
        self.protocol = self.successResultOf(connecting)

    def test_everythingArrives(self):
        """100 kB come back, although one datagram in ten is lost."""
        sent = bytes(range(250)) * 400
        self.protocol.transport.write(sent)
        self.network.run(lambda: len(self.protocol.received) == len(sent))
        self.assertEqual(self.protocol.received, sent)

    def test_cutWire(self):
        """A peer that cannot be reached any more is noticed."""
        self.network.cut(self.client, self.server)
        self.network.run(lambda: self.protocol.reason is not None, limit=120.0)
        self.protocol.reason.trap(PeerTimedOut)
