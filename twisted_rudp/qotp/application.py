"""What an application asks of a connection: bytes in, bytes out, streams."""

from __future__ import annotations

from collections.abc import Iterator

from twisted_rudp.core.engine import Capability
from twisted_rudp.messages import Delivery, Message
from twisted_rudp.qotp.conversation import Conversation
from twisted_rudp.qotp.mark import Peer


class ApplicationSide:
    """That part of L{Engine<twisted_rudp.core.engine.Engine>} which is only about what is said."""

    _talk: Conversation

    @property
    def capabilities(self) -> Capability:
        """Streams with a window; half close not with the release (rule R4)."""
        kind = Capability.BYTES | Capability.STREAMS | Capability.RECEIVE_WINDOW
        kind |= Capability.ORDERLY_CLOSE | Capability.NEEDS_IDLE_TIMEOUT
        if self._talk.peer is not Peer.RELEASE:
            kind |= Capability.HALF_CLOSE
        return kind

    @property
    def in_flight(self) -> int:
        """Bytes sent and not acknowledged."""
        return self._talk.sender.flights.in_flight

    def write(self, stream: int, data: bytes) -> None:
        """
        Queue bytes.

        @raise ValueError: our half of the stream has been ended.
        """
        found = self._talk.streams.open.get(stream)
        if found is None:
            return
        if found.finishing:
            raise ValueError(f"stream {stream} has been ended")
        found.queue.append(data)
        self._talk.sender.ready[found] = None

    def send(
        self,
        data: bytes,
        delivery: Delivery = Delivery.RELIABLE_ORDERED,
        channel: int = 0,
        priority: int = 0,
        receipt: bool = False,
    ) -> int | None:
        """
        @raise ValueError: always; QOTP carries bytes.
        """
        raise ValueError("QOTP carries streams of bytes, no messages")

    def unsent(self, stream: int = 0) -> int:
        """Bytes not yet numbered."""
        found = self._talk.streams.open.get(stream)
        return 0 if found is None else found.queue.size

    def unread(self, stream: int = 0) -> int:
        """Bytes that can be taken."""
        found = self._talk.streams.open.get(stream)
        return 0 if found is None else found.incoming.unread

    def take(self, stream: int, limit: int) -> bytes:
        """The next bytes in order."""
        found = self._talk.streams.open.get(stream)
        if found is None or not found.incoming.unread:
            return b""
        return self._talk.incoming.take(found, limit)

    def take_messages(self) -> Iterator[Message]:
        """There are none."""
        return iter(())

    def open_stream(self) -> int:
        """
        One more stream.

        @raise ValueError: there are too many.
        """
        return self._talk.streams.make().number

    def close_stream(self, stream: int) -> None:
        """CLOSE behind the data."""
        self._talk.close_stream(stream)

    def reset_stream(self, stream: int, code: int = 0) -> None:
        """Our own peer is told; the release sees an end."""
        self._talk.reset_stream(stream, code)
