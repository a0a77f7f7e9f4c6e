"""What the errors of a socket say about the path, and telling the owner of a port."""

from __future__ import annotations

import errno
from types import MappingProxyType

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_rudp.core.engine import Address, PathError
from twisted_rudp.net.ports.contract import Receiver

_UNREACHABLE = (
    "ENETUNREACH",
    "EHOSTUNREACH",
    "ENETDOWN",
    "EHOSTDOWN",
    "ENONET",
    "EADDRNOTAVAIL",
    # A port 0, a scope that is gone, a family this socket does not speak: there is
    # no way from here to there.
    "EINVAL",
    "EAFNOSUPPORT",
)

_SENDING = MappingProxyType(
    {
        errno.EMSGSIZE: PathError.TOO_BIG,
        errno.ECONNREFUSED: PathError.REFUSED,
        errno.EPERM: PathError.FORBIDDEN,
        errno.EACCES: PathError.FORBIDDEN,
        **{
            getattr(errno, name): PathError.UNREACHABLE
            for name in _UNREACHABLE
            if hasattr(errno, name)
        },
    }
)
"""
What a failed system call says. Errors that are not here say nothing about the path
and cost the datagram only.
"""


def failedAs(code: int | None) -> PathError | None:
    """The kind for the errno of a failed system call, None if it says nothing."""
    return None if code is None else _SENDING.get(code)


REPORTED = MappingProxyType(
    {
        **_SENDING,
        # A filter on the way, not on this machine.
        errno.EPERM: PathError.UNREACHABLE,
        errno.EACCES: PathError.UNREACHABLE,
        # No UDP at all on that host.
        errno.ENOPROTOOPT: PathError.REFUSED,
    }
)
"""What an ICMP error says, by the errno the kernel gives it."""

LIMIT = 1024
"""Different errors remembered for one report; an unknown peer can cause any number."""


class PathErrors:
    """
    Errors on their way to the receiver.

    They come up in the middle of C{send} and of reading, where the owner cannot take
    them; so they are reported in a turn of their own, each once.
    """

    __slots__ = ("_call", "_cancelled", "_noted", "_reactor", "_receiver")

    def __init__(self, reactor: IReactorTime, receiver: Receiver) -> None:
        self._reactor = reactor
        self._receiver = receiver
        self._noted: dict[tuple[PathError, int, Address], None] = {}
        self._call: IDelayedCall | None = None
        self._cancelled = False

    def note(self, kind: PathError, size: int, address: Address) -> None:
        """Report this soon."""
        if len(self._noted) < LIMIT:
            self._noted[kind, size, address] = None
        if self._call is None:
            self._call = self._reactor.callLater(0, self._report)

    def _report(self) -> None:
        self._call = None
        noted, self._noted = self._noted, {}
        for kind, size, address in noted:
            if self._cancelled:
                break
            self._receiver.pathError(kind, size, address)
        if not self._cancelled:
            self._receiver.turnEnded()

    def cancel(self) -> None:
        """Report nothing any more: the port is closed."""
        self._cancelled = True
        if self._call is not None:
            self._call.cancel()
            self._call = None
