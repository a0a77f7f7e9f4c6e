"""
The two halves of a handshake: the dialler's requests outside of a session, and the messages
inside of it (raknet.md 2 to 4).
"""

from __future__ import annotations

from enum import Enum
from hmac import compare_digest
from typing import Final

from twisted_rudp.core.engine import Address, Reason
from twisted_rudp.raknet.offline import (
    Incompatible,
    OfflineMessage,
    Refusal,
    Reply1,
    Reply2,
    Request1,
    Request2,
    pack,
)
from twisted_rudp.raknet.queue import OutgoingMessage
from twisted_rudp.raknet.settings import SMALLEST_MTU, Settings
from twisted_rudp.raknet.wire import (
    IP_UDP,
    ConnectionRequest,
    MessageId,
    NewIncoming,
    RequestAccepted,
    pack_connection_request,
    pack_new_incoming,
    pack_request_accepted,
)

LARGEST_MTU: Final = 1500

_REASONS: Final = {
    MessageId.ATTEMPT_FAILED: (Reason.REFUSED, "the peer says that the attempt has failed"),
    MessageId.ALREADY_CONNECTED: (Reason.REFUSED, "the peer has a session with us already"),
    MessageId.FULL: (Reason.FULL, None),
    MessageId.BANNED: (Reason.BANNED, None),
    MessageId.RECENTLY_CONNECTED: (
        Reason.REFUSED,
        "the peer had a session with this host just now",
    ),
}


class Stage(Enum):
    """How far a dialler's requests have come."""

    PROBING = "looking for a size that gets through"
    ASKING = "the size is known; asking for a session"
    AGREED = "the peer has a session for us"
    REFUSED = "the peer does not want one"


class Dialler:
    """
    A dialler's part before there is a session: MTU discovery and the two requests
    (raknet.md 2.2 and 3)::

        PROBING  --reply 1-->  ASKING  --reply 2-->  AGREED
           |  ^                  |  |
           |  +---no reply 2-----+  |
           +-----refusal------------+---->  REFUSED

    Probing goes through the sizes over and over; whoever dials says when it is enough.

    @ivar stage: see L{Stage}.
    @ivar due: when L{datagrams} wants to be asked next.
    @ivar mtu: when agreed, the size to use.
    @ivar guid: the peer's, from its first reply on.
    @ivar refusal: when refused, why.
    """

    def __init__(self, settings: Settings, guid: int, server: Address, now: int) -> None:
        """
        @param guid: our own.
        """
        self.stage = Stage.PROBING
        self.due = now
        self.mtu = settings.mtu_min
        self.guid: int | None = None
        self.refusal: tuple[Reason, str | None] = (Reason.REFUSED, None)
        self._settings = settings
        self._own = guid
        self._server = server
        self._sizes = [size for size in settings.probes if size <= settings.mtu]
        if not self._sizes:
            self._sizes = [settings.mtu]
        self._size = 0
        self._sent = 0
        self._probed: set[int] = set()
        self._largest = settings.mtu_min
        self._cookie: int | None = None
        self._trial: Reply1 | None = None

    def datagrams(self, now: int) -> list[bytes]:
        """What is to be sent now."""
        found: list[bytes] = []
        trial, self._trial = self._trial, None
        if trial is not None:
            found.append(self._request2(trial.cookie, self._clamp(trial.mtu)))
        if now < self.due or self.stage not in (Stage.PROBING, Stage.ASKING):
            return found
        self.due = now + self._settings.probe_interval
        if self.stage is Stage.ASKING:
            if self._sent < self._settings.tries:
                self._sent += 1
                found.append(self._request2(self._cookie, self.mtu))
                return found
            # A listener that was restarted does not know the cookie any more.
            self.stage = Stage.PROBING
            self._sent = 0
        if self._sent >= self._settings.tries:
            self._next_size()
        self._sent += 1
        size = self._sizes[self._size]
        self._probed.add(size)
        found.append(pack(Request1(self._settings.protocol, size), self._settings.magic))
        return found

    def receive(self, message: OfflineMessage, now: int) -> None:
        """Process what came from the address we dial."""
        if isinstance(message, Reply1):
            self._replied(message, now)
        elif isinstance(message, Reply2):
            if self.stage is Stage.ASKING:
                self.stage = Stage.AGREED
                self.mtu = max(min(message.mtu, self._largest), SMALLEST_MTU)
                self.guid = message.guid
        elif self.stage in (Stage.PROBING, Stage.ASKING):
            if isinstance(message, Incompatible):
                self.stage = Stage.REFUSED
                ours, theirs = self._settings.protocol, message.protocol
                detail = f"the peer speaks RakNet protocol {theirs}, not {ours}"
                self.refusal = (Reason.VERSION, detail)
            elif isinstance(message, Refusal):
                self.stage = Stage.REFUSED
                self.refusal = _REASONS[message.id]

    def too_big(self, size: int, now: int) -> None:
        """
        The path does not take this many bytes of UDP payload: go on with the next
        size at once.
        """
        if self.stage is Stage.PROBING and size in (0, self._sizes[self._size] - IP_UDP):
            self._probed.clear()
            self._next_size()
            self.due = now

    def _next_size(self) -> None:
        self._size = (self._size + 1) % len(self._sizes)
        self._sent = 0

    def _replied(self, reply: Reply1, now: int) -> None:
        """
        The first sensible reply decides. Filters in front of a server answer with
        nonsense first and let a request 2 bring the real one (raknet.md 2.4).
        """
        if self.stage is not Stage.PROBING:
            return
        if not reply.guid or not SMALLEST_MTU <= reply.mtu <= LARGEST_MTU:
            self._trial = reply
            return
        self.stage = Stage.ASKING
        self.guid = reply.guid
        self.mtu = self._clamp(reply.mtu)
        self._cookie = reply.cookie
        self._sent = 0
        self.due = now

    def _clamp(self, mtu: int) -> int:
        """
        What is known to get through. Some servers answer with a size of their own,
        whatever was probed: then it is the present probe that has got through.
        """
        if mtu in self._probed:
            self._largest = mtu
        elif self._probed:
            self._largest = self._sizes[self._size]
        return max(min(mtu, self._largest), SMALLEST_MTU)

    def _request2(self, cookie: int | None, mtu: int) -> bytes:
        return pack(Request2(cookie, self._server, mtu, self._own), self._settings.magic)


MOST_ACCEPTED: Final = 4
"""The longest answer of the handshake is queued so often (raknet.md 13)."""

MOST_UNCONFIRMED: Final = 3
"""How often the longest answer is sent again for a peer that has not confirmed it."""

STOCK_ADDRESSES: Final = 10


class Step(Enum):
    """How far the handshake inside of a session is."""

    WAITING = "for the peer's first message"
    ASKED = "the listener has accepted, or the dialler has asked"
    DONE = "both know of each other"


class WrongPassword(Exception):
    """The request brings another password than ours."""


class Handshake:
    """
    The messages inside of a session that begin it (raknet.md 4)::

        dialler                                  listener
           |  connection request (09)               |
           | -------------------------------------> |  ASKED
           |              request accepted (10)     |
           | <------------------------------------- |
        DONE  new incoming connection (13)          |
           | -------------------------------------> |  DONE

    A listener is done only when the peer's address is validated too: by the cookie that
    the second request brought, by the time that 13 echoes, or by a pong.

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
        self._answer: OutgoingMessage | None = None

    @property
    def done(self) -> bool:
        """The session may carry data."""
        return self.step is Step.DONE

    # dialler

    def ask(self, time: int) -> bytes:
        """The dialler's first message."""
        self.step = Step.ASKED
        request = ConnectionRequest(self._guid, time, 0, self._settings.password)
        return pack_connection_request(request)

    def accepted(self, message: RequestAccepted, time: int) -> bytes | None:
        """
        The listener has accepted.

        @return: what to answer; None if this was answered already.
        """
        if self.step is not Step.ASKED:
            return None
        self.step = Step.DONE
        settings = self._settings
        incoming = NewIncoming(message.time, time)
        return pack_new_incoming(self._peer, incoming, settings.addresses, settings.extended)

    # listener

    def asked(self, message: ConnectionRequest, time: int) -> bytes | None:
        """
        A connection request has come, perhaps again.

        @return: what to answer; None if nothing.
        @raise WrongPassword: it does not know ours.
        """
        if message.guid != self._guid or self._accepted >= MOST_ACCEPTED:
            return None
        settings = self._settings
        if not compare_digest(message.password, settings.password):
            raise WrongPassword
        if self.step is Step.WAITING:
            self.step = Step.ASKED
        self._accepted += 1
        self._time = time
        addresses = settings.addresses if self.validated else STOCK_ADDRESSES
        answer = RequestAccepted(self._peer, message.time, time)
        return pack_request_accepted(answer, addresses, settings.extended)

    def answered_by(self, answer: OutgoingMessage) -> None:
        """What L{asked} gave is on its way as this message."""
        self._answer = answer

    def came(self, message: NewIncoming) -> None:
        """The dialler's last message of the handshake has come."""
        if self.step is not Step.ASKED:
            return
        self.incoming = True
        if message.server_time == self._time:
            self.validated = True
        self._conclude()

    def spoke(self) -> None:
        """
        The application at the other end has sent something: if it has our answer,
        its last message of the handshake was merely lost (raknet.md 4).
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
