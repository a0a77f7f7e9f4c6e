"""Two hosts, one of which may listen with a multiplexer."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.endpoints.talks import Collecting, Echo, Talk
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.mux import MuxClientEndpoint, MuxServerEndpoint, Side
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.testing import MemoryNetwork

PORT = 4000
DELAY = 0.02

KINDS: dict[str, tuple[Any, Any]] = {
    "kcp": (KCPServerEndpoint, KCPClientEndpoint),
    "qotp": (QOTPServerEndpoint, QOTPClientEndpoint),
    "raknet": (RakNetServerEndpoint, RakNetClientEndpoint),
}


class MuxTestCase(SynchronousTestCase):
    """Two hosts with a network between them."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=7, delay=DELAY)
        self.here = self.network.host("client")
        self.there = self.network.host("server")
        self.factory = Collecting(Echo)
        self.events: list[dict[str, Any]] = []
        self.patch(Side, "_log", Logger(observer=self.events.append))

    def plainServer(self, kind: str, **more: Any) -> Any:
        return KINDS[kind][0](self.there.reactor, PORT, **more)

    def plainClient(self, kind: str, **more: Any) -> Any:
        return KINDS[kind][1](self.here.reactor, self.there.address, PORT, **more)

    def listen(self, kind: str, **more: Any) -> Any:
        """Listen with a multiplexer."""
        server = MuxServerEndpoint(self.plainServer(kind), **more)
        self.port = self.successResultOf(server.listen(self.factory))
        return server

    def both(self, kind: str, **more: Any) -> MuxClientEndpoint:
        """A listening server and a client for it."""
        self.listen(kind)
        return MuxClientEndpoint(self.plainClient(kind), **more)

    def open(self, endpoint: Any, kind: type[Talk] = Talk) -> Any:
        """A connection."""
        waiting = endpoint.connect(Collecting(kind))
        self.network.run(waiting)
        return self.successResultOf(waiting)

    def said(self) -> list[str]:
        """The lines of the log."""
        return [formatEvent(event) for event in self.events]
