"""
Discovery for a whole program: one registry, shared by all profiles, servers, lookups
and browsers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from random import Random, SystemRandom
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.python.failure import Failure

from twisted_rudp.discovery.announcement import Publication
from twisted_rudp.discovery.client import FOUND_LIFE, Addresses, DirectoryAnnouncer, DirectoryClient
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.local import Entropy, LocalDiscovery
from twisted_rudp.discovery.networks import Enumerate, interfaces
from twisted_rudp.discovery.nodes import SERVER, Candidate, Source
from twisted_rudp.discovery.profiles import V4, Profile
from twisted_rudp.discovery.registry import Registry
from twisted_rudp.discovery.suspend import Clocks, SuspendDetector, clocks
from twisted_rudp.errors import NodeNotFound

Candidates = tuple[Candidate, ...]

GRACE = 45.0
"""Seconds for which what was heard before a sleep still holds."""


class Lease:
    """A use of discovery, which runs while there is one."""

    def __init__(self, release: Callable[[], Deferred[None]]) -> None:
        self._release: Callable[[], Deferred[None]] | None = release

    def release(self) -> Deferred[None]:
        """
        Release it. Harmless when repeated.

        @return: fires when everything that nobody else uses is closed.
        """
        release, self._release = self._release, None
        return succeed(None) if release is None else release()


class _Used:
    """A profile in use, with the number of its users."""

    def __init__(self, local: LocalDiscovery) -> None:
        self.local = local
        self.users = 0


class Discovery:
    """
    Listens, announces and looks up.

    Sockets are open while somebody uses a profile; when nobody uses any, everything
    heard on the local network is forgotten and nothing stays scheduled. A program that
    looks up often therefore keeps a L{Lease} of its own.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        registry: Registry | None = None,
        entropy: Entropy = os.urandom,
        random: Random | None = None,
        enumerate: Enumerate = interfaces,
        offLink: bool = False,
        loopback: bool = False,
        checkHops: bool = False,
        clocks: Clocks = clocks,
    ) -> None:
        """
        @param registry: with other limits than the usual ones.
        @param entropy: source of random bytes.
        @param random: for jitter.
        @param enumerate: finds this machine's interfaces.
        @param offLink: also take what comes from other networks than this machine's.
        @param loopback: also take announced loopback addresses.
        @param checkHops: do not take what a router has passed on, where the profile
            lets that be seen (L{Profile.hops
            <twisted_rudp.discovery.profiles.Profile>}) and the system tells it.
        @param clocks: seconds of the wall clock and of one that never steps.
        """
        self.registry = Registry(reactor) if registry is None else registry
        self._reactor = reactor
        self._random = SystemRandom() if random is None else random
        self._entropy = entropy
        self._enumerate = enumerate
        self._offLink = offLink
        self._loopback = loopback
        self._checkHops = checkHops
        self._watch = SuspendDetector(reactor, self._resumed, clocks)
        self._used: dict[Profile, _Used] = {}
        self._servers: dict[tuple[str, int], DirectoryClient] = {}
        self._announcers: dict[DirectoryClient, DirectoryAnnouncer] = {}

    # using

    def listen(self, profiles: Sequence[Profile] = (V4,)) -> Lease:
        """
        Receive announcements on the local network.

        @return: to be released.
        """
        for profile in profiles:
            used = self._used.get(profile)
            if used is None:
                used = self._used[profile] = _Used(self._local(profile))
                self._watch.start()
                used.local.start()
            used.users += 1
        return Lease(lambda: self._released(profiles))

    def announce(
        self,
        node: NodeId,
        urls: Sequence[str],
        profiles: Sequence[Profile] = (V4,),
        server: DirectoryClient | None = None,
    ) -> Lease:
        """
        Announce a node until the lease is released.

        @param urls: where it can be reached, as C{kcp://0.0.0.0:4000}; an unspecified
            host means wherever the announcement comes from: C{0.0.0.0} over IPv4,
            C{[::]} over both families. v1 and the server are told the port of the first
            only, of those that serve the family by which they are told.
        @param server: to be told as well; of L{server}.
        @raise ValueError: no addresses, or not addresses.
        """
        publication = Publication(node, tuple(urls))
        lease = self.listen(profiles)
        for profile in profiles:
            self._used[profile].local.publish(publication)
        if server is not None:
            self._announcerTo(server).publish(publication)

        def release() -> Deferred[None]:
            for profile in profiles:
                if profile in self._used:
                    self._used[profile].local.withdraw(publication)
            if server is not None:
                self._withdrawFrom(server, publication)
            return lease.release()

        return Lease(release)

    def server(self, host: str, port: int) -> DirectoryClient:
        """A discovery server, shared by all who ask it."""
        return self._servers.setdefault((host, port), DirectoryClient(self._reactor, host, port))

    # asking

    def lookup(
        self,
        node: NodeId,
        timeout: float,
        profiles: Sequence[Profile] = (V4,),
        server: DirectoryClient | None = None,
    ) -> Deferred[Candidates]:
        """
        Find out where a node may be: from the registry, else from whoever answers
        first, the node itself or the server.

        @param timeout: seconds to wait at most; with nobody but a server to ask, no
            longer than that takes.
        @return: fires with at least one candidate, fails with
            L{NodeNotFound<twisted_rudp.errors.NodeNotFound>}. May be cancelled.
        """
        lease = self.listen(profiles)
        looking = self.registry.lookup(node, timeout)
        missed: list[Failure] = []
        asking: Deferred[Addresses] | None = None

        def giveUp(failure: Failure) -> None:
            failure.trap(NodeNotFound, CancelledError)  # type: ignore[no-untyped-call]
            if not profiles and not looking.called:
                missed.append(failure)
                looking.cancel()

        if not looking.called:
            self.solicit(profiles)
            if server is not None:
                asking = self.ask(node, server)
                asking.addErrback(giveUp)

        def done(result: Candidates | Failure) -> Candidates | Failure:
            if asking is not None:
                asking.cancel()
            lease.release()
            return missed[0] if missed else result

        return looking.addBoth(done)

    def solicit(self, profiles: Sequence[Profile] = (V4,)) -> None:
        """Have others announce themselves now, where a profile that is in use has a way."""
        for profile in profiles:
            if profile in self._used:
                self._used[profile].local.solicit()

    def ask(self, node: NodeId, server: DirectoryClient) -> Deferred[Addresses]:
        """
        Ask the server, whatever the registry has, and enter the answer there.

        @return: as L{DirectoryClient.ask}.
        """

        def enter(addresses: Addresses) -> Addresses:
            source = Source(SERVER, server.host)
            self.registry.announce(node, source, addresses, life=FOUND_LIFE, asked=True)
            return addresses

        return server.ask(node).addCallback(enter)

    # life

    def stop(self) -> Deferred[None]:
        """Stop whatever is in use; who waits for something is told."""
        closing = [used.local.stop() for used in self._used.values()]
        self._used.clear()
        for reporter in self._announcers.values():
            reporter.stop()
        self._announcers.clear()
        self._forget()
        return gatherResults(closing).addCallback(lambda _: None)

    def status(self) -> dict[str, str]:
        """For people: what listens, and what only sends."""
        shown: dict[str, str] = {}
        for used in self._used.values():
            shown.update(used.local.status())
        return shown

    def _local(self, profile: Profile) -> LocalDiscovery:
        return LocalDiscovery(
            self._reactor,
            profile,
            self.registry,
            entropy=self._entropy,
            random=self._random,
            look=self._watch.look,
            enumerate=self._enumerate,
            offLink=self._offLink,
            loopback=self._loopback,
            checkHops=self._checkHops,
        )

    def _released(self, profiles: Sequence[Profile]) -> Deferred[None]:
        closing = []
        for profile in profiles:
            used = self._used.get(profile)
            if used is None:
                continue
            used.users -= 1
            if not used.users:
                del self._used[profile]
                closing.append(used.local.stop())
        if not self._used and not self._announcers:
            self._forget()
        return gatherResults(closing).addCallback(lambda _: None)

    def _resumed(self) -> None:
        """Known addresses may be wrong, and others may have forgotten this node."""
        self.registry.markStale(GRACE)
        for used in self._used.values():
            used.local.resumed()
        for reporter in self._announcers.values():
            reporter.resumed()

    def _forget(self) -> None:
        self._watch.stop()
        for server in self._servers.values():
            server.stop()
        self.registry.stop()

    def _announcerTo(self, server: DirectoryClient) -> DirectoryAnnouncer:
        if server not in self._announcers:
            self._announcers[server] = DirectoryAnnouncer(self._reactor, server)
            self._watch.start()
        return self._announcers[server]

    def _withdrawFrom(self, server: DirectoryClient, publication: Publication) -> None:
        reporter = self._announcers.get(server)
        if reporter is not None and reporter.withdraw(publication):
            del self._announcers[server]
            reporter.stop()


_shared: WeakKeyDictionary[Any, Discovery] = WeakKeyDictionary()


def discoveryOf(reactor: Any) -> Discovery:
    """The discovery that everything on this reactor shares."""
    shared = _shared.get(reactor)
    if shared is None:
        shared = _shared[reactor] = Discovery(reactor)
    return shared


def share(reactor: Any, discovery: Discovery) -> None:
    """
    Let everything on this reactor use this one from now on: one with other limits,
    say, or for tests.
    """
    _shared[reactor] = discovery
