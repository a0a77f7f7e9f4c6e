"""The oracle: Twisted's own TCP passes the suite, apart from the rules named here."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint

from twisted_rudp.testing.conformance import Capability, RealSockets, Transport, makeTestCases


class TCP(Transport):
    name = "TCP"
    addressType = "TCP"
    capabilities = Capability.HALF_CLOSE | Capability.REFUSES | Capability.RESETS
    deviations = frozenset(
        {
            "CONN-3",  # connectionMade raising: the Deferred never fires
            "PORT-2",  # of several stopListening calls only the last Deferred fires
            "PORT-3",  # stopListening does not wait for connections
            "PORT-4",  # getHost of a closed port raises
            "TR-1",  # the transport class implements ITLSTransport
            "TR-3",  # writeSequence loses what a generator gives
            "TR-6",  # getHost raises after the end
            "TR-4 loseWriteConnection",  # raises after the end, on most reactors
            "TR-7",  # the socket options raise inside connectionLost
            "FAC-3",  # a client's transport.protocol is a wrapper
            "FAC-5 connectionMade",  # a server's connectionMade raising ends nothing
            "PORT-6 raising",  # buildProtocol raising leaves the peer in the dark
            "FLOW-2",  # pauseProducing is repeated
            "CLOSE-2",  # an unpaused push producer is stopped by loseConnection
            "CLOSE-9",  # both halves closed: connectionLost inside loseConnection
        }
    )

    def server(self, reactor: Any, port: int, interface: str) -> TCP4ServerEndpoint:
        return TCP4ServerEndpoint(reactor, port, interface=interface)

    def client(
        self,
        reactor: Any,
        host: str,
        port: int,
        timeout: float,
        bindAddress: tuple[str, int] | None,
    ) -> TCP4ClientEndpoint:
        return TCP4ClientEndpoint(reactor, host, port, timeout, bindAddress)


globals().update(makeTestCases(TCP(), RealSockets, __name__))
