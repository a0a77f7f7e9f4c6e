"""
What a sender and its congestion controller tell each other.

A sender asks how many bytes may be in flight and how fast they may leave, and tells
the controller once in a turn what became of what it had sent. Sizes are bytes of UDP
payload, times are nanoseconds, rates are bytes a second.
"""

from __future__ import annotations

from typing import Final, Protocol

UNLIMITED: Final = 1 << 40
"""A window larger than any path holds."""

INITIAL_DATAGRAMS: Final = 32
"""Datagrams in flight before anything was acknowledged. RFC 6928 has 10 for a protocol
that does not pace; these leave over a round trip once one is known."""

LEAST_DATAGRAMS: Final = 4
"""The smallest window, in datagrams (RFC 9438 and BBR have 4 as well): with fewer no
three later ones tell of a loss."""


class Sample:
    """
    What a sender learnt in one turn, from all that came in it.

    @ivar now: when.
    @ivar acked: bytes acknowledged for the first time.
    @ivar lost: bytes newly declared lost.
    @ivar in_flight: bytes sent and neither acknowledged nor lost, after that.
    @ivar delivered: bytes acknowledged in all the session's life.
    @ivar before: what C{delivered} was when the newest acknowledged datagram was sent;
        -1: none was acknowledged in this turn.
    @ivar round_trip: of that datagram; 0: there is no measurement.
    @ivar rate: bytes a second that the path delivered between its sending and now; 0.0:
        there is no measurement.
    @ivar app_limited: the application, not the controller, had held the sender back then.
    @ivar settled: bytes of datagrams whose fate became known, of those that were sent
        while L{Controller.draining} was true.
    @ivar settled_lost: how many of them were lost.
    """

    __slots__ = (
        "acked",
        "app_limited",
        "before",
        "delivered",
        "in_flight",
        "lost",
        "now",
        "rate",
        "round_trip",
        "settled",
        "settled_lost",
    )

    def __init__(
        self,
        now: int,
        acked: int = 0,
        lost: int = 0,
        in_flight: int = 0,
        delivered: int = 0,
        before: int = -1,
        round_trip: int = 0,
        rate: float = 0.0,
        app_limited: bool = False,
        settled: int = 0,
        settled_lost: int = 0,
    ) -> None:
        self.now = now
        self.acked = acked
        self.lost = lost
        self.in_flight = in_flight
        self.delivered = delivered
        self.before = before
        self.round_trip = round_trip
        self.rate = rate
        self.app_limited = app_limited
        self.settled = settled
        self.settled_lost = settled_lost

    def sent_before(self, moment: int) -> bool:
        """Whether the newest acknowledged datagram was sent earlier than that."""
        return self.round_trip > 0 and self.now - self.round_trip < moment


class WindowUse:
    """
    Whether a sender has filled its window within the last round trip. Then the application is not
    what limits the flow, though its queue is empty at times: who writes a part when the one before
    has left, as producers do, fills a path and keeps no queue.
    """

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = -1

    def filled(self, sample: Sample, window: int, mss: int) -> bool:
        """
        @param window: what the sender was told before this turn.
        @param mss: bytes of a full datagram. Less than two are left of a window: senders may count
            what is in flight, and the window, in whole ones.
        """
        if sample.in_flight + sample.acked + sample.lost + 2 * mss > window:
            self._until = sample.delivered + sample.in_flight
        return sample.delivered <= self._until


class Controller(Protocol):
    """Decides how much may be in flight and how fast it leaves."""

    @property
    def window(self) -> int:
        """Bytes that may be in flight now."""

    @property
    def pacing_rate(self) -> float:
        """Bytes a second at which to send; 0.0: as fast as the window allows."""

    @property
    def draining(self) -> bool:
        """
        Less is being sent than the path is believed to carry. What is lost of that is
        not lost by our own overflow.
        """

    def on_turn(self, sample: Sample) -> None:
        """Something was acknowledged or declared lost."""

    def on_timeout(self, now: int) -> None:
        """
        Several probes in a row went unanswered, and all that was in flight counts as
        lost (persistent congestion, RFC 9002 section 7.6).
        """


class FixedWindow:
    """
    No congestion control: a fixed number of bytes in flight.

    @ivar window: see L{Controller.window}.
    """

    __slots__ = ("draining", "pacing_rate", "window")

    def __init__(self, window: int = UNLIMITED) -> None:
        self.window = window
        self.pacing_rate = 0.0
        self.draining = False

    def on_turn(self, sample: Sample) -> None:
        pass

    def on_timeout(self, now: int) -> None:
        pass
