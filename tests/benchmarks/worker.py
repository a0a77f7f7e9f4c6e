"""
The jobs of C{kcpbench} and C{rakbench} done by Twisted endpoints: C{python -m
tests.benchmarks.worker}. Ours with their default profile, or TCP.

Both ends in one process share one reactor thread. A server prints
C{{"port": n}} first, and its result when standard input ends; a client or both
ends print one result. Sessions begin with a warm-up, see L{WARM_UP}.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from typing import Any

from twisted.internet import stdio, task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.benchmarks.jobs import JOBS, Answering, Meter
from tests.benchmarks.loss import lose
from twisted_rudp import kernels

HOST = "127.0.0.1"
IDENTITY = "benchmark"


class _InputEnds(Protocol):
    """
    Tells when standard input is over.
    """

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
    parser.add_argument("-role", choices=["both", "server", "client"], default="both")
    parser.add_argument("-addr", default=f"{HOST}:0")
    parser.add_argument("-seconds", type=float, default=3.0)
    parser.add_argument("-count", type=int, default=5000)
    parser.add_argument("-sessions", type=int, default=1000)
    parser.add_argument("-nc", type=int, help="1: no congestion window (default: the profile's)")
    parser.add_argument("-crypt")
    parser.add_argument("-key")
    parser.add_argument("-datashard", type=int, default=0)
    parser.add_argument("-parityshard", type=int, default=0)
    parser.add_argument("-loss", type=float, default=0.0, help="share lost in each direction")
    parser.add_argument("-lossseed", type=int, default=1)
    return parser.parse_args()


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """
    What both endpoints are given.
    """
    common = {"portKind": options.portkind}
    if options.transport == "qotp":
        return common
    common["mode"] = options.mode
    if options.transport != "kcp":
        return common
    return {
        **common,
        "nc": None if options.nc is None else bool(options.nc),
        "crypt": options.crypt,
        "key": options.key,
        "dataShards": options.datashard,
        "parityShards": options.parityshard,
    }


def serverEndpoint(reactor: Any, options: argparse.Namespace) -> IStreamServerEndpoint:
    if options.transport == "tcp":
        return TCP4ServerEndpoint(reactor, 0, interface=HOST)
    if options.transport == "raknet":
        from twisted_rudp.endpoints.raknet import RakNetServerEndpoint

        return RakNetServerEndpoint(reactor, 0, interface=HOST, **settings(options))
    if options.transport == "qotp":
        from twisted_rudp.endpoints.qotp import QOTPServerEndpoint

        return QOTPServerEndpoint(
            reactor, 0, interface=HOST, seed=IDENTITY, **settings(options)
        )
    from twisted_rudp.endpoints.kcp import KCPServerEndpoint

    return KCPServerEndpoint(reactor, 0, interface=HOST, **settings(options))


def clientEndpoint(reactor: Any, options: argparse.Namespace, port: int) -> IStreamClientEndpoint:
    if options.transport == "tcp":
        return TCP4ClientEndpoint(reactor, HOST, port)
    if options.transport == "raknet":
        from twisted_rudp.endpoints.raknet import RakNetClientEndpoint

        return RakNetClientEndpoint(reactor, HOST, port, **settings(options))
    if options.transport == "qotp":
        from twisted_rudp.endpoints.qotp import QOTPClientEndpoint
        from twisted_rudp.qotp.keys import KeyPair

        key = KeyPair.from_text(IDENTITY).public
        return QOTPClientEndpoint(reactor, HOST, port, serverKey=key, **settings(options))
    from twisted_rudp.endpoints.kcp import KCPClientEndpoint

    return KCPClientEndpoint(reactor, HOST, port, **settings(options))


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def finish(result: dict[str, Any]) -> None:
    """
    Print a result; what the whole process used is in it unless the job has
    measured a part of that.
    """
    say(**{"cpu_seconds": time.process_time(), "kernels": kernels.IMPLEMENTATION, **result})


async def main(reactor: Any, options: argparse.Namespace) -> None:
    meter = Meter()
    port = int(options.addr.rsplit(":", 1)[1])
    listening = None
    if options.role != "client":
        factory = Factory.forProtocol(lambda: Answering(meter, options.job == "bulk"))
        listening = await serverEndpoint(reactor, options).listen(factory)
        port = listening.getHost().port
    if options.role == "server":
        say(port=port)
        watcher = _InputEnds()
        stdio.StandardIO(watcher, reactor=reactor)
        await watcher.over
        finish({"bytes": meter.received, "seconds": meter.elapsed})
        return
    local = meter if options.role == "both" else None
    endpoint = clientEndpoint(reactor, options, port)
    finish(await JOBS[options.job](reactor, endpoint, options, local))


def allowManySockets() -> None:
    """
    A thousand clients have a socket each.
    """
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
