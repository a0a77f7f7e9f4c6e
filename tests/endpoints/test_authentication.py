"""Who may connect to a QOTP endpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.endpoints.support import Collecting
from twisted_rudp import stats
from twisted_rudp.endpoints import authentication
from twisted_rudp.endpoints.authentication import AllowedKeys, passwordFrom
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.errors import AuthenticationFailed
from twisted_rudp.net.table import DEFAULTS
from twisted_rudp.qotp.keys import KeyPair
from twisted_rudp.qotp.wire import Kind
from twisted_rudp.testing import MemoryNetwork

ALICE, BOB = KeyPair.from_text("alice"), KeyPair.from_text("bob")


class KeyFileCase(SynchronousTestCase):
    """A file of keys."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.age = 0

    def write(self, *lines: str) -> None:
        self.path.write_text("\n".join(lines))
        # Two writes may be closer to each other than the file system's clock can tell.
        self.age += 1
        os.utime(self.path, (self.age, self.age))


class AllowedKeysTests(KeyFileCase):
    """The keys that are allowed."""

    def test_file(self) -> None:
        """Comments and empty lines are nothing; what changes in the file holds at once."""
        self.write("# who may come in", "", f"  {ALICE.public.hex()}  # Alice", "")
        allowed = AllowedKeys(str(self.path))
        self.assertIn(ALICE.public, allowed)
        self.assertNotIn(BOB.public, allowed)
        self.write(BOB.public.hex())
        self.assertNotIn(ALICE.public, allowed)
        self.assertIn(BOB.public, allowed)

    def test_broken(self) -> None:
        """A file that is broken or gone changes nothing, and is logged once."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.write(ALICE.public.hex())
        allowed = AllowedKeys(self.path)
        self.write(BOB.public.hex(), "abc")
        for _ in range(3):
            self.assertIn(ALICE.public, allowed)
        self.assertEqual([str(event["problem"]) for event in events], [
            f"allowedKeys={str(self.path)!r}, line 2: no key; expected 64 hexadecimal digits, as"
            " rudp keygen prints them"
        ])  # fmt: skip
        self.path.unlink()
        self.assertIn(ALICE.public, allowed)
        self.assertIn("No such file", str(events[1]["problem"]))
        self.assertRaises(ValueError, allowed.reload)
        self.write(BOB.public.hex())
        allowed.reload()
        self.assertIn(BOB.public, allowed)

    def test_refused(self) -> None:
        """What cannot be read at the start is an error; it does not repeat a line."""
        self.write("a secret pasted here by mistake")
        error = self.assertRaises(ValueError, AllowedKeys, self.path)
        self.assertIn("line 1", str(error))
        self.assertNotIn("pasted", str(error))
        self.assertRaises(ValueError, AllowedKeys, "/nonexistent/file")
        self.assertRaises(ValueError, AllowedKeys, [b"short"])
        self.assertRaises(ValueError, AllowedKeys, ["zz"])
        self.patch(authentication, "LONGEST_FILE", 10)
        self.assertRaises(ValueError, AllowedKeys, self.path)

    def test_given(self) -> None:
        """A program gives keys in either form, and others later."""
        allowed = AllowedKeys([ALICE.public, BOB.public.hex()])
        self.assertEqual(len(allowed), 2)
        allowed.reload()
        allowed.replace([BOB.public])
        self.assertNotIn(ALICE.public, allowed)

    def test_password(self) -> None:
        """A password is given or read from the first line of a file, not both."""
        self.write("sesame\r", "a note")
        secret = b"of a connection"
        given = passwordFrom("sesame", None)
        read = passwordFrom(None, str(self.path))
        assert given is not None and read is not None
        self.assertEqual(given.proof(b"x", secret), read.proof(b"x", secret))
        self.assertIsNone(passwordFrom(None, None))
        self.assertRaises(ValueError, passwordFrom, "a", str(self.path))
        self.assertRaises(ValueError, passwordFrom, None, "/nonexistent/file")
        self.write("")
        self.assertRaises(ValueError, passwordFrom, None, str(self.path))


class EndpointTests(KeyFileCase):
    """Endpoints on a simulated network."""

    def setUp(self) -> None:
        super().setUp()
        self.network = MemoryNetwork(seed=4, delay=0.01)
        self.hosts = [self.network.host("client"), self.network.host("server")]
        self.accepted = Collecting()
        self.addCleanup(self.hosts[1].reactor.disconnectAll)

    def listen(self, **arguments: Any) -> QOTPServerEndpoint:
        server = QOTPServerEndpoint(
            self.hosts[1].reactor, 4000, seed="server",
            entropy=self.network.random.randbytes, **arguments,
        )  # fmt: skip
        self.port = self.successResultOf(server.listen(self.accepted))
        return server

    def connect(self, seed: str, **arguments: Any) -> Any:
        endpoint = QOTPClientEndpoint(
            self.hosts[0].reactor, "server", 4000, seed=seed, **arguments
        )
        connecting = endpoint.connect(Collecting())
        self.network.runFor(0.5)
        return connecting

    def statistics(self) -> stats.PortStats:
        """Of the server's port, the newest one of this address: each test has its own network."""
        every = stats.ports.snapshot().ports
        return [each for each in every if each.host == self.port.getHost()][-1]

    def refused(self, connecting: Any) -> str:
        return str(self.failureResultOf(connecting, AuthenticationFailed).value)

    def test_keys(self) -> None:
        """Those in the file come in, their keys proved; the list may change meanwhile."""
        self.write(ALICE.public.hex())
        server = self.listen(allowedKeys=str(self.path))
        self.successResultOf(self.connect("alice"))
        facts = self.accepted.built[0].transport.facts()  # type: ignore[union-attr]
        self.assertEqual(facts["peer_key"], ALICE.public.hex())
        self.assertTrue(facts["peer_key_proved"])
        text = self.refused(self.connect("bob"))
        self.assertIn(f"the server does not allow our key {BOB.public.hex()}", text)
        self.write(BOB.public.hex())
        self.successResultOf(self.connect("bob"))
        self.refused(self.connect("alice"))
        server.reloadKeys([ALICE.public])
        self.successResultOf(self.connect("alice"))
        self.assertEqual([talk.lost for talk in self.accepted.built], [None] * 3)

    def test_reload(self) -> None:
        """C{reloadKeys} says what is wrong, and there is nothing to reload without keys."""
        self.write(ALICE.public.hex())
        server = self.listen(allowedKeys=str(self.path))
        self.write("nonsense")
        self.assertRaises(ValueError, server.reloadKeys)
        self.assertRaises(ValueError, server.reloadKeys, ["nonsense"])
        self.successResultOf(self.connect("alice"))
        with self.assertRaises(RuntimeError):
            QOTPServerEndpoint(self.hosts[1].reactor, 1, seed="x").reloadKeys()

    def test_password(self) -> None:
        """The right one; a wrong one and none are refused at both ends, in the log now and then."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        server = self.listen(password="sesame")
        self.successResultOf(self.connect("alice", password="sesame", serverKey=server.publicKey))
        for wrong in ({}, {"password": "simsalabim"}):
            text = self.refused(self.connect("alice", **wrong))
            self.assertIn("missing or wrong", text)
        self.assertEqual(len(self.accepted.built), 1)
        (event,) = [each for each in events if each.get("log_level").name == "warn"]
        self.assertEqual(event["detail"], "its password is missing or wrong")
        self.assertEqual(event["peer"][0], self.hosts[0].address)
        port = self.statistics()
        self.assertEqual(port.counters["notAuthenticated"], 2)
        self.assertNotIn("sesame", repr(server) + str(vars(server)))

    def test_bothWays(self) -> None:
        """A client with a password is not connected to a server that knows another, or none."""
        self.listen()
        self.assertIn("does not ask", self.refused(self.connect("alice", password="sesame")))
        self.assertEqual(self.accepted.built, [])

    def test_silent(self) -> None:
        """A client that never proves anything is gone after the time of a handshake."""
        link = self.network.link(*self.hosts)
        link.drop_if = lambda data: data[0] == Kind.DATA and len(data) > 100
        self.listen(password="sesame")
        connecting = self.connect("alice", password="sesame")
        self.assertNoResult(connecting)
        self.assertEqual(self.statistics().counters["demux.not_authenticated"], 1)
        self.network.runFor(DEFAULTS.handshakeTimeout + 25)
        self.failureResultOf(connecting)
        self.assertEqual(self.accepted.built, [])
        port = self.statistics()
        self.assertEqual(port.counters["demux.not_authenticated"], 0)
        self.assertEqual(port.sessions, ())

    def test_strings(self) -> None:
        """Both are arguments of endpoint strings; errors repeat no password."""
        self.write(ALICE.public.hex())
        reactor = self.hosts[1].reactor
        server = serverFromString(
            reactor, f"qotp:4000:seed=server:allowedKeys={self.path}:password=sesame"
        )
        self.successResultOf(server.listen(self.accepted))
        client = clientFromString(
            self.hosts[0].reactor, "qotp:server:4000:seed=alice:password=sesame"
        )
        connecting = client.connect(Collecting())
        self.network.run(connecting)
        self.network.runFor(0.1)
        self.assertEqual(len(self.accepted.built), 1)
        with self.assertRaises(ValueError):
            serverFromString(reactor, "qotp:4000:allowedKeys=/nonexistent/file")
        error = self.assertRaises(
            ValueError,
            serverFromString,
            reactor,
            f"qotp:4000:password=sesame:passwordFile={self.path}",
        )
        self.assertNotIn("sesame", str(error))
