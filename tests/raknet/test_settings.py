"""Tests for L{twisted_rudp.raknet.settings}."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.congestion import FixedWindow
from twisted_rudp.core.congestion.bbr import BBR
from twisted_rudp.core.congestion.cubic import Cubic
from twisted_rudp.raknet.settings import DEFAULT, PROFILES, Settings


class SettingsTests(SynchronousTestCase):
    """What a session goes by."""

    def test_refused(self) -> None:
        """What is out of range or makes no sense is named."""
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"user_id": 0x7F}, "user_id=127 is not in 128 to 255"),
            ({"window": 0}, "window=0 is not in 1 to 32768"),
            ({"mtu_min": 1000, "mtu": 900}, "mtu=900 is not in 1000 to 9000"),
            ({"congestion": "reno"}, "congestion='reno' is none of "),
            ({"magic": b"short"}, "is not 16 bytes long"),
            ({"probes": ()}, "do not go down"),
            ({"probes": (576, 1200)}, "do not go down"),
        ]
        for changes, words in wrong:
            problem = self.assertRaises(ValueError, Settings, **changes)
            self.assertIn(words, str(problem))

    def test_controllers(self) -> None:
        """Each congestion control is the one that it names."""
        for name, kind in (("bbr", BBR), ("cubic", Cubic), ("none", FixedWindow)):
            self.assertIsInstance(Settings(congestion=name).controller(1400), kind)

    def test_lengths(self) -> None:
        """A message that goes unsplit, and a piece of one, fit the datagram with their headers."""
        for settings in PROFILES.values():
            for mtu in (576, 1400, 1492):
                self.assertLess(settings.fragment(mtu), mtu - 28)
                self.assertLessEqual(settings.fragment(mtu), settings.whole(mtu))
        self.assertEqual(PROFILES["default"], DEFAULT)
