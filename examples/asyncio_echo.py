"""
An asyncio program that talks over KCP: Twisted runs on asyncio's event loop, and its
Deferreds are awaited as futures.

    python examples/echo.py serve kcp:port=4000:interface=127.0.0.1
    python examples/asyncio_echo.py kcp:host=127.0.0.1:port=4000 "hello over there"
"""

from __future__ import annotations

import asyncio
import sys

from twisted.internet import asyncioreactor


class Lines:
    """Reads and writes lines of text over a connection, for C{async} code."""

    @classmethod
    async def connect(cls, description: str) -> Lines:
        """Connect to an endpoint string."""
        # Imported here: these modules need the reactor that main() has installed.
        from twisted.internet import reactor
        from twisted.internet.endpoints import clientFromString, connectProtocol
        from twisted.protocols.basic import LineOnlyReceiver

        class Receiver(LineOnlyReceiver):
            delimiter = b"\n"

            def __init__(self):
                self.lines = asyncio.Queue()

            def lineReceived(self, line):
                self.lines.put_nowait(line.decode())

            def connectionLost(self, reason):
                self.lines.put_nowait(None)

        endpoint = clientFromString(reactor, description)
        connecting = connectProtocol(endpoint, Receiver())
        return cls(await connecting.asFuture(asyncio.get_running_loop()))

    def __init__(self, receiver) -> None:
        self._receiver = receiver

    def write(self, line: str) -> None:
        """Send a line."""
        self._receiver.sendLine(line.encode())

    async def read(self) -> str | None:
        """The next line; None at the end."""
        return await self._receiver.lines.get()

    async def close(self) -> None:
        """Close, and wait for the end."""
        self._receiver.transport.loseConnection()
        while await self.read() is not None:
            pass


async def main(description: str, text: str) -> None:
    """Print what comes back."""
    asyncioreactor.install(asyncio.get_running_loop())
    from twisted.internet import reactor

    # asyncio runs the loop; this tells Twisted that it is running.
    reactor.startRunning()
    lines = await Lines.connect(description)
    lines.write(text)
    print(await lines.read())
    await lines.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
