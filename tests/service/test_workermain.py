"""Tests for L{twisted_rudp.service.workermain}: the services that a worker runs."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.endpoints.kcp import KCPServerEndpoint
from twisted_rudp.endpoints.kcptun import KCPTunServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetServerEndpoint
from twisted_rudp.service.worker import Assignment, Place
from twisted_rudp.service.workermain import workerServices


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
