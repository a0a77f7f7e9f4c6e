"""Membership of multicast groups."""

from __future__ import annotations

import socket
import struct

_INDEX = struct.Struct("@I")
_IPV4_REQUEST = struct.Struct("@4s4si")


def join(sock: socket.socket, group: str, interface: int) -> None:
    """
    Receive what is sent to a group on one interface.

    @param interface: its index.
    @raise OSError: not a group of this family, or the interface cannot.
    """
    if sock.family == socket.AF_INET6:
        _change(sock, socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group, interface)
    else:
        _change(sock, socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group, interface)


def leave(sock: socket.socket, group: str, interface: int) -> None:
    """
    Undo L{join}.

    @raise OSError: it was not joined, or the interface is gone.
    """
    if sock.family == socket.AF_INET6:
        _change(sock, socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, group, interface)
    else:
        _change(sock, socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, group, interface)


def _change(sock: socket.socket, level: int, option: int, group: str, interface: int) -> None:
    packed = socket.inet_pton(sock.family, group)
    if sock.family == socket.AF_INET6:
        request = packed + _INDEX.pack(interface)
    else:
        request = _IPV4_REQUEST.pack(packed, bytes(4), interface)
    sock.setsockopt(level, option, request)
