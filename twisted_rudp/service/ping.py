"""C{rudp ping}: ask a server for its status, and measure how long it takes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.python import usage

from twisted_rudp.interfaces import IPingable, Pong
from twisted_rudp.service.usage import UsageOptions, printable


class PingOptions(UsageOptions):
    """C{rudp ping}."""

    synopsis = "ENDPOINT"
    longdesc = (
        "Ask a server for its status without connecting. Only raknet: endpoints support this."
    )
    examples = """
Examples:

  rudp ping raknet:host=example.org:port=19132
  rudp ping raknet:192.0.2.7:19132:timeout=2
"""

    def parseArgs(self, *endpoints: str) -> None:
        """
        @raise usage.UsageError: not exactly one description of an endpoint.
        """
        if len(endpoints) != 1:
            raise usage.UsageError("expected one endpoint, such as raknet:host=HOST:port=19132")
        self["endpoint"] = endpoints[0]


def runPing(reactor: Any, options: PingOptions) -> Deferred[None]:
    """
    Send a ping and print the pong.

    @raise usage.UsageError: the description is invalid, or its endpoint has no ping.
    """
    try:
        parse: Callable[[Any, str], Any] = clientFromString
        endpoint = parse(reactor, options["endpoint"])
    except (ValueError, TypeError, LookupError) as problem:
        raise usage.UsageError(f"{options['endpoint']}: {problem}") from problem
    if not IPingable.providedBy(endpoint):
        raise usage.UsageError(f"{options['endpoint']}: this endpoint does not support ping")
    return Deferred.fromCoroutine(_ping(endpoint))


async def _ping(endpoint: Any) -> None:
    try:
        pong = await endpoint.ping()
    except (error.ConnectError, error.DNSLookupError) as problem:
        print(f"rudp: {problem}", file=sys.stderr)
        raise SystemExit(1) from problem
    for line in lines(pong):
        print(line)


def lines(pong: Pong) -> list[str]:
    """A pong as text, without control characters from the server."""
    address: Any = pong.address
    found = [
        f"pong from {address.host} port {address.port} in {pong.seconds * 1000:.1f} ms,"
        f" guid {pong.guid:016x}"
    ]
    if pong.fields is None:
        return [*found, printable(pong.text)] if pong.text else found
    width = max(map(len, pong.fields), default=0)
    return found + [
        f"  {name:{width}}  {printable(value)}" for name, value in pong.fields.items() if value
    ]
