"""
Peers in other languages as child processes: built once, ordered and heard line
by line, gone when the test is.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
BINARIES = HERE / "bin"
ROOT = HERE.parent.parent

BUILD_SECONDS = 300
"""A first build fetches and compiles the modules it depends on."""

PATIENCE = 60.0
"""Seconds after which an event that a test waits for is given up."""

LEAVING = 30.0
"""Seconds that a peer has to end by itself."""

Event = dict[str, Any]


class PeerError(Exception):
    """A peer ended, complained or stayed silent while something was expected of it."""


def unavailable(reason: str) -> Exception:
    """
    What to raise where a peer cannot be had: in CI an error, because there a
    test that is skipped is a test that nobody runs; elsewhere a skip.
    """
    if os.environ.get("CI") == "true":
        return PeerError(f"{reason}; in CI the interop tests must run")
    return SkipTest(reason)


def command(argv: Sequence[str], directory: Path) -> None:
    """
    Run one step of a build.

    @raise SkipTest: the program is not installed, or the step failed (in CI:
        L{PeerError}).
    """
    if shutil.which(argv[0]) is None:
        raise unavailable(f"{argv[0]} is not installed")
    try:
        subprocess.run(argv, cwd=directory, check=True, capture_output=True, timeout=BUILD_SECONDS)
    except subprocess.CalledProcessError as error:
        complaint = error.stderr.decode(errors="replace").strip()
        raise unavailable(f"{' '.join(argv)} failed: {complaint}") from None
    except subprocess.TimeoutExpired:
        raise unavailable(f"{' '.join(argv)} took more than {BUILD_SECONDS} s") from None


NEWEST_KCPGO = "5.7.5"
"""Tried beside the version of C{go.mod}, which is what most programs have."""


@cache
def kcpgo(program: str = "kcppeer", version: str = "") -> tuple[str, ...]:
    """
    Build a program around kcp-go and say how to start it.

    @param version: of kcp-go; left out, the one of C{go.mod}.
    """
    return _go("kcpgo", program, version)


@cache
def goraknet(program: str = "rakpeer") -> tuple[str, ...]:
    """Build a program around go-raknet and say how to start it."""
    return _go("raknetgo", program)


def _go(module: str, program: str, version: str = "") -> tuple[str, ...]:
    binary = BINARIES / f"{program}{version and '-'}{version.replace('.', '_')}"
    dependencies = [f"-modfile=go-{version}.mod"] if version else []
    with _building(binary) as new:
        argv = ["go", "build", *dependencies, "-o", str(new), f"./cmd/{program}"]
        command(argv, PEERS / module)
    return (str(binary),)


@contextmanager
def _building(binary: Path) -> Iterator[Path]:
    """
    Build one at a time, whichever process it is, and put the new program in the old
    one's place only when it is whole: that may be running.

    @return: where to build.
    """
    BINARIES.mkdir(exist_ok=True)
    with open(BINARIES / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        new = binary.with_suffix(".new")
        yield new
        new.replace(binary)


@cache
def ikcp() -> tuple[str, ...]:
    """
    Fetch the package that carries the source of the C original, compile that
    with our shim into a library, and say how to start the peer around it.
    """
    here = PEERS / "ikcp"
    source = here / "node_modules" / "node-kcp" / "src" / "kcp"
    sources = [str(source / "ikcp.c"), str(here / "shim.c")]
    flags = ["-O2", "-w", "-fPIC", "-shared", f"-I{source}"]
    library = BINARIES / "libikcp.so"
    with _building(library) as new:
        if not (source / "ikcp.c").exists():
            command(["npm", "ci"], here)
        command(["cc", *flags, "-o", str(new), *sources], here)
    return (sys.executable, "-m", "tests.interop.peers.ikcp.peer", str(library))


RAKNET_NATIVE = "raknet-native@1.2.3"
RAKNET_NATIVE_SHA256 = "c94d59e3620a3cd9e182941c9e04000d2a5d18f5cd3495158424eafab87c5ca5"
RAKNET_NATIVE_LIBRARY = "package/prebuilds/linux-5-x64/node-raknet.node"
"""A package of Node's that carries the C++ original of RakNet, built. What else it
depends on is for building it."""


@cache
def raknetcpp() -> tuple[str, ...]:
    """Fetch the C++ original of RakNet and say how to start the peer around it."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SkipTest("the C++ original of RakNet is to be had built for Linux on x86-64 only")
    library = BINARIES / "node-raknet.node"
    with _building(library) as new, TemporaryDirectory() as place:
        command(["npm", "pack", RAKNET_NATIVE, "--pack-destination", place], HERE)
        (archive,) = Path(place).iterdir()
        if hashlib.sha256(archive.read_bytes()).hexdigest() != RAKNET_NATIVE_SHA256:
            raise PeerError(f"{RAKNET_NATIVE} is not what it was")
        with tarfile.open(archive) as files:
            member = files.extractfile(RAKNET_NATIVE_LIBRARY)
            assert member is not None
            new.write_bytes(member.read())
    node = shutil.which("node")
    if node is None:
        raise unavailable("node is not installed")
    return (node, str(PEERS / "raknetcpp" / "peer.js"), str(library))


class Peer(ProcessProtocol):
    """
    One running peer.

    @ivar heard: every event so far, in order.
    @ivar ended: fires when the process is gone, however it went.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor: IReactorTime = reactor
        self.heard: list[Event] = []
        self.ended: Deferred[None] = Deferred()
        self._rest = b""
        self._complaints = b""
        self._running = True
        self._waiting: list[_Waiting] = []

    # what a test uses

    async def port(self) -> int:
        """Where a server listens."""
        return int((await self.expect("listening"))["port"])

    def order(self, do: str, **arguments: Any) -> None:
        """Give an order; the peer's own documentation says what it knows."""
        transport: Any = self.transport
        transport.write(json.dumps({"do": do, **arguments}).encode() + b"\n")

    async def told(self, event: str, **fields: Any) -> list[Event]:
        """
        All that a living peer has said by now with this name and these fields. What
        it says comes by another way than its datagrams and may be behind them; the
        answer to a question is behind all that was said before.
        """
        await self.counters()
        wanted = {"event": event, **fields}
        return [heard for heard in self.heard if wanted.items() <= heard.items()]

    def expect(self, event: str, since: int = 0, **fields: Any) -> Deferred[Event]:
        """
        The first event with this name and these fields.

        @param since: how many of L{heard} do not count.
        @return: fires with the event, or fails with L{PeerError} if the peer
            ends or L{PATIENCE} does.
        """
        wanted = {"event": event, **fields}
        for heard in self.heard[since:]:
            if wanted.items() <= heard.items():
                return succeed(heard)
        if not self._running:
            return fail(PeerError(f"ended without {wanted}; {self._story()}"))
        result: Deferred[Event] = Deferred()
        timeout = self._reactor.callLater(PATIENCE, self._giveUp, wanted, result)
        self._waiting.append(_Waiting(wanted, result, timeout))
        return result

    async def ask(self, do: str, event: str, **arguments: Any) -> Event:
        """Give an order and wait for the event that answers it."""
        since = len(self.heard)
        self.order(do, **arguments)
        return await self.expect(event, since)

    async def counters(self) -> dict[str, int]:
        """The peer's own counters, now."""
        counters: dict[str, int] = (await self.ask("counters", "counters"))["counters"]
        return counters

    def stop(self) -> Deferred[None]:
        """
        End the process: by the end of its standard input, and if that does not
        help by killing it, by its id.
        """
        transport: Any = self.transport
        if not self._running:
            return succeed(None)
        transport.closeStdin()
        kill = self._reactor.callLater(LEAVING, transport.signalProcess, "KILL")

        def gone(result: None) -> None:
            if kill.active():
                kill.cancel()

        return self.ended.addCallback(gone)

    # the process

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"{"):
                self._hear(json.loads(line))
            else:
                # A library has something to say, too.
                self.errReceived(line + b"\n")

    def errReceived(self, data: bytes) -> None:
        self._complaints = (self._complaints + data)[-4000:]

    def processEnded(self, reason: Failure) -> None:
        self._running = False
        for waiting in self._waiting:
            waiting.timeout.cancel()
            waiting.result.errback(PeerError(f"ended without {waiting.wanted}; {self._story()}"))
        self._waiting = []
        self.ended.callback(None)

    def _hear(self, event: Event) -> None:
        self.heard.append(event)
        served = [w for w in self._waiting if w.wanted.items() <= event.items()]
        self._waiting = [w for w in self._waiting if w not in served]
        for waiting in served:
            waiting.timeout.cancel()
            waiting.result.callback(event)

    def _giveUp(self, wanted: Event, result: Deferred[Event]) -> None:
        self._waiting = [w for w in self._waiting if w.result is not result]
        result.errback(PeerError(f"no {wanted} in {PATIENCE} s; {self._story()}"))

    def _story(self) -> str:
        complaints = self._complaints.decode(errors="replace")
        return f"heard {self.heard[-10:]}, standard error {complaints!r}"


class _Waiting(NamedTuple):
    wanted: Event
    result: Deferred[Event]
    timeout: IDelayedCall


class PeerTestCase(TestCase):
    """A test that talks to peers; they are stopped when it ends."""

    timeout = 300

    def spawn(self, program: Sequence[str], *flags: str) -> Peer:
        """Start a peer with these flags."""
        from twisted.internet import reactor

        peer = Peer(reactor)
        processes: IReactorProcess = reactor
        argv = [*program, *flags]
        processes.spawnProcess(peer, argv[0], argv, env=dict(os.environ), path=str(ROOT))
        self.addCleanup(peer.stop)
        return peer
