"""What a datagram port and its owner expect of each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_rudp.core.engine import Address, Buffer, PathError
from twisted_rudp.net.udp.sourcefilter import Thinning

LONGEST_RUN: Final = 65507
"""Bytes in one system call: the largest UDP payload over IPv4 (UDP-14)."""

LONGEST_DATAGRAM: Final = 65535
"""A receive buffer that no datagram and no joined run overflows (UDP-1, UDP-13)."""


class PortKind(StrEnum):
    """The ways to a UDP socket."""

    GSO = "gso"
    """Own descriptor; the kernel cuts and joins runs."""

    PLAIN = "plain"
    """Own descriptor; runs are cut and joined here."""

    STOCK = "stock"
    """The reactor's C{listenUDP}."""


@dataclass(frozen=True)
class SocketOptions:
    """
    How the socket is to be set up. The stock port takes what can be set after
    binding, and only if the reactor gives its socket away.

    @ivar receiveBuffer: bytes asked for C{SO_RCVBUF} (UDP-15).
    @ivar sendBuffer: bytes asked for C{SO_SNDBUF}.
    @ivar dscp: 0 to 63, the upper six bits of TOS and traffic class; None: as it is.
    @ivar hopLimit: 1 to 255 for unicast, TTL on IPv4; None: as it is.
    @ivar dontFragment: True refuses datagrams longer than the path takes (they become
        C{TOO_BIG}), False lets them be cut, None leaves it to the system.
    @ivar broadcast: allow sending to broadcast addresses.
    @ivar multicastHops: 1 to 255 for multicast; None: as it is, which is 1.
    @ivar arrivalHops: 1 to 255: what arrives with another hop limit is dropped and
        counted, and the kernel joins nothing; None: not looked at. On Linux only.
    @ivar onlyIPv6: C{"::"} takes no IPv4, so that another socket may have that.
    @ivar reuseAddress: C{SO_REUSEADDR}. On UDP it lets another socket take the
        datagrams, so it is for multicast.
    @ivar reusePort: C{SO_REUSEPORT}, to share the load among processes.
    @ivar descriptor: a bound UDP socket of another program's, such as a socket unit of
        systemd, to be used instead of binding one; the port takes a copy.
    """

    receiveBuffer: int = 4 << 20
    sendBuffer: int = 4 << 20
    dscp: int | None = None
    hopLimit: int | None = None
    dontFragment: bool | None = None
    broadcast: bool = False
    multicastHops: int | None = None
    arrivalHops: int | None = None
    onlyIPv6: bool = False
    reuseAddress: bool = False
    reusePort: bool = False
    descriptor: int | None = None

    def __post_init__(self) -> None:
        """
        @raise ValueError: a number outside its range.
        """
        ranges = (
            ("receiveBuffer", self.receiveBuffer, 1, 1 << 30),
            ("sendBuffer", self.sendBuffer, 1, 1 << 30),
            ("dscp", self.dscp, 0, 63),
            ("hopLimit", self.hopLimit, 1, 255),
            ("multicastHops", self.multicastHops, 1, 255),
            ("arrivalHops", self.arrivalHops, 1, 255),
        )
        for name, value, lowest, highest in ranges:
            if value is not None and not lowest <= value <= highest:
                raise ValueError(f"{name} is from {lowest} to {highest}, not {value!r}")


class PortFacts(NamedTuple):
    """What a port turned out to be."""

    kind: PortKind

    gso: bool
    """Runs leave in one system call."""

    gro: bool
    """The kernel joins what arrives."""

    receiveBufferAsked: int

    receiveBuffer: int | None
    """Bytes granted, None when the socket is not ours to ask (UDP-15)."""

    sendBufferAsked: int

    sendBuffer: int | None

    dscp: int | None
    """What the socket really marks its datagrams with."""

    batches: bool = False
    """Many datagrams take one system call where the kernel cuts or joins no runs."""


COUNTERS: Final = (
    "bytesIn",
    "bytesOut",
    "datagramsIn",
    "datagramsOut",
    "dropped",
    "empty",
    "far",
    "full",
    "gsoRefused",
    "icmp",
    "polls",
    "pollsInVain",
    "runsIn",
    "runsOut",
    "sendErrors",
    "truncated",
    "unfinished",
    "waits",
)
"""What a port counts. A compiled class does not know its slots."""


class PortCounters:
    """
    What a port has seen. C{runs} are system calls or joined runs, so
    C{datagramsIn / runsIn} tells how well joining works.
    """

    __slots__ = COUNTERS

    datagramsIn: int
    bytesIn: int
    runsIn: int
    datagramsOut: int
    bytesOut: int
    runsOut: int

    full: int
    """Times the socket took no more."""

    dropped: int
    """Datagrams given to C{send} that never left."""

    gsoRefused: int
    """Runs that had to leave one by one."""

    sendErrors: int
    """System calls that failed for another reason than a full socket."""

    icmp: int
    """Errors the network reported."""

    truncated: int
    """Datagrams longer than the buffer; dropped (UDP-1)."""

    empty: int
    """Datagrams without a byte; dropped (UDP-6)."""

    far: int
    """Datagrams with another hop limit than C{arrivalHops}; dropped."""

    polls: int
    """Turns that began without a sleep; see L{twisted_rudp.net.udp.whentoread}."""

    waits: int
    """Times the socket was left alone for a moment, so that several were read together."""

    pollsInVain: int
    """Polls that found nothing before a sleep."""

    unfinished: int
    """Turns that were over before the socket was empty."""

    def __init__(self) -> None:
        for name in COUNTERS:
            setattr(self, name, 0)

    def asDict(self) -> dict[str, int]:
        """All counters by name."""
        return {name: getattr(self, name) for name in COUNTERS}


class Receiver(Protocol):
    """
    The owner of a port (the hub). None of these may raise; all may close the port.

    Every turn in which C{runReceived} or C{pathError} was called ends with
    C{turnEnded}. Once C{stopListening} was called, also from inside one of these,
    nothing more is.
    """

    def runReceived(self, run: bytes, size: int, address: Address) -> None:
        """
        Datagrams of C{size} bytes from C{address}, the last may be shorter; never
        empty, together at most 65535 bytes.
        """

    def calledAt(self, local: bytes) -> None:
        """
        The runs that follow were sent to another address of ours than those before. Called
        by sockets that have several.

        @param local: for L{DatagramPort.sendFrom}. C{b""}, which is where it begins: not known.
        """

    def turnEnded(self) -> None:
        """Nothing more is read, or reported, in this reactor turn."""

    def patience(self) -> int:
        """
        How many nanoseconds the datagrams that come next may wait until they are read,
        so that several are read together; -1: nothing is known. Asked after a turn.
        Those of a peer that is near are looked for at once, those of no session are not.
        """

    def portWritable(self) -> None:
        """All that C{send} had to hold back has left."""

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        """
        The network refused a datagram of C{size} bytes (0: not known). Never called
        from inside C{send}; the same error is reported once a turn.
        """

    def portLost(self, failure: Failure) -> None:
        """
        The socket is gone although nobody asked: the reactor disconnected everything
        (PORT-5) or the descriptor broke. The last call.
        """


class DatagramPort(Protocol):
    """A bound UDP socket that sends and receives runs and knows no wire."""

    sendFrom: bytes
    """The address, as L{Receiver.calledAt} gave it, that C{send} is to send from; C{b""}:
    what routing picks. To be set before each C{send} that needs another than the one before."""

    @property
    def counters(self) -> PortCounters: ...

    @property
    def closed(self) -> bool:
        """The port was stopped or lost."""

    def send(self, run: Buffer, size: int, address: Address) -> bool:
        """
        Send datagrams of C{size} bytes, the last may be shorter, to one address.

        @param run: not empty; valid during the call only, what cannot leave at once is
            copied and held.
        @param size: at least 1.
        @param address: a raw tuple of the socket's own family, with an IP literal.

        @return: False when the socket is full. The run was taken all the same; send
            nothing more until C{portWritable}. What is sent nevertheless is held up to
            a limit and then dropped and counted. On a closed port everything is
            dropped and the answer is True, for nothing is to be waited for.
        """

    def readPending(self) -> None:
        """
        If the socket is being left alone for a moment (see L{Receiver.patience}), read what
        has come: the owner has something else to do now.
        """

    def startReading(self) -> None:
        """Begin to receive, if the port was opened without that."""

    def receiveBy(self, receiver: Receiver) -> None:
        """Another receiver has all that comes from now on."""

    def joinGroup(self, group: str, interface: int) -> None:
        """
        Receive what is sent to a multicast group on one interface.

        @param group: an IP literal of the socket's family.
        @param interface: its index.
        @raise OSError: the interface cannot, or is gone; or this port cannot.
        """

    def leaveGroup(self, group: str, interface: int) -> None:
        """
        Undo L{joinGroup}.

        @raise OSError: as L{joinGroup}, or it was not joined.
        """

    def getHost(self) -> IPv4Address | IPv6Address:
        """The bound address, also after closing (PORT-4)."""

    def stopListening(self) -> Deferred[None]:
        """
        Close the socket and drop what is held. Nothing is received or sent afterwards.

        @return: fires when the socket is closed; the same object for every call
            (PORT-2).
        """

    def thin(self, thinning: Thinning | None) -> bool:
        """
        Have the kernel drop a part of what unknown peers send; None: nothing any more.

        @return: whether this port and this system can.
        """

    def kernelDrops(self) -> int:
        """Datagrams that the kernel has dropped, because its queue was full or by L{thin}."""

    def facts(self) -> PortFacts:
        """What this port is and what the system granted it."""

    @property
    def options(self) -> SocketOptions:
        """What was asked for last."""

    def reconfigure(self, options: SocketOptions) -> None:
        """
        Set DSCP and buffers anew, as far as the system lets; the rest of C{options} is
        as it was.
        """


def descriptorOf(port: object) -> int:
    """The descriptor of a port's socket; -1: the port does not give it away, or is closed."""
    fileno: Callable[[], int] | None = getattr(port, "fileno", None)
    return -1 if fileno is None else fileno()
