"""
A peer of release v0.2.19, written from qotp.md alone: what it sends when, and the
faults it has. It is strict: a datagram that would end the release's loop (W3, R9) is an
error of the test, and so is one that would make it panic (W3b).

Both roles; the application is a function that is called as the release's Loop does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.qotp.releaseconnection import MTU, Application, ReleaseConnection
from twisted_rudp.core.engine import MILLISECOND, Address
from twisted_rudp.qotp import wire
from twisted_rudp.qotp.keys import KeyPair
from twisted_rudp.qotp.protection import INITIATOR, RESPONDER, Cipher
from twisted_rudp.qotp.wire import Kind, Payload, Segment, decode

if TYPE_CHECKING:
    from tests.qotp.pair import Pair


WORK = MILLISECOND // 100
"""Its loop looks at its pauses so long after a datagram has come."""


class LoopEnded(AssertionError):
    """The release's listener has returned an error: R9 was broken."""


class NoDemultiplexer:
    """The release keeps no half-open connections."""

    def deadline(self) -> None:
        """Never."""


class ReleasePeer:
    """A socket of the release, in the place of an L{End<tests.qotp.pair.End>}."""

    def __init__(
        self, pair: Pair, name: str, address: Address, identity: KeyPair, application: Application
    ) -> None:
        self.pair = pair
        self.name = name
        self.address = address
        self.identity = identity
        self.application = application
        self.entropy = pair.random.randbytes
        self.demux = NoDemultiplexer()
        self.engines: dict[bytes, ReleaseConnection] = {}
        self.sent: list[bytes] = []
        self.early: list[bytes] = []

    @property
    def connection(self) -> ReleaseConnection:
        """The only one."""
        (connection,) = self.engines.values()
        return connection

    def dial(self, address: Address, known: bytes | None) -> ReleaseConnection:
        """10: nothing is sent before a stream is made."""
        connection = ReleaseConnection(self, b"", INITIATOR, address)
        connection.name = wire.connection_id(connection.ephemeral.public)
        if known is not None:
            connection.opening = Cipher(connection.ephemeral.exchange(known))
        self.engines[connection.name] = connection
        return connection

    def emit(self, datagram: bytes, address: Address) -> None:
        """Onto the link."""
        self.pair.carry(self, datagram, address)  # type: ignore[arg-type]

    def turn(self, connection: ReleaseConnection, work: int = 0) -> None:
        """After a tick, or after C{work} on a datagram."""
        connection.flush(self.pair.now + work)
        if connection.dead is not None:
            self.engines.pop(connection.name, None)

    def arrive(self, datagram: bytes, source: Address, size: int | None = None) -> None:
        """
        A datagram off the link.

        @param size: its length, if it is given.
        @raise LoopEnded: the release would not survive it.
        """
        if len(datagram) > MTU or len(datagram) < wire.SHORTEST:
            raise LoopEnded(f"a datagram of {len(datagram)} bytes")
        connection, payload = self._open(datagram, source)
        if payload is None:
            raise LoopEnded("a payload that cannot be read")
        connection.digest(payload, self.pair.now)
        for each in list(self.engines.values()):
            self.turn(each, WORK)

    def _open(self, datagram: bytes, source: Address) -> tuple[ReleaseConnection, Payload | None]:
        kind, name = datagram[0], datagram[wire.ID_OFFSET : wire.ID_END]
        if kind in (Kind.INIT_SND, Kind.INIT_CRYPTO_SND):
            if len(datagram) < MTU:
                raise LoopEnded("a short opening")
            connection = self._accept(datagram, source)
            if kind == Kind.INIT_SND:
                return connection, Payload(None, Segment(0, 0, b""))
            plain = self._decrypt(connection.opening, connection, datagram, Kind.INIT_CRYPTO_SND)
            return connection, decode(wire.without_fill(plain) or b"")
        known = self.engines.get(name)
        if known is None:
            raise LoopEnded("a datagram of an unknown connection")
        if kind in (Kind.INIT_RCV, Kind.INIT_CRYPTO_RCV):
            theirs = datagram[9:41]
            known.cipher = Cipher(known.ephemeral.exchange(theirs))
            plain = self._decrypt(known.cipher, known, datagram, Kind(kind))
            known.done = True
            return known, decode(plain)
        plain = self._decrypt(known.cipher, known, datagram, Kind.DATA)
        known.done = True
        return known, decode(plain)

    def _accept(self, datagram: bytes, source: Address) -> ReleaseConnection:
        opening = wire.parse_opening(datagram)
        name = datagram[wire.ID_OFFSET : wire.ID_END]
        connection = self.engines.get(name)
        if connection is None:
            connection = ReleaseConnection(self, name, RESPONDER, source)
            self.engines[name] = connection
        connection.cipher = Cipher(connection.ephemeral.exchange(opening.ephemeral))
        if datagram[0] == Kind.INIT_CRYPTO_SND:
            connection.opening = Cipher(self.identity.exchange(opening.ephemeral))
        return connection

    def _decrypt(
        self,
        cipher: Cipher | None,
        connection: ReleaseConnection,
        datagram: bytes,
        kind: Kind,
    ) -> bytes:
        if cipher is None or len(datagram) < wire.OVERHEAD[kind] + wire.LEAST_PAYLOAD:
            raise LoopEnded(f"{kind.name} cannot be opened")
        theirs = RESPONDER if connection.direction == INITIATOR else INITIATOR
        opened = cipher.open(datagram, wire.PREFIX[kind], theirs, connection.epoch)
        if opened is None:
            raise LoopEnded(f"{kind.name} is not authentic")
        return opened[1]
