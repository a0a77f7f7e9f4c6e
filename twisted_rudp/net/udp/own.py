"""
A datagram port with a descriptor of its own (UDP-9): runs leave and arrive in one
system call where the kernel can do that, and ICMP errors are heard.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IReactorTime,
    IReadDescriptor,
    IWriteDescriptor,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.core.engine import Address, Buffer
from twisted_rudp.net.addresses import toTwisted
from twisted_rudp.net.udp import options as socketOptions
from twisted_rudp.net.udp.errors import REPORTED, drain, failedAs
from twisted_rudp.net.udp.options import SOL_UDP, UDP_SEGMENT
from twisted_rudp.net.udp.port import (
    LONGEST_DATAGRAM,
    LONGEST_RUN,
    IDescriptorReactor,
    PortFacts,
    PortKind,
    Receiver,
    SocketOptions,
)
from twisted_rudp.net.udp.receive import DATAGRAMS, Batch, HopFilter, Joiner
from twisted_rudp.net.udp.sending import FULL, SendingPort
from twisted_rudp.net.udp.whentoread import BusyPoll

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

READ_BYTES = 1 << 20
"""Bytes read in one wake-up (FLOW-11)."""

READ_CALLS = 512
"""System calls for reading in one wake-up: tiny datagrams must not hold the reactor."""

SHORT = 16384
"""A read of fewer bytes may have been all there was."""

TRUST = 8
"""Wake-ups in a row that may end after one short read without looking for more."""

_BROKEN = (errno.EBADF, errno.ENOTSOCK)

_INT_ROOM = 32
"""C{CMSG_SPACE} of an int, at most 24 bytes."""

_TRUNCATED = int(socket.MSG_TRUNC)
"""As a plain number: the enumeration's own C{&} costs more than a small datagram."""

_INT = struct.Struct("=i")
"""
What comes along: the segment size of a joined run, or the hop limit. A socket is asked
for one of them at most.
"""

FALLBACK_SECONDS = 10.0
"""Seconds. The route may change; a failed call in so long a time costs nothing."""

FALLBACK_LIMIT = 1024
"""Entries; the oldest goes first."""


class FallbackCache:
    """
    Pairs of address and datagram size for which runs must leave one by one, for a
    while.

    @ivar table: the entries with their ends, oldest first. Public because to find it
        empty is all that the fast path does.
    """

    __slots__ = ("_clock", "table")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.table: dict[tuple[Address, int], float] = {}

    def add(self, address: Address, size: int) -> None:
        """Remember a refusal from now on."""
        self.table.pop((address, size), None)
        if len(self.table) >= FALLBACK_LIMIT:
            del self.table[next(iter(self.table))]
        self.table[address, size] = self._clock.seconds() + FALLBACK_SECONDS

    def holds(self, address: Address, size: int) -> bool:
        """Whether a refusal is still remembered."""
        now = self._clock.seconds()
        table = self.table
        while table:
            oldest = next(iter(table))
            if table[oldest] > now:
                break
            del table[oldest]
        return (address, size) in table


@implementer(IReadDescriptor, IWriteDescriptor, IHalfCloseableDescriptor)
class OwnPort(SendingPort):
    """The kinds C{gso} and C{plain}; see L{DatagramPort}."""

    _log = Logger()

    def __init__(
        self,
        reactor: IDescriptorReactor,
        receiver: Receiver,
        sock: socket.socket,
        options: SocketOptions,
        gso: bool = False,
        gro: bool = False,
        batch: Batch | None = None,
        ready: Callable[[int], object] | None = None,
    ) -> None:
        """
        @param sock: bound and non-blocking; the port owns it from here on.
        @param gso: the socket cuts runs.
        @param gro: the socket joins what arrives.
        @param batch: sends and receives many datagrams in one call, where the socket
            does not do that itself.
        @param ready: tells whether the socket can be read, see L{readiness
            <twisted_rudp.net.udp.whentoread.readiness>}; without it nothing is polled.
        """
        super().__init__(reactor, receiver)
        self._reactor = reactor
        self._socket = sock
        self._gso = gso
        self._batch = batch
        self._hearsErrors = socketOptions.reportErrors(sock)
        self._fallbacks = FallbackCache(reactor)
        self._ancillaries: dict[int, list[tuple[int, int, bytes]]] = {}
        joiner = Joiner(receiver, self.counters)
        self._joiner: Joiner | HopFilter = joiner
        self._alone: Joiner | None = joiner
        if options.arrivalHops is not None:
            self._joiner = HopFilter(joiner, self.counters, options.arrivalHops)
            self._alone = None
        self._room = _INT_ROOM if gro or options.arrivalHops is not None else 0
        self._trusting = 0
        self._polling = BusyPoll(ready, self.counters) if ready is not None else None
        self._host = toTwisted(sock.getsockname())
        self._logPrefix = f"UDP port {self._host.port}"
        kind = PortKind.GSO if gso or gro else PortKind.PLAIN
        self.options = options
        self._facts = socketOptions.readFacts(sock, options, kind, gso, gro)._replace(
            batches=batch is not None
        )

    def startReading(self) -> None:
        """Begin to receive."""
        self._reactor.addReader(self)

    # the owner's side

    def getHost(self) -> IPv4Address | IPv6Address:
        """See L{DatagramPort.getHost}."""
        return self._host

    def joinGroup(self, group: str, interface: int) -> None:
        """See L{DatagramPort.joinGroup}."""
        socketOptions.joinGroup(self._socket, group, interface)

    def leaveGroup(self, group: str, interface: int) -> None:
        """See L{DatagramPort.leaveGroup}."""
        socketOptions.leaveGroup(self._socket, group, interface)

    def facts(self) -> PortFacts:
        """See L{DatagramPort.facts}."""
        return self._facts._replace(gso=self._gso)

    def reconfigure(self, options: SocketOptions) -> None:
        """See L{DatagramPort.reconfigure}."""
        if self.closed:
            return
        socketOptions.configure(self._socket, options)
        self.options = options
        facts = self._facts
        self._facts = socketOptions.readFacts(
            self._socket, options, facts.kind, facts.gso, facts.gro
        )._replace(batches=facts.batches)

    def stopListening(self) -> Deferred[None]:
        """See L{DatagramPort.stopListening}. The socket is closed on return."""
        self._close()
        return self._stopped

    def _close(self) -> None:
        if self.closed:
            return
        self._endSending()
        self._joiner.close()
        # While fileno() still tells the reactor which descriptor is meant.
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self._socket.close()
        self._stopped.callback(None)

    # the reactor's side

    def fileno(self) -> int:
        """The descriptor, -1 after closing (UDP-16)."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """Whose turn it is, for the log."""
        return self._logPrefix

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gives the descriptor up: it shuts down (PORT-5), or the descriptor broke."""
        if self.closed:
            return
        self._close()
        self._receiver.portLost(reason)

    def readConnectionLost(self, reason: Failure) -> None:
        """An error event without data, upon which the reactor has stopped reading (UDP-12)."""
        if self.closed:
            return
        self._takeErrors()
        # An error for whose entry there was no memory is only here.
        self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._reactor.addReader(self)

    def writeConnectionLost(self, reason: Failure) -> None:
        """Does not happen to a datagram socket."""

    def _awaitWritable(self) -> None:
        self._reactor.addWriter(self)

    def doWrite(self) -> None:
        """There is room for what was held back."""
        self._reactor.removeWriter(self)
        self._sendHeld()

    def doRead(self) -> None:
        """
        Have a turn, and more while something comes soon enough. Nothing the network
        does makes this raise, for that would close the port (UDP-11).
        """
        if self._turn() and self._polling is not None:
            self._polling.episode(self._turn)

    def _turn(self) -> bool:
        """
        @return: the port is still open.
        """
        if self._batch is None or self._room:
            self._readRuns()
        else:
            self._readBatches(self._batch)
        return not self.closed

    def _readRuns(self) -> None:
        """
        Read what is waiting, as much as one turn may.

        A wake-up that is likely to hold one short datagram or run ends after it: the
        call that finds nothing more costs as much as the one that found it. Every so
        often it looks all the same.
        """
        counters = self.counters
        runs = counters.runsIn
        joiner = self._joiner
        receive = self._socket.recvmsg
        room = self._room
        left = READ_BYTES
        calls = 0
        while left > 0 and calls < READ_CALLS and not self.closed:
            try:
                data, ancillary, flags, address = receive(LONGEST_DATAGRAM, room)
            except BlockingIOError:
                if not calls:
                    # Select and asyncio reactors report errors as readiness.
                    self._takeErrors()
                self._trusting = TRUST if calls == 1 else 0
                break
            except OSError as problem:
                self._readFailed(problem)
                calls += 1
                continue
            calls += 1
            length = len(data)
            left -= length
            if flags & _TRUNCATED:
                counters.truncated += 1
            elif ancillary:
                joiner.addRun(data, _INT.unpack(ancillary[0][2])[0], address)
            elif calls == 1 and self._trusting and self._alone is not None and length:
                # What most exchanges of small pieces are: nothing to be joined.
                self._alone.addRun(data, length, address)
            else:
                joiner.add(data, address)
            if calls == 1 and length < SHORT and self._trusting:
                self._trusting -= 1
                break
        joiner.flush()
        if counters.runsIn != runs and not self.closed:
            self._receiver.turnEnded()

    def _readBatches(self, batch: Batch) -> None:
        """
        L{_readRuns} where one call brings many datagrams, and tells by their number
        whether there are more.
        """
        counters = self.counters
        before = counters.runsIn
        left = READ_BYTES
        for call in range(READ_CALLS // DATAGRAMS):
            try:
                runs, more = batch.receive()
            except BlockingIOError:
                if not call:
                    self._takeErrors()
                break
            except OSError as problem:
                self._readFailed(problem)
                if self.closed:
                    break
                continue
            for run, size, address in runs:
                left -= len(run)
                if size:
                    self._joiner.addRun(run, size, address)
                else:
                    counters.empty += 1
            if not more or left <= 0 or self.closed:
                break
        if counters.runsIn != before and not self.closed:
            self._receiver.turnEnded()

    def _readFailed(self, problem: OSError) -> None:
        if problem.errno in _BROKEN:
            self.connectionLost(Failure(problem))  # type: ignore[no-untyped-call]
        else:
            self._takeErrors()

    # out

    def send(self, run: Buffer, size: int, address: Address) -> bool:
        """See L{DatagramPort.send}. A datagram that leaves at once takes one call."""
        length = len(run)
        if length > size or self._held.runs or self.closed:
            return super().send(run, size, address)
        try:
            self._socket.sendto(run, address)
        except OSError as problem:
            taken = self._recover(run, size, address, problem.errno)
            return self._taken(taken, run, size, address)
        counters = self.counters
        counters.runsOut += 1
        counters.datagramsOut += 1
        counters.bytesOut += length
        return True

    def _transmit(self, run: Buffer, size: int, address: Address) -> int:
        length = len(run)
        if length > size and (
            not self._gso
            or length > LONGEST_RUN
            or length > SEGMENTS * size
            or (self._fallbacks.table and self._fallbacks.holds(address, size))
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
        if self._gso and not self._fallbacks.holds(address, size):
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
        datagram, perhaps to another peer (see L{drain}). So an error is believed only
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
                self._fallbacks.add(address, size)
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
