"""Tests for L{twisted_rudp.raknet.wire}: the codecs inside of sessions, what may be sent."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import vectors
from tests.raknet.frames import pack_frame
from twisted_rudp.core.serial import MASK24
from twisted_rudp.messages import Delivery
from twisted_rudp.raknet import wire
from twisted_rudp.raknet.wire import (
    ACK,
    HAS_ORDER,
    IS_RELIABLE,
    IS_SEQUENCED,
    NACK,
    Frame,
    Malformed,
    Split,
    check_message,
    is_users,
    pack_address,
    pack_records,
    parse_address,
    parse_frames,
    parse_records,
)

ORDERED = Delivery.RELIABLE_ORDERED

bounded = settings(max_examples=100, deadline=None, derandomize=True)
numbers = st.integers(0, MASK24)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Any frame that can be written."""
    reliability = draw(st.integers(0, 7))
    split = st.builds(
        Split, st.integers(0, 2**32 - 1), st.integers(0, 65535), st.integers(0, 2**32 - 1)
    )
    return Frame(
        reliability,
        draw(st.binary(min_size=1, max_size=40)),
        draw(numbers) if IS_RELIABLE[reliability] else None,
        draw(numbers) if IS_SEQUENCED[reliability] else None,
        draw(numbers) if HAS_ORDER[reliability] else None,
        draw(st.integers(0, 255)) if HAS_ORDER[reliability] else 0,
        draw(st.none() | split),
    )


def frame_of(fields: dict[str, Any]) -> Frame:
    """A frame as the vectors describe it."""
    split = None
    if fields["split"]:
        split = Split(fields["split_count"], fields["split_id"], fields["split_index"])
    return Frame(
        fields["reliability"],
        bytes.fromhex(fields["payload_hex"]),
        fields.get("reliable_index"),
        fields.get("sequence_index"),
        fields.get("order_index"),
        fields.get("order_channel", 0),
        split,
    )


def split_ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Numbers as merged half-open intervals, sorted by plain value as go-raknet does."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number:
            ranges[-1] = (ranges[-1][0], number + 1)
        else:
            ranges.append((number, number + 1))
    return ranges


class FrameTests(SynchronousTestCase):
    """Frames (raknet.md 6)."""

    @given(sent=st.lists(frames(), max_size=6))
    @bounded
    def test_roundTrip(self, sent: list[Frame]) -> None:
        """What is packed is parsed again, of every reliability."""
        datagram = b"\x84\x00\x00\x00" + b"".join(pack_frame(frame) for frame in sent)
        self.assertEqual(parse_frames(datagram), (sent, False))

    @given(data=st.binary(max_size=80))
    @bounded
    def test_anything(self, data: bytes) -> None:
        """Anything is parsed into frames within it, without an exception."""
        found, _ = parse_frames(data)
        self.assertLessEqual(sum(len(frame.payload) for frame in found), len(data))

    @given(frame=frames(), cut=st.integers(1, 60))
    @bounded
    def test_cutShort(self, frame: Frame, cut: int) -> None:
        """A frame that does not fit its datagram is not given, and that is told."""
        whole = b"\x84\x00\x00\x00" + pack_frame(frame)
        cut = min(cut, len(whole) - 5)
        self.assertEqual(parse_frames(whole[:-cut]), ([], True))

    def test_padding(self) -> None:
        """A frame of length 0 ends the datagram and is no offence (raknet.md 5)."""
        frame = Frame(0, b"abc")
        found = parse_frames(b"\x94\x00\x00\x00" + pack_frame(frame) + bytes(9))
        self.assertEqual(found, ([frame], False))

    def test_vectors(self) -> None:
        """
        Frames of all recorded user messages and of go-raknet's codec are read and
        written byte for byte (raknet.md 6).
        """
        recorded = {"codec": 0, "reliabilities": 0, "handshake": 0}
        for vector in vectors.load("raknet", "codec")["vectors"]:
            if vector["name"] == "frame":
                frame = frame_of(vector["fields"])
                self.assertEqual(parse_frames(bytes.fromhex(vector["hex"]), 0), ([frame], False))
                self.assertEqual(pack_frame(frame).hex(), vector["hex"])
                recorded["codec"] += 1
        for name in ("reliabilities", "handshake"):
            for vector in vectors.load("raknet", name)["vectors"]:
                listed = [each for each in vector["fields"]["frames"] if "payload_hex" in each]
                if len(listed) == len(vector["fields"]["frames"]):
                    datagram = bytes.fromhex(vector["hex"])
                    found, broken = parse_frames(datagram)
                    self.assertEqual(found, [frame_of(each) for each in listed])
                    self.assertFalse(broken)
                    recorded[name] += 1
        self.assertTrue(all(recorded.values()), recorded)


class AddressTests(SynchronousTestCase):
    """Addresses (raknet.md 1.1)."""

    @given(host=st.ip_addresses(v=4).map(str), port=st.integers(0, 65535))
    @bounded
    def test_v4(self, host: str, port: int) -> None:
        """Seven bytes, inverted."""
        packed = pack_address((host, port))
        self.assertEqual(len(packed), 7)
        self.assertEqual(parse_address(packed, 0), ((host, port), 7))
        self.assertEqual(parse_address(pack_address((f"::ffff:{host}", port, 0, 0)), 0)[1], 7)

    @given(host=st.ip_addresses(v=6), port=st.integers(0, 65535))
    @bounded
    def test_v6(self, host: Any, port: int) -> None:
        """Twenty-nine bytes, whatever family number stands in them."""
        if host.ipv4_mapped is None:
            packed = pack_address((f"{host}%eth0", port, 0, 3))
            self.assertEqual(parse_address(packed, 0), ((str(host), port, 0, 0), 29))
            linux = b"\x06\x0a\x00" + packed[3:]
            self.assertEqual(parse_address(linux, 0), ((str(host), port, 0, 0), 29))

    def test_example(self) -> None:
        """The example of raknet.md 1.1."""
        packed = pack_address(("127.0.0.1", 19132))
        self.assertEqual(packed, bytes.fromhex("0480fffffe4abc"))

    @given(data=st.binary(max_size=40), at=st.integers(0, 45))
    @bounded
    def test_anything(self, data: bytes, at: int) -> None:
        """Anything is an address or L{Malformed}."""
        try:
            _, end = parse_address(data, at)
        except Malformed:
            return
        self.assertLessEqual(end, len(data))


class RecordTests(SynchronousTestCase):
    """ACK and NACK (raknet.md 8)."""

    def test_written(self) -> None:
        """go-raknet's encodings for the same numbers, also where its limit divides them."""
        for vector in vectors.load("raknet", "codec")["vectors"]:
            fields = vector["fields"]
            if "input_sequences" in fields:
                kind = ACK if vector["name"] == "ack" else NACK
                packed = pack_records(kind, split_ranges(fields["input_sequences"]), 1464)
                self.assertEqual([each.hex() for each in packed], [vector["hex"]])

    def test_read(self) -> None:
        """Every recorded ACK and NACK, in wire order."""
        for vector in vectors.load("raknet", "acks")["vectors"]:
            expected = [tuple(record) for record in vector["fields"]["records"]]
            self.assertEqual(parse_records(bytes.fromhex(vector["hex"])), expected)

    @given(
        spans=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 400)), max_size=60),
        start=st.integers(MASK24 - 9000, MASK24 + 10),
        limit=st.integers(16, 600),
    )
    @bounded
    def test_roundTrip(self, spans: list[tuple[int, int]], start: int, limit: int) -> None:
        """
        Every number comes back, also across 2^24, in datagrams within the limit and
        without a record that crosses it.
        """
        ranges = []
        for gap, length in spans:
            start += gap
            ranges.append((start, start + length))
            start += length
        datagrams = pack_records(ACK, ranges, limit)
        self.assertTrue(all(len(datagram) <= limit for datagram in datagrams))
        found = [record for datagram in datagrams for record in parse_records(datagram)]
        self.assertEqual(
            [n for first, last in found for n in range(first, last + 1)],
            [n & MASK24 for first, end in ranges for n in range(first, end)],
        )

    @given(data=st.binary(max_size=60))
    @bounded
    def test_anything(self, data: bytes) -> None:
        """Anything gives records that run forward."""
        for kind in (b"\xc0", b"\xa0", b"\xe0"):
            self.assertTrue(all(first <= last for first, last in parse_records(kind + data)))


class SystemTests(SynchronousTestCase):
    """Messages of the protocol itself (raknet.md 4)."""

    def test_written(self) -> None:
        """go-raknet's encodings of all of them."""
        compared = set()
        for vector in vectors.load("raknet", "codec")["vectors"]:
            name, fields = vector["name"], vector["fields"]
            if "system_address_0" in fields or "[" in fields.get("address", ""):
                continue
            if (packed := self.packed(name, fields)) is not None:
                self.assertEqual(packed.hex(), vector["hex"], name)
                compared.add(name)
        self.assertEqual(len(compared), 5 if vectors.COMPLETE else len(compared))
        self.assertTrue(compared)

    def packed(self, name: str, fields: dict[str, Any]) -> bytes | None:
        """Our encoding of what a vector describes, None of another kind of message."""
        host, _, port = fields.get("address", "").rpartition(":")
        then = fields.get("request_time", fields.get("ping_time"))
        match name:
            case "connection_request":
                return wire.pack_connection_request(
                    wire.ConnectionRequest(fields["guid_i64"], then)
                )
            case "connection_request_accepted":
                accepted = wire.RequestAccepted((host, int(port)), then, fields["accepted_time"])
                return wire.pack_request_accepted(accepted, fields["system_address_count"])
            case "new_incoming_connection":
                return wire.pack_new_incoming(
                    (host, int(port)),
                    wire.NewIncoming(then, fields["pong_time"]),
                    fields["system_address_count"],
                )
            case "connected_ping":
                return wire.pack_ping(then)
            case "connected_pong":
                return wire.pack_pong(then, fields["pong_time"])
        return None

    def test_read(self) -> None:
        """The recorded ones of all implementations, with 10 and with 20 addresses."""
        lengths = set()
        for vector in vectors.load("raknet", "handshake")["vectors"]:
            for frame in vector["fields"]["frames"]:
                data = bytes.fromhex(frame.get("payload_hex", ""))
                content = frame["content"]
                if content["message"] == "connection_request":
                    self.assertEqual(
                        wire.parse_connection_request(data).guid, int(content["client_guid"], 16)
                    )
                elif content["message"] == "connection_request_accepted":
                    lengths.add(len(data))
                    accepted = wire.parse_request_accepted(data)
                    self.assertEqual(accepted.request_time, content["request_time"])
                    self.assertIsNotNone(accepted.client)
        self.assertTrue(lengths)
        if vectors.COMPLETE:
            self.assertTrue({96, 166} <= lengths)

    @given(data=st.binary(max_size=60))
    @bounded
    def test_anything(self, data: bytes) -> None:
        """Anything is a message or L{Malformed}."""
        for parse in (
            wire.parse_connection_request,
            wire.parse_request_accepted,
            wire.parse_new_incoming,
            wire.parse_ping,
            wire.parse_pong,
        ):
            with contextlib.suppress(Malformed):
                parse(data)  # type: ignore[operator]


class OwnershipTests(SynchronousTestCase):
    """Whose a message is, by its first byte."""

    def test_users(self) -> None:
        """The application's ids are 0x80 and above, and 0x1b (raknet.md 4 and 15)."""
        found = {first for first in range(256) if is_users(first)}
        self.assertEqual(found, {0x1B, *range(0x80, 0x100)})


class CheckTests(SynchronousTestCase):
    """What no session carries."""

    def refused(self, named: str, data: bytes, *rest: object) -> None:
        """Assert that this is refused in words that begin with the argument's name."""
        problem = self.assertRaises(ValueError, check_message, data, *rest)
        self.assertTrue(str(problem).startswith(named), str(problem))

    def test_taken(self) -> None:
        """Every delivery but OUT_OF_BAND, channels 0 to 31 and priorities 0 to 3 are carried."""
        for delivery in set(Delivery) - {Delivery.OUT_OF_BAND}:
            for channel, priority in ((0, 0), (31, 3)):
                self.assertIsNone(check_message(b"\x80", delivery, channel, priority))

    def test_refused(self) -> None:
        """What is beyond them is refused, each by its name."""
        self.refused("delivery", b"\x80", Delivery.OUT_OF_BAND, 0, 0)
        self.refused("data", b"", ORDERED, 0, 0)
        self.refused("data", b"\x7f", ORDERED, 0, 0)
        for channel in (-1, 32):
            self.refused("channel", b"\x80", ORDERED, channel, 0)
        for priority in (-1, 4):
            self.refused("priority", b"\x80", ORDERED, 0, priority)
