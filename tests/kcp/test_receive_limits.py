"""How many bytes a peer can make a session, and a port, keep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.kcp.pair import CONV, Pair
from tests.kcp.segments import Segment
from tests.pair import CLIENT, steady
from twisted_rudp.core.engine import Admit
from twisted_rudp.kcp.engine import KCPEngine
from twisted_rudp.kcp.receiver import UNVALIDATED_LIMIT, ReceiveBudget
from twisted_rudp.kcp.settings import PROFILES
from twisted_rudp.kcp.wire import PUSH

LONGEST = 65_000
"""Payload of the longest segments that a datagram holds."""


class LargerPair(Pair):
    """The client's datagrams are much longer than the server's."""

    def new_engine(self, side: str, *arguments: Any, **named: Any) -> KCPEngine:
        settings = self.settings
        if side == "client":
            settings = replace(settings, mtu=9_000)
        return KCPEngine(*arguments, settings, **named)


class BudgetPair(Pair):
    """The server's sessions share a budget with those of other pairs."""

    def __init__(self, budget: ReceiveBudget) -> None:
        self.budget = budget
        super().__init__()

    def new_engine(self, side: str, *arguments: Any, **named: Any) -> KCPEngine:
        if side == "server":
            named["budget"] = self.budget
        return super().new_engine(side, *arguments, **named)


def segment(sn: int, payload: bytes) -> bytes:
    """A datagram with one segment."""
    return Segment(CONV, PUSH, 0, 32, 0, sn, 0, payload).pack()


def kept(engine: KCPEngine) -> int:
    """Bytes that a session keeps for its application."""
    return engine.unread(0)


class LimitTests(SynchronousTestCase):
    """Segments of 65 000 bytes at a session whose own have 1376."""

    def flood(self, pair: Pair, engine: KCPEngine, first: int = 0) -> None:
        """Many segments in order, none of which is read."""
        for sn in range(first, first + 300):
            datagram = segment(sn, bytes(LONGEST))
            engine.receive(datagram, len(datagram), CLIENT, pair.now)

    def test_unvalidated(self) -> None:
        """An address that may be forged makes a session keep little."""
        pair = Pair()
        pair.server.reading = False
        datagram = segment(0, b"x")
        verdict = pair.server.demux.unknown_peer(datagram, CLIENT, pair.now, pair.server)
        assert isinstance(verdict, Admit)
        engine = pair.ours(verdict.engine)
        self.flood(pair, engine)
        self.assertFalse(engine.validated)
        self.assertLessEqual(kept(engine), UNVALIDATED_LIMIT + LONGEST)
        self.assertGreater(engine.counters()["receive_limited"], 200)

    def test_validated(self) -> None:
        """A validated peer makes it keep as much as the window has of usual segments."""
        pair = Pair()
        pair.server.reading = False
        pair.connect()
        self.flood(pair, pair.server.engine)
        bound = 1024 * 1500
        self.assertGreater(kept(pair.server.engine), bound - LONGEST)
        self.assertLessEqual(kept(pair.server.engine), bound + LONGEST)
        self.assertEqual(pair.server.engine.facts()["receive_window"], 0)

    def test_longerDatagrams(self) -> None:
        """
        A peer with longer datagrams is served all the same, with loss and with pauses of
        the reader: what does not fit is sent again.
        """
        settings = replace(PROFILES["default"], sndwnd=400, rcvwnd=64)
        pair = LargerPair(steady(20), steady(20), settings)
        losses = iter(range(10**9))
        straight = pair.fates["client"]
        pair.fates["client"] = lambda number, datagram: (
            () if next(losses) % 7 == 3 else straight(number, datagram)
        )
        pair.connect()
        pair.client.engine.write(0, bytes(1_000_000))
        pair.client.turn(pair.client.engine)
        for turn in range(400):
            pair.server.reading = turn % 4 != 0
            pair.run(100)
            if len(pair.server.received) == 1_000_000:
                break
        self.assertEqual(len(pair.server.received), 1_000_000)

    def test_port(self) -> None:
        """All sessions of a port together keep what the port may, and each goes on."""
        budget = ReceiveBudget(4 << 20)
        pairs = [BudgetPair(budget) for _ in range(8)]
        for pair in pairs:
            pair.server.reading = False
            pair.connect()
            self.flood(pair, pair.server.engine)
        sessions = [pair.server.engine for pair in pairs]
        self.assertLess(sum(map(kept, sessions)), (4 << 20) + 8 * LONGEST)
        self.assertTrue(all(map(kept, sessions)))
        self.assertGreaterEqual(budget.used, 4 << 20)
        for session in sessions:
            while session.take(0, 1 << 20):
                pass
        self.assertEqual(budget.used, 0)

    def test_ended(self) -> None:
        """A session that ends gives back what it kept."""
        budget = ReceiveBudget(4 << 20)
        pair = BudgetPair(budget)
        pair.server.reading = False
        pair.connect()
        self.flood(pair, pair.server.engine, first=1)
        self.assertGreater(budget.used, 1 << 20)
        pair.server.engine.abort(pair.now)
        self.assertEqual(budget.used, 0)
