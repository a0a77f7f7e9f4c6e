"""
A socket changes its owner while sessions are open on it.

The first owner goes on reading the socket until its last session has ended, because only it
can tell which datagrams are of its sessions: by connection id, after decryption, wherever
their peers are by now. Everything else it passes on to a L{Successor}, which sends on the
same socket. In one process that is another listening port; in another process it is at the
other end of a UNIX socket (L{twisted_rudp.net.passing}). Then the successor reads the socket
itself. Nothing is lost in between: the socket and its queue stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from twisted_rudp.core.engine import Address, Buffer, PathError
from twisted_rudp.net.hub import Hub
from twisted_rudp.net.udp.port import (
    DatagramPort,
    PortCounters,
    PortFacts,
    Receiver,
    SocketOptions,
    descriptorOf,
)
from twisted_rudp.net.udp.reactors import IPortReactor
from twisted_rudp.net.udp.sourcefilter import Thinning

OPENINGS: Final = 3.0
"""Seconds for which openings that the first owner has answered may still become sessions."""

LOOK: Final = 0.25
"""Seconds between two looks whether the first owner is done."""


class Successor(Protocol):
    """Who gets what is of no session of the first owner. None of these may raise."""

    def runPassedOn(self, run: bytes, size: int, address: Address, local: bytes) -> None:
        """
        As L{Receiver.runReceived}.

        @param local: see L{Receiver.calledAt}.
        """

    def turnEnded(self) -> None:
        """Nothing more is passed on in this turn."""

    def portWritable(self) -> None:
        """See L{Receiver.portWritable}."""

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        """See L{Receiver.pathError}."""

    def released(self, port: DatagramPort) -> Deferred[None]:
        """
        The first owner reads the socket no more.

        @return: when it need not be held any longer.
        """

    def portLost(self, failure: Failure) -> None:
        """The socket is gone."""


class Nobody:
    """The successor of a socket that is to be closed: what is not of a session is dropped."""

    def runPassedOn(self, run: bytes, size: int, address: Address, local: bytes) -> None:
        """Dropped."""

    def turnEnded(self) -> None:
        """Nothing to be done."""

    def portWritable(self) -> None:
        """Nothing to be done."""

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        """Nothing to be done."""

    def released(self, port: DatagramPort) -> Deferred[None]:
        """Close it."""
        return port.stopListening()

    def portLost(self, failure: Failure) -> None:
        """Nothing to be done."""


class Predecessor(Protocol):
    """Whom a listening port takes its socket from instead of binding one."""

    def open(
        self,
        reactor: IPortReactor,
        receiver: Receiver,
        successor: Successor,
        kind: str,
        options: SocketOptions,
    ) -> DatagramPort:
        """
        A port to send on. Until C{successor.released} is called the predecessor reads the
        socket, and passes on.

        @param receiver: of what the port itself reads later.
        @raise CannotListenError: there is no such socket any more.
        """


class Divider:
    """
    The receiver of a socket with two owners.

    @ivar successor: has all that is not the hub's.
    """

    def __init__(self, hub: Hub, successor: Successor) -> None:
        self.successor = successor
        self._hub = hub
        self._local = b""
        self._passed = False

    def runReceived(self, run: Buffer, size: int, address: Address) -> None:
        """Cut a run where the owner changes."""
        hub = self._hub
        if hub.closed:
            self._passOn(run, size, address)
            return
        if hub.ownsAll(run, size, address):
            hub.runReceived(run, size, address)
            return
        view = memoryview(run)
        start = 0
        ours = hub.owns(view[:size], address)
        for at in range(size, len(view), size):
            if hub.owns(view[at : at + size], address) is not ours:
                self._give(ours, view[start:at], size, address)
                start = at
                ours = not ours
        self._give(ours, view[start:], size, address)

    def _give(self, ours: bool, run: Buffer, size: int, address: Address) -> None:
        if ours:
            self._hub.runReceived(bytes(run), size, address)
        else:
            self._passOn(run, size, address)

    def _passOn(self, run: Buffer, size: int, address: Address) -> None:
        self._passed = True
        self.successor.runPassedOn(bytes(run), size, address, self._local)

    def calledAt(self, local: bytes) -> None:
        """See L{Receiver.calledAt}."""
        self._local = local
        self._hub.calledAt(local)

    def turnEnded(self) -> None:
        """See L{Receiver.turnEnded}."""
        self._hub.turnEnded()
        if self._passed:
            self._passed = False
            self.successor.turnEnded()

    def patience(self) -> int:
        """Nobody waits for what is passed on."""
        return 0

    def portWritable(self) -> None:
        """See L{Receiver.portWritable}."""
        self._hub.portWritable()
        self.successor.portWritable()

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        """Both may have sessions with this address."""
        self._hub.pathError(kind, size, address)
        self.successor.pathError(kind, size, address)
        self._passed = True

    def portLost(self, failure: Failure) -> None:
        """See L{Receiver.portLost}."""
        self._hub.portLost(failure)
        self.successor.portLost(failure)


class SharedPort:
    """The successor's view of a port that the first owner still reads, in the same process."""

    def __init__(self, port: DatagramPort, addresses: Callable[[], Sequence[Address]]) -> None:
        """
        @param addresses: where the peers of the first owner's sessions are.
        """
        self._port = port
        self._addresses = addresses
        self._thins = False
        self.sendFrom = b""

    @property
    def counters(self) -> PortCounters:
        """Those of the port, which count for both."""
        return self._port.counters

    @property
    def closed(self) -> bool:
        """See L{DatagramPort.closed}."""
        return self._port.closed

    @property
    def options(self) -> SocketOptions:
        """See L{DatagramPort.options}."""
        return self._port.options

    def send(self, run: Buffer, size: int, address: Address) -> bool:
        """The first owner relies on its own C{sendFrom}, so that is restored."""
        port = self._port
        before = port.sendFrom
        port.sendFrom = self.sendFrom
        try:
            return port.send(run, size, address)
        finally:
            port.sendFrom = before

    def fileno(self) -> int:
        """See L{descriptorOf}."""
        return descriptorOf(self._port)

    def startReading(self) -> None:
        """The first owner reads."""

    def thin(self, thinning: Thinning | None) -> bool:
        """As L{DatagramPort.thin}; what is from peers of the first owner is let through, too."""
        if thinning is not None:
            known = (*thinning.known, *self._addresses())
            thinning = Thinning(thinning.salt, known, thinning.shares)
        elif not self._thins:
            return True
        self._thins = thinning is not None
        return self._port.thin(thinning)

    def kernelDrops(self) -> int:
        """See L{DatagramPort.kernelDrops}."""
        return self._port.kernelDrops()

    def receiveBy(self, receiver: Receiver) -> None:
        """The first owner divides what comes."""

    def readPending(self) -> None:
        """See L{DatagramPort.readPending}."""
        self._port.readPending()

    def joinGroup(self, group: str, interface: int) -> None:
        """See L{DatagramPort.joinGroup}."""
        self._port.joinGroup(group, interface)

    def leaveGroup(self, group: str, interface: int) -> None:
        """See L{DatagramPort.leaveGroup}."""
        self._port.leaveGroup(group, interface)

    def getHost(self) -> IPv4Address | IPv6Address:
        """See L{DatagramPort.getHost}."""
        return self._port.getHost()

    def stopListening(self) -> Deferred[None]:
        """The first owner's sessions still need the socket."""
        self.thin(None)
        return succeed(None)

    def facts(self) -> PortFacts:
        """See L{DatagramPort.facts}."""
        return self._port.facts()

    def reconfigure(self, options: SocketOptions) -> None:
        """See L{DatagramPort.reconfigure}."""
        self._port.reconfigure(options)
