"""Listeners behind a load balancer: nginx with C{examples/deploy/nginx.conf}."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.protocols.wire import Echo
from twisted.trial.unittest import TestCase

from tests.interop.harness import PATIENCE, unavailable
from tests.interpreter import CHECKOUT
from tests.service.test_workers import Asking

MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
CLIENTS = 12


class Counted(Echo):
    """An echo of one backend."""

    def connectionMade(self) -> None:
        factory: Any = self.factory
        factory.protocols.append(self)


class NginxTests(TestCase):
    """Two backends on loopback, of each transport."""

    timeout = 2 * PATIENCE

    async def balance(self, kind: str, options: str = "") -> None:
        """
        Sessions spread over the backends and stay there. When one is gone, its sessions end and
        everybody who comes then is served by the other.
        """
        from twisted.internet import reactor

        if shutil.which("nginx") is None or not os.path.exists(MODULE):
            raise unavailable("nginx with its stream module is not installed")
        backends = [await self.backend(kind, options) for _ in range(2)]
        ports = [port.getHost().port for _, port in backends]
        front = self.nginx(*ports)
        while not self.isTaken(front):
            await self.pause()
        endpoint: Any = clientFromString(reactor, f"{kind}:host=127.0.0.1:port={front}{options}")
        clients = [await self.connect(endpoint) for _ in range(CLIENTS)]
        for _ in range(3):
            for client in clients:
                self.assertEqual(await client.ask(b"hello"), b"hello")
        numbers = [len(factory.protocols) for factory, _ in backends]
        self.assertEqual(sum(numbers), CLIENTS)
        self.assertNotIn(0, numbers)

        (gone, port), (left, _) = backends
        for protocol in list(gone.protocols):
            protocol.transport.abortConnection()
        await port.stopListening()
        while sum(client.lost.called for client in clients) < numbers[0]:
            await self.pause()
        before = len(left.protocols)
        for _ in range(4):
            await self.connect(endpoint)
        self.assertEqual(len(left.protocols), before + 4)

    async def backend(self, kind: str, options: str) -> tuple[Any, Any]:
        from twisted.internet import reactor

        factory: Any = Factory.forProtocol(Counted)
        factory.protocols = []
        description = f"{kind}:0:interface=127.0.0.1:drainTimeout=0{options}"
        port: Any = await serverFromString(reactor, description).listen(factory)
        self.addCleanup(port.stopListening)
        return factory, port

    async def connect(self, endpoint: Any) -> Any:
        client = await connectProtocol(endpoint, Asking())
        self.addCleanup(self.end, client)
        self.assertEqual(await client.ask(b"first"), b"first")
        return client

    async def end(self, client: Any) -> None:
        """Leave nothing behind in the reactor."""
        if not client.lost.called:
            client.transport.abortConnection()
            await client.lost
        await self.pause()

    async def pause(self) -> None:
        from twisted.internet import reactor

        await deferLater(reactor, 0.01, lambda: None)

    def nginx(self, *backends: int) -> int:
        """
        Start nginx with the example's configuration on loopback.

        @return: its port.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            front: int = sock.getsockname()[1]
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        text = (CHECKOUT / "examples" / "deploy" / "nginx.conf").read_text(encoding="utf-8")
        for given, here in (
            ("10.0.0.11:4000", f"127.0.0.1:{backends[0]}"),
            ("10.0.0.12:4000", f"127.0.0.1:{backends[1]}"),
            ("listen 4000", f"listen 127.0.0.1:{front}"),
            ("user www-data;", f"daemon off; pid {directory}/pid; worker_processes 1;"),
            ("16384", "256"),
        ):
            self.assertIn(given, text)
            text = text.replace(given, here)
        (directory / "nginx.conf").write_text(text, encoding="utf-8")
        process = subprocess.Popen(
            ["nginx", "-p", str(directory), "-e", "stderr", "-c", "nginx.conf"],
            stderr=subprocess.PIPE,
        )
        self.addCleanup(self.stop, process)
        return front

    @staticmethod
    def isTaken(port: int) -> bool:
        """Whether nginx has its port."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                return True
        return False

    @staticmethod
    def stop(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        process.communicate()

    async def test_kcp(self) -> None:
        """Over KCP."""
        await self.balance("kcp", ":crypt=null")

    async def test_raknet(self) -> None:
        """Over RakNet."""
        await self.balance("raknet")

    async def test_qotp(self) -> None:
        """Over QOTP; the backends have one identity, as one who is behind one name should."""
        await self.balance("qotp", ":seed=one")


