"""Tests for L{twisted_rudp.raknet.offline}."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import vectors
from twisted_rudp.raknet.offline import (
    REFUSALS,
    Incompatible,
    OfflineMessage,
    OutOfBand,
    Ping,
    Pong,
    Refusal,
    Reply1,
    Reply2,
    Request1,
    Request2,
    Reset,
    pack,
    pack_text,
    parse,
    unpack_text,
)

bounded = settings(max_examples=150, deadline=None, derandomize=True)
u64 = st.integers(0, 2**64 - 1)
u16 = st.integers(0, 65535)
addresses = st.one_of(
    st.tuples(st.ip_addresses(v=4).map(str), u16),
    st.tuples(
        st.ip_addresses(v=6).filter(lambda ip: ip.ipv4_mapped is None).map(str),
        u16,
        st.just(0),
        st.just(0),
    ),
)
cookies = st.none() | st.integers(0, 2**32 - 1)
messages = st.one_of(
    st.builds(Ping, u64, st.none() | u64, st.booleans()),
    st.builds(Pong, u64, u64, st.binary(max_size=50)),
    st.builds(Request1, st.integers(0, 255), st.integers(46, 1492)),
    st.builds(Reply1, u64, cookies, u16),
    st.builds(Request2, cookies, addresses, u16, u64),
    st.builds(Reply2, u64, addresses, u16),
    st.builds(Incompatible, st.integers(0, 255), u64),
    st.builds(Refusal, st.sampled_from(sorted(REFUSALS)), u64),
    st.builds(OutOfBand, u64, st.binary(max_size=50)),
    st.builds(Reset, st.integers(0, 0xFFFFFF)),
)


def address_of(text: str) -> tuple[Any, ...]:
    """An address as the vectors write it."""
    host, _, port = text.rpartition(":")
    if host.startswith("["):
        return host[1:-1], int(port), 0, 0
    return host, int(port)


def message_of(fields: dict[str, Any]) -> OfflineMessage | None:
    """A message as the vectors describe it; None for kinds not listed here."""
    name = fields["message"]
    guids = [fields[key] for key in ("server_guid", "client_guid", "guid") if key in fields]
    guid = int(guids[0], 16) if guids else 0
    cookie = int(fields["cookie"], 16) if "cookie" in fields else None
    if name.startswith("unconnected_ping"):
        only_open = name.endswith("open_connections")
        return Ping(fields["ping_time"], guid or None, only_open)
    if name == "unconnected_pong":
        return Pong(fields["ping_time"], guid, bytes.fromhex(fields["raw_data_hex"]))
    if name == "open_connection_request_1":
        return Request1(fields["protocol"], fields["mtu_ipv4"])
    if name == "open_connection_reply_1":
        return Reply1(guid, cookie, fields["mtu"])
    if name == "open_connection_request_2":
        server = address_of(fields["server_address"])
        return Request2(cookie, server, fields["mtu"], guid)
    if name == "open_connection_reply_2":
        return Reply2(guid, address_of(fields["client_address"]), fields["mtu"])
    if name == "incompatible_protocol_version":
        return Incompatible(fields["protocol"], guid)
    if name == "out_of_band":
        return OutOfBand(guid, bytes.fromhex(fields["data_hex"]))
    return Refusal(fields["id"], guid)


class OfflineTests(SynchronousTestCase):
    """Messages outside of sessions (raknet.md 2)."""

    @given(message=messages)
    @bounded
    def test_roundTrip(self, message: OfflineMessage) -> None:
        """What is packed is parsed again."""
        self.assertEqual(parse(pack(message)), message)

    @given(message=messages, cut=st.integers(1, 40), data=st.binary(max_size=80))
    @bounded
    def test_anything(self, message: OfflineMessage, cut: int, data: bytes) -> None:
        """What is cut short or made up is a message or None; there is no exception."""
        parse(pack(message)[:-cut])
        parse(data)
        parse(data[:1] + pack(message)[1:])

    @given(message=messages, magic=st.binary(min_size=16, max_size=16))
    @bounded
    def test_magic(self, message: OfflineMessage, magic: bytes) -> None:
        """Another magic is another network."""
        self.assertEqual(parse(pack(message, magic), magic), message)
        self.assertIsNone(parse(pack(message, magic)))

    def test_vectors(self) -> None:
        """
        Everything seen from other implementations is read, and written byte for
        byte but for the padding of reply 1 (raknet.md 2.3).
        """
        for vector in vectors.load("raknet", "offline")["vectors"]:
            data = bytes.fromhex(vector["hex"])
            whole = data + bytes(vector.get("trailing_zero_bytes") or 0)
            message = parse(whole)
            self.assertEqual(message, message_of(vector["fields"]), vector["hex"])
            assert message is not None
            packed = pack(message)
            self.assertEqual(packed, whole[: len(packed)])
            self.assertEqual(whole[len(packed) :].strip(b"\0"), b"")

    def test_sizes(self) -> None:
        """The sizes of raknet.md 2."""
        v4, v6 = ("192.0.2.1", 1), ("2001:db8::1", 1, 0, 0)
        for message, size in (
            (Ping(1, 2), 33),
            (Ping(1, None), 25),
            (Pong(1, 2, b""), 33),
            (Request1(11, 1492), 1464),
            (Reply1(1, None, 1492), 28),
            (Reply1(1, 5, 1492), 32),
            (Request2(None, v4, 1492, 1), 34),
            (Request2(7, v4, 1492, 1), 39),
            (Request2(None, v6, 1492, 1), 56),
            (Request2(7, v6, 1492, 1), 61),
            (Reply2(1, v4, 1492), 35),
            (Reply2(1, v6, 1492), 57),
            (Incompatible(11, 1), 26),
        ):
            self.assertEqual(len(pack(message)), size)


class TextTests(SynchronousTestCase):
    """What a pong says."""

    def test_natural(self) -> None:
        """A text and its bytes get their length in front; what has it keeps it."""
        for text in ("MCPE;x", b"MCPE;x", b"\0\6MCPE;x"):
            self.assertEqual(pack_text(text), b"\0\6MCPE;x")
            self.assertEqual(unpack_text(pack_text(text)), "MCPE;x")
        self.assertEqual((pack_text(""), pack_text(b"")), (b"\0\0", b"\0\0"))
