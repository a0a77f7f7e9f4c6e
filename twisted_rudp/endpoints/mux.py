"""
Many connections over few sessions, between two ends of twisted_rudp (C{mux.md}).

C{MuxClientEndpoint(KCPClientEndpoint(reactor, host, 4000))} dials one session and opens a
stream on it for each C{connect}: a new connection costs no round trip.
C{MuxServerEndpoint(KCPServerEndpoint(reactor, 4000))} is the other end. QOTP has streams of its
own; KCP and RakNet carry smux in their stream.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from enum import Enum, auto
from hmac import compare_digest
from pathlib import Path
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.core.engine import SECOND, Engine
from twisted_rudp.core.lifecycle import Role
from twisted_rudp.core.settings import FileName, Integer, Option, Seconds
from twisted_rudp.endpoints.base import Layer, ServerEndpoint
from twisted_rudp.endpoints.origins import AcceptingFactory, OpeningFactory
from twisted_rudp.endpoints.qotp import exportKey
from twisted_rudp.endpoints.sessions import (
    CarrierFactory,
    CarrierSession,
    PoolOptions,
    RefusingFactory,
    SessionPool,
)
from twisted_rudp.errors import PeerBrokeProtocol, PeerReset
from twisted_rudp.interfaces import IRUDPTransport
from twisted_rudp.mux import control
from twisted_rudp.mux.control import (
    ControlError,
    ControlReader,
    Message,
    Offer,
    Preface,
    Proof,
    Refusal,
    Refused,
)
from twisted_rudp.mux.layer import Wrap
from twisted_rudp.mux.smux import SmuxEngine, SmuxSettings, WindowBudget
from twisted_rudp.net.handover import Predecessor
from twisted_rudp.net.ratelog import RateLimitedLog

PREFACE_TIMEOUT: Final = 10.0
"""Seconds for the peer to say that it multiplexes, and to prove the secret."""

SOCKET_WINDOWS: Final = 256 << 20
"""Bytes that the streams of all sessions of a socket may hold unread."""

LEAST_SECRET: Final = 16
"""Bytes of a secret: a shorter one could be guessed from a recording."""

GREETING_REACH: Final = 8
"""So far from the beginning the preface may be: behind the header of a frame of smux."""

PROOF_LABEL: Final = b"rudpmux"

_SETTINGS: Final = SmuxSettings(
    frame_size=8192,
    receive_buffer=64 << 20,
    stream_buffer=4 << 20,
    keepalive=15 * SECOND,
    timeout=60 * SECOND,
    extended=True,
)

IDLE_CHECK: Final = 1.0
"""How often a session that is to end is asked whether it has streams."""

BOTH_ENDS: Final = "give --mux, or mux:, at both ends"


def layer() -> Layer:
    """What makes the sessions of one endpoint carry streams."""
    budget = WindowBudget(SOCKET_WINDOWS)

    def of(role: Role) -> Wrap:
        def wrap(inner: Engine, now: int) -> SmuxEngine:
            return SmuxEngine(inner, role, _SETTINGS, now, budget=budget)

        return wrap

    return of


def multiplexes(transport: Any, data: bytes) -> bool:
    """
    Whether the first bytes of a connection of ours are those of a peer that multiplexes, which
    this end does not.
    """
    if not IRUDPTransport.providedBy(transport):
        return False
    stream: int = getattr(transport, "stream", 0)
    if stream:
        return False
    return control.MAGIC in data[: GREETING_REACH + len(control.MAGIC)]


def carrying(endpoint: Any) -> Any:
    """
    An endpoint of ours with sessions that carry streams.

    @raise ValueError: it is of another kind, or carries streams already.
    """
    if not hasattr(endpoint, "carryingStreams"):
        raise ValueError(
            f"mux: {type(endpoint).__name__} is invalid: expected kcp:, qotp:, raknet: or node:"
        )
    return endpoint.carryingStreams(layer())


def secretFrom(secret: bytes | None, secretFile: str | None) -> bytes | None:
    """
    A secret, of which at most one source is given.

    @raise ValueError: both are given, or the file holds none; repeats no secret.
    """
    if secretFile is not None:
        if secret is not None:
            raise ValueError("secret and secretFile: give one of them")
        try:
            secret = Path(secretFile).read_bytes().rstrip(b"\r\n")
        except OSError as problem:
            raise ValueError(f"secretFile={secretFile!r}: {problem.strerror}") from None
    if secret is not None and len(secret) < LEAST_SECRET:
        raise ValueError(f"secret: expected at least {LEAST_SECRET} bytes")
    return secret


class _State(Enum):
    """How far the two ends know each other."""

    PREFACE = auto()
    PROOF = auto()
    KNOWN = auto()
    OVER = auto()


class Greeting:
    """
    The control stream of one session: prefaces, proofs of the secret, and then messages.

    @ivar session: of which this is the control stream, once it has begun.
    @ivar peer: the preface of the peer, once it has come.
    """

    def __init__(
        self,
        role: Role,
        offer: Offer,
        side: Side,
        known: Callable[[Greeting], None],
        received: Callable[[Greeting, Message], None] | None = None,
        ended: Callable[[Greeting], None] | None = None,
    ) -> None:
        """
        @param offer: what this end says of itself.
        @param known: called when both ends know each other.
        @param received: is given each message after that; None: the peer must send none.
        @param ended: called at the end of the session.
        """
        self._role = role
        self._side = side
        self._known = known
        self._received = received
        self._ended = ended
        self._reader = ControlReader()
        self._state = _State.PREFACE
        self._timer: IDelayedCall | None = None
        self._own = control.pack_preface(offer, side.entropy(control.NONCE_SIZE))
        self._wants = bool(offer & Offer.SECRET)
        self.session: CarrierSession | None = None
        self.peer: Preface | None = None

    # called by the session

    @property
    def proved(self) -> bool:
        """Both ends know each other, or did."""
        return self.peer is not None and self._state in (_State.KNOWN, _State.OVER)

    def begin(self, session: CarrierSession) -> None:
        """The session is there."""
        self.session = session
        clock = self._side.clock
        self._timer = clock.callLater(PREFACE_TIMEOUT, self._silent)
        if self._role is Role.CLIENT:
            session.say(self._own)

    def received(self, data: bytes) -> None:
        """Bytes of the control stream."""
        try:
            for item in self._reader.feed(data):
                if self._state is _State.OVER:
                    return
                self._one(item)
        except ControlError as problem:
            hint = f": {BOTH_ENDS}" if isinstance(problem, control.NotMultiplexed) else ""
            self.fail(f"{problem}{hint}")

    def ended(self, reason: Failure) -> None:
        """The session is over."""
        before, self._state = self._state, _State.OVER
        self._stopTimer()
        if self.session is not None and self.session.closing:
            # This end closed the session and does not wait for an answer.
            pass
        elif before is _State.PREFACE and self._role is Role.CLIENT:
            problem = f"no multiplexer answered ({_text(reason)})"
            # Others do not come from the peer: a path, or a peer, that is not there.
            said = isinstance(reason.value, (ConnectionDone, PeerReset, PeerBrokeProtocol))
            self._side.complain(self, f"{problem}: {BOTH_ENDS}" if said else problem)
        elif before is _State.PREFACE and isinstance(reason.value, PeerBrokeProtocol):
            self._side.complain(self, f"{_text(reason)}: {BOTH_ENDS}")
        elif before is _State.PROOF:
            self._side.complain(self, f"no proof of the secret came ({_text(reason)})")
        if self._ended is not None:
            self._ended(self)

    def send(self, message: Message) -> None:
        """Send a message, while the session lasts."""
        if self.session is not None and self._state is not _State.OVER:
            self.session.say(control.pack_message(message))

    def fail(self, problem: str) -> None:
        """The peer broke the protocol: log the problem, and end the session."""
        if self._state is _State.OVER:
            return
        self._state = _State.OVER
        self._stopTimer()
        self._side.complain(self, problem)
        if self.session is None:
            return
        if self._role is Role.SERVER and self.peer is not None:
            # An orderly close delivers what was sent before, which tells the peer the reason.
            self.session.close()
        else:
            self.session.abort()
        self.peer = None

    # internals

    def _one(self, item: Preface | Message) -> None:
        if isinstance(item, Preface):
            self._greeted(item)
        elif self._state is _State.KNOWN and self._received is not None:
            self._received(self, item)
        elif self._state is _State.PROOF and isinstance(item, Proof):
            self._judge(item)
        elif isinstance(item, Refused) and not item.request:
            self.fail(f"the peer refused: {item.text}")
        else:
            raise ControlError(f"{type(item).__name__} at the wrong time")

    def _greeted(self, preface: Preface) -> None:
        self.peer = preface
        if self._role is Role.SERVER and self.session is not None:
            self.session.say(self._own)
        theirs = bool(preface.offer & Offer.SECRET)
        if theirs and not self._wants and self._role is Role.CLIENT:
            self.fail("the peer wants a secret: give --secret-file")
        elif self._wants and not theirs:
            self.fail("the peer has no secret: give --secret-file at both ends")
        elif self._wants:
            self._state = _State.PROOF
            if self._role is Role.CLIENT:
                self.send(self._proof(Role.CLIENT))
        else:
            self._agreed()

    def _judge(self, given: Proof) -> None:
        other = Role.SERVER if self._role is Role.CLIENT else Role.CLIENT
        if not compare_digest(given.mac, self._proof(other).mac):
            problem = "the peer has another secret"
            self.send(Refused(0, Refusal.SECRET, problem))
            self.fail(problem)
            return
        if self._role is Role.SERVER:
            self.send(self._proof(Role.SERVER))
        self._agreed()

    def _proof(self, role: Role) -> Proof:
        client, server = self._own, self._reader.preface
        if self._role is Role.SERVER:
            client, server = server, client
        session = self.session
        assert session is not None
        secret = self._side.secret or b""
        binding = _binding(session.carrier)
        return Proof(control.proof(secret, role, client, server, binding))

    def _agreed(self) -> None:
        self._state = _State.KNOWN
        self._stopTimer()
        self._known(self)

    def _silent(self) -> None:
        self._timer = None
        if self.session is not None and self.session.closing:
            # Nothing is read any more; what was written is still being delivered.
            return
        if self._state is not _State.PREFACE:
            self.fail("no proof of the secret came in time")
        elif self.session is not None and not self.session.acknowledged:
            self.fail(f"nothing was acknowledged for {PREFACE_TIMEOUT:.0f} seconds")
        else:
            self.fail(f"the peer does not say that it multiplexes: {BOTH_ENDS}")

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


def _binding(transport: Any) -> bytes:
    """What only the two ends of a session know; empty where the transport has no such thing."""
    try:
        return exportKey(transport, PROOF_LABEL)
    except TypeError:
        return b""


def _text(reason: Failure) -> str:
    text: str = reason.getErrorMessage()
    return text.rstrip(".")


class Side:
    """
    What all sessions of one endpoint share.

    @ivar clock: the reactor.
    @ivar secret: which the peer has to know, and this end.
    @ivar ended: called with the transport of each session at its end, if set.
    """

    _log = Logger()

    def __init__(self, endpoint: Any, secret: bytes | None) -> None:
        self.clock: Any = endpoint.reactor
        self.entropy: Callable[[int], bytes] = getattr(self.clock, "entropy", os.urandom)
        self.secret = secret
        self.ended: Callable[[Any], None] | None = None
        self._endpoint = endpoint
        self._limited = RateLimitedLog(self.clock, self._log)

    def chance(self) -> float:
        """A random number from 0 to 1."""
        return int.from_bytes(self.entropy(4), "big") / 0xFFFFFFFF

    def offer(self, offer: Offer) -> Offer:
        """What this end says of itself, with whether there is a secret."""
        return offer if self.secret is None else offer | Offer.SECRET

    def complain(self, greeting: Greeting, problem: str) -> None:
        """Log what is wrong with a peer, in one line, and not each time."""
        session = greeting.session
        peer = None if session is None else session.carrier.getPeer()
        self._limited.note(
            problem,
            "{endpoint}: {host}:{port}: {problem}",
            LogLevel.error,
            endpoint=repr(self._endpoint),
            host=getattr(peer, "host", "?"),
            port=getattr(peer, "port", "?"),
            problem=problem,
        )

    def over(self, session: CarrierSession) -> None:
        """A session has ended."""
        if self.ended is not None:
            self.ended(session.carrier)


def dial(
    carrier: Any,
    side: Side,
    over: Callable[[CarrierSession, Failure], None],
    streams: IProtocolFactory | None,
    known: Callable[[Greeting], None] | None = None,
    received: Callable[[Greeting, Message], None] | None = None,
    ended: Callable[[Greeting], None] | None = None,
) -> defer.Deferred[Any]:
    """
    Dial a session.

    @param carrier: an endpoint that L{carrying} has made.
    @param over: called at its end, if it was given.
    @param streams: of the far end; None: C{known} has the session accept them.
    @param known: called when both ends know each other.
    @param received: is given what the far end says then.
    @param ended: called at the end of each session, given or not.
    @return: fires with the session; with a secret, when the far end has proved that it knows
        it.
    """
    made: list[CarrierSession] = []

    def cancelled(waiting: defer.Deferred[Any]) -> None:
        dialled.cancel()
        for session in made:
            session.abort()

    ready: defer.Deferred[Any] = defer.Deferred(cancelled)

    def lost(session: CarrierSession, reason: Failure) -> None:
        side.over(session)
        if ready.called:
            over(session, reason)
        else:
            ready.errback(reason)

    def greeted(greeting: Greeting) -> None:
        if known is not None:
            known(greeting)
        if not ready.called:
            ready.callback(greeting.session)

    def make() -> CarrierSession:
        greeting = Greeting(Role.CLIENT, side.offer(Offer(0)), side, greeted, received, ended)
        made.append(CarrierSession(streams, lost, greeting))
        return made[-1]

    def connected(session: Any) -> None:
        if side.secret is None and not ready.called:
            ready.callback(session)

    def failed(failure: Failure) -> None:
        if not ready.called:
            ready.errback(failure)

    dialled: defer.Deferred[Any] = carrier.connect(CarrierFactory(make))
    dialled.addCallbacks(connected, failed)
    return ready


OPTIONS: Mapping[str, Option] = {
    name: Option(kind, default, meaning, name=name)
    for name, kind, default, meaning in (
        (
            "sessions",
            Integer(1, 64),
            1,
            "Sessions that the connections share, each new one on the session with the fewest.",
        ),
        (
            "patience",
            Seconds(0, 3600),
            30.0,
            "Seconds that a new connection waits while the far end is dialled again.",
        ),
        (
            "secretFile",
            FileName(),
            None,
            f"File with a secret of at least {LEAST_SECRET} bytes that both ends have to know.",
        ),
    )
}


@implementer(IStreamClientEndpoint)
class MuxClientEndpoint:
    """
    Dials sessions that all its connections share, and dials them again when they are lost:
    after half a second, then after pauses that grow to ten seconds.

    Without L{hold} the first connection dials, and sessions stay until L{disconnect}.
    """

    def __init__(
        self,
        endpoint: Any,
        sessions: int = 1,
        patience: float = 30.0,
        *,
        secret: bytes | None = None,
        secretFile: str | None = None,
    ) -> None:
        """
        @param endpoint: a client endpoint of KCP, QOTP, RakNet or of a node.
        @param sessions: how many.
        @param patience: seconds that a new connection waits for a session.
        @param secret: which both ends have to know, beside what the transport checks.
        @param secretFile: a file that holds it.
        @raise ValueError: an argument is invalid; names it.
        """
        for name, value in (("sessions", sessions), ("patience", patience)):
            OPTIONS[name].check(value)
        self._carrier = carrying(endpoint)
        self._side = Side(endpoint, secretFrom(secret, secretFile))
        self._pool = SessionPool(
            endpoint.reactor,
            self._dial,
            PoolOptions(sessions, patience),
            self._side.chance,
        )

    @classmethod
    def options(cls) -> Mapping[str, Option]:
        """What can be written in an endpoint string beside the options of the transport."""
        return OPTIONS

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._carrier!r}>"

    @property
    def carrier(self) -> Any:
        """The endpoint that dials the sessions."""
        return self._carrier

    @property
    def side(self) -> Side:
        """What all its sessions share."""
        return self._side

    @property
    def sessions(self) -> list[CarrierSession]:
        """Those that are open."""
        return self._pool.sessions

    def connect(self, factory: IProtocolFactory) -> defer.Deferred[IProtocol]:
        """
        Open a stream, on a session that is there or is dialled for it.

        @return: fires with the protocol; at once where there is a session. Fails when there was
            none for C{patience} seconds. May be cancelled.
        """
        opening: defer.Deferred[Any] = self._pool.open(OpeningFactory(factory))
        return opening.addCallback(lambda opened: opened.protocol)

    def hold(self) -> None:
        """Dial now, and again whenever a session is lost, until L{disconnect}."""
        self._pool.hold()

    def disconnect(self) -> defer.Deferred[None]:
        """
        End all sessions in order, with what was written on their streams.

        @return: fires when they have ended.
        """
        return self._pool.disconnect()

    def _dial(
        self, over: Callable[[CarrierSession, Failure], None]
    ) -> defer.Deferred[Any]:
        return dial(self._carrier, self._side, over, RefusingFactory())


@implementer(IStreamServerEndpoint)
class MuxServerEndpoint:
    """Listens for sessions, and gives each of their streams to the factory as a connection."""

    def __init__(
        self,
        endpoint: ServerEndpoint,
        *,
        secret: bytes | None = None,
        secretFile: str | None = None,
    ) -> None:
        """
        @param endpoint: a server endpoint of KCP, QOTP or RakNet.
        @param secret: which both ends have to know, beside what the transport checks.
        @param secretFile: a file that holds it.
        @raise ValueError: an argument is invalid; names it.
        """
        self._carrier: ServerEndpoint = carrying(endpoint)
        self._side = Side(endpoint, secretFrom(secret, secretFile))
        self._sessions: dict[CarrierSession, None] = {}

    @classmethod
    def options(cls) -> Mapping[str, Option]:
        """What can be written in an endpoint string beside the options of the transport."""
        return {"secretFile": OPTIONS["secretFile"]}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._carrier!r}>"

    @property
    def carrier(self) -> ServerEndpoint:
        """The endpoint that listens for the sessions."""
        return self._carrier

    @property
    def side(self) -> Side:
        """What all its sessions share."""
        return self._side

    def listen(self, factory: IProtocolFactory) -> defer.Deferred[IListeningPort]:
        """
        Bind at once.

        @return: as of the transport's endpoint.
        """
        listening: defer.Deferred[Any] = self._carrier.listen(self._carriers(factory))
        return listening

    def listenAfter(
        self, predecessor: Predecessor, factory: IProtocolFactory
    ) -> defer.Deferred[IListeningPort]:
        """See L{ServerEndpoint.listenAfter}."""
        listening: defer.Deferred[Any] = self._carrier.listenAfter(
            predecessor, self._carriers(factory)
        )
        return listening

    def _carriers(self, factory: IProtocolFactory) -> CarrierFactory:
        # Whoever may connect without a key or secret may say that he is anybody.
        believed = self._side.secret is not None or self._carrier.authenticates
        streams = AcceptingFactory(factory, believed)

        def make() -> CarrierSession:
            # A secret comes first: what streams bring waits for its proof.
            known = _accepting(streams) if self._side.secret else _nothing
            offer = self._side.offer(Offer.STREAMS)
            greeting = Greeting(Role.SERVER, offer, self._side, known)
            early = None if self._side.secret else streams
            session = CarrierSession(early, self._over, greeting)
            self._sessions[session] = None
            return session

        return CarrierFactory(make, factory)


    def disconnect(self) -> defer.Deferred[None]:
        """
        End all sessions in order, with what was written on their streams. The port listens on.

        @return: fires at once.
        """
        for session in list(self._sessions):
            session.close()
        return defer.succeed(None)

    def retire(self) -> None:
        """
        End each session that is open now as soon as it has no streams, so that its peer dials
        whoever listens then.
        """
        self._retire(list(self._sessions))

    def _retire(self, sessions: list[CarrierSession]) -> None:
        for session in sessions:
            if session.usable and not session.streams:
                session.close()
        left = [session for session in sessions if session.usable]
        clock = self._side.clock
        if left:
            clock.callLater(IDLE_CHECK, self._retire, left)

    def _over(self, session: CarrierSession, reason: Failure) -> None:
        self._sessions.pop(session, None)
        self._side.over(session)


def _accepting(factory: IProtocolFactory) -> Callable[[Greeting], None]:
    def accept(greeting: Greeting) -> None:
        if greeting.session is not None:
            greeting.session.accept(factory)

    return accept


def _nothing(greeting: Greeting) -> None:
    """Called when both ends know each other, and the streams are accepted already."""
