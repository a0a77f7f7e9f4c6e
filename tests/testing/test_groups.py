"""What goes to many: multicast and broadcast of L{twisted_rudp.testing.port}."""

from __future__ import annotations

import errno

from twisted.internet.interfaces import IMulticastTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from twisted_rudp.testing import MemoryHost, MemoryNetwork, MemoryUDPPort
from twisted_rudp.testing.port import LAN_BROADCAST

GROUP = "ff12::1"


class Heard(DatagramProtocol):
    """Remembers what it heard."""

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.datagrams.append(datagram)


class GroupTests(SynchronousTestCase):
    """Three hosts."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.hosts = [self.network.host(name) for name in ("a", "b", "c")]

    def listen(self, host: MemoryHost, interface: str = "") -> tuple[Heard, MemoryUDPPort]:
        heard = Heard()
        return heard, host.reactor.listenUDP(9, heard, interface)

    def test_interface(self) -> None:
        """A port has all that C{IMulticastTransport} asks for, and gives back what was set."""
        _, port = self.listen(self.hosts[0])
        verifyObject(IMulticastTransport, port)
        port.setTTL(3)
        port.setLoopbackMode(False)
        port.setOutgoingInterface("10.0.0.1")
        kept = (port.getTTL(), port.getLoopbackMode(), port.getOutgoingInterface())
        self.assertEqual(kept, (3, False, "10.0.0.1"))

    def test_groups(self) -> None:
        """What is sent to a group comes to those that have joined it, while they have."""
        _, sending = self.listen(self.hosts[0], "::")
        joined, port = self.listen(self.hosts[1], "::")
        others, _ = self.listen(self.hosts[2], "::")
        port.joinGroup(GROUP)
        sending.write(b"one", (GROUP, 9))
        self.network.runFor(1)
        port.leaveGroup(GROUP)
        sending.write(b"two", (GROUP, 9))
        self.network.runFor(1)
        self.assertEqual((joined.datagrams, others.datagrams), ([b"one"], []))

    def test_broadcast(self) -> None:
        """
        A network's broadcast address needs leave, like the limited one, and reaches
        every other host's IPv4 port.
        """
        _, sending = self.listen(self.hosts[0])
        heard, _ = self.listen(self.hosts[1])
        self.hosts[2].bindV6Only = True
        deaf, _ = self.listen(self.hosts[2], "::")
        refused = self.assertRaises(OSError, sending.write, b"x", (LAN_BROADCAST, 9))
        self.assertEqual(refused.errno, errno.EACCES)
        sending.setBroadcastAllowed(True)
        sending.write(b"x", (LAN_BROADCAST, 9))
        self.network.runFor(1)
        self.assertEqual((heard.datagrams, deaf.datagrams), ([b"x"], []))

    def test_bindV6Only(self) -> None:
        """On a host with that setting both families have a port of one number."""
        host = self.hosts[0]
        host.bindV6Only = True
        self.listen(host, "")
        self.listen(host, "::")
        self.assertEqual(len(host.ports), 2)
