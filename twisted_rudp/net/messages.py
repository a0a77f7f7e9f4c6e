"""A session as a transport of messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, ILoggingContext, IPushProducer, ITransport
from twisted.python.failure import Failure
from zope.interface import classImplements

from twisted_rudp.core.engine import Event
from twisted_rudp.interfaces import IMessageTransport
from twisted_rudp.messages import Delivery
from twisted_rudp.net.session import Session
from twisted_rudp.net.states import Cause, State
from twisted_rudp.net.transport import Host, SessionTransport

TURN_LIMIT: Final = 256
"""Messages delivered at a time; the rest waits for the next turn (FLOW-11)."""


class MessageTransport(SessionTransport):
    """The messages of a session."""

    def __init__(
        self, session: Session, host: Host, lost: Callable[[], None] | None = None
    ) -> None:
        super().__init__(session, host, lost)
        self._receipts: dict[int, Deferred[bool]] = {}

    # IMessageTransport

    def send(
        self,
        data: bytes,
        delivery: Delivery = Delivery.RELIABLE_ORDERED,
        channel: int = 0,
        priority: int = 0,
        receipt: bool = False,
    ) -> Deferred[bool] | None:
        """See L{IMessageTransport}."""
        if not isinstance(data, bytes):
            raise TypeError(f"Data must be bytes, not {type(data).__name__}")
        if not self._writing:
            return succeed(False) if receipt else None
        number = self._engine.send(data, delivery, channel, priority, receipt)
        told: Deferred[bool] | None = None
        if number is not None:
            told = self._receipts[number] = Deferred()
        session = self.session
        if not session.dirty:
            self._schedule.touch(session)
        if self._feed is not None:
            self._fed(self._feed, len(data))
        return told

    # ITransport

    def write(self, data: bytes) -> None:
        """Send one message, reliably and in order."""
        self.send(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send one message made of these pieces."""
        self.send(b"".join(data))

    # the session's owner

    def sessionEvent(self, event: tuple[Any, ...]) -> None:
        kind = event[0]
        if kind == Event.RECEIPT:
            told = self._receipts.pop(event[1], None)
            if told is not None:
                told.callback(event[2])
        elif kind == Event.STREAM_ENDED:
            if self._step(Cause.PEER_CLOSED):
                self._stopFeed()
        elif kind == Event.STREAM_OPENED:
            self._engine.reset_stream(event[1])

    def _read(self) -> None:
        if self._reading and not self._paused:
            left = TURN_LIMIT
            for message in self._engine.take_messages():
                received = self.protocol.messageReceived
                try:
                    received(message)
                except Exception:
                    self._raised(received)
                left -= 1
                if self._paused or not self._reading:
                    break
                if not left:
                    self._schedule.later(self.session, self._resume)
                    return
        if self._state is State.DRAINING:
            for _ in self._engine.take_messages():
                self._schedule.touch(self.session)

    def _over(self, failure: Failure) -> None:
        receipts, self._receipts = self._receipts, {}
        super()._over(failure)
        for told in receipts.values():
            told.callback(False)


classImplements(
    MessageTransport, ITransport, IConsumer, IPushProducer, ILoggingContext, IMessageTransport
)
