"""What the parts of one session share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted_rudp.core.engine import MILLISECOND, SECOND, Address, Event
from twisted_rudp.raknet.counters import Counters
from twisted_rudp.raknet.handshake import Handshake
from twisted_rudp.raknet.inbox import Inbox
from twisted_rudp.raknet.life import CARRYING, NEXT, OVER, Life, Role
from twisted_rudp.raknet.liveness import Liveness
from twisted_rudp.raknet.offline import Request2
from twisted_rudp.raknet.profiles import Settings
from twisted_rudp.raknet.receiver import Receiver
from twisted_rudp.raknet.sender import Sender
from twisted_rudp.raknet.wire import Starts

_MASK64 = (1 << 64) - 1


class State:
    """
    How far a session is, and its two halves.

    @ivar role: which side we are.
    @ivar life: see L{Life}; changed by L{enter} alone.
    @ivar left: the peer has said its last word, but the session is L{Life.LIVE}
        until what it said before was read.
    @ivar carrying: L{life} is one in which the peer may be sending data.
    @ivar guid: our own.
    @ivar peer_guid: a dialler learns it from the first replies.
    @ivar mtu: the agreed size; until then what fits every path.
    @ivar arrivals: the receiver's.
    @ivar flying: the sender's.
    @ivar events: what the owner is to be told.
    """

    __slots__ = (
        "_epoch",
        "arrivals",
        "carrying",
        "counters",
        "events",
        "flying",
        "guid",
        "handshake",
        "inbox",
        "left",
        "life",
        "liveness",
        "mtu",
        "peer_guid",
        "receiver",
        "role",
        "sender",
        "settings",
    )

    def __init__(
        self,
        address: Address,
        settings: Settings,
        now: int,
        guid: int,
        epoch: int,
        request: Request2 | None,
        validated: bool,
        starts: Starts,
    ) -> None:
        """See L{RakNetEngine<twisted_rudp.raknet.engine.RakNetEngine>} for the parameters."""
        self.settings = settings
        self.guid = guid
        self.counters = Counters()
        self.receiver = Receiver(settings, self.counters, starts)
        self.arrivals = self.receiver.arrivals
        self.sender = Sender(settings, self.counters, starts)
        self.flying = self.sender.flying
        self.liveness = Liveness(settings, now)
        self.inbox = Inbox(settings, self.counters)
        self.events: list[tuple[Any, ...]] = []
        self.left = self.carrying = False
        self._epoch = epoch
        self.peer_guid: int | None = None
        if request is None:
            self.role, self.life = Role.DIALLER, Life.OFFLINE
            self.mtu = settings.mtu_min
            self.handshake = Handshake(settings, address, guid, True)
        else:
            self.role, self.life = Role.LISTENER, Life.OPENING
            self.handshake = Handshake(settings, address, request.guid, validated)
            self.agree(request.mtu, request.guid)

    @property
    def over(self) -> bool:
        """The application has been, or will be, told of the end."""
        return self.life in OVER

    @property
    def silent_until(self) -> int:
        """When the peer counts as gone if nothing is heard."""
        return self.liveness.silent_until(self.flying.round_trip.smoothed)

    def enter(self, life: Life) -> None:
        """Go on to another state."""
        if life not in NEXT[self.life]:
            raise AssertionError(f"no way from {self.life.name} to {life.name}")
        self.life = life
        self.carrying = life in CARRYING

    def agree(self, mtu: int, peer_guid: int | None) -> None:
        """Both ends know of each other."""
        self.mtu = mtu
        self.peer_guid = peer_guid
        self.sender.agree(mtu)

    def time(self, now: int) -> int:
        """Our clock as the wire shows it, in milliseconds."""
        return (self._epoch + now // MILLISECOND) & _MASK64

    def tell_receipts(self) -> None:
        """Tell what became of the messages somebody asked about."""
        receipts = self.flying.receipts
        self.events += [(Event.RECEIPT, *fate) for fate in receipts]
        receipts.clear()

    def facts(self) -> Mapping[str, Any]:
        """See L{RakNetEngine.facts<twisted_rudp.raknet.engine.RakNetEngine.facts>}."""
        mean = self.flying.round_trip.smoothed
        latest = self.liveness.latest
        return {
            "transport": "raknet",
            "protocol": self.settings.protocol,
            "state": self.life.name,
            "guid": self.guid,
            "peer_guid": self.peer_guid,
            "mtu": self.mtu,
            "validated": self.handshake.validated,
            "rtt": None if mean is None else mean / SECOND,
            "latency": None if latest is None else latest / SECOND / 2,
            "rto": self.flying.round_trip.timeout / SECOND,
            "window": self.flying.controller.window,
            "in_flight": self.flying.bytes,
            "waiting": self.receiver.held,
        }
