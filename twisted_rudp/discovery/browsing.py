"""Telling applications which nodes come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.nodes import Node, Removal
from twisted_rudp.discovery.urls import Address
from twisted_rudp.interfaces import INodeBrowser
from twisted_rudp.net.fence import callApplication


class Browsing:
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
            callApplication(self._browser.nodeAdded, node)
        elif now:
            callApplication(self._browser.nodeUpdated, node)
        else:
            callApplication(self._browser.nodeRemoved, node.id, reason)


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
        self._browsings: list[Browsing] = []
        self._changes: dict[NodeId, Removal] = {}
        self._call: IDelayedCall | None = None

    def add(self, browser: INodeBrowser, known: Iterable[Node]) -> Browsing:
        """
        @param known: the nodes it is told of first.
        """
        browsing = Browsing(self, browser)
        self._browsings.append(browsing)
        for node in known:
            self.changed(node.id, None)
        return browsing

    def remove(self, browsing: Browsing) -> None:
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
