"""
The transports by which a node can be dialled. A new one is a line in L{DIALLERS}, and one
in L{TRANSPORTS<twisted_rudp.strings.transports.TRANSPORTS>}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Any

from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.urls import Address


@dataclass(frozen=True)
class Dialler:
    """
    How one transport is dialled.

    @ivar module: where its client endpoint is; imported when it is needed.
    @ivar endpoint: the class, called with reactor, host and port.
    @ivar proof: the argument that takes the key which the peer must prove, where the
        transport can do that.
    """

    module: str
    endpoint: str
    proof: str | None = None

    @property
    def arguments(self) -> frozenset[str]:
        """What can be set, by the names that its endpoint uses."""
        constructor = getattr(import_module(self.module), self.endpoint)
        return frozenset(signature(constructor).parameters) - {"reactor", "host", "port"}

    def make(self, reactor: Any, address: Address, options: Mapping[str, Any]) -> Any:
        """
        The endpoint for an address.

        @raise ValueError: an option is not right.
        """
        constructor = getattr(import_module(self.module), self.endpoint)
        return constructor(reactor, address.host, address.port, **options)


DIALLERS: dict[str, Dialler] = {
    "kcp": Dialler("twisted_rudp.endpoints.kcp", "KCPClientEndpoint"),
    "qotp": Dialler("twisted_rudp.endpoints.qotp", "QOTPClientEndpoint", proof="serverKey"),
    "raknet": Dialler("twisted_rudp.endpoints.raknet", "RakNetClientEndpoint"),
}
"""The transports by the scheme of their announced addresses."""


def transportOf(scheme: str) -> str:
    """
    The transport of an announced address: C{kcp4} and C{kcp6} are C{kcp}, over one family
    (discovery.md 3.4).
    """
    return scheme[:-1] if scheme[-1] in "46" else scheme


def transportsFor(id: NodeId, given: str | Sequence[str] | None) -> tuple[str, ...]:
    """
    What may be dialled for an id.

    @param given: what the caller wants, or None.
    @raise ValueError: a transport that does not exist, or none that checks the key.
    """
    checking = [name for name, dialler in DIALLERS.items() if dialler.proof is not None]
    if given is None:
        wanted = list(DIALLERS) if id.name is not None else checking
        if not wanted:
            raise ValueError(
                "no transport of this version proves a key: name the transports to dial"
                " without proof"
            )
    else:
        wanted = given.split(",") if isinstance(given, str) else list(given)
    for name in wanted:
        if name not in DIALLERS:
            raise ValueError(f"transports: {name!r} is not one of {', '.join(DIALLERS)}")
    if id.name is None:
        wanted = [name for name in wanted if name in checking] or wanted
    return tuple(dict.fromkeys(wanted))
