"""
What C{rudp top} shows of a forward over a lossy link, beside what the link itself has counted,
as root::

    python -m tests.watching kcp qotp raknet

Two network namespaces, a forward in each, and C{rudp top} at the control socket of each while
data goes from one to the other.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.links import SERVER, Link, Road, road
from tests.service.programs import TWIST, Program
from twisted_rudp.service.status import Row, asked, rows

RUDP = ("-c", "from twisted_rudp.service.command import main; main()")

LINK = Link(delay=20, rate=40, loss=3)

SIZE = 3_000_000
"""Bytes that are sent; what the end of the session adds is far below 2 % of them."""

HEADERS = 28
"""Bytes of a datagram before its payload: IP and UDP."""

SINK = """
import socket
listening = socket.create_server(("127.0.0.1", 7001))
print("listening", flush=True)
connection, _ = listening.accept()
got = 0
while got < SIZE:
    got += len(connection.recv(1 << 16))
connection.sendall(b"all")
connection.recv(1)
"""

SOURCE = """
import socket, sys, time
connection = socket.create_connection(("127.0.0.1", 7000))
connection.sendall(bytes(SIZE))
print(connection.recv(3), flush=True)
sys.stdin.read()
"""


class Watched(NamedTuple):
    """
    What was seen.

    @ivar shown: by the sender's C{top}, summed over its refreshes: bytes of payload out and in,
        and the last row.
    @ivar heard: the same of the receiver.
    @ivar sessions: the sender's and the receiver's at the end.
    @ivar link: what it has counted, see L{carried<tests.benchmarks.links.carried>}.
    """

    shown: Mapping[str, Any]
    heard: Mapping[str, Any]
    sessions: tuple[Row, Row]
    link: Mapping[str, int]

    def pairs(self) -> Mapping[str, tuple[float, float]]:
        """Figures of ours, each beside the link's."""
        sent, got, payload = (
            sum(getattr(each, name) or 0 for each in self.sessions)
            for name in ("datagrams_out", "datagrams_in", "bytes_out")
        )
        lost = self.link["wire_lost"] + self.link["wire_overflowed"]
        wire = self.link["wire_bytes"]
        packets = self.link["wire_packets"]
        return {
            "datagrams sent": (sent, packets),
            "datagrams received": (got, packets - lost),
            "bytes sent": (payload + HEADERS * sent, wire),
            "bytes sent, by the rates of top": (
                self.shown["out"] + self.heard["out"] + HEADERS * sent, wire,
            ),
            "bytes received, by the rates of top": (
                self.shown["in"] + self.heard["in"] + HEADERS * got,
                wire * (1 - lost / packets),
            ),
            "thousandths lost": (1000 * self.shown["last"]["loss"], 1000 * lost / packets),
        }  # fmt: skip


class Watching:
    """C{rudp top} at one control socket."""

    def __init__(self, path: str) -> None:
        self._program = Program(*RUDP, "top", "--json", "--interval", "0.3", path)
        self._program.expect(r"^\[")

    def quiet(self) -> None:
        """Until it shows that nothing goes in or out any more."""
        self._program.expect(r'"rate_in": 0\.0, "rate_out": 0\.0')

    def kill(self) -> None:
        """For cleaning up."""
        self._program.kill()

    def end(self) -> Mapping[str, Any]:
        """What it has shown: the sums of its rates over time, and its last row."""
        self._program.interrupt()
        self._program.end()
        sums: dict[str, Any] = {"out": 0.0, "in": 0.0, "last": None}
        age = 0.0
        for line in self._program.output.splitlines():
            if not line.startswith("["):
                continue
            for row in json.loads(line):
                for name in ("out", "in"):
                    sums[name] += (row[f"rate_{name}"] or 0) * (row["age"] - age)
                age, sums["last"] = row["age"], row
        return sums


def watched(transport: str, seed: int = 1) -> Watched:
    """
    Send data through two forwards while both are watched.

    @raise LinkError: no link can be made here.
    """
    programs: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("client", "server")]
        try:
            with road(LINK, seed) as here:
                _forward(here, transport, paths, programs)
                tops = [Watching(path) for path in paths]
                programs += tops
                _start(here, programs).expect("b'all'")
                for top in tops:
                    top.quiet()
                near, far = map(_session, paths)
                shown, heard = (top.end() for top in tops)
                for program in programs:
                    program.kill()
            return Watched(shown, heard, (near, far), here.traffic)
        finally:
            for program in programs:
                program.kill()


def _session(path: str) -> Row:
    """The only session there is."""
    [row] = rows(asked(path, command="status"))
    return row


def _forward(here: Road, transport: str, paths: Sequence[str], programs: list[Any]) -> None:
    """The two forwards."""
    far = here.server.start(
        *TWIST, "rudp", "forward", "--control", paths[1],
        "--listen", f"{transport}:4000", "--to", "tcp:127.0.0.1:7001",
    )  # fmt: skip
    programs.append(far)
    near = here.client.start(
        *TWIST, "rudp", "forward", "--control", paths[0],
        "--listen", "tcp:7000:interface=127.0.0.1", "--to", f"{transport}:host={SERVER}:port=4000",
    )  # fmt: skip
    programs.append(near)
    for each in (far, near):
        each.expect("Starting reactor")


def _start(here: Road, programs: list[Any]) -> Program:
    """Whom data goes to, and from whom it comes."""
    sink = here.server.start("-c", SINK.replace("SIZE", str(SIZE)))
    programs.append(sink)
    sink.expect("listening")
    source = here.client.start("-c", SOURCE.replace("SIZE", str(SIZE)), keyboard=True)
    programs.append(source)
    return source


def main(transports: Sequence[str]) -> None:
    """Print ours beside the link's."""
    for transport in transports:
        seen = watched(transport)
        for name, (ours, link) in seen.pairs().items():
            sys.stdout.write(
                f"{transport}: {name}: {ours:.0f}, link {link:.0f} ({ours / link - 1:+.2%})\n"
            )
        trip = seen.shown["last"]["round_trip"] * 1000
        sys.stdout.write(f"{transport}: round trip {trip:.1f} ms, link {2 * LINK.delay} ms\n")


if __name__ == "__main__":
    main(sys.argv[1:])
