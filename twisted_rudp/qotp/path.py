"""A peer that appears at another address (W10): believed only when it has answered there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted_rudp.core.engine import AMPLIFICATION, SECOND, Address
from twisted_rudp.qotp.extensions import CHALLENGE
from twisted_rudp.qotp.sent import ControlFrame

GAP: Final = SECOND
"""At most one change of the address in so long."""

REPEAT: Final = SECOND // 4
TRIES: Final = 4

COST: Final = 64
"""Bytes that a challenge has at most on the wire."""


class Path:
    """
    Challenges a new address while the old one stays in use.

    @ivar candidate: the new address, while it is challenged.
    """

    def __init__(self, entropy: Callable[[int], bytes], stream: int) -> None:
        """
        @param stream: whose PING the challenge is.
        """
        self.candidate: Address | None = None
        self._entropy = entropy
        self._stream = stream
        self._offsets: list[int] = []
        self._credit = 0
        self._due = 0
        self._not_before = 0
        self._validated = False

    def seen(self, address: Address, size: int, now: int) -> None:
        """
        Something authentic and newer than all before came from another address than
        the one in use.
        """
        if self.candidate != address:
            if now < self._not_before:
                return
            self._not_before = now + GAP
            self.candidate = address
            self._offsets.clear()
            self._credit = 0
            self._validated = False
            self._due = now
        self._credit += AMPLIFICATION * size

    @property
    def deadline(self) -> int | None:
        """When L{challenge} has something to send."""
        if self.candidate is None or len(self._offsets) >= TRIES or self._credit < COST:
            return None
        return self._due

    def challenge(self, now: int) -> ControlFrame | None:
        """A PING for the new address, if it is time for one."""
        due = self.deadline
        if due is None or now < due:
            return None
        self._credit -= COST
        self._due = now + REPEAT
        offset = int.from_bytes(self._entropy(6), "little") | CHALLENGE
        self._offsets.append(offset)
        return ControlFrame(self._stream, offset)

    def answered(self, stream: int, offset: int) -> None:
        """
        The peer acknowledges this PING. The offset is the proof: unlike the number of a
        packet it cannot be guessed.
        """
        if stream == self._stream and offset in self._offsets:
            self._validated = True

    def take_proved(self) -> Address | None:
        """The new address, once a challenge was answered."""
        if not self._validated:
            return None
        address, self.candidate, self._validated = self.candidate, None, False
        return address
