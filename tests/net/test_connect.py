from __future__ import annotations

import errno
import gc
from typing import Any

from twisted.internet import error
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.tcp import Port as TCPPort
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.net.support import PORT, Pair, RecordingFactory
from twisted_rudp.core.engine import Address, Demultiplexer, Engine
from twisted_rudp.errors import PeerReset
from twisted_rudp.net.addresses import hostText, resolve, shownAs
from twisted_rudp.net.connect import connect

NOBODY = "10.0.0.77"


class ConnectingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.pair = Pair()
        self.factory = self.pair.clientFactory
        self.network = self.pair.network

    def fails(self, dialling: Deferred[Any], kind: type[BaseException]) -> Any:
        """Run until it has failed; then nothing may be left of it."""
        failures: list[Any] = []
        dialling.addErrback(failures.append)
        self.pair.run(lambda: failures)
        self.assertIs(type(failures[0].value), kind)
        self.clean()
        return failures[0].value

    def clean(self) -> None:
        self.network.runFor(0)
        self.assertEqual(self.pair.client.ports, [])
        self.assertEqual(self.factory.started, self.factory.stopped)


class SuccessTests(ConnectingCase):
    def test_order(self) -> None:
        """Start, build, made, Deferred, and only then data (CONN-1)."""
        order: list[str] = []

        def prepare(protocol: Any) -> None:
            order.append(f"build after {self.factory.started} start")
            protocol.onMade = lambda: order.append("made")
            protocol.onData = lambda data: order.append("data")

        self.factory.prepare = prepare

        def greet(protocol: Any) -> None:
            protocol.onMade = lambda: protocol.transport.write(b"banner")

        self.pair.serverFactory.prepare = greet
        self.pair.dial().addCallback(lambda protocol: order.append("fired"))
        self.pair.run(lambda: "data" in order)
        self.assertEqual(order, ["build after 1 start", "made", "fired", "data"])

    def test_protocol(self) -> None:
        """The Deferred fires with the protocol that the factory built (EP-3)."""
        dialling = self.pair.dial()
        self.network.run(dialling)
        self.assertIs(self.successResultOf(dialling), self.factory.built[0])
        self.assertEqual(self.factory.asked, [IPv4Address("UDP", self.pair.server.address, PORT)])

    def test_stop(self) -> None:
        """C{doStop} follows C{connectionLost}, and the socket is closed before (FAC-2)."""
        client, server = self.pair.connected()
        seen: list[Any] = []
        client.onLost = lambda: seen.append((len(self.pair.client.ports), self.factory.stopped))
        client.transport.loseConnection()
        self.pair.lost(client, server)
        self.assertEqual(seen, [(0, 0)])
        self.assertEqual((self.factory.started, self.factory.stopped), (1, 1))

    def test_loseInside(self) -> None:
        """Who closes in C{connectionMade} is connected all the same (CONN-2)."""
        for method in ("loseConnection", "abortConnection"):

            def prepare(protocol: Any, method: str = method) -> None:
                protocol.onMade = lambda: getattr(protocol.transport, method)()

            self.factory.prepare = prepare
            dialling = self.pair.dial()
            self.network.run(dialling)
            protocol = self.successResultOf(dialling)
            self.assertEqual(protocol.told, ["made"])
            self.pair.lost(protocol)
            self.clean()

    def test_early(self) -> None:
        """Bytes that came with the handshake wait for the protocol (CONN-1)."""

        def greet(protocol: Any) -> None:
            protocol.onMade = lambda: protocol.transport.write(b"x" * 30_000)

        self.pair.serverFactory.prepare = greet
        dialling = self.pair.dial()
        self.network.run(dialling)
        protocol = self.successResultOf(dialling)
        self.pair.run(lambda: len(protocol.data) == 30_000)

    def test_several(self) -> None:
        """Several connections at a time do not know of each other (EP-4)."""
        pairs = [self.pair.connected() for _ in range(3)]
        for number, (client, _) in enumerate(pairs):
            client.transport.write(str(number).encode())
        self.network.runFor(1)
        self.assertEqual([server.data for _, server in pairs], [b"0", b"1", b"2"])

    def test_bind(self) -> None:
        """C{bindAddress} takes a literal, a tuple, and Twisted's binding (EP-5)."""
        here = self.pair.client.address
        bindings: list[Any] = [here, (here, 3333), here.encode()]
        try:
            from twisted.internet.tcp import makeBinding
        except ImportError:
            self.assertTrue(TCPPort)
        else:
            bindings.append(makeBinding(here, 3334))
        hosts = []
        for binding in bindings:
            dialling = self.pair.dial(bindAddress=binding)
            self.network.run(dialling)
            hosts.append(self.successResultOf(dialling).transport.getHost())
        self.assertEqual({host.host for host in hosts}, {here})
        self.assertEqual([host.port for host in hosts][1::2], [3333, 3334][: len(hosts) // 2])

    def test_ipv6(self) -> None:
        """An IPv6 literal is dialled from an IPv6 socket."""
        pair = Pair(interface="::1")
        dialling = connect(
            pair.server.reactor, pair.clientFactory, "::1", PORT, session=pair.session
        )
        pair.network.run(dialling)
        peer = self.successResultOf(dialling).transport.getPeer()
        self.assertEqual(peer, IPv6Address("UDP", "::1", PORT))


class FailureTests(ConnectingCase):
    def test_timeout(self) -> None:
        """No answer in C{timeout} seconds is C{TimeoutError} (CONN-7), with what may be wrong."""
        before = self.network.clock.seconds()
        problem = self.fails(self.pair.dial(NOBODY, timeout=2.5), error.TimeoutError)
        self.assertIn("no answer from the peer; perhaps", str(problem))
        self.assertIn("rudp doctor", str(problem))
        self.assertAlmostEqual(self.network.clock.seconds() - before, 2.5, places=2)

    def test_unknown(self) -> None:
        """A name without address is C{DNSLookupError}, the factory is not started (CONN-6)."""
        self.fails(self.pair.dial("nowhere.example"), error.DNSLookupError)
        self.assertEqual(self.factory.started, 0)

    def test_illegal(self) -> None:
        """A host that is no name, or no such port, is C{ValueError}, never raised (NAME-5)."""
        for host in ("two words", "", "a" * 80 + ".example", b"\xff"):
            self.fails(self.pair.dial(host), ValueError)
        self.fails(self.pair.dial(port=70_000), ValueError)

    def test_clash(self) -> None:
        """A local address that is taken is C{ConnectBindError} (CONN-6)."""
        other = self.pair.client.reactor
        from twisted.internet.protocol import DatagramProtocol

        taken = other.listenUDP(3333, DatagramProtocol())
        failures: list[Any] = []
        self.pair.dial(bindAddress=("", 3333)).addErrback(failures.append)
        self.pair.run(lambda: failures)
        self.assertIs(type(failures[0].value), error.ConnectBindError)
        self.assertEqual(self.pair.client.ports, [taken])
        self.assertEqual(self.factory.started, self.factory.stopped)

    def test_itself(self) -> None:
        """A socket that has the number that is dialled on this machine would hear itself (F12)."""
        for host in ("127.0.0.1", "0.0.0.0", self.pair.client.address):
            dialling = self.pair.dial(host, port=3333, bindAddress=("", 3333))
            self.fails(dialling, error.ConnectBindError)
            self.assertEqual(self.pair.client.ports, [])

    def test_wrongFamily(self) -> None:
        """A local address of the other family is C{ConnectBindError}."""
        self.fails(self.pair.dial(bindAddress="::1"), error.ConnectBindError)

    def test_badBinding(self) -> None:
        """What is no address to bind to is C{ValueError}, never raised."""
        self.fails(self.pair.dial(bindAddress=3.14), ValueError)

    def test_unreachable(self) -> None:
        """What the network refuses is told at once with its type (CONN-6)."""

        self.pair.client.writeErrors[NOBODY] = errno.ENETUNREACH
        self.fails(self.pair.dial(NOBODY), error.NoRouteError)

    def test_session(self) -> None:
        """An engine that cannot be made fails the connect (EP-1)."""

        def session(address: Address, now: int) -> tuple[Demultiplexer, Engine]:
            raise ZeroDivisionError

        self.fails(self.pair.dial(session=session), ZeroDivisionError)

    def test_noProtocol(self) -> None:
        """A factory that says no is C{NoProtocol}; the peer is told politely (CONN-4)."""
        self.factory.kind = lambda: None
        self.fails(self.pair.dial(), error.NoProtocol)
        for server in self.pair.serverFactory.built:
            self.pair.lost(server)
            self.assertIs(type(server.reason.value), error.ConnectionDone)

    def test_buildRaises(self) -> None:
        """An exception in C{buildProtocol} is the failure (CONN-4)."""
        self.factory.kind = lambda: 1 / 0
        self.fails(self.pair.dial(), ZeroDivisionError)

    def test_noProtocolAndGone(self) -> None:
        """A polite end that the peer does not answer is bounded (CONN-4)."""

        def kind() -> None:
            self.network.cut(self.pair.client, self.pair.server)

        self.factory.kind = kind
        self.fails(self.pair.dial(), error.NoProtocol)

    def test_madeRaises(self) -> None:
        """C{connectionMade} raising fails the Deferred and ends the connection (CONN-3)."""

        def prepare(protocol: Any) -> None:
            protocol.onMade = lambda: 1 / 0

        self.factory.prepare = prepare
        failures: list[Any] = []
        self.pair.dial().addErrback(failures.append)
        self.pair.run(lambda: failures)
        [protocol] = self.factory.built
        self.pair.lost(protocol)
        self.assertEqual(protocol.told, ["made", "lost"])
        for problem in (failures[0], protocol.reason):
            self.assertIsInstance(problem.value, ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.clean()

    def test_socketLost(self) -> None:
        """A shutdown fails what is being connected, once (PORT-5)."""
        failures: list[Any] = []
        self.pair.dial(NOBODY).addErrback(failures.append)
        self.network.runFor(0.1)
        self.pair.client.reactor.disconnectAll()
        self.network.runFor(1)
        self.assertEqual(len(failures), 1)
        self.assertIsInstance(failures[0].value, error.ConnectError)
        self.clean()


class CancelTests(ConnectingCase):
    def cancelled(self, dialling: Deferred[Any], address: Any = None) -> None:
        dialling.cancel()
        failure = self.failureResultOf(dialling, error.ConnectingCancelledError)
        expected = address or IPv4Address("UDP", self.pair.server.address, PORT)
        self.assertEqual(failure.value.address, expected)
        self.clean()
        built = len(self.factory.built)
        self.network.runFor(20)
        self.assertEqual(len(self.factory.built), built)
        self.assertEqual(self.network.clock.getDelayedCalls(), [])

    def test_resolving(self) -> None:
        """Cancelled before the name is known: a late answer is forgotten (CONN-5)."""
        self.network.resolver.register("server.example", self.pair.server.address)
        self.network.resolver.delay = 1.0
        dialling = self.pair.dial("server.example")
        self.network.runFor(0.5)
        self.cancelled(dialling, HostnameAddress(b"server.example", PORT))
        self.assertEqual(self.factory.started, 0)

    def test_handshake(self) -> None:
        """Cancelled at any moment of the handshake nothing is built and nothing left (CONN-5)."""
        for moment in (0.0, 0.005, 0.01, 0.015):
            dialling = self.pair.dial()
            self.network.runFor(moment)
            self.cancelled(dialling)
        self.assertEqual((self.factory.started, self.factory.stopped), (4, 4))

    def test_insideBuild(self) -> None:
        """Cancelled by the factory itself (CONN-5)."""
        holder: list[Deferred[Any]] = []
        self.factory.prepare = lambda protocol: holder[0].cancel()
        holder.append(self.pair.dial())
        self.network.runFor(1)
        self.failureResultOf(holder[0], error.ConnectingCancelledError)
        self.clean()
        self.assertEqual(self.factory.built[0].told, [])

    def test_insideMade(self) -> None:
        """Cancelled in C{connectionMade}: the protocol that has begun is told the end."""
        holder: list[Deferred[Any]] = []

        def prepare(protocol: Any) -> None:
            protocol.onMade = lambda: holder[0].cancel()

        self.factory.prepare = prepare
        holder.append(self.pair.dial())
        self.network.runFor(1)
        self.failureResultOf(holder[0], error.ConnectingCancelledError)
        self.assertEqual(self.factory.built[0].told, ["made", "lost"])
        self.clean()

    def test_twice(self) -> None:
        """Cancelling twice, or after the success, changes nothing (CONN-5)."""
        dialling = self.pair.dial(NOBODY)
        dialling.cancel()
        dialling.cancel()
        self.failureResultOf(dialling, error.ConnectingCancelledError)
        client, _ = self.pair.connected()
        dialling = self.pair.dial()
        self.network.run(dialling)
        dialling.cancel()
        self.successResultOf(dialling)
        self.assertIsNone(client.reason)

    def test_told(self) -> None:
        """The peer of a cancelled attempt is told if the wire can (CONN-5)."""
        dialling = self.pair.dial()
        self.pair.run(lambda: self.pair.serverFactory.built or self.pair.hub().living())
        dialling.cancel()
        self.failureResultOf(dialling, error.ConnectingCancelledError)
        self.network.runFor(1)
        self.assertEqual(self.pair.hub().living(), [])


class RacingTests(ConnectingCase):
    def test_name(self) -> None:
        """A name is resolved as UDP, whatever type the answer has (NAME-1, NAME-3)."""
        self.network.resolver.register("server.example", self.pair.server.address)
        dialling = self.pair.dial("server.example")
        self.network.run(dialling)
        self.assertEqual(self.successResultOf(dialling).transport.getPeer().type, "UDP")

    def test_second(self) -> None:
        """The second address is tried after C{attemptDelay}; the first is given up (CONN-8)."""
        self.network.resolver.register("both.example", NOBODY, self.pair.server.address)
        open_: list[int] = []
        self.factory.prepare = lambda protocol: open_.append(self.factory.started)
        before = self.network.clock.seconds()
        dialling = self.pair.dial("both.example", attemptDelay=0.2)
        self.network.run(dialling)
        self.assertAlmostEqual(self.network.clock.seconds() - before, 0.22, places=2)
        self.network.runFor(0)
        self.assertEqual(len(self.pair.client.ports), 1)
        self.assertEqual((self.factory.started, open_), (1, [1]))

    def test_losersFirst(self) -> None:
        """Losers are cancelled before the winner is told (CONN-8)."""
        self.network.resolver.register("both.example", NOBODY, self.pair.server.address)
        engines: list[Any] = []

        def session(address: Address, now: int) -> tuple[Demultiplexer, Engine]:
            demux, engine = self.pair.session(address, now)
            engines.append(engine)
            return demux, engine

        over: list[list[bool]] = []
        dialling = self.pair.dial("both.example", session=session)
        dialling.addCallback(lambda _: over.append([engine.over for engine in engines]))
        self.network.run(dialling)
        self.assertEqual(over, [[True, False]])
        self.network.runFor(0)
        self.assertEqual(len(self.pair.client.ports), 1)

    def test_failsOver(self) -> None:
        """An address that fails is followed by the next at once (CONN-8)."""
        self.network.resolver.register("both.example", NOBODY, self.pair.server.address)
        calls: list[Address] = []

        def session(address: Address, now: int) -> tuple[Demultiplexer, Engine]:
            calls.append(address)
            if address[0] == NOBODY:
                raise ZeroDivisionError
            return self.pair.session(address, now)

        before = self.network.clock.seconds()
        self.network.run(self.pair.dial("both.example", session=session))
        self.assertLess(self.network.clock.seconds() - before, 0.1)
        self.assertEqual([address[0] for address in calls], [NOBODY, self.pair.server.address])

    def test_allFail(self) -> None:
        """If all fail the last failure is told; the factory is paired (CONN-8)."""
        self.network.resolver.register("both.example", NOBODY, "10.0.0.78", "10.0.0.79")
        self.fails(self.pair.dial("both.example", timeout=1), error.TimeoutError)
        self.assertEqual((self.factory.started, self.factory.stopped), (1, 1))

    def test_cancel(self) -> None:
        """Cancelling ends all attempts (CONN-5)."""
        self.network.resolver.register("both.example", NOBODY, "10.0.0.78")
        dialling = self.pair.dial("both.example")
        self.network.runFor(1)
        self.assertEqual(len(self.pair.client.ports), 2)
        dialling.cancel()
        self.failureResultOf(dialling, error.ConnectingCancelledError)
        self.clean()

    def test_cancelWhileFailing(self) -> None:
        """
        So it does when the last attempt has just failed and its socket is being closed: nothing
        is told of that failure, and nothing logged.
        """
        dialling = self.pair.dial(NOBODY, timeout=1)
        self.network.clock.callLater(1, dialling.cancel)
        self.network.runFor(2)
        self.failureResultOf(dialling, error.ConnectingCancelledError)
        self.clean()
        self.assertEqual((self.factory.started, self.factory.stopped), (1, 1))
        # What a Deferred that nobody has raised is logged when that is collected.
        gc.collect()

    def test_reset(self) -> None:
        """A peer that gives up after the connect is told as C{PeerReset} (CLOSE-8)."""
        client, server = self.pair.connected()
        server.transport.abortConnection()
        self.pair.lost(client)
        self.assertIs(type(client.reason.value), PeerReset)


class ResolvingTests(SynchronousTestCase):
    def test_hostText(self) -> None:
        """Names are text or bytes, IDNA where needed; literals stay (NAME-5)."""
        self.assertEqual(hostText("example.org"), "example.org")
        self.assertEqual(hostText(b"example.org"), "example.org")
        self.assertEqual(hostText("b\xfccher.example"), "xn--bcher-kva.example")
        self.assertEqual(hostText("fe80::1%lo"), "fe80::1%lo")
        self.assertEqual(hostText("bu\u0308cher.example"), "xn--bcher-kva.example")
        self.assertEqual(hostText("stra\xdfe.example"), "xn--strae-oqa.example")
        self.assertEqual(hostText("my_service.example"), "my_service.example")
        for wrong in ("", "a b", "%x", "x" * 64, "\u2603.net", "\u0130.com", "a..b"):
            self.assertRaises(ValueError, hostText, wrong)

    def test_literal(self) -> None:
        """A literal does not go to the resolver (NAME-2)."""
        found: list[Any] = []
        resolve(object(), "127.0.0.1", 5, found.append)
        resolve(object(), "::1", 5, found.append)
        self.assertEqual(found, [[("127.0.0.1", 5)], [("::1", 5, 0, 0)]])

    def test_anyType(self) -> None:
        """What a resolver calls TCP is taken too, and is UDP for us (NAME-3)."""

        @implementer(IReactorPluggableNameResolver)
        class Reactor:
            nameResolver: Any = None

        class Resolver:
            def resolveHostName(self, receiver: Any, *args: Any, **named: Any) -> None:
                receiver.resolutionBegan(None)
                receiver.addressResolved(IPv4Address("TCP", "192.0.2.1", 5))
                receiver.addressResolved(IPv6Address("TCP", "2001:db8::1", 5))
                receiver.resolutionComplete()

        reactor = Reactor()
        reactor.nameResolver = Resolver()
        found: list[Any] = []
        resolve(reactor, "example.org", 5, found.append)
        self.assertEqual(found, [[("192.0.2.1", 5), ("2001:db8::1", 5, 0, 0)]])

    def test_noResolver(self) -> None:
        """A reactor without resolver knows no names."""
        found: list[Any] = []
        resolve(object(), "example.org", 5, found.append)
        self.assertEqual(found, [[]])

    def test_shown(self) -> None:
        """An address for messages is the literal's own or the name's."""
        self.assertEqual(shownAs("127.0.0.1", 1), IPv4Address("UDP", "127.0.0.1", 1))
        self.assertEqual(shownAs("a.b", 1), HostnameAddress(b"a.b", 1))


class FactoryTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """Only three methods of a factory are used (FAC-1)."""

        class Plain:
            def __init__(self) -> None:
                self.inner = RecordingFactory()

            def doStart(self) -> None:
                self.inner.doStart()

            def doStop(self) -> None:
                self.inner.doStop()

            def buildProtocol(self, addr: Any) -> Any:
                return self.inner.buildProtocol(addr)

        pair = Pair()
        dialling = pair.dial(factory=Plain())
        pair.network.run(dialling)
        self.successResultOf(dialling)
