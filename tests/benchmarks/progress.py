"""A progress bar."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Progress:
    """
    How many of a known number of steps are done, on one line of a terminal;
    elsewhere a line a step.
    """

    WIDTH = 30

    def __init__(self, steps: int, stream: TextIO = sys.stderr) -> None:
        self._steps = steps
        self._done = 0
        self._started = time.monotonic()
        self._stream = stream
        self._terminal = stream.isatty()

    def start(self, what: str) -> None:
        """Say what is going on now."""
        filled = self.WIDTH * self._done // self._steps
        bar = "#" * filled + "." * (self.WIDTH - filled)
        line = f"[{bar}] {self._done}/{self._steps}{self._remaining()}  {what}"
        if self._terminal:
            self._stream.write(f"\r\x1b[K{line[:110]}")
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def step(self) -> None:
        """One more is done."""
        self._done += 1

    def close(self) -> None:
        if self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _remaining(self) -> str:
        if not self._done:
            return ""
        each = (time.monotonic() - self._started) / self._done
        return f", {each * (self._steps - self._done):.0f} s left"
