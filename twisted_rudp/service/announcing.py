"""
Services that make themselves, or others, known: C{twist rudp announce}, and
C{--announce} of the services that listen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.profiles import Profile
from twisted_rudp.discovery.service import Lease, discoveryOf
from twisted_rudp.discovery.urls import Address


@dataclass(frozen=True)
class Audience:
    """
    Whom an announcement is for.

    @ivar profiles: on the local network.
    @ivar server: address and port of a discovery server, or None.
    """

    profiles: tuple[Profile, ...]
    server: tuple[str, int] | None = None


class Announcer:
    """Announces one node to one audience."""

    _log = Logger()

    def __init__(self, reactor: Any, id: NodeId, audience: Audience, scheme: str = "") -> None:
        """
        @param scheme: the transport, for L{begin}.
        """
        self._reactor = reactor
        self._id = id
        self._audience = audience
        self._scheme = scheme
        self._lease: Lease | None = None

    def begin(self, host: IAddress) -> None:
        """Announce what listens at C{host}."""
        if isinstance(host, IPv4Address | IPv6Address):
            if ip_address(host.host.partition("%")[0]).is_loopback:
                self._log.warn("{host} is of use on this machine only", host=host.host)
            self.announce([str(Address(self._scheme, host.host, host.port))])
        else:
            self._log.error("{host} cannot be announced: it has no port", host=host)

    def announce(self, urls: Sequence[str]) -> None:
        """
        Announce addresses until L{end}.

        @raise ValueError: they are not addresses to announce.
        """
        discovery = discoveryOf(self._reactor)
        server = self._audience.server
        self._lease = discovery.announce(
            self._id,
            urls,
            self._audience.profiles,
            None if server is None else discovery.server(*server),
        )
        ways = [f"{way} ({status})" for way, status in discovery.status().items()]
        if server is not None:
            ways.append(f"server {server[0]} port {server[1]}")
        self._log.info(
            "announcing {id} at {urls} by {ways}",
            id=self._id.text,
            urls=", ".join(urls),
            ways=", ".join(ways),
        )

    def end(self) -> Deferred[None]:
        """
        Announce no more.

        @return: fires when that is so. Harmless when repeated.
        """
        lease, self._lease = self._lease, None
        return succeed(None) if lease is None else lease.release()


class AnnounceService(Service):
    """Announces a node that is somebody else's program."""

    def __init__(self, announcer: Announcer, urls: Sequence[str]) -> None:
        self._announcer = announcer
        self._urls = urls

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._announcer.announce(self._urls)

    def stopService(self) -> Deferred[None]:
        """
        @return: fires when goodbye is said.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return self._announcer.end()
