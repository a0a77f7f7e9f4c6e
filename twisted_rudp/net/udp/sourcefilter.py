"""
A filter of the kernel for one socket: during a flood of unknown peers it drops most of what
they send before that takes a place in the receive queue. No privileges are needed.

The program is classic BPF. It lets through whoever is known. Others fall into 256 buckets by a
salted hash of their host, an IPv4 address or an IPv6 /64; each bucket has the share of its
datagrams that is let through, by chance.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from twisted_rudp.core.engine import Address

WHOLE: Final = 1 << 16
"""The share of a bucket whose datagrams are all let through."""

_MOST_KNOWN: Final = (1500, 300, 30)
"""Known addresses that one program has room for; less where the kernel gives little memory."""

_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("=9I")

_LOAD_BYTE: Final = 0x30
_LOAD_HALF: Final = 0x28
_LOAD_WORD: Final = 0x20
_STORE: Final = 0x02
_LOAD_X: Final = 0x01
_LOAD_X_MEMORY: Final = 0x61
_LOAD_MEMORY: Final = 0x60
_TO_X: Final = 0x07
_ADD_X: Final = 0x0C
_XOR_X: Final = 0xAC
_MULTIPLY: Final = 0x24
_SHIFT_RIGHT: Final = 0x74
_AND: Final = 0x54
_JUMP: Final = 0x05
_IF_EQUAL: Final = 0x15
_IF_AT_LEAST: Final = 0x35
_IF_AT_LEAST_X: Final = 0x3D
_RETURN: Final = 0x06

_NETWORK_HEADER: Final = 0xFFF00000
_RANDOM: Final = 0xFFFFF000 + 56
_ALL: Final = 0xFFFFFFFF
_LEAF: Final = 6
"""Values that one leaf of a search tree compares one after the other."""

_INSTRUCTION: Final = struct.Struct("=HBBI")

Instruction = tuple[int, int, int, int]
"""Code, what is skipped if true and if false, operand."""

_MISS: Final[Instruction] = (_JUMP, 0, 0, _ALL)
_HIT: Final[Instruction] = (_JUMP, 0, 0, _ALL - 1)
"""Jumps out of a search tree; their distance is put in at the end."""


class Thinning(NamedTuple):
    """
    What a filter does.

    @ivar salt: a secret number of 128 bits.
    @ivar known: addresses from which all is let through.
    @ivar shares: for each bucket that is thinned, how many of L{WHOLE} datagrams are let
        through.
    """

    salt: int
    known: Sequence[Address]
    shares: Mapping[int, int]


@lru_cache(maxsize=4096)
def _words(host: str) -> tuple[int, ...]:
    """An IP literal as one or four numbers; IPv4 that IPv6 maps is IPv4."""
    if ":" not in host:
        return struct.unpack("!I", socket.inet_aton(host))
    words = struct.unpack("!4I", socket.inet_pton(socket.AF_INET6, host.partition("%")[0]))
    return words[3:] if words[:3] == (0, 0, 0xFFFF) else words


def _factors(salt: int) -> tuple[int, int, int, int, int]:
    """Odd numbers: for the host's network, its port, the rest of IPv6, and the bucket."""
    one, two, three, four = struct.unpack("=4I", (salt & ((1 << 128) - 1)).to_bytes(16, "little"))
    return one | 1, two | 1, three | 1, four | 1, (one ^ three) | 1


def _network(words: tuple[int, ...]) -> int:
    return words[0] if len(words) == 1 else words[0] ^ words[1]


def bucketOf(host: str, salt: int) -> int:
    """The bucket of a host, an IP literal."""
    return (_network(_words(host)) * _factors(salt)[4] & _ALL) >> 24


def _mark(address: Address, salt: int) -> int:
    """By which the program tells a known address."""
    network, port, third, fourth, _ = _factors(salt)
    words = _words(str(address[0]))
    mark = _network(words) * network + int(address[1]) * port
    if len(words) > 1:
        mark += words[2] * third + words[3] * fourth
    return mark & _ALL


def _tree(values: Sequence[int], shares: Mapping[int, int] | None) -> list[Instruction]:
    """
    Search the accumulator among sorted values. What is found goes on at L{_HIT}, with its
    share in the index register, else at L{_MISS}.
    """
    if len(values) > _LEAF:
        middle = len(values) // 2
        below, above = _tree(values[:middle], shares), _tree(values[middle:], shares)
        return [
            (_IF_AT_LEAST, 0, 1, values[middle]),
            (_JUMP, 0, 0, len(below)),
            *below,
            *above,
        ]
    if shares is None:
        count = len(values)
        compared = [(_IF_EQUAL, count - at, 0, value) for at, value in enumerate(values)]
        return [*compared, _MISS, _HIT]
    code: list[Instruction] = []
    for value in values:
        code += [(_IF_EQUAL, 0, 2, value), (_LOAD_X, 0, 0, shares[value]), _HIT]
    return [*code, _MISS]


def _search(code: list[Instruction], hit: Sequence[Instruction]) -> list[Instruction]:
    """A L{_tree}, with what is done upon a hit, which ends the program, behind it."""
    end = len(code)
    distances = {id(_MISS): end + len(hit), id(_HIT): end}
    return [
        (_JUMP, 0, 0, distances[id(each)] - at - 1) if id(each) in distances else each
        for at, each in enumerate(code)
    ] + list(hit)


def program(thinning: Thinning) -> list[Instruction]:
    """What the kernel runs for each datagram."""
    network, port, third, fourth, bucket = _factors(thinning.salt)
    accept: Instruction = (_RETURN, 0, 0, _ALL)
    marks = sorted({_mark(address, thinning.salt) for address in thinning.known})
    six: list[Instruction] = [
        (_LOAD_WORD, 0, 0, _NETWORK_HEADER + 8),
        (_TO_X, 0, 0, 0),
        (_LOAD_WORD, 0, 0, _NETWORK_HEADER + 12),
        (_XOR_X, 0, 0, 0),
        (_STORE, 0, 0, 0),
        (_MULTIPLY, 0, 0, network),
        (_STORE, 0, 0, 1),
    ]
    for place, factor in ((16, third), (20, fourth)):
        six += [
            (_LOAD_WORD, 0, 0, _NETWORK_HEADER + place),
            (_MULTIPLY, 0, 0, factor),
            (_LOAD_X_MEMORY, 0, 0, 1),
            (_ADD_X, 0, 0, 0),
            (_STORE, 0, 0, 1),
        ]
    four: list[Instruction] = [
        (_LOAD_WORD, 0, 0, _NETWORK_HEADER + 12),
        (_STORE, 0, 0, 0),
        (_MULTIPLY, 0, 0, network),
        (_STORE, 0, 0, 1),
        (_JUMP, 0, 0, len(six)),
    ]
    thin: list[Instruction] = [
        (_LOAD_WORD, 0, 0, _RANDOM),
        (_AND, 0, 0, WHOLE - 1),
        (_IF_AT_LEAST_X, 1, 0, 0),
        accept,
        (_RETURN, 0, 0, 0),
    ]
    return [
        (_LOAD_BYTE, 0, 0, _NETWORK_HEADER),
        (_SHIFT_RIGHT, 0, 0, 4),
        (_IF_EQUAL, len(four), 0, 6),
        *four,
        *six,
        # The header of UDP begins with the port it comes from.
        (_LOAD_HALF, 0, 0, 0),
        (_MULTIPLY, 0, 0, port),
        (_LOAD_X_MEMORY, 0, 0, 1),
        (_ADD_X, 0, 0, 0),
        *_search(_tree(marks, None), [accept]),
        (_LOAD_MEMORY, 0, 0, 0),
        (_MULTIPLY, 0, 0, bucket),
        (_SHIFT_RIGHT, 0, 0, 24),
        *_search(_tree(sorted(thinning.shares), thinning.shares), thin),
        accept,
    ]


def fitted(thinning: Thinning, most: int) -> Thinning:
    """
    The same with no more than so many known addresses. Those in buckets that are let through
    need not be known; where more are left, the buckets with the most of them are let through.
    """
    found: dict[int, list[Address]] = {}
    for address in thinning.known:
        bucket = bucketOf(str(address[0]), thinning.salt)
        if bucket in thinning.shares:
            found.setdefault(bucket, []).append(address)
    shares = dict(thinning.shares)
    known: list[Address] = []
    for bucket, addresses in sorted(found.items(), key=_size):
        if len(known) + len(addresses) > most:
            del shares[bucket]
        else:
            known += addresses
    return Thinning(thinning.salt, known, shares)


def _size(item: tuple[int, list[Address]]) -> int:
    return len(item[1])


def attach(sock: socket.socket, thinning: Thinning) -> bool:
    """
    Put a filter in the place of the one before.

    @return: whether the system does it.
    """
    for most in _MOST_KNOWN:
        code = program(fitted(thinning, most))
        packed = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*each) for each in code))
        request = struct.pack("HP", len(code), ctypes.addressof(packed))
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, request)
        except OSError as problem:
            if problem.errno != errno.ENOMEM:
                return False
        else:
            return True
    return False


def detach(sock: socket.socket) -> None:
    """Let everything through again."""
    # There may be none.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def kernelDrops(sock: socket.socket) -> int:
    """Datagrams that the kernel has dropped: the queue was full, or a filter said so."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    except OSError:
        return 0
    return int(_MEMINFO.unpack(raw)[8]) if len(raw) == _MEMINFO.size else 0
