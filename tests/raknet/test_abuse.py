"""What unknown peers and hostile peers send (raknet.md 13, C{malformed.json})."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import vectors
from tests.pair import CLIENT, SERVER
from tests.raknet.frames import pack_frame
from tests.raknet.pair import CLIENT_GUID, MESSAGES, Pair
from twisted_rudp.core.engine import MILLISECOND, SECOND, Event, Reason
from twisted_rudp.core.serial import MASK24
from twisted_rudp.raknet.engine import RakNetEngine
from twisted_rudp.raknet.offline import Request2, pack
from twisted_rudp.raknet.settings import Settings
from twisted_rudp.raknet.wire import (
    ConnectionRequest,
    Frame,
    MessageId,
    NewIncoming,
    Split,
    pack_connection_request,
    pack_header,
    pack_new_incoming,
)

DELIVERS = ("round up", "deliver as", "deliver when", "treat as", "NACK at most")
"""How the recommendation for an odd datagram begins whose message is good."""

MAY_DELIVER = ("drop or accept",)
"""The same where either is right; the others have no message to deliver."""


class Victim:
    """A listener's session that has had two datagrams, as the vectors suppose."""

    def __init__(self, settings: Settings = MESSAGES) -> None:
        self.now = 0
        self.pair = Pair(settings, cookies=False)
        self.sent: list[bytes] = []
        self.happened: list[tuple[object, ...]] = []
        self.engine = RakNetEngine(
            CLIENT,
            settings,
            now=0,
            guid=1,
            epoch=0,
            request=Request2(None, SERVER, 1492, CLIENT_GUID),
            validated=True,
        )
        self.frames(Frame(2, pack_connection_request(ConnectionRequest(CLIENT_GUID, 5)), 0))
        incoming = pack_new_incoming(SERVER, NewIncoming(0, 5), 20)
        self.frames(Frame(3, incoming, 1, None, 0), number=1)

    def arrive(self, datagram: bytes) -> None:
        """Receive, then flush."""
        self.engine.receive(datagram, len(datagram) or 1, CLIENT, self.now)
        self.flush()

    def frames(self, *frames: Frame, number: int = 0) -> None:
        """A datagram with frames arrives."""
        self.arrive(pack_header(number) + b"".join(map(pack_frame, frames)))

    def flush(self) -> None:
        """Send what is to be sent."""

        def emit(run: object, size: int, address: object) -> bool:
            self.sent.append(bytes(run))  # type: ignore[call-overload]
            return True

        self.engine.flush(self.now, emit, 1 << 20)
        self.happened += self.engine.events()

    def messages(self) -> list[bytes]:
        """What the application is given."""
        return [message.data for message in self.engine.take_messages()]

    @property
    def alive(self) -> bool:
        """The session goes on."""
        return not self.engine.over


class MalformedTests(SynchronousTestCase):
    """The odd datagrams that three servers were tried with."""

    def test_vectors(self) -> None:
        """None ends the session, each good message is delivered and nothing else."""
        for vector in vectors.load("raknet", "malformed")["vectors"]:
            victim = Victim()
            self.assertEqual(victim.happened, [(Event.CONNECTED, False)])
            for datagram in vector["datagrams_hex"]:
                victim.arrive(bytes.fromhex(datagram))
            name = vector["name"]
            self.assertTrue(victim.alive, name)
            advice = vector["recommended"]
            if not advice.startswith(MAY_DELIVER):
                delivers = advice.startswith(DELIVERS)
                self.assertEqual(bool(victim.messages()), delivers, (name, advice))

    def test_jump(self) -> None:
        """
        A jump of numbers makes at most a thousand be asked for, one beyond belief
        is dropped without acknowledgement (raknet.md 7).
        """
        victim = Victim()
        victim.frames(Frame(0, b"\xfea"), number=3002)
        victim.now += SECOND
        victim.sent.clear()
        victim.flush()
        (nack,) = [sent for sent in victim.sent if sent[0] == 0xA0]
        first, last = (int.from_bytes(nack[at : at + 3], "little") for at in (4, 7))
        self.assertEqual((first, last), (2002, 3001))
        victim.sent.clear()
        victim.frames(Frame(0, b"\xfeb"), number=3003 + 50_001)
        self.assertEqual(victim.messages(), [b"\xfea"])
        self.assertEqual(victim.engine.counters()["datagrams_far"], 1)

    def test_hugeRange(self) -> None:
        """Records that name everything, often, cost no more than what is in flight."""
        victim = Victim()
        victim.engine.send(b"\xfe" + bytes(100_000))
        victim.flush()
        record = b"\x00" + bytes(3) + b"\xff" * 3
        everything = b"\xc0" + (200).to_bytes(2, "big") + record * 200
        victim.engine.receive(everything, len(everything), CLIENT, 0)
        self.assertEqual(victim.engine.facts()["bytes_in_flight"], 0)
        victim.arrive(b"\xa0" + (200).to_bytes(2, "big") + record * 200)
        self.assertTrue(victim.alive)

    def test_manyBad(self) -> None:
        """
        So many unreadable datagrams within ten seconds are no RakNet; spread over a
        longer time they are forgiven (raknet.md 13).
        """
        for gap, alive in ((10 * MILLISECOND, False), (2 * SECOND, True)):
            victim = Victim(replace(MESSAGES, timeout=10**12))
            for number in range(40):
                victim.now += gap
                victim.arrive(pack_header(2 + number) + b"\x60\x00")
            self.assertEqual(victim.alive, alive)
            if not alive:
                self.assertEqual(victim.happened[-1][:2], (Event.ENDED, Reason.PROTOCOL))

    @given(data=st.lists(st.binary(max_size=60), max_size=20), first=st.sampled_from(
        [b"\x84", b"\xc0", b"\xa0", b"\x84\x02\x00\x00\x60", b"\x84\x03\x00\x00\x70", b""]
    ))
    @settings(max_examples=150, deadline=None, derandomize=True)
    def test_anything(self, data: list[bytes], first: bytes) -> None:
        """
        Whatever arrives for a session raises nothing, and what is held is bounded by
        what was received.
        """
        victim = Victim()
        for datagram in data:
            victim.arrive(first + datagram)
            victim.now += MILLISECOND
        if victim.alive:
            held = victim.engine.facts()["bytes_waiting"] + victim.engine.unread()
            self.assertLessEqual(held, sum(map(len, data)))


class LimitTests(SynchronousTestCase):
    """Every limit of raknet.md 13 bites, and is counted."""

    def test_splits(self) -> None:
        """
        Incomplete messages are bounded in number; announced fragments cost nothing.
        A fragment there is no room for is not acknowledged, as it would be lost, and
        taken when it comes again.
        """
        victim = Victim()
        for ident in range(90):
            split = Split(2048, ident, 0)
            victim.frames(Frame(2, b"\xfe", 2 + ident, split=split), number=2 + ident)
        facts = victim.engine.facts()
        self.assertEqual(facts["bytes_waiting"], 64)
        self.assertEqual(victim.engine.counters()["datagrams_withheld"], 26)
        victim.frames(Frame(2, b"\xff", 100, split=Split(2, 95, 0)), number=100)
        self.assertEqual(victim.engine.counters()["datagrams_withheld"], 27)
        for number in range(1, 2048):
            frame = Frame(2, b"\xff", 100 + number, split=Split(2048, 0, number))
            victim.frames(frame, number=100 + number)
        victim.frames(Frame(2, b"\xff", 100, split=Split(2, 95, 0)), number=3000)
        self.assertEqual(victim.engine.counters()["datagrams_withheld"], 27)

    def test_held(self) -> None:
        """Bytes that wait for others end the session beyond the limit."""
        victim = Victim(replace(MESSAGES, held=10_000))
        for number in range(2, 20):
            frame = Frame(3, b"\xfe" + bytes(1000), number, None, number)
            victim.frames(frame, number=number)
        self.assertEqual(victim.happened[-1][:2], (Event.ENDED, Reason.LIMIT))

    def test_waiting(self) -> None:
        """Messages of one channel that wait for an earlier one end the session beyond the limit."""
        victim = Victim(replace(MESSAGES, order_limit=10))
        for number in range(2, 14):
            victim.frames(Frame(3, b"\xfe", number, None, number), number=number)
        self.assertEqual(victim.happened[-1][:2], (Event.ENDED, Reason.LIMIT))

    def test_orderBomb(self) -> None:
        """
        Messages that wait on all channels together are bounded, with what their objects
        cost, however small they are.
        """
        victim = Victim()
        for number in range(12_000):
            frame = Frame(3, b"\xfe", 2 + number, None, 1 + number // 32, number % 32)
            victim.frames(frame, number=2 + number)
            if not victim.alive:
                break
        self.assertEqual(victim.happened[-1][:2], (Event.ENDED, Reason.LIMIT))
        self.assertLessEqual(number, MESSAGES.order_limit + 300)

    def test_smallFragments(self) -> None:
        """What waits is counted with what it costs, so fragments of a byte are bounded too."""
        victim = Victim(replace(MESSAGES, held=400_000))
        for number in range(2000):
            frame = Frame(2, b"\xfe", 2 + number, split=Split(2048, 0, number))
            victim.frames(frame, number=2 + number)
            if not victim.alive:
                break
        self.assertEqual(victim.happened[-1][:2], (Event.ENDED, Reason.LIMIT))
        self.assertLess(number, 1000)

    def test_unread(self) -> None:
        """Messages that nobody reads count with what they cost."""
        victim = Victim(replace(MESSAGES, receive_buffer=10_000))
        for number in range(2, 300):
            victim.frames(Frame(2, b"\xfe", number), number=number)
        self.assertGreater(victim.engine.counters()["datagrams_withheld"], 100)

    def test_noWindowOfItsOwn(self) -> None:
        """
        A peer that sends on without end while one datagram is lost, as go-raknet does,
        is not acknowledged beyond the window, and its session goes on.
        """
        victim = Victim()
        sent = [b"\xfe%d" % number for number in range(10_000)]
        frames = [Frame(3, each, 2 + n, None, 1 + n) for n, each in enumerate(sent)]
        for number in range(1, 200):
            victim.frames(*frames[number * 50 : number * 50 + 50], number=2 + number)
        self.assertTrue(victim.alive, victim.happened[-1:])
        self.assertGreater(victim.engine.counters()["datagrams_withheld"], 0)
        victim.frames(*frames[:50], number=2)
        received = victim.messages()
        self.assertGreater(len(received), 8000)
        self.assertEqual(received, sent[: len(received)])

    def test_reliableWindow(self) -> None:
        """A reliable index beyond the window is not acknowledged, as it would be lost."""
        victim = Victim()
        victim.frames(Frame(2, b"\xfe", 2 + 8192), number=2)
        self.assertEqual(victim.messages(), [])
        self.assertEqual(victim.engine.counters()["datagrams_withheld"], 1)

    def test_early(self) -> None:
        """Messages that overtake the handshake are kept up to a bound."""
        engine = RakNetEngine(
            CLIENT, MESSAGES, now=0, guid=1, epoch=0, request=Request2(None, SERVER, 1492, 5)
        )
        for number in range(80):
            datagram = pack_header(number) + pack_frame(Frame(0, b"\xfe%d" % number))
            engine.receive(datagram, len(datagram), CLIENT, 0)
        self.assertEqual(engine.counters()["messages_early_dropped"], 16)

    def test_earlyReliable(self) -> None:
        """
        Those that would be acknowledged are not taken in beyond the bound, nor
        acknowledged; what belongs to the handshake still is.
        """
        engine = RakNetEngine(
            CLIENT, MESSAGES, now=0, guid=1, epoch=0, request=Request2(None, SERVER, 1492, 5)
        )
        for number in range(80):
            frame = Frame(2, b"\xfe%d" % number, number)
            datagram = pack_header(number) + pack_frame(frame)
            engine.receive(datagram, len(datagram), CLIENT, 0)
        counters = engine.counters()
        self.assertEqual(counters["messages_early_dropped"], 0)
        self.assertEqual(counters["datagrams_withheld"], 16)
        pong = Frame(2, bytes((MessageId.CONNECTED_PING,)) + bytes(8), 80)
        datagram = pack_header(80) + pack_frame(pong)
        engine.receive(datagram, len(datagram), CLIENT, 0)
        self.assertEqual(engine.counters()["datagrams_withheld"], 16)

    def test_pingFlood(self) -> None:
        """Pings in one turn are answered up to a bound."""
        victim = Victim()
        frames = [Frame(0, bytes((MessageId.CONNECTED_PING,)) + bytes(8))] * 100
        victim.sent.clear()
        victim.frames(*frames, number=2)
        self.assertLessEqual(sum(map(len, victim.sent)), 16 * 20 + 100)
        self.assertGreaterEqual(victim.engine.counters()["system_ignored"], 84)

    def test_rate(self) -> None:
        """Where the rate of a session is limited, what is beyond is not read."""
        victim = Victim(replace(MESSAGES, online_rate=10))
        for number in range(2, 40):
            victim.frames(Frame(0, b"\xfe"), number=number)
        self.assertEqual(len(victim.messages()), 8)
        self.assertEqual(victim.engine.counters()["datagrams_excess"], 30)

    def test_unconfirmed(self) -> None:
        """
        A peer that never confirms the handshake's longest answer gets it a few times
        and is dropped (raknet.md 13), if its address may be forged.
        """
        engine = RakNetEngine(
            CLIENT, MESSAGES, now=0, guid=1, epoch=0, validated=False,
            request=Request2(None, SERVER, 1492, 5),
        )
        sent: list[bytes] = []
        asking = pack_connection_request(ConnectionRequest(5, 5))
        request = pack_header(0) + pack_frame(Frame(2, asking, 0))
        engine.receive(request, len(request), CLIENT, 0)
        now = 0

        def emit(run: object, size: int, address: object) -> bool:
            sent.append(bytes(run))  # type: ignore[call-overload]
            return True

        while not engine.over and now < 60 * SECOND:
            engine.flush(now, emit, 9999)
            now = engine.deadline() or now + SECOND
            engine.tick(now)
        self.assertEqual(engine.events()[-1][:2], (Event.ENDED, Reason.HANDSHAKE_TIMEOUT))
        self.assertLessEqual(len([each for each in sent if len(each) > 100]), 4)

    def test_forgedRequests(self) -> None:
        """Requests with forged addresses leave nothing behind while cookies are on."""
        pair = Pair()
        for number in range(5000):
            request = pack(Request2(number, SERVER, 1492, number))
            address = (f"198.51.{number >> 8}.{number & 255}", 9)
            pair.server.arrive(request, address)
        self.assertEqual((pair.server.engines, pair.server.sent), ({}, []))

    def test_numbersNearTheWrap(self) -> None:
        """A session whose peer names numbers around 2^24 that were never sent goes on."""
        victim = Victim()
        for number in (MASK24, MASK24 - 1, 0x800000):
            victim.arrive(b"\xc0\x00\x01\x01" + number.to_bytes(3, "little"))
            victim.arrive(b"\xa0\x00\x01\x01" + number.to_bytes(3, "little"))
            victim.frames(Frame(0, b"\xfe"), number=number)
        self.assertTrue(victim.alive)
