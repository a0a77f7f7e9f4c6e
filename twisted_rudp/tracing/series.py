"""Reads traces, of L{twisted_rudp.tracing.qlog} and of others in that form, as series."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

LONGEST_RECORD: Final = 1 << 20
MOST_RECORDS: Final = 5_000_000

_SEPARATOR: Final = b"\x1e"

METRICS: Final = ("smoothed_rtt", "rtt_variance", "congestion_window", "bytes_in_flight")


class TraceError(ValueError):
    """A file is no trace, or is broken from some place on."""


@dataclass
class Series:
    """
    What a trace says. Times are seconds from its beginning.

    @ivar title: of the trace.
    @ivar sent: time and length of each datagram sent.
    @ivar received: the same of those received.
    @ivar lost: times at which datagrams were taken for lost.
    @ivar metrics: for each of L{METRICS} the times of its changes, and its values then.
    @ivar end: the time of the last event.
    @ivar reason: why the session ended; C{""} if the trace does not say.
    @ivar broken: why the rest could not be read; C{""} if all was.
    """

    title: str = ""
    sent: list[tuple[float, int]] = field(default_factory=list)
    received: list[tuple[float, int]] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    metrics: dict[str, list[tuple[float, float]]] = field(
        default_factory=lambda: {name: [] for name in METRICS}
    )
    end: float = 0.0
    reason: str = ""
    broken: str = ""


def read(file: BinaryIO) -> Series:
    """
    Read a trace. One that is broken from some place on, as of a program that was killed, is
    read up to there.

    @raise TraceError: it is no trace from its beginning.
    """
    records = _records(file)
    try:
        header = next(records, {})
    except TraceError:
        header = {}
    if header.get("qlog_format") != "JSON-SEQ":
        raise TraceError("not a qlog file in JSON-SEQ")
    title = header.get("title")
    series = Series(title if isinstance(title, str) else "")
    try:
        for record in records:
            _add(series, record)
    except TraceError as problem:
        series.broken = str(problem)
    return series


def _records(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """
    @raise TraceError: what follows is no record.
    """
    for number in range(1, MOST_RECORDS + 2):
        line = file.readline(LONGEST_RECORD)
        if not line:
            return
        if number > MOST_RECORDS:
            raise TraceError(f"more than {MOST_RECORDS} records")
        if not line.startswith(_SEPARATOR) or not line.endswith(b"\n"):
            raise TraceError(f"record {number} is cut short, or no record of JSON-SEQ")
        try:
            record = json.loads(line[1:])
        except (ValueError, RecursionError):
            raise TraceError(f"record {number} is no JSON") from None
        if not isinstance(record, dict):
            raise TraceError(f"record {number} is no object")
        yield record


def _add(series: Series, record: Mapping[str, Any]) -> None:
    """Take an event in; what is unknown, or is not what the schema says, is passed over."""
    data = record.get("data")
    time = _number(record.get("time"))
    if not isinstance(data, dict) or time is None:
        return
    seconds = time / 1000
    series.end = max(series.end, seconds)
    name = record.get("name")
    if name in ("transport:packet_sent", "transport:packet_received"):
        raw = data.get("raw")
        length = _number(raw.get("length")) if isinstance(raw, dict) else None
        target = series.sent if name == "transport:packet_sent" else series.received
        target.append((seconds, int(length or 0)))
    elif name == "recovery:packet_lost":
        series.lost.append(seconds)
    elif name == "recovery:metrics_updated":
        for metric, points in series.metrics.items():
            value = _number(data.get(metric))
            if value is not None:
                points.append((seconds, value))
    elif name == "connectivity:connection_closed":
        reason = data.get("reason")
        series.reason = reason if isinstance(reason, str) else ""


def _number(value: Any) -> float | None:
    """A number that can be drawn."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) and abs(value) < 1e18 else None
    except OverflowError:
        return None


def rates(packets: list[tuple[float, int]], end: float, bins: int) -> list[tuple[float, float]]:
    """
    The rate over time in Mbit/s.

    @param bins: into so many parts the time is cut.
    """
    width = max(end / bins, 1e-3)
    sums = [0] * (int(end / width) + 1)
    for seconds, length in packets:
        sums[min(max(int(seconds / width), 0), len(sums) - 1)] += length
    return [(number * width, total * 8 / width / 1e6) for number, total in enumerate(sums)]
