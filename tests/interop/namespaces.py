"""
Machines on a network of their own: Linux network namespaces joined by a virtual cable.
They exist for one test and need root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from itertools import count
from time import monotonic, sleep

from tests.interop.harness import unavailable
from tests.interpreter import environment, python
from tests.service.programs import PATIENCE, Program

_numbers = count()

SETTLING = 20.0
"""Seconds that addresses may take to become usable (duplicate address detection)."""


def ip(*arguments: str) -> str:
    """The program of this name."""
    return subprocess.run(
        ["ip", *arguments], check=True, capture_output=True, text=True, timeout=20
    ).stdout


class Machine:
    """
    One namespace.

    @ivar address: its IPv4 address.
    """

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address

    @property
    def prefix(self) -> Sequence[str]:
        """What runs a command here."""
        return ("ip", "netns", "exec", self.name)

    def start(self, *arguments: str, keyboard: bool = False) -> Program:
        """
        Start a Python program.

        @param keyboard: its input is ours, and stays open.
        """
        return Program(*arguments, prefix=self.prefix, keyboard=keyboard)

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run a Python program to its end: its status and everything that it printed."""
        result = subprocess.run(
            [*self.prefix, *python(*arguments)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        return result.returncode, result.stdout


class Cable:
    """Two machines, C{10.77.0.1} and C{10.77.0.2}, each with an IPv6 link-local address too."""

    def __init__(self) -> None:
        """
        @raise SkipTest: this cannot be made here (in CI: an error).
        """
        if shutil.which("ip") is None:
            raise unavailable("ip of iproute2 is not installed")
        if os.geteuid() != 0:
            raise unavailable("network namespaces need root")
        mark = f"{os.getpid() % 100000}x{next(_numbers)}"
        self.machines = [Machine(f"rudp{mark}{n}", f"10.77.0.{n}") for n in (1, 2)]
        ends = [f"r{mark}v{n}" for n in (1, 2)]
        try:
            for machine in self.machines:
                ip("netns", "add", machine.name)
            ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
            for machine, end in zip(self.machines, ends, strict=True):
                ip("link", "set", end, "netns", machine.name)
                inside = ("-n", machine.name)
                ip(*inside, "link", "set", end, "name", "cable")
                ip(*inside, "address", "add", f"{machine.address}/24", "brd", "+", "dev", "cable")
                ip(*inside, "link", "set", "lo", "up")
                ip(*inside, "link", "set", "cable", "up")
        except subprocess.CalledProcessError as error:
            self.remove()
            raise unavailable(f"no network namespaces here: {error.stderr.strip()}") from None
        self._settle()

    def _settle(self) -> None:
        end = monotonic() + SETTLING
        for machine in self.machines:
            shown = ("-n", machine.name, "-6", "address", "show", "dev", "cable")
            while "inet6 fe80" not in (text := ip(*shown)) or "tentative" in text:
                if monotonic() > end:
                    raise unavailable("no usable IPv6 address in the namespaces")
                sleep(0.1)

    def remove(self) -> None:
        """Take everything away; the cable goes with its ends."""
        for machine in self.machines:
            subprocess.run(["ip", "netns", "del", machine.name], capture_output=True)
