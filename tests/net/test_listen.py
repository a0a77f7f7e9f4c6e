from __future__ import annotations

from typing import Any

from twisted.internet.error import (
    CannotListenError,
    ConnectBindError,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import IListeningPort
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.net.support import PORT, SECRET, Pair, RecordingFactory
from tests.toys.conversations import CipherDemultiplexer
from twisted_rudp.net.listen import ListeningPort, listen
from twisted_rudp.testing import Impairments


class ListeningCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.pair = Pair()
        self.port = self.pair.listening

    def stop(self) -> Any:
        return self.port.stopListening()


class PortTests(ListeningCase):
    def test_interface(self) -> None:
        """A listening port is an C{IListeningPort} (PORT-1)."""
        self.assertTrue(verifyObject(IListeningPort, self.port))

    def test_getHost(self) -> None:
        """The bound address is known, for ever (PORT-4)."""
        other = listen(self.pair.server.reactor, RecordingFactory(), self.pair.makeDemux())
        host = other.getHost()
        self.assertGreater(host.port, 0)
        stopping = other.stopListening()
        self.pair.network.run(stopping)
        self.assertEqual(other.getHost(), host)

    def test_notBound(self) -> None:
        """Before it is bound a port has no address."""
        port = ListeningPort(self.pair.server.reactor, RecordingFactory(), self.pair.makeDemux())
        self.assertRaises(RuntimeError, port.getHost)
        self.assertIsNone(self.successResultOf(port.stopListening()))

    def test_clash(self) -> None:
        """A port that is taken raises at once, and the factory is not started (EP-2)."""
        factory = RecordingFactory()
        self.assertRaises(
            CannotListenError,
            listen,
            self.pair.server.reactor,
            factory,
            self.pair.makeDemux(),
            port=PORT,
        )
        self.assertEqual((factory.started, factory.stopped), (0, 0))

    def test_twice(self) -> None:
        """A port is started once."""
        self.assertRaises(RuntimeError, self.port.startListening)

    def test_wrongMode(self) -> None:
        """A mode that there is not raises C{ValueError}."""
        self.assertRaises(
            ValueError,
            listen,
            self.pair.server.reactor,
            RecordingFactory(),
            self.pair.makeDemux(),
            mode="smoke",
        )


class StoppingTests(ListeningCase):
    def test_idle(self) -> None:
        """Without connections the port closes, and the factory is paired (FAC-2)."""
        factory = self.pair.serverFactory
        self.assertEqual((factory.started, factory.stopped), (1, 0))
        stopping = self.stop()
        self.assertEqual(factory.stopped, 1)
        self.pair.network.run(stopping)
        self.assertEqual(self.pair.server.ports, [])
        self.assertEqual((factory.started, factory.stopped), (1, 1))
        self.assertIs(self.port.stopListening(), stopping)

    def test_same(self) -> None:
        """Every call gets the same Deferred, which can be awaited (PORT-2, F12)."""
        self.pair.connected()
        one, two = self.stop(), self.stop()
        self.assertIs(one, two)
        self.pair.network.run(one)
        self.assertEqual(self.pair.serverFactory.stopped, 1)

    def test_drains(self) -> None:
        """Connections go on, new peers are refused, the last to end closes (PORT-3)."""
        client, server = self.pair.connected()
        stopping = self.stop()
        failures: list[Any] = []
        self.pair.dial(timeout=1).addErrback(failures.append)
        client.transport.write(b"still here")
        self.pair.run(lambda: server.data == b"still here")
        self.pair.run(lambda: failures)
        self.assertEqual(len(self.pair.serverFactory.asked), 1)
        self.assertNoResult(stopping)
        client.transport.loseConnection()
        self.pair.lost(client, server)
        self.pair.network.run(stopping)
        for each in (client, server):
            self.assertIs(type(each.reason.value), ConnectionDone)

    def test_drainTimeout(self) -> None:
        """What has not ended after C{drainTimeout} ends with C{ConnectionLost} (PORT-3)."""
        client, server = self.pair.connected()
        before = self.pair.network.clock.seconds()
        self.pair.network.run(self.stop())
        self.assertTrue(5 <= self.pair.network.clock.seconds() - before <= 5.4)
        self.assertIsInstance(server.reason.value, ConnectionLost)
        self.pair.lost(client)
        self.assertEqual(server.told.count("lost"), 1)

    def test_insideData(self) -> None:
        """Stopping from inside C{dataReceived} is safe."""
        client, server = self.pair.connected()
        stopped: list[Any] = []
        server.onData = lambda data: stopped.append(self.port.stopListening())
        client.transport.write(b"x")
        client.transport.loseConnection()
        self.pair.lost(client, server)
        self.pair.network.run(stopped[0])

    def test_duringConnect(self) -> None:
        """A peer whose handshake comes to its end after the stop is refused."""
        self.pair.dial(timeout=2)
        self.pair.run(self.pair.hub().living)
        self.pair.network.run(self.stop())
        self.pair.network.runFor(5)
        self.assertEqual(self.pair.serverFactory.asked, [])
        [client] = self.pair.clientFactory.built
        self.assertIsInstance(client.reason.value, ConnectionLost)

    def test_shutdown(self) -> None:
        """The reactor's shutdown ends port and connections once (PORT-5)."""
        _, server = self.pair.connected()
        self.pair.server.reactor.disconnectAll()
        self.assertEqual(server.told, ["made", "lost"])
        self.assertIsInstance(server.reason.value, ConnectionLost)
        self.assertEqual(self.pair.serverFactory.stopped, 1)
        self.successResultOf(self.port.stopListening())

    def test_lastWords(self) -> None:
        """A port that closes tells its peers more than once: some of that may be lost."""
        pairs = [self.pair.connected() for _ in range(40)]
        loss = Impairments(seed=3, delay=0.01, loss=0.2)
        self.pair.network.impair(loss, self.pair.client, self.pair.server)
        self.pair.network.run(self.stop())
        self.pair.network.runFor(0.1)
        told = sum(client.reason is not None for client, _ in pairs)
        self.assertGreaterEqual(told, 39)

    def test_reactorStops(self) -> None:
        """When the reactor stops, whoever is connected hears of an ordinary end."""
        pairs = [self.pair.connected() for _ in range(10)]
        pairs[0][1].transport.write(b"the last of it" * 10_000)
        dialling = self.pair.dial()
        reactor = self.pair.server.reactor
        before = self.pair.network.clock.seconds()
        reactor.stop()
        self.pair.run(lambda: not reactor.running)
        self.assertLess(self.pair.network.clock.seconds() - before, 1)
        self.pair.lost(*(client for client, _ in pairs))
        for client, server in pairs:
            self.assertIs(type(client.reason.value), ConnectionDone)
            self.assertIsInstance(server.reason.value, ConnectionLost)
        self.assertEqual(len(pairs[0][0].data), 140_000)
        dialling.cancel()
        self.failureResultOf(dialling)

    def test_reactorStopsBounded(self) -> None:
        """Peers that do not answer hold the reactor for two seconds and a few words."""
        _, server = self.pair.connected()
        self.pair.network.cut(self.pair.client, self.pair.server)
        reactor = self.pair.server.reactor
        before = self.pair.network.clock.seconds()
        reactor.stop()
        self.pair.run(lambda: not reactor.running)
        self.assertLess(self.pair.network.clock.seconds() - before, 3)
        self.assertIsInstance(server.reason.value, ConnectionLost)
        self.assertEqual(reactor.triggers, 0)

    def test_othersSpeakFirst(self) -> None:
        """What a program says in its own trigger at the reactor's stop is still said."""
        client, server = self.pair.connected()
        reactor = self.pair.server.reactor
        reactor.addSystemEventTrigger("before", "shutdown", server.transport.write, b"goodbye")
        reactor.stop()
        self.pair.lost(client)
        self.assertEqual(client.data, b"goodbye")

    def test_itself(self) -> None:
        """A port does not connect to itself (F12)."""
        port = listen(
            self.pair.server.reactor,
            RecordingFactory(),
            self.pair.makeDemux(),
            dial=self.pair.session,
        )
        for host in ("127.0.0.1", "127.0.0.5"):
            failure = self.failureResultOf(
                port.connect(RecordingFactory(), host, port.getHost().port)
            )
            self.assertIs(failure.type, ConnectBindError)

    def test_shutdownWhileDraining(self) -> None:
        """A port that is lost while it drains fires its Deferred, and pairs the factory."""
        _, server = self.pair.connected()
        stopping = self.stop()
        self.pair.server.reactor.disconnectAll()
        self.assertIsNone(self.successResultOf(stopping))
        self.assertEqual(server.told, ["made", "lost"])
        self.assertEqual(self.pair.serverFactory.stopped, 1)


class FactoryTests(ListeningCase):
    def refused(self, kind: Any) -> None:
        self.pair.serverFactory.kind = kind
        client = self.pair.dial()
        self.pair.network.runFor(1)
        self.successResultOf(client)
        protocol = self.pair.clientFactory.built[-1]
        self.assertIsInstance(protocol.reason.value, ConnectionLost)

    def test_none(self) -> None:
        """A factory that says no refuses that peer, and is asked once (PORT-6)."""
        self.refused(lambda: None)
        self.assertEqual(len(self.pair.serverFactory.asked), 1)
        self.pair.serverFactory.kind = self.pair.clientFactory.kind
        self.pair.connected()

    def test_again(self) -> None:
        """What the refused peer repeats does not ask the factory again (PORT-6)."""
        self.refused(lambda: None)
        first = self.pair.network.trace[0]
        self.assertEqual(first.destination[1], PORT)
        for _ in range(3):
            self.pair.hub().runReceived(first.data, len(first.data), first.source)
            self.pair.hub().turnEnded()
        self.pair.network.runFor(1)
        self.assertEqual(len(self.pair.serverFactory.asked), 1)
        self.assertEqual(self.pair.hub().snapshot().counters["admitted"], 1)

    def test_raises(self) -> None:
        """An exception in C{buildProtocol} is logged and costs that peer only (PORT-6)."""
        self.refused(lambda: 1 / 0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.pair.serverFactory.kind = self.pair.clientFactory.kind
        self.pair.connected()

    def test_madeRaises(self) -> None:
        """An exception in C{connectionMade} ends that connection with it (FAC-5)."""

        def prepare(protocol: Any) -> None:
            protocol.onMade = lambda: 1 / 0

        self.pair.serverFactory.prepare = prepare
        self.pair.dial()
        self.pair.run(lambda: self.pair.serverFactory.built)
        [server] = self.pair.serverFactory.built
        self.pair.lost(server)
        self.assertEqual(server.told, ["made", "lost"])
        self.assertIsInstance(server.reason.value, ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_proofFirst(self) -> None:
        """A peer that has not proved its address is not shown to the factory (PORT-7)."""
        demux = CipherDemultiplexer(SECRET, self.pair.serverDemux.random)
        engine: Any = demux.dial(("10.9.9.9", 9))
        [(hello, _)] = engine.queue
        sealed, size = demux.seal(hello, len(hello))
        self.pair.hub().runReceived(bytes(sealed), size, ("10.9.9.9", 9))
        self.pair.hub().turnEnded()
        self.pair.network.runFor(5)
        self.assertEqual(self.pair.serverFactory.asked, [])
        self.assertEqual(self.pair.hub().snapshot().counters["unvalidated"], 1)
        self.pair.network.runFor(10)
        self.assertEqual(self.pair.hub().snapshot().counters["lapsed"], 1)
        self.assertEqual(self.pair.network.clock.getDelayedCalls(), [])
