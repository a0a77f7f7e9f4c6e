"""What time brings to a session: when to look again, and what is due then."""

from __future__ import annotations

from twisted_rudp.core.engine import Reason
from twisted_rudp.raknet import system
from twisted_rudp.raknet.arrivals import NEVER
from twisted_rudp.raknet.closing import Closing
from twisted_rudp.raknet.life import Life
from twisted_rudp.raknet.opening import Opening
from twisted_rudp.raknet.state import State

_OFFLINE = Life.OFFLINE


class Timers:
    """
    Gathers the times that the parts keep. What is merely to be sent at its time,
    the next flush sends.
    """

    __slots__ = ("_closing", "_opening", "_state")

    def __init__(self, state: State, opening: Opening, closing: Closing) -> None:
        self._state = state
        self._opening = opening
        self._closing = closing

    def tick(self, now: int) -> None:
        """
        End what has lasted too long: the tombstone, the peer's silence, the close, a
        handshake that nobody confirms.
        """
        state, closing = self._state, self._closing
        if closing.tombstone is not None:
            if state.life is Life.ENDED and now >= closing.tombstone.until:
                state.enter(Life.FORGOTTEN)
            return
        if state.life is _OFFLINE or state.left:
            return
        if now >= state.silent_until:
            closing.end(Reason.IDLE, now, words=system.ABORTED)
        elif now >= closing.until:
            closing.give_up(now)
        elif self._opening.unconfirmed and now >= state.flying.alarm:
            closing.end(Reason.HANDSHAKE_TIMEOUT, now)

    def deadline(self) -> int | None:
        """The earliest of acknowledgements, repeats, pings, close and idle."""
        state, closing = self._state, self._closing
        if closing.tombstone is not None:
            return None if state.life is Life.FORGOTTEN else closing.tombstone.until
        if state.life is _OFFLINE:
            return self._opening.due
        due = min(
            state.arrivals.ack_due,
            state.arrivals.nack_due,
            state.flying.alarm,
            state.liveness.ping_due,
            closing.until,
            NEVER if state.left else state.silent_until,
        )
        return None if due >= NEVER else due
