"""
When to read next: look for a moment, sleep, or wait.

I{Look.} Where both ends are on one machine, or one switch, the answer to what a turn has
sent is often there before the operating system has put this process to sleep and woken
it up again, and that takes longer than the turn itself. A port polls while it pays, and
hardly ever where it does not.

I{Wait.} On a link of 100 Mbit/s a datagram comes each 0.12 ms, and a turn for each costs
several times what a turn for a dozen costs. While they come that fast, a port stops
reading for up to five milliseconds and then reads all that is there, as network cards
moderate their interrupts. It waits only while it gathers something, and not at all for
peers that are so near that it would slow them. Each such turn costs about the same, whatever
it brings, so its number decides what a transfer costs: five milliseconds, an eighth of a round
trip of 40 ms, cost half of what two do.

I{Sleep.} Else the reactor says when there is something to read.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Final

from twisted_rudp.net.udp.port import PortCounters

PATIENCE: Final = 200_000
"""Nanoseconds of one poll. An end that sleeps has to answer within that time, on a
busy machine too, or two ends never find to polling each other at once. Once they
have, they answer in a sixth of it."""

EPISODE: Final = 500_000
"""Nanoseconds, after which the reactor gets to see to everything else."""

LONGEST_PAUSE: Final = 11
"""A poll in vain is followed by a pause, which doubles twice with each, up to 2 **
L{LONGEST_PAUSE} times L{PATIENCE}, 0.4 seconds; and halves with each that finds
something. So polling goes on where two of three find something."""

SHARE: Final = 64
"""All ports together poll in vain for at most one in so many nanoseconds: a thousand
ports that try now and then would keep the reactor from its work."""

BURST: Final = 16
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


SHARED: Final = Allowance()
"""Of the process: its reactor has one thread."""


LONGEST_WAIT: Final = 5_000_000
"""Nanoseconds for which a socket is left alone at most."""

SHORTEST_WAIT: Final = 500_000
"""What is less is not waited for: timers of an operating system are not that fine."""

WINDOW: Final = 8_000_000
"""Within this time it shows whether datagrams come fast enough."""

ENOUGH: Final = 8
"""So many datagrams are needed to tell how fast they come."""

TOGETHER: Final = 2
"""A wait that gathers fewer is the last one."""

ROUND_TRIPS: Final = 8
"""A wait is at most one part in so many of the round trip."""


class WhenToRead:
    """
    Decides when a socket is read next.

    @ivar most: so many datagrams may gather in its receive buffer.
    @ivar clock: nanoseconds.
    """

    __slots__ = (
        "_allowance",
        "_arrived",
        "_counters",
        "_end",
        "_level",
        "_ready",
        "_resume",
        "_since",
        "_wait",
        "clock",
        "most",
    )

    def __init__(
        self,
        ready: Callable[[int], object] | None,
        counters: PortCounters,
        allowance: Allowance = SHARED,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """
        @param ready: see L{readiness}; without it nothing is polled.
        """
        self.most = 1 << 20
        self._allowance = allowance
        self._ready = ready
        self._counters = counters
        self.clock = clock
        self._level = 0
        self._resume = 0
        self._end = 0
        self._since = 0
        self._arrived = 0
        self._wait = 0

    # looking

    def arrives(self, patience: int) -> bool:
        """
        After a turn: look for something more to read.

        @param patience: see L{Receiver.patience}.
        @return: there is something; it is to be read at once. Else, if the patience is
            enough for that, L{wait} is to be asked.
        """
        ready = self._ready
        if patience < SHORTEST_WAIT:
            self._since = self._wait = 0
        if ready is None or patience < 0 or patience >= SHORTEST_WAIT:
            self._end = 0
            return False
        now = self.clock()
        if not self._end:
            if now < self._resume or not self._allowance.admits(now):
                return False
            self._end = now + EPISODE
        elif now >= self._end:
            self._end = 0
            return False
        end = now + PATIENCE
        while not ready(0):
            now = self.clock()
            if now >= end:
                self._counters.pollsInVain += 1
                self._allowance.spend(now)
                self._level = min(self._level + 2, LONGEST_PAUSE)
                self._resume = now + (PATIENCE << self._level)
                self._end = 0
                return False
        self._counters.polls += 1
        if self._level:
            self._level -= 1
        return True

    # waiting

    def wait(self, datagrams: int, patience: int) -> int:
        """
        After a turn behind which nothing was looked for.

        @param datagrams: how many it brought.
        @param patience: see L{Receiver.patience}.
        @return: nanoseconds for which the socket is to be left alone; 0: none.
        """
        if patience < SHORTEST_WAIT:
            self._since = self._wait = 0
            return 0
        wait = min(patience, LONGEST_WAIT)
        if self._wait:
            if datagrams > self.most:
                wait = min(wait, self._wait * self.most // datagrams)
            if datagrams < TOGETHER or wait < SHORTEST_WAIT:
                self._since = self._wait = 0
                return 0
        else:
            now = self.clock()
            elapsed = now - self._since
            if not self._since or elapsed > WINDOW:
                self._since, self._arrived = now, 0
                return 0
            self._arrived += datagrams
            if self._arrived < ENOUGH or self._arrived * wait < TOGETHER * elapsed:
                return 0
        self._counters.waits += 1
        self._wait = wait
        return wait
