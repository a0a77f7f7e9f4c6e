"""
How a session ends after a full close was asked, and what is answered after its end:
C{kcp-close.md} sections 3, 5 and 6.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from twisted_rudp.core.engine import MILLISECOND, SECOND, Buffer
from twisted_rudp.core.lifecycle import TimeWait
from twisted_rudp.core.serial import MASK32
from twisted_rudp.core.timers import NEVER
from twisted_rudp.kcp.arq import ARQ
from twisted_rudp.kcp.control import Peer
from twisted_rudp.kcp.wire import ACK, MARK, PUSH, RESET, WASK, WINS, pack_header, reset, segments

CLOSE_TIMEOUT: Final = 30 * SECOND
"""Without progress for so long, the close is given up. Starts anew whenever data
of ours is acknowledged or something of theirs comes in order."""

RECHECK: Final = 5 * SECOND
"""How often a peer that holds data which it has not read is asked whether it still does."""

UNSEEN_SENDINGS: Final = 7
UNSEEN_TIME: Final = 3 * SECOND
"""Their end is here, only our FIN is unanswered, sent so often and for so long:
they have gone without waiting for it."""


class Outcome(Enum):
    """What the present state of both halves means."""

    WAIT = "go on"
    ASK = "go on, and ask the peer what it is"
    DRAIN = "unmarked peer, all acknowledged: leave with window 0"
    QUIET = "both ends seen by both: nothing to wait for"
    LINGER = "both ends here; the peer may not have our last acknowledgement"
    UNSEEN = "their end is here, ours was sent in vain"
    TIMEOUT = "no progress"


class Close:
    """
    Watches the close of one session.

    @ivar until: when it is given up.
    """

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
        if arq.sender.end_sent and self._fin_since == NEVER:
            self._fin_since = now
        peer = arq.control.peer
        if peer is Peer.MARKED:
            outcome = self._judge_marked(arq, now)
        elif peer is Peer.UNMARKED:
            outcome = Outcome.DRAIN if arq.sender.drained else Outcome.WAIT
        else:
            outcome = Outcome.ASK
        if now < self.until or (outcome is not Outcome.WAIT and outcome is not Outcome.ASK):
            return outcome
        if arq.sender.end_acknowledged and arq.sender.peer_holds_data:
            # All was delivered, and the peer lives but does not read. Whether that is still
            # so is asked; that it lives is the keepalive's business.
            self.until = now + RECHECK
            arq.control.ask = True
            return outcome
        return Outcome.TIMEOUT

    def _judge_marked(self, arq: ARQ, now: int) -> Outcome:
        if not arq.receiver.end_in_order:
            return Outcome.WAIT
        sender = arq.sender
        if sender.end_acknowledged:
            return Outcome.QUIET if arq.our_fin_first_sent_after_theirs else Outcome.LINGER
        if (
            sender.only_end_outstanding
            and sender.transmitter.end_sendings >= UNSEEN_SENDINGS
            and now >= self._fin_since + UNSEEN_TIME
        ):
            return Outcome.UNSEEN
        return Outcome.WAIT


def draining_span(timeout: int) -> int:
    """
    Silence after which an unmarked peer is left alone (section 5.6).

    @param timeout: of a retransmission, in nanoseconds.
    """
    return max(300 * MILLISECOND, 4 * timeout)


class LateAnswer(Enum):
    """What is answered to what comes after the end."""

    NOTHING = "the peer has seen our end"
    ACKNOWLEDGEMENT = "data is acknowledged again: our last acknowledgement may be lost"
    RESET = "data and probes are answered with the reset"


class ClosedSession:
    """
    Answers late packets of a session that has ended, so that the peer's end is clean
    too. It holds some numbers instead of a session; a hub keeps thousands of them.

    @ivar time_wait: its times.
    """

    __slots__ = (
        "_answer", "_answers", "_conv", "_last_packet", "_rcv_nxt", "_snd_nxt",
        "_until_acknowledged", "time_wait",
    )  # fmt: skip

    def __init__(
        self,
        conv: int,
        snd_nxt: int,
        rcv_nxt: int,
        answer: LateAnswer,
        time_wait: TimeWait,
        last_packet: bytes = b"",
        until_acknowledged: bool = False,
    ) -> None:
        """
        @param last_packet: what is repeated of its own accord, as often as C{time_wait}
            says: the reset, the last acknowledgement of a client about to close its
            socket, an unanswered FIN.
        @param until_acknowledged: no longer than until the peer has it.
        """
        self._conv = conv
        self._snd_nxt = snd_nxt & MASK32
        self._rcv_nxt = rcv_nxt & MASK32
        self._answer = answer
        self.time_wait = time_wait
        self._last_packet = last_packet
        self._until_acknowledged = until_acknowledged
        self._answers: list[bytes] = []

    def receive(self, run: Buffer, size: int, now: int) -> None:
        """Note what has to be answered."""
        if self._answer is LateAnswer.NOTHING:
            return
        # One answer for a datagram at most, so that nothing is amplified.
        for start in range(0, len(run), size):
            answer = self._answer_to(run[start : start + size])
            if answer is not None:
                self._answers.append(answer)
                self.time_wait.prolong(now)

    def _answer_to(self, datagram: Buffer) -> bytes | None:
        reply = None
        for segment in segments(datagram):
            if segment.cmd == WINS and segment.frg == RESET:
                return None
            if segment.una == self._snd_nxt and self._until_acknowledged:
                self.time_wait.acknowledged()
            if self._answer is LateAnswer.RESET:
                if segment.cmd == PUSH or segment.cmd == WASK:
                    reply = reset(self._conv, self._snd_nxt, self._rcv_nxt)
            elif segment.cmd == PUSH:
                reply = pack_header(
                    self._conv, ACK, MARK, 0, segment.ts, segment.sn, self._rcv_nxt, 0
                )
            elif segment.cmd == WASK and reply is None:
                # Whether we are there is asked by a peer whose end we have not acknowledged yet,
                # as far as it knows.
                reply = pack_header(self._conv, WINS, MARK, 0, 0, self._snd_nxt, self._rcv_nxt, 0)
        return reply

    def take_answers(self, now: int) -> list[bytes]:
        """Datagrams to send now."""
        answers, self._answers = self._answers, []
        if self.time_wait.repeat_due(now):
            answers.append(self._last_packet)
        return answers
