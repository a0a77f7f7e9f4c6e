"""
Whether the peer is still there: keepalive, idle timeout, a peer that forgot us.

KCP has nothing of its own for this. Silence is ended by a probe (WASK), which
every implementation answers. The answer of a kcp-go listener that has closed
the session meanwhile comes from a new, empty session and gives itself away:
C{kcp-close.md} section 5.5.
"""

from __future__ import annotations

from typing import Final

from twisted_rudp.core.engine import SECOND
from twisted_rudp.core.timers import NEVER

DEFAULT_IDLE: Final = 60 * SECOND

PROBES: Final = 3
"""Silence is probed this often before it counts as death."""

BEHIND_LIMIT: Final = 2
"""So many answers in a row from behind mean that the peer forgot us. One may be
an old datagram that was late."""


class KeepAlive:
    """
    Watches one peer.

    @ivar heard: when the peer was heard last; may be set.
    @ivar asked: a probe is out that no control segment has answered.
    """

    __slots__ = ("_behind", "_gap", "_idle", "_probed", "asked", "heard")

    def __init__(self, now: int, idle: int) -> None:
        """
        @param idle: nanoseconds of silence after which the peer counts as gone; 0: never,
            and no probes.
        """
        self._idle = idle
        self._gap = idle // PROBES
        self.heard = now
        self._probed = now
        self._behind = 0
        self.asked = False

    def deadline(self) -> int:
        """When L{probe_due} or L{gone} may turn true."""
        if not self._idle:
            return NEVER
        if self.heard >= self._probed:
            return self.heard + self._gap
        return min(self._probed + self._gap, self.heard + self._idle)

    def gone(self, now: int) -> bool:
        """Nothing was heard for the whole idle time."""
        return self._idle > 0 and now >= self.heard + self._idle

    def probe_due(self, now: int) -> bool:
        """It is time to ask whether the peer is there. Counts as asked."""
        if not self._idle or now < max(self.heard, self._probed) + self._gap:
            return False
        self._probed = now
        self.asked = True
        return True

    def answered(self, behind: bool) -> bool:
        """
        A control segment came.

        @param behind: its C{una} is before what the peer had acknowledged at
            least one retransmission timeout ago.
        @return: True once the peer has certainly forgotten us.
        """
        self.asked = False
        self._behind = self._behind + 1 if behind else 0
        return self._behind >= BEHIND_LIMIT
