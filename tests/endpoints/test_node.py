"""Tests for L{twisted_rudp.endpoints.node}, on a simulated network."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tests.discovery.support import Lan, addresses, key
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.nodes import Source
from twisted_rudp.discovery.profiles import V1, V4
from twisted_rudp.discovery.server import DiscoveryServer
from twisted_rudp.discovery.service import discoveryOf
from twisted_rudp.endpoints import node
from twisted_rudp.endpoints.kcp import KCPServerEndpoint
from twisted_rudp.endpoints.node import NodeClientEndpoint, TransportClient, serverAddress
from twisted_rudp.endpoints.qotp import QOTPServerEndpoint
from twisted_rudp.errors import NodeNotFound

ALICE = NodeId.from_text("alice")


class Greeting(Protocol):
    """Says hello and remembers what it hears."""

    def __init__(self) -> None:
        self.heard = b""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")

    def dataReceived(self, data: bytes) -> None:
        self.heard += data


class FakeEndpoint:
    """A transport that tells how it is dialled and leaves the outcome to the test."""

    made: list[FakeEndpoint] = []

    def __init__(self, reactor: Any, host: str, port: int, **options: Any) -> None:
        self.where = (host, port)
        self.options = options
        self.cancelled = False
        self.result: Deferred[Any] = Deferred(self._cancelled)
        FakeEndpoint.made.append(self)

    def _cancelled(self, result: Deferred[Any]) -> None:
        self.cancelled = True

    def connect(self, factory: Any) -> Deferred[Any]:
        return self.result


class NodeCase(SynchronousTestCase):
    """Two machines; one is to be found by the other."""

    def setUp(self) -> None:
        self.lan = Lan()
        self.network = self.lan.network
        self.one, self.two = self.lan.host("one"), self.lan.host("two")
        self.addCleanup(self.clean)
        FakeEndpoint.made.clear()

    def clean(self) -> None:
        """No socket and no timer is left."""
        self.network.runFor(90)
        self.assertEqual([host.ports for host in self.network.hosts if host.ports], [])
        self.assertEqual(self.network.clock.getDelayedCalls(), [])

    def fake(self, **proofs: str | None) -> None:
        """Have transports that are only pretended, each with the argument for its key."""
        table = {
            name: TransportClient("tests.endpoints.test_node", "FakeEndpoint", proof)
            for name, proof in proofs.items()
        }
        self.patch(node, "CLIENTS", table)

    def serve(self, host: Any, number: int = 4000) -> None:
        factory: Any = Factory.forProtocol(Greeting)
        port = self.successResultOf(KCPServerEndpoint(host.reactor, number).listen(factory))
        self.addCleanup(port.stopListening)

    def announce(self, host: Any, id: NodeId, *urls: str, **how: Any) -> None:
        discovery = discoveryOf(host.reactor)
        self.addCleanup(discovery.announce(id, urls, **how).release)
        self.network.runFor(0.1)

    def connect(self, id: NodeId | str = ALICE, **arguments: Any) -> Deferred[Any]:
        endpoint = NodeClientEndpoint(self.two.reactor, id, **arguments)
        factory: Any = Factory.forProtocol(Greeting)
        return endpoint.connect(factory)


class ConnectTests(NodeCase):
    """Found and connected, over KCP."""

    def check(self, connecting: Deferred[Any]) -> None:
        self.network.run(connecting)
        greeting = self.successResultOf(connecting)
        self.network.run(lambda: greeting.heard == b"hello")
        greeting.transport.loseConnection()
        self.network.runFor(5)

    def test_v4(self) -> None:
        """A node announced with its transport is found on the local network and connected."""
        self.serve(self.one)
        self.announce(self.one, ALICE, "kcp://0.0.0.0:4000")
        began = self.network.clock.seconds()
        self.check(self.connect())
        self.assertLess(self.network.clock.seconds() - began, 6)

    def test_v1(self) -> None:
        """A node announced by its port only is dialled with our transports."""
        self.serve(self.one)
        self.announce(self.one, ALICE, "kcp://0.0.0.0:4000", profiles=(V1,))
        self.check(self.connect(lan="v1", timeout=40))

    def test_server(self) -> None:
        """A node that only the server knows is found there."""
        server = DiscoveryServer(self.network.host("rendezvous").reactor)
        server.start()
        self.addCleanup(server.stop)
        self.serve(self.one)
        known = discoveryOf(self.one.reactor).server("rendezvous", 22025)
        self.announce(self.one, ALICE, "kcp://0.0.0.0:4000", profiles=(), server=known)
        self.check(self.connect(lan="none", server="rendezvous"))

    def test_deadFirst(self) -> None:
        """
        An address where nobody is does not hold up another that works; next time the
        one that worked is dialled first.
        """
        self.serve(self.one)
        self.announce(self.one, ALICE, "kcp://10.0.0.77:1", "kcp://0.0.0.0:4000")
        lease = discoveryOf(self.two.reactor).listen()
        began = self.network.clock.seconds()
        self.check(self.connect())
        self.assertLess(self.network.clock.seconds() - began, 7)
        [first, *_] = discoveryOf(self.two.reactor).registry.candidates(ALICE)
        self.assertIn(str(first.address), ("kcp://10.0.0.1:4000", "kcp://[fd00::1]:4000"))
        lease.release()

    def test_string(self) -> None:
        """The same from an endpoint string, with arguments of the transport."""
        self.serve(self.one)
        self.announce(self.one, ALICE, "kcp://0.0.0.0:4000")
        endpoint = clientFromString(self.two.reactor, "node:alice:transports=kcp:profile=fast")
        factory: Any = Factory.forProtocol(Greeting)
        self.check(endpoint.connect(factory))


class KeyTests(NodeCase):
    """A QOTP node, whose id is its public key."""

    def serveKey(self, host: Any, seed: str, number: int = 8888) -> NodeId:
        factory: Any = Factory.forProtocol(Greeting)
        endpoint = QOTPServerEndpoint(host.reactor, number, seed=seed)
        port = self.successResultOf(endpoint.listen(factory))
        self.addCleanup(port.stopListening)
        return NodeId(endpoint.publicKey)

    def test_proved(self) -> None:
        """
        The one who owns the key is connected to, by QOTP alone, although somebody else
        announces the same id and is dialled too, and although KCP is announced.
        """
        id = self.serveKey(self.one, "the true one")
        liar = self.lan.host("liar")
        self.serveKey(liar, "another")
        self.serve(liar)
        self.announce(liar, id, "kcp://0.0.0.0:4000", "qotp://0.0.0.0:8888")
        self.announce(self.one, id, "qotp://0.0.0.0:8888")
        lease = discoveryOf(self.two.reactor).listen()
        self.network.runFor(31)
        connecting = self.connect(id.key.hex())
        self.network.run(connecting)
        greeting = self.successResultOf(connecting)
        self.assertIn(greeting.transport.getPeer().host, self.one.addresses)
        self.network.run(lambda: greeting.heard == b"hello")
        greeting.transport.loseConnection()
        lease.release()
        self.network.runFor(10)

    def test_impostor(self) -> None:
        """Where only somebody else answers, nobody is connected to."""
        id = NodeId(QOTPServerEndpoint(self.one.reactor, 1, seed="the true one").publicKey)
        liar = self.lan.host("liar")
        self.serveKey(liar, "another")
        self.announce(liar, id, "qotp://0.0.0.0:8888", "udp://0.0.0.0:8888")
        connecting = self.connect(id, timeout=20)
        self.network.runFor(21)
        failure = self.failureResultOf(connecting)
        self.assertTrue(failure.check(error.ConnectError, error.TimeoutError), failure)


class FailureTests(NodeCase):
    """Not found or not reached."""

    def test_nobody(self) -> None:
        """A node nobody announces is not found when time is up."""
        connecting = self.connect(timeout=7)
        self.network.runFor(6.9)
        self.assertNoResult(connecting)
        self.network.runFor(0.2)
        failure = self.failureResultOf(connecting, NodeNotFound)
        self.assertIn("alice", str(failure.value))

    def test_nobodyAnswers(self) -> None:
        """
        A node that is announced and does not answer is a timeout, all in all in the
        time that was given.
        """
        self.announce(self.one, ALICE, "kcp://0.0.0.0:4000")
        connecting = self.connect(timeout=3)
        self.network.runFor(3.1)
        self.failureResultOf(connecting, error.TimeoutError)

    def test_otherTransports(self) -> None:
        """
        A node that is announced for transports we do not dial is not found, and the
        error says so.
        """
        self.announce(self.one, ALICE, "tcp://0.0.0.0:4000", "quic://0.0.0.0:4000")
        connecting = self.connect()
        self.network.runFor(1)
        failure = self.failureResultOf(connecting, NodeNotFound)
        self.assertIn("quic, tcp", str(failure.value))

    def test_cancel(self) -> None:
        """Cancelling at any time lets go of everything."""
        self.announce(self.one, ALICE, "kcp://0.0.0.0:4000")
        for seconds in (0, 0.05, 0.5, 5):
            connecting = self.connect()
            self.network.runFor(seconds)
            connecting.cancel()
            self.failureResultOf(connecting, error.ConnectingCancelledError)

    def test_arguments(self) -> None:
        """What is not right is said when the endpoint is made."""
        for id, arguments, expected in [
            ("x" * 65, {}, "1 to 64 bytes"),
            ("alice", {"lan": "v5"}, "'v5' is not one of v4, v1, syncthing or none"),
            ("alice", {"lan": "none"}, "needs a server"),
            ("alice", {"transports": "kcp,tcp"}, "'tcp' is not one of kcp"),
            ("alice", {"server": "a:0"}, "is not HOST"),
            ("alice", {"timeout": 0}, "timeout=0"),
        ]:
            problem = self.assertRaises(
                ValueError, NodeClientEndpoint, self.two.reactor, id, **arguments
            )
            self.assertIn(expected, str(problem))

    def test_serverAddress(self) -> None:
        """A server is a name or an address, with or without a port."""
        for text, expected in [
            ("a.example", ("a.example", 22025)),
            ("a.example:7", ("a.example", 7)),
            ("10.0.0.1:7", ("10.0.0.1", 7)),
            ("fd00::1", ("fd00::1", 22025)),
            ("[fd00::1]", ("fd00::1", 22025)),
            ("[fd00::1]:7", ("fd00::1", 7)),
        ]:
            self.assertEqual(serverAddress(text), expected)
        for text in ("", ":7", "a:", "a:x", "a:65536", "[fd00::1", "[fd00::1]7", "[]:7"):
            self.assertRaises(ValueError, serverAddress, text)


class FakeCase(NodeCase):
    """With transports that are only pretended."""

    def found(self, dialled: int = 1) -> None:
        """Wait until so many addresses are being dialled."""
        self.network.run(lambda: len(FakeEndpoint.made) >= dialled, limit=10)


class RaceTests(FakeCase):
    """What is dialled, in which order, with what."""

    def dialled(self) -> list[tuple[str, int]]:
        return [endpoint.where for endpoint in FakeEndpoint.made]

    def test_order(self) -> None:
        """
        Addresses are dialled 0.3 s apart, or at once when one has failed; the first
        that is there wins and the others are given up.
        """
        self.fake(kcp=None)
        self.announce(self.one, ALICE, *(f"kcp://10.0.9.{n}:1" for n in range(4)))
        self.addCleanup(discoveryOf(self.two.reactor).listen().release)
        connecting = self.connect()
        self.found()
        self.network.runFor(0.29)
        self.assertEqual(len(self.dialled()), 1)
        self.network.runFor(0.02)
        self.assertEqual(len(self.dialled()), 2)
        first, second = FakeEndpoint.made
        first.result.errback(error.ConnectionRefusedError())
        self.assertEqual(len(self.dialled()), 3)
        won = Greeting()
        second.result.callback(won)
        self.assertIs(self.successResultOf(connecting), won)
        self.assertTrue(FakeEndpoint.made[2].cancelled)
        self.network.runFor(1)
        self.assertEqual(len(self.dialled()), 3)

    def test_heardLater(self) -> None:
        """
        The first announcement is not all: what comes by other ways while its addresses
        are dialled is dialled too.
        """
        self.fake(kcp=None)
        self.announce(self.one, ALICE, "kcp://[::]:4000")
        connecting = self.connect()
        self.found()
        self.assertEqual(len(self.dialled()), 1)
        self.network.runFor(0.31)
        hosts = {host for host, _ in self.dialled()}
        self.assertEqual(hosts, {"10.0.0.1", "fd00::1"})
        self.announce(self.lan.host("again"), ALICE, "kcp://[::]:4001")
        self.network.runFor(0.31)
        self.assertIn(("10.0.0.3", 4001), self.dialled())
        for made in list(FakeEndpoint.made):
            made.result.errback(error.ConnectionRefusedError())
        for made in FakeEndpoint.made[3:]:
            made.result.errback(error.ConnectionRefusedError())
        self.failureResultOf(connecting, error.ConnectionRefusedError)

    def test_allFail(self) -> None:
        """When all have failed, the last failure is the answer."""
        self.fake(kcp=None)
        self.announce(self.one, ALICE, *(f"kcp://10.0.9.{n}:1" for n in range(2)))
        connecting = self.connect()
        self.found()
        for _ in range(2):
            made = FakeEndpoint.made[-1]
            made.result.errback(error.ConnectionRefusedError())
        self.failureResultOf(connecting, error.ConnectionRefusedError)

    def test_serverAfterwards(self) -> None:
        """
        When what is announced on the local network does not answer, the server is
        asked: a forged announcement does not keep others from the node.
        """
        self.fake(kcp=None)
        server = DiscoveryServer(self.network.host("rendezvous").reactor)
        server.start()
        self.addCleanup(server.stop)
        known = discoveryOf(self.one.reactor).server("rendezvous", 22025)
        self.announce(self.one, ALICE, "kcp://0.0.0.0:4000", profiles=(), server=known)
        forging = self.lan.host("forging")
        self.announce(forging, ALICE, "kcp://10.0.9.9:66")
        self.addCleanup(discoveryOf(self.two.reactor).listen().release)
        self.announce(forging, ALICE, "kcp://10.0.9.9:66")
        connecting = self.connect(server="rendezvous")
        self.network.runFor(1)
        self.assertEqual(self.dialled(), [("10.0.9.9", 66)])
        FakeEndpoint.made[0].result.errback(error.ConnectionRefusedError())
        self.network.runFor(1)
        self.assertEqual(self.dialled()[1][1], 4000)
        FakeEndpoint.made[1].result.callback(Greeting())
        self.successResultOf(connecting)

    def test_families(self) -> None:
        """
        A scheme for one family is its transport, over that (3.4); what only looks so is
        none of ours.
        """
        self.fake(kcp=None)
        endpoint = NodeClientEndpoint(self.two.reactor, ALICE)
        found = addresses("kcp4://10.0.0.1:1", "kcp6://[fd00::1]:2", "kcp5://h:3")
        self.assertEqual(
            [str(address) for address in endpoint.dialled(found)],
            ["kcp://10.0.0.1:1", "kcp://[fd00::1]:2"],
        )

    def test_forged(self) -> None:
        """
        Somebody who announces the node each second with many other addresses does not keep
        anybody from it: sources take turns.
        """
        self.fake(kcp=None)
        discovery = discoveryOf(self.two.reactor)
        self.addCleanup(discovery.listen().release)
        registry = discovery.registry
        true, forger = Source("v4 broadcast", "10.0.0.1"), Source("v4 broadcast", "10.0.0.66")
        registry.announce(ALICE, true, addresses("kcp://10.0.0.1:4000"), life=90)

        def forge(second: int) -> None:
            urls = [f"kcp://10.1.{second}.{n}:66" for n in range(32)]
            registry.announce(ALICE, forger, addresses(*urls), life=90)

        forge(0)
        connecting = self.connect()
        for second in range(1, 4):
            self.network.runFor(1)
            forge(second)
        self.assertIn(("10.0.0.1", 4000), self.dialled()[:2])
        connecting.cancel()
        self.failureResultOf(connecting)

    def test_proven(self) -> None:
        """Where the node was reached before is dialled first, whoever else announces it."""
        self.fake(kcp=None)
        discovery = discoveryOf(self.two.reactor)
        self.addCleanup(discovery.listen().release)
        [proven] = addresses("kcp://10.0.0.1:4000")
        registry = discovery.registry
        registry.announce(ALICE, Source("v4 broadcast", "10.0.0.1"), [proven], life=90)
        registry.succeeded(ALICE, proven)
        forger = Source("v4 broadcast", "10.0.0.66")
        registry.announce(ALICE, forger, addresses("kcp://10.1.0.1:66"), life=90)
        connecting = self.connect()
        self.assertEqual(self.dialled(), [("10.0.0.1", 4000)])
        connecting.cancel()
        self.failureResultOf(connecting)

    def test_bounded(self) -> None:
        """However many addresses are announced, 32 are dialled."""
        self.fake(kcp=None, raknet=None)
        lease = discoveryOf(self.two.reactor).listen()
        for number in range(3):
            liar = self.lan.host(f"liar{number}")
            self.announce(liar, ALICE, *(f"udp://10.0.{number}.{n}:9" for n in range(1, 31)))
        connecting = self.connect()
        for _ in range(60):
            if not connecting.called:
                FakeEndpoint.made[-1].result.addErrback(lambda failure: None)
                self.network.runFor(0.31)
        self.assertEqual(len(self.dialled()), 32)
        self.network.runFor(30)
        self.failureResultOf(connecting, error.TimeoutError)
        lease.release()

    def test_ownSettings(self) -> None:
        """What an announcement says about settings has no effect; ours are used."""
        self.fake(kcp=None)
        self.announce(self.one, ALICE, "kcp://10.0.0.1:4000?crypt=null&mtu=50")
        connecting = self.connect(options={"kcp": {"crypt": "aes", "key": "k"}})
        self.found()
        [endpoint] = FakeEndpoint.made
        timeout = endpoint.options.pop("timeout")
        self.assertTrue(20 < timeout <= 30)
        self.assertEqual(endpoint.options, {"crypt": "aes", "key": "k"})
        endpoint.result.callback(Greeting())
        self.successResultOf(connecting)

    def test_noParameters(self) -> None:
        """
        Whatever parameters are announced, known or not, for whatever transport, nothing
        of them gets to an endpoint, and they are counted where they are heard; the path is
        no way round it.
        """
        self.fake(kcp=None, qotp="serverKey", raknet=None)
        lan = discoveryOf(self.two.reactor)
        self.addCleanup(lan.listen().release)
        parameters = [
            "crypt=null", "profile=fast", "fec=0", "serverKey=00", "proof=no", "timeout=1",
            "transports=kcp", "host=10.0.9.9&port=66", "reactor=x", "unknown",
        ]  # fmt: skip
        urls = [
            f"{transport}://10.0.0.1:{number}{path}?{query}"
            for transport in ("kcp", "qotp6", "raknet")
            for path in ("", "/a")
            for number, query in enumerate(parameters, 1)
        ]
        mixed = [url.replace("qotp6://10.0.0.1", "qotp6://[fd00::1]") for url in urls]
        for start in range(0, len(mixed), 20):
            host = self.lan.host(f"liar{start}")
            discovery = discoveryOf(host.reactor)
            lease = discovery.announce(ALICE, mixed[start : start + 20])
            self.addCleanup(lease.release)
        self.network.runFor(0.1)
        connecting = self.connect()
        self.network.runFor(20)
        self.assertEqual(len(FakeEndpoint.made), 30)
        for endpoint in FakeEndpoint.made:
            self.assertIn(endpoint.where[0], ("10.0.0.1", "fd00::1"))
            self.assertEqual(set(endpoint.options), {"timeout"})
            self.assertGreater(endpoint.options["timeout"], 1)
        counters = lan._used[V4].local.snapshot().counters
        # Eleven in ten queries, for each transport and path, over both families.
        self.assertEqual(counters["discovery.parameters"] % (11 * 6), 0)
        self.assertGreaterEqual(counters["discovery.parameters"], 2 * 11 * 6)
        connecting.cancel()
        self.failureResultOf(connecting, error.ConnectingCancelledError)


class ProofTests(FakeCase):
    """An id that is a key."""

    def test_keyIsProved(self) -> None:
        """
        For a key only the transport that checks it is dialled, with that very key,
        whatever is announced, configured or listed besides.
        """
        self.fake(kcp=None, qotp="serverKey")
        self.announce(self.one, key(7), "kcp://10.0.0.1:1", "qotp://10.0.0.1:2")
        for transports in (None, "kcp,qotp", "qotp"):
            FakeEndpoint.made.clear()
            options = {"qotp": {"serverKey": b"another"}}
            connecting = self.connect(key(7).key.hex(), transports=transports, options=options)
            self.found()
            # Long enough for another to be dialled as well.
            self.network.runFor(1)
            [endpoint] = FakeEndpoint.made
            self.assertEqual(endpoint.where, ("10.0.0.1", 2))
            self.assertEqual(endpoint.options["serverKey"], key(7).key)
            endpoint.result.callback(Greeting())
            self.successResultOf(connecting)

    def test_withoutProof(self) -> None:
        """Whoever wants to dial a key's node by a transport without proof has to say so."""
        self.fake(kcp=None)
        self.assertRaises(ValueError, self.connect, key(7))
        self.announce(self.one, key(7), "kcp://10.0.0.1:1", profiles=(V4,))
        connecting = self.connect(key(7), transports="kcp")
        self.found()
        [endpoint] = FakeEndpoint.made
        endpoint.result.callback(Greeting())
        self.successResultOf(connecting)

    def test_names(self) -> None:
        """For a name all transports may be dialled, and no key is made up."""
        self.fake(kcp=None, qotp="serverKey")
        self.announce(self.one, ALICE, "udp://10.0.0.1:2")
        connecting = self.connect()
        self.found(2)
        self.assertEqual([set(e.options) for e in FakeEndpoint.made], [{"timeout"}] * 2)
        for endpoint in list(FakeEndpoint.made):
            endpoint.result.addErrback(lambda failure: None)
        connecting.cancel()
        self.failureResultOf(connecting, error.ConnectingCancelledError)


class DiallerTests(SynchronousTestCase):
    """The table of transports."""

    def test_classes(self) -> None:
        """Every transport of the table can be made."""
        for name, dialler in node.CLIENTS.items():
            [address] = addresses(f"{name}://127.0.0.1:1")
            endpoint = dialler.make(None, address, {"timeout": 1})
            self.assertTrue(IStreamClientEndpoint.providedBy(endpoint))
