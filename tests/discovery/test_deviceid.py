"""Tests for L{twisted_rudp.discovery.deviceid}, against Syncthing's own verdicts."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.vectors import load
from twisted_rudp.discovery import deviceid

VECTORS = load("discovery", "device_id")


class VectorTests(SynchronousTestCase):
    """The recordings."""

    def test_texts(self) -> None:
        """
        Every text is read or refused as by Syncthing, and printed as by it
        (discovery.md 3.5).
        """
        for case in VECTORS["cases"]:
            if not case["ok"]:
                self.assertRaises(ValueError, deviceid.from_text, case["text"])
                continue
            raw = deviceid.from_text(case["text"])
            self.assertEqual(deviceid.to_text(raw), case["canonical"], case["name"])
            self.assertEqual(raw.hex(), case.get("raw_hex", raw.hex()), case["name"])

    def test_certificates(self) -> None:
        """The id of a certificate is the hash of its DER form (3.5)."""
        for case in VECTORS["certificates"]:
            raw = deviceid.from_certificate(bytes.fromhex(case["der_hex"]))
            self.assertEqual(raw.hex(), case["raw_hex"])
            self.assertEqual(deviceid.to_text(raw), case["canonical"])


class TextTests(SynchronousTestCase):
    """Beyond the recordings."""

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.binary(min_size=32, max_size=32).filter(any))
    def test_roundTrip(self, raw: bytes) -> None:
        """With and without check symbols, an id comes back."""
        self.assertEqual(deviceid.from_text(deviceid.to_text(raw)), raw)
        self.assertEqual(deviceid.from_text(deviceid.unchecked(raw)), raw)

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.binary(min_size=32, max_size=32).filter(any), st.data())
    def test_typingErrors(self, raw: bytes, data: st.DataObject) -> None:
        """One wrong symbol is always noticed (3.5)."""
        symbols = list(deviceid.to_text(raw).replace("-", ""))
        place = data.draw(st.integers(0, 55))
        wrong = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
        if wrong == symbols[place]:
            return
        symbols[place] = wrong
        self.assertRaises(ValueError, deviceid.from_text, "".join(symbols))
