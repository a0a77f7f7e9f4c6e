"""
What the tests of C{net} share: protocols that record, a port that remembers, two
hosts of a simulated network with a toy between them.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.toys.conversations import CipherDemultiplexer
from twisted_rudp.core.engine import Address, Buffer, Demultiplexer, Engine, PathError
from twisted_rudp.net.connect import connect
from twisted_rudp.net.listen import ListeningPort, listen
from twisted_rudp.net.udp.port import PortCounters, PortFacts, PortKind, SocketOptions
from twisted_rudp.net.udp.sourcefilter import Thinning
from twisted_rudp.testing import Impairments, MemoryNetwork

SECRET = 0x33
PORT = 4000


class Recorder(Protocol):
    """Remembers what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.data = b""
        self.reason: Failure | None = None
        self.onMade: Callable[[], None] | None = None
        self.onData: Callable[[bytes], None] | None = None
        self.onLost: Callable[[], None] | None = None

    @property
    def link(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        self.told.append("made")
        if self.onMade is not None:
            self.onMade()

    def dataReceived(self, data: bytes) -> None:
        self.told.append("data")
        self.data += data
        if self.onData is not None:
            self.onData(data)

    def messageReceived(self, message: Any) -> None:
        self.told.append(message)

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008
        self.told.append("lost")
        self.reason = reason
        if self.onLost is not None:
            self.onLost()


@implementer(IHalfCloseableProtocol)
class HalfRecorder(Recorder):
    """Knows half close."""

    def readConnectionLost(self) -> None:
        self.told.append("readLost")

    def writeConnectionLost(self) -> None:
        self.told.append("writeLost")


class RecordingFactory(Factory):
    """Counts what is asked of it."""

    noisy = False

    def __init__(self, kind: Callable[[], Any] = Recorder) -> None:
        self.kind = kind
        self.started = self.stopped = 0
        self.asked: list[Any] = []
        self.built: list[Any] = []
        self.prepare: Callable[[Any], None] | None = None

    def startFactory(self) -> None:
        self.started += 1

    def stopFactory(self) -> None:
        self.stopped += 1

    def buildProtocol(self, addr: Any) -> Any:
        self.asked.append(addr)
        protocol = self.kind()
        if protocol is not None:
            protocol.factory = self
            self.built.append(protocol)
            if self.prepare is not None:
                self.prepare(protocol)
        return protocol


class FakePort:
    """
    A datagram port that keeps what it is given.

    @ivar room: how many more runs it takes before it is full; None: no bound.
    """

    closed = False
    sendFrom = b""

    def startReading(self) -> None:
        """Nothing comes here."""

    def receiveBy(self, receiver: Any) -> None:
        """Nothing comes here."""

    def readPending(self) -> None:
        """Nothing is left alone here."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, int, Address]] = []
        self.room: int | None = None
        self.counters = PortCounters()
        self.thinned: list[Thinning | None] = []
        self.drops = 0

    def send(self, run: Buffer, size: int, address: Address) -> bool:
        self.sent.append((bytes(run), size, address))
        if self.room is not None:
            self.room -= 1
            return self.room > 0
        return True

    def getHost(self) -> IPv4Address:
        return IPv4Address("UDP", "10.0.0.1", 1)

    def stopListening(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)

    options = SocketOptions()

    def reconfigure(self, options: SocketOptions) -> None:
        self.options = options

    def thin(self, thinning: Thinning | None) -> bool:
        self.thinned.append(thinning)
        return True

    def kernelDrops(self) -> int:
        return self.drops

    def facts(self) -> PortFacts:
        return PortFacts(PortKind.STOCK, False, False, 0, None, 0, None, None)


class Pair:
    """A client and a server on a network that loses nothing, with toy I."""

    def __init__(
        self,
        demux: Callable[[], Any] | None = None,
        mode: str = "stream",
        delay: float = 0.01,
        **listening: Any,
    ) -> None:
        self.network = MemoryNetwork(seed=1)
        self.client = self.network.host("client")
        self.server = self.network.host("server")
        self.network.impair(Impairments(delay=delay), self.client, self.server)
        random = Random(2)
        self.makeDemux: Callable[[], Any] = demux or (lambda: CipherDemultiplexer(SECRET, random))
        self.mode = mode
        self.serverFactory = RecordingFactory()
        self.clientFactory = RecordingFactory()
        self.demuxes: list[Any] = []
        self.serverDemux = self.makeDemux()
        self.listening: ListeningPort = listen(
            self.server.reactor,
            self.serverFactory,
            self.serverDemux,
            port=PORT,
            mode=mode,
            **listening,
        )

    def session(self, address: Address, now: int) -> tuple[Demultiplexer, Engine]:
        demux = self.makeDemux()
        self.demuxes.append(demux)
        return demux, demux.dial(address, now)

    def dial(self, host: str | None = None, **named: Any) -> Deferred[Any]:
        named.setdefault("session", self.session)
        return connect(
            self.client.reactor,
            named.pop("factory", self.clientFactory),
            self.server.address if host is None else host,
            named.pop("port", PORT),
            mode=self.mode,
            **named,
        )

    def connected(self) -> tuple[Any, Any]:
        """
        @return: the protocols of client and server.
        """
        dialling = self.dial()
        before = len(self.serverFactory.built)
        self.network.run(lambda: len(self.serverFactory.built) > before and dialling.called)
        return self.clientFactory.built[-1], self.serverFactory.built[-1]

    def run(self, until: Callable[[], object], limit: float = 60.0) -> None:
        self.network.run(until, limit)

    def lost(self, *protocols: Recorder) -> None:
        """Run until all of these have heard of the end."""
        self.run(lambda: all(each.reason is not None for each in protocols))

    def hub(self) -> Any:
        return self.listening._hub


class SuccessorLog:
    """A successor that remembers."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def runPassedOn(self, run: bytes, size: int, address: Address, local: bytes) -> None:
        self.told.append((run, size, local))

    def turnEnded(self) -> None:
        self.told.append("turn")

    def portWritable(self) -> None:
        self.told.append("writable")

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        self.told.append((kind, size))

    def portLost(self, failure: Failure) -> None:
        self.told.append(failure)
