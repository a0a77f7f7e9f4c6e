"""
Loss detection and delivery-rate estimation over what was sent, in the order of sending.

Every transmission has a number of its own, a repetition too: RakNet's datagram number,
QOTP's packet number, for KCP one that number and timestamp of a segment lead to. So each
acknowledgement names one transmission, round trips are never ambiguous, and a repetition
that was not needed is seen. After RFC 9002 sections 5 and 6; the adaptive reordering
threshold after RFC 8985, the rate samples after "Delivery Rate Estimation"
(draft-cheng-iccrg-delivery-rate-estimation).

Acknowledgements only mark and count. What follows from them is found out once in a turn,
by L{Recovery.turn}.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from operator import attrgetter
from typing import Final

from twisted_rudp.core.congestion.controller import Sample
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.rtt import RoundTrip
from twisted_rudp.core.timers import NEVER

REORDERING: Final = 3
"""A datagram is lost when one was acknowledged that was sent so many later (RFC 9002 6.1.1)."""

MOST_REORDERING: Final = 256
"""The threshold grows by half in each turn in which a repetition was not needed, up to this."""

_MOST_EIGHTHS: Final = 8
"""What is later than a round trip and an eighth counts as lost (RFC 9002 6.1.2). With each turn
in which that proved wrong it is an eighth more, up to two round trips (RFC 8985 7.1)."""

_ADAPTED: Final = 16
"""Round trips after which the thresholds come down a step if nothing has proved them too low
(RFC 8985 7.1): an acknowledgement that is lost looks like a datagram that comes late."""

MOST_PROBES: Final = 3
"""At so many unanswered probes in a row the congestion counts as persistent."""

_MOST_BACK_OFF: Final = 8
_REMEMBERED: Final = 1024
"""Numbers that are kept after their fate is known, so that late arrivals are noticed."""


_THIN_TURNS: Final = 16
"""Of the turns of a flow that waits for answers, which all say the same, the controller is
told of each so many, and of the first so many, from which it knows the path."""

_GIVEN_UP: Final = 16
"""Batches that are remembered after all in flight was given up: first, end, time of sending."""

_REPAIR_EIGHTHS: Final = 3
"""Of a round trip: so much longer error correction is given to repair."""

COPY_SHARE: Final = 8
"""A copy of what somebody waits for follows after this share of a round trip, and a second one
after twice that. So where a loss hits one of them, an answer is late by no more than that."""

COPIES: Final = 2
"""How often what somebody waits for is sent again. With one copy both are lost, somewhere on
the way there and back, in one of 100 cases where 5 % are lost."""

COPIED_BEFORE: Final = 8
"""Where all follows one order, so many pieces in flight, with what is copied among them, are copied
together: what follows a hole is of no use to the peer."""

MOST_COPIED: Final = 1024
"""So many first bytes of a stream are copied: a request, or the head of an answer."""

_OUTSTANDING: Final = 0
_ACKNOWLEDGED: Final = 1
_ONE_ACKNOWLEDGED: Final = b"\1"
_LOST: Final = 2

_SECOND: Final = 1_000_000_000


class SentBatch:
    """
    Transmissions that left together.

    @ivar first: the number of the first.
    @ivar end: one more than that of the last.
    @ivar size: bytes of each but the last.
    @ivar last_size: bytes of the last.
    @ivar sent: when.
    @ivar delivered: bytes that had been acknowledged then.
    @ivar delivered_at: when the last of those had been acknowledged.
    @ivar first_sent: when the first was sent of what was in flight then.
    @ivar app_limited: the application had held the sender back.
    @ivar draining: the controller was sending less than the path is believed to carry.
    """

    __slots__ = (
        "app_limited",
        "delivered",
        "delivered_at",
        "draining",
        "end",
        "first",
        "first_sent",
        "last_size",
        "sent",
        "size",
    )

    def __init__(
        self,
        first: int,
        end: int,
        size: int,
        last_size: int,
        sent: int,
        delivered: int,
        delivered_at: int,
        first_sent: int,
        app_limited: bool,
        draining: bool,
    ) -> None:
        self.first = first
        self.end = end
        self.size = size
        self.last_size = last_size
        self.sent = sent
        self.delivered = delivered
        self.delivered_at = delivered_at
        self.first_sent = first_sent
        self.app_limited = app_limited
        self.draining = draining


_first_of: Final = attrgetter("first")


class Recovery:
    """
    What one sender has in flight, and what became of it.

    The owner calls L{on_sent} for what it sends, L{on_acknowledged} for what the peer
    names, L{turn} once in a turn in which it did or L{loss_at} has come, and deals with
    L{lost}.

    @ivar round_trip: the estimator that samples go to.
    @ivar in_flight: bytes sent and neither acknowledged nor lost.
    @ivar delivered: bytes acknowledged so far.
    @ivar next: the number of the next transmission.
    @ivar largest: the largest number that was acknowledged; less than the first before that.
    @ivar lost: the intervals of numbers that were declared lost and that the owner has not
        taken yet, first and end. The owner empties the list.
    @ivar reordering: the present threshold, in datagrams.
    @ivar spurious: transmissions that arrived after they had been declared lost.
    @ivar probes: unanswered probes in a row.
    @ivar news: something was acknowledged, or reported lost, since the last L{turn}.
    @ivar loss_at: when L{turn} has to be called though there is no news; L{NEVER
        <twisted_rudp.core.timers.NEVER>} while nothing is suspected.
    @ivar repair: with L{eager}, nanoseconds that error correction takes longer than a round
        trip; may be set.
    @ivar eager: what is not acknowledged in its time counts as lost, though nothing sent later
        was acknowledged: for flows so thin that the next datagram comes later than that.
    @ivar persisting: may be set: what is acknowledged is nothing that counts, so the probes go
        on, less and less often.
    @ivar runs: losses are known to come in runs; may be set.
    @ivar patience: for a peer that acknowledges each datagram only once and names what it
        misses (L{on_reported_lost}): nanoseconds after which what it says nothing about is
        given up. That is told to no controller, for it is most likely the acknowledgement
        that was lost. 0, as at first: the order and time of RFC 9002 decide.
    """

    __slots__ = (
        "_acked",
        "_adapted_at",
        "_allowance",
        "_base",
        "_batches",
        "_delivered_at",
        "_eighths",
        "_first_sent",
        "_given_up",
        "_judged_spurious",
        "_late_sent",
        "_least_eighths",
        "_least_reordering",
        "_limited_until",
        "_longest",
        "_newest",
        "_probe_at",
        "_probed",
        "_reported",
        "_reported_draining",
        "_state",
        "_thin",
        "_unheard",
        "_unheard_at",
        "delivered",
        "eager",
        "in_flight",
        "largest",
        "loss_at",
        "lost",
        "news",
        "next",
        "patience",
        "persisting",
        "probes",
        "reordering",
        "repair",
        "round_trip",
        "runs",
        "spurious",
    )

    def __init__(
        self,
        round_trip: RoundTrip,
        first: int = 0,
        allowance: int = 12 * MILLISECOND,
        longest: int = 60 * SECOND,
    ) -> None:
        """
        @param first: the number of the first transmission.
        @param allowance: how long the peer may take to acknowledge (RFC 9002 has
            C{max_ack_delay}).
        @param longest: nanoseconds; probes are never further apart, but for a round trip
            that is longer.
        """
        self.round_trip = round_trip
        self.in_flight = 0
        self.delivered = 0
        self.next = first
        self.largest = first - 1
        self.lost: list[tuple[int, int]] = []
        self.reordering = self._least_reordering = REORDERING
        self.spurious = 0
        self.probes = 0
        self.patience = 0
        self.persisting = False
        self.eager = False
        self.runs = False
        self.repair = 0
        self._unheard = self._unheard_at = 0
        self._reported = 0
        self._reported_draining = 0
        self._allowance = allowance
        self._longest = longest
        self._base = first
        self._state = bytearray()
        self._batches: list[SentBatch] = []
        self._delivered_at = 0
        self._eighths = self._least_eighths = 1
        self._first_sent = 0
        self._given_up: list[tuple[int, int, int]] = []
        self._late_sent = -1
        self._judged_spurious = 0
        self._limited_until = -1
        self.loss_at = NEVER
        self._probe_at = NEVER
        self._probed = 0
        self._newest: SentBatch | None = None
        self.news = False
        self._acked = 0
        self._adapted_at = 0
        self._thin = 0

    # sending

    def expect_reordering(self, datagrams: int) -> None:
        """
        What has not arrived when C{datagrams} later ones have may arrive all the same: error
        correction repairs it.
        """
        repairs = datagrams > REORDERING
        self._least_eighths = _REPAIR_EIGHTHS if repairs else 1
        self._least_reordering = min(max(datagrams, REORDERING), MOST_REORDERING)
        self.reordering = max(self.reordering, self._least_reordering)
        self._eighths = max(self._eighths, self._least_eighths)

    def on_sent(
        self,
        count: int,
        size: int,
        now: int,
        last_size: int = 0,
        draining: bool = False,
        limited: bool = False,
    ) -> int:
        """
        Datagrams leave together and get the next numbers.

        @param count: how many, 1 or more.
        @param size: bytes of each.
        @param last_size: bytes of the last; 0: as the others.
        @param draining: what L{Controller.draining
            <twisted_rudp.core.congestion.controller.Controller.draining>} says.
        @param limited: there is room for more, and nothing to be sent; as L{on_app_limited}.
        @return: the number of the first.
        """
        if not self.in_flight:
            # The path was empty: the time before says nothing of its rate.
            self._delivered_at = self._first_sent = now
        last_size = last_size or size
        first = self.next
        self.next = end = first + count
        self._state.extend(bytes(count))
        self.in_flight += (count - 1) * size + last_size
        if self._probe_at == NEVER:
            self._probe_at = now + self.probe_timeout()
        if self.eager and self.loss_at == NEVER:
            self.loss_at = now + (self._eager_patience() << self._unheard)
        app_limited = self.delivered <= self._limited_until
        if limited:
            self._limited_until = self.delivered + self.in_flight
        if self._batches:
            before = self._batches[-1]
            if (
                before.sent == now
                and before.end == first
                and before.last_size == before.size == size
                and before.delivered == self.delivered
                and before.app_limited == app_limited
                and before.draining == draining
            ):
                # Runs of one turn are one batch.
                before.end = end
                before.last_size = last_size
                return first
        self._batches.append(
            SentBatch(
                first,
                end,
                size,
                last_size,
                now,
                self.delivered,
                self._delivered_at,
                self._first_sent,
                app_limited,
                draining,
            )
        )
        return first

    def on_skipped(self, count: int) -> None:
        """Numbers that are used for what is never acknowledged."""
        # The peer may name them all the same, and that is no late arrival.
        self._state.extend(bytes((_ACKNOWLEDGED,)) * count)
        self.next += count

    def on_app_limited(self) -> None:
        """There was room to send, and nothing to be sent."""
        self._limited_until = self.delivered + self.in_flight

    # what the peer says

    def on_acknowledged(self, first: int, end: int, timed: bool = True) -> int:
        """
        The peer has the transmissions C{first} .. C{end} - 1. Numbers that are not in
        flight are passed over.

        @param timed: they arrived a round trip ago; False: some time ago.
        @return: how many of them are news.
        """
        base = self._base
        if first < base:
            first = base
        if end > self.next:
            end = self.next
        if first >= end:
            return 0
        state = self._state
        batches = self._batches
        if len(batches) == 1 and batches[0].first == first and batches[0].end == end:
            batch = batches[0]
            total = (end - first - 1) * batch.size + batch.last_size
            if self.in_flight == total:
                # All of the one batch in flight: what a flow has that waits for answers.
                state[first - base : end - base] = bytes((_ACKNOWLEDGED,)) * (end - first)
                self.in_flight = 0
                self.delivered += total
                self._acked += total
                self.news = True
                self.largest = end - 1
                if timed:
                    self._newest = batch
                return end - first
        if state.count(_ACKNOWLEDGED, first - base, end - base) == end - first:
            return 0
        found = 0
        settled = batches[0].first if batches else self.next
        if first < settled:
            found = self._arrived_settled(first, min(end, settled))
            first = settled
        at = bisect_right(batches, first, key=_first_of) - 1
        newest: SentBatch | None = None
        whole = largest = 0
        for batch in batches[at:] if at > 0 else batches:
            if batch.first >= end:
                break
            low = first if first > batch.first else batch.first
            high = end if end < batch.end else batch.end
            count = high - low
            if count > 0 and state.count(_OUTSTANDING, low - base, high - base) == count:
                # As most do, all of it arrives for the first time.
                state[low - base : high - base] = _ONE_ACKNOWLEDGED * count
                size = batch.size
                whole += count * size
                if high == batch.end:
                    whole += batch.last_size - size
                found += count
                newest, largest = batch, high - 1
            else:
                found += self._acknowledge_part(batch, low, high, timed)
        if newest is not None:
            self.in_flight -= whole
            self.delivered += whole
            self._acked += whole
            self.news = True
            if largest > self.largest:
                self.largest = largest
                if timed:
                    self._newest = newest
        return found

    def _acknowledge_part(self, batch: SentBatch, first: int, end: int, timed: bool) -> int:
        """Numbers of one batch have arrived."""
        if first >= end:
            return 0
        state, low, high = self._state, first - self._base, end - self._base
        outstanding = state.count(_OUTSTANDING, low, high)
        late = state.count(_LOST, low, high)
        if not outstanding and not late:
            return 0
        size = batch.size
        # The last datagram may be shorter, and is worth exact counting: of thin flows
        # every batch is one.
        shorter = 0
        if end == batch.end and batch.last_size != size:
            shorter = size - batch.last_size
        last_state = state[high - 1]
        fresh = (outstanding + late) * size
        flying = outstanding * size
        if shorter and last_state != _ACKNOWLEDGED:
            fresh -= shorter
            if last_state == _OUTSTANDING:
                flying -= shorter
        self.spurious += late
        state[low:high] = bytes((_ACKNOWLEDGED,)) * (high - low)
        self.in_flight -= flying
        self.delivered += fresh
        self._acked += fresh
        self.news = True
        if end - 1 > self.largest:
            self.largest = end - 1
            if timed:
                self._newest = batch
        return outstanding + late

    def _arrived_settled(self, first: int, end: int) -> int:
        """
        Of what was settled, some may have been declared lost and arrive now. Its size is
        not known any more, so it does not count as delivered.
        """
        state, low, high = self._state, first - self._base, end - self._base
        late = state.count(_LOST, low, high)
        if late:
            state[low:high] = bytes((_ACKNOWLEDGED,)) * (high - low)
            self.spurious += late
            for start, stop, sent in self._given_up:
                if end > start and first < stop and sent > self._late_sent:
                    self._late_sent = sent
                    self.news = True
        return late

    def on_reported_lost(self, first: int, end: int) -> None:
        """The peer says that the transmissions C{first} .. C{end} - 1 have not arrived."""
        base = self._base
        first, end = max(first, base), min(end, self.next)
        if first >= end or not self._state.count(_OUTSTANDING, first - base, end - base):
            return
        for batch in self._batches[max(self._batch_index(first), 0) :]:
            if batch.first >= end:
                break
            for number in range(max(first, batch.first), min(end, batch.end)):
                if self._state[number - base] == _OUTSTANDING:
                    self._state[number - base] = _LOST
                    size = self._size_of(batch, number)
                    self.in_flight -= size
                    self._reported += size
                    if batch.draining:
                        self._reported_draining += size
                    self.news = True

    def on_superseded(self, first: int, end: int) -> None:
        """
        What these transmissions carried has arrived by another: they are in flight no
        more, and nothing is learnt from them.
        """
        base = self._base
        first, end = max(first, base), min(end, self.next)
        if first >= end or not self._state.count(_OUTSTANDING, first - base, end - base):
            return
        at = max(self._batch_index(first), 0)
        for batch in self._batches[at:]:
            if batch.first >= end:
                break
            for number in range(max(first, batch.first), min(end, batch.end)):
                if self._state[number - base] == _OUTSTANDING:
                    # Not lost: if the peer names it after all, that is no late arrival.
                    self._state[number - base] = _ACKNOWLEDGED
                    self.in_flight -= self._size_of(batch, number)

    # what follows

    def probe_deadline(self) -> int:
        """When L{probe} has to be called; L{NEVER} while nothing is in flight."""
        waiting = self.in_flight > 0 or self._batches or self.persisting
        return self._probe_at if waiting else NEVER

    def probe_timeout(self) -> int:
        """How long silence lasts before a probe (RFC 9002 section 6.2.1)."""
        trip = self.round_trip
        wait = trip.timeout
        if trip.smoothed:
            wait = trip.smoothed + max(4 * trip.variation, trip.smoothed // 8) + self._allowance
        backed_off = wait << min(self.probes, _MOST_BACK_OFF)
        return min(backed_off, max(wait, self._longest))

    def turn(self, now: int) -> Sample | None:
        """
        Find out what the acknowledgements of this turn, or the time, mean.

        @return: what the controller is to be told, or None if there is no news.
        """
        if not self.news and now < self.loss_at:
            return None
        self.news = False
        newest, self._newest = self._newest, None
        sample = Sample(
            now,
            acked=self._acked,
            lost=self._reported,
            delivered=self.delivered,
            settled_lost=self._reported_draining,
        )
        self._acked = self._reported = self._reported_draining = 0
        if newest is not None:
            elapsed = now - newest.sent
            if self.round_trip.sample(elapsed, now):
                sample.round_trip = elapsed
            sample.before = newest.delivered
            sample.app_limited = newest.app_limited
            interval = max(now - newest.delivered_at, newest.sent - newest.first_sent)
            # A shorter time than the least round trip is acknowledgements bunched together.
            if interval > 0 and interval >= self.round_trip.least:
                sample.rate = (self.delivered - newest.delivered) * _SECOND / interval
            self._first_sent = newest.sent
        if self._late_sent >= 0:
            # All was given up too early: the path is longer than was believed, and without
            # this would never end.
            self.round_trip.sample(now - self._late_sent, now)
            self._late_sent = -1
        if sample.acked:
            self._delivered_at = now
            if self.persisting:
                # The path works: no need to wait as long as for one that may not.
                soon = max(self._probed + 2 * self.round_trip.smoothed, now)
                self._probe_at = min(self._probe_at, soon)
            else:
                self.probes = self._unheard = self._unheard_at = 0
                self._probe_at = now + self.probe_timeout()
        self._detect(now, sample)
        sample.in_flight = self.in_flight
        if not (self.in_flight or self._batches or self.persisting):
            self._probe_at = NEVER
        return sample

    def thin_turn(self, now: int) -> bool:
        """
        L{turn}, to be tried first, for a flow that waits for answers: where all has arrived
        that was sent, and the application had held it back, nothing is learnt but the round
        trip.

        @return: it was one; the controller need not be told.
        """
        newest = self._newest
        if newest is None or self.in_flight or self._reported or not newest.app_limited:
            return False
        if self.persisting:
            return False
        self._thin += 1
        if self._thin <= _THIN_TURNS or self._thin % _THIN_TURNS == 0:
            return False
        self.round_trip.sample(now - newest.sent, now)
        self.news = False
        self._newest = None
        self._acked = self.probes = 0
        self._first_sent = newest.sent
        self._delivered_at = now
        self._probe_at = self.loss_at = NEVER
        self._batches.clear()
        if self.next - self._base > 2 * _REMEMBERED:
            self._trim()
        return True

    def _detect(self, now: int, sample: Sample) -> None:
        """
        Settle transmissions from the oldest on: acknowledged, or lost because later ones
        were acknowledged. Each is looked at once, so that this costs the same however many
        there are.
        """
        largest = self.largest
        if self.patience:
            patience, decided = self.patience, -1
        else:
            self._adapt(now)
            patience = self._patience()
            decided = largest - self.reordering
        state, base = self._state, self._base
        batches = self._batches
        eager = self.eager
        if eager:
            # Something sent later that has arrived makes nothing worse than silence does.
            patience = self._eager_patience() << self._unheard
        # Of a run of losses, what was under way when the wait became longer waits as before. If
        # it is not known that they come in runs, the path may have become longer.
        longer_from = self._unheard_at
        self.loss_at = NEVER
        done = 0
        for batch in batches:
            first, end = batch.first, batch.end
            wait = patience if batch.sent >= longer_from else patience >> 1
            if end - 1 <= decided or state.find(_OUTSTANDING, first - base, end - base) < 0:
                stop = end
            elif first < largest and now - batch.sent >= wait:
                stop = min(end, largest)
            elif eager and first >= largest and now - batch.sent >= wait:
                stop = end
                if batch.sent >= self._unheard_at:
                    # A path that delivers nothing is tried less and less often.
                    self._unheard = min(self._unheard + 1, _MOST_BACK_OFF)
                    if self.runs:
                        self._unheard_at = now
            else:
                stop = min(max(decided + 1, first), end)
                if first < largest or eager:
                    self.loss_at = batch.sent + wait
            if stop > first:
                self._settle(batch, stop, sample)
            if stop < end:
                break
            done += 1
        if done:
            del batches[:done]
        self._trim()

    def _adapt(self, now: int) -> None:
        """Wait longer for what is overtaken while losses prove spurious, then by and by less."""
        if self.spurious != self._judged_spurious:
            # What had been declared lost has arrived: datagrams overtake each other that far.
            self._judged_spurious = self.spurious
            threshold = self.reordering
            self.reordering = min(threshold + max(threshold // 2, 1), MOST_REORDERING)
            self._eighths = min(self._eighths + 1, _MOST_EIGHTHS)
            self._adapted_at = now
        elif (
            self._eighths > self._least_eighths
            and now - self._adapted_at > _ADAPTED * self.round_trip.smoothed
        ):
            self._eighths -= 1
            self.reordering = max(self.reordering // 2, self._least_reordering)
            self._adapted_at = now

    def _patience(self) -> int:
        """How long an acknowledgement may take before its datagram counts as lost."""
        trip = self.round_trip
        patience = max(trip.smoothed, trip.latest) or trip.timeout
        return patience + patience * self._eighths // 8

    def _eager_patience(self) -> int:
        """The same with L{eager}, where a repetition that was not needed is a small price."""
        trip = self.round_trip
        if not trip.smoothed:
            return trip.timeout
        late = max(trip.smoothed // 16, 2 * trip.variation) + MILLISECOND
        return trip.smoothed + late + self.repair

    def _settle(self, batch: SentBatch, stop: int, sample: Sample) -> None:
        """What is still outstanding of a batch before C{stop} is lost."""
        state, base = self._state, self._base
        low, high = batch.first - base, stop - base
        missing = state.count(_OUTSTANDING, low, high)
        lost_bytes = 0
        if missing:
            at = state.find(_OUTSTANDING, low, high)
            while at >= 0:
                start = at
                while at < high and state[at] == _OUTSTANDING:
                    state[at] = _LOST
                    at += 1
                self.lost.append((start + base, at + base))
                lost_bytes += (at - start) * batch.size
                if at + base == batch.end:
                    lost_bytes -= batch.size - batch.last_size
                at = state.find(_OUTSTANDING, at, high)
            self.in_flight -= lost_bytes
            if self.patience:
                lost_bytes = 0
            sample.lost += lost_bytes
        if batch.draining:
            sample.settled += (high - low) * batch.size
            sample.settled_lost += lost_bytes
        batch.first = stop

    def probe(self, now: int) -> bool:
        """
        Nothing was heard for too long. The owner sends something that is acknowledged.

        @return: it is the third in a row, or a later one: the controller is to be told by its
            C{on_timeout}. Nothing is declared lost by that: the acknowledgement of a probe
            tells what is, and on a slow path nothing may be.
        """
        self.probes += 1
        self._probed = now
        self._probe_at = now + self.probe_timeout()
        return self.probes >= MOST_PROBES

    def declare_lost(self) -> bool:
        """
        All that is in flight counts as lost.

        @return: there was something.
        """
        sample = Sample(0)
        had = self.in_flight > 0
        if self._batches:
            self._given_up += [(each.first, each.end, each.sent) for each in self._batches]
            del self._given_up[:-_GIVEN_UP]
        for batch in self._batches:
            self._settle(batch, batch.end, sample)
        self._batches.clear()
        self.loss_at = NEVER
        self._trim()
        return had

    @property
    def settled(self) -> int:
        """Transmissions before this number are acknowledged or lost."""
        return self._batches[0].first if self._batches else self.next

    def _trim(self) -> None:
        """Forget what was settled long ago, and keep what may still arrive late."""
        excess = self.settled - self._base - _REMEMBERED
        if excess >= _REMEMBERED:
            del self._state[:excess]
            self._base += excess

    def stop(self) -> None:
        """Forget all that is in flight: the session is over."""
        self.declare_lost()
        self.lost.clear()
        self.persisting = False
        self._probe_at = NEVER

    # looking things up

    def _batch_index(self, number: int) -> int:
        """The batch with the largest first number not above C{number}; -1: there is none."""
        return bisect_right(self._batches, number, key=_first_of) - 1

    def _size_of(self, batch: SentBatch, number: int) -> int:
        return batch.last_size if number == batch.end - 1 else batch.size


class Copies:
    """
    What is to be sent once more soon, without a sign that it is lost: nothing may follow by which
    a loss would show, and somebody waits for it.

    @ivar due: the first of these times, as the owner measures it; L{NEVER
        <twisted_rudp.core.timers.NEVER>} if there is none.
    """

    __slots__ = ("_planned", "due")

    def __init__(self) -> None:
        self._planned: list[tuple[int, int, int]] = []
        self.due = NEVER

    def plan(self, now: int, wait: int, first: int, end: int, times: int = COPIES) -> None:
        """
        Plan so many copies of C{first} .. C{end} - 1, which have just been sent.

        @param now: in the unit of the owner.
        @param wait: until the first, and from each to the next.
        @param first: a number by which the owner finds what it has sent.
        """
        for time in range(1, times + 1):
            insort(self._planned, (now + wait * time, first, end))
        self.due = self._planned[0][0]

    def take(self, now: int) -> list[tuple[int, int]]:
        """Those whose time has come, first and end. The owner passes over what has arrived."""
        planned = self._planned
        found: list[tuple[int, int]] = []
        while planned and planned[0][0] <= now:
            _, first, end = planned.pop(0)
            if (first, end) not in found:
                found.append((first, end))
        self.due = planned[0][0] if planned else NEVER
        return found

    def clear(self) -> None:
        """Nothing is planned any more."""
        self._planned.clear()
        self.due = NEVER
