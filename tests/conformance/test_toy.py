"""
Toy I passes the suite on the simulated network: what a stream transport does is done
by C{net}, whatever engine is under it. It repeats nothing that is lost, so it is
tested where nothing is.
"""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from tests.toys.conversations import CipherGate
from twisted_rudp.core.engine import Address, Engine, Gate
from twisted_rudp.net.connecting import connect
from twisted_rudp.net.listening import listen
from twisted_rudp.testing.conformance import (
    Capability,
    RealSockets,
    Simulation,
    Transport,
    makeTestCases,
)

SECRET = 0x77


@implementer(IStreamServerEndpoint)
class ToyServerEndpoint:
    def __init__(self, reactor: Any, port: int, interface: str, kind: str, gate: Any) -> None:
        self._reactor = reactor
        self._named = {"port": port, "interface": interface, "portKind": kind}
        self._gate = gate

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        return execute(listen, self._reactor, factory, self._gate(), **self._named)


@implementer(IStreamClientEndpoint)
class ToyClientEndpoint:
    def __init__(self, *arguments: Any, gate: Any, **named: Any) -> None:
        self._reactor, self._host, self._port = arguments
        self._gate = gate
        self._named = named

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        return connect(
            self._reactor,
            factory,
            self._host,
            self._port,
            session=self._session,
            **self._named,
        )

    def _session(self, address: Address, now: int) -> tuple[Gate, Engine]:
        gate = self._gate()
        return gate, gate.dial(address, now)


class Toy(Transport):
    capabilities = Capability.HALF_CLOSE | Capability.RESETS | Capability.NAMES
    capabilities |= Capability.COUNTS_DATAGRAMS

    def __init__(self, kind: str) -> None:
        self.name = f"Toy{kind.capitalize()}"
        self._kind = kind
        self._random = random.Random(4)
        if kind != "stock":
            # Ports of our own read the error queue (UDP-12).
            self.capabilities |= Capability.REFUSES

    def gate(self) -> CipherGate:
        return CipherGate(SECRET, self._random)

    def server(self, reactor: Any, port: int, interface: str) -> ToyServerEndpoint:
        return ToyServerEndpoint(reactor, port, interface, self._kind, self.gate)

    def client(
        self,
        reactor: Any,
        host: str,
        port: int,
        timeout: float,
        bindAddress: tuple[str, int] | None,
    ) -> ToyClientEndpoint:
        return ToyClientEndpoint(
            reactor,
            host,
            port,
            timeout=timeout,
            bindAddress=bindAddress,
            portKind=self._kind,
            gate=self.gate,
        )


LOSING = ("BadLinks", "Attempts", "Vanishing")
"""Topics in which a link loses, repeats or reorders what the toy sends once."""

globals().update(makeTestCases(Toy("gso"), RealSockets, __name__))
globals().update(
    {
        name: case
        for name, case in makeTestCases(Toy("stock"), Simulation, __name__).items()
        if not any(topic in name for topic in LOSING)
    }
)
