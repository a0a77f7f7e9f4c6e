"""
The handshake inside of the session (raknet.md 4)::

    dialler                                  listener
       |  connection request (09)               |
       | -------------------------------------> |  ASKED
       |              request accepted (10)     |
       | <------------------------------------- |
    DONE  new incoming connection (13)          |
       | -------------------------------------> |  DONE

A listener is done only when the peer's address is proved too: by the cookie that the
second request brought, by the time that 13 echoes, or by a pong.
"""

from __future__ import annotations

from enum import Enum

from twisted_rudp.core.engine import Address
from twisted_rudp.raknet.outbox import Outgoing
from twisted_rudp.raknet.profiles import Settings
from twisted_rudp.raknet.system import (
    Accepted,
    Incoming,
    Request,
    pack_accepted,
    pack_incoming,
    pack_request,
)

MOST_ACCEPTED = 4
"""The longest answer of the handshake is queued so often (raknet.md 13)."""

STOCK_ADDRESSES = 10


class Step(Enum):
    """How far the handshake is."""

    WAITING = "for the peer's first message"
    ASKED = "the listener has accepted, or the dialler has asked"
    DONE = "both know of each other"


class WrongPassword(Exception):
    """The request brings another password than ours."""


class Handshake:
    """
    @ivar step: see L{Step}.
    @ivar incoming: the listener has got 13.
    @ivar validated: the peer receives at its address.
    """

    def __init__(self, settings: Settings, peer: Address, guid: int, validated: bool) -> None:
        """
        @param guid: the dialler's, on both sides.
        """
        self.step = Step.WAITING
        self.incoming = False
        self.validated = validated
        self._settings = settings
        self._peer = peer
        self._guid = guid
        self._accepted = 0
        self._time: int | None = None
        self._answer: Outgoing | None = None

    # dialler

    def ask(self, time: int) -> bytes:
        """The dialler's first message."""
        self.step = Step.ASKED
        return pack_request(Request(self._guid, time, 0, self._settings.password))

    def accepted(self, message: Accepted, time: int) -> bytes | None:
        """
        The listener has accepted.

        @return: what to answer; None if this was answered already.
        """
        if self.step is not Step.ASKED:
            return None
        self.step = Step.DONE
        return pack_incoming(
            self._peer, Incoming(message.time, time), self._settings.addresses
        )

    # listener

    def asked(self, message: Request, time: int) -> bytes | None:
        """
        A connection request has come, perhaps again.

        @return: what to answer; None if nothing.
        @raise WrongPassword: it does not know ours.
        """
        if message.guid != self._guid or self._accepted >= MOST_ACCEPTED:
            return None
        if message.password != self._settings.password:
            raise WrongPassword
        if self.step is Step.WAITING:
            self.step = Step.ASKED
        self._accepted += 1
        self._time = time
        addresses = self._settings.addresses if self.validated else STOCK_ADDRESSES
        return pack_accepted(Accepted(self._peer, message.time, time), addresses)

    def answered_by(self, answer: Outgoing) -> None:
        """What L{asked} gave is on its way as this message."""
        self._answer = answer

    def came(self, message: Incoming) -> None:
        """The dialler's last word has come."""
        if self.step is not Step.ASKED:
            return
        self.incoming = True
        if message.server_time == self._time:
            self.validated = True
        self._conclude()

    def spoke(self) -> None:
        """
        The application at the other end has sent something: if it has our answer,
        its last word was merely lost (raknet.md 4).
        """
        if self.step is Step.ASKED and self._answer is not None and not self._answer.unacknowledged:
            self.incoming = True
            self._conclude()

    def prove(self) -> None:
        """The peer has echoed something that only its address received."""
        self.validated = True
        self._conclude()

    def _conclude(self) -> None:
        if self.step is Step.ASKED and self.incoming and self.validated:
            self.step = Step.DONE
