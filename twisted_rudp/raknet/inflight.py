"""The table of what is in flight: acknowledgements, losses, timeouts, receipts (raknet.md 9)."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from operator import attrgetter

from twisted_rudp.core.bytewindow import (
    ByteController,
    LossWindow,
    SmoothedRoundTrip,
    TolerantBytes,
    Unlimited,
)
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.ranges import Ranges
from twisted_rudp.core.serial import unwrap24
from twisted_rudp.raknet.arrivals import NEVER
from twisted_rudp.raknet.counters import Counters
from twisted_rudp.raknet.flights import Flight, Packet, Parcel
from twisted_rudp.raknet.outbox import Outgoing
from twisted_rudp.raknet.profiles import Settings

FIRST_TIMEOUT = 400 * MILLISECOND
MIN_TIMEOUT = 100 * MILLISECOND
MAX_TIMEOUT = 3 * SECOND
DEVIATION_FLOOR = 30 * MILLISECOND
ACK_ALLOWANCE = 20 * MILLISECOND
"""Retransmission timeouts of raknet.md 9. The first is the one for the handshake,
with which every session begins."""

ACKS_KEPT_BACK = 120
"""Milliseconds; go-raknet acknowledges every 100 (raknet.md 8.1)."""

GUESSED_ROUND_TRIP = 50 * MILLISECOND
"""Of the seed's timer before there is a sample (raknet.md 9)."""

SPARE = 8
"""The share of a window of numbers that new data leaves to repeats, pings and
fillings: enough for what a tenth of loss makes to be repeated, and for that again.
Repeats leave half of it."""

FILL_BEHIND = 4
"""A gap is filled when a window's share of numbers lies beyond it."""

FILLINGS = 4
"""How often a gap is filled before the peer is taken to have it no more. go-raknet
is silent about a number that it has once named: its complaint was lost."""

REMEMBERED = 10 * SECOND
"""How long a late acknowledgement of what was given up still counts."""

MOST_FLIGHTS = 8192

_first_of = attrgetter("first")


class InFlight:
    """
    @ivar number: the next datagram number.
    @ivar reliable: the next reliable index.
    @ivar base: the first reliable index that is not acknowledged.
    @ivar bytes: of frames in flight.
    @ivar outstanding: reliable frames that are not acknowledged.
    @ivar delivered: bytes of frames acknowledged.
    @ivar lost: frames to be sent again.
    @ivar limited: the window has held the sender back.
    @ivar open_splits: split messages that have fragments out.
    @ivar receipts: fates not yet told, as pairs of receipt and whether it arrived.
    @ivar gaps: datagrams to be sent again under their old numbers.
    @ivar alarm: a time before which nothing expires.
    """

    def __init__(
        self, settings: Settings, counters: Counters, first: tuple[int, int] = (0, 0)
    ) -> None:
        """
        @param first: our first datagram number and reliable index.
        """
        self.number, self.reliable = first
        self.base = self.reliable
        self.bytes = 0
        self.outstanding = 0
        self.delivered = 0
        self.lost: deque[Parcel] = deque()
        self.limited = False
        self.open_splits = 0
        self.receipts: list[tuple[int, bool]] = []
        self.gaps: list[tuple[int, bytes]] = []
        self.alarm = NEVER
        self.round_trip = SmoothedRoundTrip(
            FIRST_TIMEOUT, MIN_TIMEOUT, MAX_TIMEOUT, DEVIATION_FLOOR, ACK_ALLOWANCE
        )
        self.controller: ByteController = Unlimited()
        self._settings = settings
        self._counters = counters
        self._flights: list[Flight] = []
        self._settled = Ranges()
        self._heard = self._edge = self.number
        self._ask_again = 0
        self._compact_at = 128

    def begin(self, datagram: int) -> None:
        """The size of a full datagram is agreed."""
        congestion, window = self._settings.congestion, self._settings.window
        if congestion == "tolerant":
            self.controller = TolerantBytes(datagram, window, ACKS_KEPT_BACK)
        elif congestion == "loss":
            self.controller = LossWindow(datagram)

    @property
    def frames_room(self) -> int:
        """
        How many reliable frames may still get an index, and how many datagrams with
        new data a number.
        """
        window = self._settings.window
        frames = window - (self.reliable - self.base)
        return min(frames, window - window // SPARE - (self.number - self._edge))

    @property
    def may_repeat(self) -> bool:
        """
        Another datagram of repeats may get a number. Others close the session when
        these run too far ahead of one that they miss (raknet.md 13).
        """
        window = self._settings.window
        return self.number - self._edge < window - window // (2 * SPARE)

    @property
    def room(self) -> int:
        """Bytes of frames that may still be sent; may be negative."""
        return self.controller.window - self.bytes

    def release(self) -> None:
        """Forget everything but the numbers."""
        self._flights.clear()
        self.lost.clear()
        self.gaps.clear()
        self._edge = self.number
        self.bytes = self.outstanding = 0
        self.alarm = NEVER

    # sending

    def launch(self, flight: Flight, now: int, repeats: int = 0) -> None:
        """
        Enter what is being sent. Its numbers begin at L{number}.

        @param repeats: how often the unluckiest frame in it has timed out.
        """
        self.number = flight.end
        self._flights.append(flight)
        flight.due = now + self._timeout(repeats)
        if flight.due < self.alarm and (flight.live or self._is_far(self._edge)):
            self.alarm = flight.due

    def _timeout(self, repeats: int) -> int:
        factor = self._settings.resend_factor
        if factor is None:
            return self.round_trip.backed_off(repeats)
        mean = self.round_trip.smoothed
        wanted = int(factor * (GUESSED_ROUND_TRIP if mean is None else mean))
        step = self._settings.resend_interval
        return -(-max(wanted, 1) // step) * step

    def sent(self, frames: int, size: int) -> None:
        """Reliable frames got an index and are in flight."""
        self.reliable += frames
        self.outstanding += frames
        self.bytes += size

    def resent(self, parcel: Parcel) -> None:
        """A lost frame is in flight again."""
        parcel.flying = True
        self.bytes += len(parcel.data)
        self._counters.frames_resent += 1

    # what the peer says

    def acknowledge(self, records: Sequence[tuple[int, int]], now: int) -> bool:
        """
        Take in the records of an ACK.

        @return: some of it was news.
        """
        delivered = self.delivered
        newest: Flight | None = None
        named = self._named(records)
        if named:
            self._heard = max(self._heard, named[-1][2])
        for flight, first, end in named:
            if flight.acknowledge(first, end, self) and (
                newest is None or flight.sent > newest.sent
            ):
                newest = flight
        if newest is None:
            return False
        elapsed = max(now - newest.sent, 0)
        self.round_trip.sample(elapsed)
        size = self.delivered - delivered
        self.controller.acknowledged(size, self.limited, self.bytes, elapsed)
        self._prune(now)
        return True

    def complain(self, records: Sequence[tuple[int, int]], now: int) -> None:
        """Take in the records of a NACK."""
        for flight, first, end in self._named(records):
            before = self.bytes
            found = flight.lose(first, end, self, False)
            if found:
                self._counters.losses_reported += found
                self.controller.lost(flight.sent, now, before - self.bytes)
        self._find_edge()

    def expire(self, now: int) -> None:
        """
        Give up what was not acknowledged in time. Where something sent later was
        acknowledged and nobody has complained, it is the acknowledgement that was lost:
        some peers send each once, for hundreds of datagrams. That says nothing of the
        path of the data.
        """
        if now < self.alarm:
            return
        alarm = NEVER
        silent = newest = 0
        for flight in self._flights:
            if flight.live:
                if flight.due > now:
                    alarm = min(alarm, flight.due)
                    continue
                before = self.bytes
                found = flight.lose(flight.first, flight.end, self, True)
                self._counters.losses_expired += found
                if flight.end > self._heard:
                    silent += before - self.bytes
                    newest = flight.sent
                flight.due = now + self._timeout(0)
            if self._is_far(flight.first) and flight.unnamed:
                if flight.due <= now:
                    self._fill(flight, now)
                alarm = min(alarm, flight.due)
        if silent:
            self.controller.expired(newest, now, silent, self.bytes)
        self.alarm = alarm
        self._prune(now)

    def _is_far(self, number: int) -> bool:
        """So many numbers lie beyond this one that it must not stay a gap at the peer."""
        return self.number - number > self._settings.window // FILL_BEHIND

    def _fill(self, flight: Flight, now: int) -> None:
        """Fill the gaps of a flight, each time that the peer was heard since the last."""
        flight.due = now + self._timeout(0)
        if flight.fillings and self._heard <= flight.filled:
            # Nothing of ours came through: the fillings may not have, either.
            self._ask(now)
        elif flight.fillings < FILLINGS:
            self.gaps += flight.gaps()
            flight.fillings += 1
            flight.filled = self.number
        else:
            flight.forget()

    def _ask(self, now: int) -> None:
        """Send something empty to be acknowledged, if that is not under way."""
        if now >= self._ask_again:
            self._ask_again = now + self._timeout(0)
            self.gaps.append((self.number, b""))
            self.launch(Packet(self.number, [], [], now), now)

    def _named(
        self, records: Sequence[tuple[int, int]]
    ) -> list[tuple[Flight, int, int]]:
        """
        The flights that records name, with the part of each. Records are merged
        first, so that no flight is looked at more than once for each stretch,
        whatever the peer repeats.
        """
        flights = self._flights
        if not flights:
            return []
        merged = Ranges()
        oldest = flights[0].first
        for first, last in records:
            start = unwrap24(first, self.number)
            merged.add(max(start, oldest), min(start + last - first + 1, self.number))
        named: list[tuple[Flight, int, int]] = []
        for start, end in merged:
            at = max(bisect_right(flights, start, key=_first_of) - 1, 0)
            while at < len(flights) and flights[at].first < end:
                flight = flights[at]
                low, high = max(start, flight.first), min(end, flight.end)
                if low < high:
                    named.append((flight, low, high))
                at += 1
        return named

    def _prune(self, now: int) -> None:
        """Drop what is done with: at once from the front, elsewhere now and then."""
        flights = self._flights
        count = 0
        while count < len(flights) and self._is_over(flights[count], now):
            count += 1
        del flights[:count]
        if len(flights) > self._compact_at:
            flights = [flight for flight in flights if not self._is_over(flight, now)]
            while len(flights) > MOST_FLIGHTS and not flights[0].live:
                del flights[0]
            self._flights = flights
            self._compact_at = max(128, 2 * len(flights))
        if not flights:
            self.alarm = NEVER
        self._find_edge()

    @staticmethod
    def _is_over(flight: Flight, now: int) -> bool:
        """Nothing more is to come of it."""
        if flight.live or flight.unnamed:
            return False
        return flight.finished or flight.sent + REMEMBERED <= now

    def _find_edge(self) -> None:
        """The peer may be missing nothing before the first number that is in flight or unnamed."""
        for flight in self._flights:
            if flight.live or flight.unnamed:
                self._edge = flight.first
                return
        self._edge = self.number

    # the ledger of the flights

    def arrived(self, reliable: int, count: int, size: int) -> None:
        self.bytes -= size
        self._settle(reliable, count, size)

    def parcel_arrived(self, parcel: Parcel) -> None:
        parcel.done = True
        size = len(parcel.data)
        if parcel.flying:
            self.bytes -= size
        self._settle(parcel.reliable, 1, size)
        message = parcel.message
        if message is None:
            return
        message.unacknowledged -= 1
        if not message.unacknowledged:
            if message.fragments > 1:
                self.open_splits -= 1
            self.receipt(message, True)

    def receipt(self, message: Outgoing, arrived: bool) -> None:
        if message.receipt is not None:
            self.receipts.append((message.receipt, arrived))

    def lost_parcel(self, parcel: Parcel) -> None:
        parcel.flying = False
        self.bytes -= len(parcel.data)
        self.lost.append(parcel)

    def _settle(self, reliable: int, count: int, size: int) -> None:
        self.outstanding -= count
        self.delivered += size
        self._settled.add(reliable, reliable + count)
        if reliable <= self.base:
            self.base = self._settled.pop_through(self.base)
