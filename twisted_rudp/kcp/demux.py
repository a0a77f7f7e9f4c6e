"""
What the KCP sessions of one socket share: the cipher, cutting runs by
conversation (kcp.md 5.3), and judging unknown peers (C{kcp-close.md} section 7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import (
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
from twisted_rudp.core.multimap import Multimap
from twisted_rudp.kcp.crypto import Crypt
from twisted_rudp.kcp.engine import KCPEngine
from twisted_rudp.kcp.fec import (
    CODED_OFFSET,
    DATA,
    FEC_OVERHEAD,
    KIND_OFFSET,
    OUT_OF_BAND,
    OUT_OF_BAND_OVERHEAD,
    PARITY,
    SIZE_FIELD,
    data_packet,
    is_framed,
)
from twisted_rudp.kcp.mismatch import MismatchSigns, Sign
from twisted_rudp.kcp.receiver import UNLIMITED, ReceiveBudget
from twisted_rudp.kcp.settings import SessionRule
from twisted_rudp.kcp.snmp import SNMPCounters
from twisted_rudp.kcp.wire import (
    CONV_SIZE,
    END,
    HEADER_SIZE,
    MARK,
    PUSH,
    QUESTION,
    WASK,
    WINS,
    Segment,
    pack_forgotten,
    pack_header,
    reset,
    segments,
)
from twisted_rudp.kernels import fec_conversation, same_column

ADDRESSES_HEARD: Final = 4096
"""Addresses whose last conversation is remembered; the oldest goes first."""

Part: TypeAlias = tuple[int | None, Buffer]
"""
A conversation, None where nobody can say, and the datagrams that are its own:
all of them bare, or none.
"""

KIND_SIZE: Final = 2

_SHORTEST: Final = {
    DATA: FEC_OVERHEAD + CONV_SIZE,
    PARITY: CODED_OFFSET + SIZE_FIELD,
    OUT_OF_BAND: OUT_OF_BAND_OVERHEAD,
}

_CLASS: Final = {PARITY: DATA}
"""Data and parity are digested together."""


class _Row(NamedTuple):
    start: int
    end: int
    conv: int | None
    kind: int


class ConversationSplitter:
    """
    Says which conversation the datagrams of one socket belong to.

    A parity packet names none. In a run it goes where its neighbours go; alone
    it goes to the conversation that was heard last from its address.

    @ivar short: datagrams that were too short for what they seemed to be.
    @ivar short_framed: those of them that seemed to be of FEC.
    """

    __slots__ = ("_heard", "short", "short_framed")

    def __init__(self) -> None:
        self._heard: dict[Address, int] = {}
        self.short = 0
        self.short_framed = 0

    def split(self, run: Buffer, size: int, address: Address) -> Sequence[Part]:
        """The parts of a run, in order. Datagrams that are too short are left out."""
        if is_framed(run):
            conv = fec_conversation(run, size)
            if conv >= 0:
                if self._heard.get(address) != conv:
                    self._remember(address, conv)
                return ((conv, run),)
        return self._coalesce(self._rows(run, size, address), memoryview(run))

    def _rows(self, run: Buffer, size: int, address: Address) -> list[_Row]:
        """
        Rows of datagrams of one kind and one conversation. Parity in front of
        everything is left without one.
        """
        found: list[_Row] = []
        view = memoryview(run)
        heard = previous = self._heard.get(address)
        start = 0
        while start < len(view):
            rest = view[start:]
            kind = rest[KIND_OFFSET] if is_framed(rest) else 0
            conv = previous
            if min(size, len(rest)) < _SHORTEST.get(kind, HEADER_SIZE):
                self.short += 1
                self.short_framed += kind != 0
                start += size
                continue
            if kind == PARITY:
                count = same_column(rest, size, KIND_OFFSET, KIND_SIZE)
                conv = found[-1].conv if found else None
            elif kind:
                conv = previous = _conv(rest, FEC_OVERHEAD)
                count = min(
                    same_column(rest, size, KIND_OFFSET, KIND_SIZE),
                    same_column(rest, size, FEC_OVERHEAD, CONV_SIZE),
                )
            else:
                conv = _conv(rest, 0)
                count = same_column(rest, size, 0, CONV_SIZE)
            end = min(start + max(count, 1) * size, len(view))
            found.append(_Row(start, end, conv, _CLASS.get(kind, kind)))
            start = end
        if found and found[0].conv is None:
            following = next((each.conv for each in found if each.conv is not None), heard)
            found[0] = found[0]._replace(conv=following)
        if previous is not None and previous != heard:
            self._remember(address, previous)
        return found

    def _coalesce(self, rows: list[_Row], view: memoryview) -> list[Part]:
        """Neighbours that belong together, as one part."""
        joined: list[_Row] = []
        for each in rows:
            last = joined[-1] if joined else None
            if last and last.end == each.start and last[2:] == each[2:]:
                joined[-1] = last._replace(end=each.end)
            else:
                joined.append(each)
        return [(each.conv, view[each.start : each.end]) for each in joined]

    def _remember(self, address: Address, conv: int) -> None:
        heard = self._heard
        heard.pop(address, None)
        heard[address] = conv
        if len(heard) > ADDRESSES_HEARD:
            del heard[next(iter(heard))]


def _conv(datagram: memoryview, at: int) -> int:
    return int.from_bytes(datagram[at : at + CONV_SIZE], "little")


MOST: Final = 65_536
"""Entries kept; the oldest goes first."""

class Blacklist:
    """
    Keys with the time until which no new session is opened for them. A key is
    listed when its session begins, and again when that ends, so that the time
    counts from the end.

    @param duration: nanoseconds; 0: nothing is listed.
    """

    __slots__ = ("_duration", "_until")

    def __init__(self, duration: int) -> None:
        self._duration = duration
        self._until: dict[Key, int] = {}

    def add(self, key: Key, now: int) -> None:
        """List a key from now on."""
        if not self._duration:
            return
        until = self._until
        until.pop(key, None)
        until[key] = now + self._duration
        # In the order of their ends, so the lapsed are in front.
        for old in tuple(islice(until, 2)):
            if until[old] <= now or len(until) > MOST:
                del until[old]

    def has(self, key: Key, now: int) -> bool:
        """No session is to be opened for this key."""
        return now < self._until.get(key, 0)

    def __len__(self) -> int:
        return len(self._until)


MOST_NAMESAKES: Final = 8
"""
Sessions of one conversation, at different addresses, among which one that has moved is looked for:
all have the same number where programs agree on one.
"""

Accept = Callable[[int, Address, int], KCPEngine]
"""C{(conv, address, now)} -> the engine of a new session."""


@dataclass(frozen=True, slots=True)
class Rules:
    """
    Which sessions a listener accepts.

    @ivar sessions: how sessions from one address are distinguished.
    @ivar blacklist: nanoseconds for which a conversation that was here is not
        let in again; 0: as long as TIME-WAIT lasts.
    @ivar require_sn0: a session begins with the segment number 0 or with a
        window probe. Late data of a session that is long gone opens none then;
        a first segment that was lost costs the client a timeout.
    @ivar roaming: follow a peer of ours to another address (kcp-close.md 14).
    """

    sessions: SessionRule = SessionRule.CONVERSATION
    blacklist: int = 0
    require_sn0: bool = False
    roaming: bool = True


class KCPDemultiplexer:
    """
    The demultiplexer of one socket.

    @ivar snmp: counts what happens on this socket.
    @ivar signs: collects what seems not to fit.
    @ivar budget: bounds what the sessions of this socket keep for their applications.
    """

    def __init__(
        self,
        accept: Accept | None = None,
        cookies: Cookies | None = None,
        window: int = 0,
        *,
        crypt: Crypt | None = None,
        rules: Rules = Rules(),
        snmp: SNMPCounters | None = None,
        signs: MismatchSigns | None = None,
        budget: ReceiveBudget = UNLIMITED,
    ) -> None:
        """
        @param accept: makes the engine for a new session; None for a socket
            that only dials.
        @param cookies: proofs of address; needed for accepting.
        @param window: the receive window of new sessions, in segments.
        @param crypt: the cipher; None: datagrams are bare.
        """
        if accept is not None and cookies is None:
            raise ValueError("cookies: a listening demultiplexer needs them")
        self._accept = accept
        self._cookies = cookies
        self._window = window
        self._crypt = crypt
        self._rules = rules
        self.snmp = snmp or SNMPCounters()
        self.signs = signs or MismatchSigns()
        self.budget = budget
        self._splitter = ConversationSplitter()
        self._blacklist = Blacklist(rules.blacklist)
        # Both only of sessions that were let in here.
        self._at = Multimap()
        self._byConv = Multimap()

    @property
    def overhead(self) -> int:
        """What the cipher adds to each datagram."""
        return 0 if self._crypt is None else self._crypt.overhead

    def open(
        self, run: Buffer, size: int, address: Address
    ) -> Sequence[tuple[Key | None, Buffer, int]]:
        """Decrypt a run and cut it where the conversation changes."""
        if self._crypt is not None:
            run, size, failed = self._crypt.open(run, size)
            if failed:
                self.snmp.count("InCsumErrors", len(failed))
                for datagram in failed:
                    self.signs.unopened(datagram, address)
        length = len(run)
        if (
            length >= HEADER_SIZE <= size
            and PUSH <= run[KIND_OFFSET] <= WINS
            and (length <= size or same_column(run, size, 0, CONV_SIZE) * size >= length)
        ):
            # The everyday case, without a detour: bare, and one conversation.
            return (((address, int.from_bytes(run[:CONV_SIZE], "little")), run, size),)
        splitter = self._splitter
        short = splitter.short_framed
        parts = splitter.split(run, size, address) if run else ()
        if splitter.short_framed != short:
            # What is too short without FEC is counted by kcp-go nowhere (kcp.md 6).
            self.snmp.count("InErrs", splitter.short_framed - short)
        return [(None if conv is None else (address, conv), part, size) for conv, part in parts]

    def seal(self, run: Buffer, size: int) -> tuple[Buffer, int]:
        """Encrypt a run."""
        return (run, size) if self._crypt is None else self._crypt.seal(run, size)

    def unknown_peer(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> Verdict:
        """Judge by the first segment."""
        framed = is_framed(datagram)
        if framed and datagram[KIND_OFFSET] != DATA:
            return Drop("parity or out of band without a session")
        first = next(segments(datagram[FEC_OVERHEAD:] if framed else datagram), None)
        if first is None:
            self.signs.unread(datagram, address)
            return Drop("malformed")
        if self._accept is None or self._cookies is None:
            self.signs.note(Sign.OTHER_CONVERSATION, address)
            return Drop("not listening")
        if first.cmd == WASK:
            if first.frg == MARK and first.sn == QUESTION:
                # Two listeners would go on asking each other.
                return Drop("question of a listener")
            return self._probed(self._accept, self._cookies, first, address, now, table, framed)
        elsewhere = self._elsewhere(first.conv, table)
        if first.cmd == WINS and first.frg == MARK and (first.sn or first.una or elsewhere):
            return self._answered(self._cookies, first, elsewhere, address, now, framed)
        if first.cmd != PUSH:
            if elsewhere:
                return self._ask(self._cookies, first.conv, address, now, framed)
            return Drop("leftover of a session")
        if first.una or first.sn >= self._window or (first.sn and elsewhere):
            # Nobody who is new here has had anything from us to acknowledge, or has sent so
            # much: it has moved, or we were restarted. A peer of ours says in its answer what
            # it has; a reset at once could make another one believe that data has arrived.
            lost = None if elsewhere else first
            return self._ask(self._cookies, first.conv, address, now, framed, lost)
        if first.frg == END and not first.length:
            return Drop("leftover of a session")
        if first.sn and self._rules.require_sn0:
            return Drop("outside the window")
        if not table.backlog_room:
            return Drop("no room")
        return self._admit(self._accept, first, address, now, table)

    def continues(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> bool:
        """A probe with a cookie of ours, or a conversation that is here at another address."""
        framed = is_framed(datagram)
        if framed and datagram[KIND_OFFSET] != DATA:
            return False
        first = next(segments(datagram[FEC_OVERHEAD:] if framed else datagram), None)
        if first is None:
            return False
        if first.conv in self._byConv and self._elsewhere(first.conv, table):
            return True
        cookies = self._cookies
        return (
            first.cmd == WASK
            and first.frg == MARK
            and cookies is not None
            and cookies.check(first.ts, address, first.conv, now)
        )

    def _probed(
        self,
        accept: Accept,
        cookies: Cookies,
        first: Segment,
        address: Address,
        now: int,
        table: SessionTable,
        framed: bool,
    ) -> Verdict:
        conv = first.conv
        marked = first.frg == MARK
        if marked and cookies.check(first.ts, address, conv, now):
            if not table.room:
                return Drop("no room")
            verdict = self._admit(accept, first, address, now, table)
            if isinstance(verdict, Admit):
                assert isinstance(verdict.engine, KCPEngine)
                verdict.engine.validate(first.ts)
            return verdict
        if marked and (first.sn or first.una):
            if self._elsewhere(conv, table):
                return self._ask(cookies, conv, address, now, framed)
            # It talks of a session that we do not have: we were restarted.
            return self._reply(reset(conv, first.una, first.sn), framed)
        if marked and any(each.claim(first.ts, address) for each in self._elsewhere(conv, table)):
            # It has moved before it sent or received anything: a cookie in the answer would
            # make it believe that it was forgotten.
            return self._ask(cookies, conv, address, now, framed)
        if not table.room:
            return Drop("no room")
        # No state is kept for a cookie, so the backlog does not matter.
        cookie = cookies.make(address, conv, now)
        answer = pack_header(conv, WINS, MARK, self._window, cookie, 0, 0, 0)
        return self._reply(answer, framed)

    # peers that have another address (kcp-close.md 14)

    def _elsewhere(self, conv: int, table: SessionTable) -> list[KCPEngine]:
        """
        The sessions of a conversation at other addresses whose peers may have moved. None if
        the number is one that many programs use.
        """
        if not self._rules.roaming or self._byConv.count(conv) > MOST_NAMESAKES:
            return []
        found = [table.get((address, conv)) for address in self._byConv.of(conv)]
        return [each for each in found if isinstance(each, KCPEngine) and each.can_migrate]

    def _ask(
        self,
        cookies: Cookies,
        conv: int,
        address: Address,
        now: int,
        framed: bool,
        lost: Segment | None = None,
    ) -> Reply:
        """
        Ask who is there. The question tells nothing of a session; a peer of ours answers with
        the cookie, and with the numbers where its conversation stands.

        @param lost: a segment of a session that is nowhere here. A peer of ours that has it in
            flight needs to hear no more.
        """
        cookie = cookies.make(address, conv, now)
        question = pack_header(conv, WASK, MARK, self._window, cookie, QUESTION, 0, 0)
        if lost is not None:
            question += pack_forgotten(conv, self._window, lost.sn, lost.una)
        return self._reply(question, framed)

    def _answered(
        self,
        cookies: Cookies,
        first: Segment,
        elsewhere: list[KCPEngine],
        address: Address,
        now: int,
        framed: bool,
    ) -> Verdict:
        """Our question is answered, by a peer that has moved or whose session we do not have."""
        conv = first.conv
        sn, una = first.sn, first.una
        standing = [each for each in elsewhere if each.accepts_numbers(sn, una, address)]
        if len(standing) != 1:
            if elsewhere:
                return Drop("leftover of a session")
            return self._reply(reset(conv, una, sn), framed)
        (engine,) = standing
        if not cookies.check(first.ts, address, conv, now):
            return self._ask(cookies, conv, address, now, framed)
        if not engine.silent(now):
            # Who can show another's numbers does not get the session of a peer that is there.
            return Drop("heard at its address")
        key = engine.key
        cookies.revoke(key[0], conv, now)
        self._leave(key)
        engine.move(address)
        self._byConv.add(conv, address)
        return Route(key)

    def _leave(self, key: tuple[Address, int]) -> None:
        address, conv = key
        self._byConv.discard(conv, address)
        self._at.discard(address, conv)

    def _admit(
        self, accept: Accept, first: Segment, address: Address, now: int, table: SessionTable
    ) -> Verdict:
        """Let a new conversation in, if the rules do."""
        if self._blacklist.has((address, first.conv), now):
            return Drop("blacklisted")
        rule = self._rules.sessions
        if rule is SessionRule.CONVERSATION:
            self._byConv.add(first.conv, address)
            return Admit(accept(first.conv, address, now))
        there = [(address, conv) for conv in self._at.of(address)]
        if any(self._is_validated(key, table) for key in there):
            if rule is SessionRule.ADDRESS:
                self.signs.note(Sign.OTHER_CONVERSATION, address)
                return Drop("other conversation")
            if first.sn:
                return Drop("other conversation")
        self._at.add(address, first.conv)
        # Of several that are not validated yet the last to be validated stays.
        return Admit(accept(first.conv, address, now), replaces=tuple(there))

    @staticmethod
    def _is_validated(key: Key, table: SessionTable) -> bool:
        engine = table.get(key)
        return engine is not None and engine.validated

    def _reply(self, segment: bytes, framed: bool) -> Reply:
        """
        An answer without a session, in the form of the question. With FEC it is
        packet 0; a session that begins here begins with the second group.
        """
        datagram = data_packet(0, segment) if framed else segment
        if self._crypt is not None:
            datagram = self._crypt.seal(datagram, len(datagram))[0]
        return Reply((datagram,))

    def ended(self, engine: Engine, now: int) -> None:
        """A session is gone: free its address, keep its conversation out for a while."""
        assert isinstance(engine, KCPEngine)
        address, conv = engine.key
        if engine.heard:
            self._blacklist.add(engine.key, now)
        if engine.validated and self._cookies is not None:
            # A recording of its cookie must not open it again.
            self._cookies.revoke(address, conv, now)
        self._leave(engine.key)

    def deadline(self) -> int | None:
        """None: cookies make a table of half-open sessions unnecessary."""
        return None

    def tick(self, now: int) -> Sequence[tuple[bytes, Address]]:
        """Nothing to repeat."""
        return ()

    def counters(self) -> Mapping[str, int]:
        """
        Datagrams dropped before they reached a session, mismatches, and kcp-go's counters for
        this socket.
        """
        found = {**self.signs.counters(), **self.snmp.snapshot()}
        if self.budget.used:
            found["received_bytes_kept"] = self.budget.used
        if self._splitter.short:
            found["short"] = self._splitter.short
        return found

    def diagnosis(self) -> str | None:
        """The most likely mismatch between the two ends."""
        return self.signs.verdict()
