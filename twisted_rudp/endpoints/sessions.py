"""
Sessions that carry the streams of many connections, and a pool of them that is dialled, shared
and dialled again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from twisted.internet import defer
from twisted.internet.error import ConnectError, NoProtocol, TimeoutError
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure

MOST_WAITING: Final = 4096
"""Connections that wait for a session of one pool. A further one fails at once."""

FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 10.0
"""Seconds until a session is dialled again: the first time, and after many failures."""

_MOST_DOUBLINGS: Final = 10


class Control(Protocol):
    """What is said on stream 0 of a session."""

    @property
    def proved(self) -> bool:
        """The peer has shown that it speaks the same."""

    def begin(self, session: CarrierSession) -> None:
        """The session is there."""

    def received(self, data: bytes) -> None:
        """Bytes of stream 0."""

    def ended(self, reason: Failure) -> None:
        """The session is over."""


class CarrierSession(TwistedProtocol):
    """
    One session, as a connection whose own stream carries nothing but control.

    @ivar expired: no more streams are to be opened.
    @ivar closing: this end has asked for the end of the session.
    """

    def __init__(
        self,
        streams: IProtocolFactory | None,
        over: Callable[[CarrierSession, Failure], None],
        control: Control | None = None,
    ) -> None:
        """
        @param streams: makes protocols for the streams that the peer opens, at once; None:
            the control calls L{accept}.
        @param over: told of the end.
        """
        self._streams = streams
        self._over = over
        self._control = control
        self.expired = False
        self.closing = False

    def connectionMade(self) -> None:
        if self._streams is not None:
            self.accept(self._streams)
        if self._control is not None:
            self._control.begin(self)

    def dataReceived(self, data: bytes) -> None:
        if self._control is not None:
            self._control.received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._control is not None:
            self._control.ended(reason)
        self._over(self, reason)

    @property
    def carrier(self) -> Any:
        """The transport, which provides L{IMultiplexed<twisted_rudp.interfaces.IMultiplexed>}."""
        return self.transport

    @property
    def control(self) -> Control | None:
        """What is said on stream 0."""
        return self._control

    @property
    def proved(self) -> bool:
        """The peer has shown that it speaks the protocol of this end."""
        return self._control is None or self._control.proved

    @property
    def streams(self) -> int:
        """How many streams are open."""
        count: int = self.carrier.carrying
        return count

    @property
    def acknowledged(self) -> bool:
        """Nothing that was sent is still to be acknowledged."""
        return not self.carrier.facts()["bytes_in_flight"]

    @property
    def usable(self) -> bool:
        """Streams may be opened."""
        transport = self.carrier
        return bool(
            transport
            and transport.connected
            and not transport.disconnecting
            and not self.expired
        )

    def accept(self, factory: IProtocolFactory) -> None:
        """Have protocols made for the streams that the peer opens."""
        self.carrier.acceptStreams(factory)

    def openStream(self, factory: IProtocolFactory) -> Any:
        """See L{IMultiplexed<twisted_rudp.interfaces.IMultiplexed>}."""
        return self.carrier.openStream(factory)

    def say(self, data: bytes) -> None:
        """Write on stream 0."""
        self.carrier.write(data)

    def close(self) -> None:
        """End the session when all that was written is delivered."""
        self.closing = True
        self.carrier.loseConnection()

    def abort(self) -> None:
        """End the session now."""
        self.closing = True
        self.carrier.abortConnection()


class CarrierFactory(Factory):
    """Builds the protocol of each session."""

    noisy = False

    def __init__(
        self, make: Callable[[], CarrierSession], streams: IProtocolFactory | None = None
    ) -> None:
        """
        @param streams: is started and stopped with this factory.
        """
        self._make = make
        self._streams = streams

    def doStart(self) -> None:
        if self._streams is not None:
            self._streams.doStart()

    def doStop(self) -> None:
        if self._streams is not None:
            self._streams.doStop()

    def buildProtocol(self, addr: IAddress | None) -> CarrierSession:
        return self._make()


class RefusingFactory(Factory):
    """Refuses every stream."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> None:
        return None


class _Place:
    """
    Room for one session.

    @ivar session: the one that new streams go to.
    @ivar failures: how often in a row dialling came to nothing.
    """

    def __init__(self) -> None:
        self.session: CarrierSession | None = None
        self.dialling: defer.Deferred[Any] | None = None
        self.retry: IDelayedCall | None = None
        self.failures = 0

    @property
    def empty(self) -> bool:
        """There is no session and none is coming."""
        return self.session is None and self.dialling is None and self.retry is None


class _Waiter:
    """Who wants a stream as soon as there is a session."""

    def __init__(self, factory: IProtocolFactory, timer: IDelayedCall | None) -> None:
        self.factory = factory
        self.timer = timer


@dataclass(frozen=True)
class PoolOptions:
    """
    @ivar size: how many sessions.
    @ivar patience: seconds that a connection waits while sessions are dialled again; 0: it
        fails when the first attempt does.
    @ivar lifetime: seconds after which a session takes no more streams; 0: never.
    @ivar afterlife: seconds that it has then for its streams to end.
    """

    size: int = 1
    patience: float = 0.0
    lifetime: float = 0.0
    afterlife: float = 0.0


class SessionPool:
    """
    The sessions of one client endpoint.

    A new stream goes to the session with the fewest, at once; sessions that are missing are
    dialled for it. A session that was lost is dialled again while somebody waits, or while the
    pool is held.
    """

    def __init__(
        self,
        clock: Any,
        dial: Callable[[Callable[[CarrierSession, Failure], None]], defer.Deferred[Any]],
        options: PoolOptions,
        chance: Callable[[], float],
    ) -> None:
        """
        @param dial: makes a session that calls a function at its end.
        @param chance: a random number from 0 to 1.
        """
        self._clock = clock
        self._dialSession = dial
        self._options = options
        self._chance = chance
        self._places = [_Place() for _ in range(options.size)]
        self._next = 0
        self._waiting: dict[defer.Deferred[IProtocol], _Waiter] = {}
        self._sessions: dict[CarrierSession, list[IDelayedCall]] = {}
        self._ended: list[defer.Deferred[None]] = []
        self._held = False
        self._problem: Failure | None = None

    @property
    def sessions(self) -> list[CarrierSession]:
        """Those that are open."""
        return list(self._sessions)

    def open(self, factory: IProtocolFactory) -> defer.Deferred[IProtocol]:
        """
        Open a stream, on a session that is there or is dialled for it.

        @return: fires with the protocol, at once where there is a session.
        """
        session = self._least()
        if session is None:
            waiting = self._wait(factory)
            self._dialNext()
            return waiting
        self._dialNext()
        opened = self._opened(session, factory)
        return opened.addErrback(lambda why: self._again(why, session, factory))

    def hold(self) -> None:
        """Dial all sessions, and each that is lost again, until L{disconnect}."""
        self._held = True
        for place in self._places:
            if place.empty:
                self._dial(place)

    def release(self) -> None:
        """Dial no session again for which nobody waits."""
        self._held = False
        self._rest()

    def disconnect(self) -> defer.Deferred[None]:
        """
        End all sessions in order, with what was written on their streams.

        @return: fires when they have ended.
        """
        self._held = False
        self._giveUp(Failure(defer.CancelledError()))  # type: ignore[no-untyped-call]
        if not self._sessions:
            return defer.succeed(None)
        waiting: defer.Deferred[None] = defer.Deferred()
        self._ended.append(waiting)
        for session in list(self._sessions):
            session.close()
        return waiting

    # streams

    def _least(self) -> CarrierSession | None:
        """The session with the fewest streams; among several of these in turn."""
        count = len(self._places)
        usable = [
            (session.streams, number)
            for number in range(count)
            if (session := self._places[(self._next + number) % count].session) is not None
            and session.usable
        ]
        if not usable:
            return None
        place = self._places[(self._next + min(usable)[1]) % count]
        self._next = (self._places.index(place) + 1) % count
        return place.session

    def _opened(
        self, session: CarrierSession, factory: IProtocolFactory
    ) -> defer.Deferred[IProtocol]:
        opened: defer.Deferred[Any] = defer.execute(session.openStream, factory)
        return opened.addCallback(_wanted)

    def _again(
        self, failure: Failure, session: CarrierSession, factory: IProtocolFactory
    ) -> defer.Deferred[IProtocol]:
        """A session that takes no more streams is replaced."""
        if not isinstance(failure.value, RuntimeError | ValueError):
            return defer.fail(failure)
        for place in self._places:
            if place.session is session:
                place.session = None
                self._expire(session)
        return self.open(factory)

    def _wait(self, factory: IProtocolFactory) -> defer.Deferred[IProtocol]:
        if len(self._waiting) >= MOST_WAITING:
            problem = ConnectError(string="too many connections wait for a session")  # type: ignore[no-untyped-call]
            return defer.fail(problem)
        waiting: defer.Deferred[IProtocol] = defer.Deferred(self._cancelled)
        timer = None
        if self._options.patience:
            timer = self._clock.callLater(self._options.patience, self._tooLate, waiting)
        self._waiting[waiting] = _Waiter(factory, timer)
        return waiting

    def _leave(self, waiting: defer.Deferred[IProtocol]) -> _Waiter | None:
        waiter = self._waiting.pop(waiting, None)
        if waiter is not None and waiter.timer is not None and waiter.timer.active():
            waiter.timer.cancel()
        return waiter

    def _tooLate(self, waiting: defer.Deferred[IProtocol]) -> None:
        if self._leave(waiting) is not None:
            late: Any = TimeoutError(string="no session in time")  # type: ignore[no-untyped-call]
            waiting.errback(self._problem or Failure(late))  # type: ignore[no-untyped-call]
            self._rest()

    def _cancelled(self, waiting: defer.Deferred[IProtocol]) -> None:
        self._leave(waiting)
        self._rest()

    def _rest(self) -> None:
        """Stop dialling when nobody wants it any more."""
        if not self._waiting and not self._held:
            self._stopDialling()

    def _stopDialling(self) -> None:
        for place in self._places:
            retry, place.retry = place.retry, None
            if retry is not None:
                retry.cancel()
            if place.dialling is not None:
                place.dialling.cancel()

    def _giveUp(self, failure: Failure) -> None:
        """Fail all who wait, and stop dialling."""
        waiting = list(self._waiting)
        left = [each for each in waiting if self._leave(each) is not None]
        self._stopDialling()
        for each in left:
            each.errback(failure)

    # sessions

    def _dialNext(self) -> None:
        """Dial one of the sessions that are missing."""
        for place in self._places:
            if place.session is not None and place.session.expired:
                place.session = None
            if place.empty:
                self._dial(place)
                return

    def _dial(self, place: _Place) -> None:
        place.retry = None
        dialling = self._dialSession(self._over)
        place.dialling = dialling
        dialling.addCallbacks(
            lambda session: self._dialled(session, place),
            lambda failure: self._failed(failure, place),
        )

    def _dialled(self, session: CarrierSession, place: _Place) -> None:
        place.dialling = None
        if not session.usable:
            self._failed(Failure(ConnectError()), place)  # type: ignore[no-untyped-call]
            return
        place.session = session
        timers: list[IDelayedCall] = []
        self._sessions[session] = timers
        if self._options.lifetime:
            timers.append(self._clock.callLater(self._options.lifetime, self._expire, session))
        for waiting in list(self._waiting):
            waiter = self._leave(waiting)
            if waiter is not None:
                self.open(waiter.factory).chainDeferred(waiting)

    def _failed(self, failure: Failure, place: _Place) -> None:
        place.dialling = None
        self._problem = failure
        if self._held or self._options.patience:
            self._later(place)
        elif all(each.dialling is None and each.session is None for each in self._places):
            self._giveUp(failure)

    def _later(self, place: _Place) -> None:
        """Dial again after a pause that grows, and differs from client to client."""
        if not self._held and not self._waiting:
            return
        delay = min(FIRST_DELAY * 2 ** min(place.failures, _MOST_DOUBLINGS), LONGEST_DELAY)
        place.failures += 1
        delay *= 0.5 + self._chance() / 2
        place.retry = self._clock.callLater(delay, self._dial, place)

    def _expire(self, session: CarrierSession) -> None:
        """New streams go to another session; this one ends with its last stream."""
        session.expired = True
        if not session.streams or not self._options.afterlife:
            session.close()
            return
        timers = self._sessions[session]
        timers.append(self._clock.callLater(self._options.afterlife, session.close))

    def _over(self, session: CarrierSession, reason: Failure) -> None:
        for timer in self._sessions.pop(session, ()):
            if timer.active():
                timer.cancel()
        for place in self._places:
            if place.session is session:
                place.session = None
                self._problem = reason
                if session.proved:
                    place.failures = 0
                self._later(place)
        if not self._sessions:
            ended, self._ended = self._ended, []
            for deferred in ended:
                deferred.callback(None)


def _wanted(protocol: Any) -> IProtocol:
    """
    @raise NoProtocol: the factory did not want the connection.
    """
    if protocol is None:
        raise NoProtocol()
    return cast(IProtocol, protocol)
