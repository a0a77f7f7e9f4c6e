"""
The congestion control of the QOTP release v0.2.19, as it was recorded (qotp.md 7), and
what suits a peer that is one.
"""

from __future__ import annotations

from typing import Final

from twisted_rudp.core.congestion import Controller, Sample
from twisted_rudp.core.congestion.controller import UNLIMITED
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.rtt import RoundTrip

_STARTUP: Final = 277
_NORMAL: Final = 100
_PROBE: Final = 125
_MILD: Final = 90
_INFLATED: Final = 75
"""Percent of the estimate that are sent."""

_OVERHEAD: Final = 42
_BLIND: Final = 10 * MILLISECOND
_PATIENCE: Final = 3


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
