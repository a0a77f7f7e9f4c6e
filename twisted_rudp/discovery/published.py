"""
What this process announces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from twisted_rudp.discovery import v1, v4
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.profiles import Wire
from twisted_rudp.discovery.urls import KEPT, parse

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
        announcement came from.
    """

    id: NodeId
    urls: tuple[str, ...]

    def __post_init__(self) -> None:
        """
        @raise ValueError: no addresses, too many, not addresses, or a secret in one.
        """
        if not 0 < len(self.urls) <= KEPT:
            raise ValueError(f"a node has 1 to {KEPT} addresses, not {len(self.urls)}")
        for url in self.urls:
            _checkSecrets(parse(url).rest)
        if len(_encode_v4(self, (1 << 63) - 1)) > LONGEST:
            raise ValueError(f"an announcement of more than {LONGEST} bytes")

    @property
    def port(self) -> int:
        """
        The one port that v1 can tell.
        """
        return parse(self.urls[0]).port


def _checkSecrets(rest: str) -> None:
    """
    @raise ValueError: what would be told to everybody contains a secret.
    """
    parameters = parse_qsl(urlsplit(rest).query, keep_blank_values=True)
    for name in sorted({name for name, _ in parameters}):
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


def datagrams(wire: Wire, publications: Sequence[Publication], instance: int) -> list[bytes]:
    """
    The announcements, one for each node.
    """
    return [_ENCODERS[wire](publication, instance) for publication in merged(publications)]


def goodbye(wire: Wire, publication: Publication, instance: int) -> bytes | None:
    """
    What tells others that a node has gone; None where the wire cannot say it.
    """
    if wire is Wire.V4:
        return v4.encode(publication.id.key, (), instance)
    return None


def _encode_v1(publication: Publication, instance: int) -> bytes:
    return v1.encode_announcement(v1.Announcement(publication.port, publication.id.v1))


def _encode_v4(publication: Publication, instance: int) -> bytes:
    id = publication.id
    return v4.encode(id.key, publication.urls, instance, id.name or b"")


_ENCODERS: dict[Wire, Callable[[Publication, int], bytes]] = {
    Wire.V1: _encode_v1,
    Wire.V4: _encode_v4,
}
