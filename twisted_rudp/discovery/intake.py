"""
From a datagram on the local network to the registry. Nothing here waits, resolves a
name, or raises for what an unknown peer sends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_rudp.discovery import v1, v4
from twisted_rudp.discovery.formats import OLD, Format, format_of
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.journal import Journal
from twisted_rudp.discovery.networks import Interface, is_own, on_link
from twisted_rudp.discovery.nodes import Change, Source
from twisted_rudp.discovery.profiles import Profile, Wire
from twisted_rudp.discovery.registry import Registry
from twisted_rudp.discovery.urls import ANY_TRANSPORT, Address, normalised
from twisted_rudp.discovery.xdr import FormatError

OFFENDERS = 256
"""Senders of junk that are remembered, the latest."""

_RULES: dict[Wire, Format] = {Wire.V1: Format.V1_ANNOUNCE, Wire.V4: Format.V4}


class Heard(NamedTuple):
    """
    An announcement, whatever its wire.

    @ivar instance: None on a wire without instance numbers.
    """

    id: NodeId
    addresses: tuple[Address, ...]
    instance: int | None


class Intake:
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
        self._journal = Journal(clock, self._log, f"discovery {profile.name}")
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
            self._journal.note("from outside this machine's networks, ignored", host)
            return None
        found = format_of(datagram)
        if found is not _RULES[self._profile.wire]:
            self._other(found, host)
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

    def _read(self, datagram: bytes, host: str) -> Heard:
        """
        @raise ValueError: it is not what it should be.
        """
        if self._profile.wire is Wire.V4:
            message = v4.decode(datagram)
            addresses = normalised(message.addresses, host, self._loopback)
            node = NodeId.from_key(message.key, message.name)
            return Heard(node, addresses, message.instance)
        packet = v1.decode(datagram)
        if not isinstance(packet, v1.Announcement) or not packet.port:
            raise FormatError("no port")
        address = Address(ANY_TRANSPORT, host, packet.port)
        return Heard(NodeId.from_v1(packet.node_id), (address,), None)

    def _other(self, found: Format, host: str) -> None:
        if found in OLD:
            self.counters["old_version"] += 1
            self._blame("an old version, ignored", host, found.value)
        else:
            self.counters["other_format"] += 1
            self._blame("not for this port, ignored", host, found.value)

    def _blame(self, kind: str, host: str, detail: object) -> None:
        count = self.junk.pop(host, 0) + 1
        self.junk[host] = count
        if len(self.junk) > OFFENDERS:
            self.junk.popitem(last=False)
        self._journal.note(kind, f"{detail}, from {host}, which has sent {count}")

    def _echo(self, heard: Heard, host: str, interfaces: Sequence[Interface]) -> None:
        """
        Our own id: our own datagram, another process of this machine, or somebody
        else with our identity.
        """
        self.counters["own"] += 1
        if heard.instance != self._instance and not is_own(host, interfaces):
            self.counters["duplicate_id"] += 1
            self._journal.note("another machine announces our id", f"{heard.id.text} at {host}")
