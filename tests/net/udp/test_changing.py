"""Tests of what may change of an open socket."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer, reactor
from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from twisted_rudp import stats
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.net.udp.options import changed
from twisted_rudp.net.udp.port import SocketOptions

HOST = "127.0.0.1"


class ChangedTests(SynchronousTestCase):
    """L{changed}."""

    def test_values(self) -> None:
        """The names are those of endpoints; what is not named stays."""
        before = SocketOptions(hopLimit=9)
        after = changed(before, {"dscp": 46, "readBuffer": 65_536, "writeBuffer": 32_768})
        self.assertEqual((after.dscp, after.receiveBuffer, after.sendBuffer), (46, 65_536, 32_768))
        self.assertEqual(after.hopLimit, 9)
        self.assertEqual(changed(before, {}), before)

    def test_errors(self) -> None:
        """Other names and impossible values are refused and named."""
        for changes, named in (
            ({"hopLimit": 3}, "hopLimit cannot be changed"),
            ({"dscp": 64}, "dscp=64 is invalid: expected an integer from 0 to 63"),
            ({"dscp": "high"}, "dscp='high' is invalid: expected an integer"),
            ({"readBuffer": 0}, "readBuffer=0 is invalid: expected an integer from 1"),
        ):
            error = self.assertRaises(ValueError, changed, SocketOptions(), changes)
            self.assertIn(named, str(error))


class Ending(Protocol):
    """Tells when it was made and when it is over."""

    def __init__(self) -> None:
        self.made: defer.Deferred[Any] = defer.Deferred()
        self.lost: defer.Deferred[None] = defer.Deferred()

    def connectionMade(self) -> None:
        self.made.callback(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)

    def end(self) -> defer.Deferred[None]:
        transport: Any = self.transport
        transport.abortConnection()
        return self.lost


class LiveTests(TestCase):
    """Sockets that are open."""

    def facts(self, host: Any) -> Any:
        return next(port.facts for port in stats.ports.snapshot().ports if port.host == host)

    async def connect(self, portKind: str) -> tuple[Any, Any, Any]:
        """A listening port, and both transports of a connection to it."""
        accepted = Ending()
        server = KCPServerEndpoint(reactor, 0, interface=HOST, portKind=portKind)
        listening: Any = await server.listen(Factory.forProtocol(lambda: accepted))
        self.addCleanup(listening.stopListening)
        endpoint = KCPClientEndpoint(reactor, HOST, listening.getHost().port, portKind=portKind)
        client = await connectProtocol(endpoint, Ending())
        transport: Any = client.transport
        transport.write(b"x")
        serving = await accepted.made
        self.addCleanup(accepted.end)
        self.addCleanup(client.end)
        return listening, transport, serving

    async def test_change(self) -> None:
        """
        Who has dialled changes the socket with the session's settings, all or nothing;
        for what was accepted the listening port does it.
        """
        for portKind in ("auto", "stock"):
            listening, transport, serving = await self.connect(portKind)
            transport.configure(dscp=46, readBuffer=100_000, writeBuffer=50_000, mtu=1200)
            facts = self.facts(transport.getHost())
            self.assertEqual((facts["dscp"], facts["receiveBufferAsked"]), (46, 100_000))
            self.assertEqual((facts["receiveBuffer"], facts["sendBuffer"]), (100_000, 50_000))
            for changes in ({"dscp": 64, "mtu": 1100}, {"dscp": 10, "mtu": 1}):
                self.assertRaises(ValueError, transport.configure, **changes)
            self.assertEqual(self.facts(transport.getHost())["dscp"], 46)
            self.assertEqual(transport.facts()["mss"], 1176)
            error = self.assertRaises(ValueError, serving.configure, dscp=10)
            self.assertIn("dscp belongs to the socket", str(error))
            listening.configure(dscp=10)
            self.assertEqual(self.facts(listening.getHost())["dscp"], 10)
            self.assertRaises(ValueError, listening.configure, mtu=1200)
