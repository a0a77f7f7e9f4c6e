"""What unknown peers can do (qotp.md 12), with the release's vectors."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_scalarmult
from twisted.trial.unittest import SynchronousTestCase

from tests.pair import CLIENT, SERVER
from tests.qotp.pair import Pair
from tests.vectors import load
from twisted_rudp.core.engine import SECOND, Admit, Drop, Engine, Key, Reply
from twisted_rudp.qotp import handshake, keys, wire
from twisted_rudp.qotp.demux import QOTPDemultiplexer
from twisted_rudp.qotp.engine import QOTPEngine
from twisted_rudp.qotp.handshake import ExchangeLimit, HalfOpen, HalfOpenTable, InitiatorHandshake
from twisted_rudp.qotp.keys import KeyPair, Secrets
from twisted_rudp.qotp.protection import INITIATOR, Cipher, KeyLogReader, Sealer, lines_of
from twisted_rudp.qotp.settings import Settings
from twisted_rudp.qotp.wire import Ack, Segment, encode

NOW = 100 * SECOND


class Listener:
    """The state that the vectors describe: an identity, and one connection."""

    def __init__(self, vectors: dict[str, Any]) -> None:
        keys = vectors["keys"]
        public = {name: bytes.fromhex(key["public"]) for name, key in keys.items()}
        self.settings = Settings(Random(1).randbytes)
        identity = KeyPair.from_hex(keys["b_id"]["private"])
        self.demux = QOTPDemultiplexer(self.settings, identity)
        session = bytes.fromhex(vectors["shared_secrets"]["ephemeral_ephemeral"])
        self.name = wire.connection_id(public["a_ep"])
        secrets = Secrets(
            session, None, (public["a_ep"], public["a_id"]), (public["b_ep"], public["b_id"])
        )
        self.engine = QOTPEngine.accept(
            self.name, CLIENT, self.settings, Cipher(session), secrets, NOW, numbers_used=1
        )
        self.room = True

    def get(self, key: Key) -> Engine | None:
        return self.engine if key == self.name else None

    def arrive(self, datagram: bytes) -> list[Any]:
        """
        @return: verdicts of the demultiplexer.
        """
        verdicts: list[Any] = []
        for key, run, size in self.demux.open(datagram, len(datagram), CLIENT):
            if key == self.name:
                self.engine.receive(run, size, CLIENT, NOW)
            else:
                verdicts.append(self.demux.unknown_peer(run, CLIENT, NOW, self))
        return verdicts

    def answers(self) -> list[bytes]:
        """What the connection has to say."""
        sent: list[bytes] = []

        def emit(run: Any, size: int, address: Any) -> bool:
            sent.append(bytes(run))
            return True

        self.engine.flush(NOW, emit, 1 << 20)
        return sent


class VectorTests(SynchronousTestCase):
    """Datagrams that end the release, or its connections."""

    def test_negative(self) -> None:
        """W3: each is dropped without an exception, an answer, or a change of state."""
        vectors = load("qotp", "negative")
        for case in vectors["cases"]:
            with self.subTest(case["name"]):
                listener = Listener(vectors)
                verdicts = listener.arrive(bytes.fromhex(case["datagram"]))
                self.assertTrue(all(isinstance(each, Drop) for each in verdicts), verdicts)
                self.assertEqual(listener.answers(), [])
                self.assertEqual(listener.engine.events(), ())
                self.assertEqual(listener.engine.unread(), 0)
                self.assertEqual(listener.demux.counters()["half_open"], 0)

    def test_positive(self) -> None:
        """The controls beside them are taken."""
        vectors = load("qotp", "negative")
        controls = {c["name"]: bytes.fromhex(c["datagram"]) for c in vectors["positive_controls"]}
        listener = Listener(vectors)
        listener.arrive(controls["data"])
        self.assertTrue(listener.answers())
        (verdict,) = listener.arrive(controls["init_crypto_snd"])
        self.assertIsInstance(verdict, Reply)

    def test_hijack(self) -> None:
        """W2: nothing unauthenticated changes the key of a connection."""
        vectors = load("qotp", "hijack")
        control = load("qotp", "negative")["positive_controls"][0]
        for case in vectors["cases"]:
            with self.subTest(case["name"]):
                listener = Listener(vectors)
                before = listener.engine.export(b"x")
                self.assertEqual(listener.arrive(bytes.fromhex(case["datagram"])), [])
                self.assertEqual(listener.answers(), [])
                self.assertEqual(listener.engine.export(b"x"), before)
                listener.arrive(bytes.fromhex(control["datagram"]))
                self.assertTrue(listener.answers(), "the connection is alive")


class FloodTests(SynchronousTestCase):
    """W5: openings from nowhere."""

    def setUp(self) -> None:
        self.random = Random(5)
        self.settings = Settings(self.random.randbytes)
        self.room = True

    def get(self, key: Key) -> Engine | None:
        return None

    def opening(self) -> bytes:
        return wire.init_snd(KeyPair(self.random.randbytes(32)).public, bytes(32), 1400)

    def demux(self, **limits: int) -> QOTPDemultiplexer:
        identity = KeyPair.from_text("server")
        return QOTPDemultiplexer(self.settings, identity, limit=ExchangeLimit(**limits))

    def test_exchanges(self) -> None:
        """Key exchanges are bounded per second and per network."""
        demux = self.demux(total=20, each=8)
        for count, host in [(8, "192.0.2.1"), (8, "192.0.2.2"), (4, "192.0.2.3")]:
            verdicts = [
                demux.unknown_peer(self.opening(), (host, 1), NOW, self) for _ in range(30)
            ]
            replies = [each for each in verdicts if isinstance(each, Reply)]
            self.assertEqual(len(replies), count)
            for each in replies:
                self.assertTrue(sum(map(len, each.datagrams)) <= 3 * 1400)
        later = demux.unknown_peer(self.opening(), ("192.0.2.1", 1), NOW + SECOND, self)
        self.assertIsInstance(later, Reply)

    def test_table(self) -> None:
        """The table of the half-open is bounded, and its records lapse."""
        table = HalfOpenTable(limit=10)
        nobody = (bytes(32), bytes(32))
        record = HalfOpen(
            ("192.0.2.1", 1),
            Secrets(bytes(32), None, nobody, nobody),
            Cipher(bytes(32)),
            None,
            Sealer(INITIATOR, 1400),
            b"",
        )
        for number in range(50):
            table.put(b"%d" % number, record, NOW + number)
        self.assertEqual(len(table), 10)
        self.assertIsNone(table.get(b"39"))
        self.assertIsNotNone(table.get(b"40"))
        self.assertEqual(table.deadline(), NOW + handshake.REPEATS[0])
        for _ in handshake.REPEATS:
            self.assertTrue(len(list(table.again(NOW + 4 * SECOND))) <= 10)
        self.assertEqual(table.deadline(), NOW + 40 + handshake.LIFETIME)
        self.assertEqual(table.lapse(NOW + 44 + handshake.LIFETIME), 5)

    def test_lapse(self) -> None:
        """A dialler that never sends Data is forgotten."""
        demux = self.demux()
        demux.unknown_peer(self.opening(), CLIENT, NOW, self)
        demux.tick(NOW + handshake.LIFETIME)
        self.assertIsNone(demux.deadline())
        self.assertEqual(demux.counters()["half_open"], 0)

    def test_answeredAgain(self) -> None:
        """
        qotp.md 3.4, W11: the answer is given again, each time under another number, and all
        of them together are shorter than the opening was.
        """
        demux = self.demux()
        datagram = self.opening()
        first = demux.unknown_peer(datagram, CLIENT, NOW, self)
        assert isinstance(first, Reply)
        answers = list(first.datagrams)
        for _ in range(10):
            deadline = demux.deadline()
            assert deadline is not None
            if deadline >= NOW + handshake.LIFETIME:
                break
            for answer, address in demux.tick(deadline):
                self.assertEqual(address, CLIENT)
                answers.append(answer)
        self.assertEqual(len(set(answers)), 1 + len(handshake.REPEATS))
        self.assertEqual({answer[:73] for answer in answers}, {answers[0][:73]})
        self.assertTrue(sum(map(len, answers)) <= len(datagram))

    def test_noRoom(self) -> None:
        """Without room for more nothing is computed."""
        self.room = False
        verdict = self.demux().unknown_peer(self.opening(), CLIENT, NOW, self)
        self.assertEqual(verdict, Drop("no room"))

    def test_repeated(self) -> None:
        """
        A repeated opening costs no exchange and gets the same key, another number;
        the same id with another key or from elsewhere gets nothing.
        """
        demux = self.demux(total=1, each=1)
        datagram = self.opening()
        first = demux.unknown_peer(datagram, CLIENT, NOW, self)
        second = demux.unknown_peer(datagram, CLIENT, NOW, self)
        assert isinstance(first, Reply) and isinstance(second, Reply)
        self.assertEqual(first.datagrams[0][:73], second.datagrams[0][:73])
        self.assertNotEqual(first.datagrams, second.datagrams)
        forged = datagram[:9] + bytes(24) + datagram[33:]
        taken = Drop("connection id taken")
        self.assertEqual(demux.unknown_peer(forged, CLIENT, NOW, self), taken)
        self.assertEqual(demux.unknown_peer(datagram, ("192.0.2.9", 1), NOW, self), taken)

    def test_firstData(self) -> None:
        """
        The first Data of a dialler opens a connection if it is authentic, comes from where the
        opening came from, and finds room; what does not leaves the opening as it was.
        """
        demux = self.demux()
        dialler = InitiatorHandshake(
            KeyPair(self.random.randbytes(32)),
            KeyPair(self.random.randbytes(32)),
            None,
            self.random.randbytes,
            1400,
            NOW,
        )
        engine = QOTPEngine.dial(dialler, SERVER, self.settings, NOW)
        sent: list[bytes] = []

        def emit(run: Any, size: int, address: Any) -> bool:
            sent.append(bytes(run))
            return True

        engine.flush(NOW, emit, 1 << 20)
        verdict = demux.unknown_peer(sent[0], CLIENT, NOW, self)
        assert isinstance(verdict, Reply)
        [answer] = verdict.datagrams
        engine.receive(answer, len(answer), SERVER, NOW)
        engine.write(0, b"data")
        engine.flush(NOW, emit, 1 << 20)
        data = sent[1]

        def judged(datagram: bytes, address: Any = CLIENT) -> Any:
            return demux.unknown_peer(datagram, address, NOW, self)

        self.assertEqual(judged(data, ("192.0.2.9", 1)), Drop("another address"))
        self.assertEqual(judged(data[:-1] + bytes((data[-1] ^ 1,))), Drop("not authentic"))
        self.room = False
        self.assertEqual(judged(data), Drop("no room"))
        self.room = True
        admitted = judged(data)
        assert isinstance(admitted, Admit)
        self.assertIn(data[1:9], admitted.engine.keys())
        self.assertEqual(demux.counters()["half_open"], 0)

    def test_notListening(self) -> None:
        """A socket that only dials answers nobody."""
        demux = QOTPDemultiplexer(self.settings)
        verdict = demux.unknown_peer(self.opening(), CLIENT, NOW, self)
        self.assertEqual(verdict, Drop("not listening"))


class JunkTests(SynchronousTestCase):
    """Anything at all."""

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(
        head=st.sampled_from([b"", b"\x00", b"\x20", b"\x40", b"\x60", b"\x80", b"\x80known id"]),
        data=st.binary(max_size=120),
        size=st.integers(1, 60),
        fill=st.sampled_from([0, 1400]),
    )
    def test_anything(self, head: bytes, data: bytes, size: int, fill: int) -> None:
        """
        W3: whatever comes, cut however: verdicts and no exception; runs carry one
        key, and nothing is invented.
        """
        pair = Pair()
        run = (head + data).ljust(fill, b"\0")
        size = max(size, fill)
        total = 0
        for key, part, each in pair.server.demux.open(run, size, CLIENT):
            self.assertEqual(each, size)
            total += len(part)
            for start in range(0, len(part), size):
                piece = bytes(part[start : start + size])
                self.assertEqual(piece[1:9], key)
                verdict = pair.server.demux.unknown_peer(piece, CLIENT, NOW, pair.server)
                self.assertNotIsInstance(verdict, Admit)
        self.assertTrue(total <= len(run))

    def test_cutting(self) -> None:
        """
        A run is cut where the connection changes and only there, also where the type
        changes within one connection.
        """
        pair = Pair()
        first, second = bytes(40), b"\x80" + b"id-two!!" + bytes(31)
        other = b"\x20" + b"id-two!!" + bytes(31)
        unknown = b"\xa0" + bytes(39)
        run = first + first + second + other + second + unknown + unknown + second
        parts = pair.server.demux.open(run, 40, CLIENT)
        found = [(key, len(part) // 40) for key, part, _ in parts]
        self.assertEqual(found, [(bytes(8), 2), (b"id-two!!", 4)])
        self.assertEqual(pair.server.demux.counters()["version_or_type"], 2)


class EarlyTests(SynchronousTestCase):
    """Diallers of the release that have something to say at once."""

    def test_nonces(self) -> None:
        """
        S7: a dialler that sends a PING and then data under the same ephemeral key gets
        answers with packet numbers of their own.
        """
        pair = Pair(early_data=True)
        ours = KeyPair(pair.random.randbytes(32))
        opening = Cipher(ours.exchange(pair.identity.public))
        prefix = wire.prefix_of(
            wire.Kind.INIT_CRYPTO_SND, ours.public[:8], ours.public, bytes(32)
        )
        for number, segment in enumerate(
            (Segment(0, 1 << 47, b""), Segment(0, 0, b"early"), Segment(0, 5, b"more"))
        ):
            plain = wire.with_fill(encode(None, segment), 1400)
            pair.server.arrive(opening.seal(prefix, number, INITIATOR, plain), CLIENT)
        ((name, secrets),) = pair.secrets.items()
        reader = KeyLogReader(lines_of(name, secrets).splitlines())
        numbers = [found.number for found in map(reader.read, pair.server.sent) if found]
        self.assertTrue(len(numbers) >= 2)
        self.assertEqual(len(numbers), len(set(numbers)), numbers)


class OpeningTests(SynchronousTestCase):
    """The dialler's side of it."""

    def setUp(self) -> None:
        self.random = Random(9)

    def dialler(self, known: KeyPair | None) -> InitiatorHandshake:
        return InitiatorHandshake(
            KeyPair(self.random.randbytes(32)),
            KeyPair(self.random.randbytes(32)),
            None if known is None else known.public,
            self.random.randbytes,
            1400,
            NOW,
        )

    def test_impostor(self) -> None:
        """
        qotp.md 12.1, W1: whoever answers an opening under a key of his own without having
        read it is not believed.
        """
        opening = self.dialler(KeyPair.from_text("the real server"))
        impostor = KeyPair.from_text("somebody else")
        settings = Settings(self.random.randbytes)
        engine = QOTPEngine.dial(opening, CLIENT, settings, NOW)
        sent: list[bytes] = []

        def emit(run: Any, size: int, address: Any) -> bool:
            sent.append(bytes(run))
            return True

        engine.flush(NOW, emit, 1 << 20)
        # The impostor sees EI and answers it as a listener would answer InitSnd.
        theirs = KeyPair(self.random.randbytes(32))
        cipher = Cipher(theirs.exchange(sent[0][1:33]))
        sealer = Sealer(0, 1400)
        name = sent[0][1:9]
        for kind in (wire.Kind.INIT_CRYPTO_RCV, wire.Kind.INIT_RCV):
            sealer.use(kind, cipher, name, theirs.public, impostor.public)
            for ack in (Ack(0, 0, 0, 1 << 20), Ack(5, 1 << 47, 0, 1 << 20)):
                for run, size in sealer.seal([encode(ack, None)]):
                    engine.receive(run, size, CLIENT, NOW)
        self.assertEqual(engine.events(), ())
        self.assertEqual(engine.facts()["state"], "HANDSHAKE")

    def test_exchangesAreBounded(self) -> None:
        """Forged answers cost a bounded number of exchanges."""
        exchanged: list[bytes] = []

        def counting(private: bytes, public: bytes) -> bytes:
            exchanged.append(public)
            return crypto_scalarmult(private, public)

        self.patch(keys, "crypto_scalarmult", counting)
        ephemeral = KeyPair(self.random.randbytes(32))
        opening = InitiatorHandshake(ephemeral, ephemeral, None, self.random.randbytes, 1400, NOW)
        for _ in range(500):
            forged = b"\x20" + opening.name + self.random.randbytes(150)
            self.assertIsNone(opening.answer(forged[0], forged))
        self.assertEqual(len(exchanged), 64)
