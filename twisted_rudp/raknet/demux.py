"""
What the RakNet sessions of one socket share: telling sessions from everything
else, and answering everything else without state (raknet.md 2 and 13).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final

from twisted_rudp.core.cookies import SLOT, Cookies
from twisted_rudp.core.engine import (
    AMPLIFICATION,
    MILLISECOND,
    SECOND,
    Address,
    Admit,
    Buffer,
    Drop,
    Engine,
    Key,
    Reply,
    Route,
    SessionTable,
    Verdict,
)
from twisted_rudp.core.limits import TokenBuckets, is_loopback, network_of
from twisted_rudp.raknet.engine import RakNetEngine
from twisted_rudp.raknet.offline import (
    REPLIES,
    Incompatible,
    OfflineMessage,
    Ping,
    Pong,
    Refusal,
    Reply1,
    Request1,
    Request2,
    Reset,
    pack,
    pack_text,
    parse,
)
from twisted_rudp.raknet.settings import DEFAULT, Settings
from twisted_rudp.raknet.wire import ACK_BIT, HEADER_SIZE, IP_UDP, NACK_BIT, VALID, MessageId

Accept = Callable[[Request2, Address, int, bool], RakNetEngine]
"""C{(request, address, now, proved)} -> the engine of a new session, where the
request's MTU is the agreed one."""

PongData = Callable[[], bytes | str]
"""What a pong says now: a text, or its bytes, with its length in front or without."""

MAX_PONG_DATA: Final = 399
"""C++ clients ignore pongs with more (raknet.md 2.1)."""

_PONG_FACTOR: Final = 18
"""
A pong is longer than its ping by nature: 432 bytes at most for 25. What makes up for that
is L{PongLimit}.
"""

PONG_SPAN: Final = 60 * SECOND
PONG_ALLOWANCE: Final = 8_000
"""Bytes of pongs to one IPv4 address or IPv6 /64 in that time, even if that is more than
three times what came from there: a pong a second of the usual length."""

PONG_TOTAL: Final = 1_000_000
"""The same for all of them together."""

OFFLINE_RATE: Final = 20.0
OFFLINE_BURST: Final = 64.0
"""Messages outside of sessions a second, and at once, from one IPv4 address or IPv6 /64."""

TOTAL_RATE: Final = 20_000.0
"""The same from everybody together."""

COOKIE_PROTOCOL: Final = 11
"""The first version of the protocol whose clients return a cookie."""

FREQUENCY_LIMIT: Final = 100 * MILLISECOND
"""Between two sessions from one host, where that is limited (raknet.md 2.2)."""

IDLE_LONG_ENOUGH: Final = 3 * SECOND
"""A session silent for so long gives way to its peer's next attempt (raknet.md 2.2)."""


COOKIE_LIFE: Final = 2 * SLOT
"""For how long a cookie that was made once is accepted."""

MOST_ENDED: Final = 16_384
"""Addresses of ended sessions that are remembered."""


class PongLimit:
    """
    Keeps pongs from being a means to flood somebody: in any L{PONG_SPAN} they are not more
    than L{AMPLIFICATION} times what came, or a small allowance, for each source and for all.
    """

    __slots__ = ("_capacity", "_sources")

    def __init__(self, capacity: int = 4096) -> None:
        """
        @param capacity: sources remembered.
        """
        self._capacity = capacity
        self._sources: OrderedDict[Hashable, tuple[int, int, int]] = OrderedDict()

    def take(self, source: Hashable, received: int, answer: int, now: int) -> bool:
        """Whether an answer of so many bytes may be given. What was received counts anyway."""
        of_source = self._add(source, received, answer, PONG_ALLOWANCE, now)
        of_all = self._add(None, received, answer if of_source else 0, PONG_TOTAL, now)
        if len(self._sources) > self._capacity:
            self._sources.popitem(last=False)
        return of_source and of_all

    def _add(self, source: Hashable, received: int, answer: int, most: int, now: int) -> bool:
        since, came, went = self._sources.pop(source, (now, 0, 0))
        if now - since >= PONG_SPAN:
            since, came, went = now, 0, 0
        came += received
        allowed = went + answer <= max(AMPLIFICATION * came, most)
        self._sources[source] = (since, came, went + answer if allowed else went)
        return allowed


class EndedSessions:
    """
    The addresses of sessions that have ended while a cookie of theirs may still be valid:
    whoever has seen it could open a session in their name. So they validate anew.
    """

    __slots__ = ("_capacity", "_ended", "_full_until")

    def __init__(self, capacity: int = MOST_ENDED) -> None:
        self._capacity = capacity
        self._ended: OrderedDict[Hashable, int] = OrderedDict()
        self._full_until = 0

    def add(self, address: Hashable, now: int) -> None:
        """A session with this address is over."""
        self._ended.pop(address, None)
        self._ended[address] = now + COOKIE_LIFE
        if len(self._ended) > self._capacity:
            # Nobody's cookie is enough until the forgotten ones are old.
            _, until = self._ended.popitem(last=False)
            self._full_until = max(self._full_until, until)

    def is_recent(self, address: Address, now: int) -> bool:
        """Whether a cookie from this address may be an old one."""
        ended = self._ended
        while ended and next(iter(ended.values())) <= now:
            ended.popitem(last=False)
        return address in ended or now < self._full_until


class RakNetDemultiplexer:
    """
    The demultiplexer of one socket. Without C{accept} it answers pings if it has
    C{pong_data}, and serves a dialler otherwise.
    """

    overhead: Final = 0

    def __init__(
        self,
        settings: Settings = DEFAULT,
        guid: int = 0,
        accept: Accept | None = None,
        *,
        pong_data: PongData | None = None,
        cookies: Cookies | None = None,
        banned: Callable[[Address], bool] | None = None,
        limit_frequency: bool = False,
        answer_open: bool = False,
        rate: float = OFFLINE_RATE,
    ) -> None:
        """
        @param guid: our own, 64 bits.
        @param accept: makes the engine for a new session; None for a socket without
            any or that only dials.
        @param pong_data: None: pings are not answered.
        @param cookies: None: addresses are not proved before there is a session.
        @param banned: who gets nothing but that answer.
        @param limit_frequency: refuse a second session from a host within
            L{FREQUENCY_LIMIT}, loopback excepted.
        @param answer_open: pings for servers with room are answered although there
            are no sessions here: somebody else's are announced.
        @param rate: messages a second from one host, loopback excepted.
        """
        self._settings = settings
        self._guid = guid
        self._accept = accept
        self._pong_data = pong_data
        self._cookies = cookies
        self._banned = banned
        self._answer_open = answer_open
        self._recent = TokenBuckets(1e9 / FREQUENCY_LIMIT, 1) if limit_frequency else None
        self._hosts = TokenBuckets(rate, max(OFFLINE_BURST, rate))
        self._total = TokenBuckets(TOTAL_RATE, TOTAL_RATE, 1)
        self._pongs = PongLimit()
        self._ended = EndedSessions()
        # Versions before 11 know no cookies.
        self._without_cookie = min(settings.accepted) < COOKIE_PROTOCOL
        self._versions: Counter[int] = Counter()
        self._dropped: Counter[str] = Counter()

    def open(
        self, run: Buffer, size: int, address: Address
    ) -> Sequence[tuple[Key | None, Buffer, int]]:
        """
        Datagrams of sessions, and the replies a dialler waits for, go to the
        address's session; everything else is nobody's.
        """
        if not run:
            self._dropped["empty"] += 1
            return ()
        if len(run) <= size:
            first = run[0]
            return ((address if first >= VALID else _key(first, address), run, size),)
        firsts = bytes(run[::size])
        if min(firsts) >= VALID:
            return ((address, run, size),)
        keys = [_key(first, address) for first in firsts]
        view = memoryview(run)
        parts: list[tuple[Key | None, Buffer, int]] = []
        start = 0
        for index in range(1, len(keys) + 1):
            if index == len(keys) or keys[index] != keys[start]:
                parts.append((keys[start], view[start * size : index * size], size))
                start = index
        return parts

    def seal(self, run: Buffer, size: int) -> tuple[Buffer, int]:
        """Nothing is added."""
        return run, size

    def unknown_peer(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> Verdict:
        """Answer messages outside of sessions; let a peer in at its second request."""
        if datagram and datagram[0] & VALID:
            return self._forgotten(datagram, address, now)
        message = parse(datagram, self._settings.magic)
        if message is None:
            return Drop("malformed")
        if not self._allowed(address, now):
            return Drop("too often")
        if self._banned is not None and self._banned(address):
            return self._reply(Refusal(MessageId.BANNED, self._guid))
        if isinstance(message, Ping):
            return self._pinged(message, len(datagram), address, now, table)
        if self._accept is None:
            return Drop("not listening")
        if isinstance(message, Request1):
            return self._requested1(message, address, now)
        if isinstance(message, Request2):
            return self._requested2(self._accept, message, address, now, table)
        return Drop("unasked")

    def continues(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> bool:
        """
        Whoever has a cookie of ours comes with it, and whoever has a session here is told
        so, or it makes room.
        """
        if datagram and datagram[0] & VALID:
            return False
        message = parse(datagram, self._settings.magic)
        if isinstance(message, Request1):
            return table.get(address) is not None
        if not isinstance(message, Request2):
            return False
        if table.get(address) is not None or table.get(("guid", message.guid)) is not None:
            return True
        cookies, cookie = self._cookies, message.cookie
        return (
            cookies is not None and cookie is not None and cookies.check(cookie, address, 0, now)
        )

    def _allowed(self, address: Address, now: int) -> bool:
        if is_loopback(address):
            return True
        return self._hosts.take(network_of(address), now) and self._total.take(None, now)

    def _forgotten(self, datagram: Buffer, address: Address, now: int) -> Verdict:
        """
        Somebody goes on with a session that is not here any more, as after a restart: our
        own kind understands that at once. ACKs and NACKs name numbers of ours.
        """
        if (
            len(datagram) < HEADER_SIZE + 3
            or datagram[0] & (ACK_BIT | NACK_BIT)
            or self._accept is None
            or not self._allowed(address, now)
        ):
            return Drop("no session")
        return self._reply(Reset(int.from_bytes(datagram[1:HEADER_SIZE], "little")))

    def _reply(self, message: OfflineMessage) -> Reply:
        return Reply((pack(message, self._settings.magic),))

    def _pinged(
        self, ping: Ping, size: int, address: Address, now: int, table: SessionTable
    ) -> Verdict:
        if self._pong_data is None:
            return Drop("ping")
        if ping.only_open and not (self._answer_open or table.room):
            return Drop("ping while full")
        data = pack_text(self._pong_data())[:MAX_PONG_DATA]
        pong = pack(Pong(ping.time, self._guid, data), self._settings.magic)
        if not is_loopback(address) and not self._pongs.take(
            network_of(address), size, len(pong), now
        ):
            return Drop("pong limit")
        return Reply((pong,), _PONG_FACTOR)

    def _requested1(self, request: Request1, address: Address, now: int) -> Verdict:
        settings = self._settings
        if request.protocol not in settings.accepted:
            self._versions[request.protocol] += 1
            return self._reply(Incompatible(max(settings.accepted), self._guid))
        cookie = None
        if self._cookies is not None and request.protocol >= COOKIE_PROTOCOL:
            cookie = self._cookies.make(address, 0, now)
        reply = self._reply(Reply1(self._guid, cookie, min(request.mtu, settings.mtu)))
        if len(reply.datagrams[0]) > request.mtu - IP_UDP:
            return Drop("short probe")
        return reply

    def _requested2(
        self,
        accept: Accept,
        request: Request2,
        address: Address,
        now: int,
        table: SessionTable,
    ) -> Verdict:
        """
        The table of raknet.md 2.2, with one change: a session that has been silent
        for long makes room for its peer's next attempt.
        """
        validated = False
        if self._cookies is not None:
            if request.cookie is None:
                if not self._without_cookie:
                    return Drop("cookie")
            elif not self._cookies.check(request.cookie, address, 0, now):
                return Drop("cookie")
            else:
                validated = not self._ended.is_recent(address, now)
        here = table.get(address)
        same = table.get(("guid", request.guid))
        if isinstance(here, RakNetEngine) and here is same and here.unverified:
            return Reply((here.reply2,))
        for old in (here, same):
            if isinstance(old, RakNetEngine):
                if old.idle_since + IDLE_LONG_ENOUGH > now and not old.over:
                    return self._reply(Refusal(MessageId.ALREADY_CONNECTED, self._guid))
                old.make_room()
                return Route(old.keys()[0])
        room = table.backlog_room if self._cookies is None else table.room
        if not room:
            return self._reply(Refusal(MessageId.FULL, self._guid))
        if (
            self._recent is not None
            and not is_loopback(address)
            and not self._recent.take(network_of(address), now)
        ):
            return self._reply(Refusal(MessageId.RECENTLY_CONNECTED, self._guid))
        settings = self._settings
        mtu = min(max(request.mtu, settings.mtu_min), settings.mtu)
        return Admit(accept(request._replace(mtu=mtu), address, now, validated))

    def ended(self, engine: Engine, now: int) -> None:
        """Remember whose session it was."""
        if isinstance(engine, RakNetEngine) and self._accept is not None:
            self._ended.add(engine.keys()[0], now)

    def deadline(self) -> int | None:
        """There is no table of the half-open."""
        return None

    def tick(self, now: int) -> Sequence[tuple[bytes, Address]]:
        """Nothing to repeat."""
        return ()

    def counters(self) -> Mapping[str, int]:
        """What was dropped before it reached a session, and refused versions."""
        versions = {f"protocol {number}": n for number, n in self._versions.items()}
        return {**self._dropped, **versions}

    def diagnosis(self) -> str | None:
        """Peers of another protocol version are what most often does not fit."""
        if not self._versions:
            return None
        (wanted, _), *_ = self._versions.most_common(1)
        self._versions.clear()
        mine = ", ".join(map(str, sorted(self._settings.accepted)))
        return f"a peer wanted RakNet protocol {wanted}; accepted is {mine}"


def _key(first: int, address: Address) -> Key | None:
    return address if first & VALID or first in REPLIES else None
