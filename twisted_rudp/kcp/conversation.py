"""What a KCP conversation is made of and what can be seen of it."""

from __future__ import annotations

from twisted_rudp.core.congestion.segments import (
    Controller,
    FixedWindow,
    KCPWindow,
    RoundTrip,
    TolerantWindow,
)
from twisted_rudp.core.serial import MASK32
from twisted_rudp.kcp.control import Control, Peer
from twisted_rudp.kcp.intake import Intake
from twisted_rudp.kcp.outbox import MessageOutbox, StreamOutbox
from twisted_rudp.kcp.receiver import Receiver
from twisted_rudp.kcp.sender import Sender
from twisted_rudp.kcp.settings import Settings
from twisted_rudp.kcp.wire import Counters


def controller_for(settings: Settings) -> Controller:
    """The congestion controller that the settings ask for."""
    if settings.nc:
        return FixedWindow(selective=settings.congestion != "kcp-go")
    if settings.congestion == "kcp-go":
        return KCPWindow(settings.resend)
    return TolerantWindow()


def controller_under(settings: Settings, old: Settings, present: Controller) -> Controller:
    """
    The controller after the settings have changed: the present one, unless another
    kind is asked for.
    """
    if (settings.nc, settings.congestion) != (old.nc, old.congestion):
        fresh = controller_for(settings)
        fresh.started(settings.mss)
        return fresh
    if isinstance(present, KCPWindow):
        present.resend = settings.resend
    return present


class Conversation:
    """
    The parts of an ARQ, and its state as seen from outside. Numbers are modulo
    2^32, times are milliseconds.

    @ivar conv: the conversation id.
    @ivar settings: what it goes by.
    @ivar counters: what happened, see L{Counters}.
    @ivar outbox: what is queued and has no number yet.
    @ivar receiver: what has come.
    @ivar our_fin_first_sent_after_theirs: the peer's end of stream was in order
        when ours was sent first, so whoever acknowledges ours has seen that.
    """

    __slots__ = (
        "_clock",
        "_control",
        "_intake",
        "_overhead",
        "_sender",
        "conv",
        "counters",
        "our_fin_first_sent_after_theirs",
        "outbox",
        "receiver",
        "settings",
    )

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
        self.our_fin_first_sent_after_theirs = False
        self._overhead = overhead
        self._clock = 0
        self._control = Control(conv, marked, settings.probe_wait)
        controller = controller_for(settings)
        if marked:
            # kcp-go opens the window by a flush right after creation (kcp.md 1.12).
            controller.started(settings.mss)
        self.outbox = StreamOutbox() if settings.stream else MessageOutbox()
        self._sender = Sender(
            initial_numbers[0], settings, self.outbox, controller, self.counters, overhead
        )
        self.receiver = Receiver(
            initial_numbers[1], settings.rcvwnd, settings.stream, self._control, self.counters
        )
        self._intake = Intake(conv, self._sender, self.receiver, self._control, self.counters)

    @property
    def unsent(self) -> int:
        """Bytes queued that have no number yet."""
        return self.outbox.size

    @property
    def in_flight(self) -> int:
        """Payload bytes sent and not acknowledged, neither by C{una} nor one by one."""
        flights = self._sender.flights
        return flights.numbered - flights.delivered

    @property
    def wait_snd(self) -> int:
        """Segments queued and in flight, as kcp-go counts them."""
        return self._sender.wait_snd

    @property
    def drained(self) -> bool:
        """
        Nothing is queued and all that was sent is acknowledged, our end of
        stream included if it was sent.
        """
        return not self.outbox.size and not self._sender.flights.outstanding

    @property
    def fin_sent(self) -> bool:
        """Our end of stream has been numbered."""
        return self._sender.end is not None

    @property
    def fin_sendings(self) -> int:
        """How often our end of stream was sent."""
        return self._sender.end_sendings

    @property
    def fin_acknowledged(self) -> bool:
        """Our end of stream, and with it everything, is acknowledged."""
        return self._sender.end_acknowledged

    @property
    def only_fin_unacknowledged(self) -> bool:
        """Everything but our end of stream has arrived."""
        return self.fin_sent and self._sender.flights.outstanding == 1

    @property
    def end_ts(self) -> int:
        """Timestamp of the peer's end of stream, for its acknowledgement."""
        return self.receiver.end_ts

    @property
    def notable(self) -> bool:
        """Something came or happened that ends a session or a half of it."""
        return (
            self._control.reset_heard
            or self.receiver.end is not None
            or self._sender.dead
        )

    def facts(self) -> dict[str, float | int | bool]:
        """The state for people. Times are seconds, windows are segments."""
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

    @property
    def unread(self) -> int:
        """Bytes that can be taken; in message mode those of whole messages."""
        return self.receiver.inbox.size

    @property
    def readable(self) -> bool:
        """There is something to take; for messages also one of 0 bytes."""
        return self.receiver.inbox.readable

    @property
    def end_in_order(self) -> bool:
        """The peer's end of stream and everything before it has arrived."""
        return self.receiver.end_in_order

    @property
    def end_received(self) -> bool:
        """
        L{end_in_order}, and everything before it was taken. A message that the
        peer did not complete counts for nothing.
        """
        return self.receiver.end_in_order and not self.receiver.inbox.readable

    @property
    def peer(self) -> Peer:
        """The verdict about the peer so far."""
        return self._control.peer

    @property
    def heard(self) -> bool:
        """A valid segment of the peer has arrived."""
        return self._control.heard

    @property
    def reset_heard(self) -> bool:
        """A valid reset has arrived."""
        return self._control.reset_heard

    @property
    def control_heard(self) -> int:
        """How many WASK and WINS have arrived."""
        return self._control.heard_controls

    @property
    def control_ts(self) -> int:
        """C{ts} of the last WASK or WINS that arrived."""
        return self._control.heard_ts

    @property
    def control_una(self) -> int:
        """C{una} of the last WASK or WINS that arrived."""
        return self._control.heard_una

    @property
    def control_ts_out(self) -> int:
        """C{ts} of the WASK and WINS we send; may be set."""
        return self._control.ts_out

    @control_ts_out.setter
    def control_ts_out(self, ts: int) -> None:
        """
        @param ts: of what is sent from now on.
        """
        self._control.ts_out = ts & MASK32

    @property
    def validated(self) -> bool:
        """
        An acknowledgement has echoed number and timestamp of a transmission of
        ours, so the peer receives at its address.
        """
        return self._sender.validated

    @property
    def dead(self) -> bool:
        """A segment was sent C{dead_link} times. Only a mark (kcp.md 1.13)."""
        return self._sender.dead

    @property
    def snd_una(self) -> int:
        """First number the peer's cumulative acknowledgement does not cover."""
        return self._sender.flights.una & MASK32

    @property
    def snd_nxt(self) -> int:
        """Next number we give."""
        return self._sender.flights.nxt & MASK32

    @property
    def rcv_nxt(self) -> int:
        """Next number we wait for."""
        return self.receiver.nxt & MASK32

    @property
    def waiting_acks(self) -> int:
        """Acknowledgements that the next flush sends."""
        return len(self.receiver.acks)

    @property
    def wnd(self) -> int:
        """The window we advertise."""
        return self.receiver.free

    @property
    def rmt_wnd(self) -> int:
        """The window the peer advertised last."""
        return self._sender.peer_window

    @property
    def round_trip(self) -> RoundTrip:
        """Smoothed round trip and timeout, in milliseconds."""
        return self._sender.round_trip

    @property
    def controller(self) -> Controller:
        """The congestion controller."""
        return self._sender.controller

    @property
    def probe_wait(self) -> int:
        """Present wait between window probes; 0 while the peer's window is open."""
        return self._control.probe_wait
