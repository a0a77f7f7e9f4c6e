"""
The description C{mux:ENDPOINT} of a multiplexer around an endpoint of ours, as in
C{mux:kcp:host=example.org:port=4000:sessions=2}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.endpoints import clientFromString, quoteStringArgument, serverFromString
from twisted.internet.interfaces import (
    IReactorCore,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer

from twisted_rudp.strings.parser import DescriptionParser, Role

_MODULE = "twisted_rudp.endpoints.mux"
SERVER = Role(_MODULE, "MuxServerEndpoint", (), required=0)
CLIENT = Role(_MODULE, "MuxClientEndpoint", (), required=0)


@implementer(
    IPlugin,
    IStreamServerEndpointStringParser,
    IStreamClientEndpointStringParserWithReactor,
)
class MuxParser(DescriptionParser):
    """Makes multiplexed endpoints: its own arguments may stand anywhere behind the inner kind."""

    prefix = "mux"

    def parseStreamServer(  # type: ignore[override]  # reactor= is an argument like any other
        self, reactor: IReactorCore, /, *args: object, **kwargs: object
    ) -> IStreamServerEndpoint:
        """
        @raise ValueError: the description is invalid.
        """
        made: IStreamServerEndpoint = self._parse(SERVER, serverFromString, reactor, args, kwargs)
        return made

    def parseStreamClient(  # type: ignore[override]  # reactor= is an argument like any other
        self, reactor: IReactorCore, /, *args: object, **kwargs: object
    ) -> IStreamClientEndpoint:
        """
        @raise ValueError: the description is invalid.
        """
        made: IStreamClientEndpoint = self._parse(CLIENT, clientFromString, reactor, args, kwargs)
        return made

    def _parse(
        self,
        role: Role,
        parse: Any,
        reactor: IReactorCore,
        args: Sequence[object],
        kwargs: Mapping[str, object],
    ) -> Any:
        if not args or not args[0]:
            raise self.error("expected an endpoint behind it, as in mux:kcp:port=4000")
        table = role.table()
        own = {
            name: self.converted(table[name], str(value), f"{name}={value!r}")
            for name, value in kwargs.items()
            if name in table
        }
        rest = [_quoted(value) for value in args]
        rest += [f"{name}={_quoted(value)}" for name, value in kwargs.items() if name not in table]
        try:
            return role.endpointClass()(parse(reactor, ":".join(rest)), **own)
        except ValueError as problem:
            raise self.error(str(problem).removeprefix("mux: ")) from None


def _quoted(value: object) -> str:
    text: str = quoteStringArgument(str(value))  # type: ignore[no-untyped-call]
    return text
