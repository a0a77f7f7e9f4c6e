"""
From an endpoint description to an endpoint: the only place where it is checked what a
person has typed.

Parsing constructs an endpoint and does nothing else (STR-8). The transport's
code is imported inside the parse (STR-9).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IReactorCore,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted_rudp.core.settings import Option


@dataclass(frozen=True)
class Role:
    """
    One side of a transport: what may be written for it and what it makes.

    @ivar module: where its endpoint class is; imported when it is first needed.
    @ivar endpoint: name of the class, which has the options.
    @ivar positional: options that may be given without their names, in this order.
    @ivar required: so many of these, from the first, must be given.
    """

    module: str
    endpoint: str
    positional: tuple[str, ...]
    required: int

    def endpointClass(self) -> Any:
        """The class of the endpoint."""
        return getattr(import_module(self.module), self.endpoint)

    def table(self) -> Mapping[str, Option]:
        """The options that can be written, by name; those without a name come first."""
        options = self.endpointClass().options()
        order = dict.fromkeys([*self.positional, *options])
        return {name: options[name] for name in order if options[name].kind.written}


@dataclass(frozen=True)
class Transport:
    """A transport as strings see it."""

    prefix: str
    server: Role
    client: Role


class DescriptionParser:
    """
    What the parsers of all descriptions have in common.

    Every error is a C{ValueError} that names what stands before the first colon, the
    argument, the value and what is expected (STR-4).
    """

    prefix: str

    def named(
        self, role: Role, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> dict[str, str]:
        """
        Give the positional arguments their names.

        @raise ValueError: there are too many or too few, or one is given twice.
        """
        positional = [] if list(args) == [""] else [str(value) for value in args]
        if len(positional) > len(role.positional) or "" in positional:
            order = ", in this order" if len(role.positional) > 1 else ""
            raise self.error(
                f"only the {' and the '.join(role.positional)} may stand without a name{order};"
                r" a ':' inside a value, as in an IPv6 address, is written '\:'"
            )
        named = dict(zip(role.positional, positional, strict=False))
        twice = sorted(named.keys() & kwargs.keys())
        if twice:
            raise self.error(f"{twice[0]} is given twice, with and without its name")
        named.update((name, str(value)) for name, value in kwargs.items())
        for name in role.positional[: role.required]:
            if name not in named:
                raise self.error(
                    f"{name} is missing: expected {role.table()[name].kind.expected}"
                )
        return named

    def converted(self, option: Option, given: str, shown: str) -> Any:
        """
        The value of one option.

        @param shown: how the error names it.
        """
        try:
            return option.kind.parse(given)
        except ValueError:
            problem = "invalid" if given else "empty"
            raise self.error(f"{shown} is {problem}: expected {option.kind.expected}") from None

    def constructed(self, role: Role, reactor: IReactorCore, values: dict[str, Any]) -> Any:
        """The endpoint. What is not given is left to its constructor."""
        leading = [values.pop(name) for name in role.positional[: role.required]]
        try:
            return role.endpointClass()(reactor, *leading, **values)
        except ValueError as problem:
            raise self.error(str(problem)) from None

    def unknown(self, name: str, known: Iterable[str]) -> ValueError:
        """The error for an argument that is not among those that are known."""
        lowered = {candidate.lower(): candidate for candidate in known}
        near = get_close_matches(name.lower(), lowered, n=1)
        if near:
            return self.error(f"unknown argument {name!r}; did you mean {lowered[near[0]]}?")
        return self.error(f"unknown argument {name!r}; known are {', '.join(lowered.values())}")

    def error(self, problem: str) -> ValueError:
        """One that says whose description is invalid."""
        return ValueError(f"{self.prefix}: {problem}")


@implementer(
    IPlugin,
    IStreamServerEndpointStringParser,
    IStreamClientEndpointStringParserWithReactor,
)
class EndpointParser(DescriptionParser):
    """
    Makes the server and client endpoints of one transport from what
    C{serverFromString} and C{clientFromString} split at the colons.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.prefix = transport.prefix

    def parseStreamServer(
        self, reactor: IReactorCore, *args: object, **kwargs: object
    ) -> IStreamServerEndpoint:
        """
        @raise ValueError: something in the description is invalid.
        """
        endpoint: IStreamServerEndpoint = self._parse("server", reactor, args, kwargs)
        return endpoint

    def parseStreamClient(
        self, reactor: IReactorCore, *args: object, **kwargs: object
    ) -> IStreamClientEndpoint:
        """
        @raise ValueError: something in the description is invalid.
        """
        endpoint: IStreamClientEndpoint = self._parse("client", reactor, args, kwargs)
        return endpoint

    def _parse(
        self,
        side: str,
        reactor: IReactorCore,
        args: Sequence[object],
        kwargs: Mapping[str, object],
    ) -> Any:
        role = self._role(side)
        named = self.named(role, args, kwargs)
        values = {name: self._value(side, name, given) for name, given in named.items()}
        return self.constructed(role, reactor, values)

    def _role(self, side: str) -> Role:
        return self.transport.server if side == "server" else self.transport.client

    def _value(self, side: str, name: str, given: str) -> Any:
        table = self._role(side).table()
        if name in table:
            option = table[name]
            return self.converted(option, given, name if option.secret else f"{name}={given!r}")
        other = "client" if side == "server" else "server"
        if name in self._role(other).table():
            raise self.error(f"{name} is an argument of the {other} endpoint, not of the {side}")
        raise self.unknown(name, table)
