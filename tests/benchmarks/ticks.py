"""
A game's tick: how late it is at worst, where each player sends a message and is sent one at
each tick::

    python -m tests.benchmarks.ticks --players 500
    python -m tests.benchmarks.ticks --players 500 --only kcp --freeze

The players are in a process of their own: for KCP the light crowd of
L{tests.benchmarks.crowd}, for RakNet ours. C{--freeze} has the server call C{gc.freeze} when all
players are there.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tests.benchmarks.crowd import Server, cpu, running, servers
from tests.interop.harness import ROOT, kcpgo

TICK = 1 / 20
"""Seconds."""

SIZE = 200
"""Bytes of a message."""

_SERVER = f"""
import gc, json, os, sys, time
from twisted.internet import endpoints, protocol, reactor, task
from twisted_rudp.interfaces import IMessageProtocol
from zope.interface import implementer

TICK, STATE = {TICK}, bytes([0x90]) * {SIZE}
description, (wanted, ticks, freeze) = sys.argv[1], map(int, sys.argv[2:])
players, late, took = set(), [], []
collecting = []

def collected(phase, info):
    if phase == "start":
        collecting.append(time.monotonic())
    else:
        collecting[-1] = time.monotonic() - collecting[-1]

def say(line):
    print(json.dumps(line), flush=True)

@implementer(IMessageProtocol)
class Player(protocol.Protocol):
    def connectionMade(self):
        players.add(self)
        if len(players) == wanted and not loop.full:
            loop.full = True
            reactor.callLater(2.0, begin)
    def messageReceived(self, message):
        pass
    def connectionLost(self, reason):
        players.discard(self)

def begin():
    if freeze:
        gc.collect()
        gc.freeze()
    for each in (late, took, collecting):
        each.clear()
    loop.measuring = True
    say({{"measuring": len(players)}})

def tick(count):
    began = time.monotonic()
    loop.number += count
    late.append(began - loop.began - loop.number * TICK + (count - 1) * TICK)
    for player in players:
        player.transport.send(STATE)
    took.append(time.monotonic() - began)
    if len(late) == ticks and loop.measuring:
        result = {{"late": sorted(late), "took": sorted(took), "players": len(players)}}
        say({{"collecting": max(collecting, default=0.0), **result}})

def listening(port):
    say({{"address": "127.0.0.1:%d" % port.getHost().port}})
    loop.began, loop.number = time.monotonic(), 0
    loop.start(TICK, now=False)

gc.callbacks.append(collected)
loop = task.LoopingCall.withCount(tick)
loop.full = loop.measuring = False
server = endpoints.serverFromString(reactor, description)
server.listen(protocol.Factory.forProtocol(Player)).addCallback(listening)
reactor.run()
"""

_PLAYERS = f"""
import sys
from twisted.internet import defer, endpoints, protocol, reactor, task
from twisted_rudp.interfaces import IMessageProtocol
from zope.interface import implementer

MOVE = bytes([0x92]) * {SIZE}

@implementer(IMessageProtocol)
class Player(protocol.Protocol):
    def messageReceived(self, message):
        pass

async def play(reactor, description, wanted):
    endpoint = endpoints.clientFromString(reactor, description)
    players = []
    while (left := int(wanted) - len(players)) > 0:
        dialled = [endpoints.connectProtocol(endpoint, Player()) for _ in range(min(left, 10))]
        found = await defer.gatherResults(dialled, consumeErrors=True)
        for player in found:
            beat = task.LoopingCall(player.transport.send, MOVE)
            reactor.callLater({TICK} * len(players) / int(wanted), beat.start, {TICK})
            players.append(player)
    await defer.Deferred()

task.react(play, sys.argv[1:])
"""

TRANSPORTS = {
    "kcp": "kcp:0:interface=127.0.0.1:mode=messages:maxSessions=100000",
    "raknet": "raknet:0:interface=127.0.0.1:mode=messages:maxSessions=100000",
}


def measure(server: Server, transport: str, options: argparse.Namespace) -> dict[str, Any]:
    """One server, and the players of one transport."""
    seconds = options.ticks * TICK
    argv = [server.argv[0], "-c", _SERVER, TRANSPORTS[transport]]
    argv += [str(options.players), str(options.ticks), str(int(options.freeze))]
    with running(argv, server.folder) as serving:
        address = serving.read()["address"]
        if transport == "kcp":
            crowd = [*kcpgo("kcpmany"), f"-addr={address}", f"-sessions={options.players}"]
            crowd += [f"-rate={1 / TICK}", f"-size={SIZE}", f"-seconds={seconds + 10}"]
        else:
            host, _, port = address.partition(":")
            dialled = f"raknet:host={host}:port={port}:mode=messages"
            crowd = [sys.executable, "-c", _PLAYERS, dialled, str(options.players)]
        with running(crowd, ROOT) as players:
            serving.read(players)
            before = cpu(serving.pid)
            result = serving.read(players)
            result["cpu"] = (cpu(serving.pid) - before) / seconds
    return result


def row(name: str, transport: str, result: dict[str, Any]) -> str:
    """A result as a line of a table."""
    late = [1000 * each for each in result["late"]]
    took = result["took"]
    return (
        f"{name:12} {transport:7} {result['players']:6} {100 * result['cpu']:6.1f} %"
        f" {late[len(late) // 2]:8.2f} {late[len(late) * 99 // 100]:8.2f} {late[-1]:8.2f} ms"
        f" {1000 * took[len(took) // 2]:9.2f} ms {1000 * took[-1]:9.2f} ms"
        f" {1000 * result['collecting']:9.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--players", type=int, default=500)
    parser.add_argument("--ticks", type=int, default=200)
    parser.add_argument("--only", nargs="+", choices=TRANSPORTS, default=list(TRANSPORTS))
    parser.add_argument("--freeze", action="store_true", help="gc.freeze() before measuring")
    options = parser.parse_args()
    print(
        "server       transport players CPU    late: p50      p99    worst  sending: p50   worst"
        "  collecting"
    )
    for server in servers(""):
        if server.name != "kcp-go":
            for transport in options.only:
                result = measure(server, transport, options)
                print(row(server.name, transport, result), flush=True)


if __name__ == "__main__":
    main()
