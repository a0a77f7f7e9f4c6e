"""Two of our own nodes on two machines: they find each other and connect."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.namespaces import Cable
from tests.interpreter import CHECKOUT
from tests.service.programs import TWIST, Program
from twisted_rudp.endpoints.qotp import QOTPServerEndpoint

RUDP = ("-c", "from twisted_rudp.service.command import main; main()")
EXAMPLES = CHECKOUT / "examples"
ECHO = str(EXAMPLES / "echo.py")


class NodeTests(SynchronousTestCase):
    """The commands as a person types them, on real interfaces."""

    def setUp(self) -> None:
        cable = Cable()
        self.addCleanup(cable.remove)
        self.one, self.two = cable.machines

    def echo(self, *arguments: str, listen: str = "kcp:4000", id: str = "alice") -> Program:
        """An echo on the first machine, announced."""
        program = self.one.start(
            *TWIST, "rudp", "echo", "--listen", listen, "--announce", id, *arguments
        )
        self.addCleanup(program.kill)
        program.expect("announcing ")
        return program

    def ask(self, description: str) -> None:
        """Connect from the second machine."""
        status, output = self.two.run(ECHO, "ask", description, "hello over there")
        self.assertEqual((status, output), (0, "hello over there\n"))

    def test_v4(self) -> None:
        """
        Found within seconds, by broadcast and by multicast, with a hop limit that tells
        that no router was in between, and connected by C{node:alice}; a goodbye takes it
        off the list.
        """
        echo = self.echo(listen=r"kcp:4000:interface=\:\:")
        browsing = self.two.start(*RUDP, "browse", "--check-hops")
        self.addCleanup(browsing.kill)
        line = browsing.expect(r"^\+ alice kcp://").string
        for address in ("kcp://10.77.0.1:4000", "kcp://[fe80::"):
            if address not in line:
                browsing.expect(r"^~ alice .*" + address.replace("[", r"\["))
        self.ask("node:alice")
        echo.interrupt()
        echo.end()
        self.assertNotIn("Traceback", echo.output)
        browsing.expect("^- alice it said so")

    def test_oneFamily(self) -> None:
        """A listener on IPv4 is listed with its IPv4 address only."""
        self.echo()
        status, output = self.two.run(*RUDP, "browse", "--seconds", "3")
        self.assertEqual((status, output), (0, "+ alice kcp://10.77.0.1:4000\n"))

    def test_key(self) -> None:
        """A QOTP node is found and proved by its public key, and nobody else's is."""
        key = QOTPServerEndpoint(None, 8888, seed="the true one").publicKey.hex()
        echo = self.echo(listen="qotp:8888:seed=the true one", id=key)
        self.ask(f"node:{key}")
        echo.interrupt()
        echo.end()
        self.echo(listen="qotp:8888:seed=another", id=key)
        status, output = self.two.run(ECHO, "ask", f"node:{key}:timeout=12", "hello")
        self.assertEqual(status, 1)
        self.assertIn("Error", output)

    def test_v1(self) -> None:
        """Found by the protocol of 2013, and connected with our own choice of transport."""
        self.echo("--announce-profile", "v1")
        self.ask("node:alice:lan=v1:transports=kcp:timeout=45")

    def test_server(self) -> None:
        """Found through a discovery server, with nothing said on the local network."""
        server = self.one.start(*TWIST, "rudp", "discovery-server")
        self.addCleanup(server.kill)
        server.expect("listening on :: port 22025")
        self.echo("--announce-profile", "none", "--announce-server", "127.0.0.1")
        status, output = self.one.run(
            *RUDP, "lookup", "--profile", "none", "--server", "10.77.0.1", "alice"
        )
        self.assertEqual((status, output.split()[:2]), (0, ["udp://127.0.0.1:4000", "server"]))
        status, output = self.two.run(*RUDP, "lookup", "--timeout", "1", "alice")
        self.assertEqual(status, 1)

    def test_byServer(self) -> None:
        """Connected through a server on the other machine."""
        server = self.two.start(*TWIST, "rudp", "discovery-server")
        self.addCleanup(server.kill)
        server.expect("listening on :: port 22025")
        self.echo("--announce-profile", "none", "--announce-server", "10.77.0.2")
        self.ask("node:alice:lan=none:server=10.77.0.2")

    def test_chat(self) -> None:
        """C{chat.py} on two machines: each sees the other come, speak and go."""
        path = str(EXAMPLES / "chat.py")
        alice, bob = (
            machine.start(path, "join", name, keyboard=True)
            for machine, name in ((self.one, "alice"), (self.two, "bob"))
        )
        for program, other in ((alice, "bob"), (bob, "alice")):
            self.addCleanup(program.kill)
            program.expect(f"^{other} is here")
        bob.type("hello from here\n")
        alice.expect("^bob: hello from here")
        bob.leave()
        alice.expect("^bob has gone")
        alice.leave()
        for program in (alice, bob):
            self.assertEqual(program.end(), 0)
            self.assertNotIn("Traceback", program.output)

    def test_announced(self) -> None:
        """C{announced.py} is found by its name."""
        path = str(EXAMPLES / "announced.py")
        serving = self.one.start(path, "serve", "kcp:port=0", "clock")
        self.addCleanup(serving.kill)
        serving.expect("^clock is on port")
        status, output = self.two.run(path, "ask", "node:clock:transports=kcp")
        self.assertEqual(status, 0)
        self.assertRegex(output, r"^running for \d+ s\n$")
