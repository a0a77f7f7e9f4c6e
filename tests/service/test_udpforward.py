"""Tests for L{twisted_rudp.service.udpforward}, on a simulated network."""

from __future__ import annotations

import errno
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.net.udp.fakes import Recorder
from tests.service.transports import ClientEndpoint
from twisted_rudp import stats
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.net.udp.open import openPort
from twisted_rudp.service import udpforward
from twisted_rudp.service.listening import Tally
from twisted_rudp.service.udpforward import (
    COUNTERS,
    HELD_DATAGRAMS,
    HELLO,
    HELLO_TIMEOUT,
    Association,
    Associations,
    Carrier,
    Held,
    UDPEndpoint,
    UDPForwardService,
    UDPTargetService,
    carrying,
    isUDP,
    parseUDP,
)
from twisted_rudp.testing import Impairments, MemoryNetwork

KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "kcp": (KCPServerEndpoint, KCPClientEndpoint, {}),
    "qotp": (QOTPServerEndpoint, QOTPClientEndpoint, {}),
    "raknet": (RakNetServerEndpoint, RakNetClientEndpoint, {"mode": "messages"}),
}


class ForwardCase(SynchronousTestCase):
    """Sources, two forwarders and a service that answers, each on a host of its own."""

    def setUp(self) -> None:
        self.events: list[dict[str, Any]] = []
        for kind in (UDPForwardService, UDPTargetService):
            self.patch(kind, "_log", Logger(observer=self.events.append))
        self.network = MemoryNetwork(seed=1, delay=0.0)
        self.near = self.network.host("near")
        self.far = self.network.host("far")
        self.service = self.network.host("service")
        self.answering, self.heard = self.open(self.service, 53)
        self.heard.hook = self.answer

    def answer(self, entry: Any) -> None:
        if entry[0] == "run":
            _, run, size, address = entry
            for start in range(0, len(run), size):
                reply = b">" + run[start : start + size]
                self.answering.send(reply, len(reply), address)

    def open(self, host: Any, port: int = 0) -> tuple[Any, Recorder]:
        receiver = Recorder()
        return openPort(host.reactor, receiver, "", port), receiver

    def start(self, kind: str = "kcp", near: Any = None, far: Any = None, **shared: Any) -> None:
        server, client, always = KINDS[kind]
        self.to = UDPTargetService(
            self.far.reactor,
            "far",
            server(self.far.reactor, 4000, **always, **shared),
            UDPEndpoint("service", 53),
            **{"limit": 10, "drain": 1, **(far or {})},
        )
        self.listen = UDPForwardService(
            self.near.reactor,
            "near",
            UDPEndpoint("", 5000),
            client(self.near.reactor, "far", 4000, **always, **shared),
            **{"limit": 10, "drain": 1, **(near or {})},
        )
        for service in (self.to, self.listen):
            service.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        for service in (self.listen, self.to):
            if service.running:
                self.network.run(service.stopService())
        self.network.runFor(15)

    def second(self, target: int) -> UDPForwardService:
        """Another service of the near host, on port 5001, that dials this port of the far one."""
        service = UDPForwardService(
            self.near.reactor,
            "second",
            UDPEndpoint("", 5001),
            KCPClientEndpoint(self.near.reactor, "far", target),
            limit=10,
            drain=1,
        )
        service.startService()
        return service

    def source(self) -> tuple[Any, Recorder]:
        return self.open(self.network.host(f"source{len(self.network.hosts)}"))

    def send(self, source: Any, *datagrams: bytes, port: int = 5000) -> None:
        for datagram in datagrams:
            source.send(datagram, len(datagram), (self.near.address, port))

    def got(self, recorder: Recorder) -> list[bytes]:
        found = []
        for entry in recorder.log:
            if entry[0] == "run":
                _, run, size, _ = entry
                found += [run[at : at + size] for at in range(0, len(run), size)]
        return found

    def texts(self) -> list[str]:
        return [
            formatEvent(event)
            for event in self.events
            if event["log_level"].name in ("error", "warn")
        ]


class CarryingTests(ForwardCase):
    """Datagrams there and back."""

    def check(self, kind: str, warns: bool = False) -> None:
        self.start(kind)
        one, other = self.source(), self.source()
        self.send(one[0], b"first", bytes(1200))
        self.send(other[0], b"mine")
        self.network.runFor(2)
        self.assertEqual(sorted(self.got(one[1])), sorted([b">first", b">" + bytes(1200)]))
        self.assertEqual(self.got(other[1]), [b">mine"])
        self.send(one[0], *[bytes([at]) for at in range(50)])
        self.network.runFor(1)
        self.assertEqual(
            self.got(one[1])[2:], [b">" + bytes([at]) for at in range(50)]
        )
        for service in (self.listen, self.to):
            counts = service.tally.counts
            self.assertEqual((counts["associations"], counts["sessions"]), (2, 1))
            self.assertEqual((counts["datagrams_forth"], counts["datagrams_back"]), (53, 53))
            self.assertEqual((counts["malformed"], counts["dropped"]), (0, 0))
        warnings = [name for name in ("far", "near") if warns]
        for name, text in zip(warnings, self.texts(), strict=True):
            self.assertTrue(text.startswith(f"{name}: RakNet encrypts nothing"))

    def test_kcp(self) -> None:
        """Over KCP, two sources share one session and get their own answers."""
        self.check("kcp")

    def test_raknet(self) -> None:
        """The same over RakNet, in unreliable messages; that nothing is encrypted is said."""
        self.check("raknet", warns=True)

    def test_qotp(self) -> None:
        """The same over QOTP; that the server is not authenticated is said."""
        self.start("qotp")
        source, got = self.source()
        self.send(source, b"one", b"two")
        self.network.runFor(2)
        self.assertEqual(self.got(got), [b">one", b">two"])

    def test_losses(self) -> None:
        """
        At 1 % loss fewer than 0.05 % are missing behind FEC, and 99 % of the round trips are
        within 1.3 of the path's.
        """
        self.start(dataShards=10, parityShards=3)
        self.network.impair(Impairments(delay=0.02, loss=0.01), self.near, self.far)
        source, got = self.source()
        self.send(source, b"hello")
        self.network.runFor(1)
        trips: list[float] = []

        def arrived(entry: Any) -> None:
            if entry[0] == "run":
                _, run, size, _ = entry
                for at in range(0, len(run), size):
                    sent = int.from_bytes(run[at + 1 : at + 9], "big") / 1e9
                    trips.append(self.network.clock.seconds() - sent)

        got.hook = arrived
        count = 3000
        for _ in range(count):
            now = int(self.network.clock.seconds() * 1e9)
            self.send(source, now.to_bytes(8, "big") + bytes(100))
            self.network.runFor(0.001)
        self.network.runFor(0.5)
        self.assertLess(count - len(trips), count * 0.0005 * 2)
        self.assertLess(sorted(trips)[len(trips) * 99 // 100], 1.3 * 0.04)

    def test_tooLong(self) -> None:
        """What does not fit is dropped and counted, and said once with what would fit."""
        self.start()
        source, got = self.source()
        self.send(source, b"hello")
        self.network.runFor(1)
        self.send(source, bytes(1400), bytes(1400), b"fits")
        self.network.runFor(1)
        self.assertEqual(self.got(got), [b">hello", b">fits"])
        self.assertEqual(self.listen.tally.counts["too_long"], 2)
        [said] = self.texts()
        self.assertIn("a datagram of 1400 bytes was dropped: at most 13", said)

    def test_live(self) -> None:
        """The live state has the counters while the service runs."""
        self.start()
        source, _ = self.source()
        self.send(source, b"hello")
        self.network.runFor(1)
        found = {each.description: each for each in stats.services.snapshot()}
        self.assertEqual(found["near"].facts, {"associations": 1})
        self.assertEqual(found["far"].counters["datagrams_forth"], 1)
        self.stop()
        self.assertEqual(stats.services.snapshot(), ())


class LifeTests(ForwardCase):
    """Sessions and associations come and go."""

    def test_idle(self) -> None:
        """
        An idle association ends at both ends, the session with the last; the next datagram
        begins anew.
        """
        self.start(near={"idle": 30}, far={"idle": 40})
        source, got = self.source()
        self.send(source, b"hello")
        self.network.runFor(1)
        self.network.runFor(60)
        for service in (self.listen, self.to):
            self.assertEqual(len(service.associations), 0)
        self.assertEqual(self.listen.tally.counts["expired"], 1)
        self.send(source, b"again")
        self.network.runFor(2)
        self.assertEqual(self.got(got), [b">hello", b">again"])
        self.assertEqual(self.listen.tally.counts["sessions"], 2)

    def test_limit(self) -> None:
        """Without room an unanswered source makes way; answered ones stay, others are refused."""
        self.start(near={"limit": 2})
        one, other, third = self.source(), self.source(), self.source()
        self.send(one[0], b"1")
        self.network.runFor(1)
        self.answering.stopListening()
        self.send(other[0], b"2")
        self.network.runFor(1)
        self.send(third[0], b"3")
        self.network.runFor(1)
        self.assertEqual(self.listen.tally.counts["expired"], 1)
        self.answering, self.heard = self.open(self.service, 53)
        self.heard.hook = self.answer
        self.send(third[0], b"4")
        self.network.runFor(1)
        self.assertEqual(self.got(third[1]), [b">4"])
        self.send(other[0], b"5")
        self.network.runFor(1)
        self.assertEqual(self.got(other[1]), [])
        self.assertEqual(self.listen.tally.counts["refused"], 1)
        self.assertIn("limit of associations", self.texts()[-1])

    def test_noSockets(self) -> None:
        """
        A process that may have no more sockets closes one of the session that has most. A source
        that found none gets one as soon as there is one, though it never pauses.
        """
        self.start()
        most = 3

        def scarce(*arguments: Any, **named: Any) -> Any:
            if len(self.to.associations) > most:
                raise CannotListenError("", 0, OSError(errno.EMFILE, "Too many open files"))
            return openPort(*arguments, **named)

        self.patch(udpforward, "openPort", scarce)
        sources = [self.source() for _ in range(5)]
        for number, (source, _) in enumerate(sources):
            self.send(source, b"%d" % number)
            self.network.runFor(1)
        self.assertEqual([len(self.got(heard)) for _, heard in sources], [1, 1, 1, 0, 0])
        self.assertIn("no socket for a source", self.texts()[-1])
        other = self.second(4000)
        self.addCleanup(lambda: self.network.run(other.stopService()))
        source, heard = self.source()
        self.send(source, b"other", port=5001)
        self.network.runFor(1)
        self.assertEqual(self.got(heard), [b">other"])
        most = 9
        self.send(sources[4][0], b"again")
        self.network.runFor(1)
        self.assertEqual(self.got(sources[4][1]), [b">again"])

    def test_unreachable(self) -> None:
        """
        While the far end is not there, what comes is dropped and counted, said once, and it
        is dialled again at growing intervals.
        """
        self.start()
        self.network.run(self.to.stopService())
        source, got = self.source()
        for at in range(100):
            self.send(source, bytes([at]))
            self.network.runFor(1)
        counts = self.listen.tally.counts
        self.assertGreaterEqual(counts["unreachable"], 2)
        self.assertGreater(counts["dropped"], 50)
        self.assertIn("cannot reach the far side", self.texts()[0])
        self.to.startService()
        for _ in range(60):
            self.send(source, b"now")
            self.network.runFor(1)
        self.assertIn(b">now", self.got(got))

    def test_farRestarts(self) -> None:
        """After a restart of the far end the next datagrams go over a new session."""
        self.start()
        source, got = self.source()
        self.send(source, b"one")
        self.network.runFor(1)
        self.network.run(self.to.stopService())
        self.to.startService()
        for _ in range(5):
            self.send(source, b"two")
            self.network.runFor(1)
        self.assertIn(b">two", self.got(got))
        self.assertEqual(self.listen.tally.counts["sessions"], 2)

    def test_otherEnd(self) -> None:
        """A far end that is something else is named, and is not dialled in a loop."""
        endpoint = ClientEndpoint()
        service = UDPForwardService(
            self.near.reactor, "near", UDPEndpoint("", 5001), endpoint, limit=3, drain=1
        )
        service.startService()
        source, _ = self.source()
        self.send(source, b"x", port=5001)
        self.network.runFor(0.1)
        factory, attempt = endpoint.attempts.pop()
        carrier = factory.buildProtocol(None)
        transport = StringTransport()
        carrier.makeConnection(transport)
        attempt.callback(carrier)
        self.assertIn("carries no datagrams: use kcp, qotp or raknet", self.texts()[-1])
        self.network.run(service.stopService())

    def test_unknownName(self) -> None:
        """A target whose name has no address is said; its datagrams are counted."""
        self.start()
        self.network.run(self.to.stopService())
        self.network.runFor(15)
        self.to = UDPTargetService(
            self.far.reactor,
            "far",
            KCPServerEndpoint(self.far.reactor, 4000),
            UDPEndpoint("nowhere.example", 53),
            limit=10,
            drain=1,
        )
        self.to.startService()
        source, _ = self.source()
        self.send(source, b"1", b"2")
        self.network.runFor(3)
        counts = self.to.tally.counts
        self.assertEqual((counts["unreachable"], counts["dropped"]), (1, 2))
        self.assertIn("the address of --to is not known", self.texts()[-1])


class _Greeting(Factory):
    """Says something at once, and keeps what it hears."""

    noisy = False

    def __init__(self, greeting: bytes, said: list[bytes]) -> None:
        self._greeting = greeting
        self._said = said

    def buildProtocol(self, addr: Any) -> Protocol:
        protocol = Protocol()
        protocol.dataReceived = self._said.append  # type: ignore[method-assign]
        protocol.connectionMade = lambda: self._greet(protocol)  # type: ignore[method-assign]
        return protocol

    def _greet(self, protocol: Any) -> None:
        protocol.transport.write(self._greeting)


class CarrierTests(SynchronousTestCase):
    """What the other end of a session may say."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.tally = Tally(*COUNTERS)
        self.said: list[str] = []
        self.datagrams: list[tuple[int, bytes]] = []
        self.carrier = Carrier(
            self.clock, self, self.tally, lambda kind, text: self.said.append(text)
        )

    def carrierMade(self, carrier: Any) -> None:
        pass

    def carrierLost(self, carrier: Any) -> None:
        pass

    def carrierDatagram(self, carrier: Any, id: int, datagram: bytes) -> None:
        self.datagrams.append((id, datagram))

    @given(st.lists(st.binary(max_size=12)))
    def test_anything(self, messages: list[bytes]) -> None:
        """What carries no datagram is counted, the rest passed on."""
        self.tally.counts["malformed"] = 0
        self.datagrams.clear()
        for message in messages:
            self.carrier.outOfBandReceived(message)
        self.assertEqual(
            self.datagrams,
            [(int.from_bytes(m[:4], "big"), m[4:]) for m in messages if len(m) > 4],
        )
        self.assertEqual(
            self.tally.counts["malformed"], sum(len(message) <= 4 for message in messages)
        )


class TableTests(SynchronousTestCase):
    """Associations and what waits, by themselves."""

    def test_held(self) -> None:
        """What waits is bounded; the oldest go first, and are counted."""
        tally = Tally(*COUNTERS)
        held = Held(tally)
        one = Association(1, "a", lambda each: None)
        for at in range(HELD_DATAGRAMS + 5):
            held.put(one, bytes([at]))
        self.assertEqual([d[0] for _, d in held.take()], list(range(5, HELD_DATAGRAMS + 5)))
        held.put(one, bytes(60_000))
        held.put(one, bytes(60_000))
        held.drop()
        self.assertEqual(tally.counts["dropped"], 7)
        self.assertEqual(held.take(), [])

    def test_owners(self) -> None:
        """
        Who has most makes way for who has less, answered or not; he himself gets the places of
        his own that were never answered, and never those of others.
        """
        over: list[Any] = []
        table = Associations(Clock(), 6, 10, Tally(*COUNTERS))

        def add(owner: str, key: str, answered: bool = True) -> bool:
            new = Association(0, key, lambda each: over.append(each.key), owner)
            added = table.add(new)
            if added and answered:
                table.answer(new)
            return added

        for key in "abcd":
            self.assertTrue(add("greedy", key))
        self.assertTrue(add("greedy", "e", answered=False))
        self.assertTrue(add("modest", "1", answered=False))
        self.assertTrue(add("greedy", "f", answered=False))
        self.assertEqual(over, ["e"])
        for key in "23":
            self.assertTrue(add("modest", key))
        self.assertEqual(over, ["e", "f", "a"])
        self.assertFalse(add("greedy", "g"))
        self.assertTrue(add("modest", "4"))
        self.assertEqual(over, ["e", "f", "a", "1"])
        table.endAll()

    @given(st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 9)), max_size=60))
    def test_associations(self, steps: list[tuple[int, bool, int]]) -> None:
        """
        There are never too many, none outlives its time by itself, each ends once, and none
        that was answered ends before its time.
        """
        clock, tally = Clock(), Tally(*COUNTERS)
        table = Associations(clock, 3, 10, tally)
        living: dict[int, Association] = {}
        heard: dict[int, float] = {}
        over: list[bool] = []

        def ended(each: Association) -> None:
            key: Any = each.key
            self.assertIs(living.pop(key), each)
            if each.answered and not over:
                self.assertGreaterEqual(clock.seconds(), heard[key] + 10)

        for key, answered, wait in steps:
            found = table.get(key)
            self.assertIs(found, living.get(key))
            if found is None:
                new = Association(0, key, ended)
                if table.add(new):
                    living[key] = new
                    heard[key] = clock.seconds()
            else:
                heard[key] = clock.seconds()
                if answered:
                    table.answer(found)
            self.assertEqual(len(table), len(living))
            self.assertLessEqual(len(table), 3)
            clock.advance(wait)
            for other in living:
                self.assertLess(clock.seconds(), heard[other] + 10)
        over.append(True)
        table.endAll()
        self.assertEqual((living, clock.getDelayedCalls()), ({}, []))


class ParseTests(SynchronousTestCase):
    """C{udp:} on a command line."""

    def test_valid(self) -> None:
        """Both forms of both sides."""
        for text, listening, expected in (
            ("udp:53", True, ("", 53)),
            ("udp:0", True, ("", 0)),
            ("udp:port=53:interface=127.0.0.1", True, ("127.0.0.1", 53)),
            (r"udp:53:interface=\:\:1", True, ("::1", 53)),
            ("udp:example.org:53", False, ("example.org", 53)),
            (r"udp:host=2001\:db8\:\:1:port=53", False, ("2001:db8::1", 53)),
        ):
            self.assertTrue(isUDP(text))
            self.assertEqual(parseUDP(text, listening), expected)

    def test_invalid(self) -> None:
        """Errors name the argument."""
        for text, listening, expected in (
            ("udp:", True, "port=''"),
            ("udp:x", True, "'x' is not a UDP port"),
            ("udp:65536", True, "65536"),
            ("udp:1:2:3", True, "'3'"),
            ("udp:port=1:port=2", True, "'port=2'"),
            ("udp:1:host=x", True, "'host=x'"),
            ("udp:1:interface=example.org", True, "interface='example.org'"),
            ("udp:example.org", False, "host or port is missing"),
            ("udp:example.org:0", False, "'0' is not a UDP port"),
            ("udp:a b:1", False, "'a b' is not a legal host name"),
        ):
            problem = self.assertRaises(ValueError, parseUDP, text, listening)
            self.assertIn(expected, str(problem))

    def test_carrying(self) -> None:
        """RakNet carries datagrams as messages; others, and who has chosen, are as written."""
        self.assertEqual(carrying("raknet:h:1"), "raknet:h:1:mode=messages")
        for text in ("raknet:h:1:mode=messages", "kcp:h:1", "qotp:1"):
            self.assertEqual(carrying(text), text)


class HelloTests(ForwardCase):
    """The greeting on the stream."""

    def test_mismatch(self) -> None:
        """An end that says something else, or nothing, is left, and that is said."""
        self.start()
        server: Any = KCPServerEndpoint(self.far.reactor, 4001)
        for greeting, expected in ((b"HTTP/1.1", "no forwarder"), (b"", "does not answer")):
            said: list[bytes] = []
            built = _Greeting(greeting, said)
            port = self.successResultOf(server.listen(built))
            listen = self.second(4001)
            source, _ = self.source()
            self.send(source, b"x", port=5001)
            self.network.runFor(HELLO_TIMEOUT + 2)
            self.assertEqual(b"".join(said), HELLO)
            self.assertIn(expected, self.texts()[-1])
            self.network.run(listen.stopService())
            closing = port.stopListening()
            if closing is not None:
                self.network.run(closing)
