"""Losing datagrams on receipt, as C{kcpbench} does."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from twisted_rudp.core.engine import Address, Buffer, Key
from twisted_rudp.endpoints import kcp as endpoints
from twisted_rudp.kcp.demux import KCPDemultiplexer


def lose(share: float, seed: int) -> None:
    """
    From now on all sockets lose this share of what comes.

    @param share: 0 to below 1.
    """
    chance = Random(seed)

    class LossyDemultiplexer(KCPDemultiplexer):
        """
        Draws how many datagrams come through until the next is lost, which costs
        nothing for the others.
        """

        _left = int(chance.expovariate(share))

        def open(
            self, run: Buffer, size: int, address: Address
        ) -> Sequence[tuple[Key | None, Buffer, int]]:
            count = -(-len(run) // size)
            if self._left >= count:
                self._left -= count
                return super().open(run, size, address)
            kept: list[Buffer] = []
            start = 0
            while self._left < count:
                kept.append(run[start * size : (start + self._left) * size])
                start += self._left + 1
                count -= self._left + 1
                self._left = int(chance.expovariate(share))
            self._left -= count
            kept.append(run[start * size :])
            rest = b"".join(kept)
            return super().open(rest, size, address) if rest else ()

    endpoints.KCPDemultiplexer = LossyDemultiplexer  # type: ignore[misc]
