"""The key log, and what can be read with it (C{qotp.md} 2.7 and 10)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from twisted_rudp.qotp.crypto import INITIATOR, RESPONDER, Cipher
from twisted_rudp.qotp.opening import Secrets
from twisted_rudp.qotp.payload import Payload, decode
from twisted_rudp.qotp.wire import ID, OVERHEAD, PREFIX, SHORTEST, Kind, without_fill

_SESSION = "QOTP_SHARED_SECRET"
_OPENING = "QOTP_SHARED_SECRET_ID"
_LINE = re.compile(rf"({_SESSION}|{_OPENING}) ([0-9a-f]{{1,16}}) ([0-9a-f]{{64}})", re.ASCII)


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
        kind, name = Kind(datagram[0]), datagram[ID]
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
                return Read(kind, name, direction == INITIATOR, number, plain, decode(plain))
        return None

    def _open(
        self, cipher: Cipher, datagram: bytes, kind: Kind, name: bytes, direction: int
    ) -> tuple[int, bytes] | None:
        epoch = self._epochs.get((name, direction), 0) if kind is Kind.DATA else 0
        opened = cipher.open(datagram, PREFIX[kind], direction, epoch)
        if opened is not None and kind is Kind.DATA:
            self._epochs[name, direction] = max(epoch, opened[0] >> 48)
        return opened
