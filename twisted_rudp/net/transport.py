"""
What the transports of streams and of messages have in common: state, addresses, closing and
a producer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import ILoggingContext
from twisted.python.failure import Failure

from twisted_rudp.core.batch import RUN_BYTES
from twisted_rudp.core.engine import Address, Engine, Reason, configurable
from twisted_rudp.errors import Phase, failureFor
from twisted_rudp.messages import Delivery
from twisted_rudp.net.addresses import toTwisted
from twisted_rudp.net.session import Session
from twisted_rudp.net.states import DISCONNECTING, DRAINING, READING, WRITING, Cause, State, after
from twisted_rudp.net.udp.options import SOCKET_SETTINGS
from twisted_rudp.net.usercode import logged

Host = IPv4Address | IPv6Address


HIGH_WATER: Final = 256 * 1024
"""
A push producer pauses when more than this waits for the send window. What is in
flight never counts (FLOW-1).
"""

LOW_WATER: Final = HIGH_WATER // 4
"""It goes on when no more than this is left, so that the window never runs dry."""

LEAST_SHARE: Final = LOW_WATER // 2
"""What a flush may send at the least before the producer is asked: less than a run,
more than any datagram."""


class Feed:
    """
    One registered producer and what it was told last.

    Both methods say what the producer is to be told; telling it is the transport's,
    which catches what the producer raises.

    @ivar producer: an C{IPushProducer} if C{streaming}, else an C{IPullProducer}.
    @ivar paused: a push producer that was told to pause and not yet to go on.
    @ivar room: bytes that can certainly be written before it must pause. Who writes
        takes them off, and asks L{mustPause} below 0.
    """

    __slots__ = ("_askedIn", "paused", "producer", "room", "streaming")

    def __init__(self, producer: Any, streaming: bool) -> None:
        self.producer = producer
        self.streaming = streaming
        self.paused = False
        self.room = 0
        self._askedIn = -1

    @property
    def over(self) -> bool:
        """
        The producer is a transport whose connection is lost: nothing more can come of
        it. Programs that join two transports register each with the other and never
        unregister them (LAY-2).
        """
        return bool(getattr(self.producer, "disconnected", False))

    def mustPause(self, unsent: int) -> bool:
        """
        Whether the producer is to pause now that C{unsent} bytes wait; once for each
        crossing of the mark (FLOW-2).
        """
        self.room = HIGH_WATER - unsent
        if not self.streaming or self.paused or unsent <= HIGH_WATER:
            return False
        self.paused = True
        return True

    def mustResume(self, unsent: int, turn: int) -> bool:
        """
        Whether the producer is to go on: a push producer that was paused at the low
        mark, a pull producer when all is drained, once in each turn (FLOW-3).
        """
        if self.streaming:
            if not self.paused or unsent > LOW_WATER:
                return False
            self.paused = False
            self.room = HIGH_WATER - unsent
            return True
        if unsent or turn == self._askedIn:
            return False
        self._askedIn = turn
        return True


class SessionTransport:
    """
    A transport over a session, or over one stream of it.

    User code is called by L{_call} and by nothing else. What a protocol calls here
    changes the state and marks the session; it is called back in another turn or at
    the end of this one, never from inside (ORD-2).

    @ivar protocol: read anew for each delivery, so it may be replaced (FAC-4); None
        after C{connectionLost}.
    @ivar session: of which this is the transport.
    @ivar stream: the engine's number for it.
    """

    def __init__(
        self,
        session: Session,
        host: Host,
        lost: Callable[[], None] | None = None,
        stream: int = 0,
    ) -> None:
        """
        @param lost: called after C{connectionLost}.
        """
        self.session = session
        self.stream = stream
        self.protocol: Any = None
        self._engine: Engine = session.engine
        self._host = host
        self._lost = lost
        self._schedule = session.host.schedule
        self._state = State.CONNECTING
        self._writing = self._reading = False
        self._feed: Feed | None = None
        self._paused = False
        self._failure: Failure | None = None
        self._peer: tuple[Address, Host] = (session.address, toTwisted(session.address))

    # what Twisted code reads (TR-5)

    @property
    def connected(self) -> bool:
        """The protocol was given the connection and not yet told its end."""
        return self._state not in (State.CONNECTING, State.LOST)

    @property
    def disconnected(self) -> bool:
        """The end has been told."""
        return self._state is State.LOST

    @property
    def disconnecting(self) -> bool:
        """The end was asked for and has not come yet."""
        return self._state in DISCONNECTING

    @property
    def producer(self) -> Any:
        """Whoever is registered, or None."""
        return None if self._feed is None else self._feed.producer

    @property
    def feeding(self) -> bool:
        """More is to be written, or ended, when what was written has left."""
        return self._writing and (self._feed is not None or self._state in DRAINING)

    @property
    def failure(self) -> Failure | None:
        """What the application's code raised, if it did."""
        return self._failure

    def getHost(self) -> Host:
        """The address of our socket, also after the end (TR-6)."""
        return self._host

    def getPeer(self) -> Host:
        """The peer's present or last address, also after the end (TR-6)."""
        raw, shown = self._peer
        if raw != self.session.address:
            raw = self.session.address
            shown = toTwisted(raw)
            self._peer = (raw, shown)
        return shown

    def logPrefix(self) -> str:
        """The protocol's name, the session's number and the peer (TR-9)."""
        protocol = self.protocol
        if ILoggingContext.providedBy(protocol):
            name = protocol.logPrefix()
        else:
            name = type(protocol).__name__
        peer = self.getPeer()
        return f"{name},{self.session.number},{peer.host}:{peer.port}"

    # IRUDPTransport

    def counters(self) -> Mapping[str, int]:
        """See L{IRUDPTransport<twisted_rudp.interfaces.IRUDPTransport>}."""
        return self._engine.counters()

    def facts(self) -> Mapping[str, Any]:
        """See L{IRUDPTransport<twisted_rudp.interfaces.IRUDPTransport>}."""
        return self._engine.facts()

    def configure(self, **changes: Any) -> None:
        """See L{IRUDPTransport<twisted_rudp.interfaces.IRUDPTransport>}."""
        host = self.session.host
        ofSocket = {name: changes.pop(name) for name in SOCKET_SETTINGS.keys() & changes.keys()}
        reconfigure = host.configure(ofSocket, session=True) if ofSocket else None
        if changes or reconfigure is None:
            engine = configurable(self._engine)
            if engine is None:
                raise ValueError("this transport has no settings that can be changed")
            engine.configure(changes, self._schedule.clock.now())
            self._schedule.touch(self.session)
        if reconfigure is not None:
            reconfigure()

    def sendOutOfBand(self, data: bytes) -> None:
        """See L{IRUDPTransport<twisted_rudp.interfaces.IRUDPTransport>}."""
        if not isinstance(data, bytes):
            raise TypeError(f"Data must be bytes, not {type(data).__name__}")
        if self._writing:
            self._engine.send(data, Delivery.OUT_OF_BAND)
            self._schedule.touch(self.session)

    # closing

    def loseConnection(self) -> None:
        """
        Close after all that was written, and all that a registered producer still
        writes, is delivered (CLOSE-1, CLOSE-2).
        """
        if self._feed is not None and self._feed.over:
            self.unregisterProducer()
        self._step(Cause.LOSE)

    def abortConnection(self) -> None:
        """Give up now; C{connectionLost} follows in a later turn (CLOSE-7)."""
        self._step(Cause.ABORT)

    def _step(self, cause: Cause) -> bool:
        """
        @return: whether C{cause} has changed the state.
        """
        state = after(self._state, cause)
        if state is None:
            return False
        self._state = state
        self._writing = state in WRITING
        self._reading = state in READING
        session = self.session
        if state in DISCONNECTING:
            session.host.guard.hold(self)
        if state is State.CLOSING:
            self._close()
        elif state is State.DRAINING:
            self._schedule.later(session, self._read)
        elif state is State.ABORTING:
            self._schedule.later(session, self._abort)
        if self.feeding:
            self._wantFlushed()
        if state is not State.LOST:
            self._schedule.touch(session)
        return True

    def _wantFlushed(self) -> None:
        """Have L{sessionFlushed} asked after each flush: more is to be written, or ended."""
        if self.session.alive:
            self.session.feeder = self

    def _close(self) -> None:
        """Have the engine end in order."""
        self._engine.close(self._schedule.clock.now())

    def _abort(self) -> None:
        """Have the engine give up."""
        self._engine.abort(self._schedule.clock.now())
        self._schedule.touch(self.session)

    def _read(self) -> None:
        """Deliver what waits, or throw it away when nobody wants it any more."""
        raise NotImplementedError

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        See C{IConsumer}. A pull producer is asked at once, for the first time
        (FLOW-3).

        @raise RuntimeError: there is one already (FLOW-4).
        """
        if self._feed is not None:
            raise RuntimeError(
                f"Cannot register producer {producer}, because producer "
                f"{self._feed.producer} was never unregistered."
            )
        if not self._writing:
            self._call(producer.stopProducing)
            return
        self._feed = feed = Feed(producer, streaming)
        self._wantFlushed()
        if not streaming:
            self._schedule.touch(self.session)
            if feed.mustResume(0, self._schedule.turn):
                self._call(producer.resumeProducing)

    def unregisterProducer(self) -> None:
        """Harmless without a producer. A close that waited for it goes on (CLOSE-2)."""
        if self._feed is not None:
            self._feed = None
            if self._state in DRAINING:
                self._schedule.touch(self.session)

    def _fed(self, feed: Feed, size: int) -> None:
        """So many bytes were given to the engine while a producer is registered."""
        feed.room -= size
        if feed.room < 0 and feed.mustPause(self._engine.unsent(self.stream)):
            self._call(feed.producer.pauseProducing)

    def _stopFeed(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            self._call(feed.producer.stopProducing)

    # IPushProducer

    def pauseProducing(self) -> None:
        """Deliver nothing more, from this moment on (FLOW-6)."""
        self._paused = True

    def resumeProducing(self) -> None:
        """
        Deliver again, from the next turn on; the peer is told of the open window
        then (FLOW-7, FLOW-8).
        """
        if self._paused and self._reading:
            self._paused = False
            self._schedule.later(self.session, self._resume)

    def stopProducing(self) -> None:
        """As C{loseConnection} (FLOW-10)."""
        self.loseConnection()

    def _resume(self) -> None:
        self._read()
        self._schedule.touch(self.session)

    # the session's owner

    def makeConnection(self, protocol: Any) -> bool:
        """
        Give the connection to its protocol (CONN-1).

        @return: False if that raised; L{failure} says what, and the connection is
            on its way to C{connectionLost}.
        """
        self.protocol = protocol
        self._step(Cause.MADE)
        return self._call(protocol.makeConnection, self)

    def sessionConnected(self, session: Session, early: bool) -> None:
        """Known already."""

    def sessionReadable(self, stream: int | None) -> None:
        """Something waits to be taken."""
        self._read()

    def sessionEvent(self, event: tuple[Any, ...]) -> None:
        """What else happened, by kind of transport."""
        raise NotImplementedError

    def sessionShare(self, budget: int) -> int:
        """What a paused producer will add to is not sent to the last byte."""
        feed = self._feed
        if feed is None or not feed.paused:
            return budget
        share = self._engine.unsent(self.stream) - LOW_WATER
        # Whole runs, which leaves a little less than the mark.
        share = LEAST_SHARE if share < LEAST_SHARE else -(-share // RUN_BYTES) * RUN_BYTES
        return budget if budget < share else share

    def sessionFlushed(self) -> bool:
        """Refill from the producer, or go on with what waited for empty buffers."""
        feed = self._feed
        if not self.feeding:
            if self.session.feeder is self:
                self.session.feeder = None
            return False
        unsent = self._engine.unsent(self.stream)
        if feed is None:
            return unsent == 0 and self._drained()
        if not feed.mustResume(unsent, self._schedule.turn):
            return False
        if not feed.streaming:
            self._schedule.requeue(self.session)
        self._call(feed.producer.resumeProducing)
        return self._engine.unsent(self.stream) > unsent or self._feed is None

    def _drained(self) -> bool:
        return self._step(Cause.DRAINED)

    def sessionShutdown(self, session: Session) -> None:
        """
        The reactor stops: what was written is still delivered and the peer is told of an
        ordinary end. The protocol hears that the connection was lost (PORT-5).
        """
        if self._state not in DISCONNECTING and self._state is not State.LOST:
            self._failure = self._failure or failureFor(
                Reason.SOCKET_LOST, "the reactor stops", Phase.CONNECTED
            )
            self._stopFeed()
            self._step(Cause.LOSE)

    def sessionEnded(self, reason: Reason, detail: str | None) -> None:
        """Tell the producer, then the protocol, then drop both (FLOW-5, CLOSE-10)."""
        if self._state is State.ABORTING:
            reason = Reason.ABORTED
        self._over(self._failure or failureFor(reason, detail, Phase.CONNECTED))

    def _over(self, failure: Failure) -> None:
        if not self._step(Cause.OVER):
            return
        self._stopFeed()
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            self._call(protocol.connectionLost, failure)
        self._failure = None
        self.session.host.guard.release(self)
        lost, self._lost = self._lost, None
        if lost is not None:
            lost()

    def _call(self, function: Callable[..., object], *arguments: object) -> bool:
        """
        Call the application. What it raises ends this connection, with the exception
        itself as reason, and no other (FAC-5).
        """
        try:
            function(*arguments)
        except Exception:
            self._raised(function)
            return False
        return True

    def _raised(self, function: Callable[..., object]) -> None:
        """From inside of an exception's handler: C{function} of the application raised it."""
        failure = logged(Failure(), function)  # type: ignore[no-untyped-call]
        if self._state is not State.LOST:
            self._failure = self._failure or failure
            self._step(Cause.ABORT)
