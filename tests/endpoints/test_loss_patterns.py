"""
Every pattern of losses of the first five datagrams each way, of a beginning and of an end, with
whole endpoints: the modes that the tests of the engines do not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from twisted.internet import endpoints
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.testing import Impairments, MemoryNetwork

FIRST = 5
"""Datagrams each way whose loss is tried."""

PATTERNS = 1 << 2 * FIRST

STRIDE = 67
"""Each mode takes every 67th pattern, and each another one first."""

PORT = 4000

MODES = {
    "fast3": ("kcp", "profile=fast3", "profile=fast3"),
    "interactive": ("kcp", "profile=interactive", "profile=interactive"),
    "messages": ("kcp", "mode=messages", "mode=messages"),
    "FEC": ("kcp", "dataShards=3:parityShards=2", "dataShards=3:parityShards=2"),
    "cipher": ("kcp", "crypt=aes:password=secret", "crypt=aes:password=secret"),
    "all": (
        "kcp",
        "mode=messages:crypt=aes-128-gcm:password=secret:dataShards=2:parityShards=1",
        "mode=messages:crypt=aes-128-gcm:password=secret:dataShards=2:parityShards=1",
    ),
    "smux1": ("kcptun", "smuxver=1", "smuxver=1"),
    "smux2": ("kcptun", "smuxver=2", "smuxver=2"),
    "muxkcp": ("mux:kcp", "", ""),
    "muxraknet": ("mux:raknet", "", ""),
    "muxqotp": ("mux:qotp", "", ""),
    "raknetmessages": ("raknet", "mode=messages", "mode=messages"),
    "raknetpassword": ("raknet", "password=secret", "password=secret"),
    "raknetold": ("raknet", "mode=messages:cookies=no", "mode=messages"),
    "qotpknown": ("qotp", "", "serverKey={key}"),
    "qotppassword": ("qotp", "password=secret", "password=secret"),
    "qotpearly": ("qotp", "earlyData=yes", "serverKey={key}"),
}
"""Transport, and what its server and client are given."""


class Talker(Protocol):
    """Says something when it is connected, and closes when it is told to."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost: Failure | None = None

    def connectionMade(self) -> None:
        self.factory.built.append(self)  # type: ignore[union-attr, attr-defined]
        self.say(self.factory.greeting)  # type: ignore[union-attr, attr-defined]

    def say(self, text: bytes) -> None:
        """Byte 0x80: of messages over RakNet it is the first that is the application's."""
        if text:
            self.transport.write(b"\x80" + text)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def messageReceived(self, message: Any) -> None:
        self.heard += message.data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Talkers(Factory):
    """Keeps its protocols."""

    noisy = False
    protocol = Talker

    def __init__(self, greeting: bytes) -> None:
        self.greeting = greeting
        self.built: list[Talker] = []


def lost(bits: int) -> Impairments:
    """A link that loses those of the next datagrams whose bits are set."""
    indices = {index for index in range(FIRST) if bits >> index & 1}
    return Impairments(delay=0.02, drop_indices=indices)


class Stage:
    """Two hosts with a server on one of them."""

    def __init__(self, mode: str, greetings: tuple[bytes, bytes]) -> None:
        transport, server, self._client = MODES[mode]
        self.transport = transport
        self.network = network = MemoryNetwork(seed=1)
        self.there, self.here = network.host("server"), network.host("client")
        self.factories = Talkers(greetings[1]), Talkers(greetings[0])
        endpoint: Any = serverFromString(
            self.there.reactor, ":".join(filter(None, (transport, f"port={PORT}", server)))
        )
        self.listening = endpoint.listen(self.factories[0])
        self._key = getattr(endpoint, "publicKey", b"")
        self.cut(0)

    def cut(self, bits: int) -> None:
        """Lose some of the next datagrams."""
        self.network.setLink(self.here, self.there, lost(bits & (1 << FIRST) - 1))
        self.network.setLink(self.there, self.here, lost(bits >> FIRST))

    def dial(self) -> Deferred[Any]:
        """Connect the client."""
        self.network.runFor(0.01)
        options = self._client.format(key=self._key.hex())
        text = f"{self.transport}:host=server:port={PORT}:timeout=60"
        text = ":".join(filter(None, (text, options)))
        return clientFromString(self.here.reactor, text).connect(self.factories[1])

    def run(self, seconds: float, until: Callable[[], bool]) -> None:
        """Run until a condition holds, or for so long."""
        for _ in range(int(seconds / 0.25)):
            self.network.runFor(0.25)
            if until():
                return

    @property
    def ends(self) -> list[Talker]:
        return [talker for factory in self.factories for talker in factory.built]


def heard(stage: Stage) -> list[bytes]:
    """What both ends have heard."""
    return [each.heard for each in stage.ends]


class LossPatternTests(SynchronousTestCase):
    """Every mode, with a part of the patterns."""

    def setUp(self) -> None:
        # Twisted looks into the folders of plugins for each string anew, and here are hundreds.
        self.patch(endpoints, "getPlugins", cache(lambda kind: tuple(getPlugins(kind))))

    def cases(self) -> Iterator[tuple[str, int, str]]:
        """Modes and patterns, and a name for both."""
        for first, mode in enumerate(MODES):
            for bits in range(first, PATTERNS, STRIDE):
                yield mode, bits, f"{mode} {bits:010b}"

    def begin(self, mode: str, bits: int, name: str) -> None:
        """Both are connected, once, and hear what the other says at once."""
        stage = Stage(mode, (b"from client", b"from server"))
        stage.cut(bits)
        connected = stage.dial()
        stage.run(30, lambda: heard(stage) == [b"\x80from client", b"\x80from server"])
        self.assertEqual(heard(stage), [b"\x80from client", b"\x80from server"], name)
        self.successResultOf(connected)

    def end(self, mode: str, bits: int, name: str, closers: tuple[int, ...]) -> None:
        """
        Both hear of an orderly end; who does not close hears all that was said before.

        @param closers: 0 for the server, 1 for the client.
        """
        stage = Stage(mode, (b"first", b""))
        stage.dial()
        stage.run(5, lambda: heard(stage) == [b"\x80first", b""])
        stage.network.runFor(0.5)
        stage.cut(bits)
        for closer in closers:
            stage.ends[closer].say(b"last")
            stage.ends[closer].transport.loseConnection()
        stage.run(30, lambda: all(each.lost for each in stage.ends))
        for number, each in enumerate(stage.ends):
            assert each.lost is not None, name
            self.assertIsInstance(each.lost.value, ConnectionDone, name)
            if closers != (0, 1) and number not in closers:
                self.assertTrue(each.heard.endswith(b"\x80last"), name)

    def test_beginning(self) -> None:
        """A beginning."""
        for case in self.cases():
            self.begin(*case)

    def test_client(self) -> None:
        """The client closes behind its last words."""
        for case in self.cases():
            self.end(*case, (1,))

    def test_server(self) -> None:
        """The server closes behind its last words."""
        for case in self.cases():
            self.end(*case, (0,))

    def test_both(self) -> None:
        """Both close at once."""
        for case in self.cases():
            self.end(*case, (0, 1))
