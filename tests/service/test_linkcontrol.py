"""Tests for L{twisted_rudp.service.linkcontrol}."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.service.linkcontrol import (
    SETTINGS,
    Console,
    LinkControl,
    Report,
    impairmentsOf,
)

DEFAULTS = {each.name: each.default for each in SETTINGS}


class FakeLink:
    """Two directions and nothing between."""

    def __init__(self) -> None:
        self.forward, self.backward = impairmentsOf(DEFAULTS, 1), impairmentsOf(DEFAULTS, 2)
        self.bytes = {"forward_bytes": 0, "backward_bytes": 0}

    def statistics(self) -> dict[str, int]:
        ways = (("forward", self.forward), ("backward", self.backward))
        counters = {f"{way}_{name}": n for way, each in ways for name, n in each.counters.items()}
        return {**counters, **self.bytes}


class ControlTests(SynchronousTestCase):
    """L{LinkControl} and L{Console}."""

    def setUp(self) -> None:
        self.link = FakeLink()
        self.control = LinkControl(self.link, DEFAULTS, DEFAULTS)

    def test_change(self) -> None:
        """A setting of both directions or of one, at once, in the units of the command line."""
        forward, back = self.link.forward, self.link.backward
        self.assertEqual(self.control.answer("loss 10"), ["forward: loss 10", "back: loss 10"])
        self.assertEqual((forward.loss, back.loss), (0.1, 0.1))
        self.assertEqual(self.control.answer("back rate 8"), ["back: rate 8"])
        self.assertEqual((forward.rate, back.rate, back.queue), (None, 1e6, 100_000))
        self.control.answer("back queue 5000")
        self.control.answer("forward burst 20")
        self.control.answer("forward burst-length 2")
        self.assertEqual(back.queue, 5000)
        assert forward.burst is not None
        self.assertEqual((forward.burst.enter, forward.burst.leave), (0.125, 0.5))
        self.control.answer("back queue none")
        self.control.answer("back rate none")
        self.assertEqual((back.rate, back.queue, back.loss), (None, None, 0.1))
        self.assertEqual((forward.seed, back.seed), (1, 2))

    def test_shown(self) -> None:
        """What is not as it is without options."""
        self.control.answer("delay 20")
        self.control.answer("back mtu 1200")
        self.control.answer("back cut")
        self.assertTrue(self.link.backward.cut)
        self.assertEqual(
            self.control.answer("show"), ["forward: delay 20", "back: cut, delay 20, mtu 1200"]
        )
        self.control.answer("mend")
        self.assertFalse(self.link.backward.cut)
        self.control.answer("delay 0")
        self.assertEqual(self.control.answer("forward show"), ["forward: nothing is impaired"])

    def test_refused(self) -> None:
        """What cannot be is said, and nothing is changed, in neither direction."""
        self.control.answer("back rate 1")
        before = self.control.answer("show")
        for line, expected in (
            ("loss 101", "percentage"),
            ("loss none", "percentage"),
            ("queue 1000", "queue requires rate"),
            ("speed 1", "'help' shows"),
            ("loss", "'help' shows"),
            ("forward", "'help' shows"),
        ):
            [answer] = self.control.answer(line)
            self.assertIn("not changed", answer)
            self.assertIn(expected, answer)
        self.assertEqual(self.control.answer("show"), before)

    def test_console(self) -> None:
        """Lines in, lines out; empty ones and long ones do no harm."""
        console, transport = Console(self.control), StringTransport()
        console.makeConnection(transport)
        console.dataReceived(b"loss 5\n\n" + b"x" * 2000 + b"\n")
        console.dataReceived(b"counters\nhelp\n")
        text = transport.value().decode()
        self.assertTrue(text.startswith("forward: loss 5\nback: loss 5\nthat line is too long\n"))
        self.assertIn("Settings: loss, burst", text)

    @given(st.text())
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_anyLine(self, line: str) -> None:
        """Any line has an answer."""
        LinkControl(FakeLink(), DEFAULTS, DEFAULTS).answer(line)

    def test_report(self) -> None:
        """What a line says is what has come since the line before."""
        clock = Clock()
        report = Report(self.link, clock)
        self.control.answer("forward loss 100")
        for _ in range(4):
            self.link.forward.fate(0.0, 100)
            self.link.backward.fate(0.0, 100)
        self.link.bytes["backward_bytes"] = 250_000
        clock.advance(2)
        self.assertEqual(
            report.line(),
            "2.0 s: forward 0 Mbit/s, 4 datagrams, 100 % dropped;"
            " back 1 Mbit/s, 4 datagrams, 0 % dropped",
        )
        clock.advance(1)
        self.assertIn("3.0 s: forward 0 Mbit/s, 0 datagrams, 0 % dropped", report.line())
