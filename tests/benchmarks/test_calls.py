"""Tests of the count of calls."""

from __future__ import annotations

from types import FrameType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks.calls import WAYS, Count, Profile, counting, table
from twisted_rudp.core.serial import difference32, unwrap32


class ProfileTests(SynchronousTestCase):
    """L{Profile}."""

    def test_whole(self) -> None:
        """Functions of the package count, others do not."""
        profile = Profile()
        with counting(profile):
            unwrap32(1, 2)
            len(sorted([difference32(3, 2)]))
        assert profile.count is not None
        self.assertEqual([*profile.met], ["core/serial.py"])
        self.assertEqual(profile.count.files, 1)
        self.assertEqual((profile.count.switches, profile.count.depth), (0, 0))
        self.assertEqual(profile.count.calls, sum(profile.met.values()))

    def test_part(self) -> None:
        """From one event to another."""

        def start(frame: FrameType, event: str, argument: Any) -> bool:
            return event == "call" and frame.f_code is unwrap32.__code__

        def stop(frame: FrameType, event: str, argument: Any) -> bool:
            return event == "call" and frame.f_code is difference32.__code__

        profile = Profile(start, stop)
        with counting(profile):
            difference32(3, 2)
            unwrap32(1, 2)
            difference32(3, 2)
            unwrap32(1, 2)
        inside = Profile()
        with counting(inside):
            unwrap32(1, 2)
        assert profile.count is not None and inside.count is not None
        self.assertTrue(profile.count.calls <= inside.count.calls)
        self.assertEqual(profile.count.files, 1)

    def test_table(self) -> None:
        """A row for each transport."""
        counts = dict.fromkeys(WAYS, Count(48, 22, 34, 12))
        head, row = table({"kcp": counts}).splitlines()
        self.assertTrue(head.strip().startswith(WAYS[0]))
        self.assertEqual(row.split()[:4], ["kcp", "48", "/", "22"])
