"""
A small game over RakNet messages: positions that may be lost, chat that may not, and
players that can be banned while the server runs.

    python examples/game_server.py serve raknet:port=19132:interface=127.0.0.1:mode=messages
    python examples/game_server.py play raknet:host=127.0.0.1:port=19132:mode=messages alice
"""

from __future__ import annotations

import sys

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from zope.interface import implementer

from twisted_rudp.interfaces import IMessageProtocol
from twisted_rudp.messages import Delivery

POSITION = b"\x90"
CHAT = b"\x91"
"""Messages begin with an id of the application's own, 0x80 or above."""

MOVES, TALK = 1, 2
"""Ordering channels: a lost line of chat does not hold up positions."""


@implementer(IMessageProtocol)
class Player(Protocol):
    """A player, as the server sees it."""

    def connectionMade(self):
        if self.transport.getPeer().host in self.factory.banned:
            self.transport.abortConnection()
            return
        self.factory.players.add(self)

    def messageReceived(self, message):
        if message.data == CHAT + b"/ban me":
            self.factory.banned.add(self.transport.getPeer().host)
            self.transport.loseConnection()
            return
        for player in self.factory.players - {self}:
            player.transport.send(message.data, message.delivery, message.channel)

    def connectionLost(self, reason=connectionDone):
        self.factory.players.discard(self)


@implementer(IMessageProtocol)
class Playing(Protocol):
    """The player's own side."""

    def __init__(self, name):
        self.name = name
        self.over = Deferred()

    def connectionMade(self):
        print(f"playing as {self.name}", flush=True)
        self.walking = task.LoopingCall(self.walk)
        self.walking.start(0.05)
        self.say(f"{self.name} is here")

    def walk(self):
        """Tell where we are, 20 times a second. An old position is worthless: it is not resent."""
        position = self.walking.clock.seconds() % 100
        data = POSITION + f"{self.name} {position:.2f}".encode()
        self.transport.send(data, Delivery.UNRELIABLE_SEQUENCED, MOVES)

    def say(self, text):
        """Say something to everybody, once, in order."""
        self.transport.send(CHAT + text.encode(), Delivery.RELIABLE_ORDERED, TALK)

    def messageReceived(self, message):
        if message.data.startswith(CHAT):
            print(message.data[1:].decode(), flush=True)

    def connectionLost(self, reason=connectionDone):
        self.walking.stop()
        print(f"over: {reason.getErrorMessage()}", flush=True)
        self.over.callback(None)


async def serve(reactor, description):
    """Run the game, until interrupted."""
    factory = Factory.forProtocol(Player)
    factory.players, factory.banned = set(), set()
    port = await serverFromString(reactor, description).listen(factory)
    print(f"listening on 127.0.0.1 port {port.getHost().port}", flush=True)
    await Deferred()


async def play(reactor, description, name, *lines):
    """Walk around, say some lines, and stay until the server ends it."""
    endpoint = clientFromString(reactor, description)
    playing = await connectProtocol(endpoint, Playing(name))
    for line in lines:
        playing.say(line)
    await playing.over


COMMANDS = {"serve": serve, "play": play}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    task.react(lambda reactor, name, *rest: COMMANDS[name](reactor, *rest), sys.argv[1:])
