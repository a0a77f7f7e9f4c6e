"""What was aimed at against other libraries, and whether it was met."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.contenders import ONE_PORT, Group

KERNELS = "twisted_rudp, gso port, kernels"
PURE = "twisted_rudp, gso port, pure Python"
PLAIN = "twisted_rudp, plain port, kernels"

RAKNET_STREAM = "twisted_rudp, raknet, stream"
RAKNET_MESSAGES = "twisted_rudp, raknet, messages"
QOTP = "twisted_rudp, qotp, gso port"

_GO = Group.GO_RAKNET
_RATIO, _VALUE = "{:.2f}x", "{:.2f}"


@dataclass(frozen=True)
class Target:
    """
    One line of the table.

    @ivar what: for people, with the unit of a figure.
    @ivar scenario: where it is read off.
    @ivar row: the contender it is asked of.
    @ivar metric: the name of the figure.
    @ivar limit: what the figure, or its ratio, may be at most or has to be at least.
    @ivar at_least: which of the two.
    @ivar against: the ratio is to the best of this group; None: the figure itself.
    """

    what: str
    scenario: str
    row: str
    metric: str
    limit: float
    at_least: bool = True
    against: Group | None = Group.KCP_GO


@dataclass(frozen=True)
class Verdict:
    """
    How a target was met.

    @ivar got: the figure or ratio; None: it was not measured.
    """

    target: Target
    got: float | None

    @property
    def met(self) -> bool:
        if self.got is None:
            return False
        limit = self.target.limit
        return self.got >= limit if self.target.at_least else self.got <= limit

    def cells(self) -> tuple[str, str, str, str]:
        """What, target, got, verdict."""
        form = _RATIO if self.target.against else _VALUE
        sign = ">=" if self.target.at_least else "<="
        wanted = f"{sign} {form.format(self.target.limit)}"
        if self.got is None:
            return self.target.what, wanted, "not measured", "open"
        return self.target.what, wanted, form.format(self.got), "met" if self.met else "**missed**"


def _streams() -> Iterator[Target]:
    for what, scenario, kernels, pure in (
        ("plain stream, one process", "plain", 10, 4),
        ("plain stream, two processes", "plain2", 10, 4),
        ("FEC 10+3", "fec", 3, 1),
        ("AES-256", "aes", 1.8, None),
        ("AES-128-GCM", "gcm", 3, None),
        ("AES-256 and FEC", "aesfec", 1.4, None),
        ("1 % loss", "loss1", 3, 2.5),
    ):
        yield Target(f"{what}, goodput", scenario, KERNELS, "goodput", kernels)
        if pure is not None:
            yield Target(f"{what}, goodput, pure Python", scenario, PURE, "goodput", pure)


TARGETS = (
    *_streams(),
    Target("CPU seconds per GB, both ends", "plain", KERNELS, "cost", 0.35, False, None),
    Target("the same, pure Python", "plain", PURE, "cost", 0.8, False, None),
    Target("no GSO, no GRO, goodput", "nogso", PLAIN, "goodput", 0.8),
    Target("the same, % of a core", "nogso", PLAIN, "load", 100, False, None),
    Target("kcp-go client to our server", "plain2", "kcp-go client, our server", "goodput", 1),
    Target("our client to kcp-go server", "plain2", "our client, kcp-go server", "goodput", 1),
    Target("64-byte echo, one process, p50", "echo", KERNELS, "p50", 1.35, False),
    Target("64-byte echo, one process, p99", "echo", KERNELS, "p99", 0.5, False),
    Target("64-byte echo, two processes, p50", "echo2", KERNELS, "p50", 0.75, False),
    Target(
        "1000 idle pairs on two ports, % of a core", "idle1000", ONE_PORT, "load", 0.5, False, None
    ),
    Target(
        "1000 idle pairs on two ports, KB a pair", "idle1000", ONE_PORT, "memory", 10, False, None
    ),
    Target("1000 client endpoints, KB each", "clients", KERNELS, "memory", 20, False, None),
    Target("RakNet, stream, goodput", "raknet2", RAKNET_STREAM, "goodput", 15, True, _GO),
    Target("RakNet, messages, goodput", "raknet2", RAKNET_MESSAGES, "goodput", 15, True, _GO),
    Target("RakNet, stream, CPU", "raknet2", RAKNET_STREAM, "cost", 0.1, False, _GO),
    Target("RakNet, messages, CPU", "raknet2", RAKNET_MESSAGES, "cost", 0.1, False, _GO),
    Target("RakNet, 64-byte echo, p50", "raknetecho2", RAKNET_MESSAGES, "p50", 1, False, _GO),
    Target("QOTP, goodput", "qotp2", QOTP, "goodput", 6, True, Group.AIOQUIC),
    Target("QOTP, CPU", "qotp2", QOTP, "cost", 0.2, False, Group.AIOQUIC),
    Target("QOTP, 64-byte echo, one process, p50 us", "qotpecho", QOTP, "p50", 79, False, None),
)
"""Those of issues 2 to 5. KCP's against the best of kcp-go's windows; client and server of
different kinds against the best of kcp-go with itself. "0 %" of a core is read as
what a clock of a hundredth shows of it: less than half a percent."""


def verdicts(document: Mapping[str, Any]) -> list[Verdict]:
    """All targets, by what a document has of them."""
    return [Verdict(target, _got(target, document["scenarios"])) for target in TARGETS]


def _got(target: Target, scenarios: Mapping[str, Any]) -> float | None:
    rows = [
        row
        for row in scenarios.get(target.scenario, {"rows": []})["rows"]
        if target.metric in row["values"]
    ]
    figures: dict[str, float] = {
        row["name"]: row["values"][target.metric]["median"] for row in rows
    }
    if target.against is None or target.row not in figures:
        return figures.get(target.row)
    others = [figures[row["name"]] for row in rows if row["group"] == target.against.value]
    best = (max if target.at_least else min)(others, default=0)
    return figures[target.row] / best if best else None
