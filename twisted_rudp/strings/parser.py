"""
Parse endpoint descriptions.

Parsing constructs an endpoint and does nothing else (STR-8). The transport's code is
imported when a description of it is parsed (STR-9).
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
    One side of a transport: its arguments and its endpoint class.

    @ivar module: where its endpoint class is; imported when it is first needed.
    @ivar endpoint: name of the class, which has the options.
    @ivar positional: options that may be given without their names, in this order.
    @ivar required: how many of these, from the first, are required.
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
    """A transport with both its sides."""

    prefix: str
    server: Role
    client: Role


class DescriptionParser:
    """
    The base of all parsers of descriptions.

    Every error is a C{ValueError} that has the prefix, the argument, its value and what is
    expected (STR-4).
    """

    prefix: str

    def named(
        self, role: Role, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> dict[str, str]:
        """
        Name the positional arguments.

        @raise ValueError: there are too many, or one is given twice.
        """
        positional = [] if list(args) == [""] else [str(value) for value in args]
        if len(positional) > len(role.positional) or "" in positional:
            order = ", in this order" if len(role.positional) > 1 else ""
            raise self.error(
                f"only {' and '.join(role.positional)} may be given without a name{order};"
                r" write '\:' for a ':' inside a value, such as an IPv6 address"
            )
        named = dict(zip(role.positional, positional, strict=False))
        twice = sorted(named.keys() & kwargs.keys())
        if twice:
            raise self.error(f"{twice[0]} is given twice, with and without its name")
        named.update((name, str(value)) for name, value in kwargs.items())
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
        """
        The endpoint, with its constructor's defaults for what is not given.

        What is missing is looked for here, after each given name: C{prot=4000} is reported as
        unknown, not as a missing port.

        @raise ValueError: a required argument is missing, or the constructor refuses one.
        """
        required = role.positional[: role.required]
        for name in required:
            if name not in values:
                raise self.error(f"{name} is missing: expected {role.table()[name].kind.expected}")
        leading = [values.pop(name) for name in required]
        try:
            return role.endpointClass()(reactor, *leading, **values)
        except ValueError as problem:
            raise self.error(str(problem)) from None

    def unknown(self, name: str, known: Iterable[str]) -> ValueError:
        """The error for an unknown argument."""
        lowered = {candidate.lower(): candidate for candidate in known}
        near = get_close_matches(name.lower(), lowered, n=1)
        if near:
            return self.error(f"unknown argument {name!r}; did you mean {lowered[near[0]]}?")
        names = ", ".join(lowered.values())
        return self.error(f"unknown argument {name!r}; the arguments are {names}")

    def error(self, problem: str) -> ValueError:
        """An error that names the kind of endpoint."""
        return ValueError(f"{self.prefix}: {problem}")


@implementer(
    IPlugin,
    IStreamServerEndpointStringParser,
    IStreamClientEndpointStringParserWithReactor,
)
class EndpointParser(DescriptionParser):
    """
    Makes the server and client endpoints of one transport from the parts that
    C{serverFromString} and C{clientFromString} split.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.prefix = transport.prefix

    def parseStreamServer(  # type: ignore[override]  # reactor= is an argument like any other
        self, reactor: IReactorCore, /, *args: object, **kwargs: object
    ) -> IStreamServerEndpoint:
        """
        @raise ValueError: the description is invalid.
        """
        endpoint: IStreamServerEndpoint = self._parse("server", reactor, args, kwargs)
        return endpoint

    def parseStreamClient(  # type: ignore[override]  # reactor= is an argument like any other
        self, reactor: IReactorCore, /, *args: object, **kwargs: object
    ) -> IStreamClientEndpoint:
        """
        @raise ValueError: the description is invalid.
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
            raise self.error(
                f"{name} is an argument of the {other} endpoint, not the {side} endpoint"
            )
        raise self.unknown(name, table)
