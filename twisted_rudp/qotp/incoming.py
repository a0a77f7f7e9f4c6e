"""
The receiving half of a connection: what comes for which stream, and what the
application is told of it (C{qotp.md} 5.4 and 5.5).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted_rudp.core.engine import Event
from twisted_rudp.qotp.budget import ReceiveWindow
from twisted_rudp.qotp.payload import Segment
from twisted_rudp.qotp.reassembly import Reassembly
from twisted_rudp.qotp.streams import Stream, StreamTable


class Incoming:
    """
    Takes in segments.

    @ivar window: what may be kept.
    @ivar events: for the application.
    @ivar discarding: everything that comes is thrown away.
    @ivar refused: streams the peer opened beyond the limit, to be reset.
    @ivar contradicted: a stream ended in two places, or went on behind its end (W17).
    """

    def __init__(
        self,
        streams: StreamTable,
        window: ReceiveWindow,
        events: list[tuple[Any, ...]],
        counters: Counter[str],
    ) -> None:
        self._streams = streams
        self.window = window
        self.events = events
        self.discarding = False
        self.refused: list[int] = []
        self.contradicted = False
        self._counters = counters
        self._readable: dict[Stream, None] = {}

    def segment(self, segment: Segment) -> bool:
        """
        Take in one segment.

        @return: whether it is to be acknowledged. Also what was received before, and
            what belongs to a stream that is over, is.
        """
        number = segment.stream
        stream = self._streams.open.get(number)
        if stream is None:
            if self._streams.finished(number):
                return True
            if not segment.data and not segment.close:
                return True
            stream = self._streams.heard(number)
            if stream is None:
                self._counters["streams_refused"] += 1
                self.refused.append(number)
                return False
            self.events.append((Event.STREAM_OPENED, number))
        incoming = stream.incoming
        held = incoming.held
        unread = incoming.unread
        if segment.data:
            if not incoming.insert(segment.offset, segment.data, self.window.room):
                self._counters["no_room"] += 1
                return False
            if self.discarding or stream.discarding:
                incoming.take(incoming.unread)
        if segment.close or incoming.end is not None:
            self._check_end(incoming, segment)
        self.window.held += incoming.held - held
        if incoming.unread > unread:
            self._readable[stream] = None
        elif incoming.end is not None:
            self.tell_end(stream)
        return True

    def _check_end(self, incoming: Reassembly, segment: Segment) -> None:
        stop = segment.offset + len(segment.data)
        if segment.close:
            agrees = incoming.finish(stop)
        else:
            agrees = incoming.end is None or stop <= incoming.end or not segment.data
        if not agrees:
            self.contradicted = True

    def tell_readable(self) -> None:
        """Once for everything that came in one call."""
        if self._readable:
            for stream in self._readable:
                self.events.append((Event.READABLE, stream.number))
            self._readable.clear()

    def take(self, stream: Stream, limit: int) -> bytes:
        """The next bytes for the application."""
        incoming = stream.incoming
        if not incoming.unread:
            return b""
        data = incoming.take(limit)
        self.window.held -= len(data)
        self.window.took(len(data))
        if incoming.end is not None:
            self.tell_end(stream)
        return data

    def tell_end(self, stream: Stream) -> None:
        """After the last byte was taken."""
        incoming = stream.incoming
        if incoming.complete and not incoming.unread and not stream.end_told:
            stream.end_told = True
            if not self.discarding and not stream.discarding:
                self.events.append((Event.STREAM_ENDED, stream.number))
            if stream.over:
                self._streams.drop(stream)

    def drop(self, stream: Stream) -> None:
        """Nobody wants the rest of this stream."""
        self.window.held -= stream.incoming.held
        stream.incoming.discard()
        stream.discarding = True
        self._readable.pop(stream, None)

    def discard(self) -> None:
        """Nobody wants the rest of any stream."""
        self.discarding = True
        for stream in list(self._streams.open.values()):
            size = stream.incoming.unread
            stream.incoming.take(size)
            self.window.held -= size
            self.tell_end(stream)
        self._readable.clear()
