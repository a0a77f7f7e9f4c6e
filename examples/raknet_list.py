"""
A list of RakNet servers, as a game shows it.

    python examples/raknet_list.py list raknet:127.0.0.1:19132 raknet:host=example.org:port=19132
    twist rudp raknet-pong --listen raknet:19132 --motd hello   (something to be listed)
"""

from __future__ import annotations

import sys

from twisted.internet import error, task
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import clientFromString


async def line(reactor, description):
    """What one server says of itself."""
    try:
        pong = await clientFromString(reactor, description).ping()
    except (error.ConnectError, error.DNSLookupError) as problem:
        return f"{description}: {problem}"
    text = pong.fields["motd"] if pong.fields else pong.text
    return f"{description}: {text}"


async def show(reactor, *descriptions):
    """Ask all servers at once, print them in the order given."""
    asked = [Deferred.fromCoroutine(line(reactor, each)) for each in descriptions]
    for answer in await gatherResults(asked):
        print(answer)


COMMANDS = {"list": show}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    task.react(lambda reactor, name, *rest: COMMANDS[name](reactor, *rest), sys.argv[1:])
