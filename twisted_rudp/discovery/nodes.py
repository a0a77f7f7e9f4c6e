"""Nodes, their sources and their addresses, as browsers and lookups return them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.urls import Address

SERVER = "server"
"""The way of what a discovery server answered."""


class Source(NamedTuple):
    """
    Where an announcement came from. One node may be heard from several, and each says
    what it says.

    @ivar via: C{"v4 broadcast"}, C{"v4 multicast"}, C{"v1 broadcast"}, C{"server"} ...
    @ivar host: the sender's address, an IP literal with its zone.
    """

    via: str
    host: str


class Change(Enum):
    """What an announcement meant to the registry."""

    NEW = "the source had not announced this node"
    RESTARTED = "the node has another instance number than before"
    UPDATED = "other addresses"
    RENEWED = "nothing but longer life"
    REFUSED = "a limit was reached"


class Removal(Enum):
    """Why a node is not listed any more."""

    EXPIRED = "it was not announced again"
    EVICTED = "there was no room"
    GOODBYE = "it said so"


@dataclass(frozen=True)
class Candidate:
    """
    An address at which a node may be reached, on the word of whoever announced it.

    @ivar age: seconds since it was last announced.
    @ivar reached: a connection to it has succeeded before.
    """

    address: Address
    source: Source
    age: float
    reached: bool = False


@dataclass(frozen=True)
class Node:
    """
    A node at one moment.

    @ivar candidates: best first.
    @ivar age: seconds since it was last heard of.
    """

    id: NodeId
    candidates: tuple[Candidate, ...]
    age: float

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it may be reached, best first."""
        return tuple(candidate.address for candidate in self.candidates)
