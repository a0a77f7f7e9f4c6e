"""
FEC: codec, encoder, decoder and tuner, against recordings of kcp-go and by
their properties (kcp.md 3).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests import vectors
from tests.kcp.segments import Wire
from tests.kcp.test_reed_solomon import PROPERTY
from twisted_rudp import kernels
from twisted_rudp.core.batch import RunWriter
from twisted_rudp.core.engine import MILLISECOND
from twisted_rudp.kcp.fec import (
    BULK,
    DATA,
    FAR_AHEAD,
    MOST_BYTES,
    PARITY,
    SKIP_AFTER,
    Decoder,
    Encoder,
    Tuner,
    data_packet,
    end_of_ids,
    protect_by_kernel,
    protect_by_steps,
)

PEER = ("192.0.2.1", 9)


def encode(
    encoder: Encoder,
    datagrams: Sequence[bytes],
    now: int = 0,
    gap: int = 0,
    protected: bool = True,
) -> list[bytes]:
    """All packets for datagrams that come one by one, C{gap} apart."""
    wire = Wire()
    writer = RunWriter(wire.emit, PEER)
    for datagram in datagrams:
        encoder.encode(datagram, len(datagram), now, writer, protected)
        now += gap
    writer.finish()
    return wire.datagrams()


def decode(decoder: Decoder, packets: Sequence[bytes]) -> list[tuple[bytes, bool]]:
    """The datagrams of packets that come one by one, and whether they came whole."""
    return [
        (bytes(data), regular)
        for packet in packets
        for data, _, regular in decoder.decode(packet, len(packet))
    ]


def number(packet: bytes) -> int:
    return int.from_bytes(packet[:4], "little")


class GroupTests(SynchronousTestCase):
    """L{twisted_rudp.kcp.fec}."""

    def setUp(self) -> None:
        if kernels.fec_frame is None:
            raise SkipTest("the extension is not in use")

    @PROPERTY
    @given(
        st.integers(1, 12), st.integers(1, 5), st.integers(1, 60), st.integers(0, 40), st.randoms()
    )
    def test_kernel(
        self, data: int, parity: int, size: int, count: int, chance: random.Random
    ) -> None:
        """
        The kernel makes the packets that the single steps make, whatever the group
        has already (kcp.md 3.2).
        """
        earlier = [
            data_packet(at, chance.randbytes(chance.randint(0, size)))
            for at in range(chance.randint(0, data - 1))
        ]
        run = chance.randbytes(count * size)
        args = (earlier, run, size, chance.randint(0, 1 << 31), data, parity)
        self.assertEqual(protect_by_kernel(*args), protect_by_steps(*args))

    def test_refused(self) -> None:
        """What does not fit is an error."""
        frame = kernels.fec_frame
        assert frame is not None
        for args in (
            ([], b"abc", 2, 0, 1, b"m"),
            ([], b"abc", 0, 0, 1, b"m"),
            ([], b"abc", 3, 0, 0, b"m"),
            ([], b"abc", 3, 0, 2, b"m"),
            ([b"packets"], b"abc", 3, 0, 1, b"m"),
            ([b"short"], b"abc", 3, 0, 2, b"mm"),
            ([bytes(12)], b"abc", 3, 0, 2, b"mm"),
        ):
            self.assertRaises(ValueError, frame, *args)
        self.assertRaises(TypeError, frame, [5], b"abc", 3, 0, 2, b"mm")
        self.assertRaises(TypeError, frame, [], b"abc", 3, 0, 2)


class EncoderTests(SynchronousTestCase):
    """L{Encoder}."""

    def test_recorded(self) -> None:
        """
        Data and parity packets are kcp-go's to the byte. Its recordings were
        made without pauses; the first group of one data packet has parity in
        those that sent something before.
        """
        for one in vectors.load("kcp", "fec")["encoders"]:
            data = one["data_shards"]
            always = "parity_packets" in one["packets"][data - 1]
            encoder = Encoder(data, one["parity_shards"], always)
            for packet in one["packets"]:
                sent = encode(encoder, [bytes.fromhex(packet["payload"])])
                expected = [packet["data_packet"], *packet.get("parity_packets", [])]
                self.assertEqual([each.hex() for each in sent], expected)

    def test_wrap(self) -> None:
        """Ids begin again at 0 at the last multiple of a group (kcp.md 3.2)."""
        for one in vectors.load("kcp", "fec")["wrap"]:
            data, parity = one["data_shards"], one["parity_shards"]
            self.assertEqual(end_of_ids(data + parity), one["paws"])
            always = one["start_next"] + data in one["seqids"]
            encoder = Encoder(data, parity, always, first=one["start_next"])
            sent: list[int] = []
            while len(sent) < len(one["seqids"]):
                sent += map(number, encode(encoder, [b"x" * 30]))
            self.assertEqual(sent, one["seqids"])

    def test_skip(self) -> None:
        """
        Half a second before the last data packet of a group: no parity, its ids
        passed over; a little less: parity; C{always}: parity in any case.
        """
        for gap, always, expected in (
            (SKIP_AFTER, False, [0, 1, 2, 5, 6, 7]),
            (SKIP_AFTER - 1, False, list(range(10))),
            (SKIP_AFTER, True, list(range(10))),
        ):
            encoder = Encoder(3, 2, always)
            sent = encode(encoder, [b"x" * 30] * 6, gap=gap)
            self.assertEqual([number(each) for each in sent], expected)

    def test_first_of_single(self) -> None:
        """With one data packet a group, the first group has no parity."""
        sent = encode(Encoder(1, 1), [b"x" * 30] * 2)
        self.assertEqual([number(each) for each in sent], [0, 2, 3])

    def test_rareSingles(self) -> None:
        """
        Groups of one data packet have parity whatever lies between them: it is for the packet
        that was sent just now, such as a query to a name server.
        """
        sent = encode(Encoder(1, 1), [b"x" * 30] * 3, gap=10 * SKIP_AFTER)
        self.assertEqual([number(each) for each in sent], [0, 2, 3, 4, 5])

    def test_unprotected(self) -> None:
        """Parity that may not be sent is passed over."""
        sent = encode(Encoder(2, 2), [b"x" * 30] * 4, protected=False)
        self.assertEqual([number(each) for each in sent], [0, 1, 4, 5])

    def test_carried(self) -> None:
        """
        Groups of bulk get as much parity as they are to have, alike in one run and one by one,
        and pass over the ids of the rest; what it repairs any decoder rebuilds.
        """
        datagrams = [bytes([at]) * 30 for at in range(9)]
        encoder = Encoder(4, 3)
        encoder.carried = 1
        wire = Wire()
        writer = RunWriter(wire.emit, PEER)
        encoder.encode(b"".join(datagrams), 30, 0, writer, True)
        writer.finish()
        packets = wire.datagrams()
        self.assertEqual(list(map(number, packets)), [*range(5), *range(7, 12), 14])
        one_by_one = Encoder(4, 3)
        one_by_one.carried = 1
        self.assertEqual(encode(one_by_one, datagrams), packets)
        for lost in range(4):
            decoder = Decoder(4, 3)
            found = decode(decoder, packets[:lost] + packets[lost + 1 :])
            self.assertEqual(sorted(data for data, _ in found), datagrams)
            self.assertEqual((decoder.recovered, decoder.tunings), (1, 0))

    def test_carriedSlowly(self) -> None:
        """A group that fills slowly has all of its parity: perhaps nothing follows it."""
        for gap, expected in ((BULK // 3 - 1, [0, 1, 2, 3, 4]), (BULK // 3 + 1, [*range(7)])):
            encoder = Encoder(4, 3)
            encoder.carried = 1
            sent = encode(encoder, [b"x" * 30] * 4, gap=gap)
            self.assertEqual(list(map(number, sent)), expected)

    def test_copies(self) -> None:
        """Copies follow their packet and take no id (kcp.md 2.1)."""
        wire = Wire()
        writer = RunWriter(wire.emit, PEER)
        Encoder(2, 1).encode(b"ab" * 15 + b"cd" * 15, 30, 0, writer, True, copies=3)
        writer.finish()
        self.assertEqual([number(each) for each in wire.datagrams()], [0, 0, 0, 1, 1, 1, 2])

    def test_runs(self) -> None:
        """
        A run of datagrams leaves as a run with its parity in between, which
        holds no more than one call of the system takes.
        """
        wire = Wire()
        writer = RunWriter(wire.emit, PEER, 20)
        Encoder(10, 3).encode(b"x" * 1360 * 46, 1360, 0, writer, True)
        writer.finish()
        self.assertEqual([size for _, size in wire.runs], [1368, 1368])
        self.assertTrue(all(len(run) + 20 * 64 < 65507 for run, _ in wire.runs))
        self.assertEqual([number(each) for each in wire.datagrams()], list(range(58)))

    def test_refused(self) -> None:
        """At least one of each kind and at most 256 together (kcp.md 3.2)."""
        for data, parity in ((0, 1), (1, 0), (200, 57), (-1, 5)):
            self.assertRaises(ValueError, Encoder, data, parity)
        Encoder(200, 56)


class DecoderTests(SynchronousTestCase):
    """L{Decoder}."""

    def test_recorded(self) -> None:
        """
        Each step rebuilds what kcp-go 5.6.72 rebuilds, but nothing twice and
        nothing that has come.
        """
        steps = 0
        for one in vectors.load("kcp", "fec")["encoders"]:
            packets: list[bytes] = []
            for packet in one["packets"]:
                packets.append(bytes.fromhex(packet["data_packet"]))
                packets += map(bytes.fromhex, packet.get("parity_packets", []))
            for run in one.get("decoder_runs", []):
                steps += self._replay(one, packets, run["steps"])
        self.assertGreater(steps, 0)

    def _replay(
        self, one: dict[str, Any], packets: list[bytes], steps: list[dict[str, Any]]
    ) -> int:
        decoder = Decoder(one["data_shards"], one["parity_shards"])
        known: set[bytes] = set()
        for step in steps:
            packet = packets[step["packet_index"]]
            came = decode(decoder, [packet])
            known.update(data for data, regular in came if regular)
            rebuilt = [data for data, regular in came if not regular]
            expected = [bytes.fromhex(each) for each in step["recovered_5_6_72"]]
            self.assertEqual(rebuilt, [each for each in expected if each not in known])
            known.update(rebuilt)
        self.assertEqual(decoder.errors, 0)
        return len(steps)

    def test_tuning(self) -> None:
        """
        Other numbers than ours are adopted at the packet at which kcp-go 5.6.72
        adopts them (kcp.md 3.5).
        """
        for one in vectors.load("kcp", "fec")["autotune"]:
            decoder = Decoder(*one["decoder_start"])
            for step in one["steps"]:
                header = step["seqid"].to_bytes(4, "little") + bytes([step["type"], 0])
                decode(decoder, [header + b"\x1a\0" + bytes(24)])
                self.assertEqual([decoder.data, decoder.parity], step["params_5_6_72"])

    def test_tunes_in_runs(self) -> None:
        """What came in order before the mismatch counts for the adoption."""
        packets = encode(Encoder(10, 3), [b"x" * 30] * 40)
        decoder = Decoder(10, 2)
        decoder.decode(b"".join(packets[:12]), 38)
        decoder.decode(b"".join(packets[12:24]), 38)
        self.assertEqual((decoder.data, decoder.parity, decoder.tunings), (10, 3, 1))

    def test_gap_prevents_tuning(self) -> None:
        """A gap before the end of the row makes the attempt fail."""
        tuner = Tuner()
        for sequence, kind in ((0, DATA), (1, PARITY), (3, DATA), (4, PARITY)):
            tuner.add(sequence, bytes([kind]))
        self.assertIsNone(tuner.find())

    def test_padding(self) -> None:
        """
        A rebuilt datagram has the length it had, also when others of its group
        were longer or shorter.
        """
        datagrams = [bytes([at]) * (20 + 7 * at) for at in range(5)]
        packets = encode(Encoder(5, 2), datagrams)
        for lost in range(5):
            kept = [packet for at, packet in enumerate(packets) if at != lost]
            self.assertIn((datagrams[lost], False), decode(Decoder(5, 2), kept))

    @PROPERTY
    @given(
        st.integers(1, 12),
        st.integers(1, 6),
        st.integers(1, 60),
        st.randoms(),
    )
    def test_property(self, data: int, parity: int, count: int, chance: random.Random) -> None:
        """
        However packets are lost, repeated, swapped with neighbours and joined
        to runs: what comes was sent, each datagram of a group is there as soon
        as so many packets of the group as it has data packets are, and nothing
        is rebuilt twice.
        """
        encoder = Encoder(data, parity, always=True)
        datagrams = [at.to_bytes(4, "big") * 8 for at in range(count)]
        packets = encode(encoder, datagrams)
        kept = [packet for packet in packets if chance.random() > 0.2]
        if chance.random() < 0.5:
            for at in range(0, len(kept) - 1, 3):
                kept[at], kept[at + 1] = kept[at + 1], kept[at]
            kept += chance.sample(kept, len(kept) // 10)
        decoder = Decoder(data, parity)
        came: list[bytes] = []
        rebuilt: list[bytes] = []
        position = 0
        while position < len(kept):
            run = kept[position : position + chance.choice([1, 2, 5, 50])]
            position += len(run)
            for piece, size, regular in decoder.decode(b"".join(run), 40):
                whole = bytes(piece)
                pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
                (came if regular else rebuilt).extend(pieces)
        self.assertLessEqual(set(came + rebuilt), set(datagrams))
        self.assertEqual(len(rebuilt), len(set(rebuilt)))
        held = {number(packet) for packet in kept}
        for group in range(count // data):
            positions = range(group * (data + parity), (group + 1) * (data + parity))
            if sum(at in held for at in positions) >= data:
                expected = set(datagrams[group * data : (group + 1) * data])
                self.assertLessEqual(expected, set(came + rebuilt))

    def test_missed_runs(self) -> None:
        """
        What is missed counts in packets and in runs, and a run may go on in the next group, of
        whichever group that is noticed first.
        """
        packets = encode(Encoder(3, 1), [bytes([at]) * 30 for at in range(30)])
        for lost, missed, runs in (
            ((1,), 1, 1),
            ((0, 2), 2, 2),
            ((2, 4), 2, 1),
            ((1, 2, 4), 3, 1),
            ((2, 4, 5), 3, 1),
            ((2, 4, 6), 3, 2),
            ((1, 2, 4, 5, 6, 8, 9), 7, 1),
        ):
            decoder = Decoder(3, 1)
            decode(decoder, [each for at, each in enumerate(packets) if at not in lost])
            self.assertEqual((decoder.missed, decoder.runs), (missed, runs), lost)

    def test_old_groups(self) -> None:
        """A group is given up when one more than three ahead begins."""
        for groups, found in ((3, True), (4, False)):
            packets = encode(Encoder(2, 1), [bytes([at]) * 30 for at in range(10)])
            later = packets[3 : 3 * groups + 1]
            came = decode(Decoder(2, 1), [packets[0], *later, packets[2]])
            self.assertEqual((b"\x01" * 30, False) in came, found)

    def test_wrap(self) -> None:
        """The group after the last id is the one after the last group."""
        end = end_of_ids(3)
        encoder = Encoder(2, 1, first=end - 3)
        packets = encode(encoder, [bytes([at]) * 30 for at in range(4)])
        self.assertEqual([number(each) for each in packets], [end - 3, end - 2, end - 1, 0, 1, 2])
        decoder = Decoder(2, 1)
        came = decode(decoder, [packets[0], packets[3], packets[5], packets[2]])
        self.assertEqual([data[0] for data, regular in came if not regular], [3, 1])
        self.assertEqual(decoder.recovered, 2)

    def test_forged_jump(self) -> None:
        """One packet far ahead changes nothing; two do."""
        packets = encode(Encoder(2, 1), [b"x" * 30] * 4)
        far = encode(Encoder(2, 1, first=3 * (FAR_AHEAD + 9)), [b"y" * 30] * 2)
        decoder = Decoder(2, 1)
        came = decode(decoder, [packets[0], far[0], packets[2]])
        self.assertIn((b"x" * 30, False), came)
        decode(decoder, [far[0], far[1]])
        self.assertEqual(decoder.newest_group, FAR_AHEAD + 9)

    def test_beyond_the_ids(self) -> None:
        """An id that cannot be is delivered and not collected."""
        decoder = Decoder(10, 3)
        packet = b"\xff\xff\xff\xff\xf1\x00\x20\x00" + bytes(30)
        self.assertEqual(decode(decoder, [packet]), [(bytes(30), True)])
        self.assertEqual(decoder.groups_held, 0)

    def test_impossible_size(self) -> None:
        """A rebuilt block whose size field does not fit is counted and dropped."""
        packets = encode(Encoder(2, 1), [b"x" * 30] * 2)
        spoilt = packets[2][:6] + b"\xff\xff" + packets[2][8:]
        decoder = Decoder(2, 1)
        decode(decoder, [packets[0], spoilt])
        self.assertEqual((decoder.errors, decoder.recovered), (1, 0))

    @PROPERTY
    @given(st.lists(st.tuples(st.integers(0, 0xFFFFFFFF), st.booleans(), st.binary(max_size=9))))
    def test_anything(self, packets: list[tuple[int, bool, bytes]]) -> None:
        """
        Whatever packets come, in any order and length, nothing is raised and
        no more than a window of groups is held.
        """
        decoder = Decoder(3, 2)
        for sequence, is_data, rest in packets:
            kind = DATA if is_data else PARITY
            packet = sequence.to_bytes(4, "little") + bytes([kind, 0]) + rest
            decoder.decode(packet, len(packet))
            self.assertLessEqual(decoder.groups_held, 4)

    def test_bytesBounded(self) -> None:
        """
        What waits for the rest of its group is bounded in bytes: beyond that the oldest group is
        given up. What came itself is passed on all the same.
        """
        decoder = Decoder(200, 50)
        passed = 0
        for number in range(6):
            for position in range(150):
                packet = data_packet(number * 250 + position, bytes(60_000))
                passed += sum(len(run) for run, _, _ in decoder.decode(packet, len(packet)))
                self.assertLessEqual(decoder.bytes_held, MOST_BYTES + len(packet))
        self.assertEqual(passed, 6 * 150 * 60_000)
        self.assertGreater(decoder.given_up, 4)

    def test_counters(self) -> None:
        """Full groups and parity packets are counted."""
        packets = encode(Encoder(2, 1), [b"x" * 30] * 8, gap=MILLISECOND)
        decoder = Decoder(2, 1)
        decoder.decode(b"".join(packets), 38)
        self.assertEqual((decoder.full_sets, decoder.parity_shards), (4, 4))
        self.assertEqual((decoder.groups_held, decoder.newest_group), (0, 3))
