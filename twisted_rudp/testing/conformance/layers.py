# mypy: allow-untyped-calls
"""Twisted's own protocols on top: section 9 of the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.internet import ClientService
from twisted.internet import error
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IListeningPort, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.amp import AMP, Command, String
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.portforward import ProxyFactory, ProxyServer
from twisted.python.failure import Failure
from twisted.spread import pb
from twisted.web.client import Agent, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import File
from zope.interface import implementer, providedBy

from .actors import Pusher, Recorder, pattern
from .case import ConformanceCase


@implementer(IBodyProducer)
class BytesBody:
    """A request body that is at hand."""

    def __init__(self, data: bytes) -> None:
        self.length = len(data)
        self._data = data

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Everything has been written already."""

    resumeProducing = stopProducing = pauseProducing


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class OneEndpoint:
    """
    Leads every request to the same endpoint.

    @ivar open: connections that are not lost yet. An agent that is done with one
        does not wait for its orderly end; a test has to.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, changed: Callable[[], None]) -> None:
        """
        @param changed: called when a connection is lost.
        """
        self.open = 0
        self._endpoint = endpoint
        self._changed = changed

    def endpointForURI(self, uri: Any) -> OneEndpoint:
        return self

    def connect(self, factory: Any) -> Deferred[Any]:
        return self._endpoint.connect(factory).addCallback(self._watch)

    def _watch(self, protocol: Any) -> Any:
        self.open += 1
        inner = protocol.connectionLost

        def lost(reason: Failure) -> None:
            inner(reason)
            self.open -= 1
            self._changed()

        protocol.connectionLost = lost
        return protocol


class Length(Resource):
    """Answers a POST with how long its body was, and a GET with who asks."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        return b"%d" % len(request.content.read())

    def render_GET(self, request: Any) -> bytes:
        host: str = request.getClientIP()
        return host.encode()


class Answer(Resource):
    """The same answer to every GET."""

    isLeaf = True

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def render_GET(self, request: Any) -> bytes:
        return self._data


class WebCase(ConformanceCase):
    """A web server and an agent."""

    async def serve(self, resource: Any, persistent: bool = False) -> Agent:
        """
        Serve a resource.

        @return: an agent all of whose requests go there.
        """
        port = await self.listen(Site(resource, reactor=self.stage.serverReactor))
        reactor = self.stage.clientReactor
        self.pool = HTTPConnectionPool(reactor, persistent)
        endpoint = OneEndpoint(self.clientEndpoint(port), self.stage.changed)
        self.closed.append(lambda: not endpoint.open)
        agent: Agent = Agent.usingEndpointFactory(reactor, endpoint, self.pool)
        return agent

    async def request(self, agent: Agent, method: bytes, body: bytes | None = None) -> bytes:
        """
        @return: the body of the answer.
        """
        producer = None if body is None else BytesBody(body)
        answer = await self.stage.result(
            agent.request(method, b"http://example.org/", Headers(), producer)
        )
        self.assertEqual(answer.code, 200)
        content: bytes = await self.stage.result(readBody(answer))
        return content


class Web(WebCase):
    """C{twisted.web}, server and client (LAY-2)."""

    async def test_download(self) -> None:
        """LAY-2: a big answer arrives whole."""
        data = pattern(3_000_000)
        agent = await self.serve(Answer(data))
        self.assertTrue(await self.request(agent, b"GET") == data)

    async def test_upload(self) -> None:
        """LAY-2: a big request body arrives whole."""
        agent = await self.serve(Length())
        self.assertEqual(await self.request(agent, b"POST", pattern(3_000_000)), b"3000000")

    async def test_persistent(self) -> None:
        """LAY-2: several requests go over one connection, which is closed in the end."""
        agent = await self.serve(Length(), persistent=True)
        for size in (1, 10, 100):
            self.assertEqual(await self.request(agent, b"POST", bytes(size)), b"%d" % size)
        await self.stage.result(self.pool.closeCachedConnections())
        await self.stage.settle()

    async def test_clientIP(self) -> None:
        """ADDR-1: the web server sees the client's IP address."""
        agent = await self.serve(Length())
        self.assertEqual(await self.request(agent, b"GET"), self.stage.clientHost.encode())


class WebFiles(WebCase):
    """Files, which C{twisted.web} serves with producers that run on the global reactor."""

    simulated = False

    async def test_download(self) -> None:
        """LAY-2: a file served with a producer arrives whole."""
        data = pattern(3_000_000)
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(data)
        resource = File(path)
        resource.isLeaf = True
        agent = await self.serve(resource)
        self.assertTrue(await self.request(agent, b"GET") == data)


class Upper(Command):
    """Asks for a text in capitals."""

    arguments = [(b"text", String())]
    response = [(b"text", String())]


class UpperAMP(AMP):
    """Answers L{Upper}."""

    @Upper.responder
    def upper(self, text: bytes) -> dict[str, bytes]:
        return {"text": text.upper()}


class UpperRoot(pb.Root):
    """A remote object with one method."""

    def remote_upper(self, text: str) -> str:
        return text.upper()


class EchoLines(LineReceiver):
    """Sends lines back until told to hang up."""

    transport: Any

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line)
        if line == b"quit":
            self.transport.loseConnection()


class RemoteCalls(ConformanceCase):
    """AMP and Perspective Broker."""

    async def test_AMP(self) -> None:
        """LAY-2: AMP calls are answered, many at a time; closing ends them."""
        port = await self.listen(Factory.forProtocol(UpperAMP))
        client = await self.connect(port, Factory.forProtocol(AMP))
        calls = [client.callRemote(Upper, text=b"%d a" % n) for n in range(50)]
        for number, call in enumerate(calls):
            self.assertEqual((await self.stage.result(call))["text"], b"%d A" % number)
        client.transport.loseConnection()
        await self.assertFails(
            client.callRemote(Upper, text=b"late"), error.ConnectionDone, error.ConnectionLost
        )
        await self.stage.settle()

    async def test_perspectiveBroker(self) -> None:
        """LAY-2: a remote object can be called."""
        port = await self.listen(pb.PBServerFactory(UpperRoot()))
        factory = pb.PBClientFactory()
        await self.connect(port, factory)
        root = await self.stage.result(factory.getRootObject())
        answer = await self.stage.result(root.callRemote("upper", "text"))
        self.assertEqual(answer, "TEXT")
        lost: Deferred[object] = Deferred()
        root.notifyOnDisconnect(lambda ignored: lost.callback(None))
        factory.disconnect()
        await self.stage.result(lost)
        await self.stage.settle()


class Lines(ConformanceCase):
    """C{LineReceiver}."""

    async def echo(self, pieces: Iterable[bytes]) -> Recorder:
        """Send these pieces to a server that echoes lines until C{quit}."""
        client = self.factory()
        await self.connect(await self.listen(Factory.forProtocol(EchoLines)), client)
        near = client.built[0]
        for piece in pieces:
            near.transport.write(piece)
        await self.lost(near)
        self.assertLost(near, error.ConnectionDone)
        return near

    async def test_lines(self) -> None:
        """
        LAY-2: lines come back; loseConnection right after sendLine loses none, and
        what came after it is not looked at (TR-5).
        """
        near = await self.echo([b"one\r\ntwo\r\nquit\r\nignored\r\n"])
        self.assertEqual(near.received, b"one\r\ntwo\r\nquit\r\n")

    async def test_byteByByte(self) -> None:
        """The same, one byte to a write."""
        text = b"one\r\nquit\r\n"
        near = await self.echo(text[n : n + 1] for n in range(len(text)))
        self.assertEqual(near.received, text)


class Wrapped(ConformanceCase):
    """What Twisted puts between a transport and a protocol, or two of them."""

    async def test_wrapper(self) -> None:
        """
        LAY-3: a wrapper declares what the transport does, passes on what it does not
        know, and carries a producer's data.
        """
        client, server = self.factory(), self.factory()
        port = await self.listen(WrappingFactory(server))
        await self.connect(port, WrappingFactory(client))
        await self.stage.until(lambda: server.made)
        near, far = client.made[0], server.made[0]
        self.assertIsInstance(far.transport, ProtocolWrapper)
        inner = far.transport.transport
        self.assertEqual(
            set(providedBy(inner)) - set(providedBy(far.transport)), set(), "not declared"
        )
        self.assertEqual(far.transport.getPeer(), inner.getPeer())
        self.assertFalse(far.transport.disconnecting)
        far.transport.setTcpNoDelay(True)
        self.assertTrue(inner.getTcpNoDelay())
        pusher = Pusher(near, self.stage, pattern(50_000), 20)
        pusher.start()
        await self.received(far, 1_000_000)
        self.assertTrue(far.received == pattern(50_000) * 20)
        far.transport.loseConnection()
        await self.lost(near, far)
        self.assertLost(near, error.ConnectionDone)

    async def test_portForward(self) -> None:
        """
        LAY-2: C{twisted.protocols.portforward} joins two connections, whose producers
        each is for the other.
        """
        client, server = self.factory(), self.factory()
        behind = await self.listen(server)
        middle = ProxyFactory("", 0)

        class Middle(ProxyServer):
            reactor = _Dialler(self, behind)  # type: ignore[assignment]

        middle.protocol = Middle
        await self.connect(await self.listen(middle), client)
        near = client.made[0]
        near.transport.write(pattern(1_000_000))
        await self.stage.until(lambda: server.made)
        far = server.made[0]
        await self.received(far, 1_000_000)
        self.assertTrue(far.received == pattern(1_000_000))
        far.transport.write(pattern(300_000))
        far.transport.loseConnection()
        await self.lost(near, far)
        self.assertTrue(near.received == pattern(300_000))
        self.assertLost(near, error.ConnectionDone)


class _Dialler:
    """For what wants a reactor to connect by TCP with."""

    def __init__(self, case: ConformanceCase, port: IListeningPort) -> None:
        self._endpoint = case.clientEndpoint(port)

    def connectTCP(self, host: str, port: int, factory: Any) -> None:
        """Connect to where the endpoint leads."""
        self._endpoint.connect(factory)


class Services(ConformanceCase):
    """C{ClientService} (SVC-9)."""

    async def test_startAndStop(self) -> None:
        """SVC-9: the service connects, and stopping it closes the connection."""
        server, client = self.factory(), self.factory()
        port = await self.listen(server)
        service = ClientService(self.clientEndpoint(port), client, clock=self.stage.clientReactor)
        service.startService()
        near: Any = await self.stage.result(service.whenConnected())
        self.assertIsInstance(near, Recorder)
        await self.stage.until(lambda: server.made)
        await self.stage.result(service.stopService())
        await self.lost(client.built[0], server.made[0])
        self.assertLost(server.made[0], error.ConnectionDone)

    async def test_reconnects(self) -> None:
        """SVC-9: it connects again when the connection is lost."""
        server, client = self.factory(), self.factory()
        port = await self.listen(server)
        service = ClientService(
            self.clientEndpoint(port),
            client,
            retryPolicy=lambda attempt: 0.0,
            clock=self.stage.clientReactor,
        )
        service.startService()
        await self.stage.until(lambda: server.made)
        server.made[0].transport.loseConnection()
        await self.stage.until(lambda: len(server.made) == 2)
        await self.stage.result(service.stopService())
        await self.lost(*client.built, *server.made)

    async def test_stoppedWhileConnecting(self) -> None:
        """CONN-5, SVC-9: stopping the service cancels an attempt under way."""
        client = self.factory()
        port = await self.listen(self.factory())
        service = ClientService(self.clientEndpoint(port), client, clock=self.stage.clientReactor)
        service.startService()
        await self.stage.result(service.stopService())
        await self.stage.settle()
        self.assertEqual(client.made, [])
