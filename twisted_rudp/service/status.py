"""C{rudp status}, C{top}, C{kick}, C{ban} and the other clients of a control socket."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TextIO

from twisted.internet.task import deferLater
from twisted.python import usage

from twisted_rudp.service.usage import UsageOptions, count, number, printable

TIMEOUT: Final = 10.0
"""Seconds to wait for an answer."""

MAX_ANSWER: Final = 256 << 20
"""Bytes of one answer."""

FAILED: Final = 1
"""Exit status when the socket does not answer, or refuses."""


class Row(NamedTuple):
    """
    One session in the words that all transports share. C{None} stands for what a transport
    does not count.

    @ivar port: the number of its port in the status.
    @ivar session: its number on that port.
    @ivar local: the address of the port.
    @ivar age: seconds.
    @ivar round_trip: seconds.
    @ivar window: bytes that may be in flight.
    @ivar queue: bytes that wait to be sent.
    @ivar streams: how many are open, where a session carries several.
    """

    port: int
    session: int
    local: str
    peer: str
    transport: str
    cipher: str | None
    state: str
    age: float
    round_trip: float | None
    window: int | None
    in_flight: int | None
    queue: int | None
    streams: int | None
    bytes_in: int | None
    bytes_out: int | None
    datagrams_in: int | None
    datagrams_out: int | None
    retransmitted: int | None
    lost: int | None
    fec_recovered: int | None


_NAMES: Mapping[str, Sequence[str]] = {
    "bytes_in": ("bytes_in", "InBytes"),
    "bytes_out": ("bytes_out", "OutBytes"),
    "datagrams_in": ("datagrams_in", "InPkts"),
    "datagrams_out": ("datagrams_out", "OutPkts"),
    "retransmitted": ("retransmitted", "RetransSegs"),
    "lost": ("lost", "LostSegs"),
    "fec_recovered": ("fec_recovered", "FECRecovered"),
}
"""The names of counters, and those that they have in the SNMP table of KCP."""


def rows(state: Mapping[str, Any]) -> Iterator[Row]:
    """All sessions of a status."""
    for port in state["ports"]:
        for session in port["sessions"]:
            facts, counters = session["facts"], session["counters"]
            window = facts.get("congestion_window")
            if window is None and "send_window" in facts:
                window = facts["send_window"] * facts.get("mss", 0)
            yield Row(
                port["port"],
                session["session"],
                port["address"],
                session["peer"],
                facts.get("transport", "?"),
                facts.get("cipher"),
                session["state"],
                session["age"],
                facts.get("round_trip"),
                window,
                facts.get("bytes_in_flight"),
                facts.get("bytes_unsent"),
                facts.get("streams"),
                **{
                    name: next((counters[each] for each in given if each in counters), None)
                    for name, given in _NAMES.items()
                },
            )


def asked(path: str, **request: Any) -> dict[str, Any]:
    """
    Ask a control socket.

    @raise usage.UsageError: it does not answer, or refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(path)
            connection.sendall(json.dumps(request).encode() + b"\n")
            received = bytearray()
            while not received.endswith(b"\n"):
                more = connection.recv(1 << 16)
                if not more or len(received) > MAX_ANSWER:
                    raise OSError("no answer")
                received += more
        answer: dict[str, Any] = json.loads(received)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise usage.UsageError(f"{path}: {reason}") from None
    if "error" in answer:
        raise usage.UsageError(str(answer["error"]))
    return answer


COLUMNS: Mapping[str, str] = {
    "session": "SESSION",
    "transport": "TRANSPORT",
    "cipher": "CIPHER",
    "local": "LOCAL",
    "peer": "PEER",
    "state": "STATE",
    "age": "AGE",
    "round_trip": "RTT",
    "loss": "LOSS",
    "rate_in": "IN",
    "rate_out": "OUT",
    "window": "WINDOW",
    "in_flight": "FLIGHT",
    "queue": "QUEUE",
    "streams": "STREAMS",
    "retransmitted": "RETRANS",
    "fec_recovered": "FEC",
}
"""The columns of the tables, and their headings."""


def cells(row: Row, before: Row | None, elapsed: float) -> dict[str, Any]:
    """
    The values of a row, with rates since an earlier one.

    @param elapsed: seconds since then; without an earlier one rates are averages.
    """
    base = before or row._replace(bytes_in=0, bytes_out=0)
    span = elapsed if before is not None else row.age
    sent, again = row.datagrams_out or 0, row.retransmitted or 0
    return {
        "session": f"{row.port}/{row.session}",
        "transport": row.transport,
        "cipher": row.cipher,
        "local": row.local,
        "peer": row.peer,
        "state": row.state,
        "age": row.age,
        "round_trip": row.round_trip,
        "loss": max(row.lost or 0, again) / sent if sent else 0.0,
        "rate_in": _rate(base.bytes_in, row.bytes_in, span),
        "rate_out": _rate(base.bytes_out, row.bytes_out, span),
        "window": row.window,
        "in_flight": row.in_flight,
        "queue": row.queue,
        "streams": row.streams,
        "retransmitted": row.retransmitted,
        "fec_recovered": row.fec_recovered,
    }


def _rate(before: int | None, after: int | None, span: float) -> float | None:
    if before is None or after is None or span <= 0:
        return None
    return max(0, after - before) / span


def shown(name: str, value: Any) -> str:
    """One value for a person."""
    if value is None:
        return "-"
    if name == "age":
        return _duration(value)
    if name == "round_trip":
        return f"{value * 1000:.1f} ms"
    if name == "loss":
        return f"{value:.1%}"
    if name in ("rate_in", "rate_out"):
        return f"{_size(value)}/s"
    if name in ("window", "in_flight", "queue"):
        return _size(value)
    return printable(str(value))


def _size(value: float) -> str:
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def _duration(value: float) -> str:
    minutes, rest = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def text(state: Mapping[str, Any]) -> str:
    """A status as a table."""
    lines = [
        f"twisted_rudp {state['version']}, {state['kernels']} kernels, process {state['pid']}", ""
    ]
    workers = state.get("workers")
    if workers is not None:
        shown_workers = ", ".join(f"{each['worker']}: {each['pid']}" for each in workers)
        lines[0] += (
            f", {len(workers)} workers ({shown_workers})" if workers else ", no worker is ready"
        )
    for port in state["ports"]:
        counters = port["counters"]
        lines.append(
            f"port {port['port']}: {port['address']} {port['facts'].get('kind', '')}:"
            f" {_counted(len(port['sessions']), 'session')},"
            f" {counters.get('port.datagramsIn', 0)} datagrams in,"
            f" {counters.get('port.datagramsOut', 0)} out"
        )
    lines.extend(
        f"service {each['service']}: "
        + " ".join(f"{name}={value}" for name, value in each["counters"].items())
        for each in state.get("services", ())
    )
    found = [cells(row, None, 0.0) for row in rows(state)]
    if found:
        table = [list(COLUMNS.values())]
        table.extend([shown(name, each[name]) for name in COLUMNS] for each in found)
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines.append("")
        lines.extend(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in table
        )
    return "\n".join(lines)


class StatusOptions(UsageOptions):
    """C{rudp status}."""

    synopsis = "[options] SOCKET"
    longdesc = (
        "Show the ports and sessions of a running program, which has opened the control socket"
        " SOCKET: twist rudp ... --control SOCKET."
    )
    optFlags = [["json", "j", "Print the complete state as JSON."]]
    examples = """
Example:

  twist rudp echo --control /run/rudp/control --listen kcp:4000
  rudp status /run/rudp/control
"""

    def parseArgs(self, *paths: str) -> None:
        """
        @raise usage.UsageError: not exactly one path.
        """
        if len(paths) != 1:
            raise usage.UsageError("expected one SOCKET, the path given for --control")
        self["socket"] = paths[0]


def runStatus(reactor: Any, options: usage.Options) -> None:
    """
    Print the state once.

    @raise usage.UsageError: the socket does not answer.
    """
    state = asked(options["socket"], command="status")
    print(json.dumps(state, indent=2) if options["json"] else text(state))


class TopOptions(StatusOptions):
    """C{rudp top}."""

    longdesc = (
        "Show the sessions of a running program, refreshed until interrupted. Needs the package"
        " rich: pip install 'twisted_rudp[top]'."
    )
    optParameters = [
        ["interval", "i", 1.0, "Seconds between two refreshes.", number(0.1, 3600, "seconds")],
        ["sort", "s", "rate_out", f"Column to sort by: {', '.join(COLUMNS)}."],
        ["filter", "f", None, "Show only sessions with this text in a column."],
        ["count", "n", None, "Stop after this many refreshes.", count],
    ]
    optFlags = [["json", "j", "Print one line of JSON for each refresh instead."]]
    examples = """
Example: the sessions with one peer, those with the most lost datagrams first

  rudp top --filter 192.0.2.7 --sort loss /run/rudp/control
"""

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: there is no such column.
        """
        if self["sort"] not in COLUMNS:
            raise usage.UsageError(f"--sort: {self['sort']!r} is not one of {', '.join(COLUMNS)}")


class Top:
    """The sessions of successive states, with rates between two of them."""

    def __init__(self, sort: str, filter: str | None) -> None:
        self._sort = sort
        self._filter = filter
        self._before: dict[tuple[int, int, str], Row] = {}
        self._time: float | None = None

    def refresh(self, state: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The sessions now, in order."""
        elapsed = 0.0 if self._time is None else state["time"] - self._time
        self._time = state["time"]
        current = {(row.port, row.session, row.peer): row for row in rows(state)}
        found = [cells(row, self._before.get(key), elapsed) for key, row in current.items()]
        self._before = current
        if self._filter is not None:
            found = [
                each
                for each in found
                if any(self._filter in shown(name, each[name]) for name in COLUMNS)
            ]
        found.sort(key=self._order)
        return found

    def _order(self, each: Mapping[str, Any]) -> tuple[Any, ...]:
        value = each[self._sort]
        if isinstance(value, str):
            return (0, value)
        return (1, 0.0) if value is None else (0, -value)


async def runTop(reactor: Any, options: TopOptions, out: TextIO | None = None) -> None:
    """
    Refresh until interrupted.

    @raise usage.UsageError: the socket does not answer, or rich is missing.
    """
    out = sys.stdout if out is None else out
    top = Top(options["sort"], options["filter"])
    view = None if options["json"] else _View(out)
    left = options["count"]
    try:
        while left is None or left > 0:
            state = asked(options["socket"], command="status")
            found = top.refresh(state)
            if view is None:
                print(json.dumps(found), file=out, flush=True)
            else:
                view.show(state, found)
            left = None if left is None else left - 1
            if left != 0:
                await deferLater(reactor, options["interval"], lambda: None)
    finally:
        if view is not None:
            view.close()


LEAST: Final = (
    *("local", "streams", "fec_recovered", "cipher", "transport", "state", "queue"),
    *("retransmitted", "in_flight", "window", "age"),
)
"""The columns that a narrow terminal does not have, the first one first."""

GAP: Final = 2
"""Spaces between two columns."""


def fitting(found: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """The columns for a terminal of this width."""
    widths = {
        name: GAP + max(map(len, (heading, *(shown(name, each[name]) for each in found))))
        for name, heading in COLUMNS.items()
    }
    for name in LEAST:
        if sum(widths.values()) <= width:
            break
        del widths[name]
    return list(widths)


class _View:
    """A table on the terminal, drawn by rich."""

    def __init__(self, out: TextIO) -> None:
        try:
            from rich.console import Console
            from rich.live import Live
        except ImportError:
            raise usage.UsageError(
                "top needs the package rich: pip install 'twisted_rudp[top]'"
            ) from None
        self._console = console = Console(file=out)
        self._live = Live(console=console, screen=console.is_terminal, auto_refresh=False)
        self._live.start()

    def show(self, state: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> None:
        from rich.table import Table

        title = (
            f"process {state['pid']}: {_counted(len(state['ports']), 'port')},"
            f" {_counted(len(found), 'session')},"
            f" {state['kernels']} kernels"
        )
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        names = fitting(found, self._console.width)
        for name in names:
            left = name in ("session", "transport", "cipher", "local", "peer", "state")
            table.add_column(COLUMNS[name], justify="left" if left else "right", no_wrap=True)
        for each in found:
            table.add_row(*(shown(name, each[name]) for name in names))
        self._live.update(table, refresh=True)

    def close(self) -> None:
        self._live.stop()


class KickOptions(UsageOptions):
    """C{rudp kick}."""

    synopsis = "SOCKET SESSION"
    longdesc = "End a session. SESSION is as 'rudp status' shows it, such as 0/3."

    def parseArgs(self, *given: str) -> None:
        """
        @raise usage.UsageError: not a socket and a session.
        """
        if len(given) != 2:
            raise usage.UsageError("expected SOCKET and SESSION")
        self["socket"] = given[0]
        port, session = _session(given[1])
        self["request"] = {"command": "kick", "port": port, "session": session}


class ConfigureOptions(UsageOptions):
    """C{rudp configure}."""

    synopsis = "SOCKET SESSION NAME=VALUE [NAME=VALUE ...]"
    longdesc = (
        "Change settings of a session. SESSION is as 'rudp status' shows it, such as 0/3. The"
        " manual lists what each transport can change while a session runs."
    )
    examples = """
Example:

  rudp configure /run/rudp/control 0/3 sndwnd=512 nodelay=1
"""

    def parseArgs(self, *given: str) -> None:
        """
        @raise usage.UsageError: not a socket, a session and settings.
        """
        if len(given) < 3:
            raise usage.UsageError("expected SOCKET, SESSION and NAME=VALUE")
        self["socket"], where, *settings = given
        port, session = _session(where)
        changes = {}
        for each in settings:
            name, equals, value = each.partition("=")
            if not name or not equals:
                raise usage.UsageError(f"{each!r} is not NAME=VALUE")
            changes[name] = _setting(value)
        self["request"] = {
            "command": "configure", "port": port, "session": session, "changes": changes
        }  # fmt: skip


def _setting(text: str) -> Any:
    """A value as JSON has it: a number, true or false; else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _session(text: str) -> tuple[int, int]:
    """
    The numbers of a port and a session.

    @raise usage.UsageError: it has none.
    """
    port, slash, session = text.partition("/")
    if not slash or not port.isdecimal() or not session.isdecimal():
        raise usage.UsageError(f"{text!r} is not a SESSION, such as 0/3")
    return int(port), int(session)


class BanOptions(UsageOptions):
    """C{rudp ban}."""

    synopsis = "[options] SOCKET HOST"
    longdesc = "End all sessions with an IP address, and accept no more from it for a time."
    optParameters = [["seconds", "s", 600.0, "How long.", number(0, 10**7, "seconds")]]

    def parseArgs(self, *given: str) -> None:
        """
        @raise usage.UsageError: not a socket and an address.
        """
        if len(given) != 2:
            raise usage.UsageError("expected SOCKET and HOST, an IP address")
        self["socket"] = given[0]
        self["host"] = given[1]

    def postOptions(self) -> None:
        self["request"] = {"command": "ban", "host": self["host"], "seconds": self["seconds"]}


class LogLevelOptions(UsageOptions):
    """C{rudp log-level}."""

    synopsis = "SOCKET LEVEL"
    longdesc = "Change the level of the log: debug, info, warn, error or critical."

    def parseArgs(self, *given: str) -> None:
        """
        @raise usage.UsageError: not a socket and a level.
        """
        if len(given) != 2:
            raise usage.UsageError("expected SOCKET and LEVEL")
        self["socket"] = given[0]
        self["request"] = {"command": "log-level", "level": given[1]}


class ReloadOptions(UsageOptions):
    """C{rudp reload}."""

    synopsis = "SOCKET"
    longdesc = (
        "Have a program that was started with --config read its file again. If the file has an"
        " error, nothing is changed."
    )

    def parseArgs(self, *given: str) -> None:
        """
        @raise usage.UsageError: not one socket.
        """
        if len(given) != 1:
            raise usage.UsageError("expected one SOCKET, the path given for --control")
        self["socket"] = given[0]
        self["request"] = {"command": "reload"}


class TraceOptions(UsageOptions):
    """C{rudp trace}."""

    synopsis = "SOCKET [DIRECTORY]"
    longdesc = (
        "Write a qlog file for each session that begins from now on to a directory; without a"
        " directory, trace no more."
    )

    def parseArgs(self, *given: str) -> None:
        """
        @raise usage.UsageError: not a socket, and perhaps a directory.
        """
        if not 1 <= len(given) <= 2:
            raise usage.UsageError("expected SOCKET and perhaps DIRECTORY")
        directory = os.path.abspath(given[1]) if len(given) > 1 else None
        self["socket"] = given[0]
        self["request"] = {"command": "trace", "directory": directory}


def runRequest(reactor: Any, options: usage.Options) -> None:
    """
    Send a request and print the answer.

    @raise usage.UsageError: the socket does not answer, or refuses.
    """
    answer = asked(options["socket"], **options["request"])
    print(", ".join(f"{name}: {value}" for name, value in answer.items()))
