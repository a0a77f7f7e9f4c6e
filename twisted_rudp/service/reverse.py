"""
C{twist rudp reverse}: listen for clients behind NATs, and offer a service there (C{mux.md}
section 5).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    clientFromString,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger, LogLevel
from twisted.python import usage
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.core.lifecycle import Role
from twisted_rudp.endpoints.base import ServerEndpoint
from twisted_rudp.endpoints.mux import Greeting, Side, carrying, secretFrom
from twisted_rudp.endpoints.origins import OpeningFactory
from twisted_rudp.endpoints.qotp import QOTPServerEndpoint, publicKeyOf
from twisted_rudp.endpoints.reverse import MOST_OFFERS, ReverseClient, ReverseServerEndpoint
from twisted_rudp.endpoints.sessions import CarrierFactory, CarrierSession, RefusingFactory
from twisted_rudp.mux.control import Listen, Listening, Message, Offer, Refusal, Refused, Stop
from twisted_rudp.net.ratelog import RateLimitedLog
from twisted_rudp.service.announce import theReactor
from twisted_rudp.service.connectionlog import addressText
from twisted_rudp.service.forward import ForwardFactory, ForwardService
from twisted_rudp.service.listening import ListeningService, Sessions, Tally
from twisted_rudp.service.places import placeOf
from twisted_rudp.service.usage import RETIRE, ServiceOptions, count, endpoint, redacted, seconds

MOST_REQUESTS: Final = 10_000
"""Requests to listen in one session. Who asks more often has to dial another one."""

_ALLOWED: Final = re.compile(
    r"(?:(?P<key>[0-9a-fA-F]{64})@)?tcp:(?P<host>[0-9a-fA-F.:%]+|\[[0-9a-fA-F.:%]+\])"
    r":(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?",
    re.ASCII,
)

Bind = Callable[[str, int], IStreamServerEndpoint]
"""Makes the endpoint for a TCP address that a client has asked for."""


class Allowed(NamedTuple):
    """
    Addresses that may be asked for.

    @ivar key: the client that may; None: each that may connect.
    """

    key: bytes | None
    host: str
    first: int
    last: int


def allowed(text: str) -> Allowed:
    """
    C{tcp:ADDRESS:PORT}, C{tcp:ADDRESS:PORT-PORT}, or the same behind C{KEY@}.

    @raise ValueError: it is neither.
    """
    found = _ALLOWED.fullmatch(text)
    if found is not None:
        first, last = int(found["first"]), int(found["last"] or found["first"])
        try:
            host = str(ip_address(found["host"].strip("[]")))
        except ValueError:
            host = ""
        if host and 1 <= first <= last <= 65_535:
            return Allowed(publicKeyOf(found["key"]), host, first, last)
    raise ValueError(
        f"{text!r} is none of tcp:ADDRESS:PORT, tcp:ADDRESS:PORT-PORT and the same behind KEY@"
    )


def candidates(
    rules: Sequence[Allowed], key: bytes | None, host: str, port: int
) -> list[int]:
    """
    The ports on which a client may have this end listen.

    @param key: of the client, if it has proved one.
    @param port: the one that it asks for; 0: any.
    """
    try:
        host = str(ip_address(host))
    except ValueError:
        return []
    return [
        each
        for rule in rules
        if rule.host == host and (rule.key is None or rule.key == key)
        for each in ([port] if port else range(rule.first, rule.last + 1))
        if rule.first <= each <= rule.last
    ]


@implementer(IStreamClientEndpoint)
class _StreamEndpoint:
    """Opens streams towards the client that has asked for a listening."""

    def __init__(self, session: CarrierSession, request: int) -> None:
        self._session = session
        self._request = request

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """Open a stream at once."""
        opened = maybeDeferred(
            self._session.openStream, OpeningFactory(factory, self._request)
        )
        return opened.addCallback(lambda opening: opening.protocol)


class _Held:
    """
    An address that is listened on for a client.

    @ivar client: the id of that client.
    @ivar port: None while it is being bound.
    """

    def __init__(self, greeting: Greeting, request: Listen) -> None:
        self.greeting = greeting
        self.request = request.request
        self.client = request.client
        self.address: tuple[str, int] | None = None
        self.port: IListeningPort | None = None
        self.factory: ForwardFactory | None = None
        self.over = False


class ReverseService(ListeningService):
    """Accepts sessions and listens for their clients on addresses that are allowed."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        description: str,
        near: ServerEndpoint,
        rules: Sequence[Allowed],
        *,
        limit: int,
        drain: float,
        secret: bytes | None = None,
        bind: Bind | None = None,
    ) -> None:
        """
        @param near: where clients come to.
        @param rules: what they may ask for.
        @param limit: connections at one time, on all addresses together.
        @param drain: seconds for open connections to end when the service stops.
        @param secret: which clients have to know.
        @param bind: None: TCP of the reactor.
        """
        self._clock = clock
        self._rules = rules
        self._side = Side(near, secret)
        self._bind = _tcp if bind is None else bind
        self._held: dict[Greeting, list[_Held]] = {}
        self._asked: dict[Greeting, int] = {}
        self._relays = Sessions(clock, limit)
        self._limited = RateLimitedLog(clock, self._log)
        tally = Tally("listenings", "not_allowed", "connections", "refused", "unreachable",
                      "broken", "forth", "back")  # fmt: skip
        self._side.ended = tally.absorb
        # A client proves its key where the endpoint has a list of them.
        self._keyed = isinstance(near, QOTPServerEndpoint) and near.allowedKeys is not None
        super().__init__(
            description, carrying(near), CarrierFactory(self._make), self._relays, tally, drain
        )
        self.endings.append(self._endSessions)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """On what it listens for clients now."""
        every = [each for several in self._held.values() for each in several]
        return [each.address for each in every if each.port is not None and each.address]

    def stopService(self) -> Deferred[None]:
        """
        @return: fires when nothing is listened on and no connection and session is left.
        """
        for several in self._held.values():
            for each in several:
                self._close(each)
        return super().stopService()

    def _endSessions(self) -> Deferred[None]:
        for greeting in list(self._held):
            _sessionOf(greeting).close()
        return succeed(None)

    # sessions

    def _make(self) -> CarrierSession:
        greeting = Greeting(
            Role.SERVER,
            self._side.offer(Offer.LISTENS),
            self._side,
            self._known,
            self._received,
            self._ended,
        )
        return CarrierSession(
            RefusingFactory(), lambda session, reason: self._side.over(session), greeting
        )

    def _known(self, greeting: Greeting) -> None:
        self._held[greeting] = []
        self._asked[greeting] = 0

    def _ended(self, greeting: Greeting) -> None:
        self._asked.pop(greeting, None)
        for each in self._held.pop(greeting, ()):
            self._close(each)

    def _received(self, greeting: Greeting, message: Message) -> None:
        if isinstance(message, Listen):
            self._listenFor(greeting, message)
        elif isinstance(message, Stop):
            for each in self._held[greeting]:
                if each.request == message.request:
                    self._held[greeting].remove(each)
                    self._close(each)
                    return
        else:
            greeting.fail(f"{type(message).__name__} is nothing that a client says")

    def _listenFor(self, greeting: Greeting, message: Listen) -> None:
        self._asked[greeting] += 1
        own = self._held[greeting]
        if self._asked[greeting] > MOST_REQUESTS:
            greeting.fail("too many requests to listen in one session")
        elif not message.request or any(each.request == message.request for each in own):
            greeting.fail(f"request {message.request} is in use")
        elif len(own) >= MOST_OFFERS:
            self._refuse(greeting, message, Refusal.LIMIT, "too many addresses in one session")
        else:
            ports = candidates(self._rules, self._keyOf(greeting), message.host, message.port)
            if not ports:
                self.tally.add("not_allowed")
                text = f"{message.host} port {message.port} is not allowed"
                self._refuse(greeting, message, Refusal.NOT_ALLOWED, text)
                return
            held = _Held(greeting, message)
            own.append(held)
            Deferred.fromCoroutine(self._open(held, message, ports)).addErrback(self._broken)

    async def _open(self, held: _Held, message: Listen, ports: Sequence[int]) -> None:
        """Bind the first of these ports that is free, or was this client's own."""
        host = str(ip_address(message.host))
        problem = "in use"
        for port in ports:
            await self._takeOver(held, (host, port))
            if held.over:
                return
            factory = ForwardFactory(
                self._clock,
                f"{self.description}: {host}:{port}",
                _StreamEndpoint(_sessionOf(held.greeting), held.request),
                self._relays,
            )
            try:
                bound = await self._bind(host, port).listen(factory)
            except CannotListenError as error:
                problem = str(getattr(error.socketError, "strerror", None) or error.socketError)
                continue
            if held.over:
                # The session ended meanwhile.
                await maybeDeferred(bound.stopListening)
                return
            held.port, held.factory, held.address = bound, factory, (host, port)
            self.tally.add("listenings")
            self._limited.note(
                f"listening {host} {port}",
                "{description}: listening on {host} port {port} for {peer}",
                LogLevel.info,
                description=self.description,
                host=host,
                port=port,
                peer=_peerOf(held.greeting),
            )
            held.greeting.send(Listening(held.request, port, host))
            return
        if held in self._held.get(held.greeting, ()):
            self._held[held.greeting].remove(held)
            self._refuse(held.greeting, message, Refusal.IN_USE, problem)

    async def _takeOver(self, held: _Held, address: tuple[str, int]) -> None:
        """A lost session of the same client may still have the address."""
        for greeting, several in list(self._held.items()):
            for each in list(several):
                if (
                    each.address == address
                    and each.client == held.client
                    and greeting is not held.greeting
                ):
                    several.remove(each)
                    _sessionOf(greeting).abort()
                    await self._close(each)

    def _refuse(self, greeting: Greeting, message: Listen, reason: Refusal, text: str) -> None:
        self._limited.note(
            f"refused {reason.name}",
            "{description}: {peer} asked for {host} port {port}: {reason}",
            description=self.description,
            peer=_peerOf(greeting),
            host=message.host,
            port=message.port,
            reason=text,
        )
        greeting.send(Refused(message.request, reason, text))

    def _keyOf(self, greeting: Greeting) -> bytes | None:
        if not self._keyed:
            return None
        carrier = _sessionOf(greeting).carrier
        return publicKeyOf(carrier.facts()["peer_key"])

    def _close(self, held: _Held) -> Deferred[Any]:
        """Listen there no more. Its connections end with their streams."""
        if held.over:
            return succeed(None)
        held.over = True
        port, held.port = held.port, None
        if port is None:
            return succeed(None)
        host, port_number = held.address or ("", 0)
        self._limited.note(
            f"not listening {host} {port_number}",
            "{description}: not listening on {host} port {port} any more",
            LogLevel.info,
            description=self.description,
            host=host,
            port=port_number,
        )
        if held.factory is not None:
            of = held.factory.tally
            counts = self.tally.counts
            counts.update(of.counts)
        stopped: Deferred[Any] = maybeDeferred(port.stopListening)
        return stopped

    def _broken(self, failure: Failure) -> None:
        self._log.failure("{description}: cannot listen", failure, description=self.description)


def _sessionOf(greeting: Greeting) -> CarrierSession:
    assert greeting.session is not None
    return greeting.session


def _peerOf(greeting: Greeting) -> str:
    carrier = _sessionOf(greeting).carrier
    return addressText(carrier.getPeer())


def _tcp(host: str, port: int) -> IStreamServerEndpoint:
    kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
    made: IStreamServerEndpoint = kind(theReactor(), port, interface=host)
    return made


class ReverseOptions(ServiceOptions):
    """C{twist rudp reverse}."""

    synopsis = (
        "[options] --listen ENDPOINT --allow-listen RULE [--allow-listen RULE ...]\n"
        "       or: [options] --via ENDPOINT --offer tcp:ADDRESS:PORT --to ENDPOINT ..."
    )
    longdesc = (
        "Offer a service that cannot be reached from outside. The server accepts sessions of"
        " clients and listens for them; each client has connections relayed to its service."
    )
    examples = """
On a server with a public address, which listens on ports 8000 to 8010 for its clients:

  twist rudp reverse --listen kcp:4000:keyFile=k --allow-listen tcp:0.0.0.0:8000-8010

Behind a NAT, next to a web server:

  twist rudp reverse --via kcp:host=example.org:port=4000:keyFile=k \\
      --offer tcp:0.0.0.0:8000 --to tcp:127.0.0.1:80
"""
    optParameters = [
        ["listen", None, None, "Endpoint to accept clients on: kcp:, qotp: or raknet:."],
        ["via", None, None, "Endpoint of the server: kcp:, qotp:, raknet: or node:."],
        ["secret-file", None, None, "File with a secret that both ends know."],
        ["drain", None, 5.0, "Seconds for connections to end when stopping.", seconds],
        RETIRE,
        ["max-connections", None, 4096, "Connections at one time.", count],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.rules: list[Allowed] = []
        self.offers: list[tuple[str, int]] = []
        self.to: list[str] = []

    def opt_allow_listen(self, text: str) -> None:
        """What clients may ask for: tcp:ADDRESS:PORT[-PORT], or KEY@ before it."""
        try:
            self.rules.append(allowed(text))
        except ValueError as problem:
            raise usage.UsageError(f"--allow-listen: {problem}") from None

    def opt_offer(self, text: str) -> None:
        """Where the server is to listen: tcp:ADDRESS:PORT. With port 0, any it allows."""
        try:
            rule = allowed(text.removesuffix(":0") + ":1" if text.endswith(":0") else text)
            if rule.key is not None or rule.first != rule.last:
                raise ValueError(f"{text!r} is not tcp:ADDRESS:PORT")
        except ValueError as problem:
            raise usage.UsageError(f"--offer: {problem}") from None
        self.offers.append((rule.host, 0 if text.endswith(":0") else rule.first))

    def opt_to(self, description: str) -> None:
        """Endpoint of the service that is offered, such as tcp:127.0.0.1:80."""
        self.to.append(description)

    def postOptions(self) -> None:
        """
        Make the services.

        @raise usage.UsageError: options do not go together, or one is invalid.
        """
        if (self["listen"] is None) == (self["via"] is None):
            raise usage.UsageError("expected --listen, for a server, or --via, for a client")
        try:
            if self["via"] is None:
                self._server(self["listen"])
            else:
                self._client(self["via"])
        except ValueError as problem:
            raise usage.UsageError(str(problem)) from None

    def _server(self, listen: str) -> None:
        if self.offers or self.to:
            raise usage.UsageError("--offer and --to belong to --via")
        if not self.rules:
            raise usage.UsageError("--allow-listen is missing: nothing may be asked for")
        near = endpoint("listen", serverFromString, listen)
        secret = secretFrom(None, self["secret-file"])
        if secret is None and not getattr(near, "authenticates", False):
            raise usage.UsageError(
                "anybody could have this machine listen: give --secret-file, a key to kcp:, or"
                " allowedKeys to qotp:"
            )
        keyed = isinstance(near, QOTPServerEndpoint) and near.allowedKeys is not None
        if any(rule.key is not None for rule in self.rules) and not keyed:
            raise usage.UsageError("--allow-listen KEY@ needs qotp: with allowedKeys")
        service = ReverseService(
            theReactor(),
            f"reverse {redacted(listen)}",
            near,
            self.rules,
            limit=self["max-connections"],
            drain=self["drain"],
            secret=secret,
        )
        service.place = placeOf(listen)
        service.patience = self["retire"]
        self.services.append(service)

    def _client(self, via: str) -> None:
        if self.rules:
            raise usage.UsageError("--allow-listen belongs to --listen")
        if not self.offers or len(self.offers) != len(self.to):
            raise usage.UsageError(
                f"{len(self.offers)} --offer but {len(self.to)} --to: give one --to for each"
                " --offer"
            )
        client = ReverseClient(
            endpoint("via", clientFromString, via), secretFile=self["secret-file"]
        )
        for (host, port), far in zip(self.offers, self.to, strict=True):
            service = ForwardService(
                theReactor(),
                f"reverse {redacted(via)} {host}:{port} -> {redacted(far)}",
                ReverseServerEndpoint(client, port, host),
                endpoint("to", clientFromString, far),
                limit=self["max-connections"],
                drain=self["drain"],
            )
            service.patience = self["retire"]
            self.services.append(service)
