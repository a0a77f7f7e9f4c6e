"""What L{twisted_rudp.asyncio} promises, in a program of its own: the reactor is a process's."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

from twisted_rudp.asyncio import (
    MessageConnection,
    create_connection,
    create_server,
    open_connection,
    open_messages,
    start_message_server,
    start_server,
)
from twisted_rudp.messages import Delivery


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back, until the end."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def streams(prefix: str) -> None:
    """Bytes there and back, with back-pressure and half a close."""
    async with await start_server(echo, f"{prefix}:0:interface=127.0.0.1") as server:
        _, port = server.address
        reader, writer = await open_connection(f"{prefix}:host=127.0.0.1:port={port}")
        data = bytes(range(256)) * 20_000

        async def send() -> None:
            for start in range(0, len(data), 100_000):
                writer.write(data[start : start + 100_000])
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

        sending = asyncio.create_task(send())
        assert await reader.readexactly(len(data)) == data
        await sending
        assert writer.get_extra_info("peername") == ("127.0.0.1", port)
        assert writer.get_extra_info("rudp").facts()["round_trip"] is not None
        assert writer.can_write_eof() == (prefix != "raknet")
        if writer.can_write_eof():
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def paused() -> None:
    """A reader that does not read stops the writer."""
    stuck = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stuck.wait()
        total = 0
        while data := await reader.read(65536):
            total += len(data)
        writer.write(b"%d" % total)
        writer.close()

    async with await start_server(slow, "kcp:0:interface=127.0.0.1") as server:
        reader, writer = await open_connection(
            f"kcp:host=127.0.0.1:port={server.address[1]}"
        )
        written = 0

        async def flood() -> None:
            nonlocal written
            while True:
                writer.write(bytes(65536))
                written += 65536
                await writer.drain()

        task = asyncio.create_task(flood())
        before = -1
        while written != before:
            before = written
            await asyncio.sleep(0.3)
        task.cancel()
        assert written < 100_000_000, written
        stuck.set()
        writer.write_eof()
        assert int(await reader.read(-1)) == written
        writer.close()


async def protocols() -> None:
    """C{create_connection} and C{create_server}, as the loop has them."""
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    class Server(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            heard.set_result(data)

    class Client(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.set_result(exc)

    async with await create_server(Server, "qotp:0:interface=127.0.0.1:seed=a") as server:
        transport, _ = await create_connection(
            Client, f"qotp:host=127.0.0.1:port={server.address[1]}"
        )
        transport.write(b"hello")
        assert await heard == b"hello"
        transport.close()
        assert transport.is_closing()
        assert await lost is None


async def failing() -> None:
    """Errors are those that asyncio programs catch."""
    try:
        await open_connection("kcp:host=127.0.0.1:port=9:timeout=1")
    except OSError:
        pass
    else:
        raise AssertionError("somebody answered")
    try:
        await open_connection("kcp:host=127.0.0.1")
    except ValueError:
        pass
    else:
        raise AssertionError("no port, and nobody noticed")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        where = f"kcp:host=127.0.0.1:port={silent.getsockname()[1]}"
        waiting = asyncio.ensure_future(open_connection(where))
        await asyncio.sleep(0.1)
        waiting.cancel()
        try:
            await waiting
        except asyncio.CancelledError:
            return
    raise AssertionError("not cancelled")


async def messages() -> None:
    """Messages both ways, over RakNet and KCP, until the end."""

    async def answer(connection: MessageConnection) -> None:
        async for message in connection:
            await connection.send(message.data + b" back")
        await connection.close()

    for prefix in ("raknet:{}:mode=messages", "kcp:{}:mode=messages"):
        listen = prefix.format("0:interface=127.0.0.1")
        async with await start_message_server(answer, listen) as server:
            where = f"host=127.0.0.1:port={server.address[1]}"
            connection = await open_messages(prefix.format(where))
            for number in range(500):
                await connection.send(b"\xfe%d" % number, Delivery.RELIABLE_ORDERED)
            got = [(await connection.receive()).data for _ in range(500)]
            assert got == [b"\xfe%d back" % number for number in range(500)]
            await connection.close()
            try:
                await connection.send(b"\xfetoo late")
            except ConnectionError:
                pass
            else:
                raise AssertionError("sent after the end")


async def pausedMessages() -> None:
    """
    Who does not take his messages stops the sender, and gets all of them later; the end of a
    connection that was aborted is an error.
    """
    written = 0
    lost = asyncio.Event()

    async def flood(connection: MessageConnection) -> None:
        nonlocal written
        try:
            while True:
                await connection.send(b"\xfe%d".ljust(1000) % written)
                written += 1
        except ConnectionError:
            lost.set()

    mode = "kcp:{}:mode=messages"
    listen = mode.format("0:interface=127.0.0.1")
    async with await start_message_server(flood, listen) as server:
        where = mode.format(f"host=127.0.0.1:port={server.address[1]}")
        connection = await open_messages(where, limit=10)
        before = -1
        while written != before:
            before = written
            await asyncio.sleep(0.3)
        assert written < 20_000, written
        for number in range(written):
            message = await connection.receive()
            assert message.data == b"\xfe%d".ljust(1000) % number, number
        connection.abort()
        try:
            while True:
                await connection.receive()
        except ConnectionError:
            pass
        await lost.wait()


async def main() -> None:
    """All of it, in bounded time."""
    async with asyncio.timeout(60):
        await streams("kcp")
        await streams("raknet")
        await streams("qotp")
        await paused()
        await protocols()
        await failing()
        await messages()
        await pausedMessages()
    sys.stdout.write("passed\n")


if __name__ == "__main__":
    if "uvloop" in sys.argv:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
