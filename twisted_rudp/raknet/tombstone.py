"""What answers for a session that is over (raknet.md 11.3)."""

from __future__ import annotations

from twisted_rudp.core.engine import Buffer
from twisted_rudp.raknet.arrivals import Arrivals
from twisted_rudp.raknet.wire import ACK_BIT, HEADER_SIZE, NACK_BIT

MOST_REPEATS = 8
"""How often a peer that goes on talking is told again."""


class Tombstone:
    """
    After an orderly end what still comes is acknowledged and thrown away, so that
    the peer can end too. After any other the last words are repeated, for an
    acknowledgement would be a lie.

    @ivar until: when it is over.
    """

    __slots__ = ("_answers", "_arrivals", "_repeats", "_words", "until")

    def __init__(
        self, arrivals: Arrivals | None, words: list[bytes], until: int
    ) -> None:
        """
        @param arrivals: where to note what still comes; None after an end that was
            not in order.
        @param words: what to send first.
        """
        self.until = until
        self._arrivals = arrivals
        self._words = words if arrivals is None else []
        self._answers = words
        self._repeats = 0

    def receive(self, run: Buffer, size: int, now: int) -> None:
        """Something has come after the end."""
        view = memoryview(run)
        heard = False
        for start in range(0, len(view), size):
            datagram = view[start : start + size]
            if len(datagram) < HEADER_SIZE or datagram[0] & (ACK_BIT | NACK_BIT):
                continue
            heard = True
            if self._arrivals is not None:
                number = self._arrivals.near(int.from_bytes(datagram[1:HEADER_SIZE], "little"))
                self._arrivals.accept(number, 1, len(datagram), now, 0)
        if heard and self._words and self._repeats < MOST_REPEATS and not self._answers:
            self._repeats += 1
            self._answers = self._words

    def take(self, limit: int) -> list[bytes]:
        """
        What is to be sent now.

        @param limit: longest datagram.
        """
        answers, self._answers = self._answers, []
        if self._arrivals is not None:
            answers = answers + self._arrivals.acknowledgements(limit)
        return answers
