"""C{rudp connect}: standard input and output over a connection to an endpoint."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectionDone
from twisted.internet.stdio import StandardIO
from twisted.python import usage
from twisted.python.failure import Failure

from twisted_rudp.service.forward import Relay
from twisted_rudp.service.usage import UsageOptions, endpoint

FAILED = 1
"""Exit status when there was no connection, or it broke."""


class ConnectOptions(UsageOptions):
    """C{rudp connect}."""

    synopsis = "ENDPOINT"
    longdesc = (
        "Connect to an endpoint, send standard input, and print what is received. The end of"
        " the input ends that direction, and the command exits when the peer has closed. Over"
        " raknet:, which has no half-close, the end of the input ends the connection."
    )
    examples = r"""
Examples:

  echo hello | rudp connect kcp:192.0.2.7:4000
  rudp connect node:alice

SSH over KCP; on the server: twist rudp forward --listen kcp:4000 --to tcp:127.0.0.1:22

  ssh -o ProxyCommand='rudp connect kcp:%h:4000' example.org
"""

    def parseArgs(self, *endpoints: str) -> None:
        """
        @raise usage.UsageError: not exactly one description of an endpoint.
        """
        if len(endpoints) != 1:
            raise usage.UsageError("expected one endpoint, such as kcp:host=HOST:port=4000")
        self["endpoint"] = endpoints[0]


def runConnect(reactor: Any, options: ConnectOptions) -> Deferred[None]:
    """
    Relay standard input and output.

    @return: fires when the connection has closed; fails with C{SystemExit} if there was
        none or it broke.
    """
    far = endpoint("endpoint", clientFromString, options["endpoint"])
    finished: Deferred[None] = Deferred()
    problems: list[Failure] = []

    def over(relay: Relay, reason: Failure) -> None:
        problem = problems[0] if problems else reason
        if isinstance(problem.value, ConnectionDone):
            finished.callback(None)
            return
        print(f"rudp: {problem.getErrorMessage()}", file=sys.stderr)
        finished.errback(SystemExit(FAILED))

    relay = Relay(far, problems.append, over)
    StandardIO(relay.near, reactor=reactor)  # type: ignore[no-untyped-call]
    return finished
