"""
Discovery on the local network by one profile: announces at intervals, answers
newcomers, listens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twisted_rudp.discovery import v4
from twisted_rudp.discovery.channel import Broadcast, Channel, Multicast
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.intake import Intake
from twisted_rudp.discovery.networks import Enumerate, interfaces
from twisted_rudp.discovery.nodes import Change
from twisted_rudp.discovery.profiles import Profile
from twisted_rudp.discovery.published import Publication, encode, goodbye, told
from twisted_rudp.discovery.registry import Registry
from twisted_rudp.stats import PortStats, ports, total

JITTER = 0.25
"""Seconds within which newcomers are answered, so that not all answer at once."""

BETWEEN_EXTRAS = 5.0
"""Seconds between two answers to newcomers on a channel, however many come."""

AGAIN = 1.0
"""Seconds after which the first announcement is repeated, for datagrams get lost."""

Entropy = Callable[[int], bytes]


class _Extra:
    """Announcements out of turn on one channel."""

    def __init__(self) -> None:
        self.call: IDelayedCall | None = None
        self.last: float | None = None


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
        @param checkHops: as for L{Channel<twisted_rudp.discovery.channel.Channel>}.
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
        self._intake = Intake(
            reactor, profile, registry, self._instance, self._own, offLink, loopback
        )
        kinds: list[type[Channel]] = [Broadcast, Multicast] if profile.group else [Broadcast]
        self._channels = [
            kind(reactor, profile, self._heard, enumerate, checkHops) for kind in kinds
        ]
        self._extras = {channel: _Extra() for channel in self._channels}
        self._tick: IDelayedCall | None = None
        self._retry: IDelayedCall | None = None
        self.counters = dict.fromkeys(("ticks", "reactions", "solicitations", "wakes"), 0)

    def start(self) -> None:
        """Begin to listen. Sockets that cannot be had are tried again at each tick."""
        ports.add(self)
        for channel in self._channels:
            channel.refresh()
        self._tick = self._reactor.callLater(self.profile.interval, self._ticked)
        if not all(channel.listening for channel in self._channels):
            # Perhaps whoever had the port is just closing it, as we may be ourselves.
            self._retry = self._reactor.callLater(AGAIN, self._listenAgain)

    def stop(self) -> Deferred[None]:
        """Say goodbye and close the sockets."""
        ports.discard(self)
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
        """Announce a node from now on: now, once more soon, and then at intervals."""
        self._publications.append(publication)
        if not any(self._told(channel, [publication]) for channel in self._channels):
            self._log.warn(
                "{profile}: {urls} cannot be announced, for it goes over {versions} only",
                profile=self.profile.name,
                urls=", ".join(publication.urls),
                versions=" and ".join(f"IPv{channel.version}" for channel in self._channels),
            )
        for channel in self._channels:
            self._announce(channel)
            self._extra(channel, AGAIN)

    def withdraw(self, publication: Publication) -> None:
        """Announce a node no more, and say so where the wire can."""
        self._publications.remove(publication)
        farewell = goodbye(self.profile.wire, publication, self._instance)
        for channel in self._channels:
            left = {other.id for other in self._told(channel, self._publications)}
            if publication.id in left:
                self._announce(channel)
            elif farewell is not None and self._told(channel, [publication]):
                channel.send(farewell)

    def solicit(self) -> None:
        """
        Have others announce themselves, by announcing nobody: to them we are new. Where
        the profile does not allow it, and more often than they would answer, nothing.
        """
        now = self._reactor.seconds()
        recently = self._solicited is not None and now < self._solicited + BETWEEN_EXTRAS
        if not self.profile.solicits or recently:
            return
        self._solicited = now
        self.counters["solicitations"] += 1
        # A number they have not heard, or they would not answer twice in a life.
        number = self._random.getrandbits(62) + 1
        for channel in self._channels:
            channel.send(v4.encode(self._nobody.key, (), number))

    def woken(self) -> None:
        """
        The machine has slept, perhaps elsewhere than before: announce now, and ask who
        is here. Times from before mean nothing any more.
        """
        self.counters["wakes"] += 1
        self._log.info("{profile}: the machine has slept", profile=self.profile.name)
        self._solicited = None
        for extra in self._extras.values():
            extra.last = None
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
        """Announce out of turn, soon, but not often."""
        extra = self._extras[channel]
        if extra.call is not None:
            return
        if extra.last is not None:
            delay = max(delay, extra.last + BETWEEN_EXTRAS - self._reactor.seconds())
        extra.call = self._reactor.callLater(delay, self._announceExtra, channel)

    def _announceExtra(self, channel: Channel) -> None:
        extra = self._extras[channel]
        extra.call = None
        extra.last = self._reactor.seconds()
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
        return told(self.profile.wire, publications, channel.version)

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
