"""Forward error correction (kcp.md 3): packets, groups, and finding out the peer's numbers."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Final, TypeAlias

from twisted_rudp import kernels
from twisted_rudp.core.batch import RunWriter
from twisted_rudp.core.engine import MILLISECOND
from twisted_rudp.kcp.reed_solomon import MAXIMUM_SHARDS, coefficients, evaluate
from twisted_rudp.kernels import fec_take
from twisted_rudp.kernels.pure import Buffer
from twisted_rudp.kernels.pure_framing import FEC_DATA, FEC_PARITY

DATA: Final = FEC_DATA
PARITY: Final = FEC_PARITY
OUT_OF_BAND: Final = 0xF3

KIND_OFFSET: Final = 4
"""
Low byte of the kind. In a bare datagram a command, 81 .. 84, stands here, so
nothing is ambiguous (kcp.md 2.2).
"""

CODED_OFFSET: Final = 6
"""What is coded begins here: in a data packet with the size field."""

FEC_OVERHEAD: Final = 8
"""What a data packet is longer than its datagram."""

OUT_OF_BAND_OVERHEAD: Final = 12
"""What an out-of-band packet is longer than its message."""

SIZE_FIELD: Final = 2
"""The size field counts itself."""

_NO_SEQUENCE: Final = 0xFFFFFFFF

pack_data_header: Final = struct.Struct("<IHH").pack
pack_parity_header: Final = struct.Struct("<IH").pack
_out_of_band: Final = struct.Struct("<IHHI")


def is_framed(datagram: Buffer) -> bool:
    """Whether it is an FEC or out-of-band packet; otherwise it is bare, or malformed."""
    return (
        len(datagram) > CODED_OFFSET
        and DATA <= datagram[KIND_OFFSET] <= OUT_OF_BAND
        and not datagram[KIND_OFFSET + 1]
    )


def end_of_ids(shards: int) -> int:
    """
    Sequence ids run from 0 to below this, so that groups of C{shards} stay
    aligned (kcp.md 3.2).
    """
    return 0xFFFFFFFF // shards * shards


def data_packet(sequence: int, datagram: Buffer) -> bytes:
    """An ARQ datagram with its FEC header."""
    return pack_data_header(sequence, DATA, len(datagram) + SIZE_FIELD) + datagram


def out_of_band_packet(conv: int, message: Buffer) -> bytes:
    """A message beside the stream (kcp.md 5.5)."""
    size = SIZE_FIELD + 4 + len(message)
    return _out_of_band.pack(_NO_SEQUENCE, OUT_OF_BAND, size, conv) + message


Protect: TypeAlias = Callable[[Sequence[Buffer], Buffer, int, int, int, int], bytes]
"""
C{(earlier, run, size, first, data, parity)}: packets for the datagrams of a run,
which are all C{size} bytes long, numbered from C{first}, with parity behind those
that complete a group. C{earlier} are the data packets that the first group has
already; none is longer than the new ones.
"""


def parity_packets(group: Sequence[Buffer], first: int, parity: int) -> list[bytes]:
    """
    The parity of a full group, as long as its longest packet.

    @param first: the sequence id of the first one.
    """
    data = len(group)
    length = max(map(len, group)) - CODED_OFFSET
    coded = [memoryview(packet)[CODED_OFFSET:] for packet in group]
    blocks = evaluate(tuple(range(data)), coded, tuple(range(data, data + parity)), length)
    return [
        pack_parity_header(number, PARITY) + blocks[start : start + length]
        for number, start in enumerate(range(0, len(blocks), length), first)
    ]


def protect_by_steps(
    earlier: Sequence[Buffer], run: Buffer, size: int, first: int, data: int, parity: int
) -> bytes:
    """See L{Protect}."""
    view = memoryview(run)
    group = list(earlier)
    packets: list[bytes] = []
    for start in range(0, len(view), size):
        packet = data_packet(first, view[start : start + size])
        first += 1
        packets.append(packet)
        group.append(packet)
        if len(group) == data:
            packets += parity_packets(group, first, parity)
            first += parity
            group = []
    return b"".join(packets)


@lru_cache(16)
def _matrix(data: int, parity: int) -> bytes:
    return coefficients(tuple(range(data)), tuple(range(data, data + parity)))


def protect_by_kernel(
    earlier: Sequence[Buffer], run: Buffer, size: int, first: int, data: int, parity: int
) -> bytes:
    """See L{Protect}."""
    assert kernels.fec_frame is not None
    return kernels.fec_frame(earlier, run, size, first, data, _matrix(data, parity))


protect: Protect = protect_by_steps if kernels.fec_frame is None else protect_by_kernel


SKIP_AFTER: Final = 500 * MILLISECOND
"""
A group whose last data packet came so long after the one before it gets no
parity: its other packets were lost, or not, long ago.
"""


BULK: Final = 50 * MILLISECOND
"""A group that fills within this time is followed by others, so what is lost of it shows soon."""


class Encoder:
    """
    Numbers the datagrams of one session and adds parity to each full group.

    @ivar data: data packets of a group; C{parity}: parity packets.
    @ivar always: add parity whatever time has passed; may be set.
    @ivar carried: parity packets that a group of bulk gets; may be set. The ids of the others are
        passed over, as if they were lost.
    @ivar numbered: data packets so far.
    """

    __slots__ = (
        "_began",
        "_end",
        "_last",
        "_planned",
        "_shards",
        "always",
        "carried",
        "data",
        "next",
        "numbered",
        "parity",
    )

    def __init__(self, data: int, parity: int, always: bool = False, first: int = 0) -> None:
        """
        @param always: add parity whatever time has passed, as kcp-go did until
            5.6.5.
        @param first: sequence id of the first packet, the beginning of a group.
        @raise ValueError: there are none of one kind, or more than 256 of both.
        """
        if data < 1 or parity < 1 or data + parity > MAXIMUM_SHARDS:
            raise ValueError(
                f"data={data!r}, parity={parity!r}: at least 1 of each and"
                f" {MAXIMUM_SHARDS} together are possible"
            )
        self.data = data
        self.parity = self.carried = parity
        self.next = first
        self.always = always
        self.numbered = 0
        self._end = end_of_ids(data + parity)
        self._shards: list[Buffer] = []
        self._began = 0
        self._last: int | None = None
        self._planned: tuple[int, int, int] | None = None

    def plan(self, data: int, parity: int, first: int) -> None:
        """
        Go on with groups of another shape when the present group is full.

        @param first: sequence id of the first of them, the beginning of a group.
        """
        self._planned = (data, parity, first)
        if not self._shards:
            self._take_planned()

    @property
    def is_changing(self) -> bool:
        """A planned shape waits for the end of the present group."""
        return self._planned is not None

    def _take_planned(self) -> None:
        assert self._planned is not None
        self.data, self.parity, self.next = self._planned
        self.carried = self.parity
        self._planned = None
        self._end = end_of_ids(self.data + self.parity)

    def encode(
        self, run: Buffer, size: int, now: int, out: RunWriter, protected: bool, copies: int = 1
    ) -> None:
        """
        Frame the datagrams of a run; parity follows the packet that completes
        its group.

        @param now: nanoseconds.
        @param protected: False passes over the ids of parity instead of sending it.
        @param copies: send each data packet so often.
        """
        view = memoryview(run)
        start = 0
        while start < len(view):
            length = min(size, len(view) - start)
            count = (len(view) - start) // length
            if not self._shards:
                self._began = now
            carried = self.carried if now - self._began < BULK else self.parity
            if (
                not protected
                or copies > 1
                or self._planned is not None
                or not self._is_regular(count, length, now)
            ):
                count = min(count, self.data - len(self._shards))
                end = start + count * length
                parity = carried if protected else 0
                self._encode_one_group(view[start:end], length, now, out, parity, copies)
            else:
                if carried < self.parity:
                    # Within one call ids go on without a gap.
                    count = min(count, self.data - len(self._shards))
                end = start + count * length
                self._encode_groups(view[start:end], length, count, out, carried)
            self.numbered += count
            self._last = now
            start = end

    def _is_timely(self, count: int, now: int) -> bool:
        """Whether a group that is completed by C{count} more packets gets parity."""
        if self.always or count > 1:
            return True
        # A single packet has no others that are too old.
        return self._last is not None and (now - self._last < SKIP_AFTER or self.data == 1)

    def _is_regular(self, count: int, size: int, now: int) -> bool:
        """
        So many datagrams of this size may be framed in one go: all the groups that
        they complete get parity, as long as they are, and no id wraps.
        """
        shards = self._shards
        groups = (len(shards) + count) // self.data
        return self.next + count + groups * self.parity <= self._end and (
            not groups
            or (
                self._is_timely(self.data - len(shards), now)
                and max(map(len, shards), default=0) <= size + FEC_OVERHEAD
            )
        )

    def _encode_groups(
        self, run: Buffer, size: int, count: int, out: RunWriter, carried: int
    ) -> None:
        packets = protect(self._shards, run, size, self.next, self.data, carried)
        width = size + FEC_OVERHEAD
        out.add_run(packets, width)
        groups, left = divmod(len(self._shards) + count, self.data)
        self.next += count + groups * self.parity
        if groups:
            self._shards = []
        fresh = left - len(self._shards)
        if fresh:
            # A copy, as a view would keep all of the run.
            kept = memoryview(packets[-fresh * width :])
            self._shards += [kept[at : at + width] for at in range(0, len(kept), width)]
        elif self.next >= self._end:
            self.next = 0

    def _encode_one_group(
        self, run: memoryview, size: int, now: int, out: RunWriter, parity: int, copies: int
    ) -> None:
        """
        Not beyond the end of the group.

        @param parity: how much of its parity the group gets.
        """
        starts = range(0, len(run), size)
        packets = [
            data_packet(number, run[at : at + size]) for number, at in enumerate(starts, self.next)
        ]
        self.next += len(packets)
        for packet in packets:
            for _ in range(copies):
                out.add(packet)
        self._shards += packets
        if len(self._shards) < self.data:
            return
        if parity and self._is_timely(len(packets), now):
            for packet in parity_packets(self._shards, self.next, parity):
                out.add(packet)
        self.next += self.parity
        self._shards = []
        if self._planned is not None:
            self._take_planned()
        elif self.next >= self._end:
            self.next = 0


SAMPLES: Final = 258
"""So many packets are looked back upon: the longest group, and one on each side."""


class Tuner:
    """Remembers which kinds came under which sequence ids."""

    __slots__ = ("_count", "_rows")

    def __init__(self) -> None:
        self._rows: deque[tuple[int, bytes]] = deque()
        self._count = 0

    def add(self, first: int, kinds: bytes) -> None:
        """Packets of these kinds came, numbered from C{first} without a gap."""
        self._rows.append((first, kinds))
        self._count += len(kinds)
        while self._count - len(self._rows[0][1]) >= SAMPLES:
            self._count -= len(self._rows.popleft()[1])

    def find(self) -> tuple[int, int] | None:
        """
        The length of a whole row of data packets, and of parity packets, that
        have their neighbours on both sides; None if there is none, or a gap
        before its end.
        """
        samples = [
            (first + index, kind)
            for first, kinds in self._rows
            for index, kind in enumerate(kinds)
        ][-SAMPLES:]
        samples = sorted(set(samples))
        rows = [(kind, len(list(row))) for kind, row in groupby(samples, itemgetter(1))]
        data = self._whole(samples, rows, DATA)
        parity = self._whole(samples, rows, PARITY)
        if not data or not parity or data + parity >= MAXIMUM_SHARDS:
            return None
        return data, parity

    def _whole(self, samples: list[tuple[int, int]], rows: list[tuple[int, int]], kind: int) -> int:
        start = 0
        for index, (its, length) in enumerate(rows[:-1]):
            end = start + length
            if samples[end][0] - samples[0][0] != end:
                return 0
            if index and its == kind:
                return length
            start = end
        return 0


Piece: TypeAlias = tuple[Buffer, int, bool]
"""
A run of ARQ datagrams, their size, and whether they came as they are; False:
they were rebuilt.
"""

GROUPS_BEHIND: Final = 3
"""Groups further behind the newest are given up."""

MOST_BYTES: Final = 4 * 255 * 1500
"""
Bytes kept for groups of which something is missing: as many as four of the longest groups of
usual packets have. Beyond, the oldest group is given up.
"""

FAR_AHEAD: Final = 4096
"""
A packet so many groups ahead is believed when a second one lies there too, so
that a single forged one does not make all others old.
"""


class _Group:
    """
    What has come of one group.

    @ivar came: a bit for each position.
    @ivar size: bytes that are kept.
    @ivar pieces: neighbours that came together: the position of the first, the size
        of each but the last, and the packets. No position is in two of them.
    """

    __slots__ = ("came", "pieces", "size")

    def __init__(self) -> None:
        self.came = 0
        self.size = 0
        self.pieces: list[tuple[int, int, bytes]] = []

    def add(self, position: int, packets: memoryview, size: int, count: int) -> None:
        """
        Keep those of C{count} neighbours that are new. A copy, as views would keep all
        of the run.
        """
        bits = ((1 << count) - 1) << position
        new = bits & ~self.came
        self.came |= bits
        if new == bits:
            self.pieces.append((position, size, bytes(packets)))
            self.size += len(packets)
            return
        for at in range(count):
            if new >> (position + at) & 1:
                packet = bytes(packets[at * size : (at + 1) * size])
                self.pieces.append((position + at, size, packet))
                self.size += len(packet)

    def shards(self) -> dict[int, Buffer]:
        """Coded blocks by position."""
        found: dict[int, Buffer] = {}
        for position, size, packets in self.pieces:
            view = memoryview(packets)
            for at, start in enumerate(range(0, len(view), size), position):
                found[at] = view[start + CODED_OFFSET : start + size]
        return found


class Decoder:
    """
    Decodes the FEC packets of one session and rebuilds what was lost.

    It begins with our own shard numbers and adopts the peer's when it has seen that they are
    different.

    @ivar parity_shards: parity packets that came.
    @ivar recovered: datagrams rebuilt.
    @ivar errors: rebuilt blocks whose size was impossible.
    @ivar full_sets: groups of which no data packet was missing.
    @ivar tunings: how often the peer's numbers were adopted.
    @ivar lost: data packets that did not come and were not rebuilt.
    @ivar missed: those that did not come, whether rebuilt or not.
    @ivar runs: how often one was missed and the one before it was not.
    @ivar misfits: packets whose kind does not fit the numbers that the peer has announced.
    @ivar limit: bytes kept for groups of which something is missing.
    @ivar bytes_held: bytes that are kept for them now.
    @ivar given_up: groups that were given up because of L{limit}.
    """

    __slots__ = (
        "_agreed",
        "_all_data",
        "_cycle",
        "_gaps",
        "_groups",
        "_newest",
        "_suspect",
        "_tuner",
        "_tuning",
        "bytes_held",
        "data",
        "errors",
        "full_sets",
        "given_up",
        "limit",
        "lost",
        "misfits",
        "missed",
        "parity",
        "parity_shards",
        "recovered",
        "runs",
        "tunings",
    )

    def __init__(
        self, data: int = 1, parity: int = 1, limit: int = MOST_BYTES, agreed: bool = False
    ) -> None:
        """
        @param agreed: the peer has announced these numbers and changes them only so.
        """
        self.limit = limit
        self._agreed = agreed
        self.lost = 0
        self.misfits = 0
        self.missed = 0
        self.runs = 0
        self.given_up = 0
        self.parity_shards = 0
        self.recovered = 0
        self.errors = 0
        self.full_sets = 0
        self.tunings = 0
        self._tuner = Tuner()
        self._adopt(data, parity)

    def absorb(self, other: Decoder) -> None:
        """Take over what another one has counted."""
        self.lost += other.lost
        self.missed += other.missed
        self.runs += other.runs
        self.misfits += other.misfits
        self.given_up += other.given_up
        self.parity_shards += other.parity_shards
        self.recovered += other.recovered
        self.errors += other.errors
        self.full_sets += other.full_sets
        self.tunings += other.tunings
        other.lost = other.missed = other.runs = other.misfits = other.given_up = 0
        other.parity_shards = other.recovered = other.errors = other.full_sets = other.tunings = 0

    def _adopt(self, data: int, parity: int) -> None:
        self.data = data
        self.parity = parity
        self._all_data = (1 << data) - 1
        self._cycle = 0xFFFFFFFF // (data + parity)
        # None: nothing is missing any more.
        self._groups: dict[int, _Group | None] = {}
        # The data packets that were missing of the last groups, by their bits.
        self._gaps: dict[int, int] = {}
        self.bytes_held = 0
        self._newest: int | None = None
        self._suspect: int | None = None
        self._tuning = False

    @property
    def groups_held(self) -> int:
        """Groups of which something is missing."""
        return sum(group is not None for group in self._groups.values())

    @property
    def newest_group(self) -> int:
        """Number of the newest group."""
        return self._newest or 0

    def decode(self, run: Buffer, size: int) -> Sequence[Piece]:
        """
        Take in a run of data and parity packets.

        @param run: no packet in it is shorter than a parity header.
        @return: their datagrams and the rebuilt ones.
        """
        view = memoryview(run)
        whole: list[Buffer] = []
        rebuilt: list[bytes] = []
        start = 0
        while start < len(view):
            shards = self.data + self.parity
            rest = view[start:]
            first = int.from_bytes(rest[:4], "little")
            count, datagrams = 0, b""
            if not self._tuning:
                count, datagrams = fec_take(rest, size, self.data, shards)
            if count and first + count <= end_of_ids(shards):
                self._take_row(rest, size, first, count, rebuilt)
                whole.append(datagrams)
                start += count * size
            else:
                packet = rest[:size]
                self._take_packet(first, packet, rebuilt)
                if packet[KIND_OFFSET] == DATA:
                    whole.append(packet[FEC_OVERHEAD:])
                start += size
        pieces: list[Piece] = []
        joined = whole[0] if len(whole) == 1 else b"".join(whole)
        if joined:
            pieces.append((joined, size - FEC_OVERHEAD, True))
        pieces += [(datagram, len(datagram), False) for datagram in rebuilt]
        return pieces

    def _take_row(
        self, view: memoryview, size: int, first: int, count: int, rebuilt: list[bytes]
    ) -> None:
        """
        Packets numbered on, each of the kind its place wants: there is nothing to
        look at one by one.
        """
        kinds = bytes(view[KIND_OFFSET : count * size : size])
        self._tuner.add(first, kinds)
        self.parity_shards += kinds.count(PARITY)
        shards = self.data + self.parity
        start = 0
        end = first + count
        while first < end:
            number, position = divmod(first, shards)
            count = min(shards - position, end - first)
            packets = view[start : start + count * size]
            self._collect(number, position, packets, size, count, rebuilt)
            start += count * size
            first += count

    def _take_packet(self, sequence: int, packet: memoryview, rebuilt: list[bytes]) -> None:
        kind = packet[KIND_OFFSET]
        self.parity_shards += kind == PARITY
        shards = self.data + self.parity
        if sequence >= end_of_ids(shards):
            return
        number, position = divmod(sequence, shards)
        self._tuner.add(sequence, bytes([kind]))
        if (kind == DATA) != (position < self.data):
            if self._agreed:
                self.misfits += 1
                return
            self._tuning = True
        if self._tuning:
            found = self._tuner.find()
            if found is not None:
                self._adopt(*found)
                self.tunings += 1
            return
        self._collect(number, position, packet, len(packet), 1, rebuilt)

    def _collect(
        self,
        number: int,
        position: int,
        packets: memoryview,
        size: int,
        count: int,
        rebuilt: list[bytes],
    ) -> None:
        """Neighbours of one group have come."""
        groups = self._groups
        if number in groups:
            group = groups[number]
            if group is None:
                return
        elif not self._admits(number):
            return
        elif position == 0 and count >= self.data:
            # Without loss most come like this.
            self.full_sets += 1
            groups[number] = None
            return
        else:
            group = groups[number] = _Group()
        all_data = self._all_data
        if (group.came | ((1 << count) - 1) << position) & all_data == all_data:
            self.full_sets += 1
            self._finish(number)
            return
        before = group.size
        group.add(position, packets, size, count)
        self.bytes_held += group.size - before
        if group.came.bit_count() >= self.data:
            self._count_missed(number, group)
            self._rebuild(group.shards(), rebuilt)
            self._finish(number)
        elif self.bytes_held > self.limit:
            oldest = next(each for each, group in groups.items() if group is not None)
            self._finish(oldest)
            self.given_up += 1

    def _finish(self, number: int) -> None:
        """Nothing is missing of a group any more, or nothing of it is waited for."""
        group = self._groups[number]
        if group is not None:
            self.bytes_held -= group.size
            self._groups[number] = None

    def _admits(self, number: int) -> bool:
        """
        Whether a group that is not known is neither too old nor too far ahead to be
        believed. If it is the newest, others are given up.
        """
        newest = self._newest
        if newest is None:
            self._newest = number
            return True
        half = self._cycle // 2
        ahead = (number - newest + half) % self._cycle - half
        if ahead < -GROUPS_BEHIND:
            return False
        if ahead > FAR_AHEAD and self._suspect != number:
            self._suspect = number
            return False
        if ahead > GROUPS_BEHIND:
            for each, old in self._groups.items():
                self._count_lost(each, old)
            self._groups.clear()
            self.bytes_held = 0
        else:
            for behind in range(GROUPS_BEHIND + 1, GROUPS_BEHIND + 1 + ahead):
                each = (number - behind) % self._cycle
                old = self._groups.pop(each, None)
                if old is not None:
                    self.bytes_held -= old.size
                    self._count_lost(each, old)
        if ahead > 0:
            self._newest = number
        return True

    def _count_lost(self, number: int, group: _Group | None) -> None:
        """A group is too old: what is missing of it is not coming any more."""
        if group is not None:
            self.lost += self._count_missed(number, group)

    def _count_missed(self, number: int, group: _Group) -> int:
        """Count the data packets that are missing of a group, and how often one begins a run."""
        gaps = self._all_data & ~group.came
        missing = gaps.bit_count()
        if not missing:
            return 0
        self.missed += missing
        self.runs += (gaps & ~(gaps << 1)).bit_count()
        # A run may go on from one group to the next.
        last = 1 << (self.data - 1)
        if gaps & 1 and self._gaps.get(number - 1, 0) & last:
            self.runs -= 1
        if gaps & last and self._gaps.get(number + 1, 0) & 1:
            self.runs -= 1
        self._gaps[number] = gaps
        if len(self._gaps) > 2 * GROUPS_BEHIND:
            del self._gaps[next(iter(self._gaps))]
        return missing

    def _rebuild(self, shards: dict[int, Buffer], rebuilt: list[bytes]) -> None:
        missing = tuple(at for at in range(self.data) if at not in shards)
        points = tuple(sorted(shards)[: self.data])
        length = max(len(shards[at]) for at in points)
        blocks = evaluate(points, [shards[at] for at in points], missing, length)
        for start in range(0, len(blocks), length or 1):
            block = blocks[start : start + length]
            size = int.from_bytes(block[:SIZE_FIELD], "little")
            if SIZE_FIELD < size <= length:
                self.recovered += 1
                rebuilt.append(block[SIZE_FIELD:size])
            else:
                self.errors += 1
