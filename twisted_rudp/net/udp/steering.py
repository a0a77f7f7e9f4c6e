"""
Several processes behind one UDP address, and which of them a datagram goes to.

Each process has a socket of its own; all are bound to the same address with C{SO_REUSEPORT},
and a program of the classic packet filter chooses among them (C{SO_ATTACH_REUSEPORT_CBPF},
socket(7)), which needs no privileges. The kernel's own choice would change with the number of
sockets. The program sees the payload at offset 0 and the IP header at L{_NET}. L{choose} says
the same in Python.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from struct import Struct
from typing import Final

from twisted.internet.error import CannotListenError

from twisted_rudp.core.engine import Address
from twisted_rudp.net.udp.options import LINUX, bind, bindAddress, cannotListen, createSocket
from twisted_rudp.net.udp.port import SocketOptions

MOST: Final = 256
"""Processes behind one address."""

_SO_ATTACH_REUSEPORT_CBPF: Final = 51

_NET: Final = 0xFFF00000
"""C{SKF_NET_OFF} of linux/filter.h: offsets from the IP header."""

_MULTIPLIER: Final = 0x9E3779B1
_MASK: Final = 0xFFFFFFFF

# Instructions of linux/bpf_common.h. A is the accumulator, X the index register.
_LOAD_WORD: Final = 0x20
_LOAD_HALF: Final = 0x28
_LOAD_BYTE: Final = 0x30
_LOAD_HALF_INDEXED: Final = 0x48
_LOAD_NUMBER: Final = 0x00
_LOAD_HEADER_LENGTH: Final = 0xB1
_MULTIPLY: Final = 0x24
_MODULO: Final = 0x94
_SHIFT_RIGHT: Final = 0x74
_XOR: Final = 0xA4
_XOR_X: Final = 0xAC
_COPY_TO_X: Final = 0x07
_IF_EQUAL: Final = 0x15
_JUMP: Final = 0x05
_RETURN: Final = 0x16

_instruction: Final = Struct("=HBBI")

Instruction = tuple[int, int, int, int]
"""Operation, instructions to skip if true and if false, operand."""


class Steering(Enum):
    """What decides to which process a datagram goes."""

    ADDRESS = "the address and port of the sender"
    HOST = "the address of the sender"
    CONNECTION_ID = "eight bytes behind the first one of the payload"


@dataclass(frozen=True)
class Share:
    """
    The part that one of several processes has of a UDP address.

    @ivar index: which of them it is, from 0.
    @ivar count: how many there are.
    @ivar key: of the hash that chooses among them, 32 bits.
    @ivar secret: random bytes that all of them have.
    @ivar descriptor: of the process's own socket.
    @ivar generation: the same in processes that accept each other's cookies. Those that follow
        them on the same sockets must not: a cookie tells whose answer it was.
    """

    index: int
    count: int
    key: int
    secret: bytes
    descriptor: int
    generation: bytes = b""

    def __repr__(self) -> str:
        # The secret makes cookies.
        return f"<Share {self.index} of {self.count}>"

    def derive(self, label: bytes, size: int) -> bytes:
        """
        Secret bytes, the same in all processes.

        @param size: at most 64.
        """
        return blake2b(label, key=self.secret, digest_size=size).digest()

    def ownsId(self, id: bytes) -> bool:
        """Whether datagrams with this connection id come to this process."""
        return indexOfId(id, self.count, self.key) == self.index


def indexOfId(id: bytes, count: int, key: int) -> int:
    """The process of a connection id."""
    return choose([int.from_bytes(id[:4], "big"), int.from_bytes(id[4:8], "big")], count, key)


def choose(words: Iterable[int], count: int, key: int) -> int:
    """
    Which of C{count} processes the program chooses.

    @param words: 32 bits each: those of the connection id, or the port and the words of the
        peer's address; 0 for the port where it does not count.
    """
    chosen = key
    for word in words:
        chosen = (chosen ^ word) * _MULTIPLIER & _MASK
    return (chosen >> 16) % count


def program(steering: Steering, count: int, key: int) -> list[Instruction]:
    """
    The packet filter that chooses among C{count} sockets.

    @param key: 32 random bits, so that nobody can choose a process.
    """
    chosen: list[Instruction] = [
        (_SHIFT_RIGHT, 0, 0, 16),
        (_MODULO, 0, 0, count),
        (_RETURN, 0, 0, 0),
    ]
    if steering is Steering.CONNECTION_ID:
        return [(_LOAD_WORD, 0, 0, 1), *_begin(key), *_words(5), *chosen]
    # The port is behind the header, whose length varies. Behind extension headers of IPv6 it
    # is not looked for.
    portOfFour: list[Instruction] = [
        (_LOAD_HEADER_LENGTH, 0, 0, _NET),
        (_LOAD_HALF_INDEXED, 0, 0, _NET),
    ]
    portOfSix: list[Instruction] = [
        (_LOAD_BYTE, 0, 0, _NET + 6),
        (_IF_EQUAL, 0, 2, socket.IPPROTO_UDP),
        (_LOAD_HALF, 0, 0, _NET + 40),
        (_JUMP, 0, 0, 1),
        (_LOAD_NUMBER, 0, 0, 0),
    ]
    if steering is Steering.HOST:
        portOfFour = portOfSix = [(_LOAD_NUMBER, 0, 0, 0)]
    four = [
        *portOfFour,
        *_begin(key),
        *_words(_NET + 12),
        *chosen,
    ]
    six = [
        *portOfSix,
        *_begin(key),
        *_words(*range(_NET + 8, _NET + 24, 4)),
        *chosen,
    ]
    return [
        # A socket of both families gets IPv4 as well.
        (_LOAD_BYTE, 0, 0, _NET),
        (_SHIFT_RIGHT, 0, 0, 4),
        (_IF_EQUAL, 0, len(four), 4),
        *four,
        *six,
    ]


def _begin(key: int) -> list[Instruction]:
    return [(_XOR, 0, 0, key), (_MULTIPLY, 0, 0, _MULTIPLIER)]


def _words(*offsets: int) -> list[Instruction]:
    found: list[Instruction] = []
    for offset in offsets:
        found += [
            (_COPY_TO_X, 0, 0, 0),
            (_LOAD_WORD, 0, 0, offset),
            (_XOR_X, 0, 0, 0),
            (_MULTIPLY, 0, 0, _MULTIPLIER),
        ]
    return found


def attach(sock: socket.socket, instructions: list[Instruction]) -> None:
    """
    Have a program choose among the sockets that share the address of this one, in the order
    in which they were bound.

    @raise OSError: this system cannot.
    """
    if not LINUX:
        raise OSError(errno.EOPNOTSUPP, "only Linux has SO_ATTACH_REUSEPORT_CBPF")
    text = b"".join(_instruction.pack(*each) for each in instructions)
    buffer = ctypes.create_string_buffer(text, len(text))
    # struct sock_fprog: a length and a pointer.
    given = Struct("@HP").pack(len(instructions), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, given)


def openGroup(
    steering: Steering, interface: str, port: int, count: int, key: int
) -> list[socket.socket]:
    """
    Bind a socket for each of several processes.

    @param interface: as for L{openPort<twisted_rudp.net.udp.open.openPort>}.
    @param port: 0: any free one.
    @raise twisted.internet.error.CannotListenError: the address cannot be had, or this system
        cannot choose among the sockets.
    """
    # Alone first: programs of one user can share addresses without knowing of each other.
    alone = _bound(bindAddress(interface, port), SocketOptions())
    address = alone.getsockname()
    alone.close()
    opened: list[socket.socket] = []
    try:
        opened.extend(_bound(address, SocketOptions(reusePort=True)) for _ in range(count))
        attach(opened[0], program(steering, count, key))
    except (CannotListenError, OSError) as problem:
        for sock in opened:
            sock.close()
        if isinstance(problem, OSError):
            raise cannotListen(address, problem) from problem
        raise
    return opened


def _bound(address: Address, options: SocketOptions) -> socket.socket:
    try:
        sock = createSocket(address, options)
    except OSError as problem:
        raise cannotListen(address, problem) from problem
    bind(sock, address)
    return sock


def newKey() -> int:
    """A random key for L{program}."""
    return int.from_bytes(os.urandom(4), "big")
