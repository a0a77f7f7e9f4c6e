"""Tests for L{twisted_rudp.discovery.registry} and what it is made of."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.discovery.support import Log, addresses, key
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.nodes import Change, Removal, Source
from twisted_rudp.discovery.registry import Registry
from twisted_rudp.errors import NodeNotFound
from twisted_rudp.testing.stepping import step

ONE = Source("v4 broadcast", "10.0.0.1")
OTHER = Source("v4 multicast", "fe80::1%eth0")


class RegistryCase(SynchronousTestCase):
    """A registry with a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.registry = Registry(self.clock)

    def hear(
        self,
        number: int = 1,
        *urls: str,
        source: Source = ONE,
        instance: int | None = 7,
        life: float = 90,
    ) -> Change:
        return self.registry.announce(
            key(number), source, addresses(*urls), life=life, instance=instance
        )

    def known(self, number: int = 1) -> list[str]:
        return [str(c.address) for c in self.registry.candidates(key(number))]


class AnnounceTests(RegistryCase):
    """What announcements change."""

    def test_changes(self) -> None:
        """New, renewed, other addresses, other instance (discovery.md 3.3)."""
        self.assertIs(self.hear(1, "kcp://a:1"), Change.NEW)
        self.assertIs(self.hear(1, "kcp://a:1"), Change.RENEWED)
        self.assertIs(self.hear(1, "kcp://a:2"), Change.UPDATED)
        self.assertEqual(self.known(), ["kcp://a:2"])
        self.assertIs(self.hear(1, "kcp://a:2", instance=8), Change.RESTARTED)

    def test_sourcesApart(self) -> None:
        """
        One node heard by two ways with two instance numbers does not flap (3.3), and
        has the addresses of both.
        """
        self.hear(1, "kcp://a:1", source=ONE, instance=7)
        self.hear(1, "kcp://b:1", source=OTHER, instance=8)
        for _ in range(3):
            self.clock.advance(30)
            one = self.hear(1, "kcp://a:1", source=ONE, instance=7)
            other = self.hear(1, "kcp://b:1", source=OTHER, instance=8)
            self.assertEqual((one, other), (Change.RENEWED, Change.RENEWED))
        self.assertEqual(sorted(self.known()), ["kcp://a:1", "kcp://b:1"])

    def test_restartsAreRare(self) -> None:
        """An instance that changes all the time is acted upon once in 30 s (5)."""
        self.hear(1, "kcp://a:1", instance=0)
        acted = 0
        for number in range(1, 61):
            acted += self.hear(1, "kcp://a:1", instance=number) is Change.RESTARTED
            self.clock.advance(1)
        self.assertEqual(acted, 2)

    def test_expiry(self) -> None:
        """
        An entry is gone after its life, at lookups as well as by the sweep (1.6 rule 3),
        and then nothing stays scheduled.
        """
        self.hear(1, "kcp://a:1", life=90)
        self.clock.advance(89)
        self.assertEqual(self.known(), ["kcp://a:1"])
        self.hear(1, "kcp://a:1", life=90)
        self.clock.rightNow += 89.5
        self.assertEqual(self.known(), ["kcp://a:1"])
        self.clock.rightNow += 1
        self.assertEqual(self.known(), [])
        self.clock.advance(0)
        self.assertEqual(len(self.registry), 0)
        self.assertEqual(self.registry.counters["expired"], 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_expiredIsNew(self) -> None:
        """Who was not heard for a whole life is new, also before the sweep (3.3)."""
        self.hear(1, "kcp://a:1", life=90)
        self.clock.rightNow += 90
        self.assertIs(self.hear(1, "kcp://a:1"), Change.NEW)

    def test_goodbye(self) -> None:
        """
        A node without addresses is not listed; it is still known, so its next
        announcement is not new (6).
        """
        self.hear(1, "kcp://a:1")
        self.hear(1)
        self.assertEqual(self.registry.snapshot(), [])
        self.assertEqual(self.registry.counters["goodbyes"], 1)
        self.assertIs(self.hear(1, "kcp://a:1"), Change.UPDATED)

    def test_stale(self) -> None:
        """
        After a sleep what was heard before ranks last and ends soon, unless it is heard
        again (5).
        """
        self.hear(1, "kcp://old:1", source=ONE)
        self.hear(2, "kcp://two:1")
        self.registry.markStale(45)
        self.clock.advance(1)
        self.hear(1, "kcp://new:1", source=OTHER)
        self.assertEqual(self.known(), ["kcp://new:1", "kcp://old:1"])
        self.hear(2, "kcp://two:1")
        self.clock.advance(45)
        self.assertEqual(self.known(1), ["kcp://new:1"])
        self.assertEqual(self.known(2), ["kcp://two:1"])


class BoundTests(RegistryCase):
    """What unknown peers can fill, discovery.md 5."""

    def test_records(self) -> None:
        """The oldest announcements go when there are too many; a renewed one is not old."""
        self.registry = Registry(self.clock, maxRecords=3)
        for number in (1, 2, 3):
            self.hear(number, "kcp://a:1")
        self.hear(1, "kcp://a:1")
        self.hear(4, "kcp://a:1")
        self.assertEqual([n.id for n in self.registry.snapshot()], [key(1), key(3), key(4)])
        self.assertEqual(self.registry.counters["evicted"], 1)

    def test_weight(self) -> None:
        """The bytes of all announcements together are bounded too."""
        self.registry = Registry(self.clock, maxWeight=20_000)
        for number in range(1, 30):
            self.hear(number, "kcp://a:1/" + "x" * 2000)
        self.assertLess(len(self.registry), 9)
        self.assertEqual(self.known(29), ["kcp://a:1/" + "x" * 2000])
        self.hear(29, *(f"kcp://a:1/{n}" + "x" * 2000 for n in range(20)))
        self.assertEqual(len(self.registry), 0)

    def test_pinned(self) -> None:
        """What somebody waits for is not evicted."""
        self.registry = Registry(self.clock, maxRecords=2)
        self.hear(1)
        waiting = self.registry.lookup(key(1), 30)
        for number in (2, 3, 4):
            self.hear(number, "kcp://a:1")
        self.hear(1, "kcp://found:1")
        [found] = self.successResultOf(waiting)
        self.assertEqual(str(found.address), "kcp://found:1")

    def test_newPerSource(self) -> None:
        """One address introduces 64 nodes in a minute and no more; others are not hindered."""
        changes = [self.hear(number, "kcp://a:1") for number in range(1, 100)]
        self.assertEqual(changes.count(Change.NEW), 64)
        self.assertEqual(self.registry.counters["refused_rate"], 35)
        self.assertIs(self.hear(500, "kcp://a:1", source=OTHER), Change.NEW)
        self.clock.advance(60)
        self.assertIs(self.hear(600, "kcp://a:1"), Change.NEW)

    def test_sourcesOfOneNode(self) -> None:
        """
        The ninth source of a node is refused while the others are fresh: a forger
        displaces nobody.
        """
        for number in range(20):
            self.hear(1, f"kcp://a:{number + 1}", source=Source("v4", f"10.0.1.{number}"))
        self.assertEqual(sorted(self.known()), [f"kcp://a:{n}" for n in range(1, 9)])
        self.assertEqual(self.registry.counters["refused_sources"], 12)
        self.registry.markStale(60)
        self.assertIs(self.hear(1, "kcp://late:1", source=ONE), Change.NEW)

    def test_ranking(self) -> None:
        """
        Where it was reached last comes first, then what was announced last: a newer
        forged address does not come before one that has worked.
        """
        self.hear(1, "kcp://true:1", source=ONE)
        self.registry.succeeded(key(1), addresses("kcp://true:1")[0])
        self.clock.advance(1)
        self.hear(1, "kcp://forged:1", source=OTHER)
        self.clock.advance(1)
        self.hear(1, "kcp://forged:2", source=Source("v4", "10.0.0.66"))
        self.assertEqual(self.known(), ["kcp://true:1", "kcp://forged:2", "kcp://forged:1"])

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(
        st.lists(
            st.tuples(
                st.integers(1, 12),
                st.integers(1, 4),
                st.integers(0, 3),
                st.integers(0, 3),
                st.floats(0, 40),
            ),
            max_size=80,
        )
    )
    def test_anything(self, heard: list[tuple[int, int, int, int, float]]) -> None:
        """
        Whatever is announced in whatever order, the bounds hold, only fresh addresses
        are given, and in the end nothing is left.
        """
        clock = Clock()
        registry = Registry(clock, maxRecords=10, maxSources=2)
        log = Log()
        registry.browse(log)
        last: dict[tuple[int, int], float] = {}
        for number, host, count, instance, pause in heard:
            urls = addresses(*(f"kcp://h{host}:{n + 1}" for n in range(count)))
            source = Source("v4", f"10.0.0.{host}")
            registry.announce(key(number), source, urls, life=90, instance=instance)
            last[number, host] = clock.seconds()
            self.assertLessEqual(len(registry), 10)
            for node in registry.snapshot():
                for candidate in node.candidates:
                    said = last[int.from_bytes(node.id.key, "big"), int(candidate.source.host[-1])]
                    self.assertEqual(candidate.age, clock.seconds() - said)
                    self.assertLess(candidate.age, 90)
            clock.pump([pause, 0, 0, 0])
        for _ in range(40):
            clock.advance(10)
        self.assertEqual(len(registry), 0)
        self.assertEqual(clock.getDelayedCalls(), [])
        added = [event for event in log.events if event[0] == "added"]
        removed = [event for event in log.events if event[0] == "removed"]
        self.assertEqual(len(added), len(removed))


class LookupTests(RegistryCase):
    """Waiting for a node."""

    def test_known(self) -> None:
        """What is known is given at once."""
        self.hear(1, "kcp://a:1")
        [found] = self.successResultOf(self.registry.lookup(key(1), 5))
        self.assertEqual((str(found.address), found.source), ("kcp://a:1", ONE))

    def test_later(self) -> None:
        """What is announced in time is given to all who wait, and no timer is left of them."""
        waiting = [self.registry.lookup(key(1), 5) for _ in range(2)]
        self.clock.advance(4)
        self.hear(1)
        for each in waiting:
            self.assertNoResult(each)
        self.hear(1, "kcp://a:1", life=2)
        for each in waiting:
            self.assertEqual(len(self.successResultOf(each)), 1)
        self.clock.advance(2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_timeout(self) -> None:
        """Nobody in time is L{NodeNotFound}, which names the node."""
        waiting = self.registry.lookup(NodeId.from_text("alice"), 5)
        self.clock.advance(5)
        failure = self.failureResultOf(waiting, NodeNotFound)
        self.assertIn("alice", str(failure.value))
        self.failureResultOf(self.registry.lookup(key(1), 0), NodeNotFound)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancel(self) -> None:
        """A lookup can be cancelled; others go on."""
        one, other = (self.registry.lookup(key(1), 5) for _ in range(2))
        one.cancel()
        self.failureResultOf(one, CancelledError)
        self.hear(1, "kcp://a:1", life=1)
        self.successResultOf(other)
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """When all ends, who waits is told and nothing stays scheduled."""
        self.hear(2, "kcp://a:1")
        self.registry.browse(Log())
        waiting = self.registry.lookup(key(1), 5)
        self.registry.stop()
        self.failureResultOf(waiting, NodeNotFound)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.registry), 0)


class BrowseTests(RegistryCase):
    """Being told of nodes."""

    def setUp(self) -> None:
        super().setUp()
        self.log = Log()

    def told(self) -> list[object]:
        self.clock.pump([0] * 10)
        return list(self.log.take())

    def test_life(self) -> None:
        """Added, updated, removed with the reason (6); renewals are nothing."""
        self.registry.browse(self.log)
        self.hear(1, "kcp://a:1")
        self.assertEqual(self.log.events, [])
        self.assertEqual(self.told(), [("added", key(1), "kcp://a:1")])
        self.hear(1, "kcp://a:1")
        self.assertEqual(self.told(), [])
        self.hear(1, "kcp://a:2")
        self.assertEqual(self.told(), [("updated", key(1), "kcp://a:2")])
        self.hear(1)
        self.assertEqual(self.told(), [("removed", key(1), Removal.GOODBYE)])
        self.hear(1, "kcp://a:3")
        self.told()
        self.clock.advance(90)
        self.assertEqual(self.told(), [("removed", key(1), Removal.EXPIRED)])

    def test_evicted(self) -> None:
        """An eviction is told as such."""
        self.registry = Registry(self.clock, maxRecords=1)
        self.registry.browse(self.log)
        self.hear(1, "kcp://a:1")
        self.told()
        self.hear(2, "kcp://a:1")
        self.assertIn(("removed", key(1), Removal.EVICTED), self.told())

    def test_known(self) -> None:
        """What is known already comes first."""
        self.hear(1, "kcp://a:1")
        self.registry.browse(self.log)
        self.assertEqual(self.told(), [("added", key(1), "kcp://a:1")])

    def test_coalesced(self) -> None:
        """Many changes before a turn are one, and one that is undone is none (5)."""
        self.registry.browse(self.log)
        for number in range(1, 50):
            self.hear(1, f"kcp://a:{number}")
        self.assertEqual(self.told(), [("added", key(1), "kcp://a:49")])
        self.hear(1)
        self.hear(1, "kcp://a:49")
        self.assertEqual(self.told(), [])

    def test_oneATurn(self) -> None:
        """Each node is told in a turn of its own (5)."""
        self.registry.browse(self.log)
        for number in (1, 2, 3):
            self.hear(number, "kcp://a:1")
        counts = []
        for _ in range(3):
            step(self.clock)
            counts.append(len(self.log.events))
        self.assertEqual(counts, [1, 2, 3])

    def test_isolated(self) -> None:
        """A browser that raises is logged and hinders nobody (5)."""

        class Broken(Log):
            def nodeAdded(self, node: object) -> None:
                raise ZeroDivisionError

        self.registry.browse(Broken())
        self.registry.browse(self.log)
        self.hear(1, "kcp://a:1")
        self.assertEqual(len(self.told()), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stop(self) -> None:
        """Who has stopped browsing is told nothing more, not even what was on the way."""
        browsing = self.registry.browse(self.log)
        self.hear(1, "kcp://a:1", life=1)
        browsing.stop()
        browsing.stop()
        self.assertEqual(self.told(), [])
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_name(self) -> None:
        """A node that v1 calls by its name is listed by it, whatever v4 said first."""
        named = NodeId.from_text("alice")
        self.registry.announce(NodeId(named.key), ONE, addresses("kcp://a:1"), life=90)
        self.registry.announce(named, OTHER, addresses("udp://a:1"), life=90)
        [node] = self.registry.snapshot()
        self.assertEqual(node.id.text, "alice")
