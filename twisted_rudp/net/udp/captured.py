"""
A port around a port, which notes every datagram in a capture. Only what is opened while a
capture goes on gets one: everybody else's ports are as they were.
"""

from __future__ import annotations

import socket
from typing import Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_rudp.core.engine import Address, Buffer, PathError
from twisted_rudp.net.udp.port import (
    DatagramPort,
    PortCounters,
    PortFacts,
    PortKind,
    Receiver,
    SocketOptions,
    descriptorOf,
)
from twisted_rudp.net.udp.sourcefilter import Thinning
from twisted_rudp.tracing.pcapng import LARGEST_CAPTURE, Capture

MOST_PEERS: Final = 4096
"""Peers for which a port remembers from which address of ours they are reached."""

_log = Logger()


class Captures:
    """
    The capture of this process.

    @ivar current: None: there is none, and ports are opened as they are.
    """

    def __init__(self) -> None:
        self.current: Capture | None = None


captures: Final = Captures()


def capturePorts(path: str, limit: int = LARGEST_CAPTURE) -> Capture:
    """
    Note in a file, readable by its owner only, what all UDP ports of this library send and
    receive that are opened from now on.

    @param path: of a pcapng file, which is replaced.
    @param limit: bytes of it; what comes then is not noted.
    @return: what is being written; L{endCapture} ends it.
    @raise OSError: the file cannot be written.
    """
    endCapture()
    captures.current = Capture(path, limit, lambda problem: _failed(path, problem))
    return captures.current


def endCapture() -> None:
    """End the capture of this process. Harmless without one."""
    capture, captures.current = captures.current, None
    if capture is not None:
        capture.close()


def _failed(path: str, problem: OSError) -> None:
    _log.error("capture {path}: {reason}; nothing more is written", path=path, reason=problem)


class CapturedReceiver:
    """Notes what comes, and gives it on."""

    __slots__ = ("_capture", "_clock", "_inner", "places")

    def __init__(self, capture: Capture, clock: IReactorTime, inner: Receiver) -> None:
        self._capture = capture
        self._clock = clock
        self._inner = inner
        self.places: Places | None = None

    def runReceived(self, run: bytes, size: int, address: Address) -> None:
        if self.places is not None:
            own = self.places.towards(address)
            self._capture.run(self._clock.seconds(), address, own, run, size)
        self._inner.runReceived(run, size, address)

    def calledAt(self, local: bytes) -> None:
        self._inner.calledAt(local)

    def turnEnded(self) -> None:
        self._inner.turnEnded()
        self._capture.flush()

    def patience(self) -> int:
        return self._inner.patience()

    def portWritable(self) -> None:
        self._inner.portWritable()

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        self._inner.pathError(kind, size, address)

    def portLost(self, failure: Failure) -> None:
        self._inner.portLost(failure)


class Places:
    """The addresses of ours that a port is reached at."""

    __slots__ = ("_known", "_port")

    def __init__(self, port: DatagramPort) -> None:
        self._port = port
        self._known: dict[str, str] = {}

    def towards(self, peer: Address) -> Address:
        """Our address as a peer sees it, as far as that can be found out."""
        host = self._port.getHost()
        if host.host not in ("0.0.0.0", "::") or self._port.facts().kind is PortKind.STOCK:
            return host.host, host.port
        found = self._known.get(peer[0])
        if found is None:
            found = _ownTowards(peer)
            if len(self._known) < MOST_PEERS:
                self._known[peer[0]] = found
        return found or host.host, host.port


def _ownTowards(peer: Address) -> str:
    """What routing picks; connecting a UDP socket sends nothing. C{""}: it is not known."""
    family = socket.AF_INET if len(peer) == 2 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(peer)
            own: str = probe.getsockname()[0]
            return own
    except OSError:
        return ""


class CapturedPort:
    """Notes what is sent, and sends it."""

    __slots__ = ("_capture", "_clock", "_inner", "_places")

    def __init__(
        self, capture: Capture, clock: IReactorTime, inner: DatagramPort, places: Places
    ) -> None:
        self._capture = capture
        self._clock = clock
        self._inner = inner
        self._places = places

    @property
    def sendFrom(self) -> bytes:
        """See L{DatagramPort}."""
        return self._inner.sendFrom

    @sendFrom.setter
    def sendFrom(self, source: bytes) -> None:
        """Send from there."""
        self._inner.sendFrom = source

    @property
    def counters(self) -> PortCounters:
        return self._inner.counters

    @property
    def closed(self) -> bool:
        return self._inner.closed

    def send(self, run: Buffer, size: int, address: Address) -> bool:
        if not self._inner.closed:
            own = self._places.towards(address)
            self._capture.run(self._clock.seconds(), own, address, run, size)
        return self._inner.send(run, size, address)

    def startReading(self) -> None:
        self._inner.startReading()

    def receiveBy(self, receiver: Receiver) -> None:
        noting = CapturedReceiver(self._capture, self._clock, receiver)
        noting.places = self._places
        self._inner.receiveBy(noting)

    def fileno(self) -> int:
        """See L{descriptorOf<twisted_rudp.net.udp.port.descriptorOf>}."""
        return descriptorOf(self._inner)

    def readPending(self) -> None:
        self._inner.readPending()

    def joinGroup(self, group: str, interface: int) -> None:
        self._inner.joinGroup(group, interface)

    def leaveGroup(self, group: str, interface: int) -> None:
        self._inner.leaveGroup(group, interface)

    def getHost(self) -> IPv4Address | IPv6Address:
        return self._inner.getHost()

    def stopListening(self) -> Deferred[None]:
        self._capture.flush()
        return self._inner.stopListening()

    def thin(self, thinning: Thinning | None) -> bool:
        return self._inner.thin(thinning)

    def kernelDrops(self) -> int:
        return self._inner.kernelDrops()

    def facts(self) -> PortFacts:
        return self._inner.facts()

    @property
    def options(self) -> SocketOptions:
        return self._inner.options

    def reconfigure(self, options: SocketOptions) -> None:
        self._inner.reconfigure(options)
