"""
The jobs of C{kcpbench} and C{rakbench} done by Twisted endpoints: C{python -m
tests.benchmarks.worker}. Ours with their default profile, or TCP.

Both ends in one process share one reactor thread. A server prints
C{{"port": n}} first, and its result when standard input ends; a client or both
ends print one result. Before it is measured, a session exchanges a few messages,
so that each side knows the other's window.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet import stdio, task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.benchmarks.answering import MESSAGE, Echoing, Gauge, Gauging, Meter, Stopwatch
from tests.benchmarks.jobs import JOBS
from tests.benchmarks.loss import lose
from twisted_rudp import kernels
from twisted_rudp.kcp import snmp

IDENTITY = "benchmark"

GAUGES: Mapping[str, Callable[[argparse.Namespace], Gauge]] = {
    "bulk": lambda options: Meter(),
    "messages": Stopwatch,
}
"""What servers of these jobs measure; those of the others only echo."""


class _InputEnds(Protocol):
    """Tells when standard input is over."""

    def __init__(self) -> None:
        self.over: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.over.callback(None)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-transport", choices=["kcp", "raknet", "qotp", "tcp"], default="kcp")
    parser.add_argument("-portkind", choices=["auto", "gso", "plain", "stock"], default="auto")
    parser.add_argument("-kernels", choices=["native", "pure"], help="fail with any other")
    parser.add_argument("-mode", choices=["stream", "messages"], default="stream")
    parser.add_argument("-chunk", type=int, default=1 << 17, help="bytes of a write of bulk")
    parser.add_argument("-job", choices=sorted(JOBS), default="bulk")
    parser.add_argument(
        "-oneport", action="store_true", help="KCP: dial from one socket, not from one each"
    )
    parser.add_argument("-role", choices=["both", "server", "client"], default="both")
    parser.add_argument("-addr", default="127.0.0.1:0")
    parser.add_argument("-seconds", type=float, default=3.0)
    parser.add_argument("-count", type=int, default=5000)
    parser.add_argument("-sessions", type=int, default=1)
    parser.add_argument("-warmup", type=int, default=20, help="messages exchanged beforehand")
    parser.add_argument("-size", type=int, default=1000, help="bytes of a timed message")
    parser.add_argument("-every", type=float, default=20.0, help="milliseconds between two")
    parser.add_argument("-congestion", help="of TCP, such as bbr")
    parser.add_argument("-profile", default="default", help="of KCP")
    parser.add_argument("-sndwnd", type=int, help="segments (default: the profile's)")
    parser.add_argument("-rcvwnd", type=int)
    parser.add_argument("-nc", type=int, help="1: no congestion window (default: the profile's)")
    parser.add_argument("-crypt")
    parser.add_argument("-key")
    parser.add_argument("-datashard", type=int, default=0)
    parser.add_argument("-parityshard", type=int, default=0)
    parser.add_argument("-loss", type=float, default=0.0, help="share lost in each direction")
    parser.add_argument("-lossseed", type=int, default=1)
    return parser.parse_args()


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What both endpoints are given."""
    common = {"portKind": options.portkind}
    if options.transport == "qotp":
        return common
    common["mode"] = options.mode
    if options.transport != "kcp":
        return common
    if options.datashard:
        # Else those of the profile.
        common |= {"dataShards": options.datashard, "parityShards": options.parityshard}
    return {
        **common,
        "profile": options.profile,
        "sndwnd": options.sndwnd,
        "rcvwnd": options.rcvwnd,
        "nc": None if options.nc is None else bool(options.nc),
        "crypt": options.crypt,
        "key": options.key,
    }


def address(options: argparse.Namespace) -> tuple[str, int]:
    """Where the server listens."""
    host, _, port = options.addr.rpartition(":")
    return host, int(port)


def serverEndpoint(reactor: Any, options: argparse.Namespace) -> IStreamServerEndpoint:
    host, port = address(options)
    if options.transport == "tcp":
        return TCP4ServerEndpoint(reactor, port, interface=host)
    if options.transport == "raknet":
        from twisted_rudp.endpoints.raknet import RakNetServerEndpoint

        return RakNetServerEndpoint(reactor, port, interface=host, **settings(options))
    if options.transport == "qotp":
        from twisted_rudp.endpoints.qotp import QOTPServerEndpoint

        return QOTPServerEndpoint(reactor, port, interface=host, seed=IDENTITY, **settings(options))
    from twisted_rudp.endpoints.kcp import KCPServerEndpoint

    return KCPServerEndpoint(reactor, port, interface=host, **settings(options))


def clientEndpoint(reactor: Any, options: argparse.Namespace, port: int) -> IStreamClientEndpoint:
    host, _ = address(options)
    if options.transport == "tcp":
        return TuningTCP(TCP4ClientEndpoint(reactor, host, port), options.congestion)
    if options.transport == "raknet":
        from twisted_rudp.endpoints.raknet import RakNetClientEndpoint

        return RakNetClientEndpoint(reactor, host, port, **settings(options))
    if options.transport == "qotp":
        from twisted_rudp.endpoints.qotp import QOTPClientEndpoint
        from twisted_rudp.qotp.keys import KeyPair

        key = KeyPair.from_text(IDENTITY).public
        return QOTPClientEndpoint(reactor, host, port, serverKey=key, **settings(options))
    from twisted_rudp.endpoints.kcp import KCPClientEndpoint

    return KCPClientEndpoint(reactor, host, port, **settings(options))


@implementer(IStreamClientEndpoint)
class OnePort:
    """Dials from a listening port, which all connections share."""

    def __init__(self, listening: Any, host: str, port: int) -> None:
        self._listening = listening
        self._place = host, port

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        dialled: Deferred[IProtocol] = self._listening.connect(factory, *self._place)
        return dialled


async def onePort(reactor: Any, options: argparse.Namespace, port: int) -> OnePort:
    """A second port of KCP, to dial from."""
    host, _ = address(options)
    local = argparse.Namespace(**{**vars(options), "addr": f"{host}:0"})
    endpoint = serverEndpoint(reactor, local)
    return OnePort(await endpoint.listen(Factory.forProtocol(Echoing)), host, port)


@implementer(IStreamClientEndpoint)
class TuningTCP:
    """TCP that sends small messages at once, under a congestion control that is chosen."""

    def __init__(self, endpoint: IStreamClientEndpoint, congestion: str | None) -> None:
        self._endpoint = endpoint
        self._congestion = congestion

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        protocol: Any = await self._endpoint.connect(factory)
        protocol.transport.setTcpNoDelay(True)
        if self._congestion:
            name = self._congestion.encode()
            handle = protocol.transport.getHandle()
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
        return protocol

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(factory))


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


async def main(reactor: Any, options: argparse.Namespace) -> None:
    gauge = GAUGES[options.job](options) if options.job in GAUGES else None
    port = address(options)[1]
    if options.role != "client":
        factory = Factory.forProtocol(lambda: answering(gauge, options))
        listening = await serverEndpoint(reactor, options).listen(factory)
        port = listening.getHost().port
    result: Mapping[str, Any] = {}
    if options.role == "server":
        result = await serve(reactor, port)
    else:
        endpoint = clientEndpoint(reactor, options, port)
        if options.oneport:
            endpoint = await onePort(reactor, options, port)
        result = await JOBS[options.job](reactor, endpoint, options)
    measured = gauge.result() if gauge and options.role != "client" else {}
    say(kernels=kernels.IMPLEMENTATION, **{**result, **measured, **segments(options)})


def answering(gauge: Gauge | None, options: argparse.Namespace) -> Protocol:
    """The server's side of a session."""
    return Gauging(gauge, options.warmup * len(MESSAGE)) if gauge else Echoing()


def segments(options: argparse.Namespace) -> Mapping[str, int]:
    """What a sender of KCP says about it."""
    if options.transport != "kcp" or options.role == "server":
        return {}
    counters = snmp.process.snapshot()
    return {
        "segments": counters["OutSegs"],
        "retransmitted": counters["RetransSegs"],
        "expired": counters["LostSegs"],
    }


async def serve(reactor: Any, port: int) -> Mapping[str, Any]:
    """Until standard input ends."""
    cpu = time.process_time()
    say(port=port)
    watcher = _InputEnds()
    stdio.StandardIO(watcher, reactor=reactor)
    await watcher.over
    return {"cpu_seconds": time.process_time() - cpu}


def allowManySockets() -> None:
    """A thousand clients have a socket each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    allowManySockets()
    options = arguments()
    if options.kernels not in (None, kernels.IMPLEMENTATION):
        sys.exit(f"the kernels here are the {kernels.IMPLEMENTATION} ones")
    if options.loss:
        lose(options.loss, options.lossseed)
    task.react(lambda reactor: Deferred.fromCoroutine(main(reactor, options)))
