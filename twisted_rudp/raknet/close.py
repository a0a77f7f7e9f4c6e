"""
How a session ends: by a close of ours, by the peer's last message, or at once
(raknet.md 11.3)::

    ESTABLISHED  --close-->  FIN_WAIT  --all acknowledged-->  DRAINING  --acknowledged--+
         |                      |                                |                      |
         +---------end----------+--------------------------------+--> (CLOSING)  TIME_WAIT
"""

from __future__ import annotations

from typing import Final

from twisted_rudp.core.engine import Buffer
from twisted_rudp.core.lifecycle import (
    LAST_PACKET_INTERVAL,
    LAST_PACKETS,
    Lifecycle,
    State,
    TimeWait,
    time_wait_span,
)
from twisted_rudp.core.timers import Timers
from twisted_rudp.raknet import timers as t
from twisted_rudp.raknet.receiver import ReceivedDatagrams
from twisted_rudp.raknet.sender import Sender
from twisted_rudp.raknet.settings import Settings
from twisted_rudp.raknet.wire import (
    ACK_BIT,
    CLOSED_MESSAGE,
    HEADER_SIZE,
    NACK_BIT,
    Reliability,
    pack_frame_header,
    pack_header,
)

MOST_ANSWERS: Final = 8
"""How often a peer that goes on talking is told again that the session was given up."""


class Close:
    """A close in order: what was written is delivered, then the peer is told."""

    __slots__ = ("_delivered", "_life", "_sender", "_settings", "_timers")

    def __init__(
        self, lifecycle: Lifecycle, settings: Settings, sender: Sender, timers: Timers
    ) -> None:
        self._life = lifecycle
        self._settings = settings
        self._sender = sender
        self._timers = timers
        self._delivered = 0

    def begin(self, now: int) -> None:
        """The owner has closed an established session: deliver the rest."""
        self._life.enter(State.FIN_WAIT)
        self._timers.set(t.CLOSE, now + self._settings.stall)

    def advance(self, now: int) -> bool:
        """
        Go on with what was acknowledged.

        @return: the peer has everything, the last message too.
        """
        lifecycle, sender = self._life, self._sender
        if lifecycle.state is State.FIN_WAIT:
            if sender.drained:
                lifecycle.enter(State.DRAINING)
                sender.system(CLOSED_MESSAGE)
                self._timers.set(t.CLOSE, now + self._settings.linger)
            elif sender.sent.recovery.delivered != self._delivered:
                self._delivered = sender.sent.recovery.delivered
                self._timers.set(t.CLOSE, now + self._settings.stall)
            return False
        return lifecycle.state is State.DRAINING and sender.drained

    @property
    def delivered(self) -> bool:
        """
        Only the acknowledgement of the last message is missing. Some never give it
        (raknet.md 11.3).
        """
        return self._life.state is State.DRAINING


class ClosedSession:
    """
    Answers late packets of a session that has ended. After an end in order what still comes
    is acknowledged and thrown away, so that the peer can end too. After any other the last
    packet is repeated: an acknowledgement would claim that the data was delivered.
    """

    __slots__ = ("_answer", "_answers", "_datagrams", "_packets", "time_wait")

    def __init__(
        self,
        datagrams: ReceivedDatagrams | None,
        packets: list[bytes],
        now: int,
        timeout: int,
        own_socket: bool,
    ) -> None:
        """
        @param datagrams: where to note what still comes; None after an end that was
            not in order.
        @param packets: what to send.
        @param timeout: of a retransmission.
        @param own_socket: the socket closes when the packets have left.
        """
        repeats = 0
        if packets:
            repeats = LAST_PACKETS if own_socket or datagrams is None else 1
        # From a socket of its own they leave together, so that it can close at once.
        interval = 0 if own_socket else LAST_PACKET_INTERVAL
        self.time_wait = TimeWait(now, time_wait_span(timeout), repeats, interval)
        self._datagrams = datagrams
        self._packets = packets
        self._answers = 0
        self._answer = False

    def receive(self, run: Buffer, size: int, now: int) -> None:
        """Something has come after the end."""
        view = memoryview(run)
        heard = False
        for start in range(0, len(view), size):
            datagram = view[start : start + size]
            if len(datagram) < HEADER_SIZE or datagram[0] & (ACK_BIT | NACK_BIT):
                continue
            heard = True
            if self._datagrams is not None:
                number = self._datagrams.unwrap(int.from_bytes(datagram[1:HEADER_SIZE], "little"))
                self._datagrams.accept(number, 1, len(datagram), now, 0)
        if not heard:
            return
        self.time_wait.prolong(now)
        if self._datagrams is None and self.time_wait.finished and self._answers < MOST_ANSWERS:
            self._answers += 1
            self._answer = True

    def take_answers(self, now: int, limit: int) -> list[bytes]:
        """
        What is to be sent now.

        @param limit: longest datagram.
        """
        packets: list[bytes] = []
        if self._answer:
            self._answer = False
            packets = self._packets
        while self.time_wait.repeat_due(now):
            packets = packets + self._packets
        if self._datagrams is not None:
            packets = packets + self._datagrams.acknowledgements(limit)
        return packets


def last_message(number: int, message: bytes) -> bytes:
    """A datagram with one unreliable message, which ends the session."""
    frame = pack_frame_header(int(Reliability.UNRELIABLE), len(message))
    return pack_header(number) + frame + message

