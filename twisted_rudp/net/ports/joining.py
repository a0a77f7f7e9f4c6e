"""Software GRO: datagrams read one by one become runs."""

from __future__ import annotations

from twisted_rudp.core.engine import Address
from twisted_rudp.net.ports.contract import LONGEST_DATAGRAM, PortCounters, Receiver


class Joiner:
    """
    Joins consecutive datagrams of one peer and one length, the last may be shorter,
    and gives the run to a receiver.

    Order is kept: what cannot join the run sends it off first.
    """

    __slots__ = ("_address", "_closed", "_counters", "_parts", "_receiver", "_size", "_total")

    def __init__(self, receiver: Receiver, counters: PortCounters) -> None:
        self._receiver = receiver
        self._counters = counters
        self._closed = False
        self._parts: list[bytes] = []
        self._size = 0
        self._total = 0
        self._address: Address = ()

    def add(self, datagram: bytes, address: Address) -> None:
        """
        Take the next datagram; may call the receiver with what came before, or with
        the run that this one ends.
        """
        length = len(datagram)
        if not length:
            self._counters.empty += 1
            return
        parts = self._parts
        if parts:
            if (
                length <= self._size
                and address == self._address
                and self._total + length <= LONGEST_DATAGRAM
            ):
                parts.append(datagram)
                self._total += length
                if length < self._size:
                    self.flush()
                return
            self.flush()
        self._parts = [datagram]
        self._size = self._total = length
        self._address = address

    def addRun(self, run: bytes, size: int, address: Address) -> None:
        """Take a run that the kernel has joined."""
        if self._parts:
            self.flush()
        if self._closed:
            return
        length = len(run)
        counters = self._counters
        counters.runsIn += 1
        counters.datagramsIn += -(-length // size)
        counters.bytesIn += length
        self._receiver.runReceived(run, size, address)

    def flush(self) -> None:
        """Give away what is here."""
        parts = self._parts
        if parts:
            self._parts = []
            run = parts[0] if len(parts) == 1 else b"".join(parts)
            self.addRun(run, self._size, self._address)

    def close(self) -> None:
        """Give away nothing more."""
        self._closed = True
