"""Tests for L{twisted_rudp.endpoints.raknet}."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, TimeoutError
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.raknet.offline import MAGIC, Reply1, Request1, Request2, pack, parse
from twisted_rudp.testing import MemoryNetwork

HOST = "127.0.0.1"


class _Listener(DatagramProtocol):
    """Answers first requests and keeps the first second one."""

    def __init__(self) -> None:
        self.request: Deferred[Request2] = Deferred()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        message = parse(datagram)
        if isinstance(message, Request1):
            reply = Reply1(guid=1, cookie=None, mtu=message.mtu)
            self.transport.write(pack(reply, MAGIC), addr)
        elif isinstance(message, Request2) and not self.request.called:
            self.request.callback(message)


class GuidTests(TestCase):
    """The number that a client names itself by."""

    async def asked(self, **settings: Any) -> int:
        """The GUID of a client's second request."""
        from twisted.internet import reactor

        listener = _Listener()
        port = reactor.listenUDP(0, listener, interface=HOST)  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        endpoint = RakNetClientEndpoint(reactor, HOST, port.getHost().port, **settings)
        connecting = endpoint.connect(Factory.forProtocol(Protocol))
        request = await listener.request
        connecting.cancel()
        await self.assertFailure(connecting, ConnectingCancelledError)
        return request.guid

    async def test_negative(self) -> None:
        """
        It has the highest bit, as those of Bedrock clients: newest go-raknet refuses
        any other and then its host (raknet.md 1, GUID).
        """
        self.assertEqual(await self.asked(entropy=bytes) >> 63, 1)

    async def test_given(self) -> None:
        """One that was given is used as it is."""
        self.assertEqual(await self.asked(guid=7), 7)


class FittingTests(SynchronousTestCase):
    """Who fits whom."""

    def dial(self, **settings: Any) -> Deferred[Any]:
        """Towards a server of the versions 10 and 11 with a magic of its own."""
        network = MemoryNetwork(seed=2, delay=0.01)
        near, far = network.host("near"), network.host("far")
        server = RakNetServerEndpoint(
            far.reactor, 19132, protocol=(10, 11), magic=bytes(range(16))
        )
        self.successResultOf(server.listen(Factory.forProtocol(Protocol)))
        client = RakNetClientEndpoint(near.reactor, far.address, 19132, timeout=3, **settings)
        connecting = client.connect(Factory.forProtocol(Protocol))
        network.runFor(4)
        return connecting

    def test_versions(self) -> None:
        """Each version of the server's is served, another is told what would be."""
        for version in (10, 11):
            dialled = self.dial(protocol=version, magic=bytes(range(16)))
            self.assertTrue(self.successResultOf(dialled).connected)
        failure = self.failureResultOf(self.dial(protocol=9, magic=bytes(range(16))), ConnectError)
        self.assertIn("protocol 11, not 9", str(failure.value))

    def test_magic(self) -> None:
        """With another magic the server is as good as not there."""
        self.failureResultOf(self.dial(), TimeoutError)


class PasswordTests(SynchronousTestCase):
    """A listener with a password."""

    def test_again(self) -> None:
        """After a wrong password the same port may try again at once (B7)."""
        network = MemoryNetwork(seed=1)
        client, server = network.host("client", "10.0.0.1"), network.host("server")
        RakNetServerEndpoint(server.reactor, 4000, password="right").listen(
            Factory.forProtocol(Protocol)
        )
        results: list[Any] = []
        for password in ("wrong", "right"):
            connecting = RakNetClientEndpoint(
                client.reactor, "server", 4000, password=password, bindAddress=("10.0.0.1", 5000)
            ).connect(Factory.forProtocol(Protocol))
            connecting.addBoth(results.append)
            network.run(lambda: connecting.called, 3)  # noqa: B023
        self.assertIsInstance(results[0].value, ConnectError)
        self.assertIsInstance(results[1], Protocol)
