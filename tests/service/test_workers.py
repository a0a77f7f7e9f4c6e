"""Tests for L{twisted_rudp.service.workers}: processes that share their sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.interpreter import CHECKOUT
from tests.service.programs import PATIENCE, TWIST, Program, freePort
from twisted_rudp.endpoints.kcp import KCPServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPServerEndpoint
from twisted_rudp.service.control import RequestError
from twisted_rudp.service.listening import StartupError
from twisted_rudp.service.options import Options, Services, makeService
from twisted_rudp.service.status import asked
from twisted_rudp.service.takeover import Takeover
from twisted_rudp.service.worker import Assignment, Reports
from twisted_rudp.service.workers import Shared, WorkersService, runWorkers

CLIENTS = 10
"""For each transport: one worker alone has them all in one of 512 runs, which would only make
less of the test."""

LINUX = sys.platform == "linux"


class Asking(Protocol):
    """A client that waits for each answer."""

    def __init__(self) -> None:
        self.answer: Deferred[bytes] | None = None
        self.lost: Deferred[None] = Deferred()

    def ask(self, question: bytes) -> Deferred[bytes]:
        self.answer = Deferred()
        transport: Any = self.transport
        transport.write(question)
        return self.answer

    def dataReceived(self, data: bytes) -> None:
        answer, self.answer = self.answer, None
        if answer is not None:
            answer.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class RunningTests(TestCase):
    """The whole of it."""

    timeout = PATIENCE
    if not LINUX:
        skip: ClassVar[str] = "only Linux has SO_ATTACH_REUSEPORT_CBPF"

    async def test_echo(self) -> None:
        """
        Sessions spread over two workers. One that is killed loses its own only, and is
        replaced; everybody can connect again. Status and metrics are those of both. At the
        end both are drained.
        """
        path = self.mktemp()
        program = Program(
            *TWIST, "rudp", "echo", "--workers", "2", "--control", path,
            "--listen", "kcp:0:interface=127.0.0.1:crypt=null",
            "--listen", "qotp:0:interface=127.0.0.1", "--listen", "tcp:0:interface=127.0.0.1",
        )  # fmt: skip
        self.addCleanup(program.kill)
        ports = [int(program.expect(r"workers share 127.0.0.1 port (\d+)")[1]) for _ in range(3)]
        for _ in range(2):
            program.expect(r"worker \d: ready")
        targets = [f"{kind}:host=127.0.0.1:port={port}" for kind, port in
                   zip(("kcp", "qotp"), ports, strict=False)]  # fmt: skip
        clients = [await self.connect(target) for target in targets * CLIENTS]
        tcp = await self.connect(f"tcp:host=127.0.0.1:port={ports[2]}")
        self.assertEqual(await tcp.ask(b"by stream"), b"by stream")

        state = asked(path, command="status")
        found = {
            int(session["peer"].rpartition(":")[2]): (session["worker"], port, session["session"])
            for port in state["ports"]
            for session in port["sessions"]
        }
        self.assertEqual([port["address"] for port in state["ports"]],
                         [f"127.0.0.1:{port}" for port in ports[:2]])  # fmt: skip
        self.assertEqual({each.transport.getHost().port for each in clients}, set(found))
        self.assertEqual(state["ports"][0]["counters"]["admitted"], CLIENTS)
        of: dict[int, list[Asking]] = {0: [], 1: []}
        for each in clients:
            of[found[each.transport.getHost().port][0]].append(each)

        kicked = clients[0]
        _, port, session = found[kicked.transport.getHost().port]
        asked(path, command="kick", port=port["port"], session=session)
        await kicked.lost
        of = {index: [each for each in group if each is not kicked] for index, group in of.items()}

        pids = {each["worker"]: each["pid"] for each in state["workers"]}
        os.kill(pids[0], signal.SIGKILL)
        program.expect("worker 0 has died with its sessions")
        program.expect("worker 0: ready")
        for each in of[1]:
            self.assertEqual(await each.ask(b"still here"), b"still here")
        for each in of[0]:
            # The new process tells the peers of the old one as soon as they say something.
            each.transport.write(b"lost")
            await each.lost
        again = [await self.connect(target) for target in targets * 2]
        program.process.terminate()
        for _ in range(2):
            program.expect(r"worker \d: echo kcp:.* stopped: ")
        for each in [*of[1], *again, tcp]:
            await each.lost
        program.end()
        self.assertNotIn("Traceback", program.output)

    async def connect(self, target: str) -> Any:
        """A client that has had an answer."""
        from twisted.internet import reactor

        client = await connectProtocol(clientFromString(reactor, target), Asking())
        self.addCleanup(self.end, client)
        self.assertEqual(await client.ask(b"hello"), b"hello")
        return client

    async def end(self, client: Any) -> None:
        """Leave nothing behind in the reactor."""
        from twisted.internet import reactor

        if not client.lost.called:
            client.transport.abortConnection()
            await client.lost
        await deferLater(reactor, 0, lambda: None)

    async def test_program(self) -> None:
        """C{examples/workers.py}: L{runWorkers} in a program."""
        port = freePort(socket.SOCK_DGRAM)
        program = Program(
            str(CHECKOUT / "examples" / "workers.py"), f"kcp:{port}:interface=127.0.0.1", "1"
        )
        self.addCleanup(program.kill)
        program.expect(r"worker 0: ready")
        client = await self.connect(f"kcp:host=127.0.0.1:port={port}")
        program.process.terminate()
        await client.lost
        self.assertEqual(program.end(), 0)
        self.assertNotIn("Traceback", program.output)


class FakeProcess:
    """What C{spawnProcess} returns."""

    pid = 1

    def __init__(self, protocol: Any, descriptors: dict[int, Any]) -> None:
        self.descriptors = descriptors
        self.protocol = protocol
        self.written = b""
        self.closed: list[int] = []
        self.signals: list[str] = []

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        self.written += data

    def closeChildFD(self, descriptor: int) -> None:
        self.closed.append(descriptor)

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)

    def report(self, line: str) -> None:
        self.protocol.childDataReceived(4, line.encode() + b"\n")

    def die(self) -> None:
        self.protocol.processEnded(Failure(RuntimeError("signal 9")))  # type: ignore[no-untyped-call]


class FakeReactor(MemoryReactorClock):
    """Remembers processes; calls at once what is to be called when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.stops = 0
        self.running = True

    def callWhenRunning(self, function: Any, *arguments: Any) -> None:
        function(*arguments)

    def spawnProcess(self, protocol: Any, *arguments: Any, **named: Any) -> FakeProcess:
        process = FakeProcess(protocol, named["childFDs"])
        protocol.makeConnection(process)
        self.processes.append(process)
        return process

    def stop(self) -> None:
        self.stops += 1


class ReplacingTests(SynchronousTestCase):
    """What the parent does with its workers."""

    if not LINUX:
        skip: ClassVar[str] = "only Linux has SO_ATTACH_REUSEPORT_CBPF"

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        endpoint = KCPServerEndpoint(self.reactor, 0, interface="127.0.0.1", crypt="null")
        self.service = WorkersService(self.reactor, ["-c", ""], [Shared("echo", endpoint)], 2)
        self.service.startService()
        self.addCleanup(self.end)

    def end(self) -> None:
        stopping = self.service.stopService()
        for process in self.reactor.processes:
            if not process.protocol.ended.called:
                process.die()
        self.successResultOf(stopping)

    def test_backOff(self) -> None:
        """
        A worker that dies is replaced later and later, with the same socket; one that has lived
        is replaced soon.
        """
        for process in self.reactor.processes:
            process.report('{"ready": true}')
        first = self.reactor.processes[0]
        for delay in (0.5, 1, 2, 4, 8, 16, 30, 30):
            count = len(self.reactor.processes)
            self.reactor.processes[-1 if count > 2 else 0].die()
            self.reactor.advance(delay * 0.99)
            self.assertEqual(len(self.reactor.processes), count)
            self.reactor.advance(delay * 0.02)
            self.assertEqual(len(self.reactor.processes), count + 1)
            self.assertEqual(self.reactor.processes[-1].descriptors, first.descriptors)
        self.reactor.advance(31)
        self.reactor.processes[-1].die()
        self.reactor.advance(0.51)
        self.assertEqual(len(self.reactor.processes), count + 2)
        self.flushLoggedErrors()

    def test_startFails(self) -> None:
        """Workers that do not come up at all end the program; what they print is in the log."""
        one = self.reactor.processes[0]
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        one.protocol.childDataReceived(2, b"RuntimeError: nothing works\n")
        one.die()
        self.reactor.advance(0)
        self.assertEqual((self.reactor.stops, len(self.reactor.processes)), (1, 2))
        texts = [formatEvent(event) for event in events]
        self.assertIn("worker 0: RuntimeError: nothing works", texts)
        self.assertIn("worker 0 has ended at the start: signal 9", texts)

    def test_log(self) -> None:
        """An event of a worker comes as it was, with the number of the worker."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        event = {"log_format": "{count} fields in {took:.1f} s", "log_level": LogLevel.warn,
                 "log_namespace": "here", "log_time": 5.0, "count": 7, "took": 0.2345}  # fmt: skip
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        reports = Reports(write)
        reports(event)
        os.close(write)
        self.reactor.processes[1].protocol.childDataReceived(4, os.read(read, 65536))
        [found] = events
        self.assertEqual(formatEvent(found), "worker 1: 7 fields in 0.2 s")
        self.assertEqual((found["worker"], found["count"], found["log_time"]), (1, 7, 5.0))
        self.assertIs(found["log_level"], LogLevel.warn)

    def test_banned(self) -> None:
        """A ban holds for the rest of its time in a worker that comes later."""
        one, two = self.reactor.processes
        two.report('{"ready": true}')
        answers = self.service.ask(command="ban", host="192.0.2.1", seconds=100)
        two.report('{"id": 1, "answer": {"kicked": 3}}')
        self.assertEqual(self.successResultOf(answers), {1: {"kicked": 3}})
        self.reactor.advance(40)
        one.report('{"ready": true}')
        self.assertIn(b'"seconds": 60.0', one.written)

    def test_silent(self) -> None:
        """A worker that does not answer is left out of the status, and killed at the end."""
        one, two = self.reactor.processes
        for process in (one, two):
            process.report('{"ready": true}')
        answers = self.service.ask(command="status")
        # An answer may come in pieces.
        two.protocol.childDataReceived(4, b'{"id": 1, "answ')
        two.report('er": {"pid": 7}}')
        self.assertNoResult(answers)
        self.reactor.advance(5)
        self.assertEqual(self.successResultOf(answers), {1: {"pid": 7}})
        stopping = self.service.stopService()
        self.assertEqual((one.closed, two.closed), ([0, 3], [0, 3]))
        two.die()
        self.reactor.advance(15)
        self.assertEqual(one.signals, ["KILL"])
        self.assertNoResult(stopping)
        one.die()
        self.successResultOf(stopping)
        self.assertEqual(two.signals, [])


class RenewingTests(SynchronousTestCase):
    """Workers with another configuration follow those that run, or those of another program."""

    if not LINUX:
        skip: ClassVar[str] = "only Linux has SO_ATTACH_REUSEPORT_CBPF"

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        place = ("udp", "127.0.0.1", "0")
        self.first = Shared("echo", self.endpoint(), place)
        self.second = Shared("other", self.endpoint(mtu=1000), place)
        self.service = WorkersService(
            self.reactor, ["-c", ""], [self.first], 2, follows=True, file="old"
        )
        self.addCleanup(self.end)

    def endpoint(self, **options: Any) -> KCPServerEndpoint:
        return KCPServerEndpoint(
            self.reactor, 0, interface="127.0.0.1", crypt="null", **options
        )

    def start(self) -> None:
        self.service.startService()
        self.ready(*self.reactor.processes)

    def end(self) -> None:
        stopping = self.service.stopService()
        for process in self.reactor.processes:
            if not process.protocol.ended.called:
                process.die()
        self.successResultOf(stopping)
        self.flushLoggedErrors()

    def ready(self, *processes: FakeProcess) -> None:
        for process in processes:
            process.report('{"ready": true}')

    def renew(self, *shared: Shared) -> Deferred[None]:
        return self.service.renew(
            shared, (), "new", {"udp 127.0.0.1 0": {"sndwnd": 7}}, 5
        )

    def assigned(self, process: FakeProcess) -> Assignment:
        return Assignment.of(process.written.splitlines()[0])

    def told(self, process: FakeProcess) -> list[Any]:
        """The requests so far."""
        return [json.loads(line)["request"] for line in process.written.splitlines()[1:]]

    def test_renewed(self) -> None:
        """
        New workers get the same sockets, and channels to the old ones, which are told when all
        of the new ones serve. An old one that ends is not replaced, a new one is.
        """
        self.start()
        renewed = self.renew(self.second)
        one, two, three, four = self.reactor.processes
        self.assertEqual(
            [(each.index, each.number, each.file) for each in
             map(self.assigned, self.reactor.processes)],
            [(0, 0, "old"), (1, 1, "old"), (0, 2, "new"), (1, 3, "new")],
        )  # fmt: skip
        self.assertEqual(one.descriptors[5], three.descriptors[5])
        self.assertEqual(two.descriptors[5], four.descriptors[5])
        [before], [after] = self.assigned(one).places, self.assigned(three).places
        self.assertEqual((before.key, before.secret), (after.key, after.secret))
        self.assertEqual((before.predecessor, before.successor), (None, 6))
        self.assertEqual((after.predecessor, after.successor), (6, 7))
        self.assertNotEqual(self.assigned(one).generation, self.assigned(three).generation)
        self.ready(three)
        self.assertEqual((self.told(one), self.told(three)), ([], []))
        self.assertNoResult(renewed)
        self.ready(four)
        self.successResultOf(renewed)
        told = {"command": "give-up", "taken": [0], "changes": {"0": {"sndwnd": 7}}}
        self.assertEqual([self.told(each) for each in (one, two, three)], [[told], [told], []])
        one.die()
        four.die()
        self.reactor.advance(1)
        [five] = self.reactor.processes[4:]
        self.assertEqual(self.assigned(five).index, 1)
        self.assertEqual(self.assigned(five).places[0].predecessor, 6)
        self.assertEqual(five.descriptors[6], four.descriptors[6])

    def test_notReady(self) -> None:
        """New workers that do not come up change nothing."""
        self.start()
        for what in ("dies", "silent", "old dies"):
            count = len(self.reactor.processes)
            renewed = self.renew(self.second)
            self.assertRaises(RequestError, self.renew, self.second)
            self.assertRaises(RequestError, self.service.offer)
            one, two = self.reactor.processes[count:]
            self.ready(one)
            if what == "dies":
                two.die()
            elif what == "silent":
                self.reactor.advance(100)
                self.assertEqual(two.signals, ["KILL"])
                two.die()
            else:
                self.reactor.processes[0].die()
            problem = self.failureResultOf(renewed, RequestError)
            self.assertIn("nothing was changed", problem.getErrorMessage())
            self.assertEqual(one.signals, ["KILL"])
            one.die()
            self.assertEqual(self.told(self.reactor.processes[1]), [])

    def test_otherSocket(self) -> None:
        """An address that is added has new sockets; one that is gone is given to nobody."""
        self.start()
        renewed = self.renew(Shared("new", self.endpoint(), ("udp", "127.0.0.1", "1")))
        one, _, three, four = self.reactor.processes
        self.assertNotEqual(one.descriptors[5], three.descriptors[5])
        self.assertIsNone(self.assigned(three).places[0].predecessor)
        self.ready(three, four)
        self.successResultOf(renewed)
        self.assertEqual(self.told(one)[0]["taken"], [])

    def test_otherTransport(self) -> None:
        """Other steering at the same address is refused: it would move open sessions."""
        self.start()
        qotp = QOTPServerEndpoint(self.reactor, 0, interface="127.0.0.1")
        problem = self.assertRaises(
            RequestError, self.renew, Shared("x", qotp, self.first.place)
        )
        self.assertIn("x: with --workers, another transport", str(problem))
        self.assertEqual(len(self.reactor.processes), 2)

    def test_takenOver(self) -> None:
        """Sockets and channels of all workers are offered; these end with their sessions."""
        self.start()
        handover = self.service.offer()
        [offer] = handover.offers
        self.assertEqual((offer.processes, offer.steering), (2, "ADDRESS"))
        self.assertEqual(len(handover.descriptors), offer.descriptors)
        self.assertEqual(handover.services([0]), [self.service])
        over = handover.taken([0])
        one, two = self.reactor.processes
        self.assertEqual([each["taken"] for each in self.told(one)], [[0]])
        one.die()
        self.assertNoResult(over)
        two.die()
        self.successResultOf(over)
        self.reactor.advance(100)
        self.assertEqual(len(self.reactor.processes), 2)

    def test_replacedMeanwhile(self) -> None:
        """What was offered of a worker that is gone cannot be taken."""
        self.start()
        handover = self.service.offer()
        self.reactor.processes[0].die()
        self.assertRaises(RequestError, self.service.offer)
        self.reactor.advance(1)
        self.ready(self.reactor.processes[-1])
        self.assertRaises(RequestError, handover.taken, [0])
        self.service.offer()
        self.assertEqual(self.told(self.reactor.processes[1]), [])

    def test_takesOver(self) -> None:
        """Workers get the sockets and channels of those of another program."""
        self.start()
        handover = self.service.offer()
        takeover = Takeover(None, "c")
        copies = [os.dup(each) for each in handover.descriptors]
        takeover.offered({0: (handover.offers[0], copies)})
        after = WorkersService(self.reactor, ["-c", ""], [self.second], 2, follows=True)
        after.takeFrom(takeover)
        takeover.close()
        after.startService()
        one, _, three, four = self.reactor.processes
        self.assertEqual(self.assigned(three).places[0].predecessor, 6)
        self.assertEqual(self.assigned(three).places[0].key, self.assigned(one).places[0].key)
        self.ready(three)
        self.assertNoResult(after.begun)
        # The old program goes on when one of these cannot be started.
        four.die()
        self.reactor.advance(0)
        self.assertEqual(self.reactor.stops, 1)
        stopping = after.stopService()
        three.die()
        self.successResultOf(stopping)


class OptionsTests(SynchronousTestCase):
    """C{--workers}."""

    def make(self, *arguments: str) -> Services:
        options = Options()
        options.parseOptions(list(arguments))
        service: Any = makeService(options)
        return service

    def test_services(self) -> None:
        """What listens runs in the workers, the rest in this process, one service for all."""
        services = list(self.make("echo", "--workers=3", "--listen=kcp:0", "--control=c"))
        self.assertEqual(
            [type(each).__name__ for each in services], ["WorkersService", "ControlService"]
        )
        services = list(self.make("echo", "--workers=1", "--listen=kcp:0"))
        self.assertEqual([type(each).__name__ for each in services], ["EchoService"])

    def test_config(self) -> None:
        """A configuration file has the number for all of its services."""
        path = self.mktemp()
        with open(path, "w", encoding="utf-8") as file:
            file.write('workers = 2\n[[echo]]\nlisten = "kcp:0"\n[[echo]]\nlisten = "qotp:0"\n')
        services = list(self.make("--config", path))
        self.assertEqual([type(each).__name__ for each in services], ["WorkersService"])
        with open(path, "w", encoding="utf-8") as file:
            file.write('workers = "many"\n[[echo]]\nlisten = "kcp:0"\n')
        self.assertIn("workers", str(self.assertRaises(UsageError, self.make, "--config", path)))

    def test_byHost(self) -> None:
        """C{--workers-by-host}, on a command line and in a file."""
        path = self.mktemp()
        with open(path, "w", encoding="utf-8") as file:
            file.write('workers = 2\nworkers-by-host = true\n[[echo]]\nlisten = "kcp:0"\n')
        flag = "--workers-by-host"
        for expected, arguments in (
            (False, ["echo", "--workers=2", "--listen=kcp:0"]),
            (True, ["echo", "--workers=2", flag, "--listen=kcp:0"]),
            (True, ["--config", path]),
        ):
            options = Options()
            options.parseOptions(arguments)
            self.assertEqual((options.workers, options.byHost), (2, expected))

    def test_nothing(self) -> None:
        """A service without connections has nothing to share."""
        arguments = ("announce", "--workers=2", "--id=alice", "--port=1")
        problem = self.assertRaises(StartupError, self.make, *arguments)
        self.assertIn("--workers", str(problem))

    def test_refused(self) -> None:
        """Endpoints that cannot be shared are named at the start."""
        for description in ("unix:/nowhere", "kcp:0:fd=5"):
            services = self.make("echo", "--workers=2", "--listen", description)
            problem = self.assertRaises(StartupError, services.privilegedStartService)
            self.assertIn(f"echo {description}: ", str(problem))

    def test_arguments(self) -> None:
        """Of programs."""
        self.assertRaises(ValueError, runWorkers, print, workers=2)
        self.assertRaises(ValueError, runWorkers, print, "kcp:0", workers=257)
