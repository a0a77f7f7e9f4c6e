"""Addresses dialled one after the other, each some time after the last or when one has failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

ATTEMPT_DELAY = 0.3
"""Seconds until the next address is tried as well (RFC 8305 recommends 0.25)."""

_Where = TypeVar("_Where")
_Attempt = TypeVar("_Attempt")


class Race(Generic[_Where, _Attempt]):
    """
    The order of the race. What an attempt is, and when one has won, is the owner's.

    @ivar attempts: those that are going on; C{dial} appends.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        delay: float,
        dial: Callable[[_Where], None],
        more: Callable[[], None] | None = None,
    ) -> None:
        """
        @param delay: seconds until the next one is dialled as well.
        @param dial: begins an attempt.
        @param more: called before each choice; may L{enter} what has become known. With it
            the race waits for more for as long as it is not finished.
        """
        self.attempts: list[_Attempt] = []
        self._reactor = reactor
        self._delay = delay
        self._dial = dial
        self._more = more
        self._waiting: deque[_Where] = deque()
        self._timer: IDelayedCall | None = None

    def enter(self, addresses: Iterable[_Where]) -> bool:
        """
        Line up addresses behind those that wait.

        @return: whether any wait now.
        """
        self._waiting.extend(addresses)
        return bool(self._waiting)

    def dialNext(self) -> None:
        """Dial one more address, if there is one."""
        self._stopTimer()
        if self._more is not None:
            self._more()
        elif not self._waiting:
            return
        address = self._waiting.popleft() if self._waiting else None
        if self._waiting or self._more is not None:
            self._timer = self._reactor.callLater(self._delay, self.dialNext)
        if address is not None:
            self._dial(address)

    def failed(self, attempt: _Attempt) -> bool:
        """
        An attempt has failed: dial the next at once.

        @return: the race goes on.
        """
        if attempt in self.attempts:
            self.attempts.remove(attempt)
        if self._more is not None:
            self._more()
        if self._waiting:
            self.dialNext()
            return True
        if not self.attempts:
            self._stopTimer()
        return bool(self.attempts)

    def finish(self, winner: _Attempt | None = None) -> list[_Attempt]:
        """
        Dial no more.

        @return: the attempts that are going on, without the winner.
        """
        self._stopTimer()
        self._waiting.clear()
        others = [attempt for attempt in self.attempts if attempt is not winner]
        self.attempts = [] if winner is None else [winner]
        return others

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
