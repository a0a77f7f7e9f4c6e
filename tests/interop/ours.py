"""Our side of a conversation with a peer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IAddress, IListeningPort, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.interop.harness import Peer, PeerTestCase
from tests.interop.pattern import blocks
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.interfaces import IMessageProtocol
from twisted_rudp.messages import Message

HOST = "127.0.0.1"


@implementer(IPushProducer)
class Pump:
    """
    Writes a pattern as fast as the transport takes it.

    @ivar written: bytes given to the transport so far.
    @ivar paused: the transport has asked to wait.
    @ivar done: fires when the last byte was given.
    """

    def __init__(self, transport: Any, pieces: Iterator[bytes]) -> None:
        self._transport = transport
        self._pieces = pieces
        self.written = 0
        self.paused = True
        self.done: Deferred[None] = Deferred()

    def start(self) -> None:
        self._transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        while not self.paused:
            piece = next(self._pieces, None)
            if piece is None:
                self.paused = True
                self._transport.unregisterProducer()
                self.done.callback(None)
                return
            self.written += len(piece)
            self._transport.write(piece)

    def pauseProducing(self) -> None:
        self.paused = True

    def stopProducing(self) -> None:
        self.paused = True


class Talker(Protocol):
    """
    Counts and digests what it gets, and perhaps sends it back.

    @param made: called when it is connected.
    @ivar lost: fires with the exception that C{connectionLost} was called with.
    """

    def __init__(
        self, echo: bool = False, made: Callable[[Talker], None] = lambda talker: None
    ) -> None:
        self._echo = echo
        self._made = made
        self._digest = hashlib.sha256()
        self._marks: list[tuple[int, Deferred[None]]] = []
        self.received = 0
        self.lost: Deferred[BaseException] = Deferred()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def until(self, count: int) -> Deferred[None]:
        """
        Fires when at least so many bytes were received, or fails with what ends the
        connection before.
        """
        result: Deferred[None] = Deferred()
        self._marks.append((count, result))
        self._tell()
        return result

    def pump(self, seed: int, length: int) -> Pump:
        """Begin to send a pattern."""
        return self.pumpPieces(blocks(seed, length))

    def pumpPieces(self, pieces: Iterator[bytes]) -> Pump:
        """Begin to send these pieces."""
        pump = Pump(self.transport, pieces)
        pump.start()
        return pump

    def connectionMade(self) -> None:
        if self._echo:
            transport: Any = self.transport
            transport.registerProducer(transport, True)
        self._made(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        self._digest.update(data)
        if self._echo:
            transport: Any = self.transport
            transport.write(data)
        self._tell()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(reason.value)
        marks, self._marks = self._marks, []
        for _, result in marks:
            result.errback(reason)

    def _tell(self) -> None:
        reached = [result for count, result in self._marks if count <= self.received]
        self._marks = [(c, result) for c, result in self._marks if c > self.received]
        for result in reached:
            result.callback(None)


@implementer(IMessageProtocol)
class MessageTalker(Talker):
    """Keeps the messages it gets, and perhaps sends them back."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.messages: list[bytes] = []

    def messageReceived(self, message: Message) -> None:
        self.messages.append(message.data)
        self.dataReceived(message.data)


class Accepting(Factory):
    """Keeps the sessions of a server in the order they came."""

    def __init__(self, echo: bool = False, talker: type[Talker] = Talker) -> None:
        self._echo = echo
        self._talker = talker
        self._news: DeferredQueue[Talker] = DeferredQueue()
        self.talkers: list[Talker] = []

    def buildProtocol(self, addr: IAddress | None) -> Talker:
        return self._talker(self._echo, self._entered)

    def _entered(self, talker: Talker) -> None:
        self.talkers.append(talker)
        self._news.put(talker)

    def next(self) -> Deferred[Talker]:
        """The next session that nobody has asked for."""
        return self._news.get()


class OursTestCase(PeerTestCase):
    """
    A test with a peer on one side and our endpoints on the other. Everything is
    given up at the end.

    @ivar program: how to start the peer, set by C{setUp}.
    @cvar serverEndpoint: what listens here.
    @cvar clientEndpoint: what dials here.
    """

    program: tuple[str, ...]
    serverEndpoint: ClassVar[Any] = KCPServerEndpoint
    clientEndpoint: ClassVar[Any] = KCPClientEndpoint

    def serve(self, factory: Accepting, **settings: Any) -> Deferred[IListeningPort]:
        """Listen on any port of the loopback interface."""
        from twisted.internet import reactor

        def remember(port: IListeningPort) -> IListeningPort:
            self.addCleanup(port.stopListening)
            self.addCleanup(lambda: [t.transport.abortConnection() for t in factory.talkers])
            return port

        endpoint = self.serverEndpoint(reactor, 0, interface=HOST, **settings)
        listening: Deferred[IListeningPort] = endpoint.listen(factory)
        return listening.addCallback(remember)

    def dial(self, port: int, talker: type[Talker] = Talker, **settings: Any) -> Deferred[Talker]:
        """Connect to a port of the loopback interface."""
        from twisted.internet import reactor

        def remember(connected: Talker) -> Talker:
            self.addCleanup(connected.transport.abortConnection)
            return connected

        endpoint = self.clientEndpoint(reactor, HOST, port, **settings)
        return connectProtocol(endpoint, talker()).addCallback(remember)

    def pause(self, seconds: float) -> Deferred[None]:
        """Let some time pass, where what must not happen is what is looked for."""
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        return deferLater(reactor, seconds)

    async def peerServer(self, *flags: str) -> tuple[Peer, int]:
        """Start the peer as a server."""
        peer = self.spawn(self.program, *flags)
        return peer, await peer.port()

    async def peerClient(self, factory: Accepting, *flags: str, **settings: Any) -> Peer:
        """Serve, and start the peer as a client of ours."""
        port = (await self.serve(factory, **settings)).getHost().port
        return self.spawn(self.program, "-role", "client", "-addr", f"{HOST}:{port}", *flags)
