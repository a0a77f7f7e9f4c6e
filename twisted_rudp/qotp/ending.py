"""How a connection comes to its end, and what is still said after it."""

from __future__ import annotations

from twisted_rudp.core.engine import Reason
from twisted_rudp.qotp.closing import Closing, Outcome
from twisted_rudp.qotp.conversation import Conversation
from twisted_rudp.qotp.life import Life, Lifetime
from twisted_rudp.qotp.mark import CONTROL, Peer, say_abort
from twisted_rudp.qotp.outlet import Outlet
from twisted_rudp.qotp.payload import Payload, header
from twisted_rudp.qotp.tombstone import Grave

_ABORT = header(CONTROL, 0) + say_abort()


class Ending:
    """Ends one connection: in order, or at once."""

    def __init__(self, life: Lifetime, talk: Conversation) -> None:
        self._life = life
        self._talk = talk
        self._closing: Closing | None = None

    @property
    def until(self) -> int | None:
        """When to look at a close again; None if none was asked."""
        return None if self._closing is None else self._closing.until

    def close(self, now: int) -> None:
        """Deliver the rest, exchange CLOSE, discard what comes."""
        self._life.enter(Life.CLOSING)
        self._closing = Closing(self._talk.streams, now)
        for stream in list(self._talk.streams.open):
            self._talk.close_stream(stream)
        self._talk.incoming.discard()

    def judge(self, now: int) -> None:
        """
        See whether the end has come: by the peer's word or fault, or because a close
        is through.
        """
        if self._talk.reset_heard:
            self.end(Reason.RESET, now)
        elif self._talk.incoming.contradicted:
            self.end(Reason.PROTOCOL, now, "a stream of the peer has two ends", tell=True)
        elif self._closing is not None:
            moved = self._talk.sender.flights.total
            outcome = self._closing.judge(self._talk.streams, self._talk.peer, moved, now)
            if outcome is Outcome.QUIET:
                self._bury(Grave.QUIET, Reason.DONE, now)
            elif outcome is Outcome.LINGER:
                self._bury(Grave.ACKNOWLEDGING, Reason.DONE, now)
            elif outcome is Outcome.TIMEOUT:
                self.end(Reason.CLOSE_TIMEOUT, now, tell=True)

    def end(
        self, reason: Reason, now: int, detail: str | None = None, *, tell: bool = False
    ) -> None:
        """
        It is over.

        @param tell: our own peer hears of it; the release has no word for that.
        """
        grave = Grave.RESETTING if tell and self._talk.peer is Peer.OWN else Grave.QUIET
        self._bury(grave, reason, now, detail)

    def _bury(self, grave: Grave, reason: Reason, now: int, detail: str | None = None) -> None:
        if not self._life.over:
            timeout = self._talk.sender.round_trip.timeout
            self._life.bury(grave, reason, detail, now, timeout)
            self._talk.release()

    # after it

    def digest(self, number: int, payload: Payload, now: int) -> None:
        """Something authentic has come after the end."""
        self._talk.numbers.add(number, number)
        segment = payload.segment
        if segment is None or (segment.stream == CONTROL and segment.data):
            return
        if self._life.tombstone is not None:
            self._life.tombstone.heard(now)
        if self._talk.peer is Peer.RELEASE:
            self._talk.acks.heard(segment.stream, segment.offset, len(segment.data), True)

    def flush(self, now: int, outlet: Outlet) -> None:
        """Say what is still to be said."""
        stone = self._life.tombstone
        if stone is not None and stone.due(now):
            if stone.grave is not Grave.RESETTING:
                self._talk.acks.flush(outlet)
            elif outlet.room(len(_ABORT)):
                outlet.send([_ABORT])
        self._life.said_farewell()
