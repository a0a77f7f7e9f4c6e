"""
What the first owner of a UDP socket passes on to its successor in another process: datagrams
and path errors, each as one message on a UNIX socket that keeps their bounds. Its end means
that the first owner has let go of the UDP socket, or is gone; either way the successor reads
it from then on.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import ClassVar, Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from twisted_rudp.core.engine import Address, PathError
from twisted_rudp.net.handover import Successor
from twisted_rudp.net.udp.open import openPort
from twisted_rudp.net.udp.own import OwnPort
from twisted_rudp.net.udp.port import (
    LONGEST_DATAGRAM,
    DatagramPort,
    Receiver,
    SocketOptions,
)
from twisted_rudp.net.udp.reactors import IDescriptorReactor, IPortReactor

_HEADER: Final = struct.Struct("!BHHIIBB")
"""Kind, datagram size, port, flow info, scope, lengths of address and local address."""

_RUN: Final = 0

_ERRORS: Final = tuple(PathError)
"""A path error's kind is 1 more than its index."""

_KNOWN: Final = 1 + len(_ERRORS)
"""Where the peers of the first owner's sessions are."""

KNOWN_INTERVAL: Final = 1000
"""That is told after so many datagrams: under a flood, several times a second."""

KNOWN_BYTES: Final = 60_000
"""It takes so many bytes at most."""

LONGEST_MESSAGE: Final = _HEADER.size + 512 + LONGEST_DATAGRAM

BUFFER: Final = 4 << 20
"""Bytes asked for the UNIX socket: what comes while the other process is busy waits there."""

READ_MESSAGES: Final = 512
"""Messages taken in one wake-up."""


class MessageError(ValueError):
    """A message is none of ours."""


def packMessage(kind: int, size: int, address: Address, local: bytes, run: bytes) -> bytes:
    """A message."""
    host = address[0].encode()
    flow, scope = address[2:4] if len(address) > 2 else (0xFFFFFFFF, 0)
    header = _HEADER.pack(kind, size, address[1], flow, scope, len(host), len(local))
    return b"".join((header, host, local, run))


def unpackMessage(message: bytes) -> tuple[int, int, Address, bytes, bytes]:
    """
    The inverse of L{packMessage}.

    @raise MessageError: it is no such message.
    """
    if len(message) < _HEADER.size:
        raise MessageError("too short")
    kind, size, port, flow, scope, hostLength, localLength = _HEADER.unpack_from(message)
    hostEnd = _HEADER.size + hostLength
    localEnd = hostEnd + localLength
    if kind > _KNOWN or localEnd > len(message):
        raise MessageError("malformed")
    run = message[localEnd:]
    if kind == _RUN and (not run or not size):
        raise MessageError("no datagram")
    try:
        host = message[_HEADER.size : hostEnd].decode("ascii")
    except UnicodeDecodeError:
        raise MessageError("malformed address") from None
    address: Address = (host, port) if flow == 0xFFFFFFFF else (host, port, flow, scope)
    return kind, size, address, message[hostEnd:localEnd], run


def packKnown(addresses: Sequence[Address]) -> bytes:
    """A message that tells of addresses, as many as fit."""
    lines: list[str] = []
    left = KNOWN_BYTES
    for address in addresses:
        line = " ".join(map(str, address))
        left -= len(line) + 1
        if left < 0:
            break
        lines.append(line)
    return packMessage(_KNOWN, 0, ("", 0), b"", "\n".join(lines).encode())


def unpackKnown(run: bytes) -> list[Address]:
    """
    The addresses of such a message.

    @raise MessageError: they are none.
    """
    addresses: list[Address] = []
    try:
        for line in run.decode("ascii").splitlines():
            host, *numbers = line.split(" ")
            ip_address(host.partition("%")[0])
            port, *rest = map(int, numbers)
            if rest and len(rest) != 2:
                raise MessageError("malformed address")
            addresses.append((host, port, rest[0], rest[1]) if rest else (host, port))
    except ValueError:
        raise MessageError("malformed address") from None
    return addresses


def channel() -> tuple[socket.socket, socket.socket]:
    """The two ends of a channel, non-blocking."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    return ends


class PassingSuccessor:
    """
    The successor as its predecessor sees it; see L{Successor}.

    @ivar counts: what was passed on, and dropped because the other process was busy or gone.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self, end: socket.socket, addresses: Callable[[], Sequence[Address]] | None = None
    ) -> None:
        """
        @param end: of the channel.
        @param addresses: where the peers of our sessions are.
        """
        self._end = end
        self._addresses = addresses
        self._untold = 0
        self._gone = False
        self.counts: Counter[str] = Counter()

    def runPassedOn(self, run: bytes, size: int, address: Address, local: bytes) -> None:
        self._untold += -(-len(run) // size)
        self._send(packMessage(_RUN, size, address, local, run))

    def turnEnded(self) -> None:
        """What is read together over there is a turn. Under a flood it needs our addresses."""
        if self._untold >= KNOWN_INTERVAL and self._addresses is not None:
            self._untold = 0
            self._send(packKnown(self._addresses()))

    def portWritable(self) -> None:
        """The other process finds that out by itself."""

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        self._send(packMessage(1 + _ERRORS.index(kind), size, address, b"", b""))

    def released(self, port: DatagramPort) -> Deferred[None]:
        """Our descriptor goes first: the other process reads as soon as the channel ends."""
        closing = port.stopListening()
        self._end.close()
        return closing

    def portLost(self, failure: Failure) -> None:
        self._end.close()

    def _send(self, message: bytes) -> None:
        try:
            self._end.send(message)
        except BlockingIOError:
            self.counts["dropped"] += 1
        except OSError as problem:
            self.counts["dropped"] += 1
            if not self._gone:
                self._gone = True
                self._log.warn(
                    "the process that took the socket over is gone: {reason}",
                    reason=problem.strerror,
                )
        else:
            self.counts["passed"] += 1


class PassedSocket:
    """
    The socket as its successor gets it; see L{Predecessor
    <twisted_rudp.net.handover.Predecessor>}.
    """

    def __init__(self, descriptor: int, end: socket.socket) -> None:
        """
        @param descriptor: of the UDP socket; the port takes a copy.
        @param end: of the channel.
        """
        self._descriptor = descriptor
        self._end = end

    def open(
        self,
        reactor: IPortReactor,
        receiver: Receiver,
        successor: Successor,
        kind: str,
        options: SocketOptions,
    ) -> DatagramPort:
        port = openPort(
            reactor,
            receiver,
            kind=kind,
            options=replace(options, descriptor=self._descriptor),
            reads=False,
        )
        watching = cast(IDescriptorReactor, reactor)
        watching.addReader(PassedOn(watching, self._end, successor, port))
        return port


class PassedOn:
    """Reads the channel until it ends."""

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        reactor: IDescriptorReactor,
        end: socket.socket,
        successor: Successor,
        port: DatagramPort,
    ) -> None:
        self._reactor = reactor
        self._end = end
        self._successor = successor
        self._port = port

    def fileno(self) -> int:
        """The descriptor of the channel."""
        return self._end.fileno()

    def logPrefix(self) -> str:
        """Whose turn it is, for the log."""
        return "handover"

    def doRead(self) -> None:
        """Take what has come, as one turn."""
        ended = False
        for _ in range(READ_MESSAGES):
            try:
                message = self._end.recv(LONGEST_MESSAGE)
            except BlockingIOError:
                break
            except OSError:
                message = b""
            if not message:
                ended = True
                break
            self._take(message)
        self._successor.turnEnded()
        if ended:
            self._over()

    def _take(self, message: bytes) -> None:
        try:
            kind, size, address, local, run = unpackMessage(message)
            known = unpackKnown(run) if kind == _KNOWN else None
        except MessageError as problem:
            self._log.error("what was passed on makes no sense: {reason}", reason=problem)
            return
        if known is not None:
            if isinstance(self._port, OwnPort):
                self._port.others = known
        elif kind == _RUN:
            self._successor.runPassedOn(run, size, address, local)
        else:
            self._successor.pathError(_ERRORS[kind - 1], size, address)

    def _over(self) -> None:
        """The first owner has let go of the socket, or is gone."""
        self._close()
        self._successor.released(self._port)
        if not self._port.closed:
            self._port.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops."""
        self._close()

    def _close(self) -> None:
        # While fileno() still tells the reactor which descriptor is meant.
        self._reactor.removeReader(self)
        self._end.close()


classImplements(PassedOn, IReadDescriptor)
