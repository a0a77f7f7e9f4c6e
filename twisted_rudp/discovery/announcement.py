"""The announcements that this process sends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from twisted_rudp.discovery import v1, v4
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.profiles import Wire
from twisted_rudp.discovery.urls import MAX_KEPT, Address, filled_in, parse, served

LONGEST = 1200
"""Bytes of an announcement of ours: one datagram on every path."""


SECRETS = frozenset({"key", "password", "seed", "seedhex", "secret", "token"})
"""Parameters of an address that nobody else may know, in lower case."""


@dataclass(frozen=True)
class Publication:
    """
    A node to be announced.

    @ivar id: the node's id.
    @ivar urls: where it can be reached; an unspecified host means wherever the
        announcement came from, C{0.0.0.0} over IPv4, C{[::]} over both families.
    """

    id: NodeId
    urls: tuple[str, ...]

    def __post_init__(self) -> None:
        """
        @raise ValueError: no addresses, too many, not addresses, one that contradicts
            itself, or a secret in one.
        """
        if not 0 < len(self.urls) <= MAX_KEPT:
            raise ValueError(f"a node has 1 to {MAX_KEPT} addresses, not {len(self.urls)}")
        for url in self.urls:
            address = parse(url)
            _checkSecrets(address)
            if not served(address):
                raise ValueError(f"{url} contradicts itself: {address.scheme} is one family")
        if len(_encode_v4(self, (1 << 63) - 1)) > LONGEST:
            raise ValueError(f"an announcement of more than {LONGEST} bytes")

    @property
    def port(self) -> int:
        """The one port that v1 can tell."""
        return parse(self.urls[0]).port

    def over(self, wire: Wire, version: int) -> Publication | None:
        """What of it can be told over IPv4 or IPv6; None if nothing can."""
        kept = tuple(url for url in self.urls if _TELLS[wire](parse(url), version))
        return Publication(self.id, kept) if kept else None


def _checkSecrets(address: Address) -> None:
    """
    @raise ValueError: what would be told to everybody contains a secret.
    """
    for name in sorted(set(address.parameters)):
        if name.lower() in SECRETS:
            raise ValueError(f"the parameter {name} of an address is a secret")


def merged(publications: Sequence[Publication]) -> list[Publication]:
    """
    One publication for each node: what several parts of a program announce under one id
    goes into one announcement, as far as it fits. Two would replace each other.
    """
    urls: dict[NodeId, dict[str, None]] = {}
    for publication in publications:
        urls.setdefault(publication.id, {}).update(dict.fromkeys(publication.urls))
    whole = []
    for node, together in urls.items():
        fitting: Publication | None = None
        for number in range(1, len(together) + 1):
            try:
                fitting = Publication(node, tuple(together)[:number])
            except ValueError:
                break
        if fitting is not None:
            whole.append(fitting)
    return whole


def announced(wire: Wire, publications: Iterable[Publication], version: int) -> list[Publication]:
    """What is announced over IPv4 or IPv6, one publication for each node."""
    over = (publication.over(wire, version) for publication in publications)
    return merged([publication for publication in over if publication is not None])


def encode(wire: Wire, publication: Publication, instance: int) -> bytes:
    """The announcement of a node."""
    return _ENCODERS[wire](publication, instance)


def goodbye(wire: Wire, publication: Publication, instance: int) -> bytes | None:
    """What tells others that a node has gone; None where the wire cannot say it."""
    if wire is Wire.V4:
        return v4.encode(publication.id.key, (), instance)
    return None


def _tells_v1(address: Address, version: int) -> bool:
    """Listeners take the port only, and the address from the sender."""
    return version in served(address)


def _tells_v4(address: Address, version: int) -> bool:
    """What has an address of its own is the same whichever way it is told."""
    return not filled_in(address) or version in served(address)


def _encode_v1(publication: Publication, instance: int) -> bytes:
    return v1.encode_announcement(v1.Announcement(publication.port, publication.id.v1))


def _encode_v4(publication: Publication, instance: int) -> bytes:
    id = publication.id
    return v4.encode(id.key, publication.urls, instance, id.name or b"")


_ENCODERS: dict[Wire, Callable[[Publication, int], bytes]] = {
    Wire.V1: _encode_v1,
    Wire.V4: _encode_v4,
}

_TELLS: dict[Wire, Callable[[Address, int], bool]] = {
    Wire.V1: _tells_v1,
    Wire.V4: _tells_v4,
}
