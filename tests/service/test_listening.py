"""Tests for L{twisted_rudp.service.listening}."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.service.transports import CountingTransport, HalfTransport, ServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.service.listening import (
    ListeningService,
    Sessions,
    StartupError,
    Tally,
    adviceFor,
)
from twisted_rudp.service.options import EchoOptions, ForwardOptions
from twisted_rudp.testing import MemoryNetwork


class ListeningServiceTests(SynchronousTestCase):
    """The life of a service."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.sessions = Sessions(self.clock, 10)
        self.events: list[dict[str, Any]] = []
        self.patch(ListeningService, "_log", Logger(observer=self.events.append))

    def service(self, endpoint: ServerEndpoint) -> Any:
        return ListeningService(
            "a test", endpoint, Factory(), self.sessions, Tally("connections"), 5
        )

    def said(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    def test_interface(self) -> None:
        """It is a service, and making it opens nothing (SVC-2)."""
        endpoint = ServerEndpoint()
        verifyObject(IService, self.service(endpoint))
        self.assertEqual(endpoint.factories, [])

    def test_privileged(self) -> None:
        """It binds while the process may, and once (SVC-3)."""
        endpoint = ServerEndpoint()
        service = self.service(endpoint)
        service.privilegedStartService()
        service.startService()
        self.assertEqual(len(endpoint.factories), 1)
        self.assertEqual(self.said(), ["a test: listening on a host"])

    def test_unprivileged(self) -> None:
        """C{twist} calls startService alone (SVC-3)."""
        endpoint = ServerEndpoint()
        service = self.service(endpoint)
        service.startService()
        self.assertTrue(service.running)
        self.assertEqual(len(endpoint.factories), 1)

    def test_cannotListen(self) -> None:
        """A port that cannot be had ends the program at start, with one line (SVC-4)."""
        for error, where in [
            (CannotListenError("", 80, OSError(98, "in use")), "port 80"),
            (CannotListenError("10.0.0.1", 80, OSError("in use")), "10.0.0.1 port 80"),
            (CannotListenError(None, "/run/socket", OSError(98, "in use")), "/run/socket"),
        ]:
            service = self.service(ServerEndpoint(fail(error)))
            problem = self.assertRaises(StartupError, service.startService)
            self.assertEqual(
                problem.code, f"a test: cannot listen on {where} (--listen): in use"
            )

    def test_failsOtherwise(self) -> None:
        """What is not an address that cannot be had is raised as it is."""
        service = self.service(ServerEndpoint(fail(RuntimeError("broken"))))
        self.assertRaises(RuntimeError, service.startService)

    def test_cannotListenLater(self) -> None:
        """An endpoint that fails later is logged, and stopping still works."""
        result: Deferred[Any] = Deferred()
        service = self.service(ServerEndpoint(result))
        service.startService()
        result.errback(CannotListenError("", 80, OSError("in use")))
        self.assertIn("a test: cannot listen: ", self.said()[0])
        self.successResultOf(service.stopService())

    def test_stopWhileBinding(self) -> None:
        """Stopping cancels a listen that has not answered, silently (SVC-5)."""
        service = self.service(ServerEndpoint(Deferred()))
        service.startService()
        self.successResultOf(service.stopService())
        self.assertEqual(self.said(), ["a test: stopped: connections=0"])

    def test_stopOrder(self) -> None:
        """New peers are refused first; then sessions end, then the port is waited for (SVC-5)."""
        endpoint = ServerEndpoint()
        service = self.service(endpoint)
        service.startService()
        session = Session()
        self.sessions.add(session)
        stopped = service.stopService()
        self.assertFalse(service.running)
        [port] = endpoint.ports
        assert port.stopping is not None
        self.assertEqual(session.told, ["finish"])
        self.assertNoResult(stopped)
        self.sessions.remove(session)
        self.assertNoResult(stopped)
        port.stopping.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.said()[1:], ["a test: stopped: connections=0"])

    def test_restart(self) -> None:
        """It may be started again after it was stopped (SVC-6)."""
        endpoint = ServerEndpoint()
        service = self.service(endpoint)
        for turn in range(1, 3):
            service.startService()
            self.assertEqual(len(endpoint.ports), turn)
            stopped = service.stopService()
            stopping = endpoint.ports[-1].stopping
            assert stopping is not None
            stopping.callback(None)
            self.successResultOf(stopped)

    def test_stopTwice(self) -> None:
        """Stopping what is stopped does nothing."""
        endpoint = ServerEndpoint()
        service = self.service(endpoint)
        self.successResultOf(service.stopService())
        self.assertEqual(endpoint.ports, [])


class Session:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def finish(self) -> None:
        self.told.append("finish")

    def abort(self) -> None:
        self.told.append("abort")


class SessionsTests(SynchronousTestCase):
    """Bounds and draining."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.sessions = Sessions(self.clock, 2)
        self.first, self.second = Session(), Session()

    def test_limit(self) -> None:
        """The set is full at its limit, and has room again after an end (EP-7)."""
        self.sessions.add(self.first)
        self.assertFalse(self.sessions.full)
        self.sessions.add(self.second)
        self.assertTrue(self.sessions.full)
        self.sessions.remove(self.first)
        self.assertFalse(self.sessions.full)

    def test_drainNothing(self) -> None:
        """Without sessions draining is done at once and leaves no timer (TIME-6)."""
        self.successResultOf(self.sessions.drain(5))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drain(self) -> None:
        """Sessions are finished, waited for, and no timer is left (SVC-5)."""
        self.sessions.add(self.first)
        self.sessions.add(self.second)
        drained = self.sessions.drain(5)
        self.assertEqual(self.first.told, ["finish"])
        self.sessions.remove(self.first)
        self.assertNoResult(drained)
        self.sessions.remove(self.second)
        self.successResultOf(drained)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_impatience(self) -> None:
        """What does not end in time is aborted, and still waited for (SVC-5)."""
        self.sessions.add(self.first)
        drained = self.sessions.drain(5)
        self.clock.advance(4.9)
        self.assertEqual(self.first.told, ["finish"])
        self.clock.advance(0.1)
        self.assertEqual(self.first.told, ["finish", "abort"])
        self.assertNoResult(drained)
        self.sessions.remove(self.first)
        self.successResultOf(drained)

    def test_settle(self) -> None:
        """Sessions are left alone for a time; those left after that are drained."""
        self.sessions.add(self.first)
        self.sessions.add(self.second)
        settled = self.sessions.settle(60, 5)
        self.clock.advance(59)
        self.sessions.remove(self.first)
        self.assertEqual((self.first.told, self.second.told), ([], []))
        self.clock.advance(1)
        self.assertEqual(self.second.told, ["finish"])
        self.clock.advance(5)
        self.assertEqual(self.second.told, ["finish", "abort"])
        self.assertNoResult(settled)
        self.sessions.remove(self.second)
        self.successResultOf(settled)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drainWhileSettling(self) -> None:
        """When the program stops in the meantime, both are done with the last session."""
        self.sessions.add(self.first)
        settled, drained = self.sessions.settle(60, 5), self.sessions.drain(5)
        self.sessions.remove(self.first)
        self.successResultOf(settled)
        self.successResultOf(drained)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_again(self) -> None:
        """After a drain there may be sessions again (SVC-6)."""
        for _ in range(2):
            self.sessions.add(self.first)
            drained = self.sessions.drain(5)
            self.sessions.remove(self.first)
            self.successResultOf(drained)


class TallyTests(SynchronousTestCase):
    """The line that is logged when a service stops."""

    def test_own(self) -> None:
        """The service's own counts are shown in their order, also when 0."""
        tally = Tally("connections", "broken")
        tally.add("broken")
        tally.add("broken", 2)
        self.assertEqual(tally.line(), "connections=0 broken=3")

    def test_absorb(self) -> None:
        """A session's counters are summed up, and its round trip is the last one known (TR-10)."""
        tally = Tally("connections")
        tally.absorb(CountingTransport())
        tally.absorb(CountingTransport())
        self.assertEqual(tally.line(), "connections=0 retrans_segs=6 round_trip_ms=31.5")

    def test_absorbTCP(self) -> None:
        """A transport that knows nothing about itself adds nothing."""
        tally = Tally("connections")
        tally.absorb(HalfTransport())
        self.assertEqual(tally.line(), "connections=0")


class AdviceTests(SynchronousTestCase):
    """What is said about insecure arguments."""

    def test_qotp(self) -> None:
        """Temporary identities, servers that are not authenticated and RakNet are warned about."""
        [temporary] = adviceFor(QOTPServerEndpoint(Clock(), 1))
        self.assertIn("rudp keygen", temporary)
        self.assertEqual(adviceFor(QOTPServerEndpoint(Clock(), 1, seed="x")), [])
        [unknown] = adviceFor(QOTPClientEndpoint(Clock(), "h", 1))
        self.assertIn("serverKey=", unknown)
        self.assertEqual(adviceFor(QOTPClientEndpoint(Clock(), "h", 1, serverKey="09" * 32)), [])
        for plain in (RakNetServerEndpoint(Clock(), 1), RakNetClientEndpoint(Clock(), "h", 1)):
            [open] = adviceFor(plain)
            self.assertIn("RakNet encrypts nothing", open)
        self.assertEqual(adviceFor(ServerEndpoint()), [])

    def test_secrets(self) -> None:
        """A secret on the command line is warned about, and not repeated."""
        options = EchoOptions()
        options.parseOptions(["--listen", "kcp:1:password=sesame", "--listen", "kcp:2:crypt=null"])
        exposed, harmless = options.services
        public = ForwardOptions()
        public.parseOptions(["--listen", "tcp:1", "--to", f"qotp:h:2:serverKey={'09' * 32}"])
        [relaying] = public.services
        self.assertEqual(relaying.advice, [])
        self.assertIn("visible in the process list", exposed.advice[0])
        self.assertNotIn("sesame", exposed.advice[0])
        self.assertEqual(harmless.advice, [])

    def test_identity(self) -> None:
        """The public key is logged, the advice once."""
        events: list[dict[str, Any]] = []
        self.patch(ListeningService, "_log", Logger(observer=events.append))
        network = MemoryNetwork(seed=1)
        endpoint = QOTPServerEndpoint(network.host("h").reactor, 4000)
        sessions = Sessions(network.clock, 1)
        service = ListeningService("echo", endpoint, Factory(), sessions, Tally(), 0)
        service.startService()
        shown = [formatEvent(event) for event in events]
        self.assertIn(f"echo: public key {endpoint.publicKey.hex()}", shown)
        self.assertEqual(len([line for line in shown if "rudp keygen" in line]), 1)
        service.stopService()
        network.runFor(10)
