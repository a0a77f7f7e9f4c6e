"""
A bot that returns every message the way it came: with its delivery, on its channel.

    python examples/raknet_echo.py serve raknet:port=19132:interface=127.0.0.1:mode=messages
    python examples/raknet_echo.py ask raknet:host=127.0.0.1:port=19132:mode=messages "hello"
"""

from __future__ import annotations

import sys

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from twisted_rudp.interfaces import IMessageProtocol
from twisted_rudp.messages import Delivery

GAME = b"\xfe"
"""Messages begin with an id of the application's own, 0x80 or above."""


@implementer(IMessageProtocol)
class EchoBot(Protocol):
    """Returns messages."""

    def messageReceived(self, message):
        self.transport.send(message.data, message.delivery, message.channel)


@implementer(IMessageProtocol)
class Asking(Protocol):
    """Sends one message and waits for it to come back."""

    def __init__(self):
        self.answered = Deferred()

    def messageReceived(self, message):
        self.answered.callback(message)


async def serve(reactor, description):
    """Return everything, until interrupted."""
    port = await serverFromString(reactor, description).listen(Factory.forProtocol(EchoBot))
    print(f"listening on 127.0.0.1 port {port.getHost().port}", flush=True)
    await Deferred()


async def ask(reactor, description, text):
    """Send with a receipt, and print what comes back."""
    asking = await connectProtocol(clientFromString(reactor, description), Asking())
    arrived = await asking.transport.send(
        GAME + text.encode(), Delivery.RELIABLE_ORDERED, receipt=True
    )
    print("it has arrived" if arrived else "it was lost")
    message = await asking.answered
    print(message.data[1:].decode(), f"({message.delivery.name}, channel {message.channel})")
    asking.transport.loseConnection()


COMMANDS = {"serve": serve, "ask": ask}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    task.react(lambda reactor, name, *rest: COMMANDS[name](reactor, *rest), sys.argv[1:])
