"""The programs in C{examples/} that need QOTP, run as a reader would run them (DOC-3)."""

from __future__ import annotations

import socket
from pathlib import Path
from random import randrange

from twisted.trial.unittest import SynchronousTestCase

from tests.interpreter import CHECKOUT
from tests.service.programs import Program, relay, run
from tests.test_examples import ExamplesMixin
from twisted_rudp.qotp.keys import KeyPair

FILES = str(CHECKOUT / "examples" / "files_over_qotp.py")
PRIVATE = str(CHECKOUT / "examples" / "private_qotp.py")
PEERS = str(CHECKOUT / "examples" / "peers_over_qotp.py")


def free() -> str:
    """
    A UDP port that nobody has. It is below those that systems give out, so that no
    other program is given it before ours has it.
    """
    while True:
        port = randrange(10_000, 30_000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        return str(port)


class QOTPExamplesTests(ExamplesMixin, SynchronousTestCase):
    """Those for any transport, over QOTP."""

    transport = "qotp"


class FilesTests(SynchronousTestCase):
    """C{files_over_qotp.py}."""

    def test_files(self) -> None:
        """
        Files arrive whole, with progress, and with the key the sender knows that; a
        name cannot lead out of the directory.
        """
        target = Path(self.mktemp())
        target.mkdir()
        source = Path(self.mktemp())
        source.mkdir()
        contents = {"one.bin": bytes(range(256)) * 4000, "two.bin": b"", "three.bin": b"x" * 9}
        for name, content in contents.items():
            (source / name).write_bytes(content)
        server = Program(
            FILES, "serve", "qotp:port=0:interface=127.0.0.1:seed=files", str(target)
        )
        self.addCleanup(server.kill)
        key = server.expect(r"serverKey=(\w+)")[1]
        description = f"qotp:host=127.0.0.1:port={server.port()}"
        for more, warned in ((f":serverKey={key}", False), ("", True)):
            status, output, errors = relay(
                FILES, "send", description + more, *map(str, source.iterdir()), typed=b""
            )
            self.assertEqual((status, errors), (0, b""))
            self.assertIn(b"one.bin: 100 %", output)
            self.assertEqual(output.count(b"arrived"), 3, output)
            self.assertEqual(b"nobody knows" in output, warned)
        server.interrupt()
        server.end()
        self.assertNotIn("Traceback", server.output)
        self.assertEqual({p.name: p.read_bytes() for p in target.iterdir()}, contents)


class PrivateTests(SynchronousTestCase):
    """C{private_qotp.py}."""

    def test_friends(self) -> None:
        """Who is in the file is greeted, who is not is told so; the server goes on."""
        friends = Path(self.mktemp())
        friends.write_text(f"{KeyPair.from_text('alice').public.hex()}  # Alice\n")
        server = Program(PRIVATE, "serve", "qotp:port=0:interface=127.0.0.1", str(friends))
        self.addCleanup(server.kill)
        where = f"qotp:host=127.0.0.1:port={server.port()}"
        for seed, expected in (("bob", "refused: "), ("alice", "hello ")):
            status, output = run(PRIVATE, "greet", f"{where}:seed={seed}")
            self.assertEqual((status, output[: len(expected)]), (0, expected))
        server.interrupt()
        server.end()
        self.assertEqual(server.output.count("has come in"), 1)
        self.assertNotIn("Traceback", server.output)


class PeersTests(SynchronousTestCase):
    """C{peers_over_qotp.py}."""

    def test_talk(self) -> None:
        """Two peers that know each other's address and key hear each other."""
        ports = [free(), free()]
        keys = [run(PEERS, "key", seed)[1].strip() for seed in ("one", "two")]
        first = Program(PEERS, "talk", "one", ports[0], "127.0.0.1", ports[1], keys[1], "hello")
        self.addCleanup(first.kill)
        second = Program(PEERS, "talk", "two", ports[1], "127.0.0.1", ports[0], keys[0], "hi")
        self.addCleanup(second.kill)
        first.expect("the peer says: hi")
        second.expect("the peer says: hello")
