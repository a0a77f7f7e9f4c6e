"""Tests of the count of calls."""

from __future__ import annotations

from types import FrameType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks.calls import WAYS, Count, Profile, counting, entered, simulated, table
from twisted_rudp.core.serial import difference32, unwrap32

MOST = {"kcp": 270, "raknet": 350, "qotp": 325}
"""Calls of an exchange, both ends. What a tenth more costs is to be worth it."""

FILES = {"kcp": (9, 8), "raknet": (9, 8), "qotp": (9, 10)}
"""From C{write} to the port, and from the port to C{dataReceived}. The port is one more."""


class SimulatedTests(SynchronousTestCase):
    """L{simulated}."""

    def test_most(self) -> None:
        """A small message and its answer cost no more calls than they have to."""
        for name, most in MOST.items():
            with self.subTest(name):
                self.assertLess(simulated(name, 4), most)

    def test_files(self) -> None:
        """On its way out and in a small message meets no more files than it has to."""
        for name, most in FILES.items():
            with self.subTest(name):
                out, back = entered(name)
                self.assertTrue(len(out) <= most[0] and len(back) <= most[1], (out, back))


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
