"""Tests for L{twisted_rudp.kcp.engine}: what a session has beside its ARQ."""

from __future__ import annotations

import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests import vectors
from tests.kcp.pair import CONV, Pair
from tests.pair import CLIENT, SERVER, losing
from twisted_rudp.core.engine import MILLISECOND, SECOND, Event, Reason, configurable
from twisted_rudp.core.lifecycle import Role
from twisted_rudp.core.queues import MOST_BYTES, MOST_MESSAGES
from twisted_rudp.kcp.control import Peer
from twisted_rudp.kcp.crypto import make_crypt
from twisted_rudp.kcp.demux import KCPDemultiplexer, Rules
from twisted_rudp.kcp.engine import KCPEngine
from twisted_rudp.kcp.fec import (
    DATA,
    FEC_OVERHEAD,
    KIND_OFFSET,
    OUT_OF_BAND,
    PARITY,
    is_framed,
    out_of_band_packet,
)
from twisted_rudp.kcp.framing import MESSAGE
from twisted_rudp.kcp.settings import SessionOptions, Settings
from twisted_rudp.kcp.snmp import SNMPCounters
from twisted_rudp.kcp.wire import (
    HEADER_SIZE,
    MARK,
    PUSH,
    WINS,
    is_acknowledgement,
    pack_header,
    pack_wins,
    unpack_header,
)
from twisted_rudp.messages import Delivery, Message

FEC = SessionOptions(data_shards=5, parity_shards=2)
KEY = bytes(range(32))
UNLIMITED = Settings(nc=True)
"""Without a congestion window, so that what is written leaves at once."""


class SessionPair(Pair):
    """Two ends with options and ciphers."""

    def __init__(
        self,
        client: SessionOptions = FEC,
        server: SessionOptions = FEC,
        crypt: tuple[str, str] = ("null", "null"),
        rules: Rules | None = None,
        **named: Any,
    ) -> None:
        self.options = {"client": client, "server": server}
        self.crypts = dict(zip(("client", "server"), crypt, strict=True))
        self.rules = rules or Rules()
        super().__init__(**named)
        self.client.demux = self._demux("client")

    def _demux(self, side: str, *arguments: Any) -> KCPDemultiplexer:
        seed = random.Random(side)
        crypt = make_crypt(self.crypts[side], KEY, seed.randbytes)
        return KCPDemultiplexer(*arguments, crypt=crypt, rules=self.rules, snmp=SNMPCounters())

    def new_demux(self) -> KCPDemultiplexer:
        return self._demux("server", self._accept, self.cookies, self.settings.receive_window)

    def new_engine(self, side: str, *arguments: Any, **named: Any) -> KCPEngine:
        demux = {"client": self.client, "server": self.server}[side].demux
        return KCPEngine(
            *arguments,
            self.settings,
            options=self.options[side],
            overhead=demux.overhead,
            snmp=demux.snmp,
            signs=demux.signs,
            **named,
        )

    def session(self, side: str) -> KCPEngine:
        engine = {"client": self.client, "server": self.server}[side].engine
        assert isinstance(engine, KCPEngine)
        return engine

    def write(self, side: str, data: bytes) -> None:
        end = {"client": self.client, "server": self.server}[side]
        end.engine.write(0, data)
        end.turn(end.engine)


def kinds(datagrams: list[bytes]) -> list[int]:
    """The FEC kinds, 0 for bare datagrams."""
    return [each[KIND_OFFSET] if is_framed(each) else 0 for each in datagrams]


class FramingTests(SynchronousTestCase):
    """FEC around the ARQ."""

    def test_everySetting(self) -> None:
        """
        Two of ours open a session and carry data both ways whatever each of the
        two sends with (kcp.md 2.2; kcp-close.md 8).
        """
        plain = SessionOptions()
        other = SessionOptions(data_shards=3, parity_shards=1)
        for client in (plain, FEC, other):
            for server in (plain, FEC, other):
                for crypt in ("null", "none", "aes", "aes-128-gcm"):
                    pair = SessionPair(client, server, crypt=(crypt, crypt))
                    pair.connect()
                    pair.write("client", b"there" * 2000)
                    pair.write("server", b"back" * 2000)
                    pair.run(500)
                    self.assertEqual(pair.server.received, b"there" * 2000)
                    self.assertEqual(pair.client.received, b"back" * 2000)
                    self.assertTrue(pair.server.engine.validated)

    def test_acknowledgements(self) -> None:
        """
        Between our own ends what only acknowledges takes no place in a group, and is no sign
        of a peer without FEC (kcp-close.md 17).
        """
        pair = SessionPair(FEC, FEC)
        pair.connect()
        pair.run(300)
        before = len(pair.server.sent)
        pair.write("client", b"x" * 20_000)
        pair.run(300)
        bare = [each for each in pair.server.sent[before:] if not is_framed(each)]
        self.assertGreater(len(bare), 10)
        self.assertTrue(all(is_acknowledgement(each) for each in bare))
        self.assertIsNone(pair.client.demux.diagnosis())

    def test_statelessAnswer(self) -> None:
        """
        The demultiplexer's answer is in the form of the question, and its packet is not
        numbered again by the session (kcp-close.md 8).
        """
        pair = SessionPair()
        pair.connect()
        pair.write("server", b"x" * 20_000)
        pair.run(300)
        self.assertEqual(kinds(pair.client.sent)[0], DATA)
        self.assertEqual(kinds(pair.server.sent)[0], DATA)
        numbers = [int.from_bytes(each[:4], "little") for each in pair.server.sent]
        self.assertEqual(len(numbers), len(set(numbers)))
        self.assertEqual((numbers[0], numbers[1]), (0, 7))

    def test_bareQuestion(self) -> None:
        """A bare question has a bare answer."""
        pair = SessionPair(client=SessionOptions())
        pair.connect()
        self.assertEqual(kinds(pair.server.sent)[0], 0)

    def test_recovers(self) -> None:
        """What is lost comes out of parity, without a retransmission."""
        pair = SessionPair(settings=UNLIMITED)
        pair.connect()
        sent = len(pair.client.sent)
        pair.fates["client"] = losing(sent + 5, sent + 8)
        pair.write("client", bytes(range(256)) * 53)
        pair.run(15)
        self.assertEqual(pair.server.received, bytes(range(256)) * 53)
        counters = pair.session("server").counters()
        # Two, and the first word: the demultiplexer has answered it without a session.
        self.assertEqual(counters["FECRecovered"], 3)
        self.assertEqual(counters["FECParityShards"], 4)
        self.assertEqual(pair.session("client").counters()["RetransSegs"], 0)

    def test_heavyLoss(self) -> None:
        """With a fifth of everything lost all arrives, much of it rebuilt."""
        chance = random.Random(5)

        def fate(number: int, datagram: bytes) -> tuple[int, ...]:
            return () if chance.random() < 0.2 else (chance.choice((10, 12)),)

        pair = SessionPair(there=fate, back=fate, crypt=("aes", "aes"))
        pair.dial()
        pair.run(3000)
        data = chance.randbytes(300_000)
        pair.write("client", data)
        pair.run(20_000)
        self.assertEqual(pair.server.received, data)
        self.assertGreater(pair.session("server").counters()["FECRecovered"], 10)

    def test_unproved(self) -> None:
        """Nothing redundant goes to an address that is not proved."""
        pair = SessionPair(server=SessionOptions(data_shards=1, parity_shards=3, dup=4))
        pair.dial()
        pair.run(25)
        self.assertNotIn(PARITY, kinds(pair.server.sent))

    def test_copies(self) -> None:
        """C{dup} sends each datagram so often again, with and without FEC."""
        for options in (SessionOptions(dup=2), SessionOptions(5, 2, dup=2)):
            pair = SessionPair(options, options, settings=UNLIMITED)
            pair.connect()
            before = len(pair.client.sent)
            pair.write("client", b"x" * 3000)
            news = [
                each
                for each, kind in zip(
                    pair.client.sent[before:], kinds(pair.client.sent[before:]), strict=True
                )
                if kind != PARITY
            ]
            self.assertEqual(len(news), 9)
            self.assertEqual([news[at] for at in (0, 3, 6)], [news[at] for at in (2, 5, 8)])
            pair.run(100)
            self.assertEqual(pair.server.received, b"x" * 3000)

    def test_closes(self) -> None:
        """The end of a session goes through FEC and cipher too."""
        pair = SessionPair(crypt=("aes", "aes"))
        pair.connect()
        pair.write("client", b"last words")
        pair.client.engine.close(pair.now)
        pair.client.turn(pair.client.engine)
        pair.run(50)
        pair.server.engine.close(pair.now)
        pair.server.turn(pair.server.engine)
        pair.run(20_000)
        self.assertEqual(pair.server.received, b"last words")
        self.assertIn((Event.ENDED, Reason.DONE, None), pair.client.happened)
        self.assertIn((Event.ENDED, Reason.DONE, None), pair.server.happened)


class OutOfBandTests(SynchronousTestCase):
    """Messages beside the stream (kcp.md 5.5, kcp-close.md 15)."""

    def test_both(self) -> None:
        """They arrive beside a stream and beside messages, also empty ones, and are counted."""
        for stream in (True, False):
            pair = SessionPair(settings=Settings(stream=stream))
            pair.server.reading = pair.client.reading = False
            pair.connect()
            engine = pair.session("client")
            for data in (b"", b"hello"):
                engine.send(data, Delivery.OUT_OF_BAND)
            pair.client.turn(engine)
            header = unpack_header(pair.client.sent[-1], FEC_OVERHEAD)
            self.assertEqual(header[:3], (CONV, WINS, MARK))
            self.assertEqual(pair.client.sent[-1][FEC_OVERHEAD + HEADER_SIZE :], b"\0hello")
            pair.run(50)
            server = pair.session("server")
            self.assertIn((Event.READABLE, None), pair.server.happened)
            self.assertEqual(
                list(server.take_messages()),
                [Message(b"", Delivery.OUT_OF_BAND), Message(b"hello", Delivery.OUT_OF_BAND)],
            )
            self.assertEqual(server.counters()["OOBPackets"], 2)
            self.assertEqual(server.counters()["KCPInErrors"], 0)

    def test_example(self) -> None:
        """The bytes of the specification's example."""
        self.assertEqual(
            out_of_band_packet(0x17E3A979, b"hello").hex(), "fffffffff3000b0079a9e31768656c6c6f"
        )

    def test_bytesBounded(self) -> None:
        """Messages that nobody takes are bounded in bytes as well; the oldest go first."""
        pair = SessionPair()
        pair.server.reading = False
        pair.connect()
        server = pair.session("server")
        for number in range(70):
            datagram = out_of_band_packet(CONV, bytes([number]) * 60_000)
            server.receive(datagram, len(datagram), CLIENT, pair.now)
        messages = [message.data for message in server.take_messages()]
        self.assertLessEqual(sum(map(len, messages)), MOST_BYTES)
        self.assertEqual(messages[-1][:1], bytes([69]))

    def test_bounded(self) -> None:
        """Nobody is made to hold more than so many; the oldest go first, and are counted."""
        pair = SessionPair()
        pair.server.reading = False
        pair.connect()
        for at in range(MOST_MESSAGES + 9):
            pair.session("client").send(at.to_bytes(2, "big"), Delivery.OUT_OF_BAND)
            pair.client.turn(pair.client.engine)
        pair.run(50)
        server = pair.session("server")
        taken = [int.from_bytes(message.data, "big") for message in server.take_messages()]
        self.assertEqual(taken, list(range(9, MOST_MESSAGES + 9)))
        self.assertEqual(server.counters()["oob_dropped"], 9)

    def test_bare(self) -> None:
        """Between our own ends they need no FEC, and leave a stream that is not read alone."""
        pair = SessionPair(SessionOptions(), SessionOptions())
        pair.server.reading = False
        pair.connect()
        pair.write("client", bytes(3_000_000))
        pair.run(500)
        engine, server = pair.session("client"), pair.session("server")
        self.assertEqual(engine.facts()["oob_max"], engine.facts()["mss"] - 1)
        engine.send(bytes(engine.facts()["oob_max"]), Delivery.OUT_OF_BAND)
        self.assertRaises(
            ValueError, engine.send, bytes(engine.facts()["mss"]), Delivery.OUT_OF_BAND
        )
        pair.client.turn(engine)
        pair.run(50)
        self.assertEqual(len(next(iter(server.take_messages())).data), engine.facts()["mss"] - 1)

    def test_rebuilt(self) -> None:
        """
        FEC protects them: of 5000 at 1 % loss fewer than 0.05 % are missing, and 99 % come
        within 1.3 times the time that the link takes.
        """
        chance = random.Random(5)
        pair = SessionPair(
            there=lambda number, datagram: () if chance.random() < 0.01 else (20,),
            back=lambda number, datagram: () if chance.random() < 0.01 else (20,),
        )
        pair.connect()
        engine, server = pair.session("client"), pair.session("server")
        delays = []
        for _ in range(5000):
            engine.send(pair.now.to_bytes(8, "big"), Delivery.OUT_OF_BAND)
            pair.client.turn(engine)
            pair.run(1)
            delays += [
                pair.now - int.from_bytes(message.data, "big")
                for message in server.take_messages()
            ]
        pair.run(50)
        delays += [
            pair.now - int.from_bytes(message.data, "big") for message in server.take_messages()
        ]
        self.assertGreater(server.counters()["FECRecovered"], 20)
        self.assertLess(5000 - len(delays), 5000 * 0.0005)
        self.assertLess(sorted(delays)[len(delays) * 99 // 100], 1.3 * 40 * MILLISECOND)

    def test_unmarked(self) -> None:
        """
        Towards a peer that knows no marks they are kcp-go's packets, and there are none
        without FEC.
        """
        for options, longest in ((FEC, 496), (SessionOptions(), 0)):
            pair = SessionPair(options, settings=Settings(mtu=500))
            pair.connect()
            engine = pair.session("client")
            stranger = pack_header(CONV, WINS, 0, 100, 0, 0, 0, 0)
            engine.receive(stranger, len(stranger), SERVER, pair.now)
            self.assertEqual(engine.facts()["peer"], Peer.UNMARKED.name)
            self.assertEqual(engine.facts()["oob_max"], longest)
            if longest:
                engine.send(bytes(longest), Delivery.OUT_OF_BAND)
                pair.client.turn(engine)
                self.assertEqual(kinds(pair.client.sent)[-1], OUT_OF_BAND)
            self.assertRaises(ValueError, engine.send, bytes(longest + 1), Delivery.OUT_OF_BAND)
            self.assertRaises(ValueError, engine.send, b"x", Delivery.UNRELIABLE)

    def test_unvalidated(self) -> None:
        """From an address that may be forged no message is taken, nor while a session closes."""
        pair = SessionPair(SessionOptions(), SessionOptions())
        message = pack_wins(CONV, 100, 0, 0, bytes([MESSAGE]) + b"early")
        pair.server.arrive(pack_header(CONV, PUSH, 0, 100, 0, 0, 0, 1) + b"x", CLIENT)
        pair.server.arrive(message, CLIENT)
        server = pair.session("server")
        self.assertFalse(server.validated)
        self.assertEqual(list(server.take_messages()), [])
        pair = SessionPair()
        pair.connect()
        server = pair.session("server")
        server.close(pair.now)
        server.receive(message, len(message), CLIENT, pair.now)
        self.assertEqual(list(server.take_messages()), [])
        self.assertEqual(server.counters()["OOBPackets"], 0)

    def test_unknownKind(self) -> None:
        """The payload of a WINS that is something else is passed over."""
        pair = SessionPair()
        pair.connect()
        server = pair.session("server")
        for payload in (b"\1what", bytes([MESSAGE]) + b"good"):
            segment = pack_header(CONV, WINS, MARK, 100, 0, 0, 0, len(payload)) + payload
            server.receive(segment, len(segment), CLIENT, pair.now)
        self.assertEqual(
            list(server.take_messages()), [Message(b"good", Delivery.OUT_OF_BAND)]
        )


class PacingTests(SynchronousTestCase):
    """Rate limit, write delay, delayed acknowledgements."""

    def test_rateLimit(self) -> None:
        """After a burst of 64 datagrams no more than the rate leaves (kcp.md 5.6)."""
        pair = SessionPair(SessionOptions(rate_limit=100_000), SessionOptions())
        pair.connect()
        pair.write("client", bytes(400_000))
        pair.run(1000)
        sent = sum(map(len, pair.client.sent))
        self.assertTrue(190_000 < sent < 205_000, sent)
        pair.run(3000)
        self.assertEqual(len(pair.server.received), 400_000)

    def test_writeDelay(self) -> None:
        """What is written waits for the interval and leaves together (kcp.md 5.1)."""
        pair = SessionPair(SessionOptions(write_delay=True), SessionOptions())
        pair.connect()
        before = len(pair.client.sent)
        for _ in range(5):
            pair.write("client", b"abc")
        self.assertEqual(len(pair.client.sent), before)
        pair.run(11)
        self.assertEqual(len(pair.client.sent), before + 1)
        pair.run(100)
        self.assertEqual(pair.server.received, b"abc" * 5)

    def test_acknowledgements(self) -> None:
        """They leave at once, or wait up to an interval when told to."""
        for no_delay, delay in ((True, 0), (False, 10)):
            pair = SessionPair(SessionOptions(), SessionOptions(ack_no_delay=no_delay))
            pair.connect()
            before = len(pair.server.sent)
            pair.write("client", b"abc")
            pair.run(10 + delay)
            self.assertEqual(len(pair.server.sent), before + 1)
            if delay:
                pair.write("client", b"abc")
                pair.run(15)
                self.assertEqual(len(pair.server.sent), before + 1)
                pair.run(15)
                self.assertEqual(len(pair.server.sent), before + 2)
            self.assertEqual(pair.session("client").counters()["RetransSegs"], 0)


class LimitTests(SynchronousTestCase):
    """Read and write time limits."""

    def test_read(self) -> None:
        """A session ends when no data has come for so long, though the peer lives."""
        limited = SessionOptions(read_timeout=2 * SECOND)
        pair = SessionPair(SessionOptions(), limited)
        pair.connect()
        pair.run(1500)
        pair.write("client", b"x")
        pair.run(1900)
        self.assertEqual(pair.server.kinds(), [Event.CONNECTED])
        pair.run(200)
        self.assertIn(
            (Event.ENDED, Reason.IDLE, "nothing came for 2 seconds"), pair.server.happened
        )

    def test_write(self) -> None:
        """
        A session ends when nothing of what was written is acknowledged for so
        long, and not while nothing is written.
        """
        limited = SessionOptions(write_timeout=2 * SECOND)
        pair = SessionPair(limited, SessionOptions())
        pair.connect()
        pair.run(5000)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        pair.write("client", b"x")
        pair.run(5000)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        pair.fates["client"] = lambda number, datagram: ()
        pair.write("client", b"y")
        pair.run(1900)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        pair.run(200)
        self.assertEqual(pair.client.happened[-1][:2], (Event.ENDED, Reason.IDLE))


class NonsenseTests(SynchronousTestCase):
    """Datagrams of a live session that are neither bare nor of FEC."""

    def test_almostFramed(self) -> None:
        """
        The kind of a packet is two bytes (kcp.md 3.1). With one of them right a
        datagram is a bare one that makes no sense, whatever comes behind it in its
        run; it is counted.
        """
        for kind in (DATA, PARITY, OUT_OF_BAND):
            for tail in (b"", b"\0" * 4, b"\0" * 23):
                pair = SessionPair()
                pair.connect()
                engine = pair.session("server")
                before = engine.counters()["KCPInErrors"]
                run = bytes(4) + bytes([kind, 0xD7]) + bytes(45) + tail
                engine.receive(run, 51, CLIENT, pair.now)
                self.assertGreater(engine.counters()["KCPInErrors"], before)
                pair.write("client", b"still here")
                pair.run(1000)
                self.assertEqual(pair.server.received, b"still here")


class ConfigureTests(SynchronousTestCase):
    """Settings that change while a session runs."""

    def test_changes(self) -> None:
        """Window, mtu and options take effect at once; the mtu is the session's."""
        pair = SessionPair(settings=UNLIMITED)
        pair.connect()
        engine = pair.session("client")
        self.assertIs(configurable(engine), engine)
        engine.configure({"mtu": 600, "sndwnd": 7, "dup": 1}, pair.now)
        before = len(pair.client.sent)
        pair.write("client", bytes(20_000))
        data = [each for each in pair.client.sent[before:] if each[KIND_OFFSET] == DATA]
        self.assertEqual({len(each) for each in data}, {600})
        self.assertEqual(len(data), 14)

    def test_limits(self) -> None:
        """Time limits and a rate limit of a live session, set and taken away."""
        pair = SessionPair(SessionOptions(), SessionOptions())
        pair.connect()
        pair.run(3000)
        engine = pair.session("client")
        engine.configure({"readTimeout": 2, "rateLimit": 100_000}, pair.now)
        pair.run(1900)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        engine.configure({"readTimeout": 0}, pair.now)
        pair.run(3000)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        pair.write("client", bytes(400_000))
        pair.run(1000)
        self.assertLess(len(pair.server.received), 250_000)
        engine.configure({"rateLimit": 0, "readTimeout": 1}, pair.now)
        pair.run(900)
        self.assertEqual(len(pair.server.received), 400_000)
        pair.run(200)
        self.assertEqual(pair.client.happened[-1][:2], (Event.ENDED, Reason.IDLE))

    def test_pace(self) -> None:
        """C{SetNoDelay} of kcp-go, and what else there is to choose, on a live session."""
        pair = SessionPair(settings=UNLIMITED)
        pair.connect()
        engine = pair.session("client")
        changes = {"nodelay": 0, "interval": 40, "resend": 3, "nc": False, "deadLink": 7}
        engine.configure({**changes, "congestion": "kcp-go"}, pair.now)
        expected = Settings(
            nodelay=0, interval=40, resend=3, nc=False, dead_link=7, congestion="kcp-go"
        )
        for name in ("nodelay", "interval", "resend", "nc", "dead_link", "congestion"):
            self.assertEqual(getattr(engine.settings, name), getattr(expected, name))
        pair.write("client", bytes(20_000))
        pair.run(2000)
        self.assertEqual(pair.server.received, bytes(20_000))

    def test_refused(self) -> None:
        """What is not known or not possible changes nothing."""
        pair = SessionPair()
        pair.connect()
        engine = pair.session("client")
        for changes in (
            {"dup": 1, "colour": 3},
            {"dup": 1, "dataShards": 3},
            {"dup": 1, "sndwnd": -1},
            {"sndwnd": 9, "rateLimit": -1},
            {"dup": 99},
            {"dup": 1, "mode": "messages"},
            {"dup": 1, "mtu": "600"},
            {"dup": 1, "mtu": 30},
            {"dup": 1, "writeDelay": "no"},
            {"dup": 1, "readTimeout": float("nan")},
            {"dup": 1, "nodelay": 1.5},
            {"dup": 1, "congestion": "reno"},
        ):
            self.assertRaises(ValueError, engine.configure, changes, pair.now)
            self.assertEqual(engine.options, FEC)
            self.assertEqual(engine.settings, pair.settings)


class RecordingTests(SynchronousTestCase):
    """Sessions of kcp-go 5.6.72 with its own peer, replayed into ours."""

    def test_captures(self) -> None:
        """
        Fed with what a recorded client sent, a session of ours gives its
        application what was written there, and its out-of-band messages; and
        the same for what the server sent back.
        """
        for capture in vectors.load("kcp", "session_capture_5_6_72")["captures"]:
            for direction in ("c2s", "s2c"):
                self._replay(capture, direction)

    def _replay(self, capture: dict[str, Any], direction: str) -> None:
        key = bytes.fromhex(capture["key"])
        crypt = make_crypt(capture["crypt"], key, random.Random(1).randbytes)
        demux = KCPDemultiplexer(crypt=crypt, snmp=SNMPCounters())
        stream = capture["stream"]
        engine = KCPEngine(
            capture["conv"],
            CLIENT,
            Settings(stream=stream),
            now=0,
            epoch=0,
            role=Role.CLIENT,
            wait_for_peer=False,
            snmp=demux.snmp,
            overhead=demux.overhead,
        )
        heard: list[bytes] = []
        aside: list[bytes] = []
        for one in capture["datagrams"]:
            if one["dir"] != direction:
                continue
            now = one["t"] * MILLISECOND
            datagram = bytes.fromhex(one["data"])
            for key, run, size in demux.open(datagram, len(datagram), CLIENT):
                self.assertEqual(key, (CLIENT, capture["conv"]))
                engine.receive(run, size, CLIENT, now)
            engine.flush(now, lambda run, size, address: True, 1 << 20)
            for message in engine.take_messages():
                (aside if message.delivery is Delivery.OUT_OF_BAND else heard).append(message.data)
            while stream and (data := engine.take(0, 1 << 20)):
                heard.append(data)
        written = b"".join(map(bytes.fromhex, capture["client_writes"]))
        self.assertEqual(b"".join(heard), written)
        counters = engine.counters()
        self.assertEqual((counters["KCPInErrors"], counters.get("FECErrs", 0)), (0, 0))
        self.assertEqual(demux.snmp.snapshot()["InCsumErrors"], 0)
        if direction == "c2s":
            self.assertEqual(aside, [bytes.fromhex(each) for each in capture["client_oob"]])
            self.assertEqual(counters["OOBPackets"], len(aside))
            if capture["data_shards"]:
                self.assertEqual(counters["FECErrs"], 0)
