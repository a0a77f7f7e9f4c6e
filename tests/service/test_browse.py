"""
Tests for L{twisted_rudp.service.browse}, L{twisted_rudp.service.announce} and
L{twisted_rudp.service.discoveryserver}.
"""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from twisted.application.service import IServiceCollection
from twisted.internet.defer import ensureDeferred
from twisted.internet.protocol import DatagramProtocol
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from tests.discovery.support import Lan
from tests.service.programs import TWIST, run
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.profiles import SYNCTHING, V1, V4
from twisted_rudp.discovery.server import DiscoveryServer
from twisted_rudp.discovery.service import discoveryOf
from twisted_rudp.endpoints.kcp import KCPServerEndpoint
from twisted_rudp.service.announce import AnnounceService, Audience, NodeAnnouncer, profilesOf
from twisted_rudp.service.browse import BrowseOptions, LookupOptions, runBrowse, table
from twisted_rudp.service.discoveryserver import DiscoveryServerService
from twisted_rudp.service.echo import EchoService
from twisted_rudp.service.listening import StartupError
from twisted_rudp.service.options import Options, makeService

ALICE = NodeId.from_text("alice")
RUDP = ("-c", "from twisted_rudp.service.command import main; main()")


class Terminal(StringIO):
    """Something to draw on."""

    def isatty(self) -> bool:
        return True


class ServiceTests(SynchronousTestCase):
    """Services and tools on a simulated network."""

    def setUp(self) -> None:
        self.lan = Lan()
        self.network = self.lan.network
        self.one, self.two = self.lan.host("one"), self.lan.host("two")
        self.addCleanup(self.clean)

    def clean(self) -> None:
        self.network.runFor(10)
        self.assertEqual([host.ports for host in self.network.hosts], [[], []])
        self.assertEqual(self.network.clock.getDelayedCalls(), [])

    def announcer(self, audience: Audience, scheme: str = "") -> NodeAnnouncer:
        return NodeAnnouncer(self.one.reactor, ALICE, audience, scheme)

    def known(self) -> list[str]:
        nodes = discoveryOf(self.two.reactor).registry.snapshot()
        return sorted(str(address) for node in nodes for address in node.addresses)

    def test_announce(self) -> None:
        """C{announce} announces between start and stop, and again."""
        lease = discoveryOf(self.two.reactor).listen()
        service = AnnounceService(self.announcer(Audience((V4,))), ["kcp://[::]:4000"])
        for _ in range(2):
            service.startService()
            self.network.runFor(0.1)
            self.assertEqual(self.known(), ["kcp://10.0.0.1:4000", "kcp://[fd00::1]:4000"])
            service.stopService()
            self.network.runFor(2)
            self.assertEqual(self.known(), [])
        lease.release()

    def test_announceTaken(self) -> None:
        """
        C{announce} needs no port: where the one to listen on is taken it sends only, and
        says so, which is no reason not to start.
        """
        other = self.one.reactor.listenUDP(21031, DatagramProtocol())
        lease = discoveryOf(self.two.reactor).listen()
        service = AnnounceService(self.announcer(Audience((V4,))), ["kcp://0.0.0.0:4000"])
        service.startService()
        self.network.runFor(0.1)
        self.assertEqual(self.known(), ["kcp://10.0.0.1:4000"])
        status = discoveryOf(self.one.reactor).status()
        self.assertEqual(status["v4 broadcast"], "sending only")
        service.stopService()
        lease.release()
        other.stopListening()

    def test_listening(self) -> None:
        """A service that listens announces the port it was given, and only while it listens."""
        lease = discoveryOf(self.two.reactor).listen()
        endpoint = KCPServerEndpoint(self.one.reactor, 0)
        announcer = self.announcer(Audience((V4,)), "kcp")
        service = EchoService(
            self.one.reactor, "echo", endpoint, limit=9, drain=1, announcer=announcer
        )
        service.startService()
        [number] = {port.port for port in self.one.ports} - {21031, 49153, 49154, 49155}
        self.network.runFor(0.1)
        self.assertIn(f"kcp://10.0.0.1:{number}", self.known())
        service.stopService()
        self.network.runFor(2)
        self.assertEqual(self.known(), [])
        lease.release()

    def test_server(self) -> None:
        """
        The server binds before privileges are dropped, once, and can be started again;
        a port that is taken is an error at the start.
        """
        service = DiscoveryServerService(DiscoveryServer(self.one.reactor))
        for _ in range(2):
            service.privilegedStartService()
            service.startService()
            self.assertEqual(service.server.getHost().port, 22025)
            other = DiscoveryServerService(DiscoveryServer(self.one.reactor, interface="::1"))
            problem = self.assertRaises(StartupError, other.startService)
            self.assertRegex(
                str(problem),
                r"^discovery server: cannot listen on ::1 port 22025 \(--interface, --port\): \w",
            )
            service.stopService()
            self.network.runFor(1)

    def test_browseLines(self) -> None:
        """Where there is no terminal C{browse} writes a line for each change."""
        options = BrowseOptions()
        options.parseOptions(["--seconds", "20"])
        out = StringIO()
        browsing = ensureDeferred(runBrowse(self.two.reactor, options, out))
        announcer = self.announcer(Audience((V4,)))
        announcer.announce(["kcp://0.0.0.0:4000"])
        self.network.runFor(5)
        announcer.end()
        self.network.run(browsing)
        marks = [line.split()[0] for line in out.getvalue().splitlines()]
        self.assertEqual((marks[0], marks[-1]), ("+", "-"))
        self.assertIn("kcp://10.0.0.1:4000", out.getvalue())

    def test_browseTable(self) -> None:
        """On a terminal it draws a table again and again, with ages and ways."""
        options = BrowseOptions()
        options.parseOptions(["--seconds", "8"])
        out = Terminal()
        announcer = self.announcer(Audience((V4,)))
        announcer.announce(["kcp://0.0.0.0:4000"])
        browsing = ensureDeferred(runBrowse(self.two.reactor, options, out))
        self.network.run(browsing)
        drawn = out.getvalue().split("\x1b[H")
        self.assertEqual(len(drawn), 9)
        self.assertIn("kcp://10.0.0.1:4000", drawn[-1])
        self.assertIn("v4 broadcast: listening", drawn[-1])
        self.assertEqual(table([], {}).splitlines()[0], "0 nodes ()")
        announcer.end()


class OptionsTests(SynchronousTestCase):
    """Command lines."""

    def services(self, *arguments: str) -> list[Any]:
        options = Options()
        options.parseOptions(list(arguments))
        return list(IServiceCollection(makeService(options)))

    def refused(self, *arguments: str) -> str:
        options = Options()
        return str(self.assertRaises(UsageError, options.parseOptions, list(arguments)))

    def test_announce(self) -> None:
        """C{--port} and C{--transport} are an address before those given whole."""
        [service] = self.services(
            "announce", "--id", "alice", "--port", "7", "--transport", "raknet",
            "--url", "kcp://0.0.0.0:8", "--profile", "v1,syncthing", "--server", "h:9",
        )  # fmt: skip
        self.assertEqual(service._urls, ["raknet://0.0.0.0:7", "kcp://0.0.0.0:8"])
        self.assertEqual(service._announcer._audience, Audience((V1, SYNCTHING), ("h", 9)))

    def test_server(self) -> None:
        """The limits of C{discovery-server} can be set."""
        path = Path(self.mktemp())
        [service] = self.services(
            "discovery-server", "--port", "0", "--file", str(path), "--life", "60",
            "--max-nodes", "5", "--max-per-source", "2", "--by-network", "--full-queries",
        )  # fmt: skip
        self.assertIsInstance(service, DiscoveryServerService)

    def test_refused(self) -> None:
        """What is wrong is said in one line (SVC-7)."""
        for arguments, expected in [
            (("announce",), "--id is missing"),
            (("announce", "--id", "a"), "--port or --url is missing"),
            (("announce", "--id", "a", "--port", "0"), "'0' is not a port from 1"),
            (("announce", "--id", "x" * 65, "--port", "1"), "1 to 64 bytes"),
            (("announce", "--id", "a", "--url", "b"), "'b' is not scheme://host:port"),
            (("announce", "--id", "a", "--port", "1", "--profile", "v5"), "'v5' is not one of"),
            (("announce", "--id", "a", "--port", "1", "--profile", "none"), "requires --server"),
            (("announce", "--id", "a", "--port", "1", "--server", "h:x"), "--server: 'h:x'"),
            (("announce", "--id", "a", "--port", "1", "--transport", "tcp"), "'tcp' is not one"),
            (("announce", "--id", "a", "--url", "kcp://:1?shards=3"), "no argument 'shards'"),
            (("announce", "--id", "a", "--url", "kcp://:1?key=3"), "key of an address is a secret"),
            (("echo", "--listen", "tcp:1", "--announce", "a"), "cannot connect to a tcp:"),
            (("echo", "--listen", "kcp:1", "--announce", ""), "--announce : "),
            (("echo", "--listen", "kcp:1", "--announce-server", "h"), "--announce-server requires"),
            (("discovery-server", "--port", "x"), "'x' is not a port"),
            (("discovery-server", "--interface", "x"), "--interface x: expected an IP address"),
            (("discovery-server", "--registry-password-file", "f"), "requires --registry"),
            (
                ("discovery-server", "--registry", "redis://h", "--file", "f"),
                "--file and --registry cannot be given together",
            ),
            (
                (
                    "discovery-server", "--registry", "redis://h",
                    "--registry-password-file", "/nowhere",
                ),
                "--registry-password-file /nowhere: No such file",
            ),
            (("discovery-server", "--registry", "http://h"), "--registry: "),
        ]:
            self.assertIn(expected, self.refused(*arguments))

    def test_tools(self) -> None:
        """So it is for the tools; without C{--profile} it is v4."""
        browse = BrowseOptions()
        self.assertRaises(UsageError, browse.parseOptions, ["--profile", "none"])
        lookup = LookupOptions()
        lookup.parseOptions(["alice"])
        self.assertEqual((lookup.id, profilesOf(lookup)), (ALICE, (V4,)))
        for arguments in ([], ["a", "b"], ["x" * 65], ["--profile", "none", "a"]):
            self.assertRaises(UsageError, LookupOptions().parseOptions, arguments)


class ProgramTests(SynchronousTestCase):
    """As a person runs them."""

    def test_help(self) -> None:
        """Help has examples (SVC-7)."""
        for program, command in [
            ((*TWIST, "rudp"), "announce"),
            ((*TWIST, "rudp"), "discovery-server"),
            (RUDP, "browse"),
            (RUDP, "lookup"),
        ]:
            status, output = run(*program, command, "--help")
            self.assertEqual(status, 0)
            name = "rudp" if program is RUDP else "twist rudp"
            self.assertIn(f"\n  {name} {command}", output)

    def test_notFound(self) -> None:
        """A node nobody knows is a sentence and a status."""
        status, output = run(
            *RUDP, "lookup", "--profile", "none", "--server", "127.0.0.1:9", "--timeout", "0.2", "a"
        )
        self.assertEqual(status, 1)
        self.assertEqual(output, "rudp: Node not found: nobody has announced the node a.\n")
