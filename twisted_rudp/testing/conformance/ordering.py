# mypy: allow-untyped-calls
"""
Order and re-entrancy: section 8 of the rules.

The tests of L{Reentrancy} and L{Collisions} are made from tables: one for every
transport method inside every callback, one for every pair of ways to end.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet import error

from .actors import CALLBACKS, Pusher, Recorder
from .case import ConformanceCase, Pair
from .closing import SILENT
from .connecting import ApplicationError

METHODS: dict[str, tuple[object, ...]] = SILENT | {
    "getHost": (),
    "getPeer": (),
    "setTcpNoDelay": (True,),
    "setTcpKeepAlive": (True,),
    "logPrefix": (),
}
"""What a protocol may call on its transport at any time."""

AT_THE_END = {method: f"TR-4 {method}" for method in METHODS} | {
    "getHost": "TR-6",
    "setTcpNoDelay": "TR-7",
    "setTcpKeepAlive": "TR-7",
}
"""The rules by which the methods work inside connectionLost."""

RAISES = ("TR-6", "TR-7")
"""Those whose violation is known to be an exception. What else a method may do at the
end is not defined, and such a method is then not called."""

ENDINGS = ("lose", "abort", "peerLoses", "peerAborts", "raise")

Test = Callable[[Any], Coroutine[Any, Any, None]]


class Reentrancy(ConformanceCase):
    """Item 14: every method from inside every callback."""

    async def callInside(self, callback: str, act: Callable[[Recorder], object]) -> None:
        """
        Do something inside the first call of a callback, let it have its effect, and
        end: the order of callbacks must hold throughout, which C{tearDown} checks.
        """
        acted: list[object] = []

        def once(recorder: Recorder) -> None:
            if not acted:
                acted.append(True)
                act(recorder)

        server = self.factory()
        server.hooks[callback] = once
        near, far = await self.pair(server=server)
        near.transport.write(b"wake up")
        if callback == "connectionLost":
            await self.received(far, 7)
            near.transport.loseConnection()
            await self.lost(far)
        await self.stage.until(lambda: acted)
        await self.stage.settle()
        near.transport.abortConnection()
        if far.lost is None:
            far.transport.abortConnection()
        await self.lost(near, far)
        self.assertEqual(far.events.count("connectionLost"), 1)

    def makeProducer(self, recorder: Recorder) -> None:
        producer = Pusher(recorder, self.stage, b"x", 3)
        producer.register()
        if not producer.calls:
            self.stage.serverReactor.callLater(0, recorder.transport.unregisterProducer)


def _inside(callback: str, method: str, arguments: tuple[object, ...]) -> Test:
    async def test(self: Reentrancy) -> None:
        rule = AT_THE_END[method] if callback == "connectionLost" else "ORD-2"

        def act(recorder: Recorder) -> None:
            if self.transport.follows(rule):
                recorder.call(method, *arguments)
            elif rule in RAISES:
                self.assertRaises(AttributeError, recorder.call, method, *arguments)

        await self.callInside(callback, act)

    test.__doc__ = f"ORD-2: {method} inside {callback}."
    return test


def _producerInside(callback: str) -> Test:
    async def test(self: Reentrancy) -> None:
        await self.callInside(callback, self.makeProducer)

    test.__doc__ = f"ORD-2: registerProducer inside {callback}."
    return test


for _callback in CALLBACKS:
    for _method, _arguments in METHODS.items():
        setattr(Reentrancy, f"test_{_method}_{_callback}", _inside(_callback, _method, _arguments))
    setattr(Reentrancy, f"test_registerProducer_{_callback}", _producerInside(_callback))


class Collisions(ConformanceCase):
    """
    ORD-1: whatever ends a connection, and whatever else does in the same turn, there
    is one connectionLost and nothing after it.
    """

    def end(self, how: str, pair: Pair) -> None:
        """Begin to end a connection in one of the L{ENDINGS}."""
        near, far = pair
        if how == "lose":
            near.call("loseConnection")
        elif how == "abort":
            near.call("abortConnection")
        elif how == "peerLoses":
            far.call("loseConnection")
        elif how == "peerAborts":
            far.call("abortConnection")
        else:
            far.transport.write(b"raise")

    async def collide(self, *endings: str) -> None:
        def explode(recorder: Recorder) -> None:
            raise ApplicationError("on purpose")

        pair = await self.pair(self.factory(dataReceived=explode))
        for ending in endings:
            self.end(ending, pair)
        await self.lost(*pair, limit=self.transport.deadPeerLimit)
        await self.stage.settle()
        kinds = (error.ConnectionDone, error.ConnectionLost, error.ConnectionAborted)
        self.assertLost(pair.client, *kinds, ApplicationError)
        self.assertLost(pair.server, *kinds)
        logged = len(self.flushLoggedErrors(ApplicationError))
        raised = pair.client.lost is not None and pair.client.lost.check(ApplicationError)
        self.assertEqual(logged, 1 if raised else logged)
        self.assertTrue(logged <= 1)


def _collision(first: str, second: str) -> Test:
    async def test(self: Collisions) -> None:
        await self.collide(first, second)

    test.__doc__ = f"ORD-1: {first}, then {second} in the same turn."
    return test


for _first in ENDINGS:
    for _second in ENDINGS:
        setattr(Collisions, f"test_{_first}_{_second}", _collision(_first, _second))


class Plain(ConformanceCase):
    """ORD-2 for protocols that are not half-closeable."""

    async def test_writeDoesNotDeliver(self) -> None:
        """ORD-2: write never calls the protocol, even when data is waiting."""
        near, far = await self.pair()
        far.transport.write(b"waiting")
        near.call("write", b"x")
        self.assertEqual(near.received, b"")
        await self.received(near, 7)

    async def test_pingPong(self) -> None:
        """ORD-3: protocols that answer each piece at once do not recurse."""

        def answer(recorder: Recorder) -> None:
            if len(recorder.received) <= 500:
                recorder.call("write", b"x")

        near, _ = await self.pair(
            self.factory(dataReceived=answer), self.factory(dataReceived=answer)
        )
        near.transport.write(b"x")
        await self.received(near, 500)

    async def test_dyingDuringDispatch(self) -> None:
        """
        ORD-4: after an abort inside dataReceived nothing more is delivered, although
        more has come.
        """
        server = self.factory(dataReceived=lambda r: r.call("abortConnection"))
        near, far = await self.pair(server=server)
        near.transport.write(b"x" * self.stage.bulk)
        await self.lost(far)
        self.assertEqual(len(far.chunks), 1)
        self.assertLost(far, error.ConnectionAborted)
