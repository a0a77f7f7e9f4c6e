"""What C{examples/deploy} has for systemd, and sockets that systemd passes on."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.interpreter import CHECKOUT, environment, python
from tests.service.programs import run
from tests.service.test_command import RUDP


class UnitTests(SynchronousTestCase):
    """The unit of the service."""

    def test_verify(self) -> None:
        """systemd finds nothing wrong with it, but for the program that is not installed here."""
        analyze = shutil.which("systemd-analyze")
        if analyze is None:
            raise SkipTest("systemd-analyze is not installed")
        folder = Path(self.mktemp())
        folder.mkdir()
        copies = []
        for name in ("rudp.service", "rudp.socket"):
            unit = (CHECKOUT / "examples" / "deploy" / name).read_text(encoding="utf-8")
            copies.append(folder.resolve() / name)
            copies[-1].write_text(
                unit.replace("/opt/rudp/bin/twist", "/bin/true"), encoding="utf-8"
            )
        checked = subprocess.run(
            [analyze, "verify", "--man=no", *map(str, copies)], capture_output=True, text=True
        )
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))


class SocketTests(SynchronousTestCase):
    """A service on a socket that another program has bound, as a socket unit."""

    def answers(self, program: subprocess.Popen[bytes], endpoint: str) -> None:
        """The program, which ends then, sends back what it is told there."""
        try:
            answer = subprocess.run(
                python(*RUDP, "connect", endpoint),
                env=environment(),
                input=b"hello",
                capture_output=True,
                timeout=60,
            )
            self.assertEqual(answer.stdout, b"hello", answer.stderr)
        finally:
            program.kill()
            program.wait()

    def test_inherited(self) -> None:
        """It serves there; the port of the description does not matter."""
        for transport in ("kcp", "qotp"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("127.0.0.1", 0))
                descriptor, port = sock.fileno(), sock.getsockname()[1]
                listen = f"{transport}:1:fd={descriptor}"
                program = subprocess.Popen(
                    python("-m", "twisted", "rudp", "echo", "--listen", listen),
                    env=environment(),
                    pass_fds=[descriptor],
                    stdout=subprocess.DEVNULL,
                )
            self.answers(program, f"{transport}:127.0.0.1:{port}")

    def test_systemd(self) -> None:
        """A service that systemd-socket-activate starts finds its socket by its name."""
        activate = shutil.which("systemd-socket-activate")
        if activate is None:
            raise SkipTest("systemd-socket-activate is not installed")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        program = subprocess.Popen(
            [
                activate,
                "--datagram",
                f"--listen=127.0.0.1:{port}",
                "--fdname=game",
                f"--setenv=PYTHONPATH={environment()['PYTHONPATH']}",
                *python("-m", "twisted", "rudp", "echo", "--listen", "kcp:1:systemd=game"),
            ],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.answers(program, f"kcp:127.0.0.1:{port}")

    def test_notPassed(self) -> None:
        """Without systemd, one line says so."""
        status, output = run(
            "-m", "twisted", "rudp", "echo", "--listen", "kcp:1:systemd=game"
        )
        self.assertEqual(status, 1)
        self.assertIn("systemd has passed no sockets to this process", output)
        self.assertNotIn("Traceback", output)

    def test_refused(self) -> None:
        """A descriptor that is none, and one of another kind, are said in one line."""
        for descriptor, expected in (("999", "Bad file descriptor"), ("0", "")):
            status, output = run(
                "-m", "twisted", "rudp", "echo", "--listen", f"kcp:1:fd={descriptor}"
            )
            self.assertEqual(status, 1)
            self.assertIn(expected, output)
            self.assertIn("cannot listen", output)
            self.assertNotIn("Traceback", output)
