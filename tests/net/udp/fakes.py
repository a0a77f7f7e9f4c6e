"""A reactor, a socket and a receiver that do as they are told."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.core.engine import Address, PathError
from twisted_rudp.net.udp.own import OwnPort
from twisted_rudp.net.udp.port import SocketOptions

PEER = ("192.0.2.1", 4000)
OTHER = ("192.0.2.2", 4000)


def refusal(code: int) -> OSError:
    """The exception of a system call that fails with C{code}."""
    return OSError(code, os.strerror(code))


@implementer(IReactorFDSet)
class FakeReactor(Clock):
    """A clock that remembers who wants to read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []
        self.writers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        if reader not in self.readers:
            self.readers.append(reader)

    def addWriter(self, writer: Any) -> None:
        if writer not in self.writers:
            self.writers.append(writer)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)

    def removeWriter(self, writer: Any) -> None:
        if writer in self.writers:
            self.writers.remove(writer)

    def removeAll(self) -> list[Any]:
        everybody = [*self.readers, *self.writers]
        self.readers, self.writers = [], []
        return everybody

    def getReaders(self) -> list[Any]:
        return list(self.readers)

    def getWriters(self) -> list[Any]:
        return list(self.writers)


def errorEntry(code: int, destination: Address, origin: int = 2) -> tuple[Any, ...]:
    """An entry of the error queue, as C{recvmsg} gives it."""
    header = struct.pack("=IBBBBII", code, origin, 3, 3, 0, 0, 0)
    offender = struct.pack("=H", socket.AF_INET) + bytes([0, 0, 10, 0, 0, 1]) + bytes(8)
    return (b"", [(0, 11, header + offender)], 0, destination)


class FakeSocket:
    """
    A socket whose calls fail, and whose reads give, what was scripted.

    @ivar sent: the datagrams or runs that left: (bytes, segment size or None, address).
    @ivar failures: for each next sending call an errno to fail with, or None.
    @ivar refuse: decides on each sending call once C{failures} is used up.
    @ivar incoming: what reading gives: tuples, or errnos to fail with.
    @ivar errors: entries of the error queue.
    @ivar asked: the options that were read.
    @ivar sources: of the sending calls that named one.
    """

    family = socket.AF_INET

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, int | None, Address]] = []
        self.failures: deque[int | None] = deque()
        self.refuse: Any = lambda size, address: None
        self.incoming: deque[Any] = deque()
        self.errors: deque[Any] = deque()
        self.options: dict[tuple[int, int], int] = {
            (socket.SOL_SOCKET, socket.SO_RCVBUF): 1 << 20
        }
        self.asked: list[tuple[int, int]] = []
        self.reads = 0
        self.sources: list[bytes] = []
        self.closed = False

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options[level, option] = value

    def getsockopt(self, level: int, option: int) -> int:
        self.asked.append((level, option))
        return self.options.get((level, option), 0)

    def getsockname(self) -> Address:
        return ("192.0.2.9", 1234)

    def fileno(self) -> int:
        return -1 if self.closed else 7

    def close(self) -> None:
        self.closed = True

    def _send(self, data: bytes, size: int | None, address: Address) -> int:
        code = self.failures.popleft() if self.failures else self.refuse(size, address)
        if code is not None:
            raise refusal(code)
        self.sent.append((data, size, address))
        return len(data)

    def sendto(self, data: Any, address: Address) -> int:
        return self._send(bytes(data), None, address)

    def sendmsg(self, buffers: Any, ancillary: Any, flags: int, address: Address) -> int:
        sizes = [value for level, kind, value in ancillary if (level, kind) == (17, 103)]
        self.sources += [value for level, kind, value in ancillary if (level, kind) == (0, 8)]
        size = struct.unpack("=H", sizes[0])[0] if sizes else None
        return self._send(b"".join(buffers), size, address)

    def recvmsg(self, size: int, room: int, flags: int = 0) -> Any:
        if flags & socket.MSG_ERRQUEUE:
            source = self.errors
        else:
            assert not self.closed, "read after close"
            source = self.incoming
            self.reads += 1
        if not source:
            raise BlockingIOError(errno.EAGAIN, "nothing")
        item = source.popleft()
        if isinstance(item, int):
            raise refusal(item)
        return item


class Recorder:
    """
    A receiver that writes everything down.

    @ivar log: names and arguments of the calls, oldest first.
    @ivar hook: called with every entry.
    @ivar patient: the answer of C{patience}.
    """

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.hook: Any = lambda entry: None
        self.patient = 0
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def _write(self, *entry: Any) -> None:
        self.log.append(entry)
        self.hook(entry)
        for item in list(self._waiting):
            condition, waiter = item
            if condition():
                self._waiting.remove(item)
                waiter.callback(None)

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fires after the first entry from now on for which C{condition} is true, or at once."""
        if condition():
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._waiting.append((condition, waiter))
        return waiter

    def kinds(self) -> list[str]:
        """The names of the calls so far."""
        return [entry[0] for entry in self.log]

    def runReceived(self, run: bytes, size: int, address: Address) -> None:
        self._write("run", run, size, address)

    def turnEnded(self) -> None:
        self._write("turn")

    def portWritable(self) -> None:
        self._write("writable")

    def calledAt(self, local: bytes) -> None:
        self._write("calledAt", local)

    def patience(self) -> int:
        return self.patient

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        self._write("error", kind, size, address)

    def portLost(self, failure: Failure) -> None:
        self._write("lost", failure.type)

    def datagrams(self) -> list[bytes]:
        """All that arrived, cut into datagrams."""
        return [
            run[start : start + size]
            for kind, *rest in self.log
            if kind == "run"
            for run, size, _ in [rest]
            for start in range(0, len(run), size)
        ]


def fakePort(
    gso: bool = True, gro: bool = True, ready: Callable[[int], object] | None = None
) -> tuple[OwnPort, FakeSocket, FakeReactor, Recorder]:
    """A port on fakes, reading."""
    reactor, sock, receiver = FakeReactor(), FakeSocket(), Recorder()
    port = OwnPort(
        reactor, receiver, sock, SocketOptions(), gso, gro, ready=ready  # type: ignore[arg-type]
    )
    port.startReading()
    return port, sock, reactor, receiver
