"""Tests for L{twisted_rudp.service.tracing}: traces of real sessions, over a bad link."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.protocols.wire import Echo
from twisted.trial.unittest import SynchronousTestCase

from tests.decoding.talk import SIZE, read, talk
from tests.tracing.schema import events
from twisted_rudp.net import traced
from twisted_rudp.net.hub import Hub
from twisted_rudp.net.udp.captured import endCapture
from twisted_rudp.service.listening import StartupError
from twisted_rudp.service.options import Options, makeService
from twisted_rudp.service.tracing import FileService, endTraces, traceSessions, tracing
from twisted_rudp.testing import Fate, MemoryNetwork
from twisted_rudp.tracing.qlog import Packet


class Failing:
    """A reader with an error."""

    opaque = False

    def sent(self, datagram: Any, count: int) -> Packet:
        raise ZeroDivisionError

    received = sent


class TraceTests(SynchronousTestCase):
    """L{traceSessions}."""

    def setUp(self) -> None:
        self.folder = self.mktemp()
        self.addCleanup(endTraces)

    def traces(self) -> list[list[Any]]:
        """The events of each trace; all keep to the schema."""
        endTraces()
        return [events(path.read_bytes()) for path in sorted(Path(self.folder).iterdir())]

    def named(self, found: list[Any], name: str) -> list[Any]:
        return [each["data"] for each in found if each["name"] == name]

    def test_transports(self) -> None:
        """
        Both ends of each transport: what the traces say was sent and received is what the
        network says, and the losses that were repaired are there.
        """
        for wire in ("kcp", "raknet", "qotp"):
            self.folder = self.mktemp()
            traceSessions(self.folder)
            network = talk(self.mktemp(), wire)
            client, server = self.traces()
            address = network.hosts[0].address
            sent = [each for each in network.trace if each.source[0] == address]
            for found in (client, server):
                self.assertEqual(found[0]["name"], "connectivity:connection_started")
                self.assertEqual(found[-1]["name"], "connectivity:connection_closed")
                self.assertEqual(found[-1]["data"]["trigger"], "clean")
                [parameters] = self.named(found, "transport:parameters_set")
                self.assertEqual(parameters["owner"], "local")
                self.assertTrue(self.named(found, "recovery:packet_lost"), wire)
                metrics = self.named(found, "recovery:metrics_updated")
                trips = [each["smoothed_rtt"] for each in metrics if "smoothed_rtt" in each]
                self.assertTrue(all(39 < trip < 100 for trip in trips), trips)
                self.assertTrue(any("congestion_window" in each for each in metrics))
                states = self.named(found, "recovery:congestion_state_updated")
                self.assertIn("recovery", {each["new"] for each in states})
            packets = self.named(client, "transport:packet_sent")
            lengths = [each["raw"]["length"] for each in packets]
            # All but what the tail of the connection and the handshake outside of it have.
            self.assertGreater(sum(lengths), SIZE)
            whole = [len(each.data) for each in sent]
            start = next(i for i in range(len(whole)) if whole[i : i + len(lengths)] == lengths)
            self.assertLess(start, 5)
            arrived = sum(
                len(each.data)
                for each in network.trace
                if each.source[0] != address and each.fate is Fate.DELIVERED
            )
            received = self.named(client, "transport:packet_received")
            self.assertLessEqual(sum(each["raw"]["length"] for each in received), arrived)

    def test_lost(self) -> None:
        """The datagrams of KCP and RakNet that are told as lost are those that were."""
        for wire in ("kcp", "raknet"):
            self.folder = self.mktemp()
            traceSessions(self.folder)
            network = talk(self.mktemp(), wire)
            client = self.traces()[0]
            address = network.hosts[0].address
            mine = [each for each in network.trace if each.source[0] == address]
            reallyLost = {each.data for each in mine if each.fate is not Fate.DELIVERED}
            told = {
                each["header"]["packet_number"]
                for each in self.named(client, "recovery:packet_lost")
            }
            sent = self.named(client, "transport:packet_sent")
            lengths = {
                each["raw"]["length"]
                for each in sent
                if each["header"].get("packet_number") in told
            }
            self.assertTrue(told)
            self.assertLessEqual(len(told), len(reallyLost) + 1, wire)
            self.assertTrue(lengths & {len(each) for each in reallyLost})

    def test_acknowledged(self) -> None:
        """Acknowledgements name datagrams that were sent."""
        traceSessions(self.folder)
        talk(self.mktemp(), "kcp")
        talk(self.mktemp(), "raknet")
        for found in self.traces():
            sent = {
                each["header"].get("packet_number")
                for each in self.named(found, "transport:packet_sent")
            }
            acked = [
                number
                for each in self.named(found, "transport:packet_received")
                for frame in each.get("frames", ())
                for low, high in frame.get("acked_ranges", ())
                for number in range(low, high + 1)
            ]
            self.assertTrue(acked)
            self.assertLessEqual(set(acked), sent)

    def test_off(self) -> None:
        """Without traces sessions are as they always are."""
        for on, kind in ((False, "Session"), (True, "TracedSession"), (False, "Session")):
            endTraces()
            if on:
                traceSessions(self.folder)
            kinds: set[str] = set()
            dial = Hub.dial

            def noting(hub: Hub, *given: Any, kinds: set[str] = kinds, dial: Any = dial) -> Any:
                session = dial(hub, *given)
                kinds.add(type(session).__name__)
                return session

            self.patch(Hub, "dial", noting)
            talk(self.mktemp(), "kcp")
            self.patch(Hub, "dial", dial)
            self.assertEqual(kinds, {kind})

    def test_failing(self) -> None:
        """An error in what writes a trace ends the trace, is logged, and hurts no session."""
        tracer = traceSessions(self.folder)
        traced.traces.tracer = type(tracer)(self.folder, readers={"kcp": Failing})
        talk(self.mktemp(), "kcp")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual([len(each) for each in self.traces()], [1, 1])

    def test_endsWithTheLast(self) -> None:
        """The end of a session is noted when all traces end because of it."""
        traceSessions(self.folder)
        self.patch(Echo, "connectionLost", lambda protocol, reason: endTraces())
        talk(self.mktemp(), "kcp")
        self.assertEqual(self.traces()[1][-1]["name"], "connectivity:connection_closed")

    def test_full(self) -> None:
        """A session whose trace is full goes on, and its end is noted."""
        traceSessions(self.folder, limit=4000)
        talk(self.mktemp(), "kcp")
        for found in self.traces():
            self.assertEqual(found[-1]["name"], "connectivity:connection_closed")
            self.assertLess(len(found), 20)

    def test_tooMany(self) -> None:
        """A session that is one too many is as without traces."""
        traceSessions(self.folder, files=1)
        talk(self.mktemp(), "kcp")
        self.assertEqual(len(self.traces()), 1)


class TraceServiceTests(SynchronousTestCase):
    """C{--trace} and C{--pcap}."""

    def test_lifetime(self) -> None:
        """From the start of the services to the end of the reactor."""
        reactor = MemoryNetwork().host("a").reactor
        folder = self.mktemp()
        [service] = tracing(reactor, folder, None)
        service.startService()
        self.addCleanup(endTraces)
        self.assertIsNotNone(traced.traces.tracer)
        self.assertTrue(os.path.isdir(folder))
        service.stopService()
        self.assertIsNotNone(traced.traces.tracer)
        reactor.fireSystemEvent("shutdown")
        self.assertIsNone(traced.traces.tracer)

    def test_refused(self) -> None:
        """A folder that cannot be is an error at the start."""
        path = self.mktemp()
        Path(path).touch()
        for service in tracing(Clock(), path, f"{path}/x"):
            problem = self.assertRaises(StartupError, service.startService)
            self.assertRegex(str(problem), f"--(trace|pcap) {path}")

    def test_options(self) -> None:
        """On the command line, and in a file; the first of the services."""
        config = self.mktemp()
        Path(config).write_text('trace = "t"\npcap = "p"\n[[echo]]\nlisten = "kcp:0"\n')
        line = ["echo", "--listen", "kcp:0", "--trace=t", "--pcap=p"]
        for arguments in (line, ["--config", config]):
            options = Options()
            options.parseOptions(arguments)
            first, second, *_ = makeService(options)  # type: ignore[misc]
            self.assertIsInstance(first, FileService)
            self.assertIsInstance(second, FileService)

    def test_capture(self) -> None:
        """A capture for each process, whose ports are noted from the start."""
        network = MemoryNetwork()
        path = self.mktemp() + ".pcapng"
        [capturing] = tracing(network.host("a").reactor, None, path, worker=3)
        capturing.startService()
        self.addCleanup(endCapture)
        talk(self.mktemp(), "kcp")
        network.hosts[0].reactor.fireSystemEvent("shutdown")
        found = read(path.replace(".pcapng", ".3.pcapng"))
        self.assertGreater(sum(len(each.data) for each in found), 2 * SIZE)
