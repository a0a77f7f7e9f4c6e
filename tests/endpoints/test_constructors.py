"""What the constructors of the KCP endpoints refuse, and a conversation that is asked for."""

from __future__ import annotations

import inspect
import os
import pydoc
from typing import Any

from twisted.internet import error
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.endpoints.kcp import FIRST_CONV, REUSE_PAUSE, KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.testing import MemoryNetwork

SERVER_WRONG: dict[str, tuple[Any, ...]] = {
    "port": (-1, 65_536, "4000", None, 1.5),
    "backlog": (0, "128"),
    "maxSessions": (0,),
    "sessionsPerHost": (0,),
    "perHost": (0,),
    "sessions": ("none", 3),
    "blacklist": (-1, float("nan"), "10"),
    "requireSn0": ("no", 2),
    "drainTimeout": (-1, float("inf")),
}

CLIENT_WRONG: dict[str, tuple[Any, ...]] = {
    "port": (0, 65_536, "4000"),
    "timeout": (0, -1, float("nan"), "30"),
    "waitForPeer": ("no", None),
    "conv": (-1, 1 << 32, "7"),
}

BOTH_WRONG: dict[str, tuple[Any, ...]] = {
    "profile": ("slow",),
    "nodelay": (3, "1"),
    "interval": (9, 10.5),
    "resend": (-1,),
    "nc": (2, "no"),
    "sndwnd": (-1, 65_536),
    "rcvwnd": (-1, 65_536),
    "congestion": ("tolerant", 1),
    "deadLink": (-1,),
    "mtu": (24, 65_508, "1400"),
    "mode": ("datagrams", None),
    "dataShards": (-1, 256),
    "parityShards": (3,),
    "alwaysParity": ("no",),
    "dup": (17,),
    "rateLimit": (-1, 0.5),
    "writeDelay": ("no",),
    "ackNoDelay": ("no",),
    "readTimeout": (-1, float("inf")),
    "writeTimeout": ("1",),
    "dscp": (64, -1),
    "readBuffer": (0,),
    "writeBuffer": (0,),
    "idleTimeout": (0, float("nan")),
    "portKind": ("fast",),
}


class ArgumentTests(SynchronousTestCase):
    """Each argument of a constructor is checked where it is given."""

    def assertNamed(self, make: Any, name: str, value: object) -> None:
        """The error names the argument and its value."""
        wrong = self.assertRaises(ValueError, make, **{name: value})
        self.assertIn(name, str(wrong))
        self.assertIn(repr(value), str(wrong))

    def test_entropy(self) -> None:
        """
        Keys, numbers and nonces are made of the system's randomness unless a test says
        otherwise (TIME-7).
        """
        for made in (
            KCPServerEndpoint(Clock(), 1),
            KCPClientEndpoint(Clock(), "192.0.2.1", 1),
            RakNetServerEndpoint(Clock(), 1),
            RakNetClientEndpoint(Clock(), "192.0.2.1", 1),
            QOTPServerEndpoint(Clock(), 1, seed="a"),
            QOTPClientEndpoint(Clock(), "192.0.2.1", 1),
        ):
            self.assertIs(made.entropy, os.urandom)

    def test_help(self) -> None:
        """The help of each class names every argument with its values and its default."""
        for cls in (
            KCPServerEndpoint,
            KCPClientEndpoint,
            RakNetServerEndpoint,
            RakNetClientEndpoint,
            QOTPServerEndpoint,
            QOTPClientEndpoint,
        ):
            text = pydoc.plain(pydoc.render_doc(cls))
            arguments = inspect.signature(cls).parameters
            self.assertEqual(cls.options().keys(), arguments.keys())
            for name in arguments:
                self.assertIn(f"@param {name}: ", text)
        doc = " ".join((KCPServerEndpoint.__doc__ or "").split())
        self.assertIn(
            "@param resend: Retransmit a segment after this many later ones were acknowledged; 0:"
            " never. Values: an integer from 0 to 1000; default"
            " by the profile.",
            doc,
        )

    def test_server(self) -> None:
        """Values of another type or out of range, for a server."""

        def make(port: Any = 4000, **named: Any) -> KCPServerEndpoint:
            return KCPServerEndpoint(Clock(), port, **named)

        for name, values in {**SERVER_WRONG, **BOTH_WRONG}.items():
            for value in values:
                self.assertNamed(make, name, value)

    def test_client(self) -> None:
        """The same for a client."""

        def make(port: Any = 4000, **named: Any) -> KCPClientEndpoint:
            return KCPClientEndpoint(Clock(), "192.0.2.1", port, **named)

        for name, values in {**CLIENT_WRONG, **BOTH_WRONG}.items():
            for value in values:
                self.assertNamed(make, name, value)


class ConversationTests(SynchronousTestCase):
    """C{conv} of a client."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(seed=1)
        self.client = self.network.host("client", "10.0.0.2").reactor
        server = self.network.host("server", "10.0.0.1").reactor
        listening = KCPServerEndpoint(server, 4000).listen(Factory.forProtocol(Protocol))
        self.successResultOf(listening)

    def dial(self, **named: Any) -> Any:
        endpoint = KCPClientEndpoint(self.client, "10.0.0.1", 4000, **named)
        return self.connect(endpoint)

    def connect(self, endpoint: KCPClientEndpoint) -> Any:
        connecting = endpoint.connect(Factory.forProtocol(Protocol))
        self.network.runFor(1.0)
        return connecting

    def test_given(self) -> None:
        """The number that was agreed on, 0 and the largest among them."""
        for conv in (0, 7, 0xFFFFFFFF):
            protocol = self.successResultOf(self.dial(conv=conv))
            self.assertEqual(protocol.transport.facts()["conversation"], conv)

    def test_random(self) -> None:
        """Left out it is random, and never 0, which some listeners replace."""
        protocol = self.successResultOf(self.dial(entropy=bytes))
        self.assertEqual(protocol.transport.facts()["conversation"], FIRST_CONV)

    def test_reused(self) -> None:
        """
        The same number from the same port is refused for a while after the end of
        the session that had it (kcp-close.md 7.3).
        """
        bound = ("10.0.0.2", 5000)
        pinned = KCPClientEndpoint(
            self.client, "10.0.0.1", 4000, conv=7, bindAddress=bound, timeout=2
        )
        first = self.successResultOf(self.connect(pinned))
        first.transport.loseConnection()
        self.network.runFor(REUSE_PAUSE - 5)
        refused = self.failureResultOf(self.connect(pinned), error.ConnectBindError)
        self.assertIn("conv=7", str(refused.value))
        self.network.runFor(10)
        self.successResultOf(self.connect(pinned))
