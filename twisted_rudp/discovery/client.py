"""The client of a discovery server: look up nodes, and announce nodes (discovery.md 1.4, 1.6)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from itertools import islice, zip_longest
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twisted_rudp.core.engine import Address as RawAddress
from twisted_rudp.core.engine import PathError
from twisted_rudp.discovery import v1
from twisted_rudp.discovery.announcement import Publication, announced
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.profiles import Wire
from twisted_rudp.discovery.sockets import Receiver, socketFor
from twisted_rudp.discovery.urls import ANY_TRANSPORT, Address
from twisted_rudp.discovery.xdr import FormatError
from twisted_rudp.errors import NodeNotFound
from twisted_rudp.net.addresses import resolve, toTwisted
from twisted_rudp.net.ratelog import RateLimitedLog
from twisted_rudp.net.udp.port import DatagramPort

QUERY_TIMES = (0.0, 1.0, 2.5)
"""Seconds after which the query is sent, and repeated."""

QUERY_TIMEOUT = 5.0
"""Seconds after which a query fails."""

GRACE = 0.2
"""Seconds to wait for the answer over the other family of addresses."""

FOUND_LIFE = 60.0
"""Seconds for which an answer is valid."""

MISSED_LIFE = 10.0
"""Seconds for which a missing answer is cached."""

MISSES = 256
"""Missing answers cached."""


Addresses = tuple[Address, ...]


def turns(addresses: Sequence[RawAddress]) -> list[list[RawAddress]]:
    """
    A server's addresses in the order in which they are tried: in each turn the next one
    of each family, as many turns as there are L{QUERY_TIMES} at most.
    """
    families: dict[int, list[RawAddress]] = {}
    for address in addresses:
        families.setdefault(len(address), []).append(address)
    rows = zip_longest(*families.values())
    return [[a for a in row if a is not None] for row in islice(rows, len(QUERY_TIMES))]


class DirectoryClient:
    """
    A client of one discovery server.

    @ivar counters: what happened, by name.
    """

    def __init__(self, reactor: Any, host: str, port: int = v1.SERVER_PORT) -> None:
        """
        @param host: a name or an IP literal; looked up for each question anew.
        """
        self.reactor = reactor
        self.host = host
        self.port = port
        self._questions: dict[NodeId, PendingQuery] = {}
        self._misses: dict[NodeId, float] = {}
        self.counters = dict.fromkeys(("queries", "answers", "ignored", "misses"), 0)

    def __repr__(self) -> str:
        return f"<Server {self.host}:{self.port}>"

    def ask(self, node: NodeId) -> Deferred[Addresses]:
        """
        Look up a node. Concurrent callers share one query.

        @return: fires with its addresses, at most one of each family, or fails with
            L{NodeNotFound<twisted_rudp.errors.NodeNotFound>} after at most five
            seconds. May be cancelled.
        """
        now = self.reactor.seconds()
        asking: Deferred[Addresses] = Deferred(lambda asking: self._leave(node, asking))
        if now < self._misses.get(node, now):
            asking.errback(self._missed(node))
            return asking
        question = self._questions.get(node)
        if question is None:
            question = self._questions[node] = PendingQuery(self, node, self._answered)
            question.askers.append(asking)
            question.start()
        else:
            question.askers.append(asking)
        return asking

    def stop(self) -> None:
        """Cancel all queries."""
        for question in list(self._questions.values()):
            question.end()

    def _answered(self, question: PendingQuery, addresses: Addresses) -> None:
        node = question.node
        self._questions.pop(node, None)
        if addresses:
            self.counters["answers"] += 1
            self._misses.pop(node, None)
            for asking in question.askers:
                asking.callback(addresses)
            return
        self.counters["misses"] += 1
        self._misses.pop(node, None)
        self._misses[node] = self.reactor.seconds() + MISSED_LIFE
        if len(self._misses) > MISSES:
            del self._misses[next(iter(self._misses))]
        for asking in question.askers:
            asking.errback(self._missed(node))

    def _leave(self, node: NodeId, asking: Deferred[Addresses]) -> None:
        question = self._questions.get(node)
        if question is not None and asking in question.askers:
            question.askers.remove(asking)
            if not question.askers:
                del self._questions[node]
                question.close()

    def _missed(self, node: NodeId) -> NodeNotFound:
        return NodeNotFound(
            f"the discovery server {self.host} did not answer about the node {node.text}: it does"
            " not know the node, or cannot be reached"
        )


class PendingQuery(Receiver):
    """One query, repeated until it is answered or times out."""

    _log = Logger()

    def __init__(
        self,
        server: DirectoryClient,
        node: NodeId,
        ended: Callable[[PendingQuery, Addresses], None],
    ) -> None:
        self.node = node
        self.askers: list[Deferred[Addresses]] = []
        self._server = server
        self._ended = ended
        self._calls: list[IDelayedCall] = []
        self._ports: dict[int, DatagramPort] = {}
        self._servers: list[RawAddress] = []
        self._found: dict[int, Address] = {}
        self._open = True

    def start(self) -> None:
        """Begin with the server's name."""
        reactor = self._server.reactor
        self._calls.append(reactor.callLater(QUERY_TIMEOUT, self.end))
        try:
            resolve(reactor, self._server.host, self._server.port, self._resolved)
        except ValueError as problem:
            self._log.warn("{server}: {reason}", server=self._server, reason=problem)
            self.end()

    def _resolved(self, addresses: list[RawAddress]) -> None:
        if not self._open:
            return
        if not addresses:
            self._log.info("no address for the discovery server {host}", host=self._server.host)
            self.end()
            return
        for moment, more in zip_longest(QUERY_TIMES, turns(addresses), fillvalue=()):
            self._calls.append(self._server.reactor.callLater(moment, self._send, more))

    def _send(self, more: Sequence[RawAddress]) -> None:
        """
        Ask again, and at one more address of each family: one may be down, or there may
        be no way to it.
        """
        self._servers.extend(more)
        datagram = v1.encode_query(v1.Query(self.node.v1))
        for address in self._servers:
            try:
                port = socketFor(address, self._ports, self._server.reactor, self)
            except CannotListenError as problem:
                self._log.info("cannot open a socket for queries: {reason}", reason=problem)
                continue
            self._server.counters["queries"] += 1
            port.send(datagram, len(datagram), address)

    def runReceived(self, run: bytes, size: int, address: RawAddress) -> None:
        """Accept answers of the server only, and only about the node that was asked for."""
        for start in range(0, len(run), size):
            if not self._open:
                return
            found = self._read(run[start : start + size], address)
            if found is None:
                self._server.counters["ignored"] += 1
            else:
                self._answered(found, address)

    def _answered(self, found: Address, address: RawAddress) -> None:
        """
        The server knows the address from which it was asked best, so where it is asked
        over both families, both answers are of use.
        """
        if not self._found:
            self._calls.append(self._server.reactor.callLater(GRACE, self.end))
        self._found.setdefault(len(address), found)
        if self._found.keys() >= {len(server) for server in self._servers}:
            self.end()

    def _read(self, datagram: bytes, address: RawAddress) -> Address | None:
        if toTwisted(address) not in [toTwisted(server) for server in self._servers]:
            return None
        try:
            packet = v1.decode(datagram)
        except FormatError:
            return None
        if not isinstance(packet, v1.Announcement) or packet.node_id != self.node.v1:
            return None
        if not packet.port or not packet.ip or not any(packet.ip):
            return None
        family = socket.AF_INET if len(packet.ip) == 4 else socket.AF_INET6
        return Address(ANY_TRANSPORT, socket.inet_ntop(family, packet.ip), packet.port)

    def end(self) -> None:
        """Close, and report the answers, of which there may be none."""
        if self._open:
            self.close()
            self._ended(self, tuple(dict.fromkeys(self._found.values())))

    def close(self) -> None:
        """Let go of sockets and timers."""
        self._open = False
        for call in self._calls:
            if call.active():
                call.cancel()
        for port in self._ports.values():
            port.stopListening()


INTERVAL = 1800.0
"""Seconds between two reports; servers remember for twice as long."""

RETRY = 60.0
"""Seconds after which a report that could not be sent is tried again."""

_NO_SOCKET = "cannot open a socket for announcements"
_NO_ADDRESS = "the discovery server has no address"
_REFUSED = "cannot send to the discovery server"
_OTHER_FAMILY = "no announced address serves the address family of the server"


class DirectoryAnnouncer(Receiver):
    """
    Announces the nodes published here to one server.

    The server's name is resolved for each announcement, so neither a resolver that fails
    once nor a server that moves ends it. It goes to all addresses at which the server may
    be queried, because nobody acknowledges an announcement.
    """

    _log = Logger()

    def __init__(self, reactor: Any, server: DirectoryClient) -> None:
        self._reactor = reactor
        self._server = server
        self._publications: list[Publication] = []
        self._call: IDelayedCall | None = None
        self._ports: dict[int, DatagramPort] = {}
        self._hopeful: set[str] = set()
        self._stopped = False
        self._name = f"announcements to {server.host}"
        self._limited = RateLimitedLog(reactor, self._log)
        self.counters = dict.fromkeys(("reports", "failures"), 0)

    def publish(self, publication: Publication) -> None:
        """Announce a node from now on."""
        self._publications.append(publication)
        self._schedule(0)

    def withdraw(self, publication: Publication) -> bool:
        """
        Report it no more; the server forgets it after an hour.

        @return: whether it was the last.
        """
        self._publications.remove(publication)
        return not self._publications

    def resumed(self) -> None:
        """The machine has slept: the server may have forgotten it, or it has moved."""
        self._schedule(0)

    def stop(self) -> None:
        """Stop announcing."""
        self._stopped = True
        self._publications.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None
        for port in self._ports.values():
            port.stopListening()
        self._ports.clear()

    def pathError(self, kind: PathError, size: int, address: RawAddress) -> None:
        """Once more before the next turn, if none of the server's addresses is left."""
        if self._stopped:
            return
        detail = f"{address[0]}: {kind.name.lower()}"
        self._hopeful.discard(address[0])
        if self._hopeful:
            self._note(_REFUSED, detail)
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

    def _resolved(self, addresses: list[RawAddress]) -> None:
        if self._stopped:
            return
        if not addresses:
            self._failed(_NO_ADDRESS, self._server.host)
            return
        if self._limited.clear(_NO_ADDRESS):
            self._log.info("{name}: no longer: {kind}", name=self._name, kind=_NO_ADDRESS)
        reports = self.counters["reports"]
        tried = [address for turn in turns(addresses) for address in turn]
        self._hopeful = {address[0] for address in tried}
        for address in tried:
            self._tell(address)
        if self.counters["reports"] == reports:
            self._note(_OTHER_FAMILY, ", ".join(sorted(self._hopeful)))

    def _tell(self, address: RawAddress) -> None:
        """
        Report what can be reached over the family of this address: the server takes the
        address of whoever reports for the node's.
        """
        version = 4 if len(address) == 2 else 6
        for publication in announced(Wire.V1, self._publications, version):
            try:
                port = socketFor(address, self._ports, self._reactor, self)
            except CannotListenError as problem:
                self._failed(_NO_SOCKET, problem)
                return
            self.counters["reports"] += 1
            datagram = v1.encode_announcement(
                v1.Announcement(publication.port, publication.id.v1)
            )
            port.send(datagram, len(datagram), address)

    def _note(self, kind: str, detail: object) -> None:
        """Log a problem, each kind once a minute."""
        self._limited.note(
            kind, "{name}: {problem}: {detail}", name=self._name, problem=kind, detail=detail
        )

    def _failed(self, kind: str, detail: object) -> None:
        self.counters["failures"] += 1
        self._note(kind, detail)
        if self._publications:
            self._schedule(RETRY)
