"""
C{twist rudp forward --listen udp:51820 --to ...} and its opposite end: datagrams of UDP,
carried as messages out of band over one session for all sources
(C{docs/wire/udp-forward.md}).
"""

from __future__ import annotations

import errno
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Protocol as BaseProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer, providedBy

from twisted_rudp import stats
from twisted_rudp.core.engine import Address, PathError
from twisted_rudp.interfaces import (
    IMessageProtocol,
    IMessageTransport,
    IOutOfBandProtocol,
    IRUDPTransport,
)
from twisted_rudp.messages import Delivery, Message
from twisted_rudp.net.addresses import hostText, isLiteral, resolve
from twisted_rudp.net.ratelog import RateLimitedLog
from twisted_rudp.net.udp.open import openPort
from twisted_rudp.net.udp.port import DatagramPort, SocketOptions
from twisted_rudp.service.announce import NodeAnnouncer
from twisted_rudp.service.connectionlog import addressText
from twisted_rudp.service.listening import (
    ListeningService,
    Sessions,
    SilentFactory,
    Tally,
    adviceFor,
    startupError,
)
from twisted_rudp.service.usage import whole

HELLO: Final = b"rudp udp 1\r\n"
"""What both ends say first on the stream."""

HELLO_TIMEOUT: Final = 10.0
"""Seconds for the other end's answer."""

ID_SIZE: Final = 4

IDLE: Final = 300.0
"""Seconds without a datagram in either direction that end an association (RFC 4787 4.3)."""

HELD_DATAGRAMS: Final = 64
HELD_BYTES: Final = 65536
"""What waits for a session, or for the address of C{--to}; the oldest go first."""

LONGEST_RETRY: Final = 30.0
"""Seconds between two attempts to reach the far end, at most; the first are 1 apart."""

ADDRESS_LIFE: Final = 60.0
"""Seconds that the address of a name is used for new associations."""

ADDRESS_RETRY: Final = 1.0
"""Seconds until a name that has no address is looked up again."""

SOCKET_BUFFER: Final = 512 * 1024

LONGEST_MESSAGE: Final = 65_507 + ID_SIZE
"""Of a transport whose messages may have any length."""

HELLO_MESSAGE: Final = 0x90
DATAGRAM_MESSAGE: Final = 0x91
"""First bytes of our messages over a transport of messages."""

COUNTERS: Final = (
    "associations",
    "refused",
    "expired",
    "sessions",
    "unreachable",
    "forth",
    "back",
    "datagrams_forth",
    "datagrams_back",
    "too_long",
    "dropped",
    "malformed",
)


# what a person writes


class UDPEndpoint(NamedTuple):
    """What C{udp:} in front of an address means; an interface where it listens."""

    host: str
    port: int


_SEPARATOR: Final = re.compile(r"(?<!\\):")
_ESCAPED: Final = re.compile(r"\\(.)")


def isUDP(description: str) -> bool:
    """Whether a description is one of UDP."""
    return description.startswith("udp:")


def parseUDP(description: str, listening: bool) -> UDPEndpoint:
    """
    Parse C{udp:PORT} and C{udp:port=PORT:interface=ADDRESS}, or, where it is not for
    listening, C{udp:HOST:PORT} and C{udp:host=HOST:port=PORT}.

    @raise ValueError: it is something else.
    """
    first, second = ("port", "interface") if listening else ("host", "port")
    names = [first, second]
    found: dict[str, str] = {}
    for argument in _SEPARATOR.split(description)[1:]:
        name, equals, value = argument.partition("=")
        if not equals:
            name, value = (names[0] if names else "", argument)
        if name not in (first, second) or name in found:
            raise ValueError(f"udp: {argument!r}: expected {first} and {second}, each once")
        if name in names:
            names.remove(name)
        found[name] = _ESCAPED.sub(r"\1", value)
    if "port" not in found or (not listening and not found.get("host")):
        raise ValueError(f"udp: {'port' if listening else 'host or port'} is missing")
    try:
        port = whole(0 if listening else 1, 65535, "a UDP port")(found["port"])
    except ValueError as problem:
        raise ValueError(f"udp: port={problem}") from None
    host = found.get("interface" if listening else "host", "")
    if listening and host and not isLiteral(host):
        raise ValueError(f"udp: interface={host!r} is not an IP address")
    return UDPEndpoint(host if listening else hostText(host), port)


def carrying(description: str) -> str:
    """
    The description of the endpoint that carries datagrams, for the parser: RakNet does
    that with messages.
    """
    if description.startswith("raknet:") and not re.search(r"(?<!\\):mode=", description):
        return description + ":mode=messages"
    return description


# associations


class Association:
    """
    The datagrams between one source and the far service.

    @ivar id: what it is called on the session.
    @ivar key: under which the table has it.
    @ivar owner: whose it is, who may not take what others need.
    @ivar heard: when a datagram came last, in either direction.
    @ivar answered: datagrams have gone both ways.
    @ivar ended: called when it is over.
    """

    __slots__ = ("answered", "ended", "heard", "id", "key", "local", "owner", "port")

    def __init__(
        self,
        id: int,
        key: Hashable,
        ended: Callable[[Association], None],
        owner: Hashable = None,
    ) -> None:
        self.id = id
        self.key = key
        self.owner = owner
        self.ended = ended
        self.heard = 0.0
        self.answered = False
        self.local = b""
        self.port: DatagramPort | None = None


class Associations:
    """
    A bounded table of associations that end when they are idle. Where there is no room, one of
    the owner that has most makes way, the longest idle first: of those that were never answered,
    because a source can be forged, and of the others only for an owner that has fewer.
    """

    def __init__(self, clock: IReactorTime, limit: int, idle: float, tally: Tally) -> None:
        """
        @param idle: seconds.
        """
        self._clock = clock
        self._limit = limit
        self._idle = idle
        self._tally = tally
        self._unanswered: OrderedDict[Hashable, Association] = OrderedDict()
        self._answered: OrderedDict[Hashable, Association] = OrderedDict()
        self._owned: Counter[Hashable] = Counter()
        self._sweep: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._unanswered) + len(self._answered)

    def get(self, key: Hashable) -> Association | None:
        """The association with this key; it is not idle now."""
        found = self._answered.get(key) or self._unanswered.get(key)
        if found is not None:
            self._touch(found)
        return found

    def answer(self, association: Association) -> None:
        """A datagram has come from the other side."""
        if not association.answered and self._unanswered.pop(association.key, None) is not None:
            association.answered = True
            self._answered[association.key] = association
        self._touch(association)

    def add(self, association: Association) -> bool:
        """
        Take a new one in.

        @return: whether there is room.
        """
        if len(self) >= self._limit and not self.makeRoom(association.owner):
            self._tally.add("refused")
            return False
        self._unanswered[association.key] = association
        self._owned[association.owner] += 1
        association.heard = self._clock.seconds()
        self._tally.add("associations")
        if self._sweep is None:
            self._sweep = self._clock.callLater(self._idle, self._forgetIdle)
        return True

    def makeRoom(self, owner: Hashable) -> bool:
        """
        End one for a new one of this owner.

        @return: whether there was one.
        """
        owned = self._owned
        if not owned:
            return False
        largest = max(owned, key=owned.__getitem__)
        yields = owned[largest] > owned[owner] + 1
        if not yields:
            largest = owner
        for table in (self._unanswered, self._answered)[: 1 + yields]:
            for association in table.values():
                if association.owner == largest:
                    self._end(association)
                    return True
        return False

    def end(self, association: Association) -> None:
        """Forget one."""
        self._unanswered.pop(association.key, None)
        self._answered.pop(association.key, None)
        self._owned[association.owner] -= 1
        if self._owned[association.owner] <= 0:
            del self._owned[association.owner]
        association.ended(association)
        if not len(self) and self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def endAll(self, which: Callable[[Association], bool] = lambda each: True) -> None:
        """Forget all, or those that C{which} names."""
        for association in [*self._unanswered.values(), *self._answered.values()]:
            if which(association):
                self.end(association)

    def _end(self, association: Association) -> None:
        self._tally.add("expired")
        self.end(association)

    def _touch(self, association: Association) -> None:
        association.heard = self._clock.seconds()
        table = self._answered if association.answered else self._unanswered
        if association.key in table:
            table.move_to_end(association.key)

    def _forgetIdle(self) -> None:
        self._sweep = None
        now = self._clock.seconds()
        oldest = now
        for table in (self._unanswered, self._answered):
            while table:
                first = next(iter(table.values()))
                if first.heard > now - self._idle:
                    oldest = min(oldest, first.heard)
                    break
                self._end(first)
        if len(self):
            self._sweep = self._clock.callLater(oldest + self._idle - now, self._forgetIdle)


class Held:
    """Datagrams that wait for something, bounded."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._waiting: deque[tuple[Association, bytes]] = deque()
        self._size = 0

    def put(self, association: Association, datagram: bytes) -> None:
        """Keep one; the oldest make room."""
        self._waiting.append((association, datagram))
        self._size += len(datagram)
        while len(self._waiting) > HELD_DATAGRAMS or self._size > HELD_BYTES:
            self._size -= len(self._waiting.popleft()[1])
            self._tally.add("dropped")

    def take(self) -> list[tuple[Association, bytes]]:
        """All that wait."""
        taken = list(self._waiting)
        self._waiting.clear()
        self._size = 0
        return taken

    def drop(self) -> None:
        """Throw all away."""
        self._tally.add("dropped", len(self.take()))


# the session


class CarrierOwner(Protocol):
    """Who has a L{Carrier}."""

    def carrierMade(self, carrier: Carrier) -> None:
        """It may send."""

    def carrierDatagram(self, carrier: Carrier, id: int, datagram: bytes) -> None:
        """A datagram has come."""

    def carrierLost(self, carrier: Carrier) -> None:
        """Its session has ended."""


@implementer(IOutOfBandProtocol, IMessageProtocol, IPushProducer)
class Carrier(BaseProtocol):
    """
    One session that carries datagrams: out of band where it is a stream, as unreliable
    messages where it carries messages.
    """

    noisy = False
    transport: Any

    def __init__(
        self, clock: IReactorTime, owner: CarrierOwner, tally: Tally, complain: Complaint
    ) -> None:
        self._clock = clock
        self._owner = owner
        self._tally = tally
        self._complain = complain
        self._greeting = b""
        self._greeted = False
        self._messages = False
        self._full = False
        self._timeout: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Greet, and begin: what is sent out of band need not wait for the answer."""
        transport: Any = self.transport
        kinds = providedBy(transport)
        if not kinds.isOrExtends(IRUDPTransport):
            self._refuse("this transport carries no datagrams: use kcp, qotp or raknet")
            return
        self._messages = kinds.isOrExtends(IMessageTransport)
        if self._messages:
            transport.registerProducer(self, True)
            transport.send(bytes((HELLO_MESSAGE,)) + HELLO)
        else:
            transport.write(HELLO)
        self._timeout = self._clock.callLater(
            HELLO_TIMEOUT, self._refuse, "the other end does not answer as a forwarder of UDP"
        )
        self._owner.carrierMade(self)

    def send(self, id: int, datagram: bytes) -> bool:
        """
        Send a datagram of an association.

        @return: whether it fits, and there is room.
        """
        message = id.to_bytes(ID_SIZE, "big") + datagram
        try:
            if not self._messages:
                self.transport.sendOutOfBand(message)
            elif self._full:
                self._tally.add("dropped")
                return False
            else:
                self.transport.send(bytes((DATAGRAM_MESSAGE,)) + message, Delivery.UNRELIABLE)
        except ValueError as problem:
            self._tooLong(len(datagram), problem)
            return False
        return True

    def _tooLong(self, size: int, problem: ValueError) -> None:
        longest = self.transport.facts().get("oob_max", 0) - ID_SIZE
        if longest > 0:
            self._tally.add("too_long")
            self._complain(
                "datagrams too long",
                f"a datagram of {size} bytes was dropped: at most {longest} fit",
            )
        else:
            self._tally.add("dropped")
            self._complain("no datagrams", f"a datagram was dropped: {problem}")

    # IOutOfBandProtocol, IMessageProtocol, IProtocol

    def outOfBandReceived(self, data: bytes) -> None:
        if len(data) <= ID_SIZE:
            self._tally.add("malformed")
            return
        id = int.from_bytes(data[:ID_SIZE], "big")
        self._owner.carrierDatagram(self, id, data[ID_SIZE:])

    def messageReceived(self, message: Message) -> None:
        kind, body = message.data[0], message.data[1:]
        if kind == DATAGRAM_MESSAGE:
            self.outOfBandReceived(body)
        elif kind == HELLO_MESSAGE and not self._greeted:
            self.dataReceived(body)
        else:
            self._tally.add("malformed")

    def dataReceived(self, data: bytes) -> None:
        self._greeting += data
        if self._greeting == HELLO:
            self._greeted = True
            self._stop()
        elif self._greeted or not HELLO.startswith(self._greeting):
            self._greeting = b""
            self._refuse("the other end is no forwarder of UDP, or of another version")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop()
        self._owner.carrierLost(self)

    # IPushProducer, of messages

    def pauseProducing(self) -> None:
        """What is not sent soon is of no use."""
        self._full = True

    def resumeProducing(self) -> None:
        self._full = False

    def stopProducing(self) -> None:
        self._full = True

    # Session

    def finish(self) -> None:
        """End the session in order."""
        if self._messages:
            self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """End it at once."""
        self.transport.abortConnection()

    def _refuse(self, why: str) -> None:
        self._stop()
        self._complain("other end", why)
        close = getattr(self.transport, "abortConnection", self.transport.loseConnection)
        close()

    def _stop(self) -> None:
        timeout, self._timeout = self._timeout, None
        if timeout is not None and timeout.active():
            timeout.cancel()


class Complaint(Protocol):
    """Logs something once, then after a while with a count."""

    def __call__(self, kind: str, text: str) -> None: ...


def _complaints(clock: IReactorTime, log: Logger, description: str) -> Complaint:
    limited = RateLimitedLog(clock, log)

    def complain(kind: str, text: str) -> None:
        limited.note(
            kind, "{description}: {text}", LogLevel.error, description=description, text=text
        )

    return complain


class _Socket:
    """What a datagram port tells, for who wants to hear of what arrives only."""

    def __init__(self, received: Callable[[bytes, int, Address, bytes], None]) -> None:
        self._received = received
        self._local = b""

    def calledAt(self, local: bytes) -> None:
        """Answers leave from the same address."""
        self._local = local

    def patience(self) -> int:
        """What comes is looked for at once."""
        return 0

    def runReceived(self, run: bytes, size: int, address: Address) -> None:
        self._received(run, size, address, self._local)

    def turnEnded(self) -> None:
        """Each datagram was relayed when it was received."""

    def portWritable(self) -> None:
        """The port queues some, and drops and counts the rest, as a router does."""

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        """Whoever sends notices."""

    def portLost(self, failure: Failure) -> None:
        """The reactor shuts down."""


class _Reporting:
    """Shows a service in the live state of the process."""

    def __init__(self, description: str, tally: Tally, associations: Associations) -> None:
        self._description = description
        self._tally = tally
        self._associations = associations

    def snapshot(self) -> stats.ServiceStats:
        """See L{stats.ServiceSource<twisted_rudp.stats.ServiceSource>}."""
        return stats.ServiceStats(
            self._description,
            {"associations": len(self._associations)},
            {name: self._tally.counts[name] for name in COUNTERS},
        )


# the end where datagrams come from


class NearFactory(SilentFactory):
    """Gives the one session that is dialled."""

    def __init__(self, build: Callable[[], Carrier]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> Carrier:
        return self._build()


class UDPForwardService(Service):
    """
    Listens on a UDP socket, and carries what comes over a session to the far end. The
    session is dialled when a datagram comes, and ends with the last association.

    @ivar associations: one for each source.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        description: str,
        near: UDPEndpoint,
        far: IStreamClientEndpoint,
        *,
        limit: int,
        drain: float,
        idle: float = IDLE,
    ) -> None:
        """
        @param limit: associations at one time.
        @param drain: seconds for the session to end when the service stops.
        @param idle: seconds that end an association.
        """
        self.description = description
        self.tally = Tally(*COUNTERS)
        self.advice: list[str] = []
        self._reactor = reactor
        self._near = near
        self._far = far
        self._drain = drain
        self._complain = _complaints(reactor, self._log, description)
        self.associations = Associations(reactor, limit, idle, self.tally)
        self._reporting = _Reporting(description, self.tally, self.associations)
        self._byId: dict[int, Association] = {}
        self._lastId = 0
        self._held = Held(self.tally)
        self._sessions = Sessions(reactor, 1 << 30)
        self._factory = NearFactory(
            lambda: Carrier(reactor, self, self.tally, self._complain)
        )
        self._carrier: Carrier | None = None
        self._dialling: Deferred[Any] | None = None
        self._retryAt = 0.0
        self._retryWait = 1.0
        self._port: DatagramPort | None = None

    @property
    def port(self) -> DatagramPort:
        """
        The socket.

        @raise RuntimeError: the service does not run.
        """
        if self._port is None:
            raise RuntimeError("the service does not run")
        return self._port

    def privilegedStartService(self) -> None:
        """Bind before privileges are dropped. C{twist} does not call this."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._bind()

    def startService(self) -> None:
        """
        Bind, unless L{privilegedStartService} has.

        @raise StartupError: the address cannot be bound.
        """
        super().startService()  # type: ignore[no-untyped-call]
        self._bind()
        stats.services.add(self._reporting)
        for advice in (*self.advice, *adviceFor(self._far)):
            self._log.warn("{description}: {advice}", description=self.description, advice=advice)

    def _bind(self) -> None:
        if self._port is not None:
            return
        try:
            self._port = openPort(
                self._reactor, _Socket(self._received), self._near.host, self._near.port
            )
        except CannotListenError as problem:
            raise startupError(self.description, "--listen", problem) from problem
        self._log.info(
            "{description}: listening on {address} (UDP)",
            description=self.description,
            address=addressText(self._port.getHost()),
        )

    def stopService(self) -> Deferred[None]:
        """
        @return: fires when the socket is closed and no session is left.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        stats.services.discard(self._reporting)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        port, self._port = self._port, None
        dialling, self._dialling = self._dialling, None
        self.associations.endAll()
        if dialling is not None:
            dialling.cancel()
        await self._sessions.drain(self._drain)
        if port is not None:
            await maybeDeferred(port.stopListening)
        self._log.info(
            "{description}: stopped: {tally}",
            description=self.description,
            tally=self.tally.line(),
        )

    # from the socket

    def _received(self, run: bytes, size: int, address: Address, local: bytes) -> None:
        association = self.associations.get(address) or self._associate(address)
        if association is None:
            self._tally("dropped", -(-len(run) // size))
            return
        association.local = local
        for start in range(0, len(run), size):
            self._forth(association, bytes(run[start : start + size]))

    def _tally(self, name: str, amount: int = 1) -> None:
        self.tally.add(name, amount)

    def _associate(self, address: Address) -> Association | None:
        self._lastId = (self._lastId + 1) & 0xFFFFFFFF
        while self._lastId in self._byId:
            self._lastId = (self._lastId + 1) & 0xFFFFFFFF
        association = Association(self._lastId, address, self._ended)
        if not self.associations.add(association):
            self._complain("limit", "a source was refused: limit of associations reached")
            return None
        self._byId[association.id] = association
        return association

    def _forth(self, association: Association, datagram: bytes) -> None:
        carrier = self._carrier
        if carrier is None:
            self._held.put(association, datagram)
            self._dial()
        elif carrier.send(association.id, datagram):
            self._tally("datagrams_forth")
            self._tally("forth", len(datagram))

    def _ended(self, association: Association) -> None:
        del self._byId[association.id]
        if not self._byId and self._carrier is not None:
            carrier, self._carrier = self._carrier, None
            carrier.finish()

    # the session

    def _dial(self) -> None:
        if self._dialling is not None or self._port is None:
            return
        if self._reactor.seconds() < self._retryAt:
            self._held.drop()
            return
        dialling = self._far.connect(self._factory)
        self._dialling = dialling
        dialling.addCallbacks(self._dialled, self._failed)

    def _dialled(self, ignored: object) -> None:
        self._dialling = None
        self._retryWait = 1.0

    def _failed(self, failure: Failure) -> None:
        self._dialling = None
        self._held.drop()
        self._retryAt = self._reactor.seconds() + self._retryWait
        self._retryWait = min(2 * self._retryWait, LONGEST_RETRY)
        if not isinstance(failure.value, CancelledError) and self._port is not None:
            self._tally("unreachable")
            self._complain(
                "unreachable", f"cannot reach the far side: {failure.getErrorMessage()}"
            )

    def carrierMade(self, carrier: Carrier) -> None:
        """Send what has waited."""
        self._tally("sessions")
        self._sessions.add(carrier)
        self._carrier = carrier
        for association, datagram in self._held.take():
            self._forth(association, datagram)

    def carrierDatagram(self, carrier: Carrier, id: int, datagram: bytes) -> None:
        """Give an answer to its source."""
        association = self._byId.get(id)
        port = self._port
        if association is None or port is None:
            self._tally("dropped")
            return
        self.associations.answer(association)
        self._tally("datagrams_back")
        self._tally("back", len(datagram))
        address: Any = association.key
        port.sendFrom = association.local
        port.send(datagram, len(datagram), address)

    def carrierLost(self, carrier: Carrier) -> None:
        """The next datagram dials again."""
        if self._carrier is carrier:
            self._carrier = None
            self._retryAt = self._reactor.seconds() + 1.0
        self.tally.absorb(carrier.transport)
        self._sessions.remove(carrier)


# the end where datagrams go to


class _Target:
    """Finds the address of C{--to}."""

    def __init__(self, reactor: Any, target: UDPEndpoint) -> None:
        self._reactor = reactor
        self._target = target
        self._address: Address | None = None
        self._until = 0.0
        self._waiting: list[Callable[[Address | None], None]] = []

    def find(self, found: Callable[[Address | None], None]) -> None:
        """
        @param found: called with the address, or with None.
        """
        if self._reactor.seconds() < self._until:
            found(self._address)
            return
        self._waiting.append(found)
        if len(self._waiting) == 1:
            resolve(self._reactor, *self._target, self._resolved)

    def _resolved(self, addresses: list[Address]) -> None:
        self._address = addresses[0] if addresses else None
        self._until = self._reactor.seconds() + (ADDRESS_LIFE if addresses else ADDRESS_RETRY)
        waiting, self._waiting = self._waiting, []
        for found in waiting:
            found(self._address)


class FarAssociation:
    """
    The far end of an association: a socket of its own, so that the service tells the sources
    apart.
    """

    def __init__(self, far: FarFactory, carrier: Carrier, id: int) -> None:
        self.entry = Association(id, (carrier, id), self._ended, carrier)
        self.carrier = carrier
        self._far = far
        self._tally = far.tally
        self._held: Held | None = Held(far.tally)
        self._port: DatagramPort | None = None
        self._address: Address | None = None
        self._over = False

    def begin(self) -> None:
        """Open the socket, as soon as the address is known."""
        far = self._far
        far.target.find(self._found)

    def send(self, datagram: bytes) -> None:
        """Send to the service."""
        tally = self._tally
        if self._port is None or self._address is None:
            if self._held is not None:
                self._held.put(self.entry, datagram)
            else:
                tally.add("dropped")
            return
        tally.add("datagrams_forth")
        tally.add("forth", len(datagram))
        self._port.send(datagram, len(datagram), self._address)

    def _found(self, address: Address | None) -> None:
        held, self._held = self._held, None
        assert held is not None
        if self._over:
            return
        far = self._far
        if address is None:
            self._tally.add("unreachable")
            far.complain("address", "the address of --to is not known")
        else:
            self._open(address)
        if self._port is None:
            # The next datagram tries again.
            held.drop()
            if not self._over:
                far.associations.end(self.entry)
            return
        for _, datagram in held.take():
            self.send(datagram)

    def _open(self, address: Address) -> None:
        """
        Open the socket. Where the process may have no more of them, one of another session makes
        room as where the table is full.
        """
        far = self._far
        problem: CannotListenError | None = None
        for _ in range(2):
            try:
                self._port = openPort(
                    far.reactor,
                    _Socket(self._received),
                    "" if len(address) == 2 else "::",
                    options=_FAR_OPTIONS,
                    answers=False,
                )
            except CannotListenError as error:
                problem = error
                full = getattr(error.socketError, "errno", None) in (errno.EMFILE, errno.ENFILE)
                if not full or not far.associations.makeRoom(self.carrier) or self._over:
                    break
            else:
                self._address = address
                return
        self._tally.add("refused")
        far.complain("socket", f"no socket for a source: {problem}")

    def _received(self, run: bytes, size: int, address: Address, local: bytes) -> None:
        far, tally, entry = self._far, self._tally, self.entry
        if address[:2] != (self._address or ())[:2]:
            tally.add("dropped", -(-len(run) // size))
            return
        far.associations.answer(entry)
        for start in range(0, len(run), size):
            datagram = bytes(run[start : start + size])
            if self.carrier.send(entry.id, datagram):
                tally.add("datagrams_back")
                tally.add("back", len(datagram))

    def _ended(self, entry: Association) -> None:
        self._over = True
        self._far.ended(self)
        if self._port is not None:
            self._port.stopListening()


_FAR_OPTIONS: Final = SocketOptions(receiveBuffer=SOCKET_BUFFER, sendBuffer=SOCKET_BUFFER)


class FarFactory(SilentFactory):
    """Takes in sessions, and opens a socket for each association."""

    def __init__(
        self,
        reactor: Any,
        log: Logger,
        description: str,
        target: UDPEndpoint,
        sessions: Sessions,
        limit: int,
        idle: float,
    ) -> None:
        self.reactor = reactor
        self.tally = Tally(*COUNTERS)
        self.complain = _complaints(reactor, log, description)
        self.target = _Target(reactor, target)
        self.associations = Associations(reactor, limit, idle, self.tally)
        self.reporting = _Reporting(description, self.tally, self.associations)
        self._sessions = sessions
        self._far: dict[tuple[Carrier, int], FarAssociation] = {}

    def buildProtocol(self, addr: IAddress | None) -> Carrier | None:
        """A new session; None at the limit."""
        if self._sessions.full:
            self.tally.add("refused")
            self.complain("limit", "a session was refused: limit reached")
            return None
        return Carrier(self.reactor, self, self.tally, self.complain)

    def carrierMade(self, carrier: Carrier) -> None:
        """A far end is there."""
        self.tally.add("sessions")
        self._sessions.add(carrier)

    def carrierDatagram(self, carrier: Carrier, id: int, datagram: bytes) -> None:
        """Give a datagram to the service."""
        key = (carrier, id)
        found = self._far.get(key)
        if found is None:
            found = FarAssociation(self, carrier, id)
            if not self.associations.add(found.entry):
                self.tally.add("dropped")
                self.complain("limit", "a source was refused: limit of associations reached")
                return
            self._far[key] = found
            found.begin()
        else:
            self.associations.get(key)
        found.send(datagram)

    def carrierLost(self, carrier: Carrier) -> None:
        """Its associations end with a session."""
        for key, found in list(self._far.items()):
            if key[0] is carrier:
                self.associations.end(found.entry)
        self.tally.absorb(carrier.transport)
        self._sessions.remove(carrier)

    def ended(self, association: FarAssociation) -> None:
        """An association has ended."""
        del self._far[association.carrier, association.entry.id]


class UDPTargetService(ListeningService):
    """
    Accepts sessions of L{UDPForwardService}s, and gives what they carry to a UDP service.

    @ivar associations: those of all sessions.
    """

    def __init__(
        self,
        reactor: Any,
        description: str,
        near: IStreamServerEndpoint,
        target: UDPEndpoint,
        *,
        limit: int,
        drain: float,
        idle: float = IDLE,
        announcer: NodeAnnouncer | None = None,
    ) -> None:
        """
        @param limit: sessions, and associations of all of them, at one time.
        @param drain: seconds for sessions to end when the service stops.
        @param idle: seconds that end an association.
        @param announcer: announces the node while this service listens.
        """
        sessions = Sessions(reactor, limit)
        factory = FarFactory(reactor, self._log, description, target, sessions, limit, idle)
        self._reporting = factory.reporting
        self.associations = factory.associations
        super().__init__(description, near, factory, sessions, factory.tally, drain, announcer)

    def startService(self) -> None:
        super().startService()
        stats.services.add(self._reporting)

    def stopService(self) -> Deferred[None]:
        stats.services.discard(self._reporting)
        return super().stopService()
