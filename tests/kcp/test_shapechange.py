"""FEC groups whose shape changes while a session runs (kcp-close.md 18)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.kcp.pair import CONV, Pair
from tests.kcp.segments import Wire
from tests.pair import SERVER, chancy
from twisted_rudp.core.batch import RunWriter
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.serial import MASK32
from twisted_rudp.kcp.arq import ARQ
from twisted_rudp.kcp.fec import Encoder, end_of_ids
from twisted_rudp.kcp.framing import SETTLED, Framing
from twisted_rudp.kcp.mismatch import MismatchSigns
from twisted_rudp.kcp.settings import PROFILE_OPTIONS, PROFILES, SessionOptions
from twisted_rudp.kcp.shapechange import (
    JUMP,
    LEAST_PACKETS,
    Shape,
    ShapeSender,
    announcement,
    confirmation,
    first_id,
    is_change,
    read_announcement,
    read_confirmation,
)
from twisted_rudp.kcp.shapechoice import REST, ShapeChoice
from twisted_rudp.kcp.snmp import SessionCounters
from twisted_rudp.kcp.wire import ACK, HEADER_SIZE, MARK, WINS, pack_header

PROPERTY = settings(max_examples=30, deadline=None, derandomize=True)
PEER = ("192.0.2.1", 9)

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 6))


def framing(options: SessionOptions | None = None) -> Framing:
    """The FEC of a dialler."""
    arq = ARQ(1, PROFILES["default"])
    traffic = SessionCounters(arq, False)
    options = options or SessionOptions(data_shards=2, parity_shards=1, fec="auto")
    return Framing(options, False, PEER, MismatchSigns(), traffic)


def packets(encoder: Encoder, datagrams: list[bytes]) -> list[bytes]:
    """What leaves for datagrams that are written one by one."""
    wire = Wire()
    writer = RunWriter(wire.emit, PEER)
    for datagram in datagrams:
        encoder.encode(datagram, len(datagram), 0, writer, True)
    writer.finish()
    return wire.datagrams()


def taken(receiver: Framing, arriving: list[bytes]) -> list[bytes]:
    """The datagrams that are understood of what arrives one by one, whole or rebuilt."""
    return [
        bytes(datagram)
        for packet in arriving
        for datagram, _, _ in receiver.decode(packet, len(packet))
    ]


def change(
    encoder: Encoder, receiver: Framing, generation: int, data: int, parity: int
) -> None:
    """The peer confirms a shape, so the encoder goes over to it."""
    shape = Shape(generation, data, parity, first_id(encoder.next, data + parity))
    receiver.receive_shape(announcement(shape), 0, 0)
    assert receiver.answer, shape
    receiver.answer = b""
    encoder.plan(data, parity, shape.first)


class WireTests(SynchronousTestCase):
    """The bytes of announcement and confirmation."""

    def test_bytes(self) -> None:
        """Little-endian: kind, generation, data, parity, first id; then two counts."""
        shape = Shape(0x0102, 6, 3, 9 * 0x1000)
        self.assertEqual(announcement(shape).hex(), "020201060300900000")
        self.assertEqual(
            confirmation(shape, 5, (1 << 32) + 4).hex(), "0302010603009000000500000004000000"
        )
        self.assertEqual(read_announcement(announcement(shape)), shape)
        self.assertEqual(read_confirmation(confirmation(shape, 5, 4)), (shape, 5, 4))

    def test_impossible(self) -> None:
        """Neither empty groups, nor too many, nor a beginning within a group or beyond the end."""
        for shape in (
            Shape(1, 0, 3, 0),
            Shape(1, 3, 0, 0),
            Shape(1, 255, 2, 0),
            Shape(1, 6, 3, 10),
            Shape(1, 6, 3, end_of_ids(9)),
        ):
            self.assertIsNone(read_announcement(announcement(shape)), shape)
            self.assertIsNone(read_confirmation(confirmation(shape, 0, 0)), shape)

    @PROPERTY
    @given(st.binary(min_size=1, max_size=24))
    def test_anything(self, payload: bytes) -> None:
        """Whatever comes is read, or refused and counted; nothing is raised."""
        receiver = framing()
        for kind in (b"\2", b"\3"):
            receiver.receive_shape(kind + payload, 0, 0)
        self.assertEqual(receiver.heard + receiver.refused, 2)
        self.assertEqual(receiver.refused, 2 if read_announcement(b"\2" + payload) is None else 1)

    def test_is_change(self) -> None:
        """A bare datagram with one of these is no sign of a peer without FEC."""
        payload = announcement(Shape(0, 2, 1, 0))
        head = pack_header(1, WINS, MARK, 9, 0, 0, 0, len(payload))
        self.assertTrue(is_change(head + payload))
        self.assertFalse(is_change(head + b"\0" + payload))
        self.assertFalse(is_change(pack_header(1, WINS, MARK, 9, 0, 0, 0, 0)))


class FirstIdTests(SynchronousTestCase):
    """From which sequence id a shape holds."""

    @PROPERTY
    @given(st.integers(0, MASK32), SHAPES)
    def test_ahead(self, following: int, shape: tuple[int, int]) -> None:
        """It begins a group, far ahead of the present ids, also where these wrap."""
        shards = sum(shape)
        first = first_id(following, shards)
        self.assertTrue(Shape(1, *shape, first).possible)
        ahead = (first - following) & MASK32
        self.assertTrue(JUMP - 2 * 256 <= ahead <= JUMP + 2 * 256, ahead)


class ChangeTests(SynchronousTestCase):
    """Encoder and decoder go over to another shape together."""

    @PROPERTY
    @given(
        st.lists(st.tuples(SHAPES, st.integers(1, 40)), min_size=1, max_size=5),
        st.integers(0, 3),
        st.randoms(use_true_random=False),
    )
    def test_order(
        self, steps: list[tuple[tuple[int, int], int]], near_end: int, chance: random.Random
    ) -> None:
        """
        Everything that comes is understood, in whatever shape, and what is lost is rebuilt
        where no more than the parity of its group is missing; also where ids wrap.
        """
        first = (0, 3 * JUMP, end_of_ids(3) - 3 * JUMP, end_of_ids(3) - 30)[near_end]
        encoder, receiver = Encoder(2, 1, True, first), framing()
        written: list[bytes] = []
        for generation, ((data, parity), count) in enumerate([((2, 1), 6), *steps]):
            if generation:
                change(encoder, receiver, generation, data, parity)
                # The group that is begun goes on in its shape.
                rest = [b"end %d of %d" % (generation, each) for each in range(2 * 16)]
                while encoder.data != data or encoder.parity != parity:
                    found = packets(encoder, [rest.pop()])
                    written += [found[0][8:]]
                    self.assertEqual(taken(receiver, found[:1]), written[-1:])
            fresh = [b"%d of %d" % (each, generation) * (1 + each % 3) for each in range(count)]
            fresh = fresh[: len(fresh) // data * data]
            sent = packets(encoder, fresh)
            arriving: list[bytes] = []
            for start in range(0, len(sent), data + parity):
                group = sent[start : start + data + parity]
                for lost in sorted(chance.sample(range(len(group)), parity), reverse=True):
                    del group[lost]
                arriving += group
            got = taken(receiver, arriving)
            self.assertEqual(sorted(set(got)), sorted(set(fresh)))
        decoder = receiver.decoder
        assert decoder is not None
        self.assertEqual((decoder.misfits, decoder.tunings), (0, 0))

    @PROPERTY
    @given(SHAPES, SHAPES, st.randoms(use_true_random=False))
    def test_reordered(
        self, old: tuple[int, int], new: tuple[int, int], chance: random.Random
    ) -> None:
        """Packets from before the change that come behind it, and twice, are still decoded."""
        encoder, receiver = Encoder(*old, True), framing(
            SessionOptions(data_shards=old[0], parity_shards=old[1])
        )
        before = [b"before %d" % each for each in range(2 * old[0])]
        sent = packets(encoder, before)
        change(encoder, receiver, 1, *new)
        after = [b"after %d" % each for each in range(2 * new[0])]
        sent += packets(encoder, after)
        # One is lost of each group.
        kept, start = [], 0
        for shape in (old, old, new, new):
            group = sent[start : start + sum(shape)]
            start += sum(shape)
            del group[chance.randrange(len(group))]
            kept += group
        kept += kept[:3]
        chance.shuffle(kept)
        self.assertEqual(set(taken(receiver, kept)), {*before, *after})

    def test_settled(self) -> None:
        """After enough of the new shape alone the old one is forgotten, and counts go on."""
        encoder, receiver = Encoder(2, 1, True), framing()
        taken(receiver, packets(encoder, [b"one", b"two"])[1:])
        change(encoder, receiver, 1, 4, 2)
        sent = packets(encoder, [b"%d" % each for each in range(SETTLED)])
        del sent[::6]
        taken(receiver, sent)
        decoder = receiver.decoder
        assert decoder is not None
        self.assertEqual((decoder.data, decoder.recovered), (4, 1 + SETTLED // 4))
        self.assertEqual((decoder.missed, decoder.runs), (1 + SETTLED // 4,) * 2)
        # What does not fit is passed over now, and does not set off tuning.
        stranger = packets(Encoder(2, 1, True, 9 * JUMP), [b"x", b"y"])
        taken(receiver, stranger)
        self.assertEqual(decoder.tunings, 0)
        self.assertEqual(decoder.misfits, 1)

    def test_announced_again(self) -> None:
        """The same is confirmed again; an older one, or another of the same number, is not."""
        receiver = framing()
        shape = Shape(7, 4, 2, 6 * JUMP)
        for payload, answered in (
            (announcement(shape), True),
            (announcement(shape), True),
            (announcement(Shape(7, 3, 3, 6 * JUMP)), False),
            (announcement(Shape(6, 4, 2, 6 * JUMP)), False),
            (announcement(Shape(7 + (1 << 15), 4, 2, 6 * JUMP)), False),
            (announcement(Shape(8, 4, 2, 6 * JUMP)), True),
        ):
            receiver.answer = b""
            receiver.receive_shape(payload, 0, 0)
            self.assertEqual(bool(receiver.answer), answered)
        self.assertEqual((receiver.heard, receiver.refused), (2, 3))


class SenderTests(SynchronousTestCase):
    """Who sends announces, and waits for the peer."""

    def setUp(self) -> None:
        self.encoder = Encoder(2, 1, True)
        self.shapes = ShapeSender(self.encoder, ShapeChoice())
        self.now = 0

    def write(self, count: int) -> None:
        packets(self.encoder, [b"datagram"] * count)

    def reported(self, missed: int) -> bool:
        """The peer confirms what was announced, after a while."""
        self.now += REST
        self.write(100)
        payload = self.shapes.announce(self.now)
        shape = read_announcement(payload)
        assert shape is not None
        return self.shapes.receive(confirmation(shape, missed, missed), self.now, SECOND // 5)

    def test_silent(self) -> None:
        """A peer that never answers keeps the first shape and is asked less and less."""
        asked = 0
        for second in range(500):
            self.write(20)
            if self.shapes.wanted(second * SECOND):
                self.shapes.announce(second * SECOND)
                asked += 1
        self.assertEqual((self.encoder.data, self.encoder.parity), (2, 1))
        self.assertFalse(self.shapes.confirmed)
        self.assertTrue(10 <= asked <= 20, asked)

    def test_idle(self) -> None:
        """Without data nothing is said."""
        self.assertFalse(self.shapes.wanted(SECOND))
        self.write(LEAST_PACKETS)
        self.assertTrue(self.shapes.wanted(SECOND))

    def test_waits_for_peer(self) -> None:
        """Another shape is used when it is confirmed, not before."""
        self.assertTrue(self.reported(0))
        for _ in range(40):
            self.reported(0)
            if self.shapes.shape.generation:
                break
        self.assertEqual((self.encoder.data, self.encoder.parity), (2, 1))
        self.assertFalse(self.shapes.confirmed)
        wanted = self.shapes.shape
        other = Shape(wanted.generation, 1, 1, 2 * JUMP)
        self.assertFalse(self.shapes.receive(confirmation(other, 0, 0), self.now, 1))
        self.assertFalse(self.shapes.receive(b"\3", self.now, 1))
        self.assertTrue(self.shapes.receive(confirmation(wanted, 0, 0), self.now, 1))
        self.write(2)
        self.assertEqual((self.encoder.data, self.encoder.parity), (wanted.data, wanted.parity))
        self.assertEqual(self.shapes.changes, 1)
        self.assertNotEqual((wanted.data, wanted.parity), (2, 1))

    def test_oneAtATime(self) -> None:
        """
        While a confirmed shape waits for the end of a group no further one is announced, whose
        ids would begin among those of this one. The peer rebuilt wrong bytes from them.
        """

        shapes = self.shapes
        self.reported(0)
        waited = 0
        for number in range(40):
            self.now += REST
            self.write(LEAST_PACKETS + number % 3)
            shape = read_announcement(shapes.announce(self.now))
            assert shape is not None
            present = self.encoder.data, self.encoder.parity
            # What the peer misses changes so much that each time another shape is right.
            shapes.choice.loss = 0.5 if number % 2 else 0.0
            self.assertTrue(shapes.receive(confirmation(shape, 0, 0), self.now, SECOND // 5))
            if self.encoder.is_changing:
                self.assertNotEqual((shape.data, shape.parity), present)
                self.assertEqual(shapes.shape, shape)
                waited += 1
            self.write(100)
            self.assertFalse(self.encoder.is_changing)
        self.assertGreater(waited, 5)
        self.assertGreater(shapes.changes, waited)

    def test_near(self) -> None:
        """An announcement that was not confirmed until its ids come near is made anew."""
        for _ in range(40):
            if not self.shapes.shape.generation:
                self.reported(0)
        shape = self.shapes.shape
        self.encoder.next = shape.first - 9
        again = read_announcement(self.shapes.announce(self.now))
        assert again is not None
        self.assertEqual(again.generation, shape.generation + 1)
        self.assertGreater(again.first, shape.first + JUMP // 2)


class SessionTests(SynchronousTestCase):
    """Two sessions on a link that loses, doubles and reorders."""

    def pair(self, loss: float) -> Pair:
        auto = PROFILE_OPTIONS["interactive"]

        class Auto(Pair):
            def new_engine(self, side, *arguments, **named):  # type: ignore[no-untyped-def]
                return super().new_engine(side, *arguments, options=auto, **named)

        quick = replace(PROFILES["interactive"], stream=True)
        return Auto(
            chancy(loss, 1, 60), chancy(loss, 2, 60), settings=quick
        )

    def test_not_confirmed(self) -> None:
        """While no confirmation arrives, nothing is changed and all goes on."""
        pair = self.pair(0.02)
        back = pair.fates["server"]
        heard = []

        def mute(number: int, datagram: bytes) -> Sequence[float]:
            if is_change(datagram) and read_confirmation(datagram[HEADER_SIZE:]) is not None:
                heard.append(datagram)
                return ()
            return back(number, datagram)

        pair.fates["server"] = mute
        pair.connect()
        pair.run(500)
        for _ in range(300):
            pair.client.engine.write(0, bytes(500))
            pair.client.turn(pair.client.engine)
            pair.run(10)
        pair.run(3000)
        client = pair.client.engine
        self.assertEqual(len(pair.server.received), 300 * 500)
        self.assertGreater(len(heard), 0)
        self.assertEqual(client.counters()["fec_shapes_used"], 0)
        self.assertEqual((client.facts()["fec_out"], client.facts()["fec_loss"]), ("2+1", None))

    def test_unmarked(self) -> None:
        """A peer without the mark is told nothing of shapes, and is not listened to."""
        pair = self.pair(0)
        engine = pair.dial()
        pair.server.engines.clear()
        shape = Shape(1, 4, 2, 6 * JUMP)
        for number in range(100):
            answer = pack_header(CONV, ACK, 0, 128, 0, max(number - 1, 0), number, 0)
            forged = announcement(shape)
            answer += pack_header(CONV, WINS, MARK, 128, 0, 0, number, len(forged)) + forged
            pair.client.arrive(answer, SERVER)
            engine.write(0, bytes(100))
            pair.client.turn(engine)
            pair.now += 50 * MILLISECOND
        self.assertGreater(len(pair.client.sent), 140)
        for datagram in pair.client.sent:
            self.assertNotIn(announcement(Shape(0, 2, 1, 0)), datagram)
            self.assertFalse(is_change(datagram))
        self.assertEqual(engine.counters()["fec_shapes_heard"], 0)
        self.assertEqual((engine.facts()["peer"], engine.facts()["fec_out"]), ("UNMARKED", "2+1"))

    def test_changes(self) -> None:
        """Whatever is lost, all arrives, and both have changed over."""
        pair = self.pair(0.1)
        pair.connect()
        pair.run(500)
        sent = b""
        for step in range(500):
            data = bytes([step % 251]) * 500
            pair.client.engine.write(0, data)
            pair.client.turn(pair.client.engine)
            sent += data
            pair.run(10)
        pair.run(3000)
        self.assertEqual(bytes(pair.server.received), sent)
        client, server = pair.client.engine, pair.server.engine
        self.assertGreaterEqual(client.counters()["fec_shapes_used"], 1)
        self.assertNotEqual(client.facts()["fec_out"], "2+1")
        self.assertEqual(client.facts()["fec_out"], server.facts()["fec_in"])
        self.assertEqual(server.counters()["fec_misfits"], 0)
