"""Discovery profiles: the ports, intervals and wire format used on a local network."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from twisted_rudp.discovery import v1


class Wire(Enum):
    """What the datagrams look like."""

    V1 = "v1"
    V4 = "v4"


@dataclass(frozen=True)
class Profile:
    """
    Ports and times of one way. Both ends must have the same ports.

    @ivar name: as it is given on command lines.
    @ivar port: the UDP port that listeners are bound to.
    @ivar group: IPv6 multicast group, of link-local scope; None: IPv4 only.
    @ivar interval: seconds between two announcements.
    @ivar life: seconds for which an announcement holds.
    @ivar hops: hop limit that everybody sends with, so that listeners can tell what has
        come through a router; None: each sender chooses, 1 to groups.
    @ivar solicits: a listener may ask for announcements at once, with an announcement
        without addresses. Not with programs that keep for ever what they have heard.
    """

    name: str
    wire: Wire
    port: int
    group: str | None = None
    interval: float = 30.0
    life: float = 90.0
    hops: int | None = None
    solicits: bool = False

    def __post_init__(self) -> None:
        """
        @raise ValueError: a number outside its range.
        """
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port is from 1 to 65535, not {self.port!r}")
        if not 0 < self.interval < self.life:
            raise ValueError(f"a life of {self.life} s is over before the next announcement")


V1 = Profile("v1", Wire.V1, v1.PORT)
"""The first protocol; carries names, and a port without its transport."""

V4 = Profile("v4", Wire.V4, 21031, "ff12::7275:6470", hops=255, solicits=True)
"""Today's format on ports of our own, so that no Syncthing is filled with our nodes."""

SYNCTHING = Profile("syncthing", Wire.V4, 21027, "ff12::8384")
"""Today's format where Syncthing is."""

PROFILES = {profile.name: profile for profile in (V4, V1, SYNCTHING)}
