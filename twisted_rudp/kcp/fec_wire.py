"""Bytes of FEC packets (kcp.md 3.1), and telling them from bare datagrams."""

from __future__ import annotations

import struct
from typing import Final

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

_NO_SEQUENCE = 0xFFFFFFFF

pack_data_header = struct.Struct("<IHH").pack
pack_parity_header = struct.Struct("<IH").pack
_out_of_band = struct.Struct("<IHHI")


def is_framed(datagram: Buffer) -> bool:
    """It is an FEC or out-of-band packet; else it is bare, or nonsense."""
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
