"""
What is measured. A new measurement is a new entry here, or in L{VARIANTS}.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.benchmarks import contenders
from tests.benchmarks.contenders import Contender
from tests.benchmarks.links import Link
from tests.benchmarks.metrics import (
    COST,
    GOODPUT,
    LOAD,
    MEDIAN_DELAY,
    MEDIAN_TRIP,
    MEMORY,
    SLOW_DELAY,
    SLOW_TRIP,
    WIRE,
    Metric,
)

WINDOWS = (1024, 2048, 4096)
"""Of kcp-go; ours keeps that of its default profile."""

MESSAGES_UNDERWAY = (128, 512)
"""Windows of go-raknet, which has none of its own."""

PORT_KINDS = ("gso", "plain", "stock")

_FEC = ("-datashard", "10", "-parityshard", "3")
_AES = ("-crypt", "aes", "-key", "5a" * 32)
_NO_WINDOW = "each way, no congestion window"

VARIANTS = (
    ("fec", "FEC 10+3", _FEC),
    ("aes", "AES-256", _AES),
    ("gcm", "AES-128-GCM", ("-crypt", "aes-128-gcm", "-key", "5a" * 16)),
    ("aesfec", "AES-256 and FEC 10+3", (*_AES, *_FEC)),
    *(
        (
            f"loss{percent:g}",
            f"{percent:g} % of the datagrams lost {_NO_WINDOW}",
            ("-loss", f"{percent / 100:g}", "-nc", "1"),
        )
        for percent in (0.1, 1, 5)
    ),
)
"""
Streams with further flags, which every program takes: name, title, flags. C{-nc 1} is
always so in kcpbench; our default profile has a congestion window.
"""

MANY = (100, 1000)
"""Sessions at the same time."""

LINKS = tuple(
    Link(delay, rate, loss, burst)
    for delay in (20, 100)
    for rate in (50, 500)
    for loss, burst in ((1, 0), (5, 0), (1, 10))
)
"""Delays are one way, as those of the emulator are: round trips of 40 and 200 ms."""

LINK_WINDOWS = (1024, 4096)


@dataclass(frozen=True)
class Scenario:
    """
    One table.

    @ivar name: what it is called on the command line and in the JSON file.
    @ivar flags: the job, given to every program.
    @ivar metrics: its columns; ratios are taken of the first.
    @ivar link: what the ends are connected by; None: loopback.
    """

    name: str
    title: str
    flags: tuple[str, ...]
    metrics: tuple[Metric, ...]
    contenders: tuple[Contender, ...]
    link: Link | None = None


def scenarios(quick: bool) -> Sequence[Scenario]:
    """
    All of them.

    @param quick: for a look, not for a figure to be written down: short runs,
        fewer sessions.
    """
    return (*_on_loopback(quick), *_on_links(quick))


STREAM = (GOODPUT, COST)
TRIPS = (MEDIAN_TRIP, SLOW_TRIP)
KERNELS = (False,)


def _on_loopback(quick: bool) -> Sequence[Scenario]:
    seconds = ("-seconds", "1" if quick else "1.5")
    bulk = ("-job", "bulk", *seconds)
    echo = ("-job", "echo", "-count", "1000" if quick else "5000")
    many = MANY[:1] if quick else MANY
    rak_go, rak_mine = contenders.go_raknet, contenders.our_raknet
    go, mine, tcp = contenders.kcp_go, contenders.ours, contenders.tcp
    gso, others = PORT_KINDS[:1], PORT_KINDS[1:]

    def idle(sessions: int) -> tuple[str, ...]:
        return ("-job", "idle", "-sessions", str(sessions), *seconds)

    return (
        Scenario(
            "plain",
            "Plain stream, both ends in one process",
            bulk,
            STREAM,
            (*go(WINDOWS), *mine(gso), *tcp()),
        ),
        Scenario(
            "nogso",
            "Plain stream without GSO and GRO, both ends in one process",
            bulk,
            (GOODPUT, COST, LOAD),
            (*go(WINDOWS), *mine(others)),
        ),
        Scenario(
            "plain2",
            "Plain stream, two processes",
            bulk,
            STREAM,
            (*go(WINDOWS, 2), *contenders.mixed(WINDOWS[0]), *mine(gso, 2), *tcp(2)),
        ),
        *(
            Scenario(
                name,
                f"{title}: stream, both ends in one process",
                (*bulk, *flags),
                STREAM,
                (*go(WINDOWS), *mine(gso)),
            )
            for name, title, flags in VARIANTS
        ),
        *(
            Scenario(
                f"streams{sessions}",
                f"{sessions} streams at once, both ends in one process",
                (*bulk, "-sessions", str(sessions), "-warmup", "1"),
                STREAM,
                (*go(WINDOWS[:1]), *mine(gso, pure=KERNELS)),
            )
            for sessions in many
        ),
        Scenario(
            "echo",
            "Echo of 64 bytes, both ends in one process",
            echo,
            TRIPS,
            (*go(WINDOWS[:1]), *mine(gso), *mine(others, pure=KERNELS), *tcp()),
        ),
        Scenario(
            "echo2",
            "Echo of 64 bytes, two processes",
            echo,
            TRIPS,
            (*go(WINDOWS[:1], 2), *mine(gso, 2), *tcp(2)),
        ),
        Scenario(
            "ticks",
            f"{many[-1]} sessions, ten messages of 64 bytes a second in each,"
            " both ends in one process",
            (
                *("-job", "messages", "-sessions", str(many[-1]), "-warmup", "1"),
                *("-size", "64", "-every", "100", *seconds),
            ),
            (LOAD, *TRIPS),
            (*go(WINDOWS[:1]), *mine(gso, pure=KERNELS)),
        ),
        *(
            Scenario(
                f"idle{sessions}",
                f"{sessions} idle sessions, both ends in one process",
                idle(sessions),
                (LOAD, MEMORY),
                (*go(WINDOWS[:1]), *mine(gso, pure=KERNELS)),
            )
            for sessions in many
        ),
        Scenario(
            "clients",
            f"{many[-1]} idle client endpoints, each with its own socket; the server elsewhere",
            idle(many[-1]),
            (MEMORY,),
            (*go(WINDOWS[:1], 2), *mine(gso, 2, pure=KERNELS)),
        ),
        Scenario(
            "raknet2",
            f"RakNet, messages of {contenders.RAKNET_MESSAGE} bytes, two processes",
            bulk,
            STREAM,
            (*rak_go(MESSAGES_UNDERWAY, 2), *rak_mine(2)),
        ),
        Scenario(
            "raknetecho2",
            "RakNet, echo of 64 bytes, two processes",
            echo,
            TRIPS,
            (*rak_go(MESSAGES_UNDERWAY[:1], 2), *rak_mine(2)),
        ),
        Scenario(
            "raknetidle",
            f"RakNet, {many[-1]} idle sessions, both ends in one process",
            idle(many[-1]),
            (LOAD, MEMORY),
            (*rak_go(MESSAGES_UNDERWAY[:1]), *rak_mine()[:1]),
        ),
        Scenario(
            "qotp2",
            "QOTP beside QUIC: an encrypted stream, two processes",
            bulk,
            STREAM,
            (*contenders.aioquic(), *contenders.our_qotp(PORT_KINDS, 2)),
        ),
        Scenario(
            "qotpecho2",
            "QOTP beside QUIC: echo of 64 bytes, two processes",
            echo,
            TRIPS,
            (*contenders.aioquic(), *contenders.our_qotp(PORT_KINDS[:1], 2)),
        ),
        Scenario(
            "qotpecho",
            "QOTP, echo of 64 bytes, both ends in one process",
            echo,
            TRIPS,
            (*contenders.our_qotp(PORT_KINDS),),
        ),
    )


def _on_links(quick: bool) -> Iterator[Scenario]:
    """
    A stream over each link, and small messages over those where they are not alone
    for want of rate: at 20 kB/s in a session the faster links differ in nothing.
    """
    seconds = ("-seconds", "2" if quick else "3", "-warmup", "1")
    controlled = contenders.controlled({"CUBIC": "cubic", "BBR": "bbr"})
    for link in LINKS:
        yield Scenario(
            f"link-{link.name}",
            f"Stream over {link.title}",
            ("-job", "bulk", *seconds),
            (GOODPUT, WIRE, COST),
            (
                *contenders.kcp_go(LINK_WINDOWS, 2),
                *contenders.profiles({"default": (None, *LINK_WINDOWS[1:]), "fast3": (None,)}),
                *controlled,
            ),
            link,
        )
    for link in LINKS:
        if link.rate == min(link.rate for link in LINKS):
            yield Scenario(
                f"messages-{link.name}",
                f"Messages of 1 kB every 20 ms over {link.title}",
                ("-job", "messages", "-sessions", "10", *seconds),
                (MEDIAN_DELAY, SLOW_DELAY, WIRE),
                (
                    *contenders.kcp_go(LINK_WINDOWS[:1], 2),
                    *contenders.profiles({"default": (None,), "fast3": (None,)}),
                    *controlled,
                ),
                link,
            )
