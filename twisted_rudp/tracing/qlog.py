"""
Traces of sessions in qlog (draft-ietf-quic-qlog-main-schema-02, version 0.3) as JSON-SEQ: a
C{.sqlog} file for each session, with events of its connectivity, transport and recovery.
qvis and C{rudp plot} read them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, Final, NamedTuple, Protocol

from twisted_rudp import __version__
from twisted_rudp.core.engine import MILLISECOND, SECOND, Address, Buffer, Reason
from twisted_rudp.tracing.files import TraceFile

SUFFIX: Final = ".sqlog"
RECORD: Final = b"\x1e"

LARGEST_TRACE: Final = 64 << 20
"""Bytes of one file; a session goes on without being traced."""

RESERVED: Final = 2048
"""Bytes of a file that are kept for its last event."""

MOST_FILES: Final = 1000
"""Files in one directory; further sessions are not traced."""

MOST_OPEN: Final = 256
"""Sessions traced at one time."""

METRICS_INTERVAL: Final = MILLISECOND
"""What changes faster is noted no more often."""

FLUSH_INTERVAL: Final = SECOND
"""Readers see what is older than this."""


class Packet(NamedTuple):
    """
    What a datagram says, for those who can read it.

    @ivar number: its number on the wire, or among those of the session; None: it has none.
    @ivar frames: as qlog has them, each with a C{frame_type}.
    @ivar lost: the numbers of datagrams that this one shows were lost.
    """

    number: int | None
    frames: list[dict[str, Any]]
    lost: tuple[int, ...] = ()


class PacketReader(Protocol):
    """
    Reads the datagrams of one session, before they are sealed and after they are opened.

    @ivar opaque: it cannot; what was lost, and the numbers, are for the engine to tell.
    """

    opaque: bool

    def sent(self, datagram: Buffer, count: int) -> Packet:
        """
        @param count: datagrams sent before.
        """

    def received(self, datagram: Buffer, count: int) -> Packet:
        """
        @param count: datagrams received before.
        """


class Opaque:
    """Datagrams that nobody can read; they are counted."""

    opaque = True

    def sent(self, datagram: Buffer, count: int) -> Packet:
        return Packet(count, [])

    def received(self, datagram: Buffer, count: int) -> Packet:
        return Packet(count, [])


class Tracer:
    """
    A directory with the traces of sessions.

    @ivar dropped: sessions that were not traced, because of a bound or an error.
    @ivar open: those that are being traced.
    """

    def __init__(
        self,
        directory: str,
        *,
        readers: Mapping[str, Callable[[], PacketReader]] | None = None,
        limit: int = LARGEST_TRACE,
        files: int = MOST_FILES,
        failed: Callable[[OSError], object] | None = None,
    ) -> None:
        """
        @param directory: made if it is not there, for its owner only.
        @param readers: of datagrams, by the name of the transport.
        @param limit: bytes of each file.
        @param files: of this process in the directory.
        @param failed: told once if the disk fails.
        @raise OSError: the directory cannot be written.
        """
        os.makedirs(directory, 0o700, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied", directory)
        self._directory = directory
        self._readers = readers or {}
        self._limit = limit
        self._files = files
        self._failed = failed
        self._made = 0
        self.dropped = 0
        self.open: set[SessionTrace] = set()

    def begin(
        self, transport: str, dialled: bool, now: int, seconds: float, own: Address, peer: Address
    ) -> SessionTrace | None:
        """
        Trace a session.

        @param transport: its name.
        @param now: nanoseconds on the clock of its events.
        @param seconds: the same moment since 1970.
        @return: None if there are too many already, or the disk fails.
        """
        if self._made >= self._files or len(self.open) >= MOST_OPEN:
            self.dropped += 1
            return None
        self._made += 1
        role = "client" if dialled else "server"
        name = f"{os.getpid()}-{self._made:04d}-{transport}-{role}{SUFFIX}"
        try:
            file = TraceFile(os.path.join(self._directory, name), self._limit, self._fail)
        except OSError as problem:
            self._fail(problem)
            return None
        reader = self._readers.get(transport, Opaque)()
        trace = SessionTrace(file, self._limit, reader, transport, now, self.open.discard)
        self.open.add(trace)
        trace.start(role, seconds, own, peer)
        return trace

    def _fail(self, problem: OSError) -> None:
        """Give tracing up, and say so once."""
        self._files = 0
        failed, self._failed = self._failed, None
        if failed is not None:
            failed(problem)

    def close(self) -> None:
        """End all traces. Harmless when repeated."""
        self._files = 0
        for trace in list(self.open):
            trace.close()


class SessionTrace:
    """
    The trace of one session. Times are nanoseconds of the session's clock.

    @ivar full: nothing more fits but the end.
    """

    def __init__(
        self,
        file: TraceFile,
        limit: int,
        reader: PacketReader,
        transport: str,
        began: int,
        closed: Callable[[SessionTrace], None],
    ) -> None:
        self._file = file
        self._limit = limit - RESERVED
        self._reader = reader
        self._transport = transport
        self._began = began
        self._closed = closed
        self.full = False
        self._flushed = began
        self._measured = began - METRICS_INTERVAL
        self._metrics: dict[str, Any] = {}
        self._state = ""
        self._sent = 0
        self._received = 0
        self._lost = 0
        self._lost_at = began - SECOND
        self._packet_type = "initial"

    def start(self, role: str, seconds: float, own: Address, peer: Address) -> None:
        """Write the header and the first event."""
        self._write(
            {
                "qlog_format": "JSON-SEQ",
                "qlog_version": "0.3",
                "title": f"{self._transport} {role}",
                "description": f"twisted_rudp {__version__}",
                "trace": {
                    "vantage_point": {"name": "twisted_rudp", "type": role},
                    "common_fields": {
                        "time_format": "relative",
                        "reference_time": round(seconds * 1000, 3),
                        "protocol_type": [self._transport.upper()],
                    },
                },
            }
        )
        ends = (own, peer) if role == "client" else (peer, own)
        (source, source_port), (destination, destination_port) = map(_place, ends)
        self._event(
            self._began,
            "connectivity:connection_started",
            {
                "ip_version": "v6" if ":" in destination else "v4",
                "src_ip": source,
                "dst_ip": destination,
                "protocol": self._transport.upper(),
                "src_port": source_port,
                "dst_port": destination_port,
            },
        )

    def parameters(self, now: int, facts: Mapping[str, Any]) -> None:
        """The session is connected, with these facts."""
        self._packet_type = "1RTT"
        known = {name: facts[name] for name in _PARAMETERS if facts.get(name) is not None}
        data: dict[str, Any] = {"owner": "local", **known}
        if "mtu" in known:
            data["max_udp_payload_size"] = data.pop("mtu")
        self._event(now, "connectivity:connection_state_updated", {"new": "handshake_confirmed"})
        self._event(now, "transport:parameters_set", data)

    def sent(self, now: int, run: Buffer, size: int, first: int | None = None) -> None:
        """
        A run was sent, before sealing.

        @param first: the wire's number of its first datagram, if that is known.
        """
        view = memoryview(run)
        for at in range(0, len(view), size):
            datagram = view[at : at + size]
            packet = self._reader.sent(datagram, self._sent)
            if first is not None:
                packet = packet._replace(number=first + at // size)
            self._sent += 1
            for number in packet.lost:
                self._packet_lost(now, number)
            self._packet(now, "transport:packet_sent", packet, len(datagram))

    def received(self, now: int, run: Buffer, size: int) -> None:
        """A run was received, after it was opened."""
        view = memoryview(run)
        for at in range(0, len(view), size):
            datagram = view[at : at + size]
            packet = self._reader.received(datagram, self._received)
            self._received += 1
            self._packet(now, "transport:packet_received", packet, len(datagram))

    @property
    def opaque(self) -> bool:
        """See L{PacketReader}."""
        return self._reader.opaque

    def due(self, now: int) -> bool:
        """Whether L{metrics} would note something."""
        return now - self._measured >= METRICS_INTERVAL

    def metrics(
        self, now: int, facts: Mapping[str, Any], unsent: int, lost: int | None = None
    ) -> None:
        """
        Note how the session is doing, if that has changed.

        @param unsent: bytes that wait for the window.
        @param lost: datagrams taken for lost so far, where datagrams cannot be read.
        """
        if lost is not None and lost > self._lost:
            for _ in range(min(lost - self._lost, 1000)):
                self._packet_lost(now, None)
            self._lost = lost
        self._measured = now
        metrics = _metrics(facts)
        changed = {
            name: value for name, value in metrics.items() if self._metrics.get(name) != value
        }
        if changed:
            self._metrics = metrics
            self._event(now, "recovery:metrics_updated", changed)
        state = self._congestion(now, metrics, unsent)
        if state != self._state:
            data = {"old": self._state} if self._state else {}
            self._event(now, "recovery:congestion_state_updated", {**data, "new": state})
            self._state = state
        if now - self._flushed >= FLUSH_INTERVAL:
            self._flushed = now
            self._file.flush()

    def _congestion(self, now: int, metrics: Mapping[str, Any], unsent: int) -> str:
        """What the sender does, as it is seen from outside."""
        round_trip = metrics.get("smoothed_rtt", 0.0) * MILLISECOND
        if now - self._lost_at <= round_trip:
            return "recovery"
        if not unsent and metrics.get("bytes_in_flight", 0) < metrics.get("congestion_window", 0):
            return "application_limited"
        return "congestion_avoidance" if self._lost_at > self._began - SECOND else "slow_start"

    def end(self, now: int, reason: Reason, detail: str | None) -> None:
        """The session is over."""
        owner = "remote" if reason in _REMOTE else "local"
        data = {"owner": owner, "trigger": _TRIGGERS.get(reason, "error"), "reason": reason.value}
        if detail:
            data["reason"] += f": {detail}"
        # Within what is reserved for it, however long the detail is.
        data["reason"] = data["reason"][: RESERVED // 8]
        self._limit += RESERVED
        self._event(now, "connectivity:connection_closed", data)
        self.close()

    def close(self) -> None:
        """Nothing more is written. Harmless when repeated."""
        self.full = True
        self._file.close()
        self._closed(self)

    # records

    def _packet_lost(self, now: int, number: int | None) -> None:
        self._lost_at = now
        header: dict[str, Any] = {"packet_type": self._packet_type}
        if number is not None:
            header["packet_number"] = number
        self._event(now, "recovery:packet_lost", {"header": header})

    def _packet(self, now: int, name: str, packet: Packet, length: int) -> None:
        header: dict[str, Any] = {"packet_type": self._packet_type}
        if packet.number is not None:
            header["packet_number"] = packet.number
        data: dict[str, Any] = {"header": header, "raw": {"length": length}}
        if packet.frames:
            data["frames"] = packet.frames
        self._event(now, name, data)

    def _event(self, now: int, name: str, data: Mapping[str, Any]) -> None:
        time = round((now - self._began) / MILLISECOND, 6)
        self._write({"time": time, "name": name, "data": data})

    def _write(self, record: Mapping[str, Any]) -> None:
        line = RECORD + json.dumps(record, separators=(",", ":")).encode() + b"\n"
        if self._file.size + len(line) <= self._limit:
            self._file.write(line)
        else:
            self._file.dropped += 1
            self.full = True


_PARAMETERS: Final = (
    "mtu",
    "mss",
    "conversation",
    "fec_out",
    "peer",
    "role",
    "connection_id",
    "peer_key_proved",
    "protocol",
    "peer_window",
    "receive_window",
    "congestion_window",
    "streams",
)
"""Facts that a session begins with."""

_REMOTE: Final = frozenset(
    {Reason.RESET, Reason.FORGOTTEN, Reason.REFUSED, Reason.FULL, Reason.BANNED, Reason.VERSION}
)

_TRIGGERS: Final[Mapping[Reason, str]] = {
    Reason.DONE: "clean",
    Reason.ABORTED: "application",
    Reason.RESET: "application",
    Reason.IDLE: "idle_timeout",
    Reason.HANDSHAKE_TIMEOUT: "handshake_timeout",
    Reason.VERSION: "version_mismatch",
}
"""The words of the draft, where it has one."""


def _metrics(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of the draft, of the facts of any transport."""
    metrics: dict[str, Any] = {}
    for name, fact in (("smoothed_rtt", "round_trip"), ("rtt_variance", "round_trip_variation")):
        value = facts.get(fact)
        if value:
            metrics[name] = round(value * 1000, 3)
    window = facts.get("congestion_window")
    if window is None and "send_window" in facts:
        # KCP counts its windows in segments.
        window = min(facts["send_window"], facts["peer_window"]) * facts["mss"]
    if window is not None:
        metrics["congestion_window"] = int(window)
    if "bytes_in_flight" in facts:
        metrics["bytes_in_flight"] = int(facts["bytes_in_flight"])
    return metrics


def _place(address: Address) -> tuple[str, int]:
    """Host and port, IPv4 as IPv4."""
    ip = ip_address(str(address[0]).partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return str(mapped or ip), int(address[1])
