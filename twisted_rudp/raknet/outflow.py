"""What leaves a session that is opening or carrying data, and in which order."""

from __future__ import annotations

from twisted_rudp.raknet.life import Life
from twisted_rudp.raknet.opening import Opening
from twisted_rudp.raknet.packing import Packer
from twisted_rudp.raknet.pings import Pings
from twisted_rudp.raknet.state import State
from twisted_rudp.raknet.wire import HEADER_SIZE

_OPENING = Life.OPENING


class Outflow:
    """Fills a turn: the listener's reply, NACKs and ACKs, a ping, then what the window admits."""

    __slots__ = ("_opening", "_pings", "_state")

    def __init__(self, state: State, opening: Opening, pings: Pings) -> None:
        self._state = state
        self._opening = opening
        self._pings = pings

    def flush(self, now: int, packer: Packer, budget: int) -> bool:
        """
        Send what can be sent now.

        @param budget: bytes; a strict bound while the peer is not proved.
        @return: something is left that only the budget or the burst prevented.
        """
        state = self._state
        if state.life is _OPENING:
            self._opening.flush_reply(packer)
        arrivals = state.arrivals
        if arrivals.waiting or now >= arrivals.nack_due:
            self._acknowledge(now, packer, budget)
        if now >= state.liveness.ping_due:
            self._pings.ping(now)
        more = state.sender.flush(now, packer, budget, not state.handshake.validated)
        packer.finish()
        if state.flying.receipts:
            state.tell_receipts()
        return more

    def _acknowledge(self, now: int, packer: Packer, budget: int) -> None:
        """What is no frame: NACKs, ACKs."""
        state = self._state
        limit = state.sender.datagram
        if not state.handshake.validated:
            limit = min(limit, budget - packer.cost)
        if limit < HEADER_SIZE + HEADER_SIZE:
            return
        arrivals = state.arrivals
        datagrams: list[bytes] = []
        if now >= arrivals.nack_due:
            datagrams = arrivals.complaints(now, limit)
        if arrivals.is_ack_due(now, limit):
            datagrams += arrivals.acknowledgements(limit)
        for datagram in datagrams:
            packer.add(datagram)
            state.counters.acknowledgements_sent += 1
