"""
Tests for the conformance suite itself: that it notices what it is there to notice,
and that nothing is left out but by declaration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer, IPushProducer
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.testing import NotReached
from twisted_rudp.testing.conformance import (
    TOPICS,
    Capability,
    ConformanceCase,
    RealSockets,
    Simulation,
    Transport,
    makeTestCases,
    reading,
)
from twisted_rudp.testing.conformance.actors import (
    HalfCloseRecorder,
    Puller,
    Pusher,
    Recorder,
    RecordingFactory,
    pattern,
)


class Paper(Transport):
    """A transport that exists on paper only."""

    name = "Paper"

    def __init__(self, capabilities: Capability) -> None:
        self.given = capabilities

    @property
    def capabilities(self) -> Capability:  # type: ignore[override]
        return self.given

    def server(self, *arguments: Any) -> Any:
        raise NotImplementedError

    client = server


ALL = ~Capability(0)


class MakingTests(SynchronousTestCase):
    """Which topics become test cases."""

    def made(self, capabilities: Capability, stage: Any) -> dict[str, type[ConformanceCase]]:
        return makeTestCases(Paper(capabilities), stage, "some.module")

    def topics(self, capabilities: Capability, stage: Any) -> set[type]:
        return {made.__bases__[0] for made in self.made(capabilities, stage).values()}

    def test_everyTopicIsMadeForSomebody(self) -> None:
        """No topic is left out whatever is declared."""
        made: set[type] = set()
        for capabilities in (ALL, Capability(0)):
            for stage in (RealSockets, Simulation):
                made |= self.topics(capabilities, stage)
        self.assertEqual(made, set(TOPICS))

    def test_capabilities(self) -> None:
        """What a topic needs must be declared, what it excludes must not be."""
        for stage in (RealSockets, Simulation):
            for topic in self.topics(ALL, stage):
                self.assertFalse(topic.lacks)  # type: ignore[attr-defined]
            for topic in self.topics(Capability(0), stage):
                self.assertFalse(topic.needs)  # type: ignore[attr-defined]

    def test_stages(self) -> None:
        """
        Topics that need losses and time are not made for real sockets, those that
        need the global reactor are not made for the simulation.
        """
        real, simulated = (self.topics(ALL, stage) for stage in (RealSockets, Simulation))
        self.assertEqual({t.simulated for t in real - simulated}, {False})  # type: ignore[attr-defined]
        self.assertEqual({t.simulated for t in simulated - real}, {True})  # type: ignore[attr-defined]

    def test_names(self) -> None:
        """
        Test cases belong to the module that asked, and are named after transport,
        stage and topic.
        """
        made = self.made(ALL, Simulation)
        self.assertIn("PaperSimulationReadingTests", made)
        self.assertEqual({case.__module__ for case in made.values()}, {"some.module"})

    def test_chosen(self) -> None:
        """A transport may be given a part of the topics."""
        made = makeTestCases(Paper(ALL), Simulation, "some.module", [reading.Reading])
        self.assertEqual([*made], ["PaperSimulationReadingTests"])

    def test_everyTestNamesItsRule(self) -> None:
        """Each test says in its docstring which rule or item it proves, or what happens."""
        for topic in TOPICS:
            for name in dir(topic):
                if name.startswith("test_"):
                    self.assertTrue(getattr(topic, name).__doc__, f"{topic.__name__}.{name}")


class RecorderTests(SynchronousTestCase):
    """The recorder notices every breach of order."""

    def setUp(self) -> None:
        self.stage = Simulation()
        self.recorder = Recorder(self.stage)

    def lose(self) -> None:
        self.recorder.connectionLost(Failure(ValueError()))

    def assertViolations(self, *expected: str) -> None:
        self.assertEqual(self.recorder.violations, list(expected))

    def test_goodOrder(self) -> None:
        """A life as it should be."""
        self.recorder.makeConnection(StringTransport())
        for data in (b"ab", b"c"):
            self.recorder.dataReceived(data)
        self.lose()
        self.assertViolations()
        self.assertEqual(self.recorder.events, ["connectionMade", "dataReceived", "connectionLost"])
        self.assertEqual((self.recorder.received, self.recorder.chunks), (b"abc", [2, 1]))

    def test_tooEarly(self) -> None:
        """ORD-1: something before connectionMade."""
        self.recorder.dataReceived(b"x")
        self.assertViolations("dataReceived before connectionMade")

    def test_tooLate(self) -> None:
        """ORD-1: something after connectionLost."""
        self.recorder.makeConnection(StringTransport())
        self.lose()
        self.recorder.dataReceived(b"x")
        self.lose()
        self.assertViolations(
            "dataReceived after connectionLost", "connectionLost after connectionLost"
        )

    def test_insideMethod(self) -> None:
        """ORD-2: a callback from inside a transport's method."""

        class Eager(StringTransport):
            def write(inner, data: bytes) -> None:
                self.recorder.dataReceived(data)

        self.recorder.makeConnection(Eager())
        self.recorder.call("write", b"x")
        self.assertViolations("dataReceived inside write")

    def test_insideCallback(self) -> None:
        """ORD-2: a callback from inside another."""
        self.recorder.hooks["dataReceived"] = lambda r: self.lose()
        self.recorder.makeConnection(StringTransport())
        self.recorder.dataReceived(b"x")
        self.assertViolations("connectionLost inside dataReceived")

    def test_afterRaising(self) -> None:
        """A hook that raises leaves the recorder as it was."""
        self.recorder.makeConnection(StringTransport())
        self.recorder.hooks["dataReceived"] = lambda r: 1 / 0
        self.assertRaises(ZeroDivisionError, self.recorder.dataReceived, b"x")
        self.lose()
        self.assertViolations()

    def test_wrongTypes(self) -> None:
        """CLOSE-8, FLOW-11: the reason is a Failure and data is bytes."""
        self.recorder.makeConnection(StringTransport())
        self.recorder.dataReceived(bytearray(b"x"))  # type: ignore[arg-type]
        self.recorder.connectionLost(ValueError())  # type: ignore[arg-type]
        self.assertEqual(len(self.recorder.violations), 2)

    def test_halfClose(self) -> None:
        """Only one kind of recorder is half-closeable."""
        self.assertFalse(IHalfCloseableProtocol.providedBy(self.recorder))
        other = HalfCloseRecorder(self.stage)
        self.assertTrue(IHalfCloseableProtocol.providedBy(other))
        other.makeConnection(StringTransport())
        other.readConnectionLost()
        other.writeConnectionLost()
        self.assertEqual(
            other.events, ["connectionMade", "readConnectionLost", "writeConnectionLost"]
        )


class FactoryTests(SynchronousTestCase):
    """What the factory notes."""

    def test_life(self) -> None:
        """Starts, stops and peers in order; protocols get the hooks."""
        seen: list[Recorder] = []
        factory = RecordingFactory(Simulation(), connectionMade=seen.append)
        factory.doStart()
        built = factory.buildProtocol(None)
        self.assertEqual((factory.built, factory.made), ([built], []))
        built.makeConnection(StringTransport())
        factory.doStop()
        self.assertEqual((factory.made, seen), ([built], [built]))
        self.assertEqual(factory.events, ["doStart", "buildProtocol", "doStop"])

    def test_answer(self) -> None:
        """The answer may be given by the test."""
        factory = RecordingFactory(Simulation())
        factory.answer = lambda: None
        self.assertIs(factory.buildProtocol(None), None)
        self.assertEqual(factory.built, [])


class ProducerTests(SynchronousTestCase):
    """Producers do as they are told."""

    def setUp(self) -> None:
        self.stage = Simulation()
        self.recorder = Recorder(self.stage)
        self.transport = StringTransport()
        self.recorder.makeConnection(self.transport)

    def test_pusher(self) -> None:
        """A pusher writes a piece a turn, not while paused, and unregisters itself."""
        pusher = Pusher(self.recorder, self.stage, b"ab", 3)
        self.assertTrue(IPushProducer.providedBy(pusher))
        pusher.start()
        self.assertIs(self.transport.producer, pusher)
        pusher.pauseProducing()
        self.stage.network.runFor(1)
        self.assertEqual(self.transport.value(), b"ab")
        pusher.resumeProducing()
        self.assertEqual(self.transport.value(), b"ab")
        self.stage.network.runFor(1)
        self.assertEqual(self.transport.value(), b"ababab")
        self.assertIs(self.transport.producer, None)
        self.assertEqual((pusher.calls, pusher.written), (["pause", "resume"], 6))

    def test_stopped(self) -> None:
        """A stopped pusher writes no more."""
        pusher = Pusher(self.recorder, self.stage, b"ab", 3)
        pusher.start()
        pusher.stopProducing()
        self.stage.network.runFor(1)
        self.assertEqual((self.transport.value(), pusher.calls), (b"ab", ["stop"]))

    def test_puller(self) -> None:
        """A puller writes when asked and notices when it is asked from inside."""
        puller = Puller(self.recorder, self.stage, b"ab", 3)
        self.assertTrue(IPullProducer.providedBy(puller))
        self.assertFalse(IPushProducer.providedBy(puller))
        puller.register()
        puller.resumeProducing()
        self.assertEqual((self.transport.value(), puller.nested), (b"ab", 0))
        puller.left = 10
        self.transport.write = lambda data: puller.left > 5 and puller.resumeProducing()
        puller.resumeProducing()
        self.assertEqual(puller.nested, 4)

    def test_pattern(self) -> None:
        """Patterns are reproducible and do not repeat themselves."""
        self.assertEqual(pattern(1000), pattern(1000))
        self.assertEqual(len({pattern(4000)[n : n + 4] for n in range(0, 4000, 4)}), 1000)


class StageTests(SynchronousTestCase):
    """Waiting in simulated time."""

    def test_waiting(self) -> None:
        """Conditions and Deferreds are waited for as long as the limit allows."""
        stage = Simulation()
        seen: list[str] = []
        stage.clientReactor.callLater(5, seen.append, "x")
        self.successResultOf(stage.until(lambda: seen))
        self.assertRaises(NotReached, stage.until, lambda: len(seen) > 1)
        waiting: Deferred[str] = Deferred()
        stage.clientReactor.callLater(5, waiting.callback, "y")
        self.assertEqual(self.successResultOf(stage.result(waiting)), "y")

    def test_leftovers(self) -> None:
        """Timers, sockets and triggers that a transport leaves behind are found."""
        from twisted.internet.protocol import DatagramProtocol

        stage = Simulation()
        self.assertEqual(stage.leftovers(), [])
        port = stage.clientReactor.listenUDP(0, DatagramProtocol())
        timer = stage.clientReactor.callLater(1000, int)
        trigger = stage.clientReactor.addSystemEventTrigger("before", "shutdown", int)
        self.assertEqual(len(stage.leftovers()), 3)
        port.stopListening()
        timer.cancel()
        stage.clientReactor.removeSystemEventTrigger(trigger)
        self.assertEqual(stage.leftovers(), [])


class TearDownTests(SynchronousTestCase):
    """What the end of each conformance test finds."""

    def outcome(self, mess: Callable[[Any], object]) -> str:
        """
        @return: the problems that a test has, which makes such a mess.
        """

        class Messy(ConformanceCase):
            transport = Paper(ALL)
            stageClass = Simulation

            async def test_mess(self) -> None:
                mess(self)

        result = TestResult()
        Messy("test_mess").run(result)
        return "".join(str(problem[1].value) for problem in [*result.failures, *result.errors])

    def test_clean(self) -> None:
        """A clean test passes."""
        self.assertEqual(self.outcome(lambda case: None), "")

    def test_timer(self) -> None:
        """CLOSE-10: a timer left over fails the test."""
        self.assertIn(
            "DelayedCall", self.outcome(lambda case: case.stage.clientReactor.callLater(99, int))
        )

    def test_violation(self) -> None:
        """ORD-1: a breach of order fails the test, whatever else it was about."""

        def early(case: Any) -> None:
            case.factory().buildProtocol(None).connectionLost(Failure(ValueError()))

        self.assertIn("before connectionMade", self.outcome(early))
