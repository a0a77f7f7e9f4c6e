"""
The jobs of L{tests.benchmarks.worker} done by aioquic, on one stream of one QUIC
connection: C{python -m tests.benchmarks.quicworker}. Prints what that prints.

aioquic has no back pressure for what is written, so here the server tells the client
with one byte for each C{CREDIT} bytes that they have come.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import sys
import time
from typing import Any

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from tests.benchmarks.answering import MESSAGE, Meter
from tests.benchmarks.metrics import quantiles

HOST = "127.0.0.1"
PROTOCOL = "bench"

CREDIT = 1 << 18
OUTSTANDING = 1 << 23
"""Bytes written and not credited: more than any window, so that it never waits."""

DATAGRAM = 1400

WINDOW = 1 << 24
"""Of the connection and the stream, as much as ours grows to."""


def configuration(client: bool) -> QuicConfiguration:
    """As it comes, with the receive window and the datagrams of ours."""
    found = QuicConfiguration(
        is_client=client,
        alpn_protocols=[PROTOCOL],
        max_data=WINDOW,
        max_stream_data=WINDOW,
        max_datagram_size=DATAGRAM,
    )
    if client:
        found.verify_mode = 0
    else:
        found.private_key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, PROTOCOL)])
        now = datetime.datetime.now(datetime.UTC)
        found.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(found.private_key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .sign(found.private_key, SHA256())
        )
    return found


class Answering(QuicConnectionProtocol):  # type: ignore[misc]
    """The server: echoes, and in the bulk job after the warm-up only counts."""

    meter = Meter()
    warm_up: int | None = None
    """Bytes to echo before the rest is only counted; None: everything is echoed."""

    _echoed = 0
    _uncredited = 0

    def quic_event_received(self, event: QuicEvent) -> None:
        if not isinstance(event, StreamDataReceived):
            return
        data = event.data
        left = len(data) if self.warm_up is None else self.warm_up - self._echoed
        if left > 0:
            self._echoed += len(data[:left])
            self._quic.send_stream_data(event.stream_id, data[:left])
        if len(data) > left:
            more = len(data) - max(left, 0)
            self.meter.take(data[-more:], b"")
            self._uncredited += more
            credits, self._uncredited = divmod(self._uncredited, CREDIT)
            self._quic.send_stream_data(event.stream_id, bytes(credits))


class Asking(QuicConnectionProtocol):  # type: ignore[misc]
    """The client."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._came = asyncio.Event()
        self.received = 0

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            self.received += len(event.data)
            self._came.set()

    async def until(self, received: int) -> None:
        """Wait for so many bytes in all."""
        while self.received < received:
            self._came.clear()
            await self._came.wait()

    def say(self, stream: int, data: bytes) -> None:
        self._quic.send_stream_data(stream, data)
        self.transmit()

    async def exchange(self, stream: int, count: int) -> list[float]:
        """
        @return: microseconds of so many round trips of one message.
        """
        trips = []
        for _ in range(count):
            began = time.perf_counter()
            self.say(stream, MESSAGE)
            await self.until(self.received + len(MESSAGE))
            trips.append((time.perf_counter() - began) * 1e6)
        return trips

    async def flood(self, stream: int, seconds: float, chunk: bytes) -> int:
        """
        @return: bytes written in that time.
        """
        start, written = self.received, 0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            while written - (self.received - start) * CREDIT < OUTSTANDING:
                self._quic.send_stream_data(stream, chunk)
                written += len(chunk)
            self.transmit()
            await self.until(self.received + 1)
        return written


async def ask(options: argparse.Namespace) -> None:
    """The client's side of a job."""
    host, port = options.addr.rsplit(":", 1)
    settings = configuration(client=True)
    async with connect(host, int(port), configuration=settings, create_protocol=Asking) as quic:
        assert isinstance(quic, Asking)
        stream = quic._quic.get_next_available_stream_id()
        await quic.exchange(stream, options.warmup)
        cpu, start = time.process_time(), time.perf_counter()
        result: dict[str, Any] = {}
        if options.job == "echo":
            result |= quantiles(await quic.exchange(stream, options.count))
        else:
            result["bytes"] = await quic.flood(stream, options.seconds, bytes(options.chunk))
        result["seconds"] = time.perf_counter() - start
        result["cpu_seconds"] = time.process_time() - cpu
        print(json.dumps(result), flush=True)


async def answer(options: argparse.Namespace) -> None:
    """The server's side, until standard input ends."""
    if options.job == "bulk":
        Answering.warm_up = options.warmup * len(MESSAGE)
    host, first = options.addr.rsplit(":", 1)
    server = await serve(
        host, int(first), configuration=configuration(client=False), create_protocol=Answering
    )
    port = server._transport.get_extra_info("sockname")[1]
    cpu = time.process_time()
    print(json.dumps({"port": port}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    result: dict[str, Any] = {"cpu_seconds": time.process_time() - cpu}
    if options.job == "bulk":
        result |= Answering.meter.result()
    print(json.dumps(result), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-job", choices=["bulk", "echo"], default="bulk")
    parser.add_argument("-role", choices=["server", "client"], required=True)
    parser.add_argument("-addr", default=f"{HOST}:0")
    parser.add_argument("-seconds", type=float, default=3.0)
    parser.add_argument("-warmup", type=int, default=20, help="messages exchanged beforehand")
    parser.add_argument("-count", type=int, default=5000)
    parser.add_argument("-chunk", type=int, default=1 << 17, help="bytes of a write of bulk")
    return parser.parse_args()


if __name__ == "__main__":
    options = arguments()
    asyncio.run(answer(options) if options.role == "server" else ask(options))
