"""The UDP port of a simulated reactor, which behaves as Twisted's own does."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address as IPv4
from ipaddress import IPv6Address as IPv6
from ipaddress import ip_address
from typing import Any, Protocol

from twisted.internet import error
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IMulticastTransport,
    IUDPTransport,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.logger import Logger
from zope.interface import implementer

IP = IPv4 | IPv6
Address = tuple[str, int]

LONGEST = 65507
"""Bytes of the longest UDP payload over IPv4."""

BROADCAST = "255.255.255.255"

LAN_BROADCAST = "10.0.255.255"
"""The broadcast address of the network that hosts get their addresses from."""


# The properties of addresses search networks, and each datagram asks for several.
@lru_cache(maxsize=1024)
def isForMany(host: str) -> bool:
    """Whether an IP literal is a broadcast address or a multicast group."""
    return host in (BROADCAST, LAN_BROADCAST) or parseIP(host).is_multicast


@lru_cache(maxsize=1024)
def isLoopback(host: str) -> bool:
    """Whether an IP literal is an address of loopback."""
    return parseIP(host).is_loopback


@lru_cache(maxsize=1024)
def canonical(host: str) -> str:
    """An IP literal as C{ipaddress} writes it."""
    return str(parseIP(host))


@lru_cache(maxsize=1024)
def parseIP(host: str) -> IP:
    """An IP literal as a value to compare: without zone, and IPv4 where IPv6 maps it."""
    ip = ip_address(host.partition("%")[0])
    if isinstance(ip, IPv6) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


class PortHost(Protocol):
    """What a port and a reactor need of the host they are on; see L{MemoryHost
    <twisted_rudp.testing.host.MemoryHost>}."""

    ports: list[MemoryUDPPort]
    mtu: int | None
    receiveBuffer: int | None
    bindV6Only: bool

    @property
    def clock(self) -> Clock:
        """The time of the network."""

    def has(self, address: str) -> bool:
        """Whether an IP literal is one of its addresses, or of loopback."""

    def bind(self, port: MemoryUDPPort, number: int) -> int:
        """Enter a port; answers its number."""

    def unbind(self, port: MemoryUDPPort) -> None:
        """Give a port's address back."""

    def send(self, port: MemoryUDPPort, datagram: bytes, destination: Address) -> None:
        """Put a datagram on the network."""


@implementer(IListeningPort, IUDPTransport, IMulticastTransport)
class MemoryUDPPort:
    """
    A bound UDP socket of a L{MemoryHost<twisted_rudp.testing.host.MemoryHost>}.

    Made by C{MemoryUDPReactor.listenUDP}. It does what the stock port does, also
    where that is inconvenient: datagrams longer than C{maxPacketSize} are cut short,
    those read in the turn of C{stopListening} still arrive, C{getHost} and C{write}
    raise C{AttributeError} after the end. A second C{stopListening} while the first
    goes on breaks the stock port's Deferreds; here it raises.

    @ivar groups: the groups joined.
    @ivar overflowed: datagrams dropped because the receive buffer was full.
    """

    _log = Logger()

    maxThroughput = 256 * 1024

    def __init__(
        self,
        host: PortHost,
        port: int,
        protocol: DatagramProtocol,
        interface: str = "",
        maxPacketSize: int = 8192,
    ) -> None:
        """
        @raise error.InvalidAddressError: C{interface} is no IP literal.
        """
        if isIPv6Address(interface):
            self.addressFamily = socket.AF_INET6
        elif isIPAddress(interface) or not interface:
            self.addressFamily = socket.AF_INET
        else:
            raise _invalid(interface, "not an IPv4 or IPv6 address.")
        self.memoryHost = host
        self._clock = host.clock
        self.protocol = protocol
        self.interface = interface or "0.0.0.0"
        self.maxPacketSize = maxPacketSize
        self.port = port
        self.connected = False
        self.overflowed = 0
        self._ip = parseIP(self.interface)
        self._everywhere = self._ip.is_unspecified
        self._peer: Address | None = None
        self._broadcast = False
        self._inbox: deque[tuple[bytes, Address]] = deque()
        self._inboxBytes = 0
        self._reading: IDelayedCall | None = None
        self._stopping: Deferred[None] | None = None
        self.groups: set[str] = set()
        self._outgoing: Any = "0.0.0.0"
        self._loopback = True
        self._hops = 1

    # IListeningPort

    def startListening(self) -> None:
        """
        Bind and start the protocol.

        @raise error.CannotListenError: the address is taken or not this host's.
        """
        self.port = self.memoryHost.bind(self, self.port)
        self.connected = True
        self.protocol.makeConnection(self)

    def stopListening(self) -> Deferred[None] | None:
        """
        Stop reading now and close in a later turn.

        @return: fires after C{stopProtocol}; None if the port is not open.
        """
        if not self.connected:
            return None
        if self._stopping is not None:
            raise AssertionError("stopListening called again before it was done")
        self._stopping = Deferred()
        self._cancelReading()
        self._clock.callLater(0, self.connectionLost)
        return self._stopping

    def getHost(self) -> IPv4Address | IPv6Address:
        """
        The bound address.

        @raise AttributeError: the port is closed.
        """
        self._mustBeOpen()
        if self.addressFamily == socket.AF_INET6:
            return IPv6Address("UDP", self.interface, self.port)
        return IPv4Address("UDP", self.interface, self.port)

    # IUDPTransport

    def write(self, packet: bytes, addr: Address | None = None) -> None:
        """
        Send a datagram.

        @raise error.InvalidAddressError: C{addr} is no IP literal of this family.
        @raise error.MessageLengthError: longer than UDP or the host's interface takes.
        @raise OSError: the host was told to fail writes to there, or has no address
            to send from.
        @raise AttributeError: the port is closed.
        """
        if self._peer is not None:
            assert addr in (None, self._peer), "a connected port has one peer"
            addr = self._peer
        assert addr is not None, "a port that is not connected wants an address"
        self._checkFamily(addr[0])
        self._mustBeOpen()
        if len(packet) > min(LONGEST, self.memoryHost.mtu or LONGEST):
            raise error.MessageLengthError("message too long")
        if addr[0] in ("<broadcast>", BROADCAST, LAN_BROADCAST):
            if not self._broadcast:
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            addr = (BROADCAST if addr[0] == "<broadcast>" else addr[0], addr[1])
        self.memoryHost.send(self, bytes(packet), addr)

    def writeSequence(self, seq: Iterable[bytes], addr: Address | None = None) -> None:
        """Send one datagram made of these pieces."""
        self.write(b"".join(seq), addr)

    def connect(self, host: str, port: int) -> None:
        """
        Exchange datagrams with one peer only, and hear when it refuses them.

        @raise RuntimeError: connected already.
        @raise error.InvalidAddressError: C{host} is no IP literal.
        """
        if self._peer is not None:
            raise RuntimeError("already connected, reconnecting is not currently supported")
        if not isIPAddress(host) and not isIPv6Address(host):
            raise _invalid(host, "not an IPv4 or IPv6 address.")
        self._peer = (host, port)

    def setBroadcastAllowed(self, enabled: bool) -> None:
        self._broadcast = enabled

    def getBroadcastAllowed(self) -> bool:
        return self._broadcast

    # the network's side

    def covers(self, ip: IP) -> bool:
        """Whether datagrams to this IP address come here."""
        if not self._everywhere:
            return self._ip == ip
        if self.addressFamily == socket.AF_INET:
            return ip.version == 4
        return ip.version == 6 or not self.memoryHost.bindV6Only

    def takes(self, destination: Address) -> bool:
        """
        Whether a datagram for many comes here: to every port of its number with IPv4
        for a broadcast, to those that have joined it for a group.
        """
        ip = parseIP(destination[0])
        if ip.is_multicast and destination[0] not in self.groups:
            return False
        return self.port == destination[1] and self.covers(ip)

    def clashes(self, other: MemoryUDPPort) -> bool:
        """Whether two ports of one number cannot be bound together."""
        return self.covers(other._ip) or other.covers(self._ip)

    def arrive(self, datagram: bytes, source: Address) -> None:
        """Put a datagram into the receive buffer."""
        if self._peer is not None and self._peer != source:
            return
        room = self.memoryHost.receiveBuffer
        if self._stopping is not None:
            return
        if room is not None and self._inboxBytes + len(datagram) > room:
            self.overflowed += 1
            return
        if self.addressFamily == socket.AF_INET6 and isIPAddress(source[0]):
            source = (f"::ffff:{source[0]}", source[1])
        self._inbox.append((datagram, source))
        self._inboxBytes += len(datagram)
        if self._reading is None:
            self._reading = self._clock.callLater(0, self._doRead)

    def refused(self, destination: Address) -> None:
        """
        The network says that nobody listens at C{destination}. Only a connected
        port hears that.
        """
        if self.connected and self._peer == destination:
            self.protocol.connectionRefused()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: object = None) -> None:
        """Close: the protocol is stopped, then the Deferred of C{stopListening} fires."""
        if not self.connected:
            return
        self.connected = False
        self._cancelReading()
        self._inbox.clear()
        self.memoryHost.unbind(self)
        self.protocol.doStop()  # type: ignore[no-untyped-call]
        stopping, self._stopping = self._stopping, None
        if stopping is not None:
            stopping.callback(None)

    def _doRead(self) -> None:
        """One turn: what has arrived, up to C{maxThroughput} bytes."""
        self._reading = None
        read = 0
        while self._inbox and read < self.maxThroughput:
            datagram, source = self._inbox.popleft()
            self._inboxBytes -= len(datagram)
            datagram = datagram[: self.maxPacketSize]
            read += len(datagram)
            try:
                self.protocol.datagramReceived(datagram, source)
            except Exception:
                self._log.failure("a datagram protocol failed")
        if self._inbox and self._stopping is None:
            self._reading = self._clock.callLater(0, self._doRead)

    def _cancelReading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _mustBeOpen(self) -> None:
        if not self.connected:
            raise AttributeError("the port is closed")

    def _checkFamily(self, host: str) -> None:
        """What the stock port refuses to send to."""
        isIPv4 = isIPAddress(host) or host == "<broadcast>"
        if not isIPv4 and not isIPv6Address(host):
            raise _invalid(host, "write() only accepts IP addresses, not hostnames")
        if isIPv4 and self.addressFamily == socket.AF_INET6:
            raise _invalid(host, "IPv6 port write() called with IPv4 or broadcast address")
        if not isIPv4 and self.addressFamily == socket.AF_INET:
            raise _invalid(host, "IPv4 port write() called with IPv6 address")

    # IMulticastTransport. There is one network, so interfaces are noted and have no effect, and
    # a host never hears itself.

    def joinGroup(self, addr: str, interface: str = "") -> Deferred[None]:
        """Receive what is sent to a group."""
        self.groups.add(addr)
        return succeed(None)

    def leaveGroup(self, addr: str, interface: str = "") -> Deferred[None]:
        """Undo L{joinGroup}."""
        self.groups.discard(addr)
        return succeed(None)

    def getOutgoingInterface(self) -> Any:
        """What was set."""
        return self._outgoing

    def setOutgoingInterface(self, addr: Any) -> Deferred[Any]:
        """Note an interface."""
        self._outgoing = addr
        return succeed(addr)

    def getLoopbackMode(self) -> bool:
        """What was set."""
        return self._loopback

    def setLoopbackMode(self, mode: bool) -> None:
        """Note whether the sender wants to hear itself."""
        self._loopback = mode

    def getTTL(self) -> int:
        """What was set."""
        return self._hops

    def setTTL(self, ttl: int) -> None:
        """Note how far datagrams are to go."""
        self._hops = ttl


def _invalid(host: str, why: str) -> error.InvalidAddressError:
    return error.InvalidAddressError(host, why)  # type: ignore[no-untyped-call]
