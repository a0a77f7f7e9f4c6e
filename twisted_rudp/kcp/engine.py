"""
One KCP session as an L{Engine<twisted_rudp.core.engine.Engine>}: the ARQ, and around it
what KCP's wire does not have (handshake, keepalive, orderly close), and what kcp-go's
session has beside its ARQ (kcp.md 2 and 5): FEC, out-of-band messages, a rate limit,
time limits, counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from twisted_rudp.core.batch import RunWriter
from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import (
    MILLISECOND,
    READABLE_BYTES,
    READABLE_MESSAGES,
    SECOND,
    STREAM,
    Address,
    Buffer,
    Capability,
    Emit,
    Event,
    Key,
    PathError,
    Reason,
)
from twisted_rudp.core.lifecycle import (
    LAST_PACKET_INTERVAL,
    LAST_PACKETS,
    Lifecycle,
    Role,
    State,
    TimeWait,
    time_wait_span,
)
from twisted_rudp.core.serial import MASK32
from twisted_rudp.core.timers import NEVER, Timers
from twisted_rudp.kcp import arq as input_flags
from twisted_rudp.kcp import timers as t
from twisted_rudp.kcp.arq import ARQ
from twisted_rudp.kcp.close import Close, ClosedSession, LateAnswer, Outcome, draining_span
from twisted_rudp.kcp.control import Peer
from twisted_rudp.kcp.fec import DATA, KIND_OFFSET, MOST_BYTES, OUT_OF_BAND, Piece, is_framed
from twisted_rudp.kcp.framing import Framing, OutOfBand
from twisted_rudp.kcp.handshake import Handshake
from twisted_rudp.kcp.keepalive import (
    DEFAULT_IDLE,
    DEFAULT_KEEP_ALIVE,
    KeepAlive,
    TimeLimits,
)
from twisted_rudp.kcp.mismatch import MismatchSigns
from twisted_rudp.kcp.path import STALLED, Path
from twisted_rudp.kcp.receiver import UNLIMITED, UNVALIDATED_LIMIT, ReceiveBudget
from twisted_rudp.kcp.settings import SessionOptions, Settings, reconfigure
from twisted_rudp.kcp.shapechange import CONFIRM, is_about_shapes, is_change
from twisted_rudp.kcp.snmp import SessionCounters, SNMPCounters
from twisted_rudp.kcp.wire import (
    ACK,
    CONV_SIZE,
    END,
    HEADER_SIZE,
    MARK,
    PUSH,
    WASK,
    is_acknowledgement,
    pack_header,
    pack_wins,
    reset,
)
from twisted_rudp.messages import Delivery, Message

PLAIN: Final = SessionOptions()

EmitOwn: TypeAlias = Callable[[Buffer, int], bool]
"""As C{Emit}, to the session's own address."""

_NOTHING: Final[Sequence[tuple[Any, ...]]] = ()

# Names of this module: each is needed several times for each run.
_ESTABLISHED: Final = State.ESTABLISHED
_FIN_WAIT: Final = State.FIN_WAIT
_HEARD: Final = input_flags.HEARD
_READABLE: Final = input_flags.READABLE
_COVERED: Final = input_flags.COVERED
_CONTROL: Final = input_flags.CONTROL
_ENDING: Final = input_flags.ENDING
_LAGGING: Final = input_flags.LAGGING

SHORTEST_SILENCE: Final = 200 * MILLISECOND
"""A peer that was heard more lately is still where it was."""

RATE_BURST: Final = 64 * 1500
"""Bytes that may leave at once under a rate limit (kcp.md 5.6)."""

RATE_TICKS: Final = 50
"""A timer comes this often a second at least; a fast link is not to wait for it."""


class RateLimit:
    """A bucket of bytes that fills at a constant rate (kcp.md 5.6)."""

    __slots__ = ("_burst", "_rate", "_since", "_spent")

    def __init__(self, rate: int, now: int) -> None:
        """
        @param rate: bytes a second.
        """
        self._rate = rate
        self._burst = max(RATE_BURST, rate // RATE_TICKS)
        self._since = now
        self._spent = 0

    def allowance(self, now: int) -> int:
        """Bytes that may leave now; negative while too much has left."""
        filled = (now - self._since) * self._rate // SECOND
        if filled:
            self._since += filled * SECOND // self._rate
            self._spent = max(0, self._spent - filled)
        return self._burst - self._spent

    def spend(self, count: int) -> None:
        """So many bytes have left."""
        self._spent += count

    def ready(self, now: int) -> int:
        """When a full datagram may leave."""
        missing = 1500 - self.allowance(now)
        return now if missing <= 0 else now + missing * SECOND // self._rate + 1


class KCPEngine:
    """
    A KCP session.

    @ivar pending: see L{Engine.pending<twisted_rudp.core.engine.Engine.pending>}.
    @ivar traffic: what is counted beside the ARQ.
    """

    # Of so many attributes a dictionary would be several times as large.
    __slots__ = (
        "_address",
        "_arq",
        "_bare",
        "_cipher",
        "_claimed",
        "_close",
        "_closed",
        "_detail",
        "_emit",
        "_end_heard",
        "_end_told",
        "_framing",
        "_group",
        "_half_closing",
        "_handshake",
        "_hold_until",
        "_keepalive",
        "_life",
        "_limits",
        "_options",
        "_out_of_band",
        "_over",
        "_overhead",
        "_path",
        "_path_errors",
        "_patient",
        "_peer_lost",
        "_rate_limit",
        "_readable",
        "_receiver",
        "_registration",
        "_sealing",
        "_settings",
        "_shape_heard",
        "_signs",
        "_slow",
        "_timers",
        "_transmitter",
        "_una_moved",
        "pending",
        "traffic",
    )

    def __init__(
        self,
        conv: int,
        address: Address,
        settings: Settings,
        *,
        now: int,
        epoch: int,
        role: Role,
        cookies: Cookies | None = None,
        own_socket: bool = False,
        wait_for_peer: bool = True,
        idle_timeout: int = DEFAULT_IDLE,
        keep_alive: int = DEFAULT_KEEP_ALIVE,
        options: SessionOptions = PLAIN,
        overhead: int = 0,
        cipher: str | None = None,
        snmp: SNMPCounters | None = None,
        signs: MismatchSigns | None = None,
        over: Callable[[tuple[Address, int]], None] | None = None,
        budget: ReceiveBudget = UNLIMITED,
    ) -> None:
        """
        @param conv: the conversation id, 32 bits.
        @param settings: the ARQ's; C{mtu} without C{overhead} and FEC.
        @param now: the clock at creation.
        @param epoch: where the session's millisecond clock starts, 32 random bits.
        @param cookies: the socket's; needed by a listener.
        @param own_socket: the socket serves this session alone and closes with it.
        @param wait_for_peer: a dialler is connected when the peer is heard, not at
            once.
        @param idle_timeout: nanoseconds of silence, or without progress, that end the
            session; 0: none.
        @param keep_alive: nanoseconds of silence after which the peer is probed; 0: only as
            the idle timeout needs it.
        @param overhead: bytes that the demultiplexer adds to each datagram.
        @param cipher: what encrypts them there, for people; None: nothing does.
        @param snmp: is to count this session.
        @param signs: is told what seems not to fit.
        @param over: is told the key of the session when it has ended.
        @param budget: bounds what all sessions of the port keep for their applications.
        """
        listening = role is Role.SERVER
        # What it goes by.
        self._address = address
        self._settings = settings
        self._cipher = cipher
        self._over = over
        self._sealing = overhead
        self._overhead = overhead + options.overhead
        self._readable = READABLE_BYTES if settings.stream else READABLE_MESSAGES

        # Its parts.
        self._arq = ARQ(conv, settings, epoch=epoch, overhead=self._overhead)
        self._receiver = self._arq.receiver
        self._transmitter = self._arq.sender.transmitter
        self.traffic = SessionCounters(self._arq, listening)
        self._registration = None if snmp is None else snmp.add(self.traffic)
        self._signs = signs or MismatchSigns()
        self._framing = Framing(
            options, listening, address, self._signs, self.traffic, not settings.eager
        )
        self._group = options.data_shards + options.parity_shards
        self._out_of_band = OutOfBand(conv)
        self.pending: list[tuple[Any, ...]] = []
        self._life = Lifecycle(role, self.pending, own_socket)
        self._timers = Timers(t.COUNT)
        self._handshake = Handshake(role, conv, address, cookies)
        self._keepalive = KeepAlive(now, idle_timeout, keep_alive)
        self._path = Path(settings.mtu + self._overhead)
        self._limits = TimeLimits()
        self._rate_limit = RateLimit(options.rate_limit, now) if options.rate_limit else None
        self._close: Close | None = None
        # Where the peer's cookie was shown, if not where the peer is.
        self._claimed: Address | None = None
        self._closed: ClosedSession | None = None

        # What has happened.
        self._emit: Emit | None = None
        self._una_moved = now
        self._hold_until = NEVER
        self._shape_heard = False
        self._half_closing = False
        self._end_heard = self._end_told = False
        self._peer_lost: Reason | None = None
        self._path_errors = 0
        self._slow = True

        self._set_options(options)
        self._begin(now, wait_for_peer, budget)

    def _begin(self, now: int, wait_for_peer: bool, budget: ReceiveBudget) -> None:
        client = self._life.role is Role.CLIENT
        self._receiver.budget = budget
        if not client:
            # Until its address is validated it may be forged.
            self._receiver.limit = min(UNVALIDATED_LIMIT, self._arq.receive_limit)
            self._framing.bound(UNVALIDATED_LIMIT)
        if self._options.protects:
            self._arq.sender.expect_repair(self._group)
        self._arq.control.echoes = client
        self._handshake.begin(self._arq, now)
        self._timers.set(t.HANDSHAKE, self._handshake.due)
        if client and not wait_for_peer:
            self._connected(now)

    def _set_options(self, options: SessionOptions) -> None:
        self._options = options
        self._patient = options.write_delay or not options.ack_no_delay
        # Most sessions have none of what a flush would have to do for these.
        self._bare = not (
            options.protects
            or options.dup
            or options.write_timeout
            or self._out_of_band.pending
            or self._shape_heard
        )

    # what the hub asks

    @property
    def capabilities(self) -> Capability:
        """Bytes or messages with a window; an end of stream with marked peers only."""
        kind = Capability.BYTES if self._settings.stream else Capability.MESSAGES
        kind |= Capability.RECEIVE_WINDOW | Capability.NEEDS_IDLE_TIMEOUT
        if self._arq.control.peer is not Peer.UNMARKED:
            kind |= Capability.ORDERLY_CLOSE | Capability.HALF_CLOSE
        return kind

    @property
    def validated(self) -> bool:
        """The peer has shown that it receives at its address."""
        return self._handshake.validated

    def validate(self, cookie: int) -> None:
        """The demultiplexer has seen the cookie come back."""
        self._handshake.validate(self._arq, cookie)

    @property
    def closed(self) -> bool:
        """TIME-WAIT is over too."""
        return self._life.state is State.CLOSED

    @property
    def round_trip(self) -> int:
        """The smoothed round trip in nanoseconds; 0 before it was measured."""
        return self._arq.sender.recovery.smoothed

    @property
    def heard(self) -> bool:
        """Something valid has come from the peer."""
        return self._arq.control.heard

    @property
    def settings(self) -> Settings:
        """What the ARQ goes by."""
        return self._settings

    @property
    def options(self) -> SessionOptions:
        """What the session does beside it."""
        return self._options

    @property
    def key(self) -> tuple[Address, int]:
        """Address and conversation, so that one address may have several sessions."""
        return self._address, self._arq.conv

    def keys(self) -> Sequence[Key]:
        """The only one."""
        return (self.key,)

    # a peer whose NAT gave it another address (kcp-close.md 14)

    @property
    def can_migrate(self) -> bool:
        """The peer is one of ours, validated, and something is still awaited from it."""
        state = self._life.state
        return (
            (state is _ESTABLISHED or state is _FIN_WAIT)
            and self._life.role is Role.SERVER
            and self._handshake.validated
            and self._arq.control.peer is Peer.MARKED
        )

    def claim(self, cookie: int, address: Address) -> bool:
        """
        Whether this is the cookie with which the peer began. Who shows it may then say from
        this address that nothing was sent or received yet, which anybody could guess.
        """
        if not cookie or cookie != self._handshake.cookie:
            return False
        self._claimed = address
        return True

    def accepts_numbers(self, sn: int, una: int, address: Address) -> bool:
        """
        Whether the peer of this conversation may say that it would send C{sn} next and
        waits for C{una}. Who has seen nothing of it does not guess that.
        """
        if not (sn or una) and address != self._claimed:
            return False
        arq = self._arq
        ahead = (sn - arq.rcv_nxt) & MASK32
        behind = (una - arq.snd_una) & MASK32
        return ahead <= arq.receiver.wnd and behind <= (arq.snd_nxt - arq.snd_una) & MASK32

    def silent(self, now: int) -> bool:
        """Nothing has come for a while from where the peer was."""
        return now - self._keepalive.heard >= max(self._arq.timeout, SHORTEST_SILENCE)

    def move(self, address: Address) -> None:
        """The peer is at another address, which is validated."""
        if address[0] != self._address[0]:
            # A NAT that only changes the port has not changed the path (RFC 9000 9.4).
            self._arq.new_path()
        self._address = address
        self._claimed = None
        self._handshake.move(address)
        self.pending.append((Event.PATH, address))
        self.pending.append((Event.KEYS,))

    # wire -> engine

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        """Process a run: all bare datagrams or all with FEC, whatever is sent here."""
        traffic = self.traffic
        length = len(run)
        traffic.in_pkts += 1 if length <= size else -(-length // size)
        traffic.in_bytes += length
        kind = run[KIND_OFFSET]
        pieces: Sequence[Piece]
        if kind < DATA or not is_framed(run):
            if (
                self._framing.encoder is not None
                and not is_acknowledgement(run)
                and not is_change(run)
            ):
                self._framing.note_bare()
            pieces = ((run, size, True),)
        elif kind == OUT_OF_BAND:
            self._receive_out_of_band(memoryview(run), size)
            return
        else:
            pieces = self._framing.decode(run, size)
        arq = self._arq
        errors = arq.counters.kcp_in_errors
        for piece, length, regular in pieces:
            if self._closed is not None:
                self._closed.receive(piece, length, now)
                continue
            self._process_flags(arq.input(piece, length, now, regular), now)
            if arq.counters.kcp_in_errors != errors:
                errors = arq.counters.kcp_in_errors
                self._signs.unread(piece[:length], address)
        if self._closed is not None:
            self._timers.set(t.TIME_WAIT, self._life.deadline())
        elif self._options.read_timeout and self._receiver.queue.readable:
            self._limits.came(now)

    def _receive_out_of_band(self, view: memoryview, size: int) -> None:
        if self._closed is not None or self._close is not None:
            return
        self.traffic.oob_packets += self._out_of_band.receive(view, size)
        if self._life.state is _ESTABLISHED:
            self.pending.append(READABLE_MESSAGES)

    def _receive_segments(self, payloads: list[bytes], now: int) -> None:
        if not self._handshake.validated:
            payloads.clear()
            return
        for payload in payloads:
            if is_about_shapes(payload):
                self._receive_shape(payload, now)
        if self._close is not None:
            payloads.clear()
            return
        count = self._out_of_band.receive_segments(payloads)
        self.traffic.oob_packets += count
        if count and self._life.state is _ESTABLISHED:
            self.pending.append(READABLE_MESSAGES)

    def _receive_shape(self, payload: bytes, now: int) -> None:
        """The peer says something about the shape of FEC groups, its own or ours."""
        framing, control = self._framing, self._arq.control
        if control.peer is not Peer.MARKED:
            return
        framing.receive_shape(payload, now, self.round_trip)
        if payload[0] == CONFIRM:
            self._expect_repair()
        if framing.answer:
            self._shape_heard = True
            self._bare = False

    def _process_flags(self, flags: int, now: int) -> None:
        """Act on the flags that L{ARQ.input} gave for a run."""
        if flags & _HEARD:
            self._keepalive.heard = now
        if flags & _COVERED:
            self._una_moved = now
        if flags & _READABLE:
            if self._life.state is _ESTABLISHED:
                self.pending.append(self._readable)
            elif self._close is not None:
                self._discard()
        if flags & _CONTROL:
            self._path.answered = True
            self._process_control(now)
        if self._arq.trial_arrived:
            self._arq.trial_arrived = False
            self._path.arrived()
            self._use_path()
        if flags & _LAGGING:
            self._doubt(now)
        if self._slow or flags & _ENDING:
            self._advance(now)

    def _doubt(self, now: int) -> None:
        """
        An old acknowledgement came. Either it was late or the peer began anew and knows nothing
        of this session. A peer of ours says so itself, any other is asked.
        """
        arq = self._arq
        if (
            arq.control.peer is Peer.UNMARKED
            and self._life.state is _ESTABLISHED
            and now - self._una_moved >= arq.timeout
            and self._keepalive.doubt(now, arq.timeout)
        ):
            arq.control.ask = True
            self._timers.set(t.KEEP_ALIVE, self._keepalive.deadline())

    def _process_control(self, now: int) -> None:
        """
        A WASK, WINS or reset came: messages beside the stream, cookies, and the signs of a
        peer that forgot this session.
        """
        arq = self._arq
        if arq.wins_payloads:
            self._receive_segments(arq.wins_payloads, now)
        settled = now - self._una_moved >= arq.timeout
        behind = settled and 0 < (arq.snd_una - arq.control.heard_una) & MASK32 < 1 << 31
        due = self._handshake.due
        forgotten = self._handshake.take_cookie(arq, now)
        if self._handshake.due != due:
            self._slow = True
        if self._keepalive.answered(behind, forgotten):
            self._lose_peer(Reason.FORGOTTEN, now)
        elif forgotten:
            # It may have been late: the answer to a question of ours decides.
            arq.control.ask = True
        elif behind:
            self._timers.set(t.KEEP_ALIVE, self._keepalive.deadline())

    def path_error(self, kind: PathError, size: int, address: Address, now: int) -> None:
        """
        A dialler whose peer's port is closed learns it from here. Later such
        errors are left to retransmission and the idle timeout: they may be
        transient and, as ICMP, forged.
        """
        if kind is PathError.TOO_BIG:
            self._arq.shrink(size - self._overhead)
            self._path.reduced(self._arq.sender.mss + HEADER_SIZE + self._overhead, now)
            self._use_path()
        elif self._life.state is State.HANDSHAKE and self._life.role is Role.CLIENT:
            refused = kind is PathError.REFUSED
            self._end(Reason.REFUSED if refused else Reason.UNREACHABLE, now)
        else:
            self._path_errors += 1

    # time

    def tick(self, now: int) -> None:
        """See what time has brought."""
        timers = self._timers
        expired = timers.expired(now)
        if self._closed is not None:
            self._life.tick(now)
            timers.set(t.TIME_WAIT, self._life.deadline())
            return
        if t.FLUSH in expired:
            # Due until the flush that follows.
            timers.set(t.FLUSH, now)
            if now - self._una_moved > STALLED and self._arq.outstanding:
                self._suspect_path(now)
        if t.PATH in expired:
            self._on_path_timer(now)
        if t.KEEP_ALIVE in expired:
            self._check_silence(now)
        if t.LIMIT in expired:
            self._check_limits(now)
        if self._slow:
            self._advance(now)

    def deadline(self) -> int | None:
        """The earliest of all timers."""
        due = self._timers.earliest()
        return None if due == NEVER else due

    def _check_silence(self, now: int) -> None:
        state = self._life.state
        if state is not _ESTABLISHED and state is not _FIN_WAIT:
            return
        keepalive = self._keepalive
        if keepalive.gone(now):
            self._lose_peer(Reason.IDLE, now)
            return
        sent = self._arq.sender.sent
        if keepalive.stuck(sent.outstanding, sent.nxt, now):
            text = f"nothing was acknowledged for {keepalive.idle / SECOND:g} seconds"
            self._end(Reason.IDLE, now, tell=True, detail=text)
            return
        if keepalive.probe_due(now, self._arq.timeout):
            self._arq.control.ask = True
        self._timers.set(t.KEEP_ALIVE, keepalive.deadline())

    def _suspect_path(self, now: int) -> None:
        """Nothing was acknowledged for a while: it may be too long for the path."""
        path, arq = self._path, self._arq
        if not arq.sender.peer_window or not self._handshake.validated:
            # What a peer has no room for it does not acknowledge.
            return
        length = path.length
        if path.suspect(self._una_moved, arq.timeout, now):
            arq.control.ask = True
        if path.length != length:
            self._use_path()
            arq.give_up()
        self._timers.set(t.PATH, path.due)

    def _on_path_timer(self, now: int) -> None:
        """The timer of the path has expired."""
        path = self._path
        self._timers.stop(t.PATH)
        if now - self._una_moved > STALLED and self._arq.outstanding:
            self._suspect_path(now)
        elif now >= path.raise_at:
            path.try_longer(now)
        else:
            self._timers.set(t.PATH, path.raise_at)

    def _use_path(self) -> None:
        """Go by what is known of the path."""
        arq, path = self._arq, self._path
        mss = path.length - self._overhead - HEADER_SIZE
        if mss > 0 and mss != arq.sender.mss:
            arq.set_mss(mss)
        whole = arq.sender.mss >= self._settings.mss or arq.control.peer is not Peer.MARKED
        arq.divide(NEVER if whole else arq.sender.mss)
        self._timers.set(t.PATH, path.raise_at)

    def _lose_peer(self, reason: Reason, now: int) -> None:
        """
        The peer is gone: end, but for what it had delivered whole before. That is read
        first, then the session ends as if the peer had just closed, unless something of
        ours did not arrive. An application that pauses may not have heard of that end.
        """
        arq = self._arq
        tell = reason is Reason.FORGOTTEN
        if not arq.receiver.end_in_order or self._life.state is not _ESTABLISHED:
            self._end(reason, now, tell=tell)
            return
        unread = arq.receiver.queue.readable
        silent = reason is Reason.IDLE and not unread
        if arq.sender.drained and (not silent or arq.sender.end_acknowledged):
            reason = Reason.DONE
        if not unread:
            self._end(reason, now, tell=tell)
        elif self._peer_lost is None:
            self._peer_lost = reason
            arq.sender.release()
            self._timers.stop_all()

    def _check_limits(self, now: int) -> None:
        if self._life.state is not _ESTABLISHED:
            return
        text = self._limits.reached(self._options, self._una_moved, now)
        if text is not None:
            self._end(Reason.IDLE, now, tell=True, detail=text)
            return
        self._watch_limits()

    def _watch_limits(self) -> None:
        self._timers.set(t.LIMIT, self._limits.deadline(self._options, self._una_moved))

    # application -> wire

    def write(self, stream: int, data: bytes) -> None:
        """Queue bytes."""
        self._arq.write(data)
        self.traffic.bytes_sent += len(data)

    def copy_next(self, size: int) -> None:
        """So many bytes of what is written next are sent again soon after they left, twice."""
        self._arq.sender.copy_next(size)

    def send(
        self,
        data: bytes,
        delivery: Delivery = Delivery.RELIABLE_ORDERED,
        channel: int = 0,
        priority: int = 0,
        receipt: bool = False,
    ) -> int | None:
        """
        Queue a message. KCP carries them reliably and in order, on one channel,
        and tells of no single message what became of it. Also C{OUT_OF_BAND}: once,
        unordered, perhaps lost. A marked peer is sent these in segments, which FEC
        protects (kcp-close.md 15); others with FEC only, which does not (kcp.md 5.5).
        """
        out_of_band = delivery is Delivery.OUT_OF_BAND
        if not out_of_band and delivery is not Delivery.RELIABLE_ORDERED:
            raise ValueError(f"delivery: KCP carries RELIABLE_ORDERED, not {delivery.name}")
        longest = self._longest_out_of_band() if out_of_band else 0
        if out_of_band and not longest:
            raise ValueError(
                "OUT_OF_BAND: kcp-go has it with FEC only: give dataShards, parityShards"
            )
        if channel or priority or receipt:
            raise ValueError("channel, priority, receipt: KCP has none of them")
        if out_of_band:
            self._out_of_band.put(data, longest)
            self._bare = False
        else:
            self._arq.send(data)
            self.traffic.bytes_sent += len(data)
        return None

    def _longest_out_of_band(self) -> int:
        """Bytes of the longest message out of band; 0 where there are none."""
        arq = self._arq
        if arq.control.peer is not Peer.UNMARKED:
            return arq.sender.mss - 1
        return self._settings.mtu - CONV_SIZE if self._framing.encoder is not None else 0

    def unsent(self, stream: int = STREAM) -> int:
        """Bytes not yet numbered."""
        return self._arq.sender.queue.size

    # wire -> application

    def unread(self, stream: int = STREAM) -> int:
        """Bytes that can be taken."""
        return self._receiver.queue.size

    def take(self, stream: int, limit: int) -> bytes:
        """The next bytes in order."""
        receiver = self._receiver
        if not receiver.queue.segments and not self._end_heard:
            # So ends every delivery.
            return b""
        data = receiver.take(limit)
        if self._end_heard and receiver.end_received:
            self._tell_end()
        if data:
            traffic = self.traffic
            if not traffic.bytes_received and self._close is None:
                self._signs.first_bytes(data, self._address)
            traffic.bytes_received += len(data)
        return data

    def take_messages(self) -> Iterator[Message]:
        """Whole messages: those out of band first."""
        heard = self._out_of_band.incoming
        while heard.count:
            yield Message(heard.take(), Delivery.OUT_OF_BAND)
        if self._settings.stream:
            return
        receiver = self._receiver
        while True:
            data = receiver.take_message()
            if self._end_heard and receiver.end_received:
                self._tell_end()
            if data is None:
                return
            if data:
                # The C library sends empty messages. As we refuse to, they are none here.
                self.traffic.bytes_received += len(data)
                yield Message(data)

    # engine -> wire

    def flush(self, now: int, emit: Emit, budget: int) -> bool:
        """Send what can be sent now and may be."""
        self._emit = emit
        if self._patient and self._holds(now):
            if self._options.ack_no_delay and self._receiver.acks:
                self._flush_framed(now, 0)
            self._timers.set_earlier(t.FLUSH, self._hold_until)
            return False
        if self._rate_limit is not None and self._closed is None:
            return self._flush_limited(self._rate_limit, now, budget)
        if self._bare:
            return self._flush_arq(now, self._out, budget)
        return self._flush_framed(now, budget)

    def _flush_limited(self, limit: RateLimit, now: int, budget: int) -> bool:
        allowance = limit.allowance(now)
        if allowance <= 0:
            self._timers.set(t.FLUSH, limit.ready(now))
            return False
        before = self.traffic.out_bytes
        more = self._flush_framed(now, min(budget, allowance))
        limit.spend(self.traffic.out_bytes - before)
        if more and allowance <= budget:
            self._timers.set_earlier(t.FLUSH, limit.ready(now))
            return False
        return more

    def _flush_framed(self, now: int, budget: int) -> bool:
        """Flush the ARQ, through FEC if that is on."""
        framing = self._framing
        options = self._options
        validated = self._handshake.validated
        copies = 1 + options.dup if validated else 1
        out_of_band = self._out_of_band.pending and validated and self._closed is None
        if framing.encoder is None and copies == 1 and not out_of_band and not framing.answer:
            more = self._flush_arq(now, self._out, budget)
        else:
            writer = RunWriter(self._out_to, self._address, self._sealing)
            framing.measure(now, self._arq.counters.retrans_segs)
            marked = self._arq.control.peer is Peer.MARKED

            def frame(run: Buffer, size: int) -> bool:
                if marked and copies == 1 and is_acknowledgement(run):
                    # The next one repeats it; in a group it would take the place of data.
                    writer.add(run)
                    return not writer.blocked
                return framing.write(run, size, now, writer, validated, copies)

            # A listener hears nothing of who has not returned its cookie.
            settled = self._handshake.due == NEVER
            if out_of_band and settled:
                self._flush_out_of_band(frame, writer)
            more = self._flush_arq(now, frame, budget)
            if out_of_band and not settled:
                self._flush_out_of_band(frame, writer)
            if marked and validated and self._closed is None:
                self._flush_shapes(frame, writer, now)
            writer.finish()
        if options.write_timeout and self._limits.waits(self._arq.sender.wait_snd > 0, now):
            self._watch_limits()
        return more

    def _flush_out_of_band(self, frame: EmitOwn, writer: RunWriter) -> None:
        """
        Send the messages beside the stream. The congestion window does not hold them back:
        nothing tells what became of them.

        @param frame: takes datagrams to be framed.
        @param writer: takes what is framed already.
        """
        arq, messages = self._arq, self._out_of_band
        peer = arq.control.peer
        if peer is Peer.UNMARKED:
            if self._framing.encoder is None:
                messages.outgoing.clear()
            messages.flush(writer)
        elif peer is Peer.MARKED:
            runs = RunWriter(lambda run, size, address: frame(run, size), self._address)
            count = messages.flush_segments(
                runs, arq.receiver.free, arq.snd_nxt, arq.rcv_nxt
            )
            runs.finish()
            arq.counters.out_segs += count

    def _flush_shapes(self, frame: EmitOwn, writer: RunWriter, now: int) -> None:
        """Say what there is to be said about the shape of FEC groups (kcp-close.md 18)."""
        arq, framing, shapes = self._arq, self._framing, self._framing.shapes
        wnd, sn, una = arq.receiver.free, arq.snd_nxt, arq.rcv_nxt
        if framing.answer:
            writer.add(pack_wins(arq.conv, wnd, sn, una, framing.answer))
            framing.answer = b""
            arq.counters.out_segs += 1
        if shapes is None:
            return
        if shapes.wanted(now):
            segment = pack_wins(arq.conv, wnd, sn, una, shapes.announce(now))
            if shapes.known:
                # In a group it would take the place of data.
                writer.add(segment)
            else:
                # An earlier edition takes what is bare for a sign that FEC is off.
                frame(segment, len(segment))
            arq.counters.out_segs += 1
        encoder = framing.encoder
        if encoder is not None and encoder.data + encoder.parity != self._group:
            self._expect_repair()

    def _expect_repair(self) -> None:
        """Another shape is in use, or more is known of what is lost."""
        framing = self._framing
        encoder, shapes = framing.encoder, framing.shapes
        if encoder is None or shapes is None:
            return
        self._group = encoder.data + encoder.parity
        choice, sender = shapes.choice, self._arq.sender
        delay = choice.repair_delay((encoder.data, encoder.parity))
        sender.expect_repair(self._group, delay, choice.run_length())

    def _flush_arq(self, now: int, emit: EmitOwn, budget: int) -> bool:
        if self._closed is not None:
            self._flush_closed(self._closed, now, emit)
            return False
        if self._peer_lost is not None:
            # Nobody is there to be answered; the application reads what is left.
            self._advance(now)
            return False
        handshake = self._handshake
        if now >= handshake.due:
            budget -= self._probe(now, emit, budget)
        arq = self._arq
        if self._path.trial:
            self._send_path_probe(now, emit)
        more = arq.flush(now, emit, budget, strict=not handshake.validated)
        self._timers.due[t.FLUSH] = arq.deadline()
        if self._slow or self._transmitter.dead:
            self._advance(now)
        return more

    def _send_path_probe(self, now: int, emit: EmitOwn) -> None:
        """Send something long, and wait for its acknowledgement."""
        path = self._path
        trial, path.trial = path.trial, 0
        size = trial - self._overhead
        if self._life.state is _ESTABLISHED and self._arq.started:
            path.tried = trial
            emit(self._arq.probe_segment(size, now), size)
        self._timers.set(t.PATH, path.raise_at)

    def _probe(self, now: int, emit: EmitOwn, budget: int) -> int:
        """
        Send a WASK outside the ARQ: until anything was heard its numbers are 0, so
        that it opens a session wherever it arrives.
        """
        cost = HEADER_SIZE + self._overhead
        self._handshake.sent(now)
        if budget < cost:
            return 0
        arq = self._arq
        opening = self._life.role is Role.CLIENT and not arq.control.heard
        sn, una = (0, 0) if opening else (arq.snd_nxt, arq.rcv_nxt)
        wnd = arq.receiver.free
        emit(pack_header(arq.conv, WASK, MARK, wnd, arq.control.ts_out, sn, una, 0), HEADER_SIZE)
        arq.counters.out_segs += 1
        return cost

    def _flush_closed(self, closed: ClosedSession, now: int, emit: EmitOwn) -> None:
        for answer in closed.take_answers(now):
            emit(answer, HEADER_SIZE)
        self._life.last_packet_sent()
        self._timers.set(t.TIME_WAIT, self._life.deadline())

    def _out_to(self, run: Buffer, size: int, address: Address) -> bool:
        return self._out(run, size)

    def _out(self, run: Buffer, size: int) -> bool:
        traffic = self.traffic
        length = len(run)
        count = 1 if length <= size else -(-length // size)
        traffic.out_pkts += count
        traffic.out_bytes += length + count * self._sealing
        assert self._emit is not None
        return self._emit(run, size, self._address)

    def _holds(self, now: int) -> bool:
        """
        Whether what there is to send is to wait for company: written data with
        C{write_delay} while it does not fill the window, acknowledgements
        without C{ack_no_delay} while they do not fill a datagram.
        """
        if self._life.state is not _ESTABLISHED or self._out_of_band.pending:
            return False
        options, sender = self._options, self._arq.sender
        if sender.queue.size:
            waits = options.write_delay and sender.wait_snd < self._settings.send_window
        else:
            acks = len(self._receiver.acks)
            waits = not options.ack_no_delay and 0 < acks < self._settings.mtu // HEADER_SIZE
        if (
            not waits
            or self._timers.running(t.HANDSHAKE)
            or now >= self._timers.due[t.FLUSH]
            or now >= self._hold_until
        ):
            self._hold_until = NEVER
            return False
        if self._hold_until == NEVER:
            self._hold_until = now + self._settings.interval * MILLISECOND
        return True

    def events(self) -> Sequence[tuple[Any, ...]]:
        """What changed."""
        if not self.pending:
            return _NOTHING
        events = self.pending[:]
        self.pending.clear()
        return events

    # life

    def open_stream(self) -> int:
        """
        @raise ValueError: always; KCP has stream 0 alone.
        """
        raise ValueError("KCP has one stream, number 0; it is open from the start")

    def close_stream(self, stream: int) -> None:
        """Half close: FIN behind the data, towards a marked peer."""
        self._half_closing = self._slow = True
        self._arq.finish()

    def reset_stream(self, stream: int, code: int = 0) -> None:
        """
        @raise ValueError: always; the stream is the session, see L{abort}.
        """
        raise ValueError("KCP cannot reset its only stream; abort the session")

    def discard_stream(self, stream: int) -> None:
        """
        @raise ValueError: always; the stream is the session, see L{close}.
        """
        raise ValueError("KCP cannot discard its only stream; close the session")

    def close(self, now: int) -> None:
        """Deliver the rest, exchange FINs, discard what comes."""
        if self._life.state is State.HANDSHAKE:
            self.abort(now)
        elif self._life.state is _ESTABLISHED:
            self._life.enter(_FIN_WAIT)
            self._arq.finish()
            self._discard()
            self._close = Close(self._arq, now)
            self._advance(now)

    def abort(self, now: int) -> None:
        """Drop everything; a marked peer is told by a reset."""
        if not self._life.over:
            self._end(Reason.ABORTED, now, tell=True)

    def _connected(self, now: int) -> None:
        self._life.enter(_ESTABLISHED)
        self._limits.came(now)
        if self._options.read_timeout:
            self._watch_limits()
        self._timers.set(t.KEEP_ALIVE, self._keepalive.deadline())
        self.pending.append((Event.CONNECTED, False))
        if self._receiver.queue.readable:
            self.pending.append(self._readable)
        heard = self._out_of_band.incoming
        if heard.count:
            self.pending.append(READABLE_MESSAGES)

    def _discard(self) -> None:
        receiver = self._receiver
        if self._settings.stream:
            while receiver.take(1 << 20):
                pass
        else:
            while receiver.take_message() is not None:
                pass

    def _tell_end(self) -> None:
        if not self._end_told and self._life.state is _ESTABLISHED:
            self._end_told = True
            self.pending.append((Event.STREAM_ENDED, STREAM))

    def _advance(self, now: int) -> None:
        """Whatever is not plain data on an established session."""
        life, arq = self._life, self._arq
        if life.over:
            return
        if self._transmitter.validated:
            self._handshake.validated = True
        if arq.control.reset_heard and self._peer_lost is None:
            self._lose_peer(Reason.RESET, now)
            if life.over:
                return
        if self._transmitter.dead:
            self._end(Reason.DEAD_LINK, now)
            return
        if life.state is State.HANDSHAKE:
            self._open(now)
        self._end_heard = arq.receiver.end_in_order
        if arq.receiver.end_received:
            self._tell_end()
            if self._peer_lost is not None:
                self._end(self._peer_lost, now)
                return
        self._handshake.settle(arq, life.state is not State.HANDSHAKE)
        if self._half_closing:
            self._half_close(now)
        if self._close is not None:
            if life.state is _FIN_WAIT:
                self._close_on(self._close, now)
            elif life.state is State.DRAINING:
                self._drain(self._close, now)
        if life.over:
            return
        self._timers.set(t.HANDSHAKE, self._handshake.due)
        if self._handshake.validated:
            self._receiver.limit = arq.receive_limit
            self._framing.bound(MOST_BYTES)
        self._slow = (
            life.state is not _ESTABLISHED
            or self._half_closing
            or not self._handshake.validated
            or self._handshake.due != NEVER
            or arq.notable
        )

    def _open(self, now: int) -> None:
        arq = self._arq
        peer = arq.control.peer
        if self._life.role is Role.CLIENT:
            if arq.control.heard:
                self._connected(now)
        elif peer is Peer.UNMARKED:
            if arq.receiver.queue.size or arq.rcv_nxt:
                self._connected(now)
        elif peer is Peer.MARKED and self._handshake.validated:
            self._connected(now)
        else:
            # A listener shows nobody to a factory who has not answered: a
            # forged or replayed opening ends here.
            self._handshake.probe(now)

    def _half_close(self, now: int) -> None:
        sender = self._arq.sender
        peer = self._arq.control.peer
        if peer is Peer.UNKNOWN:
            self._handshake.probe(now)
        elif sender.end_acknowledged or (peer is Peer.UNMARKED and sender.drained):
            self._half_closing = False
            self.pending.append((Event.STREAM_FLUSHED, STREAM))

    def _close_on(self, close: Close, now: int) -> None:
        arq = self._arq
        outcome = close.judge(arq, now)
        self._timers.set(t.CLOSE, close.until)
        if outcome is Outcome.ASK:
            self._handshake.probe(now)
        elif outcome is Outcome.DRAIN:
            self._life.enter(State.DRAINING)
            self._timers.stop(t.KEEP_ALIVE)
            arq.shut_window()
            self._drain(close, now)
        elif outcome is Outcome.TIMEOUT:
            # The peer has everything and its end is not waited for any longer, or it has ended.
            clean = arq.sender.end_acknowledged or (
                arq.receiver.end_in_order and arq.sender.only_end_outstanding
            )
            self._end(Reason.DONE if clean else Reason.CLOSE_TIMEOUT, now, tell=True)
        elif outcome is not Outcome.WAIT:
            self._end_in_order(close, outcome, now)

    def _drain(self, close: Close, now: int) -> None:
        leave_at = min(self._keepalive.heard + draining_span(self._arq.timeout), close.until)
        self._timers.set(t.CLOSE, leave_at)
        if now >= leave_at:
            self._end(Reason.DONE, now)

    def _end_in_order(self, close: Close, outcome: Outcome, now: int) -> None:
        arq = self._arq
        span = time_wait_span(arq.timeout)
        if outcome is Outcome.QUIET:
            self._end(Reason.DONE, now)
            return
        answer = LateAnswer.ACKNOWLEDGEMENT
        una, wnd = arq.rcv_nxt, arq.receiver.free
        if outcome is Outcome.LINGER:
            last = pack_header(
                arq.conv, ACK, MARK, wnd, arq.receiver.end_ts, (una - 1) & MASK32, una, 0
            )
            times = LAST_PACKETS if self._life.own_socket else 1
            self._leave(Reason.DONE, None, answer, TimeWait(now, span, times), last)
            return
        # Ours was sent in vain. A socket of its own closes; a hub goes on for a while.
        span = max(close.until - now, span)
        if self._life.own_socket:
            self._leave(Reason.DONE, None, answer, TimeWait(now, span))
            return
        fin = pack_header(arq.conv, PUSH, END, wnd, 0, (arq.snd_nxt - 1) & MASK32, una, 0)
        time_wait = TimeWait(now, span, span // arq.timeout, arq.timeout)
        self._leave(Reason.DONE, None, answer, time_wait, fin, until_acknowledged=True)

    def _end(
        self, reason: Reason, now: int, tell: bool = False, detail: str | None = None
    ) -> None:
        """
        End, and tell a marked peer by a reset if asked to.

        @param detail: a text for people instead of the reason's own.
        """
        arq = self._arq
        span = time_wait_span(arq.timeout)
        if tell and arq.control.peer is Peer.MARKED:
            last = reset(arq.conv, arq.snd_nxt, arq.rcv_nxt)
            times = TimeWait(now, span, LAST_PACKETS, LAST_PACKET_INTERVAL)
            self._leave(reason, detail, LateAnswer.RESET, times, last)
        else:
            self._leave(reason, detail, LateAnswer.NOTHING, TimeWait(now, span))

    def _leave(
        self,
        reason: Reason,
        detail: str | None,
        answer: LateAnswer,
        time_wait: TimeWait,
        last_packet: bytes = b"",
        until_acknowledged: bool = False,
    ) -> None:
        arq = self._arq
        self._closed = ClosedSession(
            arq.conv,
            arq.snd_nxt,
            arq.rcv_nxt,
            answer,
            time_wait,
            last_packet,
            until_acknowledged,
        )
        arq.release()
        self._timers.stop_all()
        self._life.end(reason, detail, time_wait)
        self._timers.set(t.TIME_WAIT, self._life.deadline())
        self.traffic.end()
        if self._over is not None:
            self._over(self.key)

    # state

    def counters(self) -> Mapping[str, int]:
        """kcp-go's counters under its names, then those it does not have."""
        own = self._arq.counters
        decoder, shapes = self._framing.decoder, self._framing.shapes
        return {
            **self.traffic.by_name(),
            **self.traffic.gauges(),
            "bad_resets": own.bad_resets,
            "data_after_end": own.data_after_end,
            "second_ends": own.second_ends,
            "unmarked_ends": own.unmarked_ends,
            "una_beyond": own.una_beyond,
            "receive_limited": own.receive_limited,
            "oob_dropped": self._out_of_band.dropped,
            "path_errors_ignored": self._path_errors,
            "fec_lost": decoder.lost if decoder else 0,
            "fec_misfits": decoder.misfits if decoder else 0,
            "fec_shapes_heard": self._framing.heard,
            "fec_shapes_refused": self._framing.refused + own.bad_shapes,
            "fec_shapes_used": shapes.changes if shapes else 0,
        }

    def facts(self) -> Mapping[str, Any]:
        """
        Cipher, conversation, peer, round trip, windows, and the FEC in use; C{oob_max} is the
        longest message out of band, 0 where there are none.
        """
        arq, framing = self._arq, self._framing
        encoder, decoder, shapes = framing.encoder, framing.decoder, framing.shapes
        return {
            "transport": "kcp",
            "cipher": self._cipher,
            "conversation": arq.conv,
            "state": self._life.state.name,
            "peer": arq.control.peer.name,
            "validated": self._handshake.validated,
            **arq.facts(),
            "fec_out": f"{encoder.data}+{encoder.parity}" if encoder else "0+0",
            "fec_in": f"{decoder.data}+{decoder.parity}" if decoder else None,
            "fec_loss": round(shapes.choice.loss, 4) if shapes and shapes.confirmed else None,
            "oob_max": self._longest_out_of_band(),
        }

    def configure(self, changes: Mapping[str, Any], now: int) -> None:
        """
        Change settings while the session runs, all but C{mode} and the shards, by
        the names they have for people.

        @param changes: the time limits are seconds.
        @param now: nanoseconds.
        @raise ValueError: a name is not known or cannot be changed, or a value
            is out of its range. Then nothing is changed.
        """
        settings, options = reconfigure(changes, self._settings, self._options, self._overhead)
        old = self._options
        self._settings = settings
        self._set_options(options)
        if settings.mtu != self._arq.settings.mtu:
            self._path.adopt(settings.mtu + self._overhead)
        self._arq.adopt(settings, now)
        if self._handshake.validated:
            self._receiver.limit = self._arq.receive_limit
        if options.rate_limit != old.rate_limit:
            limit = options.rate_limit
            self._rate_limit = RateLimit(limit, now) if limit else None
        if options.read_timeout != old.read_timeout:
            self._limits.came(now)
        self._watch_limits()
        if self._framing.encoder is not None:
            self._framing.encoder.always = options.always_parity
        self._timers.set_earlier(t.FLUSH, now)
