"""Tests for L{twisted_rudp.net.udp.open}: the three ports on real sockets."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import textwrap
from typing import Any, ClassVar
from unittest import skipIf

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import DeferredList
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.runtime import platform
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.net.udp import namespace
from tests.net.udp.fakes import Recorder
from tests.net.udp.refusing import refusing
from twisted_rudp.core.engine import PathError
from twisted_rudp.net.addresses import fromTwisted
from twisted_rudp.net.udp.open import openPort
from twisted_rudp.net.udp.port import DatagramPort, PortKind, SocketOptions


def haveIPv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


NO_IPV6 = not haveIPv6()
WHY_NO_NAMESPACE = namespace.whyNot("ip")
WHY_NO_SLOW_LINK = namespace.whyNot("ip", "tc")


def cut(run: bytes, size: int) -> list[bytes]:
    return [run[start : start + size] for start in range(0, len(run), size)]


class RealPortCase(TestCase):
    """Opens ports and closes them again."""

    kind: str = "auto"

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        if self.kind in ("gso", "plain") and not IReactorFDSet.providedBy(reactor):
            self.skipTest("this reactor watches no descriptors")
        if self.kind == "gso" and not platform.isLinux():
            self.skipTest("segmentation offload is Linux's")

    def open(self, interface: str = "127.0.0.1", **options: Any) -> tuple[DatagramPort, Recorder]:
        receiver = Recorder()
        port = openPort(
            self.reactor, receiver, interface, kind=self.kind, options=SocketOptions(**options)
        )
        self.addCleanup(port.stopListening)
        return port, receiver


class EchoMixin:
    """What all three ports do alike."""

    kind: str
    RUNS = ((1, 100), (250, 100), (1200 * 70 + 7, 1200), (65_535 + 4321, 1400), (300, 1))

    async def echo(self: Any, interface: str) -> None:
        server, serverSide = self.open(interface)
        client, clientSide = self.open(interface)
        to = fromTwisted(server.getHost())
        back: list[bytes] = []

        def answer(entry: tuple[Any, ...]) -> None:
            if entry[0] == "run":
                back.append(entry[1])
                server.send(*entry[1:])

        serverSide.hook = answer
        for length, size in self.RUNS:
            clientSide.log.clear()
            run = bytes((i * 7 + length) % 256 for i in range(length))
            client.send(run, size, to)
            await clientSide.until(
                lambda length=length: sum(map(len, clientSide.datagrams())) == length
            )
            self.assertEqual(clientSide.datagrams(), cut(run, size))
            self.assertEqual({entry[3] for entry in clientSide.log if entry[0] == "run"}, {to})
        total = sum(length for length, _ in self.RUNS)
        self.assertEqual(client.counters.bytesOut, total)
        self.assertEqual(client.counters.bytesIn, total)
        self.assertEqual(client.counters.datagramsIn, client.counters.datagramsOut)
        self.assertEqual(client.facts().kind, self.kind)

    async def test_echo(self: Any) -> None:
        """Runs of every shape cross in both directions, cut where they were cut (UDP-14)."""
        await self.echo("127.0.0.1")

    @skipIf(NO_IPV6, "no IPv6 on this machine")
    async def test_echoIPv6(self: Any) -> None:
        """The same over IPv6; what arrives has the address that was sent to."""
        await self.echo("::1")

    @skipIf(NO_IPV6, "no IPv6 on this machine")
    async def test_dualStack(self: Any) -> None:
        """A port on C{::} hears IPv4 peers and can answer them (ADDR-2)."""
        server, serverSide = self.open("::")
        client, clientSide = self.open("127.0.0.1")
        serverSide.hook = lambda entry: entry[0] == "run" and server.send(*entry[1:])
        client.send(b"ping", 4, ("127.0.0.1", server.getHost().port))
        await clientSide.until(lambda: clientSide.datagrams() == [b"ping"])
        [address] = {entry[3] for entry in serverSide.log if entry[0] == "run"}
        self.assertEqual(address, fromTwisted(client.getHost(), socket.AF_INET6))

    async def test_joined(self: Any) -> None:
        """What waits in the socket arrives as few runs, and each turn ends once."""
        server, serverSide = self.open()
        to = fromTwisted(server.getHost())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for _ in range(20):
                peer.sendto(b"x" * 50, to)
        await serverSide.until(lambda: len(serverSide.datagrams()) == 20)
        self.assertEqual(serverSide.kinds()[0], "run")
        self.assertLess(server.counters.runsIn, 20)

    async def test_emptyDatagrams(self: Any) -> None:
        """An empty datagram is counted and hurts nobody (UDP-6)."""
        server, serverSide = self.open()
        to = fromTwisted(server.getHost())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for data in (b"", b"a", b"", b"b"):
                peer.sendto(data, to)
            await serverSide.until(lambda: len(serverSide.datagrams()) == 2)
        self.assertEqual(serverSide.datagrams(), [b"a", b"b"])
        self.assertEqual(server.counters.empty, 2)

    async def test_largestDatagram(self: Any) -> None:
        """The largest datagram of IPv4 is not truncated (UDP-1); a larger one is too big."""
        server, serverSide = self.open()
        client, clientSide = self.open()
        to = fromTwisted(server.getHost())
        data = bytes(range(256)) * 256
        client.send(data[:65508], 65508, to)
        client.send(data[:65507], 65507, to)
        await serverSide.until(lambda: bool(serverSide.datagrams()))
        await clientSide.until(lambda: "error" in clientSide.kinds())
        self.assertEqual(serverSide.datagrams(), [data[:65507]])
        self.assertIn(("error", PathError.TOO_BIG, 65508, to), clientSide.log)

    async def test_stopThreeTimes(self: Any) -> None:
        """C{stopListening} may be called again and again (PORT-2), also after the end."""
        port, receiver = self.open()
        host = port.getHost()
        deferreds = [port.stopListening() for _ in range(3)]
        self.assertEqual(len(set(map(id, deferreds))), 1)
        await DeferredList(deferreds)
        self.assertIs(port.stopListening(), deferreds[0])
        self.assertEqual(port.getHost(), host)
        self.assertTrue(port.closed)
        self.assertEqual(receiver.log, [])
        again = openPort(self.reactor, Recorder(), "127.0.0.1", host.port, kind=self.kind)
        await again.stopListening()

    async def test_closedInRun(self: Any) -> None:
        """Nothing is heard of a port that was closed in C{runReceived} (UDP-3)."""
        port, receiver = self.open()
        to = fromTwisted(port.getHost())
        receiver.hook = lambda entry: port.stopListening()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for size in range(1, 10):
                peer.sendto(b"x" * size, to)
        await receiver.until(lambda: bool(receiver.log))
        await port.stopListening()
        self.assertEqual(receiver.kinds(), ["run"])

    def test_addressInUse(self: Any) -> None:
        """A port that is taken is an error at once, not later (EP-2)."""
        port, _ = self.open()
        self.assertRaises(
            CannotListenError,
            openPort,
            self.reactor,
            Recorder(),
            "127.0.0.1",
            port.getHost().port,
            kind=self.kind,
        )

    def test_options(self: Any) -> None:
        """Code point and buffers are set, and what was granted is told (UDP-15)."""
        interfaces = ["127.0.0.1"] if NO_IPV6 else ["127.0.0.1", "::1"]
        for interface in interfaces:
            port, _ = self.open(interface, dscp=46, receiveBuffer=30_000, sendBuffer=40_000)
            facts = port.facts()
            self.assertEqual(facts.dscp, 46)
            self.assertEqual((facts.receiveBufferAsked, facts.receiveBuffer), (30_000, 30_000))
            self.assertEqual((facts.sendBufferAsked, facts.sendBuffer), (40_000, 40_000))

    async def test_unroutable(self: Any) -> None:
        """An address this socket cannot send to is a path error, not an exception."""
        port, receiver = self.open()
        nowhere = ("127.0.0.1", 0)
        port.send(b"x", 1, nowhere)
        await receiver.until(lambda: "turn" in receiver.kinds())
        self.assertEqual(receiver.log, [("error", PathError.UNREACHABLE, 1, nowhere), ("turn",)])


class GSOPortTests(EchoMixin, RealPortCase):
    """Own descriptor, runs by the kernel."""

    kind = "gso"

    async def test_oneCallEach(self) -> None:
        """A run is one system call at either end."""
        server, serverSide = self.open()
        client, _ = self.open()
        client.send(bytes(1400 * 40), 1400, fromTwisted(server.getHost()))
        await serverSide.until(lambda: bool(serverSide.datagrams()))
        self.assertEqual(client.counters.runsOut, 1)
        self.assertEqual(server.counters.runsIn, 1)
        self.assertEqual(server.counters.datagramsIn, 40)


class PlainPortTests(EchoMixin, RealPortCase):
    """Own descriptor, runs by us."""

    kind = "plain"


class StockPortTests(EchoMixin, RealPortCase):
    """C{listenUDP}."""

    kind = "stock"


class Refused(socket.socket):
    """
    What cannot be had.

    @cvar errors: what each next one fails with; then they can be had again.
    """

    errors: ClassVar[list[int]] = []

    def __init__(self, *arguments: Any, **named: Any) -> None:
        if self.errors:
            raise OSError(self.errors.pop(), "no such socket")
        super().__init__(*arguments, **named)


class FallBackTests(RealPortCase):
    """Where no descriptor of our own can be had (UDP-10)."""

    def refuse(self, *errors: int) -> None:
        """Have the next sockets refused."""
        self.patch(Refused, "errors", [*errors])
        self.patch(socket, "socket", Refused)

    def test_noSocket(self) -> None:
        """The reactor's own port is taken, unless another kind was asked for."""
        self.refuse(errno.EPROTONOSUPPORT)
        opened, _ = self.open()
        self.assertEqual((opened.facts().kind, Refused.errors), (PortKind.STOCK, []))
        self.kind = "plain"
        self.refuse(errno.EPROTONOSUPPORT)
        error = self.assertRaises(CannotListenError, self.open)
        self.assertEqual(error.socketError.errno, errno.EPROTONOSUPPORT)

    def test_noDescriptor(self) -> None:
        """That there is no descriptor left is an error that a caller expects (F12)."""

        def refuse(*arguments: object, **named: object) -> Any:
            raise OSError(errno.EMFILE, "too many open files")

        self.refuse(errno.EMFILE)
        self.patch(self.reactor, "listenUDP", refuse)
        error = self.assertRaises(CannotListenError, self.open)
        self.assertEqual(error.socketError.errno, errno.EMFILE)


class CalledTests(RealPortCase):
    """Which address was called (F3)."""

    async def test_called(self) -> None:
        """A port that answers is told, one that only dials is not."""
        if not platform.isLinux():
            self.skipTest("elsewhere loopback has one address")
        for answers in (True, False):
            receiver = Recorder()
            port = openPort(self.reactor, receiver, answers=answers)
            self.addCleanup(port.stopListening)
            friend, _ = self.open()
            friend.send(b"x", 1, ("127.0.0.7", port.getHost().port))
            await receiver.until(lambda: "run" in receiver.kinds())  # noqa: B023
            self.assertEqual("calledAt" in receiver.kinds(), answers)


class RefusedMixin:
    """ICMP errors on our own descriptors."""

    async def refused(self: Any, interface: str) -> None:
        if not platform.isLinux():
            self.skipTest("error queues are Linux's")
        port, receiver = self.open(interface)
        friend, friendSide = self.open(interface)
        with refusing(interface) as dead:
            for _ in range(20):
                port.send(b"anybody?" * 3, 8, dead)
            await receiver.until(lambda: "error" in receiver.kinds())
        self.assertEqual(
            next(entry for entry in receiver.log if entry[0] == "error"),
            ("error", PathError.REFUSED, 0, dead),
        )
        self.assertFalse(port.closed)
        self.assertGreater(port.counters.icmp, 0)
        friend.send(b"still there?", 12, fromTwisted(port.getHost()))
        await receiver.until(lambda: b"still there?" in receiver.datagrams())
        for start in range(0, 3000, 1000):
            port.send(bytes(1000), 100, fromTwisted(friend.getHost()))
            await friendSide.until(
                lambda start=start: len(friendSide.datagrams()) == start // 100 + 10
            )

    async def test_refused(self: Any) -> None:
        """
        A closed port at the other end is reported with its address, and the socket
        serves its other peers as before (UDP-11, UDP-12).
        """
        await self.refused("127.0.0.1")

    @skipIf(NO_IPV6, "no IPv6 on this machine")
    async def test_refusedIPv6(self: Any) -> None:
        """The same over IPv6."""
        await self.refused("::1")

    async def test_refusedBesideRun(self: Any) -> None:
        """
        An error that a run to another peer meets leaves no entry behind: with one a loop of
        libuv would stop watching the socket for ever (F2).
        """
        if not platform.isLinux():
            self.skipTest("error queues are Linux's")
        port, receiver = self.open()
        friend, _ = self.open()
        with refusing("127.0.0.1") as dead:
            port.send(b"x", 1, dead)
            port.send(b"abcd", 2, fromTwisted(friend.getHost()))
            friend.send(b"one", 3, fromTwisted(port.getHost()))
            await receiver.until(lambda: b"one" in receiver.datagrams())
        friend.send(b"two", 3, fromTwisted(port.getHost()))
        await receiver.until(lambda: b"two" in receiver.datagrams())
        self.assertGreater(port.counters.icmp, 0)

    async def test_noBusyLoop(self: Any) -> None:
        """Errors that were heard do not wake the port again (UDP-12)."""
        if not platform.isLinux():
            self.skipTest("error queues are Linux's")
        port, receiver = self.open()
        with refusing("127.0.0.1") as dead:
            for _ in range(20):
                port.send(b"x", 1, dead)
            await receiver.until(lambda: port.counters.icmp == 20)
        wakeUps: list[str] = []
        self.patch(port, "doRead", lambda: wakeUps.append("read"))
        self.patch(port, "readConnectionLost", lambda reason: wakeUps.append("error"))
        for _ in range(50):
            await deferLater(self.reactor, 0)
        self.assertEqual(wakeUps, [])

    @skipIf(NO_IPV6, "no IPv6 on this machine")
    async def test_refusedMapped(self: Any) -> None:
        """An IPv4 peer of a dual-stack socket that refuses is named in its mapped form."""
        port, receiver = self.open("::")
        with refusing("127.0.0.1") as (_, number):
            dead = ("::ffff:127.0.0.1", number, 0, 0)
            port.send(b"x", 1, dead)
            await receiver.until(lambda: "error" in receiver.kinds())
        self.assertEqual(receiver.log[0], ("error", PathError.REFUSED, 0, dead))


class GSORefusedTests(RefusedMixin, RealPortCase):
    kind = "gso"


class PlainRefusedTests(RefusedMixin, RealPortCase):
    kind = "plain"


class NarrowLinkTests(RealPortCase):
    """A real link whose MTU is smaller than the datagrams."""

    kind = "gso"
    skip = WHY_NO_NAMESPACE

    def openPair(self, **options: Any) -> tuple[DatagramPort, Recorder, DatagramPort, Recorder]:
        return namespace.inNamespace(
            ["ip link set lo mtu 600 up"], lambda: (*self.open(**options), *self.open())
        )

    async def test_tooBig(self) -> None:
        """
        Datagrams that may not be cut and do not fit are told with their length, and
        those that fit go on as runs.
        """
        client, clientSide, server, serverSide = self.openPair(dontFragment=True)
        to = fromTwisted(server.getHost())
        client.send(bytes(1000 * 5 + 300), 1000, to)
        await clientSide.until(lambda: "turn" in clientSide.kinds())
        self.assertEqual(clientSide.log, [("error", PathError.TOO_BIG, 1000, to), ("turn",)])
        self.assertEqual(client.counters.gsoRefused, 1)
        runs = client.counters.runsOut
        client.send(bytes(500 * 5), 500, to)
        self.assertEqual(client.counters.runsOut, runs + 1)
        await serverSide.until(lambda: len(serverSide.datagrams()) == 6)
        self.assertEqual([len(datagram) for datagram in serverSide.datagrams()], [300] + [500] * 5)

    async def test_cutByTheSystem(self) -> None:
        """Where IP may cut them, a run that the kernel refuses arrives one by one."""
        client, clientSide, server, serverSide = self.openPair(dontFragment=False)
        to = fromTwisted(server.getHost())
        run = bytes(i % 256 for i in range(1000 * 5 + 300))
        self.assertTrue(client.send(run, 1000, to))
        await serverSide.until(lambda: len(serverSide.datagrams()) == 6)
        self.assertEqual(serverSide.datagrams(), cut(run, 1000))
        self.assertEqual(clientSide.log, [])
        self.assertTrue(client.facts().gso)
        self.assertEqual(client.counters.gsoRefused, 1)


class SlowLinkMixin:
    """A real link that is slower than the sender: 50 Mbit/s with a queue."""

    kind: str
    skip = WHY_NO_SLOW_LINK

    async def fill(self: Any, queue: str, **options: Any) -> DatagramPort:
        client, clientSide, server, serverSide = namespace.inNamespace(
            [
                "ip link set lo up",
                f"tc qdisc add dev lo root tbf rate 50mbit burst 100kb limit {queue}",
            ],
            lambda: (*self.open(**options), *self.open()),
        )
        to = fromTwisted(server.getHost())
        sent = []
        for number in range(24):
            run = bytes([number]) * (1000 * 40)
            sent.append(run)
            if not client.send(run, 1000, to):
                clientSide.log.clear()
                await clientSide.until(lambda: "writable" in clientSide.kinds())
        total = 24 * 40
        await serverSide.until(lambda: len(serverSide.datagrams()) == total)
        self.assertEqual(b"".join(serverSide.datagrams()), b"".join(sent))
        self.assertGreater(client.counters.full, 0)
        self.assertEqual(client.counters.dropped, 0)
        return client  # type: ignore[no-any-return]

    async def test_smallSocketBuffer(self: Any) -> None:
        """
        A full socket buffer (EAGAIN) makes the sender wait; nothing is lost. (Without
        that, a window into such a link lost 874 of 1012 segments.)
        """
        await self.fill("10mb", sendBuffer=100_000)

    async def test_smallDeviceQueue(self: Any) -> None:
        """
        A full queue behind a large socket buffer (ENOBUFS, with the socket always
        writable) does too.
        """
        await self.fill("120kb")


class GSOSlowLinkTests(SlowLinkMixin, RealPortCase):
    kind = "gso"


class PlainSlowLinkTests(SlowLinkMixin, RealPortCase):
    kind = "plain"


class ZoneTests(RealPortCase):
    """Link-local addresses."""

    kind = "gso"
    skip = WHY_NO_NAMESPACE or ("no IPv6 on this machine" if NO_IPV6 else None)

    async def test_linkLocal(self) -> None:
        """The scope of a link-local peer is kept, so it can be answered (ADDR-3)."""
        server, serverSide, client, clientSide = namespace.inNamespace(
            ["ip link set lo up", "ip -6 addr add fe80::5/64 dev lo nodad"],
            lambda: (*self.open("fe80::5%lo"), *self.open("fe80::5%1")),
        )
        serverSide.hook = lambda entry: entry[0] == "run" and server.send(*entry[1:])
        to = fromTwisted(server.getHost())
        self.assertEqual(to[3], 1)
        # A namespace just made may lose what is sent before its routes are there.
        sending = LoopingCall(client.send, b"ping", 4, to)
        sending.start(0.05)
        self.addCleanup(sending.stop)
        await clientSide.until(lambda: bool(clientSide.datagrams()))
        self.assertEqual(clientSide.log[0], ("run", b"ping", 4, to))


class ChoiceTests(RealPortCase):
    """L{openPort}."""

    def test_auto(self) -> None:
        """Left to itself it takes the best this machine has."""
        port, _ = self.open()
        self.assertIn(port.facts().kind, PortKind)
        if platform.isLinux() and IReactorFDSet.providedBy(self.reactor):
            self.assertEqual(port.facts().kind, PortKind.GSO)

    def test_wildcard(self) -> None:
        """No interface means all of IPv4; C{::} is shown as it is."""
        port, _ = self.open("")
        self.assertEqual(port.getHost(), IPv4Address("UDP", "0.0.0.0", port.getHost().port))
        if not NO_IPV6:
            port, _ = self.open("::")
            self.assertEqual(port.getHost(), IPv6Address("UDP", "::", port.getHost().port))

    def test_badInterface(self) -> None:
        """Names, unknown zones and impossible ports are errors of listening."""
        for interface, number in (("localhost", 0), ("fe80::1%no-such", 0), ("127.0.0.1", 70000)):
            for kind in ("auto", "gso", "plain", "stock"):
                self.assertRaises(
                    CannotListenError,
                    openPort,
                    self.reactor,
                    Recorder(),
                    interface,
                    number,
                    kind=kind,
                )

    def test_badKind(self) -> None:
        """An unknown kind is a mistake of the program."""
        self.assertRaises(ValueError, openPort, self.reactor, Recorder(), "127.0.0.1", kind="fast")


class InterpreterTests(SynchronousTestCase):
    """What takes an interpreter of its own."""

    def test_noReactorOnImport(self) -> None:
        """Importing the ports installs no reactor (TIME-1)."""
        self.python(
            """
            import sys
            import twisted_rudp.net.udp.open, twisted_rudp.net.addresses
            assert "twisted.internet.reactor" not in sys.modules
            """
        )

    def test_shutdown(self) -> None:
        """When the reactor stops, every port is lost, once (PORT-5)."""
        output = self.python(
            """
            from twisted.internet import reactor
            from twisted_rudp.net.udp.open import openPort

            class Owner:
                def __init__(self, kind):
                    self.kind = kind
                def portLost(self, failure):
                    print(self.kind, failure.type.__name__)

            for kind in ("plain", "stock"):
                openPort(reactor, Owner(kind), "127.0.0.1", kind=kind)
            reactor.callWhenRunning(reactor.stop)
            reactor.run()
            """
        )
        self.assertEqual(
            sorted(output.split("\n")), ["", "plain ConnectionLost", "stock ConnectionLost"]
        )

    def python(self, program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            capture_output=True,
            text=True,
            timeout=60,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout
