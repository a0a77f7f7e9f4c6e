"""
An asyncio program that talks over KCP, or any other endpoint.

    python examples/asyncio_echo.py serve kcp:port=4000:interface=127.0.0.1
    python examples/asyncio_echo.py kcp:host=127.0.0.1:port=4000 "hello over there"
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from twisted_rudp.asyncio import open_connection, start_server


async def echo(reader, writer):
    """Send every line back."""
    async for line in reader:
        writer.write(line)
        await writer.drain()
    writer.close()


async def serve(description):
    server = await start_server(echo, description)
    print("listening on", server.address[1], flush=True)
    await asyncio.Event().wait()


async def ask(description, text):
    reader, writer = await open_connection(description)
    writer.write(text.encode() + b"\n")
    print((await reader.readline()).decode().rstrip())
    writer.close()
    await writer.wait_closed()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    if sys.argv[1] == "serve":
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(sys.argv[2]))
    else:
        asyncio.run(ask(*sys.argv[1:]))
