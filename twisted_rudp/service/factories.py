"""Protocol factories with nothing but what an endpoint uses."""

from __future__ import annotations

from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory
from zope.interface import implementer


@implementer(IProtocolFactory)
class QuietFactory:
    """
    The three methods of FAC-1. C{protocol.Factory} would log each start and
    stop, and is generic only in recent versions of Twisted.
    """

    def doStart(self) -> None:
        """Nothing is to be done."""

    def doStop(self) -> None:
        """Nothing is to be done."""

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        """A protocol for one connection, or None to refuse it."""
        raise NotImplementedError
