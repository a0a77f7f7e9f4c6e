"""Debian's kcptun at one end and our endpoints at the other."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from itertools import product
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.interop.harness import PATIENCE, unavailable
from tests.service.programs import freePort
from twisted_rudp.endpoints.kcptun import KCPTunClientEndpoint, KCPTunServerEndpoint
from twisted_rudp.service.link import Link
from twisted_rudp.testing.impairments import Impairments

HOST = "127.0.0.1"

CIPHERS = (
    "aes", "aes-128", "aes-192", "salsa20", "blowfish", "twofish", "cast5", "3des", "tea", "xtea",
    "xor", "sm4", "none",
)  # fmt: skip
PROFILES = ("normal", "fast", "fast2", "fast3")


MEGABYTES = int(os.environ.get("RUDP_KCPTUN_MEGABYTES", "1"))
"""What goes each way over links that lose; the whole promise is 100."""

IDLE = float(os.environ.get("RUDP_KCPTUN_IDLE", "3"))
"""Seconds in which nobody says anything; the whole promise is 600."""


def combinations() -> Iterator[dict[str, Any]]:
    """
    Some of each kind; with C{RUDP_KCPTUN_MATRIX} in the environment every cipher with every
    mode, and FEC, compression and both versions of smux in turn.
    """
    if "RUDP_KCPTUN_MATRIX" not in os.environ:
        yield from COMBINATIONS
        return
    for number, (crypt, profile) in enumerate(product(CIPHERS, PROFILES)):
        # Each of the eight comes with each cipher and with each mode.
        others = number + number // len(PROFILES)
        yield {
            "crypt": crypt,
            "profile": profile,
            "smuxver": 1 + others % 2,
            "nocomp": bool(others // 2 % 2),
            **({"dataShards": 0, "parityShards": 0} if others // 4 % 2 else {}),
        }


COMBINATIONS: tuple[dict[str, Any], ...] = (
    {},
    {"smuxver": 2, "crypt": "salsa20", "profile": "fast2"},
    {"nocomp": True, "crypt": "none", "profile": "normal"},
    {"nocomp": True, "smuxver": 2, "crypt": "xor", "dataShards": 0, "parityShards": 0},
    {"crypt": "aes-128", "profile": "fast3", "dataShards": 5, "parityShards": 2},
    {"crypt": "sm4", "smuxver": 2},
    {"crypt": "blowfish", "dataShards": 0, "parityShards": 0},
    {"crypt": "3des", "nocomp": True},
)
"""Given to both ends. Debian's version has neither AEADs nor C{null}."""


class Echo(Protocol):
    """Sends everything back."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class Transfer(Protocol):
    """Sends something and waits until as much has come back."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.got = 0
        self.digest = sha256()
        self.done: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.data)

    def again(self, data: bytes) -> Deferred[bytes]:
        """Something else, when all has come back."""
        assert self.transport is not None
        self.data, self.got, self.digest, self.done = data, 0, sha256(), Deferred()
        self.transport.write(data)
        return self.done

    def dataReceived(self, data: bytes) -> None:
        self.digest.update(data)
        self.got += len(data)
        if self.got >= len(self.data) and not self.done.called:
            self.done.callback(self.digest.digest())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.done.called:
            self.done.errback(reason)


class Collect(Protocol):
    """Gives the digest of what came before the end."""

    def __init__(self, arrived: Deferred[bytes]) -> None:
        self.arrived = arrived
        self.digest = sha256()

    def dataReceived(self, data: bytes) -> None:
        self.digest.update(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.arrived.called:
            self.arrived.callback(self.digest.digest())


def factoryOf(protocol: Any) -> Factory:
    """A factory that builds it without a word in the log."""
    factory = Factory.forProtocol(protocol)
    factory.noisy = False
    return factory


def flagsOf(options: dict[str, Any]) -> Iterator[str]:
    """What kcptun's programs are told for arguments of ours."""
    names = {"smuxver": "--smuxver", "crypt": "--crypt", "profile": "--mode",
             "dataShards": "--datashard", "parityShards": "--parityshard"}  # fmt: skip
    yield from ("--key", "secret", "--quiet")
    for name, value in {"smuxver": 1, **options}.items():
        if name == "nocomp":
            if value:
                yield "--nocomp"
        else:
            yield from (names[name], str(value))


class KCPTunTests(TestCase):
    """Live, over loopback."""

    timeout = IDLE + (6 + MEGABYTES) * PATIENCE
    if "RUDP_KCPTUN_MATRIX" in os.environ:
        timeout += 60 * PATIENCE

    def setUp(self) -> None:
        for program in ("kcptun-client", "kcptun-server"):
            if shutil.which(program) is None:
                raise unavailable(f"{program} is not installed (apt-get install kcptun)")

    def start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A program of kcptun, which ends with the test."""
        process = subprocess.Popen(
            [program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        return process

    async def throughTheirServer(self, factory: Factory) -> IStreamClientEndpoint:
        """What reaches a factory of ours through our client and their server."""
        return await self.theirServer({}, factory)

    async def throughTheirClient(self, factory: Factory) -> IStreamClientEndpoint:
        """The same through their client and our server."""
        return await self.theirClient({}, factory)

    async def listen(self, endpoint: IStreamServerEndpoint, factory: Factory | None = None) -> Any:
        """A server; one that echoes if nothing else is said."""
        port: Any = await endpoint.listen(factory or factoryOf(Echo))
        self.addCleanup(port.stopListening)
        return port

    async def lossy(self, port: int, loss: float) -> int:
        """
        A link that loses a share of the datagrams each way.

        @return: the port that leads to C{port}.
        """
        link = Link(reactor, HOST, 0, HOST, port, Impairments(seed=port, loss=loss, delay=0.005))
        link.start()
        self.addCleanup(link.stop)
        return link.port

    async def theirServer(
        self, options: dict[str, Any], factory: Factory | None = None, loss: float = 0.0
    ) -> KCPTunClientEndpoint:
        """Our client of kcptun-server, behind which an echo is, or another factory."""
        target = await self.listen(TCP4ServerEndpoint(reactor, 0, interface=HOST), factory)
        port = freePort(socket.SOCK_DGRAM)
        self.start(
            "kcptun-server", "-l", f"{HOST}:{port}", "-t", f"{HOST}:{target.getHost().port}",
            *flagsOf(options),
        )  # fmt: skip
        if loss:
            port = await self.lossy(port, loss)
        endpoint = KCPTunClientEndpoint(
            reactor, HOST, port, **{"smuxver": 1, **options}, password="secret"
        )
        self.addCleanup(endpoint.disconnect)
        return endpoint

    async def theirClient(
        self, options: dict[str, Any], factory: Factory | None = None, loss: float = 0.0
    ) -> TCP4ClientEndpoint:
        """kcptun-client in front of our server, which echoes, or has another factory."""
        ours = await self.listen(
            KCPTunServerEndpoint(
                reactor, 0, interface=HOST, drainTimeout=1,
                **{"smuxver": 1, **options}, password="secret",
            ),
            factory,
        )  # fmt: skip
        server = ours.getHost().port
        if loss:
            server = await self.lossy(server, loss)
        port = freePort(socket.SOCK_STREAM)
        self.start(
            "kcptun-client", "-l", f"{HOST}:{port}", "-r", f"{HOST}:{server}", *flagsOf(options)
        )
        return TCP4ClientEndpoint(reactor, HOST, port)

    async def echo(self, endpoint: IStreamClientEndpoint, size: int, count: int = 1) -> None:
        """So many connections at once, each with so many bytes there and back."""
        data = Random(size).randbytes(size)
        talks = []
        for _ in range(count):
            talk = Transfer(data)
            await self.connected(endpoint, talk)
            talks.append(talk)
        digests = await gatherResults([talk.done for talk in talks])
        self.assertEqual(digests, [sha256(data).digest()] * count)
        for talk in talks:
            assert talk.transport is not None
            talk.transport.loseConnection()

    async def connected(self, endpoint: IStreamClientEndpoint, talk: Transfer) -> None:
        """Connect; a program that has just been started may not listen yet."""
        for _ in range(100):
            try:
                await endpoint.connect(factoryOf(lambda: talk))
                return
            except ConnectError:
                await deferLater(reactor, 0.1)
        self.fail("nobody listens")

    async def test_theirServer(self) -> None:
        """Our client with every combination."""
        for options in combinations():
            await self.echo(await self.theirServer(options), 300_000)

    async def test_theirClient(self) -> None:
        """Our server with every combination."""
        for options in combinations():
            await self.echo(await self.theirClient(options), 300_000)

    async def test_many(self) -> None:
        """Fifty connections at once, through both."""
        await self.echo(await self.theirServer({}), 20_000, 50)
        await self.echo(await self.theirClient({"smuxver": 2}), 20_000, 50)

    async def test_loss(self) -> None:
        """Over links that lose, with and without FEC, both versions of smux, each way."""
        bare = {"dataShards": 0, "parityShards": 0}
        size = MEGABYTES * 1_000_000
        await self.echo(await self.theirServer({}, loss=0.02), size)
        await self.echo(await self.theirServer({"smuxver": 2, **bare}, loss=0.05), size)
        await self.echo(await self.theirClient(bare, loss=0.05), size)
        await self.echo(await self.theirClient({"smuxver": 2}, loss=0.02), size)

    async def test_idle(self) -> None:
        """A connection that has long said nothing goes on."""
        talks: list[Transfer] = []
        for options in ({}, {"smuxver": 2}):
            for endpoint in (await self.theirServer(options), await self.theirClient(options)):
                talk = Transfer(b"before")
                await self.connected(endpoint, talk)
                await talk.done
                talks.append(talk)
        await deferLater(reactor, IDLE)
        answers = [talk.again(b"after") for talk in talks]
        self.assertEqual(await gatherResults(answers), [sha256(b"after").digest()] * 4)
        for talk in talks:
            assert talk.transport is not None
            talk.transport.loseConnection()

    async def test_ends(self) -> None:
        """What was written before the end of a direction arrives, whoever is in between."""
        data = Random(3).randbytes(400_000)
        for through in (self.throughTheirServer, self.throughTheirClient):
            arrived: Deferred[bytes] = Deferred()
            talk = Transfer(data)
            await self.connected(await through(factoryOf(lambda d=arrived: Collect(d))), talk)
            assert talk.transport is not None
            talk.done.addErrback(lambda why: None)
            end: Any = talk.transport
            end.loseWriteConnection()
            self.assertEqual(await arrived, sha256(data).digest())
            end.abortConnection()

    async def test_clientRestarted(self) -> None:
        """A client that is started again gets a session of its own at once."""
        ours = await self.listen(
            KCPTunServerEndpoint(
                reactor, 0, interface=HOST, drainTimeout=1, smuxver=1, password="secret"
            )
        )
        for _ in range(2):
            port = freePort(socket.SOCK_STREAM)
            process = self.start(
                "kcptun-client", "-l", f"{HOST}:{port}", "-r", f"{HOST}:{ours.getHost().port}",
                *flagsOf({}),
            )  # fmt: skip
            await self.echo(TCP4ClientEndpoint(reactor, HOST, port), 1000)
            process.terminate()
            process.wait()

    async def test_restarted(self) -> None:
        """A server that is started again serves the next session."""
        target = await self.listen(TCP4ServerEndpoint(reactor, 0, interface=HOST))
        port = freePort(socket.SOCK_DGRAM)
        arguments = ("kcptun-server", "-l", f"{HOST}:{port}",
                     "-t", f"{HOST}:{target.getHost().port}", *flagsOf({}))  # fmt: skip
        process = self.start(*arguments)
        endpoint = KCPTunClientEndpoint(reactor, HOST, port, smuxver=1, password="secret")
        self.addCleanup(endpoint.disconnect)
        await self.echo(endpoint, 1000)
        process.terminate()
        process.wait()
        self.start(*arguments)
        await endpoint.disconnect()
        await self.echo(endpoint, 1000)

    async def test_restartedUnseen(self) -> None:
        """
        A client that is not told of the restart finds out, and dials again. The new server
        acknowledges what it has no beginning of, so kcptun's own client takes 60 to 90 seconds.
        """
        target = await self.listen(TCP4ServerEndpoint(reactor, 0, interface=HOST))
        port = freePort(socket.SOCK_DGRAM)
        arguments = ("kcptun-server", "-l", f"{HOST}:{port}",
                     "-t", f"{HOST}:{target.getHost().port}", *flagsOf({}))  # fmt: skip
        process = self.start(*arguments)
        endpoint = KCPTunClientEndpoint(reactor, HOST, port, smuxver=1, password="secret")
        self.addCleanup(endpoint.disconnect)
        await self.echo(endpoint, 1000)
        process.kill()
        process.wait()
        self.start(*arguments)
        lost = Transfer(b"into the void")
        await self.connected(endpoint, lost)
        await self.assertFailure(lost.done, ConnectionLost)
        await self.echo(endpoint, 1000)
