"""
What the KCP sessions of one socket share: the cipher, cutting runs by
conversation, and judging unknown peers (C{kcp-close.md} section 7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import (
    Address,
    Admit,
    Buffer,
    Drop,
    Engine,
    Key,
    Reply,
    SessionTable,
    Verdict,
)
from twisted_rudp.kcp.blacklist import Blacklist
from twisted_rudp.kcp.crypto import Crypt
from twisted_rudp.kcp.cutting import CONV_SIZE, Cutter
from twisted_rudp.kcp.diagnosis import Diagnosis, Sign
from twisted_rudp.kcp.engine import KCPEngine
from twisted_rudp.kcp.fec_wire import DATA, FEC_OVERHEAD, KIND_OFFSET, data_packet, is_framed
from twisted_rudp.kcp.options import SessionRule
from twisted_rudp.kcp.snmp import Ledger
from twisted_rudp.kcp.tombstone import reset
from twisted_rudp.kcp.wire import (
    END,
    HEADER_SIZE,
    MARK,
    PUSH,
    WASK,
    WINS,
    Segment,
    pack_header,
    segments,
)
from twisted_rudp.kernels import same_column

Accept = Callable[[int, Address, int], KCPEngine]
"""C{(conv, address, now)} -> the engine of a new session."""


@dataclass(frozen=True, slots=True)
class Rules:
    """
    Whom a listener lets in.

    @ivar sessions: what sessions of one address are told apart by.
    @ivar blacklist: nanoseconds for which a conversation that was here is not
        let in again; 0: tombstones alone keep it out.
    @ivar require_sn0: a session begins with the segment number 0 or with a
        window probe. Late data of a session that is long gone opens none then;
        a first segment that was lost costs the client a timeout.
    """

    sessions: SessionRule = SessionRule.CONVERSATION
    blacklist: int = 0
    require_sn0: bool = False


class KCPDemultiplexer:
    """
    The demultiplexer of one socket.

    @ivar ledger: counts what happens on this socket.
    @ivar signs: collects what seems not to fit.
    """

    def __init__(
        self,
        accept: Accept | None = None,
        cookies: Cookies | None = None,
        window: int = 0,
        *,
        crypt: Crypt | None = None,
        rules: Rules = Rules(),
        ledger: Ledger | None = None,
        signs: Diagnosis | None = None,
    ) -> None:
        """
        @param accept: makes the engine for a new session; None for a socket
            that only dials.
        @param cookies: proofs of address; needed for accepting.
        @param window: the receive window of new sessions, in segments.
        @param crypt: the cipher; None: datagrams are bare.
        """
        if accept is not None and cookies is None:
            raise ValueError("cookies: a listening gate needs them")
        self._accept = accept
        self._cookies = cookies
        self._window = window
        self._crypt = crypt
        self._rules = rules
        self.ledger = ledger or Ledger()
        self.signs = signs or Diagnosis()
        self._cutter = Cutter()
        self._blacklist = Blacklist(rules.blacklist)
        self._current: dict[Address, int] = {}

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
                self.ledger.count("InCsumErrors", len(failed))
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
        cutter = self._cutter
        short = cutter.short_framed
        parts = cutter.cut(run, size, address) if run else ()
        if cutter.short_framed != short:
            # What is too short without FEC is counted by kcp-go nowhere (kcp.md 6).
            self.ledger.count("InErrs", cutter.short_framed - short)
        return [
            (None if conv is None else (address, conv), part, size) for conv, part in parts
        ]

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
            return self._probed(self._accept, self._cookies, first, address, now, table, framed)
        if first.cmd != PUSH or (first.frg == END and not first.length) or first.una:
            # Nobody who is new here has had anything from us to acknowledge.
            return Drop("leftover of a session")
        if first.sn >= self._window or (first.sn and self._rules.require_sn0):
            return Drop("outside the window")
        return self._admit(self._accept, first, address, now, table)

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
            verdict = self._admit(accept, first, address, now, table)
            if isinstance(verdict, Admit):
                assert isinstance(verdict.engine, KCPEngine)
                verdict.engine.prove()
            return verdict
        if marked and (first.sn or first.una):
            # It talks of a session that we do not have: we were restarted.
            return self._reply(reset(conv, first.una, first.sn), framed)
        if not table.room:
            return Drop("no room")
        cookie = cookies.make(address, conv, now)
        answer = pack_header(conv, WINS, MARK, self._window, cookie, 0, 0, 0)
        return self._reply(answer, framed)

    def _admit(
        self, accept: Accept, first: Segment, address: Address, now: int, table: SessionTable
    ) -> Verdict:
        """Let a new conversation in, if the rules do."""
        if not table.room:
            return Drop("no room")
        key = (address, first.conv)
        if self._blacklist.has(key, now):
            return Drop("blacklisted")
        old = self._current.get(address)
        if old is not None and self._rules.sessions is SessionRule.ADDRESS:
            self.signs.note(Sign.OTHER_CONVERSATION, address)
            return Drop("other conversation")
        if old is not None and first.sn:
            return Drop("other conversation")
        if self._rules.sessions is not SessionRule.CONVERSATION:
            self._current[address] = first.conv
        return Admit(
            accept(first.conv, address, now), replaces=None if old is None else (address, old)
        )

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
        """Its address is free, its conversation is not for a while."""
        assert isinstance(engine, KCPEngine)
        address, conv = engine.key
        if engine.heard:
            self._blacklist.add(engine.key, now)
        if self._current.get(address) == conv:
            del self._current[address]

    def deadline(self) -> int | None:
        """Cookies need no table of the half-open."""
        return None

    def tick(self, now: int) -> Sequence[tuple[bytes, Address]]:
        """Nothing to repeat."""
        return ()

    def counters(self) -> Mapping[str, int]:
        """
        What was dropped before it reached a session, what was found not to fit,
        and kcp-go's counters for this socket.
        """
        found = {**self.signs.counters(), **self.ledger.snapshot()}
        if self._cutter.short:
            found["short"] = self._cutter.short
        return found

    def diagnosis(self) -> str | None:
        """What most likely does not fit."""
        return self.signs.verdict()
