"""
The rhythm of the first word and of its repetitions.

Source: C{kcp-close.md} sections 2.4 and 4, timer HELLO.
"""

from __future__ import annotations

from twisted_rudp.core.engine import MILLISECOND

FIRST_WAIT = 200 * MILLISECOND
LONGEST_WAIT = 3000 * MILLISECOND


class Hello:
    """
    Says when a WASK is to be sent until it is no longer needed.

    Waits 200 ms after the first, then 1.5 times the last wait, at most 3 s.

    @ivar due: when the next one is to be sent, or None while none is needed.
    """

    __slots__ = ("_wait", "due")

    def __init__(self) -> None:
        self.due: int | None = None
        self._wait = FIRST_WAIT

    def want(self, now: int) -> None:
        """An answer is needed: begin at once, unless already begun."""
        if self.due is None:
            self.due = now
            self._wait = FIRST_WAIT

    def again(self, now: int) -> None:
        """There is something new to say: begin anew at once."""
        self.due = now
        self._wait = FIRST_WAIT

    def sent(self, now: int) -> None:
        """One was sent; set the time of the next."""
        self.due = now + self._wait
        self._wait = min(self._wait * 3 // 2, LONGEST_WAIT)

    def enough(self) -> None:
        """The answer is here."""
        self.due = None
