"""
Tests for L{twisted_rudp.decoding}: real conversations of all wires, read as captures, and
anything else.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.decoding.talk import read, talk
from tests.qotp.pair import Pair
from twisted_rudp.decoding.qotp import QOTPReader
from twisted_rudp.decoding.wires import WIRES, Decoder, Described
from twisted_rudp.decoding.words import place, spans
from twisted_rudp.discovery import v1, v4
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.legacy import V3_QUERY
from twisted_rudp.discovery.xdr import opaque, u32
from twisted_rudp.kcp.crypto import from_password
from twisted_rudp.kcp.wire import pack_header
from twisted_rudp.qotp.extensions import (
    CHALLENGE,
    CONTROL,
    OFFER,
    OFFER_OFFSET,
    encode_abort,
    encode_datagram,
    encode_fill,
    encode_ranges,
    encode_reset,
)
from twisted_rudp.qotp.protection import lines_of
from twisted_rudp.qotp.wire import Ack, Segment
from twisted_rudp.raknet.offline import (
    OutOfBand,
    Ping,
    Pong,
    Refusal,
    Reply1,
    Request2,
    Reset,
    pack,
)
from twisted_rudp.raknet.wire import ConnectionRequest, MessageId, pack_connection_request
from twisted_rudp.raknet.wire import pack_frame_header as frame
from twisted_rudp.raknet.wire import pack_header as raknetHeader
from twisted_rudp.tracing.reading import Datagram

HERE, THERE = ("10.0.0.1", 5000), ("10.0.0.2", 4000)


def one(data: bytes, decoder: Decoder | None = None) -> Described:
    return (decoder or Decoder()).read(data, HERE, THERE)


def described(datagrams: list[Datagram], decoder: Decoder) -> list[Described]:
    return [decoder.read(each.data, each.source, each.destination) for each in datagrams]


class ConversationTests(SynchronousTestCase):
    """Captured connections, from the first word to the last."""

    def talked(self, wire: str, decoder: Decoder, **arguments: Any) -> str:
        """All lines of a conversation, of which every datagram must be of its wire."""
        path = self.mktemp()
        network = talk(path, wire, **arguments)
        datagrams = read(path)
        self.assertEqual([each.data for each in datagrams], [each.data for each in network.trace])
        found = described(datagrams, decoder)
        self.assertEqual({each.wire for each in found}, {wire})
        return "\n".join(line for each in found for line in each.lines)

    def test_kcp(self) -> None:
        """Bare KCP, with what our own kind adds."""
        text = self.talked("kcp", Decoder())
        for expected in ("WASK sn 0", "PUSH sn 14, 736 bytes", "ACK sn 1-10", "end of stream"):
            self.assertIn(expected, text)
        self.assertIn("marked", text)

    def test_kcpEncrypted(self) -> None:
        """Each kind of cipher, with FEC; without the key it is of no known wire."""
        for crypt in ("aes", "aes-128-gcm", "none", "salsa20"):
            key = from_password("secret")
            decoder = Decoder(crypt=crypt, key=key)
            arguments: dict[str, Any] = {"crypt": crypt, "dataShards": 3, "parityShards": 2}
            if crypt != "none":
                arguments["password"] = "secret"
            text = self.talked("kcp", decoder, **arguments)
            self.assertRegex(text, r"FEC data \d+: conv [0-9a-f]{8} PUSH sn 0, ")
            self.assertRegex(text, r"FEC parity \d+, \d+ bytes")
        path = self.mktemp()
        talk(path, "kcp", password="secret")
        self.assertEqual({each.wire for each in described(read(path), Decoder())}, {""})
        [line] = one(read(path)[0].data, Decoder("kcp", crypt="aes", key=bytes(32))).lines
        self.assertIn("another key", line)

    def test_rebuilt(self) -> None:
        """A packet that is not in the capture is shown when FEC can rebuild it."""
        path = self.mktemp()
        talk(path, "kcp", dataShards=3, parityShards=2)
        arrived = [each for each in read(path) if not each.comment]
        lost = [each for each in read(path) if each.comment]
        found = described(arrived, Decoder(shards=(3, 2)))
        text = "\n".join(line for each in found for line in each.lines)
        self.assertTrue(lost)
        self.assertRegex(text, "rebuilt by FEC: conv [0-9a-f]{8} (PUSH|ACK)")

    def test_raknet(self) -> None:
        """From the first open request to the end of the connection."""
        text = self.talked("raknet", Decoder())
        for expected in (
            "open connection request 1, protocol 11",
            "open connection reply 1, guid",
            "open connection request 2, server 10.0.0.2:4000",
            "open connection reply 2, client 10.0.0.1:",
            "connection request, guid",
            "request accepted, client 10.0.0.1:",
            "new incoming, time",
            "connected ping, time",
            "message 0xfe, 1432 bytes",
            "ACK of datagrams",
            "disconnection",
        ):
            self.assertIn(expected, text)

    def test_qotp(self) -> None:
        """With a key log everything is in clear, also under the new connection id."""
        path, log = self.mktemp(), self.mktemp()
        talk(path, "qotp", {"keyLogFile": log})
        with open(log) as file:
            found = described(read(path), Decoder(key_log=file))
        text = "\n".join(line for each in found for line in each.lines)
        self.assertEqual({each.wire for each in found}, {"qotp"})
        for expected in (
            "InitSnd id",
            "of the listener, packet 0: ACK",
            "stream 0 offset 0, 1345 bytes",
            "new connection id",
            "ACK packets",
            "end of stream",
        ):
            self.assertIn(expected, text)
        self.assertNotIn("encrypted", text)

    def test_qotpEncrypted(self) -> None:
        """Without a key log it is seen what a datagram is, and no more."""
        text = self.talked("qotp", Decoder("qotp"))
        self.assertIn("InitSnd id", text)
        self.assertIn("bytes encrypted, key not known", text)
        self.assertNotIn("stream 0", text)


class DiscoveryTests(SynchronousTestCase):
    """Local discovery, today's and old."""

    def test_v4(self) -> None:
        """An announcement with its addresses, and a goodbye."""
        key = NodeId.from_name(b"alice").key
        found = one(v4.encode(key, ["kcp://:4000", "qotp://0.0.0.0:1"], -5, b"alice"))
        self.assertEqual(found.wire, "discovery")
        self.assertIn("name alice, instance -5", found.lines[0])
        self.assertIn(str(NodeId(key)), found.lines[0])
        self.assertEqual(found.lines[1:], ["at kcp://:4000", "at qotp://0.0.0.0:1"])
        self.assertIn("has gone", one(v4.encode(key, [], 1)).lines[1])

    def test_old(self) -> None:
        """The first protocol, and those between."""
        packet = v1.Announcement(22000, b"node", b"\x0a\x00\x00\x01")
        [line] = one(v1.encode_announcement(packet)).lines
        self.assertTrue(line.endswith("at 10.0.0.1, port 22000"), line)
        self.assertIn("v1 query for", one(v1.encode_query(v1.Query(b"node"))).lines[0])
        self.assertIn("v3 query", one(u32(V3_QUERY) + opaque(bytes(range(32)))).lines[0])
        self.assertIn("cut short", one(u32(v4.MAGIC) + b"\x0a\xff").lines[0])


class GuessTests(SynchronousTestCase):
    """Finding the wire out."""

    def test_middle(self) -> None:
        """A capture that begins within a connection is read, where that is unmistakable."""
        for wire in ("kcp", "raknet"):
            path = self.mktemp()
            talk(path, wire)
            found = described(read(path)[12:], Decoder())
            self.assertEqual({each.wire for each in found}, {wire})

    def test_forced(self) -> None:
        """What is said about the wire counts, also against what is seen."""
        datagram = pack_header(1, 81, 0, 2, 3, 4, 5, 0)
        self.assertEqual(one(datagram).wire, "kcp")
        self.assertEqual(one(datagram, Decoder("raknet")).wire, "raknet")
        self.assertRaises(ValueError, Decoder, "tcp")

    def test_secrets(self) -> None:
        """A password of RakNet is not shown."""
        message = pack_connection_request(ConnectionRequest(1, 2, 0, b"hidden"))
        data = raknetHeader(0) + frame(2, len(message)) + message
        [line] = one(data).lines
        self.assertIn("with a password", line)
        self.assertNotIn("hidden", line)

    def test_refusals(self) -> None:
        """Offline answers that end an attempt."""
        self.assertEqual(one(pack(Refusal(MessageId.FULL, 7))).lines, ["refusal, id FULL, guid 7"])
        self.assertEqual(one(pack(Reset(5))).lines, ["no session here, asked by datagram 5"])

    def test_offline(self) -> None:
        """What RakNet says outside of sessions, with and without its optional parts."""
        for message, line in (
            (Ping(5, None, True), "unconnected ping of open servers, time 5"),
            (Pong(5, 255, b"\0\2hi"), "unconnected pong, time 5 guid 00000000000000ff: hi"),
            (Reply1(1, 0xAB, 1400), "reply 1, guid 0000000000000001 mtu 1400 cookie 000000ab"),
            (Request2(None, THERE, 1400, 1), "request 2, server 10.0.0.2:4000 mtu 1400 guid"),
            (OutOfBand(1, b"abc"), "out-of-band message, 3 bytes, guid 0000000000000001"),
        ):
            [found] = one(pack(message), Decoder("raknet")).lines
            self.assertIn(line, found)

    def test_frames(self) -> None:
        """What RakNet says in sessions, malformed datagrams included."""
        decoder = Decoder("raknet")
        for body, line in (
            (b"", "datagram 7: empty"),
            (frame(2, 1, reliable=1) + b"\x7f", "message 0x7f, 1 bytes, malformed or not known"),
            (frame(2, 2, reliable=1) + b"\x00x", "message 0x00, 2 bytes, malformed or not known"),
            (frame(2, 9, reliable=1) + b"x", "datagram 7: the rest is malformed"),
        ):
            self.assertIn(line, one(raknetHeader(7) + body, decoder).lines[-1])

    def test_fec(self) -> None:
        """Packets of KCP's FEC, those out of band and such that are cut short."""
        decoder = Decoder("kcp")
        for data, line in (
            (b"\1\0\0\0\xf3\0\2\0\7\0\0\0" + bytes(9), "conv 00000007 out-of-band message, "),
            (b"\1\0\0\0\xf3\0\7", "FEC: cut short"),
            (b"\1\0\0\0\xf1\0\7", "FEC: cut short"),
            (b"\3\0\0\0\xf2\0" + bytes(40), "FEC parity 3, 40 bytes"),
            (pack_header(1, 81, 0, 2, 3, 4, 5, 0) + b"rest", "4 bytes that are no segment"),
            (pack_header(1, 81, 0, 2, 3, 4, 5, 9), "no KCP segment: encrypted?"),
        ):
            self.assertIn(line, one(data, decoder).lines[-1])

    def test_payloads(self) -> None:
        """What a datagram of QOTP says, by a key log: each kind of acknowledgement and frame."""
        pair = Pair()
        pair.connect()
        log = [lines_of(*each) for each in pair.secrets.items()]
        reader = QOTPReader("".join(log).splitlines())
        far = CHALLENGE + 5
        for number, (ack, segment, line) in enumerate((
            (Ack(4, 100, 20, 50), None, "ACK stream 4 offset 100 length 20, window"),
            (Ack(CONTROL, 9, 3, 50), None, "ACK packets 7-9, window"),
            (Ack(CONTROL, OFFER_OFFSET, 0, 50), None, "offer of extensions, window"),
            (Ack(CONTROL, far, 0, 50), None, "answer to a challenge, window"),
            (Ack(CONTROL, 0, 0, 50), None, ": window"),
            (None, OFFER, "PING, offer of extensions"),
            (None, Segment(4, 8, b""), "PING stream 4 offset 8"),
            (None, Segment(4, 8, b"ab", True), "stream 4 offset 8, 2 bytes end of stream"),
            (None, Segment(CONTROL, far, b""), "challenge of the address"),
            (None, Segment(CONTROL, 0, b""), "PING"),
            (None, Segment(CONTROL, 0, encode_reset(4, 7)), "reset of stream 4, code 7"),
            (None, Segment(CONTROL, 0, encode_abort(7)), "abort, code 7"),
            (None, Segment(CONTROL, 0, encode_fill(60)), "fill of 60 bytes"),
            (None, Segment(CONTROL, 0, encode_ranges(9, [(3, 5)])), "more acknowledged ranges"),
            (None, Segment(CONTROL, 0, encode_datagram(b"abc")), "message of 3 bytes"),
            (None, Segment(CONTROL, 0, b"\xee12"), "control frame, 3 bytes"),
        )):  # fmt: skip
            datagram = pair.forge(pair.client, ack, segment, number)
            found = reader.read(datagram, HERE, THERE)
            assert found is not None
            self.assertIn(line, found[0])

    def test_words(self) -> None:
        """Addresses and ranges."""
        self.assertEqual(place(("::1", 4)), "[::1]:4")
        self.assertEqual(place(HERE), "10.0.0.1:5000")
        self.assertEqual(spans([(1, 1), (3, 5)]), "1, 3-5")

    @given(
        st.lists(st.binary(max_size=120), min_size=1, max_size=4),
        st.sampled_from([None, *WIRES]),
        st.sampled_from(["null", "aes", "aes-128-gcm", "xor"]),
        st.sampled_from([b"", b"\x84\0\0\0", b"\xc0", b"\x80", b"\0\0\0\0\xf1\0", b"\0\0\0\0\x51"]),
    )
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_anything(
        self, datagrams: list[bytes], wire: str | None, crypt: str, front: bytes
    ) -> None:
        """Any bytes are described, and nothing is raised."""
        decoder = Decoder(wire, crypt=crypt, key=bytes(32))
        for data in datagrams:
            self.assertTrue(all(one(front + data, decoder).lines))
