"""
How a session ends after a full close was asked: the session table of
C{kcp-close.md} section 3, as one decision over the state of the ARQ.
"""

from __future__ import annotations

from enum import Enum

from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.kcp.arq import ARQ, Peer
from twisted_rudp.kcp.liveness import NEVER

CLOSE_TIMEOUT = 30 * SECOND
"""Without progress for so long, the close is given up. Starts anew whenever data
of ours is acknowledged or something of theirs comes in order."""

UNSEEN_SENDINGS = 10
UNSEEN_TIME = 3 * SECOND
"""Their end is here, only our FIN is unanswered, sent so often and for so long:
they have gone without waiting for it."""


class Outcome(Enum):
    """What the present state of both halves means."""

    WAIT = "go on"
    ASK = "go on, and ask the peer what it is"
    LEAVE = "unmarked peer, all acknowledged: leave with window 0"
    QUIET = "both ends seen by both: nothing to wait for"
    LINGER = "both ends here; the peer may not have our last acknowledgement"
    UNSEEN = "their end is here, ours was sent in vain"
    TIMEOUT = "no progress"


class Closing:
    """Watches the close of one session."""

    __slots__ = ("_fin_since", "_progress", "until")

    def __init__(self, arq: ARQ, now: int) -> None:
        self.until = now + CLOSE_TIMEOUT
        self._progress = (arq.snd_una, arq.rcv_nxt)
        self._fin_since = NEVER

    def judge(self, arq: ARQ, now: int) -> Outcome:
        """Decide by what the ARQ knows now."""
        progress = (arq.snd_una, arq.rcv_nxt)
        if progress != self._progress:
            self._progress = progress
            self.until = now + CLOSE_TIMEOUT
        if arq.fin_sent and self._fin_since == NEVER:
            self._fin_since = now
        outcome = self._judge_marked(arq, now) if arq.peer is Peer.MARKED else Outcome.ASK
        if arq.peer is Peer.UNMARKED:
            outcome = Outcome.LEAVE if arq.drained else Outcome.WAIT
        if outcome in (Outcome.WAIT, Outcome.ASK) and now >= self.until:
            return Outcome.TIMEOUT
        return outcome

    def _judge_marked(self, arq: ARQ, now: int) -> Outcome:
        if not arq.end_in_order:
            return Outcome.WAIT
        if arq.fin_acknowledged:
            return Outcome.QUIET if arq.our_fin_first_sent_after_theirs else Outcome.LINGER
        if (
            arq.only_fin_unacknowledged
            and arq.fin_sendings >= UNSEEN_SENDINGS
            and now >= self._fin_since + UNSEEN_TIME
        ):
            return Outcome.UNSEEN
        return Outcome.WAIT


def leaving_span(rto: int) -> int:
    """
    Silence after which an unmarked peer is left alone (section 5.6).

    @param rto: milliseconds.
    @return: nanoseconds.
    """
    return max(300, 4 * rto) * MILLISECOND
