"""A conversation of each transport over a simulated link, captured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.wire import Echo

from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.testing import Impairments, MemoryNetwork
from twisted_rudp.tracing.reading import CaptureReader, Datagram

ENDPOINTS: dict[str, tuple[Any, Any]] = {
    "kcp": (KCPServerEndpoint, KCPClientEndpoint),
    "raknet": (RakNetServerEndpoint, RakNetClientEndpoint),
    "qotp": (QOTPServerEndpoint, QOTPClientEndpoint),
}

SIZE = 20_000


class Counting(Protocol):
    """Counts what comes back."""

    received = 0

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)


def talk(
    path: str, wire: str, server: dict[str, Any] | None = None, **both: Any
) -> MemoryNetwork:
    """
    Say C{SIZE} bytes to an echo server over a bad link, close, and capture it.

    @param server: arguments of the server only.
    """
    network = MemoryNetwork(seed=1)
    hosts = network.host("client"), network.host("server")
    network.impair(Impairments(delay=0.02, loss=0.05), *hosts)
    capture = network.capture(path)
    listen, dial = ENDPOINTS[wire]
    listen(hosts[1].reactor, 4000, **both, **(server or {})).listen(Factory.forProtocol(Echo))
    client = Counting()
    network.run(connectProtocol(dial(hosts[0].reactor, "server", 4000, **both), client))
    assert client.transport is not None
    client.transport.write(bytes(SIZE))
    network.run(lambda: client.received == SIZE)
    client.transport.loseConnection()
    network.runFor(3)
    capture.close()
    return network


def read(path: str) -> list[Datagram]:
    """The datagrams of a capture."""
    with Path(path).open("rb") as file:
        return list(CaptureReader(file))
