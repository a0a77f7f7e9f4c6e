"""
Have the far end of a session listen, and get the connections that it accepts: what C{ssh -R}
does, for an end that cannot be reached from outside (C{mux.md} section 5).

C{ReverseServerEndpoint(ReverseClient(KCPClientEndpoint(reactor, host, 4000)), 8000)} is a server
endpoint as any other. The far end is C{twist rudp reverse --allow-listen}.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.endpoints.mux import Greeting, Side, carrying, dial, secretFrom
from twisted_rudp.endpoints.origins import Accepting, addressOf
from twisted_rudp.endpoints.sessions import CarrierSession, PoolOptions, SessionPool
from twisted_rudp.mux.control import (
    CLIENT_ID_SIZE,
    Listen,
    Listening,
    Message,
    Offer,
    Origin,
    Refused,
    Stop,
)

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds until the far end is asked again after it has refused: the first time, and at most."""

MOST_OFFERS: Final = 16
"""Addresses at one far end."""

LAST_REQUEST: Final = 0xFFFF


class _Offer:
    """
    An address at which the far end is to listen.

    @ivar request: under which it was asked for last.
    @ivar host: where the far end listens; None: it does not.
    """

    def __init__(self, host: str, port: int, factory: IProtocolFactory) -> None:
        self.wanted = (host, port)
        self.factory: Any = factory
        self.request = 0
        self.host: IPv4Address | IPv6Address | None = None
        self.ready: defer.Deferred[Any] | None = None
        self.again: IDelayedCall | None = None
        self.pause = FIRST_PAUSE


class ReverseClient:
    """
    The session over which one far end is asked to listen. It is dialled for the first address
    and again whenever it is lost; then all addresses are asked for again.
    """

    _log = Logger()

    def __init__(
        self, endpoint: Any, *, secret: bytes | None = None, secretFile: str | None = None
    ) -> None:
        """
        @param endpoint: a client endpoint of KCP, QOTP, RakNet or of a node.
        @param secret: which both ends have to know, beside what the transport checks.
        @param secretFile: a file that holds it.
        @raise ValueError: an argument is invalid; names it.
        """
        self._carrier = carrying(endpoint)
        self._side = Side(endpoint, secretFrom(secret, secretFile))
        options = PoolOptions(1, patience=1.0)
        self._pool = SessionPool(self._side.clock, self._dial, options, self._side.chance)
        self._id = self._side.entropy(CLIENT_ID_SIZE)
        self._offers: list[_Offer] = []
        self._greeting: Greeting | None = None
        self._requests = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._carrier!r}>"

    @property
    def carrier(self) -> Any:
        """The endpoint that dials the session."""
        return self._carrier

    @property
    def side(self) -> Side:
        """What all its sessions share."""
        return self._side

    def listen(
        self, host: str, port: int, factory: IProtocolFactory
    ) -> defer.Deferred[IListeningPort]:
        """See L{ReverseServerEndpoint.listen}."""
        if len(self._offers) >= MOST_OFFERS:
            return defer.fail(ValueError(f"reverse: at most {MOST_OFFERS} addresses at a far end"))
        offer = _Offer(host, port, factory)
        self._offers.append(offer)
        offer.ready = defer.Deferred(lambda waiting: self._withdrawn(offer))
        ready = offer.ready
        factory.doStart()
        if self._greeting is not None:
            self._ask(offer)
        else:
            self._pool.hold()
        return ready

    def stop(self, offer: _Offer) -> defer.Deferred[None]:
        """
        The far end is to listen there no more. What was accepted goes on. Without connections
        and addresses the session ends; with connections at L{disconnect}.

        @return: fires when the far end was told, or the session has ended.
        """
        if offer not in self._offers:
            return defer.succeed(None)
        self._offers.remove(offer)
        if offer.again is not None:
            offer.again.cancel()
            offer.again = None
        if self._greeting is not None and offer.request:
            self._greeting.send(Stop(offer.request))
        offer.host = None
        offer.factory.doStop()
        if self._offers:
            return defer.succeed(None)
        self._pool.release()
        if any(session.streams for session in self._pool.sessions):
            return defer.succeed(None)
        return self._pool.disconnect()

    def disconnect(self) -> defer.Deferred[None]:
        """
        End the session in order, unless the far end still listens for this one.

        @return: fires when it has ended.
        """
        return defer.succeed(None) if self._offers else self._pool.disconnect()

    def _withdrawn(self, offer: _Offer) -> None:
        """Nobody waits for the far end to listen."""
        offer.ready = None
        self.stop(offer)

    # the session

    def _dial(self, over: Callable[[CarrierSession, Failure], None]) -> defer.Deferred[Any]:
        return dial(
            self._carrier, self._side, over, None, self._known, self._received, self._ended
        )

    def _known(self, greeting: Greeting) -> None:
        assert greeting.session is not None and greeting.peer is not None
        if not greeting.peer.offer & Offer.LISTENS:
            greeting.fail("the peer does not listen for others: it needs reverse --allow-listen")
            return
        greeting.session.accept(_Streams(self._chosen))
        self._greeting = greeting
        self._requests = 0
        for offer in self._offers:
            offer.pause = FIRST_PAUSE
            self._ask(offer)

    def _ended(self, greeting: Greeting) -> None:
        if self._greeting is not greeting:
            return
        self._greeting = None
        for offer in self._offers:
            offer.request = 0
            if offer.again is not None:
                offer.again.cancel()
                offer.again = None
            if offer.host is not None:
                offer.host = None
                self._log.warn(
                    "{client}: the session is lost; the far end does not listen any more",
                    client=repr(self),
                )

    def _ask(self, offer: _Offer) -> None:
        offer.again = None
        if self._greeting is None:
            return
        if self._requests >= LAST_REQUEST:
            # The numbers of this session are used up. Another one has them all again.
            self._greeting.fail("too many refusals in one session")
            return
        self._requests += 1
        offer.request = self._requests
        host, port = offer.wanted
        self._greeting.send(Listen(offer.request, self._id, port, host))

    def _received(self, greeting: Greeting, message: Message) -> None:
        if not isinstance(message, Listening | Refused):
            greeting.fail(f"{type(message).__name__} is nothing that a server says")
            return
        offer = next((each for each in self._offers if each.request == message.request), None)
        if offer is None or not message.request:
            # The answer to what was withdrawn.
            return
        if isinstance(message, Refused):
            self._refused(offer, message)
        else:
            self._listening(greeting, offer, message)

    def _listening(self, greeting: Greeting, offer: _Offer, message: Listening) -> None:
        host = addressOf(Origin(0, message.port, message.host))
        if host is None:
            greeting.fail("the peer says that it listens on what is no address")
            return
        if offer.host is not None:
            # It was said before.
            return
        offer.host = host
        offer.pause = FIRST_PAUSE
        self._log.info(
            "{client}: the far end listens on {host} port {port}",
            client=repr(self),
            host=host.host,
            port=host.port,
        )
        ready, offer.ready = offer.ready, None
        if ready is not None:
            ready.callback(ReversePort(self, offer))

    def _refused(self, offer: _Offer, message: Refused) -> None:
        offer.host = None
        offer.request = 0
        self._log.error(
            "{client}: the far end does not listen on {host} port {port}: {text}",
            client=repr(self),
            host=offer.wanted[0],
            port=offer.wanted[1],
            text=message.text,
        )
        pause = offer.pause * (0.5 + self._side.chance() / 2)
        offer.pause = min(2 * offer.pause, LONGEST_PAUSE)
        clock = self._side.clock
        offer.again = clock.callLater(pause, self._ask, offer)

    def _chosen(self, origin: Origin) -> IProtocol | None:
        """The protocol for a connection that the far end has accepted."""
        for offer in self._offers:
            if origin.request and offer.request == origin.request:
                protocol: IProtocol | None = offer.factory.buildProtocol(addressOf(origin))
                return protocol
        return None


class _Streams(Factory):
    """Builds the protocols of streams that the far end opens."""

    noisy = False

    def __init__(self, choose: Callable[[Origin], IProtocol | None]) -> None:
        self._choose = choose

    def buildProtocol(self, addr: IAddress | None) -> Accepting:
        return Accepting(self._choose)


@implementer(IListeningPort)
class ReversePort:
    """A port at the far end."""

    def __init__(self, client: ReverseClient, offer: _Offer) -> None:
        self._client = client
        self._offer = offer
        self._host = offer.host

    def startListening(self) -> None:
        """Does nothing: the far end listens already."""

    def stopListening(self) -> defer.Deferred[None]:
        """
        @return: fires when the far end was told.
        """
        return self._client.stop(self._offer)

    def getHost(self) -> IPv4Address | IPv6Address:
        """The address at the far end, now or last."""
        self._host = self._offer.host or self._host
        assert self._host is not None
        return self._host


@implementer(IStreamServerEndpoint)
class ReverseServerEndpoint:
    """Listens at the far end of a session."""

    def __init__(self, client: ReverseClient, port: int, host: str = "127.0.0.1") -> None:
        """
        @param client: the session. Several endpoints may share it.
        @param port: TCP port at the far end; 0: any that it allows.
        @param host: IP address at the far end.
        @raise ValueError: an argument is invalid; names it.
        """
        if not isinstance(port, int) or not 0 <= port <= 65_535:
            raise ValueError(f"port={port!r} is invalid: expected an integer from 0 to 65535")
        try:
            self._host = str(ip_address(host))
        except ValueError:
            raise ValueError(f"host={host!r} is invalid: expected an IP address") from None
        self._port = port
        self._client = client

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._host}:{self._port} {self._client!r}>"

    @property
    def client(self) -> ReverseClient:
        """The session."""
        return self._client

    def listen(self, factory: IProtocolFactory) -> defer.Deferred[IListeningPort]:
        """
        Have the far end listen, now and again whenever the session was lost.

        @return: fires with the port when it listens for the first time. A far end that cannot be
            reached or refuses is asked again until this is cancelled; the log says why.
        """
        return self._client.listen(self._host, self._port, factory)
