"""
From datagrams to runs: software GRO, the hop limit of what arrives (RFC 5082: none
that came through a router still has 255), and many datagrams in one system call.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Final

from twisted_rudp import kernels
from twisted_rudp.core.engine import Address, Buffer
from twisted_rudp.net.udp.options import SOL_UDP, UDP_GRO
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

    def receiveBy(self, receiver: Receiver) -> None:
        """Give runs to another receiver from now on."""
        self.flush()
        self._receiver = receiver

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


DATAGRAMS: Final = 64
"""At most so many are received in one call."""

ADDRESSES: Final = 16384
"""
Addresses kept ready in the form of the system, and as many in ours: enough for a crowd, because
an address that is converted anew costs 4 % of an exchange. Full, each of both takes 4 MB.
"""

_FAMILY: Final = struct.Struct("=H")
_PORT: Final = struct.Struct("!H")
_FLOW: Final = struct.Struct("!I")
_SCOPE: Final = struct.Struct("=I")


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


Arrival = tuple[bytes, int, Address, int, bytes]
"""
A run, the size of its datagrams, its sender; the hop limit it arrived with, -1 if that is
not known; where it was sent to, in the form that sending takes, C{b""} if that is not
known. An empty datagram is a run of its own, of size 0.
"""


class Batch:
    """Sends and receives datagrams of one socket by the dozen."""

    __slots__ = ("_packed", "_receive", "_send", "_socket", "_unpacked")

    def __init__(
        self,
        sock: socket.socket,
        send: Callable[[int, Buffer, int, bytes, bytes], int],
        receive: Callable[[int, int], tuple[list[tuple[bytes, int, bytes, int, bytes]], int, int]],
    ) -> None:
        """
        @param send: see L{kernels.send_batch}.
        @param receive: see L{kernels.receive_batch}.
        """
        self._socket = sock
        self._send = send
        self._receive = receive
        self._packed: dict[Address, bytes] = {}
        self._unpacked: dict[bytes, Address] = {}

    def send(self, run: Buffer, size: int, address: Address, source: bytes) -> int:
        """
        Send the datagrams of a run.

        @param source: the address to send from, as an L{Arrival} has it; C{b""} for any.
        @return: bytes of whole datagrams that have left, at least one.
        @raise OSError: the first could not leave.
        """
        raw = self._packed.get(address)
        if raw is None:
            if len(self._packed) >= ADDRESSES:
                self._packed.clear()
            raw = self._packed[address] = packed(address)
        return self._send(self._socket.fileno(), run, size, raw, source)

    def receive(self) -> tuple[list[Arrival], int, int]:
        """
        Receive up to L{DATAGRAMS}, joined to runs.

        @return: the runs, how many datagrams, or runs that the system has joined, there
            were (fewer than L{DATAGRAMS} if none is left), and how many of them were truncated.
        @raise OSError: C{BlockingIOError} if nothing is there.
        """
        runs, count, truncated = self._receive(self._socket.fileno(), DATAGRAMS)
        known = self._unpacked
        if len(known) > ADDRESSES:
            known.clear()
        found: list[Arrival] = []
        for run, size, raw, hops, local in runs:
            address = known.get(raw)
            if address is None:
                address = known[raw] = unpacked(raw)
            found.append((run, size, address, hops, local))
        return found, count, truncated


class PureBatch:
    """Receives as L{Batch} does, with a call for each datagram: the kernel's specification."""

    __slots__ = ("_socket",)

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def receive(self) -> tuple[list[Arrival], int, int]:
        """See L{Batch.receive}."""
        receive = self._socket.recvmsg
        runs: list[_Gathered] = []
        newest: dict[tuple[Address, int, bytes], _Gathered] = {}
        count = truncated = 0
        while count < DATAGRAMS:
            try:
                data, ancillary, flags, address = receive(LONGEST_DATAGRAM, CONTROL_ROOM)
            except OSError:
                if not count:
                    raise
                break  # an error that is not the end comes up again with the next call
            count += 1
            if flags & TRUNCATED:
                truncated += 1
                continue
            size, hops, local = readControls(ancillary, len(data))
            run = newest.get((address, hops, local))
            if run is None or not run.takes(data, size):
                run = newest[address, hops, local] = _Gathered(data, size, (address, hops, local))
                runs.append(run)
        return [run.arrival() for run in runs], count, truncated


class _Gathered:
    """A run of a L{PureBatch}."""

    __slots__ = ("_path", "_pieces", "_size", "_total")

    def __init__(self, data: bytes, size: int, path: tuple[Address, int, bytes]) -> None:
        self._pieces = [data]
        self._size = size
        self._total = len(data)
        self._path = path

    def takes(self, data: bytes, size: int) -> bool:
        """Whether it could be appended."""
        length, own = len(data), self._size
        whole = length and self._total and self._total % own == 0
        fits = size == own or (length <= size and length < own)
        if not whole or not fits or self._total + length > LONGEST_DATAGRAM:
            return False
        self._pieces.append(data)
        self._total += length
        return True

    def arrival(self) -> Arrival:
        """What has been gathered."""
        address, hops, local = self._path
        return b"".join(self._pieces), self._size, address, hops, local


TRUNCATED: Final = int(socket.MSG_TRUNC)
"""As a plain number: the enumeration's own C{&} costs more than a small datagram."""

CONTROL_ROOM: Final = 128
"""Bytes for the control messages of one arrival."""

_INT: Final = struct.Struct("=i")
_SOL_IP: Final = 0
_SOL_IPV6: Final = 41
_IP_TTL: Final = 2
_IP_PKTINFO: Final = 8
_IPV6_PKTINFO: Final = 50
_IPV6_HOPLIMIT: Final = 52
_PKTINFO_BYTES: Final = 12


def readControls(ancillary: list[tuple[int, int, bytes]], length: int) -> tuple[int, int, bytes]:
    """
    What the control messages of an arrival of C{length} bytes say.

    @return: size, hops and local as in an L{Arrival}.
    """
    size, hops, local = length, -1, b""
    for level, kind, data in ancillary:
        if level == SOL_UDP and kind == UDP_GRO:
            size = max(_INT.unpack_from(data)[0], 0) or length
        elif (level, kind) in ((_SOL_IP, _IP_TTL), (_SOL_IPV6, _IPV6_HOPLIMIT)):
            hops = _INT.unpack_from(data)[0]
        elif level == _SOL_IP and kind == _IP_PKTINFO:
            # in_pktinfo: index, the address to answer from, the one in the header.
            local = bytes(4) + data[4:8] + bytes(4)
        elif level == _SOL_IPV6 and kind == _IPV6_PKTINFO and data[0] != 0xFF:
            linkLocal = data[0] == 0xFE and data[1] & 0xC0 == 0x80
            local = data if linkLocal else data[:16] + bytes(4)
    return size, hops, local


def sourceControl(source: bytes) -> tuple[int, int]:
    """Level and type of the control message that has datagrams sent from C{source}."""
    if len(source) == _PKTINFO_BYTES:
        return _SOL_IP, _IP_PKTINFO
    return _SOL_IPV6, _IPV6_PKTINFO


def batchOf(sock: socket.socket) -> Batch | None:
    """For a socket of the internet's families; None where there are no such calls."""
    if kernels.send_batch is None or kernels.receive_batch is None:
        return None
    return Batch(sock, kernels.send_batch, kernels.receive_batch)
