"""Tests for L{twisted_rudp.discovery.ids}."""

from __future__ import annotations

from hashlib import sha256

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.vectors import load
from twisted_rudp.discovery.ids import NodeId, device_id_unchecked, from_device_id, to_device_id

KEY = bytes(range(1, 33))


class NodeIdTests(SynchronousTestCase):
    """Ids from what people type and from what wires carry."""

    def test_texts(self) -> None:
        """
        A device id in any spelling and a key in hexadecimal are the same id, compared
        by their bytes (discovery.md 3.5 rule 4).
        """
        text = to_device_id(KEY)
        plain = device_id_unchecked(KEY)
        spellings = [text, text.lower(), text.replace("-", " "), plain, KEY.hex()]
        for spelling in spellings:
            node = NodeId.from_text(spelling)
            self.assertEqual((node.key, node.name), (KEY, None))
            self.assertEqual(node.text, text)

    def test_typingError(self) -> None:
        """A device id with a typing error is an error, not somebody's name."""
        text = to_device_id(KEY)
        wrong = text.replace(text[3], "7" if text[3] != "7" else "6", 1)
        self.assertRaises(ValueError, NodeId.from_text, wrong)
        self.assertRaises(ValueError, NodeId.from_text, text[:-1] + "9")

    def test_names(self) -> None:
        """Anything else is a name: an id of its own, carried by v1 as it is."""
        node = NodeId.from_text("Zoë's node")
        self.assertEqual(node.v1, "Zoë's node".encode())
        self.assertEqual(NodeId.from_v1(node.v1), node)
        self.assertEqual(node.text, "Zoë's node")
        self.assertNotEqual(node, NodeId.from_text("zoë's node"))
        self.assertNotEqual(node.key, node.v1)

    def test_bounds(self) -> None:
        """Names have 1 to 64 bytes, keys 32 that are not all zero (1.3, 3.1)."""
        NodeId.from_name(b"x" * 64)
        for name in (b"", b"x" * 65):
            self.assertRaises(ValueError, NodeId.from_name, name)
        for key in (b"", bytes(32), KEY + b"x"):
            self.assertRaises(ValueError, NodeId, key)

    def test_keysOverV1(self) -> None:
        """
        v1 carries a key as its programs did, as 52 symbols, and that is the same node
        as over v4.
        """
        node = NodeId(KEY)
        self.assertEqual(len(node.v1), 52)
        self.assertEqual(NodeId.from_v1(node.v1), node)
        self.assertIsNone(NodeId.from_v1(node.v1).name)

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.binary(max_size=80))
    def test_anythingOverV1(self, wire: bytes) -> None:
        """Whatever v1 carries is an id or refused, and can be shown on a terminal."""
        try:
            node = NodeId.from_v1(wire)
        except ValueError:
            self.assertFalse(0 < len(wire) <= 64 and len(wire) not in (52, 56))
        else:
            self.assertTrue(node.text.isprintable())


class VectorTests(SynchronousTestCase):
    """The recordings."""

    def test_texts(self) -> None:
        """
        Every text is read or refused as by Syncthing, and printed as by it
        (discovery.md 3.5).
        """
        for case in load("discovery", "device_id")["cases"]:
            if not case["ok"]:
                self.assertRaises(ValueError, from_device_id, case["text"])
                continue
            raw = from_device_id(case["text"])
            self.assertEqual(to_device_id(raw), case["canonical"], case["name"])
            self.assertEqual(raw.hex(), case.get("raw_hex", raw.hex()), case["name"])

    def test_certificates(self) -> None:
        """The id of a certificate is the hash of its DER form (3.5)."""
        for case in load("discovery", "device_id")["certificates"]:
            raw = sha256(bytes.fromhex(case["der_hex"])).digest()
            self.assertEqual(raw.hex(), case["raw_hex"])
            self.assertEqual(to_device_id(raw), case["canonical"])


class TextTests(SynchronousTestCase):
    """Beyond the recordings."""

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.binary(min_size=32, max_size=32).filter(any))
    def test_roundTrip(self, raw: bytes) -> None:
        """With and without check symbols, an id comes back."""
        self.assertEqual(from_device_id(to_device_id(raw)), raw)
        self.assertEqual(from_device_id(device_id_unchecked(raw)), raw)

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.binary(min_size=32, max_size=32).filter(any), st.data())
    def test_typingErrors(self, raw: bytes, data: st.DataObject) -> None:
        """One wrong symbol is always noticed (3.5)."""
        symbols = list(to_device_id(raw).replace("-", ""))
        place = data.draw(st.integers(0, 55))
        wrong = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
        if wrong == symbols[place]:
            return
        symbols[place] = wrong
        self.assertRaises(ValueError, from_device_id, "".join(symbols))
