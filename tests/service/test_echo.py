"""Tests for L{twisted_rudp.service.echo}."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.service.transports import CountingTransport, HalfTransport, ServerEndpoint
from twisted_rudp.service.echo import EchoService


class EchoTests(SynchronousTestCase):
    """What arrives is sent back."""

    def setUp(self) -> None:
        self.endpoint = ServerEndpoint()
        self.service = EchoService(Clock(), "echo a", self.endpoint, limit=2, drain=5)
        self.service.startService()  # type: ignore[no-untyped-call]

    def accept(self, transport: Any) -> Any:
        echo = self.endpoint.factories[0].buildProtocol(None)
        if echo is not None:
            echo.makeConnection(transport)
        return echo

    def test_echo(self) -> None:
        """Bytes come back and are counted."""
        transport = HalfTransport()
        echo = self.accept(transport)
        verifyObject(IHalfCloseableProtocol, echo)
        echo.dataReceived(b"hello")
        self.assertEqual(transport.value(), b"hello")
        self.assertEqual(self.service.tally.counts["echoed"], 5)

    def test_backPressure(self) -> None:
        """A peer that does not read is not read either (FLOW-2)."""
        transport = HalfTransport()
        self.accept(transport)
        transport.producer.pauseProducing()
        self.assertEqual(transport.producerState, "paused")

    def test_end(self) -> None:
        """The peer's end of stream closes the connection in order (CLOSE-9)."""
        transport = HalfTransport()
        echo = self.accept(transport)
        echo.dataReceived(b"x")
        echo.readConnectionLost()
        self.assertTrue(transport.disconnecting)
        self.assertIsNone(transport.producer)

    def test_tally(self) -> None:
        """Ends and the session's own counters are counted."""
        self.accept(CountingTransport()).connectionLost(Failure(ConnectionDone()))
        self.accept(HalfTransport()).connectionLost(Failure(ConnectionLost()))
        self.assertEqual(
            self.service.tally.line(),
            "connections=2 refused=0 broken=1 echoed=0 retrans_segs=3 round_trip_ms=31.5",
        )

    def test_limit(self) -> None:
        """Above the limit connections are refused (PORT-6)."""
        self.accept(HalfTransport())
        self.accept(HalfTransport())
        self.assertIsNone(self.accept(HalfTransport()))
        self.assertEqual(self.service.tally.counts["refused"], 1)

    def test_stop(self) -> None:
        """Stopping finishes what is there, then aborts it (SVC-5)."""
        transport = HalfTransport()
        echo = self.accept(transport)
        stopped = self.service.stopService()
        self.assertTrue(transport.disconnecting)
        echo.abort()
        self.assertTrue(transport.aborting)
        echo.connectionLost(Failure(ConnectionLost()))
        stopping = self.endpoint.ports[0].stopping
        assert stopping is not None
        stopping.callback(None)
        self.successResultOf(stopped)
