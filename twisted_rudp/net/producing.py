"""A producer that feeds a transport (FLOW-1 to FLOW-5)."""

from __future__ import annotations

from typing import Any

HIGH_WATER = 256 * 1024
"""
A push producer pauses when more than this waits for the send window. What is in
flight never counts (FLOW-1).
"""

LOW_WATER = HIGH_WATER // 4
"""It goes on when no more than this is left, so that the window never runs dry."""

LEAST_SHARE = LOW_WATER // 2
"""What a flush may send at the least before the producer is asked: less than a run,
more than any datagram."""


class Feed:
    """
    One registered producer and what it was told last.

    Both methods say what the producer is to be told; telling it is the transport's,
    whose fence is around that.

    @ivar producer: an C{IPushProducer} if C{streaming}, else an C{IPullProducer}.
    @ivar paused: a push producer that was told to pause and not yet to go on.
    @ivar room: bytes that can certainly be written before it must pause. Who writes
        takes them off, and asks L{mustPause} below 0.
    """

    __slots__ = ("_askedIn", "paused", "producer", "room", "streaming")

    def __init__(self, producer: Any, streaming: bool) -> None:
        self.producer = producer
        self.streaming = streaming
        self.paused = False
        self.room = 0
        self._askedIn = -1

    @property
    def over(self) -> bool:
        """
        The producer is a transport whose connection is lost: nothing more can come of
        it. Programs that join two transports register each with the other and never
        unregister them (LAY-2).
        """
        return bool(getattr(self.producer, "disconnected", False))

    def mustPause(self, unsent: int) -> bool:
        """
        Whether the producer is to pause now that C{unsent} bytes wait; once for each
        crossing of the mark (FLOW-2).
        """
        self.room = HIGH_WATER - unsent
        if not self.streaming or self.paused or unsent <= HIGH_WATER:
            return False
        self.paused = True
        return True

    def mustResume(self, unsent: int, turn: int) -> bool:
        """
        Whether the producer is to go on: a push producer that was paused at the low
        mark, a pull producer when all is drained, once in each turn (FLOW-3).
        """
        if self.streaming:
            if not self.paused or unsent > LOW_WATER:
                return False
            self.paused = False
            self.room = HIGH_WATER - unsent
            return True
        if unsent or turn == self._askedIn:
            return False
        self._askedIn = turn
        return True
