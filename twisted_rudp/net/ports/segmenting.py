"""
The way out through a socket of our own: whole runs to the kernel where it cuts them,
and what its errors mean.
"""

from __future__ import annotations

import errno
import socket
import struct
from abc import abstractmethod

from twisted.logger import Logger

from twisted_rudp.core.engine import Address, Buffer
from twisted_rudp.net.ports.batching import Batch
from twisted_rudp.net.ports.contract import (
    LONGEST_RUN,
    IDescriptorReactor,
    Receiver,
)
from twisted_rudp.net.ports.errorqueue import drain
from twisted_rudp.net.ports.patherrors import REPORTED, failedAs
from twisted_rudp.net.ports.refusals import Refusals
from twisted_rudp.net.ports.sending import FULL, SendingPort
from twisted_rudp.net.ports.sockets import SOL_UDP, UDP_SEGMENT, reportErrors

SEGMENTS = 64
"""Datagrams in one system call; newer kernels take 128 (UDP-14)."""

_NO_GSO = (errno.ENOPROTOOPT, errno.EOPNOTSUPP)
"""This socket cannot cut runs at all."""

_NOT_THERE = (errno.EMSGSIZE, errno.EINVAL, errno.EIO)
"""
It cannot towards this address, or not at this size: a narrower link, or a device that
computes no checksums.
"""

_ATTEMPTS = 3
"""Calls that may fail on errors which other datagrams have caused."""

_SIZE = struct.Struct("=H")

_ANCILLARIES = 256
"""Control messages kept ready, one for each datagram size in use."""


class SegmentingPort(SendingPort):
    """Sends through a socket; the reactor tells when it is writable."""

    _log = Logger()

    def __init__(
        self,
        reactor: IDescriptorReactor,
        receiver: Receiver,
        sock: socket.socket,
        gso: bool,
        batch: Batch | None = None,
    ) -> None:
        """
        @param gso: let the kernel cut runs.
        @param batch: sends what the kernel does not cut.
        """
        super().__init__(reactor, receiver)
        self._reactor = reactor
        self._socket = sock
        self._gso = gso
        self._batch = batch
        self._hearsErrors = reportErrors(sock)
        self._refusals = Refusals(reactor)
        self._ancillaries: dict[int, list[tuple[int, int, bytes]]] = {}

    @abstractmethod
    def _awaitWritable(self) -> None:
        """Have C{_sendHeld} called when the socket takes more."""

    def _transmit(self, run: Buffer, size: int, address: Address) -> int:
        length = len(run)
        if length > size and (
            not self._gso
            or length > LONGEST_RUN
            or length > SEGMENTS * size
            or (self._refusals.table and self._refusals.holds(address, size))
        ):
            return self._inPieces(run, size, address)
        try:
            if length <= size:
                self._socket.sendto(run, address)
            else:
                ancillary = self._ancillaries.get(size) or self._ancillaryFor(size)
                self._socket.sendmsg((run,), ancillary, 0, address)
        except OSError as problem:
            return self._recover(run, size, address, problem.errno)
        counters = self.counters
        counters.runsOut += 1
        counters.datagramsOut += -(-length // size)
        counters.bytesOut += length
        return length

    def _inPieces(self, run: Buffer, size: int, address: Address) -> int:
        """A run that is too long for one system call, or may not be cut by the kernel."""
        if self._gso and not self._refusals.holds(address, size):
            step = size * max(1, min(SEGMENTS, LONGEST_RUN // size))
        else:
            step = size
        view = memoryview(run)
        start = 0
        while start < len(run):
            if step == size and self._batch is not None:
                start += self._sendBatch(self._batch, view[start:], size, address)
            piece = view[start : start + step]
            taken = self._transmit(piece, size, address) if piece else 0
            start += taken
            if taken < len(piece):
                break
        return start

    def _sendBatch(self, batch: Batch, run: Buffer, size: int, address: Address) -> int:
        """
        Send what leaves without an error. The datagram that does not is then sent
        alone: L{_recover} has to know it.

        @return: bytes of whole datagrams.
        """
        try:
            taken = batch.send(run, size, address)
        except OSError:
            return 0
        self._sent(taken, size)
        return taken

    def _call(self, piece: Buffer, size: int, address: Address) -> None:
        """The system call again: one datagram, or as many as the kernel may cut."""
        if len(piece) <= size:
            self._socket.sendto(piece, address)
            return
        ancillary = self._ancillaries.get(size) or self._ancillaryFor(size)
        self._socket.sendmsg((piece,), ancillary, 0, address)

    def _ancillaryFor(self, size: int) -> list[tuple[int, int, bytes]]:
        if len(self._ancillaries) >= _ANCILLARIES:
            self._ancillaries.clear()
        ancillary = [(SOL_UDP, UDP_SEGMENT, _SIZE.pack(size))]
        self._ancillaries[size] = ancillary
        return ancillary

    def _recover(self, piece: Buffer, size: int, address: Address, code: int | None) -> int:
        """
        A call failed. Full is full; but any other error may be the echo of another
        datagram, perhaps to another peer (L{errorqueue}). So an error is believed only
        if the call fails again with nothing new in the queue: no unknown peer's ICMP
        message ends somebody else's session or switches off what serves all.

        @return: as L{_transmit}.
        """
        if code not in FULL:
            self._takeErrors()
            for _ in range(_ATTEMPTS):
                try:
                    self._call(piece, size, address)
                except OSError as problem:
                    code = problem.errno
                else:
                    self._sent(len(piece), size)
                    return len(piece)
                if code in FULL:
                    break
                if not self._takeErrors():
                    return self._believe(piece, size, address, code)
            else:
                self._refused(None, piece, size, address)
                return len(piece)
        if code in (errno.EAGAIN, errno.EWOULDBLOCK):
            self._awaitWritable()
        else:
            # A queue of the device is full while the socket has room and so is always
            # writable: waiting for that would be a busy loop.
            self._retrySoon()
        return 0

    def _believe(self, piece: Buffer, size: int, address: Address, code: int | None) -> int:
        """
        The error is this piece's own.

        @return: as L{_transmit}.
        """
        if len(piece) > size and code in (*_NO_GSO, *_NOT_THERE):
            self.counters.gsoRefused += 1
            if code in _NO_GSO:
                self._gso = False
                self._log.info("no segmentation offload on this socket: {errno}", errno=code)
            else:
                self._refusals.add(address, size)
            return self._inPieces(piece, size, address)
        self._refused(failedAs(code), piece, size, address)
        return len(piece)

    def _takeErrors(self) -> bool:
        """
        Empty the error queue and note what it says.

        @return: whether the network had reported anything.
        """
        if not self._hearsErrors:
            return False
        heard = False
        for error in drain(self._socket):
            if error is None:
                continue
            heard = True
            self.counters.icmp += 1
            self._log.debug("{offender} reports error {errno} for {destination}", **error._asdict())
            kind = REPORTED.get(error.errno)
            if kind is not None:
                self._pathErrors.note(kind, 0, error.destination)
        return heard
