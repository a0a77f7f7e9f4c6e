"""Lookups that wait for an announcement."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.nodes import Candidate
from twisted_rudp.errors import NodeNotFound

Candidates = tuple[Candidate, ...]


class Waiting:
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
