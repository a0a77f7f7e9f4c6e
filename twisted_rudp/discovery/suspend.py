"""
Suspend detection (discovery.md 5).

The wall clock advances while a machine is suspended, and steps when somebody sets it. A
monotonic clock does not step, and on Linux and macOS it stands still during a suspend.
Comparing the two detects a suspend.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, time
from typing import Any

from twisted.internet.interfaces import IDelayedCall

INTERVAL = 30.0
"""Seconds between two looks at the clocks."""

JUMP = 60.0
"""Seconds that may pass unseen."""

Clocks = Callable[[], tuple[float, float]]


def clocks() -> tuple[float, float]:
    """Seconds of the wall clock and of one that never steps."""
    return time(), monotonic()


class SuspendDetector:
    """
    Compares two clocks from time to time.

    A step of the wall clock is taken for a sleep too. What has to be done is the same,
    and after a step back it must not wait for the timers, which stand still until the
    old time has come again. That is why everything heard is an occasion to look.
    """

    def __init__(
        self, reactor: Any, resumed: Callable[[], None], clocks: Clocks = clocks
    ) -> None:
        """
        @param resumed: called when the machine has slept.
        """
        self._reactor = reactor
        self._resumed = resumed
        self._clocks = clocks
        self._call: IDelayedCall | None = None
        self._seen = (0.0, 0.0)

    def start(self) -> None:
        """Begin to watch. Harmless when repeated."""
        if self._call is None:
            self._seen = self._clocks()
            self._call = self._reactor.callLater(INTERVAL, self._tick)

    def stop(self) -> None:
        """Watch no more. Harmless when repeated."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    def look(self) -> None:
        """Look at the clocks now."""
        if self._call is None:
            return
        before, self._seen = self._seen, self._clocks()
        wall, steady = (now - then for now, then in zip(self._seen, before, strict=True))
        # The second: asleep where both clocks go on, or this process was stopped.
        if abs(wall - steady) > JUMP or steady > JUMP:
            self._call.reset(INTERVAL)
            self._resumed()

    def _tick(self) -> None:
        self._call = self._reactor.callLater(INTERVAL, self._tick)
        self.look()
