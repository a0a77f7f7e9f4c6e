"""
The description C{node:ID} of a node to connect to: the arguments for finding it, and
those of the transports it may be reached by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import (
    IReactorCore,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
)
from twisted.plugin import IPlugin
from zope.interface import implementer

from twisted_rudp.strings.parser import DescriptionParser, Role
from twisted_rudp.strings.transports import TRANSPORTS

NODE = Role("twisted_rudp.endpoints.node", "NodeClientEndpoint", ("id",), required=1)

DIALLED = {transport.prefix: transport.client for transport in TRANSPORTS}
"""
The arguments of the transports by which a node can be reached; the endpoint has the
same table of classes.
"""

_FOUND = frozenset({"host", "port"})
"""Arguments that come from the announcement."""


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class NodeParser(DescriptionParser):
    """
    Makes client endpoints for nodes. There are no server endpoints.

    An argument of a transport is passed to each of C{transports} that has it.
    """

    prefix = "node"

    def parseStreamClient(  # type: ignore[override]  # reactor= is an argument like any other
        self, reactor: IReactorCore, /, *args: object, **kwargs: object
    ) -> IStreamClientEndpoint:
        """
        @raise ValueError: the description is invalid.
        """
        named = self.named(NODE, args, kwargs)
        table = NODE.table()
        values = {
            name: self.converted(table[name], named.pop(name), name)
            for name in list(named)
            if name in table
        }
        transports = values.get("transports")
        values["options"] = self._options(
            None if transports is None else transports.split(","), named
        )
        endpoint: IStreamClientEndpoint = self.constructed(NODE, reactor, values)
        return endpoint

    def _options(
        self, transports: Sequence[str] | None, named: Mapping[str, str]
    ) -> dict[str, dict[str, Any]]:
        """
        The arguments for each transport. The endpoint refuses an unknown transport. A value
        may be a secret of one of them, so no error repeats it (STR-6).
        """
        tables = {
            name: {each: option for each, option in role.table().items() if each not in _FOUND}
            for name, role in DIALLED.items()
            if transports is None or name in transports
        }
        options: dict[str, dict[str, Any]] = {name: {} for name in tables}
        for name, given in named.items():
            knowing = [transport for transport, table in tables.items() if name in table]
            if not knowing:
                known = (name for table in tables.values() for name in table)
                raise self.unknown(name, [*NODE.table(), *dict.fromkeys(known)])
            for transport in knowing:
                option = tables[transport][name]
                options[transport][name] = self.converted(option, given, f"{transport}'s {name}")
        return options
