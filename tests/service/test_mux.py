"""C{forward --mux}: the service, its options, and two programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory
from twisted.logger import Logger, formatEvent
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from tests.endpoints.talks import Collecting, Talk
from tests.service.programs import TWIST, Program
from tests.service.test_twist import ask
from tests.service.transports import ClientEndpoint, HalfTransport, ServerEndpoint
from twisted_rudp import stats
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.mux import MuxClientEndpoint, MuxServerEndpoint
from twisted_rudp.service.control import status
from twisted_rudp.service.forward import ForwardFactory, ForwardService
from twisted_rudp.service.options import ForwardOptions
from twisted_rudp.service.status import rows
from twisted_rudp.service.worker import addressOf, carrierOf
from twisted_rudp.testing import MemoryNetwork

KEY = "5a" * 32


class Asking(Factory):
    """Makes protocols for the connection of somebody else."""

    noisy = False

    def buildProtocol(self, addr: Any) -> Talk:
        return Talk()

    def origin(self) -> IPv4Address:
        """Whose connection it is."""
        return IPv4Address("TCP", "198.51.100.7", 5555)


class ServiceTests(SynchronousTestCase):
    """Two services with a network between them."""

    def setUp(self) -> None:
        self.patch(stats, "ports", stats.Registry())
        self.network = MemoryNetwork(seed=3, delay=0.02)
        self.here, self.there = self.network.host("here"), self.network.host("there")
        self.events: list[dict[str, Any]] = []
        self.patch(ForwardFactory, "_log", Logger(observer=self.events.append))

    def service(self, near: Any, far: Any, **more: Any) -> ForwardService:
        service = ForwardService(
            self.network.clock, "forward", near, far, limit=100, drain=5, **more
        )
        service.startService()  # type: ignore[no-untyped-call]
        self.addCleanup(self.network.runFor, 20)
        self.addCleanup(service.stopService)
        return service

    def server(self, **more: Any) -> tuple[ForwardService, ClientEndpoint]:
        """The end that accepts streams, and what it dials."""
        far = ClientEndpoint()
        near = MuxServerEndpoint(KCPServerEndpoint(self.there.reactor, 4000, **more))
        return self.service(near, far, proxyProtocol="v1"), far

    def test_both(self) -> None:
        """
        The client's session is there before the first connection, and streams are relayed. The
        counters of the session are told once, at its end, and its streams are in the status.
        """
        _, far = self.server()
        near = ServerEndpoint()
        client = self.service(
            near, MuxClientEndpoint(KCPClientEndpoint(self.here.reactor, self.there.address, 4000))
        )
        self.network.runFor(1)
        self.assertEqual([row.streams for row in rows(status(self.network.clock))], [0, 0])
        transports = [HalfTransport() for _ in range(3)]
        sides = [near.factories[0].buildProtocol(None) for _ in transports]
        for side, transport in zip(sides, transports, strict=True):
            side.makeConnection(transport)
            side.dataReceived(b"hello")
        self.network.runFor(0.1)
        self.assertEqual(len(far.attempts), 3)
        self.assertEqual([row.streams for row in rows(status(self.network.clock))], [3, 3])
        answers = [HalfTransport() for _ in transports]
        for answer in answers:
            far.answer(answer)
        self.network.runFor(0.1)
        for answer in answers:
            self.assertTrue(answer.value().endswith(b"\r\nhello"))
        sides[0].readConnectionLost()
        self.network.runFor(0.1)
        self.assertTrue(answers[0].halfClosed)
        stopped = client.stopService()
        for port in near.ports:
            assert port.stopping is not None
            port.stopping.callback(None)
        for side in sides:
            side.connectionLost()
        self.network.run(stopped)
        self.network.runFor(3)
        counts = client.tally.counts
        self.assertEqual((counts["connections"], counts["ActiveOpens"]), (3, 1))
        self.assertEqual(counts["streams_opened"], 3)

    def test_origin(self) -> None:
        """Whose connection it is reaches the target, from a peer that has a key."""
        for more, shown in (
            ({"key": KEY}, b"PROXY TCP4 198.51.100.7 0.0.0.0 5555 4000\r\n"),
            ({}, b"PROXY TCP4 10.0.0.1 0.0.0.0 "),
        ):
            self.setUp()
            _, far = self.server(**more)
            plain = KCPClientEndpoint(self.here.reactor, self.there.address, 4000, **more)
            self.network.run(MuxClientEndpoint(plain).connect(Asking()))
            self.network.runFor(0.1)
            target = HalfTransport()
            far.answer(target)
            self.assertTrue(target.value().startswith(shown), target.value())

    def test_plainServer(self) -> None:
        """
        A server without a multiplexer passes nothing of a peer that has one to its target, and
        says why in one line.
        """
        far = ClientEndpoint()
        self.service(KCPServerEndpoint(self.there.reactor, 4000), far)
        plain = KCPClientEndpoint(self.here.reactor, self.there.address, 4000)
        endpoint = MuxClientEndpoint(plain)
        talks = Collecting(Talk)
        self.network.run(endpoint.connect(talks))
        self.network.runFor(0.1)
        target = HalfTransport()
        far.answer(target)
        self.network.runFor(0.3)
        self.assertEqual(target.value(), b"")
        errors = [event for event in self.events if event["log_level"].name == "error"]
        self.assertEqual(
            [formatEvent(event) for event in errors],
            [
                "forward: the peer multiplexes: give --mux, or mux:, at both ends",
            ],
        )
        self.network.run(endpoint.disconnect())


class WorkerTests(SynchronousTestCase):
    """C{--workers}."""

    def test_carrier(self) -> None:
        """The endpoint around which the multiplexer is has the socket that workers share."""
        network = MemoryNetwork(seed=1)
        plain = KCPServerEndpoint(network.host("here").reactor, 4000, interface="10.0.0.1")
        self.assertIs(carrierOf(plain), plain)
        self.assertEqual(addressOf(MuxServerEndpoint(plain)), addressOf(plain))


class OptionsTests(SynchronousTestCase):
    """The command line."""

    def parse(self, *arguments: str) -> list[Any]:
        options = ForwardOptions()
        options.parseOptions(list(arguments))  # type: ignore[no-untyped-call]
        return options.services

    def test_options(self) -> None:
        """Whichever end is one of ours gets a multiplexer, as the options say."""
        secret = self.mktemp()
        Path(secret).write_text("0123456789abcdef\n")
        [service] = self.parse(
            "--mux", "--sessions=3", "--patience=7", f"--secret-file={secret}",
            "--listen=tcp:1", "--to=kcp:h:4000",
        )  # fmt: skip
        self.assertIn("forward tcp:1 -> kcp:h:4000", service.description)
        self.parse("--mux", "--listen=qotp:1", "--to=tcp:h:1", f"--secret-file={secret}")
        self.parse("--mux", "--listen=raknet:1", "--to=node:alice")

    def test_refused(self) -> None:
        """What cannot be is named."""
        for arguments, words in (
            (("--mux", "--listen=tcp:1", "--to=tcp:h:2"), "--mux: one of --listen and --to"),
            (("--sessions=2", "--listen=tcp:1", "--to=kcp:h:2"), "--sessions needs --mux"),
            (("--patience=5", "--listen=tcp:1", "--to=kcp:h:2"), "--patience needs --mux"),
            (("--secret-file=s", "--listen=tcp:1", "--to=kcp:h:2"), "--secret-file needs --mux"),
            (("--mux", "--sessions=0", "--listen=tcp:1", "--to=kcp:h:2"), "--sessions"),
            (("--mux", "--listen=tcp:1", "--to=kcptun:h:2:nocomp=yes"), "multiplexer already"),
            (("--mux", "--listen=tcp:1", "--to=kcp:h:2:mode=messages"), "mode='messages'"),
            (
                ("--mux", "--secret-file=/nonexistent", "--listen=tcp:1", "--to=kcp:h:2"),
                "secretFile='/nonexistent'",
            ),
        ):
            error = self.assertRaises(UsageError, self.parse, *arguments)
            self.assertIn(words, str(error))


class ProgramTests(SynchronousTestCase):
    """Two programs."""

    def test_programs(self) -> None:
        """Connections over one session, one of them an endpoint string, and an orderly stop."""
        programs = []

        def start(*arguments: str) -> Program:
            programs.append(Program(*TWIST, "rudp", *arguments))
            self.addCleanup(programs[-1].kill)
            return programs[-1]

        echo = start("echo", "--listen", "mux:kcp:0:interface=127.0.0.1")
        forward = start(
            "forward", "--mux", "--listen", "tcp:0:interface=127.0.0.1",
            "--to", f"kcp:127.0.0.1:{echo.port()}",
        )  # fmt: skip
        port = forward.port()
        for size in (1, 1000, 300_000):
            self.assertEqual(ask(port, bytes(size)), bytes(size))
        forward.interrupt()
        forward.expect(r"stopped: connections=3 .* forth=301001 back=301001 .*streams_opened=3")
        forward.end()
        echo.interrupt()
        echo.expect(r"stopped: connections=3 .*echoed=301001")
        echo.end()
        for program in programs:
            self.assertNotIn("Traceback", program.output)
