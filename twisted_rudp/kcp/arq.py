"""
One KCP conversation as a value: the ARQ of kcp-go 5.6.72 (kcp.md 1) with the
mark, the end of stream and the reset of kcp-close.md.

It does no I/O and reads no clock. Times are milliseconds modulo 2^32, and so
are segment numbers on its surface; inside both are unbounded.
"""

from __future__ import annotations

from twisted_rudp.core.serial import HALF32, MASK32, unwrap32
from twisted_rudp.core.settings import require_within
from twisted_rudp.kcp.control import Peer
from twisted_rudp.kcp.conversation import Conversation, controller_under
from twisted_rudp.kcp.flights import NEVER
from twisted_rudp.kcp.outbox import MessageOutbox, StreamOutbox
from twisted_rudp.kcp.packing import Emit, Packer
from twisted_rudp.kcp.sender import Stamp
from twisted_rudp.kcp.settings import MAXIMUM_MTU, Settings
from twisted_rudp.kcp.wire import HEADER_SIZE
from twisted_rudp.kernels.pure import Buffer

__all__ = ["ARQ", "Peer"]

SMALLEST_PATH = 548
"""UDP payload that every IPv4 host takes (RFC 1122 section 3.3.2)."""

# A name of this module: it is needed in each flush.
_MARKED = Peer.MARKED


class ARQ(Conversation):
    """Reliable, ordered delivery over datagrams that may be lost, repeated and reordered."""

    __slots__ = ()

    # application -> wire

    def write(self, data: bytes) -> None:
        """
        Queue bytes of a stream. The reference is kept.

        @raise RuntimeError: after L{finish}.
        @raise TypeError: this conversation carries messages.
        """
        if self._sender.ending:
            raise RuntimeError("write after finish")
        if not isinstance(self.outbox, StreamOutbox):
            raise TypeError("this conversation carries messages")
        self.outbox.append(data)

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
        if not isinstance(self.outbox, MessageOutbox):
            raise TypeError("this conversation carries a stream")
        self.outbox.append(data, self._sender.mss)

    def finish(self) -> None:
        """
        Nothing more will be queued. The end of stream follows the data, once the
        peer is L{Peer.MARKED}; another peer is never sent one.
        """
        self._sender.ending = True

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
        self._sender.release()
        self.outbox = StreamOutbox()
        self.receiver.release()

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

    def adopt(self, settings: Settings) -> None:
        """
        Go by other settings from now on. A congestion window of another kind begins
        anew. C{mtu} counts where it differs from before, so that what a path has
        taught is not forgotten.

        @raise ValueError: bytes are to become messages, or the reverse.
        """
        old = self.settings
        if settings.stream != old.stream:
            raise ValueError("mode: a session keeps the one it was made with")
        controller = controller_under(settings, old, self._sender.controller)
        self.settings = settings
        self._sender.adopt(settings, controller)
        self.receiver.wnd = settings.rcvwnd
        if settings.mtu != old.mtu:
            self.set_mss(settings.mss)

    def ask(self) -> None:
        """Send a WASK with the next flush."""
        self._control.ask = True

    def tell(self) -> None:
        """Send a WINS with the next flush."""
        self._control.tell = True

    # wire -> ARQ

    def input(self, run: Buffer, size: int, now: int, regular: bool = True) -> int:
        """
        Digest a run of datagrams. Whatever they contain, nothing is raised.

        @param regular: False for what FEC rebuilt: old news, from which neither
            window nor round trip is learnt (kcp.md 1.7).
        @return: bits of L{News<twisted_rudp.kcp.intake.News>}.
        """
        clock = self._clock
        self._clock = clock = clock + ((now - clock + HALF32) & MASK32) - HALF32
        return self._intake.digest(run, size, clock, regular)

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
        clock = self._clock
        self._clock = clock = clock + ((now - clock + HALF32) & MASK32) - HALF32
        sender = self._sender
        receiver = self.receiver
        control = self._control
        stamp = (self.conv, receiver.free, clock & MASK32, receiver.nxt & MASK32, clock)
        if (
            clock < sender.alarm
            and len(receiver.acks) <= 1
            and not (control.ask or control.tell or control.probe_wait or strict)
            and full
            and sender.is_small
            and sender.peer_window
        ):
            return self._flush_small(stamp, emit, budget)
        control.probe(sender.peer_window, clock)
        packer = Packer(emit, sender.mss + HEADER_SIZE, self._overhead)
        space = min(budget - self._overhead, sender.mss + HEADER_SIZE) if strict else NEVER
        controls, more = b"", False
        if receiver.acks or control.ask or control.tell:
            controls, more = self._controls(stamp, space)
        marked = control.peer is _MARKED
        if strict and controls:
            packer.add_headers(controls)
        if full:
            end_sent = sender.end is not None
            more = sender.flush(stamp, packer, budget, strict, marked) or more
            if sender.end is not None and not end_sent:
                self.our_fin_first_sent_after_theirs = receiver.end_in_order
        else:
            sender.number_only(marked)
        if controls and not strict:
            packer.add_headers(controls)
        packer.finish()
        return more

    def _flush_small(self, stamp: Stamp, emit: Emit, budget: int) -> bool:
        """
        Send at most one acknowledgement and one segment: all that an exchange of
        small pieces needs.
        """
        sender = self._sender
        datagram = b""
        more = False
        if self.receiver.acks:
            acks = self.receiver.acknowledgements()
            datagram = self._control.acknowledgements(acks, stamp[1], stamp[3])
            self.counters.out_segs += 1
        if self.outbox.size and sender.room > 0:
            if budget <= 0:
                more = True
            elif len(datagram) + self.outbox.size <= sender.mss:
                datagram += sender.send_one(stamp)
            else:
                segment = sender.send_one(stamp)
                emit(segment, len(segment))
        if datagram:
            emit(datagram, len(datagram))
        return more

    def _controls(self, stamp: Stamp, space: int) -> tuple[bytes, bool]:
        """
        The ACK, WASK and WINS segments due now (kcp.md 1.11 steps 1 to 3).

        @param space: bytes they may take. What does not fit stays due.
        @return: them, and whether something was left.
        """
        control = self._control
        acks = self.receiver.acknowledgements()
        fit = max(0, space // HEADER_SIZE)
        if len(acks) > fit:
            self.receiver.requeue(acks[fit:])
            del acks[fit:]
        _, wnd, _, una, _ = stamp
        segments = control.acknowledgements(acks, wnd, una)
        if control.ask or control.tell:
            segments += control.windows(wnd, self.snd_nxt, una, space - len(segments))
        self.counters.out_segs += len(segments) // HEADER_SIZE
        left = bool(self.receiver.acks) or control.ask or control.tell
        return segments, left

    def next_flush(self, now: int) -> int | None:
        """
        Milliseconds until L{flush} wants to be called for a retransmission or a
        window probe, None if neither is to come.
        """
        due = self._due()
        return None if due >= NEVER else max(0, due - unwrap32(now, self._clock))

    @property
    def wait(self) -> int | None:
        """As L{next_flush}, right after a flush."""
        due = self._due()
        if due >= NEVER:
            return None
        return due - self._clock if due > self._clock else 0

    def _due(self) -> int:
        due = self._sender.next_due
        control = self._control
        if (
            control.probe_wait
            and control.probe_due < due
            and (self.outbox.size or self._sender.ending)
        ):
            return control.probe_due
        return due
