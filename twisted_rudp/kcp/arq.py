"""
One KCP conversation as a value: the ARQ of kcp-go 5.6.72 (kcp.md 1) with the
mark, the end of stream and the reset of kcp_close.md.

It does no I/O and reads no clock. Times are milliseconds modulo 2^32, and so
are segment numbers on its surface; inside both are unbounded.
"""

from __future__ import annotations

from enum import Enum, auto

from twisted_rudp.core.congestion import Controller, FixedWindow, KCPWindow, Losses, RoundTrip
from twisted_rudp.core.serial import MASK32, unwrap32
from twisted_rudp.kcp.flights import NEVER
from twisted_rudp.kcp.outbox import MessageOutbox, StreamOutbox
from twisted_rudp.kcp.packing import Emit, Packer
from twisted_rudp.kcp.profiles import MAXIMUM_MTU, MAXIMUM_WINDOW, Settings, require_within
from twisted_rudp.kcp.receiver import Receiver
from twisted_rudp.kcp.sender import Allowance, Sender, Stamp
from twisted_rudp.kcp.wire import (
    ACK,
    END,
    HEADER_SIZE,
    MARK,
    PUSH,
    RESET,
    WASK,
    WINS,
    Counters,
    pack_header,
    unpack_header,
)
from twisted_rudp.kernels import take_run
from twisted_rudp.kernels.pure import Buffer

PROBE_LIMIT = 120_000
"""
Longest wait between two window probes (kcp.md 1.3).
"""

SMALLEST_PATH = 548
"""
UDP payload that every IPv4 host takes (RFC 1122 section 3.3.2).
"""


class Peer(Enum):
    """
    The verdict about the peer (kcp_close.md 2): does it know the mark?
    """

    UNKNOWN = auto()
    MARKED = auto()
    UNMARKED = auto()


class _Probe:
    """
    When to ask a peer whose window is 0 (kcp.md 1.11 step 2).

    @ivar wait: present wait, 0 while the window is open.
    @ivar due: clock at which the next question is due.
    @ivar ask: a WASK is to be sent.
    """

    __slots__ = ("_first", "ask", "due", "wait")

    def __init__(self, first: int) -> None:
        self._first = first
        self.ask = False
        self.wait = 0
        self.due = 0

    def update(self, peer_window: int, now: int) -> None:
        """
        A flush begins.
        """
        if peer_window:
            self.wait = self.due = 0
        elif not self.wait:
            self.wait = self._first
            self.due = now + self.wait
        elif now >= self.due:
            self.wait = min(self.wait + self.wait // 2, PROBE_LIMIT)
            self.due = now + self.wait
            self.ask = True


class ARQ:
    """
    Reliable, ordered delivery over datagrams that may be lost, repeated and
    reordered.

    @ivar counters: what happened, see L{Counters}.
    @ivar peer: the verdict so far.
    @ivar heard: a valid segment of the peer has arrived.
    @ivar reset_heard: a valid reset has arrived.
    @ivar control_heard: how many WASK and WINS have arrived; C{control_ts} and
        C{control_una} are those fields of the last.
    @ivar control_ts_out: C{ts} of the WASK and WINS we send.
    @ivar our_fin_first_sent_after_theirs: the peer's end of stream was in order
        when ours was sent first, so whoever acknowledges ours has seen that.
    """

    def __init__(
        self,
        conv: int,
        settings: Settings,
        *,
        overhead: int = 0,
        marked: bool = True,
        initial_numbers: tuple[int, int] = (0, 0),
    ) -> None:
        """
        @param overhead: bytes by which each datagram grows on its further way.
        @param marked: False behaves to the byte as kcp-go does: no marks, and a
            congestion window that only the first flush opens.
        @param initial_numbers: first number to send and to receive.
        """
        self.conv = conv
        self.settings = settings
        self.counters = Counters()
        self.peer = Peer.UNKNOWN
        self.heard = False
        self.reset_heard = False
        self.control_heard = 0
        self.control_ts = 0
        self.control_una = 0
        self.control_ts_out = 0
        self.our_fin_first_sent_after_theirs = False
        self._overhead = overhead
        self._frg = MARK if marked else 0
        self._clock = 0
        self._probe = _Probe(settings.probe_wait)
        controller: Controller = FixedWindow() if settings.nc else KCPWindow(settings.resend)
        if marked:
            # kcp-go opens the window by a flush right after creation (kcp.md 1.12).
            controller.flushed(settings.mss, Losses(False, False, 0, 0))
        self._outbox = StreamOutbox() if settings.stream else MessageOutbox()
        self._sender = Sender(
            initial_numbers[0], settings, self._outbox, controller, self.counters, overhead
        )
        self._receiver = Receiver(
            initial_numbers[1], settings.rcvwnd, settings.stream, self.counters
        )

    # application -> wire

    def write(self, data: bytes) -> None:
        """
        Queue bytes of a stream. The reference is kept.

        @raise RuntimeError: after L{finish}.
        @raise TypeError: this conversation carries messages.
        """
        if self._sender.ending:
            raise RuntimeError("write after finish")
        if not isinstance(self._outbox, StreamOutbox):
            raise TypeError("this conversation carries messages")
        self._outbox.append(data)

    def send(self, data: bytes) -> None:
        """
        Queue a message. It is divided into segments of the present size.

        @raise ValueError: it is empty or makes more than 255 segments, kcp-go's
            limit. A peer with a smaller window, and any peer of the C library
            with 128 segments or more, can never put it together (kcp.md 10.5).
        @raise RuntimeError: after L{finish}.
        @raise TypeError: this conversation carries a stream.
        """
        if self._sender.ending:
            raise RuntimeError("send after finish")
        if not isinstance(self._outbox, MessageOutbox):
            raise TypeError("this conversation carries a stream")
        self._outbox.append(data, self._sender.mss)

    def finish(self) -> None:
        """
        Nothing more will be queued. The end of stream follows the data, once the
        peer is L{Peer.MARKED}; another peer is never sent one.
        """
        self._sender.ending = True

    @property
    def unsent(self) -> int:
        """
        Bytes queued that have no number yet.
        """
        return self._outbox.size

    @property
    def in_flight(self) -> int:
        """
        Payload bytes sent and not acknowledged, neither by C{una} nor one by
        one.
        """
        flights = self._sender.flights
        return flights.numbered - flights.delivered

    @property
    def wait_snd(self) -> int:
        """
        Segments queued and in flight, as kcp-go counts them.
        """
        return self._sender.wait_snd

    @property
    def drained(self) -> bool:
        """
        Nothing is queued and all that was sent is acknowledged, our end of
        stream included if it was sent.
        """
        return not self._outbox.size and not self._sender.flights.outstanding

    @property
    def fin_sent(self) -> bool:
        """
        Our end of stream has been numbered.
        """
        return self._sender.end is not None

    @property
    def fin_sendings(self) -> int:
        """
        How often our end of stream was sent.
        """
        return self._sender.end_sendings

    @property
    def fin_acknowledged(self) -> bool:
        """
        Our end of stream, and with it everything, is acknowledged.
        """
        return self._sender.end_acknowledged

    @property
    def only_fin_unacknowledged(self) -> bool:
        """
        Everything but our end of stream has arrived.
        """
        return self.fin_sent and self._sender.flights.outstanding == 1

    # wire -> application

    def take(self, limit: int) -> bytes:
        """
        The next bytes of the stream, C{b""} if there are none. Fewer than
        C{limit} does not mean that there are no more: large pieces are handed
        out as they arrived. Opens the window to the peer.
        """
        return self._receiver.take(limit)

    def take_message(self) -> bytes | None:
        """
        The next whole message, or None. Opens the window to the peer.
        """
        return self._receiver.take_message()

    @property
    def unread(self) -> int:
        """
        Bytes that can be taken; in message mode those of whole messages.
        """
        return self._receiver.inbox.size

    @property
    def readable(self) -> bool:
        """
        There is something to take; for messages also one of 0 bytes.
        """
        return self._receiver.inbox.readable

    @property
    def end_in_order(self) -> bool:
        """
        The peer's end of stream and everything before it has arrived.
        """
        return self._receiver.end_in_order

    @property
    def end_received(self) -> bool:
        """
        L{end_in_order}, and everything before it was taken. A message that the
        peer did not complete counts for nothing.
        """
        return self._receiver.end_in_order and not self._receiver.inbox.readable

    @property
    def end_ts(self) -> int:
        """
        Timestamp of the peer's end of stream, for its acknowledgement.
        """
        return self._receiver.end_ts

    def shut_window(self) -> None:
        """
        Advertise window 0 from now on. What comes is acknowledged all the same.
        """
        self._receiver.shut = True

    # state, for the owner

    @property
    def notable(self) -> bool:
        """
        Something came or happened that ends a session or a half of it.
        """
        return self.reset_heard or self._receiver.end is not None or self._sender.dead

    @property
    def proved(self) -> bool:
        """
        An acknowledgement has echoed number and timestamp of a transmission of
        ours, so the peer receives at its address.
        """
        return self._sender.proved

    @property
    def dead(self) -> bool:
        """
        A segment was sent C{dead_link} times. Only a mark (kcp.md 1.13).
        """
        return self._sender.dead

    @property
    def snd_una(self) -> int:
        """
        First number the peer's cumulative acknowledgement does not cover.
        """
        return self._sender.flights.una & MASK32

    @property
    def snd_nxt(self) -> int:
        """
        Next number we give.
        """
        return self._sender.flights.nxt & MASK32

    @property
    def rcv_nxt(self) -> int:
        """
        Next number we wait for.
        """
        return self._receiver.nxt & MASK32

    @property
    def wnd(self) -> int:
        """
        The window we advertise.
        """
        return self._receiver.free

    @property
    def rmt_wnd(self) -> int:
        """
        The window the peer advertised last.
        """
        return self._sender.peer_window

    @property
    def round_trip(self) -> RoundTrip:
        """
        Smoothed round trip and timeout, in milliseconds.
        """
        return self._sender.round_trip

    @property
    def controller(self) -> Controller:
        """
        The congestion controller.
        """
        return self._sender.controller

    @property
    def probe_wait(self) -> int:
        """
        Present wait between window probes; 0 while the peer's window is open.
        """
        return self._probe.wait

    def facts(self) -> dict[str, float | int | bool]:
        """
        The state for people. Times are seconds, windows are segments.
        """
        trip = self.round_trip
        return {
            "rtt": trip.smoothed / 1000,
            "rtt_variation": trip.variation / 1000,
            "retransmission_timeout": trip.timeout / 1000,
            "send_window": self._sender.window,
            "peer_window": self.rmt_wnd,
            "receive_window": self.wnd,
            "segments_waiting": self.wait_snd,
            "bytes_in_flight": self.in_flight,
            "mss": self._sender.mss,
        }

    def release(self) -> None:
        """
        It is over: drop all data, keep numbers and counters.
        """
        self._sender.release()
        self._outbox = StreamOutbox()
        self._receiver.release()

    # settings that change while it runs

    def set_mss(self, mss: int) -> None:
        """
        Change the payload of a full segment. What has a number, and a message
        that is queued, keeps its division.

        @raise ValueError: C{mss} is not within 1 .. 65483.
        """
        require_within("mss", mss, 1, MAXIMUM_MTU - HEADER_SIZE)
        self._sender.set_mss(mss)

    def shrink(self, datagram: int) -> None:
        """
        The path takes no datagram of C{datagram} bytes (headers of ours included,
        without C{overhead}): make new segments an eighth shorter, not below what
        any IPv4 path takes.
        """
        mtu = max(datagram - datagram // 8, SMALLEST_PATH)
        if mtu < self._sender.mss + HEADER_SIZE:
            self.set_mss(mtu - HEADER_SIZE)

    def set_window(self, snd: int, rcv: int) -> None:
        """
        Change the windows, in segments.

        @raise ValueError: one is not within 1 .. 65535.
        """
        require_within("snd", snd, 1, MAXIMUM_WINDOW)
        require_within("rcv", rcv, 1, MAXIMUM_WINDOW)
        self._sender.snd_wnd = snd
        self._receiver.wnd = rcv

    def ask(self) -> None:
        """
        Send a WASK with the next flush.
        """
        self._probe.ask = True

    def tell(self) -> None:
        """
        Send a WINS with the next flush.
        """
        self._receiver.tell = True

    def reset_segment(self) -> bytes:
        """
        The datagram that tells a marked peer that this conversation is over
        (kcp_close.md 1).
        """
        return pack_header(
            self.conv, WINS, RESET, 0, self._clock & MASK32, self.snd_nxt, self.rcv_nxt, 0
        )

    # wire -> ARQ

    def input(self, run: Buffer, size: int, now: int, regular: bool = True) -> None:
        """
        Digest a run of datagrams. Whatever they contain, nothing is raised.

        @param regular: False for what FEC rebuilt: old news, from which neither
            window nor round trip is learnt (kcp.md 1.7).
        """
        self._clock = unwrap32(now, self._clock)
        total = len(run)
        position = 0
        receiver = self._receiver
        if total >= size > HEADER_SIZE and receiver.plain and run[4] == PUSH:
            count, payload, ts, wnd, una = take_run(
                run, size, self.conv, receiver.nxt & MASK32, receiver.free
            )
            if count:
                receiver.append_run(count, payload, size - HEADER_SIZE, ts)
                self.counters.in_segs += count
                if self._learn(wnd, una, regular):
                    self._sender.grow()
                position = count * size
        if position < total:
            data = bytes(run)
            while position < total:
                end = min(position + size, total) if size > 0 else total
                self._datagram(data, position, end, regular)
                position = end

    def _learn(self, wnd: int, una: int, regular: bool) -> bool:
        """
        Take in what every segment says.

        @return: C{una} was news.
        """
        self.heard = True
        if regular:
            self._sender.peer_window = wnd
        return self._sender.cover(una)

    def _datagram(self, data: bytes, position: int, end: int, regular: bool) -> None:
        """
        Digest one datagram (kcp.md 1.7). After an error the rest of it is
        skipped; what came before stays.
        """
        sender = self._sender
        acks: list[tuple[int, int]] = []
        segments = 0
        moved = False
        good = end - position >= HEADER_SIZE
        while good and end - position >= HEADER_SIZE:
            conv, cmd, frg, wnd, ts, sn, una, length = unpack_header(data, position)
            position += HEADER_SIZE
            if conv != self.conv or length > end - position or not PUSH <= cmd <= WINS:
                good = False
                break
            segments += 1
            if cmd == PUSH:
                moved = self._learn(wnd, una, regular) or moved
                self._push(sn, ts, frg, data[position : position + length], regular)
            elif cmd == ACK:
                self._judge(frg)
                if not sender.proved:
                    sender.prove(sn, ts)
                moved = self._learn(wnd, una, regular) or moved
                acks.append((sn, ts))
            elif frg == RESET and cmd == WINS and not self._is_valid_reset(sn, una):
                self.counters.bad_resets += 1
            else:
                moved = self._learn(wnd, una, regular) or moved
                self._control(cmd, frg, ts, una, regular)
            position += length
        if acks:
            sender.acknowledge(acks, self._clock)
        if not good:
            self.counters.kcp_in_errors += 1
            return
        self.counters.in_segs += segments
        if acks and regular:
            sender.sample(acks[-1][1], self._clock)
        if moved:
            sender.grow()

    def _push(self, sn: int, ts: int, frg: int, payload: bytes, regular: bool) -> None:
        if frg != END or payload:
            self._receiver.push(sn, ts, frg, payload, regular)
        elif self.peer is Peer.UNMARKED:
            self.counters.unmarked_ends += 1
            self._receiver.swallow(sn, ts)
        else:
            self.peer = Peer.MARKED
            self._receiver.push_end(sn, ts)

    def _control(self, cmd: int, frg: int, ts: int, una: int, regular: bool) -> None:
        if frg == RESET and cmd == WINS:
            self.reset_heard = True
            self._judge(MARK)
        else:
            self._judge(frg)
        if cmd == WASK:
            self._receiver.tell = True
        if regular:
            self.control_heard += 1
            self.control_ts = ts
            self.control_una = una

    def _judge(self, frg: int) -> None:
        """
        Draw the conclusion from C{frg} of an ACK, WASK or WINS (kcp_close.md 2).
        """
        if frg != MARK:
            self.peer = Peer.UNMARKED
        elif self.peer is Peer.UNKNOWN:
            self.peer = Peer.MARKED

    def _is_valid_reset(self, sn: int, una: int) -> bool:
        """
        Only who has seen our numbers can name them (kcp_close.md 6).
        """
        flights = self._sender.flights
        receiver = self._receiver
        return (
            (una - flights.una) & MASK32 <= flights.nxt - flights.una
            and (sn - receiver.nxt) & MASK32 <= receiver.wnd
        )

    # ARQ -> wire

    def flush(
        self, now: int, emit: Emit, budget: int, full: bool = True, strict: bool = False
    ) -> bool:
        """
        Send what can be sent now (kcp.md 1.11).

        @param emit: takes a run and the size of its datagrams. The buffer is
            valid during the call. When it answers False, it has taken the run,
            and nothing new is numbered.
        @param budget: bytes, C{overhead} of each datagram included. The run that
            crosses it goes out whole.
        @param full: False does what kcp-go's acknowledgement-only flush does.
        @param strict: C{budget} is a hard bound, for a peer that is not proved:
            acknowledgements first, then new data for a third of what is left,
            in a shorter segment if need be, the rest being for its repetitions.
        @return: something could still be sent at once and only C{budget} or
            C{emit} prevented it.
        """
        clock = self._clock = unwrap32(now, self._clock)
        sender = self._sender
        receiver = self._receiver
        self._probe.update(sender.peer_window, clock)
        stamp = Stamp(
            self.conv, receiver.free, now & MASK32, receiver.nxt & MASK32, clock
        )
        packer = Packer(emit, sender.mss + HEADER_SIZE, self._overhead)
        limit = min(budget - self._overhead, sender.mss + HEADER_SIZE) if strict else None
        controls, more = self._controls(stamp, limit)
        marked = self.peer is Peer.MARKED
        if strict:
            packer.add_headers(controls)
        if full:
            fin_was_sent = sender.end is not None
            more = sender.flush(stamp, packer, Allowance(budget, strict), marked) or more
            if sender.end is not None and not fin_was_sent:
                self.our_fin_first_sent_after_theirs = receiver.end_in_order
        else:
            sender.number_only(marked)
        if not strict:
            packer.add_headers(controls)
        packer.finish()
        return more

    def _controls(self, stamp: Stamp, limit: int | None) -> tuple[bytes, bool]:
        """
        The ACK, WASK and WINS segments due now (kcp.md 1.11 steps 1 to 3).

        @param limit: bytes they may take, None for any number. What does not
            fit stays due.
        @return: them, and whether something was left.
        """
        receiver = self._receiver
        conv, wnd, _, una, _ = stamp
        frg = self._frg
        acks = receiver.acknowledgements()
        segments = [pack_header(conv, ACK, frg, wnd, ts, sn, una, 0) for sn, ts in acks]
        if limit is not None and len(segments) * HEADER_SIZE > limit:
            fit = max(0, limit // HEADER_SIZE)
            receiver.requeue(acks[fit:])
            del segments[fit:]
            limit = 0
        left = len(segments) < len(acks)
        for due, cmd in ((self._probe.ask, WASK), (receiver.tell, WINS)):
            if not due:
                continue
            if limit is not None and (len(segments) + 1) * HEADER_SIZE > limit:
                left = True
                continue
            first_word = cmd == WASK and not self.heard
            sn = 0 if first_word else self.snd_nxt
            segments.append(pack_header(conv, cmd, frg, wnd, self.control_ts_out, sn, una, 0))
            if cmd == WASK:
                self._probe.ask = False
            else:
                receiver.tell = False
        self.counters.out_segs += len(segments)
        return b"".join(segments), left

    def next_flush(self, now: int) -> int | None:
        """
        Milliseconds until L{flush} wants to be called for a retransmission or a
        window probe, None if neither is to come.
        """
        alarm = self._sender.alarm
        if self._probe.wait and (self._outbox.size or self._sender.ending):
            alarm = min(alarm, self._probe.due)
        if alarm == NEVER:
            return None
        return max(0, alarm - unwrap32(now, self._clock))
