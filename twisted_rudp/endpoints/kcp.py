"""
KCP endpoints: any Twisted stream protocol over KCP.

C{KCPServerEndpoint(reactor, 4000)} and C{KCPClientEndpoint(reactor, host, 4000)}
work as they are, at full speed, and talk to C{kcp.Dial} and C{kcp.Listen} of
kcp-go. Each argument has the same name in the endpoint strings C{kcp:...}.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import SECOND, Address
from twisted_rudp.endpoints.base import ClientEndpoint, ServerEndpoint
from twisted_rudp.endpoints.kcpbase import KCPEndpoint
from twisted_rudp.kcp.engine import Role
from twisted_rudp.kcp.gate import KCPGate, Rules
from twisted_rudp.kcp.options import SessionRule
from twisted_rudp.kcp.session import KCPSession
from twisted_rudp.net.admission import Limits


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
        self._rules = Rules(
            SessionRule(self.sessions), int(self.blacklist * SECOND), self.requireSn0
        )

    def _limits(self) -> Limits:
        return replace(super()._limits(), perHost=self.perHost)

    def _listeningGate(self) -> KCPGate:
        cookies = Cookies(self.entropy(32))

        def accept(conv: int, address: Address, now: int) -> KCPSession:
            return self._engine(gate, conv, address, now, role=Role.LISTENER, cookies=cookies)

        gate = self._gate(accept, cookies, self._rules)
        return gate


@dataclass(kw_only=True, eq=False, repr=False)
class KCPClientEndpoint(KCPEndpoint, ClientEndpoint):
    """
    Dials a KCP listener: C{KCPClientEndpoint(reactor, host, port, ...)}. The arguments
    not named here are those of L{ClientEndpoint} and L{KCPEndpoint}.

    @ivar waitForPeer: connected when the peer has answered; False: at once, which
        tells nothing about the peer.
    """

    waitForPeer: bool = True

    def _diallingSession(self, address: Address, now: int) -> tuple[KCPGate, KCPSession]:
        """
        A session with a conversation of its own: a number used again on the same
        port would be taken for the old one (kcp_close 7.3).
        """
        gate = self._gate()
        conv = int.from_bytes(self.entropy(4), "little")
        engine = self._engine(
            gate,
            conv,
            address,
            now,
            role=Role.DIALLER,
            own_socket=True,
            wait_for_peer=self.waitForPeer,
        )
        return gate, engine
