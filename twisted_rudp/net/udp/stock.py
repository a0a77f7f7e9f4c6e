"""
A datagram port on the reactor's own C{listenUDP}, for reactors that watch no
descriptors and for simulated ones (UDP-10).
"""

from __future__ import annotations

import errno
import socket
from typing import Any, cast

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IMulticastTransport,
    ISystemHandle,
    IUDPTransport,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure

from twisted_rudp.core.engine import Address, Buffer, PathError
from twisted_rudp.net.addresses import fromTwisted, toTwisted
from twisted_rudp.net.udp.errors import failedAs
from twisted_rudp.net.udp.options import configure, readFacts
from twisted_rudp.net.udp.port import (
    LONGEST_DATAGRAM,
    PortFacts,
    PortKind,
    Receiver,
    SocketOptions,
)
from twisted_rudp.net.udp.reactors import IPortReactor
from twisted_rudp.net.udp.receive import Joiner
from twisted_rudp.net.udp.sending import FULL, SendingPort
from twisted_rudp.net.udp.sourcefilter import Thinning


class _Adapter(DatagramProtocol):
    """What Twisted's port sees."""

    noisy = False

    def __init__(self, port: StockPort) -> None:
        self._port = port

    def datagramReceived(self, datagram: bytes, address: Address) -> None:
        self._port._datagramReceived(datagram, address)

    def stopProtocol(self) -> None:
        self._port._stopProtocol()


class StockPort(SendingPort):
    """
    The kind C{stock}; see L{DatagramPort}.

    There is no word of the end of a read turn, so a zero-delay call ends it; none of a
    full socket that has room again, so it is tried after a while; none of ICMP errors
    (UDP-5). IPv6 peers come without their scope (ADDR-3).
    """

    def __init__(
        self,
        reactor: IPortReactor,
        receiver: Receiver,
        interface: str,
        port: int,
        options: SocketOptions,
    ) -> None:
        """
        @raise CannotListenError: as C{listenUDP}.
        """
        super().__init__(reactor, receiver)
        self._joiner = Joiner(receiver, self.counters)
        self._turn: IDelayedCall | None = None
        adapter = _Adapter(self)
        self._port = cast(
            IUDPTransport,
            reactor.listenUDP(port, adapter, interface=interface, maxPacketSize=LONGEST_DATAGRAM),
        )
        self._host = toTwisted(fromTwisted(self._port.getHost()))
        self.options = options
        self._facts = self._setUp(options)

    def startReading(self) -> None:
        """See L{DatagramPort.startReading}. It does from the beginning."""

    def receiveBy(self, receiver: Receiver) -> None:
        """See L{DatagramPort.receiveBy}."""
        super().receiveBy(receiver)
        self._joiner.receiveBy(receiver)

    def reconfigure(self, options: SocketOptions) -> None:
        """See L{DatagramPort.reconfigure}."""
        if self.closed:
            return
        self.options = options
        self._facts = self._setUp(options)

    def _setUp(self, options: SocketOptions) -> PortFacts:
        if options.broadcast:
            self._port.setBroadcastAllowed(True)
        handle = self._port.getHandle() if ISystemHandle.providedBy(self._port) else None
        if isinstance(handle, socket.socket):
            configure(handle, options)
            return readFacts(handle, options, PortKind.STOCK, gso=False, gro=False)
        return PortFacts(
            kind=PortKind.STOCK,
            gso=False,
            gro=False,
            receiveBufferAsked=options.receiveBuffer,
            receiveBuffer=None,
            sendBufferAsked=options.sendBuffer,
            sendBuffer=None,
            dscp=None,
        )

    def getHost(self) -> IPv4Address | IPv6Address:
        """See L{DatagramPort.getHost}."""
        return self._host

    def thin(self, thinning: Thinning | None) -> bool:
        """See L{DatagramPort.thin}: the socket is the reactor's."""
        return thinning is None

    def kernelDrops(self) -> int:
        """See L{DatagramPort.kernelDrops}: not known here."""
        return 0

    def readPending(self) -> None:
        """See L{DatagramPort.readPending}. This port is read by the reactor."""

    def joinGroup(self, group: str, interface: int) -> None:
        """See L{DatagramPort.joinGroup}. The interface is the system's choice."""
        self._multicast().joinGroup(group)

    def leaveGroup(self, group: str, interface: int) -> None:
        """See L{DatagramPort.leaveGroup}."""
        self._multicast().leaveGroup(group)

    def _multicast(self) -> Any:
        """
        @raise OSError: Twisted's C{listenUDP} gives ports without groups; a simulated
            one may have them.
        """
        if not IMulticastTransport.providedBy(self._port):
            raise OSError(errno.EOPNOTSUPP, "this port joins no groups")
        return self._port

    def facts(self) -> PortFacts:
        """See L{DatagramPort.facts}."""
        return self._facts

    def stopListening(self) -> Deferred[None]:
        """See L{DatagramPort.stopListening}."""
        if not self.closed:
            self._end()
            # Once only: the stock port breaks when asked again (PORT-2).
            stopping: Deferred[Any] = maybeDeferred(self._port.stopListening)
            stopping.chainDeferred(self._stopped)
        return self._stopped

    def _end(self) -> None:
        self._endSending()
        self._joiner.close()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _transmit(self, run: Buffer, size: int, address: Address) -> int:
        view = memoryview(run)
        for start in range(0, len(view), size):
            # Bytes, because a simulated network keeps what it is given.
            datagram = bytes(view[start : start + size])
            try:
                self._port.write(datagram, cast(Any, address))
            except error.MessageLengthError:
                self._refused(PathError.TOO_BIG, datagram, size, address)
            except error.InvalidAddressError:
                self._refused(PathError.UNREACHABLE, datagram, size, address)
            except OSError as problem:
                if problem.errno in FULL:
                    self._retrySoon()
                    return start
                self._refused(failedAs(problem.errno), datagram, size, address)
            else:
                self._sent(len(datagram), size)
        return len(run)

    def _datagramReceived(self, datagram: bytes, address: Address) -> None:
        """
        Not stopped by C{stopListening} within the same read loop (UDP-3), which the
        joiner minds.
        """
        if self.closed:
            return
        if ":" in address[0]:
            address = (address[0], address[1], 0, 0)
        self._joiner.add(datagram, address)
        if self._turn is None and not self.closed:
            self._turn = self._clock.callLater(0, self._endTurn)

    def _endTurn(self) -> None:
        self._turn = None
        self._joiner.flush()
        self._receiver.turnEnded()

    def _stopProtocol(self) -> None:
        """
        The socket is gone; if we did not ask for that, the reactor did (PORT-5) or the
        port broke (UDP-4).
        """
        if self.closed:
            return
        self._end()
        self._stopped.callback(None)
        self._receiver.portLost(Failure(error.ConnectionLost()))  # type: ignore[no-untyped-call]
