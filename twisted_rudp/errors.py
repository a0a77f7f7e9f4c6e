"""
Why connections fail and end, in Twisted's words.

L{failureFor} is the only way from a transport's L{Reason} to what Twisted's
interfaces ask for: before the connection is there a subclass of
C{twisted.internet.error.ConnectError} (CONN-6), afterwards
C{ConnectionDone}, C{ConnectionLost} or a subclass (CLOSE-8).
"""

from __future__ import annotations

from enum import Enum, auto

from twisted.internet import error
from twisted.python.failure import Failure

from twisted_rudp.core.engine import Reason


class Phase(Enum):
    """How far a session had come when it ended."""

    CONNECTING = auto()
    CONNECTED = auto()


class PeerTimedOut(error.ConnectionLost):
    """The peer has not been heard from for too long."""


class PeerReset(error.ConnectionLost):
    """The peer has given up the connection."""


class PeerForgot(error.ConnectionLost):
    """The peer does not know this connection any more."""


class PeerUnreachable(error.ConnectionLost):
    """The network does not lead to the peer any more."""


class PeerBrokeProtocol(error.ConnectionLost):
    """The peer sent what the protocol does not allow, or failed to prove who it is."""


class CloseTimedOut(error.ConnectionLost):
    """The peer did not acknowledge the rest of the data in time."""


class SocketLost(error.ConnectionLost):
    """The UDP socket under the connection was closed."""


class LimitReached(error.ConnectionLost):
    """A limit on this side's resources was reached."""


class InternalError(error.ConnectionLost):
    """An error inside this library ended the connection; it is in the log."""


class PeerRefused(error.ConnectionRefusedError):
    """The peer does not want this connection."""


class PeerFull(PeerRefused):
    """The peer takes no more connections."""


class AddressBanned(PeerRefused):
    """The peer has banned this address."""


class VersionRefused(PeerRefused):
    """The peer speaks another version of the protocol."""


class AuthenticationFailed(error.ConnectError):
    """The peer could not be authenticated."""


class NodeNotFound(error.DNSLookupError):
    """Discovery knows no address of a node, as a resolver knows none of a name."""

    MESSAGE = "Node not found"


class HandshakeFailed(error.ConnectError):
    """The handshake could not be carried through."""


_CONNECTING: dict[Reason, type[error.ConnectError]] = {
    Reason.DONE: PeerRefused,
    Reason.ABORTED: HandshakeFailed,
    Reason.RESET: PeerRefused,
    Reason.IDLE: error.TimeoutError,
    Reason.CLOSE_TIMEOUT: error.TimeoutError,
    Reason.DEAD_LINK: error.TimeoutError,
    Reason.FORGOTTEN: PeerRefused,
    Reason.REFUSED: error.ConnectionRefusedError,
    Reason.UNREACHABLE: error.NoRouteError,
    Reason.HANDSHAKE_TIMEOUT: error.TimeoutError,
    Reason.FULL: PeerFull,
    Reason.BANNED: AddressBanned,
    Reason.VERSION: VersionRefused,
    Reason.AUTHENTICATION: AuthenticationFailed,
    Reason.PROTOCOL: HandshakeFailed,
    Reason.LIMIT: HandshakeFailed,
    Reason.SOCKET_LOST: HandshakeFailed,
    Reason.INTERNAL: HandshakeFailed,
}

_CONNECTED: dict[Reason, type[error.ConnectionClosed]] = {
    Reason.DONE: error.ConnectionDone,
    Reason.ABORTED: error.ConnectionAborted,
    Reason.RESET: PeerReset,
    Reason.IDLE: PeerTimedOut,
    Reason.CLOSE_TIMEOUT: CloseTimedOut,
    Reason.DEAD_LINK: PeerTimedOut,
    Reason.FORGOTTEN: PeerForgot,
    Reason.REFUSED: PeerUnreachable,
    Reason.UNREACHABLE: PeerUnreachable,
    Reason.HANDSHAKE_TIMEOUT: PeerTimedOut,
    Reason.FULL: PeerReset,
    Reason.BANNED: PeerReset,
    Reason.VERSION: PeerBrokeProtocol,
    Reason.AUTHENTICATION: PeerBrokeProtocol,
    Reason.PROTOCOL: PeerBrokeProtocol,
    Reason.LIMIT: LimitReached,
    Reason.SOCKET_LOST: SocketLost,
    Reason.INTERNAL: InternalError,
}


def failureFor(reason: Reason, detail: str | None, phase: Phase) -> Failure:
    """
    What a factory's or protocol's owner is told about the end of a session.

    @param detail: a text for people; the reason's own if None.
    @return: a C{Failure} without traceback, as CLOSE-8 wants it even where Twisted
        would take a bare exception.
    """
    text = detail if detail is not None else reason.value
    problem: Exception
    if phase is Phase.CONNECTING:
        problem = _CONNECTING[reason](string=text)
    elif reason is Reason.DONE and detail is None:
        problem = error.ConnectionDone()
    else:
        problem = _CONNECTED[reason](text)
    return Failure(problem)  # type: ignore[no-untyped-call]
