"""The registry of announced nodes, with its browsers and pending lookups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_rudp.core.engine import SECOND
from twisted_rudp.core.limits import TokenBuckets
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.nodes import SERVER, Candidate, Change, Node, Removal, Source
from twisted_rudp.discovery.table import Record, Table
from twisted_rudp.discovery.urls import Address
from twisted_rudp.errors import NodeNotFound
from twisted_rudp.interfaces import INodeBrowser
from twisted_rudp.net.usercode import callUserLogged


class Subscription:
    """One browser, and what it has been told."""

    def __init__(self, browsers: Browsers, browser: INodeBrowser) -> None:
        self._browsers = browsers
        self._browser = browser
        self._told: dict[NodeId, tuple[Address, ...]] = {}

    def stop(self) -> None:
        """Tell it nothing more, not even what is on the way. Harmless when repeated."""
        self._browsers.remove(self)

    def tell(self, node: Node, reason: Removal) -> None:
        """
        Say what has become of a node since the last time, if anything.

        @param reason: why it is gone, if it is.
        """
        before = self._told.get(node.id, ())
        now = node.addresses
        if now:
            self._told[node.id] = now
        else:
            self._told.pop(node.id, None)
        if set(before) == set(now):
            return
        if not before:
            callUserLogged(self._browser.nodeAdded, node)
        elif now:
            callUserLogged(self._browser.nodeUpdated, node)
        else:
            callUserLogged(self._browser.nodeRemoved, node.id, reason)


class Browsers:
    """
    All browsers of a registry. They are called in a turn of their own, once for a node
    however often it has changed, so that a slow one holds up no socket.
    """

    def __init__(self, clock: IReactorTime, node: Callable[[NodeId], Node]) -> None:
        """
        @param node: what is known about a node now.
        """
        self._clock = clock
        self._node = node
        self._browsings: list[Subscription] = []
        self._changes: dict[NodeId, Removal] = {}
        self._call: IDelayedCall | None = None

    def add(self, browser: INodeBrowser, known: Iterable[Node]) -> Subscription:
        """
        @param known: the nodes it is told of first.
        """
        browsing = Subscription(self, browser)
        self._browsings.append(browsing)
        for node in known:
            self.changed(node.id, None)
        return browsing

    def remove(self, browsing: Subscription) -> None:
        """Forget a browser."""
        if browsing in self._browsings:
            self._browsings.remove(browsing)
        if not self._browsings:
            self.stop()

    def changed(self, node: NodeId, reason: Removal | None) -> None:
        """
        Something about a node may be different now.

        @param reason: what has ended, if something has.
        """
        if not self._browsings:
            return
        self._changes[node] = reason or self._changes.get(node, Removal.EXPIRED)
        if self._call is None:
            self._call = self._clock.callLater(0, self._tell)

    def stop(self) -> None:
        """Forget all browsers."""
        self._browsings.clear()
        self._changes.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _tell(self) -> None:
        """One node a turn, so that others are served in between."""
        self._call = None
        node = next(iter(self._changes))
        reason = self._changes.pop(node)
        if self._changes:
            self._call = self._clock.callLater(0, self._tell)
        known = self._node(node)
        for browsing in list(self._browsings):
            if browsing in self._browsings:
                browsing.tell(known, reason)


Candidates = tuple[Candidate, ...]


class PendingLookups:
    """Who waits for which node. Contains the nodes that somebody waits for."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._lookups: dict[NodeId, list[Deferred[Candidates]]] = {}

    def __contains__(self, node: object) -> bool:
        return node in self._lookups

    def wait(
        self, node: NodeId, known: Candidates, timeout: float
    ) -> Deferred[Candidates]:
        """
        @param known: what there is already.
        @return: see L{Registry.lookup<twisted_rudp.discovery.registry.Registry.lookup>}.
        """
        if known:
            return succeed(known)
        if timeout <= 0:
            return fail(_notFound(node))
        lookup: Deferred[Candidates] = Deferred(lambda lookup: self._forget(node, lookup))
        self._lookups.setdefault(node, []).append(lookup)
        call = self._clock.callLater(timeout, self._timedOut, node, lookup)

        def done(result: Candidates) -> Candidates:
            if call.active():
                call.cancel()
            return result

        return lookup.addBoth(done)

    def found(self, node: NodeId, candidates: Candidates) -> None:
        """Something is known about a node."""
        if candidates:
            for lookup in self._lookups.pop(node, []):
                lookup.callback(candidates)

    def stop(self) -> None:
        """Nobody will announce anything any more."""
        lookups, self._lookups = self._lookups, {}
        for node, waiting in lookups.items():
            for lookup in waiting:
                lookup.errback(_notFound(node))

    def _timedOut(self, node: NodeId, lookup: Deferred[Candidates]) -> None:
        self._forget(node, lookup)
        lookup.errback(_notFound(node))

    def _forget(self, node: NodeId, lookup: Deferred[Candidates]) -> None:
        waiting = self._lookups.get(node, [])
        if lookup in waiting:
            waiting.remove(lookup)
        if not waiting:
            self._lookups.pop(node, None)


def _notFound(node: NodeId) -> NodeNotFound:
    return NodeNotFound(f"nobody has announced the node {node.text}")


MAX_RECORDS = 1024
"""Announcements held, counted by node and source."""

MAX_WEIGHT = 4 << 20
"""Bytes held: a thousand announcements may be 65 KB each."""

MAX_SOURCES = 8
"""Sources heard about one node. A fresh one is not displaced by another."""

NEW_PER_SOURCE = 64
"""Nodes that one address may introduce in a minute."""

RESTART_INTERVAL = 30.0
"""Seconds between two new instance numbers of one node that are acted upon."""

_REMEMBERED = 4096
_SUCCESSES = 1024
_NEVER = float("-inf")


class Registry:
    """
    Nodes with their announced addresses. Keyed by node and source, so that what one
    source says neither replaces nor flaps with what another says (discovery.md 3.3).

    @ivar counters: what happened, by name.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        maxRecords: int = MAX_RECORDS,
        maxWeight: int = MAX_WEIGHT,
        maxSources: int = MAX_SOURCES,
        newPerSource: int = NEW_PER_SOURCE,
    ) -> None:
        self._clock = clock
        self._table = Table(maxRecords, maxWeight)
        self._maxSources = maxSources
        self._newcomers = TokenBuckets(newPerSource / 60, newPerSource, _REMEMBERED)
        self._successes: dict[tuple[NodeId, Address], float] = {}
        self._waiting = PendingLookups(clock)
        self._browsers = Browsers(clock, self._node)
        self._sweep: IDelayedCall | None = None
        self.counters = dict.fromkeys(
            (
                "announced",
                "added",
                "updated",
                "restarted",
                "expired",
                "evicted",
                "goodbyes",
                "refused_rate",
                "refused_sources",
            ),
            0,
        )

    def __len__(self) -> int:
        """How many announcements are held."""
        return len(self._table)

    # what sources say

    def announce(
        self,
        node: NodeId,
        source: Source,
        addresses: Sequence[Address],
        *,
        life: float,
        instance: int | None = None,
        asked: bool = False,
    ) -> Change:
        """
        Enter an announcement.

        @param addresses: checked ones; none means that the node is there and is not
            listed, or has gone.
        @param life: seconds for which it holds.
        @param instance: what the node chose at its start, where the wire has that.
        @param asked: it is the answer to a question of ours, so that unknown peers cannot
            cause any number of it.
        """
        self.counters["announced"] += 1
        now = self._clock.seconds()
        record = self._table.get(node, source)
        if record is not None and record.expires <= now:
            self._drop(record, Removal.EXPIRED)
            record = None
        if record is not None:
            return self._renew(record, tuple(addresses), instance, now + life)
        return self._enter(
            Record(node, source, tuple(addresses), instance, now, now + life), asked
        )

    def _enter(self, record: Record, asked: bool) -> Change:
        known = self._table.of(record.id)
        if len(known) >= self._maxSources:
            stale = [each for each in known if each.stale]
            if not stale:
                self.counters["refused_sources"] += 1
                return Change.REFUSED
            self._drop(stale[0], Removal.EVICTED)
        newcomer = not known and not asked
        seen = int(record.seen * SECOND)
        if newcomer and not self._newcomers.take(record.source.host, seen):
            self.counters["refused_rate"] += 1
            return Change.REFUSED
        self.counters["added"] += 1
        self._table.add(record)
        # First: who is told may be the last to need this, and stop it.
        self._schedule()
        self._changed(record.id, None)
        self._makeRoom()
        return Change.NEW if record.held else Change.REFUSED

    def _renew(
        self,
        record: Record,
        addresses: tuple[Address, ...],
        instance: int | None,
        expires: float,
    ) -> Change:
        now = self._clock.seconds()
        before, previous = record.addresses, record.instance
        self._table.renew(record, addresses, now, expires)
        self._schedule()
        record.instance = instance
        change = Change.RENEWED
        if addresses != before:
            change = Change.UPDATED
            self.counters["updated"] += 1
            if before and not addresses:
                self.counters["goodbyes"] += 1
            self._changed(record.id, Removal.GOODBYE)
            self._makeRoom()
        quiet = record.restarted is not None and now < record.restarted + RESTART_INTERVAL
        if instance != previous and not quiet:
            record.restarted = now
            self.counters["restarted"] += 1
            change = Change.RESTARTED
        return change

    def _makeRoom(self) -> None:
        """Evict the oldest, but nothing that somebody waits for or is about to dial."""
        while self._table.crowded():
            record = self._table.oldest(self._waiting)
            if record is None:
                return
            self.counters["evicted"] += 1
            self._drop(record, Removal.EVICTED)

    def markStale(self, grace: float) -> None:
        """
        The machine has slept: what was heard before holds only for a while longer, and
        ranks behind what is heard now. Its times may lie in the future, if the clock was
        set back.

        @param grace: seconds.
        """
        latest = self._clock.seconds() + grace
        for record in self._table.records():
            record.stale = True
            record.restarted = None
            self._table.expire_at(record, min(record.expires, latest))
        self._schedule()

    def succeeded(self, node: NodeId, address: Address) -> None:
        """A connection to this address has come about; it is offered first from now on."""
        self._successes.pop((node, address), None)
        self._successes[node, address] = self._clock.seconds()
        if len(self._successes) > _SUCCESSES:
            del self._successes[next(iter(self._successes))]

    # asking

    def candidates(self, node: NodeId) -> tuple[Candidate, ...]:
        """
        Where a node may be reached, best first: where it was reached last, then what
        was announced last. None if nothing is known.
        """
        now = self._clock.seconds()
        best: dict[Address, tuple[tuple[bool, float, float], Candidate]] = {}
        for record in self._table.of(node):
            if record.expires <= now:
                continue
            for address in record.addresses:
                reached = self._successes.get((node, address), _NEVER)
                rank = (record.stale, -reached, -record.seen)
                held = best.get(address)
                if held is None or rank < held[0]:
                    best[address] = (
                        rank,
                        Candidate(
                            address, record.source, now - record.seen, reached != _NEVER
                        ),
                    )
        # Sorting is stable: addresses of one announcement stay in its order.
        return tuple(c for _, c in sorted(best.values(), key=lambda ranked: ranked[0]))

    def snapshot(self) -> list[Node]:
        """All nodes that have an address, sorted by their text."""
        nodes = [self._node(node) for node in self._table]
        return sorted((n for n in nodes if n.candidates), key=lambda n: (n.id.text, n.id.key))

    def lookup(self, node: NodeId, timeout: float) -> Deferred[tuple[Candidate, ...]]:
        """
        Where a node may be reached; waits for its next announcement if nothing is
        known.

        @param timeout: seconds to wait at most.
        @return: fires with at least one candidate, fails with
            L{NodeNotFound<twisted_rudp.errors.NodeNotFound>}. May be cancelled.
        """
        return self._waiting.wait(node, self.candidates(node), timeout)

    def browse(self, browser: INodeBrowser) -> Subscription:
        """Tell C{browser} of all nodes, those known already first, until stopped."""
        return self._browsers.add(browser, self.snapshot())

    def stop(self) -> None:
        """
        Nobody listens any more: nothing stays scheduled, and who waits is told. What was
        heard is forgotten, but for the answers of servers, which are good for as long as
        before.
        """
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._browsers.stop()
        for record in self._table.records():
            if record.source.via != SERVER:
                self._table.remove(record)
        self._waiting.stop()

    def _node(self, node: NodeId) -> Node:
        candidates = self.candidates(node)
        age = min((candidate.age for candidate in candidates), default=0.0)
        return Node(self._table.id_of(node), candidates, age)

    # the end of records

    def _drop(self, record: Record, reason: Removal) -> None:
        self._table.remove(record)
        self._changed(record.id, reason)

    def _changed(self, node: NodeId, reason: Removal | None) -> None:
        self._browsers.changed(node, reason)
        if node in self._waiting:
            self._waiting.found(node, self.candidates(node))

    def _schedule(self) -> None:
        """Wake up at the next record's end, once."""
        moment = self._table.next()
        if moment is None:
            return
        delay = max(0.0, moment - self._clock.seconds())
        if self._sweep is None:
            self._sweep = self._clock.callLater(delay, self._expire)
        elif self._sweep.getTime() > moment:
            self._sweep.reset(delay)

    def _expire(self) -> None:
        self._sweep = None
        for record in self._table.due(self._clock.seconds()):
            self.counters["expired"] += 1
            self._drop(record, Removal.EXPIRED)
        self._schedule()
