import gc

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tests.net.support import Pair
from twisted_rudp import kernels, stats
from twisted_rudp.endpoints.kcp import KCPServerEndpoint
from twisted_rudp.stats import PortStats, Registration, Registry, total


class Source:
    def __init__(self, **counters: int) -> None:
        self.counters = counters
        self.registration: Registration | None = None

    def snapshot(self) -> PortStats:
        return PortStats(IPv4Address("UDP", "127.0.0.1", 1), dict(self.counters), ())


class RegistryTests(SynchronousTestCase):
    def test_snapshot(self) -> None:
        """A snapshot has every source, their sums, and the kernels in use."""
        registry = Registry()
        one, two = Source(sent=1, lost=2), Source(sent=10)
        kept = [registry.add(one), registry.add(two)]
        taken = registry.snapshot()
        self.assertEqual(len(taken.ports), 2)
        self.assertEqual(taken.counters, {"sent": 11, "lost": 2})
        self.assertEqual(taken.kernels, kernels.IMPLEMENTATION)
        self.assertEqual(taken.compiled, kernels.COMPILED)
        del kept

    def test_discard(self) -> None:
        """What was discarded is not asked any more."""
        registry = Registry()
        one = Source(sent=1)
        registration = registry.add(one)
        registry.discard(registration)
        self.assertEqual(registry.snapshot().ports, ())

    def test_weak(self) -> None:
        """A source that has its registration, and that nobody has, is not asked any more."""
        registry = Registry()
        source = Source(sent=1)
        source.registration = registry.add(source)
        del source
        gc.collect()
        self.assertEqual(registry.snapshot().ports, ())

    def test_total(self) -> None:
        """Counters are added up name by name."""
        self.assertEqual(total([{"a": 1}, {"b": 2}, {"a": 3}]), {"a": 4, "b": 2})


class FactsTests(SynchronousTestCase):
    def test_buffers(self) -> None:
        """What a real socket asked for and what it was granted can be seen."""
        from twisted.internet import reactor

        self.patch(stats, "ports", Registry())
        endpoint = KCPServerEndpoint(reactor, 0, interface="127.0.0.1", readBuffer=65_536)
        listening = self.successResultOf(endpoint.listen(Factory()))
        (port,) = stats.ports.snapshot().ports
        listening.stopListening()
        self.assertEqual(port.facts["receiveBufferAsked"], 65_536)
        self.assertGreaterEqual(port.facts["receiveBuffer"], 65_536)
        self.assertIn(port.facts["gso"], (True, False))


class LiveTests(SynchronousTestCase):
    def test_ports(self) -> None:
        """A listening port is seen with its sessions and goes when it is closed."""
        self.patch(stats, "ports", Registry())
        pair = Pair()
        client, _ = pair.connected()
        seen = [
            port
            for port in stats.ports.snapshot().ports
            if port.host == pair.listening.getHost() and port.sessions
        ]
        self.assertEqual([len(port.sessions) for port in seen], [1])
        [session] = seen[0].sessions
        self.assertEqual(session.state, "ESTABLISHED")
        self.assertGreater(session.counters["received"], 0)
        self.assertEqual(session.facts, {"address": session.peer})
        self.assertEqual(seen[0].counters["alive"], 1)
        self.assertIn("port.bytesIn", seen[0].counters)
        client.transport.loseConnection()
        hub = pair.hub()
        stopping = pair.listening.stopListening()
        assert stopping is not None
        pair.network.run(stopping)
        self.assertNotIn(hub, stats.ports.sources())
