"""
The keys of one connection, and what can be done with them: agreed once and never
replaced (W2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from twisted_rudp.core.received import Received
from twisted_rudp.qotp.crypto import Cipher
from twisted_rudp.qotp.life import Role, Settings
from twisted_rudp.qotp.opening import Secrets
from twisted_rudp.qotp.outlet import Sealer
from twisted_rudp.qotp.unsealer import Unsealer
from twisted_rudp.qotp.wire import DATA_OVERHEAD, OVERHEAD, Kind


class Channel:
    """
    Seals and opens the datagrams of one connection.

    @ivar name: the connection id.
    @ivar sealer: what is sent goes through it.
    @ivar unsealer: what is received goes through it; None before there is a key.
    @ivar mtu: longest payload that goes out now, counted as if it were in Data.
    @ivar validated: the peer has shown that it receives at its address.
    @ivar early: what has come could be a replay.
    @ivar echoed: the peer has proved its identity (12.1).
    """

    def __init__(
        self,
        name: bytes,
        role: Role,
        settings: Settings,
        sealer: Sealer,
        numbers: Received,
        counters: Counter[str],
    ) -> None:
        """
        @param numbers: of what was received.
        @param counters: of what was dropped.
        """
        self.name = name
        self.sealer = sealer
        self.mtu = settings.mtu
        self.validated = role is Role.INITIATOR
        self.early = False
        self.echoed = False
        self._role = role
        self._settings = settings
        self._numbers = numbers
        self._counters = counters
        self._cipher: Cipher | None = None
        self._secrets: Secrets | None = None
        self.unsealer: Unsealer | None = None

    def agree(self, cipher: Cipher, secrets: Secrets, early: Cipher | None = None) -> None:
        """
        There is a key, and it stays.

        @param early: for K0, while early data is taken.
        """
        self._cipher = cipher
        self._secrets = secrets
        self.unsealer = Unsealer(
            cipher, secrets, self._role.peer, self._numbers, self._counters, early
        )
        self.early = early is not None
        self._use(Kind.DATA if early is None else Kind.INIT_CRYPTO_RCV)
        if self._settings.key_log is not None:
            self._settings.key_log(self.name, secrets)

    def prove(self) -> None:
        """Authentic Data: the dialler has received our answer, and this is no replay."""
        self.validated = True
        if self.early and self.unsealer is not None:
            self.early = False
            self.unsealer.close_early()
            self._use(Kind.DATA)

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
            theirs = secrets.responder if self._role is Role.INITIATOR else secrets.initiator
            key = theirs[1].hex() or None
        return {
            "connection_id": self.name.hex(),
            "role": self._role.name.lower(),
            "peer_key": key,
            "peer_key_proved": self.echoed,
            "early": self.early,
        }

    def _use(self, kind: Kind) -> None:
        """Send messages of this type from now on."""
        assert self._cipher is not None and self._secrets is not None
        mine = self._role is Role.INITIATOR
        keys = self._secrets.initiator if mine else self._secrets.responder
        self.sealer.use(kind, self._cipher, self.name, *keys)
        self.mtu = self._settings.mtu - (OVERHEAD[kind] - DATA_OVERHEAD)
