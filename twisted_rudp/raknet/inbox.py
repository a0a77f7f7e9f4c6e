"""What has arrived and was not taken yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from twisted_rudp.messages import Delivery, Message
from twisted_rudp.raknet.counters import Counters
from twisted_rudp.raknet.profiles import Settings
from twisted_rudp.raknet.receiver import Delivered
from twisted_rudp.raknet.wire import IS_RELIABLE

_PLAIN = Delivery.RELIABLE_ORDERED


class StreamInbox:
    """
    Bytes in order.

    @ivar size: how many.
    """

    __slots__ = ("_offset", "_pieces", "size")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._offset = 0
        self.size = 0

    def put(self, piece: bytes) -> None:
        """Append bytes."""
        self._pieces.append(piece)
        self.size += len(piece)

    def take(self, limit: int) -> bytes:
        """The next bytes: as many whole pieces as C{limit} allows, or a part of one."""
        pieces, offset = self._pieces, self._offset
        if not pieces or limit <= 0:
            return b""
        first = pieces[0]
        left = len(first) - offset
        if left > limit:
            self._offset = offset + limit
            self.size -= limit
            return first[offset : offset + limit]
        pieces.popleft()
        self._offset = 0
        parts = [first[offset:] if offset else first]
        while pieces and left + len(pieces[0]) <= limit:
            left += len(pieces[0])
            parts.append(pieces.popleft())
        self.size -= left
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def clear(self) -> None:
        """Throw everything away."""
        self._pieces.clear()
        self._offset = 0
        self.size = 0


class MessageInbox:
    """
    Messages in the order of their delivery.

    @ivar size: bytes in them.
    """

    __slots__ = ("_messages", "size")

    def __init__(self) -> None:
        self._messages: deque[Message | list[bytes]] = deque()
        self.size = 0

    def put_plain(self, payloads: list[bytes]) -> None:
        """Append messages that came reliably and in order on channel 0."""
        self._messages.append(payloads)
        self.size += sum(map(len, payloads))

    def put(self, message: Message) -> None:
        """Append a message."""
        self._messages.append(message)
        self.size += len(message.data)

    def take(self) -> Iterator[Message]:
        """All of them, each taken when it is asked for."""
        messages = self._messages
        while messages:
            message = messages.popleft()
            if type(message) is list:
                yield from self._take_plain(message)
            else:
                assert isinstance(message, Message)
                self.size -= len(message.data)
                yield message

    def _take_plain(self, payloads: list[bytes]) -> Iterator[Message]:
        """What was appended together; what is not asked for is put back."""
        count = size = 0
        new = tuple.__new__
        try:
            for payload in payloads:
                count += 1
                size += len(payload)
                # As Message(payload), in half the time.
                yield new(Message, (payload, _PLAIN, 0))
        finally:
            self.size -= size
            if count < len(payloads):
                self._messages.appendleft(payloads[count:])

    def clear(self) -> None:
        """Throw everything away."""
        self._messages.clear()
        self.size = 0


class Inbox:
    """
    What has arrived for the application: bytes of the stream or messages.

    @ivar stream: the one of a session that carries bytes.
    @ivar messages: those of a session that carries messages.
    """

    __slots__ = ("_counters", "_early", "_early_size", "_settings", "messages", "stream")

    def __init__(self, settings: Settings, counters: Counters) -> None:
        self.stream = StreamInbox()
        self.messages = MessageInbox()
        self._early: deque[Delivered] = deque()
        self._early_size = 0
        self._settings = settings
        self._counters = counters

    @property
    def size(self) -> int:
        """Bytes that can be taken."""
        return self.stream.size + self.messages.size

    def put_bulk(self, taken: bytes | list[bytes]) -> None:
        """Append a part of the stream, or messages."""
        if isinstance(taken, bytes):
            self.stream.put(taken)
        else:
            self.messages.put_plain(taken)

    def put(self, delivered: Delivered) -> None:
        """Append a message of the application's."""
        payload, reliability, channel = delivered
        if not self._settings.stream:
            self.messages.put(Message(bytes(payload), Delivery(reliability), channel))
        elif payload[0] == self._settings.user_id:
            self.stream.put(bytes(payload[1:]))
        else:
            self._counters.messages_foreign += 1

    @property
    def early_full(self) -> bool:
        """Nothing more should come before the handshake is done."""
        settings = self._settings
        return len(self._early) >= settings.early or self._early_size >= settings.receive_buffer

    def keep(self, delivered: Delivered) -> None:
        """
        A message has come before the handshake is done: put it aside. If it will be
        acknowledged there has to be room for it; the others are dropped when there is
        none.
        """
        if self.early_full and not IS_RELIABLE[delivered.reliability]:
            self._counters.messages_early_dropped += 1
            return
        payload = bytes(delivered.payload)
        self._early.append(delivered._replace(payload=payload))
        self._early_size += len(payload)

    def put_kept(self) -> None:
        """The handshake is done: append what was put aside."""
        while self._early:
            self.put(self._early.popleft())
        self._early_size = 0

    def clear(self) -> None:
        """Throw everything away."""
        self.stream.clear()
        self.messages.clear()
        self._early.clear()
        self._early_size = 0
