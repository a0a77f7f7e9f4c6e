"""Tests for L{twisted_rudp.service.link}."""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.python.runtime import platform
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.decoding.talk import read
from tests.net.udp.fakes import Recorder
from tests.net.udp.refusing import refusing
from twisted_rudp.net.addresses import fromTwisted
from twisted_rudp.net.udp.open import openPort
from twisted_rudp.net.udp.port import DatagramPort
from twisted_rudp.service import link as linkModule
from twisted_rudp.service.link import Link, LinkOptions, hostAndPort, runLink
from twisted_rudp.service.linkcontrol import Console
from twisted_rudp.testing import Impairments, MemoryHost, MemoryNetwork
from twisted_rudp.tracing.pcapng import Capture


class SimulatedTestCase(SynchronousTestCase):
    """Clients, a link and an echo server on a simulated network of no delay."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=1, delay=0.0)
        self.middle = self.network.host("middle")
        self.serverHost = self.network.host("server")
        self.server, self.serverSide = self.open(self.serverHost, 4000)
        self.serverSide.hook = lambda entry: entry[0] == "run" and self.server.send(*entry[1:])

    def open(self, host: MemoryHost, port: int = 0, interface: str = "") -> tuple[Any, Recorder]:
        receiver = Recorder()
        return openPort(host.reactor, receiver, interface, port), receiver

    def client(self) -> tuple[DatagramPort, Recorder]:
        return self.open(self.network.host(f"client{len(self.network.hosts)}"))

    def start(self, impairments: Impairments | None = None, **options: Any) -> Link:
        link = Link(
            self.middle.reactor, "", 3000, self.serverHost.address, 4000, impairments, **options
        )
        link.start()
        return link

    def sendThrough(self, client: DatagramPort, *datagrams: bytes) -> None:
        for datagram in datagrams:
            client.send(datagram, len(datagram), (self.middle.address, 3000))

    def runFor(self, seconds: float) -> None:
        self.network.runFor(seconds)


class RelayTests(SimulatedTestCase):
    """Without impairments."""

    def test_bothWays(self) -> None:
        """Each client gets its own answers, from the address it sent to."""
        link = self.start()
        self.assertEqual(link.port, 3000)
        first, firstSide = self.client()
        second, secondSide = self.client()
        self.sendThrough(first, b"one", b"two")
        self.sendThrough(second, b"three")
        self.runFor(1)
        self.assertEqual(firstSide.datagrams(), [b"one", b"two"])
        self.assertEqual(secondSide.datagrams(), [b"three"])
        self.assertEqual(firstSide.log[0][3], (self.middle.address, 3000))
        self.assertEqual(len({entry[3] for entry in self.serverSide.log if len(entry) > 3}), 2)
        statistics = link.statistics()
        self.assertEqual(statistics["clients"], 2)
        self.assertEqual(statistics["forward_delivered"], 3)
        self.assertEqual(statistics["backward_delivered"], 3)

    def test_runs(self) -> None:
        """Runs are impaired datagram by datagram, and cross as they were."""
        self.start()
        client, side = self.client()
        run = bytes(i % 256 for i in range(5050))
        client.send(run, 100, (self.middle.address, 3000))
        self.runFor(1)
        self.assertEqual(b"".join(side.datagrams()), run)
        self.assertEqual({len(datagram) for datagram in side.datagrams()}, {100, 50})

    def test_strangers(self) -> None:
        """What others send to a client's socket does not reach the client."""
        link = self.start()
        client, side = self.client()
        self.sendThrough(client, b"one")
        self.runFor(1)
        upstream = self.serverSide.log[0][3]
        other, _ = self.open(self.serverHost)
        other.send(b"forged", 6, upstream)
        self.runFor(1)
        self.assertEqual(side.datagrams(), [b"one"])
        self.assertEqual(link.statistics()["unknown_peers"], 1)

    def test_boundedClients(self) -> None:
        """Clients beyond the limit are not served; their datagrams are counted."""
        link = self.start(maxClients=1)
        first, firstSide = self.client()
        second, secondSide = self.client()
        self.sendThrough(first, b"one")
        self.runFor(0.1)
        self.sendThrough(second, b"two", b"tri")
        self.sendThrough(first, b"four")
        self.runFor(0.1)
        self.assertEqual(firstSide.datagrams(), [b"one", b"four"])
        self.assertEqual(secondSide.datagrams(), [])
        self.assertEqual(link.statistics()["refused"], 2)

    def test_idleClients(self) -> None:
        """A silent client makes room and frees its socket; it may come back."""
        link = self.start(maxClients=1, idleTimeout=10)
        first, firstSide = self.client()
        second, secondSide = self.client()
        self.sendThrough(first, b"one")
        self.runFor(25)
        self.assertEqual(link.statistics()["clients_idle"], 1)
        self.assertEqual(self.middle.reactor.getDelayedCalls(), [])
        self.sendThrough(second, b"two")
        self.runFor(25)
        self.sendThrough(first, b"three")
        self.runFor(1)
        self.assertEqual(firstSide.datagrams(), [b"one", b"three"])
        self.assertEqual(secondSide.datagrams(), [b"two"])

    def test_busyClientsStay(self) -> None:
        """A client that goes on sending keeps its socket."""
        link = self.start(idleTimeout=10)
        client, _ = self.client()
        for _ in range(20):
            self.sendThrough(client, b"tick")
            self.runFor(3)
        self.assertEqual(link.statistics()["clients"], 1)
        self.assertEqual(link.statistics()["clients_idle"], 0)

    def test_stop(self) -> None:
        """After C{stop} nothing is left: no socket, no timer, no late datagram."""
        link = self.start(Impairments(delay=1.0))
        client, side = self.client()
        self.sendThrough(client, b"one")
        self.runFor(0.5)
        stopped, again = link.stop(), link.stop()
        self.runFor(5)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertIsNone(self.successResultOf(again))
        self.assertEqual(self.serverSide.datagrams(), [])
        self.assertEqual(side.datagrams(), [])
        self.assertEqual(self.middle.reactor.getDelayedCalls(), [])
        self.assertEqual(link.statistics()["forward_delivered"], 1)

    def test_notStarted(self) -> None:
        """A link that was not started has no port, and may be stopped."""
        link = Link(self.middle.reactor, "", 3000, "10.0.0.1", 4000)
        self.assertRaises(RuntimeError, lambda: link.port)
        self.assertIsNone(self.successResultOf(link.stop()))

    def test_badTarget(self) -> None:
        """The target is an IP literal: a link resolves nothing."""
        self.assertRaises(ValueError, Link, self.middle.reactor, "", 0, "example.org", 1)

    def test_addressInUse(self) -> None:
        """A port that is taken is an error of C{start}."""
        self.start()
        self.assertRaises(CannotListenError, self.start)


class ImpairedTests(SimulatedTestCase):
    """With impairments."""

    def through(self, impairments: Impairments, count: int, **options: Any) -> list[bytes]:
        """What comes back of C{count} numbered datagrams."""
        self.link = self.start(impairments, **options)
        client, side = self.client()
        self.sendThrough(client, *(b"%04d" % number for number in range(count)))
        self.runFor(30)
        return side.datagrams()

    def test_delay(self) -> None:
        """The delay counts once in each direction."""
        self.start(Impairments(delay=0.25))
        client, side = self.client()
        self.sendThrough(client, b"ping")
        self.runFor(0.49)
        self.assertEqual(side.datagrams(), [])
        self.runFor(0.02)
        self.assertEqual(side.datagrams(), [b"ping"])

    def test_oneWay(self) -> None:
        """The way back may be another."""
        self.assertEqual(len(self.through(Impairments(), 50, backward=Impairments(loss=1.0))), 0)
        self.assertEqual(self.link.statistics()["forward_delivered"], 50)
        self.assertEqual(self.link.statistics()["backward_lost"], 50)

    def test_lossIsSeeded(self) -> None:
        """The same seed loses the same datagrams, in both directions."""
        first = self.through(Impairments(seed=5, loss=0.3), 200)
        self.setUp()
        second = self.through(Impairments(seed=5, loss=0.3), 200)
        self.setUp()
        third = self.through(Impairments(seed=6, loss=0.3), 200)
        self.assertEqual(first, second)
        self.assertNotEqual(first, third)
        self.assertTrue(50 < len(first) < 150)

    def test_orderAndDuplicates(self) -> None:
        """Reordering changes the order, duplication the number, neither the content."""
        sent = [b"%04d" % number for number in range(100)]
        got = self.through(Impairments(seed=2, delay=0.01, reorder=0.2), 100)
        self.assertNotEqual(got, sent)
        self.assertEqual(sorted(got), sent)
        self.setUp()
        got = self.through(Impairments(seed=2, duplicate=0.5), 100)
        self.assertGreater(len(got), 120)
        self.assertEqual(sorted(set(got)), sent)

    def test_jitterKeepsOrder(self) -> None:
        """Jitter alone keeps the order, and so does the link's timer."""
        got = self.through(Impairments(seed=2, delay=0.01, jitter=0.05), 100)
        self.assertEqual(got, [b"%04d" % number for number in range(100)])

    def test_rate(self) -> None:
        """A bottleneck lets through what its rate and its queue allow."""
        got = self.through(Impairments(rate=4000.0, queue=102), 50, backward=Impairments())
        self.assertEqual(len(got), 25)
        self.assertEqual(self.link.statistics()["forward_queue_full"], 25)

    def test_bounded(self) -> None:
        """What is on the way is bounded; the rest is counted."""
        self.patch(linkModule._Delays.__init__, "__defaults__", (10,))
        got = self.through(Impairments(delay=1.0), 50, backward=Impairments())
        self.assertEqual(len(got), 10)
        self.assertEqual(self.link.statistics()["overflow"], 40)

    def test_clockGoesBack(self) -> None:
        """A clock that is set back delays, and breaks nothing (TIME-3)."""
        self.start(Impairments(delay=0.5))
        client, side = self.client()
        self.sendThrough(client, b"one")
        self.runFor(0.1)
        self.network.clock.rightNow -= 0.1
        self.sendThrough(client, b"two")
        self.runFor(3)
        self.assertEqual(side.datagrams(), [b"one", b"two"])


class RealLinkTests(TestCase):
    """On this machine's own sockets."""

    def open(self, hook: Callable[[Any], Any] | None = None) -> tuple[DatagramPort, Recorder]:
        from twisted.internet import reactor

        receiver = Recorder()
        port = openPort(reactor, receiver, "127.0.0.1")  # type: ignore[arg-type]
        self.addCleanup(port.stopListening)
        return port, receiver

    async def test_echo(self) -> None:
        """Datagrams cross a slow link and come back, all of them, in order."""
        from twisted.internet import reactor

        server, serverSide = self.open()
        serverSide.hook = lambda entry: entry[0] == "run" and server.send(*entry[1:])
        client, clientSide = self.open()
        target = fromTwisted(server.getHost())
        link = Link(reactor, "127.0.0.1", 0, *target, Impairments(delay=0.005))  # type: ignore[arg-type]
        link.start()
        self.addCleanup(link.stop)
        run = bytes(i % 256 for i in range(200 * 1000))
        client.send(run, 1000, ("127.0.0.1", link.port))
        await clientSide.until(lambda: len(clientSide.datagrams()) == 200)
        self.assertEqual(b"".join(clientSide.datagrams()), run)

    async def test_deadServer(self) -> None:
        """A server that is not there is counted, and hurts nobody."""
        if not platform.isLinux():
            self.skipTest("only Linux tells")
        from twisted.internet import reactor

        with refusing("127.0.0.1") as dead:
            link = Link(reactor, "127.0.0.1", 0, *dead)  # type: ignore[arg-type]
            link.start()
            self.addCleanup(link.stop)
            client, _ = self.open()
            client.send(b"x", 1, ("127.0.0.1", link.port))
            while not link.counts["path_errors"]:
                await deferLater(reactor, 0)  # type: ignore[arg-type]
        self.assertEqual(link.statistics()["forward_delivered"], 1)


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

    def test_directions(self) -> None:
        """The way back has the same settings, and those of its own, and another seed."""
        options = parsed("--loss=2", "--delay=40", "--back-loss=5", "--back-rate=8", "--seed=9")
        forward, back = options.impairments(), options.impairments("back-")
        self.assertEqual((forward.loss, forward.delay, forward.rate), (0.02, 0.04, None))
        self.assertEqual((back.loss, back.delay, back.rate), (0.05, 0.04, 1e6))
        self.assertEqual((forward.seed, back.seed), (9, 10))
        link = options.link(MemoryNetwork().host("middle").reactor)
        self.assertEqual((link.forward.loss, link.backward.loss), (0.02, 0.05))

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
            (["--queue=100"], "--queue requires --rate"),
            (["--back-queue=100"], "--back-queue requires --rate"),
            (["--back-loss=x"], "--back-loss"),
            (["--every=0"], "--every"),
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


class CaptureTests(SimulatedTestCase):
    """C{--pcap}."""

    def test_noted(self) -> None:
        """Each datagram is noted as between client and link, with what became of it."""
        path = self.mktemp()
        link = self.start(Impairments(drop_indices={1}), capture=Capture(path))
        client, side = self.client()
        self.sendThrough(client, b"one", b"two", b"three")
        self.runFor(1)
        link.stop()
        # The way back has the same settings: its second datagram is dropped, too.
        self.assertEqual(side.datagrams(), [b"one"])
        there = ("10.0.0.3", client.getHost().port), ("0.0.0.0", 3000)
        self.assertEqual(
            [(each[1:3], each.data, each.comment) for each in read(path)],
            [
                (there, b"one", ""),
                (there, b"two", "scripted"),
                (there, b"three", ""),
                (there[::-1], b"one", ""),
                (there[::-1], b"three", "scripted"),
            ],
        )

    def test_option(self) -> None:
        """The file is made when the link is; one that cannot be is a usage error."""
        path = self.mktemp()
        link = parsed(f"--pcap={path}").link(self.middle.reactor)
        link.stop()
        self.assertEqual(read(path), [])
        problem = self.assertRaises(
            UsageError, parsed("--pcap=/nowhere/x").link, self.middle.reactor
        )
        self.assertIn("--pcap /nowhere/x", str(problem))


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
        running = runLink(self.middle.reactor, parsed("--listen=:3000"))
        self.assertIn("--listen", str(self.failureResultOf(running, UsageError).value))

    def test_names(self) -> None:
        """Names are looked up, IPv4 first; one that nobody has is a usage error."""
        server, side = self.network.host("server", "10.0.0.1"), Recorder()
        openPort(server.reactor, side, "", 4000)  # type: ignore[arg-type]
        options = parsed("--listen=middle:3000", "--to=server:4000")
        runLink(self.middle.reactor, options)
        client = openPort(self.network.host("client").reactor, Recorder())  # type: ignore[arg-type]
        self.network.runFor(1)
        client.send(b"ping", 4, ("10.0.0.2", 3000))
        self.network.runFor(1)
        self.assertEqual(side.datagrams(), [b"ping"])
        for option in ("--to=nobody:1", "--listen=nobody:1", "--to=a b:1", "--to=[fe80::1%nix]:1"):
            running = runLink(self.middle.reactor, parsed(option))
            self.network.runFor(60)
            problem = self.failureResultOf(running, UsageError).value
            self.assertIn(option.partition("=")[0], str(problem))

    def test_every(self) -> None:
        """The counters are printed as often as was asked for."""
        runLink(self.middle.reactor, parsed("--listen=:3000", "--every=2"))
        self.network.runFor(5)
        lines = self.output.getvalue().splitlines()[1:]
        self.assertEqual([line.partition(":")[0] for line in lines], ["2.0 s", "4.0 s"])
        self.middle.reactor.fireSystemEvent("shutdown")
        self.network.runFor(1)
        self.assertEqual(self.middle.reactor.getDelayedCalls(), [])

    def test_interactive(self) -> None:
        """Standard input is read if that was asked for."""
        opened: list[Any] = []
        self.patch(linkModule, "StandardIO", lambda protocol, reactor: opened.append(protocol))
        runLink(self.middle.reactor, parsed("--listen=:3000", "--interactive"))
        self.assertIsInstance(opened[0], Console)
