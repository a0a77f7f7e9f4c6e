"""Which wire a captured datagram is of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from twisted_rudp.core.engine import Address
from twisted_rudp.decoding.discovery import DiscoveryReader
from twisted_rudp.decoding.kcp import KCPReader
from twisted_rudp.decoding.qotp import QOTPReader
from twisted_rudp.decoding.raknet import RakNetReader

WIRES: Final = ("kcp", "raknet", "qotp", "discovery")

MOST_FLOWS: Final = 65536
"""Pairs of addresses whose wire is remembered; the oldest goes first."""


class Described(NamedTuple):
    """
    A datagram in words.

    @ivar wire: one of L{WIRES}; C{""} if nobody knows it.
    @ivar lines: one for each part.
    """

    wire: str
    lines: list[str]


class _Reader(Protocol):
    name: str

    def read(
        self, data: bytes, source: Address, destination: Address, certain: bool = True
    ) -> list[str] | None:
        """Describe a datagram, or None."""


class Decoder:
    """
    Reads the datagrams of a capture in their order. Where the wire is not given, it is that
    of an earlier datagram between the two addresses, or else found out by what each wire has
    of its own: a magic, a cipher that opens it, a length that fits.
    """

    def __init__(
        self,
        wire: str | None = None,
        *,
        crypt: str = "null",
        key: bytes = b"",
        shards: tuple[int, int] = (1, 1),
        key_log: Iterable[str] = (),
    ) -> None:
        """
        @param wire: one of L{WIRES} for all; None: each is found out.
        @param crypt: the cipher of KCP, with its C{key}.
        @param shards: data and parity packets of a group of KCP's FEC, if known.
        @param key_log: lines of a key log of QOTP.
        @raise ValueError: no such wire or cipher, or a key that does not fit.
        """
        readers: tuple[_Reader, ...] = (
            DiscoveryReader(),
            KCPReader(crypt, key, shards),
            QOTPReader(key_log),
            RakNetReader(),
        )
        self._readers = {reader.name: reader for reader in readers}
        self._flows: dict[tuple[Address, ...], str] = {}
        if wire is not None and wire not in self._readers:
            raise ValueError(f"{wire!r} is not one of {', '.join(WIRES)}")
        self._wire = wire

    def read(self, data: bytes, source: Address, destination: Address) -> Described:
        """Describe the next datagram."""
        flow = tuple(sorted((source, destination)))
        known = self._wire or self._flows.get(flow)
        if known is not None:
            lines = self._readers[known].read(data, source, destination)
            return Described(known, lines or ["nothing of this wire"])
        for name, reader in self._readers.items():
            lines = reader.read(data, source, destination, False)
            if lines is not None:
                self._flows[flow] = name
                if len(self._flows) > MOST_FLOWS:
                    del self._flows[next(iter(self._flows))]
                return Described(name, lines)
        return Described("", ["of no known wire"])
