"""
Floods by unknown peers, on loopback only: what they get back, what they cost in memory, and
whether those who are connected, and those who want to be, are still served::

    python -m tests.benchmarks.attack --seconds 3

C{--peers} has what peers cost that are connected and hostile (L{tests.hostile}), in one process;
C{--connected} has one of them send at the given rate, beside others that want an echo.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import socket
import time
from collections.abc import Callable
from statistics import quantiles
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory, Protocol

from tests import vectors
from tests.benchmarks.soak import Asking, Echo
from tests.hostile import rows
from tests.kcp.segments import Segment
from tests.raknet.frames import pack_frame
from twisted_rudp import stats
from twisted_rudp.kcp.wire import PUSH
from twisted_rudp.net.hub import Hub
from twisted_rudp.raknet.offline import Ping, Request1, pack
from twisted_rudp.raknet.wire import Frame, Reliability, pack_header, pack_ping

SOURCES = 32
"""Addresses of loopback that the unknown peers speak from."""

Make = Callable[[random.Random], bytes]


class Died(Exception):
    """A process of this benchmark ended before it had said what was to be known of it."""


class Attacker:
    """A process that attacks and says what it did, each time over a pipe that only it can write."""

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        """
        @param target: called in the process with the arguments and the end of the pipe.
        """
        context = multiprocessing.get_context("spawn")
        self._said, told = context.Pipe(duplex=False)
        self._process = context.Process(
            target=target, args=(*arguments, told), name=target.__name__, daemon=True
        )
        self._process.start()
        # With a writing end open here, reading would not notice the end of the process.
        told.close()

    def alive(self) -> bool:
        """Whether it goes on."""
        return self._process.is_alive()

    def spoke(self) -> bool:
        """Whether L{hear} need not wait; that is so at the end of the process too."""
        return self._said.poll()

    def hear(self) -> Any:
        """
        The next that it says.

        @raise Died: it has ended, and said nothing.
        """
        try:
            return self._said.recv()
        except EOFError:
            self._process.join()
            name, status = self._process.name, self._process.exitcode
            raise Died(f"the process {name!r} ended with status {status}") from None


def kcp_push(chance: random.Random) -> bytes:
    """The first data of a conversation of nobody's."""
    head = chance.randbytes(4) + bytes((81, 0, 32, 0)) + bytes(12)
    return head + (1).to_bytes(4, "little") + b"x"


def kcp_probe(chance: random.Random) -> bytes:
    """Somebody asks for the window of a conversation that is not."""
    return chance.randbytes(4) + bytes((83, 0, 32, 0)) + bytes(16)


def qotp_opening(chance: random.Random) -> bytes:
    """A first datagram whose keys are dice."""
    return b"\0" + chance.randbytes(64) + bytes(1335)


ATTACKS: dict[str, dict[str, Make]] = {
    "kcp": {
        "junk": lambda chance: chance.randbytes(chance.randrange(1, 1400)),
        "first data": kcp_push,
        "window probes": kcp_probe,
    },
    "raknet": {
        "junk": lambda chance: chance.randbytes(chance.randrange(1, 1400)),
        "pings": lambda chance: pack(Ping(chance.getrandbits(60), 7)),
        "request 1": lambda chance: pack(Request1(11, 1492)),
        "odd datagrams": lambda chance: bytes.fromhex(
            chance.choice(vectors.remembered("raknet", "malformed")["vectors"])["datagrams_hex"][0]
        ),
    },
    "qotp": {
        "junk": lambda chance: chance.randbytes(chance.randrange(1, 1400)),
        "openings": qotp_opening,
    },
}


def flood(name: str, attack: str, port: int, rate: int, seconds: float, told: Any) -> None:
    """In a process of its own: send, and count what comes back."""
    chance = random.Random(1)
    sockets = []
    for number in range(SOURCES):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((f"127.9.0.{number + 1}", 0))
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
        sockets.append(sock)
    made = [ATTACKS[name][attack](chance) for _ in range(2000)]
    sent = out = back = 0
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        if sent > passed * rate:
            time.sleep(0.001)
            continue
        for sock in sockets:
            datagram = chance.choice(made)
            try:
                out += sock.send(datagram)
                sent += 1
            except OSError:
                pass
            try:
                while True:
                    back += len(sock.recv(65536))
            except OSError:
                pass
    told.send((sent, out, back))


async def attacked(reactor: Any, name: str, attack: str, rate: int, seconds: float) -> str:
    """A server under one of the floods; a row of the table."""
    factory = Factory.forProtocol(Echo)
    factory.noisy = False
    port = await serverFromString(reactor, f"{name}:0:interface=127.0.0.1").listen(factory)
    number = port.getHost().port
    dialling = clientFromString(reactor, f"{name}:127.0.0.1:{number}:timeout=10")
    asking: Any = Factory.forProtocol(Asking)
    asking.noisy = False
    client: Asking = await dialling.connect(asking)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    attacker = Attacker(flood, name, attack, number, rate, seconds)
    times: list[float] = []
    good = tried = 0
    while attacker.alive():
        began = time.perf_counter()
        await client.ask(b"served?")
        times.append((time.perf_counter() - began) * 1000)
        if len(times) % 50 == 0:
            tried += 1
            try:
                another: Asking = await dialling.connect(asking)
            except Exception:
                continue
            good += 1
            another.transport.abortConnection()  # type: ignore[union-attr]
        await task.deferLater(reactor, 0.005)
    sent, out, back = attacker.hear()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    client.transport.abortConnection()  # type: ignore[union-attr]
    await maybeDeferred(port.stopListening)
    p99 = quantiles(times, n=100)[98] if len(times) > 1 else float("inf")
    return (
        f"{name:8}{attack:16}{sent / seconds:10.0f}/s{back / max(out, 1):8.2f}"
        f"{p99:10.1f} ms{good:6}/{tried:<4}{grown / 1000:8.1f} MB"
    )


def kcp_empty(conversation: int, number: int) -> bytes:
    """As many empty segments as a datagram takes."""
    return b"".join(
        Segment(conversation, PUSH, 0, 1024, 0, number * 58 + each, 0).pack() for each in range(58)
    )


def raknet_pings(conversation: int, number: int) -> bytes:
    """As many pings as a datagram takes."""
    frame = pack_frame(Frame(Reliability.UNRELIABLE, pack_ping(number), reliable=0, sequence=0))
    return pack_header(100 + number) + frame * 100


CONNECTED: dict[str, tuple[str, Callable[[int, int], bytes], bool]] = {
    "kcp": ("kcp", kcp_empty, True),
    "kcp half-open": ("kcp", kcp_empty, False),
    "raknet": ("raknet", raknet_pings, True),
}
"""
Transport, what a connected peer sends (number of its conversation and of the datagram ->
datagram), and whether it has proved before that it is there.
"""


def hostile(name: str, port: int, rate: int, seconds: float, told: Any) -> None:
    """In a process of its own: connect as others do, then send what costs most."""
    transport, make, proved = CONNECTED[name]

    async def run(reactor: Any) -> None:
        silent = Factory.forProtocol(Protocol)
        silent.noisy = False
        endpoint = clientFromString(reactor, f"{transport}:127.0.0.1:{port}")
        protocol = await endpoint.connect(silent)
        if proved:
            protocol.transport.write(b"hello")
            await task.deferLater(reactor, 0.2)
        (hub,) = stats.ports.sources()
        assert isinstance(hub, Hub)
        way = hub.output.port
        assert way is not None
        key = hub.living()[0].keys[0]
        conversation = key[1] if transport == "kcp" else 0  # type: ignore[index]
        made = [make(conversation, each) for each in range(int(rate * seconds))]
        told.send(0)
        sent = 0
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds and sent < len(made):
            if sent > passed * rate:
                time.sleep(0.001)
                continue
            datagram = made[sent]
            way.send(datagram, len(datagram), ("127.0.0.1", port))
            sent += 1
        told.send(sent)

    task.react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


async def beside(reactor: Any, name: str, rate: int, seconds: float) -> str:
    """A server with one hostile peer; a row of the table."""
    transport = CONNECTED[name][0]
    factory = Factory.forProtocol(Echo)
    asking: Any = Factory.forProtocol(Asking)
    factory.noisy = asking.noisy = False
    port = await serverFromString(reactor, f"{transport}:0:interface=127.0.0.1").listen(factory)
    number = port.getHost().port
    attacker = Attacker(hostile, name, number, rate, seconds)
    while not attacker.spoke():
        await task.deferLater(reactor, 0.01)
    attacker.hear()
    began = time.perf_counter()
    client: Asking = await clientFromString(
        reactor, f"{transport}:127.0.0.1:{number}"
    ).connect(asking)
    connecting = (time.perf_counter() - began) * 1000
    times: list[float] = []
    while attacker.alive():
        began = time.perf_counter()
        await client.ask(b"served?")
        times.append((time.perf_counter() - began) * 1000)
        await task.deferLater(reactor, 0.005)
    client.transport.abortConnection()  # type: ignore[union-attr]
    await maybeDeferred(port.stopListening)
    p99 = quantiles(times, n=100)[98] if len(times) > 1 else float("inf")
    return f"{name:14}{attacker.hear() / seconds:10.0f}/s{p99:10.1f} ms{connecting:10.1f} ms"


async def main(reactor: Any) -> None:
    """See above."""
    parser = argparse.ArgumentParser(description="Floods by unknown peers, on loopback.")
    parser.add_argument("transports", nargs="*", default=list(ATTACKS), metavar="TRANSPORT")
    parser.add_argument("--seconds", type=float, default=3, help="for each flood")
    parser.add_argument("--rate", type=int, default=5000, help="datagrams a second")
    parser.add_argument(
        "--peers", action="store_true", help="what hostile peers cost that are connected, instead"
    )
    parser.add_argument(
        "--connected", action="store_true", help="one such peer, and others that want an echo"
    )
    parser.add_argument("--datagrams", type=int, default=500, help="of each such peer")
    options = parser.parse_args()
    if options.peers:
        print("transport, peer          a datagram    memory  back/out  state")
        for name in options.transports:
            for row in rows(name, options.datagrams):
                print(row, flush=True)
        return
    if options.connected:
        print("transport           sent      echo p99    connecting")
        for name, (transport, _, _) in CONNECTED.items():
            if transport in options.transports:
                print(await beside(reactor, name, options.rate, options.seconds), flush=True)
        return
    print("transport, flood            sent  back/out  echo p99  connects   memory")
    for name in options.transports:
        for attack in ATTACKS[name]:
            row = await attacked(reactor, name, attack, options.rate, options.seconds)
            print(row, flush=True)


if __name__ == "__main__":
    task.react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
