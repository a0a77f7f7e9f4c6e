"""Protocols, factories and producers that write down what happens to them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IPullProducer,
    IPushProducer,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from .stages import Stage

Hook = Callable[["Recorder"], object]

CALLBACKS = ("connectionMade", "dataReceived", "connectionLost")


def pattern(size: int) -> bytes:
    """So many bytes that repeat nowhere, the same every time."""
    return random.Random(size).randbytes(size)


class Recorder(Protocol):
    """
    A protocol that notes its callbacks and may react to each.

    @ivar events: the names of the callbacks so far, repetitions of C{dataReceived}
        once.
    @ivar received: all bytes.
    @ivar chunks: the length of each piece.
    @ivar lost: the reason given to C{connectionLost}, or None.
    @ivar hooks: what to do inside a callback, by its name.
    @ivar violations: callbacks that came after the last one or inside of something
        else (ORD-1, ORD-2), for a person to read.
    """

    transport: Any

    def __init__(self, stage: Stage) -> None:
        self.events: list[str] = []
        self.received = bytearray()
        self.chunks: list[int] = []
        self.lost: Failure | None = None
        self.hooks: dict[str, Hook] = {}
        self.violations: list[str] = []
        self._stage = stage
        self._inside: str | None = None

    def call(self, method: str, *arguments: object) -> Any:
        """Call a method of the transport and note which callbacks come from inside it."""
        outer, self._inside = self._inside, self._inside or method
        try:
            return getattr(self.transport, method)(*arguments)
        finally:
            self._inside = outer

    def connectionMade(self) -> None:
        self._enter("connectionMade")

    def dataReceived(self, data: bytes) -> None:
        if type(data) is not bytes:
            self.violations.append(f"dataReceived was given {type(data)}")
        self.received += data
        self.chunks.append(len(data))
        self._enter("dataReceived")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not isinstance(reason, Failure):
            self.violations.append(f"connectionLost was given {type(reason)}")
        if self.lost is None:
            self.lost = reason
        self._enter("connectionLost")

    def _enter(self, name: str) -> None:
        """Note a callback and run its hook."""
        if self._inside is not None:
            self.violations.append(f"{name} inside {self._inside}")
        if "connectionLost" in self.events:
            self.violations.append(f"{name} after connectionLost")
        if not self.events and name != "connectionMade":
            self.violations.append(f"{name} before connectionMade")
        if name != "dataReceived" or self.events[-1:] != [name]:
            self.events.append(name)
        outer, self._inside = self._inside, name
        try:
            if name in self.hooks:
                self.hooks[name](self)
        finally:
            self._inside = outer
            self._stage.changed()


@implementer(IHalfCloseableProtocol)
class HalfCloseRecorder(Recorder):
    """A recorder that survives the end of one direction."""

    def readConnectionLost(self) -> None:
        self._enter("readConnectionLost")

    def writeConnectionLost(self) -> None:
        self._enter("writeConnectionLost")


class RecordingFactory(Factory):
    """
    A factory that notes its life.

    @ivar events: C{doStart}, C{buildProtocol} and C{doStop}, in order.
    @ivar addresses: the peers it was asked about.
    @ivar built: the protocols it made, oldest first.
    @ivar hooks: what each protocol gets.
    @ivar answer: called for each peer instead of making a protocol, if set; may
        return None or raise.
    """

    noisy = False

    def __init__(self, stage: Stage, recorder: type[Recorder] = Recorder, **hooks: Hook) -> None:
        self.events: list[str] = []
        self.addresses: list[Any] = []
        self.built: list[Recorder] = []
        self.hooks = hooks
        self.answer: Callable[[], Any] | None = None
        self._stage = stage
        self._recorder = recorder

    @property
    def made(self) -> list[Recorder]:
        """The protocols that have been connected."""
        return [recorder for recorder in self.built if recorder.events]

    def doStart(self) -> None:
        self.events.append("doStart")

    def doStop(self) -> None:
        self.events.append("doStop")
        self._stage.changed()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        self.events.append("buildProtocol")
        self.addresses.append(addr)
        self._stage.changed()
        if self.answer is not None:
            return self.answer()
        recorder = self._recorder(self._stage)
        recorder.factory = self
        recorder.hooks.update(self.hooks)
        self.built.append(recorder)
        return recorder


class Producer:
    """
    Writes so many pieces and unregisters itself.

    @ivar calls: the methods the transport called, in order.
    @ivar left: pieces still to be written.
    @ivar written: bytes written.
    """

    def __init__(self, recorder: Recorder, stage: Stage, piece: bytes, pieces: int) -> None:
        self.calls: list[str] = []
        self.left = pieces
        self.written = 0
        self._recorder = recorder
        self._stage = stage
        self._piece = piece

    def register(self) -> None:
        """Register with the recorder's transport."""
        streaming = IPushProducer.providedBy(self)
        self._recorder.transport.registerProducer(self, streaming)

    def stopProducing(self) -> None:
        self.calls.append("stop")
        self.left = 0
        self._stage.changed()

    def _write(self) -> None:
        """Write one piece; after the last one unregister."""
        self.left -= 1
        self.written += len(self._piece)
        self._recorder.transport.write(self._piece)
        if not self.left:
            self._recorder.transport.unregisterProducer()
        self._stage.changed()


@implementer(IPushProducer)
class Pusher(Producer):
    """Writes one piece each turn unless it is paused."""

    def __init__(self, recorder: Recorder, stage: Stage, piece: bytes, pieces: int) -> None:
        super().__init__(recorder, stage, piece, pieces)
        self.paused = False

    def start(self) -> None:
        """Register and begin."""
        self.register()
        self._turn()

    def pauseProducing(self) -> None:
        self.calls.append("pause")
        self.paused = True
        self._stage.changed()

    def resumeProducing(self) -> None:
        self.calls.append("resume")
        if self.paused:
            self.paused = False
            self._stage.clientReactor.callLater(0, self._turn)

    def _turn(self) -> None:
        if self.left and not self.paused:
            self._write()
            if self.left and not self.paused:
                self._stage.clientReactor.callLater(0, self._turn)


@implementer(IPullProducer)
class Puller(Producer):
    """
    Writes one piece whenever it is asked.

    @ivar nested: times it was asked from inside its own writing.
    """

    def __init__(self, recorder: Recorder, stage: Stage, piece: bytes, pieces: int) -> None:
        super().__init__(recorder, stage, piece, pieces)
        self.nested = 0
        self._writing = False

    def resumeProducing(self) -> None:
        self.calls.append("resume")
        self.nested += self._writing
        if self.left:
            self._writing = True
            self._write()
            self._writing = False
