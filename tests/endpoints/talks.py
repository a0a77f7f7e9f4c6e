"""Protocols that the tests of multiplexers connect."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure


class Talk(Protocol):
    """
    Keeps what it hears.

    @ivar lost: the reason of the end, once there is one.
    """

    def __init__(self) -> None:
        self.heard = bytearray()
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Echo(Talk):
    """Sends everything back, and ends when the other side does."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        assert self.transport is not None
        self.transport.write(data)


class Collecting(Factory):
    """Builds and keeps them."""

    noisy = False

    def __init__(self, kind: type[Talk]) -> None:
        self.kind = kind
        self.built: list[Any] = []

    def buildProtocol(self, addr: Any) -> Talk:
        made = self.kind()
        self.built.append(made)
        return made
