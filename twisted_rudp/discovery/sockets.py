"""The sockets of discovery: datagram ports without offloading."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorFDSet
from twisted.python.failure import Failure

from twisted_rudp.core.engine import Address, PathError
from twisted_rudp.net.udp.open import openPort
from twisted_rudp.net.udp.port import DatagramPort, PortKind, SocketOptions

_BUFFER = 256 << 10


class Receiver:
    """What a port of discovery hears; to be overridden where it matters."""

    def runReceived(self, run: bytes, size: int, address: Address) -> None:
        """Ignored."""

    def calledAt(self, local: bytes) -> None:
        """Answers leave from wherever routing says."""

    def patience(self) -> int:
        """What comes is looked for at once."""
        return 0

    def turnEnded(self) -> None:
        """Datagrams are dealt with one by one."""

    def portWritable(self) -> None:
        """
        What a full socket could not take was held or dropped; the next announcement
        says the same.
        """

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        """Ignored; the port counts it."""

    def portLost(self, failure: Failure) -> None:
        """The reactor shuts down, or the socket broke."""


def openSocket(
    reactor: Any, receiver: Receiver, interface: str = "", port: int = 0, **options: Any
) -> DatagramPort:
    """
    @param interface: as for L{openPort}.
    @param options: of L{SocketOptions}, besides the sizes of the buffers.
    @raise CannotListenError: the address cannot be had.
    """
    return openPort(
        reactor,
        receiver,
        interface,
        port,
        # The stock port loses the zones of IPv6 addresses.
        kind=PortKind.PLAIN if IReactorFDSet.providedBy(reactor) else "auto",
        options=SocketOptions(receiveBuffer=_BUFFER, sendBuffer=_BUFFER, **options),
    )


def socketFor(
    address: Address, opened: dict[int, DatagramPort], reactor: Any, receiver: Receiver
) -> DatagramPort:
    """
    The socket for the family of an address, opened when it is needed first.

    @param opened: the sockets so far, by the length of their addresses.
    @raise CannotListenError: there is no such socket.
    """
    family = len(address)
    if family not in opened:
        opened[family] = openSocket(reactor, receiver, "" if family == 2 else "::")
    return opened[family]
