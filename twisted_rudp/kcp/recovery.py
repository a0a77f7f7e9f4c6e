"""
Recovery by the order of sending, paced at a rate: what our own profiles send by.

KCP numbers segments, not transmissions. But it echoes the timestamp of what arrived, so
C{(sn, ts)} names one transmission, and core's L{Recovery} can do the rest: loss by the
order of sending and by time, tail probes, rates. What C{una} alone covers was, if it was
sent once, that transmission, and else the last one that is old enough.

Segment numbers are unbounded integers here, times are nanoseconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from twisted_rudp.core.congestion.bbr import BBR
from twisted_rudp.core.congestion.controller import Controller
from twisted_rudp.core.congestion.cubic import Cubic
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.pacer import NEAR, Pacer
from twisted_rudp.core.recovery import COPY_SHARE, Copies, Recovery
from twisted_rudp.core.rtt import RoundTrip
from twisted_rudp.core.serial import HALF32, MASK32
from twisted_rudp.core.timers import NEVER
from twisted_rudp.kcp.packing import Packer, Stamp, Transmitter, segments_per_run
from twisted_rudp.kcp.sent import SentBatch, SentSegments
from twisted_rudp.kcp.settings import Settings
from twisted_rudp.kcp.wire import HEADER_SIZE, Counters

INITIAL_TIMEOUT: Final = 200 * MILLISECOND
LEAST_TIMEOUT: Final = 30 * MILLISECOND
MOST_TIMEOUT: Final = 60 * SECOND

LONGEST_PROBE: Final = 2 * SECOND
"""Between two probes. Links that lose a third each way are what KCP is chosen for."""

REMEMBERED: Final = 256
"""Transmissions after its last for which a burst is kept when all of it has arrived: so
late may an acknowledgement name it."""

MOST_BURSTS: Final = 1024
BURSTS_EACH: Final = 4
"""
Bursts that are kept at most, and for each segment in flight: a peer whose C{una} stays can have
the same segments sent again for ever.
"""

MOST_EARLIER: Final = 8
"""Repetitions of a segment, before its last one, that may be in flight."""

ACKNOWLEDGED_LATELY: Final = 6 * MILLISECOND
"""While acknowledgements come as often as that, the next one is likely to be here before a
timer, and its turn sends."""

RUN_SHARE: Final = 4
"""Where losses come in runs, a copy of what is sent again follows after this share of a round trip:
the run may be over by then."""

MOST_TOLD: Final = 128
"""Stretches of acknowledgements that are remembered. A peer of ours names each twice, the second
time with its next acknowledgements."""

_ARRIVED: Final = -1

_UNNAMED: Final = -1
"""The timestamp of a burst that no acknowledgement can name."""


class Burst:
    """
    Consecutive segments that left together.

    @ivar first: number of the first segment; C{end} is one more than that of the last.
    @ivar number: number of the first transmission.
    @ivar ts: their timestamp on the wire.
    """

    __slots__ = ("end", "first", "number", "ts")

    def __init__(self, first: int, end: int, number: int, ts: int) -> None:
        self.first = first
        self.end = end
        self.number = number
        self.ts = ts


_number_of: Final = attrgetter("number")
_first_of: Final = attrgetter("first")


class Resent:
    """
    The repetitions of a segment.

    @ivar number: of the last transmission; negative once the segment is known to have
        arrived.
    @ivar at: when that was.
    @ivar earlier: the numbers of some before it, without the first sending.
    @ivar sendings: of the segment, the first one included.
    """

    __slots__ = ("at", "earlier", "number", "sendings")

    def __init__(self, number: int, at: int) -> None:
        self.number = number
        self.at = at
        self.earlier: list[int] = []
        self.sendings = 2


class PacedRecovery:
    """
    Decides what is sent again and how much leaves, by core's L{Recovery}, a L{Pacer} and a
    congestion controller.

    @ivar controller: of congestion.
    @ivar round_trip: in nanoseconds.
    @ivar mss: payload bytes of a full new segment.
    """

    __slots__ = (
        "_acknowledged_at",
        "_by_ts",
        "_copies",
        "_counters",
        "_covered",
        "_fresh",
        "_full",
        "_log",
        "_lost",
        "_overhead",
        "_pacer",
        "_recovery",
        "_resent",
        "_runs",
        "_sent",
        "_settings",
        "_told",
        "_transmitter",
        "_wake",
        "controller",
        "mss",
        "round_trip",
    )

    def __init__(
        self,
        settings: Settings,
        sent: SentSegments,
        transmitter: Transmitter,
        counters: Counters,
        overhead: int,
    ) -> None:
        """
        @param overhead: bytes by which each datagram grows on its further way.
        """
        self._settings = settings
        self._sent = sent
        self._transmitter = transmitter
        self._counters = counters
        self._overhead = overhead
        self.set_mss(settings.mss)
        self.round_trip = RoundTrip(INITIAL_TIMEOUT, LEAST_TIMEOUT, MOST_TIMEOUT)
        self._recovery = Recovery(self.round_trip, longest=LONGEST_PROBE)
        self._recovery.eager = settings.eager
        self.controller: Controller = self._make_controller()
        self._pacer = Pacer(self._full, 32 * self._full)
        self._covered = sent.una
        self._fresh: list[Burst] = []
        self._log: list[Burst] = []
        self._by_ts: dict[int, list[Burst]] = {}
        self._lost: dict[int, None] = {}
        self._resent: dict[int, Resent] = {}
        self._runs = 0
        self._copies = Copies()
        self._told: set[tuple[int, int, int]] = set()
        self._wake = NEVER
        self._acknowledged_at = -NEVER

    def _make_controller(self) -> Controller:
        kind = Cubic if self._settings.congestion == "cubic" else BBR
        return kind(self._full)

    def set_mss(self, mss: int) -> None:
        """New segments carry so many bytes."""
        self.mss = mss
        # Bytes of a full datagram on the wire.
        self._full = mss + HEADER_SIZE + self._overhead

    def open(self) -> None:
        """The window is open from the start."""

    def adopt(self, settings: Settings) -> None:
        """Go by other settings from now on."""
        old, self._settings = self._settings, settings
        self._recovery.eager = settings.eager
        if settings.congestion != old.congestion:
            self.controller = self._make_controller()

    def take_over(self, stamp: Stamp) -> None:
        """Go on with what another recovery has sent, as if it left now."""
        for batch in self._sent.batches:
            missing = self._sent.missing_of(batch)
            for first, end in _stretches(missing):
                self._fresh.append(self._note(batch, first, end, stamp, named=False))

    def expect_repair(self, group: int, delay: int = 0, runs: int = 0) -> None:
        """
        FEC repairs losses when up to C{group} later datagrams have arrived: before that
        nothing is lost, and what was repaired tells nothing of congestion.

        @param delay: nanoseconds for which a repetition waits for that.
        @param runs: nanoseconds that runs of losses last; 0: losses do not come in runs. With
            C{eager}, where that is as long as a round trip, what is sent again is sent once
            more soon afterwards.
        """
        self._recovery.expect_reordering(group)
        self._recovery.repair = delay
        self._recovery.runs = runs > 0
        self._runs = runs

    def new_path(self) -> None:
        """The peer is at another host: what was learnt of the way there counts no more."""
        self.round_trip.reset()
        self.controller = self._make_controller()

    def give_up(self) -> None:
        """
        What is in flight was too long for the path: it is lost, which tells nothing of
        congestion.
        """
        if self._recovery.declare_lost():
            self._take_lost()
        self._recovery.probes = 0

    def release(self) -> None:
        """All data was dropped."""
        self._recovery.stop()
        self._fresh.clear()
        self._log.clear()
        self._by_ts.clear()
        self._lost.clear()
        self._resent.clear()
        self._copies.clear()
        self._told.clear()
        self._covered = self._sent.una
        self._wake = NEVER

    # how much may be sent

    @property
    def window(self) -> int:
        """How many segments may be in flight."""
        return max(self.controller.window // self._full, 1)

    @property
    def underway(self) -> int:
        """How many segments count for the congestion window."""
        return -(-self._recovery.in_flight // self._full)

    @property
    def room(self) -> int:
        """How many more segments the congestion window admits; may be negative."""
        full = self._full
        underway = -(-self._recovery.in_flight // full)
        return max(self.controller.window // full, 1) - underway

    @property
    def timeout(self) -> int:
        """Of a retransmission, in nanoseconds."""
        return self.round_trip.timeout

    @property
    def smoothed(self) -> int:
        """The smoothed round trip in nanoseconds; 0 before it was measured."""
        return self.round_trip.smoothed

    def facts(self) -> dict[str, float | int]:
        """For people. Times are seconds."""
        trip = self.round_trip
        return {
            "round_trip": trip.smoothed / SECOND,
            "round_trip_variation": trip.variation / SECOND,
            "retransmission_timeout": trip.timeout / SECOND,
        }

    def quiet(self, stamp: Stamp, waiting: bool) -> bool:
        """
        Begin a flush. There is nothing to be sent again and nothing to be waited for.

        @param waiting: there is something that has no number yet.
        """
        told = self._turn(stamp)
        now = stamp[5]
        if self._lost or now >= self._copies.due or now >= self._recovery.probe_deadline():
            return False
        if told and not waiting:
            self._recovery.on_app_limited()
        return True

    # what the peer says

    def acknowledge(
        self, acks: list[tuple[int, int, int]], clock: int, repeated: bool
    ) -> None:
        """A stretch is taken at once where it left together, and passed over when named again."""
        una, nxt = self._sent.una, self._sent.nxt
        told = self._told
        if len(told) > MOST_TOLD:
            told.clear()
        for stretch in acks:
            if stretch in told:
                continue
            sn, ts, count = stretch
            first = una + ((sn - una + HALF32) & MASK32) - HALF32
            end = first + count
            if end > nxt:
                end = nxt
            elif repeated:
                told.add(stretch)
            if first < end:
                self._arrive(first, end, ts)

    def _arrive(self, first: int, end: int, ts: int) -> None:
        """The peer has segments, of which it has echoed one timestamp."""
        una, arrived = self._sent.una, self._sent.arrived
        if (
            first >= una
            and arrived.find(0, first - una, end - una) < 0
            and self._resent.keys().isdisjoint(range(first, end))
        ):
            # Each is named twice, in case that an acknowledgement is lost.
            return
        at = first
        for burst in self._by_ts.get(ts, ()):
            if burst.first <= at < burst.end:
                stop = end if end < burst.end else burst.end
                number = burst.number + at - burst.first
                self._recovery.on_acknowledged(number, number + stop - at)
                if self._resent or self._lost:
                    self._settle_others(at, stop, number)
                at = stop
                if at == end:
                    break
        if first < una:
            first = una
        if first < end:
            if at < end and at >= una:
                self._arrive_unnamed(at, end)
            self._sent.mark_stretch(first, end)

    def _arrive_unnamed(self, first: int, end: int) -> None:
        """Segments have arrived by a transmission that is not known."""
        for number in range(first, end):
            if not self._sent.arrived[number - self._sent.una]:
                self._lost.pop(number, None)
                resent = self._resent.get(number)
                if resent is not None:
                    self._supersede(resent, _ARRIVED)
                self._supersede_original(number)

    def _settle_others(self, first: int, end: int, number: int) -> None:
        """
        Segments have arrived by the transmissions from C{number} on; those that were sent
        more than once may have another one in flight.
        """
        segments = range(first, end)
        if not self._lost.keys().isdisjoint(segments):
            for segment in segments:
                self._lost.pop(segment, None)
        if self._resent.keys().isdisjoint(segments):
            return
        for segment in segments:
            resent = self._resent.get(segment)
            if resent is not None and resent.number >= 0:
                self._supersede(resent, number + segment - first)
                self._supersede_original(segment)

    def _supersede(self, resent: Resent, named: int) -> None:
        """A segment has arrived by this transmission, so its other repetitions do not count."""
        for number in (*resent.earlier, resent.number):
            if number != named and number >= 0:
                self._recovery.on_superseded(number, number + 1)
        resent.number = _ARRIVED
        resent.earlier.clear()

    def _supersede_original(self, segment: int) -> None:
        fresh = self._fresh
        index = bisect_right(fresh, segment, key=_first_of) - 1
        if index >= 0 and segment < fresh[index].end:
            number = fresh[index].number + segment - fresh[index].first
            self._recovery.on_superseded(number, number + 1)

    def heard(self, echo: int, clock: int, covered: int, peer_window: int) -> None:
        """
        The transmission that an acknowledgement names is sample enough, and what it means that
        C{una} has moved on is found out once in a turn.
        """

    def _cover(self, now: int) -> None:
        """
        What C{una} has passed since the last turn has arrived. Nobody says when: the
        acknowledgement of it may have been lost long ago.
        """
        una, before = self._sent.una, self._covered
        self._covered = una
        fresh, recovery = self._fresh, self._recovery
        idle = not (recovery.in_flight or self._resent or self._lost)
        if idle and (not fresh or fresh[-1].end <= una):
            # All of it was named before.
            fresh.clear()
            return
        gone = 0
        start = stop = 0
        for burst in fresh:
            if burst.first >= una:
                break
            first = burst.first if burst.first > before else before
            end = burst.end if burst.end < una else una
            if self._resent:
                self._cover_resent(burst, first, end, now)
            else:
                number = burst.number + first - burst.first
                if number != stop:
                    recovery.on_acknowledged(start, stop, timed=False)
                    start = number
                stop = number + end - first
            if burst.end > una:
                break
            gone += 1
        if start < stop:
            recovery.on_acknowledged(start, stop, timed=False)
        del fresh[:gone]
        if self._lost:
            for segment in [segment for segment in self._lost if segment < una]:
                del self._lost[segment]

    def _cover_resent(self, burst: Burst, first: int, end: int, now: int) -> None:
        """The same where some may have been sent again."""
        resent, recovery = self._resent, self._recovery
        offset = burst.number - burst.first
        if len(resent) < end - first:
            found = sorted(segment for segment in resent if first <= segment < end)
        else:
            found = [segment for segment in range(first, end) if segment in resent]
        for segment in found:
            if first < segment:
                recovery.on_acknowledged(first + offset, segment + offset, timed=False)
            first = segment + 1
            again = resent.pop(segment)
            if again.number < 0:
                continue
            original = segment + offset
            # Which of them it was is not known, so nothing is learnt, but one thing: what was
            # sent less than a round trip ago cannot have arrived and been told of.
            if now - again.at < self.round_trip.least * 7 // 8:
                recovery.on_acknowledged(original, original + 1, timed=False)
            else:
                recovery.on_superseded(original, original + 1)
            self._supersede(again, _ARRIVED)
        if first < end:
            recovery.on_acknowledged(first + offset, end + offset, timed=False)

    def begin(self, stamp: Stamp) -> None:
        """A flush begins: draw the conclusions from what has come."""
        self._turn(stamp)

    def _turn(self, stamp: Stamp) -> bool:
        """
        The news of a turn: what has arrived, what is lost, and the controller's conclusion.

        @return: the controller was told something.
        """
        self._wake = NEVER
        now = stamp[5]
        if self._sent.una != self._covered:
            self._cover(now)
        recovery = self._recovery
        if not recovery.news and now < recovery.loss_at:
            return False
        if recovery.thin_turn(now):
            if len(self._log) > 2 * REMEMBERED:
                self._forget()
            return False
        sample = recovery.turn(now)
        if sample is None:
            return False
        if sample.acked:
            self._acknowledged_at = now
            self._pacer.adapt(self.round_trip.least)
        self.controller.on_turn(sample)
        if recovery.lost:
            self._take_lost()
        self._forget()
        return True

    def _take_lost(self) -> None:
        """Find the segments of transmissions that are lost."""
        una, arrived = self._sent.una, self._sent.arrived
        log, resent = self._log, self._resent
        for number, end in self._recovery.lost:
            index = bisect_right(log, number, key=_number_of) - 1
            while number < end and 0 <= index < len(log):
                burst = log[index]
                index += 1
                stop = min(end, burst.number + burst.end - burst.first)
                offset = burst.first - burst.number
                for each in range(number, stop):
                    segment = each + offset
                    if segment < una or arrived[segment - una]:
                        continue
                    again = resent.get(segment)
                    if again is None or again.number == each:
                        self._lost[segment] = None
                number = max(number, stop)
        self._recovery.lost.clear()

    def _forget(self) -> None:
        """Drop the bursts that no acknowledgement will name any more."""
        log, una = self._log, self._sent.una
        settled = self._recovery.largest - REMEMBERED
        excess = len(log) - MOST_BURSTS - BURSTS_EACH * self._sent.outstanding
        if excess > 0:
            settled, una = self._recovery.settled, self._sent.nxt
        gone = 0
        for burst in log:
            if burst.end > una or burst.number + burst.end - burst.first > settled:
                break
            if gone >= excess > 0:
                break
            gone += 1
            same = self._by_ts.get(burst.ts)
            if same is not None and burst in same:
                same.remove(burst)
                if not same:
                    del self._by_ts[burst.ts]
        del log[:gone]

    # what leaves

    def _note(
        self, batch: SentBatch, first: int, end: int, stamp: Stamp, named: bool = True
    ) -> Burst:
        """Segments leave."""
        header = HEADER_SIZE + self._overhead
        last = batch.size(end - 1, end)
        size = batch.mss if end - first > 1 else last
        number = self._recovery.on_sent(
            end - first, size + header, stamp[5], last + header, self.controller.draining
        )
        self._pacer.credit -= batch.size(first, end) + (end - first) * header
        burst = Burst(first, end, number, stamp[2] if named else _UNNAMED)
        self._log.append(burst)
        if len(self._log) > MOST_BURSTS + BURSTS_EACH * self._sent.outstanding:
            # A peer that acknowledges nothing brings no turn that would do it.
            self._forget()
        if named:
            self._by_ts.setdefault(stamp[2], []).append(burst)
        return burst

    def launched(self, batch: SentBatch, stamp: Stamp, last: bool = False) -> None:
        """
        A batch leaves for the first time.

        @param last: nothing more waits.
        """
        batch.sendings = 1
        first, end = batch.first, batch.end
        header = HEADER_SIZE + self._overhead
        total = batch.length + (end - first) * header
        size = last_size = total
        if end - first > 1:
            size = batch.mss + header
            last_size = total - (end - first - 1) * size
        ts, now = stamp[2], stamp[5]
        draining = self.controller.draining
        number = self._recovery.on_sent(end - first, size, now, last_size, draining, last)
        self._pacer.credit -= total
        if self._fresh:
            before = self._fresh[-1]
            if (
                before.ts == ts
                and before.end == first
                and before.number - before.first == number - first
            ):
                # It left right after that one.
                before.end = end
                return
        burst = Burst(first, end, number, ts)
        self._fresh.append(burst)
        self._log.append(burst)
        same = self._by_ts.get(ts)
        if same is None:
            self._by_ts[ts] = [burst]
        else:
            same.append(burst)

    def retransmit(
        self, stamp: Stamp, packer: Packer, budget: int, window: int, strict: bool, idle: bool
    ) -> bool:
        """
        Send again what is lost, and probe where nothing was heard for too long.

        @param strict: C{budget} is a hard bound.
        @return: something is left that only the budget or the packer stopped.
        """
        now = stamp[5]
        if now >= self._recovery.probe_deadline() and self._sent.outstanding:
            self._probe(stamp, packer, budget if strict else NEVER)
        if now >= self._copies.due:
            self._send_copies(stamp, packer, budget, strict)
        if not self._lost:
            return False
        return self._send_lost(stamp, packer, budget, strict)

    def _send_copies(self, stamp: Stamp, packer: Packer, budget: int, strict: bool) -> None:
        """
        Send once more what was sent a while ago and has not arrived. What the window or the
        budget does not let out now is not made up for.
        """
        now, sent = stamp[5], self._sent
        for segment in sent.missing_among(self._copies.take(now)):
            if segment in self._lost:
                continue
            batch = sent.batch_of(segment)
            cost = self._transmitter.cost(batch, (segment,))
            if packer.blocked or not self._allowed(now) or (
                strict and packer.cost + cost > budget
            ):
                break
            self._resend(batch, segment, segment + 1, stamp, packer)
            self._counters.early_retrans_segs += 1

    def _allowed(self, now: int) -> int:
        """How many full segments may leave now."""
        full = self._full
        room = self.controller.window - self._recovery.in_flight
        if room < full:
            # A window that is smaller than what is sent at a time lets one out.
            return 0 if self._recovery.in_flight > 0 else 1
        if self.round_trip.least < NEAR and self.round_trip.least:
            return room // full
        credit = self._pacer.allowed(now, self.controller.pacing_rate)
        if credit < room:
            if credit < full:
                self._wait(now)
            return credit // full
        return room // full

    def _wait(self, now: int) -> None:
        """Something is held back by the pacer."""
        often = now - self._acknowledged_at < ACKNOWLEDGED_LATELY
        self._wake = self._pacer.wake(now, self.controller.pacing_rate, often)

    def admit(self, room: int, stamp: Stamp) -> int:
        """How many of C{room} new segments may leave now."""
        allowed = self._allowed(stamp[5])
        return allowed if allowed < room else room

    def _send_lost(self, stamp: Stamp, packer: Packer, budget: int, strict: bool) -> bool:
        allowed = self._allowed(stamp[5])
        if not allowed:
            return False
        sent, limit = self._sent, segments_per_run(self.mss, self._overhead)
        for first, end in list(_stretches(sorted(self._lost)[:allowed])):
            while first < end:
                if packer.blocked or packer.cost >= budget:
                    return True
                batch = sent.batch_of(first)
                stop = min(end, batch.end, first + limit)
                if strict:
                    missing = range(first, stop)
                    if packer.cost + self._transmitter.cost(batch, missing) > budget:
                        self._wake = stamp[5] + self.timeout
                        return False
                self._resend(batch, first, stop, stamp, packer)
                self._counters.fast_retrans_segs += stop - first
                if self._runs > self.round_trip.smoothed and self._recovery.eager:
                    wait = self.round_trip.smoothed // RUN_SHARE
                    self._copies.plan(stamp[5], wait, first, stop, 1)
                for segment in range(first, stop):
                    del self._lost[segment]
                first = stop
        return False

    def copy_later(self, first: int, end: int, stamp: Stamp) -> None:
        """What has just been sent is to be sent again soon, twice."""
        self._copies.plan(stamp[5], self.round_trip.smoothed // COPY_SHARE, first, end)

    def _resend(
        self, batch: SentBatch, first: int, end: int, stamp: Stamp, packer: Packer
    ) -> None:
        self._transmitter.transmit(batch, first, end, stamp, packer)
        number = self._note(batch, first, end, stamp).number
        resent = self._resent
        most = 0
        for segment in range(first, end):
            again = resent.get(segment)
            if again is None:
                resent[segment] = Resent(number, stamp[5])
                most = max(most, 2)
            else:
                again.earlier.append(again.number)
                del again.earlier[:-MOST_EARLIER]
                again.number, again.at = number, stamp[5]
                again.sendings += 1
                most = max(most, again.sendings)
            number += 1
        self._transmitter.count_sendings(most)

    def _probe(self, stamp: Stamp, packer: Packer, budget: int) -> None:
        """
        Nothing was heard for too long: send the first and the last that is missing again, so
        that an acknowledgement tells what else is. Where nothing was ever acknowledged the path
        may be slow, and the first has to do.
        """
        if self._recovery.probe(stamp[5]):
            self.controller.on_timeout(stamp[5])
        self._counters.lost_segs += 1
        sent = self._sent
        segments = {sent.una}
        if self._recovery.delivered:
            segments.add(sent.arrived.rfind(b"\0") + sent.una)
        for segment in sorted(segments):
            batch = sent.batch_of(segment)
            if packer.cost + self._transmitter.cost(batch, (segment,)) > budget:
                return
            self._resend(batch, segment, segment + 1, stamp, packer)
            self._counters.early_retrans_segs += 1
            self._lost.pop(segment, None)

    def finish(self, stamp: Stamp, waiting: bool, room: int) -> None:
        """
        A flush is over.

        @param waiting: there is something that has no number yet.
        @param room: how many segments may still get one, by the peer's window and our own.
        """
        if self._recovery.in_flight and self.window <= self.underway:
            # By the same measure as what was let go; the next acknowledgement makes room.
            return
        if not self._lost and not waiting:
            # A peer's window that is spent is no such limit: start-up would never end.
            self._recovery.on_app_limited()
        elif self._wake == NEVER and (self._lost or room > 0):
            self._wait(stamp[5])

    def deadline(self) -> int:
        """When a flush is wanted though nothing comes; L{NEVER} if it is not."""
        recovery = self._recovery
        due = self._wake
        if self._sent.outstanding:
            # By pairs, which compiled code compares itself.
            due = min(due, recovery.loss_at)
            due = min(due, recovery.probe_deadline())
            due = min(due, self._copies.due)
        return due


def _stretches(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """The intervals of consecutive numbers among ascending ones, first and end."""
    first = end = -1
    for number in numbers:
        if number != end:
            if end > first:
                yield first, end
            first = number
        end = number + 1
    if end > first:
        yield first, end
