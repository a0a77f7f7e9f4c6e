"""Tests for L{twisted_rudp.endpoints.pinging}: pings and pongs without sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import DNSLookupError, TimeoutError
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.interfaces import Pong
from twisted_rudp.raknet import offline
from twisted_rudp.testing import Impairments, MemoryNetwork

PORT = 19132
BEDROCK = "MCPE;A \\; B;11;1.20;3;20;77"


class Answering(DatagramProtocol):
    """Answers each ping with what a function makes of it."""

    def __init__(self, answer: Callable[[offline.Ping], bytes]) -> None:
        self.answer = answer
        self.pings = 0

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        ping = offline.parse(datagram)
        assert isinstance(ping, offline.Ping)
        self.pings += 1
        self.transport.write(self.answer(ping), addr)


class PingTests(SynchronousTestCase):
    """C{endpoint.ping()}, and C{endpoint.answerPings()} at the other end."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=1, delay=0.02)
        self.here = self.network.host("here")
        self.there = self.network.host("there")

    def ping(self, host: str = "there", **settings: Any) -> Deferred[Pong]:
        """Begin a ping."""
        return RakNetClientEndpoint(self.here.reactor, host, PORT, **settings).ping()

    def answer(self, **settings: Any) -> Any:
        """Let the other end answer pings."""
        endpoint = RakNetServerEndpoint(self.there.reactor, PORT, **settings)
        return self.successResultOf(endpoint.answerPings())

    def closed(self) -> None:
        """Nothing of a ping is left."""
        self.network.runFor(0.1)
        self.assertEqual(self.here.reactor.getDelayedCalls(), [])

    def test_pong(self) -> None:
        """The first pong has the peer, its GUID, text, fields and the round trip."""
        port = self.answer(guid=5, pongData=lambda: BEDROCK.encode())
        pinging = self.ping()
        self.assertNoResult(pinging)
        self.network.runFor(0.5)
        pong = self.successResultOf(pinging)
        self.assertEqual((pong.guid, pong.text), (5, BEDROCK))
        self.assertEqual(pong.fields and pong.fields["motd"], "A ; B")
        self.assertAlmostEqual(pong.seconds, 0.04, places=3)
        self.assertEqual(pong.address.port, PORT)
        self.assertEqual(port.getHost().port, PORT)
        port.startListening()
        self.closed()
        stopping = port.stopListening()
        self.network.runFor(0.1)
        self.assertIsNone(self.successResultOf(stopping))
        failing = self.ping(timeout=2)
        self.network.runFor(3)
        self.failureResultOf(failing, TimeoutError)

    def test_repeated(self) -> None:
        """A ping that is lost is sent again each second until somebody answers."""
        self.answer(motd="here")
        self.network.impair(Impairments(delay=0.02, drop_indices=(0, 1)), self.here, self.there)
        pinging = self.ping(timeout=30)
        self.network.runFor(1.9)
        self.assertNoResult(pinging)
        self.network.runFor(3)
        self.assertEqual(self.successResultOf(pinging).text, "here")
        self.closed()

    def test_timeout(self) -> None:
        """Where nobody answers it fails after the time-out."""
        pinging = self.ping(timeout=3)
        self.network.runFor(2.9)
        self.assertNoResult(pinging)
        self.network.runFor(0.2)
        failure = self.failureResultOf(pinging, TimeoutError)
        self.assertIn(f"there port {PORT}", str(failure.value))
        self.closed()

    def test_cancelled(self) -> None:
        """Cancelling leaves nothing behind."""
        for wait in (0.0, 0.05):
            pinging = self.ping()
            self.network.runFor(wait)
            pinging.cancel()
            self.failureResultOf(pinging, CancelledError)
            self.closed()

    def test_unknownHost(self) -> None:
        """A host without addresses, or whose name is none, fails with that."""
        pinging = self.ping("nowhere")
        self.network.runFor(1)
        self.failureResultOf(pinging, DNSLookupError)
        pinging = self.ping("a" * 300)
        self.network.runFor(1)
        self.failureResultOf(pinging)
        self.closed()

    def test_otherClock(self) -> None:
        """
        A pong with a time that was not ours counts from the last ping; what is no pong, or
        comes from another address, is nothing.
        """
        def answer(ping: offline.Ping) -> bytes:
            return offline.pack(offline.Pong(1, 9, b"\0\2hi"))

        listener = Answering(answer)
        self.there.reactor.listenUDP(PORT, listener)
        pinging = self.ping()
        self.network.runFor(0.5)
        pong = self.successResultOf(pinging)
        self.assertEqual((pong.guid, pong.text, listener.pings > 0), (9, "hi", True))
        self.assertAlmostEqual(pong.seconds, 0.04, places=3)

    def test_noPong(self) -> None:
        """Anything else from there is passed over."""
        listener = Answering(lambda ping: b"\x1cnonsense")
        self.there.reactor.listenUDP(PORT, listener)
        pinging = self.ping(timeout=2)
        self.network.runFor(3)
        self.failureResultOf(pinging, TimeoutError)
        self.assertGreater(listener.pings, 1)

    def test_magic(self) -> None:
        """A ping with another magic is for other programs."""
        self.answer(motd="x", magic=bytes(range(16)))
        pinging = self.ping(timeout=2)
        self.network.runFor(3)
        self.failureResultOf(pinging, TimeoutError)
        pinging = self.ping(timeout=2, magic=bytes(range(16)))
        self.network.runFor(1)
        self.assertEqual(self.successResultOf(pinging).text, "x")
