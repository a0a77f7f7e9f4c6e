"""The shutdown of a reactor waits for connections that are closing."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorCore, IReactorTime


class ShutdownGuard:
    """
    Closes what is open at a reactor's shutdown, and holds that until it has closed (CLOSE-6).

    While something is held, C{reactor.stop()} waits for its release, at most
    C{lingerTimeout} seconds. While nothing is, the reactor knows nothing of this.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        lingerTimeout: float,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param reactor: if it provides no C{IReactorCore} nothing can be held.
        @param close: closes what is open; called when the reactor stops, after all that
            others do at once at that moment.
        """
        self._close = close
        self._reactor = reactor
        self._core = reactor if IReactorCore.providedBy(reactor) else None
        self._lingerTimeout = lingerTimeout
        self._held: set[Hashable] = set()
        self._trigger: Any = None
        self._waiting: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None

    def hold(self, closing: Hashable) -> None:
        """C{closing} is not done yet."""
        self._held.add(closing)
        if self._core is not None and self._trigger is None and self._waiting is None:
            self._trigger = self._core.addSystemEventTrigger("before", "shutdown", self._wait)

    def release(self, closing: Hashable) -> None:
        """Harmless for what is not held."""
        self._held.discard(closing)
        if self._held:
            return
        trigger, self._trigger = self._trigger, None
        if trigger is not None and self._core is not None:
            self._core.removeSystemEventTrigger(trigger)
        self._done()

    def _wait(self) -> Deferred[None]:
        self._trigger = None
        self._waiting = Deferred()
        self._timer = self._reactor.callLater(self._lingerTimeout, self._done)
        self._reactor.callLater(0, self._begin)
        return self._waiting

    def _begin(self) -> None:
        if self._waiting is not None:
            self._close()

    def _done(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
