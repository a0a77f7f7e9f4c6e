"""
The dialler's part before there is a session: MTU discovery and the two requests
(raknet.md 2.2 and 3)::

    PROBING  --reply 1-->  ASKING  --reply 2-->  AGREED
       |                     |
       +-----refusal---------+---->  REFUSED

Probing goes through the sizes over and over; whoever dials says when it is enough.
"""

from __future__ import annotations

from enum import Enum

from twisted_rudp.core.engine import Address, Reason
from twisted_rudp.raknet.offline import (
    Id,
    Incompatible,
    Offline,
    Refusal,
    Reply1,
    Reply2,
    Request1,
    Request2,
    pack,
)
from twisted_rudp.raknet.profiles import SMALLEST_MTU, Settings
from twisted_rudp.raknet.wire import IP_UDP

LARGEST_MTU = 1500

_REASONS = {
    Id.ATTEMPT_FAILED: (Reason.REFUSED, "the peer says that the attempt has failed"),
    Id.ALREADY_CONNECTED: (Reason.REFUSED, "the peer has a session with us already"),
    Id.FULL: (Reason.FULL, None),
    Id.BANNED: (Reason.BANNED, None),
    Id.RECENTLY_CONNECTED: (Reason.REFUSED, "the peer had a session with this host just now"),
}


class Stage(Enum):
    """How far the dialler has come."""

    PROBING = "looking for a size that gets through"
    ASKING = "the size is known; asking for a session"
    AGREED = "the peer has a session for us"
    REFUSED = "the peer does not want one"


class Dialling:
    """
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
        self._probed = 0
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
            found.append(self._request2(self._cookie, self.mtu))
            return found
        if self._sent >= self._settings.tries:
            self._next_size()
        self._sent += 1
        size = self._sizes[self._size]
        self._probed = max(self._probed, size)
        found.append(pack(Request1(self._settings.protocol, size), self._settings.magic))
        return found

    def receive(self, message: Offline, now: int) -> None:
        """Digest what came from the address we dial."""
        if isinstance(message, Reply1):
            self._replied(message, now)
        elif isinstance(message, Reply2):
            if self.stage is Stage.ASKING:
                self.stage = Stage.AGREED
                self.mtu = self._clamp(message.mtu)
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
            self._probed = 0
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
        self.due = now

    def _clamp(self, mtu: int) -> int:
        return max(min(mtu, self._probed or self._settings.mtu_min), SMALLEST_MTU)

    def _request2(self, cookie: int | None, mtu: int) -> bytes:
        return pack(Request2(cookie, self._server, mtu, self._own), self._settings.magic)
