"""
The receiving half of FEC (kcp.md 3.4).
"""

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
from twisted_rudp.kernels.pure import Buffer

Piece: TypeAlias = tuple[Buffer, int, bool]
"""
A run of ARQ datagrams, their size, and whether they came as they are; False:
they were rebuilt.
"""

GROUPS_BEHIND = 3
"""
Groups further behind the newest are given up.
"""

FAR_AHEAD = 4096
"""
A packet so many groups ahead is believed when a second one lies there too, so
that a single forged one does not make all others old.
"""

_COUNTING = bytes(range(256)) * 2
_LONGEST_STRETCH = 256


class _Group:
    """
    What has come of one group.

    @ivar shards: coded blocks by position.
    @ivar done: nothing is missing any more.
    """

    __slots__ = ("done", "shards")

    def __init__(self) -> None:
        self.shards: dict[int, bytes] = {}
        self.done = False

    def finish(self) -> None:
        self.shards.clear()
        self.done = True


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
        "_groups",
        "_newest",
        "_pattern",
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
        shards = data + parity
        kinds = bytes([DATA]) * data + bytes([PARITY]) * parity
        self._pattern = kinds * (2 + _LONGEST_STRETCH // shards)
        self._groups: dict[int, _Group] = {}
        self._newest: int | None = None
        self._suspect: int | None = None
        self._tuning = False

    @property
    def groups_held(self) -> int:
        """
        Groups of which something is missing.
        """
        return sum(not group.done for group in self._groups.values())

    @property
    def newest_group(self) -> int:
        """
        Number of the newest group.
        """
        return self._newest or 0

    def decode(self, run: Buffer, size: int) -> Sequence[Piece]:
        """
        Take in a run of data and parity packets.

        @param run: no packet in it is shorter than a parity header.
        @return: their datagrams and the rebuilt ones.
        """
        view = memoryview(run)
        kinds = bytes(view[KIND_OFFSET::size])
        starts = range(0, len(view), size)
        first = int.from_bytes(view[:4], "little")
        rebuilt: list[bytes] = []
        if self._is_in_order(view, size, first, kinds):
            self._take_stretch(view, size, first, kinds, rebuilt)
        else:
            for start, kind in zip(starts, kinds, strict=True):
                sequence = int.from_bytes(view[start : start + 4], "little")
                coded = view[start + CODED_OFFSET : start + size]
                self._take_packet(sequence, kind, coded, rebuilt)
        # The last one may be parity, or cut: then its slice is empty.
        datagrams = [
            view[start + FEC_OVERHEAD : start + size]
            for start, kind in zip(starts, kinds, strict=True)
            if kind == DATA
        ]
        pieces: list[Piece] = []
        if datagrams and size > FEC_OVERHEAD:
            pieces.append((b"".join(datagrams), size - FEC_OVERHEAD, True))
        pieces += [(datagram, len(datagram), False) for datagram in rebuilt]
        return pieces

    def _is_in_order(self, view: memoryview, size: int, first: int, kinds: bytes) -> bool:
        """
        The whole run is numbered on, within the ids, each packet of the kind its
        place wants: there is nothing to look at one by one.
        """
        count = len(kinds)
        shards = self.data + self.parity
        position = first % shards
        if (
            self._tuning
            or not 1 < count <= _LONGEST_STRETCH
            or first + count > end_of_ids(shards)
            or kinds != self._pattern[position : position + count]
        ):
            return False
        last = view[(count - 1) * size :]
        low = first & 0xFF
        return (
            int.from_bytes(last[:4], "little") == first + count - 1
            and bytes(view[::size]) == _COUNTING[low : low + count]
        )

    def _take_stretch(
        self, view: memoryview, size: int, first: int, kinds: bytes, rebuilt: list[bytes]
    ) -> None:
        self._tuner.add(first, kinds)
        shards = self.data + self.parity
        index = 0
        while index < len(kinds):
            number, position = divmod(first + index, shards)
            count = min(shards - position, len(kinds) - index)
            group = self._group(number)
            if group is not None and not group.done:
                here = range(position, position + count)
                whole = not position and count >= self.data
                if whole or all(at in here or at in group.shards for at in range(self.data)):
                    self.full_sets += 1
                    group.finish()
                    self.parity_shards += max(0, position + count - max(self.data, position))
                else:
                    for at in here:
                        start = (index + at - position) * size
                        coded = view[start + CODED_OFFSET : start + size]
                        self._collect(group, at, coded, rebuilt)
            index += count

    def _take_packet(
        self, sequence: int, kind: int, coded: memoryview, rebuilt: list[bytes]
    ) -> None:
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
        group = self._group(number)
        if group is not None:
            self._collect(group, position, coded, rebuilt)

    def _group(self, number: int) -> _Group | None:
        """
        The record of a group; None if it is too old, or too far ahead to be
        believed.
        """
        group = self._groups.get(number)
        if group is not None:
            return group
        if self._newest is not None:
            ahead = self._ahead(number, self._newest)
            if ahead < -GROUPS_BEHIND:
                return None
            if ahead > FAR_AHEAD and self._suspect != number:
                self._suspect = number
                return None
        if self._newest is None or ahead > 0:
            self._newest = number
            for old in [
                each for each in self._groups if self._ahead(each, number) < -GROUPS_BEHIND
            ]:
                del self._groups[old]
        group = self._groups[number] = _Group()
        return group

    def _ahead(self, number: int, other: int) -> int:
        """
        By how many groups C{number} is ahead, across the wrap of the ids.
        """
        groups = 0xFFFFFFFF // (self.data + self.parity)
        return (number - other + groups // 2) % groups - groups // 2

    def _collect(
        self, group: _Group, position: int, coded: memoryview, rebuilt: list[bytes]
    ) -> None:
        if position >= self.data:
            self.parity_shards += 1
        if group.done or position in group.shards:
            return
        group.shards[position] = bytes(coded)
        if len(group.shards) >= self.data:
            self._rebuild(group, rebuilt)
            group.finish()

    def _rebuild(self, group: _Group, rebuilt: list[bytes]) -> None:
        shards = group.shards
        missing = tuple(at for at in range(self.data) if at not in shards)
        if not missing:
            self.full_sets += 1
            return
        points = tuple(sorted(shards))
        length = max(map(len, shards.values()))
        blocks = evaluate(points, [shards[at] for at in points], missing, length)
        for start in range(0, len(blocks), length or 1):
            block = blocks[start : start + length]
            size = int.from_bytes(block[:SIZE_FIELD], "little")
            if SIZE_FIELD < size <= length:
                self.recovered += 1
                rebuilt.append(block[SIZE_FIELD:size])
            else:
                self.errors += 1
