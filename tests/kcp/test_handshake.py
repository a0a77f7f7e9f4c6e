"""
Tests for L{twisted_rudp.kcp.handshake}: every loss pattern of the first datagrams. That
a client speaks first is tried with whole endpoints in L{tests.endpoints.test_kcphandshake}.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.kcp.pair import Pair
from tests.pair import Fate
from twisted_rudp.core.engine import Event

FIRST = 5
"""Datagrams each way whose loss is tried."""


def pattern(bits: int) -> Fate:
    """A link that loses those of the first datagrams whose bits are set."""

    def fate(number: int, datagram: bytes) -> Sequence[float]:
        return () if number < FIRST and bits >> number & 1 else (10,)

    return fate


class LossPatternTests(SynchronousTestCase):
    """All 1024 patterns of the first five datagrams each way."""

    def each(self, speakers: Sequence[str]) -> None:
        """
        Whoever speaks does so when it is connected; both connect, and all is heard, within
        the half minute that nine lost words in a row take.
        """
        for bits in range(1 << 2 * FIRST):
            pair = Pair(pattern(bits & (1 << FIRST) - 1), pattern(bits >> FIRST))
            for end in (pair.client, pair.server):
                end.greeting = b"from " + end.name.encode() if end.name in speakers else b""
            pair.dial()
            for _ in range(300):
                pair.run(100)
                if self.complete(pair):
                    break
            else:
                self.fail(f"pattern {bits:010b}: {pair.client.kinds()}, {pair.server.kinds()}")

    def complete(self, pair: Pair) -> bool:
        """Both are connected and have heard what the other has to say."""
        return (
            pair.client.kinds() == pair.server.kinds() == [Event.CONNECTED]
            and pair.client.received == pair.server.greeting
            and pair.server.received == pair.client.greeting
        )

    def test_serverSpeaks(self) -> None:
        """The server writes when it is connected, the client says nothing."""
        self.each(["server"])

    def test_both(self) -> None:
        """Both write when they are connected."""
        self.each(["client", "server"])
