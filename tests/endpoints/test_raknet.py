"""
Tests for L{twisted_rudp.endpoints.raknet}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.trial.unittest import TestCase

from twisted_rudp.endpoints.raknet import RakNetClientEndpoint
from twisted_rudp.raknet.offline import MAGIC, Reply1, Request1, Request2, pack, parse

HOST = "127.0.0.1"


class _Listener(DatagramProtocol):
    """
    Answers first requests and keeps the first second one.
    """

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
    """
    The number that a client names itself by.
    """

    async def asked(self, **settings: Any) -> int:
        """
        The GUID of a client's second request.
        """
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
        """
        One that was given is used as it is.
        """
        self.assertEqual(await self.asked(guid=7), 7)
