"""A progress bar for a terminal, and plain lines where there is none."""

from __future__ import annotations

from typing import TextIO

_WIDTH = 40


class Progress:
    """Shows how much of something has come."""

    def __init__(self, total: int, out: TextIO) -> None:
        """
        @param total: bytes to come.
        """
        self._total = total
        self._out = out
        self._tenths = 0

    def show(self, done: int, seconds: float) -> None:
        """
        Say where it stands: redrawn on a terminal, every tenth as a line
        elsewhere.

        @param seconds: since the beginning.
        """
        text = self._text(done, seconds)
        if self._out.isatty():
            self._out.write(f"\r{text}")
            if done >= self._total:
                self._out.write("\n")
        elif done * 10 // self._total > self._tenths:
            self._tenths = done * 10 // self._total
            self._out.write(f"{text}\n")
        self._out.flush()

    def _text(self, done: int, seconds: float) -> str:
        filled = done * _WIDTH // self._total
        bar = "#" * filled + "." * (_WIDTH - filled)
        rate = done / seconds / 1e6 if seconds else 0.0
        return f"[{bar}] {done * 100 // self._total:3d} %  {rate:6.2f} MB/s"
