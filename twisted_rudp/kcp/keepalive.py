"""
How long a session goes on in silence: keepalive, idle timeout, a peer that forgot us, and the
read and write timeouts of an application.

KCP has nothing of its own for this. Silence is ended by a probe (WASK), which
every implementation answers. The answer of a kcp-go listener that has closed
the session meanwhile comes from a new, empty session and gives itself away:
C{kcp-close.md} section 5.5.
"""

from __future__ import annotations

from typing import Final

from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.timers import NEVER
from twisted_rudp.kcp.settings import SessionOptions

DEFAULT_IDLE: Final = 60 * SECOND
DEFAULT_KEEP_ALIVE: Final = 15 * SECOND
"""Most address translators forget a peer after 30 s at the earliest (RFC 4787 section 4.3)."""

SHARE: Final = 3
"""The first probe comes after this part of the idle timeout at the latest."""

FIRST_REPEAT: Final = 500 * MILLISECOND
LAST_REPEAT: Final = 2 * SECOND
"""
A probe is repeated until it is answered: after some retransmission timeouts, this at least
and that at most. With a third lost each way an answer fails to come in half of all cases,
and 20 of them in a row once in a million.
"""

BEHIND_LIMIT: Final = 4
"""So many signs in a row, nearly all of them answers from behind, mean that the peer forgot us.
They may be old datagrams that were late or that somebody repeats. Each true answer is heard between
two questions, unless it is lost."""

WITHOUT_COOKIE: Final = 2
"""As so many signs counts an answer that asks for a proof that the peer was given."""


class KeepAlive:
    """
    Watches one peer.

    @ivar heard: when the peer was heard last; may be set.
    @ivar asked: a probe is out that no control segment has answered.
    @ivar idle: nanoseconds of silence after which the peer counts as gone; 0: never.
    """

    __slots__ = (
        "_behind",
        "_first_probed",
        "_interval",
        "_probed",
        "_progress",
        "_progress_at",
        "_wait",
        "asked",
        "heard",
        "idle",
    )

    def __init__(self, now: int, idle: int, interval: int) -> None:
        """
        @param interval: nanoseconds of silence after which the peer is probed; 0: only as
            the idle timeout needs it.
        """
        self.idle = idle
        latest = idle // SHARE if idle else NEVER
        self._interval = min(interval, latest) if interval else latest
        self.heard = now
        self._probed = now
        self._first_probed = now
        self._wait = 0
        self._behind = 0
        self._progress = 0
        self._progress_at = now
        self.asked = False

    def deadline(self) -> int:
        """When L{probe_due} or L{gone} may turn true."""
        if self._interval >= NEVER:
            return NEVER
        probe = self._next_probe()
        if not self.idle or self.heard >= self._probed:
            return probe
        return min(probe, self._silent_since() + self.idle)

    def _next_probe(self) -> int:
        if self.heard >= self._probed and not self._behind:
            return self.heard + self._interval
        return self._probed + self._wait

    def gone(self, now: int) -> bool:
        """
        Nothing was heard for the whole idle time, in which the peer was asked: this process may
        have been stopped.
        """
        if not self.idle or self.heard >= self._probed:
            return False
        return now >= self._silent_since() + self.idle

    def _silent_since(self) -> int:
        """When the peer was heard last; later if the first probe was late."""
        return max(self.heard, self._first_probed - self._interval)

    def stuck(self, outstanding: int, following: int, now: int) -> bool:
        """
        Something is in flight and nothing was acknowledged for the idle timeout, though
        the peer is heard: its path may drop what is long. A window that is closed is no
        such case, since then all arrives that was sent; nor is that this process was stopped
        and has not asked.

        @param outstanding: segments in flight.
        @param following: the number of the next one.
        """
        arrived = following - outstanding
        stopped = self.heard >= self._probed and now >= self.heard + self.idle
        if not outstanding or arrived != self._progress or stopped:
            self._progress, self._progress_at = arrived, now
            return False
        return 0 < self.idle <= now - self._progress_at

    def probe_due(self, now: int, timeout: int) -> bool:
        """
        It is time to ask whether the peer is there. Counts as asked.

        @param timeout: of a retransmission.
        """
        if self._interval >= NEVER or now < self._next_probe():
            return False
        self._ask(now, timeout)
        return True

    def doubt(self, now: int, timeout: int) -> bool:
        """
        An old acknowledgement came: the peer may have forgotten us. This is the first sign, and
        the peer is asked until it has answered.

        @param timeout: of a retransmission.
        @return: it is to be asked now. Counts as asked.
        """
        if self._behind or self._interval >= NEVER:
            return False
        self._behind = 1
        self._ask(now, timeout)
        return True

    def _ask(self, now: int, timeout: int) -> None:
        # Without an idle timeout nobody waits for the answer, so asking gets rarer.
        most = LAST_REPEAT if self.idle else self._interval
        if self.heard >= self._probed:
            self._first_probed = now
            self._wait = min(max(4 * timeout, FIRST_REPEAT), most)
        else:
            self._wait = min(2 * self._wait, most)
        self._probed = now
        self.asked = True

    def answered(self, behind: bool, forgotten: bool) -> bool:
        """
        A control segment came.

        @param behind: its C{una} is before what the peer had acknowledged at
            least one retransmission timeout ago.
        @param forgotten: it asks for a proof that the peer was given before.
        @return: True once the peer has certainly forgotten us.
        """
        if forgotten:
            self._behind += WITHOUT_COOKIE
        elif not behind:
            self._behind = 0
        elif self.asked:
            # Only an answer tells: what comes unasked may be somebody's recording.
            self._behind += 1
        self.asked = False
        return self._behind >= BEHIND_LIMIT


class TimeLimits:
    """How long nothing may come, and nothing that was written may be acknowledged."""

    __slots__ = ("_read_since", "_written_since")

    def __init__(self) -> None:
        self._read_since = NEVER
        self._written_since = NEVER

    def came(self, now: int) -> None:
        """The session is connected, or something has come."""
        self._read_since = now

    def waits(self, waiting: bool, now: int) -> bool:
        """
        Whether something of what was written waits to be acknowledged.

        @return: it does from now on.
        """
        if not waiting:
            self._written_since = NEVER
        elif self._written_since == NEVER:
            self._written_since = now
            return True
        return False

    def deadline(self, options: SessionOptions, moved: int) -> int:
        """
        When the first of the limits is reached.

        @param moved: when something was acknowledged last.
        """
        return min(self._read_until(options), self._written_until(options, moved))

    def reached(self, options: SessionOptions, moved: int, now: int) -> str | None:
        """What has not happened for too long, in words; None: nothing of that kind."""
        if now >= self._read_until(options):
            return f"nothing came for {options.read_timeout / SECOND:g} seconds"
        if now >= self._written_until(options, moved):
            seconds = options.write_timeout / SECOND
            return f"nothing of what was written was acknowledged for {seconds:g} seconds"
        return None

    def _read_until(self, options: SessionOptions) -> int:
        if not options.read_timeout or self._read_since == NEVER:
            return NEVER
        return self._read_since + options.read_timeout

    def _written_until(self, options: SessionOptions, moved: int) -> int:
        if not options.write_timeout or self._written_since == NEVER:
            return NEVER
        return max(self._written_since, moved) + options.write_timeout
