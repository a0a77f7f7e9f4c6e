"""
What unknown peers can do to a KCP listener: nothing that lasts (UDP-7, the list of
section 20, item 21).
"""

from __future__ import annotations

from itertools import count, islice
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.task import LoopingCall
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp import stats
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.kcp.wire import HEADER_SIZE, MARK, PUSH, WASK, pack_header
from twisted_rudp.testing import MemoryNetwork

PORT = 4000
SERVER = "192.0.2.1"
CLIENT = "192.0.2.2"
STRANGER = "192.0.2.66"


class Counting(Factory):
    """Builds echoes and counts them."""

    noisy = False

    def __init__(self) -> None:
        self.built = 0

    def buildProtocol(self, address: Any) -> Protocol:
        self.built += 1
        return Echo()


class Echo(Protocol):
    """Says back what it hears."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Asking(Protocol):
    """A client that says something at once."""

    answered = b""

    def connectionMade(self) -> None:
        self.transport.write(b"is anybody there? " * 100)

    def dataReceived(self, data: bytes) -> None:
        self.answered += data


class UnknownPeerTests(SynchronousTestCase):
    """A listener, an unknown peer with a socket, and a real client."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=1)
        self.server = self.network.host("server", SERVER)
        self.client = self.network.host("client", CLIENT)
        self.unknown_peer = self.network.host("unknown_peer", STRANGER)
        self.factory = Counting()
        endpoint = KCPServerEndpoint(
            self.server.reactor,
            PORT,
            interface=SERVER,
            crypt="null",
            entropy=Random(1).randbytes,
        )
        self.port = self.successResultOf(endpoint.listen(self.factory))
        self.addCleanup(self.port.stopListening)
        self.protocol = DatagramProtocol()
        self.protocol.noisy = False  # type: ignore[attr-defined]
        self.unknown_peer.reactor.listenUDP(666, self.protocol, STRANGER)
        self.told: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self._note)
        self.addCleanup(globalLogPublisher.removeObserver, self._note)

    def _note(self, event: dict[str, Any]) -> None:
        if event["log_level"] > LogLevel.debug and event["log_namespace"].startswith(
            "twisted_rudp"
        ):
            self.told.append(event)

    def throw(self, datagram: bytes) -> None:
        """Send from the unknown peer's address, and let everything happen."""
        assert self.protocol.transport is not None
        self.protocol.transport.write(datagram, (SERVER, PORT))
        self.network.runFor(0.01)

    def snapshot(self) -> stats.PortStats:
        """The listener's counters."""
        # The newest; there may be those of earlier examples, whose networks nobody runs any more.
        return [
            port
            for port in stats.ports.snapshot().ports
            if port.host is not None and port.host == self.port.getHost()
        ][-1]

    def answers(self) -> int:
        """Bytes that went to the unknown peer."""
        return sum(
            len(sent.data)
            for sent in self.network.trace
            if sent.destination[0] == STRANGER
        )

    def thrown(self) -> int:
        """Bytes that came from the unknown peer."""
        return sum(
            len(sent.data) for sent in self.network.trace if sent.source[0] == STRANGER
        )

    def recorded(self, linger: float = 40) -> list[bytes]:
        """All that a real client sent in a short life."""
        endpoint = KCPClientEndpoint(
            self.client.reactor, SERVER, PORT, crypt="null", entropy=Random(2).randbytes
        )
        protocol = self.successResultOf(self._connected(endpoint))
        self.network.run(lambda: len(protocol.answered) == 1800)
        protocol.transport.loseConnection()
        self.network.runFor(linger)
        return [sent.data for sent in self.network.trace if sent.source[0] == CLIENT]

    def _connected(self, endpoint: KCPClientEndpoint) -> Any:
        connecting = endpoint.connect(Factory.forProtocol(Asking))
        self.network.run(lambda: connecting.called)
        return connecting

    def test_junk(self) -> None:
        """
        10 000 random datagrams: no exception, no session, all counted, and in the log
        one line at most, which guesses that somebody uses another cipher.
        """
        random = Random(3)
        for _ in range(100):
            for _ in range(100):
                assert self.protocol.transport is not None
                self.protocol.transport.write(
                    random.randbytes(random.randrange(1, 200)), (SERVER, PORT)
                )
            self.network.runFor(0.01)
        counters = self.snapshot().counters
        self.assertEqual(self.snapshot().sessions, ())
        self.assertEqual(self.factory.built, 0)
        self.assertEqual([event["log_format"] for event in self.told][1:], [])
        self.assertTrue(all("diagnosis" in event for event in self.told))
        self.assertEqual(counters["port.datagramsIn"], 10_000)
        dropped = [n for name, n in counters.items() if name.startswith("dropped.")]
        dropped.append(counters["unknownPeersDropped"])
        self.assertEqual(counters["demux.short"] + sum(dropped), 10_000)

    def test_manyOpenings(self) -> None:
        """
        Well-formed openings from one host that answers nothing: few sessions, none
        shown, all gone after the handshake time.
        """
        for conversation in range(1, 501):
            self.throw(pack_header(conversation, PUSH, 0, 32, 0, 0, 0, 1) + b"x")
        self.assertLessEqual(len(self.snapshot().sessions), 32)
        self.network.runFor(30)
        self.assertEqual(self.snapshot().sessions, ())
        self.assertEqual(self.factory.built, 0)
        self.assertEqual(self.told, [])

    def test_forgedProbe(self) -> None:
        """Any number of first words keeps no state and is answered by no more than was sent."""
        for conversation in range(200):
            self.throw(pack_header(conversation, WASK, MARK, 32, 0, 0, 0, 0))
        self.assertEqual(self.snapshot().sessions, ())
        self.assertEqual(self.answers(), 200 * HEADER_SIZE)

    def test_replayedOpening(self) -> None:
        """
        A whole recorded session, played from elsewhere, is shown to no factory and
        draws at most three times its own size.
        """
        recorded = self.recorded()
        self.assertEqual(self.factory.built, 1)
        for datagram in recorded:
            self.throw(datagram)
        self.network.runFor(30)
        self.assertEqual(self.factory.built, 1)
        self.assertLessEqual(self.answers(), 3 * self.thrown())
        self.assertEqual(self.snapshot().sessions, ())

    def test_replayedFromItsAddress(self) -> None:
        """
        A recorded session, played again from where it came from as soon as it is over and
        until its cookie has lapsed, is shown to no factory and draws little.
        """
        recorded = self.recorded(linger=1)
        (address,) = {sent.source for sent in self.network.trace if sent.source[0] == CLIENT}
        self.unknown_peer.rebind((STRANGER, 666), address)
        before = len(self.network.trace)
        for _ in range(40):
            for datagram in recorded:
                self.throw(datagram)
            self.network.runFor(1)
        self.assertEqual(self.factory.built, 1)
        sides = [0, 0]
        for sent in list(self.network.trace)[before:]:
            sides[sent.source[0] == SERVER] += len(sent.data)
        self.assertLessEqual(sides[1], 3 * sides[0])

    def test_forgedReplacement(self) -> None:
        """
        With C{sessions=replace} a forged first segment does not end the session of the
        address; one that was validated there does.
        """
        listening = KCPServerEndpoint(
            self.server.reactor, PORT + 1, interface=SERVER, crypt="null", sessions="replace"
        ).listen(self.factory)
        self.addCleanup(self.successResultOf(listening).stopListening)
        endpoint = KCPClientEndpoint(
            self.client.reactor, SERVER, PORT + 1, crypt="null", bindAddress=(CLIENT, 5000)
        )
        protocol = self.successResultOf(self._connected(endpoint))
        self.network.run(lambda: len(protocol.answered) == 1800)
        self.unknown_peer.rebind((STRANGER, 666), (CLIENT, 5000))
        assert self.protocol.transport is not None
        segment = pack_header(77, PUSH, 0, 32, 0, 0, 0, 1) + b"x"
        self.protocol.transport.write(segment, (SERVER, PORT + 1))
        self.network.runFor(0.5)
        self.unknown_peer.rebind((STRANGER, 666), (STRANGER, 666))
        protocol.transport.write(b"still there?")
        self.network.run(lambda: len(protocol.answered) == 1812)
        protocol.transport.abortConnection()
        self.network.runFor(1)

    def test_forgedFirstData(self) -> None:
        """
        Forged first segments fill the backlog again and again, and a client of ours
        connects at the first try: its cookie competes with none of them.
        """
        listening = KCPServerEndpoint(
            self.server.reactor, PORT + 1, interface=SERVER, crypt="null", backlog=20
        ).listen(self.factory)
        port = self.successResultOf(listening)
        self.addCleanup(port.stopListening)
        conversations = count(1)

        def flood() -> None:
            for conv in islice(conversations, 50):
                segment = pack_header(conv, PUSH, 0, 32, 0, 0, 0, 1) + b"x"
                assert self.protocol.transport is not None
                self.protocol.transport.write(segment, (SERVER, PORT + 1))

        flooding = LoopingCall(flood)
        flooding.clock = self.server.reactor
        flooding.start(0.1)
        self.network.runFor(0.5)
        endpoint = KCPClientEndpoint(self.client.reactor, SERVER, PORT + 1, crypt="null", timeout=2)
        protocol = self.successResultOf(self._connected(endpoint))
        self.network.run(lambda: len(protocol.answered) == 1800)
        flooding.stop()
        protocol.transport.abortConnection()
        self.network.runFor(1)

    @given(
        st.integers(0, 2**32 - 1),
        st.lists(st.tuples(st.integers(0, 99), st.integers(0, 2000), st.integers(0, 255))),
        st.integers(0, 2000),
    )
    @settings(max_examples=60, deadline=None, derandomize=True)
    def test_mutated(self, seed: int, changes: list[tuple[int, int, int]], cut: int) -> None:
        """
        Real datagrams, truncated and with bytes changed, from the client's own
        address too: no exception, and the next client is served.
        """
        self.setUp()
        recorded = self.recorded()
        for number, position, value in changes:
            datagram = bytearray(recorded[number % len(recorded)])
            datagram[position % len(datagram)] = value
            self.throw(bytes(datagram))
            self.throw(bytes(datagram[: cut % (len(datagram) + 1)]))
        before = self.factory.built
        self.assertGreater(len(self.recorded()), len(recorded))
        self.assertEqual(self.factory.built, before + 1)
        # That datagrams come truncated may be said: it is true here.
        self.assertEqual([each for each in self.told if "diagnosis" not in each], [])
