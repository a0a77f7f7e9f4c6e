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
    IReadDescriptor,
    IWriteDescriptor,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.net.addresses import toTwisted
from twisted_rudp.net.ports import multicast
from twisted_rudp.net.ports.batching import DATAGRAMS, Batch
from twisted_rudp.net.ports.contract import (
    LONGEST_DATAGRAM,
    IDescriptorReactor,
    PortFacts,
    PortKind,
    Receiver,
    SocketOptions,
)
from twisted_rudp.net.ports.hops import HopFilter
from twisted_rudp.net.ports.joining import Joiner
from twisted_rudp.net.ports.polling import BusyPoll
from twisted_rudp.net.ports.segmenting import SegmentingPort
from twisted_rudp.net.ports.sockets import configure, readFacts

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


@implementer(IReadDescriptor, IWriteDescriptor, IHalfCloseableDescriptor)
class DescriptorPort(SegmentingPort):
    """The kinds C{gso} and C{plain}; see L{DatagramPort}."""

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
            <twisted_rudp.net.ports.polling.readiness>}; without it nothing is polled.
        """
        super().__init__(reactor, receiver, sock, gso, batch)
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
        self._facts = readFacts(sock, options, kind, gso, gro)._replace(batches=batch is not None)

    def startReading(self) -> None:
        """Begin to receive."""
        self._reactor.addReader(self)

    # the owner's side

    def getHost(self) -> IPv4Address | IPv6Address:
        """See L{DatagramPort.getHost}."""
        return self._host

    def joinGroup(self, group: str, interface: int) -> None:
        """See L{DatagramPort.joinGroup}."""
        multicast.join(self._socket, group, interface)

    def leaveGroup(self, group: str, interface: int) -> None:
        """See L{DatagramPort.leaveGroup}."""
        multicast.leave(self._socket, group, interface)

    def facts(self) -> PortFacts:
        """See L{DatagramPort.facts}."""
        return self._facts._replace(gso=self._gso)

    def reconfigure(self, options: SocketOptions) -> None:
        """See L{DatagramPort.reconfigure}."""
        if self.closed:
            return
        configure(self._socket, options)
        self.options = options
        facts = self._facts
        self._facts = readFacts(
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
