"""
C{rudp demo}: a real HTTP download through two forwarders and a bad link::

    Agent -> tcp -> forward -> kcp -> link -> kcp -> forward -> tcp -> Site

Each forwarder is a process of its own. The web server, the link and the client run in
this process.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IProcessTransport, IReactorProcess
from twisted.internet.protocol import ProcessProtocol, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from twisted_rudp.service.link import Link
from twisted_rudp.service.usage import UsageOptions, count
from twisted_rudp.testing.impairments import Impairments

_WIDTH = 40


class Progress:
    """A progress bar on a terminal; lines elsewhere."""

    def __init__(self, total: int, out: TextIO) -> None:
        """
        @param total: bytes expected.
        """
        self._total = total
        self._out = out
        self._tenths = 0

    def show(self, done: int, seconds: float) -> None:
        """
        Redraw the bar on a terminal; elsewhere print a line for each tenth.

        @param seconds: since the start.
        """
        text = self._text(done, seconds)
        if self._out.isatty():
            self._out.write(f"\r{text}")
            if done >= self._total:
                self._out.write("\n")
        elif done * 10 // self._total > self._tenths:
            self._tenths = done * 10 // self._total
            self._out.write(f"{text}\n")
        self._out.flush()

    def _text(self, done: int, seconds: float) -> str:
        filled = done * _WIDTH // self._total
        bar = "#" * filled + "." * (_WIDTH - filled)
        rate = done / seconds / 1e6 if seconds else 0.0
        return f"[{bar}] {done * 100 // self._total:3d} %  {rate:6.2f} MB/s"


_LISTENING = re.compile(rb"listening on \S+ port (\d+)")
_STOPPED = re.compile(rb"stopped: (.*)")
_KEPT = 20


class ChildFailed(Exception):
    """The child ended unexpectedly; the message has its last lines."""


class Child(ProcessProtocol):
    """
    A C{twist rudp} process.

    @ivar listening: fires with the port on which it listens.
    @ivar ended: fires with the counters that it logged when it stopped.
    """

    transport: IProcessTransport

    def __init__(self) -> None:
        self.listening: Deferred[int] = Deferred()
        self.ended: Deferred[dict[str, float]] = Deferred()
        self._rest = b""
        self._lines: list[bytes] = []
        self._counters: dict[str, float] = {}

    @classmethod
    def start(cls, reactor: IReactorProcess, *arguments: str) -> Child:
        """Start C{twist rudp} with this interpreter."""
        child = cls()
        command = [sys.executable, "-m", "twisted", "--log-format=text", "rudp", *arguments]
        reactor.spawnProcess(child, sys.executable, command, env=dict(os.environ))
        return child

    def stop(self) -> Deferred[dict[str, float]]:
        """
        Interrupt it.

        @return: as L{ended}.
        """
        self.transport.signalProcess("INT")
        return self.ended

    def kill(self) -> None:
        """Kill it if it still runs."""
        if not self.ended.called:
            self.transport.signalProcess("KILL")

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        if not self.listening.called:
            announced = b"\n".join(self._lines).decode(errors="replace")
            self.listening.errback(ChildFailed(announced))
        self.ended.callback(self._counters)

    def _line(self, line: bytes) -> None:
        self._lines = [*self._lines[1 - _KEPT :], line]
        listening = _LISTENING.search(line)
        if listening and not self.listening.called:
            self.listening.callback(int(listening[1]))
        stopped = _STOPPED.search(line)
        if stopped:
            self._counters = dict(_counter(pair) for pair in stopped[1].split() if b"=" in pair)


def _counter(pair: bytes) -> tuple[str, float]:
    name, _, value = pair.decode().partition("=")
    return name, float(value)


LOSS = 0.05
DELAY = 0.03
_LOCAL = "127.0.0.1"
_SEED = 20


class DemoFailed(Exception):
    """The downloaded bytes differ from those that were sent."""


@dataclass(frozen=True)
class Result:
    """
    The result of a download.

    @ivar size: bytes.
    @ivar seconds: from the request to the last byte.
    @ivar digest: SHA-256 of the body, in hexadecimal.
    """

    size: int
    seconds: float
    digest: str


class Download(Protocol):
    """Hashes a body as it arrives."""

    def __init__(self, clock: Any, progress: Progress) -> None:
        self.finished: Deferred[Result] = Deferred()
        self._clock = clock
        self._progress = progress
        self._began = clock.seconds()
        self._digest = hashlib.sha256()
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._digest.update(data)
        self._size += len(data)
        self._progress.show(self._size, self._clock.seconds() - self._began)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if isinstance(reason.value, ResponseDone):
            seconds = self._clock.seconds() - self._began
            self.finished.callback(Result(self._size, seconds, self._digest.hexdigest()))
        else:
            self.finished.errback(reason)


class DemoOptions(UsageOptions):
    """C{rudp demo}."""

    longdesc = (
        "Download a file over HTTP through two 'twist rudp forward' processes. The link between"
        " them has 5 % loss and 30 ms of delay in each direction."
    )
    optParameters = [["megabytes", None, 50, "Size of the download in MB.", count]]


def runDemo(reactor: Any, options: DemoOptions) -> Deferred[None]:
    """
    Run the demonstration.

    @return: fires when it has ended; fails with L{DemoFailed} if the downloaded bytes
        differ from those that were sent.
    """
    return Deferred.fromCoroutine(Demo(reactor, options["megabytes"] * 1_000_000).run())


class Demo:
    """One download."""

    def __init__(self, reactor: Any, size: int) -> None:
        """
        @param size: bytes to download.
        """
        self._reactor = reactor
        self._payload = random.Random(_SEED).randbytes(size)
        self._children: list[Child] = []

    async def run(self) -> None:
        """Start all parts, download, stop all parts, and print the statistics."""
        resource = Resource()
        resource.putChild(b"file", Data(self._payload, "application/octet-stream"))
        site = await TCP4ServerEndpoint(self._reactor, 0, interface=_LOCAL).listen(Site(resource))
        far = await self._forward("kcp:0", f"tcp:{_LOCAL}:{site.getHost().port}")
        impairments = Impairments(seed=_SEED, loss=LOSS, delay=DELAY)
        link = Link(self._reactor, _LOCAL, 0, _LOCAL, far, impairments)
        try:
            link.start()
            near = await self._forward("tcp:0", f"kcp:{_LOCAL}:{link.port}")
            self._say(site.getHost().port, far, link.port, near)
            result = await self._download(near)
            client, server = [await child.stop() for child in reversed(self._children)]
        finally:
            for child in self._children:
                child.kill()
            await link.stop()
            await site.stopListening()
        self._report(result, link.statistics(), client, server)

    async def _forward(self, near: str, far: str) -> int:
        near = f"{near}:interface={_LOCAL}"
        child = Child.start(
            self._reactor, "forward", "--listen", near, "--to", far
        )
        self._children.append(child)
        return await child.listening

    async def _download(self, port: int) -> Result:
        progress = Progress(len(self._payload), sys.stdout)
        download = Download(self._reactor, progress)
        url = f"http://{_LOCAL}:{port}/file".encode()
        response = await Agent(self._reactor).request(b"GET", url)
        response.deliverBody(download)
        return await download.finished

    def _say(self, web: int, far: int, middle: int, near: int) -> None:
        print(f"tcp:{near} -> forward -> kcp:{middle}, the link, kcp:{far} -> forward -> tcp:{web}")
        print(f"the link has {LOSS:.0%} loss and {DELAY * 1000:.0f} ms delay in each direction\n")

    def _report(
        self,
        result: Result,
        link: Mapping[str, int],
        client: Mapping[str, float],
        server: Mapping[str, float],
    ) -> None:
        wanted = hashlib.sha256(self._payload).hexdigest()
        if result.digest != wanted:
            raise DemoFailed(f"SHA-256 is {result.digest}, expected {wanted}")
        resent = int(client.get("RetransSegs", 0) + server.get("RetransSegs", 0))
        lost, offered = (
            link[f"forward_{fate}"] + link[f"backward_{fate}"] for fate in ("lost", "offered")
        )
        rows = [
            ("downloaded", f"{result.size / 1e6:.1f} MB in {result.seconds:.2f} s"),
            ("digest", f"SHA-256 {wanted[:16]}..., as sent"),
            ("goodput", f"{result.size / result.seconds / 1e6:.2f} MB/s"),
            ("lost by the link", f"{lost} of {offered} datagrams"),
            ("retransmitted", f"{resent} segments"),
            ("round trip", f"{server.get('round_trip_ms', 0):.1f} ms"),
        ]
        print()
        for name, value in rows:
            print(f"  {name:18}{value}")
        print(_BY_HAND)


_IMPAIRED = f"--loss {LOSS * 100:.0f} --delay {DELAY * 1000:.0f}"
_BY_HAND = f"""
To do the same by hand, run each of these in its own terminal:

  python3 -m http.server 8000
  twist rudp forward --listen kcp:4000 --to tcp:{_LOCAL}:8000
  rudp link --listen {_LOCAL}:4100 --to {_LOCAL}:4000 {_IMPAIRED}
  twist rudp forward --listen tcp:8080 --to kcp:{_LOCAL}:4100

then open http://{_LOCAL}:8080/"""
