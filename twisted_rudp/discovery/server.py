"""
The discovery server (discovery.md 1.5): stores the source address of each announcement
and answers queries about it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_rudp.core.engine import SECOND, Address
from twisted_rudp.core.limits import TokenBuckets
from twisted_rudp.discovery import v1
from twisted_rudp.discovery.legacy import OLD, format_of
from twisted_rudp.discovery.redisstore import RedisStore
from twisted_rudp.discovery.servertable import (
    CorruptFile,
    Place,
    ServerTable,
    load,
    save,
    set_aside,
)
from twisted_rudp.discovery.sockets import Receiver, openSocket
from twisted_rudp.discovery.xdr import FormatError
from twisted_rudp.net.addresses import toTwisted
from twisted_rudp.net.ratelog import RateLimitedLog
from twisted_rudp.net.udp.port import DatagramPort
from twisted_rudp.stats import PortStats, Registration, ports

SWEEP = 600.0
"""Seconds between two looks for old entries; the file is written then, too."""

SOURCE_BURST = 10
SOURCE_RATE = 0.1
SOURCES = 65536
"""
Datagrams of one source that are dealt with at once and each second. Further ones are
ignored. Who forges sources has to forge more than these to get round it.
"""

NODE_BURST = 10
NODE_RATE = 1.0
NODES = 65536
"""
Answers about one node to one network (/24 or /64), likewise. Were it for all askers
together, a few forged queries a second would leave nothing for the others.
"""

TURN_LIFE = 60.0
TURNS = 65536
"""
Seconds for which it is remembered which of its places an asker was given, and for how many
askers and nodes.
"""


class DiscoveryServer(Receiver):
    """
    One socket, or two where the system has none for both families.

    Answers are at most 16 bytes longer than the shortest legal query, so that the
    server is of little use for flooding others: nothing is answered about unknown
    nodes and empty ids.

    @ivar counters: what happened, by name.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        interface: str = "::",
        port: int = v1.SERVER_PORT,
        table: ServerTable | None = None,
        file: str | None = None,
        store: RedisStore | None = None,
        byNetwork: bool = False,
        sourceRate: float = SOURCE_RATE,
        nodeRate: float = NODE_RATE,
        fullQueries: bool = False,
    ) -> None:
        """
        @param interface: an IP literal; C{"::"}: all addresses of both families.
        @param file: where the table is kept between runs; None: nowhere.
        @param store: shared with other servers; it writes C{table} and reads what they have
            written.
        @param byNetwork: a source is a /24 of IPv4 or a /64 of IPv6 instead of an
            address.
        @param sourceRate: datagrams a second from one source, after a burst of ten.
        @param nodeRate: answers a second about one node to one network, likewise.
        @param fullQueries: answer only queries that are not shorter than the answer,
            which no original client sends.
        """
        self._reactor = reactor
        self._interface = interface
        self._number = port
        self.table = ServerTable() if table is None else table
        self._file = None if file is None else Path(file)
        self._store = store
        self._byNetwork = byNetwork
        self._fullQueries = fullQueries
        # The first packet of a source is free, as in the original of April 2014.
        self._sources = TokenBuckets(sourceRate, SOURCE_BURST, SOURCES, welcome=1)
        self._nodes = TokenBuckets(nodeRate, NODE_BURST, NODES)
        self._turns: OrderedDict[tuple[bytes, bytes], tuple[int, float]] = OrderedDict()
        self._name = "discovery server"
        self._limited = RateLimitedLog(reactor, self._log)
        self._port: DatagramPort | None = None
        self._sweep: IDelayedCall | None = None
        self._registration: Registration | None = None
        self._writing: Deferred[None] = succeed(None)
        self.counters = dict.fromkeys(
            (
                "datagrams",
                "announcements",
                "queries",
                "answers",
                "unknown",
                "bad",
                "old_version",
                "limited_source",
                "limited_node",
                "short_query",
            ),
            0,
        )

    def start(self) -> None:
        """
        Bind, and read the file.

        @raise CannotListenError: the address cannot be had.
        """
        if self._port is not None:
            return
        try:
            self._port = openSocket(self._reactor, self, self._interface, self._number)
        except CannotListenError:
            if self._interface != "::":
                raise
            # A system without IPv6.
            self._port = openSocket(self._reactor, self, "", self._number)
        self._load()
        if self._store is not None:
            self._store.start()
        self._sweep = self._reactor.callLater(SWEEP, self._swept)
        self._registration = ports.add(self)

    @property
    def listening(self) -> bool:
        """Whether it was started and not stopped."""
        return self._port is not None

    def getHost(self) -> IPv4Address | IPv6Address:
        """
        The bound address.

        @raise RuntimeError: not started.
        """
        if self._port is None:
            raise RuntimeError("the discovery server was not started")
        return self._port.getHost()

    def stop(self) -> Deferred[None]:
        """
        Write the file and close the socket.

        @return: fires when that is done; then it may be started again.
        """
        ports.discard(self._registration)
        port, self._port = self._port, None
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
            self._writing.addCallback(lambda _: self._save())
        closing = succeed(None) if port is None else port.stopListening()
        stored = succeed(None)
        if self._store is not None and port is not None:
            stored = self._store.stop()
        return gatherResults([self._writing, closing, stored]).addCallback(lambda _: None)

    def snapshot(self) -> PortStats:
        """All counters, for L{stats<twisted_rudp.stats>}."""
        counters = {**self.counters, **self.table.counters, "nodes": len(self.table)}
        if self._store is not None:
            counters |= self._store.counters
        named = {f"discovery.server.{name}": count for name, count in counters.items()}
        host = None if self._port is None else self._port.getHost()
        return PortStats(host=host, counters=named, sessions=())

    # the socket's side

    def runReceived(self, run: bytes, size: int, address: Address) -> None:
        """Deal with datagrams; what is not right is counted and has no answer."""
        for start in range(0, len(run), size):
            self._received(run[start : start + size], address)

    def portLost(self, failure: Failure) -> None:
        """The reactor shuts down."""
        self._port = None

    def _received(self, datagram: bytes, address: Address) -> None:
        self.counters["datagrams"] += 1
        ip = toTwisted(address).host.partition("%")[0]
        packed = ip_address(ip).packed
        if not self._sources.take(self._network(packed), self._now()):
            self.counters["limited_source"] += 1
            return
        try:
            packet = v1.decode(datagram)
        except FormatError as problem:
            self._notRead(datagram, f"from {ip}: {problem}")
            return
        if not packet.node_id:
            self.counters["bad"] += 1
        elif isinstance(packet, v1.Announcement):
            self._announced(packet, packed)
        else:
            self._asked(packet, packed, len(datagram), address)

    def _now(self) -> int:
        """Nanoseconds."""
        return int(self._reactor.seconds() * SECOND)

    def _network(self, packed: bytes) -> bytes:
        return _wider(packed) if self._byNetwork else packed

    def _notRead(self, datagram: bytes, detail: str) -> None:
        if format_of(datagram) in OLD:
            self.counters["old_version"] += 1
        else:
            self.counters["bad"] += 1
            self._note("malformed datagram, ignored", detail)

    def _note(self, kind: str, detail: object) -> None:
        """Log a problem, each kind once a minute."""
        self._limited.note(
            kind, "{name}: {problem}: {detail}", name=self._name, problem=kind, detail=detail
        )

    def _announced(self, packet: v1.Announcement, packed: bytes) -> None:
        """The address is where it came from, whatever it says (discovery.md 1.5)."""
        if not packet.port:
            self.counters["bad"] += 1
            return
        self.counters["announcements"] += 1
        accepted = self.table.announce(
            packet.node_id, packed, packet.port, self._reactor.seconds()
        )
        if accepted and self._store is not None:
            self._store.put(packet.node_id, packed)

    def _asked(self, packet: v1.Query, packed: bytes, length: int, address: Address) -> None:
        self.counters["queries"] += 1
        if self._store is None:
            self._answer(packet, packed, length, address, [])
            return
        self._store.find(packet.node_id).addCallback(
            lambda elsewhere: self._answer(packet, packed, length, address, elsewhere)
        )

    def _answer(
        self,
        packet: v1.Query,
        packed: bytes,
        length: int,
        address: Address,
        elsewhere: Sequence[Place],
    ) -> None:
        now = self._reactor.seconds()
        asker = (packed, packet.node_id)
        turn, asked = self._turns.get(asker, (0, now))
        if now > asked + TURN_LIFE:
            turn = 0
        place = self.table.find(packet.node_id, len(packed), now, turn, elsewhere)
        if place is None or self._port is None:
            self.counters["unknown"] += 1
            return
        if not self._nodes.take(_wider(packed) + packet.node_id, self._now()):
            self.counters["limited_node"] += 1
            return
        answer = v1.encode_announcement(v1.Announcement(place.port, packet.node_id, place.ip))
        if self._fullQueries and length < len(answer):
            self.counters["short_query"] += 1
            return
        self.counters["answers"] += 1
        self._turns[asker] = (turn + 1, now)
        self._turns.move_to_end(asker)
        if len(self._turns) > TURNS:
            self._turns.popitem(last=False)
        self._port.send(answer, len(answer), address)

    # the file

    def _swept(self) -> None:
        self._sweep = self._reactor.callLater(SWEEP, self._swept)
        self.table.expire(self._reactor.seconds())
        if self._writing.called:
            self._writing = self._saveMeanwhile()

    def _load(self) -> None:
        if self._file is None:
            return
        try:
            places = load(self._file, self.table.longest_file)
        except CorruptFile as problem:
            self._setAside(self._file, problem)
            return
        except OSError as problem:
            self._log.error("cannot read {file}: {reason}", file=self._file, reason=problem)
            return
        now = self._reactor.seconds()
        for node, place in places:
            self.table.announce(node, place.ip, place.port, min(place.seen, now))
        self.table.expire(now)
        self._log.info("{count} nodes from {file}", count=len(self.table), file=self._file)

    def _setAside(self, file: Path, problem: CorruptFile) -> None:
        try:
            aside: Path | None = set_aside(file)
        except OSError:
            aside = None
        self._log.error(
            "{file} is not a discovery table ({reason}); renamed to {aside}; starting without it",
            file=file,
            reason=problem,
            aside=aside,
        )

    def _saveMeanwhile(self) -> Deferred[None]:
        """
        Write the file in a thread, where the reactor has some: a large table and a slow
        disk would keep everybody waiting.
        """
        if self._file is None or not IReactorThreads.providedBy(self._reactor):
            self._save()
            return succeed(None)
        writing: Deferred[None] = deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), save, self._file, self.table.dump()
        )
        return writing.addErrback(self._unsaved)

    def _save(self) -> None:
        if self._file is None:
            return
        try:
            save(self._file, self.table.dump())
        except OSError as problem:
            self._notWritten(problem)

    def _unsaved(self, failure: Failure) -> None:
        failure.trap(OSError)  # type: ignore[no-untyped-call]
        self._notWritten(failure.value)

    def _notWritten(self, problem: object) -> None:
        self._log.error("cannot write {file}: {reason}", file=self._file, reason=problem)


def _wider(packed: bytes) -> bytes:
    """The /24 or /64 of an address."""
    return packed[: 3 if len(packed) == 4 else 8]
