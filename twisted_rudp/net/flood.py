"""
Whether unknown peers flood a socket, and how much of it to let through.

What a turn has no time to look at is dropped, but only after it has taken a place in the
receive queue of the kernel, where the datagrams of sessions then find none. So while most of
what unknown peers send is dropped anyway, a L{Thinning
<twisted_rudp.net.udp.sourcefilter.Thinning>} has the kernel drop it. Hosts share fairly what
can be looked at: those that send little are not thinned.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Container, Sequence
from typing import Final, TypeAlias

from twisted_rudp.core.engine import MILLISECOND, Address
from twisted_rudp.net.session import HANDSHAKE_DATAGRAMS
from twisted_rudp.net.udp.sourcefilter import WHOLE, Thinning, bucketOf

INTERVAL: Final = 100 * MILLISECOND
"""So often it is found out anew what unknown peers send."""

EARLY: Final = 1000
"""So many datagrams of theirs are a flood before an interval is over."""

LEAST: Final = 200
"""So many in an interval are let through in any case."""

PART: Final = 4
"""Unknown peers may take one part in so many of the time."""

HASTE: Final = 4
"""The share of a bucket grows by no more than this factor in an interval."""

MOST_HOSTS: Final = 4096
"""Hosts that are told apart in an interval, and addresses."""

Known: TypeAlias = Callable[[Container[Address]], Sequence[Address]]
"""C{flooding} -> addresses from which all is let through."""


class Flood:
    """
    What unknown peers send to one socket.

    @ivar came: datagrams of theirs since the last L{review}.
    @ivar thinning: what the kernel is to do now; None: nothing.
    """

    __slots__ = (
        "_flooding",
        "_hosts",
        "_looked",
        "_opening",
        "_others",
        "_salt",
        "_since",
        "_spent",
        "came",
        "thinning",
    )

    def __init__(self, salt: Callable[[int], int] = secrets.randbits) -> None:
        """
        @param salt: gives a number of so many random bits.
        """
        self._salt = salt
        self.came = 0
        self.thinning: Thinning | None = None
        self._hosts: dict[str, int] = {}
        # What came from where there are sessions, and where more than handshakes came from since
        # its bucket is thinned.
        self._opening: dict[Address, int] = {}
        self._flooding: set[Address] = set()
        self._others = 0
        self._looked = 0
        self._spent = 0
        self._since = -1

    def note(self, host: str, datagrams: int) -> None:
        """An unknown peer has sent something."""
        self.came += datagrams
        hosts = self._hosts
        if host in hosts or len(hosts) < MOST_HOSTS:
            hosts[host] = hosts.get(host, 0) + datagrams
        else:
            self._others += datagrams

    def noteBeside(self, address: Address, datagrams: int) -> None:
        """As L{note}, from an address that has sessions already."""
        self.note(address[0], datagrams)
        opening = self._opening
        if address in opening or len(opening) < MOST_HOSTS:
            opening[address] = opening.get(address, 0) + datagrams

    def looked(self, datagrams: int, spent: int) -> None:
        """So many of them were looked at, which took so many nanoseconds."""
        self._looked += datagrams
        self._spent += spent

    def spent(self, nanoseconds: int) -> None:
        """It took so much time to read some of them."""
        self._spent += nanoseconds

    def deadline(self) -> int | None:
        """When L{review} wants to be called next."""
        return None if self.thinning is None else self._since + INTERVAL

    def review(self, now: int, overflowed: bool, known: Known) -> bool:
        """
        Find out whether there is a flood.

        @param overflowed: the kernel has dropped datagrams because nobody had read them.
        @param known: gives the addresses of sessions. One from which more comes than handshakes
            take is none unless a session there is open: a first datagram is enough for a session.
        @return: whether L{thinning} has changed.
        """
        if self._since < 0:
            self._since = now
        elapsed = now - self._since
        if elapsed < INTERVAL and (self.thinning is not None or self.came < EARLY):
            return False
        before = self.thinning
        drowned = self.came > 2 * self._looked or overflowed
        if before is not None or (self.came > LEAST and drowned):
            self._thin(min(elapsed, INTERVAL), known)
        self.came = self._others = self._looked = self._spent = 0
        self._hosts.clear()
        self._opening.clear()
        self._since = now if self.thinning is not None else -1
        return self.thinning is not None or before is not None

    def _thin(self, elapsed: int, known: Known) -> None:
        before = self.thinning
        salt = self._salt(128) if before is None else before.salt
        shares = {} if before is None else before.shares
        came: dict[int, float] = {}
        for host, datagrams in self._hosts.items():
            bucket = bucketOf(host, salt)
            came[bucket] = came.get(bucket, 0) + datagrams
        if self._others:
            # Nobody knows where they belong: a flood from everywhere.
            seen = self.came - self._others
            came = {bucket: each * self.came / seen for bucket, each in came.items()}
        offered = {
            bucket: each * WHOLE / shares.get(bucket, WHOLE) for bucket, each in came.items()
        }
        level = _fair(sorted(offered.values()), self._room(elapsed))
        found: dict[int, int] = {}
        for bucket in {*offered, *shares}:
            share = WHOLE
            if bucket in offered and offered[bucket] > level:
                share = int(WHOLE * level / offered[bucket])
            if bucket in shares:
                share = min(share, HASTE * shares[bucket])
            if share < WHOLE:
                found[bucket] = max(share, 1)
        # Not by host: behind one there may be a crowd that dials at the same time.
        opening = self._opening.items()
        flooding = {each for each, datagrams in opening if datagrams > HANDSHAKE_DATAGRAMS}
        flooding |= self._flooding
        self._flooding = {each for each in flooding if bucketOf(each[0], salt) in found}
        self.thinning = Thinning(salt, known(self._flooding), found) if found else None

    def _room(self, elapsed: int) -> float:
        """How many datagrams to let through in an interval."""
        room = float(2 * self._looked)
        if self._spent:
            room = min(room, self._looked * elapsed / (PART * self._spent))
        return max(room * INTERVAL / max(elapsed, 1), LEAST) * elapsed / INTERVAL


def _fair(offered: list[float], room: float) -> float:
    """How much each may have, where nobody gets more than he offers; by rising amounts."""
    left = len(offered)
    for each in offered:
        if each * left >= room:
            return room / left
        room -= each
        left -= 1
    return float("inf")
