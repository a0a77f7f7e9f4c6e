"""
Both halves of the handshake (qotp.md 3, 12.1 and W5).

With the listener's key known (0-RTT form)::

    InitCryptoSnd  a PING that nobody can guess, under K0    ->
                                                             <-  InitCryptoRcv  its echo, under K

Only who has the listener's private key can have read the PING, so its echo proves who
made the key K. Without the key (in-band form) nothing is proved::

    InitSnd                                                  ->
                                                             <-  InitRcv

The listener keeps a small record of a dialler that was answered, in a bounded table, until
Data proves that the answer has arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from heapq import heappop, heappush
from typing import Final, NamedTuple

from twisted_rudp.core.engine import MILLISECOND, SECOND, Address, Emit
from twisted_rudp.core.limits import network_of
from twisted_rudp.qotp.extensions import offer_ack
from twisted_rudp.qotp.keys import KeyPair, LowOrder, Secrets
from twisted_rudp.qotp.protection import RESPONDER, Cipher, PacketWriter, Sealer
from twisted_rudp.qotp.wire import (
    OVERHEAD,
    PREFIX,
    Ack,
    Kind,
    Payload,
    Segment,
    connection_id,
    decode,
    encode,
    init_snd,
)

REPEAT: Final = 200 * MILLISECOND
SLOWEST: Final = SECOND
"""The first message is repeated after 200 ms, then twice as late each time up to this."""

MAX_ANSWERS: Final = 64
"""Different answers, each worth an exchange of keys, that are looked at; who forges
more has only prevented this attempt."""

MAX_HALF_OPEN: Final = 4096
LIFETIME: Final = 5 * SECOND

REPEATS: Final[tuple[int, ...]] = (200 * MILLISECOND, 400 * MILLISECOND, 800 * MILLISECOND)
"""Waits before an answer is given again. The release's dialler may say its opening
message once only, and an answer is so much shorter than it that all four together
stay below its length."""

EXCHANGES_PER_SECOND: Final = 2000
"""Key exchanges, some 50 us each, that unknown peers can make us do."""

EXCHANGES_PER_NETWORK: Final = 200
"""Of these for one IPv4 address or IPv6 /64."""

MAX_NETWORKS: Final = 4096


class Answer(NamedTuple):
    """
    An authentic answer.

    @ivar echoed: it proved the listener's identity.
    """

    cipher: Cipher
    secrets: Secrets
    number: int
    payload: Payload
    echoed: bool


class InitiatorHandshake:
    """
    One attempt to reach a listener.

    @ivar name: the connection id.
    @ivar identity: our own key.
    @ivar due: when the first message is to be sent again.
    """

    def __init__(
        self,
        ephemeral: KeyPair,
        identity: KeyPair,
        server_key: bytes | None,
        entropy: Callable[[int], bytes],
        mtu: int,
        now: int,
        *,
        authenticate: bool = True,
    ) -> None:
        """
        @param server_key: the listener's identity, if it is known.
        @param authenticate: insist on the echo.
        @raise LowOrder: C{server_key} is none.
        """
        self.name = connection_id(ephemeral.public)
        self.due = now
        self.server_key = server_key
        self._ephemeral = ephemeral
        self.identity = identity
        self._mtu = mtu
        self._wait = REPEAT
        self._answers: dict[bytes, tuple[Cipher, bytes] | None] = {}
        self._opening = None if server_key is None else ephemeral.exchange(server_key)
        self._challenge: tuple[int, int] | None = None
        if server_key is not None and authenticate:
            # Of stream 0, which there is anyway: the release serves a stream that was only
            # pinged as often as one with data. One bit makes the offset wide.
            self._challenge = 0, int.from_bytes(entropy(6), "little") | 1 << 47

    @property
    def kind(self) -> Kind:
        """The form of the first message."""
        return Kind.INIT_SND if self._opening is None else Kind.INIT_CRYPTO_SND

    def start(self, sealer: Sealer) -> None:
        """Have the first message sealed, if it is."""
        if self._opening is not None:
            cipher = Cipher(self._opening)
            sealer.use(
                self.kind, cipher, self.name, self._ephemeral.public, self.identity.public
            )

    def send(
        self, now: int, sealer: Sealer, emit: Emit, address: Address, budget: int, window: int
    ) -> None:
        """Send the first message, if it is time."""
        if now < self.due:
            return
        self.due = now + self._wait
        self._wait = min(2 * self._wait, SLOWEST)
        if budget < self._mtu:
            return
        if self._opening is None:
            sealer.next += 1
            sealer.bytes_out += self._mtu
            datagram = init_snd(self._ephemeral.public, self.identity.public, self._mtu)
            emit(datagram, len(datagram), address)
        else:
            ping = Segment(*(self._challenge or (0, 0)), b"")
            writer = PacketWriter(sealer, emit, address, budget, True)
            writer.send([encode(offer_ack(window), ping)])
            writer.finish()

    def answer(self, kind: int, datagram: bytes) -> Answer | None:
        """Look at an answer; None if it is not authentic or of another form than ours."""
        wanted = Kind.INIT_RCV if self._opening is None else Kind.INIT_CRYPTO_RCV
        if kind != wanted or len(datagram) < OVERHEAD[wanted]:
            return None
        theirs = datagram[9:41]
        identity = datagram[41:73] if wanted is Kind.INIT_RCV else self.server_key or b""
        found = self._exchanged(theirs)
        if found is None:
            return None
        cipher, shared = found
        opened = cipher.open(datagram, PREFIX[wanted], RESPONDER, 0)
        payload = None if opened is None else decode(opened[1])
        if opened is None or payload is None:
            return None
        echoed = self._echoed(payload.ack)
        if self._challenge is not None and not echoed:
            return None
        secrets = Secrets(
            shared,
            self._opening,
            (self._ephemeral.public, self.identity.public),
            (theirs, identity),
        )
        return Answer(cipher, secrets, opened[0], payload, echoed)

    def _exchanged(self, theirs: bytes) -> tuple[Cipher, bytes] | None:
        if theirs not in self._answers:
            if len(self._answers) >= MAX_ANSWERS:
                return None
            try:
                shared = self._ephemeral.exchange(theirs)
            except LowOrder:
                self._answers[theirs] = None
            else:
                self._answers[theirs] = Cipher(shared), shared
        return self._answers[theirs]

    def _echoed(self, ack: Ack | None) -> bool:
        if self._challenge is None or ack is None:
            return False
        return (ack.stream, ack.offset, ack.length) == (*self._challenge, 0)


class HalfOpen(NamedTuple):
    """
    What is kept of a dialler that was answered.

    @ivar sealer: which counts our answers.
    @ivar answer: what they say.
    @ivar opening: for K0; None in the in-band form.
    @ivar ephemeral: our key, where the dialler is to prove its own with it.
    """

    address: Address
    secrets: Secrets
    cipher: Cipher
    opening: Cipher | None
    sealer: Sealer
    answer: bytes
    ephemeral: KeyPair | None = None

    def datagram(self) -> bytes:
        """The answer, under a number of its own."""
        ((datagram, _),) = self.sealer.seal([self.answer])
        return datagram


class HalfOpenTable:
    """The records of one socket by connection id. When it is full the oldest goes."""

    def __init__(self, limit: int = MAX_HALF_OPEN) -> None:
        self._limit = limit
        self._records: dict[bytes, tuple[int, HalfOpen]] = {}
        self._repeats: list[tuple[int, int, bytes]] = []

    def __len__(self) -> int:
        return len(self._records)

    def get(self, name: bytes) -> HalfOpen | None:
        """The record of a connection id."""
        found = self._records.get(name)
        return None if found is None else found[1]

    def put(self, name: bytes, record: HalfOpen, now: int) -> None:
        """Enter or renew a record."""
        if self._records.pop(name, None) is None:
            self._schedule(name, 0, now)
        if len(self._records) >= self._limit:
            del self._records[next(iter(self._records))]
        self._records[name] = (now + LIFETIME, record)

    def _schedule(self, name: bytes, times: int, now: int) -> None:
        if times < len(REPEATS) and len(self._repeats) < self._limit:
            heappush(self._repeats, (now + REPEATS[times], times, name))

    def pop(self, name: bytes) -> None:
        """It has become a connection."""
        self._records.pop(name, None)

    def deadline(self) -> int | None:
        """When the oldest lapses, or an answer is to be given again."""
        if not self._records:
            return None
        oldest = next(iter(self._records.values()))[0]
        return min(oldest, self._repeats[0][0]) if self._repeats else oldest

    def again(self, now: int) -> Iterator[HalfOpen]:
        """Those whose answer is to be repeated now."""
        while self._repeats and self._repeats[0][0] <= now:
            _, times, name = heappop(self._repeats)
            record = self.get(name)
            if record is not None:
                self._schedule(name, times + 1, now)
                yield record

    def lapse(self, now: int) -> int:
        """
        Drop what is too old.

        @return: how many that were.
        """
        before = len(self._records)
        while self._records:
            name, (until, _) = next(iter(self._records.items()))
            if until > now:
                break
            del self._records[name]
        return before - len(self._records)


class ExchangeLimit:
    """How many key exchanges unknown peers may ask for, in all and from one network."""

    def __init__(
        self, total: int = EXCHANGES_PER_SECOND, each: int = EXCHANGES_PER_NETWORK
    ) -> None:
        self._total = total
        self._each = each
        self._second = -1
        self._used = 0
        self._networks: dict[Hashable, int] = {}

    def allow(self, address: Address, now: int) -> bool:
        """Count one, if it is allowed."""
        if now // SECOND != self._second:
            self._second = now // SECOND
            self._used = 0
            self._networks.clear()
        network = network_of(address)
        used = self._networks.get(network, 0)
        full = network not in self._networks and len(self._networks) >= MAX_NETWORKS
        if self._used >= self._total or used >= self._each or full:
            return False
        self._used += 1
        self._networks[network] = used + 1
        return True
