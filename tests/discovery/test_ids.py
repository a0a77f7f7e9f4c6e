"""Tests for L{twisted_rudp.discovery.ids}."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.discovery import deviceid
from twisted_rudp.discovery.ids import NodeId

KEY = bytes(range(1, 33))


class NodeIdTests(SynchronousTestCase):
    """Ids from what people type and from what wires carry."""

    def test_texts(self) -> None:
        """
        A device id in any spelling and a key in hexadecimal are the same id, compared
        by their bytes (discovery.md 3.5 rule 4).
        """
        text = deviceid.to_text(KEY)
        spellings = [text, text.lower(), text.replace("-", " "), deviceid.unchecked(KEY), KEY.hex()]
        for spelling in spellings:
            node = NodeId.from_text(spelling)
            self.assertEqual((node.key, node.name), (KEY, None))
            self.assertEqual(node.text, text)

    def test_typingError(self) -> None:
        """A device id with a typing error is an error, not somebody's name."""
        text = deviceid.to_text(KEY)
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
