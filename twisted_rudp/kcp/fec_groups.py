"""Making FEC packets of a whole run (kcp.md 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

from twisted_rudp import kernels
from twisted_rudp.kcp.fec_wire import CODED_OFFSET, PARITY, data_packet, pack_parity_header
from twisted_rudp.kcp.reed_solomon import coefficients, evaluate
from twisted_rudp.kernels.pure import Buffer

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
