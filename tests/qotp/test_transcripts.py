"""Recorded conversations of two ends of the release (C{transcript_*.json})."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.pair import CLIENT, SERVER
from tests.qotp.test_payload import recorded, shown
from tests.vectors import load, names
from twisted_rudp.core.engine import MILLISECOND, Address, Admit, Drop, Engine, Key, Reply
from twisted_rudp.qotp import wire
from twisted_rudp.qotp.demux import QOTPDemultiplexer
from twisted_rudp.qotp.engine import QOTPEngine
from twisted_rudp.qotp.handshake import InitiatorHandshake
from twisted_rudp.qotp.keys import KeyPair, Secrets
from twisted_rudp.qotp.protection import INITIATOR, RESPONDER, Cipher, KeyLogReader, lines_of
from twisted_rudp.qotp.receiver import FIRST, SMALLEST
from twisted_rudp.qotp.settings import SOCKET_LIMIT, Settings

KINDS = {
    "InitSnd": wire.Kind.INIT_SND,
    "InitRcv": wire.Kind.INIT_RCV,
    "InitCryptoSnd": wire.Kind.INIT_CRYPTO_SND,
    "InitCryptoRcv": wire.Kind.INIT_CRYPTO_RCV,
    "Data": wire.Kind.DATA,
}

KEYS = {
    "a_ep": "initiator_ephemeral",
    "a_id": "initiator_identity",
    "b_ep": "responder_ephemeral",
    "b_id": "responder_identity",
}


class Transcript:
    """One of them."""

    def __init__(self, name: str) -> None:
        self.recorded = load("qotp", name)
        self.pairs = {
            short: KeyPair.from_hex(self.recorded["keys"][name]["private"])
            for short, name in KEYS.items()
        }
        pairs = self.pairs
        self.secrets = Secrets(
            pairs["a_ep"].exchange(pairs["b_ep"].public),
            pairs["a_ep"].exchange(pairs["b_id"].public),
            (pairs["a_ep"].public, pairs["a_id"].public),
            (pairs["b_ep"].public, pairs["b_id"].public),
        )
        self.name = wire.connection_id(pairs["a_ep"].public)

    def datagrams(self, side: str, arrived: bool = False) -> Iterator[tuple[dict[str, Any], bytes]]:
        """What one side sent, whole."""
        for event in self.recorded["events"]:
            if event["event"] != "datagram" or (side and event["from"] != side):
                continue
            if arrived and event["lost"]:
                continue
            data = bytes.fromhex(event["datagram"])
            yield event, data + bytes(event.get("zero_padding", 0))


class PassiveTests(SynchronousTestCase):
    """Reading along."""

    def test_read(self) -> None:
        """
        2, 4: with a key log every datagram gives its number and payload, and its
        payload sealed anew gives its bytes.
        """
        for name in names("qotp", "transcript_"):
            transcript = Transcript(name)
            reader = KeyLogReader(
                lines_of(transcript.name, transcript.secrets).splitlines(keepends=True)
            )
            seen = 0
            for event, datagram in transcript.datagrams(""):
                found = reader.read(datagram)
                if event["message"] == "InitSnd":
                    self.assertIsNone(found)
                    continue
                assert found is not None, event
                seen += 1
                self.assertEqual(found.kind, KINDS[event["message"]])
                self.assertEqual(found.from_initiator, event["from"] == "initiator")
                self.assertEqual(found.number, event["epoch"] << 48 | event["sn"])
                self.assertEqual(found.plain.hex(), event["payload"])
                self.assertEqual(shown(found.payload), recorded(event["decoded"]))
                self.assertEqual(self.sealed(transcript, event, found.plain), datagram)
            self.assertTrue(seen, name)

    def sealed(self, transcript: Transcript, event: dict[str, Any], plain: bytes) -> bytes:
        kind = KINDS[event["message"]]
        secrets = transcript.secrets
        initiator = event["from"] == "initiator"
        key = secrets.session
        if kind is wire.Kind.INIT_CRYPTO_SND:
            key, plain = secrets.opening or b"", wire.with_fill(plain, transcript.recorded["mtu"])
        keys = secrets.initiator if initiator else secrets.responder
        prefix = wire.prefix_of(kind, transcript.name, *keys)
        direction = INITIATOR if initiator else RESPONDER
        return Cipher(key).seal(prefix, event["epoch"] << 48 | event["sn"], direction, plain)


class Side:
    """Our implementation in the place of one end."""

    def __init__(self, transcript: Transcript, role: str) -> None:
        self.transcript = transcript
        self.engine: QOTPEngine | None = None
        self.room = True
        self.received: defaultdict[int, bytes] = defaultdict(bytes)
        self.sent: list[bytes] = []
        self.drops: list[str] = []
        self.other = CLIENT if role == "responder" else SERVER
        pairs = transcript.pairs
        keys = [bytes.fromhex(transcript.recorded["keys"][KEYS["b_ep"]]["private"])]

        def entropy(size: int) -> bytes:
            return keys.pop() if size == 32 else bytes(size)

        self.settings = Settings(entropy, mtu=transcript.recorded["mtu"], early_data=True)
        identity = pairs["b_id"] if role == "responder" else None
        self.demux = QOTPDemultiplexer(self.settings, identity)
        if role == "initiator":
            known = "0-RTT" in transcript.recorded["handshake"]
            opening = InitiatorHandshake(
                pairs["a_ep"],
                pairs["a_id"],
                pairs["b_id"].public if known else None,
                entropy,
                self.settings.mtu,
                MILLISECOND,
                authenticate=False,
            )
            self.engine = QOTPEngine.dial(opening, SERVER, self.settings, MILLISECOND)
            self.turn(MILLISECOND)

    def get(self, key: Key) -> Engine | None:
        return self.engine if self.engine is not None and key == self.transcript.name else None

    def arrive(self, datagram: bytes, now: int) -> None:
        for key, run, size in self.demux.open(datagram, len(datagram), self.other):
            if self.get(key) is None:
                verdict = self.demux.unknown_peer(run, self.other, now, self)
                if isinstance(verdict, Drop):
                    self.drops.append(verdict.reason)
                if isinstance(verdict, Reply):
                    self.sent += verdict.datagrams
                if not isinstance(verdict, Admit):
                    continue
                assert isinstance(verdict.engine, QOTPEngine)
                self.engine = verdict.engine
            assert self.engine is not None
            self.engine.receive(run, size, self.other, now)
            self.turn(now)

    def turn(self, now: int) -> None:
        engine = self.engine
        if engine is None:
            return
        deadline = engine.deadline()
        if deadline is not None and deadline <= now:
            engine.tick(now)
        for stream in engine.streams:
            while data := engine.take(stream, 1 << 16):
                self.received[stream] += data
        engine.flush(now, self.emit, 1 << 20)
        engine.events()

    def emit(self, run: Any, size: int, address: Address) -> bool:
        whole = bytes(run)
        self.sent += [whole[start : start + size] for start in range(0, len(whole), size)]
        return True


class ReplayTests(SynchronousTestCase):
    """In the place of one end, against what the other sent."""

    def play(self, transcript: Transcript, role: str) -> Side:
        side = Side(transcript, role)
        other = "initiator" if role == "responder" else "responder"
        latency = transcript.recorded["one_way_latency_ms"]
        for event, datagram in transcript.datagrams(other, arrived=True):
            side.arrive(datagram, (event["t_ms"] + latency + 1) * MILLISECOND)
        return side

    def check(self, role: str) -> None:
        for name in names("qotp", "transcript_"):
            with self.subTest(name):
                transcript = Transcript(name)
                side = self.play(transcript, role)
                wanted = transcript.recorded["delivered"][role]
                found = {str(n): data.hex() for n, data in side.received.items()}
                self.assertEqual(found, wanted)
                self.acknowledged(transcript, role, side)

    def acknowledged(self, transcript: Transcript, role: str, side: Side) -> None:
        """
        R10: everything that arrived under K is acknowledged, segment by segment, and
        nothing is said that the release could not read.
        """
        reader = KeyLogReader(lines_of(transcript.name, transcript.secrets).splitlines())
        acks = set()
        for datagram in side.sent:
            found = reader.read(datagram)
            if found is None:
                self.assertEqual(datagram[0], wire.Kind.INIT_SND)
                continue
            assert found.payload is not None
            if found.payload.ack is not None:
                acks.add(found.payload.ack[:3])
        other = "initiator" if role == "responder" else "responder"
        for event, _ in transcript.datagrams(other, arrived=True):
            if event["message"] not in ("Data", "InitCryptoSnd"):
                continue
            stream = event["decoded"]["stream"]
            if stream is not None:
                size = len(stream["data"]) // 2
                self.assertIn((stream["stream_id"], stream["offset"], size), acks)

    def test_responder(self) -> None:
        """As the responder we deliver what the release delivered."""
        self.check("responder")

    def test_initiator(self) -> None:
        """As the initiator too."""
        self.check("initiator")


def early(transcript: Transcript) -> dict[int, bytes]:
    """What the first datagram to arrive says, by stream."""
    event, _ = next(transcript.datagrams("initiator", True))
    stream = event["decoded"]["stream"]
    assert stream["offset"] == 0
    return {stream["stream_id"]: bytes.fromhex(stream["data"])}


class EarlyTests(SynchronousTestCase):
    """Early data of the release's dialler (W4)."""

    name = "transcript_zero_rtt_loss_first"

    def setUp(self) -> None:
        self.transcript = Transcript(self.name)
        self.datagrams = [each for _, each in self.transcript.datagrams("initiator", True)]
        self.said = early(self.transcript)

    def test_marked(self) -> None:
        """
        It is delivered as early, on an address that is not proved; the first Data
        proves both.
        """
        side = Side(self.transcript, "responder")
        side.arrive(self.datagrams[0], MILLISECOND)
        assert side.engine is not None
        self.assertEqual(side.received, self.said)
        self.assertEqual((side.engine.validated, side.engine.facts()["early"]), (False, True))
        self.assertTrue(sum(map(len, side.sent)) <= 3 * len(self.datagrams[0]))
        # Little is kept for an address that may be forged.
        self.assertEqual(side.engine.facts()["receive_window"], SMALLEST)
        self.assertEqual(side.settings.budget.free, SOCKET_LIMIT)
        side.arrive(self.datagrams[1], 2 * MILLISECOND)
        self.assertEqual((side.engine.validated, side.engine.facts()["early"]), (True, False))
        self.assertTrue(side.engine.facts()["receive_window"] >= FIRST)

    def test_replayed(self) -> None:
        """The same opening is not heard again, neither by the connection nor when that has gone."""
        side = Side(self.transcript, "responder")
        for _ in range(3):
            side.arrive(self.datagrams[0], MILLISECOND)
        self.assertEqual(side.received, self.said)
        first, side.engine = side.engine, None
        assert first is not None
        side.settings.entropy(1)
        private = self.transcript.recorded["keys"][KEYS["b_ep"]]["private"]
        object.__setattr__(side.settings, "entropy", lambda size: bytes.fromhex(private)[:size])
        side.arrive(self.datagrams[0], MILLISECOND)
        self.assertEqual(side.drops, ["early data again"])
        self.assertIsNone(side.engine)

    def test_refused(self) -> None:
        """
        By default it is not taken and not acknowledged; the answer completes the
        handshake, and what is repeated as Data is delivered.
        """
        side = Side(self.transcript, "responder")
        object.__setattr__(side.settings, "early_data", False)
        side.arrive(self.datagrams[0], MILLISECOND)
        self.assertIsNone(side.engine)
        reader = KeyLogReader(
            lines_of(self.transcript.name, self.transcript.secrets).splitlines()
        )
        found = reader.read(side.sent[0])
        assert found is not None and found.payload is not None and found.payload.ack is not None
        self.assertEqual(found.payload.ack[:3], (0xFFFFFFFF, 0, 0))
        for datagram in self.datagrams[1:]:
            side.arrive(datagram, MILLISECOND)
        self.assertEqual(side.received, self.said)
