"""
The congestion control of the QOTP release v0.2.19, as it was recorded (qotp.md 7), and
what suits a peer that is one.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from twisted_rudp.core.congestion import Controller, Sample
from twisted_rudp.core.congestion.controller import UNLIMITED
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.rtt import RoundTrip
from twisted_rudp.core.timers import NEVER

_STARTUP: Final = 277
_NORMAL: Final = 100
_PROBE: Final = 125
_MILD: Final = 90
_INFLATED: Final = 75
"""Percent of the estimate that are sent."""

_OVERHEAD: Final = 42
_BLIND: Final = 10 * MILLISECOND
_PATIENCE: Final = 3

LEAST_DOUBTFUL: Final = 32 << 10
"""So much may always be sent before the window is whole again; half of what it was each time when
something is missing, an eighth more when nothing is."""

TAIL: Final = 8
"""So many packets are not lost one after the other."""

MOST_PASSES: Final = 3
MOST_REPEATED: Final = 32
"""When what may be lost was sent so often and the window is not whole, the application there does
not read. Then only so many packets are sent again, and less and less often."""

_MOST_BACK_OFF: Final = 7


class ReleaseController:
    """
    Pacing by one packet per least round trip, without a window. Slow; for comparison.

    @ivar bandwidth: the largest estimate, bytes per second.
    @ivar gain: percent of it that is sent.
    @ivar starting: the first phase is not over.
    """

    __slots__ = (
        "_flat", "_mss", "_probed", "_round_trip", "bandwidth", "draining", "gain", "starting",
        "window",
    )  # fmt: skip

    def __init__(self, round_trip: RoundTrip, mss: int) -> None:
        """
        @param round_trip: the sender's, which has taken in the sample of an
            acknowledgement before it is told here.
        @param mss: bytes of a full datagram.
        """
        self._round_trip = round_trip
        self._mss = mss
        self._flat = 0
        self._probed = 0
        self.bandwidth = 0
        self.gain = _STARTUP
        self.starting = True
        self.window = UNLIMITED
        self.draining = False

    # the interface of all controllers

    @property
    def pacing_rate(self) -> float:
        return self._mss * SECOND / self.pause(self._mss)

    def on_turn(self, sample: Sample) -> None:
        if sample.lost:
            self.lost()
        if sample.acked:
            # The release takes each acknowledgement, of one segment, by itself.
            self.acknowledged(min(sample.acked, self._mss), sample.now)

    def on_timeout(self, now: int) -> None:
        self.lost()

    # the release's own steps

    def pause(self, size: int) -> int:
        """Nanoseconds that C{size} bytes on the wire are to take."""
        if not self.bandwidth:
            return self._round_trip.smoothed // 10 or _BLIND
        rate = self.bandwidth * self.gain // 100
        return (size * SECOND // rate if rate else 0) or _BLIND

    def acknowledged(self, size: int, now: int) -> None:
        """A segment of C{size} bytes has arrived."""
        least = self._round_trip.least
        if not least:
            return
        self._probed = self._probed or now
        estimate = (size + _OVERHEAD) * SECOND // least
        if estimate > self.bandwidth:
            self.bandwidth, self._flat = estimate, 0
        else:
            self._flat += 1
        if self.starting:
            if self._flat >= _PATIENCE:
                self.starting, self.gain = False, _NORMAL
            return
        inflation = self._round_trip.smoothed * 100 // least
        if inflation > 150:
            self.gain = _INFLATED
        elif inflation > 125:
            self.gain = _MILD
        elif now - self._probed > 8 * least:
            self._probed, self.gain = now, _PROBE
        else:
            self.gain = _NORMAL

    def duplicate(self) -> None:
        """An acknowledgement came of something that is not in flight."""
        self.bandwidth = self.bandwidth * 98 // 100
        self.gain, self.starting = _MILD, False

    def lost(self) -> None:
        """Something is sent again."""
        self.bandwidth = self.bandwidth * 95 // 100
        self.gain, self.starting = _NORMAL, False


class WindowEvidence:
    """
    What the window of a peer of the release tells of what has arrived there. Its acknowledgements
    come one in 10 ms until it has sent data itself, so that a segment is named when seconds have
    passed; the window beside them is that of the moment. If it is whole, the release buffers
    nothing: what has come has no hole. If not, and its application reads, something is missing
    among what was sent since it was whole.

    @ivar missing: segments are to be sent again before new ones.
    """

    __slots__ = (
        "_arrived", "_first", "_look_at", "_marks", "_most", "_passes", "_sent", "_whole",
        "missing",
    )  # fmt: skip

    def __init__(self, whole: int) -> None:
        """
        @param whole: the largest window of the peer.
        """
        self._whole = self._most = whole
        self._sent = 0
        self._arrived = 0
        self._first = 0
        self._marks: deque[tuple[int, int, int]] = deque()
        self._passes = 0
        self._look_at = 0
        self.missing = False

    @property
    def room(self) -> int:
        """Bytes that can be sent beside what has not shown to have arrived."""
        return self._most - self.doubtful

    @property
    def doubtful(self) -> int:
        """Bytes that have not shown to have arrived."""
        return self._sent - self._arrived

    def on_sent(self, size: int, first: int, now: int) -> None:
        """
        New bytes are sent.

        @param first: the number of their first packet.
        """
        marks = self._marks
        if not marks or marks[-1][0] != now:
            marks.append((now, self._sent, first))
        self._sent += size

    def on_window(self, window: int, now: int, trip: int, end: int) -> bool:
        """
        The peer has told its window.

        @param trip: how long a datagram and the answer to it take at most.
        @param end: the number of the next packet.
        @return: whether something seems to be missing that could be sent again.
        """
        if window < self._whole:
            return now >= self._look_at and self.doubtful > 0
        marks, before = self._marks, now - trip
        for sent_at, _, first in reversed(marks):
            if sent_at <= before:
                break
            end = first
        # What is lost at the end of what was sent makes no hole.
        while len(marks) > 1 and marks[1][0] <= before and marks[1][2] <= end - TAIL:
            marks.popleft()
        if marks and marks[0][0] <= before:
            self._arrived, self._first = marks[0][1], marks[0][2]
        if not self._passes:
            self._most = min(self._most + self._most // 8, self._whole)
        self._passes = 0
        self.missing = False
        return False

    def repeat(self, end: int) -> tuple[int, int]:
        """
        What may be missing is to be sent again, and nothing new before that has come.

        @param end: the number of the next packet.
        @return: numbers of packets, first and end.
        """
        self._passes += 1
        self._most = max(min(self._most, self.doubtful) // 2, LEAST_DOUBTFUL)
        self.missing = True
        self._look_at = NEVER
        if self._passes > MOST_PASSES:
            end = min(end, self._first + MOST_REPEATED)
        return self._first, end

    def on_repeated(self, now: int, trip: int) -> None:
        """All of those have been sent again."""
        if self._look_at == NEVER:
            self._look_at = now + trip
            beyond = self._passes - MOST_PASSES
            if beyond > 0:
                self._look_at += _BLIND << min(beyond, _MOST_BACK_OFF)


class BaselineController:
    """
    For a peer of the release. Until it has sent data itself it acknowledges one segment in
    10 ms, whatever has arrived, and a sender that is clocked by that gets 0.14 MB/s. So,
    while acknowledgements come at all, their pace is no bound, and the rate is never less
    than what the release would send.

    @ivar silent: acknowledgements have stopped.
    """

    __slots__ = ("_inner", "_release", "silent")

    def __init__(self, inner: Controller, release: ReleaseController) -> None:
        """
        @param inner: the controller that was chosen.
        """
        self._inner = inner
        self._release = release
        self.silent = False

    @property
    def window(self) -> int:
        clocked = self.silent or not self._release.bandwidth
        return self._inner.window if clocked else UNLIMITED

    @property
    def pacing_rate(self) -> float:
        chosen, least = self._inner.pacing_rate, self._release.pacing_rate
        return chosen if chosen > least or not self._release.bandwidth else least

    @property
    def draining(self) -> bool:
        return self._inner.draining

    def on_turn(self, sample: Sample) -> None:
        self.silent = False
        self._inner.on_turn(sample)
        self._release.on_turn(sample)

    def on_timeout(self, now: int) -> None:
        self._inner.on_timeout(now)
        self._release.on_timeout(now)
