"""
The sessions of one socket, from their entry to the end of TIME_WAIT, and what is done
with datagrams that belong to none of them (UDP-7, EP-7, PORT-7).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable
from dataclasses import dataclass
from typing import Final, TypeAlias

from twisted_rudp.core.engine import (
    MILLISECOND,
    SECOND,
    Address,
    Admit,
    Buffer,
    Demultiplexer,
    Drop,
    Engine,
    Key,
    Reason,
    Reply,
    Route,
    Verdict,
)
from twisted_rudp.core.limits import is_loopback, network_of
from twisted_rudp.core.multimap import Multimap
from twisted_rudp.net.flood import Flood
from twisted_rudp.net.session import Output, Session, SessionState

TURN_ADDRESSES: Final = 256
"""Addresses of unknown peers from which something is kept until the end of a turn."""

ADDRESS_RUNS: Final = 8
"""
Runs that are kept of one address. Of one that has a suspect session all are, but after so
many others come first.
"""

TURN_JUDGEMENTS: Final = 64
"""Datagrams of unknown peers that are looked at in one turn: each may cost a hash and an answer."""

TURN_TIME: Final = 2 * MILLISECOND
"""Time after which no more of them are looked at in a turn."""

ADDRESS_JUDGEMENTS: Final = 8
"""Of one address: a flood from one place leaves the others theirs."""

VALIDATED_PATIENCE: Final = 2
"""See L{Limits.handshakeTimeout}."""

MAX_REPLIED: Final = 512
"""Replies to unknown peers whose time is remembered, for the first measure of their round trip."""

MAX_BANS: Final = 4096
"""Addresses that are banned at one time."""

MAX_TIME_WAIT = 4096
"""Sessions that are over and still answered; the oldest goes first."""


LEAST_PER_HOST: Final = 64
"""Sessions of one host that a port takes where nothing else is said: many live behind one NAT."""


@dataclass(frozen=True)
class Limits:
    """
    What unknown peers can make a listening socket hold.

    @ivar backlog: sessions whose peer has not answered yet; what a flood of
        forged sources can occupy at a time.
    @ivar perHost: how many of those may come from one IPv4 address or IPv6 /64, so
        that a single host cannot fill the backlog.
    @ivar maxSessions: all sessions that are not over.
    @ivar sessionsPerHost: how many of those may be of one IPv4 address or IPv6 /64, validated
        or not; None: a quarter, but not less than L{LEAST_PER_HOST}.
    @ivar handshakeTimeout: seconds after which one that has not got as far as the
        factory lapses; L{VALIDATED_PATIENCE} times as much if its address is validated.
    """

    backlog: int = 128
    perHost: int = 32
    maxSessions: int = 10_000
    sessionsPerHost: int | None = None
    handshakeTimeout: float = 10.0


DEFAULTS: Final = Limits()


_Kept: TypeAlias = tuple[Key | None, bytes, int, bytes]
"""Key, run, size of its datagrams, and the address of ours that it was sent to."""


def _datagrams(kept: tuple[Address, list[_Kept]]) -> int:
    """How much an address has sent in a turn."""
    return sum([-(-len(run) // size) for _, run, size, _ in kept[1]])


class SessionTable:
    """
    Who is found under which key, who is alive, who has not been validated yet. To the
    demultiplexer it is the L{SessionTable<twisted_rudp.core.engine.SessionTable>}.

    @ivar byKey: every session, those in TIME_WAIT included. Public because to look here
        is all that most datagrams need.
    @ivar accepting: unknown peers may come in.
    @ivar waiting: what unknown peers have sent in this turn, by address; see L{keep}.
    """

    def __init__(
        self,
        demux: Demultiplexer,
        output: Output,
        limits: Limits,
        count: Callable[..., None],
        make: Callable[[Engine, Address], Session],
        dropped: Callable[[Session], None],
        failed: Callable[[], None],
        accepting: bool,
        flood: Flood,
        clock: Callable[[], int],
    ) -> None:
        """
        @param count: counts something under a name, once or so many times.
        @param make: makes the session of an unknown peer.
        @param dropped: called with each session that is forgotten for good.
        @param failed: called from inside of an exception's handler: the
            demultiplexer has raised.
        @param flood: told what unknown peers send.
        @param clock: the present time.
        """
        self.byKey: dict[Key | None, Session] = {}
        self.accepting = accepting
        self._demux = demux
        self._output = output
        self._limits = limits
        self._count = count
        self._make = make
        self._dropped = dropped
        self._failed = failed
        self._flood = flood
        self._clock = clock
        self._alive: dict[Session, None] = {}
        self._byAddress = Multimap()
        self._timeWait: dict[Session, None] = {}
        self._bans: dict[str, int] = {}
        most = limits.sessionsPerHost
        self._perHost = max(LEAST_PER_HOST, limits.maxSessions // 4) if most is None else most
        self._networks: dict[Session, Hashable] = {}
        self._perNetwork: dict[Hashable, int] = {}
        self._unvalidated: dict[Session, Hashable] = {}
        self._hosts: dict[Hashable, int] = {}
        self._replaces: dict[Session, tuple[Key, ...]] = {}
        self._replied: dict[Address, int] = {}
        self._suspected = 0
        self.waiting: dict[Address, list[_Kept]] = {}

    # what the demultiplexer asks

    def get(self, key: Key) -> Engine | None:
        """The engine under a key, also of a session that has ended."""
        session = self.byKey.get(key)
        return None if session is None else session.engine

    @property
    def room(self) -> bool:
        """
        Whether one more session would be let in whose address is validated. Those that
        are not are no obstacle: they make room.
        """
        validated = len(self._alive) - len(self._unvalidated)
        return self.accepting and validated < self._limits.maxSessions

    @property
    def backlog_room(self) -> bool:
        """Whether one more session would be let in that is not validated, its host aside."""
        return (
            self.accepting
            and len(self._alive) < self._limits.maxSessions
            and len(self._unvalidated) < self._limits.backlog
        )

    # sessions

    def ban(self, host: str, until: int) -> None:
        """Admit nobody from an IP address until then; of very many the oldest is forgotten."""
        self._bans.pop(host, None)
        self._bans[host] = until
        if len(self._bans) > MAX_BANS:
            del self._bans[next(iter(self._bans))]

    def alive(self) -> list[Session]:
        """The sessions that are not over."""
        return list(self._alive)

    def addresses(self, flooding: Container[Address] = ()) -> list[Address]:
        """
        Where they are, also those that were let in and have yet to prove that they receive
        there: there are no more of them than the backlog has room for. Suspects are left out.

        @param flooding: where those that have no proof are left out, too.
        """
        return [
            address
            for address, sessions in self._byAddress.items()
            if not all(
                each.halfOpen if address in flooding else each.suspect for each in sessions
            )
        ]

    def at(self, address: Address) -> list[Session]:
        """Those of them whose peer is at C{address}."""
        return list(self._byAddress.of(address))

    def enter(self, session: Session) -> None:
        """A session begins."""
        self._alive[session] = None
        self._byAddress.add(session.address, session)
        self.reindex(session)

    def move(self, session: Session, address: Address) -> None:
        """The peer of a session is at another address."""
        if session in self._alive:
            self._byAddress.discard(session.address, session)
            self._byAddress.add(address, session)
            if session in self._networks:
                self._leaveNetwork(session)
                self._enterNetwork(session, network_of(address))
        session.address = address

    def reindex(self, session: Session) -> None:
        """
        The session's keys may have changed. A key that another session holds stays
        there: the newcomer is counted and does not get it.
        """
        self._unindex(session)
        session.keys = tuple(session.engine.keys())
        for key in session.keys:
            if self.byKey.setdefault(key, session) is not session:
                self._count("keyTaken")

    def answered(self, session: Session) -> None:
        """
        It is out of the backlog: its address is validated, or it is shown to the application.
        Only the first entitles it to take the place of others.
        """
        self._leaveBacklog(session)
        if not session.engine.validated:
            return
        for key in self._replaces.pop(session, ()):
            replaced = self.byKey.get(key)
            if replaced is not None and replaced is not session:
                replaced.end(Reason.RESET, "replaced by a new session from its address")
                self.drop(replaced)

    def _leaveBacklog(self, session: Session) -> None:
        network = self._unvalidated.pop(session, None)
        if network is None:
            return
        self._hosts[network] -= 1
        if not self._hosts[network]:
            del self._hosts[network]

    def ended(self, session: Session, timeWait: bool) -> None:
        """
        The session is over.

        @param timeWait: what still comes is to be answered.
        """
        if session in self._alive:
            del self._alive[session]
            self._byAddress.discard(session.address, session)
            self._leaveNetwork(session)
        self._leaveBacklog(session)
        self._replaces.pop(session, None)
        if timeWait:
            self._timeWait[session] = None
            if len(self._timeWait) > MAX_TIME_WAIT:
                self.drop(next(iter(self._timeWait)))

    def drop(self, session: Session) -> None:
        """Forget a session for good."""
        if session.state is SessionState.CLOSED:
            return
        session.state = SessionState.CLOSED
        self._timeWait.pop(session, None)
        self._unindex(session)
        self._dropped(session)

    def clear(self) -> None:
        """Forget all sessions; no peer is told."""
        self.accepting = False
        for session in self._timeWait:
            session.state = SessionState.CLOSED
        self.byKey.clear()
        self._alive.clear()
        self._byAddress.clear()
        self._networks.clear()
        self._perNetwork.clear()
        self._timeWait.clear()
        self.waiting.clear()
        self._replaces.clear()

    def counters(self) -> dict[str, int]:
        """How many sessions there are, by kind."""
        return {
            "alive": len(self._alive),
            "unvalidated": len(self._unvalidated),
            "timeWait": len(self._timeWait),
        }

    def _enterNetwork(self, session: Session, network: Hashable) -> None:
        self._networks[session] = network
        self._perNetwork[network] = self._perNetwork.get(network, 0) + 1

    def _leaveNetwork(self, session: Session) -> None:
        network = self._networks.pop(session, None)
        if network is None:
            return
        self._perNetwork[network] -= 1
        if not self._perNetwork[network]:
            del self._perNetwork[network]

    def _unindex(self, session: Session) -> None:
        for key in session.keys:
            if self.byKey.get(key) is session:
                del self.byKey[key]

    # unknown peers

    def keep(self, key: Key | None, run: Buffer, size: int, address: Address) -> None:
        """
        A run whose key is in no session, or in a suspect one: it is judged at the end of the
        turn, after those of other sessions were dealt with. An address that has more than its
        share loses the rest.
        """
        datagrams = -(-len(run) // size)
        if address in self._byAddress:
            self._flood.noteBeside(address, datagrams)
        else:
            self._flood.note(address[0], datagrams)
        waiting = self.waiting.get(address)
        if waiting is None:
            if len(self.waiting) >= TURN_ADDRESSES:
                self._dropRest(len(run), size)
                return
            waiting = self.waiting[address] = []
        if len(waiting) < ADDRESS_RUNS or key in self.byKey:
            waiting.append((key, bytes(run), size, self._output.calledAt))
        else:
            self._dropRest(len(run), size)

    def hadShare(self, address: Address) -> bool:
        """Whether an address without a session has sent all in this turn that L{keep} takes."""
        if address in self._byAddress:
            return False
        runs = self.waiting.get(address)
        return len(self.waiting) >= TURN_ADDRESSES if runs is None else len(runs) >= ADDRESS_RUNS

    def dropUnknown(self, length: int, size: int, address: Address) -> None:
        """Drop a run of an address that has had its share."""
        self._flood.note(address[0], -(-length // size))
        self._dropRest(length, size)

    def _dropRest(self, length: int, size: int) -> None:
        self._count("unknownPeersDropped", -(-length // size))

    def judgeKept(self, now: int) -> None:
        """
        Judge what was kept in this turn, address by address, up to the share of a turn that
        unknown peers have. Who has sent least comes first: what a single run costs of one who
        floods may be all of that share.
        """
        waiting, self.waiting = self.waiting, {}
        if len(waiting) > 1:
            waiting = dict(sorted(waiting.items(), key=_datagrams))
        called = self._output.calledAt
        left = TURN_JUDGEMENTS
        self._suspected = 0
        began = time = self._clock()
        until = began + TURN_TIME
        while waiting:
            rest: dict[Address, list[_Kept]] = {}
            for address, runs in waiting.items():
                own = min(left, ADDRESS_JUDGEMENTS)
                left -= own
                for key, run, size, self._output.calledAt in runs[:ADDRESS_RUNS]:
                    if time > until:
                        left = own = 0
                        self._dropRest(len(run), size)
                        continue
                    own = self._judge(key, run, size, address, now, own, until)
                    time = self._clock()
                left += own
                if len(runs) > ADDRESS_RUNS:
                    rest[address] = runs[ADDRESS_RUNS:]
            waiting = rest
        # A turn without time for all has looked at as many as it may: a few new sessions take
        # that long, and are no flood.
        self._flood.looked(TURN_JUDGEMENTS - left + self._suspected, time - began)
        self._output.calledAt = called

    def _judge(
        self,
        key: Key | None,
        run: Buffer,
        size: int,
        address: Address,
        now: int,
        most: int,
        until: int,
    ) -> int:
        """
        Ask the demultiplexer about each datagram of a run. As soon as one has brought a
        session under this key, the rest of the run is its own.

        @param most: so many may be asked about; the rest is dropped.
        @param until: when the rest of what a suspect session is sent is dropped.
        @return: how many more may be.
        """
        if self._bans and self._bans.get(address[0], 0) > now:
            self._count("refused.banned")
            return most
        for start in range(0, len(run), size):
            session = None if key is None else self.byKey.get(key)
            if session is not None:
                self._suspected += -(-(len(run) - start) // size)
                step = ADDRESS_JUDGEMENTS * size if session.suspect else len(run)
                for at in range(start, len(run), step):
                    if at > start and self._clock() > until:
                        self._dropRest(len(run) - at, size)
                        break
                    session.receive(run[at : at + step], size, address, now)
                return most
            if not most:
                self._dropRest(len(run) - start, size)
                return 0
            most -= 1
            datagram = run[start : start + size]
            try:
                verdict = self._demux.unknown_peer(datagram, address, now, self)
                self._carryOut(verdict, datagram, address, now)
            except Exception:
                self._failed()
                return most
        return most

    def _carryOut(self, verdict: Verdict, datagram: Buffer, address: Address, now: int) -> None:
        if isinstance(verdict, Drop):
            self._count("dropped." + verdict.reason)
        elif isinstance(verdict, Reply):
            self._reply(verdict, len(datagram) + self._demux.overhead, address, now)
        elif isinstance(verdict, Route):
            session = self.byKey.get(verdict.key)
            if session is None:
                self._count("dropped.noSession")
            else:
                session.receive(datagram, len(datagram) or 1, address, now)
        else:
            self._admit(verdict, datagram, address, now)

    def _reply(self, reply: Reply, received: int, address: Address, now: int) -> None:
        datagrams = reply.datagrams
        if sum(map(len, datagrams)) > reply.factor * received:
            self._count("replyTooLong")
            return
        self._count("replied")
        self._replied.pop(address, None)
        self._replied[address] = now
        if len(self._replied) > MAX_REPLIED:
            del self._replied[next(iter(self._replied))]
        for datagram in datagrams:
            self._output.emitWhole(datagram, address, self._output.calledAt)

    def _admit(self, verdict: Admit, datagram: Buffer, address: Address, now: int) -> None:
        """Let an unknown peer in; until its address is validated it is sent little."""
        engine = verdict.engine
        validated = engine.validated
        network = network_of(address)
        refusal = self._refusal(network, validated)
        if (
            refusal is None
            and self._perNetwork.get(network, 0) >= self._perHost
            and not is_loopback(address)
        ):
            refusal = "sessionsPerHost"
        if refusal is not None:
            self._count("refused." + refusal)
            self._demux.ended(engine, now)
            return
        if len(self._alive) >= self._limits.maxSessions:
            self._displace()
        session = self._make(engine, address)
        replied = self._replied.pop(address, now)
        if replied < now:
            session.handshakeTrip = now - replied
        # Who has shown that he receives may be far away: RakNet takes two more round trips.
        patience = VALIDATED_PATIENCE if validated else 1
        session.limit = now + int(patience * self._limits.handshakeTimeout * SECOND)
        self.enter(session)
        self._enterNetwork(session, network)
        if verdict.replaces:
            self._replaces[session] = verdict.replaces
        if validated:
            self.answered(session)
        else:
            session.allowance = 0
            self._unvalidated[session] = network
            self._hosts[network] = self._hosts.get(network, 0) + 1
        self._count("admitted")
        session.receive(datagram, len(datagram) or 1, address, now)

    def _displace(self) -> None:
        """The oldest session that is not validated makes room for one that is."""
        oldest = next(iter(self._unvalidated))
        self._count("displaced")
        oldest.expel(Reason.HANDSHAKE_TIMEOUT, None)
        self.drop(oldest)

    def _refusal(self, network: Hashable, validated: bool) -> str | None:
        """Why no unknown peer from a network can be let in now, or None."""
        if not self.accepting:
            return "notAccepting"
        if validated:
            return None if self.room else "maxSessions"
        if len(self._alive) >= self._limits.maxSessions:
            return "maxSessions"
        if len(self._unvalidated) >= self._limits.backlog:
            return "backlog"
        if self._hosts.get(network, 0) >= self._limits.perHost:
            return "perHost"
        return None
