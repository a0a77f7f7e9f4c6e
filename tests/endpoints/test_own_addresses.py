"""Servers that have several addresses are reached by each of them (F3)."""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.internet import defer, reactor
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.net.test_open import NO_IPV6


class Echo(Protocol):
    """Answers."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Asker(Protocol):
    """Tells what came, and when it is over."""

    def __init__(self) -> None:
        self.answered: defer.Deferred[bytes] = defer.Deferred()
        self.lost: defer.Deferred[None] = defer.Deferred()

    def dataReceived(self, data: bytes) -> None:
        if not self.answered.called:
            self.answered.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class AddressTests(TestCase):
    """On real sockets: the loopback network has many addresses, and routing picks one."""

    if sys.platform != "linux":
        skip = "elsewhere loopback has one address"

    async def reach(self, transport: str, interface: str, host: str, kind: str) -> None:
        """A server that listens everywhere answers from the address that was dialled."""
        server = f"{transport}:0:interface={interface}:portKind={kind}"
        listening: Any = await serverFromString(reactor, server).listen(Factory.forProtocol(Echo))
        number = listening.getHost().port
        client = f"{transport}:host={host}:port={number}:timeout=5"
        asker = await connectProtocol(clientFromString(reactor, client), Asker())
        asker.transport.write(bytes(20_000))
        await asker.answered
        asker.transport.abortConnection()
        await asker.lost
        await defer.maybeDeferred(listening.stopListening)

    async def test_wildcard(self) -> None:
        """IPv4, by the port that joins runs and by the one that does not."""
        for transport in ("kcp", "raknet", "qotp"):
            for kind in ("auto", "plain"):
                await self.reach(transport, "0.0.0.0", "127.0.0.9", kind)
            await self.reach(transport, "0.0.0.0", "0.0.0.0", "auto")

    async def test_bothFamilies(self) -> None:
        """Of a socket for both families, also the addresses of the old one."""
        if NO_IPV6:
            self.skipTest("no IPv6 on this machine")
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            if probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
                self.skipTest("IPv6 sockets take no IPv4 here")
        for transport in ("kcp", "raknet", "qotp"):
            await self.reach(transport, r"\:\:", "127.0.0.9", "auto")
            for host in (r"\:\:1", r"\:\:"):
                await self.reach(transport, r"\:\:", host, "auto")
