"""
A program around the C original of KCP for tests to talk to: C{python -m
tests.interop.peers.ikcp.peer LIBRARY}, with the flags, reports and orders of
C{kcppeer} (the plain ARQ only: the C library has neither ciphers nor parity).

Like a textbook program over that library it updates every control block each
few milliseconds, and flushes at no other time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import selectors
import socket
import sys
import time
from typing import Any

from tests.interop.peers.ikcp.library import ControlBlock, load
from tests.interop.peers.ikcp.session import Session

TICK = 0.005
"""Seconds between two updates at most."""

HEADER = 24


def report(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("library")
    parser.add_argument("-role", choices=["server", "client"], default="server")
    parser.add_argument("-addr", default="127.0.0.1:0")
    parser.add_argument("-mode", choices=["stream", "messages"], default="stream")
    parser.add_argument("-echo", action="store_true")
    parser.add_argument("-banner", default="")
    parser.add_argument("-loss", type=float, default=0.0)
    for name, default in {
        "conv": 0, "send": 0, "seed": 1, "messagesize": 1000, "expect": 0, "closeafter": 0,
        "stopafter": 0, "nodelay": 1, "interval": 10, "resend": 2, "nc": 1, "sndwnd": 1024,
        "rcvwnd": 1024, "mtu": 1400, "lossseed": 1, "lifetime": 300,
    }.items():  # fmt: skip
        parser.add_argument(f"-{name}", type=int, default=default)
    return parser.parse_args()


class Program:
    """One socket, its sessions by address and conversation, and the orders."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._library = load(options.library)
        self._random = random.Random(options.lossseed)
        self._sessions: dict[tuple[Any, int], Session] = {}
        self._counters = {"InPkts": 0, "OutPkts": 0, "KCPInErrors": 0}
        self._orders = b""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.setblocking(False)

    def run(self) -> None:
        host, port = self._options.addr.rsplit(":", 1)
        if self._options.role == "server":
            self._socket.bind((host, int(port)))
            report("listening", port=self._socket.getsockname()[1])
        else:
            self._socket.bind(("127.0.0.1", 0))
            self._enter("dialled", (host, int(port)), self._options.conv or os.getpid())
        deadline = time.monotonic() + self._options.lifetime
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ, self._readSocket)
            selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self._readOrders)
            while time.monotonic() < deadline:
                for key, _ in selector.select(TICK):
                    if not key.data():
                        report("end", counters=self._counters)
                        return
                for session in self._sessions.values():
                    if session.open:
                        session.work(time.monotonic_ns() // 1_000_000)

    def _enter(self, event: str, address: tuple[str, int], conv: int) -> Session:
        options = self._options

        def output(datagram: bytes) -> None:
            self._counters["OutPkts"] += 1
            if self._random.random() >= options.loss:
                self._socket.sendto(datagram, address)

        block = ControlBlock(self._library, conv, output)
        block.tune(
            (options.nodelay, options.interval, options.resend, options.nc),
            (options.sndwnd, options.rcvwnd),
            options.mtu,
            options.mode == "stream",
        )
        session = Session(len(self._sessions) + 1, block, options, report)
        self._sessions[address, conv] = session
        local = self._socket.getsockname()[1]
        report(event, session=session.number, conv=conv, local=local, remote=address[1])
        session.start()
        return session

    def _readSocket(self) -> bool:
        while True:
            try:
                datagram, address = self._socket.recvfrom(2048)
            except BlockingIOError:
                return True
            self._counters["InPkts"] += 1
            if self._random.random() >= self._options.loss and len(datagram) >= HEADER:
                self._route(datagram, address)

    def _route(self, datagram: bytes, address: tuple[str, int]) -> None:
        conv = int.from_bytes(datagram[:4], "little")
        session = self._sessions.get((address, conv))
        if session is None:
            if self._options.role == "client":
                return
            session = self._enter("accepted", address, conv)
        if session.open and session.block.input(datagram) < 0:
            self._counters["KCPInErrors"] += 1

    def _readOrders(self) -> bool:
        data = os.read(sys.stdin.fileno(), 1 << 16)
        *lines, self._orders = (self._orders + data).split(b"\n")
        for line in lines:
            self._obey(**json.loads(line))
        return bool(data)

    def _obey(self, do: str, session: int = 1, **arguments: Any) -> None:
        chosen = list(self._sessions.values())[session - 1] if self._sessions else None
        if do == "counters":
            timeouts = sum(s.block.timeouts for s in self._sessions.values())
            report("counters", counters={**self._counters, "Timeouts": timeouts})
        elif chosen is None:
            report("error", message="there is no session yet")
        elif do == "send":
            chosen.send(arguments["bytes"], arguments["seed"])
        elif do == "write":
            chosen.write(bytes.fromhex(arguments["hex"]))
        elif do == "report":
            chosen.reportReceived("report")
        elif do == "resume":
            chosen.resume()
        elif do == "close":
            chosen.close()
        else:
            report("error", message=f"no order is called {do!r}")


if __name__ == "__main__":
    Program(arguments()).run()
