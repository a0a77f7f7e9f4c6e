"""How a connection ends, and what is still said after it (qotp.md 5.5, rule R14, W17)."""

from __future__ import annotations

from enum import Enum
from typing import Final

from twisted_rudp.core.engine import SECOND, Reason
from twisted_rudp.core.lifecycle import (
    LAST_PACKETS,
    Lifecycle,
    State,
    TimeWait,
    time_wait_span,
)
from twisted_rudp.core.timers import NEVER, Timers
from twisted_rudp.qotp import timers as t
from twisted_rudp.qotp.extensions import CONTROL, Extensions, Peer, encode_abort
from twisted_rudp.qotp.protection import PacketWriter
from twisted_rudp.qotp.receiver import PendingAcks, Receiver
from twisted_rudp.qotp.sender import Sender
from twisted_rudp.qotp.streams import Stream, StreamTable
from twisted_rudp.qotp.wire import Payload, Segment, header

CLOSE_TIMEOUT: Final = 30 * SECOND
"""Without progress for so long the close is given up."""

LONGEST_CLOSE: Final = 3600 * SECOND
"""A living peer that has no room for the rest is waited for, but only so long."""

ANSWERS: Final = 5
"""How often the last acknowledgement is sent by a side that is about to close its socket:
at a loss of one in five one connection in 15 000 misses them all."""

RELEASE_PATIENCE: Final = 3 * SECOND
"""How long the end of a peer of the release is waited for once ours has arrived: it
may be lost for good (rule R14)."""

UNSEEN_TIME: Final = 3 * SECOND
"""Their end is here and ours is not acknowledged for so long: they have gone."""

class LastPacket(Enum):
    """What is sent in CLOSING and TIME-WAIT."""

    NONE = "nothing: the peer has seen our end"
    ACKNOWLEDGEMENT = "the acknowledgement again: it may be lost"
    ABORT = "the abort"


class Close:
    """
    Ends one connection: in order, or at once.

    @ivar peer_is_gone: only the rest of what it has delivered keeps the connection.
    """

    def __init__(
        self,
        life: Lifecycle,
        streams: StreamTable,
        sender: Sender,
        receiver: Receiver,
        acks: PendingAcks,
        extensions: Extensions,
        timers: Timers,
    ) -> None:
        self._life = life
        self._streams = streams
        self._sender = sender
        self._receiver = receiver
        self._acks = acks
        self._extensions = extensions
        self._timers = timers
        self.peer_is_gone = False
        self._gone: Reason | None = None
        self._begun = 0
        self._progress = (-1, -1)
        self._progress_at = 0
        self._give_up = NEVER
        self._ours_at: int | None = None
        self._theirs_at: int | None = None
        self._last_packet = LastPacket.NONE
        self._answer = False
        self._abort = b""

    # before the end

    def begin(self, now: int) -> None:
        """
        Deliver the rest of all streams and exchange CLOSE on each. What comes on stream 0 is
        discarded; that of the others is still read until they end.
        """
        if self._gone is not None:
            self._end(LastPacket.NONE, Reason.DONE, now)
            return
        self._life.enter(State.FIN_WAIT)
        self._begun = now
        self._give_up = now + CLOSE_TIMEOUT
        self._receiver.discard(self._streams.open[0])

    def advance(self, now: int) -> None:
        """See whether a close is through. Sets the timer for the next look."""
        life = self._life
        if self._gone is not None and not self._unread():
            self._end(LastPacket.NONE, self._gone, now)
        if life.state is not State.FIN_WAIT and life.state is not State.DRAINING:
            return
        for stream in self._streams.open.values():
            # Those too that the peer has opened since.
            self._sender.finish(stream)
        streams = self._streams.open.values()
        came = sum(each.incoming.next - each.incoming.unread for each in streams)
        progress = (self._sender.packets.acknowledged_bytes, came)
        if progress != self._progress:
            self._progress = progress
            self._progress_at = now
            self._give_up = now + CLOSE_TIMEOUT
        until = self._give_up
        ours = all(each.drained and each.fin_acknowledged for each in streams)
        theirs = all(each.incoming.complete and not each.incoming.unread for each in streams)
        if ours and life.state is State.FIN_WAIT:
            life.enter(State.DRAINING)
        if ours and theirs:
            # Our acknowledgement may be lost, also if it was we who answered an end.
            self._end(LastPacket.ACKNOWLEDGEMENT, Reason.DONE, now)
            return
        if self._sender.window_blocked and now < self._begun + LONGEST_CLOSE:
            until = self._give_up = now + CLOSE_TIMEOUT
        delivered = ours or not any(each.undelivered for each in streams)
        self._sender.mute = self._extensions.peer is Peer.BASELINE and (theirs or delivered)
        if delivered and self._extensions.peer is Peer.BASELINE:
            # Once both ends of its last stream have passed, the release is mute: it
            # acknowledges nothing more, not even our end.
            self._ours_at = self._ours_at or now
            patience = self._ours_at + RELEASE_PATIENCE
            if ours and all(each.incoming.complete for each in streams if each.number):
                # Of stream 0 nobody wants the rest, and its end may never come.
                heard_at = max(self._ours_at, self._progress_at)
                patience = min(patience, heard_at + self._sender.closing_silence)
            if now >= patience:
                self._end(LastPacket.ACKNOWLEDGEMENT, Reason.DONE, now)
                return
            until = min(until, patience)
        if not theirs or any(each.undelivered or each.has_new for each in streams):
            self._theirs_at = None
        else:
            self._theirs_at = self._theirs_at or now
            if now >= self._theirs_at + UNSEEN_TIME:
                self._end(LastPacket.NONE, Reason.DONE, now)
                return
            until = min(until, self._theirs_at + UNSEEN_TIME)
        if now >= self._give_up:
            # The peer has everything, and its end is not waited for any longer.
            self.end(Reason.DONE if ours else Reason.CLOSE_TIMEOUT, now, tell=True)
        else:
            self._timers.set(t.CLOSE, until)

    def peer_gone(self, reason: Reason, now: int) -> None:
        """
        The peer has given up or vanished. What it had delivered whole, its end included, is
        kept until it was read; nothing is sent any more.
        """
        unread = self._unread()
        if self._gone is None and self._life.state is State.ESTABLISHED:
            # A reset behind its orderly end takes nothing back, unless something of ours is
            # missing there. An application that pauses may not have heard of that end.
            streams = self._streams.open.values()
            whole = all(each.incoming.complete and each.drained for each in streams)
            silent = reason is Reason.IDLE and not unread
            if whole and (not silent or all(each.fin_acknowledged for each in streams)):
                reason = Reason.DONE
            if unread:
                self._gone = reason
                self.peer_is_gone = True
                self._sender.release()
                self._timers.stop_all()
                return
        if self._gone is None or not unread:
            self._end(LastPacket.NONE, self._gone or reason, now)

    def _unread(self) -> bool:
        streams = self._streams.open.values()
        return any(each.incoming.complete and each.incoming.unread for each in streams)

    def end(
        self,
        reason: Reason,
        now: int,
        detail: str | None = None,
        *,
        tell: bool = False,
        code: int = 0,
    ) -> None:
        """
        It is over.

        @param tell: an extended peer hears of it; the release has no word for that.
        @param code: what it is told.
        """
        self._abort = header(CONTROL, 0) + encode_abort(code)
        tell = tell and self._extensions.peer is Peer.EXTENDED
        self._end(LastPacket.ABORT if tell else LastPacket.NONE, reason, now, detail)

    def _end(
        self, last_packet: LastPacket, reason: Reason, now: int, detail: str | None = None
    ) -> None:
        if self._life.over:
            return
        self._last_packet = last_packet
        span = time_wait_span(self._sender.round_trip.timeout)
        repeats = 0
        if last_packet is LastPacket.ABORT:
            repeats = LAST_PACKETS
        elif last_packet is LastPacket.ACKNOWLEDGEMENT:
            repeats = ANSWERS if self._life.own_socket else 1
        self._life.end(reason, detail, TimeWait(now, span, repeats))
        self._receiver.window.release()
        self._streams.open = {0: Stream(0)}
        self._sender.release()
        self._timers.stop_all()

    # after it

    def input(self, payload: Payload, now: int) -> None:
        """Something authentic has come after the end."""
        segment: Segment | None = payload.segment
        if segment is None or (segment.stream == CONTROL and segment.data):
            return
        if self._life.time_wait is not None and self._last_packet is not LastPacket.NONE:
            self._answer = True
            self._life.time_wait.prolong(now)
        if self._extensions.peer is Peer.BASELINE:
            self._acks.heard(segment.stream, segment.offset, len(segment.data), True)

    def flush(self, now: int, writer: PacketWriter) -> None:
        """Send the last packet, if it is time for it."""
        time_wait = self._life.time_wait
        answer, self._answer = self._answer, False
        if time_wait is not None and (time_wait.repeat_due(now) or answer):
            if self._last_packet is not LastPacket.ABORT:
                self._acks.flush(writer)
            elif writer.room(len(self._abort)):
                writer.send([self._abort])
        self._life.last_packet_sent()
