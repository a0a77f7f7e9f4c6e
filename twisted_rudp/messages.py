"""What programs that exchange messages name: how one is to be carried, and one that has come."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Delivery(IntEnum):
    """
    How a message is to be carried. An engine refuses with C{ValueError} what
    its wire does not have.
    """

    UNRELIABLE = 0
    UNRELIABLE_SEQUENCED = 1
    RELIABLE = 2
    RELIABLE_ORDERED = 3
    RELIABLE_SEQUENCED = 4
    OUT_OF_BAND = 5


class Message(NamedTuple):
    """A message as it came from the peer."""

    data: bytes
    delivery: Delivery = Delivery.RELIABLE_ORDERED
    channel: int = 0


__all__ = ["Delivery", "Message"]
