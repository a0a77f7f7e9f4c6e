"""Nothing secret is in the text of any object: not in logs, not in tracebacks (EP-6)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.kcp.crypto import from_password
from twisted_rudp.raknet.wire import ConnectionRequest
from twisted_rudp.testing import MemoryNetwork

SECRET = "correct horse battery"
KEY = hashlib.sha256(b"a key").digest()


def ours(start: object) -> Iterator[object]:
    """Every object of this package's classes that can be reached, also through containers."""
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, dict):
            waiting += [*each.keys(), *each.values()]
        elif isinstance(each, (list, tuple, set, frozenset)):
            waiting += each
        if type(each).__module__.startswith("twisted_rudp."):
            yield each
            names = [*getattr(each, "__dict__", {})]
            for cls in type(each).__mro__:
                slots = cls.__dict__.get("__slots__", ())
                names += [slots] if isinstance(slots, str) else slots
            waiting += [getattr(each, name) for name in names if hasattr(each, name)]


class SecretTests(SynchronousTestCase):
    """Endpoints with secrets, before and after a connection."""

    def connected(self, server: Any, client: Any, named: Any, ofClient: Any) -> list[object]:
        """Two endpoints, what they listen and dial with, and a transport of each side."""
        network = MemoryNetwork(seed=1)
        built: list[Protocol] = []

        class Keeping(Protocol):
            def connectionMade(self) -> None:
                built.append(self)

        there = network.host("server", "10.0.0.1").reactor
        here = network.host("client", "10.0.0.2").reactor
        listening = server(there, 4000, **named)
        port = self.successResultOf(listening.listen(Factory.forProtocol(Keeping)))
        dialling = client(here, "10.0.0.1", 4000, **ofClient)
        connecting = dialling.connect(Factory.forProtocol(Keeping))
        network.run(lambda: len(built) == 2)
        self.successResultOf(connecting)
        for protocol in built:
            protocol.transport.write(b"something")
        network.runFor(1)
        transports = [protocol.transport for protocol in built]
        found = [listening, dialling, port, *transports]
        for transport in transports:
            transport.abortConnection()
        self.addCleanup(port.stopListening)
        return found

    def assertHidden(self, roots: list[object], *secrets: bytes) -> None:
        """None of the secrets is in a text, in whatever form."""
        forms = {form for each in secrets for form in (each.hex(), repr(each)[2:-1])}
        count = 0
        for root in roots:
            for each in ours(root):
                count += 1
                text = f"{each!r} {each}"
                for form in forms:
                    self.assertNotIn(form, text, type(each))
        self.assertGreater(count, 50)

    def test_kcp(self) -> None:
        """A password, and a key."""
        for named, secret in (
            ({"password": SECRET}, SECRET.encode()),
            ({"key": KEY, "crypt": "aes-256-gcm"}, KEY),
        ):
            roots = self.connected(KCPServerEndpoint, KCPClientEndpoint, named, named)
            self.assertHidden(roots, secret, from_password(SECRET), KEY)

    def test_raknet(self) -> None:
        """A password, which is in the clear on the wire but in no text of ours."""
        named = {"password": SECRET}
        roots = self.connected(RakNetServerEndpoint, RakNetClientEndpoint, named, named)
        self.assertHidden([*roots, ConnectionRequest(1, 2, 0, SECRET.encode())], SECRET.encode())

    def test_qotp(self) -> None:
        """Identities by a text and by a private key."""
        private = hashlib.sha256(SECRET.encode()).digest()
        roots = self.connected(
            QOTPServerEndpoint, QOTPClientEndpoint, {"seed": SECRET}, {"seedHex": KEY.hex()}
        )
        self.assertHidden(roots, SECRET.encode(), private, KEY)
