"""Stream transports and endpoints that only remember, for the services' tests."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from twisted_rudp.interfaces import IRUDPTransport


class Transport(StringTransport):
    """A transport that cannot half close, as TLS over TCP."""

    aborting = False

    def unregisterProducer(self) -> None:
        """Harmless without one (FLOW-4)."""
        self.producer = None

    def resumeProducing(self) -> None:
        """Ignored while closing (FLOW-7)."""
        if not self.disconnecting:
            super().resumeProducing()

    def abortConnection(self) -> None:
        self.aborting = True


class HalfTransport(Transport):
    """A transport that can half close, as TCP's."""

    halfClosed = False

    def loseWriteConnection(self) -> None:
        self.halfClosed = True


@implementer(IRUDPTransport)
class CountingTransport(HalfTransport):
    """A transport that can tell about its session, as ours."""

    def counters(self) -> dict[str, int]:
        return {"retrans_segs": 3}

    def facts(self) -> dict[str, Any]:
        return {"round_trip": 0.0315}


@implementer(IListeningPort)
class Port:
    """A port whose closing the test decides."""

    def __init__(self) -> None:
        self.stopping: Deferred[None] | None = None

    def startListening(self) -> None:
        raise NotImplementedError("endpoints start their ports themselves")

    def stopListening(self) -> Deferred[None]:
        self.stopping = Deferred()
        return self.stopping

    def getHost(self) -> str:
        return "a host"


@implementer(IStreamServerEndpoint)
class ServerEndpoint:
    """Keeps what is listened with; answers with C{result}, or at once with a L{Port}."""

    def __init__(self, result: Deferred[Any] | None = None) -> None:
        self.result = result
        self.factories: list[Any] = []
        self.ports: list[Port] = []

    def listen(self, factory: Any) -> Deferred[Any]:
        self.factories.append(factory)
        if self.result is not None:
            return self.result
        self.ports.append(Port())
        return succeed(self.ports[-1])


@implementer(IStreamClientEndpoint)
class ClientEndpoint:
    """Keeps the attempts to connect."""

    def __init__(self) -> None:
        self.attempts: list[tuple[Any, Deferred[Any]]] = []
        self.cancelled = 0

    def connect(self, factory: Any) -> Deferred[Any]:
        def cancel(attempt: Deferred[Any]) -> None:
            self.cancelled += 1
            attempt.errback(ConnectingCancelledError(None))

        attempt: Deferred[Any] = Deferred(cancel)
        self.attempts.append((factory, attempt))
        return attempt

    def answer(self, transport: Any) -> Any:
        """Let the oldest attempt succeed."""
        factory, attempt = self.attempts.pop(0)
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(transport)
        attempt.callback(protocol)
        return protocol
