"""How a connection ends after a close was asked."""

from __future__ import annotations

from enum import Enum

from twisted_rudp.core.engine import SECOND
from twisted_rudp.qotp.mark import Peer
from twisted_rudp.qotp.streams import StreamTable

CLOSE_TIMEOUT = 30 * SECOND
"""Without progress for so long the close is given up."""

RELEASE_PATIENCE = 3 * SECOND
"""How long the end of a peer of the release is waited for once ours has arrived: it
may be lost for good (rule R14)."""

UNSEEN_TIME = 3 * SECOND
"""Their end is here and ours is not acknowledged for so long: they have gone."""


class Outcome(Enum):
    """What the state of both directions means."""

    WAIT = "go on"
    QUIET = "both ends were seen by both: nothing to wait for"
    LINGER = "both ends are here; the peer may not have our last acknowledgement"
    TIMEOUT = "no progress"


class Closing:
    """
    Watches the close of one connection.

    @ivar until: when to look again at the latest.
    """

    __slots__ = ("_answering", "_give_up", "_ours_at", "_progress", "_theirs_at", "until")

    def __init__(self, streams: StreamTable, now: int) -> None:
        self._answering = streams.open[0].incoming.complete
        self._progress: tuple[int, int] | None = None
        self._give_up = now + CLOSE_TIMEOUT
        self._ours_at: int | None = None
        self._theirs_at: int | None = None
        self.until = self._give_up

    def judge(self, streams: StreamTable, peer: Peer, moved: int, now: int) -> Outcome:
        """
        Decide by what is known now.

        @param moved: bytes acknowledged so far, a measure of progress.
        """
        own = streams.open[0]
        progress = (moved, own.incoming.next)
        if progress != self._progress:
            self._progress = progress
            self._give_up = now + CLOSE_TIMEOUT
        self.until = self._give_up
        ours = all(each.drained and each.fin_acknowledged for each in streams.open.values())
        theirs = own.incoming.complete
        if ours and theirs:
            return Outcome.QUIET if self._answering else Outcome.LINGER
        if ours and peer is Peer.RELEASE:
            self._ours_at = self._ours_at or now
            if now >= self._ours_at + RELEASE_PATIENCE:
                return Outcome.QUIET
            self.until = min(self.until, self._ours_at + RELEASE_PATIENCE)
        if theirs and not any(each.unsettled or each.has_new for each in streams.open.values()):
            self._theirs_at = self._theirs_at or now
            if now >= self._theirs_at + UNSEEN_TIME:
                return Outcome.QUIET
            self.until = min(self.until, self._theirs_at + UNSEEN_TIME)
        return Outcome.TIMEOUT if now >= self._give_up else Outcome.WAIT
