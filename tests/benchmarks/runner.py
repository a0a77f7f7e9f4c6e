"""Run one contender once, in bounded time, and give what it printed."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any, TypeAlias

from tests.benchmarks.contenders import Contender, Side
from tests.benchmarks.links import Link, LinkError, road
from tests.benchmarks.metrics import Result

Process: TypeAlias = "subprocess.Popen[bytes]"

PATIENCE = 60
"""Seconds after which a run is given up."""


class RunError(Exception):
    """A program failed, or took longer than L{PATIENCE}."""


def run(
    contender: Contender, flags: tuple[str, ...], link: Link | None = None, seed: int = 1
) -> Result:
    """
    One run.

    @param link: what the two sides are to be connected by; None: loopback.
    @param seed: of the link's losses.
    @raise RunError: it did not come to a result.
    """
    if link is None:
        return _run(contender.sides, flags)
    try:
        with road(link, seed) as ends:
            sides = [
                replace(side, argv=(*machine.prefix, *side.argv))
                for side, machine in zip(contender.sides, (ends.server, ends.client), strict=True)
            ]
            result = _run(sides, flags, ends.server.address)
        return {**result, **ends.traffic}
    except LinkError as error:
        raise RunError(str(error)) from None


def _run(sides: Sequence[Side], flags: tuple[str, ...], host: str = "127.0.0.1") -> Result:
    if len(sides) == 1:
        with _running(sides[0], *flags, "-role", "both") as process:
            return _result(process)
    server, client = sides
    with _running(server, *flags, "-role", "server", "-addr", f"{host}:0") as serving:
        address = f"{host}:{_port(serving)}"
        with _running(client, *flags, "-role", "client", "-addr", address) as calling:
            sent = _result(calling)
        return _join(_result(serving), sent)


@contextmanager
def _running(side: Side, *flags: str) -> Iterator[Process]:
    """A process that does not outlive the block."""
    process = subprocess.Popen(
        [*side.argv, *flags],
        cwd=side.folder,
        env={**os.environ, **side.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _port(process: Process) -> int:
    """What a server prints first."""
    stdout: IO[bytes] = process.stdout  # type: ignore[assignment]
    ready, _, _ = select.select([stdout], [], [], PATIENCE)
    line = stdout.readline() if ready else b""
    if not line:
        process.kill()
        raise RunError(_complaint(process, process.communicate()[1]))
    return int(_parse(process, line)["port"])


def _result(process: Process) -> dict[str, Any]:
    """Close the input of a process, which lets a server end, and read its result."""
    try:
        output, complaints = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise RunError(f"{process.args!r} took more than {PATIENCE} s") from None
    if process.returncode or not output:
        raise RunError(_complaint(process, complaints))
    result: dict[str, Any] = _parse(process, output.splitlines()[-1])
    return result


def _complaint(process: Process, complaints: bytes) -> str:
    return f"{process.args!r} failed: {complaints.decode(errors='replace')[-2000:].strip()}"


def _parse(process: Process, line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        raise RunError(f"{process.args!r} printed {line[:200]!r}") from None


def _join(server: dict[str, Any], client: dict[str, Any]) -> Result:
    """Of two processes: what the server received counts, and the work of both."""
    return {
        **client,
        **server,
        "cpu_seconds": client["cpu_seconds"] + server["cpu_seconds"],
        "cpu_client": client["cpu_seconds"],
        "cpu_server": server["cpu_seconds"],
    }
