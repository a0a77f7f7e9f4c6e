"""
Datagrams that have come through a router, told by the hop limit they arrive with (RFC
5082): none that was sent with 255 still has 255 then.

Numbers are Linux's where the socket module lacks the name, as in L{sockets}.
"""

from __future__ import annotations

import errno
import os
import socket
import sys

from twisted_rudp.core.engine import Address
from twisted_rudp.net.ports.contract import PortCounters
from twisted_rudp.net.ports.errorqueue import SOL_IP
from twisted_rudp.net.ports.joining import Joiner

_IP_RECVTTL = 12


def reportHops(sock: socket.socket) -> None:
    """
    Have the hop limit of each datagram told along with it, as an int.

    @raise OSError: this system cannot.
    """
    if sys.platform != "linux":
        # Elsewhere it comes in other sizes, and not at all for mapped peers.
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    sock.setsockopt(SOL_IP, _IP_RECVTTL, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)


class HopFilter:
    """Stands before a L{Joiner} and lets only those pass that have one hop limit."""

    __slots__ = ("_counters", "_hops", "_joiner")

    def __init__(self, joiner: Joiner, counters: PortCounters, hops: int) -> None:
        self._joiner = joiner
        self._counters = counters
        self._hops = hops

    def add(self, datagram: bytes, address: Address) -> None:
        """The system did not say where this one stands."""
        self._counters.far += 1

    def addRun(self, datagram: bytes, hops: int, address: Address) -> None:
        """Take a datagram with its hop limit, which comes where a joined run has its size."""
        if hops == self._hops:
            self._joiner.add(datagram, address)
        else:
            self._counters.far += 1

    def flush(self) -> None:
        """See L{Joiner.flush}."""
        self._joiner.flush()

    def close(self) -> None:
        """See L{Joiner.close}."""
        self._joiner.close()
