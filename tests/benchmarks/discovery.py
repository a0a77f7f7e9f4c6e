"""
How many announcements a registry takes in, and what it needs for them: C{python -m
tests.benchmarks.discovery}.

100 000 announcements from 10 000 ids at 1 000 addresses, as datagrams: decoded, checked and
entered.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from ipaddress import ip_interface
from time import perf_counter

from twisted.internet.task import Clock

from tests.benchmarks.progress import Progress
from twisted_rudp.discovery import v4
from twisted_rudp.discovery.local import AnnouncementFilter
from twisted_rudp.discovery.networks import Interface
from twisted_rudp.discovery.profiles import V4
from twisted_rudp.discovery.registry import Registry

IDS = 10_000
ROUNDS = 10
NETWORK = [Interface("eth0", 1, (ip_interface("10.0.0.1/8"),))]


def announcements() -> Iterator[tuple[bytes, str]]:
    """Datagrams with their senders."""
    for _ in range(ROUNDS):
        for number in range(1, IDS + 1):
            key = number.to_bytes(32, "big")
            wire = v4.encode(key, ("kcp://0.0.0.0:4000", "qotp://0.0.0.0:8888"), number)
            yield wire, f"10.1.{number % 1000 // 250}.{number % 250 + 1}"


def run(name: str, registry: Registry) -> str:
    """Take everything in twice: once for the time, once for the memory."""
    heard = list(announcements())
    intake = AnnouncementFilter(Clock(), V4, registry, 1, lambda: ())
    began = perf_counter()
    for datagram, host in heard:
        intake.take(datagram, host, "v4 broadcast", NETWORK)
    seconds = perf_counter() - began
    held = len(registry)
    refused = registry.counters["refused_rate"] + registry.counters["evicted"]
    return f"{name:24} {len(heard) / seconds:10.0f} {held:8} {refused:10} {memory(registry):10.1f}"


def memory(full: Registry) -> float:
    """MB that so many records take, measured by filling another registry."""
    tracemalloc.start()
    again = Registry(Clock(), maxRecords=len(full), newPerSource=IDS)
    intake = AnnouncementFilter(Clock(), V4, again, 1, lambda: ())
    for datagram, host in announcements():
        intake.take(datagram, host, "v4 broadcast", NETWORK)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / 1e6


def main() -> int:
    progress = Progress(2)
    rows = []
    for name, registry in [
        ("usual limits", Registry(Clock())),
        ("room for all", Registry(Clock(), maxRecords=IDS, maxWeight=1 << 30, newPerSource=IDS)),
    ]:
        progress.start(name)
        rows.append(run(name, registry))
        progress.step()
    progress.close()
    print(f"{IDS * ROUNDS} announcements from {IDS} ids")
    print(f"{'':24} {'a second':>10} {'held':>8} {'refused':>10} {'MB':>10}")
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
