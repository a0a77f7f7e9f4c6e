"""Tests for L{twisted_rudp.raknet.receiver}: acknowledgements, and what nobody has read yet."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.raknet.frames import pack_frame
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.serial import MASK24
from twisted_rudp.core.timers import Timers
from twisted_rudp.kernels import frame_stream
from twisted_rudp.messages import Delivery, Message
from twisted_rudp.raknet import timers
from twisted_rudp.raknet.receiver import (
    RECOGNIZED,
    Arrival,
    Delivered,
    LimitExceeded,
    ReceiveBuffer,
    ReceiveCounters,
    ReceivedDatagrams,
    Receiver,
    SplitMessages,
    SplitMismatch,
    StreamBuffer,
)
from twisted_rudp.raknet.settings import DEFAULT, GO_RAKNET_2023
from twisted_rudp.raknet.wire import ACK_BIT, Frame, Split, pack_header, parse_records

ORDERED = int(Delivery.RELIABLE_ORDERED)
UNRELIABLE = int(Delivery.UNRELIABLE)
USER = DEFAULT.user_id


class ReceiveBufferTests(SynchronousTestCase):
    """Sessions of both kinds, before and after the handshake."""

    def setUp(self) -> None:
        """One that carries bytes and one that carries messages."""
        self.counters = ReceiveCounters()
        self.bytes = ReceiveBuffer(DEFAULT, self.counters)
        self.messages = ReceiveBuffer(replace(DEFAULT, stream=False, early=2), self.counters)

    def test_stream(self) -> None:
        """A stream takes messages with its own id, without the id, and counts others."""
        self.bytes.put(Delivered(bytes((USER,)) + b"ab", ORDERED, 0))
        self.bytes.put(Delivered(bytes((USER ^ 1,)) + b"cd", ORDERED, 0))
        self.assertEqual((self.bytes.size, self.bytes.stream.take(9)), (2, b"ab"))
        self.assertEqual(self.counters.messages_foreign, 1)

    def test_messages(self) -> None:
        """Messages are kept whole, with delivery and channel, whatever their id."""
        self.messages.put(Delivered(memoryview(b"\xf0x"), ORDERED, 7))
        self.assertEqual(self.messages.size, 2)
        expected = Message(b"\xf0x", Delivery.RELIABLE_ORDERED, 7)
        self.assertEqual(list(self.messages.messages.take()), [expected])

    def test_early(self) -> None:
        """
        What comes before the handshake is done waits apart, copied out of its
        datagram; then it is there in order, once. Beyond the limit only what is
        acknowledged is kept.
        """
        datagram = bytearray(b"\x80a")
        self.messages.keep(Delivered(memoryview(datagram), ORDERED, 0))
        datagram[:] = b"\x80b"
        self.messages.keep(Delivered(memoryview(datagram), ORDERED, 0))
        self.assertTrue(self.messages.early_full)
        self.messages.keep(Delivered(b"\x80c", UNRELIABLE, 0))
        self.messages.keep(Delivered(b"\x80d", ORDERED, 0))
        self.assertEqual((self.messages.size, self.counters.messages_early_dropped), (0, 1))
        self.messages.put_kept()
        self.messages.put_kept()
        found = [message.data for message in self.messages.messages.take()]
        self.assertEqual(found, [b"\x80a", b"\x80b", b"\x80d"])

    def test_earlyBytes(self) -> None:
        """The limit is one of bytes as well."""
        small = replace(DEFAULT, stream=False, receive_buffer=10)
        buffer = ReceiveBuffer(small, self.counters)
        buffer.keep(Delivered(bytes(9), UNRELIABLE, 0))
        self.assertFalse(buffer.early_full)
        buffer.keep(Delivered(bytes(9), UNRELIABLE, 0))
        self.assertTrue(buffer.early_full)
        buffer.clear()
        self.assertFalse(buffer.early_full)

    def test_clear(self) -> None:
        """Nothing is left, of what was put aside neither."""
        self.messages.put(Delivered(b"\x80a", ORDERED, 0))
        self.messages.keep(Delivered(b"\x80b", ORDERED, 0))
        self.messages.clear()
        self.messages.put_kept()
        self.assertEqual((self.messages.size, list(self.messages.messages.take())), (0, []))


class ReceiverTests(SynchronousTestCase):
    """L{Receiver} beside its buffer."""

    def test_behindAGap(self) -> None:
        """
        What had waited behind a gap comes at once and is bounded there: it makes no datagram
        be withheld before the application had the opportunity to take it.
        """
        receiver = Receiver(replace(DEFAULT, receive_buffer=5000), Timers(timers.COUNT))
        payload = bytes((USER,)) + bytes(1000)

        def arrive(number: int) -> None:
            frame = pack_frame(Frame(3, payload, number, None, number))
            datagram = memoryview(pack_header(number) + frame)
            for delivered in receiver.datagram(datagram, 0, 0, receiver.buffer.full):
                receiver.buffer.put(delivered)

        for number in range(1, 30):
            arrive(number)
        arrive(0)
        arrive(30)
        receiver.buffer.offered()
        self.assertFalse(receiver.buffer.full)
        receiver.buffer.stream.take(1 << 20)
        receiver.buffer.offered()
        for number in range(31, 37):
            arrive(number)
        self.assertEqual(receiver.counters.datagrams_withheld, 0)
        receiver.buffer.offered()
        arrive(37)
        self.assertEqual(receiver.counters.datagrams_withheld, 1)


class Streaming:
    """
    A receiver of a stream whose numbers wrap.

    @ivar taken: what came out.
    """

    def __init__(self) -> None:
        self.receiver = Receiver(DEFAULT, Timers(timers.COUNT))
        self.receiver.datagrams.expected = self.receiver.reliable = FIRST
        self.receiver.channel(0).next = FIRST
        self.taken = b""

    def arrive(self, run: bytes, size: int, joined: bool) -> None:
        """
        Datagrams come.

        @param joined: those that follow each other may be taken in together.
        """
        receiver, at = self.receiver, 0
        while at < len(run):
            rest, length = run[at:], 0
            if joined:
                length, taken = receiver.take(rest, size, 0)
                if length:
                    receiver.buffer.stream.put(bytes(taken))
                else:
                    length = receiver.hold(rest, size, 0, 0)
            if not length:
                length = size
                for delivered in receiver.datagram(memoryview(rest)[:size], 0, 0, False):
                    receiver.buffer.put(delivered)
            at += length
        self.taken += receiver.buffer.stream.take(1 << 30)

    def state(self) -> tuple[object, ...]:
        """What the peer, and whoever counts, sees."""
        receiver = self.receiver
        datagrams = receiver.datagrams
        return (
            self.taken,
            receiver.reliable,
            receiver.channel(0).next,
            datagrams.acknowledgements(1 << 16),
            datagrams.nacks(0, 1 << 16),
            replace(receiver.counters),
        )


FIRST = MASK24 - 5


class HoldTests(SynchronousTestCase):
    """L{Receiver.hold}."""

    def datagrams(self, count: int, first: int = FIRST) -> list[bytes]:
        """Of ten bytes of the stream each."""
        size = 15 + 10
        data = b"".join(b"%10d" % number for number in range(count))
        run = frame_stream(first, first, first, USER, 10, data)
        return [run[at : at + size] for at in range(0, len(run), size)]

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(st.integers(2, 24), st.randoms(use_true_random=False), st.integers(0, 4))
    def test_sameAsOneByOne(self, count: int, chance: random.Random, repeats: int) -> None:
        """
        Whatever of a stream comes in which order, in runs or not, and more than once: it makes
        no difference whether what follows each other is taken in together.
        """
        sent = self.datagrams(count)
        numbers = [*range(count), *(chance.randrange(count) for _ in range(repeats))]
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(numbers))
            numbers = numbers[at:] + numbers[:at]
        one, many = Streaming(), Streaming()
        while numbers:
            length = chance.randrange(1, 9)
            run = b"".join(sent[number] for number in numbers[:length])
            del numbers[:length]
            one.arrive(run, 25, joined=False)
            many.arrive(run, 25, joined=True)
            self.assertEqual(many.state(), one.state())
        self.assertEqual(many.taken, b"".join(each[15:] for each in sent))
        self.assertEqual(many.receiver.held, 0)

    def test_oneEntry(self) -> None:
        """A run behind a gap costs one entry of what waits, and one index each."""
        streaming = Streaming()
        sent = self.datagrams(24)
        streaming.arrive(b"".join(sent[1:]), 25, joined=True)
        self.assertEqual(len(streaming.receiver.channel(0).waiting), 1)
        self.assertEqual(streaming.receiver.held, 231)
        streaming.arrive(sent[0], 25, joined=True)
        self.assertEqual((len(streaming.taken), streaming.receiver.held), (240, 0))

    def test_bounds(self) -> None:
        """Nothing is held beyond the bounds of a session; one by one it gets the same answer."""
        sent = self.datagrams(24)
        for bound in (
            replace(DEFAULT, held=500),
            replace(DEFAULT, reliable_window=20),
            replace(DEFAULT, stream=False),
        ):
            receiver = Receiver(bound, Timers(timers.COUNT))
            receiver.datagrams.expected = receiver.reliable = FIRST
            receiver.channel(0).next = FIRST
            self.assertEqual(receiver.hold(b"".join(sent[1:]), 25, 0, 0), 0)
            self.assertEqual((receiver.held, receiver.counters.datagrams_in), (0, 0))

    def test_foreign(self) -> None:
        """What is not the stream, or is too short to be, is left alone."""
        receiver = Streaming().receiver
        sent = self.datagrams(4)
        wrong = sent[1][:14] + b"\x90" + sent[1][15:]
        for run, size in (
            (wrong * 2, 25),
            (sent[1], 25),
            (sent[1] + wrong, 25),
            (sent[1][:15] * 2, 15),
            (b"\x84" * 8, 4),
        ):
            self.assertEqual(receiver.hold(run, size, 0, 0), 0)
        self.assertEqual(receiver.held, 0)


def received(first: int = 0) -> ReceivedDatagrams:
    """The datagrams of a peer that begins with this number."""
    datagrams = ReceivedDatagrams(DEFAULT, Timers(timers.COUNT))
    datagrams.expected = first
    return datagrams


class ReceivedDatagramsTests(SynchronousTestCase):
    """Acknowledging (raknet.md 8)."""

    def numbers(self, datagrams: list[bytes]) -> set[int]:
        """What ACKs or NACKs name."""
        return {
            number
            for datagram in datagrams
            for low, high in parse_records(datagram)
            for number in range(low, high + 1)
        }

    @given(
        seed=st.integers(0, 9999),
        count=st.integers(1, 120),
        first=st.sampled_from([0, MASK24 - 30]),
        rate=st.sampled_from([0.0, 0.2, 0.5]),
    )
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_everything(self, seed: int, count: int, first: int, rate: float) -> None:
        """
        On a link that loses, repeats and reorders: every number that came is
        acknowledged, is new once, and exactly those below the highest that did not
        come in time are asked for, once.
        """
        source = random.Random(seed)
        came = [number for number in range(count) if source.random() >= rate]
        came += [number for number in came if source.random() < 0.2]
        came.sort(key=lambda number: number + source.random() * 4)
        datagrams = received(first)
        fresh = []
        for number in came:
            near = datagrams.unwrap((first + number) & MASK24)
            self.assertEqual(near, first + number)
            if datagrams.accept(near, 1, 100, 0, 10 * MILLISECOND) is Arrival.NEW:
                fresh.append(number)
        self.assertEqual(sorted(fresh), sorted(set(came)))
        self.assertEqual(datagrams.nacks(9 * MILLISECOND, 1464), [])
        asked = self.numbers(datagrams.nacks(10 * MILLISECOND, 1464))
        missing = set(range(max(came, default=0))) - set(came)
        self.assertEqual(asked, {(first + number) & MASK24 for number in missing})
        self.assertEqual(datagrams.nacks(10**12, 1464), [])
        told = self.numbers(datagrams.acknowledgements(1464))
        self.assertEqual(told, {(first + number) & MASK24 for number in came})
        self.assertEqual(datagrams.acknowledgements(1464), [])

    def test_repeated(self) -> None:
        """
        Each acknowledgement names again what the two before it named, so that the
        loss of one loses nothing.
        """
        datagrams = received()
        named = []
        for number in range(5):
            datagrams.accept(number, 1, 100, 0, 0)
            named.append(self.numbers(datagrams.acknowledgements(1464)))
        self.assertEqual(named, [{0}, {0, 1}, {0, 1, 2}, {1, 2, 3}, {2, 3, 4}])

    def test_when(self) -> None:
        """
        At once for the first datagrams and for two full ones, else after ten
        milliseconds or 32 datagrams (raknet.md 8.1).
        """
        datagrams = received()
        datagrams.accept(0, 1, 50, 0, 0)
        self.assertEqual(self.numbers(datagrams.due(0, 1464)), {0})
        datagrams.accept(1, 40, 2000, 0, 0)
        datagrams.acknowledgements(1464)
        self.assertEqual(datagrams.due(0, 1464), [])
        datagrams.accept(41, 1, 50, 0, 0)
        self.assertEqual(datagrams.due(9 * MILLISECOND, 1464), [])
        self.assertIn(41, self.numbers(datagrams.due(10 * MILLISECOND, 1464)))
        datagrams.accept(42, 2, 2928, 0, 0)
        self.assertIn(43, self.numbers(datagrams.due(0, 1464)))

    def test_withheld(self) -> None:
        """What was dropped for lack of room is asked for when there is room again."""
        datagrams = received()
        datagrams.accept(0, 1, 50, 0, 0)
        for number in (1, 2, 3):
            datagrams.withhold(number)
        self.assertTrue(datagrams.withholding)
        self.assertEqual(datagrams.nacks(10**12, 1464), [])
        datagrams.release(5)
        self.assertEqual(self.numbers(datagrams.nacks(5, 1464)), {1, 2, 3})
        self.assertFalse(datagrams.withholding)


class GapTests(SynchronousTestCase):
    """What is missing, and what there was no room for."""

    def setUp(self) -> None:
        self.timers = Timers(timers.COUNT)
        self.datagrams = ReceivedDatagrams(DEFAULT, self.timers)

    def test_lone(self) -> None:
        """A gap before a lone datagram is asked for by its timer as soon as it had its time."""
        self.datagrams.accept(1, 1, 100, 0, 10)
        self.assertEqual(self.timers.due[timers.NACK], 10)
        self.assertEqual(self.missing(10), [(0, 0)])

    def test_company(self) -> None:
        """
        One among many may be asked for as soon, by the turn of those that follow. The timer
        is later.
        """
        for number, count in ((1, 2), (4, 1)):
            self.datagrams.accept(number, count, 100, 0, 10)
            self.assertEqual(self.timers.due[timers.NACK], 15)
        self.assertEqual(self.missing(9), [])
        self.assertEqual(self.missing(10), [(0, 0), (3, 3)])
        self.assertEqual(self.missing(1000), [])
        self.datagrams.accept(9, 1, 100, 20, 10)
        self.datagrams.accept(11, 1, 100, 22, 10)
        self.assertEqual(self.missing(30), [(5, 8)])
        self.assertEqual(self.timers.due[timers.NACK], 37)

    def missing(self, now: int) -> list[tuple[int, int]]:
        """What is asked for at the end of a turn."""
        due = self.datagrams.due(now, 1400)
        return [each for nack in due if not nack[0] & ACK_BIT for each in parse_records(nack)]

    def test_wide(self) -> None:
        """Of a wide gap only the newest part is asked for."""
        number = DEFAULT.nack_limit + 50
        self.datagrams.accept(number, 1, 100, 0, 5)
        self.assertEqual(self.missing(5), [(50, number - 1)])

    def test_released(self) -> None:
        """What was withheld is asked for when there is room; what is far away was never noted."""
        self.datagrams.withhold(RECOGNIZED)
        self.assertFalse(self.datagrams.withholding)
        self.datagrams.withhold(3)
        self.assertTrue(self.datagrams.withholding)
        self.assertEqual(self.missing(SECOND), [])
        self.datagrams.release(SECOND)
        self.assertEqual((self.datagrams.expected, self.datagrams.withholding), (4, False))
        self.assertEqual(self.missing(SECOND), [(3, 3)])


class SplitMessagesTests(SynchronousTestCase):
    """Messages in pieces that do not all come."""

    def test_expiry(self) -> None:
        """What had no new piece for too long makes room for another message, and only that."""
        splits = SplitMessages(replace(DEFAULT, splits=2, split_expiry=10 * SECOND))

        def piece(ident: int, number: int) -> Frame:
            return Frame(ORDERED, b"abc", 0, split=Split(3, ident, number))

        splits.add(piece(1, 0), 0)
        splits.add(piece(2, 0), 6 * SECOND)
        splits.add(piece(1, 1), 9 * SECOND)
        self.assertEqual((len(splits), splits.size, splits.fragments), (2, 9, 3))
        self.assertFalse(splits.has_room(Split(3, 3, 0), 16 * SECOND - 1))
        self.assertRaises(SplitMismatch, splits.add, piece(3, 0), 16 * SECOND - 1)
        self.assertTrue(splits.has_room(Split(3, 3, 0), 16 * SECOND))
        self.assertEqual((len(splits), splits.size, splits.fragments), (1, 6, 2))
        whole = splits.add(piece(1, 2), 16 * SECOND)
        assert whole is not None
        self.assertEqual(whole.payload, b"abc" * 3)
        self.assertEqual((len(splits), splits.size, splits.fragments), (0, 0, 0))


class StreamBufferTests(SynchronousTestCase):
    """L{StreamBuffer}."""

    def test_limits(self) -> None:
        """Pieces are handed out whole where the limit allows, and in parts where not."""
        buffer = StreamBuffer()
        for each in (b"abcdef", b"gh", b"ij"):
            buffer.put(each)
        taken = [buffer.take(limit) for limit in (4, 0, 4, 9, 9)]
        self.assertEqual(taken, [b"abcd", b"", b"efgh", b"ij", b""])
        self.assertEqual(buffer.size, 0)


class FarTests(SynchronousTestCase):
    """Datagrams numbered beyond belief."""

    def test_far(self) -> None:
        """Ours passes them over and counts; an older go-raknet ends the session."""
        for settings_, ends in ((DEFAULT, False), (GO_RAKNET_2023, True)):
            receiver = Receiver(settings_, Timers(timers.COUNT))
            datagram = memoryview(pack_header(settings_.jump + 1))
            found = receiver.datagram(datagram, 0, 0, False)
            if ends:
                self.assertRaises(LimitExceeded, list, found)
            else:
                self.assertEqual(list(found), [])
            counters = receiver.counters
            self.assertEqual((counters.datagrams_far, counters.datagrams_in), (1, 0))
            self.assertEqual(receiver.datagrams.expected, 0)
