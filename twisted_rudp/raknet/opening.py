"""
From the first request to a live session (raknet.md 2 to 4)::

    dialler:   OFFLINE  --replies-->  OPENING  --accepted (10)----------->  LIVE
    listener:                         OPENING  --incoming (13), proved--->  LIVE
"""

from __future__ import annotations

from twisted_rudp.core.engine import Address, Buffer, Event, PathError, Reason
from twisted_rudp.raknet import system
from twisted_rudp.raknet.arrivals import NEVER
from twisted_rudp.raknet.closing import Closing
from twisted_rudp.raknet.dialling import Dialling, Stage
from twisted_rudp.raknet.handshake import Step, WrongPassword
from twisted_rudp.raknet.life import Life, Role
from twisted_rudp.raknet.offline import Reply2, pack, parse
from twisted_rudp.raknet.packing import Packer
from twisted_rudp.raknet.pings import Pings
from twisted_rudp.raknet.receiver import Delivered
from twisted_rudp.raknet.state import State

MOST_RESENDS_UNCONFIRMED = 3
"""How often the longest answer is repeated for a peer that has not confirmed it."""


class Opening:
    """
    Leads a session to L{Life.LIVE}.

    @ivar reply2: the listener's answer to the second request.
    """

    __slots__ = ("_closing", "_dialling", "_handshake", "_pings", "_reply2_due", "_state", "reply2")

    def __init__(
        self, state: State, closing: Closing, pings: Pings, address: Address, now: int
    ) -> None:
        """
        @param address: the peer's.
        """
        self._state = state
        self._closing = closing
        self._pings = pings
        self._handshake = state.handshake
        self._dialling: Dialling | None = None
        self.reply2 = b""
        if state.role is Role.DIALLER:
            self._dialling = Dialling(state.settings, state.guid, address, now)
        else:
            self.reply2 = pack(Reply2(state.guid, address, state.mtu), state.settings.magic)
        self._reply2_due = bool(self.reply2)

    @property
    def unverified(self) -> bool:
        """A listener that has not seen a connection request."""
        return self._state.life is Life.OPENING and self._handshake.step is Step.WAITING

    @property
    def unconfirmed(self) -> bool:
        """The listener's long answer was repeated often enough."""
        state = self._state
        return (
            state.life is Life.OPENING
            and state.role is Role.LISTENER
            and state.counters.frames_resent >= MOST_RESENDS_UNCONFIRMED
        )

    # the first requests

    @property
    def due(self) -> int:
        """When the dialler's requests want to be sent next."""
        return NEVER if self._dialling is None else self._dialling.due

    def receive(self, run: Buffer, size: int, now: int) -> None:
        """Something that belongs to no session has come, perhaps an answer."""
        dialling, state = self._dialling, self._state
        if dialling is None:
            return
        view = memoryview(run)
        for start in range(0, len(view), size):
            message = parse(view[start : start + size], state.settings.magic)
            if message is not None and state.life is Life.OFFLINE:
                dialling.receive(message, now)
                self._dialled(dialling, now)

    def path_error(self, kind: PathError, size: int, now: int) -> None:
        """A request has not reached the peer."""
        if kind is not PathError.TOO_BIG:
            refused = kind is PathError.REFUSED
            self._closing.end(Reason.REFUSED if refused else Reason.UNREACHABLE, now)
        elif self._dialling is not None:
            self._dialling.too_big(size, now)

    def flush(self, now: int, packer: Packer) -> None:
        """Send the dialler's requests."""
        if self._dialling is not None:
            for datagram in self._dialling.datagrams(now):
                packer.add(datagram)
            packer.finish()

    def flush_reply(self, packer: Packer) -> None:
        """Send the listener's reply to the second request, once."""
        if self._reply2_due:
            self._reply2_due = False
            packer.add(self.reply2)

    def _dialled(self, dialling: Dialling, now: int) -> None:
        """See how the first requests went on."""
        if dialling.stage is Stage.REFUSED:
            self._closing.end(dialling.refusal[0], now, dialling.refusal[1])
        elif dialling.stage is Stage.AGREED:
            state = self._state
            state.enter(Life.OPENING)
            state.agree(dialling.mtu, dialling.guid)
            state.liveness.heard = now
            state.sender.system(self._handshake.ask(state.time(now)))

    # the handshake

    def requested(self, request: system.Request, now: int) -> None:
        """The listener is asked for the session."""
        state = self._state
        try:
            answer = self._handshake.asked(request, state.time(now))
        except WrongPassword:
            words = system.pack_invalid_password(state.guid)
            self._closing.end(Reason.AUTHENTICATION, now, words=words)
            return
        if answer is not None:
            self._handshake.answered_by(state.sender.system(answer))

    def accepted(self, message: system.Accepted, now: int) -> None:
        """The dialler is answered."""
        answer = self._handshake.accepted(message, self._state.time(now))
        if answer is not None:
            self._state.sender.system(answer)
            self._conclude(now)

    def came(self, message: system.Incoming, now: int) -> None:
        """The listener hears the dialler's last word."""
        self._handshake.came(message)
        if self._state.life is Life.OPENING and not self._handshake.validated:
            self._pings.ping(now)
        self._conclude(now)

    def refused(self, now: int) -> None:
        """The dialler's password is a wrong one."""
        detail = "the peer wants another password"
        self._closing.end(Reason.AUTHENTICATION, now, detail, acknowledge=True)

    def answered(self, now: int) -> None:
        """The peer has echoed one of our pings."""
        self._handshake.prove()
        self._conclude(now)

    def spoke(self, delivered: Delivered, now: int) -> None:
        """A message of the application's has come before its time."""
        self._handshake.spoke()
        self._state.inbox.keep(delivered)
        self._conclude(now)

    def _conclude(self, now: int) -> None:
        """The handshake may be done."""
        state = self._state
        if state.life is not Life.OPENING or self._handshake.step is not Step.DONE:
            return
        state.enter(Life.LIVE)
        state.events.append((Event.CONNECTED, False))
        state.liveness.start(now)
        state.inbox.put_kept()
