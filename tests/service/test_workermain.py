"""Tests for L{twisted_rudp.service.workermain}: the services that a worker runs."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from tests.endpoints.talks import Collecting, Talk
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.kcptun import KCPTunServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetServerEndpoint
from twisted_rudp.service.echo import EchoService
from twisted_rudp.service.worker import Assignment, Place
from twisted_rudp.service.workermain import Retirement, workerServices
from twisted_rudp.testing import MemoryNetwork


class ServicesTests(SynchronousTestCase):
    """Command lines."""

    def services(self, addresses: list[str], *arguments: str) -> list[Any]:
        places = tuple(Place(address, 7, "00" * 32) for address in addresses)
        return list(workerServices(arguments, reactor, Assignment(1, 2, "info", "", places)))

    def test_echo(self) -> None:
        """Each endpoint listens on the socket of its place; the parent announces."""
        services = self.services(
            ["KCPServerEndpoint  4000", "RakNetServerEndpoint ::1 0"],
            "echo", "--listen=kcp:4000", r"--listen=raknet:0:interface=\:\:1",
            "--announce=alice", "--workers=2",
        )  # fmt: skip
        kinds = [type(each.listeningEndpoint) for each in services]
        self.assertEqual(kinds, [KCPServerEndpoint, RakNetServerEndpoint])
        self.assertEqual([each.withoutAnnouncer() for each in services], [None, None])

    def test_follows(self) -> None:
        """One that follows another has its socket from that, through a channel."""
        place = Place("KCPServerEndpoint  4000", 7, "00" * 32, predecessor=9)
        assignment = Assignment(1, 2, "info", "", (place,))
        arguments = ("echo", "--listen=kcp:4000")
        services: list[Any] = list(workerServices(arguments, reactor, assignment))
        [service] = services
        self.assertIsNotNone(service.source)
        [service] = self.services(["KCPServerEndpoint  4000"], *arguments)
        self.assertIsNone(service.source)

    def test_text(self) -> None:
        """The file is what the parent has read, whatever has become of it."""
        places = (Place("KCPServerEndpoint  4001", 7, "00" * 32),)
        text = "[[echo]]\nlisten = 'kcp:4001'\nretire = 7\n"
        assignment = Assignment(1, 2, "info", "", places, file=text)
        services: list[Any] = list(
            workerServices(["--config", "/nonexistent"], reactor, assignment)
        )
        [service] = services
        self.assertEqual(service.patience, 7)

    def test_pong(self) -> None:
        """A service that answers pings has its endpoint inside."""
        [service] = self.services(["RakNetServerEndpoint  7"], "raknet-pong", "--listen=raknet:7")
        self.assertIsInstance(service.listeningEndpoint, RakNetServerEndpoint)

    def test_kcptun(self) -> None:
        """The commands of kcptun."""
        [service] = self.services(
            ["KCPTunServerEndpoint  29900"], "kcptun-server", "--nocomp", "--workers", "2"
        )
        self.assertIsInstance(service.listeningEndpoint, KCPTunServerEndpoint)

    def test_changed(self) -> None:
        """What does not fit the assignment, or cannot be parsed any more, is an error."""
        arguments = ("echo", "--listen=kcp:4000")
        self.assertRaises(SystemExit, self.services, ["KCPServerEndpoint  4001"], *arguments)
        self.assertRaises(SystemExit, self.services, [], *arguments)
        self.assertRaises(UsageError, self.services, [], "echo", "--listen=kcp:x")


class RetirementTests(SynchronousTestCase):
    """A worker that others follow."""

    def test_sessions(self) -> None:
        """
        Its open sessions go on with what was changed in them; when they have ended it does.
        New ones are somebody else's.
        """
        network = MemoryNetwork(seed=3)
        server, client = network.host("server"), network.host("client")
        endpoint = KCPServerEndpoint(server.reactor, 4000, crypt="null")
        service = EchoService(server.reactor, "echo", endpoint, limit=9, drain=5)
        service.startService()
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(there.close)
        place = Place("", 0, "", successor=here.detach())
        over: list[int] = []
        retirement = Retirement([object(), service], [place], lambda: over.append(1))
        talks = Collecting(Talk)
        dialling = KCPClientEndpoint(client.reactor, server.address, 4000, crypt="null")
        dialling.connect(talks)
        network.run(lambda: talks.built)
        [talk] = talks.built
        talk.transport.write(b"here, ")
        network.run(lambda: talk.heard)
        request = {"taken": [0], "changes": {"0": {"sndwnd": 7}}}
        self.assertEqual(retirement.giveUp(request), {"changed": 1})
        self.assertIn("error", retirement.giveUp(request))
        talk.transport.write(b"still here")
        network.run(lambda: talk.heard == b"here, still here")
        other = KCPClientEndpoint(client.reactor, server.address, 4000, crypt="null", timeout=1)
        failing = other.connect(Collecting(Talk))
        network.run(lambda: bool(failing.called))
        self.failureResultOf(failing)
        self.assertTrue(there.recv(4096))
        self.assertEqual(over, [])
        talk.transport.loseConnection()
        network.runFor(100)
        self.assertEqual(over, [1])
