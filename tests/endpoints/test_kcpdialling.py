"""KCP connections that are dialled from the socket of a listening port."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tests.endpoints.support import Collecting, Nats, Talk
from twisted_rudp.endpoints.kcp import KCPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetServerEndpoint
from twisted_rudp.testing import MemoryNetwork


class SharedSocketTests(SynchronousTestCase):
    """Two listening ports that dial each other, with encryption and FEC of their own."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=5, delay=0.02)
        self.hosts = [self.network.host("one"), self.network.host("two")]
        self.incoming = [Collecting(), Collecting()]
        self.ports: list[Any] = [
            self.successResultOf(
                KCPServerEndpoint(
                    host.reactor,
                    4000,
                    password="sesame",
                    dataShards=10,
                    parityShards=3,
                    entropy=self.network.random.randbytes,
                ).listen(factory)
            )
            for host, factory in zip(self.hosts, self.incoming, strict=True)
        ]

    def dial(self, index: int) -> Any:
        other = self.hosts[1 - index].address
        waiting = self.ports[index].connect(Factory.forProtocol(Talk), other, 4000)
        self.network.run(waiting)
        return self.successResultOf(waiting)

    def test_both(self) -> None:
        """
        Each dials the other several times: every connection is one of its own, all on
        the two sockets.
        """
        dialled = [(index, self.dial(index)) for index in (0, 1, 0, 1, 0)]
        for number, (_, talk) in enumerate(dialled):
            talk.transport.write(b"%d" % number)
        self.network.runFor(1)
        for index in (0, 1):
            heard = sorted(talk.heard for talk in self.incoming[1 - index].built)
            mine = [b"%d" % number for number, (who, _) in enumerate(dialled) if who == index]
            self.assertEqual(heard, mine)
        self.assertEqual([len(host.ports) for host in self.hosts], [1, 1])

    def test_close(self) -> None:
        """The end of one connection, from either side, leaves the socket and the others alone."""
        first, second = self.dial(0), self.dial(0)
        first.transport.write(b"farewell")
        first.transport.loseConnection()
        self.network.runFor(5)
        gone, there = self.incoming[1].built
        for talk in (first, gone):
            self.assertIs(talk.lost.type, ConnectionDone)
        self.assertEqual(gone.heard, b"farewell")
        self.assertEqual((second.lost, there.lost), (None, None))
        there.transport.loseConnection()
        self.network.runFor(5)
        self.assertIs(second.lost.type, ConnectionDone)
        third = self.dial(0)
        self.assertTrue(third.connected)

    def test_throughNats(self) -> None:
        """Behind NATs that let in what answers, both that dial each other get through."""
        nats = Nats(self.network, self.hosts, (4000, 4000))
        waiting = [
            port.connect(Factory.forProtocol(Talk), *nats.outside[1 - index])
            for index, port in enumerate(self.ports)
        ]
        self.network.runFor(4)
        self.assertTrue(nats.kept, "no NAT was in the way")
        for index, each in enumerate(waiting):
            self.successResultOf(each).transport.write(b"hello")
            self.network.runFor(1)
            self.assertEqual([talk.heard for talk in self.incoming[1 - index].built], [b"hello"])

    def test_port(self) -> None:
        """A port that stops takes the connections dialled from it along."""
        talk = self.dial(0)
        self.ports[0].stopListening()
        self.network.runFor(5)
        self.assertIsNotNone(talk.lost)

    def test_nobody(self) -> None:
        """Where nobody answers the attempt ends, and the port goes on."""
        failure = self.failureResultOf(
            self.settled(self.ports[0].connect(Collecting(), self.hosts[1].address, 9, timeout=2))
        )
        self.assertIsNotNone(failure)
        self.assertTrue(self.dial(0).connected)

    def settled(self, waiting: Any) -> Any:
        self.network.runFor(5)
        return waiting

    def test_transportWithout(self) -> None:
        """A transport that does not dial from its ports says so."""
        host = self.hosts[0]
        port: Any = self.successResultOf(
            RakNetServerEndpoint(host.reactor, 4001).listen(Collecting())
        )
        self.assertRaises(ValueError, port.connect, Collecting(), "192.0.2.1", 1)
