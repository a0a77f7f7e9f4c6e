"""Emulated links: two network namespaces, and C{link.c} between them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.interop.harness import BINARIES, command
from tests.interop.namespaces import Machine, ip

HERE = Path(__file__).resolve().parent

CLIENT, SERVER = "10.77.0.1", "10.77.0.2"

TCP_BUFFER = 32 << 20
"""Bytes to which the kernel may grow a buffer of TCP, so that its windows suffice everywhere."""

PATIENCE = 20


class LinkError(Exception):
    """No link can be made here; says why."""


@dataclass(frozen=True)
class Link:
    """
    Holds in each direction.

    @ivar delay: milliseconds, one way.
    @ivar rate: megabits a second.
    @ivar loss: percent of the packets.
    @ivar burst: the mean number of packets lost in a row; 0: independent losses.
    @ivar queue: milliseconds that the queue in front of the link holds.
    """

    delay: int
    rate: int
    loss: float
    burst: int = 0
    queue: int = 50

    @property
    def name(self) -> str:
        """For the command line, such as C{20ms-50mbit-1%}."""
        bursts = f"-burst{self.burst}" if self.burst else ""
        return f"{self.delay}ms-{self.rate}mbit-{self.loss:g}%{bursts}"

    @property
    def title(self) -> str:
        """For people."""
        bursts = f" in bursts of {self.burst}" if self.burst else ""
        return f"{self.delay} ms each way, {self.rate} Mbit/s, {self.loss:g} % lost{bursts}"

    def arguments(self, seed: int) -> Sequence[str]:
        """What C{link.c} takes after the namespaces."""
        rate = self.rate * 1_000_000 // 8
        queue = rate * self.queue // 1000
        return [str(n) for n in (self.delay, rate, queue, self.loss / 100, self.burst, seed)]


class Road:
    """
    A link that is there, and the machines at its ends.

    @ivar client: where data is sent.
    @ivar server: where it arrives.
    @ivar traffic: what the link carried, once it is gone: see L{carried}.
    """

    def __init__(self, client: Machine, server: Machine) -> None:
        self.client = client
        self.server = server
        self.traffic: Mapping[str, int] = {}


def missing() -> str | None:
    """Why no link can be made here; None if it can."""
    try:
        with road(Link(0, 1000, 0), seed=1):
            return None
    except LinkError as error:
        return str(error)


@cache
def _program() -> str:
    """
    The emulator, compiled.

    @raise SkipTest: that cannot be done here.
    """
    BINARIES.mkdir(exist_ok=True)
    binary = str(BINARIES / "link")
    command(["cc", "-O2", "-o", binary, str(HERE / "link.c")], HERE)
    return binary


@contextmanager
def road(link: Link, seed: int) -> Iterator[Road]:
    """
    A link while the block lasts.

    @param seed: of its losses.
    @raise LinkError: it cannot be made.
    """
    if os.geteuid() != 0:
        raise LinkError("emulated links need root")
    for program in ("ip", "cc"):
        if shutil.which(program) is None:
            raise LinkError(f"emulated links need the program {program}")
    machines = [Machine(f"rudp{os.getpid()}{end}", host) for end, host in _ENDS]
    try:
        for machine in machines:
            _make(machine)
        here = Road(*machines)
        ends = [word for m in machines for word in (m.name, f"{m.address}/24")]
        with _emulating([_program(), *ends, *link.arguments(seed)], here):
            yield here
    finally:
        for machine in machines:
            subprocess.run(["ip", "netns", "del", machine.name], capture_output=True)


_ENDS = (("client", CLIENT), ("server", SERVER))


def _make(machine: Machine) -> None:
    try:
        ip("netns", "add", machine.name)
        for name in ("rmem", "wmem"):
            limits = f"net.ipv4.tcp_{name}=4096 131072 {TCP_BUFFER}"
            subprocess.run(
                [*machine.prefix, "sysctl", "-qw", limits], check=True, capture_output=True
            )
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", b"") or error
        raise LinkError(f"no network namespaces here: {told!r}") from None


@contextmanager
def _emulating(argv: Sequence[str], here: Road) -> Iterator[None]:
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "\n":
            raise LinkError(f"no tun devices here: {process.communicate()[1].strip()}")
        yield
        output, complaints = process.communicate(timeout=PATIENCE)
        if process.returncode:
            raise LinkError(f"the emulator failed: {complaints.strip()}")
        here.traffic = carried(json.loads(output))
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def carried(ways: Mapping[str, Any]) -> Mapping[str, int]:
    """
    What both directions of a link carried, with the headers of IP: bytes of data
    and of acknowledgements, and what was lost on the way and in the queue.
    """
    there, back = ways["there"], ways["back"]
    return {
        "wire_bytes": there["bytes"] + back["bytes"],
        "wire_bytes_back": back["bytes"],
        "wire_packets": there["packets"] + back["packets"],
        "wire_lost": there["lost"] + back["lost"],
        "wire_overflowed": there["overflowed"] + back["overflowed"],
    }
