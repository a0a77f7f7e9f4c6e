"""
A web server and a web client over any stream endpoint.

    python examples/web_over_kcp.py serve kcp:port=4000:interface=127.0.0.1
    python examples/web_over_kcp.py get kcp:host=127.0.0.1:port=4000 http://example.org/

The URL says what the client asks for, the endpoint where it asks.
"""

from __future__ import annotations

import sys

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.iweb import IAgentEndpointFactory
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer


class Greeting(Resource):
    """Says which host was asked for."""

    isLeaf = True

    def render_GET(self, request):
        host = request.getRequestHostname().decode("ascii", "replace")
        return f"Hello from {host}, to {request.getClientAddress().host}\n".encode()


async def serve(reactor, description):
    """Serve, until interrupted."""
    port = await serverFromString(reactor, description).listen(Site(Greeting()))
    print(f"listening on 127.0.0.1 port {port.getHost().port}", flush=True)
    await Deferred()


@implementer(IAgentEndpointFactory)
class Always:
    """Sends every request to the same endpoint."""

    def __init__(self, endpoint):
        self.endpoint = endpoint

    def endpointForURI(self, uri):
        return self.endpoint


class Printing(Protocol):
    """Prints a body as it comes."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        print(data.decode(), end="")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.done.callback(None)


async def get(reactor, description, url):
    """Print what is there."""
    endpoint = clientFromString(reactor, description)
    agent = Agent.usingEndpointFactory(reactor, Always(endpoint))
    response = await agent.request(b"GET", url.encode("ascii"))
    print(response.code, end=" ")
    body = Printing()
    response.deliverBody(body)
    await body.done


COMMANDS = {"serve": serve, "get": get}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    task.react(lambda reactor, name, *rest: COMMANDS[name](reactor, *rest), sys.argv[1:])
