"""
What the network and the system say about datagrams that were sent: the error queue of
a Linux socket, and how errors get to the owner of a port.

An unconnected UDP socket hears of ICMP errors only with C{IP_RECVERR}, which also
makes a I{pending} error fail the next call on the socket, whoever that call is for
(ip(7)). So nothing that fails is believed before the queue was emptied.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Final, NamedTuple

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_rudp.core.engine import Address, PathError
from twisted_rudp.net.udp.port import Receiver

SOL_IP: Final = 0
SOL_IPV6: Final = 41
IP_RECVERR: Final = 11
IPV6_RECVERR: Final = 25
# The socket module of Python 3.11 does not name these.

_ORIGIN_ICMP: Final = 2
_ORIGIN_ICMP6: Final = 3
# The origins of linux/errqueue.h that come from the network; the others repeat what a
# system call has already answered.

_HEADER: Final = struct.Struct("=IBBBBII")
"""C{struct sock_extended_err}: errno, origin, type, code, padding, info, data."""

_ANCILLARY_ROOM: Final = 256
"""The header and the offender's C{sockaddr} of at most 28 bytes, with room to spare."""

_AT_ONCE: Final = 1024
"""Errors taken in one go. The rest wakes the descriptor again."""


class NetworkError(NamedTuple):
    """An ICMP error."""

    errno: int
    """What the kernel made of it."""

    destination: Address
    """Where our datagram was sent."""

    offender: str | None
    """Who sent the ICMP message, None where it is not told."""

    info: int
    """For EMSGSIZE: the MTU of the narrow link."""


def drain(sock: socket.socket) -> Iterator[NetworkError | None]:
    """
    Empty the queue.

    @return: one item for each entry: the error, or None if it is not the network's.
    """
    for _ in range(_AT_ONCE):
        try:
            _, ancillary, _, destination = sock.recvmsg(
                0, _ANCILLARY_ROOM, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT
            )
        except OSError:
            # EAGAIN is the end. Anything else is a pending error, which asking has
            # cleared; its entry wakes us again.
            return
        yield parse(ancillary, destination)


def parse(ancillary: Iterable[tuple[int, int, bytes]], destination: Address) -> NetworkError | None:
    """Read the control messages of one entry."""
    for level, kind, data in ancillary:
        if (level, kind) not in ((SOL_IP, IP_RECVERR), (SOL_IPV6, IPV6_RECVERR)):
            continue
        if len(data) < _HEADER.size:
            continue
        number, origin, _, _, _, info, _ = _HEADER.unpack_from(data)
        if origin in (_ORIGIN_ICMP, _ORIGIN_ICMP6):
            return NetworkError(number, destination, _offender(data[_HEADER.size :]), info)
    return None


def _offender(sockaddr: bytes) -> str | None:
    """The host in a C{sockaddr_in} or C{sockaddr_in6}."""
    family = int.from_bytes(sockaddr[:2], sys.byteorder)
    if family == socket.AF_INET and len(sockaddr) >= 8:
        return socket.inet_ntop(socket.AF_INET, sockaddr[4:8])
    if family == socket.AF_INET6 and len(sockaddr) >= 24:
        return socket.inet_ntop(socket.AF_INET6, sockaddr[8:24])
    return None


_UNREACHABLE: Final = (
    "ENETUNREACH",
    "EHOSTUNREACH",
    "ENETDOWN",
    "EHOSTDOWN",
    "ENONET",
    "EADDRNOTAVAIL",
    # A port 0, a scope that is gone, a family this socket does not speak: there is
    # no way from here to there.
    "EINVAL",
    "EAFNOSUPPORT",
)

_SENDING: Final = MappingProxyType(
    {
        errno.EMSGSIZE: PathError.TOO_BIG,
        errno.ECONNREFUSED: PathError.REFUSED,
        errno.EPERM: PathError.FORBIDDEN,
        errno.EACCES: PathError.FORBIDDEN,
        **{
            getattr(errno, name): PathError.UNREACHABLE
            for name in _UNREACHABLE
            if hasattr(errno, name)
        },
    }
)
"""
What a failed system call says. Errors that are not here say nothing about the path
and cost the datagram only.
"""


def failedAs(code: int | None) -> PathError | None:
    """The kind for the errno of a failed system call, None if it says nothing."""
    return None if code is None else _SENDING.get(code)


REPORTED: Final = MappingProxyType(
    {
        **_SENDING,
        # A filter on the way, not on this machine.
        errno.EPERM: PathError.UNREACHABLE,
        errno.EACCES: PathError.UNREACHABLE,
        # No UDP at all on that host.
        errno.ENOPROTOOPT: PathError.REFUSED,
    }
)
"""What an ICMP error says, by the errno the kernel gives it."""

LIMIT: Final = 1024
"""Different errors remembered for one report; an unknown peer can cause any number."""


class PathErrors:
    """
    Errors on their way to the receiver.

    They come up in the middle of C{send} and of reading, where the owner cannot take
    them; so they are reported in a turn of their own, each once.
    """

    __slots__ = ("_call", "_cancelled", "_noted", "_reactor", "_receiver")

    def __init__(self, reactor: IReactorTime, receiver: Receiver) -> None:
        self._reactor = reactor
        self._receiver = receiver
        self._noted: dict[tuple[PathError, int, Address], None] = {}
        self._call: IDelayedCall | None = None
        self._cancelled = False

    def note(self, kind: PathError, size: int, address: Address) -> None:
        """Report this soon."""
        if len(self._noted) < LIMIT:
            self._noted[kind, size, address] = None
        if self._call is None:
            self._call = self._reactor.callLater(0, self._report)

    def _report(self) -> None:
        self._call = None
        noted, self._noted = self._noted, {}
        for kind, size, address in noted:
            if self._cancelled:
                break
            self._receiver.pathError(kind, size, address)
        if not self._cancelled:
            self._receiver.turnEnded()

    def receiveBy(self, receiver: Receiver) -> None:
        """Report to another receiver from now on."""
        self._receiver = receiver

    def cancel(self) -> None:
        """Report nothing any more: the port is closed."""
        self._cancelled = True
        if self._call is not None:
            self._call.cancel()
            self._call = None
