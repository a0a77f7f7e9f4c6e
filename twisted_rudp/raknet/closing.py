"""
How a session ends: by a close of ours, by the peer's last word, or at once
(raknet.md 11.3)::

    LIVE  --close-->  CLOSING  --all acknowledged-->  NOTIFYING  --acknowledged--+
     |                   |                                |                      |
     +---------end-------+--------------------------------+--------> (FAREWELL)  ENDED
"""

from __future__ import annotations

from twisted_rudp.core.engine import SECOND, Buffer, Event, Reason
from twisted_rudp.raknet import system
from twisted_rudp.raknet.arrivals import NEVER
from twisted_rudp.raknet.life import Life
from twisted_rudp.raknet.packing import Packer
from twisted_rudp.raknet.state import State
from twisted_rudp.raknet.tombstone import Tombstone
from twisted_rudp.raknet.wire import Reliability, pack_frame_header, pack_header

STREAM = 0
"""The one stream of a session that carries bytes."""

FAREWELLS = 3
"""How often the last acknowledgement leaves a socket that is closed behind it."""


class Closing:
    """
    Leads a session from L{Life.LIVE}, or from where it is, to its end.

    @ivar until: when the close is given up.
    @ivar tombstone: answers for the session when it has ended.
    """

    __slots__ = (
        "_delivered",
        "_end_told",
        "_ending",
        "_own_socket",
        "_state",
        "tombstone",
        "until",
    )

    def __init__(self, state: State, own_socket: bool) -> None:
        """
        @param own_socket: the socket serves this session alone and closes with it.
        """
        self.until = NEVER
        self.tombstone: Tombstone | None = None
        self._state = state
        self._own_socket = own_socket
        self._delivered = 0
        self._end_told = False
        self._ending: tuple[Reason, str | None] | None = None

    # in order

    def begin(self, now: int) -> None:
        """The owner has closed a live session: deliver the rest."""
        state = self._state
        state.inbox.clear()
        if state.left:
            self.end(Reason.DONE, now, acknowledge=True)
            return
        state.enter(Life.CLOSING)
        self.until = now + state.settings.stall
        self.advance(now)

    def advance(self, now: int) -> None:
        """Closing goes on with what was acknowledged."""
        state = self._state
        if state.life is Life.CLOSING:
            if state.sender.drained:
                state.enter(Life.NOTIFYING)
                state.sender.system(system.NOTIFICATION)
                self.until = now + state.settings.linger
            elif state.flying.delivered != self._delivered:
                self._delivered = state.flying.delivered
                self.until = now + state.settings.stall
        elif state.life is Life.NOTIFYING and state.sender.drained:
            self.end(Reason.DONE, now, acknowledge=True)

    def give_up(self, now: int) -> None:
        """
        If only the last word is missing its acknowledgement, everything was
        delivered all the same: some never acknowledge it (raknet.md 11.3).
        """
        if self._state.life is Life.NOTIFYING:
            self.end(Reason.DONE, now, acknowledge=True)
        else:
            self.end(Reason.CLOSE_TIMEOUT, now, words=system.ABORTED)

    # the peer

    def peer_left(self, payload: Buffer, now: int) -> None:
        """The notification has come: the end of what the peer says, and of what it hears."""
        state = self._state
        if payload == system.ABORTED:
            self.end(Reason.RESET, now)
        elif state.life is Life.OPENING:
            self.end(Reason.REFUSED, now, acknowledge=True)
        elif state.life is Life.LIVE:
            state.left = True
            state.arrivals.hurry(now)
            state.sender.release()
            state.liveness.stop()
            if not state.inbox.size:
                self.tell_end()
        else:
            self.end(Reason.DONE, now, acknowledge=True)

    def tell_end(self) -> None:
        """All that the peer said before it left was read."""
        if not self._end_told and self._state.life is Life.LIVE:
            self._end_told = True
            self._state.events.append((Event.STREAM_ENDED, STREAM))

    # over

    def end(
        self,
        reason: Reason,
        now: int,
        detail: str | None = None,
        words: bytes = b"",
        acknowledge: bool = False,
    ) -> None:
        """
        End the session now.

        @param words: an unreliable message that tells the peer.
        @param acknowledge: what the peer says from now on is acknowledged.
        """
        state = self._state
        datagrams: list[bytes] = []
        if words:
            head = pack_header(state.flying.number)
            frame = pack_frame_header(Reliability.UNRELIABLE, len(words))
            datagrams = [head + frame + words]
            state.flying.number += 1
        elif acknowledge:
            last = state.arrivals.acknowledgements(state.sender.datagram)
            datagrams = last * (FAREWELLS if self._own_socket else 1)
        arrivals = state.arrivals if acknowledge else None
        span = max(2 * state.flying.round_trip.timeout, SECOND)
        self.tombstone = Tombstone(arrivals, datagrams, now + span)
        state.sender.release()
        state.tell_receipts()
        state.inbox.clear()
        self._ending = (reason, detail)
        if self._own_socket and datagrams:
            state.enter(Life.FAREWELL)
        else:
            self._tell_ended()

    def flush(self, tombstone: Tombstone, packer: Packer) -> None:
        """Send what the tombstone has to say."""
        for datagram in tombstone.take(self._state.sender.datagram):
            packer.add(datagram)
        packer.finish()
        if self._state.life is Life.FAREWELL:
            self._tell_ended()

    def make_room(self) -> None:
        """Forget the session at once, without a word to the peer, which has begun another."""
        state = self._state
        if not state.over:
            state.sender.release()
            state.enter(Life.ENDED)
            state.events.append((Event.ENDED, Reason.FORGOTTEN, "the peer has connected anew"))
        if state.life is Life.ENDED:
            state.enter(Life.FORGOTTEN)

    def _tell_ended(self) -> None:
        assert self._ending is not None
        self._state.enter(Life.ENDED)
        self._state.events.append((Event.ENDED, *self._ending))
        if self._own_socket:
            self._state.enter(Life.FORGOTTEN)
