"""Who is measured: how each of them is started for a job."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.interop.harness import ROOT, goraknet, kcpgo

RAKNET_MESSAGE = 1350
"""What fits one datagram of both RakNets."""


ONE_PORT = "twisted_rudp, clients on one socket"


class Group(Enum):
    """What a contender counts as when the best of a group is looked for."""

    KCP_GO = "kcp-go"
    GO_RAKNET = "go-raknet"
    AIOQUIC = "aioquic"
    OURS = "ours"
    TCP = "tcp"
    MIXED = "mixed"


@dataclass(frozen=True)
class Side:
    """
    One program and how it is to run.

    @ivar argv: takes C{-job} and the rest after it.
    @ivar folder: where it runs.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = ROOT


@dataclass(frozen=True)
class Contender:
    """
    One row of a table.

    @ivar sides: one program that is both ends, or a server and a client.
    """

    name: str
    group: Group
    sides: tuple[Side, ...]


_WORKER = (sys.executable, "-m", "tests.benchmarks.worker")

COMPILED = ROOT / ".venv-compiled"
"""Where C{make compiled} installs."""


def _go(window: int) -> Side:
    """kcp-go as its users tune it for speed: no congestion window, timers of 10 ms."""
    return Side((*kcpgo("kcpbench"), *_windows(window)))


def _windows(segments: int) -> tuple[str, ...]:
    return ("-sndwnd", str(segments), "-rcvwnd", str(segments))


def _ours(port_kind: str, pure: bool) -> Side:
    """Our endpoints with their default profile."""
    kernels = "pure" if pure else "native"
    return Side(
        (*_WORKER, "-transport", "kcp", "-portkind", port_kind, "-kernels", kernels),
        {"TWISTED_RUDP_PURE": "1" if pure else "0"},
    )


def kcp_go(windows: Sequence[int], processes: int = 1) -> list[Contender]:
    """kcp-go with each of these windows."""
    return [
        Contender(f"kcp-go, window {window}", Group.KCP_GO, (_go(window),) * processes)
        for window in windows
    ]


def ours(
    port_kinds: Sequence[str], processes: int = 1, pure: Sequence[bool] = (False, True)
) -> list[Contender]:
    """Ours on each of these ports, with the C kernels and without."""
    return [
        Contender(
            f"twisted_rudp, {port_kind} port, {'pure Python' if without else 'kernels'}",
            Group.OURS,
            (_ours(port_kind, without),) * processes,
        )
        for port_kind in port_kinds
        for without in pure
    ]


def one_port() -> list[Contender]:
    """Ours with all clients on one socket, as they cannot be with kcp-go."""
    side = _ours("gso", pure=False)
    shared = Side((*side.argv, "-oneport"), side.environment)
    return [Contender(ONE_PORT, Group.OURS, (shared,))]


def profiles(chosen: Mapping[str, Sequence[int | None]]) -> list[Contender]:
    """
    Ours in two processes, with each of these profiles and windows; None: the
    window of the profile.
    """
    return [
        Contender(
            f"twisted_rudp, {profile}" + (f", window {window}" if window else ""),
            Group.OURS,
            (
                Side(
                    (*_WORKER, "-profile", profile, *(_windows(window) if window else ())),
                ),
            )
            * 2,
        )
        for profile, windows in chosen.items()
        for window in windows
    ]


def go_raknet(windows: Sequence[int], processes: int = 1) -> list[Contender]:
    """go-raknet with so many messages of C{RAKNET_MESSAGE} bytes on their way."""
    program = goraknet("rakbench")
    chunk = ("-chunk", str(RAKNET_MESSAGE))
    return [
        Contender(
            f"go-raknet, window {window}",
            Group.GO_RAKNET,
            (Side((*program, *chunk, "-window", str(window))),) * processes,
        )
        for window in windows
    ]


def our_raknet(processes: int = 1) -> list[Contender]:
    """Our RakNet with the same messages, and with a stream."""
    worker = (*_WORKER, "-transport", "raknet")
    messages = Side((*worker, "-mode", "messages", "-chunk", str(RAKNET_MESSAGE)))
    return [
        Contender("twisted_rudp, raknet, messages", Group.OURS, (messages,) * processes),
        Contender("twisted_rudp, raknet, stream", Group.OURS, (Side(worker),) * processes),
    ]


def aioquic() -> list[Contender]:
    """A stream of aioquic, between two processes."""
    worker = Side((sys.executable, "-m", "tests.benchmarks.quicworker"))
    return [Contender("aioquic", Group.AIOQUIC, (worker, worker))]


def our_qotp(port_kinds: Sequence[str], processes: int = 1) -> list[Contender]:
    """Our QOTP, dialled with the server's key, on each of these ports."""
    worker = (sys.executable, "-m", "tests.benchmarks.worker", "-transport", "qotp")
    return [
        Contender(
            f"twisted_rudp, qotp, {port_kind} port",
            Group.OURS,
            (Side((*worker, "-portkind", port_kind)),) * processes,
        )
        for port_kind in port_kinds
    ]


def compiled(processes: int = 1) -> list[Contender]:
    """The stream of each transport with the package compiled, if C{make compiled} was."""
    python = COMPILED / "bin" / "python"
    if not python.exists():
        return []
    worker = (str(python), "-m", "tests.benchmarks.worker", "-transport")
    return [
        Contender(
            f"twisted_rudp, compiled, {transport}",
            Group.OURS,
            # Where Python finds the package only as installed.
            (Side((*worker, transport), folder=COMPILED / "tree"),) * processes,
        )
        for transport in ("kcp", "raknet", "qotp")
    ]


def tcp(processes: int = 1) -> list[Contender]:
    """The TCP of Twisted, for scale."""
    side = Side((*_WORKER, "-transport", "tcp"))
    return [Contender("Twisted TCP", Group.TCP, (side,) * processes)]


def controlled(controls: Mapping[str, str]) -> list[Contender]:
    """
    TCP in two processes with these congestion controls of the kernel, by the name
    that people know.
    """
    return [
        Contender(
            f"TCP {name}",
            Group.TCP,
            (Side((*_WORKER, "-transport", "tcp", "-congestion", control)),) * 2,
        )
        for name, control in controls.items()
    ]


def mixed(window: int) -> list[Contender]:
    """One end of each kind."""
    mine = _ours("gso", pure=False)
    return [
        Contender("kcp-go client, our server", Group.MIXED, (mine, _go(window))),
        Contender("our client, kcp-go server", Group.MIXED, (_go(window), mine)),
    ]
