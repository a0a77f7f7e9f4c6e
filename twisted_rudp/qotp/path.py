"""
The path to a peer: a new address is believed when the peer has answered there (W10), and a
length that does not get through is given up (RFC 8899, W13).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted_rudp.core.engine import AMPLIFICATION, SECOND, Address
from twisted_rudp.qotp.extensions import CHALLENGE
from twisted_rudp.qotp.wire import ControlFrame

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


LENGTHS: Final[tuple[int, ...]] = (1280, 1232, 1024, 576)
"""Datagrams of these lengths are tried where the chosen length does not get through."""

STRIKES: Final = 4
"""So often in a row long datagrams were lost and a short one was acknowledged after that."""

RAISE_INTERVAL: Final = 60 * SECOND
"""After so long a longer datagram is tried again."""

_MARGIN: Final = 128
"""Bytes by which a datagram is longer at most than what it carries of a stream."""


class PathMTU:
    """
    The longest datagram that gets through, in both directions of its change.

    Sizes of streams' segments are compared with the next smaller length, so that what is
    near the limit but below it tells nothing wrong.

    @ivar mtu: longest datagram to be sent.
    @ivar strikes: signs of a black hole in a row.
    """

    __slots__ = ("_largest", "_long", "_lost", "_probed", "mtu", "strikes")

    def __init__(self, mtu: int) -> None:
        """
        @param mtu: never more than this.
        """
        self.mtu = self._largest = mtu
        self.strikes = 0
        self._lost = False
        self._probed = 0
        self._long = self._next_smaller()

    @property
    def reduced(self) -> bool:
        """Longer datagrams may be tried."""
        return self.mtu < self._largest

    def acknowledged(self, size: int) -> None:
        """A segment of C{size} bytes has got through."""
        if size > self._long:
            self.strikes = 0
            self._lost = False
        elif self._lost:
            self._lost = False
            self.strikes += 1

    def frame_acknowledged(self, size: int) -> None:
        """A control frame has got through, perhaps the one that was sent for its length."""
        if self._probed and size > self._probed - _MARGIN:
            self.mtu = self._probed
            self._long = self._next_smaller()
            self._probed = 0
        self.acknowledged(size)

    def lost(self, size: int) -> None:
        """A segment of C{size} bytes was lost, or is taken for that."""
        if size > self._long:
            self._lost = True

    @property
    def suspect(self) -> bool:
        """A long datagram was lost and none has got through since."""
        return self._lost or self.strikes > 0

    def shrink(self, size: int) -> None:
        """The path takes no datagrams of C{size} bytes; 0: not of the present length."""
        size = min(size or self.mtu, self.mtu)
        self.mtu = next((length for length in LENGTHS if length < size), self.mtu)
        self._long = self._next_smaller()
        self.strikes = 0
        self._lost = False

    def probe(self) -> int:
        """
        The next larger length, to be tried once.

        @return: 0 if there is none.
        """
        larger = [each for each in (self._largest, *LENGTHS) if self.mtu < each <= self._largest]
        self._probed = min(larger, default=0)
        return self._probed

    def _next_smaller(self) -> int:
        smaller = max((length for length in LENGTHS if length < self.mtu), default=self.mtu)
        return smaller - _MARGIN
