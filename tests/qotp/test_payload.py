"""Payload headers and the window code (qotp.md section 4)."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.vectors import load
from twisted_rudp.qotp.wire import (
    NARROW,
    WINDOWS,
    Ack,
    Kind,
    Payload,
    Segment,
    cut,
    decode,
    encode,
    encode_window,
    max_data,
)

bounded = settings(max_examples=200, deadline=None, derandomize=True)
KINDS = {
    "InitRcv": Kind.INIT_RCV,
    "InitCryptoSnd": Kind.INIT_CRYPTO_SND,
    "InitCryptoRcv": Kind.INIT_CRYPTO_RCV,
    "Data": Kind.DATA,
}


def shown(payload: Payload | None) -> dict[str, Any] | None:
    """As the vectors write it."""
    if payload is None:
        return None
    ack, segment = payload.ack, payload.segment
    return {
        "ack": None
        if ack is None
        else {
            "stream_id": ack.stream,
            "offset": ack.offset,
            "length": ack.length,
            "rcv_wnd": ack.window,
        },
        "is_close": segment is not None and segment.close,
        "stream": None
        if segment is None
        else {
            "stream_id": segment.stream,
            "offset": segment.offset,
            "data": bytes(segment.data).hex(),
        },
    }


def recorded(decoded: dict[str, Any] | None) -> dict[str, Any] | None:
    """
    A vector without what is shown elsewhere. The close without a segment, which no
    encoder makes, is dropped (4.3).
    """
    if decoded is None or (decoded["is_close"] and decoded["stream"] is None):
        return None
    ack = decoded["ack"]
    if ack is not None:
        ack = {key: value for key, value in ack.items() if key != "rcv_wnd_code"}
    return {"ack": ack, "is_close": decoded["is_close"], "stream": decoded["stream"]}


class VectorTests(SynchronousTestCase):
    """Against the release."""

    def test_encode(self) -> None:
        """4.1, 4.2: the bytes of all forms, narrow and wide, and what they decode to."""
        for case in load("qotp", "payload_headers")["encode_cases"]:
            given = case["encode"]
            ack = given["ack"] and Ack(
                given["ack"]["stream_id"],
                given["ack"]["offset"],
                given["ack"]["length"],
                given["ack"]["rcv_wnd"],
            )
            data = given["data"]
            segment = None
            if data is not None or not ack or given["is_close"]:
                segment = Segment(
                    given["stream_id"],
                    given["offset"],
                    bytes.fromhex(data or ""),
                    given["is_close"],
                )
            payload = bytes.fromhex(case["payload"])
            self.assertEqual(shown(decode(payload)), recorded(case["decode"]))
            if segment is not None or given["offset"] < 1 << 24:
                # Else the release chose the wide form by a field it does not send.
                self.assertEqual(encode(ack, segment), payload, given)

    def test_decode(self) -> None:
        """4.3: every length of every form, and version bits."""
        for case in load("qotp", "payload_headers")["decode_cases"]:
            found = decode(bytes.fromhex(case["payload"]))
            self.assertEqual(shown(found), recorded(case["decode"]), case["why"])

    def test_windows(self) -> None:
        """4.5: all 256 codes, and the edges of the encoder."""
        vectors = load("qotp", "rcv_window")
        self.assertEqual(list(WINDOWS), vectors["decode"])
        for case in vectors["encode"]:
            self.assertEqual(encode_window(int(case["bytes"])), case["code"], case)

    def test_maxData(self) -> None:
        """5.1: how much fits, by message, MTU and widths."""
        for case in load("qotp", "max_data")["cases"]:
            found = max_data(
                KINDS[case["message"]],
                case["mtu"],
                case["stream_offset"],
                case.get("ack_offset", 0) if case["has_ack"] else None,
            )
            self.assertEqual(found, case["max_data"], case)


class PayloadTests(SynchronousTestCase):
    """Whatever comes, and whatever goes."""

    @bounded
    @given(payload=st.binary(max_size=40))
    def test_junk(self, payload: bytes) -> None:
        """Decoding never raises, and what it gives encodes to the same meaning."""
        found = decode(payload)
        if found is not None:
            self.assertEqual(decode(encode(found.ack, found.segment)), found)

    @bounded
    @given(
        stream=st.integers(0, 2**32 - 1),
        offset=st.integers(0, 2**48 - 1),
        length=st.integers(0, 65535),
        window=st.integers(0, 2**40),
        data=st.binary(max_size=20),
        close=st.booleans(),
        acknowledged=st.booleans(),
    )
    def test_roundTrip(
        self,
        stream: int,
        offset: int,
        length: int,
        window: int,
        data: bytes,
        close: bool,
        acknowledged: bool,
    ) -> None:
        """What is encoded is decoded, the window rounded by its code."""
        rounded = WINDOWS[encode_window(window)]
        ack = Ack(stream ^ 5, offset ^ 0xFF, length, rounded) if acknowledged else None
        segment = Segment(stream, offset, data, close)
        self.assertEqual(decode(encode(ack, segment)), Payload(ack, segment))

    def test_nothing(self) -> None:
        """A payload without content is refused."""
        with self.assertRaises(ValueError):
            encode(None, None)


class CutTests(SynchronousTestCase):
    """L{cut}."""

    def test_offsets(self) -> None:
        """Each payload is its segment, with narrow offsets, wide ones, and both in one run."""
        data = bytes(range(50))
        for offset in (0, NARROW - 45, NARROW - 49, NARROW - 20, NARROW, NARROW + 1, 1 << 47):
            for close in (False, True):
                payloads = cut(3, offset, data, 15, close)
                segments = [
                    Segment(3, offset + at, data[at : at + 15], close and at == 45)
                    for at in range(0, 50, 15)
                ]
                self.assertEqual(payloads, [encode(None, segment) for segment in segments])
