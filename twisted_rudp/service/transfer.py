"""
Files over one stream of any transport: what C{rudp send} and C{rudp recv} say to each other.

Frames are a type of one byte, a length of four, and a body::

    both      HELLO    the protocol, its version, and which side this is
    sender    FILE     size, flags and name; up to L{AHEAD} of them before their turn
    receiver  HAVE     so many bytes of that are here, with their digest; whole or not
              REFUSE   that one is not wanted, and why
    sender    START    what follows begins at this offset: what the receiver has, or 0
              DATA     bytes
              END      the digest of the whole file
    receiver  RESULT   whether it has arrived
    sender    DONE     there are no more; answered with DONE
    both      ABORT    why this ends

Digests are BLAKE2b of 32 bytes, as C{b2sum -l 256} prints them. What the receiver has of a file
is only continued if the sender's file begins with the same bytes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import IO, Any, Final, Protocol

from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPullProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.service.destination import LONGEST_NAME, BadName, Destination, Place, partsOf
from twisted_rudp.service.usage import printable

AHEAD: Final = 64
"""Files that are announced before their turn, so that small ones do not cost a round trip each."""

PIECE: Final = 1 << 16
"""Bytes of a DATA frame."""

MOST_FILES: Final = 1_000_000
MOST_WRONG: Final = 1000
"""Names that cannot be used. C{rudp send} looks at them before it sends them."""

LONGEST_TEXT: Final = 500
LARGEST_BODY: Final = PIECE + LONGEST_NAME

HELLO_TIMEOUT: Final = 30.0
"""Seconds for the other side to say what it is."""

SILENCE_TIMEOUT: Final = 60.0
"""Seconds that the other side may be silent when it is its turn to say something."""

HASH_RATE: Final = 10_000_000
"""Bytes that it hashes in a second at least, where it has to do that before."""

HASHED: Final = 1 << 20
"""Bytes of a file that are hashed in one go."""

LEAVE_TIMEOUT: Final = 3.0
"""Seconds for the other side to hear of an end before its time."""

EXECUTABLE: Final = 1

_MAGIC: Final = b"rudp files"
_VERSION: Final = 1
_head: Final = Struct(">BI")
_hello: Final = Struct(">10sBB")
_file: Final = Struct(">QB")
_have: Final = Struct(">Q32sB")
_start: Final = Struct(">Q")


class Frame(IntEnum):
    """Types of frames."""

    HELLO = 1
    FILE = 2
    HAVE = 3
    REFUSE = 4
    START = 5
    DATA = 6
    END = 7
    RESULT = 8
    DONE = 9
    ABORT = 10


class Side(IntEnum):
    """Which side one is."""

    SENDER = 1
    RECEIVER = 2


class TransferFailed(Exception):
    """The transfer ended before its time; the message says why."""


class _Broken(Exception):
    """The other side does not follow the rules."""


@dataclass
class Outcome:
    """
    What became of the files.

    @ivar arrived: files that are whole at the receiver, those included that were there.
    @ivar size: bytes of these.
    @ivar moved: bytes that went over the connection.
    @ivar failed: names of the others, with the reason.
    """

    arrived: int = 0
    size: int = 0
    moved: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def fail(self, name: str, problem: str) -> None:
        """One more has not arrived."""
        self.failed.append((name, problem))


class Display(Protocol):
    """Where a transfer shows how far it is."""

    def began(self, name: str, size: int, offset: int) -> None:
        """A file has its turn; so many bytes of it are there already."""

    def moved(self, done: int) -> None:
        """So many bytes of it are there."""

    def ended(self, name: str, digest: bytes | None, problem: str | None) -> None:
        """It has arrived, with this digest; or not, and why."""


class Transfer(protocol.Protocol):
    """
    One side.

    @ivar finished: fires with the L{Outcome} when the connection is closed after
        all files had their turn; fails with L{TransferFailed} if it ended before.
    """

    side: Side

    def __init__(self, clock: Any, display: Display) -> None:
        self.finished: Deferred[Outcome] = Deferred()
        self.greeted: Deferred[None] = Deferred()
        self.outcome = Outcome()
        self._clock = clock
        self._display = display
        self._input = b""
        self._problem: str | None = None
        self._complete = False
        self._met = False
        self._turnAt = 0.0
        self._timer: IDelayedCall | None = None
        self._hashing: IDelayedCall | None = None

    # the connection

    def connectionMade(self) -> None:
        self._say(Frame.HELLO, _hello.pack(_MAGIC, _VERSION, self.side))
        self._timer = self._clock.callLater(
            HELLO_TIMEOUT, self.leave, "the other side says nothing"
        )

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        self._turnAt = self._clock.seconds()
        self._input = data if not self._input else self._input + data
        at = 0
        view = self._input
        while not self._over and len(view) - at >= _head.size:
            kind, length = _head.unpack_from(view, at)
            if length > LARGEST_BODY or not self._expects(kind):
                self.leave("the other side is no rudp send or recv, or broken")
                return
            end = at + _head.size + length
            if len(view) < end:
                break
            try:
                self._frame(kind, view[at + _head.size : end])
            except _Broken as problem:
                self.leave(str(problem))
                return
            at = end
        self._input = view[at:]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stopTimers()
        self._release()
        if self._complete:
            self.finished.callback(self.outcome)
        else:
            problem = self._problem or f"the connection was lost: {reason.getErrorMessage()}"
            self.finished.errback(Failure(TransferFailed(problem)))  # type: ignore[no-untyped-call]

    def leave(self, problem: str) -> None:
        """End the transfer before its time, and tell the other side why."""
        if self._over:
            return
        self._problem = problem
        self._stopTimers()
        self._release()
        self._say(Frame.ABORT, problem.encode()[:LONGEST_TEXT])
        self._transport.loseConnection()
        self._timer = self._clock.callLater(LEAVE_TIMEOUT, self._transport.abortConnection)

    @property
    def _over(self) -> bool:
        """Nothing is expected any more but the end of the connection."""
        return self._problem is not None or self._complete

    def _owed(self) -> int | None:
        """
        What the other side has to do before it can say something: so many bytes to hash. None:
        it is our turn.
        """
        raise NotImplementedError

    def _checkSilence(self) -> None:
        """Whoever does not go on must not keep others out: there is one transfer at a time."""
        now = self._clock.seconds()
        owed = 0 if self._complete else self._owed()
        if owed is None:
            self._turnAt = now
        left = self._turnAt + SILENCE_TIMEOUT + (owed or 0) / HASH_RATE - now
        if left > 0:
            self._timer = self._clock.callLater(left, self._checkSilence)
        elif self._complete:
            self._transport.abortConnection()
        else:
            self.leave(f"the other side has said nothing for {now - self._turnAt:.0f} seconds")

    def _stopTimers(self) -> None:
        for call in (self._timer, self._hashing):
            if call is not None and call.active():
                call.cancel()

    def _release(self) -> None:
        """Let go of all files."""
        raise NotImplementedError

    # frames

    @property
    def _transport(self) -> Any:
        return self.transport

    def _say(self, kind: Frame, body: bytes = b"") -> None:
        self._turnAt = self._clock.seconds()
        self._transport.write(_head.pack(kind, len(body)) + body)

    def _expects(self, kind: int) -> bool:
        """Whether this may come now."""
        return self._met or kind in (Frame.HELLO, Frame.ABORT)

    def _frame(self, kind: int, body: bytes) -> None:
        if kind == Frame.ABORT:
            self._problem = f"the other side ended it: {_text(body)}"
            self._release()
            self._transport.loseConnection()
        elif kind == Frame.HELLO:
            self._hello(body)
        else:
            self._input_frame(kind, body)

    def _hello(self, body: bytes) -> None:
        if self._met:
            raise _Broken("the other side says hello twice")
        magic, version, side = _unpack(_hello, body)
        if magic != _MAGIC:
            raise _Broken("the other side is no rudp send or recv")
        if version != _VERSION:
            raise _Broken(f"the other side has version {version} of this protocol, not {_VERSION}")
        if side == self.side:
            raise _Broken("both sides send" if side == Side.SENDER else "both sides receive")
        self._met = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.callLater(SILENCE_TIMEOUT, self._checkSilence)
        self.greeted.callback(None)
        self._begin()

    def _begin(self) -> None:
        """The other side is there."""

    def _input_frame(self, kind: int, body: bytes) -> None:
        raise NotImplementedError

    # digests

    def _hash(self, file: IO[bytes], size: int, then: Callable[[Any, int], None]) -> None:
        """
        Hash the beginning of a file, and let the reactor do other things meanwhile.

        @param size: bytes to hash.
        @param then: is given the hash object, and how many bytes there were.
        """
        digest = blake2b(digest_size=32)
        done = 0

        def step() -> None:
            nonlocal done
            try:
                data = file.read(min(HASHED, size - done))
            except OSError:
                data = b""
            digest.update(data)
            done += len(data)
            if data and done < size:
                self._hashing = self._clock.callLater(0, step)
            else:
                self._hashing = None
                then(digest, done)

        # Never at once: a run of small files would be a recursion.
        self._hashing = self._clock.callLater(0, step)


def _unpack(form: Struct, body: bytes) -> tuple[Any, ...]:
    if len(body) != form.size:
        raise _Broken("the other side sent a frame of the wrong length")
    return form.unpack(body)


def _text(body: bytes) -> str:
    return printable(body[:LONGEST_TEXT].decode("utf-8", "replace"))


@dataclass
class Source:
    """A file to be sent, and the name that it gets."""

    path: Path
    name: str


def sourcesOf(paths: Sequence[str]) -> Iterator[Source]:
    """
    The files under these paths, in order. A directory gives all files below it, with its own
    name in front of theirs; links in it are left out.

    @raise ValueError: there is no such file, two have one name, or it cannot be sent.
    """
    names: set[str] = set()
    for given in paths:
        top = Path(given)
        if top.is_dir():
            base = top.resolve().name
            found = sorted(
                Path(folder) / name
                for folder, _, files in os.walk(top)
                for name in files
            )
            sources = [
                Source(path, f"{base}/{path.relative_to(top).as_posix()}")
                for path in found
                if path.is_file() and not path.is_symlink()
            ]
        elif top.is_file():
            sources = [Source(top, top.name)]
        else:
            raise ValueError(f"{given}: no such file or directory, or a special file")
        for source in sources:
            try:
                partsOf(os.fsencode(source.name))
            except BadName as problem:
                raise ValueError(f"{source.path}: {problem}") from None
            if source.name in names:
                raise ValueError(f"{source.path}: another file is sent as {source.name!r}, too")
            names.add(source.name)
            yield source


@dataclass
class _Leaving:
    """A file that the receiver knows of."""

    source: Source
    file: IO[bytes]
    size: int
    answered: bool = False
    had: int = 0
    digest: bytes = b""
    whole: bool = False


@implementer(IPullProducer)
class Sending(Transfer):
    """The side that sends."""

    side = Side.SENDER

    def __init__(self, clock: Any, display: Display, sources: Sequence[Source]) -> None:
        super().__init__(clock, display)
        self._sources = deque(sources)
        self._announced: deque[_Leaving] = deque()
        self._sent: deque[_Leaving] = deque()
        self._current: _Leaving | None = None
        self._digest: Any = None
        self._at = 0
        self._producing = False

    def _begin(self) -> None:
        self._announce()

    def _owed(self) -> int | None:
        if self._current is not None:
            # Its window says when we may go on.
            return None
        return next((each.size for each in self._announced if not each.answered), 0)

    def _announce(self) -> None:
        """Announce files; end when there are no more."""
        while self._sources and len(self._announced) < AHEAD:
            source = self._sources.popleft()
            try:
                file = source.path.open("rb")
            except OSError as error:
                self._ended(source.name, None, f"cannot be read: {error.strerror}")
                continue
            found = os.fstat(file.fileno())
            self._announced.append(_Leaving(source, file, found.st_size))
            flags = EXECUTABLE if found.st_mode & 0o100 else 0
            name = source.name.encode()
            self._say(Frame.FILE, _file.pack(found.st_size, flags) + name)
        if not (self._sources or self._announced or self._sent or self._current):
            self._say(Frame.DONE)

    def _input_frame(self, kind: int, body: bytes) -> None:
        if kind in (Frame.HAVE, Frame.REFUSE):
            leaving = next((each for each in self._announced if not each.answered), None)
            if leaving is None:
                raise _Broken("the receiver answers what was not asked")
            leaving.answered = True
            if kind == Frame.REFUSE:
                self._announced.remove(leaving)
                leaving.file.close()
                self._ended(leaving.source.name, None, f"refused: {_text(body)}")
                self._announce()
            else:
                leaving.had, leaving.digest, whole = _unpack(_have, body)
                leaving.whole = bool(whole)
                if leaving.had > leaving.size:
                    leaving.had = 0
            self._next()
        elif kind == Frame.RESULT:
            if not self._sent:
                raise _Broken("the receiver has a result of what was not sent")
            leaving = self._sent.popleft()
            problem = _text(body)
            if not problem:
                self.outcome.arrived += 1
                self.outcome.size += leaving.size
            self._ended(leaving.source.name, leaving.digest, problem or None)
            self._announce()
        elif kind == Frame.DONE:
            if self._sources or self._announced or self._sent or self._current:
                raise _Broken("the receiver ends too early")
            self._complete = True
            self._transport.loseConnection()
        else:
            raise _Broken("the receiver sent what only a sender sends")

    def _ended(self, name: str, digest: bytes | None, problem: str | None) -> None:
        if problem is not None:
            self.outcome.fail(name, problem)
        self._display.ended(name, digest if problem is None else None, problem)

    def _next(self) -> None:
        """Begin with the next file, if it is its turn and the answer is here."""
        if self._current is None and self._announced and self._announced[0].answered:
            self._current = leaving = self._announced.popleft()
            self._hash(leaving.file, leaving.had, self._start)

    def _start(self, digest: Any, done: int) -> None:
        """What the receiver has was looked at."""
        leaving = self._current
        assert leaving is not None
        another = done != leaving.had or digest.digest() != leaving.digest
        if another:
            digest, leaving.had = blake2b(digest_size=32), 0
            leaving.file.seek(0)
        self._digest, self._at = digest, leaving.had
        self._say(Frame.START, _start.pack(leaving.had))
        if another and leaving.whole:
            # The receiver keeps what it has, and says so.
            self._finish(leaving)
            return
        self._display.began(leaving.source.name, leaving.size, leaving.had)
        self._producing = True
        self._transport.registerProducer(self, False)

    # IPullProducer

    def resumeProducing(self) -> None:
        """Send a piece of the file that has its turn."""
        leaving = self._current
        if leaving is None or not self._producing:
            return
        try:
            data = leaving.file.read(min(PIECE, leaving.size - self._at))
        except OSError:
            data = b""
        if data:
            self._digest.update(data)
            self._at += len(data)
            self.outcome.moved += len(data)
            self._say(Frame.DATA, data)
            self._display.moved(self._at)
        if self._at < leaving.size and data:
            return
        # A file that has become shorter has a digest that the receiver's has not.
        self._stopProducing()
        self._finish(leaving)

    def _finish(self, leaving: _Leaving) -> None:
        leaving.file.close()
        leaving.digest = self._digest.digest()
        self._say(Frame.END, leaving.digest)
        self._sent.append(leaving)
        self._current = None
        self._announce()
        self._next()

    def stopProducing(self) -> None:
        """The connection is gone, which it says itself."""
        self._producing = False

    def _stopProducing(self) -> None:
        if self._producing:
            self._producing = False
            self._transport.unregisterProducer()

    def _release(self) -> None:
        self._stopProducing()
        for leaving in (*self._announced, *([self._current] if self._current else ())):
            leaving.file.close()
        self._announced.clear()
        self._current = None
        self._sources.clear()


@dataclass
class _Coming:
    """A file that is announced."""

    name: str
    size: int
    executable: bool
    place: Place
    whole: bool = False
    had: int = 0
    hashed: Any = None
    file: IO[bytes] | None = None


class Receiving(Transfer):
    """The side that receives."""

    side = Side.RECEIVER

    def __init__(self, clock: Any, display: Display, destination: Destination) -> None:
        super().__init__(clock, display)
        self._destination = destination
        self._names: set[tuple[str, ...]] = set()
        self._wrong = 0
        self._announced: deque[_Coming] = deque()
        self._unanswered: deque[_Coming | str] = deque()
        self._current: _Coming | None = None
        self._digest: Any = None
        self._at = 0
        self._broken: str | None = None
        self._answering = False

    def _owed(self) -> int | None:
        if self._answering:
            return None
        return self._announced[0].had if self._announced and self._current is None else 0

    def _input_frame(self, kind: int, body: bytes) -> None:
        current = self._current
        if kind == Frame.DATA:
            if current is None:
                raise _Broken("the sender sends data of no file")
            self._data(current, body)
        elif kind == Frame.FILE:
            self._announcedFile(body)
        elif kind == Frame.START:
            (offset,) = _unpack(_start, body)
            self._start(offset)
        elif kind == Frame.END:
            if current is None or len(body) != 32:
                raise _Broken("the sender ends no file")
            self._end(current, body)
        elif kind == Frame.DONE:
            if current is not None or self._announced or self._unanswered:
                raise _Broken("the sender ends too early")
            self._say(Frame.DONE)
            self._complete = True
        else:
            raise _Broken("the sender sent what only a receiver sends")

    def _announcedFile(self, body: bytes) -> None:
        if len(body) <= _file.size or len(self._announced) + len(self._unanswered) >= 2 * AHEAD:
            raise _Broken("the sender announces too many files, or nothing")
        size, flags = _file.unpack_from(body)
        name = body[_file.size :]
        if len(self._names) >= MOST_FILES:
            raise _Broken(f"the sender has more than {MOST_FILES} files")
        coming = self._judge(name, size, bool(flags & EXECUTABLE))
        if isinstance(coming, str):
            shown = _text(name)
            self.outcome.fail(shown, coming)
            self._display.ended(shown, None, coming)
        self._unanswered.append(coming)
        self._answer()

    def _judge(self, name: bytes, size: int, executable: bool) -> _Coming | str:
        """
        @return: what is to come, or why not.
        """
        try:
            parts = partsOf(name)
        except BadName as problem:
            return self._wrongName(str(problem))
        if parts in self._names:
            return self._wrongName("there was another file of this name")
        self._names.add(parts)
        if size > self._destination.free:
            return "there is no room for it"
        try:
            place = self._destination.place(parts)
        except OSError as error:
            return f"cannot be written: {error.strerror}"
        return _Coming("/".join(parts), size, executable, place)

    def _wrongName(self, problem: str) -> str:
        self._wrong += 1
        if self._wrong > MOST_WRONG:
            raise _Broken("the sender announces names that cannot be used")
        return problem

    def _answer(self) -> None:
        """Answer the next file that was announced, when what is here of it was hashed."""
        while self._unanswered and not self._answering:
            coming = self._unanswered[0]
            if isinstance(coming, str):
                self._unanswered.popleft()
                self._say(Frame.REFUSE, coming.encode()[:LONGEST_TEXT])
                continue
            self._answering = True
            self._look(coming)

    def _look(self, coming: _Coming) -> None:
        found = coming.place.existing()
        if found is None:
            if coming.place.taken:
                self._refuse(coming, "there is something of this name that is no file")
            else:
                self._have(coming, blake2b(digest_size=32), 0)
            return
        file, coming.whole = found
        size = os.fstat(file.fileno()).st_size
        if coming.whole and size != coming.size:
            file.close()
            self._refuse(coming, "there is another file of this name")
            return

        def hashed(digest: Any, done: int) -> None:
            file.close()
            self._have(coming, digest, done)

        self._hash(file, min(size, coming.size), hashed)

    def _have(self, coming: _Coming, digest: Any, size: int) -> None:
        coming.hashed, coming.had = digest, size
        self._announced.append(coming)
        self._say(Frame.HAVE, _have.pack(size, digest.digest(), coming.whole))
        self._answered()

    def _refuse(self, coming: _Coming, problem: str) -> None:
        coming.place.close()
        self.outcome.fail(coming.name, problem)
        self._display.ended(coming.name, None, problem)
        self._say(Frame.REFUSE, problem.encode())
        self._answered()

    def _answered(self) -> None:
        self._unanswered.popleft()
        self._answering = False
        self._answer()

    def _start(self, offset: int) -> None:
        if self._current is not None or not self._announced:
            raise _Broken("the sender begins a file out of turn")
        coming = self._announced.popleft()
        if offset not in (0, coming.had):
            raise _Broken("the sender begins in the middle of a file")
        self._current = coming
        self._broken = None
        self._digest = coming.hashed if offset else blake2b(digest_size=32)
        self._at = offset
        self._display.began(coming.name, coming.size, offset)
        if coming.whole:
            if offset != coming.size:
                self._broken = "there is another file of this name"
            return
        try:
            coming.file = coming.place.open(offset)
        except OSError as error:
            self._broken = f"cannot be written: {error.strerror}"

    def _data(self, coming: _Coming, data: bytes) -> None:
        self._at += len(data)
        self.outcome.moved += len(data)
        if self._at > coming.size:
            raise _Broken("the sender sends more of a file than it has announced")
        if self._broken is not None or coming.file is None:
            return
        try:
            coming.file.write(data)
        except OSError as error:
            self._broken = f"cannot be written: {error.strerror}"
        else:
            self._digest.update(data)
            self._display.moved(self._at)

    def _end(self, coming: _Coming, digest: bytes) -> None:
        self._current = None
        problem = self._broken
        try:
            if coming.file is not None:
                coming.file.close()
            if problem is None and (self._digest.digest() != digest or self._at != coming.size):
                problem = "the digests differ: the file changed while it was sent"
                coming.place.discard()
            elif problem is None and not coming.whole:
                coming.place.finish(coming.executable)
        except FileExistsError:
            problem = "there is another file of this name"
        except OSError as error:
            problem = f"cannot be written: {error.strerror}"
        coming.place.close()
        if problem is None:
            self.outcome.arrived += 1
            self.outcome.size += coming.size
        else:
            self.outcome.fail(coming.name, problem)
        self._say(Frame.RESULT, (problem or "").encode()[:LONGEST_TEXT])
        self._display.ended(coming.name, digest if problem is None else None, problem)

    def _release(self) -> None:
        current, self._current = self._current, None
        for coming in (*self._announced, *self._unanswered, current):
            if isinstance(coming, _Coming):
                coming.place.close()
                if coming.file is not None:
                    coming.file.close()
        self._announced.clear()
        self._unanswered.clear()
