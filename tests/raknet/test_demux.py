"""Tests for L{twisted_rudp.raknet.demux}: everything outside of sessions."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import vectors
from tests.pair import CLIENT, SERVER
from tests.raknet.pair import CLIENT_GUID, SERVER_GUID, Pair
from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import MILLISECOND, SECOND, Admit, Drop, Engine, Key, Reply, Verdict
from twisted_rudp.raknet.demux import (
    COOKIE_LIFE,
    MAX_PONG_DATA,
    PONG_ALLOWANCE,
    PONG_TOTAL,
    EndedSessions,
    RakNetDemultiplexer,
)
from twisted_rudp.raknet.engine import RakNetEngine
from twisted_rudp.raknet.offline import (
    Incompatible,
    Ping,
    Pong,
    Refusal,
    Reply1,
    Reply2,
    Request1,
    Request2,
    Reset,
    pack,
    parse,
)
from twisted_rudp.raknet.settings import DEFAULT
from twisted_rudp.raknet.wire import MessageId

OTHER = ("198.51.100.7", 5)


class Table:
    """A table of sessions without any."""

    room = backlog_room = True

    def get(self, key: Key) -> Engine | None:
        """Nobody."""
        return None


def server_demux(pair: Pair, **options: object) -> RakNetDemultiplexer:
    """A demultiplexer that accepts."""
    return RakNetDemultiplexer(
        DEFAULT, SERVER_GUID, pair.accept, pong_data=lambda: b"\0\2hi", **options  # type: ignore[arg-type]
    )


class AskingTestCase(SynchronousTestCase):
    """Asks demultiplexers."""

    def setUp(self) -> None:
        self.pair = Pair()
        self.cookies = Cookies(bytes(16))
        self.table = Table()

    def ask(
        self, demux: RakNetDemultiplexer, message: object, now: int = 0, address: object = CLIENT
    ) -> Verdict:
        """What a demultiplexer says to a message."""
        return demux.unknown_peer(pack(message), address, now, self.table)  # type: ignore[arg-type]

    def answer(self, verdict: Verdict) -> object:
        """The message in a reply."""
        assert isinstance(verdict, Reply), verdict
        (datagram,) = verdict.datagrams
        return parse(datagram)


class DemultiplexerTests(AskingTestCase):
    """Requests and replies (raknet.md 2)."""

    def test_ping(self) -> None:
        """
        A ping, with and without GUID, is echoed with what the server says; the one
        for servers with room only there is room (raknet.md 2.1).
        """
        demux = server_demux(self.pair)
        for guid in (None, 5):
            pong = self.answer(self.ask(demux, Ping(77, guid)))
            self.assertEqual(pong, Pong(77, SERVER_GUID, b"\0\2hi"))
        self.assertIsInstance(self.ask(demux, Ping(1, 2, True)), Reply)
        self.table.room = self.table.backlog_room = False
        self.assertEqual(self.ask(demux, Ping(1, 2, True)), Drop("ping while full"))
        self.assertIsInstance(self.ask(demux, Ping(1, 2, False)), Reply)

    def test_pongIsBounded(self) -> None:
        """What is longer than C++ clients read is cut (raknet.md 2.1)."""
        demux = RakNetDemultiplexer(DEFAULT, 1, pong_data=lambda: bytes(5000))
        pong = self.answer(self.ask(demux, Ping(1, 2)))
        assert isinstance(pong, Pong)
        self.assertEqual(len(pong.data), MAX_PONG_DATA)

    def test_pingsAreLimited(self) -> None:
        """
        One host gets so many answers and no more, another still gets its own, and
        loopback is exempt (raknet.md 13).
        """
        demux = server_demux(self.pair)
        got = [isinstance(self.ask(demux, Ping(1, 2)), Reply) for _ in range(200)]
        self.assertEqual(sum(got), 64)
        self.assertIsInstance(self.ask(demux, Ping(1, 2), address=OTHER), Reply)
        later = [isinstance(self.ask(demux, Ping(1, 2), SECOND), Reply) for _ in range(200)]
        self.assertEqual(sum(later), 20)
        home = ("127.0.0.1", 9)
        self.assertTrue(
            all(isinstance(self.ask(demux, Ping(1, 2), address=home), Reply) for _ in range(200))
        )

    def test_oneNetwork(self) -> None:
        """Of IPv6 a whole /64 counts as one host (raknet.md 13)."""
        demux = server_demux(self.pair)
        hosts = [(f"2001:db8::{n:x}", 5, 0, 0) for n in range(1, 100)]
        got = [isinstance(self.ask(demux, Ping(1, 2), address=host), Reply) for host in hosts]
        self.assertEqual(sum(got), 64)

    def test_versions(self) -> None:
        """
        A version that is not accepted is told ours, and named in the diagnosis
        (raknet.md 2.2).
        """
        demux = server_demux(self.pair)
        self.assertIsNone(demux.diagnosis())
        verdict = self.ask(demux, Request1(9, 1492))
        self.assertEqual(self.answer(verdict), Incompatible(11, SERVER_GUID))
        self.assertIn("protocol 9", demux.diagnosis() or "")

    def test_mtu(self) -> None:
        """Reply 1 says what came through, and no more than our most (raknet.md 3)."""
        demux = RakNetDemultiplexer(replace(DEFAULT, mtu=1400), 5, self.pair.accept)
        for probed, said in ((1492, 1400), (1200, 1200), (576, 576), (74, 74)):
            reply = self.answer(self.ask(demux, Request1(11, probed)))
            self.assertEqual(reply, Reply1(5, None, said))

    def test_agreed(self) -> None:
        """What request 2 wants is brought within bounds, and reply 2 says so (raknet.md 3)."""
        for wanted, agreed in ((9000, 1492), (200, 576), (1000, 1000)):
            demux = server_demux(self.pair)
            verdict = self.ask(demux, Request2(None, SERVER, wanted, 7))
            assert isinstance(verdict, Admit)
            engine = verdict.engine
            assert isinstance(engine, RakNetEngine)
            self.assertEqual(parse(engine.reply2), Reply2(SERVER_GUID, CLIENT, agreed))
            self.assertFalse(engine.validated)

    def test_cookies(self) -> None:
        """
        With cookies on, only who returns one made for its address not long ago gets
        a session, and has proved its address by that (raknet.md 2.4).
        """
        demux = server_demux(self.pair, cookies=self.cookies)
        reply = self.answer(self.ask(demux, Request1(11, 1492)))
        assert isinstance(reply, Reply1) and reply.cookie is not None
        for cookie, address, now in (
            (None, CLIENT, 0),
            (reply.cookie ^ 1, CLIENT, 0),
            (reply.cookie, OTHER, 0),
            (reply.cookie, CLIENT, 60 * SECOND),
        ):
            verdict = self.ask(demux, Request2(cookie, SERVER, 1492, 7), now, address)
            self.assertEqual(verdict, Drop("cookie"))
        verdict = self.ask(demux, Request2(reply.cookie, SERVER, 1492, 7), 11 * SECOND)
        assert isinstance(verdict, Admit)
        self.assertTrue(verdict.engine.validated)

    def test_cookiesOff(self) -> None:
        """With cookies off the longer form is taken too (raknet.md 2.4)."""
        demux = server_demux(self.pair)
        self.assertIsInstance(self.ask(demux, Request2(5, SERVER, 1492, 7)), Admit)

    def test_fullAndBanned(self) -> None:
        """
        A full server says so to request 2, a banned address hears nothing else
        (raknet.md 2.2).
        """
        self.table.room = self.table.backlog_room = False
        verdict = self.ask(server_demux(self.pair), Request2(None, SERVER, 1492, 7))
        self.assertEqual(self.answer(verdict), Refusal(MessageId.FULL, SERVER_GUID))
        demux = server_demux(self.pair, banned=lambda address: address == CLIENT)
        for message in (Ping(1, 2), Request1(11, 1492), Request2(None, SERVER, 1492, 7)):
            banned = Refusal(MessageId.BANNED, SERVER_GUID)
            self.assertEqual(self.answer(self.ask(demux, message)), banned)
        self.assertIsInstance(self.ask(demux, Ping(1, 2), address=OTHER), Reply)

    def test_frequency(self) -> None:
        """Where that is limited a host has to wait 100 ms for its next session (raknet.md 2.2)."""
        demux = server_demux(self.pair, limit_frequency=True)
        request = Request2(None, SERVER, 1492, 7)
        self.assertIsInstance(self.ask(demux, request), Admit)
        refused = self.answer(self.ask(demux, request, 50 * MILLISECOND))
        self.assertEqual(refused, Refusal(MessageId.RECENTLY_CONNECTED, SERVER_GUID))
        self.assertIsInstance(self.ask(demux, request, 200 * MILLISECOND), Admit)

    def test_smallReplies(self) -> None:
        """
        No reply to a probe is longer than it, as its address is not proved; one
        that is too short for that gets none (raknet.md 13).
        """
        demux = server_demux(self.pair, cookies=self.cookies)
        for message in (Request1(11, 74), Request1(11, 1492), Request1(9, 74)):
            verdict = self.ask(demux, message)
            assert isinstance(verdict, Reply)
            self.assertLessEqual(sum(map(len, verdict.datagrams)), len(pack(message)))
        self.assertEqual(self.ask(demux, Request1(11, 50)), Drop("short probe"))

    def test_dialler(self) -> None:
        """The demultiplexer of a dialler answers nobody (raknet.md 13)."""
        demux = RakNetDemultiplexer(DEFAULT, 5)
        for message in (Ping(1, 2), Request1(11, 1492), Request2(None, SERVER, 1492, 7)):
            self.assertIsInstance(self.ask(demux, message), Drop)

    def test_cut(self) -> None:
        """
        A run is cut where sessions' datagrams, replies to a dialler and everybody's
        messages change, and nowhere else.
        """
        demux = RakNetDemultiplexer(DEFAULT, 5)
        run = b"".join(bytes((first,)) + b"abc" for first in (0x84, 0x8C, 0xC0, 1, 1, 6, 0x84))
        parts = [(key, bytes(part)) for key, part, _ in demux.open(run + b"\x84", 4, CLIENT)]
        self.assertEqual(
            parts,
            [
                (CLIENT, b"\x84abc\x8cabc\xc0abc"),
                (None, b"\x01abc\x01abc"),
                (CLIENT, b"\x06abc\x84abc\x84"),
            ],
        )
        self.assertEqual(demux.open(b"", 4, CLIENT), ())

    @given(data=st.binary(max_size=80), first=st.sampled_from([0, 1, 2, 5, 6, 7, 8, 0x19, 0x84]))
    @settings(max_examples=150, deadline=None, derandomize=True)
    def test_anything(self, data: bytes, first: int) -> None:
        """Anything from an unknown peer gets a verdict, and nothing that is not ours an answer."""
        demux = server_demux(self.pair, cookies=self.cookies)
        verdict = demux.unknown_peer(bytes((first,)) + data, CLIENT, 0, self.table)
        if isinstance(verdict, Reply):
            (reply,) = verdict.datagrams
            number = int.from_bytes(data[:3], "little")
            self.assertEqual((first, parse(reply)), (0x84, Reset(number)))
            self.assertLessEqual(len(reply), 3 * len(data) + 3)
        else:
            self.assertIsInstance(verdict, Drop)
        demux.unknown_peer(data, CLIENT, 0, self.table)
        self.assertEqual(
            b"".join(bytes(part) for _, part, _ in demux.open(data, 7, CLIENT)), data
        )


class HostileTests(AskingTestCase):
    """What unknown peers may not gain."""

    def test_pongAmplification(self) -> None:
        """
        In a minute a source is sent three times the bytes that came from it, or a fixed
        number if that is more; all together likewise.
        """
        demux = RakNetDemultiplexer(
            DEFAULT, SERVER_GUID, self.pair.accept, pong_data=lambda: "x" * 390, rate=1000.0
        )
        for interval in (SECOND, 10 * MILLISECOND):
            source = (f"198.51.100.{interval % 251}", 5)
            came = went = 0
            for number in range(50 * SECOND // interval):
                ping = pack(Ping(number, None))
                came += len(ping)
                verdict = demux.unknown_peer(ping, source, number * interval, self.table)
                if isinstance(verdict, Reply):
                    went += len(verdict.datagrams[0])
            self.assertGreater(went, PONG_ALLOWANCE // 2)
            self.assertLessEqual(went, max(3 * came, PONG_ALLOWANCE))

    def test_pongsToAll(self) -> None:
        """The bound for all of them is reached by many sources that ask once."""
        demux = RakNetDemultiplexer(
            DEFAULT, SERVER_GUID, self.pair.accept, pong_data=lambda: "x" * 390
        )
        went = came = 0
        for number in range(6000):
            source = (f"198.{number >> 8}.{number & 255}.1", 5)
            ping = pack(Ping(number, None))
            came += len(ping)
            verdict = demux.unknown_peer(ping, source, number * MILLISECOND, self.table)
            went += len(verdict.datagrams[0]) if isinstance(verdict, Reply) else 0
        self.assertLessEqual(went, PONG_TOTAL)
        self.assertGreater(went, PONG_TOTAL - 1000)

    def test_replayedCookie(self) -> None:
        """
        A cookie is remembered by those who have seen it. So after the end of a session its
        address validates anew, inside of the session, until the cookie is old.
        """
        demux = server_demux(self.pair, cookies=self.cookies)
        cookie = self.cookies.make(CLIENT, 0, 0)
        request = Request2(cookie, SERVER, 1492, 7)
        validated = []
        for now in (0, SECOND, COOKIE_LIFE - 1):
            verdict = self.ask(demux, request, min(now, 15 * SECOND))
            assert isinstance(verdict, Admit)
            validated.append(verdict.engine.validated)
            demux.ended(verdict.engine, now)
        self.assertEqual(validated, [True, False, False])
        later = 3 * COOKIE_LIFE
        fresh = request._replace(cookie=self.cookies.make(CLIENT, 0, later))
        verdict = self.ask(demux, fresh, later)
        assert isinstance(verdict, Admit)
        self.assertTrue(verdict.engine.validated)

    def test_manyEnded(self) -> None:
        """When more have ended than are remembered, no cookie is enough for a while."""
        ended = EndedSessions(capacity=2)
        for number in range(3):
            ended.add((f"198.51.100.{number}", 5), 0)
        for name in ("198.51.100.0", "203.0.113.9"):
            self.assertTrue(ended.is_recent((name, 5), COOKIE_LIFE - 1))
            self.assertFalse(ended.is_recent((name, 5), COOKIE_LIFE))

    def test_oldClients(self) -> None:
        """
        Clients of protocol 10 know no cookies: who accepts them gets them without, and they
        validate inside of the session. Others still bring one.
        """
        settings = replace(DEFAULT, accepted=frozenset({10, 11}))
        demux = RakNetDemultiplexer(settings, 5, self.pair.accept, cookies=self.cookies)
        for version, has_cookie in ((10, False), (11, True)):
            reply = self.answer(self.ask(demux, Request1(version, 1492)))
            assert isinstance(reply, Reply1)
            self.assertEqual(reply.cookie is not None, has_cookie)
            verdict = self.ask(demux, Request2(reply.cookie, SERVER, 1492, 7))
            assert isinstance(verdict, Admit)
            self.assertEqual(verdict.engine.validated, has_cookie)
        self.assertEqual(self.ask(demux, Request2(1, SERVER, 1492, 7)), Drop("cookie"))

    def test_restarted(self) -> None:
        """
        A datagram of a session that is not here is answered by its number, at a limited
        rate; acknowledgements are not, nor does who only dials say anything.
        """
        demux = server_demux(self.pair)
        datagram = b"\x84\x05\x00\x00" + bytes(9)
        verdict = demux.unknown_peer(datagram, CLIENT, 0, self.table)
        self.assertEqual(self.answer(verdict), Reset(5))
        for silent in (b"\xc0" + datagram[1:], b"\xa0" + datagram[1:], datagram[:6]):
            verdict = demux.unknown_peer(silent, CLIENT, 0, self.table)
            self.assertEqual(verdict, Drop("no session"))
        dialling = RakNetDemultiplexer(DEFAULT, 5)
        verdict = dialling.unknown_peer(datagram, CLIENT, 0, self.table)
        self.assertEqual(verdict, Drop("no session"))
        several = [demux.unknown_peer(datagram, CLIENT, 0, self.table) for _ in range(100)]
        self.assertEqual(sum(isinstance(verdict, Reply) for verdict in several), 63)


class ExchangeTests(SynchronousTestCase):
    """The recorded exchanges with four servers (C{offline_exchanges.json})."""

    def test_answers(self) -> None:
        """
        Each request gets from us what the C++ server answered, where GUIDs,
        cookies and addresses are compared by kind (raknet.md 2.2).
        """
        compared = 0
        for vector in vectors.load("raknet", "offline_exchanges")["vectors"]:
            name = vector["name"]
            if not vector["server"].startswith("C++") or name.startswith("ocr2"):
                continue
            head, _, zeros = vector["request_hex"].partition("+")
            request = bytes.fromhex(head) + bytes(int(zeros.split()[0]) if zeros else 0)
            demux = RakNetDemultiplexer(
                DEFAULT,
                int(vector["response_fields"]["server_guid"], 16) if vector["response_hex"] else 0,
                Pair().accept,
                pong_data=lambda data=vector: bytes.fromhex(  # type: ignore[misc]
                    data["response_fields"].get("raw_data_hex", "")
                ),
            )
            verdict = demux.unknown_peer(request, CLIENT, 0, Table())
            if vector["response_hex"] is None:
                self.assertIsInstance(verdict, Drop, name)
            else:
                assert isinstance(verdict, Reply), name
                self.assertEqual(verdict.datagrams[0].hex(), vector["response_hex"], name)
            compared += 1
        self.assertGreater(compared, 8 if vectors.COMPLETE else 0)

    def test_request2(self) -> None:
        """
        Request 2 again gets reply 2 again; another GUID at the same address, or the
        GUID at another address, hears that it is connected already; when the first
        has been silent for long it gives way (raknet.md 2.2).
        """
        pair = Pair(cookies=False)
        server = pair.server
        first = pack(Request2(None, SERVER, 1492, CLIENT_GUID))
        server.arrive(first, CLIENT)
        server.arrive(first, CLIENT)
        reply = pack(Reply2(SERVER_GUID, CLIENT, 1492))
        self.assertEqual(server.sent, [reply, reply])
        other = pack(Request2(None, SERVER, 1492, 99))
        server.arrive(other, CLIENT)
        server.arrive(first, OTHER)
        refusal = pack(Refusal(MessageId.ALREADY_CONNECTED, SERVER_GUID))
        self.assertEqual(server.sent[2:], [refusal, refusal])
        pair.now += 4 * SECOND
        server.arrive(first, OTHER)
        self.assertEqual(server.engines, {})
        server.arrive(first, OTHER)
        self.assertEqual(server.engine.keys(), (OTHER, ("guid", CLIENT_GUID)))
