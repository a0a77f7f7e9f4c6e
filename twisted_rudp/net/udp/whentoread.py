"""
Busy polling: looking for the next datagram for a moment before going to sleep.

Where both ends are on one machine, or one switch, the answer to what a turn has sent
is often there before the operating system has put this process to sleep and woken it
up again, and that takes longer than the turn itself. A port polls while it pays, and
hardly ever where it does not.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from twisted_rudp.net.udp.port import PortCounters

PATIENCE = 200_000
"""Nanoseconds of one poll. An end that sleeps has to answer within that time, on a
busy machine too, or two ends never find to polling each other at once. Once they
have, they answer in a sixth of it."""

EPISODE = 500_000
"""Nanoseconds, after which the reactor gets to see to everything else."""

LONGEST_PAUSE = 11
"""A poll in vain is followed by a pause, which doubles twice with each, up to 2 **
L{LONGEST_PAUSE} times L{PATIENCE}, 0.4 seconds; and halves with each that finds
something. So polling goes on where two of three find something."""

SHARE = 64
"""All ports together poll in vain for at most one in so many nanoseconds: a thousand
ports that try now and then would keep the reactor from its work."""

BURST = 16
"""Polls in vain that may follow each other all the same."""


def readiness(descriptor: int) -> Callable[[int], object] | None:
    """
    What tells whether a descriptor can be read, where the platform has it: called with
    the milliseconds to wait, true if it can.
    """
    if not hasattr(select, "poll"):
        return None
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return poll.poll


class Allowance:
    """What may be spent on polls in vain."""

    def __init__(self) -> None:
        self._paid = 0

    def admits(self, now: int) -> bool:
        """
        @param now: nanoseconds, as everywhere here.
        @return: there may be one more.
        """
        return self._paid <= now

    def spend(self, now: int) -> None:
        """There was one."""
        cost = PATIENCE * SHARE
        self._paid = max(self._paid, now - BURST * cost) + cost


SHARED = Allowance()
"""Of the process: its reactor has one thread."""


class BusyPoll:
    """Decides whether to poll a socket, and does."""

    __slots__ = ("_allowance", "_clock", "_counters", "_level", "_ready", "_resume")

    def __init__(
        self,
        ready: Callable[[int], object],
        counters: PortCounters,
        allowance: Allowance = SHARED,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """
        @param ready: see L{readiness}.
        """
        self._allowance = allowance
        self._ready = ready
        self._counters = counters
        self._clock = clock
        self._level = 0
        self._resume = 0

    def episode(self, read: Callable[[], bool]) -> None:
        """
        After a turn: go on with C{read} for as long as something comes soon enough.

        @param read: has a turn; false when there is to be none any more.
        """
        clock = self._clock
        now = clock()
        if now < self._resume or not self._allowance.admits(now):
            return
        end = now + EPISODE
        while now < end and self._arrives(now) and read():
            now = clock()

    def _arrives(self, now: int) -> bool:
        ready, clock = self._ready, self._clock
        end = now + PATIENCE
        while not ready(0):
            now = clock()
            if now >= end:
                self._counters.pollsInVain += 1
                self._allowance.spend(now)
                self._level = min(self._level + 2, LONGEST_PAUSE)
                self._resume = now + (PATIENCE << self._level)
                return False
        self._counters.polls += 1
        if self._level:
            self._level -= 1
        return True
