"""A session whose datagrams are expensive does not keep the others of its socket waiting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from tests.net.test_hub import PEER, HubCase, Scripted
from twisted_rudp.core.engine import MILLISECOND, SECOND, Address, Buffer
from twisted_rudp.net.session import Session
from twisted_rudp.net.shares import ALONE, PORT_ROOM, SESSION_ROOM, SHARE

OTHER = ("10.0.0.3", 1)
THIRD = ("10.0.0.4", 1)


class Expensive(Scripted):
    """Each of its datagrams takes some of the reactor's time."""

    def __init__(self, case: SharesTests, address: Address, cost: float = 0.001) -> None:
        super().__init__(address)
        self.case = case
        self.cost = cost
        self.took = b""
        self.onReceive: Callable[[], None] = lambda: None

    def receive(self, run: Buffer, size: int, address: Address, now: int) -> None:
        super().receive(run, size, address, now)
        self.took += bytes(run)
        self.onReceive()
        self.case.order.append(address)
        spent = self.cost * -(-len(run) // size)
        self.case.reactor.rightNow += spent
        self.case.spent[self.case.hub.schedule.turn] += spent


class SharesTests(HubCase):
    """One hub, some sessions, and a clock that goes on while they receive."""

    def setUp(self) -> None:
        super().setUp()
        self.order: list[Address] = []
        self.spent: defaultdict[int, float] = defaultdict(float)

    def session(self, address: Address, cost: float = 0.001) -> tuple[Expensive, Session]:
        engine = Expensive(self, address, cost)
        return engine, self.enter(engine)

    def turns(self, count: int = 100) -> None:
        """Let the hub have turns of its own."""
        for _ in range(count):
            self.reactor.advance(0)

    def longTurn(self) -> None:
        """
        One that has taken so long that from now on it is measured who takes the time, and that
        others are there.
        """
        for address in (PEER, OTHER, PEER):
            self.receive(b"l" * 20, 1, address)
        self.turns()
        self.order.clear()
        self.spent.clear()

    def counts(self) -> dict[str, int]:
        return dict(self.hub.snapshot().counters)

    def test_shortTurns(self) -> None:
        """As long as turns are short, everything is received at once and as it came."""
        engine, _ = self.session(PEER, 0.000_01)
        other, _ = self.session(OTHER, 0.000_01)
        for _ in range(50):
            self.hub.runReceived(b"run", 1, PEER)
            self.hub.runReceived(b"others", 1, OTHER)
            self.hub.turnEnded()
        self.assertEqual(engine.runs, [(b"run", 1)] * 50)
        self.assertEqual(other.runs, [(b"others", 1)] * 50)
        self.assertNotIn("sharesExceeded", self.counts())

    def test_othersFirst(self) -> None:
        """What one session receives beyond its share waits until the others have been served."""
        engine, _ = self.session(PEER)
        other, _ = self.session(OTHER, 0)
        self.longTurn()
        engine.took = b""
        expensive = bytes(range(200))
        began = self.reactor.seconds()
        self.hub.runReceived(expensive, 1, PEER)
        self.hub.runReceived(b"o", 1, OTHER)
        waited = self.reactor.seconds() - began
        self.hub.turnEnded()
        self.assertLessEqual(waited * SECOND, SHARE + 2 * MILLISECOND)
        self.assertEqual(other.took[-1:], b"o")
        self.assertLess(len(engine.took), 10)
        self.turns()
        self.assertEqual(engine.took, expensive)

    def test_withinOneTurn(self) -> None:
        """A turn that becomes long is not allowed to become longer by the same session."""
        engine, _ = self.session(PEER)
        other, _ = self.session(OTHER, 0)
        for _ in range(100):
            self.hub.runReceived(b"e", 1, PEER)
        self.hub.runReceived(b"o", 1, OTHER)
        self.assertEqual(other.took, b"o")
        self.assertLessEqual(len(engine.took), (ALONE + 1) * SHARE // MILLISECOND + 2)
        self.hub.turnEnded()
        self.turns()
        self.assertEqual(engine.took, b"e" * 100)

    def test_order(self) -> None:
        """What comes while something waits is received after it, in whatever turn."""
        engine, _ = self.session(PEER)
        self.session(OTHER, 0)
        self.longTurn()
        engine.took = b""
        content = bytes(range(250))
        for start in range(0, len(content), 10):
            self.hub.runReceived(memoryview(content)[start : start + 10], 1, PEER)
            self.hub.runReceived(b"o", 1, OTHER)
            self.hub.turnEnded()
            if start % 3 == 0:
                self.turns(1)
            self.reactor.rightNow += 0.1
        self.turns()
        self.assertEqual(engine.took, content)

    def test_turnsStayShort(self) -> None:
        """
        While others receive something, no turn for what waits takes longer than a share; a
        session that is alone has more, for nobody waits.
        """
        self.session(PEER)
        self.session(OTHER, 0)
        self.longTurn()
        for _ in range(20):
            self.receive(b"e" * 40, 1)
            self.receive(b"o", 1, OTHER)
            turn = self.hub.schedule.turn + 1
            self.turns(1)
            self.assertGreater(self.spent[turn], 0)
            self.assertLessEqual(self.spent[turn] * SECOND, SHARE + 2 * MILLISECOND)
        self.spent.clear()
        self.reactor.rightNow += 2
        self.receive(b"e" * 20, 1)
        self.spent.clear()
        self.receive(b"e" * 200, 1)
        self.turns()
        most = max(self.spent.values()) * SECOND
        self.assertGreater(most, 2 * SHARE)
        self.assertLessEqual(most, (ALONE + 1) * SHARE)

    def test_sharedOut(self) -> None:
        """Several such sessions take turns."""
        self.session(PEER)
        self.session(OTHER)
        self.session(THIRD, 0)
        self.longTurn()
        for address in (PEER, OTHER):
            for _ in range(20):
                self.hub.runReceived(b"1", 1, address)
        self.hub.runReceived(b"t", 1, THIRD)
        self.hub.turnEnded()
        self.order.clear()
        self.turns(2)
        self.assertLess(abs(self.order.count(PEER) - self.order.count(OTHER)), 3)

    def test_bound(self) -> None:
        """What waits is bounded; the rest is lost, as in a receive queue that is full."""
        engine, _ = self.session(PEER)
        self.session(OTHER, 0)
        self.longTurn()
        run = bytes(65_000)
        for _ in range(100):
            self.hub.runReceived(run, 1000, PEER)
        self.hub.turnEnded()
        dropped = self.counts()["sharesDropped"]
        self.assertGreater(dropped * 1000, 100 * len(run) - SESSION_ROOM)
        self.assertLess(dropped * 1000, 110 * len(run) - SESSION_ROOM)
        self.turns(2000)
        engine.took = b""
        self.reactor.rightNow += 10
        self.receive(b"again", 5)
        self.assertEqual(engine.took, b"again")

    def test_portBound(self) -> None:
        """That of all sessions together is bounded, too, and free again afterwards."""
        engines = [self.session(("10.0.1.1", number), 0.000_1)[0] for number in range(1, 7)]
        self.longTurn()
        run = bytes(65_000)
        before = 0
        for _ in range(2):
            for engine in engines:
                # None of them has more than a single session may.
                for _ in range(55):
                    self.hub.runReceived(run, 1000, engine.address)
            self.hub.turnEnded()
            dropped = (self.counts()["sharesDropped"] - before) * 1000
            self.assertGreater(dropped, 6 * 54 * len(run) - PORT_ROOM)
            self.assertLess(dropped, 6 * 56 * len(run) - PORT_ROOM)
            before = self.counts()["sharesDropped"]
            self.turns(2000)

    def waiting(self) -> tuple[Expensive, Session, int]:
        """A session some of whose datagrams wait, and how many bytes it has received."""
        engine, session = self.session(PEER)
        self.session(OTHER, 0)
        self.longTurn()
        self.hub.runReceived(bytes(100), 1, PEER)
        self.hub.turnEnded()
        return engine, session, len(engine.took)

    def test_ended(self) -> None:
        """What waits for a session that is forgotten meanwhile is forgotten as well."""
        engine, session, taken = self.waiting()
        self.hub.table.drop(session)
        self.turns()
        self.assertEqual(len(engine.took), taken)

    def test_endedInside(self) -> None:
        """Also if it is forgotten while it receives what has waited."""
        engine, session, taken = self.waiting()
        engine.onReceive = lambda: self.hub.table.drop(session)
        self.turns()
        self.assertGreater(len(engine.took), taken)
        self.assertLess(len(engine.took), taken + 30)

    def test_closed(self) -> None:
        """A socket that closes while something waits leaves nothing behind."""
        self.session(PEER)
        self.session(OTHER, 0)
        self.longTurn()
        self.hub.runReceived(bytes(100), 1, PEER)
        self.hub.turnEnded()
        self.hub.close()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_over(self) -> None:
        """Some time after the last long turn nothing is measured any more."""
        engine, _ = self.session(PEER, 0.000_01)
        engine.cost = 0.01
        self.longTurn()
        engine.cost = 0.000_01
        self.reactor.rightNow += 2
        engine.runs.clear()
        self.receive(bytes(300), 1)
        self.assertEqual(engine.runs, [(bytes(300), 1)])
