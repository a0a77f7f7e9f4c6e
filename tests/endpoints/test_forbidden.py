"""Dialling while a filter of this machine's says no (F11)."""

from __future__ import annotations

import errno

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import TimeoutError
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.testing import MemoryNetwork


class ForbiddenTests(SynchronousTestCase):
    """Over each transport, on the simulated network."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=1)
        self.server = self.network.host("server")
        self.client = self.network.host("client")

    def test_forAWhile(self) -> None:
        """A filter that goes after a while costs a while, as over TCP."""
        for transport in ("kcp", "raknet", "qotp"):
            server = serverFromString(self.server.reactor, f"{transport}:4000")
            port = self.successResultOf(server.listen(Factory.forProtocol(Protocol)))
            self.client.writeErrors["*"] = errno.EPERM
            client = clientFromString(self.client.reactor, f"{transport}:host=server:port=4000")
            dialling = client.connect(Factory.forProtocol(Protocol))
            self.network.runFor(0.5)
            self.assertNoResult(dialling)
            del self.client.writeErrors["*"]
            self.network.run(dialling, 3)
            protocol = self.successResultOf(dialling)
            protocol.transport.abortConnection()
            self.network.run(port.stopListening())

    def test_forEver(self) -> None:
        """One that stays is a time-out."""
        for transport in ("kcp", "raknet", "qotp"):
            self.client.writeErrors["*"] = errno.EPERM
            text = f"{transport}:host=server:port=4000:timeout=3"
            client = clientFromString(self.client.reactor, text)
            dialling = client.connect(Factory.forProtocol(Protocol))
            self.network.runFor(4)
            self.failureResultOf(dialling, TimeoutError)
