"""From a session whose peer is there to a transport with its protocol."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from twisted.internet.address import IPv4Address, IPv6Address

from twisted_rudp.core.engine import Capability
from twisted_rudp.net.messages import MessageTransport
from twisted_rudp.net.multiplex import MultiplexTransport
from twisted_rudp.net.session import Session
from twisted_rudp.net.stream import StreamTransport
from twisted_rudp.net.transport import SessionTransport


class Mode(StrEnum):
    """What a factory's protocols are to be given."""

    STREAM = "stream"
    """Bytes, as TCP."""

    MESSAGES = "messages"
    """Messages; the protocols provide
    L{IMessageProtocol<twisted_rudp.interfaces.IMessageProtocol>}."""


def makeTransport(
    session: Session,
    mode: Mode,
    host: IPv4Address | IPv6Address,
    lost: Callable[[], None] | None,
) -> SessionTransport:
    """
    The transport for what the engine can do.

    @raise ValueError: it cannot do what C{mode} wants.
    """
    capabilities = session.engine.capabilities
    if mode is Mode.MESSAGES:
        wanted, kind = Capability.MESSAGES, MessageTransport
    elif Capability.STREAMS in capabilities:
        return MultiplexTransport(session, host, lost)
    else:
        wanted, kind = Capability.BYTES, StreamTransport  # type: ignore[assignment]
    if wanted not in capabilities:
        raise ValueError(f"this transport has no mode {mode.value!r}")
    return kind(session, host, lost)
