"""
Datagrams that belong to no session: what the gate says about them, and the limits
that a stranger meets whatever it says (EP-7, PORT-7, UDP-7).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.abstract import isIPv6Address
from twisted.logger import Logger

from twisted_rudp.core.engine import (
    SECOND,
    Address,
    Admit,
    Buffer,
    Drop,
    Engine,
    Gate,
    Key,
    Reply,
    Route,
    Verdict,
)
from twisted_rudp.net.session import Session

if TYPE_CHECKING:
    from twisted_rudp.net.hub import Hub


@dataclass(frozen=True)
class Limits:
    """
    What strangers can make a listening socket hold.

    @ivar backlog: sessions whose peer has not proved its address; what a flood of
        forged sources can occupy at a time.
    @ivar perHost: how many of those may come from one IPv4 address or IPv6 /64, so
        that a single host cannot fill the backlog.
    @ivar maxSessions: all sessions that are not over.
    @ivar handshakeTimeout: seconds after which one that has not got as far as the
        factory lapses.
    """

    backlog: int = 128
    perHost: int = 32
    maxSessions: int = 10_000
    handshakeTimeout: float = 10.0


class Admission:
    """
    Counts who has been let in without proof.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._unproved: dict[Session, str | bytes] = {}
        self._hosts: dict[str | bytes, int] = {}

    def __len__(self) -> int:
        return len(self._unproved)

    def refusal(self, address: Address, alive: int) -> str | None:
        """
        Why nobody from C{address} can be let in now, or None.

        @param alive: how many sessions there are.
        """
        if alive >= self.limits.maxSessions:
            return "maxSessions"
        if len(self._unproved) >= self.limits.backlog:
            return "backlog"
        if self._hosts.get(networkOf(address), 0) >= self.limits.perHost:
            return "perHost"
        return None

    def enter(self, session: Session) -> None:
        network = networkOf(session.address)
        self._unproved[session] = network
        self._hosts[network] = self._hosts.get(network, 0) + 1

    def leave(self, session: Session) -> None:
        """
        It has proved its address or is over. Harmless when repeated.
        """
        network = self._unproved.pop(session, None)
        if network is None:
            return
        self._hosts[network] -= 1
        if not self._hosts[network]:
            del self._hosts[network]


def networkOf(address: Address) -> str | bytes:
    """
    What one host can choose freely counts as one: an IPv4 address, an IPv6 /64.
    """
    host: str = address[0].partition("%")[0]
    if not isIPv6Address(host):
        return host
    packed = socket.inet_pton(socket.AF_INET6, host)
    mapped = packed.startswith(bytes(10) + b"\xff\xff")
    return socket.inet_ntoa(packed[12:]) if mapped else packed[:8]


class Table:
    """
    What the gate may know of the hub (L{twisted_rudp.core.engine.SessionTable}).
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def get(self, key: Key) -> Engine | None:
        session = self._hub.find(key)
        return None if session is None else session.engine

    @property
    def room(self) -> bool:
        return self._hub.room


class Strangers:
    """
    Carries out the gate's verdicts for one hub.
    """

    _log = Logger()

    def __init__(self, hub: Hub, gate: Gate) -> None:
        self._hub = hub
        self._gate = gate
        self._table = Table(hub)
        self._complaint = 0

    def judge(self, key: Key | None, run: Buffer, size: int, address: Address, now: int) -> None:
        """
        Ask the gate about each datagram of a run whose key is in no session. As soon
        as one has brought a session under this key, the rest of the run is its own.
        """
        for start in range(0, len(run), size):
            session = None if key is None else self._hub.find(key)
            if session is not None:
                session.receive(run[start:], size, address, now)
                return
            datagram = run[start : start + size]
            try:
                verdict = self._gate.stranger(datagram, address, now, self._table)
            except Exception:
                self.gateFailed(now)
                return
            self._carryOut(verdict, datagram, address, now)

    def gateFailed(self, now: int) -> None:
        """
        The gate, which must not raise, has done so: count it, log it now and then.
        """
        self._hub.count("gateFailed")
        if now >= self._complaint:
            self._complaint = now + COMPLAINT_INTERVAL
            self._log.failure("what a stranger sent made the gate fail")

    def _carryOut(self, verdict: Verdict, datagram: Buffer, address: Address, now: int) -> None:
        if isinstance(verdict, Drop):
            self._hub.count("dropped." + verdict.reason)
        elif isinstance(verdict, Reply):
            self._reply(verdict, len(datagram) + self._gate.overhead, address)
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
            self._gate.ended(verdict.engine, now)
            return
        session = self._hub.admit(verdict.engine, address, now)
        session.receive(datagram, len(datagram) or 1, address, now)


COMPLAINT_INTERVAL = 60 * SECOND
"""What a stranger can provoke is logged no more often than this."""
