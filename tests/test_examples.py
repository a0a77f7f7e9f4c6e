"""The programs in C{examples/}, run as a reader would run them (DOC-3)."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SynchronousTestCase

from tests.interpreter import CHECKOUT
from tests.service.programs import TWIST, Program, run


class ExamplesMixin:
    """Every example, over one transport."""

    transport: str

    def answer(self, example: str, verb: str, *more: str, typed: str = "") -> str:
        """Start an example's server and ask it."""
        path = str(CHECKOUT / "examples" / example)
        server = Program(path, "serve", f"{self.transport}:port=0:interface=127.0.0.1")
        self.addCleanup(server.kill)  # type: ignore[attr-defined]
        where = f"{self.transport}:host=127.0.0.1:port={server.port()}"
        _, output = run(path, verb, where, *more, typed=typed)
        server.interrupt()
        server.end()
        self.assertNotIn("Traceback", server.output)  # type: ignore[attr-defined]
        return output

    def test_echo(self) -> None:
        """C{echo.py} brings the text back."""
        answer = self.answer("echo.py", "ask", "hello over there")
        self.assertEqual(answer, "hello over there\n")  # type: ignore[attr-defined]

    def test_web(self) -> None:
        """C{web_over_kcp.py} has a Site answer an Agent."""
        answer = self.answer("web_over_kcp.py", "get", "http://example.org/")
        self.assertEqual(  # type: ignore[attr-defined]
            answer, "200 Hello from example.org, to 127.0.0.1\n"
        )

    def test_halfClose(self) -> None:
        """C{half_close.py} answers after the end of the question."""
        question = "x" * 100_000
        answer = self.answer("half_close.py", "ask", typed=question)
        self.assertEqual(answer, "100000 bytes\n")  # type: ignore[attr-defined]


class TCPExamplesTests(ExamplesMixin, SynchronousTestCase):
    """Over TCP, to know that the examples themselves are right."""

    transport = "tcp"


class KCPExamplesTests(ExamplesMixin, SynchronousTestCase):
    """Over KCP."""

    transport = "kcp"

    def test_tunnel(self) -> None:
        """C{encrypted_tunnel.py} brings the text through TCP, the tunnel, and TCP."""
        answer = self.answer("encrypted_tunnel.py", "ask", "hello over there")
        self.assertEqual(answer, "hello over there\n")

    def test_asyncio(self) -> None:
        """C{asyncio_echo.py} awaits what comes back."""
        path = str(CHECKOUT / "examples" / "echo.py")
        server = Program(path, "serve", "kcp:port=0:interface=127.0.0.1")
        self.addCleanup(server.kill)
        where = f"kcp:host=127.0.0.1:port={server.port()}"
        status, output = run(str(CHECKOUT / "examples" / "asyncio_echo.py"), where, "hello")
        self.assertEqual((status, output), (0, "hello\n"))

    def test_reconnecting(self) -> None:
        """C{reconnecting.py} connects again when its server is back."""
        echo = str(CHECKOUT / "examples" / "echo.py")
        server = Program(echo, "serve", "kcp:port=0:interface=127.0.0.1")
        self.addCleanup(server.kill)
        port = server.port()
        where = f"kcp:host=127.0.0.1:port={port}:idleTimeout=1:timeout=1"
        client = Program(str(CHECKOUT / "examples" / "reconnecting.py"), where)
        self.addCleanup(client.kill)
        client.expect("tick 1")
        server.kill()
        client.expect("lost")
        again = Program(echo, "serve", f"kcp:port={port}:interface=127.0.0.1")
        self.addCleanup(again.kill)
        client.expect("connected")
        client.interrupt()
        client.end()
        self.assertNotIn("Traceback", client.output)

    def test_tls(self) -> None:
        """C{tls_over_kcp.py} checks the certificate of its server."""
        folder = Path(self.mktemp())
        folder.mkdir()
        pem, certificate = selfSigned("localhost")
        (folder / "server.pem").write_bytes(pem + certificate)
        (folder / "authorities").mkdir()
        (folder / "authorities" / "cert.pem").write_bytes(certificate)
        path = str(CHECKOUT / "examples" / "tls_over_kcp.py")
        server = Program(
            path, "serve", "kcp:port=0:interface=127.0.0.1", str(folder / "server.pem")
        )
        self.addCleanup(server.kill)
        where = f"kcp:host=127.0.0.1:port={server.port()}"
        authorities = str(folder / "authorities")
        status, output = run(path, "ask", where, "localhost", authorities, "hello")
        self.assertEqual((status, output), (0, "hello\n"))
        status, output = run(path, "ask", where, "example.org", authorities, "hello")
        self.assertNotEqual(status, 0)
        self.assertNotIn("hello\n", output)


class SimulatedExamplesTests(SynchronousTestCase):
    """The examples that need no network."""

    def test_test(self) -> None:
        """C{test_simulated.py} passes."""
        path = CHECKOUT / "examples" / "test_simulated.py"
        status, output = run("-m", "twisted.trial", "--temp-directory", self.mktemp(), str(path))
        self.assertEqual(status, 0, output)
        self.assertIn("PASSED (successes=2)", output)

    def test_experiment(self) -> None:
        """C{link_experiment.py} measures, and two runs have the same trace."""
        path = str(CHECKOUT / "examples" / "link_experiment.py")
        for transport in ("kcp", "qotp", "raknet"):
            traces = [self.mktemp(), self.mktemp()]
            for trace in traces:
                status, output = run(path, transport, "2", "--trace", trace)
                self.assertEqual(status, 0, output)
                self.assertRegex(output, rf"^{transport}, 2 % loss: \d+\.\d\d s, ")
            first, second = (Path(trace).read_text() for trace in traces)
            self.assertEqual(first, second)
            self.assertGreater(first.count("\n"), 500)


def selfSigned(name: str) -> tuple[bytes, bytes]:
    """A private key, and a certificate for this name, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate.public_bytes(serialization.Encoding.PEM),
    )


class RakNetStreamExamplesTests(SynchronousTestCase):
    """A stream example over RakNet, which has no half close."""

    transport = "raknet"
    answer = ExamplesMixin.answer
    test_echo = ExamplesMixin.test_echo
    test_web = ExamplesMixin.test_web


class RakNetExamplesTests(SynchronousTestCase):
    """The examples of what only RakNet has."""

    def serve(self, example: str) -> tuple[Program, int]:
        """Start an example's server."""
        path = str(CHECKOUT / "examples" / example)
        listen = "raknet:port=0:interface=127.0.0.1:mode=messages"
        server = Program(path, "serve", listen)
        self.addCleanup(server.kill)
        return server, server.port()

    def test_list(self) -> None:
        """C{raknet_list.py} shows who answers, and who does not."""
        listen = "raknet:port=0:interface=127.0.0.1"
        server = Program(*TWIST, "rudp", "raknet-pong", "--listen", listen, "--motd", "hello")
        self.addCleanup(server.kill)
        here = f"raknet:127.0.0.1:{server.port()}"
        silent = "raknet:127.0.0.1:9:timeout=0.2"
        path = str(CHECKOUT / "examples" / "raknet_list.py")
        status, output = run(path, "list", here, silent)
        self.assertEqual(status, 0, output)
        self.assertIn(f"{here}: hello\n{silent}: ", output)

    def test_echo(self) -> None:
        """C{raknet_echo.py} brings the message back, with a receipt."""
        server, port = self.serve("raknet_echo.py")
        path = str(CHECKOUT / "examples" / "raknet_echo.py")
        status, output = run(path, "ask", f"raknet:127.0.0.1:{port}:mode=messages", "hello")
        self.assertEqual(status, 0, output)
        self.assertEqual(output, "it has arrived\nhello (RELIABLE_ORDERED, channel 0)\n")
        server.interrupt()
        server.end()
        self.assertNotIn("Traceback", server.output)

    def test_chat(self) -> None:
        """C{raknet_chat.py} brings what one guest says to the others in the room."""
        _, port = self.serve("raknet_chat.py")
        path = str(CHECKOUT / "examples" / "raknet_chat.py")
        where = f"raknet:127.0.0.1:{port}:mode=messages"
        listener = Program(path, "join", where, "3", keyboard=True)
        self.addCleanup(listener.kill)
        listener.expect("somebody joined")
        for room, text in (("4", "not here"), ("3", "hello room")):
            run(path, "join", where, room, typed=text + "\n")
        listener.expect("> hello room")
        self.assertNotIn("not here", listener.output)

    def test_game(self) -> None:
        """C{game_server.py}: others hear what a player says; who is banned is out."""
        _, port = self.serve("game_server.py")
        path = str(CHECKOUT / "examples" / "game_server.py")
        where = f"raknet:127.0.0.1:{port}:mode=messages"
        alice = Program(path, "play", where, "alice")
        self.addCleanup(alice.kill)
        alice.expect("playing as alice")
        bob = Program(path, "play", where, "bob", "hi there")
        self.addCleanup(bob.kill)
        alice.expect("bob is here")
        alice.expect("hi there")
        status, output = run(path, "play", where, "carol", "/ban me")
        self.assertEqual(status, 0, output)
        self.assertIn("over: ", output)
        status, output = run(path, "play", where, "carol")
        self.assertIn("over: ", output)


class ArenaTests(SynchronousTestCase):
    """C{arena.py}: a tick for all players."""

    def play(self, listen: str, where: str) -> None:
        path = str(CHECKOUT / "examples" / "arena.py")
        server = Program(path, "serve", listen)
        self.addCleanup(server.kill)
        status, output = run(path, "play", where.format(server.port()), "3", "4")
        self.assertEqual(status, 0, output)
        found = re.search(r"3 players were told (\d+) to \d+ states, and at least (\d+)", output)
        assert found is not None, output
        self.assertGreaterEqual(int(found[1]), 4)
        self.assertGreaterEqual(int(found[2]), 1)
        server.interrupt()
        server.end()
        self.assertNotIn("Traceback", server.output)

    def test_raknet(self) -> None:
        """With unreliable and ordered messages of RakNet."""
        self.play("raknet:0:interface=127.0.0.1:mode=messages", "raknet:127.0.0.1:{}:mode=messages")

    def test_kcp(self) -> None:
        """With messages of KCP, and such that are out of band."""
        options = "mode=messages:crypt=null"
        self.play(f"kcp:0:interface=127.0.0.1:{options}", f"kcp:127.0.0.1:{{}}:{options}")


class UsageTests(SynchronousTestCase):
    """The examples called without arguments."""

    def test_usage(self) -> None:
        """Every example says how it is used."""
        examples = sorted(Path(CHECKOUT / "examples").glob("[!t]*.py"))
        examples.append(CHECKOUT / "examples" / "tls_over_kcp.py")
        self.assertTrue(examples)
        for example in examples:
            status, output = run(str(example))
            self.assertEqual(status, 1)
            self.assertIn(f"    python examples/{example.name} ", output)
