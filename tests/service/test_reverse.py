"""C{twist rudp reverse}: listening for clients behind NATs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger, formatEvent
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.endpoints.talks import Collecting, Echo, Talk
from tests.service.programs import TWIST, Program
from tests.service.test_twist import ask
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.mux import MuxServerEndpoint, Side, carrying
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.endpoints.reverse import MOST_OFFERS, ReverseClient, ReverseServerEndpoint
from twisted_rudp.errors import PeerReset
from twisted_rudp.mux.control import (
    ControlReader,
    Listen,
    Listening,
    Offer,
    Origin,
    Proof,
    Refusal,
    Refused,
    Stop,
    pack_message,
    pack_origin,
    pack_preface,
)
from twisted_rudp.qotp.keys import KeyPair
from twisted_rudp.service.listening import ListeningService
from twisted_rudp.service.reverse import (
    Allowed,
    ReverseOptions,
    ReverseService,
    allowed,
    candidates,
)
from twisted_rudp.testing import MemoryNetwork
from twisted_rudp.testing.impairments import Impairments

PORT = 4000
SECRET = b"0123456789abcdef"

KINDS: dict[str, tuple[Any, Any]] = {
    "kcp": (KCPServerEndpoint, KCPClientEndpoint),
    "qotp": (QOTPServerEndpoint, QOTPClientEndpoint),
    "raknet": (RakNetServerEndpoint, RakNetClientEndpoint),
}


class RuleTests(SynchronousTestCase):
    """What may be asked for."""

    def test_allowed(self) -> None:
        """One port or several, IPv6, and a client's key."""
        key = "ab" * 32
        for text, wanted in (
            ("tcp:127.0.0.1:8000", Allowed(None, "127.0.0.1", 8000, 8000)),
            ("tcp:0.0.0.0:8000-8010", Allowed(None, "0.0.0.0", 8000, 8010)),
            ("tcp:[2001:DB8::1]:80", Allowed(None, "2001:db8::1", 80, 80)),
            (f"{key}@tcp:127.0.0.1:1", Allowed(bytes.fromhex(key), "127.0.0.1", 1, 1)),
        ):
            self.assertEqual(allowed(text), wanted)
        for bad in (
            "", "8000", "udp:127.0.0.1:1", "tcp:localhost:1", "tcp:127.0.0.1", "tcp:127.0.0.1:0",
            "tcp:127.0.0.1:9-8", "tcp:127.0.0.1:65536", "tcp:127.0.0.1:1-2-3", "ab@tcp:127.0.0.1:1",
            "tcp:127.0.0.1:1 ", "tcp:1.2.3:1", "tcp:127.0.0.1:٣",
        ):  # fmt: skip
            self.assertRaises(ValueError, allowed, bad)

    def test_candidates(self) -> None:
        """Only what a rule for this client has, in the order of the rules."""
        mine, other = b"a" * 32, b"b" * 32
        rules = [
            Allowed(None, "127.0.0.1", 8000, 8002),
            Allowed(mine, "127.0.0.1", 9000, 9000),
            Allowed(None, "2001:db8::1", 80, 80),
        ]
        for key, host, port, wanted in (
            (None, "127.0.0.1", 8001, [8001]),
            (None, "127.0.0.1", 0, [8000, 8001, 8002]),
            (mine, "127.0.0.1", 0, [8000, 8001, 8002, 9000]),
            (other, "127.0.0.1", 9000, []),
            (None, "127.0.0.1", 9000, []),
            (None, "127.0.0.1", 8003, []),
            (None, "0.0.0.0", 8000, []),
            (None, "2001:0db8:0::1", 80, [80]),
            (None, "localhost", 80, []),
        ):
            self.assertEqual(candidates(rules, key, host, port), wanted)


class ReverseTestCase(SynchronousTestCase):
    """
    A server, a client behind it, and visitors of the server. What the server listens on for
    its clients is KCP here, for the simulated network has no TCP.
    """

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=5, delay=0.02)
        self.inside, self.server, self.visitor = (
            self.network.host(name) for name in ("inside", "server", "visitor")
        )
        self.events: list[dict[str, Any]] = []
        log = Logger(observer=self.events.append)
        for kind in (Side, ListeningService, ReverseService, ReverseClient):
            self.patch(kind, "_log", log)
        self.services = Collecting(Echo)

    def said(self) -> str:
        return "\n".join(formatEvent(event) for event in self.events)

    def serve(
        self, kind: str = "kcp", secret: bytes | None = SECRET, **more: Any
    ) -> ReverseService:
        """The server."""
        rules = [allowed("tcp:10.0.0.2:8000-8003"), *more.pop("rules", ())]
        service = ReverseService(
            self.network.clock,
            "reverse",
            KINDS[kind][0](self.server.reactor, PORT, **more),
            rules,
            limit=100,
            drain=5,
            secret=secret,
            bind=lambda host, port: KCPServerEndpoint(
                self.server.reactor, port, interface=host, drainTimeout=0
            ),
        )
        service.startService()
        self.addCleanup(self.network.runFor, 20)
        self.addCleanup(service.stopService)
        return service

    def client(
        self, kind: str = "kcp", secret: bytes | None = SECRET, **more: Any
    ) -> ReverseClient:
        """The client's session."""
        endpoint = KINDS[kind][1](self.inside.reactor, self.server.address, PORT, **more)
        return ReverseClient(endpoint, secret=secret)

    def offer(self, client: ReverseClient, port: int = 8000, host: str = "10.0.0.2") -> Any:
        """
        @return: what listening gives.
        """
        listening = ReverseServerEndpoint(client, port, host).listen(self.services)
        self.addCleanup(self.network.runFor, 20)
        self.addCleanup(listening.addErrback, lambda failure: None)
        self.addCleanup(listening.cancel)
        return listening

    def visit(self, port: int = 8000) -> Any:
        """Somebody connects to the server, and says something."""
        endpoint = KCPClientEndpoint(
            self.visitor.reactor, self.server.address, port, timeout=3.0
        )
        talks = Collecting(Talk)
        waiting: Deferred[Any] = endpoint.connect(talks)
        waiting.addCallbacks(lambda talk: talk.transport.write(b"hello"), lambda failure: None)
        self.network.runFor(1)
        return talks.built[0] if talks.built else None


class ReverseTests(ReverseTestCase):
    """A client whose service is reached at the server."""

    def test_relayed(self) -> None:
        """Who connects to the server talks to the service, over each transport."""
        for kind in KINDS:
            self.setUp()
            service = self.serve(kind)
            listening = self.offer(self.client(kind))
            self.network.runFor(2)
            port = self.successResultOf(listening)
            verifyObject(IListeningPort, port)
            self.assertEqual(port.getHost(), IPv4Address("TCP", "10.0.0.2", 8000), kind)
            self.assertEqual(service.addresses, [("10.0.0.2", 8000)])
            talks = [self.visit() for _ in range(3)]
            self.assertEqual([talk.heard for talk in talks], [b"hello"] * 3, kind)
            talks[0].transport.loseConnection()
            talks[1].transport.abortConnection()
            self.network.runFor(1)
            lost = [each.lost is not None for each in self.services.built]
            self.assertEqual(lost, [True, True, False])
            self.network.run(port.stopListening())
            self.network.runFor(1)
            self.assertEqual(service.addresses, [])
            self.assertIsNone(self.visit())

    def test_interface(self) -> None:
        """It is a server endpoint; what is invalid is named."""
        client = self.client()
        verifyObject(IStreamServerEndpoint, ReverseServerEndpoint(client, 80))
        for port, host, word in ((70_000, "::1", "port"), (80, "localhost", "host")):
            error = self.assertRaises(ValueError, ReverseServerEndpoint, client, port, host)
            self.assertIn(word, str(error))

    def test_several(self) -> None:
        """Several addresses share a session; port 0 is the first that is free."""
        service = self.serve()
        client = self.client()
        listening = [self.offer(client, port) for port in (8001, 0, 0, 8003)]
        self.network.runFor(3)
        ports = [self.successResultOf(each).getHost().port for each in listening]
        self.assertEqual(ports, [8001, 8000, 8002, 8003])
        self.assertEqual(len(self.inside.ports), 1)
        self.assertEqual(len(service.addresses), 4)

    def test_notAllowed(self) -> None:
        """What no rule has is refused, by both logs; nothing is bound."""
        service = self.serve()
        listening = self.offer(self.client(), 9000)
        self.network.runFor(20)
        self.assertNoResult(listening)
        self.assertIn("does not listen on 10.0.0.2 port 9000: 10.0.0.2 port 9000 is not allowed",
                      self.said())  # fmt: skip
        self.assertIn("asked for 10.0.0.2 port 9000", self.said())
        self.assertEqual(service.addresses, [])
        self.assertTrue(2 < service.tally.counts["not_allowed"] < 8)

    def test_secret(self) -> None:
        """Who does not know the secret has nobody listen."""
        service = self.serve()
        for secret in (None, b"another secret of this length"):
            listening = self.offer(self.client(secret=secret))
            self.network.runFor(15)
            self.assertNoResult(listening)
            self.assertEqual(service.addresses, [])
        self.assertIn("the peer has no secret", self.said())
        self.assertIn("the peer has another secret", self.said())

    def test_keys(self) -> None:
        """With keys of clients each may ask for what is its own."""
        mine, other = KeyPair.from_text("mine"), KeyPair.from_text("other")
        service = self.serve(
            "qotp",
            None,
            allowedKeys=[mine.public, other.public],
            rules=[Allowed(mine.public, "10.0.0.2", 9000, 9000)],
        )
        refused = self.offer(self.client("qotp", None, seed="other"), 9000)
        self.network.runFor(3)
        self.assertNoResult(refused)
        taken = self.offer(self.client("qotp", None, seed="mine"), 9000)
        self.network.runFor(3)
        self.successResultOf(taken)
        self.assertEqual(service.addresses, [("10.0.0.2", 9000)])

    def test_plainServer(self) -> None:
        """A multiplexer that does not listen for others is named."""
        server = MuxServerEndpoint(KCPServerEndpoint(self.server.reactor, PORT))
        self.successResultOf(server.listen(Collecting(Echo)))
        self.assertNoResult(self.offer(self.client(secret=None)))
        self.network.runFor(3)
        self.assertIn("the peer does not listen for others", self.said())


class LostTests(ReverseTestCase):
    """The session is lost."""

    def test_serverGone(self) -> None:
        """A server that is started again listens again."""
        service = self.serve()
        listening = self.offer(self.client())
        self.network.runFor(2)
        port = self.successResultOf(listening)
        self.network.run(service.stopService())
        self.assertEqual(service.addresses, [])
        self.network.runFor(3)
        again = self.serve()
        self.network.runFor(15)
        self.assertEqual(again.addresses, [("10.0.0.2", 8000)])
        self.assertEqual(self.visit().heard, b"hello")
        self.assertEqual(port.getHost().port, 8000)

    def test_takenOver(self) -> None:
        """
        A client whose session the server does not know to be lost has its address again; another
        client has not.
        """
        service = self.serve()
        client = self.client(idleTimeout=5.0)
        self.offer(client)
        self.network.runFor(2)
        [old] = self.inside.ports
        self.network.impair(Impairments(cut=True), self.inside, self.server)
        self.network.runFor(8)
        self.network.impair(Impairments(delay=0.02), self.inside, self.server)
        self.network.runFor(12)
        self.assertNotEqual(self.inside.ports, [old])
        self.assertEqual(service.addresses, [("10.0.0.2", 8000)])
        self.assertEqual(self.visit().heard, b"hello")
        refused = self.offer(self.client())
        self.network.runFor(3)
        self.assertNoResult(refused)

    def test_clientGone(self) -> None:
        """The address is closed with the session that it belongs to."""
        service = self.serve(idleTimeout=5.0)
        self.offer(self.client())
        self.network.runFor(2)
        self.assertEqual(len(service.addresses), 1)
        self.network.impair(Impairments(cut=True), self.inside, self.server)
        self.network.runFor(10)
        self.assertEqual(service.addresses, [])


class Raw(Talk):
    """A peer that says what it likes on the control stream."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self.streams = Collecting(Talk)
        transport.acceptStreams(self.streams)

    def say(self, *said: Any) -> None:
        """Bytes as they are, and messages."""
        transport: Any = self.transport
        for each in said:
            transport.write(each if isinstance(each, bytes) else pack_message(each))

    def answers(self) -> list[Any]:
        """What the other end has said."""
        return list(ControlReader().feed(bytes(self.heard)))[1:]


class HostileTests(ReverseTestCase):
    """Peers that break the rules."""

    def hostileClient(self) -> Raw:
        """A session of somebody who has the key."""
        endpoint = carrying(
            KCPClientEndpoint(self.inside.reactor, self.server.address, PORT)
        )
        raws = Collecting(Raw)
        self.network.run(endpoint.connect(raws))
        raw: Raw = raws.built[0]
        raw.say(pack_preface(Offer(0), bytes(32)))
        self.network.runFor(0.2)
        return raw

    def listen(self, request: int, port: int = 8000, host: str = "10.0.0.2") -> Listen:
        return Listen(request, bytes(16), port, host)

    def test_rules(self) -> None:
        """Whatever a client should not say ends its session, and what was bound with it."""
        for said in (
            (b"\xff\0\0",),
            (b"\x02\xff\xff",),
            (self.listen(0),),
            (self.listen(1), self.listen(1, 8001)),
            (self.listen(1), Listening(1, 80, "::1")),
            (self.listen(1), Proof(bytes(32))),
            (pack_preface(Offer(0), bytes(32)),),
        ):
            self.setUp()
            service = self.serve(secret=None)
            raw = self.hostileClient()
            raw.say(*said)
            self.network.runFor(2)
            self.assertIsNotNone(raw.lost, said)
            self.assertEqual(service.addresses, [])

    def test_bounds(self) -> None:
        """No more addresses than a session may have, and none twice."""
        service = self.serve(secret=None, rules=[allowed("tcp:10.0.0.2:9000-9050")])
        raw = self.hostileClient()
        raw.say(self.listen(1), self.listen(2))
        raw.say(*[self.listen(10 + n, 9000 + n) for n in range(20)])
        raw.say(self.listen(99, 9049, "x" * 200))
        self.network.runFor(2)
        answers = {each.request: each for each in raw.answers()}
        self.assertIsInstance(answers[1], Listening)
        self.assertEqual(answers[2].code, Refusal.IN_USE)
        codes = [getattr(answers[10 + n], "code", None) for n in range(20)]
        self.assertEqual(codes.count(Refusal.LIMIT), 20 - (MOST_OFFERS - 1))
        self.assertEqual(len(service.addresses), MOST_OFFERS)
        self.assertEqual(answers[99].code, Refusal.LIMIT)
        raw.say(*[Stop(n) for n in range(100)])
        self.network.runFor(2)
        self.assertEqual(service.addresses, [])

    def test_log(self) -> None:
        """What a client asks for again and again is in the log now and then."""
        self.serve(secret=None)
        raw = self.hostileClient()
        for number in range(1, 200):
            raw.say(self.listen(number), Stop(number), self.listen(1000 + number, 9000))
        self.network.runFor(5)
        self.assertIsNone(raw.lost)
        self.assertEqual(len(raw.answers()), 2 * 199)
        said = self.said()
        place = "10.0.0.2 port"
        for words in (f"listening on {place} 8000 for", "any more", f"asked for {place} 9000"):
            self.assertEqual(said.count(words), 1, words)

    def test_saidAgain(self) -> None:
        """A server that says again and again that it listens is heard once."""
        raws = Collecting(Raw)
        server = carrying(KCPServerEndpoint(self.server.reactor, PORT))
        self.successResultOf(server.listen(raws))
        listening = self.offer(self.client(secret=None))
        self.network.runFor(1)
        raw = raws.built[0]
        raw.say(pack_preface(Offer.LISTENS, bytes(32)))
        raw.say(*[Listening(1, 80, "10.0.0.2")] * 100)
        self.network.runFor(1)
        self.assertEqual(self.said().count("the far end listens on"), 1)
        port = self.successResultOf(listening)
        port.stopListening()
        self.network.runFor(1)

    def test_streamsOfClients(self) -> None:
        """A client's own streams are not wanted."""
        self.serve(secret=None)
        raw = self.hostileClient()
        transport: Any = raw.transport
        stream = transport.openStream(Collecting(Talk))
        stream.transport.write(bytes(100))
        self.network.runFor(1)
        self.assertIs(stream.lost.type, PeerReset)
        self.assertIsNone(raw.lost)

    def test_server(self) -> None:
        """A server that answers nonsense, or opens streams nobody asked for, gets nothing."""
        for said in (
            (Listening(1, 80, "no-address"),),
            (Stop(1),),
            (b"\x07\0\0",),
            (Refused(1, 200, "x" * 200), Listening(55, 1, "::1"), Refused(0, 1, "")),
        ):
            self.setUp()
            raws = Collecting(Raw)
            server = carrying(KCPServerEndpoint(self.server.reactor, PORT))
            self.successResultOf(server.listen(raws))
            listening = self.offer(self.client(secret=None))
            self.network.runFor(1)
            raw = raws.built[0]
            raw.say(pack_preface(Offer.LISTENS, bytes(32)))
            self.network.runFor(0.2)
            stream = raw.transport.openStream(Collecting(Talk))
            stream.transport.write(pack_origin(Origin(9, 1, "::1")) + b"data")
            silent = raw.transport.openStream(Collecting(Talk))
            silent.transport.write(b"\0\1")
            raw.say(*said)
            self.network.runFor(1)
            self.assertIsNotNone(stream.lost)
            self.assertNoResult(listening)
            self.assertEqual(self.services.built, [])


class OptionsTests(SynchronousTestCase):
    """The command line."""

    def parse(self, *arguments: str) -> list[Any]:
        options = ReverseOptions()
        options.parseOptions(list(arguments))  # type: ignore[no-untyped-call]
        return options.services

    def test_options(self) -> None:
        """Servers and clients, with what authenticates the clients."""
        secret = self.mktemp()
        Path(secret).write_bytes(SECRET)
        keys = self.mktemp()
        Path(keys).write_text("ab" * 32)
        for arguments in (
            (f"--secret-file={secret}", "--listen=raknet:1"),
            ("--listen=kcp:1:password=secret",),
            (f"--listen=qotp:1:allowedKeys={quoteStringArgument(keys)}",
             f"--allow-listen={'ab' * 32}@tcp:0.0.0.0:80"),
        ):  # fmt: skip
            [service] = self.parse(*arguments, "--allow-listen", "tcp:127.0.0.1:8000-8010")
            self.assertIsInstance(service, ReverseService)
            # Where its socket is, which a reload and a takeover hand over.
            self.assertEqual(service.place, ("udp", "0.0.0.0", "1"))
        services = self.parse(
            "--via=kcp:h:1", "--offer=tcp:0.0.0.0:8000", "--to=tcp:127.0.0.1:80",
            "--offer=tcp:[::]:0", "--to=tcp:127.0.0.1:81",
        )  # fmt: skip
        self.assertEqual(len(services), 2)

    def test_refused(self) -> None:
        """What cannot be is named."""
        rule, offer = "--allow-listen=tcp:0.0.0.0:80", "--offer=tcp:0.0.0.0:80"
        for arguments, words in (
            ((), "--listen, for a server, or --via"),
            (("--listen=kcp:1", "--via=kcp:h:1"), "--listen, for a server, or --via"),
            (("--listen=kcp:1:password=x",), "--allow-listen is missing"),
            (("--listen=kcp:1", rule), "anybody could have this machine listen"),
            (("--listen=kcp:1:crypt=xor:password=x", rule), "anybody could"),
            (("--listen=qotp:1", rule), "anybody could"),
            (("--listen=kcp:1:password=x", rule, offer), "belong to --via"),
            (("--allow-listen=tcp:x:80",), "--allow-listen: 'tcp:x:80'"),
            (
                ("--listen=kcp:1:password=x", f"--allow-listen={'ab' * 32}@tcp:0.0.0.0:80"),
                "needs qotp: with allowedKeys",
            ),
            (("--via=kcp:h:1", offer), "1 --offer but 0 --to"),
            (("--via=kcp:h:1", rule), "belongs to --listen"),
            (("--via=kcp:h:1", "--offer=tcp:0.0.0.0:1-2"), "--offer: 'tcp:0.0.0.0:1-2'"),
            (("--via=tcp:h:1", offer, "--to=tcp:h:1"), "expected kcp:"),
            (("--via=kcp:h:1", "--secret-file=/nonexistent", offer, "--to=tcp:h:1"), "secretFile"),
        ):
            error = self.assertRaises(UsageError, self.parse, *arguments)
            self.assertIn(words, str(error))


class ProgramTests(SynchronousTestCase):
    """Three programs."""

    def test_programs(self) -> None:
        """An echo that is reached at a TCP port of the server, until its client ends."""
        secret = self.mktemp()
        Path(secret).write_bytes(SECRET)
        programs = []

        def start(*arguments: str) -> Program:
            programs.append(Program(*TWIST, "rudp", *arguments))
            self.addCleanup(programs[-1].kill)
            return programs[-1]

        echo = start("echo", "--listen", "tcp:0:interface=127.0.0.1")
        server = start(
            "reverse", "--listen", "qotp:0:interface=127.0.0.1", "--secret-file", secret,
            "--allow-listen", "tcp:127.0.0.1:20000-60000",
        )  # fmt: skip
        client = start(
            "reverse", "--via", f"qotp:127.0.0.1:{server.port()}", "--secret-file", secret,
            "--offer", "tcp:127.0.0.1:0", "--to", f"tcp:127.0.0.1:{echo.port()}",
        )  # fmt: skip
        port = client.port()
        for size in (1, 300_000):
            self.assertEqual(ask(port, bytes(size)), bytes(size))
        client.interrupt()
        client.expect(r"stopped: connections=2 .*forth=300001 back=300001")
        client.end()
        server.expect(f"not listening on 127.0.0.1 port {port} any more")
        server.interrupt()
        server.expect(r"stopped: listenings=1 not_allowed=0 connections=2 refused=0")
        server.end()
        for program in programs:
            self.assertNotIn("Traceback", program.output)
