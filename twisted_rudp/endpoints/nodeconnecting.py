"""One attempt to connect to a node: look it up, and race its addresses."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from twisted.internet import error
from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol, IProtocolFactory
from twisted.python.failure import Failure

from twisted_rudp.discovery.asking import Addresses, Server
from twisted_rudp.discovery.service import Candidates, Discovery
from twisted_rudp.discovery.urls import Address
from twisted_rudp.errors import NodeNotFound
from twisted_rudp.net.fence import outcomeOf

if TYPE_CHECKING:
    from twisted_rudp.endpoints.node import NodeClientEndpoint

ATTEMPT_DELAY = 0.3
"""Seconds until the next address is tried as well."""

MOST_ATTEMPTS = 32
"""Addresses tried in one connect, whatever was announced."""


class State(Enum):
    """How far an attempt is."""

    LOOKING = auto()
    """No address is known."""

    DIALLING = auto()
    """Addresses are being dialled."""

    ASKING = auto()
    """All have failed; the server may know another."""

    DONE = auto()
    """The Deferred has fired or is firing."""


class Connecting:
    """
    One call of C{connect}.

    @ivar deferred: what the caller waits for.
    """

    def __init__(
        self,
        reactor: Any,
        discovery: Discovery,
        endpoint: NodeClientEndpoint,
        factory: IProtocolFactory,
        server: Server | None,
    ) -> None:
        self.deferred: Deferred[IProtocol] = Deferred(self._cancelled)
        self._reactor = reactor
        self._discovery = discovery
        self._endpoint = endpoint
        self._factory = factory
        self._server = server
        self._state = State.LOOKING
        self._tried: set[Address] = set()
        self._waiting: deque[Address] = deque()
        self._attempts: list[Deferred[IProtocol]] = []
        self._looking: Deferred[Any] | None = None
        self._delay: IDelayedCall | None = None
        self._lease = discovery.listen(endpoint.profiles)
        self._end = reactor.seconds() + endpoint.timeout
        self._call: IDelayedCall = reactor.callLater(endpoint.timeout, self._timedOut)

    def start(self) -> None:
        """Begin with the registry."""
        # Longer than ours, so that the end is decided in one place.
        patience = self._endpoint.timeout + 1
        looking = self._discovery.lookup(
            self._endpoint.id, patience, self._endpoint.profiles, self._server
        )
        self._looking = looking
        looking.addCallbacks(self._found, self._fail)

    def _found(self, candidates: Candidates) -> None:
        self._looking = None
        self._race([candidate.address for candidate in candidates])

    def _race(self, addresses: Sequence[Address]) -> None:
        if not self._enter(addresses):
            shown = ", ".join(sorted({address.scheme for address in addresses}))
            ours = ", ".join(self._endpoint.transports)
            self._exhausted(
                _failure(NodeNotFound(f"the node is announced for {shown}, not for {ours}"))
            )
            return
        self._state = State.DIALLING
        self._dialNext()

    def _enter(self, addresses: Sequence[Address]) -> bool:
        """
        Line up what was not tried yet.

        @return: whether there is anything to dial now.
        """
        new = [a for a in self._endpoint.dialled(addresses) if a not in self._tried]
        new = new[: MOST_ATTEMPTS - len(self._tried)]
        self._tried.update(new)
        self._waiting.extend(new)
        return bool(self._waiting)

    def _listenOn(self) -> bool:
        """
        Line up what has been announced since: the announcement that was waited for may
        be the first of several, by other ways.

        @return: whether there is anything to dial now.
        """
        candidates = self._discovery.registry.candidates(self._endpoint.id)
        return self._enter([candidate.address for candidate in candidates])

    def _dialNext(self) -> None:
        """
        Dial one more address, if there is one; the next after a while or when this one
        has failed.
        """
        self._stopDelay()
        self._delay = self._reactor.callLater(ATTEMPT_DELAY, self._dialNext)
        if not self._listenOn():
            return
        address = self._waiting.popleft()
        left = max(0.001, self._end - self._reactor.seconds())
        endpoint = outcomeOf(self._endpoint.endpointFor, address, left)
        if isinstance(endpoint, Failure):
            self._fail(endpoint)
            return
        attempt: Deferred[IProtocol] = endpoint.connect(self._factory)
        self._attempts.append(attempt)
        attempt.addCallbacks(
            self._connected,
            self._failed,
            callbackArgs=(attempt, address),
            errbackArgs=(attempt,),
        )

    def _connected(
        self, protocol: IProtocol, winner: Deferred[IProtocol], address: Address
    ) -> None:
        self._discovery.registry.succeeded(self._endpoint.id, address)
        self._attempts.remove(winner)
        self._finish()
        self.deferred.callback(protocol)

    def _failed(self, failure: Failure, attempt: Deferred[IProtocol]) -> None:
        if attempt in self._attempts:
            self._attempts.remove(attempt)
        if self._state is not State.DIALLING:
            return
        if self._waiting or self._listenOn():
            self._dialNext()
        elif not self._attempts:
            self._exhausted(failure)

    def _exhausted(self, failure: Failure) -> None:
        """
        Nothing of what is known leads there. The server is asked, once, unless it was
        the one who said so.
        """
        self._stopDelay()
        server, self._server = self._server, None
        if server is None:
            self._fail(failure)
            return
        self._state = State.ASKING
        asking = self._discovery.ask(self._endpoint.id, server)
        self._looking = asking

        def answered(addresses: Addresses) -> None:
            self._looking = None
            if all(new in self._tried for new in self._endpoint.dialled(addresses)):
                self._fail(failure)
            else:
                self._race(addresses)

        asking.addCallbacks(answered, lambda missed: self._fail(failure))

    # the end

    def _timedOut(self) -> None:
        id = self._endpoint.id.text
        problem: Exception
        if self._tried:
            problem = error.TimeoutError(  # type: ignore[no-untyped-call]
                string=f"no answer from the node {id}"
            )
        else:
            problem = NodeNotFound(f"nobody has announced the node {id}")
        self._fail(_failure(problem))

    def _fail(self, failure: Failure) -> None:
        if self._state is State.DONE:
            return
        self._finish()
        self.deferred.errback(failure)

    def _cancelled(self, deferred: Deferred[IProtocol]) -> None:
        self._finish()
        address = HostnameAddress(self._endpoint.id.text.encode("utf-8"), 0)
        deferred.errback(error.ConnectingCancelledError(address))  # type: ignore[no-untyped-call]

    def _finish(self) -> None:
        """Let go of everything but what has been connected."""
        self._state = State.DONE
        self._stopDelay()
        if self._call.active():
            self._call.cancel()
        self._waiting.clear()
        attempts, self._attempts = self._attempts, []
        looking, self._looking = self._looking, None
        for attempt in attempts:
            attempt.cancel()
        if looking is not None:
            looking.cancel()
        self._lease.release()

    def _stopDelay(self) -> None:
        delay, self._delay = self._delay, None
        if delay is not None and delay.active():
            delay.cancel()


def _failure(problem: Exception) -> Failure:
    return Failure(problem)  # type: ignore[no-untyped-call]
