"""From payloads to runs on the wire."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twisted_rudp.core.engine import Address, Emit
from twisted_rudp.qotp.crypto import Cipher
from twisted_rudp.qotp.wire import (
    DATA_OVERHEAD,
    LAST_EPOCH,
    NUMBERS,
    OVERHEAD,
    Kind,
    prefix_of,
    with_fill,
)

RUN_BYTES = 65000
RUN_SEGMENTS = 64

_RESERVE = 1 << 20


class Sealer:
    """
    Seals what one side of a connection sends, and counts it: every datagram has a
    number of its own, whatever its type (section 2.5).

    @ivar next: the number of the next datagram.
    @ivar kind: the type that is sent now.
    @ivar overhead: bytes of a datagram of that type that are not payload.
    """

    __slots__ = ("_cipher", "_direction", "_mtu", "_prefix", "kind", "next", "overhead")

    def __init__(self, direction: int, mtu: int, first: int = 0) -> None:
        self._direction = direction
        self._mtu = mtu
        self._cipher: Cipher | None = None
        self._prefix = b""
        self.kind = Kind.INIT_SND
        self.overhead = OVERHEAD[self.kind]
        self.next = first

    @property
    def exhausted(self) -> bool:
        """So few numbers are left that the connection has to end (W9)."""
        return self.next >= (LAST_EPOCH + 1) * NUMBERS - _RESERVE

    def use(
        self, kind: Kind, cipher: Cipher, name: bytes, ephemeral: bytes, identity: bytes
    ) -> None:
        """Send messages of this type from now on."""
        self.kind = kind
        self.overhead = OVERHEAD[kind]
        self._cipher = cipher
        self._prefix = prefix_of(kind, name, ephemeral, identity)

    def seal_one(self, payload: bytes) -> bytes:
        """Number and seal a single payload."""
        assert self._cipher is not None, "nothing can be sealed before there is a key"
        if self.kind is Kind.INIT_CRYPTO_SND:
            payload = with_fill(payload, self._mtu)
        datagram = self._cipher.seal(self._prefix, self.next, self._direction, payload)
        self.next += 1
        return datagram

    def seal(self, payloads: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
        """Number and seal payloads, as runs with their size."""
        assert self._cipher is not None, "nothing can be sealed before there is a key"
        if self.kind is not Kind.DATA:
            for payload in payloads:
                datagram = self.seal_one(payload)
                yield datagram, len(datagram)
            return
        start, count = 0, len(payloads)
        while start < count:
            end = self._run_end(payloads, start)
            number = self.next
            self.next += end - start
            size = len(payloads[start]) + DATA_OVERHEAD
            part = payloads if end - start == count else payloads[start:end]
            yield self._cipher.seal_run(self._prefix, number, self._direction, part), size
            start = end

    def _run_end(self, payloads: Sequence[bytes], start: int) -> int:
        """How far one run goes: equal lengths, the last may be shorter; within one epoch."""
        size = len(payloads[start])
        room = min(RUN_SEGMENTS, max(RUN_BYTES // (size + DATA_OVERHEAD), 1))
        room = min(room, NUMBERS - self.next % NUMBERS)
        stop = min(start + room, len(payloads))
        end = start + 1
        while end < stop and len(payloads[end]) == size:
            end += 1
        if end < stop and len(payloads[end]) < size:
            end += 1
        return end


class Outlet:
    """
    Where one flush sends to, and how much it may.

    @ivar left: bytes of its budget.
    @ivar full: the socket takes no more.
    @ivar short: something had to wait for the next budget.
    """

    __slots__ = ("_address", "_emit", "_strict", "full", "left", "sealer", "short")

    def __init__(
        self, sealer: Sealer, emit: Emit, address: Address, budget: int, strict: bool
    ) -> None:
        """
        @param strict: the budget must not be exceeded by a byte.
        """
        self.sealer = sealer
        self._emit = emit
        self._address = address
        self._strict = strict
        self.left = budget
        self.full = False
        self.short = False

    def room(self, payload: int) -> int:
        """
        How many datagrams with payloads of this size may be sent. Notes when the
        budget is why there are none.
        """
        if self.full:
            return 0
        size = payload + self.sealer.overhead
        count = self.left // size if self._strict else -(-self.left // size)
        if count <= 0:
            self.short = True
            return 0
        return count

    def send(self, payloads: Sequence[bytes]) -> int:
        """
        Send what L{room} was asked for.

        @return: the number of the first; the others follow.
        """
        first = self.sealer.next
        if len(payloads) == 1:
            datagram = self.sealer.seal_one(payloads[0])
            self.left -= len(datagram)
            if not self._emit(datagram, len(datagram), self._address):
                self.full = True
            return first
        for run, size in self.sealer.seal(payloads):
            self.left -= len(run)
            if not self._emit(run, size, self._address):
                self.full = True
        return first
