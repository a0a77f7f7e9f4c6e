"""The masks of packet numbers: the native kernel against its twin."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.kernels import masks

bounded = settings(max_examples=100, deadline=None, derandomize=True)


class MaskTests(SynchronousTestCase):
    """L{masks.sn_masks}, whichever it is, does as L{masks.pure_masks}."""

    @bounded
    @given(
        key=st.binary(min_size=32, max_size=32),
        run=st.binary(max_size=300),
        size=st.integers(1, 120),
        at=st.integers(0, 130),
    )
    def test_twins(self, key: bytes, run: bytes, size: int, at: int) -> None:
        """Both give the same masks for any run, cut wherever it is."""
        self.assertEqual(masks.sn_masks(key, run, size, at), masks.pure_masks(key, run, size, at))

    def test_errors(self) -> None:
        """Both refuse what cannot be meant."""
        for function in (masks.sn_masks, masks.pure_masks):
            for key, size, at in [(b"k" * 31, 40, 0), (b"k" * 32, 0, 0), (b"k" * 32, 40, -1)]:
                with self.assertRaises(ValueError):
                    function(key, bytes(80), size, at)
