"""System events with their three phases, as a reactor has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

_PHASES = ("before", "during", "after")


class Trigger(NamedTuple):
    """What C{addSystemEventTrigger} returns."""

    number: int
    phase: str
    eventType: str
    call: Callable[[], object]


class SystemEvents:
    """The triggers of one reactor."""

    _log = Logger()

    def __init__(self) -> None:
        self._triggers: dict[int, Trigger] = {}
        self._next = 0

    def __len__(self) -> int:
        """How many triggers wait for their event."""
        return len(self._triggers)

    def add(
        self,
        phase: str,
        eventType: str,
        callable: Callable[..., Any],
        *args: object,
        **kwargs: object,
    ) -> Trigger:
        """
        @raise KeyError: there is no such phase.
        """
        if phase not in _PHASES:
            raise KeyError(phase)
        self._next += 1
        trigger = Trigger(self._next, phase, eventType, lambda: callable(*args, **kwargs))
        self._triggers[trigger.number] = trigger
        return trigger

    def remove(self, trigger: Trigger) -> None:
        """
        @raise TypeError: this is not what L{add} returned.
        @raise ValueError: the trigger has been removed or has run.
        """
        if not isinstance(trigger, Trigger):
            raise TypeError(trigger)
        if self._triggers.pop(trigger.number, None) is None:
            raise ValueError(trigger)

    def fire(self, eventType: str) -> Deferred[None]:
        """
        Run the phases one after the other.

        @return: fires when the last one is over; the second phase waits for the
            C{Deferred}s that the first returned.
        """
        waiting = DeferredList(
            [maybeDeferred(call) for call in self._take("before", eventType)],
            consumeErrors=True,
        )

        def goOn(results: list[tuple[bool, object]]) -> None:
            for succeeded, result in results:
                if not succeeded and isinstance(result, Failure):
                    self._log.failure("a trigger before {event} failed", result, event=eventType)
            for phase in ("during", "after"):
                for call in self._take(phase, eventType):
                    try:
                        call()
                    except Exception:
                        self._log.failure(
                            "a trigger {phase} {event} failed", phase=phase, event=eventType
                        )

        return waiting.addCallback(goOn)

    def _take(self, phase: str, eventType: str) -> Iterator[Callable[[], object]]:
        """
        Forget the triggers of a phase one by one, and give what each calls: one may remove or
        add others, as with a reactor of Twisted's.
        """
        while due := [
            t for t in self._triggers.values() if (t.phase, t.eventType) == (phase, eventType)
        ]:
            del self._triggers[due[0].number]
            yield due[0].call
