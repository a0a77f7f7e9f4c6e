"""
A game with many players and a fixed tick: positions that may be lost, events that may not,
what each player's connection is like, and how late the ticks are.

    python examples/arena.py serve raknet:port=19132:mode=messages
    python examples/arena.py play raknet:host=127.0.0.1:port=19132:mode=messages 50
    python examples/arena.py serve kcp:port=4000:mode=messages:crypt=null
    python examples/arena.py play kcp:host=127.0.0.1:port=4000:mode=messages:crypt=null 50
"""

from __future__ import annotations

import struct
import sys

from twisted.internet import task
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from zope.interface import implementer

from twisted_rudp.interfaces import IMessageProtocol
from twisted_rudp.messages import Delivery

TICK = 1 / 20
"""Seconds."""

REPORT = 100
"""Ticks from one look at the connections to the next."""

STATE, EVENT, MOVE = b"\x90", b"\x91", b"\x92"
"""Messages begin with an id of the application's own, 0x80 or above."""

position = struct.Struct("!Hff")
NEAR = 16
"""Players that a player is shown."""


def positions(transport):
    """How this transport carries what is soon replaced by something newer."""
    if transport.facts()["transport"] == "raknet":
        return {"delivery": Delivery.UNRELIABLE_SEQUENCED, "channel": 1}
    return {"delivery": Delivery.OUT_OF_BAND}


@implementer(IMessageProtocol, IPushProducer)
class Player(Protocol):
    """A player, as the server sees it."""

    def connectionMade(self):
        self.x = self.y = 0.0
        self.congested = False
        self.skipped = 0
        self.positions = positions(self.transport)
        # The transport says when more is written than the connection carries.
        self.transport.registerProducer(self, True)
        self.arena = self.factory.arena
        self.arena.join(self)

    def pauseProducing(self):
        self.congested = True

    def resumeProducing(self):
        self.congested = False

    def stopProducing(self):
        self.congested = True

    def messageReceived(self, message):
        # Nothing is answered here: the next tick tells everybody.
        if message.data[:1] == MOVE:
            self.x, self.y = struct.unpack_from("!ff", message.data, 1)

    def connectionLost(self, reason=connectionDone):
        self.arena.leave(self)


class Arena:
    """All players, and the tick."""

    def __init__(self, reactor):
        self.reactor = reactor
        self.players = {}
        self.free = list(range(65535, -1, -1))
        self.events = []
        self.ticks = 0
        self.worst = 0.0
        self.loop = task.LoopingCall.withCount(self.tick)

    def start(self):
        self.began = self.reactor.seconds()
        self.loop.start(TICK, now=False)

    def join(self, player):
        player.number = self.free.pop()
        self.players[player.number] = player
        self.events.append(b"+%d" % player.number)

    def leave(self, player):
        del self.players[player.number]
        self.free.append(player.number)
        self.events.append(b"-%d" % player.number)

    def tick(self, count):
        """Tell everybody what is new. One datagram goes to each player, at the end of the turn."""
        self.ticks += count
        late = self.reactor.seconds() - self.began - self.ticks * TICK
        self.worst = max(self.worst, late + (count - 1) * TICK)
        players = list(self.players.values())
        # What is the same for many is packed once. The library copies it into the datagrams only.
        packed = [position.pack(each.number, each.x, each.y) for each in players]
        views = [
            STATE + b"".join(packed[at : at + NEAR]) for at in range(0, len(packed), NEAR)
        ]
        news = EVENT + b" ".join(self.events)
        for index, player in enumerate(players):
            transport = player.transport
            if self.events:
                transport.send(news)
            if player.congested:
                player.skipped += 1
            else:
                transport.send(views[index // NEAR], **player.positions)
        self.events.clear()
        if self.ticks % REPORT < count:
            self.report(players)

    def report(self, players):
        """How the connections are, those first that cannot follow."""
        facts = [(player, player.transport.facts()) for player in players]
        trips = sorted(each["round_trip"] or 0.0 for _, each in facts)
        middle = trips[len(trips) // 2] if trips else 0.0
        print(
            f"{len(players)} players, worst tick {self.worst * 1000:.1f} ms late,"
            f" round trip {middle * 1000:.1f} ms",
            flush=True,
        )
        self.worst = 0.0
        for player, each in sorted(facts, key=lambda pair: -pair[0].skipped)[:3]:
            if player.skipped:
                trip = each["round_trip"] or 0.0
                print(
                    f"  player {player.number} at {player.transport.getPeer().host}: skipped"
                    f" {player.skipped} states, round trip {trip * 1000:.1f} ms",
                    flush=True,
                )
                player.skipped = 0


@implementer(IMessageProtocol)
class Playing(Protocol):
    """The player's own side: it moves, and counts what it is told."""

    def __init__(self):
        self.states = self.events = 0
        self.lost = Deferred()

    def connectionMade(self):
        self.positions = positions(self.transport)

    def move(self, x, y):
        self.transport.send(MOVE + struct.pack("!ff", x, y), **self.positions)

    def messageReceived(self, message):
        if message.data[:1] == STATE:
            self.states += 1
        else:
            self.events += len(message.data[1:].split())

    def connectionLost(self, reason=connectionDone):
        self.lost.callback(None)


async def serve(reactor, description):
    """Run the game, until interrupted."""
    factory = Factory.forProtocol(Player)
    factory.arena = Arena(reactor)
    port = await serverFromString(reactor, description).listen(factory)
    factory.arena.start()
    print(f"listening on 127.0.0.1 port {port.getHost().port}", flush=True)
    await Deferred()


async def play(reactor, description, number="10", wanted="200"):
    """Many players in one process, which move until each has been told so many states."""
    endpoint = clientFromString(reactor, description)
    players = []
    while (left := int(number) - len(players)) > 0:
        dialled = [connectProtocol(endpoint, Playing()) for _ in range(min(left, 25))]
        players += await gatherResults(dialled, consumeErrors=True)

    def step():
        if min(player.states for player in players) >= int(wanted):
            moving.stop()
        for index, player in enumerate(players):
            player.move(float(index), reactor.seconds() % 100)

    moving = task.LoopingCall(step)
    await moving.start(TICK)
    for player in players:
        player.transport.loseConnection()
    await gatherResults([player.lost for player in players])
    states = [player.states for player in players]
    events = min(player.events for player in players)
    print(
        f"{len(players)} players were told {min(states)} to {max(states)} states,"
        f" and at least {events} events"
    )


COMMANDS = {"serve": serve, "play": play}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    task.react(lambda reactor, name, *rest: COMMANDS[name](reactor, *rest), sys.argv[1:])
