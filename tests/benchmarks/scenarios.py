"""What is measured. A new measurement is a new entry here, or in L{VARIANTS}."""

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
    RECEIVER_COST,
    SENDER_COST,
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
    Link(delay, rate, loss, burst, queue=2 * delay)
    for delay, rate in ((20, 100), (100, 100), (20, 400), (20, 20))
    for loss, burst in ((0, 0), (1, 0), (5, 0), (2, 4))
)
"""
Links on which every datagram arrives alone, with a queue of one bandwidth-delay product.
Delays are one way, as those of the emulator are: round trips of 40 and 200 ms.
"""

LINK_WINDOWS = (1024, 4096)

MESSAGE_LINKS = tuple(link for link in LINKS if link.rate == 100)


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


STREAM = (GOODPUT, COST)
TRIPS = (MEDIAN_TRIP, SLOW_TRIP)
KERNELS = (False,)

GSO, OTHERS = PORT_KINDS[:1], PORT_KINDS[1:]
STOCK = WINDOWS[:1]


class _Jobs:
    """
    What the programs are asked to do.

    @ivar sessions: how many there are where many are wanted.
    """

    def __init__(self, quick: bool) -> None:
        self._seconds = ("-seconds", "1" if quick else "1.5")
        self.sessions = MANY[:1] if quick else MANY
        self.bulk = ("-job", "bulk", *self._seconds)
        self.echo = ("-job", "echo", "-count", "1000" if quick else "5000")

    def bulks(self, sessions: int) -> tuple[str, ...]:
        return (*self.bulk, "-sessions", str(sessions), "-warmup", "1")

    def ticks(self, sessions: int) -> tuple[str, ...]:
        many = ("-job", "messages", "-sessions", str(sessions), "-warmup", "1")
        return (*many, "-size", "64", "-every", "100", *self._seconds)

    def idle(self, sessions: int) -> tuple[str, ...]:
        return ("-job", "idle", "-sessions", str(sessions), *self._seconds)


def scenarios(quick: bool) -> Sequence[Scenario]:
    """
    All of them.

    @param quick: for a look, not for a figure to be written down: short runs,
        fewer sessions.
    """
    jobs = _Jobs(quick)
    return (
        *_kcp_streams(jobs),
        *_kcp_sessions(jobs),
        *_raknet(jobs),
        *_qotp(jobs),
        *_on_links(quick),
    )


def _kcp_streams(jobs: _Jobs) -> Iterator[Scenario]:
    go, mine, tcp = contenders.kcp_go, contenders.ours, contenders.tcp
    both, apart = "both ends in one process", "two processes"
    yield Scenario(
        "plain", f"Plain stream, {both}", jobs.bulk, STREAM, (*go(WINDOWS), *mine(GSO), *tcp())
    )
    yield Scenario(
        "nogso",
        f"Plain stream without GSO and GRO, {both}",
        jobs.bulk,
        (GOODPUT, COST, LOAD),
        (*go(WINDOWS), *mine(OTHERS)),
    )
    yield Scenario(
        "plain2",
        f"Plain stream, {apart}",
        jobs.bulk,
        STREAM,
        (*go(WINDOWS, 2), *contenders.mixed(WINDOWS[0]), *mine(GSO, 2), *tcp(2)),
    )
    for name, title, flags in VARIANTS:
        asked = (*jobs.bulk, *flags)
        yield Scenario(name, f"{title}: stream, {both}", asked, STREAM, (*go(WINDOWS), *mine(GSO)))
        yield Scenario(
            f"{name}-2",
            f"{title}: stream, {apart}",
            asked,
            STREAM,
            (*go(WINDOWS, 2), *mine(GSO, 2)),
        )
    for sessions in jobs.sessions:
        yield Scenario(
            f"streams{sessions}",
            f"{sessions} streams at once, {both}",
            jobs.bulks(sessions),
            STREAM,
            (*go(STOCK), *mine(GSO, pure=KERNELS)),
        )


def _kcp_sessions(jobs: _Jobs) -> Iterator[Scenario]:
    go, mine, tcp = contenders.kcp_go, contenders.ours, contenders.tcp
    few = (*go(STOCK), *mine(GSO, pure=KERNELS))
    most = jobs.sessions[-1]
    yield Scenario(
        "echo",
        "Echo of 64 bytes, both ends in one process",
        jobs.echo,
        TRIPS,
        (*go(STOCK), *mine(GSO), *mine(OTHERS, pure=KERNELS), *tcp()),
    )
    yield Scenario(
        "echo2",
        "Echo of 64 bytes, two processes",
        jobs.echo,
        TRIPS,
        (*go(STOCK, 2), *mine(GSO, 2), *tcp(2)),
    )
    yield Scenario(
        "ticks",
        f"{most} sessions, ten messages of 64 bytes a second in each, both ends in one process",
        jobs.ticks(most),
        (LOAD, *TRIPS),
        few,
    )
    for sessions in jobs.sessions:
        yield Scenario(
            f"idle{sessions}",
            f"{sessions} idle sessions, both ends in one process",
            jobs.idle(sessions),
            (LOAD, MEMORY),
            (*few, *contenders.one_port()),
        )
    yield Scenario(
        "clients",
        f"{most} idle client endpoints, each with its own socket; the server elsewhere",
        jobs.idle(most),
        (MEMORY,),
        (*go(STOCK, 2), *mine(GSO, 2, pure=KERNELS)),
    )


def _raknet(jobs: _Jobs) -> Iterator[Scenario]:
    go, mine = contenders.go_raknet, contenders.our_raknet
    few = MESSAGES_UNDERWAY[:1]
    most = jobs.sessions[-1]
    yield Scenario(
        "raknet2",
        f"RakNet, messages of {contenders.RAKNET_MESSAGE} bytes, two processes",
        jobs.bulk,
        STREAM,
        (*go(MESSAGES_UNDERWAY, 2), *mine(2)),
    )
    yield Scenario(
        "raknetecho2",
        "RakNet, echo of 64 bytes, two processes",
        jobs.echo,
        TRIPS,
        (*go(few, 2), *mine(2)),
    )
    yield Scenario(
        "raknetidle",
        f"RakNet, {most} idle sessions, both ends in one process",
        jobs.idle(most),
        (LOAD, MEMORY),
        (*go(few), *mine()[:1]),
    )


def _qotp(jobs: _Jobs) -> Iterator[Scenario]:
    mine = contenders.our_qotp
    yield Scenario(
        "qotp2",
        "QOTP beside QUIC: an encrypted stream, two processes",
        jobs.bulk,
        STREAM,
        (*contenders.aioquic(), *mine(PORT_KINDS, 2)),
    )
    yield Scenario(
        "qotpecho2",
        "QOTP beside QUIC: echo of 64 bytes, two processes",
        jobs.echo,
        TRIPS,
        (*contenders.aioquic(), *mine(GSO, 2)),
    )
    yield Scenario(
        "qotpecho",
        "QOTP, echo of 64 bytes, both ends in one process",
        jobs.echo,
        TRIPS,
        (*mine(PORT_KINDS),),
    )


def _on_links(quick: bool) -> Iterator[Scenario]:
    """
    C{make bench-links}: bulk by every transport, with the work of each end, and small messages.
    """
    seconds = ("-seconds", "4" if quick else "8")
    control = contenders.controlled({"CUBIC": "cubic", "BBR": "bbr"})
    for link in LINKS:
        yield Scenario(
            f"link-{link.name}",
            f"Stream over {link.title}",
            ("-job", "bulk", *seconds),
            (GOODPUT, WIRE, SENDER_COST, RECEIVER_COST),
            (
                *control,
                *contenders.kcp_go(LINK_WINDOWS[1:], 2),
                *contenders.go_raknet(MESSAGES_UNDERWAY[1:], 2),
                *contenders.aioquic(),
                *contenders.profiles({"default": (None,), "fast3": (None,)}),
                *contenders.our_raknet(2)[1:],
                *contenders.our_qotp(GSO, 2),
                *contenders.compiled(2),
            ),
            link,
        )
    for link in MESSAGE_LINKS:
        yield Scenario(
            f"messages-{link.name}",
            f"A message of 1 kB each 20 ms over {link.title}",
            ("-job", "messages", "-sessions", "1", *seconds),
            (MEDIAN_DELAY, SLOW_DELAY, WIRE),
            (
                *control,
                *contenders.kcp_go(LINK_WINDOWS[:1], 2),
                *contenders.profiles({"default": (None,), "interactive": (None,)}),
                *contenders.our_qotp(GSO, 2),
            ),
            link,
        )
