"""
Tests for L{twisted_rudp.kcp.demux} and what it is made of: cutting runs, rules
for listeners, the blacklist, and naming what does not fit.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.kcp.pair import CONV
from tests.kcp.test_session import SessionPair
from tests.pair import CLIENT
from twisted_rudp.core.cookies import SLOT
from twisted_rudp.core.engine import SECOND, Address, Admit, Drop, Reply
from twisted_rudp.kcp.crypto import make_crypt
from twisted_rudp.kcp.demux import (
    ADDRESSES_HEARD,
    MOST,
    Blacklist,
    ConversationSplitter,
    KCPDemultiplexer,
    Rules,
)
from twisted_rudp.kcp.fec import (
    PARITY,
    data_packet,
    out_of_band_packet,
    pack_parity_header,
)
from twisted_rudp.kcp.settings import SessionOptions, SessionRule
from twisted_rudp.kcp.wire import ACK, MARK, PUSH, WASK, pack_header

ELSEWHERE = ("203.0.113.9", 9)
PROPERTY = settings(max_examples=100, deadline=None, derandomize=True)


def push(conv: int = CONV, sn: int = 0, payload: bytes = b"x", una: int = 0) -> bytes:
    return pack_header(conv, PUSH, 0, 32, 0, sn, una, len(payload)) + payload


def parity(length: int = 33) -> bytes:
    return pack_parity_header(7, PARITY).ljust(length, b"p")


class CuttingTests(SynchronousTestCase):
    """L{ConversationSplitter}."""

    def splitRun(
        self, *datagrams: bytes, splitter: ConversationSplitter | None = None
    ) -> list[tuple[object, int]]:
        """Conversations and number of datagrams of the parts of a run."""
        run = b"".join(datagrams)
        size = len(datagrams[0])
        parts = (splitter or ConversationSplitter()).split(run, size, CLIENT)
        return [(conv, -(-len(part) // size)) for conv, part in parts]

    def test_conversations(self) -> None:
        """Bare or with FEC, a run is cut where the conversation changes and only there."""
        a, b = push(1), push(2)
        self.assertEqual(self.splitRun(a, a, a), [(1, 3)])
        self.assertEqual(self.splitRun(a, b, b, a[:24]), [(1, 1), (2, 2), (1, 1)])
        framed = [data_packet(at, each) for at, each in enumerate((a, a, b))]
        self.assertEqual(self.splitRun(*framed), [(1, 2), (2, 1)])

    def test_parity(self) -> None:
        """Parity goes where its neighbours go: what precedes it, at the beginning what follows."""
        a, b, p = data_packet(0, push(1)), data_packet(0, push(2)), parity()
        self.assertEqual(self.splitRun(p, a, p, p, a, p), [(1, 6)])
        self.assertEqual(self.splitRun(p, a, p, b, p), [(1, 3), (2, 2)])

    def test_parityAlone(self) -> None:
        """
        Alone it goes to the conversation heard last from its address, if one
        was (kcp.md 5.3, 11).
        """
        splitter = ConversationSplitter()
        self.assertEqual(self.splitRun(parity(), splitter=splitter), [(None, 1)])
        self.splitRun(data_packet(0, push(1)), data_packet(1, push(2)), splitter=splitter)
        self.assertEqual(self.splitRun(parity(), parity(), splitter=splitter), [(2, 2)])
        self.assertEqual(splitter.split(parity(), 33, ELSEWHERE)[0][0], None)

    def test_kinds(self) -> None:
        """Bare, FEC and out-of-band datagrams are never in one part."""
        bare = push(1, payload=b"x" * 9)
        framed, aside = data_packet(0, push(1)), out_of_band_packet(1, b"y" * 21)
        self.assertEqual(self.splitRun(framed, aside, aside, bare), [(1, 1), (1, 2), (1, 1)])

    def test_bounded(self) -> None:
        """Only so many addresses are remembered."""
        splitter = ConversationSplitter()
        for port in range(ADDRESSES_HEARD + 1):
            splitter.split(data_packet(0, push(1)), 33, ("192.0.2.1", port))
        self.assertEqual(splitter.split(parity(), 33, ("192.0.2.1", 0))[0][0], None)
        self.assertEqual(splitter.split(parity(), 33, ("192.0.2.1", 1))[0][0], 1)

    @PROPERTY
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=40),
                st.builds(lambda conv: data_packet(0, push(conv)), st.integers(1, 3)),
                st.builds(push, st.integers(1, 3)),
                st.just(parity()),
            ),
            max_size=6,
        ).map(b"".join),
        st.integers(1, 40),
    )
    def test_anything(self, run: bytes, size: int) -> None:
        """
        Whatever comes, parts are pieces of the run in their order, whole
        datagrams, none of them empty.
        """
        splitter = ConversationSplitter()
        total = 0
        for _, part in splitter.split(run, size, CLIENT) if run else ():
            self.assertTrue(len(part))
            total += len(part)
        datagrams = -(-len(run) // size)
        self.assertLessEqual(total, len(run))
        self.assertLessEqual(splitter.short, datagrams)


class DemultiplexerTests(SynchronousTestCase):
    """L{KCPDemultiplexer}."""

    def test_checksums(self) -> None:
        """What does not open is dropped and counted (kcp.md 2.2)."""
        crypt = make_crypt("aes", bytes(32), random.Random(1).randbytes)
        demux = KCPDemultiplexer(crypt=crypt)
        self.assertEqual(list(demux.open(push(), 25, CLIENT)), [])
        self.assertEqual(demux.counters()["InCsumErrors"], 1)
        sealed, size = demux.seal(push(), 25)
        self.assertEqual((len(sealed), demux.overhead), (45, 20))
        [(key, run, size)] = demux.open(sealed, size, CLIENT)
        self.assertEqual((key, bytes(run)), ((CLIENT, CONV), push()))

    def judge(
        self, pair: SessionPair, datagram: bytes, address: Address = CLIENT
    ) -> object:
        return pair.server.demux.unknown_peer(datagram, address, pair.now, pair.server)

    def test_strangers(self) -> None:
        """Parity, out-of-band messages and leftovers open nothing."""
        pair = SessionPair()
        for datagram in (
            parity(),
            out_of_band_packet(CONV, b""),
            data_packet(0, pack_header(CONV, ACK, 0, 32, 0, 0, 0, 0)),
        ):
            self.assertIsInstance(self.judge(pair, datagram), Drop)
        question = self.judge(pair, data_packet(0, push(una=5)))
        self.assertIsInstance(question, Reply)
        self.assertIsInstance(self.judge(pair, data_packet(0, push())), Admit)
        probe = pack_header(CONV, WASK, 0, 32, 0, 0, 0, 0)
        for question in (probe, data_packet(0, probe)):
            answer = self.judge(pair, question)
            assert isinstance(answer, Reply)
            self.assertEqual(len(answer.datagrams[0]), len(question))

    def test_requireSn0(self) -> None:
        """With the option only number 0 opens a session (kcp.md 10.2)."""
        for required, expected in ((False, Admit), (True, Drop)):
            pair = SessionPair(rules=Rules(require_sn0=required))
            self.assertIsInstance(self.judge(pair, push(sn=3)), expected)
            self.assertIsInstance(self.judge(pair, push(sn=0)), Admit)

    def test_rules(self) -> None:
        """
        Another conversation from the address of a session: beside it, refused,
        or in its place if it begins with number 0 (kcp.md 5.3).
        """
        for rule, first, later in (
            (SessionRule.CONVERSATION, Admit, Admit),
            (SessionRule.ADDRESS, Drop, Drop),
            (SessionRule.REPLACE, Admit, Drop),
        ):
            pair = SessionPair(rules=Rules(sessions=rule))
            pair.connect()
            self.assertIsInstance(self.judge(pair, push(9, sn=3)), later)
            verdict = self.judge(pair, push(9))
            self.assertIsInstance(verdict, first)
            if isinstance(verdict, Admit):
                replaces = ((CLIENT, CONV),) if rule is SessionRule.REPLACE else ()
                self.assertEqual(verdict.replaces, replaces)
            self.assertIsInstance(self.judge(pair, push(9), ELSEWHERE), Admit)

    def test_addressIsFreed(self) -> None:
        """When a session is over its address may open another."""
        pair = SessionPair(rules=Rules(sessions=SessionRule.ADDRESS))
        pair.connect()
        pair.server.demux.ended(pair.server.engine, pair.now)
        self.assertIsInstance(self.judge(pair, push(9)), Admit)

    def test_blacklist(self) -> None:
        """
        The conversation of a session that is over does not come again for so
        long after its end, another one does (kcp.md 5.4).
        """
        pair = SessionPair(rules=Rules(blacklist=600 * SECOND))
        pair.connect()
        pair.run(700_000)
        pair.server.demux.ended(pair.server.engine, pair.now)
        self.assertIsInstance(self.judge(pair, push()), Drop)
        self.assertIsInstance(self.judge(pair, push(9)), Admit)
        pair.now += 600 * SECOND
        self.assertIsInstance(self.judge(pair, push()), Admit)

    def test_ruleOfTheUnvalidated(self) -> None:
        """
        Who has not validated the address stands in nobody's way: with one session an address
        a forged first segment neither ends the session nor keeps the peer out.
        """
        for rule in (SessionRule.ADDRESS, SessionRule.REPLACE):
            pair = SessionPair(rules=Rules(sessions=rule))
            forged = self.judge(pair, push(8))
            assert isinstance(forged, Admit)
            pair.server.engines[(CLIENT, 8)] = pair.ours(forged.engine)
            verdict = self.judge(pair, push(9))
            assert isinstance(verdict, Admit)
            self.assertEqual(verdict.replaces, ((CLIENT, 8),))

    def test_replayedCookie(self) -> None:
        """
        The cookie that opened a session does not open it again when it is over, as long as
        it would live; a new one does (kcp-close.md 7).
        """
        pair = SessionPair(client=SessionOptions(), server=SessionOptions())
        pair.connect()
        (opening,) = [
            datagram
            for datagram in pair.client.sent
            if datagram[4] == WASK and datagram[5] == MARK and datagram[8:12] != bytes(4)
        ]
        pair.server.demux.ended(pair.server.engine, pair.now)
        end = pair.now + 3 * SLOT
        while pair.now < end:
            self.assertIsInstance(self.judge(pair, opening), Reply, pair.now)
            pair.now += SECOND
        again = self.judge(pair, pack_header(CONV, WASK, MARK, 32, 0, 0, 0, 0))
        assert isinstance(again, Reply)
        fresh = opening[:8] + again.datagrams[0][8:12] + opening[12:]
        self.assertIsInstance(self.judge(pair, fresh), Admit)

    def test_refusedIsNotListed(self) -> None:
        """Who was not let in may try again."""
        pair = SessionPair(rules=Rules(blacklist=600 * SECOND))
        verdict = self.judge(pair, push())
        assert isinstance(verdict, Admit)
        pair.server.demux.ended(verdict.engine, pair.now)
        self.assertIsInstance(self.judge(pair, push()), Admit)

    def test_counters(self) -> None:
        """The demultiplexer has kcp-go's counters for its socket."""
        pair = SessionPair()
        pair.connect()
        counters = pair.server.demux.counters()
        self.assertEqual((counters["PassiveOpens"], counters["CurrEstab"]), (1, 1))
        self.assertGreater(counters["InPkts"], 0)


class BlacklistTests(SynchronousTestCase):
    """L{Blacklist}."""

    def test_renewed(self) -> None:
        """A key that is listed again is listed from then on."""
        listed = Blacklist(10)
        listed.add("a", 0)
        listed.add("a", 7)
        self.assertTrue(listed.has("a", 16))
        self.assertFalse(listed.has("a", 17))

    def test_bounded(self) -> None:
        """Lapsed keys go, and the oldest beyond the limit."""
        listed = Blacklist(10)
        for now in range(100):
            listed.add(now, now)
        self.assertLessEqual(len(listed), 11)
        listed = Blacklist(1 << 60)
        for now in range(MOST + 5):
            listed.add(now, now)
        self.assertEqual(len(listed), MOST)

    def test_off(self) -> None:
        """Without a duration nothing is listed."""
        listed = Blacklist(0)
        listed.add("a", 5)
        self.assertFalse(listed.has("a", 5))
        self.assertEqual(len(listed), 0)
