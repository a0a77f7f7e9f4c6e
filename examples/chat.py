"""
A chat without a server: everybody announces himself, and dials everybody he hears of.

    python examples/chat.py join alice
    python examples/chat.py join bob

What is typed goes to all the others in the local network. Names prove nothing; use keys
and a transport that checks them where that matters.
"""

from __future__ import annotations

import sys

from twisted.internet import stdio, task
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.service import discoveryOf
from twisted_rudp.endpoints.node import NodeClientEndpoint
from twisted_rudp.interfaces import INodeBrowser


class Talk(LineReceiver):
    """A connection to one of the others. The first line is a name."""

    delimiter = b"\n"

    def __init__(self, room: Room) -> None:
        self.room = room
        self.name = ""

    def connectionMade(self) -> None:
        self.sendLine(self.room.id.text.encode())

    def lineReceived(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        if self.name:
            print(f"{self.name}: {text}", flush=True)
        else:
            self.name = text
            self.room.talks.add(self)
            print(f"{self.name} is here", flush=True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self in self.room.talks:
            self.room.talks.remove(self)
            print(f"{self.name} has gone", flush=True)


@implementer(INodeBrowser)
class Room(Factory):
    """
    Everybody we are connected to. Of two who find each other, the one whose id is
    smaller dials.
    """

    noisy = False

    def __init__(self, reactor, id: NodeId) -> None:
        self.reactor = reactor
        self.id = id
        self.talks: set[Talk] = set()

    def buildProtocol(self, addr) -> Talk:
        return Talk(self)

    def nodeAdded(self, node) -> None:
        if self.id.key < node.id.key:
            endpoint = NodeClientEndpoint(self.reactor, node.id, transports="kcp")
            endpoint.connect(self).addErrback(
                lambda failure: print(f"cannot reach {node.id.text}: {failure.value}")
            )

    def nodeUpdated(self, node) -> None:
        """Who is connected stays so."""

    def nodeRemoved(self, id, reason) -> None:
        """The connection says when it is over."""


class Keyboard(LineReceiver):
    """Lines for everybody; the end of the input leaves the room."""

    delimiter = b"\n"

    def __init__(self, room: Room, left: Deferred) -> None:
        self.room = room
        self.left = left

    def lineReceived(self, line: bytes) -> None:
        for talk in self.room.talks:
            talk.sendLine(line)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.left.callback(None)


async def join(reactor, name):
    """Listen on any port, announce it, dial whoever is announced."""
    room = Room(reactor, NodeId.from_text(name))
    port = await serverFromString(reactor, "kcp:0").listen(room)
    discovery = discoveryOf(reactor)
    announced = discovery.announce(room.id, [f"kcp://0.0.0.0:{port.getHost().port}"])
    discovery.registry.browse(room)
    print(f"joined as {name}; type, end with Ctrl-D", flush=True)
    left: Deferred[None] = Deferred()
    stdio.StandardIO(Keyboard(room, left))
    await left
    await announced.release()
    for talk in list(room.talks):
        talk.transport.loseConnection()
    await maybeDeferred(port.stopListening)


COMMANDS = {"join": join}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    task.react(lambda reactor, name, *rest: COMMANDS[name](reactor, *rest), sys.argv[1:])
