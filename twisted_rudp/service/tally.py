"""What a service has seen pass, for the line it logs when it stops."""

from __future__ import annotations

from collections import Counter

from twisted.internet.interfaces import ITransport

from twisted_rudp.interfaces import IRUDPTransport


class Tally:
    """
    Counts by name, and the state of the last reliable-UDP session that ended.

    @ivar counts: the service's own counts and the sums of the counters of all
        its reliable-UDP sessions.
    """

    def __init__(self, *names: str) -> None:
        """
        @param names: counts of the service itself; they are shown even when
            they are 0, in this order.
        """
        self.counts: Counter[str] = Counter(dict.fromkeys(names, 0))
        self._roundTrip: float | None = None

    def add(self, name: str, amount: int = 1) -> None:
        """Count something."""
        self.counts[name] += amount

    def absorb(self, transport: ITransport) -> None:
        """
        Take over what a session that has ended knows about itself. A transport
        that counts nothing adds nothing.
        """
        if IRUDPTransport.providedBy(transport):
            self.counts.update(transport.counters())
            self._roundTrip = transport.facts().get("rtt", self._roundTrip)

    def line(self) -> str:
        """
        Everything as C{name=value}, for people and for scripts. The round trip
        is in milliseconds.
        """
        shown = [f"{name}={value}" for name, value in self.counts.items()]
        if self._roundTrip is not None:
            shown.append(f"round_trip_ms={self._roundTrip * 1000:.1f}")
        return " ".join(shown)
