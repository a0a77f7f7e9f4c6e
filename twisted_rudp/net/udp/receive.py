"""
From datagrams to runs: software GRO, the hop limit of what arrives (RFC 5082: none
that came through a router still has 255), and many datagrams in one system call.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from twisted_rudp import kernels
from twisted_rudp.core.engine import Address, Buffer
from twisted_rudp.net.udp.port import LONGEST_DATAGRAM, PortCounters, Receiver


class Joiner:
    """
    Joins consecutive datagrams of one peer and one length, the last may be shorter,
    and gives the run to a receiver.

    Order is kept: what cannot join the run sends it off first.
    """

    __slots__ = ("_address", "_closed", "_counters", "_parts", "_receiver", "_size", "_total")

    def __init__(self, receiver: Receiver, counters: PortCounters) -> None:
        self._receiver = receiver
        self._counters = counters
        self._closed = False
        self._parts: list[bytes] = []
        self._size = 0
        self._total = 0
        self._address: Address = ()

    def add(self, datagram: bytes, address: Address) -> None:
        """
        Take the next datagram; may call the receiver with what came before, or with
        the run that this one ends.
        """
        length = len(datagram)
        if not length:
            self._counters.empty += 1
            return
        parts = self._parts
        if parts:
            if (
                length <= self._size
                and address == self._address
                and self._total + length <= LONGEST_DATAGRAM
            ):
                parts.append(datagram)
                self._total += length
                if length < self._size:
                    self.flush()
                return
            self.flush()
        self._parts = [datagram]
        self._size = self._total = length
        self._address = address

    def addRun(self, run: bytes, size: int, address: Address) -> None:
        """Take a run that the kernel has joined."""
        if self._parts:
            self.flush()
        if self._closed:
            return
        length = len(run)
        counters = self._counters
        counters.runsIn += 1
        counters.datagramsIn += -(-length // size)
        counters.bytesIn += length
        self._receiver.runReceived(run, size, address)

    def flush(self) -> None:
        """Give away what is here."""
        parts = self._parts
        if parts:
            self._parts = []
            run = parts[0] if len(parts) == 1 else b"".join(parts)
            self.addRun(run, self._size, self._address)

    def close(self) -> None:
        """Give away nothing more."""
        self._closed = True


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


DATAGRAMS = 64
"""At most so many are received in one call."""

_ADDRESSES = 256
"""Addresses kept ready in the form of the system, and as many in ours."""

_FAMILY = struct.Struct("=H")
_PORT = struct.Struct("!H")
_FLOW = struct.Struct("!I")
_SCOPE = struct.Struct("=I")


def packed(address: Address) -> bytes:
    """C{sockaddr_in} or C{sockaddr_in6} of an IP literal, as Linux has them."""
    host, port = address[:2]
    if len(address) == 2:
        return b"".join(
            (_FAMILY.pack(socket.AF_INET), _PORT.pack(port), socket.inet_aton(host), bytes(8))
        )
    _, _, flow, scope = address
    return b"".join(
        (
            _FAMILY.pack(socket.AF_INET6),
            _PORT.pack(port),
            _FLOW.pack(flow),
            socket.inet_pton(socket.AF_INET6, host),
            _SCOPE.pack(scope),
        )
    )


def unpacked(raw: bytes) -> Address:
    """The opposite of L{packed}: what C{recvfrom} would give."""
    (port,) = _PORT.unpack_from(raw, 2)
    if _FAMILY.unpack_from(raw)[0] == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, raw[4:8]), port
    (flow,), (scope,) = _FLOW.unpack_from(raw, 4), _SCOPE.unpack_from(raw, 24)
    return socket.inet_ntop(socket.AF_INET6, raw[8:24]), port, flow, scope


class Batch:
    """Sends and receives datagrams of one socket by the dozen."""

    __slots__ = ("_packed", "_receive", "_send", "_socket", "_unpacked")

    def __init__(
        self,
        sock: socket.socket,
        send: Callable[[int, Buffer, int, bytes], int],
        receive: Callable[[int, int], tuple[list[tuple[bytes, int, bytes]], int]],
    ) -> None:
        """
        @param send: see L{kernels.send_run}.
        @param receive: see L{kernels.receive_runs}.
        """
        self._socket = sock
        self._send = send
        self._receive = receive
        self._packed: dict[Address, bytes] = {}
        self._unpacked: dict[bytes, Address] = {}

    def send(self, run: Buffer, size: int, address: Address) -> int:
        """
        Send the datagrams of a run.

        @return: bytes of whole datagrams that have left, at least one.
        @raise OSError: the first could not leave.
        """
        raw = self._packed.get(address)
        if raw is None:
            if len(self._packed) >= _ADDRESSES:
                self._packed.clear()
            raw = self._packed[address] = packed(address)
        return self._send(self._socket.fileno(), run, size, raw)

    def receive(self) -> tuple[list[tuple[bytes, int, Address]], bool]:
        """
        Receive up to L{DATAGRAMS}, joined to runs.

        @return: run, size and address of each; a run of size 0 is a datagram without
            a byte. And whether more may be waiting.
        @raise OSError: C{BlockingIOError} if nothing is there.
        """
        runs, count = self._receive(self._socket.fileno(), DATAGRAMS)
        known = self._unpacked
        if len(known) > _ADDRESSES:
            known.clear()
        found = []
        for run, size, raw in runs:
            address = known.get(raw)
            if address is None:
                address = known[raw] = unpacked(raw)
            found.append((run, size, address))
        return found, count == DATAGRAMS


def batchOf(sock: socket.socket) -> Batch | None:
    """For a socket of the internet's families; None where there are no such calls."""
    if kernels.send_run is None or kernels.receive_runs is None:
        return None
    return Batch(sock, kernels.send_run, kernels.receive_runs)
