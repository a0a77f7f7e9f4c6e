"""
UDP sockets: made, set up, bound, asked, changed, joined to groups.

Numbers of socket options are Linux's where the socket module of Python 3.11 lacks the
name; they are used on Linux only and are the same on all its architectures.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from twisted_rudp.core.engine import Address
from twisted_rudp.core.settings import Integer, Option
from twisted_rudp.net.addresses import parseLiteral
from twisted_rudp.net.udp.errors import IP_RECVERR, IPV6_RECVERR, SOL_IP, SOL_IPV6
from twisted_rudp.net.udp.port import PortFacts, PortKind, SocketOptions

LINUX: Final = sys.platform == "linux"

SOL_UDP: Final = 17
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_DONT: Final = 0
_PMTUDISC_DO: Final = 2
_IP_PKTINFO: Final = 8
_IP_RECVTTL: Final = 12
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33

_log = Logger()


def cannotListen(address: Address, problem: OSError) -> CannotListenError:
    """What a caller of C{listen} expects to fail with."""
    return CannotListenError(address[0], address[1], problem)  # type: ignore[no-untyped-call]


def bindAddress(interface: str, port: int) -> Address:
    """
    The raw address to bind to. C{""} is every IPv4 address, C{"::"} every address of
    both families.

    @raise CannotListenError: C{interface} is not a literal, or has no such zone.
    """
    if not interface:
        interface = "0.0.0.0"
    try:
        return parseLiteral(interface, port)
    except ValueError as problem:
        cause = OSError(errno.EADDRNOTAVAIL, str(problem))
        raise cannotListen((interface, port), cause) from problem


def createSocket(address: Address, options: SocketOptions) -> socket.socket:
    """
    A non-blocking socket for C{address} with all its options, not yet bound.

    @raise OSError: there are no such sockets here.
    """
    if options.descriptor is not None:
        return adopted(options.descriptor, options)
    family = socket.AF_INET if len(address) == 2 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6 and address[0] == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(options.onlyIPv6))
        if options.reuseAddress:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.reusePort:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if options.arrivalHops is not None:
            reportHops(sock)
    except OSError:
        sock.close()
        raise
    configure(sock, options)
    return sock


def adopted(descriptor: int, options: SocketOptions) -> socket.socket:
    """
    A copy of an inherited socket, with all options but those for binding.

    @raise OSError: it is no bound UDP socket.
    """
    sock = socket.socket(fileno=os.dup(descriptor))
    try:
        if sock.type != socket.SOCK_DGRAM or sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise OSError(errno.ENOTSOCK, f"descriptor {descriptor} is not a UDP socket")
        if not sock.getsockname()[1]:
            raise OSError(errno.EINVAL, f"the socket of descriptor {descriptor} is not bound")
        sock.setblocking(False)
        if options.arrivalHops is not None:
            reportHops(sock)
    except OSError:
        sock.close()
        raise
    configure(sock, options)
    return sock


def reportHops(sock: socket.socket) -> None:
    """
    Have the hop limit of each datagram told along with it, as an int.

    @raise OSError: this system cannot.
    """
    if not LINUX:
        # Elsewhere it comes in other sizes, and not at all for mapped peers.
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    sock.setsockopt(SOL_IP, _IP_RECVTTL, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)


def reportLocal(sock: socket.socket) -> bool:
    """
    Have the address told that each datagram was sent to: a socket that is bound to all
    addresses would answer from the one that routing picks (F3).

    @return: whether it will be.
    """
    if not LINUX:
        return False
    six = sock.family == socket.AF_INET6
    try:
        if six:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(SOL_IP, _IP_PKTINFO, 1)
    except OSError:
        return False
    return True


def bind(sock: socket.socket, address: Address) -> None:
    """
    Bind, or close the socket.

    @raise CannotListenError: the address is taken, or not this machine's.
    """
    try:
        sock.bind(address)
    except OSError as problem:
        sock.close()
        raise cannotListen(address, problem) from problem


def configure(sock: socket.socket, options: SocketOptions) -> None:
    """
    Set what can be set on a bound socket as well. What the system refuses is logged,
    for a socket without it still works.
    """
    _setBuffer(sock, socket.SO_RCVBUF, _SO_RCVBUFFORCE, options.receiveBuffer)
    _setBuffer(sock, socket.SO_SNDBUF, _SO_SNDBUFFORCE, options.sendBuffer)
    if options.broadcast:
        _set(sock, socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    both = sock.family == socket.AF_INET6
    if options.dscp is not None:
        _set(sock, socket.IPPROTO_IP, socket.IP_TOS, options.dscp << 2, mapped=both)
        if both:
            _set(sock, socket.IPPROTO_IPV6, socket.IPV6_TCLASS, options.dscp << 2)
    if options.hopLimit is not None:
        _set(sock, socket.IPPROTO_IP, socket.IP_TTL, options.hopLimit, mapped=both)
        if both:
            _set(sock, socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, options.hopLimit)
    if options.multicastHops is not None:
        if both:
            _set(sock, socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, options.multicastHops)
        else:
            _set(sock, socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, options.multicastHops)
    if options.dontFragment is not None and LINUX:
        mode = _PMTUDISC_DO if options.dontFragment else _PMTUDISC_DONT
        _set(sock, SOL_IP, _IP_MTU_DISCOVER, mode, mapped=both)
        if both:
            _set(sock, SOL_IPV6, _IPV6_MTU_DISCOVER, mode)


def _set(sock: socket.socket, level: int, option: int, value: int, mapped: bool = False) -> None:
    """
    @param mapped: an IPv4 option of an IPv6 socket, for its mapped peers; some systems
        have none.
    """
    try:
        sock.setsockopt(level, option, value)
    except OSError as problem:
        if not mapped:
            _log.warn(
                "cannot set socket option {option} of protocol {protocol} to {value}: {reason}",
                option=option,
                protocol=level,
                value=value,
                reason=problem,
            )


def _setBuffer(sock: socket.socket, option: int, force: int, size: int) -> None:
    """
    Only a privileged process may exceed the system's limit; all others get the limit
    instead, without an error.
    """
    if LINUX:
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, size)
        except PermissionError:
            pass
        else:
            return
    _set(sock, socket.SOL_SOCKET, option, size)


def readFacts(
    sock: socket.socket, options: SocketOptions, kind: PortKind, gso: bool, gro: bool
) -> PortFacts:
    """What became of the options."""
    return PortFacts(
        kind=kind,
        gso=gso,
        gro=gro,
        receiveBufferAsked=options.receiveBuffer,
        receiveBuffer=_grantedBuffer(sock, socket.SO_RCVBUF),
        sendBufferAsked=options.sendBuffer,
        sendBuffer=_grantedBuffer(sock, socket.SO_SNDBUF),
        dscp=_readDSCP(sock),
    )


def _grantedBuffer(sock: socket.socket, option: int) -> int:
    """Linux reports the double, for its own bookkeeping (socket(7))."""
    size = sock.getsockopt(socket.SOL_SOCKET, option)
    return size // 2 if LINUX else size


def _readDSCP(sock: socket.socket) -> int:
    if sock.family == socket.AF_INET6:
        return sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS) >> 2
    return sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) >> 2


def enableGRO(sock: socket.socket) -> bool:
    """
    Have the kernel join what arrives.

    @return: whether it will.
    """
    return LINUX and _supports(sock, UDP_GRO, 1)


def supportsGSO(sock: socket.socket) -> bool:
    """Whether C{UDP_SEGMENT} may go with C{sendmsg}. A device may refuse it later."""
    return LINUX and _supports(sock, UDP_SEGMENT, 0)


def _supports(sock: socket.socket, option: int, value: int) -> bool:
    try:
        sock.setsockopt(SOL_UDP, option, value)
    except OSError:
        return False
    return True


def reportErrors(sock: socket.socket) -> bool:
    """
    Have ICMP errors queued (L{errors<twisted_rudp.net.udp.errors>}).

    @return: whether they are.
    """
    if not LINUX:
        return False
    try:
        sock.setsockopt(SOL_IP, IP_RECVERR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(SOL_IPV6, IPV6_RECVERR, 1)
    except OSError as problem:
        _log.warn("no ICMP errors on this socket: {reason}", reason=problem)
        return False
    return True


_LARGEST_BUFFER: Final = 1 << 30
_BUFFER: Final = SocketOptions().receiveBuffer

SOCKET_SETTINGS: Final[Mapping[str, Option]] = MappingProxyType(
    {
        name: Option(kind, default, meaning, name, attribute, changeable=True)
        for name, attribute, kind, default, meaning in (
            (
                "dscp",
                "dscp",
                Integer(0, 63),
                0,
                "Differentiated services code point of what is sent.",
            ),
            (
                "readBuffer",
                "receiveBuffer",
                Integer(1, _LARGEST_BUFFER),
                _BUFFER,
                "Size in bytes of the socket's receive buffer.",
            ),
            (
                "writeBuffer",
                "sendBuffer",
                Integer(1, _LARGEST_BUFFER),
                _BUFFER,
                "Size in bytes of the socket's send buffer.",
            ),
        )
    }
)
"""Options of a socket that may change while it is open, by the names that people write."""


def changed(options: SocketOptions, changes: Mapping[str, Any]) -> SocketOptions:
    """
    @raise ValueError: a name is none of L{SOCKET_SETTINGS}, or a value is not possible.
    """
    unknown = sorted(changes.keys() - SOCKET_SETTINGS.keys())
    if unknown:
        known = ", ".join(sorted(SOCKET_SETTINGS))
        raise ValueError(f"{unknown[0]} cannot be changed while a socket is open; {known} can")
    found = {}
    for name, value in changes.items():
        option = SOCKET_SETTINGS[name]
        option.check(value)
        found[option.attribute] = value
    return replace(options, **found)


_INDEX: Final = struct.Struct("@I")
_IPV4_REQUEST: Final = struct.Struct("@4s4si")


def joinGroup(sock: socket.socket, group: str, interface: int) -> None:
    """
    Receive what is sent to a group on one interface.

    @param interface: its index.
    @raise OSError: not a group of this family, or the interface cannot.
    """
    if sock.family == socket.AF_INET6:
        _changeMembership(sock, socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group, interface)
    else:
        _changeMembership(sock, socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group, interface)


def leaveGroup(sock: socket.socket, group: str, interface: int) -> None:
    """
    Undo L{joinGroup}.

    @raise OSError: it was not joined, or the interface is gone.
    """
    if sock.family == socket.AF_INET6:
        _changeMembership(sock, socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, group, interface)
    else:
        _changeMembership(sock, socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, group, interface)


def _changeMembership(
    sock: socket.socket, level: int, option: int, group: str, interface: int
) -> None:
    packed = socket.inet_pton(sock.family, group)
    if sock.family == socket.AF_INET6:
        request = packed + _INDEX.pack(interface)
    else:
        request = _IPV4_REQUEST.pack(packed, bytes(4), interface)
    sock.setsockopt(level, option, request)
