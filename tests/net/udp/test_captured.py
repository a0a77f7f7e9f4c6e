"""Tests for L{twisted_rudp.net.udp.captured}."""

from __future__ import annotations

import io
from pathlib import Path

from twisted.python.runtime import platform
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.decoding.talk import read
from tests.net.udp.fakes import Recorder
from twisted_rudp.net.addresses import fromTwisted
from twisted_rudp.net.udp.captured import CapturedPort, capturePorts, endCapture
from twisted_rudp.net.udp.open import openPort
from twisted_rudp.net.udp.port import SocketOptions
from twisted_rudp.testing import MemoryNetwork
from twisted_rudp.tracing.reading import CaptureReader


class CapturedPortTests(SynchronousTestCase):
    """On a simulated network."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.path = self.mktemp()
        self.addCleanup(endCapture)

    def test_off(self) -> None:
        """Without a capture a port is the port itself; also afterwards."""
        reactor = self.network.host("a").reactor
        before = openPort(reactor, Recorder())
        capturePorts(self.path)
        during = openPort(reactor, Recorder())
        endCapture()
        after = openPort(reactor, Recorder())
        self.assertEqual(
            [isinstance(port, CapturedPort) for port in (before, during, after)],
            [False, True, False],
        )

    def test_bothWays(self) -> None:
        """Runs are noted as datagrams, with the addresses of both ends, in and out."""
        one, other = self.network.host("a"), self.network.host("b")
        receiver, plain = Recorder(), Recorder()
        capturePorts(self.path)
        port = openPort(one.reactor, receiver, one.address, 1000)
        peer = openPort(other.reactor, plain, other.address, 2000)
        port.send(b"aabbc", 2, (other.address, 2000))
        self.network.runFor(1)
        peer.send(b"answer", 6, (one.address, 1000))
        self.network.runFor(1)
        endCapture()
        found = [(each.source[1], each.destination[1], each.data) for each in read(self.path)]
        sent = [(1000, 2000, each) for each in (b"aa", b"bb", b"c")]
        answer = [(2000, 1000, b"answer")]
        self.assertEqual(found, sent + sent + answer + answer)
        self.assertEqual(receiver.datagrams(), [b"answer"])

    def test_passesOn(self) -> None:
        """All else is the inner port's."""
        host = self.network.host("a")
        capturePorts(self.path)
        port = openPort(host.reactor, Recorder(), "", 1000)
        port.sendFrom = b"x"
        self.assertEqual(port.sendFrom, b"x")
        self.assertEqual(port.getHost().port, 1000)
        self.assertEqual(port.options, SocketOptions())
        port.reconfigure(SocketOptions(dscp=1))
        port.readPending()
        self.assertTrue(port.thin(None))
        self.assertEqual(port.kernelDrops(), 0)
        self.assertEqual(port.counters.asDict()["datagramsOut"], 0)
        self.assertEqual(port.facts().kind, "stock")
        port.stopListening()
        self.network.runFor(1)
        self.assertTrue(port.closed)
        self.assertTrue(port.send(b"late", 4, ("10.0.0.9", 1)))
        self.assertEqual(read(self.path), [])

    def test_fullDisk(self) -> None:
        """A disk that is full ends the capture, and nothing else."""
        if not platform.isLinux():
            self.skipTest("only Linux has a disk that is always full")
        host, receiver = self.network.host("a"), Recorder()
        capturePorts("/dev/full")
        port = openPort(host.reactor, receiver, "", 1000)
        for _ in range(2):
            port.send(bytes(60000), 1000, (host.address, 1000))
            self.network.runFor(1)
        self.assertEqual(len(b"".join(receiver.datagrams())), 120_000)


class RealPortTests(TestCase):
    """On real sockets."""

    async def test_ownAddress(self) -> None:
        """A socket for all addresses is noted with the one that its peer sees."""
        from twisted.internet import reactor

        path = self.mktemp()
        capture = capturePorts(path)
        self.addCleanup(endCapture)
        receiver = Recorder()
        port = openPort(reactor, receiver, "", 0)  # type: ignore[arg-type]
        self.addCleanup(port.stopListening)
        endpoint = fromTwisted(port.getHost())[1]
        port.send(b"hello", 5, ("127.0.0.1", endpoint))
        await receiver.until(lambda: receiver.datagrams() == [b"hello"])
        capture.flush()
        found = list(CaptureReader(io.BytesIO(Path(path).read_bytes())))
        ends = {(each.source, each.destination) for each in found}
        self.assertEqual(ends, {(("127.0.0.1", endpoint), ("127.0.0.1", endpoint))})
        self.assertEqual(len(found), 2)
