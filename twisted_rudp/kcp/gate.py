"""
What the KCP sessions of one socket share: cutting runs by conversation, and
judging strangers (C{kcp_close.md} section 7).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

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
from twisted_rudp.kcp.engine import KCPEngine
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

_CONV = 4


class KCPGate:
    """
    The gate of one socket.

    @param accept: makes the engine for a new session; None for a socket that
        only dials.
    @param cookies: proofs of address; needed for accepting.
    @param window: the receive window of new sessions, in segments.
    """

    overhead = 0

    def __init__(
        self,
        accept: Accept | None = None,
        cookies: Cookies | None = None,
        window: int = 0,
    ) -> None:
        if accept is not None and cookies is None:
            raise ValueError("cookies: a listening gate needs them")
        self._accept = accept
        self._cookies = cookies
        self._window = window
        self._dropped: Counter[str] = Counter()

    def open(
        self, run: Buffer, size: int, address: Address
    ) -> Sequence[tuple[Key | None, Buffer, int]]:
        """
        Cut a run where the conversation changes.
        """
        length = len(run)
        if length < HEADER_SIZE or size < HEADER_SIZE:
            self._dropped["short"] += -(-length // size) if size else 1
            return ()
        conv = int.from_bytes(run[:_CONV], "little")
        if length <= size:
            return (((address, conv), run, size),)
        end = same_column(run, size, 0, _CONV) * size
        if end >= length:
            return (((address, conv), run, size),)
        view = memoryview(run)
        parts: list[tuple[Key | None, Buffer, int]] = [((address, conv), view[:end], size)]
        while end < length:
            rest = view[end:]
            if len(rest) < HEADER_SIZE:
                self._dropped["short"] += 1
                break
            conv = int.from_bytes(rest[:_CONV], "little")
            count = max(same_column(rest, size, 0, _CONV), 1) * size
            parts.append(((address, conv), rest[:count], size))
            end += count
        return parts

    def seal(self, run: Buffer, size: int) -> tuple[Buffer, int]:
        """
        Nothing is added: no cipher.
        """
        return run, size

    def stranger(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> Verdict:
        """
        Judge by the first segment.
        """
        first = next(segments(datagram), None)
        if first is None:
            return Drop("malformed")
        if self._accept is None or self._cookies is None:
            return Drop("not listening")
        if first.cmd == WASK:
            return self._probed(self._accept, self._cookies, first, address, now, table)
        if first.cmd != PUSH or (first.frg == END and not first.length) or first.una:
            # Nobody who is new here has had anything from us to acknowledge.
            return Drop("leftover of a session")
        if first.sn >= self._window:
            return Drop("outside the window")
        if not table.room:
            return Drop("no room")
        return Admit(self._accept(first.conv, address, now))

    def _probed(
        self,
        accept: Accept,
        cookies: Cookies,
        first: Segment,
        address: Address,
        now: int,
        table: SessionTable,
    ) -> Verdict:
        conv = first.conv
        marked = first.frg == MARK
        if marked and cookies.check(first.ts, address, conv, now):
            if not table.room:
                return Drop("no room")
            engine = accept(conv, address, now)
            engine.prove()
            return Admit(engine)
        if marked and (first.sn or first.una):
            # It talks of a session that we do not have: we were restarted.
            return Reply((reset(conv, first.una, first.sn),))
        if not table.room:
            return Drop("no room")
        cookie = cookies.make(address, conv, now)
        return Reply((pack_header(conv, WINS, MARK, self._window, cookie, 0, 0, 0),))

    def ended(self, engine: Engine, now: int) -> None:
        """
        Nothing is kept here.
        """

    def deadline(self) -> int | None:
        """
        Cookies need no table of the half-open.
        """
        return None

    def tick(self, now: int) -> Sequence[tuple[bytes, Address]]:
        """
        Nothing to repeat.
        """
        return ()

    def counters(self) -> Mapping[str, int]:
        """
        What was dropped before it reached a session.
        """
        return dict(self._dropped)

    def diagnosis(self) -> str | None:
        """
        Nothing to compare yet: without cipher and FEC ends cannot differ.
        """
        return None
