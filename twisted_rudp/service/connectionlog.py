"""Log lines for the start and the end of each connection of a service."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IReactorTime, ISSLTransport
from twisted.logger import Logger

from twisted_rudp.interfaces import IRUDPTransport

RATE: Final = 10.0
BURST: Final = 200
"""
Lines a second, and at once. Peers can open connections at any rate; what exceeds this is
counted and not logged.
"""


def addressText(address: object) -> str:
    """An address as C{HOST:PORT}, or what it is called otherwise."""
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, UNIXAddress):
        name = address.name
        return name.decode("utf-8", "backslashreplace") if name else "unix"
    return type(address).__name__.removesuffix("Address").lower() or "unknown"


def transportText(transport: Any) -> str:
    """The kind of a transport: C{kcp}, C{tls}, C{tcp} ..."""
    if IRUDPTransport.providedBy(transport):
        name: str = transport.facts().get("transport", "udp")
        return name
    if ISSLTransport.providedBy(transport):
        return "tls"
    host = transport.getHost()
    return host.type.lower() if hasattr(host, "type") else addressText(host)


class ConnectionLog:
    """
    Logs connections at level info. The events have C{connection}, C{peer}, C{transport},
    C{duration} and so on as values of their own, which C{twist --log-format=json} writes.
    """

    def __init__(self, clock: IReactorTime, log: Logger, description: str) -> None:
        self._clock = clock
        self._log = log
        self._description = description
        self._credit = float(BURST)
        self._counted = clock.seconds()
        self._suppressed = 0

    def opened(self, number: int, peer: str, transport: str, **values: Any) -> None:
        """A connection is established."""
        self._emit(
            "{description}: connection {connection} opened: {peer} ({transport})"
            + (" -> {far} ({far_transport})" if "far" in values else ""),
            connection=number,
            peer=peer,
            transport=transport,
            **values,
        )

    def closed(
        self, number: int, peer: str, transport: str, duration: float, reason: str, **values: Any
    ) -> None:
        """A connection has ended."""
        self._emit(
            "{description}: connection {connection} closed after {duration:.1f} s: "
            + (
                "{sent} bytes to the far side, {received} bytes back, peer {peer} ({transport})"
                " -> {far} ({far_transport}): {reason}"
                if "far" in values
                else "{received} bytes received, peer {peer} ({transport}): {reason}"
            ),
            connection=number,
            peer=peer,
            transport=transport,
            duration=duration,
            reason=reason,
            **values,
        )

    def _emit(self, format: str, **values: Any) -> None:
        now = self._clock.seconds()
        self._credit = min(float(BURST), self._credit + max(0.0, now - self._counted) * RATE)
        self._counted = now
        if self._credit < 1:
            self._suppressed += 1
            return
        self._credit -= 1
        suppressed, self._suppressed = self._suppressed, 0
        if suppressed:
            format += " ({suppressed} lines about other connections suppressed)"
            values["suppressed"] = suppressed
        self._log.info(format, description=self._description, **values)
