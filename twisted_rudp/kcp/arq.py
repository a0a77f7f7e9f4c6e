"""
One KCP conversation as a value: the ARQ of kcp-go 5.6.72 (kcp.md 1) with the
mark, the end of stream and the reset of kcp-close.md.

It does no I/O and reads no clock. Times are nanoseconds; the wire's milliseconds are
cut from them here. Segment numbers on the surface are modulo 2^32, inside unbounded.
"""

from __future__ import annotations

import sys
from array import array
from operator import sub
from typing import Final, TypeAlias

from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.serial import MASK32
from twisted_rudp.core.settings import require_within
from twisted_rudp.core.timers import NEVER
from twisted_rudp.kcp.control import Control, Peer
from twisted_rudp.kcp.packing import Emit, Packer, Stamp
from twisted_rudp.kcp.path import PIECE, Pieces
from twisted_rudp.kcp.receiver import Receiver
from twisted_rudp.kcp.sender import MessageQueue, Sender, StreamQueue
from twisted_rudp.kcp.settings import MAXIMUM_MTU, USUAL_MTU, Settings
from twisted_rudp.kcp.shapechange import is_about_shapes
from twisted_rudp.kcp.wire import (
    ACK,
    END,
    FORGOTTEN,
    HEADER_SIZE,
    MARK,
    MAXIMUM_FRAGMENTS,
    PUSH,
    RESET,
    WINS,
    Counters,
    pack_header,
    unpack_forgotten,
    unpack_header,
)
from twisted_rudp.kernels import same_column, take_run
from twisted_rudp.kernels.pure import Buffer

SMALLEST_PATH: Final = 548
"""UDP payload that every IPv4 host takes (RFC 1122 section 3.3.2)."""

TS_OFFSET: Final = 8
SN_OFFSET: Final = 12
UNA_OFFSET: Final = 16

MANY_ACKS = 4
"""From so many on the ACK segments of a datagram are read together."""

GROWN_AT: Final = 8
"""The window may double when this share of it has come in order. A sender that doubles its rate
each round trip has sent seven times as much when that arrives behind a hole that is filled late."""

GROWTH_TIME: Final = 2 * SECOND
"""A receive window that is not chosen doubles when half of it has come and was read within
so long: a sender that starts doubles what it sends in each round trip, and is not to wait."""

ACKS_TO_HOLD: Final = 4_096
"""Beyond so many waiting acknowledgements the superfluous ones are thinned out."""

LATELY: Final = 1 << 16
"""What a datagram names that was overtaken or rebuilt is not further behind."""

REPEATED_DATAGRAMS: Final = 24
"""Acknowledgements of the last turn are repeated while no more datagrams come of it: two turns of
512 segments, as fast links bring them. A datagram that is lost names 57, and where the path loses
5 % more was sent again for that than was lost."""

ACKNOWLEDGED_FIRST: Final = 8
"""Before so many segments of data acknowledgements leave in a datagram of their own, not in the
last one. The una of data acknowledges the same, and of what comes behind it the peer would
measure neither round trip nor rate."""

HEARD: Final = 1
"""A datagram without errors came."""

READABLE: Final = 2
"""Data in order came."""

COVERED: Final = 4
"""A cumulative acknowledgement of something came."""

CONTROL: Final = 8
"""A WASK or WINS came."""

ENDING: Final = 16
"""A reset, or the end of the peer's stream, has come now or before."""

LAGGING: Final = 32
"""A cumulative acknowledgement came that is behind what had been acknowledged."""

_IN_ORDER: Final = HEARD | READABLE

# A name of this module: it is needed for each datagram.
_MARKED: Final = Peer.MARKED

_PAIR: Final = TS_OFFSET // 8
"""Where timestamp and number of a segment stand among its words of eight bytes."""

_PAIRS: Final = HEADER_SIZE // 8
_NEXT_NUMBER: Final = 1 << 32

_Stretch: TypeAlias = tuple[int, int, int]


def _stretches(segments: bytes) -> list[_Stretch]:
    """
    Number and timestamp on the wire of segments without payload, and how many follow each other
    with the next number and the same timestamp. There are dozens where something was lost, and
    the loops over them are the library's.
    """
    words = array("Q", segments)
    if sys.byteorder == "big":
        words.byteswap()
    pairs = words[_PAIR::_PAIRS]
    count = len(pairs)
    steps = list(map(sub, pairs[1:], pairs[:-1]))
    if steps.count(_NEXT_NUMBER) == count - 1:
        return [(pairs[0] >> 32, pairs[0] & MASK32, count)]
    found: list[_Stretch] = []
    start = 0
    for index, step in enumerate(steps, 1):
        if step != _NEXT_NUMBER:
            found.append((pairs[start] >> 32, pairs[start] & MASK32, index - start))
            start = index
    found.append((pairs[start] >> 32, pairs[start] & MASK32, count - start))
    return found


class ARQ:
    """
    Reliable, ordered delivery over datagrams that may be lost, repeated and reordered.

    @ivar conv: the conversation id.
    @ivar settings: what it goes by.
    @ivar epoch: what the wire's clock shows at time 0.
    @ivar overhead: bytes by which each datagram grows on its further way.
    @ivar counters: what happened, see L{Counters}.
    @ivar control: the verdict about the peer, and segments without data.
    @ivar sender: what goes out.
    @ivar receiver: what has come.
    @ivar pieces: of segments that were too long for the path (kcp-close.md 16).
    @ivar trial: number and timestamp of what was sent last for its length alone.
    @ivar trial_arrived: it was acknowledged; who reads it takes it back.
    @ivar wins_payloads: what WINS segments have carried (kcp-close.md 15); who reads it empties it.
    @ivar our_fin_first_sent_after_theirs: the peer's end of stream was in order
        when ours was sent first, so whoever acknowledges ours has seen that.
    """

    __slots__ = (
        "_window_from",
        "_window_since",
        "control",
        "conv",
        "counters",
        "epoch",
        "our_fin_first_sent_after_theirs",
        "overhead",
        "pieces",
        "receiver",
        "sender",
        "settings",
        "trial",
        "trial_arrived",
        "wins_payloads",
    )

    def __init__(
        self,
        conv: int,
        settings: Settings,
        *,
        epoch: int = 0,
        overhead: int = 0,
        marked: bool = True,
        first_sent: int = 0,
        first_received: int = 0,
    ) -> None:
        """
        @param marked: False behaves to the byte as kcp-go does: no marks, and a
            congestion window that only the first flush opens.
        @param first_sent: number of our first segment.
        @param first_received: number of the peer's.
        """
        self.conv = conv
        self.settings = settings
        self.epoch = epoch
        self.overhead = overhead
        self.wins_payloads: list[bytes] = []
        self.pieces = Pieces()
        self.trial: tuple[int, int] | None = None
        self.trial_arrived = False
        self.counters = Counters()
        self.our_fin_first_sent_after_theirs = False
        self.control = Control(conv, marked, settings.probe_wait)
        self.sender = Sender(first_sent, settings, self.counters, overhead, epoch)
        if marked:
            # kcp-go opens the window by a flush right after creation (kcp.md 1.12).
            self.sender.recovery.open()
        self.receiver = Receiver(
            first_received, self._window_of(settings), settings.stream, self.control, self.counters
        )
        self.receiver.limit = self.receive_limit
        self._window_from = first_received
        self._window_since = 0

    def _window_of(self, settings: Settings) -> int:
        """Segments kept for the application: any message has room, if we may choose."""
        if settings.stream or not self.control.marks:
            return settings.receive_window
        return max(settings.receive_window, MAXIMUM_FRAGMENTS)

    def _grow_window(self, now: int) -> None:
        """A share of the window has come: widen it, if that was quick and is read."""
        receiver = self.receiver
        widest = self.settings.widest_receive_window
        quick = now - self._window_since <= GROWTH_TIME
        if quick and receiver.wnd < widest and 4 * receiver.queue.segments <= receiver.wnd:
            trusted = receiver.limit == self.receive_limit
            receiver.wnd = min(2 * receiver.wnd, widest)
            if trusted:
                receiver.limit = self.receive_limit
        self._window_from, self._window_since = receiver.nxt, now

    @property
    def receive_limit(self) -> int:
        """
        Bytes kept for the application of a peer that may be trusted with its window: so many
        as that of segments of usual length has, whatever length they are.
        """
        return self.receiver.wnd * max(self.settings.mtu, USUAL_MTU)

    @property
    def snd_una(self) -> int:
        """First number the peer's cumulative acknowledgement does not cover."""
        return self.sender.sent.una & MASK32

    @property
    def snd_nxt(self) -> int:
        """Next number we give."""
        return self.sender.sent.nxt & MASK32

    @property
    def rcv_nxt(self) -> int:
        """Next number we wait for."""
        return self.receiver.nxt & MASK32

    @property
    def timeout(self) -> int:
        """How long a retransmission waits, in nanoseconds."""
        return self.sender.recovery.timeout

    @property
    def notable(self) -> bool:
        """Something came or happened that ends a session or a half of it."""
        return (
            self.control.reset_heard
            or self.receiver.end is not None
            or self.sender.transmitter.dead
        )

    def facts(self) -> dict[str, float | int | bool]:
        """The state for people. Times are seconds, windows are segments."""
        sender = self.sender
        return {
            **sender.recovery.facts(),
            "send_window": sender.window,
            "peer_window": sender.peer_window,
            "receive_window": self.receiver.free,
            "segments_unacknowledged": sender.wait_snd,
            "bytes_in_flight": sender.sent.in_flight,
            "bytes_unsent": sender.queue.size,
            "mss": sender.mss,
        }

    # application -> wire

    def write(self, data: bytes) -> None:
        """
        Queue bytes of a stream. The reference is kept.

        @raise RuntimeError: after L{finish}.
        @raise TypeError: this conversation carries messages.
        """
        if self.sender.ending:
            raise RuntimeError("write after finish")
        queue = self.sender.queue
        if not isinstance(queue, StreamQueue):
            raise TypeError("this conversation carries messages")
        queue.append(data)

    def send(self, data: bytes) -> None:
        """
        Queue a message. It is divided into segments of the present size.

        @raise ValueError: it is empty or makes more than 255 segments, kcp-go's
            limit. A peer with a smaller window, and any peer of the C library
            with 128 segments or more, can never put it together (kcp.md 10.5).
        @raise RuntimeError: after L{finish}.
        @raise TypeError: this conversation carries a stream.
        """
        sender = self.sender
        if sender.ending:
            raise RuntimeError("send after finish")
        if not isinstance(sender.queue, MessageQueue):
            raise TypeError("this conversation carries a stream")
        most = sender.widest * sender.mss
        if len(data) > most and sender.transmitter.validated and most:
            raise ValueError(
                f"a message of {len(data)} bytes: the peer's window takes {sender.widest}"
                f" pieces of {sender.mss} bytes at most"
            )
        sender.queue.append(data, sender.mss)

    def finish(self) -> None:
        """
        Nothing more will be queued. The end of stream follows the data, once the
        peer is L{Peer.MARKED}; another peer is never sent one.
        """
        self.sender.ending = True

    # wire -> application

    def take(self, limit: int) -> bytes:
        """
        The next bytes of the stream, C{b""} if there are none. Fewer than
        C{limit} does not mean that there are no more: large pieces are handed
        out as they arrived. Opens the window to the peer.

        @raise TypeError: this conversation carries messages.
        """
        if not self.settings.stream:
            raise TypeError("this conversation carries messages")
        return self.receiver.take(limit)

    def take_message(self) -> bytes | None:
        """
        The next whole message, or None. Opens the window to the peer.

        @raise TypeError: this conversation carries a stream.
        """
        if self.settings.stream:
            raise TypeError("this conversation carries a stream")
        return self.receiver.take_message()

    # when it ends

    def shut_window(self) -> None:
        """Advertise window 0 from now on. What comes is acknowledged all the same."""
        self.receiver.shut = True

    def release(self) -> None:
        """It is over: drop all data, keep numbers and counters."""
        self.sender.release()
        self.receiver.release()

    # settings that change while it runs

    def set_mss(self, mss: int) -> None:
        """
        Change the payload of a full segment. What has a number, and a message
        that is queued, keeps its division.

        @raise ValueError: C{mss} is not within 1 .. 65483.
        """
        require_within("mss", mss, 1, MAXIMUM_MTU - HEADER_SIZE)
        self.sender.set_mss(mss)

    @property
    def outstanding(self) -> bool:
        """Something was sent and is not acknowledged."""
        return self.sender.sent.outstanding > 0

    @property
    def started(self) -> bool:
        """The peer has something of ours."""
        return self.sender.sent.una > 0

    def divide(self, longest: int) -> None:
        """Send segments of more than C{longest} bytes of payload again in pieces."""
        transmitter = self.sender.transmitter
        transmitter.longest = longest

    def give_up(self) -> None:
        """What is in flight was too long for the path."""
        recovery = self.sender.recovery
        recovery.give_up()

    def new_path(self) -> None:
        """The peer is at another host."""
        recovery = self.sender.recovery
        recovery.new_path()

    def probe_segment(self, size: int, now: int) -> bytes:
        """
        A datagram of C{size} bytes that means nothing: a segment that the peer has already,
        with another payload. Every receiver acknowledges that and looks no further (kcp.md 1.7).
        """
        stamp = self._stamp(now)
        conv, wnd, ts, una, _, _ = stamp
        sn = (self.sender.sent.una - 1) & MASK32
        self.trial = (sn, ts)
        length = size - HEADER_SIZE
        return pack_header(conv, PUSH, 0, wnd, ts, sn, una, length) + bytes(length)

    def shrink(self, datagram: int) -> None:
        """
        The path takes no datagram of C{datagram} bytes (headers of ours included,
        without C{overhead}): make new segments an eighth shorter, not below what
        any IPv4 path takes.
        """
        mtu = max(datagram - datagram // 8, SMALLEST_PATH)
        if mtu < self.sender.mss + HEADER_SIZE:
            self.set_mss(mtu - HEADER_SIZE)

    def adopt(self, settings: Settings, now: int) -> None:
        """
        Go by other settings from now on. A congestion window of another kind begins
        anew. C{mtu} counts where it differs from before, so that what a path has
        taught is not forgotten.

        @raise ValueError: bytes are to become messages, or the reverse.
        """
        old = self.settings
        if settings.stream != old.stream:
            raise ValueError("mode: a session keeps the one it was made with")
        self.settings = settings
        self.sender.adopt(settings, self._stamp(now))
        self.receiver.wnd = self._window_of(settings)
        if settings.mtu != old.mtu:
            self.set_mss(settings.mss)

    # wire -> ARQ

    def input(self, run: Buffer, size: int, now: int, regular: bool = True) -> int:
        """
        Process a run of datagrams. Whatever they contain, nothing is raised.

        @param regular: False for what FEC rebuilt: old news, from which neither
            window nor round trip is learnt (kcp.md 1.7).
        @return: bits of L{HEARD} .. L{LAGGING}.
        """
        clock = self.epoch + now // MILLISECOND
        counters, control = self.counters, self.control
        queue, sent = self.receiver.queue, self.sender.sent
        segments, una = counters.in_segs, sent.una
        waiting, controls = queue.segments, control.heard_controls
        total = len(run)
        if total <= size or size <= 0:
            # For one datagram a kernel gains nothing.
            self._datagram(run if isinstance(run, bytes) else bytes(run), clock, regular)
        else:
            taken = self._take_in_order(run, size, regular) * size
            if taken == total:
                self.receiver.settle()
                return _IN_ORDER if sent.una == una else _IN_ORDER | COVERED
            self._run(run, size, taken, clock, regular)
        self.receiver.settle()
        if len(self.receiver.acks) > ACKS_TO_HOLD:
            self.receiver.thin()
        flags = 0
        if counters.in_segs != segments:
            flags = HEARD
        if queue.segments != waiting:
            flags |= READABLE
        if sent.una != una:
            flags |= COVERED
        if control.heard_controls != controls:
            flags |= CONTROL
        if control.reset_heard or self.receiver.end is not None:
            flags |= ENDING
        if self.sender.lags:
            self.sender.lags = False
            flags |= LAGGING
        return flags

    def _run(
        self, run: Buffer, size: int, position: int, clock: int, regular: bool
    ) -> None:
        total = len(run)
        while position < total:
            count = 0
            if total - position >= size > HEADER_SIZE and run[position + 4] == PUSH:
                count = self._take_run(run, position, size, regular)
            if not count:
                self._datagram(bytes(run[position : position + size]), clock, regular)
                count = 1
            position += count * size

    def _take_run(self, run: Buffer, position: int, size: int, regular: bool) -> int:
        """
        Take in as many whole PUSH segments with consecutive numbers as begin
        here, in or out of order.

        @return: how many; 0 if they are to be looked at one by one.
        """
        receiver = self.receiver
        rest = memoryview(run)[position:] if position else run
        count = self._take_in_order(rest, size, regular) if position else 0
        if count:
            return count
        first = int.from_bytes(rest[SN_OFFSET : SN_OFFSET + 4], "little")
        room = receiver.wnd - ((first - receiver.nxt) & MASK32)
        if room <= 0 or receiver.end is not None or receiver.crowded:
            return 0
        count, payload, ts, wnd, una = take_run(rest, size, self.conv, first, room)
        if count < 2:
            return 0
        # Each is acknowledged by name, and its timestamp tells which transmission it was.
        alike = same_column(rest[: count * size], size, TS_OFFSET, 4)
        if alike < count:
            count, payload = alike, payload[: alike * (size - HEADER_SIZE)]
            ts = int.from_bytes(rest[TS_OFFSET : TS_OFFSET + 4], "little")
        if not receiver.hold_run(first, count, payload, ts):
            return 0
        return self._took(count, wnd, una, regular)

    def _take_in_order(self, run: Buffer, size: int, regular: bool) -> int:
        """
        Take in as many whole PUSH segments as begin here and are the next in order,
        while nothing is held out of order and no end is in sight.

        @return: how many.
        """
        receiver = self.receiver
        queue = receiver.queue
        limit = receiver.wnd - queue.segments
        if limit <= 0 or receiver.held or receiver.end is not None or receiver.shut:
            return 0
        if queue.size >= receiver.limit or (receiver.charged and receiver.full):
            return 0
        count, payload, ts, wnd, una = take_run(
            run, size, self.conv, receiver.nxt & MASK32, limit
        )
        if count:
            receiver.append_run(count, payload, size - HEADER_SIZE, ts)
            sender = self.sender
            if (
                regular
                and wnd == sender.peer_window
                and una == sender.sent.una & MASK32
                and self.control.heard
            ):
                # What is everyday for who only receives.
                self.counters.in_segs += count
            else:
                self._took(count, wnd, una, regular)
        return count

    def _took(self, count: int, wnd: int, una: int, regular: bool) -> int:
        sender = self.sender
        self.control.heard = True
        self.counters.in_segs += count
        if regular and wnd != sender.peer_window:
            sender.update_window(wnd)
        sent = sender.sent
        before = sent.una
        if una != before & MASK32 and sender.cover(una):
            sender.recovery.heard(-1, 0, sent.una - before, sender.peer_window)
        return count

    def _take_acks(self, data: bytes, count: int, clock: int, regular: bool) -> bool:
        """
        Take in a datagram of nothing but C{count} ACK segments that differ in number
        and timestamp only, as one flush of the peer makes them.

        @return: False, and nothing is done, if it is something else.
        """
        sender = self.sender
        conv, cmd, frg, wnd, _, _, una, length = unpack_header(data)
        peer = self.control.peer
        if (
            cmd != ACK
            or length
            or conv != self.conv
            or not sender.transmitter.validated
            or not (peer is Peer.UNMARKED or (peer is Peer.MARKED and frg == MARK))
            or same_column(data, HEADER_SIZE, 0, TS_OFFSET) < count
            or same_column(data, HEADER_SIZE, UNA_OFFSET, HEADER_SIZE - UNA_OFFSET) < count
        ):
            return False
        self._took(count, wnd, una, regular)
        acks = _stretches(data)
        if self.trial is not None:
            self._look_for_trial(self.trial, acks)
        sender.recovery.acknowledge(acks, clock, peer is _MARKED)
        if regular:
            start = len(data) - HEADER_SIZE + TS_OFFSET
            echo = int.from_bytes(data[start : start + 4], "little")
            sender.recovery.heard(echo, clock, 0, sender.peer_window)
        return True

    def _look_for_trial(self, trial: tuple[int, int], acks: list[_Stretch]) -> None:
        number, clock = trial
        for sn, ts, count in acks:
            if ts == clock and (number - sn) & MASK32 < count:
                self.trial_arrived = True

    def _datagram(self, data: bytes, clock: int, regular: bool) -> None:
        """
        Process one datagram segment by segment. After an error the rest of it is
        skipped; what came before stays.
        """
        end = len(data)
        if (
            end >= MANY_ACKS * HEADER_SIZE
            and not end % HEADER_SIZE
            and self._take_acks(data, end // HEADER_SIZE, clock, regular)
        ):
            return
        sender = self.sender
        control = self.control
        sent = sender.sent
        acks: list[_Stretch] = []
        echo = -1
        segments = 0
        position = 0
        before = sent.una
        good = end >= HEADER_SIZE
        while end - position >= HEADER_SIZE:
            conv, cmd, frg, wnd, ts, sn, una, length = unpack_header(data, position)
            position += HEADER_SIZE
            if conv != self.conv or length > end - position or not PUSH <= cmd <= WINS:
                good = False
                break
            segments += 1
            if cmd == ACK:
                if not sender.transmitter.validated:
                    sender.transmitter.prove(sn, ts)
                if frg != MARK or control.peer is not _MARKED:
                    control.judge(frg)
                echo = ts
            elif frg == RESET and cmd == WINS and not self._is_valid_reset(sn, una):
                self.counters.bad_resets += 1
                position += length
                continue
            control.heard = True
            if regular and (wnd != sender.peer_window or not sender.widest):
                sender.update_window(wnd)
            if una != sent.una & MASK32:
                sender.cover(una)
            if cmd == ACK:
                acks.append((sn, ts, 1))
            elif cmd != PUSH:
                control.receive(cmd, frg, ts, sn, una, regular)
                if length and cmd == WINS and frg == MARK:
                    self._take_wins_payload(data[position : position + length], sn, una, regular)
            elif frg != END or length:
                payload = data[position : position + length]
                self.receiver.push(sn, ts, frg, payload, regular)
            else:
                self._take_end(sn, ts)
            position += length
        if acks:
            if self.trial is not None:
                self._look_for_trial(self.trial, acks)
            sender.recovery.acknowledge(acks, clock, control.peer is _MARKED)
        if not good:
            self.counters.kcp_in_errors += 1
            return
        self.counters.in_segs += segments
        if not regular:
            echo = -1
        if echo >= 0 or sent.una != before:
            sender.recovery.heard(echo, clock, sent.una - before, sender.peer_window)

    def _take_wins_payload(self, payload: bytes, sn: int, una: int, regular: bool) -> None:
        """Take in what a WINS segment of a peer of ours carries (kcp-close.md 15, 16 and 18)."""
        if payload[0] == PIECE:
            whole = self.pieces.take(payload)
            if whole is not None:
                self.receiver.push(*whole, regular)
            return
        if payload[0] == FORGOTTEN:
            if self._is_forgotten(payload):
                self.control.reset_heard = True
            else:
                self.counters.bad_resets += 1
            return
        if is_about_shapes(payload) and not self._is_near(sn, una):
            self.counters.bad_shapes += 1
        else:
            self.wins_payloads.append(payload)
        if not regular:
            # Old news of the window, but the payload is new.
            self.control.heard_controls += 1

    def _take_end(self, sn: int, ts: int) -> None:
        if self.control.peer is Peer.UNMARKED:
            self.counters.unmarked_ends += 1
            self.receiver.skip(sn, ts)
        elif self.receiver.push_end(sn, ts):
            self.control.peer = Peer.MARKED

    def _is_valid_reset(self, sn: int, una: int) -> bool:
        """Only who has seen our numbers can name them (kcp-close.md 6)."""
        sent = self.sender.sent
        receiver = self.receiver
        return (
            (una - sent.una) & MASK32 <= sent.nxt - sent.una
            and (sn - receiver.nxt) & MASK32 <= receiver.wnd
        )

    def _is_forgotten(self, payload: bytes) -> bool:
        """It answers a PUSH that is in flight, and what that acknowledged is not old (7.4)."""
        numbers = unpack_forgotten(payload)
        if numbers is None:
            return False
        sent = self.sender.sent
        flying = (numbers[0] - sent.una) & MASK32 < sent.nxt - sent.una
        return flying and (self.receiver.nxt - numbers[1]) & MASK32 <= LATELY

    def _is_near(self, sn: int, una: int) -> bool:
        """
        Whether the peer may have named these numbers lately. Who has seen nothing of the
        session does not guess that (kcp-close.md 18).
        """
        sent, receiver = self.sender.sent, self.receiver
        ahead = (sn - receiver.nxt + LATELY) & MASK32
        behind = (una - sent.una + LATELY) & MASK32
        return ahead <= receiver.wnd + LATELY and behind <= sent.nxt - sent.una + LATELY

    # ARQ -> wire

    def flush(
        self, now: int, emit: Emit, budget: int, strict: bool = False
    ) -> bool:
        """
        Send what can be sent now (kcp.md 1.11).

        @param emit: takes a run and the size of its datagrams. The buffer is
            valid during the call. When it answers False, it has taken the run,
            and nothing new is numbered.
        @param budget: bytes, C{overhead} of each datagram included. The run that
            crosses it goes out whole.
        @param strict: C{budget} is a hard bound, for a peer that is not proved:
            acknowledgements first, then new data for a third of what is left,
            in a shorter segment if need be, the rest being for its repetitions.
        @return: something could still be sent at once and only C{budget} or
            C{emit} prevented it.
        """
        sender = self.sender
        receiver = self.receiver
        control = self.control
        if GROWN_AT * (receiver.nxt - self._window_from) >= receiver.wnd:
            self._grow_window(now)
        stamp = self._stamp(now)
        clock = stamp[4]
        queue = sender.queue
        if (
            len(receiver.acks) <= 1
            and not (control.ask or control.tell or control.probe_wait or strict)
            and sender.peer_window
            and not sender.ending
            and (not queue.size or queue.segments(sender.mss) == 1)
            and sender.recovery.quiet(stamp, queue.size > 0)
        ):
            return self._flush_small(stamp, emit, budget)
        control.probe(sender.peer_window, clock)
        packer = Packer(emit, sender.mss + HEADER_SIZE, self.overhead)
        space = min(budget - self.overhead, sender.mss + HEADER_SIZE) if strict else NEVER
        controls, more = b"", False
        if receiver.acks or control.ask or control.tell:
            controls, more = self._controls(stamp, space)
        marked = control.peer is _MARKED
        first = strict or queue.size > ACKNOWLEDGED_FIRST * sender.mss
        if controls and first:
            packer.add_headers(controls)
        end_sent = sender.end_sent
        more = sender.flush(stamp, packer, budget, strict, marked) or more
        if sender.end_sent and not end_sent:
            self.our_fin_first_sent_after_theirs = receiver.end_in_order
        if controls and not first:
            packer.add_headers(controls)
        packer.finish()
        return more

    def _stamp(self, now: int) -> Stamp:
        receiver = self.receiver
        clock = self.epoch + now // MILLISECOND
        # Where nothing waits for the application, all of the window is free.
        whole = not receiver.queue.segments and not receiver.shut
        wnd = receiver.wnd if whole else receiver.free
        return self.conv, wnd, clock & MASK32, receiver.nxt & MASK32, clock, now

    def _flush_small(self, stamp: Stamp, emit: Emit, budget: int) -> bool:
        """
        Send at most one acknowledgement and one segment: all that an exchange of
        small pieces needs.
        """
        sender = self.sender
        datagram = b""
        more = False
        if self.receiver.acks:
            acks = self.receiver.acknowledgements(self._most_acks())
            datagram = self.control.acknowledgements(acks, stamp[1], stamp[3])
            self.counters.out_segs += len(acks)
        if sender.queue.size and sender.room > 0:
            if budget <= 0:
                more = True
            elif len(datagram) + sender.queue.size <= sender.mss:
                datagram += sender.send_one(stamp)
            else:
                segment = sender.send_one(stamp)
                emit(segment, len(segment))
        if datagram:
            emit(datagram, len(datagram))
        return more

    def _most_acks(self) -> int:
        """How many acknowledgements leave with those of before; 0 for a peer that is not ours."""
        if self.control.peer is not _MARKED:
            return 0
        return REPEATED_DATAGRAMS * ((self.sender.mss + HEADER_SIZE) // HEADER_SIZE)

    def _controls(self, stamp: Stamp, space: int) -> tuple[bytes, bool]:
        """
        The ACK, WASK and WINS segments due now (kcp.md 1.11 steps 1 to 3).

        @param space: bytes they may take. What does not fit stays due.
        @return: them, and whether something was left.
        """
        control = self.control
        acks = self.receiver.acknowledgements(self._most_acks() if space >= NEVER else 0)
        fit = max(0, space // HEADER_SIZE)
        if len(acks) > fit:
            self.receiver.requeue(acks[fit:])
            del acks[fit:]
        _, wnd, _, una, _, _ = stamp
        segments = control.acknowledgements(acks, wnd, una)
        if control.ask or control.tell:
            segments += control.windows(wnd, self.snd_nxt, una, space - len(segments))
        self.counters.out_segs += len(segments) // HEADER_SIZE
        left = bool(self.receiver.acks) or control.ask or control.tell
        return segments, left

    def deadline(self) -> int:
        """
        When L{flush} wants to be called for a retransmission, a window probe or what
        was held back; L{NEVER} if none is to come.
        """
        sender = self.sender
        due = sender.recovery.deadline()
        control = self.control
        if control.probe_wait and (sender.queue.size or sender.ending):
            return min(due, (control.probe_due - self.epoch) * MILLISECOND)
        return due
