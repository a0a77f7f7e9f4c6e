"""
What is left of a session that has ended, so that the peer's end is clean too.

Source: C{kcp-close.md} sections 3, 5 and 6. A tombstone holds six numbers
instead of a session; a hub keeps thousands of them.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from twisted_rudp.core.engine import MILLISECOND, SECOND, Buffer
from twisted_rudp.core.serial import MASK32
from twisted_rudp.kcp.wire import ACK, MARK, PUSH, RESET, WASK, WINS, pack_header, segments

LONGEST = 4
"""A linger that is prolonged by what comes lasts at most this many lingers."""


class Grave(Enum):
    """What a tombstone does with what still comes."""

    QUIET = "drops it: the peer has seen our end"
    ACKNOWLEDGING = "acknowledges data again: our last acknowledgement may be lost"
    RESETTING = "answers data and probes with the reset"


class Farewell(NamedTuple):
    """
    A datagram that a tombstone repeats of its own accord: the reset, the last
    acknowledgement of a client about to close its socket, an unanswered FIN.
    """

    datagram: bytes
    times: int = 3
    gap: int = 10 * MILLISECOND
    until_acknowledged: bool = False


def linger(rto: int) -> int:
    """
    How long a tombstone lasts.

    @param rto: milliseconds.
    @return: nanoseconds, C{max(2000, 20 x rto)} and at most 10 000 ms.
    """
    return min(max(2 * SECOND, 20 * rto * MILLISECOND), 10 * SECOND)


class Tombstone:
    """
    Answers for a session that is no more.

    @param span: nanoseconds it lasts when nothing comes.
    """

    __slots__ = (
        "_answers", "_conv", "_farewell", "_grave", "_last", "_left", "_rcv_nxt", "_repeat",
        "_snd_nxt", "_span", "_until",
    )  # fmt: skip

    def __init__(
        self,
        grave: Grave,
        conv: int,
        snd_nxt: int,
        rcv_nxt: int,
        now: int,
        span: int,
        farewell: Farewell | None = None,
    ) -> None:
        self._grave = grave
        self._conv = conv
        self._snd_nxt = snd_nxt & MASK32
        self._rcv_nxt = rcv_nxt & MASK32
        self._span = span
        self._until = now + span
        self._last = now + LONGEST * span
        self._answers: list[bytes] = []
        self._farewell = farewell
        self._left = farewell.times if farewell is not None else 0
        self._repeat = now

    @property
    def told(self) -> bool:
        """The farewell has been sent as often as it is to be."""
        return self._left == 0

    def forgotten(self, now: int) -> bool:
        """Nothing is left to be answered."""
        return now >= self._until

    def deadline(self) -> int:
        """When L{take_answers} has something again or L{forgotten} turns true."""
        return self._until if self.told else min(self._repeat, self._until)

    def receive(self, run: Buffer, size: int, now: int) -> None:
        """Note what has to be answered."""
        if self._grave is Grave.QUIET:
            return
        # One answer for a datagram at most, so that nothing is amplified.
        for start in range(0, len(run), size):
            answer = self._answer(run[start : start + size])
            if answer is not None:
                self._answers.append(answer)
                self._until = min(now + self._span, self._last)

    def _answer(self, datagram: Buffer) -> bytes | None:
        reply = None
        for segment in segments(datagram):
            if segment.cmd == WINS and segment.frg == RESET:
                return None
            if segment.una == self._snd_nxt and self._farewell is not None:
                self._left *= not self._farewell.until_acknowledged
            if self._grave is Grave.RESETTING and segment.cmd in (PUSH, WASK):
                reply = reset(self._conv, self._snd_nxt, self._rcv_nxt)
            elif self._grave is Grave.ACKNOWLEDGING and segment.cmd == PUSH:
                reply = pack_header(
                    self._conv, ACK, MARK, 0, segment.ts, segment.sn, self._rcv_nxt, 0
                )
        return reply

    def take_answers(self, now: int) -> list[bytes]:
        """Datagrams to send now."""
        answers, self._answers = self._answers, []
        if self._farewell is not None and self._left and now >= self._repeat:
            answers.append(self._farewell.datagram)
            self._left -= 1
            self._repeat = now + self._farewell.gap
        return answers


def reset(conv: int, snd_nxt: int, rcv_nxt: int) -> bytes:
    """The reset of C{kcp-close.md} section 1."""
    return pack_header(conv, WINS, RESET, 0, 0, snd_nxt & MASK32, rcv_nxt & MASK32, 0)
