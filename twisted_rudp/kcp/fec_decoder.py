"""The receiving half of FEC (kcp.md 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from twisted_rudp.kcp.fec_tuning import Tuner
from twisted_rudp.kcp.fec_wire import (
    CODED_OFFSET,
    DATA,
    FEC_OVERHEAD,
    KIND_OFFSET,
    PARITY,
    SIZE_FIELD,
    end_of_ids,
)
from twisted_rudp.kcp.reed_solomon import evaluate
from twisted_rudp.kernels import fec_take
from twisted_rudp.kernels.pure import Buffer

Piece: TypeAlias = tuple[Buffer, int, bool]
"""
A run of ARQ datagrams, their size, and whether they came as they are; False:
they were rebuilt.
"""

GROUPS_BEHIND = 3
"""Groups further behind the newest are given up."""

FAR_AHEAD = 4096
"""
A packet so many groups ahead is believed when a second one lies there too, so
that a single forged one does not make all others old.
"""


class _Group:
    """
    What has come of one group.

    @ivar came: a bit for each position.
    @ivar pieces: neighbours that came together: the position of the first, the size
        of each but the last, and the packets. No position is in two of them.
    """

    __slots__ = ("came", "pieces")

    def __init__(self) -> None:
        self.came = 0
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
            return
        for at in range(count):
            if new >> (position + at) & 1:
                packet = bytes(packets[at * size : (at + 1) * size])
                self.pieces.append((position + at, size, packet))

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
    Takes FEC packets of one session apart and rebuilds what was lost.

    It begins with numbers of its own and changes to the peer's when it has seen
    that they are others.

    @ivar parity_shards: parity packets that came.
    @ivar recovered: datagrams rebuilt.
    @ivar errors: rebuilt blocks whose size was impossible.
    @ivar full_sets: groups of which no data packet was missing.
    @ivar tunings: how often the peer's numbers were adopted.
    """

    __slots__ = (
        "_all_data",
        "_cycle",
        "_groups",
        "_newest",
        "_suspect",
        "_tuner",
        "_tuning",
        "data",
        "errors",
        "full_sets",
        "parity",
        "parity_shards",
        "recovered",
        "tunings",
    )

    def __init__(self, data: int = 1, parity: int = 1) -> None:
        self.parity_shards = 0
        self.recovered = 0
        self.errors = 0
        self.full_sets = 0
        self.tunings = 0
        self._tuner = Tuner()
        self._adopt(data, parity)

    def _adopt(self, data: int, parity: int) -> None:
        self.data = data
        self.parity = parity
        self._all_data = (1 << data) - 1
        self._cycle = 0xFFFFFFFF // (data + parity)
        # None: nothing is missing any more.
        self._groups: dict[int, _Group | None] = {}
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
                self._take_stretch(rest, size, first, count, rebuilt)
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

    def _take_stretch(
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
            groups[number] = None
            return
        group.add(position, packets, size, count)
        if group.came.bit_count() >= self.data:
            self._rebuild(group.shards(), rebuilt)
            groups[number] = None

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
            self._groups.clear()
        else:
            for behind in range(GROUPS_BEHIND + 1, GROUPS_BEHIND + 1 + ahead):
                self._groups.pop((number - behind) % self._cycle, None)
        if ahead > 0:
            self._newest = number
        return True

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
