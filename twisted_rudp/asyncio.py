"""
The endpoints of this package for programs written with C{asyncio}::

    from twisted_rudp.asyncio import open_connection

    reader, writer = await open_connection("kcp:host=example.org:port=4000")

An endpoint is a description as in C{twisted.internet.endpoints}, or an endpoint object.
Everything runs on Twisted's asyncio reactor, in the loop that is running: it is installed
when the first of these functions is called, and belongs to that loop from then on. C{uvloop}
works too.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeAlias, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost, DNSLookupError
from twisted.internet.error import TimeoutError as TimedOut
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.core.engine import Capability
from twisted_rudp.interfaces import IMessageProtocol
from twisted_rudp.messages import Delivery, Message

LIMIT: Final = 1 << 16
"""Bytes, or messages, that are kept for a reader before the peer is stopped."""

ClientConnected: TypeAlias = Callable[
    [asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None
]
MessageClient: TypeAlias = Callable[["MessageConnection"], Awaitable[None]]


def running_reactor() -> Any:
    """
    Twisted's reactor of the loop that is running, installed and started if need be.

    @raise RuntimeError: there is no running loop, or Twisted has a reactor already that
        is not of this loop. A process has one reactor for all its life.
    """
    loop = asyncio.get_running_loop()
    if "twisted.internet.reactor" not in sys.modules:
        from twisted.internet import asyncioreactor

        asyncioreactor.install(loop)  # type: ignore[no-untyped-call]
    from twisted.internet import reactor

    if getattr(reactor, "_asyncioEventloop", None) is not loop:
        raise RuntimeError(
            "Twisted already has a reactor that does not run in this event loop: use one"
            " asyncio.run for the whole program, before anything imports the reactor"
        )
    ours = cast(Any, reactor)
    if not ours.running:
        ours.startRunning(installSignalHandlers=False)
    return ours


def _client(endpoint: str | IStreamClientEndpoint) -> IStreamClientEndpoint:
    reactor = running_reactor()
    if not isinstance(endpoint, str):
        return endpoint
    from twisted.internet.endpoints import clientFromString

    made: IStreamClientEndpoint
    made = clientFromString(reactor, endpoint)  # type: ignore[no-untyped-call]
    return made


def _server(endpoint: str | IStreamServerEndpoint) -> IStreamServerEndpoint:
    reactor = running_reactor()
    if not isinstance(endpoint, str):
        return endpoint
    from twisted.internet.endpoints import serverFromString

    made: IStreamServerEndpoint
    made = serverFromString(reactor, endpoint)  # type: ignore[no-untyped-call]
    return made


def _awaited(deferred: Deferred[Any]) -> asyncio.Future[Any]:
    """Cancelling the future cancels the Deferred."""
    return deferred.asFuture(asyncio.get_running_loop())


class RUDPTransport(asyncio.Transport):
    """
    A connection as C{asyncio} sees it.

    C{get_extra_info} knows C{peername}, C{sockname} and C{rudp}: the transport of
    L{IRUDPTransport<twisted_rudp.interfaces.IRUDPTransport>}, with its C{facts()} and
    C{counters()}.
    """

    def __init__(self, connection: _Connection) -> None:
        super().__init__()
        self._connection = connection
        self._transport: Any = connection.transport
        self._eof = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "rudp":
            return self._transport
        if name in ("peername", "sockname"):
            get = self._transport.getPeer if name == "peername" else self._transport.getHost
            address = get()
            return (address.host, address.port)
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """
        @raise RuntimeError: after C{write_eof}.
        """
        if self._eof:
            raise RuntimeError("cannot write after write_eof")
        if data:
            self._transport.write(bytes(data))

    def can_write_eof(self) -> bool:
        """RakNet has no half close, and KCP only between two ends of this package."""
        session = getattr(self._transport, "session", None)
        if session is not None:
            return Capability.HALF_CLOSE in session.engine.capabilities
        return hasattr(self._transport, "loseWriteConnection")

    def write_eof(self) -> None:
        """
        @raise NotImplementedError: this transport cannot half close.
        """
        if not self.can_write_eof():
            raise NotImplementedError("this transport has no half close")
        if not self._eof:
            self._eof = True
            self._connection.unregister()
            self._transport.loseWriteConnection()

    def close(self) -> None:
        """Deliver what was written, then end the connection."""
        self._connection.unregister()
        self._transport.loseConnection()

    def abort(self) -> None:
        self._connection.unregister()
        self._transport.abortConnection()

    def is_closing(self) -> bool:
        return bool(self._transport.disconnecting or self._transport.disconnected)

    def is_reading(self) -> bool:
        return not self._connection.reading_paused

    def pause_reading(self) -> None:
        if not self._connection.reading_paused:
            self._connection.reading_paused = True
            self._transport.pauseProducing()

    def resume_reading(self) -> None:
        if self._connection.reading_paused:
            self._connection.reading_paused = False
            self._transport.resumeProducing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._connection.protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._connection.protocol

    def get_write_buffer_size(self) -> int:
        """Unknown to C{asyncio}: the transport pauses the writer by itself."""
        return 0


@implementer(IHalfCloseableProtocol, IPushProducer)
class _Connection(Protocol):
    """
    Twisted's side of one connection. As a push producer it passes the transport's
    back-pressure on.
    """

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol
        self.reading_paused = False
        self._ours: RUDPTransport | None = None
        self._registered = False

    @property
    def ours(self) -> RUDPTransport:
        """The transport that C{asyncio} sees."""
        assert self._ours is not None
        return self._ours

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self._ours = RUDPTransport(self)
        transport.registerProducer(self, True)
        self._registered = True
        self.protocol.connection_made(self._ours)

    def unregister(self) -> None:
        """Nothing more is written, so a close need not wait for this producer."""
        if self._registered:
            self._registered = False
            transport: Any = self.transport
            transport.unregisterProducer()

    def dataReceived(self, data: bytes) -> None:
        self.protocol.data_received(data)

    def readConnectionLost(self) -> None:
        if not self.protocol.eof_received() and not self.ours.is_closing():
            self.ours.close()

    def writeConnectionLost(self) -> None:
        """Asked for by C{write_eof}."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        clean = isinstance(reason.value, ConnectionDone)
        self.protocol.connection_lost(None if clean else _as_os_error(reason))

    def pauseProducing(self) -> None:
        self.protocol.pause_writing()

    def resumeProducing(self) -> None:
        self.protocol.resume_writing()

    def stopProducing(self) -> None:
        """C{connectionLost} comes next."""


def _as_os_error(reason: Failure) -> Exception:
    """What C{asyncio} programs expect to catch, with Twisted's error as the cause."""
    error = ConnectionError(reason.getErrorMessage())
    error.__cause__ = reason.value
    return error


@implementer(IProtocolFactory)
class _Factory:
    """Builds Twisted's side of each connection."""

    def __init__(self, build: Callable[[], Protocol]) -> None:
        self._build = build

    def doStart(self) -> None:
        pass

    def doStop(self) -> None:
        pass

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return self._build()


class Server:
    """
    A listening port. As an asynchronous context manager it is closed at the end of the
    block.
    """

    def __init__(self, port: Any) -> None:
        self._port = port
        self._closing: Deferred[None] | None = None

    @property
    def port(self) -> Any:
        """Twisted's listening port, with C{configure} and C{connect}."""
        return self._port

    @property
    def address(self) -> tuple[str, int]:
        """The bound address."""
        host = self._port.getHost()
        return (host.host, host.port)

    def close(self) -> None:
        """Take no more connections; those that are open are given time to end."""
        if self._closing is None:
            self._closing = maybeDeferred(self._port.stopListening)

    async def wait_closed(self) -> None:
        """Wait until the socket is closed."""
        self.close()
        assert self._closing is not None
        waiting: Deferred[None] = Deferred()

        def over(result: Any) -> Any:
            waiting.callback(None)
            return result

        self._closing.addBoth(over)
        await _awaited(waiting)

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self.wait_closed()


async def create_connection(
    protocol_factory: Callable[[], asyncio.Protocol], endpoint: str | IStreamClientEndpoint
) -> tuple[RUDPTransport, asyncio.Protocol]:
    """
    Connect, as C{loop.create_connection} does.

    @raise OSError: there is no connection; C{TimeoutError} if the peer did not answer. The
        cause is Twisted's error.
    @raise ValueError: the description is invalid.
    """
    connection = _Connection(protocol_factory())
    await _connect(_client(endpoint), connection)
    return connection.ours, connection.protocol


async def _connect(endpoint: IStreamClientEndpoint, protocol: Protocol) -> None:
    connecting: Deferred[Any] = endpoint.connect(_Factory(lambda: protocol))
    await _awaited(connecting.addErrback(_translated))


def _translated(failure: Failure) -> Failure:
    """
    @raise OSError: instead of the errors of Twisted that are none.
    """
    problem = failure.value
    if isinstance(problem, TimedOut):
        raise TimeoutError(str(problem)) from problem
    if isinstance(problem, (ConnectError, DNSLookupError, ConnectionLost)):
        raise ConnectionError(str(problem)) from problem
    return failure


async def create_server(
    protocol_factory: Callable[[], asyncio.Protocol], endpoint: str | IStreamServerEndpoint
) -> Server:
    """
    Listen, as C{loop.create_server} does.

    @raise twisted.internet.error.CannotListenError: the address cannot be bound.
    @raise ValueError: the description is invalid.
    """
    factory = _Factory(lambda: _Connection(protocol_factory()))
    return Server(await _awaited(_server(endpoint).listen(factory)))


async def open_connection(
    endpoint: str | IStreamClientEndpoint, *, limit: int = LIMIT
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """
    Connect, as C{asyncio.open_connection} does.

    @param limit: bytes that the reader keeps before the peer is stopped.
    @raise OSError: see L{create_connection}.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await create_connection(lambda: protocol, endpoint)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def start_server(
    client_connected_cb: ClientConnected,
    endpoint: str | IStreamServerEndpoint,
    *,
    limit: int = LIMIT,
) -> Server:
    """
    Listen, as C{asyncio.start_server} does.

    @param client_connected_cb: called with a reader and a writer for each connection; a
        coroutine becomes a task.
    """
    loop = asyncio.get_running_loop()

    def build() -> asyncio.Protocol:
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        return asyncio.StreamReaderProtocol(reader, cast(Any, client_connected_cb), loop=loop)

    return await create_server(build, endpoint)


@implementer(IMessageProtocol, IPushProducer)
class MessageConnection(Protocol):
    """
    A connection that carries messages: C{async for message in connection} gives those of
    the peer until it ends, L{send} sends.
    """

    def __init__(self, connected: Callable[[MessageConnection], None], limit: int) -> None:
        """
        @param limit: messages kept before the peer is stopped.
        """
        self._connected = connected
        self._limit = limit
        self._messages: deque[Message] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._lost: Failure | None = None
        self._over = asyncio.Event()
        self._paused = False

    @property
    def rudp(self) -> Any:
        """The transport of L{IMessageTransport<twisted_rudp.interfaces.IMessageTransport>}."""
        return self.transport

    async def send(
        self,
        data: bytes,
        delivery: Delivery = Delivery.RELIABLE_ORDERED,
        channel: int = 0,
        priority: int = 0,
    ) -> None:
        """
        Queue a message; wait while too much is queued already.

        @raise ConnectionError: the connection has ended.
        @raise ValueError: the wire cannot carry this.
        """
        await self._room.wait()
        if self._lost is not None:
            raise _as_os_error(self._lost)
        self.rudp.send(data, delivery, channel, priority)

    async def receive(self) -> Message:
        """
        The next message.

        @raise EOFError: the peer has ended the connection in order.
        @raise ConnectionError: it was lost.
        """
        while not self._messages:
            if self._lost is not None:
                if isinstance(self._lost.value, ConnectionDone):
                    raise EOFError("the connection has ended")
                raise _as_os_error(self._lost)
            if self._waiting is None:
                self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        message = self._messages.popleft()
        if self._paused and 2 * len(self._messages) <= self._limit:
            self._paused = False
            self.rudp.resumeProducing()
        return message

    def __aiter__(self) -> AsyncIterator[Message]:
        return self._all()

    async def _all(self) -> AsyncIterator[Message]:
        while True:
            try:
                yield await self.receive()
            except EOFError:
                return

    async def close(self) -> None:
        """Deliver what was sent, and end the connection."""
        self.rudp.unregisterProducer()
        self.rudp.loseConnection()
        await self._over.wait()

    def abort(self) -> None:
        """End the connection at once."""
        self.rudp.abortConnection()

    # Twisted's side

    def connectionMade(self) -> None:
        self.rudp.registerProducer(self, True)
        self._connected(self)

    def messageReceived(self, message: Message) -> None:
        self._messages.append(message)
        if len(self._messages) >= self._limit and not self._paused:
            self._paused = True
            self.rudp.pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = reason
        self._room.set()
        self._over.set()
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def pauseProducing(self) -> None:
        self._room.clear()

    def resumeProducing(self) -> None:
        self._room.set()

    def stopProducing(self) -> None:
        """C{connectionLost} comes next."""


async def open_messages(
    endpoint: str | IStreamClientEndpoint, *, limit: int = 1024
) -> MessageConnection:
    """
    Connect for messages, with an endpoint such as C{raknet:...} or C{kcp:...:mode=messages}.

    @param limit: messages kept for the reader before the peer is stopped.
    @raise OSError: see L{create_connection}.
    """
    connection = MessageConnection(lambda ours: None, limit)
    await _connect(_client(endpoint), connection)
    return connection


async def start_message_server(
    client: MessageClient, endpoint: str | IStreamServerEndpoint, *, limit: int = 1024
) -> Server:
    """
    Listen for messages.

    @param client: a coroutine function, which becomes a task for each connection.
    """
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def connected(connection: MessageConnection) -> None:
        # The loop keeps no reference to a task of its own.
        task = loop.create_task(cast(Any, client(connection)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    factory = _Factory(lambda: MessageConnection(connected, limit))
    return Server(await _awaited(_server(endpoint).listen(factory)))
