"""Tests for L{twisted_rudp.discovery.server} and its table and file."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase
from zope.interface import implementer

from tests.vectors import COMPLETE, load
from twisted_rudp.discovery import v1
from twisted_rudp.discovery.server import DiscoveryServer
from twisted_rudp.discovery.servertable import CorruptFile, Place, ServerTable, save
from twisted_rudp.discovery.servertable import load as loadFile
from twisted_rudp.discovery.xdr import FormatError
from twisted_rudp.testing import MemoryHost, MemoryNetwork


class Asker(DatagramProtocol):
    """Collects answers."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.answers.append(datagram)


class ServerCase(SynchronousTestCase):
    """A server on a simulated network."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=1)
        self.machine = self.network.host("server")
        self.client = self.network.host("client")

    def serve(self, **options: Any) -> DiscoveryServer:
        server = DiscoveryServer(self.machine.reactor, **options)
        server.start()
        self.addCleanup(self.ended, server)
        return server

    def ended(self, server: DiscoveryServer) -> None:
        server.stop()
        self.network.runFor(1)
        self.assertEqual(self.network.clock.getDelayedCalls(), [])

    def send(self, datagram: bytes, host: MemoryHost | None = None, family: int = 4) -> list[bytes]:
        """Send from a fresh socket and give the answers."""
        host = host or self.client
        asker = Asker()
        port = host.reactor.listenUDP(0, asker, "" if family == 4 else "::")
        port.write(datagram, (self.machine.addresses[family == 6], 22025))
        self.network.runFor(0.01)
        port.stopListening()
        self.network.runFor(0.001)
        return asker.answers

    def announce(self, node: bytes, port: int = 4000, **where: Any) -> None:
        answers = self.send(v1.encode_announcement(v1.Announcement(port, node)), **where)
        self.assertEqual(answers, [])

    def ask(self, node: bytes, **where: Any) -> list[v1.Announcement | v1.Query]:
        return [v1.decode(answer) for answer in self.send(v1.encode_query(v1.Query(node)), **where)]


class AnswerTests(ServerCase):
    """What is answered."""

    def test_known(self) -> None:
        """A known node is answered with where it announced itself from (1.5)."""
        self.serve()
        self.announce(b"alice", 4000)
        ip = bytes([10, 0, 0, 2])
        self.assertEqual(self.ask(b"alice"), [v1.Announcement(4000, b"alice", ip)])
        self.assertEqual(self.ask(b"bob"), [])

    def test_families(self) -> None:
        """Both addresses of a node are kept, and the asker's family is preferred (1.6 rule 6)."""
        self.serve()
        self.announce(b"alice", 4000)
        self.announce(b"alice", 6000, family=6)
        for family, port, length in ((4, 4000, 4), (6, 6000, 16)):
            [answer] = self.ask(b"alice", family=family)
            assert isinstance(answer, v1.Announcement)
            self.assertEqual((answer.port, len(answer.ip)), (port, length))

    def test_silence(self) -> None:
        """
        Junk, old versions, empty ids and port 0 have no answer and change nothing (1.6
        rule 4).
        """
        server = self.serve()
        self.announce(b"alice", 0)
        self.announce(b"", 4000)
        self.send(b"junk")
        self.send(bytes.fromhex("23d63a9a"))
        self.assertEqual(self.ask(b""), [])
        self.assertEqual(len(server.table), 0)
        self.assertEqual(server.counters["bad"], 4)
        self.assertEqual(server.counters["old_version"], 1)
        counters = server.snapshot().counters
        self.assertEqual(counters["discovery.server.datagrams"], 5)

    def test_expiry(self) -> None:
        """After an hour nothing is known, asked for or not (1.5, 1.6 rule 3)."""
        server = self.serve()
        self.announce(b"alice")
        self.network.runFor(3590)
        self.assertEqual(len(self.ask(b"alice")), 1)
        self.network.runFor(10)
        self.assertEqual(self.ask(b"alice"), [])
        self.network.runFor(600)
        self.assertEqual((len(server.table), server.table.counters["expired"]), (0, 1))

    def test_fullQueries(self) -> None:
        """
        On request a query shorter than its answer has none, so that nothing is gained
        by forging its source (1.6 rule 6).
        """
        server = self.serve(fullQueries=True)
        self.announce(b"alice")
        self.assertEqual(self.ask(b"alice"), [])
        self.assertEqual(server.counters["short_query"], 1)

    def test_taken(self) -> None:
        """An address that cannot be had is an error at the start."""
        self.machine.reactor.listenUDP(22025, DatagramProtocol(), "::")
        server = DiscoveryServer(self.machine.reactor, interface=self.machine.addresses[1])
        self.assertRaises(CannotListenError, server.start)

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.lists(st.binary(max_size=80), max_size=12))
    def test_anything(self, wires: list[bytes]) -> None:
        """
        Whatever comes, an answer is at most 16 bytes longer than its query and nothing
        is raised.
        """
        server = DiscoveryServer(self.machine.reactor, sourceRate=1000, nodeRate=1000)
        server.start()
        for wire in wires:
            for magic in (b"", bytes.fromhex("20121025"), bytes.fromhex("19760309")):
                for answer in self.send(magic + wire):
                    self.assertLessEqual(len(answer), len(magic + wire) + 24)
        self.ended(server)


class LimitTests(ServerCase):
    """What unknown peers may do, discovery.md 5."""

    def test_recorded(self) -> None:
        """One source is dealt with as often as by the server of April 2014 (1.5)."""
        self.serve()
        recording = load("discovery", "server_rate_limit")
        answered = []
        for step in recording["steps"]:
            pause = re.fullmatch(r"after-(\d+)s-1", step["name"])
            if pause is not None:
                self.network.runFor(int(pause[1]))
            if step["name"].startswith("announce"):
                self.announce(b"node")
                answered.append(0)
            elif "ipv6" in step["name"]:
                # The recording had no bucket for the node.
                self.network.runFor(1)
                answered.append(len(self.ask(b"node", family=6)))
            else:
                answered.append(len(self.ask(b"node")))
        self.assertEqual(answered, [step["answered"] for step in recording["steps"]])

    def test_byNetwork(self) -> None:
        """On request a whole network is one source."""
        server = self.serve(byNetwork=True)
        hosts = [self.network.host(f"h{n}") for n in range(3)]
        for _ in range(5):
            for host in hosts:
                self.announce(b"node", host=host)
        self.assertEqual(server.counters["limited_source"], 4)

    def test_byNode(self) -> None:
        """One node is told of ten times at once and then once a second, whoever asks."""
        server = self.serve()
        self.announce(b"node")
        hosts = [self.network.host(f"h{n}") for n in range(4)]
        answers = [len(self.ask(b"node", host=host)) for _ in range(4) for host in hosts]
        self.assertEqual(sum(answers), 10)
        self.assertEqual(server.counters["limited_node"], 6)
        self.network.runFor(1)
        self.assertEqual(len(self.ask(b"node", host=hosts[0])), 1)

    def test_byAsker(self) -> None:
        """Forged queries of others about a node take none of the answers to an honest asker."""
        server = self.serve(sourceRate=100)
        self.announce(b"node")
        forgers = [self.network.host(f"forger{n}", f"198.51.{n}.1") for n in range(9)]
        for forger in forgers:
            for _ in range(12):
                self.ask(b"node", host=forger)
        self.assertGreater(server.counters["limited_node"], 0)
        self.assertEqual(len(self.ask(b"node")), 1)

    def test_forgedPlace(self) -> None:
        """
        A forged announcement does not replace the true place: who asks again gets the other
        one, and of the places of a node those that came first stay.
        """
        table = ServerTable(per_node=3)
        table.announce(b"node", b"true", 1, 0)
        for forged in range(10):
            table.announce(b"node", b"bad%d" % forged, 66, 1 + forged)
        self.assertEqual(len(table), 3)
        places = {table.find(b"node", 4, 20, turn) for turn in range(3)}
        self.assertEqual(
            {place and place.ip for place in places}, {b"true", b"bad0", b"bad9"}
        )
        self.assertEqual(table.counters["replaced"], 8)

    def test_turns(self) -> None:
        """Who asks again soon gets the next place; others begin with the newest."""
        self.serve(sourceRate=100)
        one, other = self.network.host("one"), self.network.host("other")
        self.announce(b"node", host=one)
        self.announce(b"node", host=other)
        askers = [self.network.host(f"asker{n}") for n in range(2)]
        answers = [self.ask(b"node", host=asker) for asker in askers for _ in range(3)]
        places = [answer.ip for [answer] in answers if isinstance(answer, v1.Announcement)]
        self.assertEqual(places, [places[0], places[1], places[0]] * 2)
        self.assertNotEqual(places[0], places[1])

    def test_table(self) -> None:
        """The table is capped, oldest out first, and so is the share of one address."""
        table = ServerTable(nodes=3, per_source=2)
        self.assertTrue(table.announce(b"a", bytes(4), 1, 0))
        self.assertTrue(table.announce(b"b", bytes(4), 1, 1))
        self.assertFalse(table.announce(b"c", bytes(4), 1, 2))
        self.assertTrue(table.announce(b"a", bytes(4), 2, 3))
        self.assertTrue(table.announce(b"c", b"....", 1, 4))
        self.assertTrue(table.announce(b"d", b"....", 1, 5))
        self.assertEqual([node for node, _ in table.dump()], [b"a", b"c", b"d"])
        self.assertEqual((table.counters["evicted"], table.counters["refused_source"]), (1, 1))
        self.assertTrue(table.announce(b"b", bytes(4), 1, 6))

    def test_longIds(self) -> None:
        """
        Ids may be as long as a datagram, but not all of them: their bytes are bounded
        together, so that what is written can be read again.
        """
        table = ServerTable(nodes=1000, per_source=1000)
        for number in range(1000):
            table.announce(b"%1000d" % number, bytes(4), 1, 0)
        self.assertEqual(len(table), 80)
        path = Path(self.mktemp())
        save(path, table.dump())
        self.assertLess(path.stat().st_size, table.longest_file)
        for number in range(1000):
            table.announce(b"%60d" % number, b"....", 1, 1)
        self.assertEqual(len(table), 1000)
        self.assertEqual(table.counters["evicted"], 920 + 80)


class FileTests(ServerCase):
    """The file between runs."""

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.mktemp())

    def test_restart(self) -> None:
        """A restart forgets nobody, and keeps the time."""
        server = self.serve(file=str(self.path))
        self.announce(b"a b\n\xff")
        self.network.runFor(1000)
        server.stop()
        self.network.runFor(1)
        server = self.serve(file=str(self.path))
        self.assertEqual(len(self.ask(b"a b\n\xff")), 1)
        self.network.runFor(2600)
        self.assertEqual(self.ask(b"a b\n\xff"), [])

    def test_written(self) -> None:
        """It is written every ten minutes, not only at an orderly end."""
        self.serve(file=str(self.path))
        self.announce(b"alice")
        self.network.runFor(601)
        self.assertEqual([node for node, _ in loadFile(self.path, 1 << 20)], [b"alice"])

    def test_corrupt(self) -> None:
        """A damaged file is reported and set aside; the server starts without it."""
        place = Place(bytes(4), 1, 0.0)
        save(self.path, [(b"alice", place), (b"bob", place)])
        good = self.path.read_text()
        for bad in (
            "",
            "nonsense",
            "[]",
            "{}",
            good[:-3],
            good.replace('"version": 1', '"version": 2'),
            good.replace("00000000", "0000"),
            good.replace(" 1 ", " 0 "),
            good.replace("616c696365", "xx"),
            good.replace(" 0.000", " nan"),
            "\n".join(good.splitlines()[1:]),
            good.replace("0.000\n", "\xff\n"),
        ):
            self.path.write_text(bad, encoding="latin-1")
            self.assertRaises(CorruptFile, loadFile, self.path, 1 << 20)
        self.path.write_text(good)
        self.assertRaises(CorruptFile, loadFile, self.path, len(good) - 1)
        self.path.write_text("nonsense")
        server = self.serve(file=str(self.path))
        self.assertEqual(len(server.table), 0)
        self.assertFalse(self.path.exists())
        self.assertTrue(self.path.with_name(self.path.name + ".corrupt").exists())
        self.announce(b"alice")
        self.assertEqual(len(self.ask(b"alice")), 1)

    def test_unwritable(self) -> None:
        """A file that cannot be written ends nothing."""
        server = self.serve(file=str(self.path / "missing" / "file"))
        self.announce(b"alice")
        self.network.runFor(601)
        self.assertEqual(len(self.ask(b"alice")), 1)
        self.assertEqual(len(server.table), 1)


@implementer(IReactorThreads)
class Threaded:
    """A reactor with one thread, which works when the test says so."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._work: list[Callable[[], None]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def getThreadPool(self) -> Threaded:
        return self

    def callInThreadWithCallback(
        self, done: Callable[[bool, Any], None], call: Callable[..., Any], *args: Any
    ) -> None:
        def work() -> None:
            try:
                result = call(*args)
            except OSError as problem:
                done(False, Failure(problem))  # type: ignore[no-untyped-call]
            else:
                done(True, result)

        self._work.append(work)

    def callFromThread(self, call: Callable[..., Any], *args: Any) -> None:
        call(*args)

    def callInThread(self, call: Callable[..., Any], *args: Any) -> None:
        raise NotImplementedError

    def suggestThreadPoolSize(self, size: int) -> None:
        raise NotImplementedError

    @property
    def waiting(self) -> int:
        return len(self._work)

    def work(self) -> None:
        """Do what is waiting."""
        self._work.pop(0)()


class ThreadTests(ServerCase):
    """The file of a server that goes on serving."""

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.mktemp())
        self.thread = Threaded(self.machine.reactor)

    def start(self, path: Path) -> DiscoveryServer:
        server = DiscoveryServer(self.thread, file=str(path))
        server.start()
        self.announce(b"alice")
        self.network.runFor(601)
        return server

    def saved(self) -> list[bytes]:
        return [node for node, _ in loadFile(self.path, 1 << 20)]

    def test_meanwhile(self) -> None:
        """
        The file is written in a thread, as the table was when that was begun; while it is
        not done, no other is begun.
        """
        server = self.start(self.path)
        self.assertEqual((self.thread.waiting, self.saved()), (1, []))
        self.announce(b"bob")
        self.network.runFor(600)
        self.assertEqual(self.thread.waiting, 1)
        self.thread.work()
        self.assertEqual(self.saved(), [b"alice"])
        self.network.runFor(600)
        self.thread.work()
        self.assertEqual(self.saved(), [b"alice", b"bob"])
        self.ended(server)
        self.assertEqual(self.thread.waiting, 0)

    def test_stoppedMeanwhile(self) -> None:
        """
        What is being written at the end does not replace what is written last; stopping
        waits for both.
        """
        server = self.start(self.path)
        self.announce(b"bob")
        stopped = server.stop()
        self.network.runFor(1)
        self.assertNoResult(stopped)
        self.thread.work()
        self.successResultOf(stopped)
        self.assertEqual(self.saved(), [b"alice", b"bob"])
        self.ended(server)

    def test_unwritable(self) -> None:
        """An error in the thread is logged, and the next time it is tried again."""
        server = self.start(self.path / "file")
        self.thread.work()
        self.path.mkdir()
        self.network.runFor(600)
        self.thread.work()
        self.assertEqual(len(loadFile(self.path / "file", 1 << 20)), 1)
        self.ended(server)


class RecordedTests(TestCase):
    """The session recorded with the server of December 2013, over real UDP."""

    async def replay(self, sameFamily: bool) -> dict[str, tuple[list[str], list[str]]]:
        """
        @return: for each step whose answers differ, the expected and the given; not those
            about ids that our rule 1.6.4 refuses.
        """
        from twisted.internet import reactor

        server = DiscoveryServer(
            reactor,
            port=0,
            table=ServerTable(same_family=sameFamily),
            sourceRate=1e6,
            nodeRate=1e6,
        )
        server.start()
        self.addCleanup(server.stop)
        if ":" not in server.getHost().host:
            raise SkipTest("this machine has no IPv6")
        number = server.getHost().port
        askers: dict[tuple[str, int], tuple[Asker, Any]] = {}
        differing = {}
        sessions = load("discovery", "server_udp")["sessions"]
        session = next((s for s in sessions if s["server"] == "v1-2013-12"), None)
        if session is None:
            raise SkipTest("no session with the server of December 2013")
        places = {4: "7f000001", 16: "00" * 15 + "01"}
        sources = [ip_address(step["from_ip"]).packed for step in session["steps"]]
        refused: set[bytes] = {b""}
        for step in session["steps"]:
            stricter = self.refuses(bytes.fromhex(step["send_hex"]), refused)
            family = step["from_family"]
            where = (step["socket"], family)
            loop = "127.0.0.1" if family == 4 else "::1"
            if where not in askers:
                asker = Asker()
                port: Any = reactor.listenUDP(0, asker, interface=loop)  # type: ignore[attr-defined]
                self.addCleanup(port.stopListening)
                askers[where] = (asker, port)
            asker, port = askers[where]
            before = dict(server.counters)
            port.write(bytes.fromhex(step["send_hex"]), (loop, number))
            expected = step["replies_hex"]
            for packed in sources:
                # This machine's addresses for those of the recording.
                moved = places[len(packed)]
                expected = sorted(reply.replace(packed.hex(), moved) for reply in expected)
            heard = before["datagrams"] + bool(step["send_hex"])
            await self.settled(server, heard, before["answers"], asker)
            given = sorted(answer.hex() for answer in asker.answers)
            asker.answers.clear()
            if given != expected and not stricter:
                differing[step["name"]] = (expected, given)
        return differing

    def refuses(self, datagram: bytes, refused: set[bytes]) -> bool:
        """
        @param refused: the ids whose last announcement we refuse; kept up to date.
        @return: whether the datagram is about one of them.
        """
        try:
            packet = v1.decode(datagram)
        except FormatError:
            return False
        if isinstance(packet, v1.Announcement) and packet.node_id:
            (refused.discard if packet.port else refused.add)(packet.node_id)
        return packet.node_id in refused

    async def settled(self, server: Any, heard: int, answered: int, asker: Asker) -> None:
        """
        Wait until the server has had so many datagrams and its answers have come. An
        empty datagram it never sees.

        @param answered: the answers it had given before.
        """
        from twisted.internet import reactor

        while (
            server.counters["datagrams"] < heard
            or len(asker.answers) < server.counters["answers"] - answered
        ):
            await deferLater(cast(Any, reactor), 0)

    async def test_original(self) -> None:
        """
        With the newest address for an answer, every one is that of the original, byte
        for byte, but for ids and ports that we refuse (1.6 rule 4).
        """
        self.assertEqual(await self.replay(sameFamily=False), {})

    async def test_sameFamily(self) -> None:
        """
        With an address of the asker's family preferred, only answers of the other family
        are different ones (1.6 rule 6).
        """
        differing = await self.replay(sameFamily=True)
        self.assertTrue(differing or not COMPLETE)
        for pair in differing.values():
            [one], [other] = pair
            self.assertNotEqual(len(one), len(other))
