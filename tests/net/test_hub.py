from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.net.support import SECRET, FakePort, SuccessorLog
from tests.toys.base import ToyDemultiplexer, ToyEngine
from tests.toys.conversations import HEADER, HELLO, CipherDemultiplexer
from tests.toys.parcels import PING, ParcelDemultiplexer
from tests.toys.paths import CHALLENGE, KNOCK, PathDemultiplexer
from tests.toys.paths import HEADER as PATH_HEADER
from twisted_rudp.core.engine import (
    SECOND,
    Address,
    Admit,
    Buffer,
    Drop,
    Emit,
    Event,
    Key,
    PathError,
    Reason,
    Reply,
    Route,
    SessionTable,
    Verdict,
)
from twisted_rudp.net import table
from twisted_rudp.net.handover import Divider
from twisted_rudp.net.hub import Hub
from twisted_rudp.net.session import (
    HANDSHAKE_DATAGRAMS,
    REFUSAL_MEMORY,
    TURN_BUDGET,
    Session,
    SessionState,
)
from twisted_rudp.net.table import (
    ADDRESS_JUDGEMENTS,
    ADDRESS_RUNS,
    MAX_BANS,
    TURN_ADDRESSES,
    TURN_JUDGEMENTS,
    TURN_TIME,
    Limits,
)
from twisted_rudp.net.udp.whentoread import LONGEST_WAIT

PEER = ("10.0.0.2", 5000)
RUN = 65_000


class Scripted(ToyEngine):
    """Does what the test says and remembers what it was asked."""

    def __init__(self, address: Address = PEER, *keys: Key) -> None:
        super().__init__(address)
        self.validated = True
        self.named = keys or (address,)
        self.runs: list[tuple[bytes, int]] = []
        self.heard: list[int] = []
        self.runsToSend = 0
        self.runLength = RUN
        self.due: int | None = None
        self.ticks: list[int] = []
        self.budgets: list[int] = []
        self.broken = ""
        self.errors: list[tuple[PathError, int]] = []
        self.aborted = 0

    def keys(self) -> Sequence[Key]:
        return self.named

    def breakIn(self, name: str) -> None:
        if self.broken == name:
            raise ZeroDivisionError(name)

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        self.runs.append((bytes(run), size))
        self.heard.append(now)
        self.breakIn("receive")

    def flush(self, now: int, emit: Emit, budget: int) -> bool:
        self.breakIn("flush")
        self.budgets.append(budget)
        while self.runsToSend:
            if budget < self.runLength:
                return True
            budget -= self.runLength
            self.runsToSend -= 1
            if not emit(bytes(self.runLength), 1300, self.address):
                return False
        return False

    def tick(self, now: int) -> None:
        self.breakIn("tick")
        self.due = None
        self.ticks.append(now)

    def deadline(self) -> int | None:
        self.breakIn("deadline")
        return self.due

    def path_error(self, kind: PathError, size: int, address: Address, now: int) -> None:
        self.errors.append((kind, size))

    def abort(self, now: int) -> None:
        self.aborted += 1
        self.end(Reason.ABORTED)


class ScriptedDemultiplexer(ToyDemultiplexer):
    """The key is the sender's address; an unknown peer gets the verdict the test has chosen."""

    def __init__(self, verdict: Verdict | None = None) -> None:
        super().__init__()
        self.verdict = verdict or Drop("unwanted")
        self.asked: list[bytes] = []
        self.table: SessionTable | None = None
        self.complaint: str | None = None
        self.broken = ""

    def breakIn(self, name: str) -> None:
        if self.broken == name:
            raise ZeroDivisionError(name)

    def open(
        self, run: Buffer, size: int, address: Address
    ) -> Sequence[tuple[Key | None, Buffer, int]]:
        self.breakIn("open")
        return [(address, run, size)]

    def unknown_peer(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> Verdict:
        self.asked.append(bytes(datagram))
        self.table = table
        self.breakIn("unknown_peer")
        return self.verdict

    def continues(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> bool:
        self.breakIn("continues")
        return False

    def deadline(self) -> int | None:
        self.breakIn("deadline")
        return super().deadline()

    def diagnosis(self) -> str | None:
        return self.complaint


class Watcher:
    """An owner that remembers."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.again = 0
        self.share: int | None = None
        self.writes = False
        self.session: Session | None = None
        self.disconnecting = False

    def sessionConnected(self, session: Session, early: bool) -> None:
        self.session = session
        self.told.append("connected")

    def sessionReadable(self, stream: int | None) -> None:
        self.told.append(("readable", stream))

    def sessionEvent(self, event: tuple[Any, ...]) -> None:
        self.told.append(event)

    def sessionShare(self, budget: int) -> int:
        return budget if self.share is None else min(budget, self.share)

    def sessionFlushed(self) -> bool:
        self.again -= 1
        if self.again >= 0 and self.writes and self.session is not None:
            self.session.host.schedule.touch(self.session)
        return self.again >= 0

    def sessionShutdown(self, session: Session) -> None:
        self.told.append("shutdown")
        session.close()

    def sessionEnded(self, reason: Reason, detail: str | None) -> None:
        self.told.append(reason)


class HubCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Clock()
        self.port = FakePort()
        self.owner = Watcher()
        self.demux: Any = ScriptedDemultiplexer()
        self.hub = self.make()

    def make(self, **named: Any) -> Hub:
        named.setdefault("acceptor", self.owner)
        hub = Hub(self.reactor, self.demux, **named)
        hub.attach(self.port)
        self.addCleanup(hub.close)
        return hub

    def receive(self, data: bytes = b"x", size: int = 0, address: Address = PEER) -> None:
        """One read turn with one run."""
        self.hub.runReceived(data, size or len(data), address)
        self.hub.turnEnded()

    def enter(self, engine: Scripted) -> Session:
        """A session as if its peer had been proved long ago."""
        session = self.hub.dial(engine, engine.address, self.owner)
        session.feeder = self.owner
        engine.say(Event.CONNECTED, False)
        self.reactor.advance(0)
        self.owner.told.clear()
        return session

    def counts(self) -> dict[str, int]:
        return dict(self.hub.snapshot().counters)


class TurnTests(HubCase):
    def test_oneFlush(self) -> None:
        """However many runs a turn brings, a session is flushed once, at its end."""
        engine = Scripted()
        self.enter(engine)
        engine.budgets.clear()
        for _ in range(3):
            self.hub.runReceived(b"abab", 2, PEER)
        self.assertEqual(engine.budgets, [])
        self.hub.turnEnded()
        self.assertEqual(len(engine.budgets), 1)
        self.assertEqual(engine.runs, [(b"abab", 2)] * 3)

    def test_outsideTurn(self) -> None:
        """Writes outside a read turn schedule one call for the whole hub (TR-8)."""
        one, other = Scripted(), Scripted(("10.0.0.3", 1))
        sessions = [self.enter(one), self.enter(other)]
        one.budgets.clear()
        for session in sessions * 3:
            self.hub.schedule.touch(session)
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.reactor.advance(0)
        self.assertEqual((len(one.budgets), self.reactor.getDelayedCalls()), (1, []))

    def test_insideTurn(self) -> None:
        """A write inside a read turn schedules nothing."""
        session = self.enter(Scripted())
        self.hub.runReceived(b"x", 1, PEER)
        self.hub.schedule.touch(session)
        self.hub.turnEnded()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_timeOfArrival(self) -> None:
        """
        Each run of a long turn comes at its own time: round trips that are measured
        with an earlier one would be too short.
        """
        engine = Scripted()
        self.enter(engine)
        for _ in range(2):
            self.reactor.advance(0.020)
            self.hub.runReceived(b"x", 1, PEER)
        self.hub.turnEnded()
        self.assertEqual(engine.heard[1] - engine.heard[0], 20_000_000)

    def test_behind(self) -> None:
        """A timer waits while a turn has left something in the socket: it may be its answer."""
        engine = Scripted()
        session = self.enter(engine)
        now = self.hub.schedule.clock.now()
        engine.due = now + 100_000_000
        self.hub.schedule.touch(session)
        self.reactor.advance(0)
        for _ in range(15):
            self.port.counters.unfinished += 1
            self.reactor.advance(0.010)
            self.receive(address=("10.0.0.9", 1))
        self.assertEqual(engine.ticks, [])
        self.receive(address=("10.0.0.9", 1))
        self.reactor.advance(0.030)
        self.assertEqual(len(engine.ticks), 1)

    def test_budget(self) -> None:
        """One session sends eight runs a turn; the rest goes on in the next, in turn with others."""  # noqa: E501
        greedy, modest = Scripted(), Scripted(("10.0.0.3", 1))
        first, second = self.enter(greedy), self.enter(modest)
        greedy.runsToSend, modest.runsToSend = 20, 10
        self.hub.schedule.touch(first)
        self.hub.schedule.touch(second)
        self.reactor.advance(0)
        order = [address for _, _, address in self.port.sent]
        eight = TURN_BUDGET // RUN
        self.assertEqual(order[: 2 * eight], [PEER] * eight + [modest.address] * eight)
        self.reactor.advance(0)
        self.reactor.advance(0)
        self.assertEqual(len(self.port.sent), 30)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_refill(self) -> None:
        """What an owner adds after a flush leaves in the same turn, within the budget."""
        engine = Scripted()
        session = self.enter(engine)
        engine.budgets.clear()
        engine.runsToSend = 2
        self.owner.again = 2
        self.hub.schedule.touch(session)
        self.reactor.advance(0)
        self.assertEqual(engine.budgets, [TURN_BUDGET] + [TURN_BUDGET - 2 * RUN] * 2)

    def test_refillIsSent(self) -> None:
        """No turn of its own follows for what an owner wrote and the same turn has sent."""
        engine = Scripted()
        session = self.enter(engine)
        engine.budgets.clear()
        self.owner.again = 2
        self.owner.writes = True
        self.hub.schedule.touch(session)
        self.reactor.advance(0)
        self.assertEqual((len(engine.budgets), self.reactor.getDelayedCalls()), (3, []))

    def test_share(self) -> None:
        """
        An owner that is about to add to a rest has it left behind, is asked, and the
        rest leaves with what was added, in the same turn.
        """
        engine = Scripted()
        session = self.enter(engine)
        engine.budgets.clear()
        engine.runsToSend = 3
        self.owner.share = 2 * RUN
        self.owner.again = 1
        self.hub.schedule.touch(session)
        self.reactor.advance(0)
        self.assertEqual(engine.budgets, [2 * RUN] * 2)
        self.assertEqual((len(self.port.sent), self.reactor.getDelayedCalls()), (3, []))

    def test_shareTooSmall(self) -> None:
        """A share in which nothing leaves ends the turn; it does not spin."""
        engine = Scripted()
        session = self.enter(engine)
        engine.budgets.clear()
        engine.runsToSend = 1
        self.owner.share = RUN - 1
        self.hub.schedule.touch(session)
        self.reactor.advance(0)
        self.assertEqual((engine.budgets, self.port.sent), ([RUN - 1], []))

    def test_full(self) -> None:
        """A full port stops all flushing until it is writable; nothing is lost."""
        engine, other = Scripted(), Scripted(("10.0.0.3", 1))
        first, second = self.enter(engine), self.enter(other)
        engine.runsToSend, other.runsToSend = 3, 1
        self.port.room = 1
        self.hub.schedule.touch(first)
        self.hub.schedule.touch(second)
        self.reactor.advance(0)
        self.assertEqual([address for _, _, address in self.port.sent], [PEER])
        self.assertTrue(self.hub.output.full)
        self.hub.schedule.touch(first)
        self.reactor.advance(1)
        self.assertEqual(len(self.port.sent), 1)
        self.port.room = None
        self.hub.portWritable()
        self.assertEqual(len(self.port.sent), 4)
        self.assertEqual((engine.runsToSend, other.runsToSend), (0, 0))

    def test_fullDelivers(self) -> None:
        """While the port is full, events are delivered all the same."""
        engine = Scripted()
        session = self.enter(engine)
        self.hub.output.full = True
        self.hub.schedule.later(session, lambda: engine.abort(0))
        self.hub.schedule.touch(session)
        self.reactor.advance(0)
        self.assertEqual(self.owner.told, [Reason.ABORTED])

    def test_later(self) -> None:
        """What is kept for later runs in a turn of its own, never in this one (ORD-2)."""
        session = self.enter(Scripted())
        calls: list[str] = []
        self.hub.runReceived(b"x", 1, PEER)
        self.hub.schedule.later(session, lambda: calls.append("later"))
        self.hub.turnEnded()
        self.assertEqual(calls, [])
        self.reactor.advance(0)
        self.assertEqual(calls, ["later"])

    def test_tick(self) -> None:
        """An engine is ticked at its deadline, then flushed."""
        engine = Scripted()
        engine.due = 30_000_000
        self.enter(engine)
        engine.budgets.clear()
        self.reactor.advance(0.02)
        self.assertEqual(engine.ticks, [])
        self.reactor.advance(0.01)
        self.assertEqual((engine.ticks, len(engine.budgets)), ([30_000_000], 1))

    def test_idle(self) -> None:
        """A hub with nothing to do has nothing scheduled (TIME-6)."""
        self.enter(Scripted())
        self.receive()
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class RoutingTests(HubCase):
    def test_keys(self) -> None:
        """After a KEYS event the new keys lead to the session and the old do not."""
        engine = Scripted(PEER, "old", "kept")
        session = self.enter(engine)
        engine.named = ("new", "kept")
        engine.say(Event.KEYS)
        self.hub.schedule.touch(session)
        self.reactor.advance(0)
        self.assertIs(self.hub.find("new"), session)
        self.assertIs(self.hub.find("kept"), session)
        self.assertIsNone(self.hub.find("old"))

    def test_keyTaken(self) -> None:
        """Nobody gets a key that another session holds."""
        first = self.enter(Scripted(PEER, "one"))
        second = self.enter(Scripted(PEER, "one", "two"))
        self.assertIs(self.hub.find("one"), first)
        self.assertEqual(self.counts()["keyTaken"], 1)
        self.hub.sessionClosed(second)
        self.assertIs(self.hub.find("one"), first)
        self.assertIsNone(self.hub.find("two"))

    def test_path(self) -> None:
        """After a PATH event the session is at the new address."""
        engine = Scripted()
        session = self.enter(engine)
        engine.say(Event.PATH, ("10.9.9.9", 1))
        self.hub.schedule.touch(session)
        self.reactor.advance(0)
        self.assertEqual(session.address, ("10.9.9.9", 1))

    def test_pathError(self) -> None:
        """A path error reaches the sessions at that address and no other."""
        one, other = Scripted(), Scripted(("10.0.0.3", 1))
        self.enter(one)
        self.enter(other)
        self.hub.pathError(PathError.TOO_BIG, 1400, PEER)
        self.hub.turnEnded()
        self.assertEqual((one.errors, other.errors), ([(PathError.TOO_BIG, 1400)], []))

    def test_streamEvents(self) -> None:
        """Events of streams go to the owner in their order."""
        engine = Scripted()
        self.enter(engine)
        engine.say(Event.READABLE, 0)
        engine.say(Event.STREAM_ENDED, 0)
        self.receive()
        self.assertEqual(self.owner.told, [("readable", 0), (Event.STREAM_ENDED, 0)])


class GuardTests(HubCase):
    def check(self, where: str) -> None:
        engine, other = Scripted(), Scripted(("10.0.0.3", 1))
        self.enter(engine)
        self.enter(other)
        engine.broken = where
        engine.due = 0
        self.receive()
        self.receive(address=other.address)
        self.reactor.advance(0.1)
        self.assertEqual(self.owner.told, [Reason.INTERNAL])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(other.runs), 1)
        received = len(engine.runs)
        self.receive()
        self.assertEqual(len(engine.runs), received)
        self.reactor.advance(REFUSAL_MEMORY / SECOND + 1)
        self.assertIsNone(self.hub.find(PEER))
        self.assertEqual(len(self.hub.living()), 1)

    def test_receive(self) -> None:
        """An exception in C{receive} ends that session as INTERNAL, the others live."""
        self.check("receive")

    def test_flush(self) -> None:
        """An exception in C{flush} ends that session only."""
        self.check("flush")

    def test_tick(self) -> None:
        """An exception in C{tick} ends that session only."""
        self.check("tick")

    def test_deadline(self) -> None:
        """An exception in C{deadline} ends that session only."""
        self.check("deadline")

    def test_many(self) -> None:
        """Who can make sessions fail does not fill the log with it (LOG-2)."""
        for number in range(20):
            engine = Scripted(("10.0.0.9", 1 + number))
            self.enter(engine)
            engine.broken = "receive"
            self.receive(address=engine.address)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.counts()["sessionsFailed"], 20)

    def test_later(self) -> None:
        """An exception in what was to be called in a later turn ends that session only."""
        session, other = self.enter(Scripted()), self.enter(Scripted(("10.0.0.3", 1)))

        def fail() -> None:
            raise ZeroDivisionError

        self.hub.schedule.later(session, fail)
        self.reactor.advance(0)
        self.assertEqual(self.owner.told, [Reason.INTERNAL])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((session.alive, other.alive), (False, True))

    def test_demultiplexer(self) -> None:
        """A demultiplexer that raises costs a log line a minute and nothing else."""
        for where in ("open", "unknown_peer", "deadline"):
            with self.subTest(where):
                self.hub.close()
                self.demux, self.port = ScriptedDemultiplexer(), FakePort()
                self.hub = self.make()
                known = Scripted()
                self.enter(known)
                self.demux.broken = where
                for _ in range(5):
                    self.receive(address=("10.0.0.9", 9))
                    self.reactor.advance(0)
                self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
                self.assertTrue(self.counts()["demuxFailed"] >= 5)
                self.demux.broken = ""
                self.receive()
                self.assertEqual(known.runs, [(b"x", 1)])

    def test_whose(self) -> None:
        """A demultiplexer that cannot say whose a datagram is leaves it to the successor."""
        self.enter(Scripted())
        for where in ("open", "continues"):
            with self.subTest(where):
                self.demux.broken = where
                stranger = ("10.0.0.9", 9)
                self.assertFalse(self.hub.owns(memoryview(b"x"), stranger))
                self.assertFalse(self.hub.ownsAll(b"x" * 4, 2, stranger))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class ByFirstByte(ScriptedDemultiplexer):
    """Several sessions at one address: the first byte of a datagram says which."""

    def open(
        self, run: Buffer, size: int, address: Address
    ) -> Sequence[tuple[Key | None, Buffer, int]]:
        return self.cut(run, size, lambda datagram: datagram[:1])


class DividerTests(HubCase):
    """L{Divider}: a socket with two owners, here with sessions at one address."""

    def setUp(self) -> None:
        super().setUp()
        self.demux = ByFirstByte()
        self.hub = self.make()
        self.ours = Scripted(PEER, b"o")
        self.enter(self.ours)
        self.successor = SuccessorLog()
        self.divider = Divider(self.hub, self.successor)

    def divide(self, run: bytes, size: int) -> None:
        self.divider.runReceived(run, size, PEER)
        self.divider.turnEnded()

    def test_cut(self) -> None:
        """A run is cut where the owner changes; each gets its datagrams in order."""
        self.divider.calledAt(b"local")
        self.divide(b"o1o2t1o3t2t3t", 2)
        self.assertEqual(self.ours.runs, [(b"o1o2", 2), (b"o3", 2)])
        parts = [(b"t1", 2, b"local"), (b"t2t3t", 2, b"local")]
        self.assertEqual(self.successor.told, [*parts, "turn"])

    def test_one(self) -> None:
        """Runs of one owner stay whole, and a turn that was not its does not concern him."""
        self.divide(b"o1o2o", 2)
        self.assertEqual((self.ours.runs, self.successor.told), ([(b"o1o2o", 2)], []))
        self.divide(b"t1t2t", 2)
        self.assertEqual(self.successor.told, [(b"t1t2t", 2, b""), "turn"])

    def test_both(self) -> None:
        """What concerns the socket or an address is told to both."""
        self.divider.pathError(PathError.REFUSED, 9, PEER)
        self.divider.portWritable()
        self.reactor.advance(0)
        self.assertEqual(self.ours.errors, [(PathError.REFUSED, 9)])
        failure = Failure(ConnectionLost())
        self.divider.portLost(failure)
        self.assertEqual(self.owner.told, [Reason.SOCKET_LOST])
        self.assertEqual(
            self.successor.told, [(PathError.REFUSED, 9), "writable", failure]
        )

    def test_closed(self) -> None:
        """After the end of the first owner everything is the successor's."""
        self.hub.close()
        self.divide(b"o1", 2)
        self.assertEqual(self.successor.told, [(b"o1", 2, b""), "turn"])


class UnknownPeerTests(HubCase):
    def admit(self, address: Address, validated: bool = False) -> Scripted:
        engine = Scripted(address)
        engine.validated = validated
        self.demux.verdict = Admit(engine)
        self.receive(address=address)
        return engine

    def test_drop(self) -> None:
        """What the demultiplexer drops is counted by its reason."""
        self.receive(b"abcdef", 2)
        self.assertEqual(self.demux.asked, [b"ab", b"cd", b"ef"])
        self.assertEqual(self.counts()["dropped.unwanted"], 3)

    def test_reply(self) -> None:
        """An unknown peer is answered with at most three times what it sent."""
        self.demux.verdict = Reply((b"123", b"456"))
        self.receive(b"ab")
        self.assertEqual([run for run, _, _ in self.port.sent], [b"123", b"456"])
        self.demux.verdict = Reply((b"123", b"4567"))
        self.receive(b"ab")
        self.assertEqual(len(self.port.sent), 2)
        self.assertEqual((self.counts()["replied"], self.counts()["replyTooLong"]), (1, 1))

    def test_replyFull(self) -> None:
        """Nobody waits for an answer that finds the port full: it is dropped and counted."""
        self.demux.verdict = Reply((b"1", b"2"))
        self.port.room = 1
        self.receive(b"ab")
        self.assertEqual([run for run, _, _ in self.port.sent], [b"1"])
        self.assertEqual(self.counts()["demuxDatagramsDropped"], 1)
        self.port.room = None
        self.hub.portWritable()
        self.receive(b"ab")
        self.assertEqual(len(self.port.sent), 3)

    def test_longReply(self) -> None:
        """A demultiplexer that limits such answers itself may ask for a larger factor."""
        self.demux.verdict = Reply((b"123456789",), 4)
        self.receive(b"ab")
        self.receive(b"abc")
        self.assertEqual([run for run, _, _ in self.port.sent], [b"123456789"])
        self.assertEqual((self.counts()["replied"], self.counts()["replyTooLong"]), (1, 1))

    def test_route(self) -> None:
        """A datagram that is recognised goes to that session; one of nobody is counted."""
        engine = Scripted(PEER, "known")
        self.enter(engine)
        self.demux.verdict = Route("known")
        self.receive(b"parity", address=("10.7.7.7", 7))
        self.assertEqual(engine.runs, [(b"parity", 6)])
        self.demux.verdict = Route("unknown")
        self.receive(b"parity", address=("10.7.7.7", 7))
        self.assertEqual(self.counts()["dropped.noSession"], 1)

    def test_admitRest(self) -> None:
        """The rest of the run that brought a session is its own, in one piece."""
        engine = Scripted()
        self.demux.verdict = Admit(engine)
        self.receive(b"aabbc", 2)
        self.assertEqual(engine.runs, [(b"aa", 2), (b"bbc", 2)])
        self.assertEqual(self.demux.asked, [b"aa"])

    def test_replaces(self) -> None:
        """A session may take the place of an old one, which ends without a word."""
        old = Scripted(PEER, "old")
        ended = self.enter(old)
        engine = Scripted(PEER, "new")
        engine.validated = True
        self.demux.verdict = Admit(engine, replaces=("old",))
        self.receive(b"aa", address=PEER)
        self.assertEqual(ended.state, SessionState.CLOSED)
        self.assertEqual(self.owner.told, [Reason.RESET])
        self.assertEqual(self.port.sent, [])
        self.assertEqual((old.runs, engine.runs), ([], [(b"aa", 2)]))
        self.assertIsNone(self.hub.find("old"))

    def test_replacesWhenValidated(self) -> None:
        """
        Whoever can forge an address ends nobody's session: the old one lives until the
        address of the new one is validated.
        """
        old = Scripted(PEER, "old")
        self.enter(old)
        engine = Scripted(PEER, "new")
        engine.validated = False
        self.demux.verdict = Admit(engine, replaces=("old",))
        self.receive(b"aa", address=PEER)
        self.assertEqual(self.owner.told, [])
        self.assertIsNotNone(self.hub.find("old"))
        # That it was shown to the application is no proof of its address.
        engine.say(Event.CONNECTED, False)
        self.demux.keys = ["new"]
        self.receive(b"aa", address=PEER)
        self.assertIsNotNone(self.hub.find("old"))
        engine.validated = True
        self.demux.keys = ["new"]
        self.receive(b"bb", address=PEER)
        self.assertEqual(self.owner.told, ["connected", Reason.RESET])
        self.assertIsNone(self.hub.find("old"))

    def test_replacesNobody(self) -> None:
        """That the old session is gone already changes nothing."""
        engine = Scripted(PEER, "new")
        self.demux.verdict = Admit(engine, replaces=("old",))
        self.receive(b"aa", address=PEER)
        self.assertEqual(engine.runs, [(b"aa", 2)])

    def test_credit(self) -> None:
        """Before its proof an address gets at most three times what came from it."""
        engine = Scripted()
        engine.validated = False
        engine.runLength = 10
        engine.runsToSend = 100
        self.demux.verdict = Admit(engine)
        self.receive(b"x" * 10)
        self.assertEqual(sum(len(run) for run, _, _ in self.port.sent), 30)
        self.reactor.advance(5)
        self.assertEqual(len(self.port.sent), 3)
        self.receive(b"x" * 4)
        self.assertEqual(len(self.port.sent), 4)
        engine.validated = True
        self.receive(b"x")
        self.assertEqual(engine.runsToSend, 0)
        self.assertEqual(self.counts()["unvalidated"], 0)

    def test_creditStrict(self) -> None:
        """An engine that does not mind its budget sends nothing more for that."""
        engine = Scripted()
        engine.validated = False

        def flush(now: int, emit: Emit, budget: int) -> bool:
            emit(bytes(31), 31, PEER)
            emit(bytes(10), 10, ("10.6.6.6", 6))
            emit(bytes(30), 30, PEER)
            return False

        engine.flush = flush  # type: ignore[method-assign]
        self.demux.verdict = Admit(engine)
        self.receive(b"x" * 10)
        self.assertEqual([len(run) for run, _, _ in self.port.sent], [30])
        self.assertEqual(self.counts()["allowanceExceeded"], 2)

    def test_creditAddress(self) -> None:
        """What comes from another address gives no credit for this one."""
        engine = Scripted(PEER, PEER, ("10.6.6.6", 6))
        engine.validated = False
        engine.runLength, engine.runsToSend = 10, 100
        self.demux.verdict = Admit(engine)
        self.receive(b"x")
        self.receive(b"x" * 1000, address=("10.6.6.6", 6))
        self.assertEqual(self.port.sent, [])

    def test_backlog(self) -> None:
        """C{backlog} bounds those without proof; a proof makes room (EP-7)."""
        self.hub = self.make(limits=Limits(backlog=2))
        engines = [self.admit((f"10.0.1.{number}", 1)) for number in range(3)]
        self.assertEqual([len(each.runs) for each in engines], [1, 1, 0])
        self.assertEqual(self.counts()["refused.backlog"], 1)
        self.assertEqual(self.demux.finished, [engines[2]])
        assert self.demux.table is not None
        self.assertFalse(self.demux.table.backlog_room)
        self.assertTrue(self.demux.table.room)
        engines[0].validated = True
        self.receive(address=engines[0].address)
        self.assertTrue(self.demux.table.backlog_room)
        self.assertEqual(len(self.admit(("10.0.1.9", 1)).runs), 1)

    def test_validatedDoNotCompete(self) -> None:
        """Whose address is validated finds room however many forged sources have come."""
        self.hub = self.make(limits=Limits(backlog=2, perHost=2, maxSessions=3))
        forged = [self.admit(("10.0.1.1", number)) for number in range(2)]
        honest = [self.admit(("10.0.1.1", 10 + number), True) for number in range(3)]
        self.assertEqual([len(each.runs) for each in honest], [1, 1, 1])
        # The bound on all sessions holds: the forged ones make room, the oldest first.
        self.assertEqual(self.counts()["alive"], 3)
        self.assertEqual([each.aborted for each in forged], [1, 1])
        self.assertEqual(self.counts()["displaced"], 2)
        assert self.demux.table is not None
        self.assertFalse(self.demux.table.room)
        late = self.admit(("10.0.1.1", 20), True)
        self.assertEqual((late.runs, self.counts()["refused.maxSessions"]), ([], 1))

    def test_maxSessions(self) -> None:
        """C{maxSessions} bounds all of them (EP-7)."""
        self.hub = self.make(limits=Limits(maxSessions=2))
        engines = [self.admit((f"10.0.1.{number}", 1), True) for number in range(3)]
        self.assertEqual([len(each.runs) for each in engines], [1, 1, 0])
        self.assertEqual(self.counts()["refused.maxSessions"], 1)

    def test_maxSessionsUnvalidated(self) -> None:
        """The same for those whose address is not validated."""
        self.hub = self.make(limits=Limits(maxSessions=1))
        self.admit(("10.0.1.1", 1), True)
        self.assertEqual(self.admit(("10.0.1.2", 1)).runs, [])
        self.assertEqual(self.counts()["refused.maxSessions"], 1)

    def test_bans(self) -> None:
        """An address that is banned gets no session; of very many the oldest is let in again."""
        for number in range(MAX_BANS + 1):
            self.hub.ban(f"10.{number >> 8}.{number & 255}.1", 60)
        self.assertEqual(self.admit(("10.0.1.1", 1), True).runs, [])
        self.assertEqual(len(self.admit(("10.0.0.1", 1), True).runs), 1)
        self.reactor.pump([1.0] * 61)
        self.assertEqual(len(self.admit(("10.0.1.1", 1), True).runs), 1)

    def test_perHost(self) -> None:
        """One host cannot fill the backlog."""
        self.hub = self.make(limits=Limits(perHost=2))
        engines = [self.admit(("10.0.1.1", 1000 + number)) for number in range(3)]
        self.assertEqual([len(each.runs) for each in engines], [1, 1, 0])
        self.assertEqual(len(self.admit(("10.0.1.2", 1)).runs), 1)

    def test_sessionsPerHost(self) -> None:
        """One validated host cannot take all sessions; an end, or a move, makes room (EP-7)."""
        self.hub = self.make(limits=Limits(sessionsPerHost=2))
        one = [self.admit(("2001:db8::1", 1000 + number, 0, 0), True) for number in range(2)]
        refused = self.admit(("2001:db8::2", 1, 0, 0), True)
        self.assertEqual([len(each.runs) for each in [*one, refused]], [1, 1, 0])
        self.assertEqual(self.counts()["refused.sessionsPerHost"], 1)
        self.assertEqual(len(self.admit(("2001:db8:0:1::1", 1, 0, 0), True).runs), 1)
        one[0].say(Event.PATH, ("2001:db8:0:2::1", 1, 0, 0))
        self.receive(address=one[0].address)
        self.assertEqual(len(self.admit(("2001:db8::1", 5, 0, 0), True).runs), 1)
        self.assertEqual(self.admit(("2001:db8::1", 6, 0, 0), True).runs, [])
        one[1].end(Reason.DONE)
        self.receive(address=one[1].address)
        self.assertEqual(len(self.admit(("2001:db8::1", 7, 0, 0), True).runs), 1)

    def test_ownSessions(self) -> None:
        """A quarter of all where nothing is said; this machine's own are not bounded."""
        self.hub = self.make(limits=Limits(maxSessions=400))
        for address, expected in (("10.0.1.1", 100), ("127.0.0.1", 150)):
            engines = [self.admit((address, 1000 + number), True) for number in range(150)]
            self.assertEqual(sum(len(each.runs) for each in engines), expected)

    def test_lapse(self) -> None:
        """A half-open session lapses after its time, and all trace of it."""
        engine = self.admit(PEER)
        self.assertEqual(self.counts()["alive"], 1)
        self.reactor.advance(10)
        self.assertEqual(self.counts()["alive"], 0)
        self.assertEqual(self.counts()["unvalidated"], 0)
        self.assertEqual(engine.aborted, 1)
        self.assertEqual(self.demux.finished, [engine])
        self.assertEqual(self.owner.told, [Reason.HANDSHAKE_TIMEOUT])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_notLapsed(self) -> None:
        """Who has been given to its owner does not lapse, proved or not."""
        engine = self.admit(PEER)
        engine.say(Event.CONNECTED, False)
        self.receive()
        self.reactor.advance(11)
        self.assertEqual(self.counts()["alive"], 1)

    def test_client(self) -> None:
        """A socket that was opened to dial lets nobody in."""
        self.hub = self.make(acceptor=None)
        self.demux.verdict = Admit(Scripted(("10.0.0.9", 9)))
        self.receive(address=("10.0.0.9", 9))
        self.assertEqual(self.counts()["refused.notAccepting"], 1)
        assert self.demux.table is not None
        self.assertFalse(self.demux.table.room)

    def test_diagnosis(self) -> None:
        """What does not fit is named once a minute."""
        lines: list[Any] = []
        globalLogPublisher.addObserver(lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, lines.append)
        self.demux.complaint = "the keys differ"
        for _ in range(130):
            self.receive()
            self.reactor.advance(0.5)
        said = [line["diagnosis"] for line in lines if "diagnosis" in line]
        self.assertEqual(said, ["the keys differ"] * 2)
        texts = [formatEvent(line) for line in lines if "diagnosis" in line]
        self.assertIn(" port ", texts[0])
        self.assertNotIn("IPv4Address", texts[0])

    @given(st.lists(st.tuples(st.binary(min_size=1, max_size=60), st.integers(1, 60))))
    @settings(max_examples=60, deadline=None, derandomize=True)
    def test_random(self, runs: list[tuple[bytes, int]]) -> None:
        """Random datagrams raise nothing, open nothing and log nothing above debug (UDP-7)."""
        lines: list[Any] = []
        globalLogPublisher.addObserver(lines.append)
        try:
            demuxes = (
                CipherDemultiplexer(SECRET, Random(1)),
                ParcelDemultiplexer(),
                PathDemultiplexer(Random(1)),
            )
            for demux in demuxes:
                self.demux = demux
                self.hub = self.make()
                for run, size in runs:
                    self.receive(bytes([0xFE]) + run, size, ("10.0.0.4", 4))
                self.assertEqual(self.hub.living(), [])
        finally:
            globalLogPublisher.removeObserver(lines.append)
        levels = {line["log_level"].name for line in lines if line.get("log_level")}
        self.assertLessEqual(levels, {"debug", "warn"})


class TimeWaitTests(HubCase):
    def test_answers(self) -> None:
        """A session that is over still answers, until its engine has forgotten it."""
        engine = Scripted()
        self.enter(engine)
        engine.end(Reason.DONE)
        self.receive()
        self.assertEqual(self.owner.told, [Reason.DONE])
        self.receive(b"late")
        self.assertEqual(engine.runs[-1], (b"late", 4))
        assert self.demux.asked == []
        engine.closed = True
        self.receive(b"later")
        self.assertIsNone(self.hub.find(PEER))
        self.assertEqual(self.demux.finished, [engine])
        self.assertEqual(self.owner.told, [Reason.DONE])

    def test_table(self) -> None:
        """The demultiplexer sees an engine that has ended until it is forgotten."""
        engine = Scripted()
        self.enter(engine)
        engine.end(Reason.DONE)
        self.receive()
        self.receive(address=("10.0.0.9", 9))
        assert self.demux.table is not None
        self.assertIs(self.demux.table.get(PEER), engine)

    def test_bounded(self) -> None:
        """At most so many sessions are in TIME-WAIT; the oldest goes first."""
        self.patch(table, "MAX_TIME_WAIT", 3)
        engines = [Scripted((f"10.0.2.{number}", 1)) for number in range(5)]
        for engine in engines:
            self.enter(engine)
            engine.end(Reason.DONE)
            self.receive(address=engine.address)
        found = [self.hub.find(engine.address) is not None for engine in engines]
        self.assertEqual(found, [False, False, True, True, True])
        self.assertEqual(self.demux.finished, engines[:2])
        self.assertEqual(self.counts()["timeWait"], 3)

    def test_refused(self) -> None:
        """A refused peer stays known for a while although its engine has forgotten it (PORT-6)."""
        engine = Scripted()
        session = self.enter(engine)
        engine.closed = True
        session.refuse()
        self.reactor.advance(0)
        self.receive(b"again")
        self.assertEqual((self.demux.asked, self.owner.told), ([], [Reason.ABORTED]))
        self.reactor.advance(REFUSAL_MEMORY / SECOND + 1)
        self.assertIsNone(self.hub.find(PEER))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_released(self) -> None:
        """A dropped session is not kept by the hub."""
        engine = Scripted()
        self.enter(engine)
        engine.closed = True
        engine.end(Reason.DONE)
        self.receive()
        self.owner.session = None
        self.demux.finished.clear()
        dropped = weakref.ref(engine)
        del engine
        gc.collect()
        self.assertIsNone(dropped())


class FloodTests(HubCase):
    """Sessions come first in a turn, unknown peers get a share of it."""

    def test_addresses(self) -> None:
        """What is kept until the end of a turn is bounded in the number of addresses, too."""
        for number in range(TURN_ADDRESSES + 3):
            self.hub.runReceived(b"xy", 1, ("10.0.0.9", number))
        self.assertEqual(len(self.hub.table.waiting), TURN_ADDRESSES)
        self.assertEqual(self.counts()["unknownPeersDropped"], 6)
        self.hub.turnEnded()
        self.assertEqual(len(self.hub.table.waiting), 0)

    def test_order(self) -> None:
        """What came for a session is dealt with and answered before unknown peers are asked."""
        engine = Scripted()
        self.enter(engine)
        order: list[str] = []
        self.demux.unknown_peer = lambda *arguments: order.append("unknown") or Drop("unwanted")
        engine.flush = lambda *arguments: order.append("flush") or False  # type: ignore[method-assign]
        self.hub.runReceived(b"junk", 1, ("10.0.0.9", 9))
        self.hub.runReceived(b"data", 4, PEER)
        self.assertEqual(order, [])
        self.hub.turnEnded()
        self.assertEqual(order, ["flush"] + ["unknown"] * 4)

    def test_share(self) -> None:
        """However much comes, few are looked at in a turn, and each address has its part."""
        flooder, honest = ("10.0.0.9", 9), ("10.0.0.8", 8)
        for _ in range(20):
            self.hub.runReceived(b"f" * 500, 1, flooder)
        self.hub.runReceived(b"h", 1, honest)
        self.hub.turnEnded()
        self.assertEqual(self.demux.asked.count(b"f"), ADDRESS_JUDGEMENTS)
        self.assertEqual(self.demux.asked.count(b"h"), 1)
        self.assertGreater(self.counts()["unknownPeersDropped"], 0)
        self.demux.asked.clear()
        for number in range(1000):
            self.hub.runReceived(b"ffffffff", 1, ("10.0.1.1", number + 1))
        self.hub.turnEnded()
        self.assertEqual(len(self.demux.asked), TURN_JUDGEMENTS)

    def test_halfOpen(self) -> None:
        """
        Whoever has opened a session, and sends more than a handshake takes without having proved
        anything, is an unknown peer still: served after those who have, and after those who send
        less, in rounds, and within the time that unknown peers get.
        """
        order: list[str] = []
        engine = self.enter(Scripted()).engine
        engine.receive = lambda *arguments: order.append("established")  # type: ignore[method-assign]
        opened: list[Scripted] = []
        for name in ("flooder", "honest"):
            newcomer = Scripted((name, 1))
            newcomer.validated = False
            self.demux.verdict = Admit(newcomer)
            for _ in range(HANDSHAKE_DATAGRAMS + 1):
                self.receive(address=newcomer.address)
            opened.append(newcomer)

        def receive(name: str) -> Callable[..., None]:
            return lambda *arguments: (order.append(name), self.reactor.advance(0.0001))[0]

        for newcomer in opened:
            newcomer.receive = receive(str(newcomer.address[0]))  # type: ignore[method-assign]
        for _ in range(100):
            self.hub.runReceived(b"f", 1, ("flooder", 1))
        self.hub.runReceived(b"h", 1, ("honest", 1))
        self.hub.runReceived(b"e", 1, PEER)
        self.hub.turnEnded()
        self.assertEqual(order[:10], ["established", "honest", *["flooder"] * ADDRESS_RUNS])
        self.assertApproximates(len(order), TURN_TIME // 100_000, 4)
        self.assertEqual(self.counts()["unknownPeersDropped"], 102 - len(order))

    def test_halfOpenRun(self) -> None:
        """
        One long run of such a session costs more than the time of all unknown peers: it takes
        nothing from who sends a datagram, and is not received to its end.
        """
        engine = Scripted(("flooder", 1))
        engine.validated = False
        self.demux.verdict = Admit(engine)
        for _ in range(HANDSHAKE_DATAGRAMS + 1):
            self.receive(address=engine.address)
        received: list[int] = []

        def receive(run: Buffer, size: int, address: Address, now: int) -> None:
            received.append(len(run))
            self.reactor.advance(len(run) * 0.00015)

        engine.receive = receive  # type: ignore[method-assign]
        self.demux.asked.clear()
        self.demux.verdict = Drop("unwanted")
        self.hub.runReceived(b"f" * 64, 1, engine.address)
        self.hub.runReceived(b"h", 1, ("honest", 1))
        self.hub.turnEnded()
        self.assertEqual(self.demux.asked, [b"h"])
        self.assertEqual(received, [ADDRESS_JUDGEMENTS] * 2)
        self.assertEqual(self.counts()["unknownPeersDropped"], 64 - sum(received))

    def test_halfOpenShown(self) -> None:
        """A peer that was given to the application is no unknown one, proved or not."""
        engine = Scripted(("10.0.0.3", 1))
        engine.validated = False
        self.demux.verdict = Admit(engine)
        for datagrams, shown in ((HANDSHAKE_DATAGRAMS, [engine.address]), (1, [])):
            for _ in range(datagrams):
                self.receive(address=engine.address)
            self.assertEqual(self.hub.table.addresses(), shown)
            self.assertEqual(self.hub.table.addresses([engine.address]), [])
        engine.say(Event.CONNECTED, False)
        self.receive(address=engine.address)
        self.assertEqual(self.hub.table.addresses([engine.address]), [engine.address])
        engine.runs.clear()
        self.hub.runReceived(b"d", 1, engine.address)
        self.assertEqual(len(engine.runs), 1)

    def test_opening(self) -> None:
        """An opening of many datagrams is judged by its first; the rest is the session's."""
        engine = Scripted()
        self.demux.verdict = Admit(engine)
        self.receive(b"a" * 100, 1)
        self.assertEqual([len(run) for run, _ in engine.runs], [1, 99])
        self.assertNotIn("unknownPeersDropped", self.counts())


class SourceTests(HubCase):
    """A socket with several addresses answers from the one that was called (F3)."""

    def test_sessions(self) -> None:
        """Each session keeps its own; a reply to an unknown peer leaves from where it came to."""
        one, other = Scripted(), Scripted(("10.0.0.3", 1))
        sources: list[bytes] = []
        send = self.port.send

        def sent(run: Buffer, size: int, address: Address) -> bool:
            sources.append(self.port.sendFrom)
            return send(run, size, address)

        self.port.send = sent  # type: ignore[method-assign]
        for engine, local in ((one, b"first"), (other, b"second")):
            self.enter(engine)
            self.hub.calledAt(local)
            self.receive(address=engine.address)
        for engine in (one, other, one):
            engine.runsToSend = 1
            self.hub.schedule.touch(self.hub.find(engine.address))
            self.reactor.advance(0)
        self.assertEqual(sources, [b"first", b"second", b"first"])
        self.hub.calledAt(b"third")
        self.demux.verdict = Reply((b"r",))
        self.receive(address=("10.0.0.9", 9))
        self.assertEqual(sources[-1], b"third")


class PatienceTests(HubCase):
    """How long the socket may be left alone (L{Hub.patience})."""

    def active(self, milliseconds: float, address: Address = PEER) -> Scripted:
        """A session with this round trip that something came for."""
        found = self.hub.find(address)
        engine: Any = Scripted(address) if found is None else found.engine
        if found is None:
            self.enter(engine)
        engine.round_trip = int(milliseconds * 1_000_000)
        self.receive(address=address)
        return engine

    def test_far(self) -> None:
        """A small part of the shortest round trip that was active of late."""
        self.active(80)
        self.assertEqual(self.hub.patience(), 10_000_000)
        self.active(16, ("10.0.0.3", 1))
        self.assertEqual(self.hub.patience(), 2_000_000)
        self.active(80)
        self.assertEqual(self.hub.patience(), 2_000_000)
        self.reactor.advance(1.1)
        self.active(80)
        self.assertEqual(self.hub.patience(), 10_000_000)

    def test_near(self) -> None:
        """A near peer is looked for at once, and nobody is waited for while it is active."""
        self.active(0.2)
        self.assertEqual(self.hub.patience(), 0)
        self.active(80, ("10.0.0.3", 1))
        self.assertEqual(self.hub.patience(), 0)
        self.reactor.advance(0.1)
        self.assertEqual(self.hub.patience(), 0)

    def test_junk(self) -> None:
        """What is no session's is not looked for; where nobody is slowed it may wait."""
        self.receive(b"junk", address=("10.0.0.9", 9))
        self.assertEqual(self.hub.patience(), LONGEST_WAIT)
        self.active(0.2)
        self.assertEqual(self.hub.patience(), 0)
        self.receive(b"junk", address=("10.0.0.9", 9))
        self.assertEqual(self.hub.patience(), -1)

    def test_handshake(self) -> None:
        """An engine that has measured nothing goes by the time the handshake took."""
        self.assertEqual(self.active(0).round_trip, 0)
        self.assertEqual(self.hub.patience(), 0)
        engine = Scripted(("10.0.0.4", 1))
        self.demux.verdict = Reply((b"r",))
        self.receive(address=engine.address)
        self.reactor.advance(1.1)
        self.receive(address=engine.address)
        self.reactor.advance(0.032)
        self.demux.verdict = Admit(engine)
        self.receive(address=engine.address)
        self.assertEqual(self.hub.patience(), 4_000_000)

    def test_pendingFirst(self) -> None:
        """When a timer is due, what waits in the socket is read before it."""
        engine = Scripted()
        self.enter(engine)
        engine.due = self.hub.now() + 30_000_000
        self.hub.schedule.touch(self.hub.find(PEER))
        self.reactor.advance(0)
        order: list[str] = []

        def read() -> None:
            order.append("read")
            engine.due = None
            self.receive()

        self.port.readPending = read  # type: ignore[method-assign]
        self.hub.attach(self.port)
        self.reactor.advance(0.03)
        self.assertEqual((order, engine.ticks), (["read"], []))


class LifeTests(HubCase):
    def test_portLost(self) -> None:
        """A lost port ends every session once, and sends nothing (PORT-5)."""
        lost: list[Failure] = []
        self.hub = self.make(lost=lost.append)
        engines = [Scripted(), Scripted(("10.0.0.3", 1))]
        for engine in engines:
            engine.due = 50_000_000
            self.enter(engine)
        self.port.sent.clear()
        failure = Failure(ConnectionLost())
        self.hub.portLost(failure)
        self.hub.portLost(failure)
        self.assertEqual(self.owner.told, [Reason.SOCKET_LOST] * 2)
        self.assertEqual((lost, self.port.sent), ([failure], []))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.receive()
        self.assertEqual(engines[0].runs, [])

    def test_clientSocket(self) -> None:
        """A socket of its own is closed before the end is told, after a last word."""
        self.hub = self.make(acceptor=None)
        engine = Scripted()
        self.hub.dial(engine, PEER, self.owner)
        self.reactor.advance(0)
        engine.end(Reason.DONE)
        engine.runsToSend = 1
        closed: list[bool] = []
        self.owner.sessionEnded = lambda reason, detail: closed.append(self.port.closed)  # type: ignore[method-assign]
        self.port.sent.clear()
        self.receive()
        self.assertEqual((closed, len(self.port.sent)), ([True], 1))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_closeBeforeTurn(self) -> None:
        """The turn that a write has asked for is not kept waiting for (TIME-6)."""
        engine = Scripted()
        self.enter(engine)
        [session] = self.hub.living()
        self.hub.schedule.touch(session)
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.hub.close()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_close(self) -> None:
        """Closing is idempotent and everybody who waits is told."""
        one, two = self.hub.close(), self.hub.close()
        self.assertIsNone(self.successResultOf(one))
        self.assertIsNone(self.successResultOf(two))
        self.assertTrue(self.port.closed)

    def closeHub(self, stream: int | None) -> None:
        self.hub.close()

    def test_closeFromInside(self) -> None:
        """A session that closes the hub from a callback leaves nothing behind."""
        engine = Scripted()
        engine.due = 1_000_000_000
        self.enter(engine)
        self.owner.sessionReadable = self.closeHub  # type: ignore[method-assign]
        engine.say(Event.READABLE, 0)
        self.receive()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_closeFromVisit(self) -> None:
        """A hub that is closed while it visits a session schedules nothing for it."""
        engine = Scripted()
        session = self.enter(engine)
        engine.due = 1_000_000_000
        self.owner.sessionReadable = self.closeHub  # type: ignore[method-assign]
        engine.say(Event.READABLE, 0)
        self.hub.schedule.touch(session)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_nested(self) -> None:
        """A nested dispatch is left to the loop that is running (ORD-3)."""
        engine = Scripted()
        session = self.enter(engine)

        def readable(stream: int | None) -> None:
            self.owner.told.append("in")
            if len(self.owner.told) == 1:
                engine.say(Event.READABLE, 0)
                session._dispatch()
            self.owner.told.append("out")

        self.owner.sessionReadable = readable  # type: ignore[method-assign]
        engine.say(Event.READABLE, 0)
        self.receive()
        self.assertEqual(self.owner.told, ["in", "out", "in", "out"])

    def test_states(self) -> None:
        """A session goes through its states in order."""
        engine = Scripted()
        self.demux.verdict = Admit(engine)
        self.receive()
        [session] = self.hub.living()
        states = [session.state]
        engine.say(Event.CONNECTED, False)
        self.receive()
        states.append(session.state)
        engine.end(Reason.DONE)
        self.receive()
        states.append(session.state)
        engine.closed = True
        self.receive()
        states.append(session.state)
        self.assertEqual(
            states,
            [
                SessionState.HANDSHAKE,
                SessionState.ESTABLISHED,
                SessionState.TIME_WAIT,
                SessionState.CLOSED,
            ],
        )


class DemultiplexerTests(HubCase):
    def test_halfOpen(self) -> None:
        """The demultiplexer's half-open table is ticked: it repeats, then lapses, then is idle."""
        self.demux = PathDemultiplexer(Random(3))
        self.hub = self.make()
        self.receive(PATH_HEADER.pack(KNOCK, 7, 0))
        self.reactor.advance(1.0)
        kinds = [PATH_HEADER.unpack_from(run)[0] for run, _, _ in self.port.sent]
        self.assertEqual(kinds, [CHALLENGE, CHALLENGE])
        self.reactor.advance(2.5)
        self.assertEqual(self.demux.counts, {"halfOpenLapsed": 1})
        self.assertEqual((len(self.port.sent), self.reactor.getDelayedCalls()), (2, []))

    def test_pingWhileConnected(self) -> None:
        """Connectionless traffic is answered although its address has a session."""
        self.demux = ParcelDemultiplexer(b"me")
        self.hub = self.make()
        session = self.hub.dial(Scripted(), PEER, self.owner)
        self.receive(bytes([PING, 1]))
        self.assertEqual([run for run, _, _ in self.port.sent], [b"\x01me"])
        self.assertIs(self.hub.find(PEER), session)

    def test_cipher(self) -> None:
        """What does not open is counted by the demultiplexer and reaches nobody."""
        self.demux = CipherDemultiplexer(SECRET, Random(1))
        self.hub = self.make()
        hello = HEADER.pack(9, HELLO, 0)
        self.receive(hello)
        self.assertEqual((self.hub.living(), self.demux.counts), ([], {"badTag": 1}))
        sealed, size = self.demux.seal(hello, len(hello))
        self.receive(bytes(sealed), size)
        self.assertEqual(len(self.hub.living()), 1)
