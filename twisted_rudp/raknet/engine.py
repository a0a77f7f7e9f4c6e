"""
One RakNet session as an L{Engine<twisted_rudp.core.engine.Engine>}: what its owner
calls, and whose turn it is. The work is done by parts that share one
L{State<twisted_rudp.raknet.state.State>}::

    Opening   the first requests and the handshake
    Intake    what arrives
    Outflow   what leaves, and in which order
    Pings     signs of life
    Timers    what time brings
    Closing   the end, and what is left behind
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twisted_rudp.core.engine import Address, Buffer, Capability, Emit, Key, PathError, Reason
from twisted_rudp.messages import Delivery, Message
from twisted_rudp.raknet import system
from twisted_rudp.raknet.closing import STREAM, Closing
from twisted_rudp.raknet.intake import Intake
from twisted_rudp.raknet.life import Life, Role
from twisted_rudp.raknet.messages import check_message
from twisted_rudp.raknet.offline import Request2
from twisted_rudp.raknet.opening import Opening
from twisted_rudp.raknet.outflow import Outflow
from twisted_rudp.raknet.packing import Packer
from twisted_rudp.raknet.pings import Pings
from twisted_rudp.raknet.profiles import Settings
from twisted_rudp.raknet.state import State
from twisted_rudp.raknet.timers import Timers
from twisted_rudp.raknet.wire import VALID, ZERO, Starts

# Names of this module: looking a member up in its enumeration costs more than the
# comparison it is for.
_LIVE = Life.LIVE
_OFFLINE = Life.OFFLINE
_PLAIN = Delivery.RELIABLE_ORDERED

_NOTHING: Sequence[tuple[Any, ...]] = ()


class RakNetEngine:
    """A RakNet session."""

    def __init__(
        self,
        address: Address,
        settings: Settings,
        *,
        now: int,
        guid: int,
        epoch: int,
        request: Request2 | None = None,
        validated: bool = False,
        own_socket: bool = False,
        starts: Starts = ZERO,
    ) -> None:
        """
        @param guid: our own, 64 bits.
        @param epoch: what our clock on the wire starts from, in milliseconds;
            random, so that an echo of it proves something.
        @param request: the second request that a listener answers, with the agreed
            MTU in it; None for a dialler.
        @param validated: the request has brought a cookie.
        @param own_socket: the socket serves this session alone and closes with it.
        @param starts: of both sides.
        """
        self._address = address
        self._settings = settings
        self._now = now
        state = State(address, settings, now, guid, epoch, request, validated, starts)
        self._state = state
        self._sender = state.sender
        self._outbox = state.sender.outbox
        self._arrivals = state.arrivals
        self._inbox = state.inbox
        pings = Pings(state)
        self._closing = Closing(state, own_socket)
        self._opening = Opening(state, self._closing, pings, address, now)
        self._intake = Intake(state, self._opening, pings, self._closing, address, now)
        self._outflow = Outflow(state, self._opening, pings)
        self._timers = Timers(state, self._opening, self._closing)

    # what it is

    @property
    def capabilities(self) -> Capability:
        """Bytes or messages; no receive window, no half close."""
        kind = Capability.BYTES if self._settings.stream else Capability.MESSAGES
        return kind | Capability.ORDERLY_CLOSE | Capability.NEEDS_IDLE_TIMEOUT

    @property
    def validated(self) -> bool:
        """By the cookie, or by an echo of our clock."""
        return self._state.handshake.validated

    @property
    def closed(self) -> bool:
        """The tombstone is over too."""
        return self._state.life is Life.FORGOTTEN

    @property
    def over(self) -> bool:
        """The application has been, or will be, told of the end."""
        return self._state.over

    @property
    def unverified(self) -> bool:
        """A listener that has not seen a connection request."""
        return self._opening.unverified

    @property
    def reply2(self) -> bytes:
        """The listener's answer to the second request."""
        return self._opening.reply2

    @property
    def idle_since(self) -> int:
        """When anything was heard of the peer last."""
        return self._state.liveness.heard

    @property
    def in_flight(self) -> int:
        """Bytes of frames sent and not acknowledged."""
        return self._state.flying.bytes

    def keys(self) -> Sequence[Key]:
        """The address; of a listener also the peer's GUID, which may have one session."""
        if self._state.role is Role.DIALLER:
            return (self._address,)
        return (self._address, ("guid", self._state.peer_guid))

    def make_room(self) -> None:
        """The peer wants a new session, so this one means nothing to it any more."""
        self._closing.make_room()

    # wire -> engine

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        """Digest a run."""
        self._now = now
        if not run:
            return
        offline = self._state.life is _OFFLINE
        if not run[0] & VALID:
            if offline:
                self._opening.receive(run, size, now)
        elif self._closing.tombstone is not None:
            self._closing.tombstone.receive(run, size, now)
        elif not offline:
            self._intake.receive(run, size, now)

    def path_error(self, kind: PathError, size: int, address: Address, now: int) -> None:
        """
        A dialler whose peer's port is closed learns it from here; one whose probe is
        too long goes on with the next size. Later errors are left to the timeout:
        they may be transient and, as ICMP, forged.
        """
        if self._state.life is _OFFLINE:
            self._opening.path_error(kind, size, now)
        elif kind is not PathError.TOO_BIG:
            self._state.counters.path_errors_ignored += 1
        elif size:
            self._sender.shrink(size)

    def tick(self, now: int) -> None:
        """See what time has brought."""
        self._now = now
        self._timers.tick(now)

    def deadline(self) -> int | None:
        """The earliest of acknowledgements, repeats, pings, close and idle."""
        return self._timers.deadline()

    # application -> wire

    def write(self, stream: int, data: bytes) -> None:
        """Queue bytes. What follows the peer's last word goes nowhere."""
        self._check_open()
        if self._state.life is _LIVE and not self._state.left:
            self._sender.write(data)

    def send(
        self,
        data: bytes,
        delivery: Delivery = Delivery.RELIABLE_ORDERED,
        channel: int = 0,
        priority: int = 0,
        receipt: bool = False,
    ) -> int | None:
        """
        Queue a message, whose first byte is the application's id: 0x80 and above
        (raknet.md 15), or 0x1b.

        @param channel: 0 to 31. Other implementations than the C++ one know only 0
            (raknet.md 16).
        @param priority: 0 to 3.
        """
        state = self._state
        if (
            delivery is _PLAIN
            and not (channel or receipt)
            and state.life is _LIVE
            and not state.left
            and self._outbox.put_plain(data, priority)
        ):
            return None
        self._check_open()
        check_message(data, delivery, channel, priority)
        number = self._sender.send(data, int(delivery), channel, priority, receipt)
        if state.left or state.life is not _LIVE:
            self._sender.release()
        return number

    def unsent(self, stream: int = STREAM) -> int:
        """Bytes that wait for the window."""
        return self._sender.unsent

    # wire -> application

    def unread(self, stream: int = STREAM) -> int:
        """Bytes that can be taken."""
        return self._inbox.size

    def take(self, stream: int, limit: int) -> bytes:
        """The next bytes in order."""
        data = self._inbox.stream.take(limit)
        if self._arrivals.withholding or self._state.left:
            self._took()
        return data

    def take_messages(self) -> Iterator[Message]:
        """Messages in the order of their delivery."""
        try:
            yield from self._inbox.messages.take()
        finally:
            if self._arrivals.withholding or self._state.left:
                self._took()

    def _took(self) -> None:
        """There may be room again, or nothing left before the peer's end."""
        unread = self._inbox.size
        if unread <= self._settings.receive_buffer // 2:
            self._arrivals.release(self._now)
        if self._state.left and not unread:
            self._closing.tell_end()

    # out

    def flush(self, now: int, emit: Emit, budget: int) -> bool:
        """Send what can be sent now."""
        self._now = now
        state, closing = self._state, self._closing
        packer = Packer(emit, self._address)
        if state.life is _OFFLINE:
            self._opening.flush(now, packer)
            return False
        if state.life is not _LIVE and closing.tombstone is None:
            closing.advance(now)
        if closing.tombstone is not None:
            closing.flush(closing.tombstone, packer)
            return False
        return self._outflow.flush(now, packer, budget)

    def events(self) -> Sequence[tuple[Any, ...]]:
        """What changed."""
        state = self._state
        if not state.events:
            return _NOTHING
        events, state.events = state.events, []
        return events

    # life

    def open_stream(self) -> int:
        """
        @raise ValueError: always; there is stream 0 alone.
        """
        raise ValueError("RakNet has one stream, number 0; it is open from the start")

    def close_stream(self, stream: int) -> None:
        """The wire has no end of stream; what was written goes on its way."""

    def reset_stream(self, stream: int, code: int = 0) -> None:
        """
        @raise ValueError: always; the stream is the session, see L{abort}.
        """
        raise ValueError("RakNet cannot reset its only stream; abort the session")

    def close(self, now: int) -> None:
        """Deliver the rest, then say so (raknet.md 11.3). What arrives is thrown away."""
        self._now = now
        if self._state.life in (Life.OFFLINE, Life.OPENING):
            self.abort(now)
        elif self._state.life is _LIVE:
            self._closing.begin(now)

    def abort(self, now: int) -> None:
        """Drop everything and say so once."""
        if self._state.life is _OFFLINE:
            self._closing.end(Reason.ABORTED, now)
        elif not self._state.over:
            self._closing.end(Reason.ABORTED, now, words=system.ABORTED)

    def _check_open(self) -> None:
        """
        @raise RuntimeError: the owner has closed this, or it is not there yet. That
            it has just ended by itself the owner cannot know.
        """
        life = self._state.life
        if life is not _LIVE and not self._state.over:
            raise RuntimeError(f"the session is not open: {life.value}")

    # state

    def counters(self) -> Mapping[str, int]:
        """This session's counters."""
        return self._state.counters.as_dict()

    def facts(self) -> Mapping[str, Any]:
        """
        Peer, agreed size, round trip, windows. C{latency} is half of what the last
        ping took; C{rtt} is that of acknowledgements, which peers keep back a while.
        """
        return self._state.facts()
