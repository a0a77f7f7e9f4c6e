"""C{rudp send} and C{rudp recv}: files over a connection of any transport."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TextIO

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.python import usage
from twisted.python.failure import Failure

from twisted_rudp.service.announce import PROFILE_HELP, announcerOf, profiles
from twisted_rudp.service.destination import Destination
from twisted_rudp.service.transfer import (
    Outcome,
    Receiving,
    Sending,
    Transfer,
    TransferFailed,
    sourcesOf,
)
from twisted_rudp.service.usage import UsageOptions, endpoint, printable

FAILED: Final = 1
INTERRUPTED: Final = 130
"""Exit statuses: not everything has arrived; the user ended it."""

MOST_UNGREETED: Final = 16
"""Connections that have not yet shown that they are the other side."""

SPAN: Final = 5.0
"""Seconds over which a rate is measured."""

RATED: Final = 100_000
"""Bytes from which on a rate means something."""

OFTEN: Final = 0.2
SELDOM: Final = 5.0
"""Seconds between two looks at the progress on a terminal, and two lines elsewhere."""


class FilesOptions(UsageOptions):
    """What C{rudp send} and C{rudp recv} have in common."""

    optParameters = [
        ["listen", None, None, "Endpoint to wait for the other side on, such as kcp:4000."],
        ["announce", None, None, "With --listen: announce as this node."],
        ["announce-server", None, None, "Discovery server to announce to, HOST or HOST:PORT."],
        ["announce-profile", None, None, f"Local profiles: {PROFILE_HELP}", profiles],
    ]
    optFlags: Sequence[Sequence[Any]] = [["quiet", "q", "Print nothing but errors."]]

    def described(self, dialled: str) -> tuple[Any, Any]:
        """
        The endpoint to listen on and the one to dial; one of the two is None.

        @param dialled: the name of the option with the latter.
        @raise usage.UsageError: not exactly one is given, or it is invalid.
        """
        if (self["listen"] is None) == (self[dialled] is None):
            raise usage.UsageError(f"expected either --{dialled} or --listen")
        if self["announce"] is not None and self["listen"] is None:
            raise usage.UsageError("--announce requires --listen")
        if self["listen"] is None:
            return None, endpoint(dialled, clientFromString, self[dialled])
        return endpoint("listen", serverFromString, self["listen"]), None


class SendOptions(FilesOptions):
    """C{rudp send}."""

    synopsis = "(--to ENDPOINT | --listen ENDPOINT) FILE ..."
    longdesc = (
        "Send files and directories to 'rudp recv', over any stream endpoint. A file that has"
        " arrived in part is continued where its beginning is the same; digests are compared."
        " Exit status 1 if a file has not arrived."
    )
    optParameters = [
        ["to", "t", None, "Endpoint to connect to, such as kcp:host=example.org:port=4000."]
    ]
    examples = """
Examples:

  rudp send --to qotp:host=example.org:port=4000:serverKey=KEY holiday.jpg photos/
  rudp send --to node:alice notes.txt
  rudp send --listen kcp:4000 image.iso
"""

    paths: tuple[str, ...]

    def parseArgs(self, *paths: str) -> None:
        """
        @raise usage.UsageError: there are none.
        """
        if not paths:
            raise usage.UsageError("send: expected files or directories to send")
        self.paths = paths

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: something is missing or invalid.
        """
        self.ends = self.described("to")


class ReceiveOptions(FilesOptions):
    """C{rudp recv}."""

    synopsis = "(--listen ENDPOINT | --from ENDPOINT) [DIRECTORY]"
    longdesc = (
        "Receive files from 'rudp send' into DIRECTORY, which is the current one unless given,"
        " and is made if there is none. Files that exist are not replaced, and nothing is"
        " written outside of it. The command ends with the sender. Exit status 1 if"
        " a file has not arrived."
    )
    optParameters = [
        ["from", "f", None, "Endpoint to connect to, such as kcp:host=example.org:port=4000."]
    ]
    optFlags = [
        ["force", None, "Replace files that exist."],
        ["keep", "k", "With --listen: wait for further senders."],
    ]
    examples = """
Examples:

  rudp recv --listen qotp:4000:keyFile=server.key:allowedKeys=friends received/
  rudp recv --listen kcp:4000 --announce alice
  rudp recv --from kcp:host=example.org:port=4000 --force .
"""

    def parseArgs(self, *directories: str) -> None:
        """
        @raise usage.UsageError: there is more than one.
        """
        if len(directories) > 1:
            raise usage.UsageError("recv: expected one directory")
        self["directory"] = directories[0] if directories else "."

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: something is missing or invalid.
        """
        self.ends = self.described("from")
        if self["keep"] and self["listen"] is None:
            raise usage.UsageError("--keep requires --listen")


class Progress:
    """What there is to see: the present file on a terminal, and lines of what has happened."""

    def __init__(self, clock: Any, out: TextIO, *, quiet: bool = False) -> None:
        self._clock = clock
        self._out = out
        self._quiet = quiet
        self._terminal = out.isatty()
        self._name = ""
        self._size = 0
        self._shown = 0.0
        self._files: dict[str, tuple[int, int, float]] = {}
        self._marks: deque[tuple[float, int]] = deque()

    def began(self, name: str, size: int, offset: int) -> None:
        """See L{Display}."""
        self._name, self._size = printable(name), size
        self._shown = self._clock.seconds()
        self._marks = deque([(self._shown, offset)])
        self._files[name] = (size, offset, self._shown)
        if offset and offset < size:
            self.say(f"{self._name}: continued at {amount(offset)}")

    def moved(self, done: int) -> None:
        """See L{Display}."""
        now = self._clock.seconds()
        if self._quiet or now - self._shown < (OFTEN if self._terminal else SELDOM):
            return
        self._shown = now
        self._marks.append((now, done))
        while now - self._marks[0][0] > SPAN and len(self._marks) > 2:
            self._marks.popleft()
        text = f"{self._name}: {self._text(done)}"
        if self._terminal:
            self._out.write(f"\r{text}\033[K")
            self._out.flush()
        else:
            self.say(text)

    def _text(self, done: int) -> str:
        (first, at), (last, to) = self._marks[0], self._marks[-1]
        rate = (to - at) / (last - first) if last > first else 0.0
        left = duration((self._size - done) / rate) if rate else "?"
        percent = 100 * done // self._size if self._size else 100
        return f"{percent:3d} % of {amount(self._size)}, {amount(rate)}/s, {left} left"

    def ended(self, name: str, digest: bytes | None, problem: str | None) -> None:
        """See L{Display}."""
        size, offset, began = self._files.pop(name, (0, 0, 0.0))
        if digest is None:
            self.say(f"{printable(name)}: {problem}", error=True)
            return
        seconds = self._clock.seconds() - began
        moved = size - offset
        what = "was there already"
        if moved or not size:
            rate = f", {amount(moved / seconds)}/s" if moved > RATED and seconds > 0 else ""
            what = f"{amount(size)}{rate}"
        self.say(f"{printable(name)}: {what}, BLAKE2b-256 {digest.hex()}")

    def say(self, text: str, *, error: bool = False) -> None:
        """A line of its own."""
        if error:
            print(f"rudp: {text}", file=sys.stderr, flush=True)
        elif not self._quiet:
            clear = "\r\033[K" if self._terminal else ""
            print(f"{clear}{text}", file=self._out, flush=True)


def amount(size: float) -> str:
    """Bytes, for people."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"


def files(count: int) -> str:
    """So many files, for people."""
    return f"{count} file{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time, for people."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Exchange(Factory):
    """
    Makes the transfers of one run: one for the peer that is dialled, or one at a time for peers
    that connect and identify themselves as the other side.
    """

    noisy = False

    def __init__(self, reactor: Any, make: Callable[[], Transfer], progress: Progress) -> None:
        self._make = make
        self._progress = progress
        self._ungreeted: set[Transfer] = set()
        self.chosen: Transfer | None = None
        self.began: Deferred[Transfer] = Deferred()
        self._trigger = reactor.addSystemEventTrigger("before", "shutdown", self._interrupted)
        self._reactor = reactor
        self._dialling: Deferred[Any] | None = None
        self.interrupted = False

    def dial(self, far: Any) -> Deferred[Transfer | None]:
        """
        Connect to the other side.

        @return: fires with None if that failed, which has been said.
        """
        self._dialling = dialling = far.connect(self)
        dialling.addErrback(self._unreachable)
        return dialling  # type: ignore[no-any-return]

    def _unreachable(self, failure: Failure) -> None:
        if not self.interrupted:
            text = failure.getErrorMessage() or type(failure.value).__name__
            self._progress.say(text, error=True)

    def buildProtocol(self, addr: Any) -> Transfer | None:
        """One more connection."""
        if self.chosen is not None or len(self._ungreeted) >= MOST_UNGREETED:
            return None
        transfer = self._make()
        self._ungreeted.add(transfer)
        transfer.greeted.addCallback(lambda _: self._choose(transfer))
        transfer.finished.addErrback(self._lost, transfer)
        return transfer

    def _choose(self, transfer: Transfer) -> None:
        self._ungreeted.discard(transfer)
        if self.chosen is not None:
            transfer.leave("another transfer is going on")
            return
        self.chosen = transfer
        self.began.callback(transfer)

    def _lost(self, failure: Any, transfer: Transfer) -> Any:
        if transfer in self._ungreeted:
            self._ungreeted.discard(transfer)
            self._progress.say(str(failure.value), error=True)
        if transfer is self.chosen:
            return failure
        return None

    def again(self) -> None:
        """Take the next one."""
        self.chosen = None
        self.began = Deferred()

    def _interrupted(self) -> Deferred[Any]:
        """Tell the other side, and wait until it has heard that or cannot be reached."""
        self.interrupted = True
        if self._dialling is not None:
            self._dialling.cancel()
        elif self.chosen is None and not self.began.called:
            # Who dials does not wait for this.
            self.began.errback(SystemExit(INTERRUPTED))
        ends = [each for each in (self.chosen, *self._ungreeted) if each is not None]
        ended: list[Deferred[Any]] = []
        for transfer in ends:
            done: Deferred[None] = Deferred()
            transfer.finished.addBoth(_firing(done))
            transfer.leave("interrupted")
            ended.append(done)
        return DeferredList(ended)

    def release(self) -> None:
        """Handle interrupts no more."""
        self._reactor.removeSystemEventTrigger(self._trigger)


def _firing(done: Deferred[None]) -> Callable[[Any], Any]:
    def passOn(result: Any) -> Any:
        done.callback(None)
        return result

    return passOn


async def runSend(reactor: Any, options: SendOptions) -> None:
    """
    Send files.

    @raise usage.UsageError: a file cannot be sent.
    @raise SystemExit: not all have arrived.
    """
    try:
        sources = list(sourcesOf(options.paths))
    except (OSError, ValueError) as problem:
        raise usage.UsageError(f"send: {problem}") from None
    progress = Progress(reactor, sys.stdout, quiet=bool(options["quiet"]))
    await _run(reactor, options, progress, lambda: Sending(reactor, progress, sources))


async def runReceive(reactor: Any, options: ReceiveOptions) -> None:
    """
    Receive files.

    @raise usage.UsageError: there is no such directory.
    @raise SystemExit: not all have arrived.
    """
    try:
        destination = Destination(options["directory"], force=bool(options["force"]))
    except OSError as problem:
        raise usage.UsageError(f"recv: {options['directory']}: {problem.strerror}") from None
    progress = Progress(reactor, sys.stdout, quiet=bool(options["quiet"]))
    try:
        await _run(
            reactor,
            options,
            progress,
            lambda: Receiving(reactor, progress, destination),
            keep=bool(options["keep"]),
        )
    finally:
        destination.close()


async def _run(
    reactor: Any,
    options: SendOptions | ReceiveOptions,
    progress: Progress,
    make: Callable[[], Transfer],
    *,
    keep: bool = False,
) -> None:
    """Connect, or wait for who does; carry out what is asked for; say what became of it."""
    near, far = options.ends
    # An interrupt is an exception until the reactor runs.
    await deferLater(reactor, 0)
    exchange = Exchange(reactor, make, progress)
    try:
        if far is not None:
            status = await _dialled(far, exchange, progress)
        else:
            status = await _listening(reactor, options, near, exchange, progress, keep)
    finally:
        if not exchange.interrupted:
            exchange.release()
    if status:
        raise SystemExit(status)


async def _dialled(far: Any, exchange: Exchange, progress: Progress) -> int:
    transfer = await exchange.dial(far)
    if transfer is None:
        return INTERRUPTED if exchange.interrupted else FAILED
    return await _ended(transfer, exchange, progress)


async def _listening(
    reactor: Any,
    options: SendOptions | ReceiveOptions,
    near: Any,
    exchange: Exchange,
    progress: Progress,
    keep: bool,
) -> int:
    announcer = announcerOf(options, reactor, options["listen"])
    try:
        port = await near.listen(exchange)
    except (CannotListenError, OSError, ValueError) as problem:
        progress.say(str(problem), error=True)
        return FAILED
    host = port.getHost()
    where = f"{host.host} port {host.port}" if hasattr(host, "port") else str(host)
    key = getattr(near, "publicKey", None)
    progress.say(f"listening on {where}" + (f", serverKey={key.hex()}" if key else ""))
    if announcer is not None:
        announcer.begin(host)
    try:
        while True:
            status = await _ended(await exchange.began, exchange, progress)
            if not keep or exchange.interrupted:
                return status
            exchange.again()
    finally:
        if announcer is not None:
            await announcer.end()
        if not exchange.interrupted:
            await port.stopListening()


async def _ended(transfer: Transfer, exchange: Exchange, progress: Progress) -> int:
    """
    Wait for the end of a transfer.

    @return: the exit status.
    """
    try:
        outcome: Outcome | None = await transfer.finished
    except TransferFailed as problem:
        progress.say(str(problem), error=True)
        return INTERRUPTED if exchange.interrupted else FAILED
    if outcome is None:
        return FAILED
    progress.say(
        f"{files(outcome.arrived)}, {amount(outcome.size)}, of which {amount(outcome.moved)} were"
        " carried over"
    )
    if outcome.failed:
        progress.say(f"{files(len(outcome.failed))} did not arrive", error=True)
        return FAILED
    return 0
