"""
The parts of qlog's schema that traces use, after the CDDL of
draft-ietf-quic-qlog-main-schema-02 and draft-ietf-quic-qlog-quic-events-02.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Check = Callable[[Any], bool]


def text(value: Any) -> bool:
    return isinstance(value, str)


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def unsigned(bits: int) -> Check:
    return lambda value: type(value) is int and 0 <= value < 1 << bits


def one(*values: str) -> Check:
    return lambda value: value in values


def maybe(check: Check) -> Check:
    """An optional field."""

    def checked(value: Any) -> bool:
        return value is None or check(value)

    checked.optional = True  # type: ignore[attr-defined]
    return checked


def rows(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def record(open: bool, **fields: Check) -> Check:
    """
    An object with these fields.

    @param open: it may have others, where the draft has an extension point.
    """

    def checked(value: Any) -> bool:
        if not isinstance(value, dict) or not (open or value.keys() <= fields.keys()):
            return False
        needed = {name for name, check in fields.items() if not hasattr(check, "optional")}
        return needed <= value.keys() and all(
            check(value[name]) for name, check in fields.items() if name in value
        )

    return checked


HEADER = record(
    False,
    qlog_format=one("JSON-SEQ"),
    qlog_version=one("0.3"),
    title=maybe(text),
    description=maybe(text),
    trace=record(
        False,
        title=maybe(text),
        description=maybe(text),
        vantage_point=record(False, name=maybe(text), type=one("client", "server", "network")),
        common_fields=record(
            True,
            time_format=one("absolute", "delta", "relative"),
            reference_time=number,
            protocol_type=rows(text),
        ),
    ),
)

STATES = (
    *("attempted", "peer_validated", "handshake_started", "early_write", "handshake_complete"),
    *("handshake_confirmed", "closing", "draining", "closed"),
)

PACKET_HEADER = record(
    False,
    packet_type=one("initial", "handshake", "0RTT", "1RTT", "retry", "unknown"),
    packet_number=maybe(unsigned(64)),
)


def frame(value: Any) -> bool:
    """A frame of QUIC, or of a kind that the draft does not have."""
    kind = value.get("frame_type") if isinstance(value, dict) else None
    if kind == "ack":
        ranges = value["acked_ranges"]
        return rows(rows(unsigned(64)))(ranges) and all(low <= high for low, high in ranges)
    if kind == "unknown":
        return unsigned(64)(value["frame_type_value"])
    return kind in ("push", "ack_segment", "wask", "wins", "message")


PACKET = record(
    False,
    header=PACKET_HEADER,
    frames=maybe(rows(frame)),
    raw=record(False, length=unsigned(64), payload_length=maybe(unsigned(64))),
)

EVENTS = {
    "connectivity:connection_started": record(
        False,
        ip_version=one("v4", "v6"),
        src_ip=text,
        dst_ip=text,
        protocol=maybe(text),
        src_port=maybe(unsigned(16)),
        dst_port=maybe(unsigned(16)),
    ),
    "connectivity:connection_state_updated": record(
        False, old=maybe(one(*STATES)), new=one(*STATES)
    ),
    "connectivity:connection_closed": record(
        False,
        owner=one("local", "remote"),
        reason=maybe(text),
        trigger=maybe(
            one(
                *("clean", "handshake_timeout", "idle_timeout", "error"),
                *("stateless_reset", "version_mismatch", "application"),
            )
        ),
    ),
    "transport:parameters_set": record(
        True, owner=one("local", "remote"), max_udp_payload_size=maybe(unsigned(32))
    ),
    "transport:packet_sent": PACKET,
    "transport:packet_received": PACKET,
    "recovery:metrics_updated": record(
        False,
        smoothed_rtt=maybe(number),
        rtt_variance=maybe(number),
        congestion_window=maybe(unsigned(64)),
        bytes_in_flight=maybe(unsigned(64)),
    ),
    "recovery:congestion_state_updated": record(False, old=maybe(text), new=text),
    "recovery:packet_lost": record(False, header=maybe(PACKET_HEADER)),
}


def records(data: bytes) -> list[Any]:
    """The records of a JSON text sequence (RFC 7464)."""
    first, *texts = data.split(b"\x1e")
    assert not first, first
    assert all(text.endswith(b"\n") for text in texts)
    return list(map(json.loads, texts))


def events(data: bytes) -> list[Any]:
    """
    The events of a trace in JSON-SEQ.

    @raise AssertionError: it does not keep to the schema.
    """
    header, *found = records(data)
    assert HEADER(header), header
    before = 0.0
    for each in found:
        assert each.keys() == {"time", "name", "data"}, each
        assert number(each["time"]) and each["time"] >= before, each
        assert EVENTS[each["name"]](each["data"]), each
        before = each["time"]
    return found
