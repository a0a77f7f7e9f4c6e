"""Which messages are the application's, and which of them it may send."""

from __future__ import annotations

from twisted_rudp.messages import Delivery
from twisted_rudp.raknet.outbox import PRIORITIES
from twisted_rudp.raknet.system import FIRST_USER_ID
from twisted_rudp.raknet.wire import CHANNELS

TIMESTAMPED = 0x1B
"""First byte of user messages with a time in front of their id (raknet.md 4)."""


def is_users(first: int) -> bool:
    """
    Messages that begin with this byte are the application's (raknet.md 15), not the
    protocol's own.
    """
    return first >= FIRST_USER_ID or first == TIMESTAMPED


def check_message(data: bytes, delivery: Delivery, channel: int, priority: int) -> None:
    """
    @raise ValueError: no session of RakNet carries this.
    """
    if delivery is Delivery.OUT_OF_BAND:
        raise ValueError("delivery: a session of RakNet has no OUT_OF_BAND")
    if not data:
        raise ValueError("data: RakNet has no empty messages")
    if not is_users(data[0]):
        raise ValueError(f"data: first byte {data[0]:#04x} is the protocol's, not yours")
    if not 0 <= channel < CHANNELS:
        raise ValueError(f"channel={channel!r} is not in 0 to {CHANNELS - 1}")
    if priority not in PRIORITIES:
        raise ValueError(f"priority={priority!r} is not in 0 to {PRIORITIES[-1]}")
