"""
What is measured. A new measurement is a new entry here, or in L{VARIANTS}.
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
    MEMORY_OF_CLIENT,
    SLOW_TRIP,
    Metric,
)

WINDOWS = (1024, 2048, 4096)
"""Of kcp-go; ours keeps that of its default profile."""

MESSAGES_UNDERWAY = (128, 512)
"""Windows of go-raknet, which has none of its own."""

PORT_KINDS = ("gso", "plain", "stock")

_FEC = ("-datashard", "10", "-parityshard", "3")
_AES = ("-crypt", "aes", "-key", "5a" * 32)

VARIANTS = (
    ("fec", "FEC 10+3", _FEC),
    ("aes", "AES-256", _AES),
    ("gcm", "AES-128-GCM", ("-crypt", "aes-128-gcm", "-key", "5a" * 16)),
    ("aesfec", "AES-256 and FEC 10+3", (*_AES, *_FEC)),
    (
        "loss1",
        "1 % of the datagrams lost each way, no congestion window",
        ("-loss", "0.01", "-nc", "1"),
    ),
)
"""
Streams with further flags, which every program takes: name, title, flags. C{-nc 1} is
always so in kcpbench; our default profile has a congestion window.
"""


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
        fewer sessions.
    """
    seconds = ("-seconds", "1" if quick else "3")
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
            (*go(WINDOWS), *mine(PORT_KINDS), *tcp()),
        ),
        Scenario(
            "bulk2",
            "Plain stream, two processes",
            bulk,
            stream,
            (*go(WINDOWS, 2), *contenders.mixed(WINDOWS[0]), *mine(PORT_KINDS[:1], 2), *tcp(2)),
        ),
        Scenario(
            "echo",
            "Echo of 64 bytes, both ends in one process",
            echo,
            trips,
            (*go(WINDOWS[:1]), *mine(PORT_KINDS), *tcp()),
        ),
        Scenario(
            "echo2",
            "Echo of 64 bytes, two processes",
            echo,
            trips,
            (*go(WINDOWS[:1], 2), *mine(PORT_KINDS[:1], 2), *tcp(2)),
        ),
        Scenario(
            "idle",
            f"{idle[3]} idle sessions, both ends in one process",
            idle,
            (LOAD, MEMORY),
            (*go(WINDOWS[:1]), *mine(PORT_KINDS[:1])),
        ),
        Scenario(
            "clients",
            f"{idle[3]} idle client endpoints, each with its own socket; the server elsewhere",
            idle,
            (MEMORY_OF_CLIENT,),
            (*go(WINDOWS[:1], 2), *mine(PORT_KINDS[:1], 2)),
        ),
        *(
            Scenario(
                name,
                f"{title}: stream, both ends in one process",
                (*bulk, *flags),
                stream,
                (*go(WINDOWS), *mine(PORT_KINDS[:1])),
            )
            for name, title, flags in VARIANTS
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
        Scenario(
            "qotp2",
            "QOTP beside QUIC: an encrypted stream, two processes",
            bulk,
            stream,
            (*contenders.aioquic(), *contenders.our_qotp(PORT_KINDS, 2)),
        ),
        Scenario(
            "qotpecho2",
            "QOTP beside QUIC: echo of 64 bytes, two processes",
            echo,
            trips,
            (*contenders.aioquic(), *contenders.our_qotp(PORT_KINDS[:1], 2)),
        ),
        Scenario(
            "qotpecho",
            "QOTP, echo of 64 bytes, both ends in one process",
            echo,
            trips,
            (*contenders.our_qotp(PORT_KINDS),),
        ),
    )
