"""Tests for L{twisted_rudp.service.doctor}."""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.python.usage import UsageError
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.service.programs import TWIST, Program, run
from tests.service.test_command import RUDP
from twisted_rudp.endpoints.kcp import KCPServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetServerEndpoint
from twisted_rudp.net.udp.port import PortFacts, PortKind
from twisted_rudp.service.doctor import (
    DoctorOptions,
    Level,
    PathProbe,
    bufferFindings,
    clockFinding,
    factsText,
    guesses,
    kernelsFinding,
    lines,
    machineFindings,
    mtuFinding,
    offloadFinding,
    peerFindings,
    portFinding,
)
from twisted_rudp.testing import MemoryNetwork


class MachineTests(SynchronousTestCase):
    """This machine."""

    def test_kernels(self) -> None:
        """Kernels in Python are slower, which the advice changes."""
        self.assertEqual(kernelsFinding("native").level, Level.OK)
        self.assertIn("compiler", kernelsFinding("pure").advice)

    def test_buffers(self) -> None:
        """What was not granted comes with the setting that grants it."""
        facts = PortFacts(PortKind.GSO, True, True, 4000, 4000, 4000, 300, None)
        received, sent = bufferFindings(facts)
        self.assertEqual((received.level, sent.level), (Level.OK, Level.ADVICE))
        self.assertIn("300 of 4000 bytes", sent.text)
        self.assertIn("sysctl -w net.core.wmem_max=4000", sent.advice)

    def test_offload(self) -> None:
        """What is missing is named."""
        self.assertEqual(offloadFinding(True, True).level, Level.OK)
        self.assertIn("no GRO for UDP", offloadFinding(True, False).text)

    def test_clock(self) -> None:
        """A slow clock source is named; where none is known nothing is said against it."""
        self.assertEqual(clockFinding("tsc").level, Level.OK)
        self.assertEqual(clockFinding(None).level, Level.OK)
        self.assertIn("hpet", clockFinding("hpet").text)

    def test_all(self) -> None:
        """All of it is looked at on this machine."""
        checks = [each.check for each in machineFindings()]
        self.assertEqual(
            checks, ["kernels", "receive buffer", "send buffer", "offload", "clock"]
        )

    def test_port(self) -> None:
        """A port is free, or somebody has it."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
            self.assertEqual(portFinding(port, "127.0.0.1").level, Level.PROBLEM)
            self.assertIn(f"sport = :{port}", portFinding(port, "127.0.0.1").advice)
        self.assertEqual(portFinding(port, "127.0.0.1").level, Level.OK)


class PathTests(SynchronousTestCase):
    """The path to a peer."""

    def test_fits(self) -> None:
        """The datagrams of an endpoint fit or do not; then the largest that do are named."""
        self.assertEqual(mtuFinding(1500, 28, 1400).level, Level.OK)
        self.assertEqual(mtuFinding(1428, 28, 1400).level, Level.OK)
        finding = mtuFinding(1427, 28, 1400)
        self.assertEqual((finding.level, finding.advice[:8]), (Level.PROBLEM, "add mtu="))
        self.assertIn("mtu=1399", finding.advice)

    def test_probe(self) -> None:
        """The kernel knows the MTU of loopback, and what does not fit is refused."""
        if not sys.platform.startswith("linux"):
            raise SkipTest("only Linux tells")
        probe = PathProbe("127.0.0.1", 9)
        try:
            self.assertGreater(probe.mtu(), 1500)
            self.assertIsNone(probe.send(1000))
        finally:
            probe.close()


class PeerTests(SynchronousTestCase):
    """Peers on a simulated network, which are what the endpoint says, or not."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=1)
        self.server, self.client = self.network.host("server"), self.network.host("client")

    def serve(self, endpoint: Any) -> None:
        factory: Any = Factory.forProtocol(Protocol)
        factory.noisy = False
        self.successResultOf(endpoint.listen(factory))

    def examine(self, description: str) -> list[Any]:
        description = description.format(host=self.server.address)
        parse: Any = clientFromString
        client = parse(self.client.reactor, description)
        looking = Deferred.fromCoroutine(
            peerFindings(self.client.reactor, description, client)
        )
        self.network.run(looking, limit=300)
        found, host = self.successResultOf(looking)
        self.assertEqual(host, self.server.address)
        return found

    def test_fits(self) -> None:
        """A peer that fits is connected to, without a word against it."""
        self.serve(KCPServerEndpoint(self.server.reactor, 4000, password="secret"))
        (finding,) = self.examine("kcp:{host}:4000:password=secret")
        self.assertEqual(finding.level, Level.OK)
        self.assertIn("transport kcp", finding.text)
        self.assertNotIn("secret", finding.text)

    def test_cipher(self) -> None:
        """The cipher of the peer is found, with the key of this side."""
        self.serve(
            KCPServerEndpoint(self.server.reactor, 4000, password="x", crypt="aes-256-gcm")
        )
        failed, *mismatches = self.examine("kcp:{host}:4000:password=x:timeout=2")
        self.assertEqual((failed.check, failed.level), ("peer", Level.PROBLEM))
        self.assertEqual(
            mismatches[-1].text, "the peer uses crypt=aes-256-gcm, and this endpoint aes"
        )

    def test_plain(self) -> None:
        """So is a peer that does not encrypt."""
        self.serve(KCPServerEndpoint(self.server.reactor, 4000, crypt="null"))
        found = self.examine("kcp:{host}:4000:password=x:timeout=2")
        self.assertIn("the peer uses crypt=null", found[-1].text)

    def test_key(self) -> None:
        """Another key cannot be found; what to look at is said."""
        self.serve(KCPServerEndpoint(self.server.reactor, 4000, password="one"))
        found = self.examine("kcp:{host}:4000:password=two:timeout=2")
        self.assertIn("the key may be another", found[-1].advice)
        self.assertTrue(found[0].text.endswith(": no answer from the peer"), found[0].text)

    def test_transport(self) -> None:
        """A peer of another transport is found."""
        self.serve(RakNetServerEndpoint(self.server.reactor, 4000))
        found = self.examine("kcp:{host}:4000:timeout=2")
        self.assertEqual(found[-1].text, "the peer is a server of RakNet")

    def test_identity(self) -> None:
        """A server of QOTP with another key than expected is found."""
        self.serve(QOTPServerEndpoint(self.server.reactor, 4000, seed="a"))
        found = self.examine("qotp:{host}:4000:timeout=2:serverKey=" + "09" * 32)
        self.assertIn("another key than serverKey", found[-1].text)

    def test_guesses(self) -> None:
        """What else is tried keeps the place and the secret, and nothing else."""
        tried = [each.description for each in guesses(r"kcp:host=h:port=1:key=a\:b:mtu=600")]
        self.assertIn(r"kcp:host=h:port=1:crypt=aes-128:key=a\:b:timeout=3", tried)
        self.assertIn("kcp:host=h:port=1:crypt=null:timeout=3", tried)
        self.assertIn("raknet:host=h:port=1:timeout=3", tried)
        self.assertFalse(any("mtu" in each for each in tried))


class FactsTests(SynchronousTestCase):
    """What is said of a connection."""

    def test_peer(self) -> None:
        """What the peer runs is said in words, if it is known."""
        for peer, expected in (
            ("MARKED", "transport kcp, the peer runs twisted_rudp"),
            ("BASELINE", "transport kcp, the peer runs another implementation"),
            ("UNKNOWN", "transport kcp"),
        ):
            facts = {"transport": "kcp", "cipher": None, "peer": peer}
            self.assertEqual(factsText(facts), expected)


class CommandTests(SynchronousTestCase):
    """C{rudp doctor}."""

    def test_lines(self) -> None:
        """For a person each finding is a line, and its advice another."""
        self.assertEqual(
            list(lines([kernelsFinding("native")])), ["ok       kernels: native kernels"]
        )
        self.assertEqual(len(list(lines([kernelsFinding("pure")]))), 2)

    def test_json(self) -> None:
        """For a program it is JSON; the status says whether something does not work."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("0.0.0.0", 0))
            port = sock.getsockname()[1]
            status, output = run(*RUDP, "doctor", "--json", "--port", str(port))
        self.assertEqual(status, 1)
        findings = json.loads(output)["findings"]
        self.assertEqual(findings[-1]["check"], f"port {port}")
        self.assertEqual(findings[-1]["level"], "problem")

    def test_peer(self) -> None:
        """A peer at an address that answers is told of, with the longest datagram on its path."""
        echo = Program(*TWIST, "rudp", "echo", "--listen", "kcp:0:interface=127.0.0.1")
        self.addCleanup(echo.kill)
        where = f"kcp:127.0.0.1:{echo.port()}"
        status, output = run(*RUDP, "doctor", "--json", where)
        echo.interrupt()
        echo.end()
        findings = {each["check"]: each for each in json.loads(output)["findings"]}
        self.assertEqual(status, 0, output)
        self.assertIn("the peer runs twisted_rudp", findings["peer"]["text"])
        self.assertEqual(findings["path MTU"]["level"], "ok")
        self.assertRegex(findings["path MTU"]["text"], r"^\d+ bytes, .* sends up to 1400$")

    def test_refused(self) -> None:
        """Endpoints of others, more than one, and what is no port, are refused."""
        status, output = run(*RUDP, "doctor", "tcp:127.0.0.1:1")
        self.assertEqual(status, 2)
        self.assertIn("expected kcp:, qotp: or raknet:", output)
        for arguments, expected in (
            (["kcp:127.0.0.1:1", "kcp:127.0.0.1:2"], "one endpoint at most"),
            (["--port", "0"], "--port"),
        ):
            with self.assertRaises(UsageError) as caught:
                DoctorOptions().parseOptions(arguments)
            self.assertIn(expected, str(caught.exception))
