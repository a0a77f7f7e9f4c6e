"""More streams on one session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet.interfaces import IProtocolFactory
from twisted.python.failure import Failure
from zope.interface import classImplements

from twisted_rudp.core.engine import Event, Reason
from twisted_rudp.errors import Phase, failureFor
from twisted_rudp.interfaces import IMultiplexed
from twisted_rudp.net.session import Session
from twisted_rudp.net.states import DISCONNECTING, Cause, State
from twisted_rudp.net.stream import StreamTransport
from twisted_rudp.net.transport import Host
from twisted_rudp.net.usercode import callUserLogged

MAX_WAITING = 64
"""Streams the peer may open before C{acceptStreams} is called; more are reset."""


class MultiplexTransport(StreamTransport):
    """Stream 0 of a session that can have more. It ends them when it ends."""

    def __init__(
        self, session: Session, host: Host, lost: Callable[[], None] | None = None
    ) -> None:
        super().__init__(session, host, lost)
        self._streams: dict[int, SubStream] = {}
        self._acceptor: IProtocolFactory | None = None
        self._waiting: list[int] = []

    @property
    def carrying(self) -> int:
        """How many streams are open besides this one."""
        return len(self._streams)

    # IMultiplexed

    def openStream(self, factory: IProtocolFactory) -> Any:
        """See L{IMultiplexed}."""
        # The session ends before its streams are told so, and this one after them.
        closed = self._state in DISCONNECTING or not self.session.alive
        if closed or not self.connected:
            raise RuntimeError("a connection that is not open opens no stream")
        protocol = self._connect(self._engine.open_stream(), factory)
        if isinstance(protocol, Failure):
            protocol.raiseException()
        return protocol

    def acceptStreams(self, factory: IProtocolFactory) -> None:
        """See L{IMultiplexed}."""
        self._acceptor = factory
        self._schedule.later(self.session, self._acceptWaiting)

    def _acceptWaiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for number in waiting:
            self._accept(number)

    def _accept(self, number: int) -> None:
        if self._state in DISCONNECTING:
            self._engine.reset_stream(number)
        elif self._acceptor is not None:
            self._connect(number, self._acceptor)
            if number in self._streams:
                self._streams[number].sessionReadable(number)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting.append(number)
        else:
            self._engine.reset_stream(number)

    def _connect(self, number: int, factory: IProtocolFactory) -> Any:
        """
        @return: the protocol; or None or the C{Failure} that the factory gave, and
            then the stream is reset.
        """
        self._schedule.touch(self.session)
        protocol = callUserLogged(factory.buildProtocol, self.getPeer())
        if protocol is None or isinstance(protocol, Failure):
            self._engine.reset_stream(number)
            return protocol
        stream = SubStream(self, lambda: self._forget(number), number)
        self._streams[number] = stream
        stream.makeConnection(protocol)
        return protocol

    def _close(self) -> None:
        """
        Have the engine end in order. The other streams write no more, and read on until
        their ends have come.
        """
        super()._close()
        for stream in list(self._streams.values()):
            stream.closeWithTheConnection()

    def _forget(self, number: int) -> None:
        self._streams.pop(number, None)

    # the session's owner

    def _readOther(self, stream: int) -> None:
        if stream in self._streams:
            self._streams[stream].sessionReadable(stream)

    def sessionEvent(self, event: tuple[Any, ...]) -> None:
        number = event[1]
        if number in self._streams:
            self._streams[number].sessionEvent(event)
        elif event[0] == Event.STREAM_OPENED:
            self._accept(number)
        elif number in self._waiting:
            self._sessionEventWaiting(event)
        elif number == self.stream:
            super().sessionEvent(event)

    def _sessionEventWaiting(self, event: tuple[Any, ...]) -> None:
        """
        A stream that nobody has accepted: only its reset matters, its end is found
        by whoever accepts it.
        """
        if event[0] == Event.STREAM_RESET:
            self._waiting.remove(event[1])

    def sessionShare(self, budget: int) -> int:
        """All of it: what one stream leaves behind another may send."""
        return budget

    def sessionFlushed(self) -> bool:
        again = [stream.sessionFlushed() for stream in list(self._streams.values())]
        if super().sessionFlushed():
            return True
        if any(stream.feeding for stream in self._streams.values()):
            self._wantFlushed()
        return any(again)

    def sessionShutdown(self, session: Session) -> None:
        for stream in list(self._streams.values()):
            stream.sessionShutdown(session)
        super().sessionShutdown(session)

    def sessionEnded(self, reason: Reason, detail: str | None) -> None:
        for stream in list(self._streams.values()):
            stream.sessionEnded(reason, detail)
        super().sessionEnded(reason, detail)


classImplements(MultiplexTransport, IMultiplexed)


class SubStream(StreamTransport):
    """A stream whose life is its own: it ends when both its halves have, or with its session."""

    _DISCARDING: ClassVar[frozenset[State]] = frozenset({State.DRAINING, State.CLOSING})

    def __init__(
        self, main: MultiplexTransport, lost: Callable[[], None], number: int
    ) -> None:
        """
        @param main: stream 0 of the same session, which passes on what the session says.
        """
        super().__init__(main.session, main.getHost(), lost, number)
        self._main = main

    def _wantFlushed(self) -> None:
        if self.session.alive:
            self.session.feeder = self._main

    _returned = b""

    def giveBack(self, data: bytes) -> None:
        """
        What a protocol was given is for its successor in C{transport.protocol}, as soon as that
        reads, and before anything else.
        """
        self._returned = data
        self._readReturned()

    def _readReturned(self) -> None:
        if self._reading and not self._paused:
            data, self._returned = self._returned, b""
            self._call(self.protocol.dataReceived, data)

    def _read(self) -> None:
        if self._returned:
            self._readReturned()
        super()._read()

    def _readOutOfBand(self) -> None:
        """What comes beside the streams is for stream 0."""

    _endSent = False
    _endAcknowledged = False
    _endReceived = False

    def sessionEvent(self, event: tuple[Any, ...]) -> None:
        kind = event[0]
        if kind == Event.STREAM_FLUSHED:
            self._endAcknowledged = True
            if self._state is State.CLOSING:
                self._finish()
        elif kind == Event.STREAM_RESET:
            # Who has closed resets what still comes. If that was only our end, all is in order.
            orderly = self._endReceived and self._endSent
            self._over(self._reasonOr(Reason.DONE if orderly else Reason.RESET))
        elif kind == Event.STREAM_ENDED:
            self._endReceived = True
            super().sessionEvent(event)

    def closeWithTheConnection(self) -> None:
        """Stream 0 was closed: what was written is delivered, and what comes is read."""
        self._endSent = True
        self._stopFeed()
        self._step(Cause.LOSE_WRITE)

    def sessionEnded(self, reason: Reason, detail: str | None) -> None:
        if reason is Reason.DONE and not (self._endReceived and self._endAcknowledged):
            reason, detail = Reason.RESET, "the connection ended before this stream"
        super().sessionEnded(reason, detail)

    def _close(self) -> None:
        self._endStream()
        if self._endAcknowledged:
            self._schedule.later(self.session, self._finish)

    def _endStream(self) -> None:
        if not self._endSent:
            self._endSent = True
            super()._endStream()

    def _finish(self) -> None:
        """All we wrote and its end are acknowledged; the peer is told if it still writes."""
        if not self._endReceived:
            self._engine.discard_stream(self.stream)
            self._schedule.touch(self.session)
        self._over(self._reasonOr(Reason.DONE))

    def _abort(self) -> None:
        self._engine.reset_stream(self.stream)
        self._schedule.touch(self.session)
        self._over(self._reasonOr(Reason.ABORTED))

    def _reasonOr(self, reason: Reason) -> Failure:
        return self._failure or failureFor(reason, None, Phase.CONNECTED)
