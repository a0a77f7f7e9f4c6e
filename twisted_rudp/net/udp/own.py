"""
A datagram port with a descriptor of its own (UDP-9): runs leave and arrive in one
system call where the kernel can do that, and ICMP errors are heard.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IReactorTime,
    IReadDescriptor,
    IWriteDescriptor,
)
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import classImplements

from twisted_rudp.core.engine import Address, Buffer
from twisted_rudp.net.addresses import toTwisted
from twisted_rudp.net.monotonic import MonotonicTimer
from twisted_rudp.net.ratelog import RateLimitedLog
from twisted_rudp.net.udp import options as socketOptions
from twisted_rudp.net.udp import sourcefilter
from twisted_rudp.net.udp.errors import REPORTED, drain, failedAs
from twisted_rudp.net.udp.options import SOL_UDP, UDP_SEGMENT
from twisted_rudp.net.udp.port import (
    LONGEST_DATAGRAM,
    LONGEST_RUN,
    PortFacts,
    PortKind,
    Receiver,
    SocketOptions,
)
from twisted_rudp.net.udp.reactors import IDescriptorReactor
from twisted_rudp.net.udp.receive import (
    CONTROL_ROOM,
    DATAGRAMS,
    TRUNCATED,
    Batch,
    PureBatch,
    readControls,
    sourceControl,
)
from twisted_rudp.net.udp.sending import FULL, SendingPort
from twisted_rudp.net.udp.sourcefilter import Thinning
from twisted_rudp.net.udp.whentoread import SHORTEST_WAIT, WhenToRead

SEGMENTS: Final = 64
"""Datagrams in one system call; newer kernels take 128 (UDP-14)."""

_NO_GSO: Final = (errno.ENOPROTOOPT, errno.EOPNOTSUPP)
"""This socket cannot cut runs at all."""

_NOT_THERE: Final = (errno.EMSGSIZE, errno.EINVAL, errno.EIO)
"""
It cannot towards this address, or not at this size: a narrower link, or a device that
computes no checksums.
"""

_ATTEMPTS: Final = 3
"""Calls that may fail on errors which other datagrams have caused."""

_SIZE: Final = struct.Struct("=H")

_ANCILLARIES: Final = 256
"""Control messages kept ready, one for each datagram size in use."""

READ_BYTES: Final = 1 << 20
"""Bytes read in one wake-up (FLOW-11)."""

READ_CALLS: Final = 512
"""System calls for reading in one wake-up: tiny datagrams must not hold the reactor."""

READ_TIME: Final = 2_000_000
"""Nanoseconds of reading in one wake-up, after which the rest waits for the next."""

SHORT: Final = 16384
"""A read of fewer bytes may have been all there was."""

SMALL: Final = 4096
"""Where reads bring fewer bytes, many at a time cost less; a run that the kernel has joined
would be copied once more."""

KERNEL_BYTES: Final = 2304
"""What the kernel charges the receive buffer for a datagram of an ordinary link."""

TRUST: Final = 8
"""Wake-ups in a row that may end after one short read without looking for more."""

LOOKS: Final = 4
"""
Looks in vain, after a short read, for each that found something or would have. A datagram from
far away that comes right behind another costs a turn of its own if it is left, which takes
ten times as long as a look.
"""

MOST_LOOKS: Final = 16

BEHIND: Final = 0.001
"""Seconds. What wakes a port so soon after a read might have been read with it."""

_BROKEN: Final = (errno.EBADF, errno.ENOTSOCK)

FALLBACK_SECONDS: Final = 10.0
"""Seconds. The route may change; a failed call in so long a time costs nothing."""

FALLBACK_LIMIT: Final = 1024
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


class OwnPort(SendingPort):
    """
    The kinds C{gso} and C{plain}; see L{DatagramPort}.

    @ivar others: where the peers of another owner's sessions are, as long as that reads the
        socket; None: not known.
    """

    _log: ClassVar[Logger] = Logger()

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
        local: bool = False,
    ) -> None:
        """
        @param sock: bound and non-blocking; the port owns it from here on.
        @param gso: the socket cuts runs.
        @param gro: the socket joins what arrives.
        @param batch: sends and receives many datagrams in one call.
        @param local: the socket tells where each datagram was sent to.
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
        self._rateLog = RateLimitedLog(reactor, self._log)
        self._ancillaries: dict[tuple[int, bytes], list[tuple[int, int, bytes]]] = {}
        self._gro = gro
        self._hops = options.arrivalHops
        self._gather: Batch | PureBatch = batch or PureBatch(sock)
        # Lone reads are for sockets that join themselves, and where a gathering read
        # takes a call for each datagram anyway.
        self._lone = gro or batch is None
        self._numerous = not self._lone
        self._room = CONTROL_ROOM if gro or local or self._hops is not None else 0
        self._trusting = 0
        self._looks = 0
        self._leftAt = 0.0
        self._calledAt = b""
        self._resting = False
        self._reads = False
        self.others: Sequence[Address] | None = None
        self._rest = MonotonicTimer(reactor, self._rested)
        self._whenToRead = WhenToRead(ready, self.counters)
        self._host = toTwisted(sock.getsockname())
        self._logPrefix = f"UDP port {self._host.port}"
        kind = PortKind.GSO if gso or gro else PortKind.PLAIN
        self.options = options
        self._facts = socketOptions.readFacts(sock, options, kind, gso, gro)._replace(
            batches=batch is not None
        )
        self._setPatience()

    def startReading(self) -> None:
        """Begin to receive."""
        self._reads = True
        self.others = None
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

    def thin(self, thinning: Thinning | None) -> bool:
        """See L{DatagramPort.thin}."""
        if thinning is not None:
            if not self._reads:
                # Another owner that reads the socket has sessions of its own.
                if self.others is None:
                    return False
                thinning = thinning._replace(known=(*thinning.known, *self.others))
            return not self.closed and sourcefilter.attach(self._socket, thinning)
        sourcefilter.detach(self._socket)
        return True

    def kernelDrops(self) -> int:
        """See L{DatagramPort.kernelDrops}."""
        return sourcefilter.kernelDrops(self._socket)

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
        self._setPatience()

    def _setPatience(self) -> None:
        """No more may gather than the receive buffer holds with ease."""
        granted = self._facts.receiveBuffer or 0
        self._whenToRead.most = max(granted // (2 * KERNEL_BYTES), 1)

    def stopListening(self) -> Deferred[None]:
        """See L{DatagramPort.stopListening}. The socket is closed on return."""
        self._close()
        return self._stopped

    def _close(self) -> None:
        if self.closed:
            return
        self._endSending()
        self._rest.close()
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
        if self._reads and not self._resting:
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
        Have a turn, then look for more, go to sleep, or leave the socket alone for a
        moment. Nothing the network does makes this raise, for that would close the port
        (UDP-11).
        """
        counters, receiver, whenToRead = self.counters, self._receiver, self._whenToRead
        if self._leftAt:
            if self._reactor.seconds() - self._leftAt < BEHIND:
                self._looks = min(self._looks + LOOKS, MOST_LOOKS)
            self._leftAt = 0.0
        while True:
            before = counters.datagramsIn
            more = self._read()
            if self.closed or more:
                return
            datagrams = counters.datagramsIn - before
            patience = receiver.patience() if datagrams else -1
            if not whenToRead.arrives(patience):
                break
        if patience < SHORTEST_WAIT:
            # What comes soon is the answer of a near peer.
            self._leftAt, self._looks = 0.0, 0
            return
        if self._resting:
            return
        wait = whenToRead.wait(datagrams, patience)
        if wait:
            self._resting = True
            self._reactor.removeReader(self)
            self._rest.start(wait)

    def _rested(self) -> None:
        """What has gathered meanwhile is read in one turn."""
        self._numerous = True
        counters = self.counters
        before = counters.datagramsIn
        more = self._read()
        if self.closed:
            return
        wait = 0
        if not more:
            datagrams = counters.datagramsIn - before
            wait = self._whenToRead.wait(datagrams, self._receiver.patience())
        if wait:
            self._rest.start(wait)
        else:
            self._resting = False
            self._reactor.addReader(self)

    def readPending(self) -> None:
        """See L{DatagramPort.readPending}."""
        if self._resting:
            self._read()

    def _read(self) -> bool:
        """
        Read what is waiting, as much as one turn may.

        A wake-up that is likely to hold one short datagram or run ends after it: the
        call that finds nothing more costs as much as the one that found it. Every so
        often it looks all the same, and for a while where that turns out to pay. Where
        several short ones came together, the next are read many at a time.

        @return: the turn was over before the socket was empty. To wait for more to gather
            would let what is there wait without need.
        """
        counters = self.counters
        runs = counters.runsIn
        more = False
        left, calls = READ_BYTES, 0
        numerous = self._numerous
        end = 0
        while left > 0 and calls < READ_CALLS and not self.closed:
            try:
                if numerous:
                    arrivals, count, truncated = self._gather.receive()
                    counters.truncated += truncated
                else:
                    data, ancillary, flags, address = self._socket.recvmsg(
                        LONGEST_DATAGRAM, self._room
                    )
            except BlockingIOError:
                if not calls:
                    # Select and asyncio reactors report errors as readiness.
                    self._takeErrors()
                    self._readAgain()
                elif calls == 1 and not self._numerous:
                    self._trusting = TRUST
                    self._looks = max(self._looks - 1, 0)
                break
            except OSError as problem:
                calls += 1
                self._readFailed(problem)
                continue
            if numerous:
                calls += DATAGRAMS
                before = left
                for arrival in arrivals:
                    left -= len(arrival[0])
                    self._deliver(*arrival)
                if self._lone:
                    self._numerous = numerous = count > 1 and before - left < count * SMALL
                if count < DATAGRAMS:
                    break
                now = self._whenToRead.clock()
                end = end or now + READ_TIME
                if now > end:
                    more = True
                    break
                continue
            calls += 1
            length = len(data)
            left -= length
            if flags & TRUNCATED:
                counters.truncated += 1
            elif ancillary:
                size, hops, local = readControls(ancillary, length)
                self._deliver(data, size, address, hops, local)
            else:
                self._deliver(data, length, address, -1, b"")
            if length < SHORT:
                if calls == 1 and self._trusting and not self._looks:
                    self._trusting -= 1
                    self._leftAt = self._reactor.seconds()
                    break
                if calls > 1:
                    self._trusting = 0
                    self._looks = min(self._looks + LOOKS, MOST_LOOKS)
                    numerous = length < SMALL
        more = more or left <= 0 or calls >= READ_CALLS
        if counters.runsIn != runs and not self.closed:
            counters.unfinished += more
            self._receiver.turnEnded()
        return more

    def _deliver(self, run: bytes, size: int, address: Address, hops: int, local: bytes) -> None:
        """Give the receiver a run."""
        counters = self.counters
        if not size:
            counters.empty += 1
        elif self._hops is not None and hops != self._hops:
            counters.far += -(-len(run) // size)
        elif not self.closed:
            length = len(run)
            counters.runsIn += 1
            counters.datagramsIn += -(-length // size)
            counters.bytesIn += length
            if local != self._calledAt:
                self._calledAt = local
                self._receiver.calledAt(local)
            self._receiver.runReceived(run, size, address)

    def _readFailed(self, problem: OSError) -> None:
        if problem.errno in _BROKEN:
            self.connectionLost(Failure(problem))  # type: ignore[no-untyped-call]
        else:
            self._takeErrors()
            self._readAgain()

    def _readAgain(self) -> None:
        """After an error event, which makes the loop of libuv stop watching the socket (F2)."""
        if not self._resting and not self.closed:
            self._reactor.removeReader(self)
            self._reactor.addReader(self)

    # out

    def send(self, run: Buffer, size: int, address: Address) -> bool:
        """See L{DatagramPort.send}. A datagram that leaves at once takes one call."""
        length = len(run)
        if length > size or self.sendFrom or self._held.runs or self.closed:
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
            self._call(run, size, address)
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
            taken = batch.send(run, size, address, self.sendFrom)
        except OSError as problem:
            if problem.errno not in FULL:
                # The call has used up the socket's error; its entry would stay in the queue.
                self._takeErrors()
            return 0
        self._sent(taken, size)
        return taken

    def _call(self, piece: Buffer, size: int, address: Address) -> None:
        """The system call: one datagram, or as many as the kernel may cut."""
        if len(piece) > size:
            key = (size, self.sendFrom)
        elif self.sendFrom:
            key = (0, self.sendFrom)
        else:
            self._socket.sendto(piece, address)
            return
        ancillary = self._ancillaries.get(key) or self._ancillaryFor(*key)
        self._socket.sendmsg((piece,), ancillary, 0, address)

    def _ancillaryFor(self, size: int, source: bytes) -> list[tuple[int, int, bytes]]:
        """
        @param size: of the datagrams to be cut; 0: nothing is.
        @param source: the address to send from, C{b""} for any.
        """
        if len(self._ancillaries) >= _ANCILLARIES:
            self._ancillaries.clear()
        ancillary = [(SOL_UDP, UDP_SEGMENT, _SIZE.pack(size))] if size else []
        if source:
            ancillary.append((*sourceControl(source), source))
        self._ancillaries[size, source] = ancillary
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
        if len(piece) > size and (code in _NO_GSO or code in _NOT_THERE):
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
            self._rateLog.note(
                str(error.errno),
                "{offender} reports error {errno} for {destination}",
                LogLevel.debug,
                **error._asdict(),
            )
            kind = REPORTED.get(error.errno)
            if kind is not None:
                self._pathErrors.note(kind, 0, error.destination)
        if heard:
            self._readAgain()
        return heard


classImplements(OwnPort, IReadDescriptor, IWriteDescriptor, IHalfCloseableDescriptor)
