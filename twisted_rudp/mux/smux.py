"""
smux, versions 1 and 2, the multiplexer of kcptun: many streams over the stream of one
session (C{kcp.md} section 7).

L{SmuxEngine} is an engine around an engine. The inner session is made as it always is, for
instance a KCP session in stream mode; its one stream carries the frames.

Version 1 has one window for all streams: one that nobody reads stops the others. Version 2
has one for each besides.

Two ends of twisted_rudp add to version 2 what smux lacks (C{mux.md} section 2): stream 0, which
is there from the start and carries what the ends tell each other, resets, and windows that are
reserved before they are told, so that no stream can stop another.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from struct import Struct
from typing import Any, Final, Protocol

from twisted_rudp.core.engine import (
    MILLISECOND,
    SECOND,
    Address,
    Buffer,
    Capability,
    Emit,
    Engine,
    Event,
    Key,
    PathError,
    Reason,
    configurable,
    copying,
)
from twisted_rudp.core.lifecycle import Role
from twisted_rudp.core.queues import ByteQueue
from twisted_rudp.core.recovery import MOST_COPIED
from twisted_rudp.core.timers import NEVER
from twisted_rudp.messages import Delivery, Message
from twisted_rudp.mux.qpp import Pads

_HEADER: Final = Struct("<BBHI")
HEADER_SIZE: Final = 8
_UPDATE: Final = Struct("<II")
LONGEST_PAYLOAD: Final = 65535

MASK32: Final = 0xFFFFFFFF

INITIAL_WINDOW: Final = 262144
"""What a sender of version 2 takes for the peer's window before it has heard of it."""

EXTENDED_WINDOW: Final = 65536
"""The same between two ends of twisted_rudp."""

GROWTH: Final = 4
"""A window grows by at most this fraction of what is left for all."""

GROWTH_TRIPS: Final = 4
GROWTH_TIME: Final = 20 * MILLISECOND
"""
A window doubles when half of it was read for the first time, or within so many round trips, or
this time: up to eight times what a stream carries in a round trip. With less the peer's start-up
would meet it. A stream that carries little gets no more, for all that is reserved is missing for
the others.
"""

MOST_STREAMS: Final = 1024
"""Streams that a peer may have open at one time. A further one is ended at once."""

_SNAPPY: Final = 0xFF
"""With this begins what an end that compresses sends."""

MOST_ANSWERS: Final = 1 << 18
"""Bytes that may wait in the inner session when a peer does what has to be answered."""

_LAST_ID: Final = MASK32 - 1
_CARRIER: Final = 0
"""The one stream of the inner session."""

_CHUNK: Final = 65536
_CODED_CHUNK: Final = 8192
_MOST_TAKEN: Final = 131072
_MOST_CODED: Final = 32768
"""
Bytes that are taken from the inner session at once, and in one turn. Where they are expanded it
is less: 1400 bytes may become four thousand frames, or need a hundred calls for nothing.
"""

_MOST_FRAMES: Final = 1024
"""Frames that are processed in one turn; other sessions wait meanwhile."""

_LEAST_AHEAD: Final = 2048
_MOST_AHEAD: Final = 65536
"""
Bytes of frames that may wait in the inner session. What waits there cannot be interleaved any
more, and a new stream stands behind it, so it is about twice what one flush sends. With less,
sessions take the application for idle and send short segments. The most is one run.
"""

DRAIN_TIMEOUT: Final = 30 * SECOND
"""A close that makes no progress for so long is given up."""


class Command(IntEnum):
    """The second byte of a frame."""

    SYN = 0
    FIN = 1
    PSH = 2
    NOP = 3
    UPD = 4
    RST = 5


class SmuxError(ValueError):
    """The peer does not speak this version of smux, or breaks its rules."""


class Frame:
    """
    One frame.

    @ivar version: 1 or 2.
    @ivar command: see L{Command}.
    @ivar stream: its number; 0 for L{Command.NOP}.
    @ivar payload: at most 65535 bytes.
    """

    __slots__ = ("command", "payload", "stream", "version")

    def __init__(self, version: int, command: int, stream: int, payload: bytes = b"") -> None:
        self.version = version
        self.command = command
        self.stream = stream
        self.payload = payload


def pack(version: int, command: int, stream: int, payload: bytes = b"") -> bytes:
    """The bytes of a frame."""
    return _HEADER.pack(version, command, len(payload), stream) + payload


def pack_update(stream: int, consumed: int, window: int) -> bytes:
    """The frame of version 2 that tells what was read so far, and the window."""
    return pack(2, Command.UPD, stream, _UPDATE.pack(consumed & MASK32, window))


class FrameReader:
    """
    Finds frames in a stream that comes in pieces. It keeps one that is incomplete, and those that
    were not asked for yet.
    """

    __slots__ = ("_buffer", "_extended", "_last", "_version")

    def __init__(self, version: int, extended: bool = False) -> None:
        """
        @param version: the only one that is accepted.
        @param extended: the peer is a twisted_rudp too.
        """
        self._version = version
        self._extended = extended
        self._last = Command.RST if extended else Command.UPD if version == 2 else Command.NOP
        self._buffer = bytearray()

    def feed(self, data: bytes, most: int = _CHUNK) -> Iterator[Frame]:
        """
        The frames that are complete by now, so many at most. They have to be taken to the end.

        @raise SmuxError: what came is none; nothing after it can be understood.
        """
        buffer = self._buffer
        buffer += data
        start, length = 0, len(buffer)
        try:
            while length - start >= HEADER_SIZE and most:
                version, command, size, stream = _HEADER.unpack_from(buffer, start)
                self._check(version, command, size)
                end = start + HEADER_SIZE + size
                if length < end:
                    break
                yield Frame(version, command, stream, bytes(buffer[start + HEADER_SIZE : end]))
                start = end
                most -= 1
        finally:
            del buffer[:start]

    def _check(self, version: int, command: int, size: int) -> None:
        if version != self._version and self._extended:
            raise SmuxError("the peer does not multiplex as this end does")
        if version != self._version:
            if version == _SNAPPY:
                raise SmuxError("the peer compresses: set nocomp alike at both ends")
            raise SmuxError(
                f"the peer speaks smux version {version}, this end {self._version}:"
                " set smuxver, key, crypt and nocomp alike at both ends"
            )
        if command > self._last:
            raise SmuxError(f"command {command} is none of smux version {version}")
        if command == Command.UPD:
            if size != _UPDATE.size:
                raise SmuxError(f"a window update of {size} bytes")
        elif size and command != Command.PSH:
            raise SmuxError(f"{Command(command).name} with {size} bytes")


@dataclass(frozen=True)
class SmuxSettings:
    """
    How one end of a session speaks smux. The defaults are those of kcptun.

    @ivar version: 1 or 2, the same at both ends.
    @ivar frame_size: most bytes in one frame that is sent.
    @ivar receive_buffer: bytes that all streams together may hold unread.
    @ivar stream_buffer: bytes that one stream may hold unread, with version 2.
    @ivar keepalive: nanoseconds between two frames that say nothing but that this end is
        there.
    @ivar timeout: nanoseconds without a frame after which the peer counts as gone.
    @ivar extended: the peer is a twisted_rudp too; with version 2 only.
    """

    version: int = 2
    frame_size: int = 8192
    receive_buffer: int = 4 << 20
    stream_buffer: int = 2 << 20
    keepalive: int = 10 * SECOND
    timeout: int = 30 * SECOND
    extended: bool = False

    def __post_init__(self) -> None:
        """
        @raise ValueError: a value outside its range.
        """
        if self.version not in (1, 2):
            raise ValueError(f"smuxver={self.version!r} is invalid: there are 1 and 2")
        if self.extended and self.version != 2:
            raise ValueError("extended=True is invalid with smuxver=1")
        if not 1 <= self.frame_size <= LONGEST_PAYLOAD:
            raise ValueError(
                f"framesize={self.frame_size!r} is invalid: expected 1 to {LONGEST_PAYLOAD}"
            )
        if not 0 < self.stream_buffer <= self.receive_buffer <= 1 << 30:
            raise ValueError(
                f"streambuf={self.stream_buffer!r} is invalid: expected 1 to smuxbuf,"
                f" which is {self.receive_buffer!r} and at most {1 << 30}"
            )
        if not 0 < self.keepalive <= self.timeout:
            raise ValueError(
                f"keepalive of {self.keepalive / SECOND:g} s is invalid: expected more than 0"
                f" and at most the time-out of {self.timeout / SECOND:g} s"
            )


class WindowBudget:
    """
    What the streams of all sessions of a socket may hold unread, between ends of twisted_rudp.

    @ivar free: bytes that no window has reserved.
    """

    __slots__ = ("free",)

    def __init__(self, limit: int) -> None:
        self.free = limit


class Codec(Protocol):
    """What stands between the frames and the inner session: compression."""

    def encode(self, data: bytes) -> bytes:
        """What goes to the peer for whole frames."""

    def decode(self, data: bytes) -> bytes:
        """
        What came, cut anywhere.

        @raise ValueError: it means nothing.
        """


class _Stream:
    """
    One stream.

    @ivar outgoing: written and not yet in a frame.
    @ivar incoming: received and not yet read.
    @ivar written: bytes put into frames so far.
    @ivar consumed: bytes the peer has read, as it told.
    @ivar window: the peer's window, as it told.
    @ivar granted: our window, as the peer was told.
    @ivar stopped: the peer has ended its half and does not take what is written.
    @ivar read: bytes read here so far.
    @ivar told: what L{read} was when the peer was told.
    @ivar told_at: when that was; 0: it was told nothing yet.
    @ivar fin_asked: our half ends after what was written.
    @ivar fin_sent: our end of stream is in a frame.
    @ivar fin_offset: how much had been given to the inner session then.
    @ivar fin_received: the peer's half has ended.
    @ivar end_told: its end was told.
    @ivar flushed: that all of ours has left was told.
    @ivar queued: it waits for its turn to send.
    @ivar encode: what becomes of bytes that are written.
    @ivar decode: the inverse, for bytes that have come.
    """

    __slots__ = (
        "consumed",
        "decode",
        "encode",
        "end_told",
        "fin_asked",
        "fin_offset",
        "fin_received",
        "fin_sent",
        "flushed",
        "granted",
        "incoming",
        "outgoing",
        "queued",
        "read",
        "stopped",
        "told",
        "told_at",
        "window",
        "written",
    )

    def __init__(self, pads: Pads | None, window: int, granted: int) -> None:
        """
        @param window: what may be sent before the peer has told a window.
        @param granted: what the peer may send.
        """
        self.encode: Callable[[bytes], bytes] = _as_it_is
        self.decode: Callable[[bytes], bytes] = _as_it_is
        if pads is not None:
            self.encode, self.decode = pads.encoder(), pads.decoder()
        self.outgoing = ByteQueue()
        self.incoming = ByteQueue()
        self.written = 0
        self.consumed = 0
        self.window = window
        self.granted = granted
        self.stopped = False
        self.read = 0
        self.told = 0
        self.told_at = 0
        self.fin_asked = False
        self.fin_sent = False
        self.fin_offset = 0
        self.fin_received = False
        self.end_told = False
        self.flushed = False
        self.queued = False


def _as_it_is(data: bytes) -> bytes:
    return data


class _State(Enum):
    """Where the layer is in its life; the inner session has its own."""

    OPEN = "carrying streams"
    DRAINING = "close asked; what was written is being put into frames"
    CLOSED = "the inner session was asked to end, or has ended"


class SmuxEngine:
    """
    See the module.

    Stream 0 stands for the session itself, and ends with it. It carries bytes between two ends
    of twisted_rudp only.
    """

    __slots__ = (
        "_ahead",
        "_behind",
        "_budget",
        "_close_at",
        "_codec",
        "_connected",
        "_copying",
        "_counters",
        "_detail",
        "_events",
        "_failed",
        "_fresh",
        "_given",
        "_heard",
        "_inner",
        "_keepalive_at",
        "_leaving",
        "_left",
        "_next_id",
        "_pads",
        "_readable",
        "_reader",
        "_ready",
        "_reserved",
        "_role",
        "_room",
        "_settings",
        "_state",
        "_streams",
        "_timeout_at",
        "_updates",
    )

    def __init__(
        self, inner: Engine, role: Role, settings: SmuxSettings, now: int,
        codec: Codec | None = None, pads: Pads | None = None,
        budget: WindowBudget | None = None,
    ) -> None:  # fmt: skip
        """
        @param inner: a session whose stream 0 carries bytes, made just now.
        @param role: decides which numbers streams of this end have.
        @param codec: None: frames are sent as they are.
        @param pads: scrambles what streams carry; None: it is sent as it is.
        @param budget: of the socket; None: this session has its own.
        """
        self._inner = inner
        self._copying = copying(inner)
        self._role = role
        self._settings = settings
        self._codec = codec
        self._reader = FrameReader(settings.version, settings.extended)
        self._streams: dict[int, _Stream] = {}
        self._budget = budget or WindowBudget(settings.receive_buffer)
        self._reserved = 0
        self._next_id = 3 if role is Role.CLIENT else 2
        # Streams that send get turns, one frame each. Those that had nothing to send before
        # go first, once: then they are among the others until their turn finds nothing.
        self._fresh: deque[int] = deque()
        self._ready: deque[int] = deque()
        self._ahead = _LEAST_AHEAD
        self._updates: dict[int, None] = {}
        self._events: list[tuple[Any, ...]] = []
        self._counters: Counter[str] = Counter()
        self._room = settings.receive_buffer
        self._given = 0
        self._left = 0
        # Streams whose end is in a frame that has not left yet.
        self._leaving: dict[int, None] = {}
        self._heard = False
        # The turn has ended before all frames were processed that have come.
        self._behind = False
        self._connected = False
        self._state = _State.OPEN
        self._failed: Reason | None = None
        self._detail: str | None = None
        self._readable: dict[int, None] = {}
        self._pads = pads
        self._keepalive_at = now + settings.keepalive
        self._timeout_at = now + settings.timeout
        self._close_at = NEVER
        if settings.extended:
            self._new_stream(_CARRIER)

    # what the inner session knows

    @property
    def inner(self) -> Engine:
        """The session that carries the frames."""
        return self._inner

    @property
    def capabilities(self) -> Capability:
        return Capability.BYTES | Capability.STREAMS | Capability.HALF_CLOSE | (
            self._inner.capabilities & ~Capability.MESSAGES
        )

    @property
    def validated(self) -> bool:
        return self._inner.validated

    @property
    def closed(self) -> bool:
        return self._inner.closed

    @property
    def round_trip(self) -> int:
        return self._inner.round_trip

    def keys(self) -> Sequence[Key]:
        return self._inner.keys()

    def path_error(self, kind: PathError, size: int, address: Address, now: int) -> None:
        self._inner.path_error(kind, size, address, now)

    def configure(self, changes: Mapping[str, Any], now: int) -> None:
        """
        Settings of the inner session.

        @raise ValueError: it has none, or not these.
        """
        inner = configurable(self._inner)
        if inner is None:
            raise ValueError("this transport has no settings that can be changed")
        inner.configure(changes, now)

    # time

    def deadline(self) -> int | None:
        inner = self._inner.deadline()
        if self._state is _State.CLOSED:
            return inner
        if self._behind:
            return 0
        own = min(self._keepalive_at, self._timeout_at, self._close_at)
        return own if inner is None or own < inner else inner

    def tick(self, now: int) -> None:
        self._inner.tick(now)
        if self._behind:
            self._pump(now)
        if self._state is _State.CLOSED:
            return
        settings = self._settings
        # A carrier of KCP's takes frames from the start, and kcptun speaks at once.
        speaking = self._connected or not settings.extended
        if now >= self._keepalive_at:
            self._keepalive_at = now + settings.keepalive
            if speaking:
                self._give(pack(settings.version, Command.NOP, 0))
        if now >= self._close_at:
            self._fail(Reason.CLOSE_TIMEOUT, None, now)
            return
        if now >= self._timeout_at:
            # If this process was stopped, the peer's may have been, too.
            stopped = now >= self._timeout_at + settings.keepalive
            self._timeout_at = now + settings.timeout
            if speaking and not self._heard and self._room > 0 and not stopped:
                detail = "no frame of smux came for too long"
                if not self._counters["frames_in"] and not settings.extended:
                    detail = (
                        "nothing ever came of smux: set key, crypt, nocomp and smuxver alike at"
                        " both ends"
                    )
                self._fail(Reason.IDLE, detail, now)
                return
            self._heard = False

    # wire -> application

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        self._inner.receive(run, size, address, now)
        self._pump(now)

    def _pump(self, now: int) -> None:
        """Take from the inner session what there is room for, as much as a turn has time for."""
        behind, self._behind = self._behind, False
        if self._state is _State.CLOSED:
            return
        inner, codec, counters = self._inner, self._codec, self._counters
        left = _MOST_TAKEN if codec is None else _MOST_CODED
        last = counters["frames_in"] + _MOST_FRAMES
        try:
            if behind:
                self._process(b"", last)
            while self._room > 0 and not self._behind:
                data = inner.take(_CARRIER, _CHUNK if codec is None else _CODED_CHUNK)
                if not data:
                    break
                self._heard = True
                left -= len(data)
                self._process(data if codec is None else codec.decode(data), last)
                self._behind = self._behind or (left <= 0 and inner.unread(_CARRIER) > 0)
        except ValueError as problem:
            counters["frames_malformed"] += 1
            self._fail(Reason.PROTOCOL, str(problem), now)

    def _process(self, data: bytes, last: int) -> None:
        """Process the frames in what has come, but none beyond the number C{last}."""
        counters = self._counters
        for frame in self._reader.feed(data, last - counters["frames_in"]):
            self._frame(frame)
        self._behind = counters["frames_in"] >= last

    def _frame(self, frame: Frame) -> None:
        command, number = frame.command, frame.stream
        self._counters["frames_in"] += 1
        if command == Command.NOP:
            return
        stream = self._streams.get(number)
        if command == Command.SYN:
            if stream is None:
                self._opened(number)
            return
        if stream is None:
            # Of a stream that this end has closed already.
            self._counters["frames_unknown"] += 1
            if self._settings.extended and frame.payload and command == Command.PSH:
                self._answer(pack(2, Command.RST, number))
            return
        if command == Command.PSH:
            self._data(number, stream, frame.payload)
        elif number == _CARRIER and command != Command.UPD:
            raise SmuxError("stream 0 ends with its session only")
        elif command == Command.RST:
            self._given_up(number, stream)
        elif command == Command.FIN:
            if not stream.fin_received:
                stream.fin_received = True
                self._see_end(number, stream)
        else:
            self._updated(number, stream, frame.payload)

    def _opened(self, number: int) -> None:
        """The peer has opened a stream."""
        theirs = 0 if self._role is Role.CLIENT else 1
        if number == 0 or number % 2 != theirs or self._state is not _State.OPEN:
            self._counters["streams_refused"] += 1
            return
        if len(self._streams) >= MOST_STREAMS or not self._new_stream(number):
            self._counters["streams_refused"] += 1
            self._answer(pack(self._settings.version, self._give_up, number))
            return
        self._counters["streams_accepted"] += 1
        self._events.append((Event.STREAM_OPENED, number))

    def _answer(self, frame: bytes) -> None:
        """
        Hand over a frame that the peer has caused.

        @raise SmuxError: it causes more of them than it takes.
        """
        if self._inner.unsent(_CARRIER) > MOST_ANSWERS:
            raise SmuxError("the peer does not take the answers to its frames")
        self._give(frame)

    @property
    def _give_up(self) -> Command:
        """The command that tells the peer that a stream was given up."""
        return Command.RST if self._settings.extended else Command.FIN

    def _new_stream(self, number: int) -> bool:
        """
        Enter a stream, with its windows.

        @return: False if nothing is left for another one to hold unread.
        """
        settings = self._settings
        if not settings.extended:
            granted = settings.stream_buffer
            self._streams[number] = _Stream(self._pads, INITIAL_WINDOW, granted)
            return True
        budget = self._budget
        if budget.free < EXTENDED_WINDOW:
            return False
        budget.free -= EXTENDED_WINDOW
        self._reserved += EXTENDED_WINDOW
        pads = self._pads if number != _CARRIER else None
        self._streams[number] = _Stream(pads, EXTENDED_WINDOW, EXTENDED_WINDOW)
        return True

    def _grow(self, stream: _Stream, now: int) -> int:
        """
        Reserve more for a stream whose window is read quickly.

        @return: its window.
        """
        settings, budget = self._settings, self._budget
        since, stream.told_at = now - (stream.told_at or now), now
        quickly = since < max(GROWTH_TRIPS * self._inner.round_trip, GROWTH_TIME)
        if quickly and settings.extended and stream.granted < settings.stream_buffer:
            more = min(
                stream.granted,
                settings.stream_buffer - stream.granted,
                (settings.receive_buffer - self._reserved) // GROWTH,
                budget.free // GROWTH,
            )
            if more > 0:
                stream.granted += more
                self._reserved += more
                budget.free -= more
        return stream.granted

    def _drop(self, number: int) -> _Stream | None:
        """A stream is no more, and what it reserved is free."""
        stream = self._streams.pop(number, None)
        if stream is not None and self._settings.extended:
            self._reserved -= stream.granted
            self._budget.free += stream.granted
        return stream

    def _given_up(self, number: int, stream: _Stream) -> None:
        """
        The peer has given a stream up. After the end of its half that is its answer to what
        was written here; what it wrote before is still to be read.
        """
        if not stream.fin_received:
            self._drop(number)
            self._room += stream.incoming.size
            self._events.append((Event.STREAM_RESET, number, 0))
            return
        stream.stopped = True
        stream.outgoing = ByteQueue()
        self._see_stopped(number, stream)

    def _see_stopped(self, number: int, stream: _Stream) -> None:
        """Tell of a reset when all before it was read."""
        if stream.stopped and stream.end_told:
            self._drop(number)
            self._events.append((Event.STREAM_RESET, number, 0))

    def _data(self, number: int, stream: _Stream, payload: bytes) -> None:
        if not payload:
            return
        if stream.fin_received:
            self._counters["frames_unknown"] += 1
            return
        size = len(payload)
        if self._settings.version == 2:
            most = stream.granted
            if not self._settings.extended:
                most = max(INITIAL_WINDOW, most) + LONGEST_PAYLOAD
            if stream.incoming.size + size > most:
                raise SmuxError(f"more data on stream {number} than its window takes")
        stream.incoming.append(stream.decode(payload))
        self._room -= size
        self._readable[number] = None

    def _updated(self, number: int, stream: _Stream, payload: bytes) -> None:
        consumed, window = _UPDATE.unpack(payload)
        outstanding = (stream.written - consumed) & MASK32
        if outstanding >= 1 << 31:
            raise SmuxError(f"stream {number}: more was read than was sent")
        stream.consumed, stream.window = consumed, window
        self._mark_ready(number, stream)

    def _see_end(self, number: int, stream: _Stream) -> None:
        """Tell the peer's end of stream when all before it was read."""
        if stream.fin_received and not stream.incoming.size and not stream.end_told:
            stream.end_told = True
            self._events.append((Event.STREAM_ENDED, number))
            self._see_stopped(number, stream)
            self._forget_if_over(number, stream)

    def unread(self, stream: int = 0) -> int:
        known = self._streams.get(stream)
        return 0 if known is None else known.incoming.size

    def take(self, stream: int, limit: int) -> bytes:
        known = self._streams.get(stream)
        if known is None or not known.incoming.size:
            return b""
        data = bytes(known.incoming.take(limit))
        self._returned(stream, known, len(data))
        self._see_end(stream, known)
        return data

    def _returned(self, number: int, stream: _Stream, size: int) -> None:
        """So much was read, and the window opens by it."""
        self._room += size
        stream.read += size
        if self._settings.version == 2 and not stream.fin_received:
            # A peer of kcptun may have a smaller window in mind than there is.
            first = stream.told == 0 and not self._settings.extended
            if first or stream.read - stream.told >= stream.granted // 2:
                stream.told = stream.read
                self._updates[number] = None

    def take_messages(self) -> Iterator[Message]:
        return iter(())

    # application -> wire

    def write(self, stream: int, data: bytes) -> None:
        """
        @raise ValueError: stream 0 carries no bytes, or there is no such stream.
        """
        known = self._streams.get(stream)
        if known is None and self._settings.extended:
            # The peer has given it up, and its transport is not told yet.
            return
        if known is not None and known.stopped:
            return
        if known is None or known.fin_asked:
            raise ValueError(f"stream {stream} is not open for writing")
        known.outgoing.append(known.encode(data))
        if stream == _CARRIER:
            # Control goes before what the streams send.
            while self._send_one(stream, known):
                pass
        self._mark_ready(stream, known)

    def send(
        self,
        data: bytes,
        delivery: Delivery = Delivery.RELIABLE_ORDERED,
        channel: int = 0,
        priority: int = 0,
        receipt: bool = False,
    ) -> int | None:
        """
        @raise ValueError: smux carries no messages.
        """
        raise ValueError("smux carries streams, not messages")

    def unsent(self, stream: int = 0) -> int:
        known = self._streams.get(stream)
        return 0 if known is None else known.outgoing.size

    def open_stream(self) -> int:
        """
        @raise RuntimeError: all numbers were used, or too many streams are open.
        """
        if self._next_id > _LAST_ID:
            raise RuntimeError("this session has used all its stream numbers: open another one")
        if len(self._streams) >= MOST_STREAMS:
            raise RuntimeError(f"{MOST_STREAMS} streams are open already")
        number = self._next_id
        if not self._new_stream(number):
            raise RuntimeError("the streams of this endpoint may hold no more")
        self._next_id += 2
        self._counters["streams_opened"] += 1
        # The peer may have to speak first, so it hears of the stream at once.
        self._give(pack(self._settings.version, Command.SYN, number), HEADER_SIZE)
        return number

    def close_stream(self, stream: int) -> None:
        known = self._streams.get(stream)
        if known is not None and not known.fin_asked and stream != _CARRIER:
            known.fin_asked = True
            self._mark_ready(stream, known)

    def reset_stream(self, stream: int, code: int = 0) -> None:
        known = self._streams.get(stream)
        self.discard_stream(stream)
        # Without extensions an end says the same.
        if known is not None and (self._settings.extended or not known.fin_sent):
            self._give(pack(self._settings.version, self._give_up, stream))

    def discard_stream(self, stream: int) -> None:
        known = self._drop(stream)
        if known is not None:
            self._room += known.incoming.size
            self._updates.pop(stream, None)

    def _mark_ready(self, number: int, stream: _Stream) -> None:
        """The stream may have something to send."""
        if not stream.queued and not stream.fin_sent:
            stream.queued = True
            self._fresh.append(number)

    def _give(self, frames: bytes, awaited: int = 0) -> None:
        """
        Hand frames to the inner session.

        @param awaited: so many bytes of them are the beginning of a stream, in this direction.
            Somebody waits for it, and nothing may follow soon by which a loss would show.
        """
        if self._state is _State.CLOSED:
            return
        self._counters["frames_out"] += 1
        if self._codec is not None:
            frames = self._codec.encode(frames)
        if awaited > 0 and self._copying is not None:
            self._copying.copy_next(min(len(frames), awaited))
        self._inner.write(_CARRIER, frames)
        self._given += len(frames)

    def flush(self, now: int, emit: Emit, budget: int) -> bool:
        self._pump(now)
        for number in self._updates:
            stream = self._streams.get(number)
            if stream is not None:
                self._give(pack_update(number, stream.read, self._grow(stream, now)))
        self._updates.clear()
        sent = 0

        def counting(run: Buffer, size: int, address: Address) -> bool:
            nonlocal sent
            sent += len(run)
            return emit(run, size, address)

        inner = self._inner
        start = self._given - inner.unsent(_CARRIER)
        while True:
            added = self._fill()
            before = sent
            more = inner.flush(now, counting, budget - sent)
            if more or sent >= budget or sent == before or not added:
                break
            if not inner.unsent(_CARRIER):
                self._ahead = min(2 * self._ahead, _MOST_AHEAD)
        waits = inner.unsent(_CARRIER)
        if waits:
            took = self._given - waits - start
            ahead = max(2 * took, self._ahead - self._ahead // 4, _LEAST_AHEAD)
            self._ahead = min(ahead, _MOST_AHEAD)
        if self._after_flush(now):
            # The end of the inner session leaves now: nothing else would have it sent.
            more = inner.flush(now, counting, max(budget - sent, 0)) or more
        return more or (sent >= budget and waits < self._ahead and self._sending)

    def _fill(self) -> bool:
        """
        Put the streams' data into frames, one frame of each in turn, as much as may wait in
        the inner session.

        @return: there was something.
        """
        if self._state is _State.CLOSED:
            return False
        inner, fresh, ready = self._inner, self._fresh, self._ready
        added = False
        while (fresh or ready) and inner.unsent(_CARRIER) < self._ahead:
            number = fresh.popleft() if fresh else ready.popleft()
            stream = self._streams.get(number)
            if stream is None:
                continue
            if self._send_one(number, stream):
                added = True
                ready.append(number)
            else:
                stream.queued = False
        return added

    @property
    def _sending(self) -> bool:
        """Streams wait for their turn."""
        return bool(self._fresh or self._ready)

    def _send_one(self, number: int, stream: _Stream) -> bool:
        """
        Put one frame of a stream on its way.

        @return: there was one, and perhaps there is another.
        """
        version = self._settings.version
        size = min(stream.outgoing.size, self._settings.frame_size, self._ahead)
        if size and version == 2:
            outstanding = (stream.written - stream.consumed) & MASK32
            size = min(size, max(stream.window - outstanding, 0))
        if size:
            data = bytes(stream.outgoing.take(size))
            # An address, a request and its body may come one by one.
            left = MOST_COPIED - stream.written
            stream.written += len(data)
            awaited = HEADER_SIZE + left if left > 0 else 0
            self._give(pack(version, Command.PSH, number, data), awaited)
            return True
        if stream.fin_asked and not stream.outgoing.size and not stream.fin_sent:
            stream.fin_sent = True
            self._give(pack(version, Command.FIN, number))
            stream.fin_offset = self._given
            self._leaving[number] = None
            self._forget_if_over(number, stream)
        return False

    def _after_flush(self, now: int) -> bool:
        """
        Tell whose end has left, and go on with a close.

        @return: the inner session was closed.
        """
        left = self._given - self._inner.unsent(_CARRIER)
        for number in tuple(self._leaving):
            stream = self._streams.get(number)
            if stream is None:
                del self._leaving[number]
            elif left >= stream.fin_offset:
                del self._leaving[number]
                stream.flushed = True
                self._events.append((Event.STREAM_FLUSHED, number))
                self._forget_if_over(number, stream)
        if self._state is _State.DRAINING:
            if left != self._left:
                self._left = left
                self._close_at = now + DRAIN_TIMEOUT
            waiting = any(stream.outgoing.size for stream in self._streams.values())
            if not waiting and not self._sending:
                self._state = _State.CLOSED
                self._inner.close(now)
                return True
        return False

    def _forget_if_over(self, number: int, stream: _Stream) -> None:
        """A stream whose halves both have ended, and are told, is no more."""
        if stream.flushed and stream.end_told:
            self._drop(number)

    # life

    def close(self, now: int) -> None:
        if self._state is not _State.OPEN:
            return
        self._state = _State.DRAINING
        self._close_at = now + DRAIN_TIMEOUT
        for number in list(self._streams):
            self.close_stream(number)

    def abort(self, now: int) -> None:
        self._state = _State.CLOSED
        self._inner.abort(now)

    def _fail(self, reason: Reason, detail: str | None, now: int) -> None:
        """End the session for a reason of this layer's own."""
        self._state = _State.CLOSED
        self._behind = False
        self._detail = detail
        self._failed = reason
        self._inner.abort(now)

    @property
    def pending(self) -> Collection[object]:
        return self._inner.pending or self._events or self._readable

    def events(self) -> Sequence[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        last: list[tuple[Any, ...]] = []
        for event in self._inner.events():
            kind = event[0]
            if kind == Event.CONNECTED:
                self._connected = True
                found.append(event)
            elif kind == Event.ENDED:
                self._state = _State.CLOSED
                if self._failed is not None:
                    event = (Event.ENDED, self._failed, self._detail)
                self._release()
                last.append(event)
            elif kind == Event.STREAM_ENDED:
                # The peer has ended the session in order, and all its streams with it.
                for number, stream in list(self._streams.items()):
                    if number != _CARRIER:
                        stream.fin_received = True
                        self._see_end(number, stream)
                last.append(event)
            elif kind in (Event.PATH, Event.KEYS):
                found.append(event)
        if self._connected:
            # A stream may come with the datagram that opens the session.
            found += self._events
            found += [(Event.READABLE, number) for number in self._readable]
            self._events = []
            self._readable.clear()
        return found + last

    def _release(self) -> None:
        """The session is over: its windows are free."""
        self._budget.free += self._reserved
        self._reserved = 0
        for stream in self._streams.values():
            stream.granted = 0

    # state, read from outside

    def counters(self) -> Mapping[str, int]:
        return {**self._inner.counters(), **self._counters}

    def facts(self) -> Mapping[str, Any]:
        return {
            **self._inner.facts(),
            "multiplexer": f"smux {self._settings.version}",
            "streams": len(self._streams) - self._settings.extended,
            "compressed": self._codec is not None,
        }
