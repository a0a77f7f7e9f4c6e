"""Tests for L{twisted_rudp.tracing.series}."""

from __future__ import annotations

import io
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.tracing.series import LONGEST_RECORD, Series, TraceError, rates, read

HEADER = {"qlog_format": "JSON-SEQ", "qlog_version": "0.3", "title": "kcp client"}

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def event(time: Any, name: Any, **data: Any) -> dict[str, Any]:
    return {"time": time, "name": name, "data": data}


def sequence(*records: Any) -> bytes:
    return b"".join(b"\x1e" + json.dumps(each).encode() + b"\n" for each in (HEADER, *records))


def parsed(data: bytes) -> Series:
    return read(io.BytesIO(data))


class SeriesTests(SynchronousTestCase):
    """L{read} and L{rates}."""

    def test_events(self) -> None:
        """Each event goes where it belongs, times in seconds."""
        found = parsed(
            sequence(
                event(500, "transport:packet_sent", raw={"length": 100}),
                event(600.5, "transport:packet_received", raw={"length": 50}),
                event(700, "recovery:packet_lost"),
                event(800, "recovery:metrics_updated", smoothed_rtt=20.5, bytes_in_flight=7),
                event(900, "connectivity:connection_closed", reason="done"),
            )
        )
        self.assertEqual(found.sent, [(0.5, 100)])
        self.assertEqual(found.received, [(0.6005, 50)])
        self.assertEqual(found.lost, [0.7])
        self.assertEqual(found.metrics["smoothed_rtt"], [(0.8, 20.5)])
        self.assertEqual(found.metrics["bytes_in_flight"], [(0.8, 7)])
        self.assertEqual((found.end, found.reason, found.title), (0.9, "done", "kcp client"))
        self.assertEqual(found.broken, "")

    def test_broken(self) -> None:
        """What comes before a broken place is there."""
        whole = sequence(*[event(n, "recovery:packet_lost") for n in range(3)])
        for data in (whole[:-5], whole + b"no record\n", whole + b"\x1e[]\n", whole + b"\x1e{\n"):
            found = parsed(data)
            self.assertGreaterEqual(len(found.lost), 2)
            self.assertIn("record ", found.broken)

    def test_others(self) -> None:
        """Other files are no traces, however long their lines are."""
        for data in (b"", b"{}\n", b"\x1e{}\n", b"\x1e" + b"[" * 2 * LONGEST_RECORD):
            self.assertRaises(TraceError, parsed, data)

    def test_rates(self) -> None:
        """Bits of each part of the time, by its length."""
        packets = [(0.0, 125_000), (0.4, 125_000), (1.0, 250_000)]
        self.assertEqual(rates(packets, 1.0, 2), [(0.0, 4.0), (0.5, 0.0), (1.0, 4.0)])
        self.assertEqual(rates([], 0.0, 10), [(0.0, 0.0)])

    @given(st.lists(ANY | st.builds(event, ANY, st.sampled_from([
        "transport:packet_sent", "recovery:metrics_updated", "connectivity:connection_closed",
    ]), raw=ANY, smoothed_rtt=ANY, reason=ANY), max_size=4))  # fmt: skip
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_anything(self, records: list[Any]) -> None:
        """Whatever the records are, what can be drawn is read."""
        found = parsed(sequence(*records))
        self.assertTrue(all(isinstance(length, int) for _, length in found.sent))
