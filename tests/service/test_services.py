"""Tests for L{twisted_rudp.service.services}: reloading, with sessions on a simulated network."""

from __future__ import annotations

import signal
import sys
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase, TestCase

from twisted_rudp import stats
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.service.control import RequestError
from twisted_rudp.service.echo import EchoService
from twisted_rudp.service.listening import StartupError
from twisted_rudp.service.places import placeOf
from twisted_rudp.service.services import Plan, Planned, Services
from twisted_rudp.testing import MemoryNetwork


class Heard(Protocol):
    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.reason: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.reason = reason


class Input:
    """A standard input."""

    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


class Other(Service):
    """A service without sessions."""

    def __init__(self, failing: bool = False) -> None:
        self.failing = failing
        self.starts = 0

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self.starts += 1
        if self.failing:
            raise StartupError("no")


class ServicesCase(SynchronousTestCase):
    def setUp(self) -> None:
        # The registry is the process's: other tests may have left ports to the collector.
        self.patch(stats, "ports", stats.Registry())
        self.network = MemoryNetwork(seed=5)
        self.server, self.client = self.network.host("server"), self.network.host("client")
        self.next: Plan | Exception = Plan([])
        self.services = Services(
            self.server.reactor, Plan([self.echo(4000), self.echo(4001)]), self.plan
        )
        self.services.startService()
        self.addCleanup(self.end)

    def end(self) -> None:
        self.network.run(self.services.stopService())
        self.network.runFor(200)

    def plan(self) -> Plan:
        if isinstance(self.next, Exception):
            raise self.next
        return self.next

    def echo(self, port: int, patience: float = 1000, **options: Any) -> Planned:
        endpoint = KCPServerEndpoint(self.server.reactor, port, crypt="null", **options)
        service = EchoService(self.server.reactor, f"echo {port}", endpoint, limit=10, drain=5)
        service.place = placeOf(f"kcp:{port}")
        service.patience = patience
        return Planned(service, f"{port} {options}")

    def reload(self, *services: Planned) -> dict[str, Any]:
        self.next = Plan(list(services))
        return self.services.reload()

    def refusal(self) -> str:
        with self.assertRaises(RequestError) as caught:
            self.services.reload()
        return str(caught.exception)

    def dial(self, port: int) -> Any:
        factory: Any = Factory.forProtocol(Heard)
        factory.noisy = False
        endpoint = KCPClientEndpoint(
            self.client.reactor, self.server.address, port, crypt="null", timeout=3
        )
        connecting = endpoint.connect(factory)
        self.network.run(lambda: connecting.called)
        return connecting

    def connected(self, port: int) -> Any:
        return self.successResultOf(self.dial(port))

    def served(self, protocol: Any) -> None:
        """A session goes on."""
        before = protocol.data
        protocol.transport.write(b"x")
        self.network.run(lambda: protocol.data != before or protocol.reason)
        self.assertEqual(protocol.data, before + b"x")


class ReloadTests(ServicesCase):
    """A file that was changed."""

    def test_unchanged(self) -> None:
        """What is the same is not touched."""
        one = self.connected(4000)
        counts = self.reload(self.echo(4001), self.echo(4000))
        self.assertEqual(counts, {"added": 0, "removed": 0, "changed": 0, "unchanged": 2})
        self.served(one)
        self.connected(4001)

    def test_added(self) -> None:
        """What is new is started."""
        counts = self.reload(self.echo(4000), self.echo(4001), self.echo(4002))
        self.assertEqual(counts, {"added": 1, "removed": 0, "changed": 0, "unchanged": 2})
        self.served(self.connected(4002))

    def test_removed(self) -> None:
        """What is gone accepts nothing more; its sessions go on, and then it closes."""
        one = self.connected(4001)
        self.reload(self.echo(4000))
        self.failureResultOf(self.dial(4001))
        self.network.runFor(100)
        self.served(one)
        one.transport.loseConnection()
        self.network.run(lambda: one.reason)
        self.network.runFor(10)
        self.reload(self.echo(4000), self.echo(4001))
        self.served(self.connected(4001))

    def test_bound(self) -> None:
        """Sessions that do not end are ended after a time."""
        self.reload(self.echo(4000, patience=50, mtu=1300), self.echo(4001))
        one = self.connected(4000)
        self.reload(self.echo(4001))
        self.network.runFor(45)
        self.served(one)
        self.network.run(lambda: one.reason)
        self.network.runFor(10)
        self.reload(self.echo(4000), self.echo(4001))
        self.served(self.connected(4000))

    def test_changed(self) -> None:
        """Other options are for new sessions; the old ones go on as they were."""
        one = self.connected(4000)
        counts = self.reload(self.echo(4000, mtu=1000), self.echo(4001))
        self.assertEqual(counts, {"added": 0, "removed": 0, "changed": 1, "unchanged": 1})
        two = self.connected(4000)
        for each in (one, two, one):
            self.served(each)
        self.network.runFor(10)
        self.served(one)
        self.served(two)

    def test_changedWhileRunning(self) -> None:
        """What can be changed while sessions run is changed in them."""
        one = self.connected(4000)
        self.served(one)
        self.reload(self.echo(4000, sndwnd=7), self.echo(4001))
        self.served(one)
        windows = [
            session.facts["send_window"]
            for port in stats.ports.snapshot().ports
            for session in port.sessions
        ]
        self.assertIn(7, windows)

    def test_removedAndBack(self) -> None:
        """A port that still waits for its sessions is listened on again."""
        one = self.connected(4001)
        self.reload(self.echo(4000))
        self.reload(self.echo(4000), self.echo(4001))
        self.served(self.connected(4001))
        self.served(one)

    def test_error(self) -> None:
        """A file with an error changes nothing, and the error says what is wrong."""
        one = self.connected(4000)
        self.next = UsageError("--config f: echo 1: --listen is missing")
        self.assertIn("nothing was changed: --config f: echo 1: --listen", self.refusal())
        self.served(one)
        self.connected(4001)

    def test_cannotListen(self) -> None:
        """If something new cannot be started, nothing is changed."""
        one = self.connected(4000)
        taken = self.successResultOf(
            KCPServerEndpoint(self.server.reactor, 4003, crypt="null").listen(Factory())
        )
        self.next = Plan([self.echo(4002), self.echo(4003), self.echo(4000, mtu=1000)])
        self.assertIn("nothing was changed: echo 4003: cannot listen", self.refusal())
        self.served(one)
        self.connected(4001)
        self.failureResultOf(self.dial(4002))
        self.network.run(taken.stopListening())
        self.services.reload()
        self.served(self.connected(4003))
        self.served(one)

    def test_others(self) -> None:
        """A service without sessions is stopped, and the next one started after that."""
        first, second = Other(), Other()
        self.reload(Planned(first, "a"))
        self.reload(Planned(second, "b"))
        self.assertEqual((first.starts, first.running), (1, 0))
        self.assertEqual((second.starts, second.running), (1, 1))

    def test_otherFails(self) -> None:
        """If it cannot be started, that is in the log."""
        self.reload(Planned(Other(failing=True), "a"))

    def test_general(self) -> None:
        """Options of the process are not reloaded, which the log says."""
        self.next = Plan([self.echo(4000), self.echo(4001)], {"control": "/run/other"})
        self.assertEqual(self.services.reload()["unchanged"], 2)

    def test_noFile(self) -> None:
        """Without a file there is nothing to reload."""
        services = Services(self.server.reactor, Plan([]))
        problem = self.assertRaises(RequestError, services.reload)
        self.assertIn("without --config", str(problem))

    def test_hangup(self) -> None:
        """SIGHUP is answered by a line of the log where there is no file, except at a terminal."""
        for terminal, handled in ((False, True), (True, False)):
            before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
            self.addCleanup(signal.signal, signal.SIGHUP, before)
            self.patch(sys, "stdin", Input(terminal))
            services = Services(self.server.reactor, Plan([]))
            services.startService()
            self.assertEqual(callable(signal.getsignal(signal.SIGHUP)), handled)

    def test_stopWhileRetiring(self) -> None:
        """Stopping the program does not wait for sessions that could go on for long."""
        one = self.connected(4000)
        two = self.connected(4001)
        self.served(one)
        self.served(two)
        self.reload(self.echo(4000, mtu=1000))
        before = self.network.clock.seconds()
        self.network.run(self.services.stopService())
        self.assertLess(self.network.clock.seconds() - before, 12)
        self.network.run(lambda: one.reason and two.reason)


class Renewing(Service):
    """Workers that follow others at once, or do not."""

    def __init__(self) -> None:
        self.renewed: list[Any] = []
        self.problem: RequestError | None = None

    def renew(
        self, endpoints: Any, announcers: Any, file: str, changes: Any, drain: float
    ) -> Deferred[None]:
        if self.problem is not None:
            return fail(self.problem)
        self.renewed.append(([each.description for each in endpoints], file, changes, drain))
        return succeed(None)


class SharedTests(ServicesCase):
    """A file that was changed, where workers have what listens."""

    def setUp(self) -> None:
        super().setUp()
        self.workers = Renewing()
        self.other = Other()
        workers: Any = self.workers
        self.shared = Services(
            self.server.reactor,
            Plan([self.echo(4010), Planned(self.other, "a")]),
            self.plan,
            workers=workers,
        )
        self.shared.startService()
        self.addCleanup(self.shared.stopService)

    def reloadShared(self, *services: Planned) -> dict[str, int]:
        self.next = Plan(list(services), text="new")
        reloading: Any = self.shared.reload()
        done: dict[str, int] = self.successResultOf(reloading)
        return done

    def test_same(self) -> None:
        """No worker is replaced for what is the same to them."""
        third = Other()
        done = self.reloadShared(self.echo(4010), Planned(third, "b"))
        self.assertEqual(done, {"added": 1, "removed": 1, "changed": 0, "unchanged": 1})
        self.assertEqual(self.workers.renewed, [])
        self.assertEqual((self.other.running, third.running), (0, 1))

    def test_changed(self) -> None:
        """Everything that listens is renewed when something of it has changed."""
        for expected in ((1, 0, 1, 1), (0, 0, 0, 3)):
            done = self.reloadShared(
                self.echo(4010, sndwnd=7), self.echo(4011), Planned(self.other, "a")
            )
            names = ("added", "removed", "changed", "unchanged")
            self.assertEqual(tuple(done[each] for each in names), expected)
        self.assertEqual(
            self.workers.renewed,
            [(["echo 4010", "echo 4011"], "new", {"udp 0.0.0.0 4010": {"sndwnd": 7}}, 5)],
        )

    def test_refused(self) -> None:
        """When the new workers do not come, nothing has changed, and the next try is another."""
        self.workers.problem = RequestError("no")
        self.next = Plan([self.echo(4011)])
        reloading: Any = self.shared.reload()
        self.failureResultOf(reloading, RequestError)
        self.assertEqual(self.other.running, 1)
        self.next = Plan([Planned(self.other, "a")])
        reloading = self.shared.reload()
        self.assertIn("nothing is left", str(self.failureResultOf(reloading).value))
        self.workers.problem = None
        self.assertEqual(self.reloadShared(self.echo(4011))["removed"], 2)


class Taking:
    """A takeover that has no sockets, and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def begin(self) -> None:
        self.told.append("begin")

    def sourceFor(self, place: Any) -> None:
        return None

    def release(self) -> None:
        self.told.append("release")

    def commit(self) -> None:
        self.told.append("commit")


class TakeoverTests(ServicesCase):
    """One process follows another; each is a collection of services here."""

    def test_commits(self) -> None:
        """The old process is told to give up when everything else has started."""
        for failing, told in ((False, ["begin", "release", "commit"]),
                              (True, ["begin", "release"])):  # fmt: skip
            taking: Any = Taking()
            other = Other(failing)
            services = Services(
                self.server.reactor, Plan([Planned(other, "")]), takeover=taking
            )
            services.privilegedStartService()
            self.assertEqual((taking.told, other.starts), (["begin", "release"], 0))
            taking.told.remove("release")
            if failing:
                self.assertRaises(StartupError, services.startService)
            else:
                services.startService()
            self.assertEqual(taking.told, told)

    def test_first(self) -> None:
        """What traces is there before the sockets."""
        taking: Any = Taking()
        first = Other()
        taking.begin = lambda: self.assertEqual(first.starts, 1)
        services = Services(self.server.reactor, Plan([]), takeover=taking, before=[first])
        services.startService()
        self.assertEqual(first.starts, 1)

    def test_failed(self) -> None:
        """
        When the new process does not start, what was closed for it is opened again; sessions
        and listeners have not noticed.
        """
        other, first = Other(), Other()
        services = Services(
            self.server.reactor,
            Plan([self.echo(4005), Planned(other, "")]),
            before=[first],
        )
        services.startService()
        self.addCleanup(lambda: self.network.run(services.stopService()))
        one = self.connected(4005)
        for time in (1, 2):
            handover = services.offer()
            self.successResultOf(services.release(handover, [0] if handover.offers else []))
            self.assertEqual((other.running, other.starts, first.running), (0, time, 1))
            self.served(self.connected(4005))
            handover.close()
            self.assertEqual((other.running, other.starts, first.starts), (1, time + 1, 1))
        self.served(one)
        self.served(self.connected(4005))

    def test_succeeded(self) -> None:
        """What was closed for the new process is not opened again."""
        other = Other()
        services = Services(self.server.reactor, Plan([Planned(other, "")]))
        services.startService()
        handover = services.offer()
        self.successResultOf(services.release(handover, []))
        self.successResultOf(services.giveUp(handover, []))
        handover.close()
        self.assertEqual((other.running, other.starts, list(services)), (0, 1, []))


class TCPTests(TestCase):
    """A listener of TCP whose service changes: the socket stays open."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.next = Plan([])
        self.services = Services(reactor, Plan([self.echo("a")]), lambda: self.next)
        self.services.startService()
        self.addCleanup(self.services.stopService)

    def echo(self, name: str) -> Planned:
        endpoint = TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1")
        service = EchoService(self.reactor, name, endpoint, limit=10, drain=5)
        service.place = placeOf("tcp:0:interface=127.0.0.1")
        return Planned(service, name)

    @property
    def port(self) -> int:
        service: Any = next(iter(self.services))
        number: int = service.port.getHost().port
        return number

    @inlineCallbacks
    def served(self) -> Any:
        """Somebody can connect."""
        factory: Any = Factory.forProtocol(Heard)
        factory.noisy = False
        endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", self.port)
        protocol = yield endpoint.connect(factory)
        protocol.transport.write(b"x")
        while not protocol.data:
            yield deferLater(self.reactor, 0.001, lambda: None)
        protocol.transport.loseConnection()
        while protocol.reason is None:
            yield deferLater(self.reactor, 0.001, lambda: None)

    @inlineCallbacks
    def test_changed(self) -> Any:
        """The new service has the socket of the old one, also after that has closed."""
        before = self.port
        self.next = Plan([self.echo("b")])
        self.services.reload()
        yield deferLater(self.reactor, 0.05, lambda: None)
        self.assertEqual(self.port, before)
        yield self.served()

    @inlineCallbacks
    def test_refused(self) -> Any:
        """If something else cannot be started, the old service goes on."""
        before = self.port
        other = self.echo("c")
        taken: Any = other.service
        taken.place = None
        taken.source = lambda endpoint, factory: fail(
            CannotListenError("127.0.0.1", 1, OSError("no"))
        )
        self.next = Plan([self.echo("b"), other])
        self.assertRaises(RequestError, self.services.reload)
        yield deferLater(self.reactor, 0.05, lambda: None)
        self.assertEqual(self.port, before)
        yield self.served()
