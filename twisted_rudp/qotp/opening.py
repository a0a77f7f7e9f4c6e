"""
The dialler's half of the handshake (C{qotp.md} 3 and 12.1).

With the listener's key known (0-RTT form)::

    InitCryptoSnd  a PING that nobody can guess, under K0    ->
                                                             <-  InitCryptoRcv  its echo, under K

Only who has the listener's private key can have read the PING, so its echo proves who
made the key K. Without the key (in-band form) nothing is proved::

    InitSnd                                                  ->
                                                             <-  InitRcv
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted_rudp.core.engine import MILLISECOND, SECOND, Address, Emit
from twisted_rudp.qotp.crypto import RESPONDER, Cipher
from twisted_rudp.qotp.keys import KeyPair, LowOrder
from twisted_rudp.qotp.mark import mark_ack
from twisted_rudp.qotp.outlet import Outlet, Sealer
from twisted_rudp.qotp.payload import Ack, Payload, Segment, decode, encode
from twisted_rudp.qotp.wire import (
    OVERHEAD,
    PREFIX,
    Kind,
    connection_id,
    init_snd,
)

REPEAT = 200 * MILLISECOND
SLOWEST = SECOND
"""The first message is repeated after 200 ms, then twice as late each time up to this."""

MAX_ANSWERS = 64
"""Different answers, each worth an exchange of keys, that are looked at; who forges
more has only prevented this attempt."""


class Secrets(NamedTuple):
    """
    What both sides know when they have exchanged keys.

    @ivar session: K.
    @ivar opening: K0; None in the in-band form.
    @ivar initiator: the initiator's ephemeral key, then its identity.
    @ivar responder: the same of the other side.
    """

    session: bytes
    opening: bytes | None
    initiator: tuple[bytes, bytes]
    responder: tuple[bytes, bytes]


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


class Opening:
    """
    One attempt to reach a listener.

    @ivar name: the connection id.
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
        self._identity = identity
        self._mtu = mtu
        self._wait = REPEAT
        self._answers: dict[bytes, tuple[Cipher, bytes] | None] = {}
        self._opening = None if server_key is None else ephemeral.exchange(server_key)
        self._challenge: tuple[int, int] | None = None
        if server_key is not None and authenticate:
            # One bit makes the offset wide, whatever is drawn.
            offset = int.from_bytes(entropy(6), "little") | 1 << 47
            self._challenge = int.from_bytes(entropy(4), "little"), offset

    @property
    def kind(self) -> Kind:
        """The form of the first message."""
        return Kind.INIT_SND if self._opening is None else Kind.INIT_CRYPTO_SND

    def start(self, sealer: Sealer) -> None:
        """Have the first message sealed, if it is."""
        if self._opening is not None:
            cipher = Cipher(self._opening)
            sealer.use(
                self.kind, cipher, self.name, self._ephemeral.public, self._identity.public
            )

    def speak(
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
            datagram = init_snd(self._ephemeral.public, self._identity.public, self._mtu)
            emit(datagram, len(datagram), address)
        else:
            ping = Segment(*(self._challenge or (0, 0)), b"")
            Outlet(sealer, emit, address, budget, True).send([encode(mark_ack(window), ping)])

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
            (self._ephemeral.public, self._identity.public),
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
