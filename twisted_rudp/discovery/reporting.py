"""Announcing nodes to a discovery server (discovery.md 1.4)."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twisted_rudp.core.engine import Address, PathError
from twisted_rudp.discovery import v1
from twisted_rudp.discovery.asking import Server, turns
from twisted_rudp.discovery.journal import Journal
from twisted_rudp.discovery.profiles import Wire
from twisted_rudp.discovery.published import Publication, told
from twisted_rudp.discovery.sockets import Ears, openSocket
from twisted_rudp.net.port import DatagramPort
from twisted_rudp.net.resolving import resolve

INTERVAL = 1800.0
"""Seconds between two reports; servers remember for twice as long."""

RETRY = 60.0
"""Seconds after which a report that could not be sent is tried again."""

_NO_SOCKET = "no socket to report from"
_NO_ADDRESS = "the discovery server has no address"
_REFUSED = "cannot send to the discovery server"
_OTHER_FAMILY = "nothing that is announced here serves the server's family of addresses"


class Reporter(Ears):
    """
    Tells one server of the nodes published here, for as long as they are.

    The server's name is looked up for each report: neither a resolver that fails once
    nor a server that moves ends it. All addresses that it may be asked at are told, for
    nobody answers a report.
    """

    _log = Logger()

    def __init__(self, reactor: Any, server: Server) -> None:
        self._reactor = reactor
        self._server = server
        self._publications: list[Publication] = []
        self._call: IDelayedCall | None = None
        self._ports: dict[int, DatagramPort] = {}
        self._hopeful: set[str] = set()
        self._stopped = False
        self._journal = Journal(reactor, self._log, f"reports to {server.host}")
        self.counters = dict.fromkeys(("reports", "failures"), 0)

    def publish(self, publication: Publication) -> None:
        """Report a node from now on."""
        self._publications.append(publication)
        self._schedule(0)

    def withdraw(self, publication: Publication) -> bool:
        """
        Report it no more; the server forgets it after an hour.

        @return: whether it was the last.
        """
        self._publications.remove(publication)
        return not self._publications

    def woken(self) -> None:
        """The machine has slept: the server may have forgotten it, or it has moved."""
        self._schedule(0)

    def stop(self) -> None:
        """Report nothing any more."""
        self._stopped = True
        self._publications.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None
        for port in self._ports.values():
            port.stopListening()
        self._ports.clear()

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        """Once more before the next turn, if none of the server's addresses is left."""
        if self._stopped:
            return
        detail = f"{address[0]}: {kind.name.lower()}"
        self._hopeful.discard(address[0])
        if self._hopeful:
            self._journal.note(_REFUSED, detail)
        else:
            self._failed(_REFUSED, detail)

    def portLost(self, failure: object) -> None:
        """The next report makes another."""
        self._ports = {n: port for n, port in self._ports.items() if not port.closed}

    def _schedule(self, delay: float) -> None:
        if self._call is not None:
            self._call.cancel()
        self._call = self._reactor.callLater(delay, self._report)

    def _report(self) -> None:
        self._call = None
        self._schedule(INTERVAL)
        try:
            resolve(self._reactor, self._server.host, self._server.port, self._resolved)
        except ValueError as problem:
            self._failed(_NO_ADDRESS, problem)

    def _resolved(self, addresses: list[Address]) -> None:
        if self._stopped:
            return
        if not addresses:
            self._failed(_NO_ADDRESS, self._server.host)
            return
        self._journal.clear(_NO_ADDRESS)
        reports = self.counters["reports"]
        tried = [address for turn in turns(addresses) for address in turn]
        self._hopeful = {address[0] for address in tried}
        for address in tried:
            self._tell(address)
        if self.counters["reports"] == reports:
            self._journal.note(_OTHER_FAMILY, ", ".join(sorted(self._hopeful)))

    def _tell(self, address: Address) -> None:
        """
        Report what can be reached over the family of this address: the server takes the
        address of whoever reports for the node's.
        """
        version = 4 if len(address) == 2 else 6
        for publication in told(Wire.V1, self._publications, version):
            port = self._port(address)
            if port is None:
                return
            self.counters["reports"] += 1
            datagram = v1.encode_announcement(
                v1.Announcement(publication.port, publication.id.v1)
            )
            port.send(datagram, len(datagram), address)

    def _port(self, address: Address) -> DatagramPort | None:
        family = len(address)
        if family not in self._ports:
            interface = "" if family == 2 else "::"
            try:
                self._ports[family] = openSocket(self._reactor, self, interface)
            except CannotListenError as problem:
                self._failed(_NO_SOCKET, problem)
                return None
        return self._ports[family]

    def _failed(self, kind: str, detail: object) -> None:
        self.counters["failures"] += 1
        self._journal.note(kind, detail)
        if self._publications:
            self._schedule(RETRY)
