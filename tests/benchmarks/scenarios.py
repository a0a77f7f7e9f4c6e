"""
What is measured. A new measurement is a new entry here; loss, parity and
ciphers are further flags of a scenario's C{flags}, which every program takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks import contenders
from tests.benchmarks.contenders import Contender
from tests.benchmarks.metrics import (
    COST,
    GOODPUT,
    LOAD,
    MEDIAN_TRIP,
    MEMORY,
    SLOW_TRIP,
    Metric,
)

WINDOWS = (1024, 2048, 4096)
"""Of kcp-go; ours keeps that of its default profile."""

MESSAGES_UNDERWAY = (128, 512)
"""Windows of go-raknet, which has none of its own."""

PORT_KINDS = ("gso", "plain", "stock")


@dataclass(frozen=True)
class Scenario:
    """
    One table.

    @ivar name: what it is called on the command line and in the JSON file.
    @ivar flags: the job, given to every program.
    @ivar metrics: its columns; ratios are taken of the first.
    """

    name: str
    title: str
    flags: tuple[str, ...]
    metrics: tuple[Metric, ...]
    contenders: tuple[Contender, ...]


def scenarios(quick: bool) -> Sequence[Scenario]:
    """
    All of them.

    @param quick: for a look, not for a figure to be written down: short runs,
        one of our ports, fewer sessions.
    """
    seconds = ("-seconds", "1" if quick else "3")
    ports = PORT_KINDS[:1] if quick else PORT_KINDS
    stream = (GOODPUT, COST)
    trips = (MEDIAN_TRIP, SLOW_TRIP)
    bulk = ("-job", "bulk", *seconds)
    echo = ("-job", "echo", "-count", "1000" if quick else "5000")
    idle = ("-job", "idle", "-sessions", "200" if quick else "1000", *seconds)
    rak_go, rak_mine = contenders.go_raknet, contenders.our_raknet
    go, mine, tcp = contenders.kcp_go, contenders.ours, contenders.tcp
    return (
        Scenario(
            "bulk",
            "Plain stream, both ends in one process (ours: one thread; Go: all cores)",
            bulk,
            stream,
            (*go(WINDOWS), *mine(ports), *tcp()),
        ),
        Scenario(
            "bulk2",
            "Plain stream, two processes",
            bulk,
            stream,
            (*go(WINDOWS, 2), *contenders.mixed(WINDOWS[0]), *mine(ports[:1], 2), *tcp(2)),
        ),
        Scenario(
            "echo",
            "Echo of 64 bytes, both ends in one process",
            echo,
            trips,
            (*go(WINDOWS[:1]), *mine(ports), *tcp()),
        ),
        Scenario(
            "echo2",
            "Echo of 64 bytes, two processes",
            echo,
            trips,
            (*go(WINDOWS[:1], 2), *mine(ports[:1], 2), *tcp(2)),
        ),
        Scenario(
            "idle",
            f"{idle[3]} idle sessions, both ends in one process",
            idle,
            (LOAD, MEMORY),
            (*go(WINDOWS[:1]), *mine(ports[:1])),
        ),
        Scenario(
            "raknet2",
            f"RakNet, messages of {contenders.RAKNET_MESSAGE} bytes, two processes",
            bulk,
            stream,
            (*rak_go(MESSAGES_UNDERWAY, 2), *rak_mine(2)),
        ),
        Scenario(
            "raknetecho2",
            "RakNet, echo of 64 bytes, two processes",
            echo,
            trips,
            (*rak_go(MESSAGES_UNDERWAY[:1], 2), *rak_mine(2)),
        ),
        Scenario(
            "raknetidle",
            f"RakNet, {idle[3]} idle sessions, both ends in one process",
            idle,
            (LOAD, MEMORY),
            (*rak_go(MESSAGES_UNDERWAY[:1]), *rak_mine()[:1]),
        ),
    )
