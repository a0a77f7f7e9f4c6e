"""
How a KCP session begins (C{kcp-close.md} sections 2 and 8).

The address is validated by a cookie that goes both ways in the C{ts} field of WASK and
WINS, which no other implementation reads::

    client                           server
    WASK ts 0            ->                       no state kept
                         <-  WINS ts cookie
    WASK ts cookie       ->                       session, validated
                         <-  WINS ts 0

A peer without the mark never returns a cookie; it is validated by an ACK that echoes
the number and the time of a segment of ours.
"""

from __future__ import annotations

from typing import Final

from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import MILLISECOND, Address
from twisted_rudp.core.lifecycle import Role
from twisted_rudp.core.timers import NEVER
from twisted_rudp.kcp.arq import ARQ
from twisted_rudp.kcp.control import Peer

FIRST_WAIT: Final = 200 * MILLISECOND
LONGEST_WAIT: Final = 3000 * MILLISECOND


class Handshake:
    """
    The opening of one session, and the probe that is repeated until it is answered:
    200 ms after the first, then after 1.5 times the last wait, at most 3 s.

    @ivar validated: the peer receives at its address.
    @ivar confirmed: the listener has said that it knows us as validated.
    @ivar due: when the next probe is to be sent; L{NEVER} while none is needed.
    @ivar cookie: the one with which the listener's peer was validated; 0: none.
    """

    __slots__ = (
        "_address",
        "_conv",
        "_cookies",
        "_role",
        "_wait",
        "confirmed",
        "cookie",
        "due",
        "validated",
    )

    def __init__(self, role: Role, conv: int, address: Address, cookies: Cookies | None) -> None:
        """
        @param cookies: the socket's; needed by a listener.
        """
        self._role = role
        self._conv = conv
        self._address = address
        self._cookies = cookies
        self._wait = FIRST_WAIT
        self.validated = role is Role.CLIENT
        self.confirmed = role is Role.SERVER
        self.due = NEVER
        self.cookie = 0

    def begin(self, arq: ARQ, now: int) -> None:
        """A client speaks first; a listener asks for its cookie whenever it speaks."""
        if self._role is Role.CLIENT:
            self.probe(now)
        elif self._cookies is not None:
            arq.control.ts_out = self._cookies.make(self._address, self._conv, now)

    def probe(self, now: int) -> None:
        """An answer is needed: ask at once, unless already asking."""
        if self.due == NEVER:
            self.probe_anew(now)

    def probe_anew(self, now: int) -> None:
        """There is something new to say: begin anew at once."""
        self.due = now
        self._wait = FIRST_WAIT

    def sent(self, now: int) -> None:
        """A probe was sent; set the time of the next."""
        self.due = now + self._wait
        self._wait = min(self._wait * 3 // 2, LONGEST_WAIT)

    def move(self, address: Address) -> None:
        """The peer is at another address, which is validated."""
        self._address = address

    def validate(self, arq: ARQ, cookie: int) -> None:
        """The cookie has come back."""
        self.validated = True
        self.cookie = cookie
        arq.control.ts_out = 0

    def take_cookie(self, arq: ARQ, now: int) -> bool:
        """
        Take in the cookie of a WASK or WINS, 0 being none.

        @return: the listener has once known us as validated and does not now.
        """
        cookie = arq.control.heard_ts
        if self._role is Role.SERVER:
            if (
                not self.validated
                and self._cookies is not None
                and self._cookies.check(cookie, self._address, self._conv, now)
            ):
                self.validate(arq, cookie)
        elif cookie == 0:
            self.confirmed = True
        elif cookie != arq.control.ts_out and arq.control.peer is Peer.MARKED:
            if self.confirmed:
                # A question is answered with its cookie: it may come from a listener that
                # sees us at a new address, and one that does not know us says so then.
                return not arq.control.heard_question
            arq.control.ts_out = cookie
            self.probe_anew(now)
        return False

    def settle(self, arq: ARQ, established: bool) -> None:
        """Stop asking once the answer is here."""
        if self.due != NEVER and self._answered(arq, established):
            self.due = NEVER

    def _answered(self, arq: ARQ, established: bool) -> bool:
        peer = arq.control.peer
        if peer is Peer.UNKNOWN:
            return False
        if self._role is Role.SERVER:
            return established
        if peer is Peer.UNMARKED:
            return True
        # An acknowledgement of our data tells nothing: a listener that does not know us as
        # validated acknowledges too (RFC 9002 6.2.2.1 has the same trap).
        return self.confirmed or arq.rcv_nxt != 0
