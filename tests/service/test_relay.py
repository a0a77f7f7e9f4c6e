"""Tests for L{twisted_rudp.service.relay}."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.error import (
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
)
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ISSLTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides
from zope.interface.verify import verifyObject

from tests.service.transports import ClientEndpoint, HalfTransport, Transport
from twisted_rudp.service.relay import EARLY_LIMIT, Reading, Relay, canHalfClose

DONE = Failure(ConnectionDone())
LOST = Failure(ConnectionLost())


class RelayTestCase(SynchronousTestCase):
    """A relay between two remembered transports."""

    def setUp(self) -> None:
        self.endpoint = ClientEndpoint()
        self.unreachable: list[Failure] = []
        self.over: list[Failure] = []
        self.relay = Relay(
            self.endpoint,
            self.unreachable.append,
            lambda relay, reason: self.over.append(reason),
        )
        self.near: Any = HalfTransport()
        self.far: Any = HalfTransport()

    def accept(self) -> None:
        self.relay.near.makeConnection(self.near)

    def join(self) -> None:
        self.accept()
        self.endpoint.answer(self.far)


class DiallingTests(RelayTestCase):
    """Before the far side is there."""

    def test_notRead(self) -> None:
        """The near side is paused until the far side is there."""
        self.accept()
        self.assertEqual(self.near.producerState, "paused")
        self.endpoint.answer(self.far)
        self.assertEqual(self.near.producerState, "producing")

    def test_earlyBytes(self) -> None:
        """What a transport still delivers while paused is passed on first."""
        self.accept()
        self.relay.near.dataReceived(b"a")
        self.relay.near.dataReceived(b"b")
        self.endpoint.answer(self.far)
        self.relay.near.dataReceived(b"c")
        self.assertEqual(self.far.value(), b"abc")

    def test_earlyBytesBounded(self) -> None:
        """A near side that does not respect the pause is aborted at the limit."""
        self.accept()
        self.relay.near.dataReceived(bytes(EARLY_LIMIT))
        self.assertFalse(self.near.aborting)
        self.relay.near.dataReceived(b"x")
        self.assertTrue(self.near.aborting)

    def test_refused(self) -> None:
        """
        A far side that cannot be reached is reported once and the near side
        aborted: its peer must not take this for an empty answer.
        """
        self.accept()
        _, attempt = self.endpoint.attempts.pop()
        attempt.errback(ConnectionRefusedError())
        [failure] = self.unreachable
        failure.trap(ConnectionRefusedError)
        self.assertTrue(self.near.aborting)
        self.relay.near.connectionLost(LOST)
        self.assertEqual(self.over, [LOST])

    def test_nearGone(self) -> None:
        """
        The near side going away cancels the attempt, and nothing is reported as
        unreachable (CONN-5).
        """
        self.accept()
        self.relay.near.connectionLost(DONE)
        self.assertEqual(self.endpoint.cancelled, 1)
        self.assertEqual(self.unreachable, [])
        self.assertEqual(self.over, [DONE])

    def test_nearEnded(self) -> None:
        """
        An end of stream that came before the far side was there is carried
        over to it behind the early bytes.
        """
        self.accept()
        self.relay.near.dataReceived(b"all")
        self.relay.near.readConnectionLost()
        self.endpoint.answer(self.far)
        self.assertEqual(self.far.value(), b"all")
        self.assertTrue(self.far.halfClosed)
        self.relay.far.dataReceived(b"answer")
        self.assertEqual(self.near.value(), b"answer")

    def test_finish(self) -> None:
        """Stopping while dialling closes the near side and cancels the rest."""
        self.accept()
        self.relay.finish()
        self.assertTrue(self.near.disconnecting)
        self.relay.near.connectionLost(DONE)
        self.assertEqual(self.endpoint.cancelled, 1)
        self.assertEqual(self.over, [DONE])


class FlowTests(RelayTestCase):
    """Bytes and back-pressure."""

    def test_interfaces(self) -> None:
        """A side asks for half closes and is a push producer."""
        verifyObject(IHalfCloseableProtocol, self.relay.near)
        verifyObject(IPushProducer, self.relay.near)

    def test_bothWays(self) -> None:
        """Each side's bytes reach the other, and are counted."""
        self.join()
        self.relay.near.dataReceived(b"question")
        self.relay.far.dataReceived(b"the answer")
        self.assertEqual(self.far.value(), b"question")
        self.assertEqual(self.near.value(), b"the answer")
        self.assertEqual((self.relay.near.received, self.relay.far.received), (8, 10))

    def test_backPressure(self) -> None:
        """A full transport pauses the reading of the other side, both ways (FLOW-2)."""
        self.join()
        for full, source in [(self.near, self.far), (self.far, self.near)]:
            self.assertTrue(full.streaming)
            full.producer.pauseProducing()
            self.assertEqual(source.producerState, "paused")
            full.producer.resumeProducing()
            self.assertEqual(source.producerState, "producing")


class ClosingTests(RelayTestCase):
    """Ends, carried over."""

    def test_halfClose(self) -> None:
        """
        The end of one direction is told to the other side, whose own direction
        goes on until its end closes both (CLOSE-9).
        """
        for first, second in [("near", "far"), ("far", "near")]:
            self.setUp()
            self.join()
            sides: dict[str, Any] = {"near": self.relay.near, "far": self.relay.far}
            transports = {"near": self.near, "far": self.far}
            sides[first].readConnectionLost()
            self.assertTrue(transports[second].halfClosed)
            self.assertIsNone(transports[second].producer)
            self.assertFalse(transports[first].disconnecting)
            sides[second].dataReceived(b"still")
            self.assertEqual(transports[first].value(), b"still")
            sides[second].readConnectionLost()
            self.assertTrue(transports[first].disconnecting)
            self.assertTrue(transports[second].disconnecting)

    def test_withoutHalfClose(self) -> None:
        """
        Where the end of a direction cannot be told it ends the connection,
        after what was before it.
        """
        self.far = Transport()
        self.join()
        self.relay.near.dataReceived(b"last")
        self.relay.near.readConnectionLost()
        self.assertEqual(self.far.value(), b"last")
        self.assertTrue(self.far.disconnecting)
        self.assertTrue(self.near.disconnecting)

    def test_tlsHasNoHalfClose(self) -> None:
        """TLS offers the method of the transport below and must not be asked."""
        transport = HalfTransport()
        self.assertTrue(canHalfClose(transport))
        directlyProvides(transport, ISSLTransport)
        self.assertFalse(canHalfClose(transport))

    def test_doneFollows(self) -> None:
        """One side closing in order closes the other in order."""
        self.join()
        self.relay.far.connectionLost(DONE)
        self.assertTrue(self.near.disconnecting)
        self.assertIsNone(self.near.producer)
        self.assertFalse(self.near.aborting)
        self.assertEqual(self.over, [])
        self.relay.near.connectionLost(DONE)
        self.assertEqual(self.over, [DONE])

    def test_errorFollows(self) -> None:
        """One side breaking aborts the other, and the first reason is the one reported."""
        self.join()
        self.relay.near.connectionLost(LOST)
        self.assertTrue(self.far.aborting)
        self.relay.far.connectionLost(DONE)
        self.assertEqual(self.over, [LOST])

    def test_finishAndAbort(self) -> None:
        """Stopping closes both in order, impatience aborts both."""
        self.join()
        self.relay.finish()
        self.assertTrue(self.near.disconnecting and self.far.disconnecting)
        self.assertIsNone(self.near.producer)
        self.assertIsNone(self.far.producer)
        self.relay.abort()
        self.assertTrue(self.near.aborting and self.far.aborting)


class RelayMachine(RuleBasedStateMachine):
    """
    Whatever order things happen in: each side gets exactly the other's bytes,
    and the relay is over once, when both sides are gone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.endpoint = ClientEndpoint()
        self.over = 0
        self.relay = Relay(self.endpoint, lambda failure: None, self._isOver)
        self.transports: dict[str, Any] = {"near": HalfTransport(), "far": HalfTransport()}
        self.sent = {"near": b"", "far": b""}
        self.relay.near.makeConnection(self.transports["near"])

    def _isOver(self, relay: Relay, reason: Failure) -> None:
        self.over += 1

    def _side(self, name: str) -> Any:
        return self.relay.near if name == "near" else self.relay.far

    def _reading(self, name: str) -> Reading | None:
        side = self._side(name)
        return side.reading if side.transport is not None else None

    @precondition(lambda self: self.endpoint.attempts and not self.endpoint.cancelled)
    @rule(works=st.booleans())
    def dialled(self, works: bool) -> None:
        if works:
            self.endpoint.answer(self.transports["far"])
        else:
            self.endpoint.attempts.pop()[1].errback(ConnectionRefusedError())

    @rule(name=st.sampled_from(["near", "far"]), data=st.binary(max_size=5))
    def data(self, name: str, data: bytes) -> None:
        closing = any(each.disconnecting or each.aborting for each in self.transports.values())
        if self._reading(name) is Reading.OPEN and not closing:
            self._side(name).dataReceived(data)
            self.sent[name] += data

    @rule(name=st.sampled_from(["near", "far"]))
    def ended(self, name: str) -> None:
        if self._reading(name) is Reading.OPEN and not self.transports[name].disconnecting:
            self._side(name).readConnectionLost()

    @rule(name=st.sampled_from(["near", "far"]), reason=st.sampled_from([DONE, LOST]))
    def lost(self, name: str, reason: Failure) -> None:
        if self._reading(name) in (Reading.OPEN, Reading.ENDED):
            self._side(name).connectionLost(reason)

    @rule()
    def finish(self) -> None:
        self.relay.finish()

    def teardown(self) -> None:
        for name, other in (("near", "far"), ("far", "near")):
            arrived = self.transports[other].value()
            assert self.sent[name].startswith(arrived)
            if self._side(other).transport is not None:
                assert arrived == self.sent[name]
        for name in ("near", "far"):
            self.lost(name, LOST)
        assert self.over == 1


class MachineTests(SynchronousTestCase):
    """L{RelayMachine}, run by trial."""

    def test_anyOrder(self) -> None:
        """Sides that speak, end and break in any order (ORD-1)."""
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            RelayMachine,
            settings=settings(
                max_examples=100, stateful_step_count=12, deadline=None, derandomize=True
            ),
        )
