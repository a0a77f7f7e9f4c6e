"""
Discovery on the local network by one profile: announces at intervals, answers new
nodes, and enters valid announcements in the registry.

A L{Channel} sends and receives on all interfaces, by IPv4 broadcast or IPv6 multicast.
The L{AnnouncementFilter} checks what is received. Nothing here waits, resolves a name,
or raises for what an unknown peer sends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_rudp.core.engine import Address as RawAddress
from twisted_rudp.core.engine import PathError
from twisted_rudp.discovery import v1, v4
from twisted_rudp.discovery.announcement import Publication, announced, encode, goodbye
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.legacy import OLD, Format, describe, format_of
from twisted_rudp.discovery.networks import (
    Enumerate,
    Interface,
    broadcasts,
    interfaces,
    is_own,
    on_link,
)
from twisted_rudp.discovery.nodes import Change, Source
from twisted_rudp.discovery.profiles import Profile, Wire
from twisted_rudp.discovery.registry import Registry
from twisted_rudp.discovery.sockets import Receiver, openSocket
from twisted_rudp.discovery.urls import ANY_TRANSPORT, Address, normalised
from twisted_rudp.discovery.xdr import FormatError
from twisted_rudp.net.ratelog import RateLimitedLog
from twisted_rudp.net.udp.port import DatagramPort
from twisted_rudp.stats import PortStats, Registration, ports, total

_TAKEN = "cannot listen, only announce; another program may use the port"

_UNREACHABLE = (
    "cannot send; a container or machine needs a network interface that can broadcast, or a"
    " default route"
)

OnDatagram = Callable[["Channel", bytes, str], None]


class _Listening(Receiver):
    """Receives from the well-known port."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def runReceived(self, run: bytes, size: int, address: RawAddress) -> None:
        for start in range(0, len(run), size):
            self._channel.received(run[start : start + size], address)

    def portLost(self, failure: Failure) -> None:
        self._channel.lost()


class _Sending(Receiver):
    """Receives the errors of what is sent."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def pathError(self, kind: PathError, size: int, address: RawAddress) -> None:
        self._channel.refused(kind, address)


class Channel(ABC):
    """
    Sends from a socket of its own and listens on the well-known port. If that port is in
    use, it only sends, and tries to listen again at each L{refresh}.

    @ivar via: its name in a L{Source<twisted_rudp.discovery.nodes.Source>}.
    @ivar version: of IP.
    @ivar interfaces: the machine's interfaces, as L{refresh} found them.
    @ivar counters: what happened, by name.
    """

    _log = Logger()

    way: str
    version: int
    everywhere: str

    def __init__(
        self,
        reactor: Any,
        profile: Profile,
        heard: OnDatagram,
        enumerate: Enumerate,
        checkHops: bool = False,
    ) -> None:
        """
        @param heard: called with each datagram and the sender's address as a literal.
        @param checkHops: only with those that nobody has routed here, where the profile
            lets that be seen.
        """
        self._reactor = reactor
        self._profile = profile
        self._heard = heard
        self._enumerate = enumerate
        self._arrivalHops = profile.hops if checkHops else None
        self._listening: DatagramPort | None = None
        self._sending: DatagramPort | None = None
        self._stopped = False
        self.via = f"{profile.name} {self.way}"
        self.interfaces: Sequence[Interface] = ()
        self._name = f"discovery by {self.via}"
        self._limited = RateLimitedLog(reactor, self._log)
        self.counters = dict.fromkeys(("sent", "send_errors", "not_listening", "far"), 0)

    @abstractmethod
    def _destinations(self) -> list[RawAddress]:
        """Where a datagram goes."""

    def _follow(self, listening: DatagramPort, again: bool) -> None:
        """
        Adapt the listening socket to the interfaces there are.

        @param again: believe nothing of what was done before.
        """

    def _options(self) -> dict[str, Any]:
        """Options of both sockets."""
        return {}

    @property
    def listening(self) -> bool:
        """Whether it receives."""
        return self._listening is not None

    @property
    def status(self) -> str:
        """The same as text."""
        return "listening" if self.listening else "sending only"

    def refresh(self, again: bool = False) -> None:
        """
        Enumerate the interfaces, and listen if that was not possible before.

        @param again: the machine was suspended; join groups again.
        """
        self.interfaces = self._enumerate()
        if self._listening is None:
            self._listen()
        if self._listening is not None:
            self._follow(self._listening, again)

    def _listen(self) -> None:
        try:
            self._listening = openSocket(
                self._reactor,
                _Listening(self),
                self.everywhere,
                self._profile.port,
                reuseAddress=True,
                arrivalHops=self._arrivalHops,
                **self._options(),
            )
        except CannotListenError as problem:
            self.counters["not_listening"] += 1
            self._note(_TAKEN, problem)
        else:
            if self._limited.clear(_TAKEN):
                self._log.info("{name}: no longer: {kind}", name=self._name, kind=_TAKEN)

    def send(self, datagram: bytes) -> None:
        """Send to every network. A failure of one does not affect the others."""
        if self._stopped:
            return
        if self._sending is None:
            try:
                self._sending = openSocket(
                    self._reactor, _Sending(self), self.everywhere, **self._options()
                )
            except CannotListenError as problem:
                self.counters["send_errors"] += 1
                self._note("no socket to send from", problem)
                return
        for destination in self._destinations():
            self.counters["sent"] += 1
            self._sending.send(datagram, len(datagram), destination)

    def received(self, datagram: bytes, address: RawAddress) -> None:
        """The listening socket has received a datagram."""
        self._heard(self, datagram, self._shown(address))

    def _shown(self, address: RawAddress) -> str:
        """The sender as a literal, an IPv6 link-local one with its interface's name."""
        host: str = address[0].partition("%")[0]
        scope = address[3] if len(address) > 3 else 0
        if not scope:
            return host
        names = {interface.index: interface.name for interface in self.interfaces}
        return f"{host}%{names.get(scope, scope)}"

    def refused(self, kind: PathError, address: RawAddress) -> None:
        """The system could not send to one of the destinations."""
        self.counters["send_errors"] += 1
        self._note(_UNREACHABLE, f"{address[0]}: {kind.name.lower()}")

    def _note(self, kind: str, detail: object) -> None:
        """Log a problem, each kind once a minute."""
        self._limited.note(
            kind, "{name}: {problem}: {detail}", name=self._name, problem=kind, detail=detail
        )

    def snapshot(self) -> dict[str, int]:
        """All counters, with what the listening socket has turned away."""
        far = 0 if self._listening is None else self._listening.counters.far
        return {**self.counters, "far": self.counters["far"] + far}

    def lost(self) -> None:
        """The listening socket is lost; the next L{refresh} opens another."""
        self.counters = self.snapshot()
        self._listening = None

    def stop(self) -> Deferred[None]:
        """Close the sockets."""
        self._stopped = True
        ports = [port for port in (self._listening, self._sending) if port is not None]
        self._listening = self._sending = None
        closing = gatherResults([port.stopListening() for port in ports])
        return closing.addCallback(lambda _: None)


class Broadcast(Channel):
    """IPv4: the broadcast address of each network."""

    way = "broadcast"
    version = 4
    everywhere = ""

    def _options(self) -> dict[str, Any]:
        return {"broadcast": True, "hopLimit": self._profile.hops}

    def _destinations(self) -> list[RawAddress]:
        return [(host, self._profile.port) for host in broadcasts(self.interfaces)]


class Multicast(Channel):
    """IPv6: a group of link-local scope on each link. New interfaces join it."""

    way = "multicast"
    version = 6
    everywhere = "::"

    def __init__(
        self,
        reactor: Any,
        profile: Profile,
        heard: OnDatagram,
        enumerate: Enumerate,
        checkHops: bool = False,
    ) -> None:
        super().__init__(reactor, profile, heard, enumerate, checkHops)
        self._group = profile.group or ""
        self._joined: set[int] = set()

    def _options(self) -> dict[str, Any]:
        return {"onlyIPv6": True, "multicastHops": self._profile.hops or 1}

    def _indices(self) -> set[int]:
        return {i.index for i in self.interfaces if i.link_local and not i.loopback}

    def _destinations(self) -> list[RawAddress]:
        return [(self._group, self._profile.port, 0, index) for index in sorted(self._indices())]

    def lost(self) -> None:
        super().lost()
        self._joined.clear()

    def _follow(self, listening: DatagramPort, again: bool) -> None:
        wanted = self._indices()
        gone = self._joined if again else self._joined - wanted
        for index in sorted(gone):
            self._joined.discard(index)
            try:
                listening.leaveGroup(self._group, index)
            except OSError as problem:
                self._log.debug("{via}: {reason}", via=self.via, reason=problem)
        for index in sorted(wanted - self._joined):
            try:
                listening.joinGroup(self._group, index)
            except OSError as problem:
                self._note("cannot join the group on an interface", problem)
            else:
                self._joined.add(index)


OFFENDERS = 256
"""Senders of junk that are remembered, the latest."""

_RULES: dict[Wire, Format] = {Wire.V1: Format.V1_ANNOUNCE, Wire.V4: Format.V4}


class HeardAnnouncement(NamedTuple):
    """
    An announcement, whatever its wire.

    @ivar instance: None on a wire without instance numbers.
    """

    id: NodeId
    addresses: tuple[Address, ...]
    instance: int | None


class AnnouncementFilter:
    """
    Judges what the channels of one profile hear.

    @ivar counters: what happened, by name.
    @ivar junk: datagrams that were of no use, by sender.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        profile: Profile,
        registry: Registry,
        instance: int,
        own: Callable[[], Collection[NodeId]],
        offLink: bool = False,
        loopback: bool = False,
    ) -> None:
        """
        @param instance: this process's own number.
        @param own: the ids that this process announces.
        @param offLink: also take what comes from other networks than this machine's.
        @param loopback: also take announced loopback addresses.
        """
        self._profile = profile
        self._registry = registry
        self._instance = instance
        self._own = own
        self._offLink = offLink
        self._loopback = loopback
        self._name = f"discovery {profile.name}"
        self._limited = RateLimitedLog(clock, self._log)
        self.junk: OrderedDict[str, int] = OrderedDict()
        self.counters = dict.fromkeys(
            (
                "datagrams",
                "bad",
                "old_version",
                "other_format",
                "off_link",
                "own",
                "duplicate_id",
                "parameters",
            ),
            0,
        )

    def take(
        self, datagram: bytes, host: str, via: str, interfaces: Sequence[Interface]
    ) -> Change | None:
        """
        @param host: the sender, an IP literal with its zone.
        @param via: the channel.
        @param interfaces: those of this machine.
        @return: what it changed in the registry; None if it did not get there.
        """
        self.counters["datagrams"] += 1
        if not self._offLink and not on_link(host, interfaces):
            self.counters["off_link"] += 1
            self._note("from outside the networks of this machine, ignored", host)
            return None
        found = format_of(datagram)
        if found is not _RULES[self._profile.wire]:
            self._other(found, datagram, host)
            return None
        try:
            heard = self._read(datagram, host)
        except ValueError as problem:
            self.counters["bad"] += 1
            self._blame("not well formed, ignored", host, problem)
            return None
        if heard.id in self._own():
            self._echo(heard, host, interfaces)
            return None
        self.counters["parameters"] += sum(len(a.parameters) for a in heard.addresses)
        return self._registry.announce(
            heard.id,
            Source(via, host),
            heard.addresses,
            life=self._profile.life,
            instance=heard.instance,
        )

    def _read(self, datagram: bytes, host: str) -> HeardAnnouncement:
        """
        @raise ValueError: it is not what it should be.
        """
        if self._profile.wire is Wire.V4:
            message = v4.decode(datagram)
            addresses = normalised(message.addresses, host, self._loopback)
            node = NodeId.from_key(message.key, message.name)
            return HeardAnnouncement(node, addresses, message.instance)
        packet = v1.decode(datagram)
        if not isinstance(packet, v1.Announcement) or not packet.port:
            raise FormatError("no port")
        address = Address(ANY_TRANSPORT, host, packet.port)
        return HeardAnnouncement(NodeId.from_v1(packet.node_id), (address,), None)

    def _other(self, found: Format, datagram: bytes, host: str) -> None:
        if found in OLD:
            self.counters["old_version"] += 1
            self._blame("announcement of an old version, ignored", host, describe(datagram))
        else:
            self.counters["other_format"] += 1
            self._blame("not for this port, ignored", host, found.value)

    def _note(self, kind: str, detail: object) -> None:
        """Log a problem, each kind once a minute."""
        self._limited.note(
            kind, "{name}: {problem}: {detail}", name=self._name, problem=kind, detail=detail
        )

    def _blame(self, kind: str, host: str, detail: object) -> None:
        count = self.junk.pop(host, 0) + 1
        self.junk[host] = count
        if len(self.junk) > OFFENDERS:
            self.junk.popitem(last=False)
        self._note(kind, f"{detail}, from {host}, which has sent {count}")

    def _echo(self, heard: HeardAnnouncement, host: str, interfaces: Sequence[Interface]) -> None:
        """
        Our own id: our own datagram, another process of this machine, or somebody
        else with our identity.
        """
        self.counters["own"] += 1
        if heard.instance != self._instance and not is_own(host, interfaces):
            self.counters["duplicate_id"] += 1
            self._note("another machine announces this node's id", f"{heard.id.text} at {host}")


JITTER = 0.25
"""Seconds within which newcomers are answered, so that not all answer at once."""

EXTRA_INTERVAL = 5.0
EXTRA_BURST = 3
"""
Answers to newcomers on a channel, however many come: so many at once, and one more after
each interval. A few at once, because each run of a tool such as C{rudp lookup} is one.
"""

REPEAT_DELAY = 1.0
"""Seconds after which the first announcement is repeated, for datagrams get lost."""

Entropy = Callable[[int], bytes]


class _Extra:
    """Announcements out of turn on one channel."""

    def __init__(self) -> None:
        self.call: IDelayedCall | None = None
        self._credit = float(EXTRA_BURST)
        self._counted = 0.0

    def delay(self, now: float) -> float:
        """Seconds until the next is allowed."""
        grown = max(0.0, now - self._counted) / EXTRA_INTERVAL
        self._credit = min(float(EXTRA_BURST), self._credit + grown)
        self._counted = now
        return max(0.0, 1 - self._credit) * EXTRA_INTERVAL

    def sent(self, now: float) -> None:
        """One was sent."""
        self.delay(now)
        self._credit -= 1

    def reset(self) -> None:
        """Allow all at once: times of before mean nothing now."""
        self._credit = float(EXTRA_BURST)
        self._counted = 0.0


class LocalDiscovery:
    """
    One profile on this machine.

    A tick every interval looks at the interfaces and announces.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        profile: Profile,
        registry: Registry,
        *,
        entropy: Entropy,
        random: Random,
        look: Callable[[], None],
        enumerate: Enumerate = interfaces,
        offLink: bool = False,
        loopback: bool = False,
        checkHops: bool = False,
    ) -> None:
        """
        @param entropy: source of random bytes, for the instance number.
        @param random: for the jitter.
        @param look: called with everything heard, as an occasion to look at the clocks.
        @param offLink: also take what comes from other networks than this machine's.
        @param loopback: also take announced loopback addresses.
        @param checkHops: as for L{Channel<twisted_rudp.discovery.local.Channel>}.
        """
        self.profile = profile
        self._reactor = reactor
        self._registry = registry
        self._random = random
        self._look = look
        self._publications: list[Publication] = []
        # 63 bits, and never 0, which v4 leaves out.
        self._instance = int.from_bytes(entropy(8), "big") >> 1 | 1
        self._nobody = NodeId(entropy(32))
        self._solicited: float | None = None
        self._intake = AnnouncementFilter(
            reactor, profile, registry, self._instance, self._own, offLink, loopback
        )
        kinds: list[type[Channel]] = [Broadcast, Multicast] if profile.group else [Broadcast]
        self._channels = [
            kind(reactor, profile, self._heard, enumerate, checkHops) for kind in kinds
        ]
        self._extras = {channel: _Extra() for channel in self._channels}
        self._tick: IDelayedCall | None = None
        self._retry: IDelayedCall | None = None
        self._registration: Registration | None = None
        self.counters = dict.fromkeys(("ticks", "reactions", "solicitations", "wakes"), 0)

    def start(self) -> None:
        """Start to listen. Sockets that cannot be opened are tried again at each tick."""
        self._registration = ports.add(self)
        for channel in self._channels:
            channel.refresh()
        self._tick = self._reactor.callLater(self.profile.interval, self._ticked)
        if not all(channel.listening for channel in self._channels):
            # Perhaps whoever had the port is just closing it, as we may be ourselves.
            self._retry = self._reactor.callLater(REPEAT_DELAY, self._listenAgain)

    def stop(self) -> Deferred[None]:
        """Withdraw all announcements and close the sockets."""
        ports.discard(self._registration)
        for publication in list(self._publications):
            self.withdraw(publication)
        calls = [self._tick, self._retry, *(extra.call for extra in self._extras.values())]
        for call in calls:
            if call is not None and call.active():
                call.cancel()
        self._tick = None
        stopping = gatherResults([channel.stop() for channel in self._channels])
        return stopping.addCallback(lambda _: None)

    def publish(self, publication: Publication) -> None:
        """Announce a node: now, once more after a second, and then at intervals."""
        self._publications.append(publication)
        if not any(self._told(channel, [publication]) for channel in self._channels):
            self._log.warn(
                "{profile}: cannot announce {urls}: this profile uses {versions} only",
                profile=self.profile.name,
                urls=", ".join(publication.urls),
                versions=" and ".join(f"IPv{channel.version}" for channel in self._channels),
            )
        for channel in self._channels:
            self._announce(channel)
            self._extra(channel, REPEAT_DELAY)

    def withdraw(self, publication: Publication) -> None:
        """Stop announcing a node, and tell the others if the wire format can."""
        self._publications.remove(publication)
        last = goodbye(self.profile.wire, publication, self._instance)
        for channel in self._channels:
            left = {other.id for other in self._told(channel, self._publications)}
            if publication.id in left:
                self._announce(channel)
            elif last is not None and self._told(channel, [publication]):
                channel.send(last)

    def solicit(self) -> None:
        """
        Make the other nodes announce themselves: announce a new node without addresses. Does
        nothing if the profile has no such request, or if the last one was recent.
        """
        now = self._reactor.seconds()
        recently = self._solicited is not None and now < self._solicited + EXTRA_INTERVAL
        if not self.profile.solicits or recently:
            return
        self._solicited = now
        self.counters["solicitations"] += 1
        # A number they have not heard, or they would not answer twice in a life.
        number = self._random.getrandbits(62) + 1
        for channel in self._channels:
            channel.send(v4.encode(self._nobody.key, (), number))

    def resumed(self) -> None:
        """
        The machine was suspended, and may be in another network now: announce, and solicit
        announcements. Earlier times are meaningless.
        """
        self.counters["wakes"] += 1
        self._log.info(
            "{profile}: the machine was suspended; announcing again", profile=self.profile.name
        )
        self._solicited = None
        for extra in self._extras.values():
            extra.reset()
        if self._tick is not None:
            self._tick.reset(self.profile.interval)
        for channel in self._channels:
            self._announce(channel, slept=True)
        self.solicit()

    def status(self) -> Mapping[str, str]:
        """For people: whether each channel listens."""
        return {channel.via: channel.status for channel in self._channels}

    @property
    def junk(self) -> Mapping[str, int]:
        """Datagrams that were of no use, by sender, as far as they are remembered."""
        return self._intake.junk

    def snapshot(self) -> PortStats:
        """All counters, for L{stats<twisted_rudp.stats>}."""
        channels = total(channel.snapshot() for channel in self._channels)
        counters = {**self.counters, **self._intake.counters, **channels}
        named = {f"discovery.{name}": count for name, count in counters.items()}
        return PortStats(host=None, counters=named, sessions=())

    def _own(self) -> set[NodeId]:
        return {self._nobody, *(publication.id for publication in self._publications)}

    def _heard(self, channel: Channel, datagram: bytes, host: str) -> None:
        self._look()
        change = self._intake.take(datagram, host, channel.via, channel.interfaces)
        if change in (Change.NEW, Change.RESTARTED) and self._publications:
            self._extra(channel, self._random.uniform(0, JITTER))

    def _extra(self, channel: Channel, delay: float) -> None:
        """Announce between two ticks, at a limited rate."""
        extra = self._extras[channel]
        if extra.call is not None:
            return
        delay = max(delay, extra.delay(self._reactor.seconds()))
        extra.call = self._reactor.callLater(delay, self._announceExtra, channel)

    def _announceExtra(self, channel: Channel) -> None:
        extra = self._extras[channel]
        extra.call = None
        extra.sent(self._reactor.seconds())
        self.counters["reactions"] += 1
        self._announce(channel)

    def _announce(self, channel: Channel, slept: bool = False) -> None:
        """Look at the interfaces and announce everything, if there is anything."""
        channel.refresh(again=slept)
        for publication in self._told(channel, self._publications):
            channel.send(encode(self.profile.wire, publication, self._instance))

    def _told(
        self, channel: Channel, publications: Sequence[Publication]
    ) -> Sequence[Publication]:
        """What of these a channel can tell: nobody is sent to where nothing listens."""
        return announced(self.profile.wire, publications, channel.version)

    def _listenAgain(self) -> None:
        for channel in self._channels:
            channel.refresh()
        if self._solicited is not None:
            # The answers to the first may have been missed.
            self._solicited = None
            self.solicit()

    def _ticked(self) -> None:
        self._tick = self._reactor.callLater(self.profile.interval, self._ticked)
        self.counters["ticks"] += 1
        for channel in self._channels:
            self._announce(channel)
