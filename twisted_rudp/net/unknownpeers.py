"""Datagrams that belong to no session, and what the demultiplexer says about them (UDP-7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from twisted_rudp.core.engine import (
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

if TYPE_CHECKING:
    from twisted_rudp.net.hub import Hub


class Table:
    """What the demultiplexer may know of the hub (L{twisted_rudp.core.engine.SessionTable})."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def get(self, key: Key) -> Engine | None:
        session = self._hub.find(key)
        return None if session is None else session.engine

    @property
    def room(self) -> bool:
        return self._hub.room


class UnknownPeers:
    """Carries out the demultiplexer's verdicts for one hub."""

    _log = Logger()

    def __init__(self, hub: Hub, demux: Demultiplexer) -> None:
        self._hub = hub
        self._demux = demux
        self._table = Table(hub)
        self._complaint = 0

    def judge(self, key: Key | None, run: Buffer, size: int, address: Address, now: int) -> None:
        """
        Ask the demultiplexer about each datagram of a run whose key is in no session. As soon
        as one has brought a session under this key, the rest of the run is its own.
        """
        for start in range(0, len(run), size):
            session = None if key is None else self._hub.find(key)
            if session is not None:
                session.receive(run[start:], size, address, now)
                return
            datagram = run[start : start + size]
            try:
                verdict = self._demux.unknown_peer(datagram, address, now, self._table)
                self._carryOut(verdict, datagram, address, now)
            except Exception:
                self.demuxFailed(now)
                return

    def demuxFailed(self, now: int) -> None:
        """The demultiplexer, which must not raise, has done so: count it, log it now and then."""
        self._hub.count("demuxFailed")
        if now >= self._complaint:
            self._complaint = now + COMPLAINT_INTERVAL
            self._log.failure("what a stranger sent made the gate fail")

    def _carryOut(self, verdict: Verdict, datagram: Buffer, address: Address, now: int) -> None:
        if isinstance(verdict, Drop):
            self._hub.count("dropped." + verdict.reason)
        elif isinstance(verdict, Reply):
            self._reply(verdict, len(datagram) + self._demux.overhead, address)
        elif isinstance(verdict, Route):
            session = self._hub.find(verdict.key)
            if session is None:
                self._hub.count("dropped.noSession")
            else:
                session.receive(datagram, len(datagram) or 1, address, now)
        else:
            self._admit(verdict, datagram, address, now)

    def _reply(self, reply: Reply, received: int, address: Address) -> None:
        datagrams = reply.datagrams
        if sum(map(len, datagrams)) > reply.factor * received:
            self._hub.count("replyTooLong")
            return
        self._hub.count("replied")
        for datagram in datagrams:
            self._hub.sendWhole(datagram, address)

    def _admit(self, verdict: Admit, datagram: Buffer, address: Address, now: int) -> None:
        refusal = self._hub.refusal(address)
        if refusal is not None:
            self._hub.count("refused." + refusal)
            self._demux.ended(verdict.engine, now)
            return
        replaced = None if verdict.replaces is None else self._hub.find(verdict.replaces)
        if replaced is not None:
            replaced.end(Reason.RESET, "replaced by a new session from its address")
            self._hub.drop(replaced)
        session = self._hub.admit(verdict.engine, address, now)
        session.receive(datagram, len(datagram) or 1, address, now)


COMPLAINT_INTERVAL = 60 * SECOND
"""What an unknown peer can provoke is logged no more often than this."""
