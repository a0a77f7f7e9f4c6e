"""
KCP endpoints: any Twisted stream protocol over KCP.

C{KCPServerEndpoint(reactor, 4000)} and C{KCPClientEndpoint(reactor, host, 4000)}
work as they are, at full speed, and talk to C{kcp.Dial} and C{kcp.Listen} of
kcp-go. Each argument has the same name in the endpoint strings C{kcp:...}.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from twisted.internet import error

from twisted_rudp.core.checking import nanoseconds, require_choice, require_flag, require_within
from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import SECOND, Address, Demultiplexer
from twisted_rudp.core.serial import MASK32
from twisted_rudp.endpoints.base import ClientEndpoint, ServerEndpoint
from twisted_rudp.endpoints.kcpbase import KCPEndpoint
from twisted_rudp.kcp.blacklist import Blacklist
from twisted_rudp.kcp.demux import KCPDemultiplexer, Rules
from twisted_rudp.kcp.life import Role
from twisted_rudp.kcp.options import SessionRule
from twisted_rudp.kcp.session import KCPSession
from twisted_rudp.net.admission import Limits
from twisted_rudp.net.attempt import MakeSession
from twisted_rudp.net.connecting import binding

REUSE_PAUSE = 40
"""
Seconds for which a conversation that was asked for cannot be had again from the same
port: four times the longest linger (kcp_close 7.3).
"""


@dataclass(kw_only=True, eq=False, repr=False)
class KCPServerEndpoint(KCPEndpoint, ServerEndpoint):
    """
    Listens for KCP sessions: C{KCPServerEndpoint(reactor, port, ...)}. The arguments
    not named here are those of L{ServerEndpoint} and L{KCPEndpoint}.

    @ivar perHost: how much of C{backlog} one IPv4 address or IPv6 /64 may take.
    @ivar sessions: C{conversation}, C{address} or C{replace}; see
        L{SessionRule<twisted_rudp.kcp.options.SessionRule>}.
    @ivar blacklist: seconds after its end for which a conversation is not let in
        again; 0: only the few that its tombstone lasts.
    @ivar requireSn0: a session begins with segment 0 or a window probe.
    """

    perHost: int = 32
    sessions: str = "conversation"
    blacklist: float = 0
    requireSn0: bool = False

    def __post_init__(self, key: str | None, password: str | None) -> None:
        super().__post_init__(key, password)
        require_within("perHost", self.perHost, 1, 65_535)
        require_flag("requireSn0", self.requireSn0)
        self._rules = Rules(
            require_choice("sessions", self.sessions, SessionRule),
            nanoseconds("blacklist", self.blacklist),
            self.requireSn0,
        )

    def _limits(self) -> Limits:
        return replace(super()._limits(), perHost=self.perHost)

    def _listeningDemux(self) -> KCPDemultiplexer:
        cookies = Cookies(self.entropy(32))

        def accept(conv: int, address: Address, now: int) -> KCPSession:
            return self._engine(demux, conv, address, now, role=Role.LISTENER, cookies=cookies)

        demux = self._demux(accept, cookies, self._rules)
        return demux

    def _dialler(self, demux: Demultiplexer) -> MakeSession:
        assert isinstance(demux, KCPDemultiplexer)

        def dial(address: Address, now: int) -> tuple[KCPDemultiplexer, KCPSession]:
            conv = self._randomConv()
            return demux, self._engine(demux, conv, address, now, role=Role.DIALLER)

        return dial


@dataclass(kw_only=True, eq=False, repr=False)
class KCPClientEndpoint(KCPEndpoint, ClientEndpoint):
    """
    Dials a KCP listener: C{KCPClientEndpoint(reactor, host, port, ...)}. The arguments
    not named here are those of L{ClientEndpoint} and L{KCPEndpoint}.

    @ivar waitForPeer: connected when the peer has answered; False: at once, which
        tells nothing about the peer.
    @ivar conv: the conversation, 32 bits, for peers that go by a number agreed on,
        as many programs on the C library do. Left out: a random one for each
        connection, which is best. Between two connections from one port of ours
        with the same number there must be L{REUSE_PAUSE} seconds.
    """

    waitForPeer: bool = True
    conv: int | None = None

    def __post_init__(self, key: str | None, password: str | None) -> None:
        super().__post_init__(key, password)
        require_flag("waitForPeer", self.waitForPeer)
        if self.conv is not None:
            require_within("conv", self.conv, 0, MASK32)
        self._pinned = self.conv is not None and binding(self.bindAddress)[1] != 0
        self._recent = Blacklist(REUSE_PAUSE * SECOND)

    def _diallingSession(self, address: Address, now: int) -> tuple[KCPDemultiplexer, KCPSession]:
        """
        A session with a conversation of its own, and a demultiplexer for it.

        @raise error.ConnectBindError: the conversation that was asked for was in use
            from this port just now: the peer would take the new session for the old
            one, and acknowledge what it never delivers (kcp_close 7.3).
        """
        conv = self.conv
        if conv is None:
            conv = self._randomConv()
        elif self._pinned and self._recent.has((address, conv), self._now()):
            text = f"conv={conv} was in use from this port less than {REUSE_PAUSE} s ago"
            raise error.ConnectBindError(None, text)  # type: ignore[no-untyped-call]
        demux = self._demux()
        engine = self._engine(
            demux,
            conv,
            address,
            now,
            role=Role.DIALLER,
            own_socket=True,
            wait_for_peer=self.waitForPeer,
            over=self._remember if self._pinned else None,
        )
        return demux, engine

    def _remember(self, key: tuple[Address, int]) -> None:
        """A session is over."""
        self._recent.add(key, self._now())

    def _now(self) -> int:
        return int(self.reactor.seconds() * SECOND)
