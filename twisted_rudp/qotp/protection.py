"""
Packet protection: the two layers of encryption run by run, sealing and opening for one
connection, and the key log (qotp.md 2.3 to 2.7, W2, W4).

Inside the library a packet number is one unbounded integer, epoch and sequence
number together; on the wire there are its lower 48 bits, encrypted.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from twisted_rudp.core.batch import RunWriter, run_capacity
from twisted_rudp.core.engine import Address, Buffer, Emit
from twisted_rudp.core.lifecycle import Role
from twisted_rudp.core.ranges import Ranges
from twisted_rudp.kernels.masks import sn_masks
from twisted_rudp.qotp.extensions import CONTROL, NewId, decode_frame
from twisted_rudp.qotp.keys import Secrets
from twisted_rudp.qotp.wire import (
    DATA_OVERHEAD,
    DATA_PREFIX,
    ID_END,
    ID_OFFSET,
    KEY_END,
    LAST_EPOCH,
    LEAST_PAYLOAD,
    NONCE_SIZE,
    NUMBER_SIZE,
    NUMBERS,
    OVERHEAD,
    PREFIX,
    SHORTEST,
    Kind,
    Payload,
    decode,
    prefix_of,
    with_fill,
    without_fill,
)

PACKET_RANGES: Final = 1024
"""Ranges of received packet numbers that are kept; what is below them counts as a replay."""

_RESERVE: Final = 1 << 20
"""Packet numbers that are left when a connection ends for want of more."""

_DATA: Final = bytes((Kind.DATA,))

INITIATOR: Final = 0x80
"""Direction bit of what the initiator sends: bit 7 of the nonce's first byte."""

RESPONDER: Final = 0

CIPHER: Final = "chacha20-poly1305"
"""For people; there is no other."""

_LOW: Final = NUMBERS - 1
_EPOCH: Final = _LOW & ~0x80


def nonce_of(number: int, direction: int) -> bytes:
    """
    The nonce of the payload: epoch, then sequence number; the direction takes the
    place of one bit of the epoch (section 2.3).
    """
    return (((number & _LOW) << 48) | (number >> 48 & _EPOCH) | direction).to_bytes(12, "little")


@lru_cache(16)
def _integers(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}Q")


class Cipher:
    """One key: K of a session, or K0 of an opening message."""

    __slots__ = ("_decrypt", "_encrypt", "_key")

    def __init__(self, key: bytes) -> None:
        aead = ChaCha20Poly1305(key)
        self._key = key
        self._encrypt = aead.encrypt
        self._decrypt = aead.decrypt

    # sealing

    def seal(self, prefix: bytes, number: int, direction: int, payload: bytes) -> bytes:
        """
        One datagram.

        @raise ValueError: the payload is too short for the mask of the number.
        """
        if len(payload) < LEAST_PAYLOAD:
            raise ValueError(f"a payload has {LEAST_PAYLOAD} bytes at least")
        low = number & _LOW
        nonce = (low << 48 | number >> 48 & _EPOCH | direction).to_bytes(12, "little")
        sealed: bytes = self._encrypt(nonce, payload, prefix)
        mask = int.from_bytes(sn_masks(self._key, sealed[:NONCE_SIZE], NONCE_SIZE, 0), "little")
        return prefix + (low ^ mask).to_bytes(NUMBER_SIZE, "little") + sealed

    def seal_run(
        self, prefix: bytes, number: int, direction: int, payloads: Sequence[bytes]
    ) -> bytes:
        """
        A run of Data datagrams, numbered from C{number}, within one epoch.

        @param payloads: of one length, the last may be shorter.
        """
        encrypt = self._encrypt
        epoch = number >> 48 & _EPOCH | direction
        low = number & _LOW
        sealed: list[bytes] = [
            encrypt((sn << 48 | epoch).to_bytes(12, "little"), payload, prefix)
            for sn, payload in enumerate(payloads, low)
        ]
        count = len(sealed)
        nonces = b"".join([each[:NONCE_SIZE] for each in sealed])
        masks = _integers(count).unpack(sn_masks(self._key, nonces, NONCE_SIZE, 0))
        parts = [prefix] * (3 * count)
        parts[1::3] = [
            (sn ^ mask).to_bytes(NUMBER_SIZE, "little") for sn, mask in enumerate(masks, low)
        ]
        parts[2::3] = sealed
        return b"".join(parts)

    # opening

    def open(
        self, datagram: bytes, prefix: int, direction: int, epoch: int
    ) -> tuple[int, bytes] | None:
        """
        Number and payload of one datagram; None if it is not authentic.

        @param prefix: length of the cleartext.
        @param direction: that of the sender.
        @param epoch: the receiver's; its neighbours are tried too (section 2.6).
        """
        start = prefix + NUMBER_SIZE
        masks = sn_masks(self._key, datagram[start : start + NONCE_SIZE], NONCE_SIZE, 0)
        if not masks:
            return None
        sn = int.from_bytes(datagram[prefix:start], "little") ^ int.from_bytes(masks, "little")
        nonce = (sn << 48 | epoch & _EPOCH | direction).to_bytes(12, "little")
        try:
            payload = self._decrypt(nonce, datagram[start:], datagram[:prefix])
        except InvalidTag:
            return self._open(sn, datagram[:prefix], datagram[start:], direction, epoch)
        return epoch << 48 | sn, payload

    def open_run(
        self, run: Buffer, size: int, direction: int, epoch: int
    ) -> list[tuple[int, bytes] | None]:
        """
        As L{open} for each datagram of a run of Data with one connection id. A
        datagram that is too short is None too.
        """
        view = memoryview(run)
        start = DATA_PREFIX + NUMBER_SIZE
        found = sn_masks(self._key, view, size, start)
        masks = _integers(len(found) // 8).unpack(found)
        prefix = bytes(view[:DATA_PREFIX])
        decrypt = self._decrypt
        base = epoch & _EPOCH | direction
        opened: list[tuple[int, bytes] | None] = []
        first = epoch << 48
        for at, mask in zip(range(0, len(view), size), masks, strict=False):
            number = int.from_bytes(view[at + DATA_PREFIX : at + start], "little") ^ mask
            nonce = (number << 48 | base).to_bytes(12, "little")
            try:
                payload = decrypt(nonce, view[at + start : at + size], prefix)
            except InvalidTag:
                sealed = bytes(view[at + start : at + size])
                opened.append(self._open(number, prefix, sealed, direction, epoch))
            else:
                opened.append((first | number, payload))
        opened += [None] * (-(-len(view) // size) - len(opened))
        return opened

    def _open(
        self, sn: int, prefix: bytes, sealed: bytes, direction: int, epoch: int
    ) -> tuple[int, bytes] | None:
        """Try the neighbours of the epoch that it was not of."""
        for candidate in (epoch - 1, epoch + 1):
            if candidate < 0:
                continue
            number = candidate << 48 | sn
            try:
                return number, self._decrypt(nonce_of(number, direction), sealed, prefix)
            except InvalidTag:
                continue
        return None


class Sealer:
    """
    Seals what one side of a connection sends, and counts it: every datagram has a
    number of its own, whatever its type (section 2.5).

    @ivar next: the number of the next datagram.
    @ivar kind: the type that is sent now.
    @ivar overhead: bytes of a datagram of that type that are not payload.
    @ivar bytes_out: of all datagrams so far.
    """

    __slots__ = (
        "_cipher", "_direction", "_mtu", "_prefix", "bytes_out", "kind", "next", "overhead",
    )  # fmt: skip

    def __init__(self, direction: int, mtu: int, first: int = 0) -> None:
        self._direction = direction
        self._mtu = mtu
        self._cipher: Cipher | None = None
        self._prefix = b""
        self.kind = Kind.INIT_SND
        self.overhead = OVERHEAD[self.kind]
        self.next = first
        self.bytes_out = 0

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
        self.bytes_out += len(datagram)
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
            run = self._cipher.seal_run(self._prefix, number, self._direction, part)
            self.bytes_out += len(run)
            yield run, size
            start = end

    def _run_end(self, payloads: Sequence[bytes], start: int) -> int:
        """How far one run goes: equal lengths, the last may be shorter; within one epoch."""
        size = len(payloads[start])
        room = min(run_capacity(size + DATA_OVERHEAD), NUMBERS - self.next % NUMBERS)
        stop = min(start + room, len(payloads))
        lengths = list(map(len, payloads[start:stop]))
        equal = lengths.count(size)
        if equal == len(lengths) or (equal == len(lengths) - 1 and lengths[-1] < size):
            return stop
        end = start + 1
        while end < stop and len(payloads[end]) == size:
            end += 1
        if end < stop and len(payloads[end]) < size:
            end += 1
        return end


class PacketWriter:
    """
    Where one flush sends to, and how much it may.

    @ivar short: something had to wait for the next budget.
    """

    __slots__ = (
        "_address", "_budget", "_emit", "_lone", "_refused", "_runs", "_sealer", "_strict", "short",
    )  # fmt: skip

    def __init__(
        self, sealer: Sealer, emit: Emit, address: Address, budget: int, strict: bool
    ) -> None:
        """
        @param budget: bytes that may be sent.
        @param strict: not one more than that, also to complete a run.
        """
        self._sealer = sealer
        self._emit = emit
        self._address = address
        # Most flushes have one datagram or none.
        self._lone = b""
        self._runs: RunWriter | None = None
        self._refused = False
        self._budget = budget
        self._strict = strict
        self.short = False

    @property
    def blocked(self) -> bool:
        """The socket takes no more."""
        return self._refused or (self._runs is not None and self._runs.blocked)

    def room(self, payload: int) -> int:
        """
        How many datagrams with payloads of this size may be sent. Notes when the
        budget is why there are none.
        """
        spent = len(self._lone)
        runs = self._runs
        if runs is not None:
            if runs.blocked:
                return 0
            spent = runs.cost
        size = payload + self._sealer.overhead
        left = self._budget - spent
        count = left // size if self._strict else -(-left // size)
        if count <= 0:
            self.short = True
            return 0
        return count

    def send(self, payloads: Sequence[bytes]) -> int:
        """
        Send what L{room} was asked for.

        @return: the number of the first; the others follow.
        """
        sealer = self._sealer
        first = sealer.next
        if len(payloads) == 1:
            datagram = sealer.seal_one(payloads[0])
            if self._runs is None and not self._lone:
                self._lone = datagram
            else:
                self._collect().add(datagram)
            return first
        runs = self._collect()
        for run, size in sealer.seal(payloads):
            runs.add_run(run, size)
        return first

    def _collect(self) -> RunWriter:
        """There is more than one datagram."""
        runs = self._runs
        if runs is None:
            runs = self._runs = RunWriter(self._emit, self._address)
            if self._lone:
                runs.add(self._lone)
                self._lone = b""
        return runs

    def finish(self) -> None:
        """Emit what is still collected."""
        if self._runs is not None:
            self._runs.finish()
        elif self._lone:
            lone, self._lone = self._lone, b""
            self._refused = not self._emit(lone, len(lone), self._address)


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

    @ivar numbers: those that were received; whoever processes a payload enters its
        number.
    """

    def __init__(
        self,
        cipher: Cipher,
        secrets: Secrets,
        direction: int,
        numbers: Ranges,
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
        self._early_numbers = Ranges(PACKET_RANGES)

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
        A datagram of any type. What opens a connection is ignored by now
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
        newest = number >= (numbers.end or 0)
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
        if datagram[ID_OFFSET:KEY_END] != self._secrets.initiator[0]:
            self._counters["openings_ignored"] += 1
            return None
        opened = early.open(datagram, PREFIX[Kind.INIT_CRYPTO_SND], INITIATOR, 0)
        plain = None if opened is None else without_fill(opened[1])
        payload = None if plain is None else decode(plain)
        if opened is None or payload is None or opened[0] in self._early_numbers:
            self._counters["not_authentic"] += 1
            return None
        self._early_numbers.add(opened[0], opened[0] + 1)
        return Opened(-1, payload, False, False)


class PacketProtection:
    """
    The keys of one connection, and what can be done with them: agreed once and never
    replaced (W2).

    @ivar name: the connection id that we send.
    @ivar first_name: the connection id that the initiator chose.
    @ivar sealer: what is sent goes through it.
    @ivar unsealer: what is received goes through it; None before there is a key.
    @ivar received: packet numbers that were received.
    @ivar validated: the peer has shown that it receives at its address.
    @ivar early: what has come could be a replay.
    @ivar echoed: the peer has proved its identity (12.1).
    """

    def __init__(
        self,
        name: bytes,
        role: Role,
        mtu: int,
        counters: Counter[str],
        key_log: Callable[[bytes, Secrets], None] | None,
        numbers_used: int = 0,
    ) -> None:
        """
        @param counters: of what was dropped.
        @param key_log: is given the keys.
        @param numbers_used: by what was sent before.
        """
        client = role is Role.CLIENT
        self.name = self.first_name = name
        self.sealer = Sealer(INITIATOR if client else RESPONDER, mtu, numbers_used)
        self.received = Ranges(PACKET_RANGES)
        self.unsealer: Unsealer | None = None
        self.validated = client
        self.early = False
        self.echoed = False
        self._client = client
        self._counters = counters
        self._key_log = key_log
        self._cipher: Cipher | None = None
        self._secrets: Secrets | None = None

    def agree(self, cipher: Cipher, secrets: Secrets, early: Cipher | None = None) -> None:
        """
        There is a key, and it stays.

        @param early: for K0, while early data is taken.
        """
        self._cipher = cipher
        self._secrets = secrets
        theirs = RESPONDER if self._client else INITIATOR
        self.unsealer = Unsealer(cipher, secrets, theirs, self.received, self._counters, early)
        self.early = early is not None
        self._use(Kind.DATA if early is None else Kind.INIT_CRYPTO_RCV)
        if self._key_log is not None:
            self._key_log(self.name, secrets)

    def use_id(self, name: bytes) -> None:
        """
        What we send carries another connection id from now on.

        @raise AssertionError: it is not Data that we send.
        """
        assert self._secrets is not None and self.sealer.kind is Kind.DATA
        self.name = name
        self._use(Kind.DATA)
        if self._key_log is not None:
            self._key_log(name, self._secrets)

    def validate(self) -> None:
        """Authentic Data: the dialler has received our answer, and this is no replay."""
        self.validated = True
        if self.early and self.unsealer is not None:
            self.early = False
            self.unsealer.close_early()
            self._use(Kind.DATA)

    @property
    def initiator_identity(self) -> bytes:
        """The key that the dialler has shown."""
        return b"" if self._secrets is None else self._secrets.initiator[1]

    @property
    def responder_ephemeral(self) -> bytes:
        """The listener's key of this connection."""
        return b"" if self._secrets is None else self._secrets.responder[0]

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """
        A secret that both ends can derive and nobody else (12.1).

        @raise RuntimeError: no key has been agreed yet.
        """
        secrets = self._secrets
        if secrets is None:
            raise RuntimeError("there is no key before the handshake")
        salt = b"".join((*secrets.initiator, *secrets.responder))
        info = len(label).to_bytes(2, "little") + label + context
        return HKDF(SHA256(), length, salt, info).derive(secrets.session)

    def facts(self) -> Mapping[str, Any]:
        """Connection id, role, and what the peer's key is worth."""
        secrets = self._secrets
        key = None
        if secrets is not None:
            theirs = secrets.responder if self._client else secrets.initiator
            key = theirs[1].hex() or None
        return {
            "connection_id": self.first_name.hex(),
            "role": "initiator" if self._client else "responder",
            "peer_key": key,
            "peer_key_proved": self.echoed,
            "early": self.early,
        }

    def _use(self, kind: Kind) -> None:
        """Send messages of this type from now on."""
        assert self._cipher is not None and self._secrets is not None
        keys = self._secrets.initiator if self._client else self._secrets.responder
        self.sealer.use(kind, self._cipher, self.name, *keys)


_SESSION: Final = "QOTP_SHARED_SECRET"
_OPENING: Final = "QOTP_SHARED_SECRET_ID"
_LINE: Final = re.compile(rf"({_SESSION}|{_OPENING}) ([0-9a-f]{{1,16}}) ([0-9a-f]{{64}})", re.ASCII)


def lines_of(name: bytes, secrets: Secrets) -> str:
    """
    The lines of one connection: K, and where there is one K0, with which its first
    message can be read.
    """
    number = f"{int.from_bytes(name, 'little'):x}"
    text = f"{_SESSION} {number} {secrets.session.hex()}\n"
    if secrets.opening is not None:
        text += f"{_OPENING} {number} {secrets.opening.hex()}\n"
    return text


class KeyLog:
    """Writes the lines of every connection. Whoever has them can read everything."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """
        @param write: is given whole lines.
        """
        self._write = write

    def write(self, name: bytes, secrets: Secrets) -> None:
        """A connection has its keys."""
        self._write(lines_of(name, secrets))


class Read(NamedTuple):
    """
    A datagram in clear.

    @ivar plain: its payload.
    @ivar payload: what that says; None if it is malformed.
    """

    kind: Kind
    name: bytes
    from_initiator: bool
    number: int
    plain: bytes
    payload: Payload | None


MOST_NAMES: Final = 1 << 20
"""Connection ids, of a key log and learned from a capture."""


class KeyLogReader:
    """Decrypts captured datagrams with the lines of a key log."""

    def __init__(self, lines: Iterable[str]) -> None:
        """
        @param lines: of a key log; others are passed over.
        """
        self._sessions: dict[bytes, Cipher] = {}
        self._openings: dict[bytes, Cipher] = {}
        self._epochs: dict[tuple[bytes, int], int] = {}
        for line in lines:
            found = _LINE.fullmatch(line.strip())
            if found is not None:
                kind, number, key = found.groups()
                name = int(number, 16).to_bytes(8, "little")
                target = self._sessions if kind == _SESSION else self._openings
                target[name] = Cipher(bytes.fromhex(key))

    def read(self, datagram: bytes) -> Read | None:
        """
        @return: None if it is no QOTP datagram, has nothing encrypted (InitSnd), or
            its key is not in the log.
        """
        if len(datagram) < SHORTEST or datagram[0] not in PREFIX:
            return None
        kind, name = Kind(datagram[0]), datagram[ID_OFFSET:ID_END]
        if kind is Kind.INIT_SND or len(datagram) < OVERHEAD[kind]:
            return None
        opening = kind is Kind.INIT_CRYPTO_SND
        cipher = (self._openings if opening else self._sessions).get(name)
        if cipher is None:
            return None
        directions: tuple[int, ...] = (INITIATOR,)
        if kind in (Kind.INIT_RCV, Kind.INIT_CRYPTO_RCV):
            directions = (RESPONDER,)
        elif kind is Kind.DATA:
            directions = (INITIATOR, RESPONDER)
        for direction in directions:
            opened = self._open(cipher, datagram, kind, name, direction)
            if opened is not None:
                number, plain = opened
                if opening:
                    plain = without_fill(plain) or b""
                payload = decode(plain)
                if payload is not None and kind is Kind.DATA:
                    self._rename(payload, cipher)
                return Read(kind, name, direction == INITIATOR, number, plain, payload)
        return None

    def _rename(self, payload: Payload, cipher: Cipher) -> None:
        """What the dialler sends may have another connection id from now on (qotp.md 17)."""
        segment = payload.segment
        if segment is not None and segment.stream == CONTROL and segment.data:
            frame = decode_frame(bytes(segment.data))
            if isinstance(frame, NewId) and len(self._sessions) < MOST_NAMES:
                self._sessions.setdefault(frame.id, cipher)

    def _open(
        self, cipher: Cipher, datagram: bytes, kind: Kind, name: bytes, direction: int
    ) -> tuple[int, bytes] | None:
        epoch = self._epochs.get((name, direction), 0) if kind is Kind.DATA else 0
        opened = cipher.open(datagram, PREFIX[kind], direction, epoch)
        if opened is not None and kind is Kind.DATA:
            self._epochs[name, direction] = max(epoch, opened[0] >> 48)
        return opened
