"""Tests for L{twisted_rudp.discovery.service} and L{twisted_rudp.discovery.client}."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.discovery.support import Lan, key
from twisted_rudp.core.engine import PathError
from twisted_rudp.discovery import sockets, v1
from twisted_rudp.discovery.announcement import Publication
from twisted_rudp.discovery.client import RETRY, DirectoryAnnouncer, DirectoryClient
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.profiles import V1, V4
from twisted_rudp.discovery.server import DiscoveryServer
from twisted_rudp.discovery.service import Discovery, discoveryOf
from twisted_rudp.errors import NodeNotFound
from twisted_rudp.testing import Impairments
from twisted_rudp.testing.port import LAN_BROADCAST

ALICE = NodeId.from_text("alice")
URLS = ("kcp://[::]:4000",)


class ServiceCase(SynchronousTestCase):
    """Two machines and a third for a server, on one network."""

    def setUp(self) -> None:
        self.lan = Lan()
        self.network = self.lan.network
        self.one, self.two = self.lan.host("one"), self.lan.host("two")
        self.machine = self.network.host("server")
        self.addCleanup(self.clean)

    def clean(self) -> None:
        """Nobody uses anything any more, so nothing is open or scheduled."""
        self.network.runFor(1)
        self.assertEqual([host.ports for host in self.network.hosts], [[], [], []])
        self.assertEqual(self.network.clock.getDelayedCalls(), [])

    def serve(self) -> DiscoveryServer:
        server = DiscoveryServer(self.machine.reactor)
        server.start()
        self.addCleanup(server.stop)
        return server

    def discovery(self, host: Any) -> tuple[Discovery, DirectoryClient]:
        discovery = discoveryOf(host.reactor)
        return discovery, discovery.server("server", v1.SERVER_PORT)


class LeaseTests(ServiceCase):
    """Discovery runs while it is used."""

    def test_shared(self) -> None:
        """
        There is one for a reactor; each profile is open once, until the last user of
        it has gone.
        """
        discovery = discoveryOf(self.one.reactor)
        self.assertIs(discovery, discoveryOf(self.one.reactor))
        leases = [discovery.listen(), discovery.listen(), discovery.listen((V1,))]
        self.assertEqual(len(self.one.ports), 3)
        leases[0].release()
        leases[0].release()
        leases[2].release()
        self.network.runFor(0.1)
        self.assertEqual(len(self.one.ports), 2)
        leases[1].release()

    def test_stop(self) -> None:
        """Stopping ends what anybody has begun; releasing afterwards is harmless."""
        discovery, server = self.discovery(self.one)
        lease = discovery.announce(ALICE, URLS, (V4, V1), server)
        looking = discovery.lookup(key(1), 30, (V4,), server)
        self.network.runFor(0.1)
        discovery.stop()
        self.failureResultOf(looking, NodeNotFound)
        lease.release()

    def test_lookupLeavesNothing(self) -> None:
        """A lookup opens what it needs and closes it, whatever comes of it."""
        discovery = discoveryOf(self.one.reactor)
        missing = discovery.lookup(key(1), 3)
        self.network.runFor(4)
        self.failureResultOf(missing, NodeNotFound)
        cancelled = discovery.lookup(key(1), 3)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)


class ServerTests(ServiceCase):
    """Through a discovery server."""

    def test_found(self) -> None:
        """
        A node reports itself to the server, and is found there by its name and by its
        key (1.4); the answer is remembered for a minute (1.6 rule 5).
        """
        counters = self.serve().counters
        one, server = self.discovery(self.one)
        two, asked = self.discovery(self.two)
        keeping = two.listen((V1,))
        for node in (ALICE, key(1)):
            lease = one.announce(node, URLS, (), server)
            self.network.runFor(0.1)
            for _ in range(3):
                looking = two.lookup(node, 30, (), asked)
                self.network.run(looking)
                urls = {str(c.address) for c in self.successResultOf(looking)}
                self.assertTrue(urls <= {"udp://10.0.0.1:4000", "udp://[fd00::1]:4000"}, urls)
            lease.release()
        self.assertLessEqual(counters["queries"], 4)
        keeping.release()

    def test_remembered(self) -> None:
        """
        Answers and silences are remembered also while nobody uses discovery, so that who
        connects again and again does not exhaust what the server allows him; nothing is
        scheduled for that (1.6 rule 5).
        """
        counters = self.serve().counters
        one, server = self.discovery(self.one)
        two, _ = self.discovery(self.two)
        lease = one.announce(ALICE, URLS, (), server)
        self.network.runFor(0.1)
        for node in (ALICE, key(1)):
            before = counters["queries"]
            for _ in range(5):
                asked = two.server("server", v1.SERVER_PORT)
                looking = two.lookup(node, 30, (), asked)
                looking.addErrback(lambda failure: failure.trap(NodeNotFound))
                self.network.run(looking)
                self.network.runFor(0.01)
                self.assertEqual(self.two.ports, [])
            self.assertLessEqual(counters["queries"] - before, 6)
        self.network.runFor(61)
        before = counters["queries"]
        self.network.run(two.lookup(ALICE, 30, (), two.server("server", v1.SERVER_PORT)))
        self.assertGreater(counters["queries"], before)
        lease.release()

    def test_interval(self) -> None:
        """
        Reported at once and every half hour, to an address that is looked up each time
        (1.4, 1.6 rule 5).
        """
        counters = self.serve().counters
        one, server = self.discovery(self.one)
        lease = one.announce(ALICE, URLS, (), server)
        self.network.runFor(3700)
        self.assertEqual(counters["announcements"], 6)
        self.assertEqual(len(self.network.resolver.resolutions), 3)
        lease.release()
        self.network.runFor(3700)
        self.assertEqual(counters["announcements"], 6)

    def test_serverAppears(self) -> None:
        """A name that cannot be resolved is tried again after a minute, not given up."""
        counters = self.serve().counters
        self.network.resolver.register("server")
        one, server = self.discovery(self.one)
        lease = one.announce(ALICE, URLS, (), server)
        self.network.runFor(30)
        self.network.resolver.register("server", self.machine.address)
        self.network.runFor(31)
        self.assertEqual(counters["announcements"], 1)
        lease.release()

    def test_reportedFamilies(self) -> None:
        """
        A server is told of a listener over the families that it serves, for it takes the
        address that it is told from; where that is none, the log says so.
        """
        self.serve()
        one, server = self.discovery(self.one)
        _, asked = self.discovery(self.two)
        node = NodeId.from_text("old")
        leases = [
            one.announce(ALICE, ("kcp://0.0.0.0:4000", "kcp6://[::]:6000"), (), server),
            one.announce(node, ("kcp://0.0.0.0:4001",), (), server),
        ]
        self.network.runFor(0.1)
        for id, expected in (
            (ALICE, ["udp://10.0.0.1:4000", "udp://[fd00::1]:6000"]),
            (node, ["udp://10.0.0.1:4001"]),
        ):
            asking = asked.ask(id)
            self.network.run(asking)
            found = self.successResultOf(asking)
            self.assertEqual(sorted(str(address) for address in found), expected)
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        other = one.server(self.machine.addresses[1], v1.SERVER_PORT)
        leases.append(one.announce(node, ("kcp://0.0.0.0:4001",), (), other))
        self.network.runFor(0.1)
        said = [formatEvent(event) for event in events if "log_format" in event]
        self.assertTrue(any("serves the address family" in line for line in said), said)
        for lease in leases:
            lease.release()

    def several(self, *dead: str) -> None:
        """Give the server's name addresses where nothing answers, in front of its own."""
        self.network.resolver.register("server", *dead, *self.machine.addresses)

    def test_otherAddresses(self) -> None:
        """
        A server's name may have addresses where nothing answers: reports go to three of
        each family, and each repetition of a question to one more.
        """
        counters = self.serve().counters
        self.several("10.0.9.1", "10.0.9.2", "fd00::91")
        one, server = self.discovery(self.one)
        lease = one.announce(ALICE, URLS, (), server)
        self.network.runFor(0.1)
        self.assertEqual(counters["announcements"], 2)
        two, asked = self.discovery(self.two)
        looking = two.lookup(ALICE, 30, (), asked)
        self.network.runFor(0.9)
        self.assertNoResult(looking)
        self.network.runFor(0.5)
        urls = {str(c.address) for c in self.successResultOf(looking)}
        self.assertIn("udp://[fd00::1]:4000", urls)
        lease.release()

    def test_manyAddresses(self) -> None:
        """No more than three of each family are told or asked, whatever a name server says."""
        self.serve()
        self.several(*(f"10.0.9.{n}" for n in range(1, 100)), *(f"fd00::9{n}" for n in range(50)))
        one, server = self.discovery(self.one)
        lease = one.announce(ALICE, URLS, (), server)
        self.network.runFor(0.1)
        self.assertEqual(len(self.network.trace), 6)
        two, asked = self.discovery(self.two)
        looking = two.lookup(key(1), 30, (), asked)
        self.network.runFor(6)
        self.failureResultOf(looking, NodeNotFound)
        self.assertEqual(asked.counters["queries"], 2 * (1 + 2 + 3))
        self.assertEqual(len({t.destination[0] for t in self.network.trace}), 6)
        lease.release()

    def test_miss(self) -> None:
        """
        A server that knows nothing is asked three times in five seconds; the next who
        asks within ten is told at once (1.6 rule 5).
        """
        counters = self.serve().counters
        two, server = self.discovery(self.two)
        keeping = two.listen((V1,))
        began = self.network.clock.seconds()
        for _ in range(2):
            looking = two.lookup(ALICE, 30, (), server)
            both = two.lookup(ALICE, 30, (), server)
            self.network.runFor(5)
            self.failureResultOf(looking, NodeNotFound)
            self.failureResultOf(both, NodeNotFound)
        # Three times in either family.
        self.assertEqual(counters["queries"], 6)
        self.assertEqual(self.network.clock.seconds() - began, 10)
        self.network.runFor(10)
        looking = two.lookup(ALICE, 30, (), server)
        self.network.runFor(5)
        self.failureResultOf(looking, NodeNotFound)
        self.assertEqual(counters["queries"], 12)
        keeping.release()

    def test_lossy(self) -> None:
        """A lost query or answer is made good by the next (1.6 rule 5)."""
        self.serve()
        one, server = self.discovery(self.one)
        lease = one.announce(ALICE, URLS, (), server)
        self.network.runFor(0.1)
        two, asked = self.discovery(self.two)
        self.network.impair(Impairments(delay=0.01, loss=1.0), self.two, self.machine)
        looking = two.lookup(ALICE, 30, (), asked)
        self.network.runFor(1.5)
        self.assertNoResult(looking)
        self.network.impair(Impairments(delay=0.01), self.two, self.machine)
        self.network.runFor(1.5)
        self.successResultOf(looking)
        lease.release()

    def test_forged(self) -> None:
        """
        Answers from elsewhere, for other nodes, without port or address, and junk, are
        ignored; the right one is still taken (1.6 rule 5).
        """

        class Liar(DatagramProtocol):
            def datagramReceived(self, datagram: bytes, addr: Any) -> None:
                for packet in (
                    v1.Announcement(1, b"bob", bytes([10, 0, 0, 9])),
                    v1.Announcement(0, b"alice", bytes([10, 0, 0, 9])),
                    v1.Announcement(1, b"alice"),
                    v1.Announcement(1, b"alice", bytes(4)),
                    v1.Announcement(7, b"alice", bytes([10, 0, 0, 9])),
                ):
                    assert self.transport is not None
                    self.transport.write(b"junk", addr)
                    self.transport.write(v1.encode_announcement(packet), addr)
                elsewhere.write(v1.encode_announcement(forged), addr)

        forged = v1.Announcement(1, b"alice", bytes([10, 0, 0, 66]))
        elsewhere = self.one.reactor.listenUDP(0, DatagramProtocol())
        lying = self.machine.reactor.listenUDP(v1.SERVER_PORT, Liar())
        two = discoveryOf(self.two.reactor)
        server = two.server("10.0.0.3", v1.SERVER_PORT)
        looking = two.lookup(ALICE, 30, (), server)
        self.network.run(looking)
        [found] = self.successResultOf(looking)
        self.assertEqual(str(found.address), "udp://10.0.0.9:7")
        self.assertGreaterEqual(server.counters["ignored"], 9)
        elsewhere.stopListening()
        lying.stopListening()

    def test_cancel(self) -> None:
        """A question nobody waits for any more is not asked again."""
        counters = self.serve().counters
        two, server = self.discovery(self.two)
        keeping = two.listen((V1,))
        looking = two.lookup(ALICE, 30, (), server)
        self.network.runFor(0.5)
        looking.cancel()
        self.failureResultOf(looking, CancelledError)
        self.network.runFor(5)
        self.assertEqual(counters["queries"], 2)
        keeping.release()

    def test_whoeverIsFirst(self) -> None:
        """With a server that does not know, the node's own announcement is waited for."""
        self.serve()
        one, _ = self.discovery(self.one)
        two, server = self.discovery(self.two)
        looking = two.lookup(ALICE, 30, (V4,), server)
        self.network.runFor(10)
        self.assertNoResult(looking)
        lease = one.announce(ALICE, URLS)
        self.network.runFor(0.1)
        self.successResultOf(looking)
        lease.release()

    def test_noName(self) -> None:
        """A server whose name does not exist is no answer, at once."""
        two = discoveryOf(self.two.reactor)
        looking = two.lookup(ALICE, 30, (), two.server("nowhere.example", 1))
        self.network.runFor(0.1)
        self.failureResultOf(looking, NodeNotFound)

    def announcer(self, host: str = "server") -> DirectoryAnnouncer:
        reactor = self.one.reactor
        announcer = DirectoryAnnouncer(reactor, DirectoryClient(reactor, host))
        self.addCleanup(announcer.stop)
        announcer.publish(Publication(ALICE, URLS))
        self.network.runFor(0.1)
        return announcer

    def test_refused(self) -> None:
        """
        While one address of the server may have taken a report, refusals are no failure. When
        the last one has refused, the report is sent again after a minute.
        """
        announcer = self.announcer()
        self.assertEqual(announcer.counters, {"reports": 2, "failures": 0})
        announcer.pathError(PathError.REFUSED, 0, (self.machine.address, v1.SERVER_PORT))
        self.network.runFor(RETRY + 1)
        self.assertEqual(announcer.counters, {"reports": 2, "failures": 0})
        announcer.pathError(PathError.REFUSED, 0, ("fd00::3", v1.SERVER_PORT, 0, 0))
        self.network.runFor(RETRY + 1)
        self.assertEqual(announcer.counters, {"reports": 4, "failures": 1})
        announcer.stop()
        announcer.pathError(PathError.REFUSED, 0, ("fd00::3", v1.SERVER_PORT, 0, 0))
        self.network.runFor(RETRY + 1)
        self.assertEqual(announcer.counters, {"reports": 4, "failures": 1})

    def test_noSocket(self) -> None:
        """
        A process without a free descriptor announces a minute later, and what it looks up is
        not found; nothing is raised.
        """
        self.serve()
        opening = sockets.openPort

        def none(*arguments: Any, **named: Any) -> Any:
            raise CannotListenError("", 0, OSError(errno.EMFILE, "Too many open files"))

        self.patch(sockets, "openPort", none)
        announcer = self.announcer()
        self.assertEqual(announcer.counters["reports"], 0)
        two, server = self.discovery(self.two)
        looking = two.lookup(ALICE, 30, (), server)
        self.network.runFor(6)
        self.failureResultOf(looking, NodeNotFound)
        self.assertEqual(server.counters["queries"], 0)
        self.patch(sockets, "openPort", opening)
        self.network.runFor(RETRY)
        self.assertEqual(announcer.counters["reports"], 2)

    def test_invalidServer(self) -> None:
        """A server's address with a zone that this machine has not: no answer, and no report."""
        announcer = self.announcer("fe80::1%nowhere")
        self.assertEqual(announcer.counters, {"reports": 0, "failures": 1})
        two = discoveryOf(self.two.reactor)
        looking = two.lookup(ALICE, 30, (), two.server("fe80::1%nowhere", 1))
        self.network.runFor(0.1)
        self.failureResultOf(looking, NodeNotFound)

    def test_quietLan(self) -> None:
        """Looking a node up at a server says nothing on the local network."""
        self.serve()
        two, server = self.discovery(self.two)
        looking = two.lookup(ALICE, 30, (), server)
        self.network.runFor(6)
        self.failureResultOf(looking, NodeNotFound)
        self.assertEqual(self.lan.sent(LAN_BROADCAST), [])
