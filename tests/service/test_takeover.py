"""Tests for L{twisted_rudp.service.takeover}."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from threading import Thread
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.service.programs import TWIST, run
from tests.takeovers import attempt
from twisted_rudp.service.listening import StartupError
from twisted_rudp.service.takeover import Handover, Offer, Takeover


class ProcessTests(SynchronousTestCase):
    """Programs as they are run; C{python -m tests.takeovers} does the same many times."""

    def test_qotp(self) -> None:
        """A session goes through a reload and a takeover, and the new process serves others."""
        self.assertEqual(attempt("qotp", 0, brief=True), [])

    def test_tcp(self) -> None:
        """So does a connection over TCP, whose listening socket stays open as well."""
        self.assertEqual(attempt("tcp", 0, brief=True), [])

    def test_workers(self) -> None:
        """So does a session with one of two workers. RakNet's cookies tell whose sessions are."""
        self.assertEqual(attempt("raknet", 0, brief=True, workers=2), [])

    def test_nobody(self) -> None:
        """Without a process to take over from, the new one ends with one line."""
        path = str(Path(self.mktemp()).absolute())
        status, output = run(*TWIST, "rudp", "echo", "--listen", "kcp:0", "--takeover", path)
        self.assertEqual(status, 1)
        self.assertIn(f"--takeover {path}: No such file or directory", output)
        self.assertNotIn("Traceback", output)


class TCPPort:
    """A port of Twisted's, as far as an offer looks at it."""

    def __init__(self, sock: socket.socket) -> None:
        self.addressFamily = sock.family
        self._socket = sock

    def fileno(self) -> int:
        return self._socket.fileno()


class Service:
    """A service that listens on a TCP port."""

    def __init__(self, port: Any) -> None:
        self.port = port
        self.left = 0

    def letGo(self) -> None:
        self.left += 1


class OfferTests(SynchronousTestCase):
    """What the old process offers."""

    def test_tcp(self) -> None:
        """A TCP socket is offered by its descriptor, with its place and family."""
        with socket.socket() as sock:
            service: Any = Service(TCPPort(sock))
            handover = Handover([(service, ("tcp", "0.0.0.0", "80"))])
            self.assertEqual(handover.descriptors, [sock.fileno()])
            offer = Offer(["tcp", "0.0.0.0", "80"], "tcp", socket.AF_INET)
            self.assertEqual(handover.offers, [offer])
            self.assertEqual(handover.services([0]), [service])
            undone: list[int] = []
            handover.undo = lambda: undone.append(1)
            handover.taken([0])
            self.assertEqual((service.left, undone), (1, []))

    def test_undone(self) -> None:
        """What was closed for a process that does not come is opened again, once."""
        handover = Handover([])
        undone: list[int] = []
        handover.undo = lambda: undone.append(1)
        handover.close()
        handover.close()
        self.assertEqual(undone, [1])

    def test_nothing(self) -> None:
        """A port that has no descriptor is not offered."""
        service: Any = Service(object())
        handover = Handover([(service, ("unix", "", "/run/x")), (service, ("udp", "", "1"))])
        self.assertEqual((handover.offers, handover.descriptors), ([], []))


class GroupTests(SynchronousTestCase):
    """Sockets of several processes."""

    def test_group(self) -> None:
        """They are taken by as many processes, with the same steering, once."""
        takeover = Takeover(None, "c")
        udp = Offer(["udp", "", "1"], "udp", socket.AF_INET, 2, "ADDRESS", 7, "00")
        tcp = Offer(["tcp", "", "1"], "tcp", socket.AF_INET)
        self.assertEqual((udp.descriptors, tcp.descriptors), (4, 1))
        takeover.offered({0: (udp, [3, 4, 5, 6]), 1: (tcp, [7])})
        for count, steering, problem in (
            (1, "", "udp 1: 1 processes cannot have the sockets of 2"),
            (3, "ADDRESS", "udp 1: 3 processes cannot have the sockets of 2"),
            (2, "HOST", "takes a restart"),
        ):
            with self.assertRaises(StartupError) as caught:
                takeover.groupFor(udp.place, count, steering)
            self.assertIn(problem, str(caught.exception))
        self.assertEqual(takeover.groupFor(udp.place, 2, "ADDRESS"), (udp, [3, 4, 5, 6]))
        self.assertIsNone(takeover.groupFor(udp.place, 2, "ADDRESS"))
        self.assertEqual(takeover.groupFor(tcp.place, 3, ""), (tcp, [7]))


class AnswerTests(SynchronousTestCase):
    """What the new process makes of answers that it does not expect."""

    def check(self, answer: bytes, expected: str) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        # The path of a UNIX socket is short.
        path = os.path.relpath(folder / "c")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            takeover = Takeover(None, path)
            def serve() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(answer)

            thread = Thread(target=serve)
            thread.start()
            try:
                with self.assertRaises(StartupError) as caught:
                    takeover.begin()
            finally:
                takeover.close()
                thread.join()
        self.assertIn(expected, str(caught.exception))

    def test_refused(self) -> None:
        """The reason is passed on."""
        self.check(b'{"error":"another process has taken over"}\n', "another process has taken")

    def test_older(self) -> None:
        """A program that cannot do this says so."""
        self.check(b'{"error":"unknown command"}\n', "unknown command")

    def test_nonsense(self) -> None:
        """An answer that is none is an error of one line."""
        for answer in (b"x\n", b"{}\n", b'{"pid":1,"offers":[[1]]}\n', b""):
            self.check(answer, "--takeover")
