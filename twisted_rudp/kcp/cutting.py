"""Cutting a run where the conversation changes (kcp.md 5.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from twisted_rudp.core.engine import Address
from twisted_rudp.kcp.fec_wire import (
    CODED_OFFSET,
    DATA,
    FEC_OVERHEAD,
    KIND_OFFSET,
    OUT_OF_BAND,
    OUT_OF_BAND_OVERHEAD,
    PARITY,
    SIZE_FIELD,
    is_framed,
)
from twisted_rudp.kcp.wire import HEADER_SIZE
from twisted_rudp.kernels import fec_conversation, same_column
from twisted_rudp.kernels.pure import Buffer

CONV_SIZE = 4

ADDRESSES_HEARD = 4096
"""Addresses whose last conversation is remembered; the oldest goes first."""

Part: TypeAlias = tuple[int | None, Buffer]
"""
A conversation, None where nobody can say, and the datagrams that are its own:
all of them bare, or none.
"""

KIND_SIZE = 2

_SHORTEST = {
    DATA: FEC_OVERHEAD + CONV_SIZE,
    PARITY: CODED_OFFSET + SIZE_FIELD,
    OUT_OF_BAND: OUT_OF_BAND_OVERHEAD,
}

_CLASS = {PARITY: DATA}
"""Data and parity are digested together."""


class _Stretch(NamedTuple):
    start: int
    end: int
    conv: int | None
    kind: int


class Cutter:
    """
    Says which conversation the datagrams of one socket belong to.

    A parity packet names none. In a run it goes where its neighbours go; alone
    it goes to the conversation that was heard last from its address.

    @ivar short: datagrams that were too short for what they seemed to be.
    @ivar short_framed: those of them that seemed to be of FEC.
    """

    __slots__ = ("_heard", "short", "short_framed")

    def __init__(self) -> None:
        self._heard: dict[Address, int] = {}
        self.short = 0
        self.short_framed = 0

    def cut(self, run: Buffer, size: int, address: Address) -> Sequence[Part]:
        """The parts of a run, in order. Datagrams that are too short are left out."""
        if is_framed(run):
            conv = fec_conversation(run, size)
            if conv >= 0:
                if self._heard.get(address) != conv:
                    self._remember(address, conv)
                return ((conv, run),)
        return self._join(self._stretches(run, size, address), memoryview(run))

    def _stretches(self, run: Buffer, size: int, address: Address) -> list[_Stretch]:
        """
        Rows of datagrams of one kind and one conversation. Parity in front of
        everything is left without one.
        """
        found: list[_Stretch] = []
        view = memoryview(run)
        heard = previous = self._heard.get(address)
        start = 0
        while start < len(view):
            rest = view[start:]
            kind = rest[KIND_OFFSET] if is_framed(rest) else 0
            conv = previous
            if min(size, len(rest)) < _SHORTEST.get(kind, HEADER_SIZE):
                self.short += 1
                self.short_framed += kind != 0
                start += size
                continue
            if kind == PARITY:
                count = same_column(rest, size, KIND_OFFSET, KIND_SIZE)
                conv = found[-1].conv if found else None
            elif kind:
                conv = previous = _conv(rest, FEC_OVERHEAD)
                count = min(
                    same_column(rest, size, KIND_OFFSET, KIND_SIZE),
                    same_column(rest, size, FEC_OVERHEAD, CONV_SIZE),
                )
            else:
                conv = _conv(rest, 0)
                count = same_column(rest, size, 0, CONV_SIZE)
            end = min(start + max(count, 1) * size, len(view))
            found.append(_Stretch(start, end, conv, _CLASS.get(kind, kind)))
            start = end
        if found and found[0].conv is None:
            following = next((each.conv for each in found if each.conv is not None), heard)
            found[0] = found[0]._replace(conv=following)
        if previous is not None and previous != heard:
            self._remember(address, previous)
        return found

    def _join(self, stretches: list[_Stretch], view: memoryview) -> list[Part]:
        """Neighbours that belong together, as one part."""
        joined: list[_Stretch] = []
        for each in stretches:
            last = joined[-1] if joined else None
            if last and last.end == each.start and last[2:] == each[2:]:
                joined[-1] = last._replace(end=each.end)
            else:
                joined.append(each)
        return [(each.conv, view[each.start : each.end]) for each in joined]

    def _remember(self, address: Address, conv: int) -> None:
        heard = self._heard
        heard.pop(address, None)
        heard[address] = conv
        if len(heard) > ADDRESSES_HEARD:
            del heard[next(iter(heard))]


def _conv(datagram: memoryview, at: int) -> int:
    return int.from_bytes(datagram[at : at + CONV_SIZE], "little")
