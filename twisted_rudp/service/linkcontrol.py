"""The settings of C{rudp link}: on its command line, and while it runs; and its live counters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.protocols.basic import LineOnlyReceiver

from twisted_rudp.service.usage import number, whole
from twisted_rudp.testing.impairments import BurstLoss, Impairments

length = number(1, 10_000, "a length")
percent = number(0, 100, "a percentage")
milliseconds = number(0, 60_000, "milliseconds")


class Setting(NamedTuple):
    """One setting of a direction, in the units of the command line."""

    name: str
    default: float | int | None
    help: str
    coerce: Callable[[str], Any]


SETTINGS: Final = (
    Setting("loss", 0.0, "Percent of datagrams lost.", percent),
    Setting("burst", 0.0, "Percent of datagrams lost in bursts.", number(0, 99, "a percentage")),
    Setting("burst-length", 4.0, "Average number of datagrams in a burst.", length),
    Setting("delay", 0.0, "Delay in each direction, in ms.", milliseconds),
    Setting("jitter", 0.0, "Extra random delay, 0 to N ms.", milliseconds),
    Setting("reorder", 0.0, "Percent of datagrams reordered by delay.", percent),
    Setting("reorder-delay", 10.0, "Delay of reordered datagrams, in ms.", milliseconds),
    Setting("duplicate", 0.0, "Percent of datagrams duplicated.", percent),
    Setting("rate", None, "Rate of the bottleneck in Mbit/s.", number(0.001, 100_000, "Mbit/s")),
    Setting(
        "queue",
        None,
        "Queue of the bottleneck in bytes. Default: 100 ms at its rate.",
        whole(1, 1 << 40, "bytes"),
    ),
    Setting("mtu", None, "Longest UDP payload in bytes.", whole(1, 65507, "bytes")),
)

_COERCE: Final = {each.name: each.coerce for each in SETTINGS}
_OPTIONAL: Final = frozenset(each.name for each in SETTINGS if each.default is None)

_CHANGED: Final = (
    *("loss", "burst", "delay", "jitter", "reorder", "reorder_delay", "duplicate"),
    *("rate", "queue", "mtu"),
)


def impairmentsOf(values: Mapping[str, Any], seed: int = 0) -> Impairments:
    """
    Impairments with these L{SETTINGS}.

    @raise ValueError: they do not go together.
    """
    rate = None if values["rate"] is None else values["rate"] * 1e6 / 8
    queue = values["queue"]
    if queue is not None and rate is None:
        raise ValueError("queue requires rate")
    if rate is not None and queue is None:
        # At least one full datagram, or a slow link would drop them all.
        queue = max(65507, round(rate / 10))
    return Impairments(
        seed=seed,
        loss=values["loss"] / 100,
        burst=_burst(values["burst"] / 100, values["burst-length"]),
        delay=values["delay"] / 1000,
        jitter=values["jitter"] / 1000,
        reorder=values["reorder"] / 100,
        reorder_delay=values["reorder-delay"] / 1000,
        duplicate=values["duplicate"] / 100,
        rate=rate,
        queue=queue,
        mtu=values["mtu"],
    )


def _burst(share: float, length: float) -> BurstLoss | None:
    """The chain whose bad state lasts C{length} datagrams and holds a share of all."""
    if not share:
        return None
    leave = 1 / length
    return BurstLoss(enter=min(1.0, leave * share / (1 - share)), leave=leave)


class ChangingLink(Protocol):
    """What is changed and reported of a link."""

    forward: Impairments
    backward: Impairments

    def statistics(self) -> Mapping[str, int]:
        """All counters by name."""


HELP: Final = (
    "[forward|back] SETTING VALUE   change a setting, of both directions unless one is named;"
    " VALUE may be 'none' for rate, queue and mtu",
    "[forward|back] cut, mend       let nothing pass, and let it pass again",
    "show                           the settings",
    "counters                       the counters",
    f"Settings: {', '.join(_COERCE)}.",
)


class LinkControl:
    """Carries out the lines that a person writes to a running link."""

    def __init__(
        self, link: ChangingLink, forward: Mapping[str, Any], backward: Mapping[str, Any]
    ) -> None:
        """
        @param forward: the values of its L{SETTINGS} towards the server.
        @param backward: the same towards the clients.
        """
        self._link = link
        self._values = {"forward": dict(forward), "back": dict(backward)}

    def answer(self, line: str) -> list[str]:
        """Carry out one line; what went wrong is an answer too."""
        words = line.split()
        try:
            return self._answer(words) if words else []
        except ValueError as problem:
            return [f"not changed: {problem}"]

    def _answer(self, words: list[str]) -> list[str]:
        """
        @raise ValueError: there is no such command, setting or value.
        """
        directions = ["forward", "back"]
        if words[0] in directions:
            directions, words = [words[0]], words[1:]
        match words:
            case ["help"]:
                return list(HELP)
            case ["show"]:
                return [self._shown(each) for each in directions]
            case ["counters"]:
                return [f"{name} {n}" for name, n in self._link.statistics().items() if n]
            case ["cut" | "mend" as word]:
                for each in directions:
                    self._way(each).cut = word == "cut"
                return [f"{each}: {word}" for each in directions]
            case [name, value] if name in _COERCE:
                return self._change(directions, name, value)
        raise ValueError(f"{' '.join(words)!r} is no command; 'help' shows them")

    def _change(self, directions: list[str], name: str, text: str) -> list[str]:
        value = None if text == "none" and name in _OPTIONAL else _COERCE[name](text)
        # All are checked before one is changed.
        changes = {each: {**self._values[each], name: value} for each in directions}
        made = {each: impairmentsOf(values) for each, values in changes.items()}
        for each in directions:
            self._values[each] = changes[each]
            for field in _CHANGED:
                setattr(self._way(each), field, getattr(made[each], field))
        return [f"{each}: {name} {text}" for each in directions]

    def _way(self, direction: str) -> Impairments:
        return self._link.forward if direction == "forward" else self._link.backward

    def _shown(self, direction: str) -> str:
        values = self._values[direction]
        shown = [
            f"{each.name} {values[each.name]:g}"
            for each in SETTINGS
            if values[each.name] != each.default
        ]
        cut = ["cut"] if self._way(direction).cut else []
        return f"{direction}: {', '.join(cut + shown) or 'nothing is impaired'}"


class Console(LineOnlyReceiver):
    """Standard input and output of a running link."""

    delimiter = b"\n"
    MAX_LENGTH = 1000

    def __init__(self, control: LinkControl) -> None:
        self._control = control

    def lineReceived(self, line: bytes) -> None:
        for answer in self._control.answer(line.decode("utf-8", "replace")):
            self.sendLine(answer.encode())  # type: ignore[no-untyped-call]

    def lineLengthExceeded(self, line: bytes) -> None:
        self.sendLine(b"that line is too long")  # type: ignore[no-untyped-call]


class Report:
    """Prints what a link has done since the last time."""

    def __init__(self, link: ChangingLink, clock: IReactorTime) -> None:
        self._link = link
        self._clock = clock
        self._start = self._then = clock.seconds()
        self._before: Mapping[str, int] = link.statistics()

    def show(self) -> None:
        """Print a line."""
        print(self.line(), flush=True)

    def line(self) -> str:
        """What each direction has carried since the last line."""
        now, counters = self._clock.seconds(), self._link.statistics()
        elapsed = max(now - self._then, 1e-9)
        parts = []
        for name, shown in (("forward", "forward"), ("backward", "back")):
            new = {
                key: counters[f"{name}_{key}"] - self._before[f"{name}_{key}"]
                for key in ("offered", "delivered", "bytes")
            }
            lost = new["offered"] - new["delivered"]
            share = 100 * lost / new["offered"] if new["offered"] else 0.0
            rate = new["bytes"] * 8 / elapsed / 1e6
            parts.append(
                f"{shown} {rate:.3g} Mbit/s, {new['offered']} datagrams, {share:.3g} % dropped"
            )
        self._then, self._before = now, counters
        return f"{now - self._start:.1f} s: {'; '.join(parts)}"
