"""
The receiving side of a connection's key: from runs to payloads that are authentic
and new (C{qotp.md} 2.6, W2, W4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from twisted_rudp.core.received import Received
from twisted_rudp.qotp.crypto import INITIATOR, RESPONDER, Cipher
from twisted_rudp.qotp.opening import Secrets
from twisted_rudp.qotp.payload import Payload, decode
from twisted_rudp.qotp.wire import DATA_PREFIX, KEY, OVERHEAD, PREFIX, Kind, without_fill

_DATA = bytes((Kind.DATA,))


class Opened(NamedTuple):
    """
    An authentic payload.

    @ivar number: the packet number; -1 for early data, which has no place among the
        others.
    @ivar data: it came as Data, not as a repeated answer.
    @ivar newest: no number as high had come before.
    """

    number: int
    payload: Payload
    data: bool
    newest: bool


class Unsealer:
    """
    Opens what the other side of one connection sends.

    @ivar numbers: those that were received; whoever digests a payload enters its
        number.
    """

    def __init__(
        self,
        cipher: Cipher,
        secrets: Secrets,
        direction: int,
        numbers: Received,
        counters: Counter[str],
        early: Cipher | None = None,
    ) -> None:
        """
        @param direction: of the other side.
        @param early: for K0, to take early data until L{close_early}.
        """
        self.numbers = numbers
        self._cipher = cipher
        self._secrets = secrets
        self._direction = direction
        self._counters = counters
        self._epoch = 0
        self._early = early
        self._early_numbers = Received()

    def close_early(self) -> None:
        """The handshake is over."""
        self._early = None

    def open_run(self, run: memoryview, size: int) -> Sequence[tuple[int, bytes] | None] | None:
        """Decrypt a run of Data. None if something else is in it."""
        count = -(-len(run) // size)
        if count == 1:
            if run[0] != Kind.DATA:
                return None
            one = self._cipher.open(bytes(run), DATA_PREFIX, self._direction, self._epoch)
            opened: Sequence[tuple[int, bytes] | None] = (one,)
        elif bytes(run[::size]) == _DATA * count:
            opened = self._cipher.open_run(run, size, self._direction, self._epoch)
        else:
            return None
        last = opened[-1]
        if last is not None and last[0] >> 48 > self._epoch:
            self._epoch = last[0] >> 48
        return opened

    def open_any(self, datagram: bytes) -> Opened | None:
        """
        A datagram of any type. What opens a connection is nobody's business any more
        (W16), and an answer has to be under the key we have (W2).
        """
        kind = datagram[0]
        if kind == Kind.DATA:
            opened = self._cipher.open(datagram, DATA_PREFIX, self._direction, self._epoch)
            return self.check(opened)
        if kind in (Kind.INIT_RCV, Kind.INIT_CRYPTO_RCV) and self._direction == RESPONDER:
            opened = None
            if len(datagram) >= OVERHEAD[kind]:
                opened = self._cipher.open(datagram, PREFIX[kind], self._direction, 0)
            return self.check(opened, data=False)
        if kind == Kind.INIT_CRYPTO_SND and self._early is not None:
            return self._open_early(self._early, datagram)
        self._counters["openings_ignored"] += 1
        return None

    def check(self, opened: tuple[int, bytes] | None, data: bool = True) -> Opened | None:
        """What was decrypted, if it is new and well-formed."""
        if opened is None:
            self._counters["not_authentic"] += 1
            return None
        number, plain = opened
        numbers = self.numbers
        newest = number > numbers.highest
        if not newest and number in numbers:
            self._counters["replayed"] += 1
            return None
        if number >> 48 > self._epoch:
            self._epoch = number >> 48
        payload = decode(plain)
        if payload is None:
            self._counters["malformed"] += 1
            return None
        return Opened(number, payload, data, newest)

    def _open_early(self, early: Cipher, datagram: bytes) -> Opened | None:
        """What came under K0, or was repeated."""
        if datagram[KEY] != self._secrets.initiator[0]:
            self._counters["openings_ignored"] += 1
            return None
        opened = early.open(datagram, PREFIX[Kind.INIT_CRYPTO_SND], INITIATOR, 0)
        plain = None if opened is None else without_fill(opened[1])
        payload = None if plain is None else decode(plain)
        if opened is None or payload is None or opened[0] in self._early_numbers:
            self._counters["not_authentic"] += 1
            return None
        self._early_numbers.add(opened[0], opened[0])
        return Opened(-1, payload, False, False)
