"""The services as people run them: under C{twist} and C{twistd}, in processes of their own."""

from __future__ import annotations

import os
import select
import signal
import socket
from pathlib import Path
from threading import Lock

from twisted.logger import ILogObserver, LogEvent, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.service.programs import PATIENCE, TWIST, TWISTD, Program, run
from twisted_rudp import __version__, kernels


def ask(port: int, question: bytes) -> bytes:
    """
    Send something and half close.

    @return: everything that comes back.
    """
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(question)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer


@implementer(ILogObserver)
class Interrupted:
    """
    A log with a lock, as C{twistd}'s file has one. SIGTERM comes while it is held; whoever writes
    then would wait for ever.
    """

    def __init__(self) -> None:
        self._lock = Lock()

    def __call__(self, event: LogEvent) -> None:
        line = formatEvent(event)
        if not self._lock.acquire(blocking=False):
            os.write(1, b"while the log was being written: " + line.encode() + b"\n")
            return
        os.write(1, line.encode() + b"\n")
        if "connection 1 closed" in line:
            signal.raise_signal(signal.SIGTERM)
        self._lock.release()


class TwistTests(SynchronousTestCase):
    """In the foreground."""

    def start(self, *arguments: str) -> Program:
        program = Program(*arguments)
        self.addCleanup(program.kill)
        return program

    def test_forwardToEcho(self) -> None:
        """
        Two processes carry bytes there and back, half closes included, and an
        interrupt stops each in order with its counters in the log (SVC-5).
        """
        self.carry("tcp", "")

    def test_overKCP(self) -> None:
        """
        The same over KCP: bytes, half closes, an orderly stop on both sides, and
        the counters of the sessions in the log (TR-10).
        """
        self.carry("kcp", r" .*RetransSegs=\d+.* round_trip_ms=\d")

    def carry(self, transport: str, counters: str) -> None:
        """
        A question from a forwarder to an echo and back.

        @param counters: what the log says behind those of the services.
        """
        echo = self.start(*TWIST, "rudp", "echo", "--listen", f"{transport}:0:interface=127.0.0.1")
        forward = self.start(
            *TWIST, "rudp", "forward", "--listen", "tcp:0:interface=127.0.0.1",
            "--to", f"{transport}:127.0.0.1:{echo.port()}",
        )  # fmt: skip
        question = bytes(range(256)) * 2000
        self.assertEqual(ask(forward.port(), question), question)
        for program, counts in [
            (forward, "connections=1 refused=0 unreachable=0 broken=0 forth=512000 back=512000"),
            (echo, "connections=1 refused=0 broken=0 echoed=512000"),
        ]:
            program.interrupt()
            program.expect(f"stopped: {counts}{counters}")
            program.end()
            self.assertNotIn("Traceback", program.output)

    def test_kernels(self) -> None:
        """The start-up log says which kernels are in use (design 3.6)."""
        echo = self.start(*TWIST, "rudp", "echo", "--listen", "tcp:0:interface=127.0.0.1")
        version, used = echo.expect(r"twisted_rudp (\S+), (\w+) kernels, \w+ modules").groups()
        self.assertEqual((version, used), (__version__, kernels.IMPLEMENTATION))
        echo.port()
        echo.interrupt()
        echo.end()

    def test_portInUse(self) -> None:
        """
        A port that another program has ends ours at once, with one line that names the
        service, the address, the option and the reason (SVC-4).
        """
        with socket.create_server(("127.0.0.1", 0)) as other, socket.socket(
            socket.AF_INET, socket.SOCK_DGRAM
        ) as datagrams:
            datagrams.bind(("127.0.0.1", 0))
            tcp = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
            number = datagrams.getsockname()[1]
            udp = f"{number}:interface=127.0.0.1"
            for what, arguments in [
                (f"echo {tcp}", ("echo", "--listen", tcp)),
                (f"echo kcp:{udp}", ("echo", "--listen", f"kcp:{udp}")),
                (f"echo qotp:{udp}", ("echo", "--listen", f"qotp:{udp}", "--announce", "a")),
                (f"forward {tcp} -> tcp:h:1", ("forward", "--listen", tcp, "--to", "tcp:h:1")),
                (f"pong raknet:{udp}", ("raknet-pong", "--listen", f"raknet:{udp}")),
                (
                    "discovery server",
                    ("discovery-server", "--interface", "127.0.0.1", "--port", str(number)),
                ),
            ]:
                status, output = run(*TWIST, "rudp", *arguments)
                option = "--listen" if "--listen" in arguments else "--interface, --port"
                taken = tcp.split(":")[1] if tcp in what else number
                self.assertEqual(
                    output.splitlines()[-1],
                    f"{what}: cannot listen on 127.0.0.1 port {taken} ({option}):"
                    " Address already in use",
                )
                self.assertEqual((status, output.count("cannot listen")), (1, 1))
                self.assertNotIn("Traceback", output)


class TwistdTests(SynchronousTestCase):
    """As a daemon."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.pid = self.folder / "rudp.pid"

    def command(self, *more: str) -> tuple[str, ...]:
        return (
            *TWISTD, *more, f"--pidfile={self.pid}", "rudp", "echo", "--listen",
            "tcp:0:interface=127.0.0.1",
        )  # fmt: skip

    def test_pidFile(self) -> None:
        """The pid file is there while it runs and gone afterwards."""
        program = Program(*self.command("--nodaemon"), directory=str(self.folder))
        self.addCleanup(program.kill)
        self.assertEqual(ask(program.port(), b"hello"), b"hello")
        self.assertEqual(int(self.pid.read_text()), program.process.pid)
        program.process.terminate()
        program.expect("stopped: connections=1")
        program.end()
        self.assertFalse(self.pid.exists())

    def test_signalWhileLogging(self) -> None:
        """A signal that comes while the log is being written stops the program like any other."""
        logger = f"--logger={__name__}.{Interrupted.__name__}"
        program = Program(*self.command("--nodaemon", logger), directory=str(self.folder))
        self.addCleanup(program.kill)
        self.assertEqual(ask(program.port(), b"hello"), b"hello")
        program.end()
        self.assertIn("Received SIGTERM", program.output)
        self.assertIn("stopped: connections=1", program.output)
        self.assertNotIn("while the log was being written", program.output)

    def test_daemon(self) -> None:
        """In the background it serves, and a signal stops it in order (SVC-2)."""
        log = self.folder / "rudp.log"
        status, output = run(*self.command(f"--logfile={log}", f"--rundir={self.folder}"))
        self.assertEqual((status, output), (0, ""))
        pid = int(self.pid.read_text())
        self.addCleanup(self._killed, pid)
        [port] = [
            int(line.rpartition(" port ")[2].split()[0])
            for line in log.read_text().splitlines()
            if "listening on" in line
        ]
        self.assertEqual(ask(port, b"hello"), b"hello")
        process = os.pidfd_open(pid)
        self.addCleanup(os.close, process)
        os.kill(pid, signal.SIGTERM)
        ended, _, _ = select.select([process], [], [], PATIENCE)
        self.assertEqual(ended, [process])
        self.assertIn("stopped: connections=1", log.read_text())
        self.assertFalse(self.pid.exists())

    def test_cannotStart(self) -> None:
        """
        What cannot start says why, and leaves no pid file; a daemon tells whoever started
        it as well (as much of it as C{twistd} passes on).
        """
        with socket.create_server(("127.0.0.1", 0)) as other:
            listen = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
            *command, _ = self.command("--nodaemon")
            status, output = run(*command, listen)
            self.assertEqual(status, 1)
            self.assertIn(f"echo {listen}: cannot listen on 127.0.0.1 port ", output)
            self.assertIn("(--listen): Address already in use\n", output)
            self.assertNotIn("Traceback", output)
            self.assertFalse(self.pid.exists())
            *command, _ = self.command(
                f"--logfile={self.folder / 'log'}", f"--rundir={self.folder}"
            )
            status, output = run(*command, listen)
            self.assertEqual(status, 1)
            self.assertIn(f"StartupError: echo {listen}: cannot listen on", output)

    def _killed(self, pid: int) -> None:
        if self.pid.exists():
            os.kill(pid, signal.SIGKILL)
