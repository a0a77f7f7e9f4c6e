# mypy: allow-untyped-calls
"""The base of all conformance test cases."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.interfaces import (
    IListeningPort,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.trial.unittest import TestCase

from .actors import Hook, Recorder, RecordingFactory
from .stages import Condition, Stage
from .transport import Capability, Transport


class Pair(NamedTuple):
    """The two ends of a connection."""

    client: Recorder
    server: Recorder


class ConformanceCase(TestCase):
    """
    One topic of the suite, made concrete by
    L{makeTestCases<twisted_rudp.testing.conformance.makeTestCases>}.

    @cvar needs: what a transport must be capable of to be tested here.
    @cvar lacks: what it must not be capable of.
    @cvar simulated: True for a topic that needs the simulated network, False for one
        that needs the global reactor, None for one that plays anywhere.
    """

    needs: ClassVar[Capability] = Capability(0)
    lacks: ClassVar[Capability] = Capability(0)
    simulated: ClassVar[bool | None] = None
    timeout: ClassVar[float] = 120.0

    transport: ClassVar[Transport]
    stageClass: ClassVar[type[Stage]]

    def setUp(self) -> None:
        self.stage = self.stageClass()
        self.factories: list[RecordingFactory] = []
        self.ports: list[IListeningPort] = []
        self.closed: list[Condition] = []

    def tearDown(self) -> Any:
        """
        Close what is open; then nothing may be left, and no callback may have come
        out of order (ORD-1, ORD-2, CLOSE-10).
        """
        return ensureDeferred(self._closeAll())

    async def _closeAll(self) -> None:
        live = [r for r in self.recorders if r.events and r.lost is None]
        for recorder in live:
            recorder.transport.abortConnection()
        limit = self.transport.deadPeerLimit
        await self.stage.until(lambda: all(r.lost for r in live), limit)
        await self.stage.until(lambda: all(condition() for condition in self.closed), limit)
        for port in self.ports:
            await self.stop(port)
        self.assertEqual([r.violations for r in self.recorders if r.violations], [])
        self.assertEqual(self.stage.leftovers(), [])

    @property
    def recorders(self) -> list[Recorder]:
        return [recorder for factory in self.factories for recorder in factory.built]

    # making things

    def factory(self, recorder: type[Recorder] = Recorder, **hooks: Hook) -> RecordingFactory:
        """
        A factory of this test.

        @param hooks: what its protocols do inside their callbacks.
        """
        factory = RecordingFactory(self.stage, recorder, **hooks)
        self.factories.append(factory)
        return factory

    def serverEndpoint(self, port: int = 0) -> IStreamServerEndpoint:
        stage = self.stage
        return self.transport.server(stage.serverReactor, port, stage.serverHost)

    def clientEndpoint(
        self,
        port: IListeningPort | int,
        host: str | None = None,
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> IStreamClientEndpoint:
        """
        @param port: a listening port, or a number.
        @param host: by default the server's address.
        """
        number = port if isinstance(port, int) else self.numberOf(port)
        return self.transport.client(
            self.stage.clientReactor,
            self.stage.serverHost if host is None else host,
            number,
            timeout,
            bindAddress,
        )

    @staticmethod
    def numberOf(port: IListeningPort) -> int:
        """The number a port is bound to."""
        host: Any = port.getHost()
        number: int = host.port
        return number

    async def listen(self, factory: Any, port: int = 0) -> IListeningPort:
        """Listen, and stop at the end of the test."""
        listening = await self.stage.result(self.serverEndpoint(port).listen(factory))
        self.ports.append(listening)
        return listening

    async def stop(self, port: IListeningPort) -> None:
        """Stop listening, and wait until that is done."""
        stopped = maybeDeferred(port.stopListening)
        await self.stage.result(stopped, self.transport.deadPeerLimit)

    async def connect(self, port: IListeningPort, factory: Any) -> Any:
        """
        @return: the connected protocol.
        """
        return await self.stage.result(self.clientEndpoint(port).connect(factory))

    async def join(self, port: IListeningPort, server: RecordingFactory) -> Pair:
        """One more connection to a port."""
        client = self.factory()
        before = len(server.made)
        await self.connect(port, client)
        await self.stage.until(lambda: len(server.made) > before)
        return Pair(client.built[0], server.made[-1])

    async def pair(
        self,
        client: RecordingFactory | None = None,
        server: RecordingFactory | None = None,
    ) -> Pair:
        """A connection, both of whose ends have been made."""
        client = self.factory() if client is None else client
        server = self.factory() if server is None else server
        await self.connect(await self.listen(server), client)
        await self.stage.until(lambda: server.made)
        return Pair(client.built[0], server.made[0])

    async def lost(self, *recorders: Recorder, limit: float = 60.0) -> None:
        """Wait until these connections are lost."""
        await self.stage.until(lambda: all(r.lost for r in recorders), limit)

    async def received(self, recorder: Recorder, size: int) -> None:
        """Wait until so many bytes have come."""
        await self.stage.until(lambda: len(recorder.received) >= size)

    # asserting

    def assertLost(self, recorder: Recorder, *reasons: type[BaseException]) -> None:
        """The connection was lost, last of all and once, for one of these reasons."""
        assert recorder.lost is not None, "still connected"
        self.assertTrue(recorder.lost.check(*reasons), repr(recorder.lost))
        self.assertEqual(recorder.events.count("connectionLost"), 1)
        self.assertEqual(recorder.events[-1], "connectionLost")

    async def assertFails(
        self, deferred: Deferred[Any], *kinds: type[BaseException], limit: float = 60.0
    ) -> BaseException:
        """
        The Deferred fails in one of these ways.

        @return: the exception.
        """
        try:
            result = await self.stage.result(deferred, limit)
        except kinds as error:
            return error
        return self.fail(f"got {result!r} instead of a failure")
