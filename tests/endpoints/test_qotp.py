"""QOTP endpoints: their arguments, keys, and what a transport tells of its peer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.qotp.test_transcripts import Transcript, early
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint, exportKey
from twisted_rudp.errors import PeerForgot
from twisted_rudp.interfaces import IMultiplexed
from twisted_rudp.qotp.keys import KeyPair, create_key_file
from twisted_rudp.testing import MemoryNetwork

KEY = "ab" * 32


class ArgumentTests(SynchronousTestCase):
    """What endpoints take and refuse."""

    def test_identity(self) -> None:
        """A seed, its hex, or a file give the key; without any it is made, once."""
        path = self.mktemp()
        made = create_key_file(path, b"k" * 32)
        for given, wanted in [
            ({"seed": "text"}, KeyPair.from_text("text").public),
            ({"seedHex": "0x" + KEY}, KeyPair(bytes.fromhex(KEY)).public),
            ({"keyFile": path}, made.public),
        ]:
            self.assertEqual(QOTPServerEndpoint(Clock(), 0, **given).publicKey, wanted)
        fresh = QOTPServerEndpoint(Clock(), 0)
        self.assertEqual(fresh.publicKey, fresh.publicKey)
        self.assertNotEqual(fresh.publicKey, QOTPServerEndpoint(Clock(), 0).publicKey)

    def test_refused(self) -> None:
        """What cannot be meant is refused, and no secret is repeated."""
        for given in [
            {"seed": "a", "keyFile": "b"},
            {"seedHex": "secret!"},
            {"mtu": 100},
            {"idleTimeout": 0},
            {"portKind": "fast"},
        ]:
            error = self.assertRaises(ValueError, QOTPServerEndpoint, Clock(), 0, **given)
            self.assertNotIn("secret!", str(error))
        for key in ("ab", b"short"):
            with self.assertRaises(ValueError):
                QOTPClientEndpoint(Clock(), "host", 1, serverKey=key)

    def test_keyFile(self) -> None:
        """A key file is read when the endpoint is made; what is wrong with it is said."""
        folder, junk = self.mktemp(), self.mktemp()
        os.mkdir(folder)
        Path(junk).write_bytes(b"\xffroot:x:0:0:root:/root:/bin/sh\n")
        for path, expected in (
            (self.mktemp(), "No such file or directory"),
            (folder, "Is a directory"),
            (junk, "a key is 64 hex digits"),
        ):
            error = self.assertRaises(
                ValueError, serverFromString, Clock(), f"qotp:port=1:keyFile={path}"
            )
            self.assertIn(f"keyFile={path!r}", str(error))
            self.assertIn(expected, str(error))
            self.assertNotIn("root:x", str(error))

    def test_strings(self) -> None:
        """
        The strings of the design's section 8 are understood; errors name the argument
        and repeat no secret.
        """
        server: Any = serverFromString(Clock(), "qotp:port=8888:seed=secret")
        self.assertEqual(server.publicKey, KeyPair.from_text("secret").public)
        clientFromString(Clock(), f"qotp:host=example.org:port=8888:serverKey={KEY}")
        for text, expected in [
            ("qotp:port=1:seedHex=hidden", "seedHex: a key is 64 hex digits"),
            ("qotp:port=1:seed=hidden:keyFile=x", "seed and keyFile cannot be given together"),
            ("qotp:port=1:serverKey=" + KEY, "serverKey is an argument of the client"),
            ("qotp:port=1:mtu=9", "mtu='9' is invalid"),
        ]:
            error = self.assertRaises(ValueError, serverFromString, Clock(), text)
            self.assertIn(expected, str(error))
            self.assertNotIn("hidden", str(error))
        for text, expected in [
            ("qotp:host=h:port=1:serverKey=12", "serverKey='12' is invalid"),
        ]:
            error = self.assertRaises(ValueError, clientFromString, Clock(), text)
            self.assertIn(expected, str(error))


class KeyLogFileTests(SynchronousTestCase):
    """C{keyLogFile}."""

    def endpoint(self, **arguments: Any) -> QOTPServerEndpoint:
        return QOTPServerEndpoint(MemoryNetwork().host("a").reactor, 1, **arguments)

    def test_made(self) -> None:
        """It is there from the beginning, for its owner only, and the log warns of it."""
        path = self.mktemp()
        with capturedLogs() as events:
            self.endpoint(keyLogFile=path)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        [warning] = [formatEvent(each) for each in events if each["log_level"] is LogLevel.warn]
        self.assertEqual(warning, f"{path} gets the keys of all connections: for tests only")

    def test_errors(self) -> None:
        """A file that cannot be written, or a function beside it, is refused."""
        problem = self.assertRaises(ValueError, self.endpoint, keyLogFile="/nowhere/x")
        self.assertIn("keyLogFile='/nowhere/x': No such file", str(problem))
        both = {"keyLogFile": self.mktemp(), "keyLog": print}
        self.assertRaises(ValueError, self.endpoint, **both)


class ConnectionCase(SynchronousTestCase):
    """A connection on a simulated network."""

    kind: type[Protocol] = Protocol

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=4, delay=0.01)
        self.hosts = [self.network.host("client"), self.network.host("server")]
        self.logged: list[str] = []
        self.server = QOTPServerEndpoint(
            self.hosts[1].reactor,
            4000,
            seed="server",
            entropy=self.network.random.randbytes,
            keyLog=self.logged.append,
        )
        self.accepted: list[Protocol] = []
        factory = Factory()
        factory.buildProtocol = self.build  # type: ignore[method-assign]
        self.successResultOf(self.server.listen(factory))

    def build(self, address: object) -> Protocol:
        self.accepted.append(self.kind())
        return self.accepted[-1]

    def connect(self, **arguments: Any) -> Any:
        endpoint = QOTPClientEndpoint(
            self.hosts[0].reactor, "server", 4000, seed="client", **arguments
        )
        connecting = endpoint.connect(Factory.forProtocol(Protocol))
        self.network.run(connecting)
        self.network.runFor(0.5)
        return self.successResultOf(connecting).transport


class ConnectionTests(ConnectionCase):
    """What a connection is."""

    def test_known(self) -> None:
        """With the key the server is proved; the client's key is a claim."""
        transport = self.connect(serverKey=self.server.publicKey)
        verifyObject(IMultiplexed, transport)
        self.assertTrue(transport.facts()["peer_key_proved"])
        theirs: Any = self.accepted[0].transport
        self.assertEqual(theirs.facts()["peer_key"], KeyPair.from_text("client").public.hex())
        self.assertFalse(theirs.facts()["peer_key_proved"])
        self.assertEqual(exportKey(transport, b"a"), exportKey(theirs, b"a"))

    def test_unknown(self) -> None:
        """Without it nothing is proved, and the claim is labelled."""
        facts = self.connect().facts()
        self.assertFalse(facts["peer_key_proved"])
        self.assertEqual(facts["peer_key"], self.server.publicKey.hex())

    def test_noSecrets(self) -> None:
        """Facts hold no key that decrypts; the key log, for which one asks, does."""
        transport = self.connect(serverKey=self.server.publicKey.hex())
        (lines,) = self.logged
        for line in lines.splitlines():
            self.assertNotIn(line.split()[2], str(transport.facts()))
        self.assertEqual(len(lines.splitlines()), 2)

    def test_early(self) -> None:
        """
        W4: what a dialler of the release says in its first datagram is refused, or taken
        and marked as early until its first Data.
        """
        transcript = Transcript("transcript_zero_rtt_loss_first")
        keys = transcript.recorded["keys"]
        private = bytes.fromhex(keys["responder_ephemeral"]["private"])
        for port, earlyData in ((4001, True), (4002, False)):
            endpoint = QOTPServerEndpoint(
                self.hosts[1].reactor,
                port,
                seedHex=keys["responder_identity"]["private"],
                entropy=lambda size: private[:size],
                earlyData=earlyData,
            )
            heard: list[bytes] = []

            def build(address: object, heard: list[bytes] = heard) -> Protocol:
                self.accepted.append(Protocol())
                self.accepted[-1].dataReceived = heard.append  # type: ignore[method-assign]
                return self.accepted[-1]

            factory = Factory()
            factory.buildProtocol = build  # type: ignore[method-assign]
            self.successResultOf(endpoint.listen(factory))
            dialler: Any = self.hosts[0].reactor.listenUDP(0, DatagramProtocol())
            first, late = [each for _, each in transcript.datagrams("initiator", True)][:2]
            dialler.write(first, (self.hosts[1].address, port))
            self.network.runFor(0.1)
            self.assertEqual(heard, [*early(transcript).values()] if earlyData else [])
            if earlyData:
                transport: Any = self.accepted[-1].transport
                self.assertTrue(transport.facts()["early"])
            dialler.write(late, (self.hosts[1].address, port))
            self.network.runFor(0.1)
            transport = self.accepted[-1].transport
            self.assertFalse(transport.facts()["early"])

    def test_restarted(self) -> None:
        """A server that was restarted with the same key is noticed within a round trip."""
        self.kind = Recording
        endpoint = QOTPClientEndpoint(self.hosts[0].reactor, "server", 4000)
        connecting = endpoint.connect(Factory.forProtocol(Recording))
        self.network.run(connecting)
        self.network.runFor(0.5)
        client: Any = self.successResultOf(connecting)
        self.hosts[1].reactor.disconnectAll()
        self.successResultOf(self.server.listen(Factory.forProtocol(Protocol)))
        client.transport.write(b"are you still there?")
        self.network.runFor(0.03)
        self.assertIs(client.reason, PeerForgot)

    def test_rebinding(self) -> None:
        """W10: a NAT that gives the client another address changes nothing for the protocols."""
        transport = self.connect(serverKey=self.server.publicKey)
        heard: list[bytes] = []
        self.accepted[0].dataReceived = heard.append  # type: ignore[method-assign]
        inside = (self.hosts[0].address, transport.getHost().port)
        self.hosts[0].rebind(inside, ("203.0.113.9", 999))
        transport.write(b"from a new address")
        self.network.runFor(2)
        theirs: Any = self.accepted[0].transport
        self.assertEqual(heard, [b"from a new address"])
        self.assertEqual(theirs.getPeer().host, "203.0.113.9")
        answers: list[bytes] = []
        transport.protocol.dataReceived = answers.append
        theirs.write(b"and back")
        self.network.runFor(1)
        self.assertEqual(answers, [b"and back"])


class Recording(Protocol):
    """What came, and why it ended."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.reason: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.reason = reason.type


@implementer(IHalfCloseableProtocol)
class Stubborn(Recording):
    """Never ends its half."""

    def readConnectionLost(self) -> None:
        pass

    def writeConnectionLost(self) -> None:
        pass


class EndOfStreamsTests(ConnectionCase):
    """Other streams when stream 0 is closed."""

    def streams(self, kind: type[Recording]) -> tuple[Any, Any, Any, Any]:
        """Both ends of stream 0, and both of another one."""
        transport = self.connect(serverKey=self.server.publicKey)
        theirs: Any = self.accepted[0].transport
        made: list[Recording] = []

        def build(address: object) -> Recording:
            made.append(kind())
            return made[-1]

        factory = Factory()
        factory.buildProtocol = build  # type: ignore[method-assign]
        transport.acceptStreams(factory)
        opened = theirs.openStream(Factory.forProtocol(kind))
        opened.transport.write(b"!")
        self.network.runFor(1)
        return transport, theirs, made[0], opened

    def test_delivered(self) -> None:
        """
        C: what was written to another stream is delivered whole, whoever closes stream 0
        and whichever way it goes; both ends of it are told that it ended in order.
        """
        for closer in range(2):
            for writer in range(2):
                *mains, accepted, opened = self.streams(Recording)
                data = bytes(range(250)) * 8000
                ends = (accepted, opened)
                ends[writer].transport.write(data)
                mains[closer].loseConnection()
                self.network.runFor(20)
                received = bytes(ends[1 - writer].received).lstrip(b"!")
                self.assertTrue(received == data, (closer, writer, len(received)))
                self.assertEqual([end.reason for end in ends], [ConnectionDone, ConnectionDone])
                self.accepted.clear()

    def test_cut(self) -> None:
        """A stream whose other half never ends is cut when nothing more comes, and says so."""
        self.kind = Stubborn
        main, _, accepted, opened = self.streams(Stubborn)
        main.loseConnection()
        self.network.runFor(25)
        self.assertEqual([accepted.reason, opened.reason], [None, None])
        self.network.runFor(15)
        for end in (accepted, opened):
            self.assertTrue(issubclass(end.reason, ConnectionLost), end.reason)
