"""Reading what the peer sent."""

from __future__ import annotations

import struct

from twisted_rudp.core.serial import MASK32
from twisted_rudp.kcp.control import Control, Peer
from twisted_rudp.kcp.receiver import Receiver
from twisted_rudp.kcp.sender import Sender
from twisted_rudp.kcp.wire import (
    ACK,
    END,
    HEADER_SIZE,
    MARK,
    PUSH,
    RESET,
    WINS,
    Counters,
    unpack_header,
)
from twisted_rudp.kernels import same_column, take_run
from twisted_rudp.kernels.pure import Buffer

TS_OFFSET = 8
SN_OFFSET = 12
UNA_OFFSET = 16

MANY_ACKS = 4
"""From so many on the ACK segments of a datagram are read together."""

_timestamps_and_numbers = struct.Struct("<8xII8x").iter_unpack


def _numbers_and_timestamps(segments: bytes) -> list[tuple[int, int]]:
    """C{sn} and C{ts} of segments without payload."""
    return [(sn, ts) for ts, sn in _timestamps_and_numbers(segments)]

ACKS_TO_HOLD = 4_096
"""Beyond so many waiting acknowledgements the superfluous ones are thinned out."""


class News:
    """
    What a run has brought, as bits of a plain integer: an C{IntFlag} costs more
    than the rest of a small datagram.
    """

    HEARD = 1
    """A datagram without errors."""

    READABLE = 2
    """Data in order."""

    COVERED = 4
    """A cumulative acknowledgement of something."""

    CONTROL = 8
    """A WASK or WINS."""

    PLAIN = 16
    """Nothing else than data in order."""


# Names of this module: each is needed several times for each run.
_IN_ORDER = News.HEARD | News.READABLE | News.PLAIN
_COVERED = News.COVERED
_MARKED = Peer.MARKED


class Intake:
    """
    Digests runs of datagrams of one conversation (kcp.md 1.7). Nothing that is
    in them makes it raise.
    """

    __slots__ = ("_control", "_conv", "_counters", "_receiver", "_sender")

    def __init__(
        self,
        conv: int,
        sender: Sender,
        receiver: Receiver,
        control: Control,
        counters: Counters,
    ) -> None:
        self._conv = conv
        self._sender = sender
        self._receiver = receiver
        self._control = control
        self._counters = counters

    def digest(self, run: Buffer, size: int, clock: int, regular: bool) -> int:
        """
        Take in a run.

        @param clock: unbounded, in milliseconds.
        @param regular: False for what FEC rebuilt: old news, from which neither
            window nor round trip is learnt.
        @return: bits of L{News}.
        """
        counters, control = self._counters, self._control
        inbox, flights = self._receiver.inbox, self._sender.flights
        segments, una = counters.in_segs, flights.una
        waiting, controls = inbox.segments, control.heard_controls
        total = len(run)
        if total <= size or size <= 0:
            # For one datagram a kernel gains nothing.
            self._datagram(bytes(run), clock, regular)
        else:
            taken = self._take_in_order(run, size, regular) * size
            if taken == total:
                return _IN_ORDER if flights.una == una else _IN_ORDER | _COVERED
            self._run(run, size, taken, clock, regular)
        if len(self._receiver.acks) > ACKS_TO_HOLD:
            self._receiver.thin()
        news = 0
        if counters.in_segs != segments:
            news = News.HEARD
        if inbox.segments != waiting:
            news |= News.READABLE
        if flights.una != una:
            news |= News.COVERED
        if control.heard_controls != controls:
            news |= News.CONTROL
        return news

    def _run(
        self, run: Buffer, size: int, position: int, clock: int, regular: bool
    ) -> None:
        total = len(run)
        while position < total:
            count = 0
            if total - position >= size > HEADER_SIZE and run[position + 4] == PUSH:
                count = self._take_run(run, position, size, regular)
            if not count:
                self._datagram(bytes(run[position : position + size]), clock, regular)
                count = 1
            position += count * size

    def _take_run(self, run: Buffer, position: int, size: int, regular: bool) -> int:
        """
        Take in as many whole PUSH segments with consecutive numbers as begin
        here, in or out of order.

        @return: how many; 0 if they are to be looked at one by one.
        """
        receiver = self._receiver
        rest = memoryview(run)[position:] if position else run
        count = self._take_in_order(rest, size, regular) if position else 0
        if count:
            return count
        first = int.from_bytes(rest[SN_OFFSET : SN_OFFSET + 4], "little")
        room = receiver.wnd - ((first - receiver.nxt) & MASK32)
        if room <= 0 or receiver.end is not None:
            return 0
        count, payload, ts, wnd, una = take_run(rest, size, self._conv, first, room)
        if (
            count < 2
            or same_column(rest[: count * size], size, TS_OFFSET, 4) < count
            or not receiver.hold_run(first, count, payload, ts)
        ):
            return 0
        return self._took(count, wnd, una, regular)

    def _take_in_order(self, run: Buffer, size: int, regular: bool) -> int:
        """
        Take in as many whole PUSH segments as begin here and are the next in order,
        while nothing is held out of order and no end is in sight.

        @return: how many.
        """
        receiver = self._receiver
        limit = receiver.wnd - receiver.inbox.segments
        if limit <= 0 or receiver.held or receiver.end is not None or receiver.shut:
            return 0
        count, payload, ts, wnd, una = take_run(
            run, size, self._conv, receiver.nxt & MASK32, limit
        )
        if count:
            receiver.append_run(count, payload, size - HEADER_SIZE, ts)
            sender = self._sender
            if (
                regular
                and wnd == sender.peer_window
                and una == sender.flights.una & MASK32
                and self._control.heard
            ):
                # What is everyday for who only receives.
                self._counters.in_segs += count
            else:
                self._took(count, wnd, una, regular)
        return count

    def _took(self, count: int, wnd: int, una: int, regular: bool) -> int:
        sender = self._sender
        self._control.heard = True
        self._counters.in_segs += count
        if regular:
            sender.peer_window = wnd
        flights = sender.flights
        before = flights.una
        if una != before & MASK32 and sender.cover(una):
            sender.grow(flights.una - before)
        return count

    def _take_acks(self, data: bytes, count: int, clock: int, regular: bool) -> bool:
        """
        Take in a datagram of nothing but C{count} ACK segments that differ in number
        and timestamp only, as one flush of the peer makes them.

        @return: False, and nothing is done, if it is something else.
        """
        sender = self._sender
        conv, cmd, frg, wnd, _, _, una, length = unpack_header(data)
        peer = self._control.peer
        if (
            cmd != ACK
            or length
            or conv != self._conv
            or not sender.validated
            or not (peer is Peer.UNMARKED or (peer is Peer.MARKED and frg == MARK))
            or same_column(data, HEADER_SIZE, 0, TS_OFFSET) < count
            or same_column(data, HEADER_SIZE, UNA_OFFSET, HEADER_SIZE - UNA_OFFSET) < count
        ):
            return False
        self._took(count, wnd, una, regular)
        sender.acknowledge(_numbers_and_timestamps(data), clock)
        if regular:
            start = len(data) - HEADER_SIZE + TS_OFFSET
            sender.sample(int.from_bytes(data[start : start + 4], "little"), clock)
        return True

    def _datagram(self, data: bytes, clock: int, regular: bool) -> None:
        """
        Digest one datagram segment by segment. After an error the rest of it is
        skipped; what came before stays.
        """
        end = len(data)
        if (
            end >= MANY_ACKS * HEADER_SIZE
            and not end % HEADER_SIZE
            and self._take_acks(data, end // HEADER_SIZE, clock, regular)
        ):
            return
        sender = self._sender
        control = self._control
        flights = sender.flights
        acks: list[tuple[int, int]] = []
        echo = -1
        segments = 0
        position = 0
        before = flights.una
        good = end >= HEADER_SIZE
        while end - position >= HEADER_SIZE:
            conv, cmd, frg, wnd, ts, sn, una, length = unpack_header(data, position)
            position += HEADER_SIZE
            if conv != self._conv or length > end - position or not PUSH <= cmd <= WINS:
                good = False
                break
            segments += 1
            if cmd == ACK:
                if not sender.validated:
                    sender.prove(sn, ts)
                if frg != MARK or control.peer is not _MARKED:
                    control.judge(frg)
                echo = ts
            elif frg == RESET and cmd == WINS and not self._is_valid_reset(sn, una):
                self._counters.bad_resets += 1
                position += length
                continue
            control.heard = True
            if regular:
                sender.peer_window = wnd
            if una != flights.una & MASK32:
                sender.cover(una)
            if cmd == ACK:
                if (sn - flights.una) & MASK32 < flights.nxt - flights.una:
                    acks.append((sn, ts))
            elif cmd != PUSH:
                control.hear(cmd, frg, ts, una, regular)
            elif frg != END or length:
                payload = data[position : position + length]
                self._receiver.push(sn, ts, frg, payload, regular)
            else:
                self._take_end(sn, ts)
            position += length
        if acks:
            sender.acknowledge(acks, clock)
        if not good:
            self._counters.kcp_in_errors += 1
            return
        self._counters.in_segs += segments
        if echo >= 0 and regular:
            sender.sample(echo, clock)
        if flights.una != before:
            sender.grow(flights.una - before)

    def _take_end(self, sn: int, ts: int) -> None:
        if self._control.peer is Peer.UNMARKED:
            self._counters.unmarked_ends += 1
            self._receiver.swallow(sn, ts)
        elif self._receiver.push_end(sn, ts):
            self._control.peer = Peer.MARKED

    def _is_valid_reset(self, sn: int, una: int) -> bool:
        """Only who has seen our numbers can name them (kcp-close.md 6)."""
        flights = self._sender.flights
        receiver = self._receiver
        return (
            (una - flights.una) & MASK32 <= flights.nxt - flights.una
            and (sn - receiver.nxt) & MASK32 <= receiver.wnd
        )
