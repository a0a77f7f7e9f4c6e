"""
What qvis makes of a trace, after its own sources (quiclog/qvis, its loader for JSON-SEQ, its
congestion and its sequence view). qvis itself is a web application that no package has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tests.tracing.schema import records

SUFFIXES = (".sqlog", ".qlogseq")
"""Names of files that it reads as JSON-SEQ."""

VERSIONS = ("draft-02", "draft-02-RC1", "qlog-03-WIP", "0.3")
"""Versions whose events are objects with C{time}, C{name} and C{data}."""


class Trace(NamedTuple):
    """
    What its loader keeps.

    @ivar vantage: C{client} or C{server}: the side of the sequence view.
    @ivar began: milliseconds since 1970.
    """

    vantage: str
    began: float
    events: list[Any]

    def named(self, name: str) -> list[Any]:
        """The data of the events of that name, each with its time."""
        return [
            {**each["data"], "time": each["time"]} for each in self.events if each["name"] == name
        ]


def loaded(path: Path) -> Trace:
    """
    As it loads a file.

    @raise AssertionError: it refuses the file, complains, or puts the events into another order.
    """
    assert path.name.endswith(SUFFIXES), path
    header, *events = records(path.read_bytes())
    assert header["qlog_format"] == "JSON-SEQ", header
    assert header["qlog_version"] in VERSIONS, header
    trace = header["trace"]
    common = trace["common_fields"]
    assert common["time_format"] == "relative", common
    # What it would take for another way to write events, or for several connections in one file.
    assert not {"event_fields", "error_description", "configuration"} & trace.keys(), trace
    assert not any("group_id" in each for each in events)
    times = [float(each["time"]) for each in events]
    assert times == sorted(times)
    for each in events:
        assert each["name"].count(":") == 1, each
        # Fields of drafts before, of which it warns.
        assert not {"packet_size", "payload_length"} & each["data"].get("header", {}).keys(), each
        assert "packet_type" not in each["data"], each
    return Trace(trace["vantage_point"]["type"], float(common["reference_time"]), events)


class Congestion(NamedTuple):
    """
    What its congestion view draws.

    @ivar sent: bytes sent, one bar for each datagram, by its number.
    @ivar acknowledged: numbers of bars with the mark of an acknowledgement.
    @ivar lost: numbers of bars with the mark of a loss.
    @ivar lines: points of the lines for round trip, window and bytes in flight.
    """

    sent: dict[int, int]
    acknowledged: set[int]
    lost: set[int]
    lines: dict[str, list[tuple[float, float]]]


def congestion(trace: Trace) -> Congestion:
    """As its congestion view draws the side that sends."""
    sent: dict[int, int] = {}
    for packet in trace.named("transport:packet_sent"):
        # Without a length it leaves a datagram out; without a number nothing can point at it.
        length = packet["raw"]["length"]
        assert length > 0, packet
        number = packet["header"].get("packet_number")
        if number is not None:
            assert number not in sent, number
            sent[number] = length
    acknowledged = {
        number
        for packet in trace.named("transport:packet_received")
        for frame in packet.get("frames", ())
        if frame["frame_type"] == "ack"
        for low, high in frame["acked_ranges"]
        for number in range(low, high + 1)
    }
    lost = {
        packet["header"]["packet_number"]
        for packet in trace.named("recovery:packet_lost")
        if "packet_number" in packet["header"]
    }
    lines: dict[str, list[tuple[float, float]]] = {}
    for metrics in trace.named("recovery:metrics_updated"):
        for name in ("smoothed_rtt", "congestion_window", "bytes_in_flight"):
            # It takes 0 for no value.
            if metrics.get(name):
                lines.setdefault(name, []).append((metrics["time"], metrics[name]))
    return Congestion(sent, acknowledged, lost, lines)


class Arrow(NamedTuple):
    """
    A datagram in its sequence view.

    @ivar text: type and number, then what its frames are called.
    """

    name: str
    text: str


def sequence(trace: Trace) -> list[Arrow]:
    """As its sequence view draws a trace beside the other side, which it makes up."""
    assert trace.vantage in ("client", "server")
    arrows = []
    for each in trace.events:
        if each["name"] in ("transport:packet_sent", "transport:packet_received"):
            header = each["data"]["header"]
            if "packet_number" in header:
                frames = [frame["frame_type"] for frame in each["data"].get("frames", ())]
                words = [f"{header['packet_type']} : {header['packet_number']}", *frames]
                arrows.append(Arrow(each["name"], " ".join(words)))
    return arrows
