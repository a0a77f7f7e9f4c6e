"""Tests for L{twisted_rudp.tracing.qlog}, against the schema of qlog."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.python.runtime import platform
from twisted.trial.unittest import SynchronousTestCase

from tests.tracing.schema import events, records
from twisted_rudp.core.engine import MILLISECOND, SECOND, Reason
from twisted_rudp.tracing.qlog import MOST_OPEN, Opaque, SessionTrace, Tracer

OWN, PEER = ("::ffff:192.0.2.1", 1, 0, 0), ("192.0.2.2", 2)


class TracerTests(SynchronousTestCase):
    """L{Tracer} and L{SessionTrace}."""

    def setUp(self) -> None:
        self.folder = self.mktemp()

    def begin(self, tracer: Tracer, dialled: bool = True) -> SessionTrace:
        trace = tracer.begin("kcp", dialled, 5 * SECOND, 100.5, OWN, PEER)
        assert trace is not None
        return trace

    def read(self) -> list[bytes]:
        """The files, in their order."""
        return [path.read_bytes() for path in sorted(Path(self.folder).iterdir())]

    def test_begin(self) -> None:
        """A private file, a header, and who dialled whom."""
        tracer = Tracer(self.folder)
        self.begin(tracer).close()
        self.begin(tracer, False).close()
        paths = sorted(Path(self.folder).iterdir())
        self.assertEqual({os.stat(path).st_mode & 0o777 for path in paths}, {0o600})
        self.assertEqual(os.stat(self.folder).st_mode & 0o777, 0o700)
        self.assertTrue(paths[0].name.endswith("-0001-kcp-client.sqlog"))
        header = records(paths[0].read_bytes())[0]
        self.assertEqual(header["trace"]["common_fields"]["reference_time"], 100_500)
        for path, source in zip(paths, ("192.0.2.1", "192.0.2.2"), strict=True):
            [started] = events(path.read_bytes())
            self.assertEqual((started["time"], started["data"]["src_ip"]), (0, source))

    def test_packets(self) -> None:
        """Runs are noted datagram by datagram, with times from the beginning."""
        tracer = Tracer(self.folder)
        trace = self.begin(tracer)
        self.assertTrue(trace.opaque)
        trace.sent(5 * SECOND + 1_500_000, b"aabbc", 2, 7)
        trace.received(5 * SECOND + 2_000_000, b"dd", 2)
        trace.close()
        _, *found = events(self.read()[0])
        self.assertEqual(
            [
                (each["time"], each["data"]["header"]["packet_number"], each["data"]["raw"])
                for each in found
            ],
            [
                (1.5, 7, {"length": 2}),
                (1.5, 8, {"length": 2}),
                (1.5, 9, {"length": 1}),
                (2.0, 0, {"length": 2}),
            ],
        )

    def test_metrics(self) -> None:
        """What changes is noted, not more often than each millisecond; and the state."""
        trace = self.begin(Tracer(self.folder))
        facts = {"round_trip": 0.02, "congestion_window": 10_000, "bytes_in_flight": 9_000}
        now = 5 * SECOND
        trace.metrics(now, facts, 0)
        self.assertFalse(trace.due(now + MILLISECOND - 1))
        trace.metrics(now + MILLISECOND, {**facts, "bytes_in_flight": 10_000}, 5)
        trace.metrics(now + 2 * MILLISECOND, {**facts, "bytes_in_flight": 10_000}, 5, lost=2)
        trace.metrics(now + 30 * MILLISECOND, {**facts, "bytes_in_flight": 10_000}, 5, lost=2)
        trace.close()
        _, *found = events(self.read()[0])
        self.assertEqual(
            [(each["name"].partition(":")[2], each["data"]) for each in found],
            [
                (
                    "metrics_updated",
                    {"smoothed_rtt": 20, "congestion_window": 10_000, "bytes_in_flight": 9_000},
                ),
                ("congestion_state_updated", {"new": "application_limited"}),
                ("metrics_updated", {"bytes_in_flight": 10_000}),
                ("congestion_state_updated", {"old": "application_limited", "new": "slow_start"}),
                ("packet_lost", {"header": {"packet_type": "initial"}}),
                ("packet_lost", {"header": {"packet_type": "initial"}}),
                ("congestion_state_updated", {"old": "slow_start", "new": "recovery"}),
                ("congestion_state_updated", {"old": "recovery", "new": "congestion_avoidance"}),
            ],
        )

    def test_kcpWindow(self) -> None:
        """KCP's window of segments is told in bytes."""
        trace = self.begin(Tracer(self.folder))
        trace.metrics(5 * SECOND, {"send_window": 10, "peer_window": 5, "mss": 100}, 0)
        trace.close()
        self.assertEqual(events(self.read()[0])[1]["data"], {"congestion_window": 500})

    def test_ends(self) -> None:
        """Each reason for an end has a word of the schema."""
        tracer = Tracer(self.folder)
        for reason in Reason:
            self.begin(tracer).end(6 * SECOND, reason, "x" * 10_000)
        self.assertEqual(tracer.open, set())
        for reason, data in zip(Reason, self.read(), strict=True):
            closed = events(data)[-1]
            self.assertEqual(closed["time"], 1000)
            self.assertTrue(closed["data"]["reason"].startswith(reason.value))

    def test_bounded(self) -> None:
        """A full file gets nothing more but the end, and stays within its limit."""
        trace = self.begin(Tracer(self.folder, limit=5000))
        for _ in range(100):
            trace.sent(5 * SECOND, bytes(100), 100)
        trace.end(6 * SECOND, Reason.IDLE, None)
        self.assertTrue(trace.full)
        [data] = self.read()
        self.assertLess(len(data), 5000)
        self.assertEqual(events(data)[-1]["data"]["trigger"], "idle_timeout")

    def test_files(self) -> None:
        """So many files and no more, and so many at one time."""
        tracer = Tracer(self.folder, files=2)
        self.begin(tracer), self.begin(tracer)
        self.assertIsNone(tracer.begin("kcp", True, 0, 0.0, OWN, PEER))
        self.assertEqual((tracer.dropped, len(os.listdir(self.folder))), (1, 2))
        tracer.close()
        many = Tracer(self.mktemp())
        begun = [many.begin("kcp", True, 0, 0.0, OWN, PEER) for _ in range(MOST_OPEN + 1)]
        self.assertEqual(begun.index(None), MOST_OPEN)
        many.close()
        self.assertEqual(many.open, set())

    def test_disk(self) -> None:
        """A folder that goes away ends the tracing, and is told once."""
        problems: list[OSError] = []
        tracer = Tracer(self.folder, failed=problems.append)
        os.rmdir(self.folder)
        for _ in range(2):
            self.assertIsNone(tracer.begin("kcp", True, 0, 0.0, OWN, PEER))
        self.assertEqual(len(problems), 1)
        if platform.isLinux():
            self.assertRaises(OSError, Tracer, "/proc/nowhere")

    def test_opaque(self) -> None:
        """What cannot be read is counted."""
        self.assertEqual(Opaque().sent(b"x", 3).number, 3)
        self.assertEqual(Opaque().received(b"x", 4).number, 4)
