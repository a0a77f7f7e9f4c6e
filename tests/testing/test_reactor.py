"""Tests for L{twisted_rudp.testing.reactor}, C{events} and C{resolver}."""

from __future__ import annotations

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IListeningPort,
    IReactorCore,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTime,
    IReactorUDP,
    IResolutionReceiver,
    IUDPTransport,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_rudp.testing import MemoryNetwork


class Quiet(DatagramProtocol):
    noisy = False
    stopped = 0

    def stopProtocol(self) -> None:
        self.stopped += 1


@implementer(IResolutionReceiver)
class Receiver:
    """Keeps what a resolver says."""

    def __init__(self) -> None:
        self.began: IHostResolution | None = None
        self.addresses: list[IAddress] = []
        self.complete = 0

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self.began = resolutionInProgress

    def addressResolved(self, address: IAddress) -> None:
        self.addresses.append(address)

    def resolutionComplete(self) -> None:
        self.complete += 1


class ReactorTests(SynchronousTestCase):
    """What the reactor of a host promises."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.host = self.network.host("here", "10.0.0.1", "fd00::1")
        self.reactor = self.host.reactor
        self.calls: list[object] = []

    def test_interfaces(self) -> None:
        """Reactor, ports, resolver and resolutions provide what they declare (TYP-1)."""
        for interface in (
            IReactorCore,
            IReactorFromThreads,
            IReactorPluggableNameResolver,
            IReactorTime,
            IReactorUDP,
        ):
            verifyObject(interface, self.reactor)
        port = self.reactor.listenUDP(0, Quiet())
        verifyObject(IListeningPort, port)
        verifyObject(IUDPTransport, port)
        verifyObject(IHostnameResolver, self.network.resolver)
        resolution = self.network.resolver.resolveHostName(Receiver(), "here")
        verifyObject(IHostResolution, resolution)

    def test_time(self) -> None:
        """All reactors share the network's clock."""
        other = self.network.host("other").reactor
        other.callLater(2, self.calls.append, "x")
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.network.runFor(2)
        self.assertEqual((self.calls, self.reactor.seconds()), (["x"], 2))
        self.assertRaises(AssertionError, self.reactor.callLater, -1, self.calls.append, "y")

    def test_callFromThreadAndWhenRunning(self) -> None:
        """One calls in the next turn, the other at once while running."""
        self.reactor.callFromThread(self.calls.append, "later")
        self.reactor.callWhenRunning(self.calls.append, "now")
        self.assertEqual(self.calls, ["now"])
        self.reactor.iterate()
        self.assertEqual(self.calls, ["now", "later"])

    def test_runAndStop(self) -> None:
        """C{run} goes from event to event until C{stop}."""
        self.reactor.crash()
        self.reactor.callWhenRunning(self.calls.append, "started")
        self.reactor.callLater(1, self.calls.append, "one")
        self.reactor.callLater(2, self.reactor.stop)
        self.reactor.callLater(3, self.calls.append, "three")
        self.reactor.run()
        self.assertEqual(self.calls, ["started", "one"])
        self.assertFalse(self.reactor.running)

    def test_shutdownPhases(self) -> None:
        """
        Shutdown waits for the Deferreds of C{before}, then takes the sockets away,
        then goes on (PORT-5).
        """
        waiting: Deferred[None] = Deferred()
        protocol = Quiet()
        self.reactor.listenUDP(0, protocol)
        add = self.reactor.addSystemEventTrigger
        add("after", "shutdown", lambda: self.calls.append(("after", protocol.stopped)))
        add("during", "shutdown", lambda: self.calls.append(("during", protocol.stopped)))
        add("before", "shutdown", lambda: waiting)
        self.assertEqual(self.reactor.triggers, 3)
        self.reactor.stop()
        self.assertEqual((self.calls, protocol.stopped), ([], 0))
        waiting.callback(None)
        self.assertEqual(self.calls, [("during", 1), ("after", 1)])
        self.assertEqual(self.host.ports, [])
        self.assertEqual(self.reactor.triggers, 0)

    def test_brokenTriggers(self) -> None:
        """Triggers that fail are logged and do not keep the others from running."""
        add = self.reactor.addSystemEventTrigger
        add("before", "shutdown", lambda: 1 / 0)
        add("during", "shutdown", lambda: 1 / 0)
        add("during", "shutdown", self.calls.append, "ran")
        self.reactor.fireSystemEvent("shutdown")
        self.assertEqual(self.calls, ["ran"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_removingTriggers(self) -> None:
        """A removed trigger does not run and cannot be removed again."""
        trigger = self.reactor.addSystemEventTrigger("before", "shutdown", self.calls.append, "no")
        self.reactor.removeSystemEventTrigger(trigger)
        self.assertRaises(ValueError, self.reactor.removeSystemEventTrigger, trigger)
        self.assertRaises(TypeError, self.reactor.removeSystemEventTrigger, "trigger")
        self.assertRaises(
            KeyError, self.reactor.addSystemEventTrigger, "never", "shutdown", lambda: None
        )
        self.reactor.stop()
        self.assertEqual(self.calls, [])

    def test_removedByATrigger(self) -> None:
        """A trigger may remove one that has not run yet, and add one that then runs."""
        add = self.reactor.addSystemEventTrigger

        def first() -> None:
            self.reactor.removeSystemEventTrigger(second)
            add("before", "shutdown", self.calls.append, "added")

        add("before", "shutdown", first)
        second = add("before", "shutdown", self.calls.append, "removed")
        self.reactor.stop()
        self.assertEqual(self.calls, ["added"])


class ResolverTests(SynchronousTestCase):
    """Names."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.reactor = self.network.host("here", "10.0.0.1", "fd00::1").reactor
        self.resolver = self.network.resolver

    def ask(self, name: str, **options: object) -> Receiver:
        receiver = Receiver()
        self.reactor.nameResolver.resolveHostName(receiver, name, 53, **options)
        return receiver

    def test_hostNames(self) -> None:
        """A host's name stands for its addresses, of the wanted semantics and types."""
        receiver = self.ask("here", transportSemantics="UDP")
        self.assertEqual((receiver.addresses, receiver.complete), ([], 0))
        self.network.runFor(0)
        self.assertEqual(
            receiver.addresses,
            [IPv4Address("UDP", "10.0.0.1", 53), IPv6Address("UDP", "fd00::1", 53)],
        )
        self.assertEqual(receiver.complete, 1)
        receiver = self.ask("here", addressTypes=[IPv6Address])
        self.network.runFor(0)
        self.assertEqual(receiver.addresses, [IPv6Address("TCP", "fd00::1", 53)])

    def test_unknownAndLiteral(self) -> None:
        """An unknown name has no addresses, a literal has itself."""
        unknown, literal = self.ask("elsewhere"), self.ask("192.0.2.1")
        self.network.runFor(0)
        self.assertEqual((unknown.addresses, unknown.complete), ([], 1))
        self.assertEqual(literal.addresses, [IPv4Address("TCP", "192.0.2.1", 53)])

    def test_heldAndReleased(self) -> None:
        """Held questions are answered on release, once."""
        self.resolver.hold("here")
        receiver = self.ask("here")
        self.network.runFor(100)
        self.assertEqual(receiver.complete, 0)
        self.resolver.release("here")
        self.assertEqual((len(receiver.addresses), receiver.complete), (2, 1))
        self.resolver.resolutions[0].answer(["192.0.2.1"])
        self.assertTrue(self.resolver.resolutions[0].answered)
        self.assertEqual(receiver.complete, 1)

    def test_synchronousAndLateAnswers(self) -> None:
        """The delay of answers is the test's choice, down to none at all."""
        self.resolver.delay = None
        self.assertEqual(self.ask("here").complete, 1)
        self.resolver.delay = 2.0
        receiver = self.ask("here")
        self.network.runFor(1.9)
        self.assertEqual(receiver.complete, 0)
        self.network.runFor(0.2)
        self.assertEqual(receiver.complete, 1)

    def test_cancel(self) -> None:
        """As with Twisted's resolver a resolution cannot be cancelled (NAME-4)."""
        receiver = self.ask("here")
        assert receiver.began is not None
        self.assertRaises(NotImplementedError, receiver.began.cancel)

    def test_resolve(self) -> None:
        """C{IReactorCore.resolve} gives one IPv4 address or L{error.DNSLookupError}."""
        found, failed = self.reactor.resolve("here"), self.reactor.resolve("elsewhere")
        self.network.runFor(0)
        self.assertEqual(self.successResultOf(found), "10.0.0.1")
        self.failureResultOf(failed, error.DNSLookupError)

    def test_install(self) -> None:
        """Another resolver may be installed; the old one is returned."""
        other = MemoryNetwork().resolver
        self.assertIs(self.reactor.installNameResolver(other), self.resolver)
        self.assertIs(self.reactor.nameResolver, other)
