"""
The description of a node to connect to, C{node:ID}: what belongs to finding it, and
behind that the arguments of the transports that may be dialled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from twisted.internet.interfaces import (
    IReactorCore,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
)
from twisted.plugin import IPlugin
from zope.interface import implementer

from twisted_rudp.arguments import Argument, decimal, text
from twisted_rudp.strings import KCP, QOTP, RAKNET, Role

MODULE = "twisted_rudp.endpoints.node"

NODE = Role(
    endpoint="NodeClientEndpoint",
    positional=("id",),
    required=1,
    arguments=(
        text("id", "the node", "a device id, 64 hexadecimal digits of a public key, or a name"),
        text("server", "discovery server to ask as well", "C{host} or C{host:port}"),
        text(
            "transports",
            "what may be dialled; left out, for a key what can prove it",
            "transports, divided by commas",
        ),
        decimal("timeout", 0.001, 3600, "seconds for finding and connecting together"),
        text(
            "lan",
            "where to listen on the local network",
            "C{v4}, C{v1}, C{syncthing}, divided by commas, or C{none}",
        ),
    ),
)

DIALLED = {transport.prefix: transport.client for transport in (KCP, QOTP, RAKNET)}
"""
What may be written for the transports that a node may be dialled by; the endpoint has
the same table of classes.
"""

_FOUND = frozenset({"host", "port"})
"""Arguments of a transport that an announcement gives."""


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class NodeParser:
    """
    Makes client endpoints of nodes. There is nothing to listen on.

    An argument of a transport goes to each of C{transports} that knows it.
    """

    prefix = "node"

    def parseStreamClient(
        self, reactor: IReactorCore, *args: object, **kwargs: object
    ) -> IStreamClientEndpoint:
        """
        @raise ValueError: something in the description is not right.
        """
        named = self._named([str(value) for value in args], kwargs)
        table = NODE.table()
        finding = {
            name: self._convert(table[name], named.pop(name), name)
            for name in list(named)
            if name in table
        }
        transports = finding.get("transports")
        options = self._options(None if transports is None else transports.split(","), named)
        constructor = getattr(import_module(MODULE), NODE.endpoint)
        try:
            endpoint: IStreamClientEndpoint = constructor(
                reactor, finding.pop("id"), options=options, **finding
            )
        except ValueError as problem:
            raise self._error(str(problem)) from None
        return endpoint

    def _named(self, args: Sequence[str], kwargs: Mapping[str, object]) -> dict[str, str]:
        positional = [] if list(args) == [""] else args
        named = {name: str(value) for name, value in kwargs.items()}
        if len(positional) > 1:
            raise self._error(
                r"only the id may stand without a name; a ':' inside a value is written '\:'"
            )
        if positional and "id" in named:
            raise self._error("id is given twice, with and without its name")
        if positional:
            named["id"] = positional[0]
        if "id" not in named:
            raise self._error("id is missing: a device id, a public key or a name is required")
        return named

    def _options(
        self, transports: Sequence[str] | None, named: Mapping[str, str]
    ) -> dict[str, dict[str, Any]]:
        """
        The arguments for each transport. An unknown transport is the endpoint's to
        refuse.
        """
        tables = {
            name: {a.name: a for a in role.arguments if a.name not in _FOUND}
            for name, role in DIALLED.items()
            if transports is None or name in transports
        }
        options: dict[str, dict[str, Any]] = {name: {} for name in tables}
        for name, given in named.items():
            knowing = [transport for transport, table in tables.items() if name in table]
            if not knowing:
                raise self._error(self._unknown(name, tables))
            for transport in knowing:
                argument = tables[transport][name]
                options[transport][name] = self._convert(argument, given, f"{transport}'s {name}")
        return options

    def _convert(self, argument: Argument, given: str, shown: str) -> Any:
        """
        The value may be a secret and is not repeated (STR-6).
        """
        try:
            return argument.convert(given)
        except ValueError:
            raise self._error(f"{shown} is not right: {argument.expected} is expected") from None

    def _unknown(self, name: str, tables: Mapping[str, Mapping[str, Argument]]) -> str:
        known = [*NODE.table(), *dict.fromkeys(n for table in tables.values() for n in table)]
        lowered = {candidate.lower(): candidate for candidate in known}
        near = get_close_matches(name.lower(), lowered, n=1)
        if near:
            return f"unknown argument {name!r}; did you mean {lowered[near[0]]}?"
        return f"unknown argument {name!r}; known are {', '.join(known)}"

    def _error(self, problem: str) -> ValueError:
        return ValueError(f"{self.prefix}: {problem}")
