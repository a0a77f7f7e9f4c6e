"""
Tests for L{twisted_rudp.discovery.redisstore}, with a connection that answers when the test
says. C{tests.interop.test_redis} has a real one.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.discovery.redisstore import (
    CHECK,
    MOST_ASKED,
    MOST_WRITES,
    PREFIX,
    RETRY,
    TIMEOUT,
    RedisStore,
    openStore,
)
from twisted_rudp.discovery.servertable import Place, ServerTable

HERE, THERE = b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02"


class Connection:
    """Keeps what it was asked, with the C{Deferred} of each answer."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], Deferred[Any]]] = []
        self.closed = False

    def _call(self, method: str, *arguments: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self.calls.append((method, arguments, answer))
        return answer

    def eval(self, script: str, keys: list[bytes], arguments: Any = ()) -> Deferred[Any]:
        return self._call("write" if arguments else "read", keys[0], *arguments)

    def info(self, section: str) -> Deferred[Any]:
        return self._call("info")

    def hdel(self, key: bytes, fields: list[bytes]) -> Deferred[Any]:
        return self._call("hdel", key, *fields)

    def disconnect(self) -> None:
        self.closed = True

    def take(self, method: str) -> list[tuple[tuple[Any, ...], Deferred[Any]]]:
        """The calls of a method so far."""
        found = [(arguments, answer) for name, arguments, answer in self.calls if name == method]
        self.calls = [each for each in self.calls if each[0] != method]
        return found


class StoreTests(SynchronousTestCase):
    """One server and its store."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(10_000)
        self.connection = Connection()
        self.table = ServerTable(life=3600)
        self.store = RedisStore(
            self.clock, lambda: self.connection, self.table, "redis://here:1/0"
        )
        self.events: list[Any] = []
        self.patch(RedisStore, "_log", Logger(observer=self.events.append))  # type: ignore[arg-type]
        self.store.start()
        self.there()

    def there(self, run: str = "one") -> None:
        """The store says that it is there."""
        [(_, answer)] = self.connection.take("info")
        answer.callback({"run_id": run})

    def lose(self, answer: Deferred[Any]) -> None:
        answer.errback(Failure(ConnectionLost("gone")))  # type: ignore[no-untyped-call]

    def announce(self, node: bytes, ip: bytes = HERE, port: int = 7) -> None:
        self.assertTrue(self.table.announce(node, ip, port, self.clock.seconds()))
        self.store.put(node, ip)

    def written(self) -> list[tuple[Any, ...]]:
        """What is being written; it succeeds."""
        calls = self.connection.take("write")
        for _, answer in calls:
            answer.callback(1)
        return [arguments for arguments, _ in calls]

    def test_written(self) -> None:
        """A place is written with its life, and the last of several changes counts."""
        self.announce(b"alice")
        self.clock.advance(1)
        self.announce(b"alice", port=8)
        self.assertEqual(
            [arguments[:4] for arguments in self.written()],
            [(PREFIX + b"alice", HERE, 7, 3600), (PREFIX + b"alice", HERE, 8, 3600)],
        )

    def test_bounded(self) -> None:
        """So many writes are under way; the others wait, each place once."""
        for number in range(MOST_WRITES + 5):
            self.announce(b"%d" % number)
            self.announce(b"last")
        first = self.connection.take("write")
        self.assertEqual(len(first), MOST_WRITES)
        for _, answer in first:
            answer.callback(1)
        self.assertLess(len(self.written()), MOST_WRITES)
        self.assertEqual(self.connection.calls, [])

    def test_found(self) -> None:
        """What others have announced is found, by the store's time to live."""
        finding = self.store.find(b"bob")
        [((key,), answer)] = self.connection.take("read")
        self.assertEqual(key, PREFIX + b"bob")
        answer.callback([THERE, b"9", b"600"])
        now = self.clock.seconds()
        self.assertEqual(self.successResultOf(finding), [Place(THERE, 9, now - 3000)])

    def away(self) -> None:
        """The store is gone."""
        self.store.find(b"anybody")
        [(_, answer)] = self.connection.take("read")
        self.lose(answer)

    def test_away(self) -> None:
        """
        A store that is gone is an error in the log, once; what it said last is what is known;
        what is accepted meanwhile is written when it is back.
        """
        finding = self.store.find(b"bob")
        self.connection.take("read")[0][1].callback([THERE, b"9", b"600"])
        known = self.successResultOf(finding)
        self.announce(b"alice")
        [(_, writing)] = self.connection.take("write")
        self.lose(writing)
        self.announce(b"carol")
        self.assertEqual(self.successResultOf(self.store.find(b"bob")), known)
        self.assertEqual(self.connection.calls, [])
        for _ in range(3):
            self.clock.advance(RETRY)
            [(_, answer)] = self.connection.take("info")
            self.lose(answer)
        self.clock.advance(RETRY)
        self.there()
        self.assertEqual(
            [arguments[0] for arguments in self.written()], [PREFIX + b"alice", PREFIX + b"carol"]
        )
        levels = [event["log_level"].name for event in self.events]
        self.assertEqual(levels, ["error", "info"])

    def test_nonsense(self) -> None:
        """A store that says what was never written is one that does not answer."""
        for answer in (
            None,
            7,
            "text",
            [HERE],
            [HERE, b"7"],
            [HERE, b"seven", b"60"],
            [HERE, b"70000", b"60"],
            [HERE, b"7", b"nan"],
            [HERE, b"7", b"-inf"],
            [b"12345", b"7", b"60"],
            [7, b"7", b"60"],
            [None] * 3_000_000,
        ):
            asking = self.store.find(b"bob")
            [(_, found)] = self.connection.take("read")
            found.callback(answer)
            self.assertEqual(self.successResultOf(asking), [])
            self.clock.advance(RETRY)
            self.there()
        self.assertEqual(self.store.counters["store_failed"], 12)
        for info in (None, b"run_id", {}, {"run_id": 7}):
            self.clock.advance(CHECK)
            [(_, answered)] = self.connection.take("info")
            answered.callback(info)
            self.clock.advance(RETRY)
            self.there()
        self.assertEqual(self.store.counters["store_failed"], 16)

    def test_life(self) -> None:
        """What is written late holds only as long as the announcement does."""
        self.away()
        self.announce(b"alice")
        self.clock.advance(1600)
        self.there()
        [arguments] = self.written()
        self.assertEqual(arguments[3], 2000)
        self.away()
        self.store.put(b"alice", HERE)
        self.clock.advance(3600)
        self.there()
        self.assertEqual(self.written(), [])

    def test_silent(self) -> None:
        """A store that does not answer counts as gone."""
        finding = self.store.find(b"bob")
        self.clock.advance(TIMEOUT)
        self.assertEqual(self.successResultOf(finding), [])
        self.assertEqual(len(self.events), 1)

    def test_busy(self) -> None:
        """More lookups than may be under way are answered from what is known."""
        finding = [self.store.find(b"bob") for _ in range(MOST_ASKED)]
        self.assertEqual(self.successResultOf(self.store.find(b"bob")), [])
        self.assertEqual(self.store.counters["store_busy"], 1)
        for _, answer in self.connection.take("read"):
            answer.callback([])
        for each in finding:
            self.assertEqual(self.successResultOf(each), [])
        self.assertNoResult(self.store.find(b"bob"))

    def test_startedAgain(self) -> None:
        """A store that was started again is told everything again."""
        self.announce(b"alice")
        self.written()
        self.clock.advance(CHECK)
        self.there()
        self.assertEqual(self.written(), [])
        self.clock.advance(CHECK)
        self.there("two")
        self.assertEqual([arguments[0] for arguments in self.written()], [PREFIX + b"alice"])

    def test_evicted(self) -> None:
        """What makes room for others here does so in the store."""
        for number in range(5):
            self.announce(b"alice", bytes((192, 0, 2, number)))
        [(arguments, _)] = self.connection.take("hdel")
        self.assertEqual(arguments, (PREFIX + b"alice", bytes((192, 0, 2, 3))))
        self.assertEqual(len(self.written()), 5)

    def test_stop(self) -> None:
        """At the end what was accepted is written first; if that cannot be, nothing waits."""
        self.away()
        self.announce(b"alice")
        self.clock.advance(RETRY)
        [(_, answer)] = self.connection.take("info")
        self.store.put(b"alice", HERE)
        answer.callback({"run_id": "one"})
        stopping = self.store.stop()
        self.written()
        self.successResultOf(stopping)
        self.assertTrue(self.connection.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class UrlTests(SynchronousTestCase):
    """C{--registry}."""

    def test_invalid(self) -> None:
        """What is no URL of a Redis is refused, without repeating a password."""
        for url in ("here:6379", "http://here", "redis://", "redis://:secret@h/x", "redis://h:x"):
            problem = self.assertRaises(ValueError, openStore, Clock(), url, ServerTable())
            self.assertNotIn("secret", str(problem))
