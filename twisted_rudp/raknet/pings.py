"""Pings and pongs inside of a session (raknet.md 11.1)."""

from __future__ import annotations

from twisted_rudp.raknet import system
from twisted_rudp.raknet.state import State
from twisted_rudp.raknet.wire import Reliability

MOST_URGENT = 64
"""Answers to the protocol's own messages that may wait; what is asked beyond is ignored."""


class Pings:
    """Sends both. What they mean L{Liveness<twisted_rudp.raknet.liveness.Liveness>} knows."""

    __slots__ = ("_state",)

    def __init__(self, state: State) -> None:
        self._state = state

    def ping(self, now: int) -> None:
        """Ask the peer for a sign of life."""
        state = self._state
        time = state.time(now)
        reliability = Reliability.UNRELIABLE
        if state.settings.reliable_pings:
            reliability = Reliability.RELIABLE_ORDERED
        elif state.liveness.wants_answer(now):
            reliability = Reliability.RELIABLE
        state.sender.system(system.pack_ping(time), reliability)
        state.liveness.pinged(time, now)
        state.counters.pings_sent += 1

    def pong(self, time: int, now: int) -> None:
        """
        Answer the peer's ping.

        @param time: the peer's, as it came.
        """
        state = self._state
        if state.sender.urgent >= MOST_URGENT or state.left:
            state.counters.system_ignored += 1
            return
        ordered = state.settings.reliable_pings
        reliability = Reliability.RELIABLE_ORDERED if ordered else Reliability.UNRELIABLE
        state.sender.system(system.pack_pong(time, state.time(now)), reliability)
