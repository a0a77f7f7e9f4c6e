"""
How two ends of ours change the shape of FEC groups while a session runs (kcp-close.md 18): what
is said about it, and the state of who sends. What comes is read in
L{twisted_rudp.kcp.framing}.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from twisted_rudp.core.engine import SECOND, Buffer
from twisted_rudp.core.serial import HALF32, MASK32
from twisted_rudp.kcp.fec import Encoder, end_of_ids
from twisted_rudp.kcp.reed_solomon import MAXIMUM_SHARDS
from twisted_rudp.kcp.shapechoice import ShapeChoice
from twisted_rudp.kcp.wire import CONV_SIZE, HEADER_SIZE, MARK, WINS

ANNOUNCE: Final = 2
"""First byte of the payload of a WINS that announces a shape."""

CONFIRM: Final = 3
"""First byte of the payload of a WINS that confirms one."""

JUMP: Final = 1 << 20
"""A new shape holds from a sequence id so far ahead: none is reached before it is confirmed."""

HALF16: Final = 1 << 15
MASK16: Final = (1 << 16) - 1

INTERVAL: Final = SECOND
"""Between two announcements, which ask what has come as well."""

FIRST_INTERVAL: Final = SECOND // 4
"""The same for the first, so that a shape is chosen soon."""

MOST_INTERVAL: Final = 60 * SECOND
"""The same towards a peer that does not answer."""

LEAST_PACKETS: Final = 16
"""Data packets between two announcements, at least."""

_announcement: Final = struct.Struct("<BHBBI")
_confirmation: Final = struct.Struct("<BHBBIII")


class Shape(NamedTuple):
    """
    A shape as it is announced.

    @ivar generation: one more than that of the shape before, modulo 2^16.
    @ivar data: data packets of a group; C{parity}: parity packets.
    @ivar first: sequence id from which it holds.
    """

    generation: int
    data: int
    parity: int
    first: int

    @property
    def possible(self) -> bool:
        """There are such groups, and one of them begins at L{first}."""
        shards = self.data + self.parity
        return (
            self.data > 0
            and self.parity > 0
            and shards <= MAXIMUM_SHARDS
            and self.first % shards == 0
            and self.first < end_of_ids(shards)
        )


def announcement(shape: Shape) -> bytes:
    """The payload that announces a shape."""
    return _announcement.pack(ANNOUNCE, *shape)


def read_announcement(payload: bytes) -> Shape | None:
    """The shape that a payload announces; None if it is malformed."""
    if len(payload) != _announcement.size or payload[0] != ANNOUNCE:
        return None
    _, generation, data, parity, first = _announcement.unpack(payload)
    shape = Shape(generation, data, parity, first)
    return shape if shape.possible else None


def confirmation(shape: Shape, missed: int, runs: int) -> bytes:
    """
    The payload that confirms a shape.

    @param missed: data packets that did not come so far, whether rebuilt or not.
    @param runs: how often one was missed and the one before it was not.
    """
    return _confirmation.pack(CONFIRM, *shape, missed & MASK32, runs & MASK32)


def read_confirmation(payload: bytes) -> tuple[Shape, int, int] | None:
    """Shape, data packets missed and runs of such; None if it is malformed."""
    if len(payload) != _confirmation.size or payload[0] != CONFIRM:
        return None
    _, generation, data, parity, first, missed, runs = _confirmation.unpack(payload)
    shape = Shape(generation, data, parity, first)
    return (shape, missed, runs) if shape.possible else None


def is_about_shapes(payload: bytes) -> bool:
    """Whether the payload of a WINS is one of these."""
    return payload[0] == ANNOUNCE or payload[0] == CONFIRM


def is_change(datagram: Buffer) -> bool:
    """Whether a bare datagram begins with one of these, as none of the C library's does."""
    return (
        len(datagram) > HEADER_SIZE
        and datagram[CONV_SIZE] == WINS
        and datagram[CONV_SIZE + 1] == MARK
        and (datagram[HEADER_SIZE] == ANNOUNCE or datagram[HEADER_SIZE] == CONFIRM)
    )


def is_newer(generation: int, than: int) -> bool:
    """Whether it comes after another one, modulo 2^16."""
    return 0 < (generation - than) & MASK16 < HALF16


def is_beyond(packet: Buffer, first: int) -> bool:
    """
    Whether a packet belongs to the shape that begins at an id, and not to the one before.

    @param packet: what begins with its sequence id.
    """
    return (int.from_bytes(packet[:4], "little") - first) & MASK32 < HALF32


def first_id(following: int, shards: int) -> int:
    """
    Where a new shape may begin.

    @param following: the next id of the present one.
    """
    after = following + JUMP
    first = -(-after // shards) * shards
    if first < end_of_ids(shards):
        return first
    # The ids of the present shape go on from 0, too, before this one is reached.
    return -(-max(after - MASK32 - 1, 0) // shards) * shards


class ShapeSender:
    """
    What the sending end knows of its shape: which is announced, and whether the peer follows.

    @ivar shape: the one announced last.
    @ivar confirmed: the peer follows it, so the encoder uses it.
    @ivar changes: shapes that came into use, without the first.
    @ivar known: the peer has confirmed a shape, so it knows what is said here.
    @ivar due: when the next announcement is, if enough was sent.
    @ivar choice: of the next shape.
    """

    __slots__ = (
        "_asked",
        "_encoder",
        "_wait",
        "changes",
        "choice",
        "confirmed",
        "due",
        "known",
        "shape",
    )

    def __init__(self, encoder: Encoder, choice: ShapeChoice) -> None:
        """
        @param encoder: its present shape is announced first.
        """
        self._encoder = encoder
        self.shape = Shape(0, encoder.data, encoder.parity, 0)
        self.confirmed = False
        self.changes = 0
        self.choice = choice
        self.due = 0
        self._wait = FIRST_INTERVAL
        self._asked = 0
        self.known = False

    def wanted(self, now: int) -> bool:
        """It is time to announce the shape, again or for the first time."""
        return now >= self.due and self._encoder.numbered - self._asked >= LEAST_PACKETS

    def announce(self, now: int) -> bytes:
        """The payload that announces the shape."""
        if not self.confirmed and self.shape.generation:
            ahead = (self.shape.first - self._encoder.next) & MASK32
            if not JUMP // 2 < ahead < HALF32:
                # The ids have come near: whoever hears it now would not be ready in time.
                self._renew(self.shape.data, self.shape.parity)
        self.due = now + self._wait
        self._wait = min(2 * self._wait, MOST_INTERVAL)
        self._asked = self._encoder.numbered
        return announcement(self.shape)

    def receive(self, payload: bytes, now: int, round_trip: int) -> bool:
        """
        Take in a confirmation, and announce another shape if it is time for one.

        @param round_trip: in nanoseconds.
        @return: it fits.
        """
        heard = read_confirmation(payload)
        if heard is None or heard[0] != self.shape:
            return False
        shape, missed, runs = heard
        self.known = True
        if not self.confirmed:
            self.confirmed = True
            if shape.generation:
                self._encoder.plan(shape.data, shape.parity, shape.first)
                self.changes += 1
        if self._wait > INTERVAL:
            self._wait = INTERVAL
            self.due = min(self.due, now + INTERVAL)
        choice = self.choice
        choice.learn(now, self._asked, missed, runs)
        if self._encoder.is_changing:
            # The next shape begins beyond the ids of this one, which are not in use yet: the peer
            # would take packets of this one for the next, and rebuild others from them.
            return True
        wanted = choice.change(now, (shape.data, shape.parity), round_trip)
        if wanted is not None:
            self._renew(*wanted)
            self.confirmed = False
            self._wait = INTERVAL
            self.due = 0
            self._asked = self._encoder.numbered - LEAST_PACKETS
        return True

    def _renew(self, data: int, parity: int) -> None:
        generation = (self.shape.generation + 1) & MASK16
        self.shape = Shape(generation, data, parity, first_id(self._encoder.next, data + parity))
