"""Tests for L{twisted_rudp.discovery.local} and its channels, on a simulated network."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.discovery.support import Lan, interfacesOf, key
from tests.discovery.test_v4 import is_own
from tests.net.test_open import NO_IPV6
from tests.vectors import load
from twisted_rudp.discovery import v1, v4
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.networks import Interface, interfaces
from twisted_rudp.discovery.profiles import SYNCTHING, V1, V4, Profile
from twisted_rudp.discovery.service import Discovery, discoveryOf
from twisted_rudp.testing import MemoryHost
from twisted_rudp.testing.port import LAN_BROADCAST

URLS = ("kcp://[::]:4000",)
GROUP = V4.group or ""


class LanCase(SynchronousTestCase):
    """Two machines on one network."""

    def setUp(self) -> None:
        self.lan = Lan()
        self.network = self.lan.network
        self.one = self.lan.host("one")
        self.two = self.lan.host("two")

    def listen(self, host: MemoryHost, *profiles: Profile) -> Discovery:
        """Discovery on a host, stopped at the end; then nothing may be left."""
        discovery = discoveryOf(host.reactor)
        discovery.listen(profiles or (V4,))
        self.addCleanup(self.stopped, discovery)
        return discovery

    def stopped(self, discovery: Discovery) -> None:
        discovery.stop()
        self.network.runFor(1)
        if not any(host.ports for host in self.network.hosts):
            self.assertEqual(self.network.clock.getDelayedCalls(), [])

    def counters(self, discovery: Discovery, profile: Profile = V4) -> Any:
        return discovery._used[profile].local.snapshot().counters

    def shown(self, discovery: Discovery) -> list[tuple[str, ...]]:
        return [(n.id.text, *map(str, n.addresses)) for n in discovery.registry.snapshot()]

    def throw(self, host: MemoryHost, data: bytes, to: tuple[str, int]) -> None:
        """Send a datagram from somewhere on a host."""
        interface = "::" if ":" in to[0] else ""
        port = host.reactor.listenUDP(0, DatagramProtocol(), interface)
        port.setBroadcastAllowed(True)
        port.write(data, to)
        self.network.runFor(0.01)
        port.stopListening()


class AnnouncingTests(LanCase):
    """What is sent when."""

    def test_times(self) -> None:
        """
        Announced at 0 and 1 s and then every 30 s on each network's broadcast address
        and to the group (discovery.md 3.2, 3.3, 6).
        """
        discovery = self.listen(self.one)
        discovery.announce(key(1), URLS)
        self.network.runFor(100)
        for destination in (LAN_BROADCAST, GROUP):
            sent = self.lan.sent(destination)
            self.assertEqual([round(time, 3) for time, _ in sent], [0, 1, 30, 60, 90])
            message = v4.decode(sent[0][1])
            self.assertEqual((message.key, message.addresses), (key(1).key, URLS))
            self.assertTrue(0 < message.instance < 1 << 63)
        self.assertEqual({t.destination[1] for t in self.network.trace}, {21031})

    def test_v1(self) -> None:
        """v1 goes to the broadcast address of port 21025, without an IP address (1.4)."""
        discovery = self.listen(self.one, V1)
        discovery.announce(NodeId.from_text("alice"), URLS, (V1,))
        self.network.runFor(31)
        sent = self.lan.sent(LAN_BROADCAST)
        self.assertEqual([round(time, 3) for time, _ in sent], [0, 1, 30])
        self.assertEqual(v1.decode(sent[0][1]), v1.Announcement(4000, b"alice"))
        self.assertEqual({t.destination for t in self.network.trace}, {(LAN_BROADCAST, 21025)})

    def told(self, destination: str) -> list[tuple[str, ...]]:
        """The addresses in each v4 announcement that was sent to one address."""
        return [v4.decode(data).addresses for _, data in self.lan.sent(destination)]

    def test_families(self) -> None:
        """
        An unspecified address is told over the families that its listener serves, so that
        it is not filled in with an address where nothing listens; literals and names are
        the same whichever way they are told.
        """
        discovery = self.listen(self.one)
        everywhere = ("raknet://[::]:1", "qotp://10.0.9.9:2", "kcp://[fd00::9]:3", "kcp://name:4")
        ours = ("kcp://0.0.0.0:5", *everywhere, "kcp6://[::]:6", "kcp4://:7")
        discovery.announce(key(1), ours)
        self.assertEqual(self.told(LAN_BROADCAST), [(*ours[:5], "kcp4://:7")])
        self.assertEqual(self.told(GROUP), [(*everywhere, "kcp6://[::]:6")])

    def test_oneFamily(self) -> None:
        """
        A listener on IPv4 only is listed with IPv4 only; over IPv6 nothing is said of it,
        and no goodbye either.
        """
        discovery, other = self.listen(self.one), self.listen(self.two)
        lease = discovery.announce(key(1), ("kcp://0.0.0.0:4000",))
        self.network.runFor(40)
        self.assertEqual(self.shown(other), [(key(1).text, "kcp://10.0.0.1:4000")])
        lease.release()
        self.network.runFor(1)
        self.assertEqual(self.shown(other), [])
        self.assertEqual(self.told(LAN_BROADCAST)[-1], ())
        self.assertEqual(self.told(GROUP), [])

    def test_goodbyeOfOneFamily(self) -> None:
        """
        When one of two listeners under an id stops, goodbye is said over the family that
        only it has served.
        """
        discovery, other = self.listen(self.one), self.listen(self.two)
        discovery.announce(key(1), ("kcp://0.0.0.0:4000",))
        lease = discovery.announce(key(1), ("qotp6://[::]:5000",))
        self.network.runFor(2)
        [(_, *urls)] = self.shown(other)
        self.assertEqual(set(urls), {"kcp://10.0.0.1:4000", "qotp6://[fd00::1]:5000"})
        lease.release()
        self.network.runFor(1)
        self.assertEqual(self.shown(other), [(key(1).text, "kcp://10.0.0.1:4000")])

    def test_contradiction(self) -> None:
        """An address that no family can serve is refused."""
        discovery = self.listen(self.one)
        error = self.assertRaises(
            ValueError, discovery.announce, key(1), ("kcp6://0.0.0.0:4000",)
        )
        self.assertIn("kcp6://0.0.0.0:4000 contradicts itself", str(error))

    def test_v1Families(self) -> None:
        """
        v1 tells the port of the first listener that serves IPv4, which it goes over; a
        node that has none is not announced, and the log says why.
        """
        discovery = self.listen(self.one, V1)
        both = ("kcp://[fd00::1]:1", "kcp://0.0.0.0:2", "kcp://0.0.0.0:3")
        discovery.announce(NodeId.from_text("alice"), both, (V1,))
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        discovery.announce(NodeId.from_text("bob"), both[:1], (V1,))
        self.network.runFor(31)
        sent = {v1.decode(data) for _, data in self.lan.sent(LAN_BROADCAST)}
        self.assertEqual(sent, {v1.Announcement(2, b"alice")})
        self.assertIn(
            "v1: cannot announce kcp://[fd00::1]:1: this profile uses IPv4 only",
            [formatEvent(event) for event in events],
        )

    def test_silent(self) -> None:
        """Who has nothing to announce sends nothing (3.3, 5: listen without announcing)."""
        self.listen(self.one, V4, V1, SYNCTHING)
        self.network.runFor(100)
        self.assertEqual(list(self.network.trace), [])

    def test_goodbye(self) -> None:
        """Whoever stops announcing says so, and is not listed any more (6); v1 cannot say."""
        discovery = self.listen(self.one)
        other = self.listen(self.two)
        lease = discovery.announce(key(1), URLS)
        self.network.runFor(0.1)
        self.assertEqual(len(self.shown(other)), 1)
        lease.release()
        lease.release()
        self.network.runFor(0.1)
        self.assertEqual(self.shown(other), [])
        before = len(self.network.trace)
        self.network.runFor(100)
        self.assertEqual(len(self.network.trace), before)

    def test_secrets(self) -> None:
        """Passwords, keys and tokens are not announced to everybody (5, privacy)."""
        discovery = self.listen(self.one)
        for query in ("password=x", "crypt=aes&key=00", "seedHex=00", "a=1&Token=x", "seed"):
            urls = (f"kcp://0.0.0.0:4000?{query}",)
            error = self.assertRaises(ValueError, discovery.announce, key(1), urls)
            self.assertIn("secret", str(error))
            self.assertNotIn("x", str(error).partition("secret")[2])
        self.assertEqual(list(self.network.trace), [])

    def test_refused(self) -> None:
        """What nobody could use is not announced."""
        discovery = self.listen(self.one)
        for urls in ((), ("kcp://h",), ("kcp://h:1",) * 33, ("kcp://h:1/" + "x" * 1200,)):
            self.assertRaises(ValueError, discovery.announce, key(1), urls)
        self.assertEqual(list(self.network.trace), [])


class HearingTests(LanCase):
    """What is heard."""

    def test_both(self) -> None:
        """
        Two nodes know each other at once: the newcomer because the other reacts to its
        first announcement (3.3). Both families are heard.
        """
        one, two = self.listen(self.one), self.listen(self.two)
        one.announce(key(1), URLS)
        self.network.runFor(10)
        two.announce(key(2), ("kcp://[::]:5000",))
        self.network.runFor(0.6)
        for discovery, number, port in ((one, 2, 5000), (two, 1, 4000)):
            expected = {f"kcp://10.0.0.{number}:{port}", f"kcp://[fd00::{number}]:{port}"}
            [(name, *urls)] = self.shown(discovery)
            self.assertEqual((name, set(urls)), (key(number).text, expected))

    def test_expires(self) -> None:
        """Who falls silent is forgotten after three intervals (3.3)."""
        one, two = self.listen(self.one), self.listen(self.two)
        one.announce(key(1), URLS)
        self.network.runFor(40)
        self.network.cut(self.one, self.two)
        self.network.runFor(79)
        self.assertEqual(len(self.shown(two)), 1)
        self.network.runFor(2)
        self.assertEqual(self.shown(two), [])

    def test_profilesMeet(self) -> None:
        """A name announced by v1 and v4 is one node, with the transport from v4."""
        one, two = self.listen(self.one, V1, V4), self.listen(self.two, V1, V4)
        one.announce(NodeId.from_text("alice"), URLS, (V1, V4))
        self.network.runFor(0.1)
        [(name, *urls)] = self.shown(two)
        self.assertEqual(name, "alice")
        self.assertEqual(
            sorted(urls), ["kcp://10.0.0.1:4000", "kcp://[fd00::1]:4000", "udp://10.0.0.1:4000"]
        )

    def test_name(self) -> None:
        """
        A node with a name is listed by it, if its key is made from that name; a name that
        is only claimed is not shown.
        """
        one, two = self.listen(self.one), self.listen(self.two)
        one.announce(NodeId.from_text("alice"), URLS)
        for name in (b"alice", b"x" * 65):
            wire = v4.encode(key(1).key, URLS, 1, name)
            self.throw(self.one, wire, (LAN_BROADCAST, 21031))
        self.assertEqual({name for name, *_ in self.shown(two)}, {"alice", key(1).text})

    def test_vectors(self) -> None:
        """
        The datagrams that Syncthing was sent have the recommended result, and are
        reacted to where it did (3.3).
        """
        listening = self.listen(self.two, SYNCTHING)
        listening.announce(key(9), URLS, (SYNCTHING,))
        self.network.runFor(10)
        reacted = 0
        group = SYNCTHING.group or ""
        ways = {"broadcast": LAN_BROADCAST, "multicast": group, "unicast": self.two.address}
        for case in load("discovery", "v4_receive")["cases"]:
            if is_own(case):
                continue
            # Beyond the pauses between reactions, and within the life of what was heard.
            self.network.runFor(31)
            before = self.counters(listening, SYNCTHING)["discovery.reactions"]
            to = ways[case["via"]]
            self.throw(self.one, bytes.fromhex(case["wire_hex"]), (to, 21027))
            self.network.runFor(0.3)
            reactions = self.counters(listening, SYNCTHING)["discovery.reactions"] - before
            known = {node.id.text: node for node in listening.registry.snapshot()}
            if not case["recommended"]["accept"]:
                self.assertEqual(reactions, 0, case["name"])
                continue
            self.assertEqual(reactions, bool(case["observed"]["reannounced_on"]), case["name"])
            reacted += reactions
            recommended = case["recommended"]["addresses"]
            source = case["source_ip"].replace("%", "%25")
            [sender] = [a for a in self.one.addresses if (":" in a) == (":" in source)]
            node = known.get(case["device_id"])
            given = () if node is None else node.candidates
            self.assertEqual(
                [str(each.address) for each in given if each.source.host == sender],
                [url.replace(source, sender) for url in recommended],
                case["name"],
            )
        self.assertTrue(reacted)

    def test_solicit(self) -> None:
        """
        A lookup has others announce themselves, so that it need not wait for their next
        turn; nobody lists the one who asked (3.3, by an announcement of nobody).
        """
        one, two = self.listen(self.one), self.listen(self.two)
        self.network.cut(self.one, self.two)
        one.announce(key(1), URLS)
        self.network.runFor(10)
        self.network.mend(self.one, self.two)
        looking = two.lookup(key(1), 5)
        self.network.run(looking, limit=0.5)
        self.assertTrue(self.successResultOf(looking))
        self.assertEqual(self.shown(one), [])
        self.assertEqual(self.counters(two)["discovery.solicitations"], 1)

    def test_solicitsNoSyncthing(self) -> None:
        """Programs that never forget are not told of nobody."""
        two = self.listen(self.two, SYNCTHING)
        looking = two.lookup(key(1), 5, (SYNCTHING,))
        looking.addErrback(lambda failure: None)
        self.network.runFor(6)
        self.assertEqual(list(self.network.trace), [])


class ThreatTests(LanCase):
    """The table of discovery.md 5, as far as it is this machine's."""

    def test_amplification(self) -> None:
        """
        Three thousand forged newcomers in three seconds cause three extra announcements on
        a channel, and then one in five seconds.
        """
        listening = self.listen(self.two)
        listening.announce(key(9), URLS)
        self.network.runFor(20)
        before = len(self.lan.sent(LAN_BROADCAST))
        forging = self.one.reactor.listenUDP(0, DatagramProtocol())
        forging.setBroadcastAllowed(True)
        for number in range(3000):
            forged = v4.encode(key(10_000 + number).key, ("kcp://:1",), number + 1)
            forging.write(forged, (self.two.address, 21031))
            self.network.runFor(0.001)
        forging.stopListening()
        self.assertEqual(len(self.lan.sent(LAN_BROADCAST)) - before, 3)
        self.network.runFor(6)
        self.assertEqual(len(self.lan.sent(LAN_BROADCAST)) - before, 4)
        self.assertLessEqual(len(listening.registry), 70)
        self.assertGreater(listening.registry.counters["refused_rate"], 2900)

    def test_oftenAsked(self) -> None:
        """A node that is looked up a few times in a row answers each time at once."""
        self.listen(self.two).announce(key(9), URLS)
        self.network.runFor(20)
        for number in range(3):
            discovery = self.lan.discovery(self.lan.host(f"asker{number}"))
            lookup = discovery.lookup(key(9), 4)
            self.network.runFor(1)
            self.successResultOf(lookup)

    def test_junk(self) -> None:
        """
        Whatever comes is counted; nothing stops or slows the listener, and the log has
        one line of each kind.
        """
        listening = self.listen(self.two, V4, V1)
        junk = [b"?", b"junk" * 100, v4.encode(key(1).key, URLS, 1)[:20], b"\x20\x12\x10\x25"]
        for _ in range(40):
            for datagram in junk:
                for port in (21031, 21025):
                    self.throw(self.one, datagram, (LAN_BROADCAST, port))
        for profile in (V4, V1):
            counters = self.counters(listening, profile)
            heard = counters["discovery.bad"] + counters["discovery.other_format"]
            self.assertEqual(heard, 160)
        self.throw(self.one, v4.encode(key(1).key, URLS, 1), (LAN_BROADCAST, 21031))
        self.assertEqual(len(self.shown(listening)), 1)

    def test_offenders(self) -> None:
        """Who sends junk is counted for himself, as far as there is room (5)."""
        listening = self.listen(self.two)
        local = listening._used[V4].local
        for _ in range(3):
            self.throw(self.one, b"junk", (LAN_BROADCAST, 21031))
        self.assertEqual(dict(local.junk), {"10.0.0.1": 3})
        for number in range(400):
            local._heard(local._channels[0], b"junk", f"10.0.{1 + number // 200}.{number % 200}")
        self.assertEqual(len(local.junk), 256)
        self.assertNotIn("10.0.0.1", local.junk)

    def test_oldVersions(self) -> None:
        """Older formats are recognised and counted (7)."""
        listening = self.listen(self.two)
        for magic in ("029e4c77", "23d63a9a", "9d79bc39", "2ca856f5", "9d79bc40", "7d79bc40"):
            self.throw(self.one, bytes.fromhex(magic), (LAN_BROADCAST, 21031))
        self.assertEqual(self.counters(listening)["discovery.old_version"], 6)

    def test_emptyAndPortZero(self) -> None:
        """v1 without a port or an id, and queries, are not listed (1.6 rule 4)."""
        listening = self.listen(self.two, V1)
        for wire in (
            v1.encode_announcement(v1.Announcement(0, b"alice")),
            v1.encode_announcement(v1.Announcement(1, b"")),
            v1.encode_query(v1.Query(b"alice")),
        ):
            self.throw(self.one, wire, (LAN_BROADCAST, 21025))
        self.assertEqual(self.shown(listening), [])
        counters = self.counters(listening, V1)
        self.assertEqual(counters["discovery.bad"] + counters["discovery.other_format"], 3)

    def test_offLink(self) -> None:
        """What was routed here from elsewhere is not believed, unless asked for."""
        far = self.network.host("far", "192.0.2.7")
        listening = self.listen(self.two)
        believing = self.lan.discovery(self.one, offLink=True)
        self.addCleanup(self.stopped, believing)
        believing.listen()
        for host in (self.one, self.two):
            self.throw(far, v4.encode(key(1).key, URLS, 1), (host.address, 21031))
        self.assertEqual(self.shown(listening), [])
        self.assertEqual(self.counters(listening)["discovery.off_link"], 1)
        self.assertEqual(self.shown(believing), [(key(1).text, "kcp://192.0.2.7:4000")])

    def test_ownId(self) -> None:
        """The own id is not listed; from another machine it is noticed."""
        listening = self.listen(self.two)
        listening.announce(key(1), URLS)
        self.throw(self.one, v4.encode(key(1).key, URLS, 5), (LAN_BROADCAST, 21031))
        self.assertEqual(self.shown(listening), [])
        self.assertEqual(self.counters(listening)["discovery.duplicate_id"], 1)

    def test_noNames(self) -> None:
        """Hearing an address with a name in it looks up nothing."""
        listening = self.listen(self.two)
        wire = v4.encode(key(1).key, ("kcp://slow.example:1",), 5)
        self.throw(self.one, wire, (LAN_BROADCAST, 21031))
        self.assertEqual(self.shown(listening), [(key(1).text, "kcp://slow.example:1")])
        self.assertEqual(self.network.resolver.resolutions, [])


class NetworkTests(LanCase):
    """Interfaces that come, go and fail."""

    def interfaces(self, host: MemoryHost, interfaces: list[Interface]) -> Discovery:
        discovery = self.lan.discovery(host)
        discovery._enumerate = lambda: list(interfaces)
        self.addCleanup(self.stopped, discovery)
        return discovery

    def test_appear(self) -> None:
        """
        An interface that appears is joined and announced on at the next tick, one that
        is gone is left (3.2, 5).
        """
        there: list[Interface] = []
        discovery = self.interfaces(self.one, there)
        discovery.announce(key(1), URLS)
        self.network.runFor(10)
        self.assertEqual(self.lan.sent(GROUP), [])
        there.extend(interfacesOf(self.one))
        self.network.runFor(21)
        self.assertEqual(len(self.lan.sent(GROUP)), 1)
        groups = [port.groups for port in self.one.ports]
        self.assertEqual(sum(GROUP in joined for joined in groups), 1)
        there.clear()
        self.network.runFor(30)
        self.assertEqual(sum(GROUP in port.groups for port in self.one.ports), 0)

    def test_oneFails(self) -> None:
        """A network that cannot be sent to hinders no other; it is counted."""
        [eth] = interfacesOf(self.one)
        there = [Interface("vpn", 1, (ip_interface("172.16.0.1/24"),)), eth]
        self.one.writeErrors["172.16.0.255"] = errno.ENETUNREACH
        discovery = self.interfaces(self.one, there)
        discovery.announce(key(1), URLS)
        self.network.runFor(100)
        self.assertEqual(len(self.lan.sent(LAN_BROADCAST)), 5)
        self.assertEqual(self.counters(discovery)["discovery.send_errors"], 5)

    def test_noRoute(self) -> None:
        """
        Without a network and a route nothing can be sent; the log says so once, and what
        is to be done, and it goes on (5).
        """
        said: list[Any] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        self.one.writeErrors["255.255.255.255"] = errno.ENETUNREACH
        there: list[Interface] = []
        discovery = self.interfaces(self.one, there)
        discovery.announce(key(1), URLS)
        self.network.runFor(50)
        [event] = [e for e in said if "cannot send" in e.get("problem", "")]
        self.assertIn("default route", event["problem"])
        self.assertIn("container", event["problem"])
        self.assertEqual(self.counters(discovery)["discovery.send_errors"], 3)
        there.extend(interfacesOf(self.one))
        self.network.runFor(20)
        self.assertTrue(self.lan.sent(LAN_BROADCAST))

    def test_portTaken(self) -> None:
        """
        Where another program has the port, we go on sending, say so, and listen as soon
        as it is free (3.2, 5).
        """
        taken = self.two.reactor.listenUDP(21025, DatagramProtocol())
        two = self.listen(self.two, V1)
        one = self.listen(self.one, V1)
        two.announce(NodeId.from_text("two"), URLS, (V1,))
        one.announce(NodeId.from_text("one"), URLS, (V1,))
        self.network.runFor(5)
        self.assertEqual(two.status(), {"v1 broadcast": "sending only"})
        self.assertEqual(len(self.shown(one)), 1)
        taken.stopListening()
        self.network.runFor(60)
        self.assertEqual(two.status(), {"v1 broadcast": "listening"})
        self.assertEqual(len(self.shown(two)), 1)

    def test_shutdown(self) -> None:
        """A reactor that takes the sockets away breaks nothing."""
        one = self.listen(self.one)
        one.announce(key(1), URLS)
        self.network.runFor(1)
        self.one.reactor.disconnectAll()
        self.network.runFor(60)
        self.assertEqual(set(one.status().values()), {"listening"})


BOTH = ("127.0.0.1",) if NO_IPV6 else ("127.0.0.1", "::1")
OPTIONS = {
    "127.0.0.1": (socket.AF_INET, socket.IPPROTO_IP, socket.IP_TTL),
    "::1": (socket.AF_INET6, socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
}


def unused(profile: Profile) -> Profile:
    """The profile on a port that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        return replace(profile, port=probe.getsockname()[1])


class HopTests(TestCase):
    """On this machine's loopback interface."""

    def discovery(self, profile: Profile, checkHops: bool) -> Discovery:
        from twisted.internet import reactor

        discovery = Discovery(
            reactor,
            enumerate=lambda: [each for each in interfaces() if each.loopback],
            checkHops=checkHops,
        )
        discovery.listen((profile,))
        self.addCleanup(discovery.stop)
        return discovery

    async def hear(self, profile: Profile, discovery: Discovery, host: str, *hops: int) -> Any:
        """
        Announce a node with each hop limit, and wait for the last.

        @return: the numbers of the nodes that are known, and how many were turned away.
        """
        family, level, option = OPTIONS[host]
        with socket.socket(family, socket.SOCK_DGRAM) as peer:
            for number in hops:
                peer.setsockopt(level, option, number)
                wire = v4.encode(key(number).key, (f"kcp://h:{number}",), 1)
                peer.sendto(wire, (host, profile.port))
            await discovery.registry.lookup(key(hops[-1]), 10)
        known = {int.from_bytes(node.id.key, "big") for node in discovery.registry.snapshot()}
        return known, discovery._used[profile].local.snapshot().counters["discovery.far"]

    async def test_checked(self) -> None:
        """
        What comes with less than the 255 that we send with has come through a router,
        and is counted and not believed.
        """
        for host in BOTH:
            profile = unused(V4)
            discovery = self.discovery(profile, checkHops=True)
            self.assertEqual(set(discovery.status().values()), {"listening"})
            heard = await self.hear(profile, discovery, host, 64, 254, 1, 255)
            self.assertEqual(heard, ({255}, 3))

    async def test_notChecked(self) -> None:
        """Without the option, and where others send as they like, the hop limit does not matter."""
        for profile, checkHops in ((unused(V4), False), (unused(SYNCTHING), True)):
            discovery = self.discovery(profile, checkHops)
            heard = await self.hear(profile, discovery, "127.0.0.1", 64, 255)
            self.assertEqual(heard, ({64, 255}, 0))

    def test_sentWith(self) -> None:
        """
        Our own profile sends with 255 hops; Syncthing's group is sent to with 1, as it
        does itself (3.2).
        """
        self.assertEqual([each.hops for each in (V4, V1, SYNCTHING)], [255, None, None])

    def test_blind(self) -> None:
        """Where the system cannot tell, nothing is heard, and the status says so."""
        lan = Lan()
        one, two = lan.host("one"), lan.host("two")
        listening = lan.discovery(two, checkHops=True)
        listening.listen((V4,))
        lease = lan.discovery(one).announce(key(1), ("kcp://:1",))
        lan.network.runFor(2)
        self.assertTrue(lan.sent(LAN_BROADCAST))
        self.assertEqual(listening.registry.snapshot(), [])
        self.assertEqual(set(listening.status().values()), {"sending only"})
        lease.release()
        listening.stop()
