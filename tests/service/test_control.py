"""
Tests for L{twisted_rudp.service.control} and L{twisted_rudp.service.status}: the state of
simulated sessions, and the programs as a person runs them.
"""

from __future__ import annotations

import json
import os
import stat
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from tests.service.programs import TWIST, Program, run
from tests.service.test_command import RUDP
from twisted_rudp import stats
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.net.traced import traces
from twisted_rudp.service.control import Control, status
from twisted_rudp.service.status import (
    COLUMNS,
    ConfigureOptions,
    Top,
    asked,
    fitting,
    rows,
    text,
)
from twisted_rudp.service.tracing import endTraces
from twisted_rudp.testing import MemoryNetwork

TRANSPORTS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "kcp": (KCPServerEndpoint, KCPClientEndpoint, {"password": "secret"}),
    "qotp": (QOTPServerEndpoint, QOTPClientEndpoint, {}),
    "raknet": (RakNetServerEndpoint, RakNetClientEndpoint, {}),
}


class Kept(Protocol):
    """Remembers whether it was closed."""

    reason: Any = None

    def connectionLost(self, reason: Any = None) -> None:
        self.reason = reason


class SessionCase(SynchronousTestCase):
    """A session of each transport between two simulated machines."""

    def setUp(self) -> None:
        # The registry is the process's: other tests may have left ports to the collector.
        self.patch(stats, "ports", stats.Registry())
        self.network = MemoryNetwork(seed=1)
        self.one, self.two = self.network.host("one"), self.network.host("two")
        self.clients: dict[str, Any] = {}
        for number, (name, (server, client, options)) in enumerate(TRANSPORTS.items()):
            factory: Any = Factory.forProtocol(Kept)
            port = self.successResultOf(
                server(self.one.reactor, 4000 + number, **options).listen(factory)
            )
            self.addCleanup(self.network.runFor, 70)
            self.addCleanup(port.stopListening)
            endpoint = client(self.two.reactor, self.one.address, 4000 + number, **options)
            connecting = endpoint.connect(factory)
            self.network.runFor(1)
            self.clients[name] = self.successResultOf(connecting)
        self.network.runFor(2)
        self.control = Control(self.network.clock)

    def ask(self, **request: Any) -> dict[str, Any]:
        answer = self.control.answer(json.dumps(request).encode())
        json.dumps(answer)
        return answer

    def at(self, address: str) -> dict[str, Any]:
        """The status of the port with this address."""
        [port] = [p for p in self.ask(command="status")["ports"] if p["address"] == address]
        found: dict[str, Any] = port
        return found


class Counting:
    """A service with counters of its own."""

    def snapshot(self) -> stats.ServiceStats:
        return stats.ServiceStats("forward", {"associations": 2}, {"forth": 7})


class Offered:
    """Sockets that are offered."""

    descriptors = [3]
    offers = [["udp", "udp", 2]]
    closed = 0

    def close(self) -> None:
        self.closed += 1


class RunningServices:
    """A program that can be reloaded and taken over."""

    def __init__(self) -> None:
        self.offered = Offered()
        self.taken: list[int] | None = None
        self.released: list[int] | None = None

    def reload(self) -> dict[str, Any]:
        return {"added": 1}

    def offer(self) -> Offered:
        return self.offered

    def release(self, handover: Any, taken: list[int]) -> Deferred[dict[str, Any]]:
        self.released = taken
        return succeed({"released": 1})

    def giveUp(self, handover: Any, taken: list[int]) -> Deferred[dict[str, Any]]:
        self.taken = taken
        return succeed({"retiring": 0})


class Client:
    """Who asks, and what it was given."""

    def __init__(self) -> None:
        self.handover: Any = None
        self.descriptors: list[int] = []

    def giveDescriptors(self, descriptors: list[int]) -> None:
        self.descriptors += descriptors

    def forget(self) -> None:
        if self.handover is not None:
            self.handover.close()


class LifeTests(SynchronousTestCase):
    """Reloading and taking over."""

    def setUp(self) -> None:
        self.life = RunningServices()
        self.control = Control(Clock(), life=self.life)
        self.client = Client()

    def ask(self, **request: Any) -> Any:
        return self.control.answer(json.dumps(request).encode(), self.client)

    def test_reload(self) -> None:
        """The answer is what was changed."""
        self.assertEqual(self.ask(command="reload"), {"added": 1})

    def test_impossible(self) -> None:
        """A program that runs no services of ours says that it cannot."""
        self.control = Control(Clock())
        for request in ({"command": "reload"}, {"command": "takeover", "version": "1"}):
            self.assertIn("neither reloaded nor taken over", self.ask(**request)["error"])

    def test_takeover(self) -> None:
        """Sockets are offered along with their descriptors, then taken."""
        answer = self.ask(command="takeover", version="1")
        self.assertEqual(answer["offers"], Offered.offers)
        self.assertEqual(self.client.descriptors, [3])
        released = self.ask(command="release", taken=[0])
        self.assertEqual(self.successResultOf(released), {"released": 1})
        self.assertEqual((self.life.released, self.life.taken), ([0], None))
        self.assertIs(self.client.handover, self.life.offered)
        taken = self.ask(command="taken", taken=[0])
        self.assertEqual(self.successResultOf(taken), {"retiring": 0})
        self.assertEqual(self.life.taken, [0])
        self.assertIsNone(self.client.handover)

    def test_again(self) -> None:
        """Who asks again gets a new offer; the earlier one is closed."""
        self.ask(command="takeover", version="1")
        self.ask(command="takeover", version="1")
        self.assertEqual(self.life.offered.closed, 1)

    def test_invalid(self) -> None:
        """Nothing is given up for what was not offered."""
        for command in ("release", "taken"):
            self.assertIn("takeover comes first", self.ask(command=command, taken=[0])["error"])
        self.ask(command="takeover", version="1")
        for command in ("release", "taken"):
            for taken in ([1], [-1], [0, 0], "0", ["0"], [[0]], None, {}):
                self.assertIn("error", self.ask(command=command, taken=taken))
        self.assertEqual((self.life.released, self.life.taken), (None, None))


class StatusTests(SessionCase):
    """What is shown."""

    def test_rows(self) -> None:
        """Each session is a row in shared words, whatever its transport."""
        found = list(rows(status(self.network.clock)))
        self.assertEqual(len(found), 6)
        for row in found:
            self.assertEqual(row.state, "ESTABLISHED")
            self.assertGreater(row.age, 1)
            self.assertIsNotNone(row.round_trip)
            self.assertGreater(row.window or 0, 1000)
            self.assertEqual(row.queue, 0)
        self.assertEqual({row.transport for row in found}, set(TRANSPORTS))
        ciphers = {row.transport: row.cipher for row in found}
        self.assertEqual(
            ciphers, {"kcp": "aes", "raknet": None, "qotp": "chacha20-poly1305"}
        )

    def test_services(self) -> None:
        """Services with counters of their own are shown with them."""
        service = Counting()
        self.patch(stats, "services", stats.ServiceRegistry())
        stats.services.add(service)
        state = self.ask(command="status")
        self.assertEqual(
            state["services"],
            [{"service": "forward", "facts": {"associations": 2}, "counters": {"forth": 7}}],
        )
        self.assertIn("\nservice forward: forth=7\n", text(state))

    def test_text(self) -> None:
        """The table has a line for each port and each session."""
        shown = text(status(self.network.clock))
        self.assertEqual(shown.count("ESTABLISHED"), 6)
        self.assertEqual(shown.count("port "), 6)
        self.assertIn(f"{self.two.address}:", shown)
        self.assertIn("PEER", shown)

    def test_top(self) -> None:
        """Rates are those since the last refresh; what is shown is sorted and filtered."""
        top = Top("rate_out", "kcp")
        top.refresh(status(self.network.clock))
        self.clients["kcp"].transport.write(bytes(100_000))
        self.network.runFor(10)
        first, second = top.refresh(status(self.network.clock))
        self.assertGreater(first["rate_out"], 9_000)
        self.assertLess(first["rate_out"], 13_000)
        self.assertGreater(first["rate_out"], second["rate_out"])
        self.assertGreater(second["rate_in"], 9_000)
        self.assertEqual(set(first), set(COLUMNS))


    def test_narrow(self) -> None:
        """A narrow terminal has as many columns as fit, and always those that matter most."""
        found = Top("rate_out", None).refresh(status(self.network.clock))
        self.assertEqual(fitting(found, 400), list(COLUMNS))
        some = fitting(found, 100)
        self.assertNotIn("local", some)
        self.assertIn("age", some)
        self.assertEqual(
            fitting(found, 10), ["session", "peer", "round_trip", "loss", "rate_in", "rate_out"]
        )


class ChangeTests(SessionCase):
    """What can be changed."""

    def test_kick(self) -> None:
        """A session is ended; both ends are told."""
        port = self.at("0.0.0.0:4000")
        [session] = port["sessions"]
        answer = self.ask(command="kick", port=port["port"], session=session["session"])
        self.assertEqual(answer, {"kicked": 1})
        self.network.runFor(5)
        self.assertIsNotNone(self.clients["kcp"].reason)
        self.assertEqual(self.at("0.0.0.0:4000")["sessions"], [])
        again = self.ask(command="kick", port=port["port"], session=session["session"])
        self.assertIn("has no session", again["error"])

    def test_ban(self) -> None:
        """A banned host loses its sessions and gets none until the time is over."""
        answer = self.ask(command="ban", host=self.two.address, seconds=60)
        self.assertEqual(answer, {"banned": self.two.address, "seconds": 60, "kicked": 3})
        self.network.runFor(5)

        def connect() -> Any:
            factory: Any = Factory.forProtocol(Kept)
            endpoint = KCPClientEndpoint(
                self.two.reactor, self.one.address, 4000, timeout=2, password="secret"
            )
            connecting = endpoint.connect(factory)
            self.network.runFor(4)
            return connecting

        self.failureResultOf(connect())
        self.assertGreater(self.at("0.0.0.0:4000")["counters"]["refused.banned"], 0)
        self.network.runFor(60)
        self.successResultOf(connect()).transport.loseConnection()
        self.network.runFor(5)

    def test_configure(self) -> None:
        """Settings of a session are changed as its transport would."""
        port = self.at("0.0.0.0:4000")
        [session] = port["sessions"]
        where = {"port": port["port"], "session": session["session"]}
        answer = self.ask(command="configure", changes={"rcvwnd": 2048}, **where)
        self.assertEqual(answer, {"changed": ["rcvwnd"]})
        self.assertEqual(self.at("0.0.0.0:4000")["sessions"][0]["facts"]["receive_window"], 2048)
        refused = self.ask(command="configure", changes={"sndwnd": -1}, **where)
        self.assertIn("sndwnd", refused["error"])

    def test_configureCommand(self) -> None:
        """C{rudp configure}: numbers, truth and text; what is malformed is refused."""
        options = ConfigureOptions()  # type: ignore[no-untyped-call]
        options.parseOptions(["c", "0/3", "sndwnd=512", "nodelay=true", "profile=fast"])
        self.assertEqual(
            options["request"],
            {"command": "configure", "port": 0, "session": 3,
             "changes": {"sndwnd": 512, "nodelay": True, "profile": "fast"}},
        )  # fmt: skip
        for given in (["c", "0/3"], ["c", "3", "a=1"], ["c", "0/3", "a"], ["c", "0/3", "=1"]):
            options = ConfigureOptions()  # type: ignore[no-untyped-call]
            self.assertRaises(UsageError, options.parseOptions, given)

    def test_logLevel(self) -> None:
        """The level of the log, where it can be changed."""
        self.assertIn("cannot be changed", self.ask(command="log-level", level="debug")["error"])
        levels: list[Any] = []
        self.control = Control(self.network.clock, levels.append)
        self.assertEqual(self.ask(command="log-level", level="debug"), {"level": "debug"})
        self.assertEqual(levels, [LogLevel.debug])
        self.assertIn("error", self.ask(command="log-level", level="loud"))

    def test_trace(self) -> None:
        """Sessions that begin afterwards are traced, until it is said again."""
        folder = os.path.abspath(self.mktemp())
        self.addCleanup(endTraces)
        self.assertEqual(self.ask(command="trace", directory=folder), {"traces": folder})
        self.assertIsNotNone(traces.tracer)
        self.assertTrue(os.path.isdir(folder))
        self.assertEqual(self.ask(command="trace"), {"traces": "off"})
        self.assertIsNone(traces.tracer)
        for wrong in ("relative", 5, "/dev/null/x"):
            self.assertIn("error", self.ask(command="trace", directory=wrong))

    def test_refused(self) -> None:
        """Whatever is asked has an answer."""
        for line in (
            b"",
            b"[]",
            b"{",
            b'"status"',
            b"[" * 10_000,
            b'{"command": 5}',
            b'{"command": "status", "x": 1}',
            b'{"command": "kick", "port": "0", "session": 0}',
            b'{"command": "kick", "port": 1099511627776, "session": 0}',
            b'{"command": "ban", "host": 1, "seconds": 1}',
            b'{"command": "ban", "host": "h", "seconds": -1}',
            b'{"command": "configure", "port": 0, "session": 0, "changes": 1}',
        ):
            self.assertIn("error", self.control.answer(line), line)


class ProgramTests(SynchronousTestCase):
    """C{rudp status} and the others beside a real service."""

    def test_program(self) -> None:
        """What a service has, shown and changed from another process."""
        path = os.path.join("/tmp", f"rudp-test-{os.getpid()}")
        listen = "kcp:0:interface=127.0.0.1:crypt=null"
        echo = Program(*TWIST, "rudp", "echo", "--control", path, "--listen", listen)
        self.addCleanup(echo.kill)
        port = echo.port()
        echo.expect("control socket at")
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        code, refusal = run(*TWIST, "rudp", "echo", "--control", path, "--listen", listen)
        self.assertEqual(code, 1)
        self.assertIn(f"--control {path}: cannot listen: another running program has it", refusal)
        folder = os.path.abspath(self.mktemp())
        self.assertIn(folder, run(*RUDP, "trace", path, folder)[1])
        far = f"kcp:127.0.0.1:{port}:crypt=null"
        client = Program(*RUDP, "connect", far, keyboard=True)
        self.addCleanup(client.kill)
        client.type("hello\n")
        client.expect("hello")
        self.assertIn("off", run(*RUDP, "trace", path)[1])
        [traced] = os.listdir(folder)
        self.assertIn("-0001-kcp-server.sqlog", traced)
        code, shown = run(*RUDP, "status", path)
        self.assertEqual(code, 0, shown)
        self.assertIn("ESTABLISHED", shown)
        code, shown = run(*RUDP, "status", "--json", path)
        [session] = json.loads(shown)["ports"][0]["sessions"]
        self.assertEqual(session["facts"]["transport"], "kcp")
        code, shown = run(*RUDP, "top", "--json", "-n", "2", "-i", "0.2", path)
        self.assertEqual((code, shown.count("\n")), (0, 2), shown)
        code, shown = run(*RUDP, "top", "-n", "1", path)
        self.assertEqual(code, 0, shown)
        title, head, row = shown.splitlines()
        self.assertIn(f"process {echo.process.pid}: 1 port, 1 session,", title)
        self.assertEqual(head.split()[0], "SESSION")
        self.assertEqual(row.split()[0], f"0/{session['session']}")
        self.assertIn(
            "level: debug", run(*RUDP, "log-level", path, "debug")[1]
        )
        code, shown = run(*RUDP, "kick", path, f"0/{session['session']}")
        self.assertEqual((code, shown), (0, "kicked: 1\n"))
        self.assertEqual(client.end(), 1)
        echo.process.send_signal(10)
        echo.expect("0 sessions")
        echo.interrupt()
        self.assertIn(echo.end(), (0, -2))
        self.assertNotIn("Traceback", echo.output)
        self.assertFalse(os.path.exists(path))
        self.assertIn("No such file", run(*RUDP, "status", path)[1])

    def test_nobody(self) -> None:
        """A socket that is not there is a sentence."""
        with self.assertRaises(UsageError) as caught:
            asked("/nonexistent/socket", command="status")
        self.assertIn("No such file", str(caught.exception))
