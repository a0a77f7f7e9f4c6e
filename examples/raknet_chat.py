"""
A chat whose rooms are ordering channels: a lost message in one room keeps no other
room waiting.

    python examples/raknet_chat.py serve raknet:port=19132:interface=127.0.0.1:mode=messages
    python examples/raknet_chat.py join raknet:host=127.0.0.1:port=19132:mode=messages 3

What is typed goes to the room (1 to 31) that was joined; everybody in it sees it. The
end of the input is the end.
"""

from __future__ import annotations

import sys

from twisted.internet import stdio, task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface import implementer

from twisted_rudp.interfaces import IMessageProtocol
from twisted_rudp.messages import Delivery

SAID = b"\x90"
JOINED = b"\x91"


@implementer(IMessageProtocol)
class Guest(Protocol):
    """One guest as the server sees it."""

    room = 0

    def messageReceived(self, message):
        if message.data.startswith(JOINED):
            self.room = message.channel
            self.factory.guests.add(self)
        for guest in self.factory.guests:
            if guest.room == message.channel:
                guest.transport.send(message.data, Delivery.RELIABLE_ORDERED, message.channel)

    def connectionLost(self, reason=connectionDone):
        self.factory.guests.discard(self)


@implementer(IMessageProtocol)
class Talking(Protocol):
    """The guest's own side."""

    def __init__(self, room):
        self.room = room
        self.over = Deferred()

    def connectionMade(self):
        self.say(JOINED, b"somebody")

    def say(self, what, text):
        """Say it in the room."""
        self.transport.send(what + text, Delivery.RELIABLE_ORDERED, self.room)

    def messageReceived(self, message):
        text = message.data[1:].decode("utf-8", "replace")
        print(f"{text} joined" if message.data.startswith(JOINED) else f"> {text}", flush=True)

    def connectionLost(self, reason=connectionDone):
        self.over.callback(None)


class Typing(LineOnlyReceiver):
    """The keyboard."""

    delimiter = b"\n"

    def __init__(self, talking):
        self.talking = talking

    def lineReceived(self, line):
        self.talking.say(SAID, line)

    def connectionLost(self, reason=connectionDone):
        self.talking.transport.loseConnection()


async def serve(reactor, description):
    """Let guests talk, until interrupted."""
    factory = Factory.forProtocol(Guest)
    factory.guests = set()
    port = await serverFromString(reactor, description).listen(factory)
    print(f"listening on 127.0.0.1 port {port.getHost().port}", flush=True)
    await Deferred()


async def join(reactor, description, room):
    """Talk in a room."""
    endpoint = clientFromString(reactor, description)
    talking = await connectProtocol(endpoint, Talking(int(room)))
    stdio.StandardIO(Typing(talking))
    await talking.over


COMMANDS = {"serve": serve, "join": join}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    task.react(lambda reactor, name, *rest: COMMANDS[name](reactor, *rest), sys.argv[1:])
