"""Tests for L{twisted_rudp.service.linkoptions}."""

from __future__ import annotations

import io
import itertools
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from tests.net.ports.fakes import Recorder
from twisted_rudp.net.port import openPort
from twisted_rudp.service.linkoptions import LinkOptions, hostAndPort, runLink
from twisted_rudp.testing import MemoryNetwork


def parsed(*arguments: str) -> LinkOptions:
    options = LinkOptions()
    options.parseOptions(["--to", "10.0.0.1:4000", *arguments])
    return options


class AddressTests(SynchronousTestCase):
    """C{HOST:PORT}."""

    def test_forms(self) -> None:
        """Names of either family; IPv6 in brackets, also with a zone."""
        for given_, expected in (
            ("10.0.0.1:4000", ("10.0.0.1", 4000)),
            (":4000", ("", 4000)),
            ("[::1]:4000", ("::1", 4000)),
            ("[fe80::1%eth0]:0", ("fe80::1%eth0", 0)),
        ):
            self.assertEqual(hostAndPort(given_), expected)

    def test_wrong(self) -> None:
        """Everything else is an error that says what was wrong."""
        for given_ in ("4000", "10.0.0.1", "::1:4000", "10.0.0.1:", "10.0.0.1:70000", "h:-1"):
            self.assertRaises(ValueError, hostAndPort, given_)

    @given(st.text())
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_anyText(self, text: str) -> None:
        """Any text is an address or a C{ValueError}."""
        try:
            _, port = hostAndPort(text)
        except ValueError:
            return
        self.assertTrue(0 <= port <= 65535)


class LinkOptionsTests(SynchronousTestCase):
    """L{LinkOptions}."""

    def test_defaults(self) -> None:
        """Without options the link is perfect."""
        impairments = parsed().impairments()
        for name in ("loss", "delay", "jitter", "reorder", "duplicate"):
            self.assertEqual(getattr(impairments, name), 0)
        self.assertIsNone(impairments.burst)
        self.assertIsNone(impairments.rate)

    def test_units(self) -> None:
        """Percent, milliseconds and Mbit/s become shares, seconds and bytes per second."""
        impairments = parsed(
            "--loss=2.5",
            "--delay=40",
            "--jitter=5",
            "--reorder=1",
            "--reorder-delay=20",
            "--duplicate=3",
            "--rate=8",
            "--queue=5000",
            "--mtu=1200",
            "--seed=9",
        ).impairments()
        self.assertEqual(impairments.loss, 0.025)
        self.assertEqual(impairments.delay, 0.04)
        self.assertEqual(impairments.jitter, 0.005)
        self.assertEqual((impairments.reorder, impairments.reorder_delay), (0.01, 0.02))
        self.assertEqual(impairments.duplicate, 0.03)
        self.assertEqual((impairments.rate, impairments.queue), (1e6, 5000))
        self.assertEqual((impairments.mtu, impairments.seed), (1200, 9))

    def test_queueByDefault(self) -> None:
        """A bottleneck queues a tenth of a second, and at least one datagram."""
        self.assertEqual(parsed("--rate=80").impairments().queue, 1_000_000)
        self.assertEqual(parsed("--rate=0.1").impairments().queue, 65507)

    def test_bursts(self) -> None:
        """Bursts have the share and the mean length that were asked for."""
        impairments = parsed("--burst=5", "--burst-length=8", "--seed=3").impairments()
        fates = [bool(impairments.fate(0.0, 100)) for _ in range(100_000)]
        lost = fates.count(False)
        bursts = sum(before and not after for before, after in itertools.pairwise(fates))
        self.assertLess(abs(lost / len(fates) - 0.05), 0.01)
        self.assertLess(abs(lost / bursts - 8), 1)

    def test_errors(self) -> None:
        """What cannot be is a usage error that names the option or the value (SVC-7)."""
        for arguments, expected in (
            (["--loss=101"], "101"),
            (["--loss=nan"], "nan"),
            (["--delay=-1"], "-1"),
            (["--rate=fast"], "fast"),
            (["--queue=100"], "--rate"),
            (["--mtu=0"], "0"),
            (["--burst=100"], "100"),
            (["--listen=nowhere"], "--listen"),
            (["--seed=x"], "x"),
        ):
            problem = self.assertRaises(UsageError, parsed, *arguments)
            self.assertIn(expected, str(problem))
        self.assertRaises(UsageError, LinkOptions().parseOptions, [])

    def test_nameAsTarget(self) -> None:
        """A name is refused when the link is made."""
        network = MemoryNetwork()
        problem = self.assertRaises(
            UsageError, parsed("--to=server:4000").link, network.host("middle").reactor
        )
        self.assertIn("server", str(problem))


class RunLinkTests(SynchronousTestCase):
    """L{runLink}."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(delay=0.0)
        self.middle = self.network.host("middle", "10.0.0.2")
        self.output = io.StringIO()
        self.patch(sys, "stdout", self.output)

    def test_relays(self) -> None:
        """It says where it listens, relays, and at the end says what it saw."""
        server = self.network.host("server", "10.0.0.1")
        serverSide, clientSide = Recorder(), Recorder()
        port = openPort(server.reactor, serverSide, "", 4000)  # type: ignore[arg-type]
        client = openPort(self.network.host("client").reactor, clientSide)  # type: ignore[arg-type]
        forever = runLink(self.middle.reactor, parsed("--listen=:3000"))
        client.send(b"ping", 4, ("10.0.0.2", 3000))
        self.network.runFor(1)
        self.assertEqual(serverSide.datagrams(), [b"ping"])
        self.middle.reactor.fireSystemEvent("shutdown")
        self.network.runFor(1)
        self.assertNoResult(forever)
        self.assertIn("3000", self.output.getvalue())
        self.assertRegex(self.output.getvalue(), r"forward_delivered: 1\b")
        self.assertEqual(self.middle.reactor.getDelayedCalls(), [])
        self.assertFalse(port.closed)

    def test_addressInUse(self) -> None:
        """A port that is taken is a usage error."""
        openPort(self.middle.reactor, Recorder(), "", 3000)  # type: ignore[arg-type]
        problem = self.assertRaises(
            UsageError, runLink, self.middle.reactor, parsed("--listen=:3000")
        )
        self.assertIn("--listen", str(problem))
