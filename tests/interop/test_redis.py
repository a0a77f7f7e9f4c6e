"""Discovery servers that share a Redis, Debian's."""

from __future__ import annotations

import shutil
import socket
import subprocess
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.interop.harness import PATIENCE, unavailable
from twisted_rudp.discovery import v1
from twisted_rudp.discovery.redisstore import openStore
from twisted_rudp.discovery.server import DiscoveryServer
from twisted_rudp.discovery.servertable import ServerTable


class Asker(DatagramProtocol):
    """Collects answers."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.answers.append(datagram)


class RedisTests(TestCase):
    """Two servers and one store."""

    timeout = 2 * PATIENCE

    def setUp(self) -> None:
        if shutil.which("redis-server") is None:
            raise unavailable("redis-server is not installed")
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port: int = sock.getsockname()[1]

    def redis(self) -> subprocess.Popen[str]:
        """Start one that keeps nothing."""
        process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
             "--appendonly", "no", "--dir", "/tmp"],
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.addCleanup(self.kill, process)
        assert process.stdout is not None
        for line in process.stdout:
            if "Ready to accept connections" in line:
                return process
        raise AssertionError("redis-server has ended")

    @staticmethod
    def kill(process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def server(self) -> DiscoveryServer:
        from twisted.internet import reactor

        table = ServerTable(life=600)
        store = openStore(reactor, f"redis://127.0.0.1:{self.port}/1", table, retry=0.1)
        server = DiscoveryServer(
            reactor, interface="127.0.0.1", port=0, table=table, store=store,
            sourceRate=1e6, nodeRate=1e6,
        )  # fmt: skip
        server.start()
        self.addCleanup(server.stop)
        return server

    async def pause(self) -> None:
        from twisted.internet import reactor

        await deferLater(reactor, 0.05, lambda: None)

    async def announce(self, server: DiscoveryServer, node: bytes, host: str, port: int) -> None:
        """From an address of this machine, until it is accepted."""
        from twisted.internet import reactor

        udp: Any = reactor
        before = server.counters["announcements"]
        sender = udp.listenUDP(0, DatagramProtocol(), interface=host)
        datagram = v1.encode_announcement(v1.Announcement(port, node))
        while server.counters["announcements"] == before:
            sender.write(datagram, ("127.0.0.1", server.getHost().port))
            await self.pause()
        await sender.stopListening()

    async def lookup(self, server: DiscoveryServer, node: bytes) -> v1.Announcement:
        """Ask until there is an answer."""
        from twisted.internet import reactor

        udp: Any = reactor
        asker = Asker()
        port = udp.listenUDP(0, asker, interface="127.0.0.1")
        while not asker.answers:
            port.write(v1.encode_query(v1.Query(node)), ("127.0.0.1", server.getHost().port))
            await self.pause()
        await port.stopListening()
        found = v1.decode(asker.answers[0])
        assert isinstance(found, v1.Announcement)
        return found

    async def test_shared(self) -> None:
        """
        What one server accepts the other finds, as long as the store keeps it. Without the
        store both answer from what they know, and accept; when it is there again, without its
        memory, it learns all of it.
        """
        redis = self.redis()
        one, two = self.server(), self.server()
        await self.announce(one, b"alice", "127.0.0.1", 4000)
        self.assertEqual((await self.lookup(two, b"alice")).port, 4000)
        self.assertEqual(len(two.table), 0)
        keys = self.cli("TTL", "rudp:discovery:alice")
        self.assertTrue(0 < int(keys) <= 600, keys)

        # Five addresses of one node, in two servers: those that were first stay.
        for number in range(1, 6):
            await self.announce((one, two)[number % 2], b"many", f"127.0.0.{number}", number)
            while int(self.cli("HLEN", "rudp:discovery:many")) < min(number, 4):
                await self.pause()
        while b"4005" in self.cli("HVALS", "rudp:discovery:many"):
            await self.pause()
        self.assertEqual(int(self.cli("HLEN", "rudp:discovery:many")), 4)

        self.kill(redis)
        await self.announce(one, b"bob", "127.0.0.1", 4001)
        self.assertEqual((await self.lookup(one, b"bob")).port, 4001)
        self.assertEqual((await self.lookup(two, b"alice")).port, 4000)
        self.redis()
        self.assertEqual((await self.lookup(two, b"bob")).port, 4001)
        while self.cli("EXISTS", "rudp:discovery:alice") != b"1":
            await self.pause()

    def cli(self, *command: str) -> bytes:
        """What redis-cli says."""
        return subprocess.run(
            ["redis-cli", "-p", str(self.port), "-n", "1", *command],
            capture_output=True,
            check=True,
        ).stdout.strip()
