"""A stream of an engine as Twisted's TCP transport."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final

from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    ILoggingContext,
    IPushProducer,
    ITCPTransport,
    ITransport,
)
from zope.interface import classImplements

from twisted_rudp.core.engine import Capability, Event, Reason
from twisted_rudp.errors import Phase, failureFor
from twisted_rudp.interfaces import IOutOfBandProtocol, IRUDPTransport
from twisted_rudp.net.states import Cause, State
from twisted_rudp.net.transport import SessionTransport

CHUNK: Final = 65536
"""At most so many bytes in one C{dataReceived} (FLOW-11)."""

TURN_LIMIT: Final = 4 * CHUNK
"""Bytes delivered at a time; the rest waits for the next turn (FLOW-11)."""


class StreamTransport(SessionTransport):
    """
    Stream 0 of a session, whose life is the session's.

    Without C{Capability.HALF_CLOSE} the wire has no word for the end of one half:
    C{loseWriteConnection} then ends writing on this side only, and the peer's end is
    the end of the connection for every protocol.
    """

    _DISCARDING: ClassVar[frozenset[State]] = frozenset({State.DRAINING})
    """States in which this is to throw away what arrives."""

    _endHeld = False
    _noDelay = False
    _keepAlive = False

    # ITransport

    def write(self, data: bytes) -> None:
        """
        Queue bytes; they leave at the end of the turn (TR-8).

        @raise TypeError: C{data} is not C{bytes} (TR-2).
        """
        if not isinstance(data, bytes):
            raise TypeError(f"Data must be bytes, not {type(data).__name__}")
        if data and self._writing:
            self._engine.write(self.stream, data)
            session = self.session
            if not session.dirty:
                self._schedule.touch(session)
            if self._feed is not None:
                self._fed(self._feed, len(data))

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """As C{write} with the pieces joined; all are checked before any is queued (TR-3)."""
        pieces = list(data)
        for piece in pieces:
            if not isinstance(piece, bytes):
                raise TypeError(f"Data must be bytes, not {type(piece).__name__}")
        self.write(b"".join(pieces))

    # ITCPTransport

    def loseWriteConnection(self) -> None:
        """End our half after what is written (CLOSE-9)."""
        self._step(Cause.LOSE_WRITE)

    def getTcpNoDelay(self) -> bool:
        return self._noDelay

    def setTcpNoDelay(self, enabled: object) -> None:
        """Remembered only: everything leaves at the end of its turn anyway (TR-7)."""
        self._noDelay = bool(enabled)

    def getTcpKeepAlive(self) -> bool:
        return self._keepAlive

    def setTcpKeepAlive(self, enabled: object) -> None:
        """Remembered only: keeping alive is a setting of the endpoint (TR-7)."""
        self._keepAlive = bool(enabled)

    # the session's owner

    def sessionReadable(self, stream: int | None) -> None:
        """Bytes of the stream, or of another of the connection; with None, messages beside them."""
        if stream == self.stream:
            self._read()
        elif stream is None:
            self._readOutOfBand()
        else:
            self._readOther(stream)

    def sessionEvent(self, event: tuple[Any, ...]) -> None:
        kind = event[0]
        if kind == Event.STREAM_ENDED:
            self._peerEnded()
        elif kind == Event.STREAM_RESET:
            self._failure = self._failure or failureFor(Reason.RESET, None, Phase.CONNECTED)
            self._step(Cause.ABORT)
        elif kind == Event.STREAM_OPENED:
            self._engine.reset_stream(event[1])

    def _read(self) -> None:
        """
        Deliver until there is nothing, the protocol pauses, or the turn's share is
        used up. While draining, throw away, so that the peer is not kept waiting
        (CLOSE-3).
        """
        delivered = 0
        take, stream = self._engine.take, self.stream
        while self._reading and not self._paused:
            if delivered >= TURN_LIMIT:
                self._schedule.later(self.session, self._resume)
                return
            data = take(stream, CHUNK)
            if not data:
                break
            delivered += len(data)
            received = self.protocol.dataReceived
            try:
                received(data)
            except Exception:
                self._raised(received)
        if self._state in self._DISCARDING:
            while take(stream, CHUNK):
                self._schedule.touch(self.session)

    def _readOther(self, stream: int) -> None:
        """Have another stream of the connection delivered; most connections have one only."""

    def _readOutOfBand(self) -> None:
        """
        Deliver what came out of band. Who does not want it is not asked; who has
        paused gets the newest when he goes on.
        """
        if self._paused or not self._reading:
            return
        for message in self._engine.take_messages():
            if IOutOfBandProtocol.providedBy(self.protocol):
                self._call(self.protocol.outOfBandReceived, message.data)
            if self._paused or not self._reading:
                return

    def _resume(self) -> None:
        super()._resume()
        if IOutOfBandProtocol.providedBy(self.protocol):
            self._readOutOfBand()
        if self._endHeld and not self._paused:
            self._peerEnded()

    def _peerEnded(self) -> None:
        """
        The peer's half has ended and all of it was delivered. A paused protocol
        hears of that when it resumes (FLOW-9).
        """
        self._endHeld = self._paused and self._reading
        if self._endHeld:
            return
        if self._halfCloseable and Capability.HALF_CLOSE in self._engine.capabilities:
            if self._step(Cause.PEER_ENDED):
                self._call(self.protocol.readConnectionLost)
        elif self._step(Cause.PEER_CLOSED):
            self._stopFeed()

    def _drained(self) -> bool:
        """Nothing is left to be admitted to the window: end our half, or everything."""
        if not super()._drained():
            return False
        if self._state is not State.CLOSING:
            if Capability.HALF_CLOSE in self._engine.capabilities:
                self._endStream()
            if self._halfCloseable:
                self._call(self.protocol.writeConnectionLost)
        return True

    def _endStream(self) -> None:
        self._engine.close_stream(self.stream)

    @property
    def _halfCloseable(self) -> bool:
        return IHalfCloseableProtocol.providedBy(self.protocol)


classImplements(
    StreamTransport,
    ITransport,
    IConsumer,
    IPushProducer,
    ITCPTransport,
    ILoggingContext,
    IRUDPTransport,
)
