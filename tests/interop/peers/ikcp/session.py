"""What a session of this peer does with what it receives and has to send."""

from __future__ import annotations

import argparse
import hashlib
from collections import deque
from collections.abc import Callable, Iterator

from tests.interop.pattern import blocks, messages
from tests.interop.peers.ikcp.library import ControlBlock

Report = Callable[..., None]


class Session:
    """A conversation with one address."""

    def __init__(
        self, number: int, block: ControlBlock, plan: argparse.Namespace, report: Report
    ) -> None:
        self.number = number
        self.block = block
        self.open = True
        self._plan = plan
        self._report = report
        self._outgoing: deque[Iterator[bytes]] = deque()
        self._sent = 0
        self._digest = hashlib.sha256()
        self._announced = True
        self._received = self._pieces = 0
        self._bytes = hashlib.sha256()
        self._framed = hashlib.sha256()
        self._stopped = False

    def start(self) -> None:
        if self._plan.banner:
            self.write(self._plan.banner.encode())
        if self._plan.send:
            self.send(self._plan.send, self._plan.seed)

    def send(self, length: int, seed: int) -> None:
        if self._plan.mode == "messages":
            self._outgoing.append(messages(seed, length, self._plan.messagesize))
        else:
            self._outgoing.append(blocks(seed, length))
        self._announced = False

    def write(self, data: bytes) -> None:
        self._outgoing.append(iter([data]))

    def resume(self) -> None:
        self._stopped = False

    def work(self, now: int) -> None:
        """Read, write, and let the library flush: all that is due at this time."""
        while not self._stopped and self.open and (piece := self.block.receive()) is not None:
            self._take(piece)
        while self._outgoing and self.block.waiting < self._plan.sndwnd:
            self._put()
        self.block.update(now)
        if not self._announced and not self._outgoing and not self.block.waiting:
            sha256 = self._digest.hexdigest()
            self._report("sent", session=self.number, bytes=self._sent, sha256=sha256)
            self._announced = True

    def reportReceived(self, event: str) -> None:
        self._report(
            event,
            session=self.number,
            bytes=self._received,
            pieces=self._pieces,
            sha256=self._bytes.hexdigest(),
            framed=self._framed.hexdigest(),
        )

    def close(self) -> None:
        """Be silent from now on: this wire has no word for the end."""
        self.open = False
        self._report("closed", session=self.number)

    def _put(self) -> None:
        piece = next(self._outgoing[0], None)
        if piece is None:
            self._outgoing.popleft()
            return
        self._sent += len(piece)
        self._digest.update(piece)
        self.block.send(piece)

    def _take(self, piece: bytes) -> None:
        before = self._received
        self._received += len(piece)
        self._pieces += 1
        self._bytes.update(piece)
        self._framed.update(len(piece).to_bytes(4, "little") + piece)
        if self._plan.echo:
            self.write(piece)
        if before < self._plan.expect <= self._received:
            self.reportReceived("received")
        if before < self._plan.closeafter <= self._received:
            self.close()
        if before < self._plan.stopafter <= self._received:
            self.reportReceived("stopped")
            self._stopped = True
