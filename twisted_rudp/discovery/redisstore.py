"""
The announcements of several discovery servers in one Redis, where each finds those of the others.

A server still has the table of what it has accepted itself (L{ServerTable}). Whatever enters it
is written to the store, now or as soon as the store can be reached; an answer is made of that
table and of what the store says. Where the store does not answer, it is made of what it said
last. Announcements expire in the store, by its own clock, so that the clocks of the servers need
not agree.

Needs the package txredisapi: C{pip install 'twisted_rudp[redis]'}.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from math import isfinite
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_rudp.discovery.servertable import MAX_PER_NODE, Place, ServerTable

PREFIX: Final = b"rudp:discovery:"
"""In front of the id of a node: its key, a hash with a field for each of its addresses."""

PORT: Final = 6379

TIMEOUT: Final = 2.0
"""Seconds to wait for the store."""

RETRY: Final = 5.0
"""Seconds between two attempts while it cannot be reached."""

CHECK: Final = 60.0
"""Seconds after which it is asked whether it is still the same: one that was started again may
have lost what was written."""

MOST_ASKED: Final = 256
"""Lookups under way. Further ones are answered from what is known."""

MOST_WRITES: Final = 64
"""Writes under way. Further ones wait, each once however often it changes."""

MOST_KNOWN: Final = 65_536
"""Nodes whose places in the store are remembered; the one unused for longest goes first."""

_WRITE: Final = """
local now = tonumber(redis.call('TIME')[1])
local places = redis.call('HGETALL', KEYS[1])
local first, last, newest, count = now, nil, -1, 0
for i = 1, #places, 2 do
  local began, _, ends = string.match(places[i + 1], '^(%d+) (%d+) (%d+)$')
  if not began or tonumber(ends) <= now then
    redis.call('HDEL', KEYS[1], places[i])
  elseif places[i] == ARGV[1] then
    first = began
    count = -1000
  elseif #places[i] == #ARGV[1] then
    count = count + 1
    if tonumber(began) >= newest then
      newest, last = tonumber(began), places[i]
    end
  end
end
if count >= tonumber(ARGV[4]) then
  redis.call('HDEL', KEYS[1], last)
end
redis.call('HSET', KEYS[1], ARGV[1], first .. ' ' .. ARGV[2] .. ' ' .. (now + ARGV[3]))
redis.call('EXPIRE', KEYS[1], math.max(tonumber(ARGV[3]), redis.call('TTL', KEYS[1])))
return 1
"""
"""
Writes one place: address, port, seconds to live, most places of a node in each family. As in
L{ServerTable}, those that were there first stay, and newer ones compete for the last.
"""

_READ: Final = """
local now = tonumber(redis.call('TIME')[1])
local places = redis.call('HGETALL', KEYS[1])
local found = {}
for i = 1, #places, 2 do
  local _, port, ends = string.match(places[i + 1], '^(%d+) (%d+) (%d+)$')
  if ends and tonumber(ends) > now then
    found[#found + 1] = places[i]
    found[#found + 1] = port
    found[#found + 1] = tostring(tonumber(ends) - now)
  end
end
return found
"""
"""Reads the places of a node: address, port and seconds to live of each."""


_MOST_FIELDS: Final = 3 * 2 * MAX_PER_NODE
"""Of an answer about a node: three for each place, in two families."""

_NO_PLACE: Final = Place(b"", 0, 0.0)


class StoreError(Exception):
    """The store does not answer as Redis does, or others have written to our keys."""


def _runOf(info: Any) -> str:
    run = info.get("run_id") if isinstance(info, dict) else None
    if not isinstance(run, str):
        raise StoreError("it does not say who it is")
    return run


class RedisStore:
    """
    What one discovery server has to do with the store.

    @ivar counters: what happened, by name.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        connect: Callable[[], Any],
        table: ServerTable,
        name: str,
        retry: float = RETRY,
    ) -> None:
        """
        @param connect: opens a connection of txredisapi, with replies as bytes.
        @param table: what this server has accepted.
        @param name: of the store, for the log.
        @param retry: seconds between two attempts while it cannot be reached.
        """
        self._retry = retry
        self._reactor = reactor
        self._connect = connect
        self._connection: Any = None
        self._table = table
        self._name = name
        self._unwritten: dict[tuple[bytes, bytes], None] = {}
        self._writing = 0
        self._asked = 0
        self._away = False
        self._run: str | None = None
        self._known: OrderedDict[bytes, list[Place]] = OrderedDict()
        self._timer: IDelayedCall | None = None
        self._stopped = False
        self.counters = dict.fromkeys(
            ("store_written", "store_found", "store_failed", "store_busy"), 0
        )
        table.evicted = self.forget

    def start(self) -> None:
        """Begin to look after the store. It need not be there."""
        self._stopped = False
        self._connection = self._connect()
        for node, place in self._table.dump():
            self.put(node, place.ip)
        self._check()

    def stop(self) -> Deferred[None]:
        """
        @return: fires when what was accepted is written, or the store does not take it.
        """
        self._stopped = True
        self._cancel()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        while self._unwritten and not self._away:
            node, ip = next(iter(self._unwritten))
            del self._unwritten[node, ip]
            await self._write(node, ip)
        await maybeDeferred(self._connection.disconnect)

    # writing

    def put(self, node: bytes, ip: bytes) -> None:
        """A place has entered the table, or is there anew: write it."""
        self._unwritten.pop((node, ip), None)
        self._unwritten[node, ip] = None
        self._writeOn()

    def forget(self, node: bytes, ip: bytes) -> None:
        """A place was evicted from the table. If the store is away, it expires there."""
        if self._unwritten.pop((node, ip), self) is self and not self._away:
            self._call("hdel", PREFIX + node, [ip]).addErrback(self._failed)

    def _writeOn(self) -> None:
        while self._unwritten and self._writing < MOST_WRITES and not (self._away or self._stopped):
            node, ip = next(iter(self._unwritten))
            del self._unwritten[node, ip]
            self._writing += 1
            self._write(node, ip).addCallback(self._written)

    def _write(self, node: bytes, ip: bytes) -> Deferred[None]:
        """
        @return: fires in any case; a place that could not be written waits for the next time.
        """
        place = self._table.place(node, ip)
        life = 0.0 if place is None else self._table.left(place, self._reactor.seconds())
        if place is None or life < 1:
            return succeed(None)
        arguments = [ip, place.port, int(life), MAX_PER_NODE]
        writing = self._call("eval", _WRITE, [PREFIX + node], arguments)

        def done(_: object) -> None:
            self.counters["store_written"] += 1

        def failed(failure: Failure) -> None:
            self._unwritten[node, ip] = None
            self._failed(failure)

        return writing.addCallbacks(done, failed)

    def _written(self, _: None) -> None:
        self._writing -= 1
        self._writeOn()

    # reading

    def find(self, node: bytes) -> Deferred[list[Place]]:
        """
        @return: fires with the places of a node that the store has, or had when it was asked last.
        """
        if self._away or self._asked >= MOST_ASKED:
            self.counters["store_busy"] += not self._away
            return succeed(self._known.get(node, []))
        self._asked += 1
        asking = self._call("eval", _READ, [PREFIX + node]).addCallback(self._places)
        return asking.addCallbacks(
            lambda found: self._found(found, node),
            lambda failure: self._notFound(failure, node),
        )

    def _places(self, answer: Any) -> list[Place]:
        """
        The places in an answer.

        @raise StoreError: it is no answer to what was asked.
        """
        now = self._reactor.seconds()
        try:
            rows = [answer[at : at + 3] for at in range(0, min(len(answer), _MOST_FIELDS), 3)]
            found = [
                self._table.placed(ip, int(port), now, float(left)) for ip, port, left in rows
            ]
        except (TypeError, ValueError):
            found = [_NO_PLACE]
        for each in found:
            right = isinstance(each.ip, bytes) and len(each.ip) in (4, 16)
            if not right or not 0 < each.port < 65536 or not isfinite(each.seen):
                raise StoreError("what it says is not what was written")
        return found

    def _found(self, found: list[Place], node: bytes) -> list[Place]:
        self._asked -= 1
        self.counters["store_found"] += 1
        self._known.pop(node, None)
        if found:
            self._known[node] = found
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        return found

    def _notFound(self, failure: Failure, node: bytes) -> list[Place]:
        self._asked -= 1
        self._failed(failure)
        return self._known.get(node, [])

    # whether it is there

    def _call(self, method: str, *arguments: Any) -> Deferred[Any]:
        calling = maybeDeferred(getattr(self._connection, method), *arguments)
        return calling.addTimeout(TIMEOUT, self._reactor)

    def _failed(self, failure: Failure) -> None:
        self.counters["store_failed"] += 1
        if not self._away and not self._stopped:
            self._away = True
            self._log.error(
                "{store} does not answer ({reason}): answering from what is known",
                store=self._name,
                reason=failure.getErrorMessage() or repr(failure.value),
            )
            self._again(self._retry)

    def _again(self, delay: float) -> None:
        self._cancel()
        if not self._stopped:
            self._timer = self._reactor.callLater(delay, self._check)

    def _check(self) -> None:
        self._timer = None
        asking = self._call("info", "server").addCallback(_runOf)
        asking.addCallbacks(self._there, self._notThere)

    def _there(self, run: str) -> None:
        if self._run is not None and run != self._run:
            # It was started again, and may know nothing.
            for node, place in self._table.dump():
                self._unwritten[node, place.ip] = None
        self._run = run
        if self._away:
            self._away = False
            self._log.info(
                "{store} answers again: {count} places to write",
                store=self._name,
                count=len(self._unwritten),
            )
        self._again(CHECK)
        self._writeOn()

    def _notThere(self, failure: Failure) -> None:
        self._failed(failure)
        self._again(self._retry)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def openStore(
    reactor: Any,
    url: str,
    table: ServerTable,
    password: str | None = None,
    retry: float = RETRY,
) -> RedisStore:
    """
    The store at a URL, C{redis://HOST:PORT/DATABASE}.

    @param password: instead of one in the URL.
    @param retry: see L{RedisStore}.
    @raise ValueError: the URL is invalid; repeats no password.
    @raise ImportError: txredisapi is not installed.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or PORT
        database = parts.path.strip("/") or "0"
        if parts.scheme != "redis" or not parts.hostname or not database.isdecimal():
            raise ValueError("")
    except ValueError:
        raise ValueError("expected redis://HOST, with :PORT and /DATABASE if need be") from None
    if password is None and parts.password is not None:
        password = unquote(parts.password)
    # It imports the reactor.
    from txredisapi import lazyConnection

    connect = partial(
        lazyConnection,
        parts.hostname,
        port,
        int(database),
        charset=None,
        password=password,
        username=unquote(parts.username) if parts.username else None,
        connectTimeout=TIMEOUT,
        replyTimeout=TIMEOUT,
        convertNumbers=False,
    )
    name = f"redis://{parts.hostname}:{port}/{database}"
    return RedisStore(reactor, connect, table, name, retry)
