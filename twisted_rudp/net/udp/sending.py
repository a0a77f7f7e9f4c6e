"""The way out, as far as all ports share it: holding back for a full socket, dropping, counting."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_rudp.core.engine import Address, Buffer, PathError
from twisted_rudp.net.udp.errors import PathErrors
from twisted_rudp.net.udp.port import PortCounters, Receiver

FULL: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ENOMEM})
"""The socket, or a queue behind it, is full: ordinary, and over soon (UDP-2)."""

RETRY: Final = 0.002
"""Seconds until a queue that tells nobody of its room is tried again: some 25 KB at 100 Mbit/s."""


HELD_LIMIT: Final = 1 << 20
"""
Bytes held for a full socket. An owner that stops when told to never has more than a
run here; the limit is for one that cannot stop, such as answers to unknown peers.
"""


class SendBacklog:
    """
    A queue of copied runs, bounded in bytes. True while something is in it.

    @ivar runs: what is in it: run, size, address and source of each.
    """

    __slots__ = ("_bytes", "_limit", "runs")

    def __init__(self, limit: int = HELD_LIMIT) -> None:
        self.runs: list[tuple[Buffer, int, Address, bytes]] = []
        self._bytes = 0
        self._limit = limit

    def __bool__(self) -> bool:
        return bool(self.runs)

    def append(self, run: Buffer, size: int, address: Address, source: bytes = b"") -> bool:
        """
        Copy a run to the end.

        @param source: the address to send it from.

        @return: False if there is no room for it. An empty queue always has room.
        """
        if self.runs and self._bytes + len(run) > self._limit:
            return False
        self.runs.append((bytes(run), size, address, source))
        self._bytes += len(run)
        return True

    def head(self) -> tuple[Buffer, int, Address, bytes]:
        """The run that waits longest."""
        return self.runs[0]

    def shorten(self, taken: int) -> None:
        """The first C{taken} bytes of the head have left, whole datagrams all."""
        run, size, address, source = self.runs[0]
        self._bytes -= taken
        if taken < len(run):
            self.runs[0] = (memoryview(run)[taken:], size, address, source)
        else:
            del self.runs[0]

    def clear(self) -> int:
        """
        Drop everything.

        @return: how many datagrams that were.
        """
        lost = sum(-(-len(run) // size) for run, size, _, _ in self.runs)
        self.runs.clear()
        self._bytes = 0
        return lost


class SendingPort(ABC):
    """Base of the ports: L{send} with everything but the system call."""

    def __init__(self, clock: IReactorTime, receiver: Receiver) -> None:
        self._clock = clock
        self._receiver = receiver
        self.counters = PortCounters()
        self.closed = False
        self.sendFrom = b""
        self._held = SendBacklog()
        self._retry: IDelayedCall | None = None
        self._pathErrors = PathErrors(clock, receiver)
        self._stopped: Deferred[None] = Deferred()

    def receiveBy(self, receiver: Receiver) -> None:
        """See L{DatagramPort.receiveBy}."""
        self._receiver = receiver
        self._pathErrors.receiveBy(receiver)

    def send(self, run: Buffer, size: int, address: Address) -> bool:
        """See L{DatagramPort.send}."""
        if self.closed or self._held.runs:
            return self._keep(run, size, address)
        return self._taken(self._transmit(run, size, address), run, size, address)

    def _taken(self, taken: int, run: Buffer, size: int, address: Address) -> bool:
        """
        The socket took the first C{taken} bytes of a run: hold the rest.

        @return: see L{DatagramPort.send}.
        """
        if taken == len(run):
            return True
        self._held.append(memoryview(run)[taken:], size, address, self.sendFrom)
        self.counters.full += 1
        return False

    def _keep(self, run: Buffer, size: int, address: Address) -> bool:
        """A run that cannot leave now."""
        if self.closed or not self._held.append(run, size, address, self.sendFrom):
            self.counters.dropped += -(-len(run) // size)
        return self.closed

    @abstractmethod
    def _transmit(self, run: Buffer, size: int, address: Address) -> int:
        """
        Give a run to the socket.

        @return: bytes of whole datagrams that are done with, sent or dropped. Less
            than all: the socket is full, and a wake-up was arranged that ends in
            L{_sendHeld}.
        """

    def _sendHeld(self) -> bool:
        """
        Send what was held back, as far as it goes, and tell the receiver when all of
        it has left.

        @return: whether all has.
        """
        held = self._held
        source = self.sendFrom
        try:
            while held:
                run, size, address, self.sendFrom = held.head()
                taken = self._transmit(run, size, address)
                held.shorten(taken)
                if taken < len(run):
                    self.counters.full += 1
                    return False
        finally:
            # The owner relies on what it has set.
            self.sendFrom = source
        self._receiver.portWritable()
        return True

    def _retrySoon(self) -> None:
        """Wake up after a while, for what gives no notice of its room."""
        if self._retry is None:
            self._retry = self._clock.callLater(RETRY, self._retried)

    def _retried(self) -> None:
        self._retry = None
        self._sendHeld()

    def _refused(self, kind: PathError | None, piece: Buffer, size: int, address: Address) -> None:
        """
        The system refused a piece for good: count it.

        @param kind: what the owner is to hear about the path; None: nothing.
        """
        self.counters.sendErrors += 1
        self.counters.dropped += -(-len(piece) // size)
        if kind is not None:
            self._pathErrors.note(kind, min(len(piece), size), address)

    def _sent(self, length: int, size: int) -> None:
        counters = self.counters
        counters.runsOut += 1
        counters.datagramsOut += -(-length // size)
        counters.bytesOut += length

    def _endSending(self) -> None:
        """The port is closed: no timer and no report survive it (TIME-6)."""
        self.closed = True
        self.counters.dropped += self._held.clear()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._pathErrors.cancel()
