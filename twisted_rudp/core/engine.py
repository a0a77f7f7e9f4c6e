"""
The contract between transports and the network: a L{Demultiplexer} per socket, an
L{Engine} per session.

Both are values: they do no I/O, read no clock, draw no randomness that was not
given to them and call nobody back. C{net/} drives them::

    socket -> run -> Demultiplexer.open -> key -> Engine.receive -> Engine.take -> protocol
    protocol -> Engine.write -> end of turn -> Engine.flush -> Demultiplexer.seal -> run -> socket

Words used throughout:

  - A I{run} is C{(buffer, size)}: datagrams of C{size} bytes each, back to
    back; only the last may be shorter. One datagram is a run of one.
  - I{Time} is integer nanoseconds of one monotonic clock, always passed in. A
    transport that counts otherwise converts at its own edge.
  - An I{address} is the raw tuple of the socket module, C{(host, port)} or
    C{(host, port, flow, scope)}.
  - A I{key} names a session among those of one socket. What it is made of is
    the transport's business; here it is only hashable.

Rules both sides may rely on:

  - A buffer given to C{open}, C{seal}, C{receive} or C{emit} is valid during
    that call only. Whoever keeps bytes copies them.
  - Local misuse (writing after C{close}) raises. What a remote peer does wrong
    is a counter and perhaps an event, never an exception.
  - Nobody is called back: what happened is asked for with L{Engine.events}.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from enum import Enum, Flag, IntEnum, auto
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from twisted_rudp.messages import Delivery, Message

Address: TypeAlias = tuple[Any, ...]
Buffer: TypeAlias = bytes | bytearray | memoryview
Key: TypeAlias = Hashable
Emit: TypeAlias = Callable[[Buffer, int, Address], bool]

MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000 * MILLISECOND

CLOCK_PERIOD: Final = 10 * SECOND
"""Engines' time 0 is a multiple of this of the host's monotonic clock. So all engines of a host,
those of other ports and programs too, can do something at the same moments."""

AMPLIFICATION: Final = 3
"""
Until an address is proved, this many times what came from it may be sent to it
(RFC 9000 section 8.1 uses the same figure).
"""


class Capability(Flag):
    """
    What an engine can do. C{net/} branches on these, never on a transport's
    name. They may change while the handshake goes on, not afterwards.
    """

    BYTES = auto()
    """C{write} and C{take} on stream 0 carry bytes."""

    MESSAGES = auto()
    """C{send} and C{take_messages} carry messages."""

    STREAMS = auto()
    """C{open_stream} makes more streams than number 0."""

    RECEIVE_WINDOW = auto()
    """What is not taken makes the peer stop. Without it the engine bounds what
    it holds by withholding acknowledgements."""

    ORDERLY_CLOSE = auto()
    """The peer is told of the end, and its end is heard."""

    HALF_CLOSE = auto()
    """One direction may end while the other goes on."""

    NEEDS_IDLE_TIMEOUT = auto()
    """A peer that is gone shows in nothing but its silence."""


class Event(IntEnum):
    """
    First element of the tuples from L{Engine.events}. Only changes of state are
    events; what happens per packet is not.
    """

    CONNECTED = 0
    """C{(CONNECTED, early)}. The peer is there and may be given to a factory. Nothing
    but C{KEYS}, C{PATH} and C{ENDED} comes before; what arrived with the opening is
    told of behind it.
    C{early}: what it says may be a replay (0-RTT)."""

    READABLE = 1
    """C{(READABLE, stream)}. There is something to take; C{stream} is None for
    messages. Given once per C{receive} that made it so, and not repeated for
    what the owner leaves."""

    STREAM_OPENED = 2
    """C{(STREAM_OPENED, stream)}. The peer opened a stream."""

    STREAM_ENDED = 3
    """C{(STREAM_ENDED, stream)}. The peer's end of stream; comes after the last
    byte before it was taken."""

    STREAM_FLUSHED = 4
    """C{(STREAM_FLUSHED, stream)}. All we wrote, and our own end of stream where
    the wire has one, is acknowledged."""

    STREAM_RESET = 5
    """C{(STREAM_RESET, stream, code)}. The peer gave this stream up."""

    RECEIPT = 6
    """C{(RECEIPT, receipt, acknowledged)}. The fate of a message sent with a receipt."""

    PATH = 7
    """C{(PATH, address)}. The peer is now reached at this address."""

    KEYS = 8
    """C{(KEYS,)}. L{Engine.keys} answers something else than before."""

    ENDED = 9
    """C{(ENDED, reason, detail)}. The last event. L{Reason} and a text for people, or None."""


STREAM: Final = 0
"""The stream that every connection has that carries bytes."""

# One of each for all sessions.
READABLE_BYTES: Final[tuple[Any, ...]] = (Event.READABLE, STREAM)
READABLE_MESSAGES: Final[tuple[Any, ...]] = (Event.READABLE, None)


class Reason(Enum):
    """
    Why a session ended. C{errors.py} turns each into the failure that Twisted's
    interfaces ask for.
    """

    DONE = "closed in order"
    ABORTED = "aborted on this side"
    RESET = "reset by the peer"
    IDLE = "nothing heard from the peer for too long"
    CLOSE_TIMEOUT = "the peer did not acknowledge the rest in time"
    DEAD_LINK = "the same data was sent too often without an answer"
    FORGOTTEN = "the peer does not know this session any more"
    REFUSED = "the peer's port is closed or it refused the session"
    UNREACHABLE = "no route to the peer"
    HANDSHAKE_TIMEOUT = "no answer from the peer"
    FULL = "the peer takes no more sessions"
    BANNED = "the peer has banned this address"
    VERSION = "the peer speaks another version of the protocol"
    AUTHENTICATION = "the peer could not be authenticated"
    PROTOCOL = "the peer broke the protocol"
    LIMIT = "a resource limit was reached"
    SOCKET_LOST = "the socket was lost"
    INTERNAL = "an error inside this library"


class PathError(IntEnum):
    """What the network says about a datagram sent to an address."""

    TOO_BIG = 0
    """Longer than the path takes (EMSGSIZE). C{size} is the datagram's."""

    REFUSED = 1
    """Nobody listens there (ICMP port unreachable)."""

    UNREACHABLE = 2
    """No route (ENETUNREACH, EHOSTUNREACH, or ICMP says so)."""

    FORBIDDEN = 3
    """A filter on this machine refuses it (EPERM, EACCES)."""


class Engine(Protocol):
    """
    One session.

    Until C{ENDED} has been given by L{events}, everything may be called. After
    it only C{receive}, C{tick}, C{flush} and C{deadline} are, to answer
    what still comes in TIME-WAIT, until L{closed} is true. L{counters} and
    L{facts} may be asked at any time. What stands before C{ENDED} in the same answer
    of L{events} is dealt with first, so C{take} still gives what C{READABLE} named.
    """

    @property
    def capabilities(self) -> Capability: ...

    @property
    def validated(self) -> bool:
        """
        The peer has shown that it receives at its address. Until then the
        C{budget} of L{flush} is kept to what L{AMPLIFICATION} allows.
        """

    @property
    def closed(self) -> bool:
        """Nothing is left to be answered: the hub drops the session."""

    @property
    def round_trip(self) -> int:
        """The round trip as it is estimated now, in nanoseconds; 0 while nothing is known."""

    def keys(self) -> Sequence[Key]:
        """All the keys under which datagrams of this session arrive."""

    # wire -> engine

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        """Process a run that L{Demultiplexer.open} gave for one of our keys."""

    def path_error(self, kind: PathError, size: int, address: Address, now: int) -> None:
        """The network refused a datagram of C{size} bytes (0: not known)."""

    def tick(self, now: int) -> None:
        """Time has reached C{deadline}. Early and repeated calls are harmless."""

    def deadline(self) -> int | None:
        """When C{tick} and then C{flush} want to be called next, or None. O(1)."""

    # application -> wire

    def write(self, stream: int, data: bytes) -> None:
        """Queue bytes for a stream. The engine keeps the reference."""

    def send(
        self,
        data: bytes,
        delivery: Delivery = Delivery.RELIABLE_ORDERED,
        channel: int = 0,
        priority: int = 0,
        receipt: bool = False,
    ) -> int | None:
        """
        Queue a message.

        @return: the receipt that a later C{RECEIPT} event will name, if one was
            asked for.
        @raise ValueError: the wire cannot carry this: too long, empty, or a
            delivery it does not have.
        """

    def unsent(self, stream: int = 0) -> int:
        """
        Bytes queued and not yet admitted to the send window (FLOW-1: what is in
        flight never counts). For messages, of all channels.
        """

    # wire -> application

    def unread(self, stream: int = 0) -> int:
        """Bytes that L{take} (or L{take_messages}) could give now."""

    def take(self, stream: int, limit: int) -> bytes:
        """
        The next bytes of a stream: at most C{limit}, C{b""} when there are none.
        Taking is what opens the window to the peer.
        """

    def take_messages(self) -> Iterator[Message]:
        """
        The messages that wait, each taken when it is asked for. Who stops asking
        leaves the rest, and lets go of the iterator before anything else is done.
        """

    # engine -> wire

    def flush(self, now: int, emit: Emit, budget: int) -> bool:
        """
        Send what can be sent now.

        Each run goes to C{emit} as it is built. C{emit} has always taken the run
        it was given; when it answers False the socket is full: number nothing
        more and return, the next call comes when it is writable.

        @param budget: bytes of UDP payload, demultiplexer's overhead included, that may
            be sent in this call. A strict upper bound while the peer is not
            L{validated}; afterwards the run that crosses it may go out whole.
        @return: True if something could still be sent at once and only the
            budget prevented it.
        """

    @property
    def pending(self) -> Collection[object]:
        """What L{events} may tell: empty if that is nothing. To be looked at only."""

    def events(self) -> Sequence[tuple[Any, ...]]:
        """What changed since the last call, oldest first."""

    # life

    def open_stream(self) -> int:
        """Open a stream; nothing goes on the wire before its first byte."""

    def close_stream(self, stream: int) -> None:
        """
        End our half of a stream after what was written to it; C{STREAM_FLUSHED}
        follows. Where the wire has no end of stream the peer is not told.
        """

    def reset_stream(self, stream: int, code: int = 0) -> None:
        """Give a stream up in both directions, and tell the peer."""

    def discard_stream(self, stream: int) -> None:
        """
        Throw away what still comes of a stream whose own half is delivered, its end included. The
        peer is told when it writes on.
        """

    def close(self, now: int) -> None:
        """
        End in order: what was written is delivered first, what arrives is
        discarded, C{ENDED} follows in bounded time.
        """

    def abort(self, now: int) -> None:
        """
        End now, dropping what was written. The next C{flush} tells the peer, if
        the wire can. C{ENDED} is in the next L{events}, or, where the socket is
        the session's own, some tens of milliseconds later when the peer was told.
        """

    # state, read from outside

    def counters(self) -> Mapping[str, int]:
        """This session's counters under their own names."""

    def facts(self) -> Mapping[str, Any]:
        """
        What a person wants to know: ids, round trip in seconds, windows, cipher.
        Never a secret.
        """


class Configurable(Protocol):
    """What an engine has, besides L{Engine}, if its settings can be changed while it runs."""

    def configure(self, changes: Mapping[str, Any], now: int) -> None:
        """
        @raise ValueError: a name is not known, or a value not possible. Then
            nothing is changed.
        """


def configurable(engine: Engine) -> Configurable | None:
    """
    An engine as one whose settings can be changed, None if it has none.

    A function, because a protocol that C{isinstance} knows does not compile.
    """
    found: Any = engine
    return found if hasattr(found, "configure") else None


class Copying(Protocol):
    """What an engine has, besides L{Engine}, if it can send something again before it is lost."""

    def copy_next(self, size: int) -> None:
        """
        So many bytes of what is written next to stream 0 are few, and somebody waits for them:
        they are sent again soon after they have left.
        """


def copying(engine: Engine) -> Copying | None:
    """An engine as one that can send something again before it is lost, None if it cannot."""
    found: Any = engine
    return found if hasattr(found, "copy_next") else None


class Drop(NamedTuple):
    """An unknown peer's datagram is ignored and counted under C{reason}."""

    reason: str


class Reply(NamedTuple):
    """
    An unknown peer is answered without keeping state. The datagrams are on the wire
    as they are here, and altogether not longer than C{factor} times what was
    received, or the hub drops and counts them.

    @ivar factor: more than L{AMPLIFICATION} only from a demultiplexer that limits how often
        it answers so, where the wire has such answers.
    """

    datagrams: tuple[bytes, ...]
    factor: int = AMPLIFICATION


class Route(NamedTuple):
    """The datagram belongs to the session with this key after all."""

    key: Key


class Admit(NamedTuple):
    """
    A new session. The hub enters it under C{engine.keys()} if its limits allow
    and feeds it the run.

    @ivar replaces: keys of sessions that end silently in favour of this one as
        soon as its address is validated. Before that whoever can forge an address
        could end them.
    """

    engine: Engine
    replaces: tuple[Key, ...] = ()


Verdict: TypeAlias = Drop | Reply | Route | Admit


class SessionTable(Protocol):
    """What a demultiplexer may know of the sessions on its socket."""

    def get(self, key: Key) -> Engine | None:
        """The engine under a key. One that has ended and is not yet forgotten is still here."""

    @property
    def room(self) -> bool:
        """
        Whether one more session would be let in whose address is validated. It competes
        with none that are not, so who asks for a proof of address first asks this.
        """

    @property
    def backlog_room(self) -> bool:
        """Whether one more session would be let in whose address is not validated."""


class Demultiplexer(Protocol):
    """
    What all sessions of one socket share, for listening and for dialling. It
    works without engines: answering pings needs none.
    """

    @property
    def overhead(self) -> int:
        """
        Bytes that L{seal} adds to each datagram, which never changes. With 0 it changes
        nothing and is not called.
        """

    def open(
        self, run: Buffer, size: int, address: Address
    ) -> Sequence[tuple[Key | None, Buffer, int]]:
        """
        Undo L{seal}, drop and count what fails, and cut the run where the key
        changes and only there.

        The key None means: no session's. That is connectionless traffic (also
        from an address that has a session) and whatever names nobody.
        """

    def seal(self, run: Buffer, size: int) -> tuple[Buffer, int]:
        """
        What goes on the wire for a run of an engine. Applied to everything
        emitted, if there is an L{overhead}; L{Reply} and L{tick} make their datagrams
        whole themselves.
        """

    def unknown_peer(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> Verdict:
        """Judge one datagram whose key is None or is in no session."""

    def continues(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> bool:
        """
        Whether a datagram as L{open} gave it, whose key is in no session, goes on with
        what began here: an opening that was answered, or a session whose peer may have
        moved. Asked after a successor has taken the socket over: all else is for that.
        """

    def ended(self, engine: Engine, now: int) -> None:
        """The hub has dropped this session, forgotten or thrown out."""

    def deadline(self) -> int | None:
        """When the half-open table wants L{tick}, or None."""

    def tick(self, now: int) -> Sequence[tuple[bytes, Address]]:
        """
        Let half-open entries lapse.

        @return: datagrams to repeat, with their addresses.
        """

    def counters(self) -> Mapping[str, int]:
        """What was dropped here, by reason."""

    def diagnosis(self) -> str | None:
        """
        What most likely does not fit between the two ends, in one sentence for
        the log; None while there is nothing to say.
        """
