"""
Bulk data: what is alike is put into datagrams, entered as in flight and given to the
port a run at a time. Its frames are reliable and ordered on channel 0; the slow path
of the peer, or ours, understands the same datagrams one by one.
"""

from __future__ import annotations

from twisted_rudp.core.queues import ByteQueue
from twisted_rudp.kernels import frame_messages, frame_stream
from twisted_rudp.raknet.channels import SendChannel
from twisted_rudp.raknet.counters import Counters
from twisted_rudp.raknet.flights import Build, Run
from twisted_rudp.raknet.inflight import InFlight
from twisted_rudp.raknet.outbox import Batch, Outbox
from twisted_rudp.raknet.packing import RUN_BYTES, RUN_DATAGRAMS, Packer
from twisted_rudp.raknet.profiles import Settings
from twisted_rudp.raknet.wire import HEADER_BYTES, HEADER_SIZE, MAX_PAYLOAD, Reliability

FRAME_HEADER = HEADER_BYTES[Reliability.RELIABLE_ORDERED]

STREAM_FRAME = FRAME_HEADER + 1
"""What a piece of the stream has in front of it in its frame, the user id included."""


class Bulk:
    """
    Sends runs of the stream, or of messages that are equally long.

    @ivar mss: bytes of the stream in each datagram.
    """

    __slots__ = (
        "_counters",
        "_datagram",
        "_flying",
        "_outbox",
        "_settings",
        "_stream",
        "_zero",
        "mss",
    )

    def __init__(
        self,
        settings: Settings,
        counters: Counters,
        flying: InFlight,
        stream: ByteQueue,
        outbox: Outbox,
        zero: SendChannel,
    ) -> None:
        """
        @param zero: channel 0.
        """
        self._settings = settings
        self._counters = counters
        self._flying = flying
        self._stream = stream
        self._outbox = outbox
        self._zero = zero

    def agree(self, datagram: int, whole: int) -> None:
        """
        @param datagram: bytes of a full one.
        @param whole: longest payload of a frame.
        """
        self._datagram = datagram
        self.mss = min(whole, MAX_PAYLOAD) - 1

    def send(self, now: int, packer: Packer, left: int, strict: bool) -> bool:
        """
        Send a run of what is next if that comes in runs.

        @param left: bytes of the budget; with C{strict} nothing may cross it, else a
            run that it still has begun is not cut short.
        @return: one was sent.
        """
        if not self._outbox.size:
            return self._stream.size > 0 and self._send_stream(now, packer, left, strict)
        following = self._outbox.next_batch()
        if following is None:
            return False
        return self._send_messages(*following, now, packer, left, strict)

    def frame(self) -> bytes:
        """All that is left of the stream, as one frame for any datagram."""
        data = self._stream.take(self._stream.size)
        order = self._zero.ordered()
        flying, user_id = self._flying, self._settings.user_id
        return frame_stream(0, flying.reliable, order, user_id, self.mss, data)[HEADER_SIZE:]

    def _room(self, size: int, per: int, left: int, strict: bool) -> int:
        """How many datagrams of this size, with so many frames, may leave now."""
        flying = self._flying
        room = flying.room // (size - HEADER_SIZE)
        if room < 1 and not flying.bytes:
            room = 1
        room = min(room, flying.frames_room // per, RUN_DATAGRAMS, RUN_BYTES // size)
        return min(room, left // size) if strict else room

    def _send_stream(self, now: int, packer: Packer, left: int, strict: bool) -> bool:
        flying, mss = self._flying, self.mss
        size = HEADER_SIZE + STREAM_FRAME + mss
        count = self._room(size, 1, left, strict)
        if count <= 0:
            return False
        data = self._stream.take(count * mss)
        count = -(-len(data) // mss)
        order = self._zero.ordered(count)
        number, reliable = flying.number, flying.reliable
        user_id = self._settings.user_id
        run = frame_stream(number, reliable, order, user_id, mss, data)

        def build(index: int) -> bytes:
            piece = memoryview(data)[index * mss : (index + 1) * mss]
            return frame_stream(
                number + index, reliable + index, order + index, user_id, mss, piece
            )

        self._launch(run, size, count, 1, build, now, packer)
        return True

    def _send_messages(
        self, batch: Batch, alone: bool, now: int, packer: Packer, left: int, strict: bool
    ) -> bool:
        """
        @param alone: nothing waits that could fill up the last datagram.
        """
        frame = FRAME_HEADER + batch.size
        per = max((self._datagram - HEADER_SIZE) // frame, 1) if self._settings.packed else 1
        waiting = len(batch.messages)
        if waiting < per:
            if not alone:
                return False
            per = waiting
        elif not alone:
            waiting -= waiting % per
        size = HEADER_SIZE + per * frame
        count = min(self._room(size, per, left, strict) * per, waiting)
        if count <= 0:
            return False
        flying, order = self._flying, batch.order
        number, reliable = flying.number, flying.reliable
        messages = self._outbox.cut(batch, count)
        run = frame_messages(number, reliable, order, per, messages)

        def build(index: int) -> bytes:
            at = index * per
            return frame_messages(
                number + index, reliable + at, order + at, per, messages[at : at + per]
            )

        self._launch(run, size, count, per, build, now, packer)
        return True

    def _launch(
        self,
        run: bytes,
        size: int,
        frames: int,
        per: int,
        build: Build,
        now: int,
        packer: Packer,
    ) -> None:
        flying = self._flying
        places = (flying.reliable, frames, per)
        flight = Run(flying.number, places, len(run), size, build)
        flight.sent = now
        count = flight.end - flight.first
        flying.sent(frames, len(run) - HEADER_SIZE * count)
        flying.launch(flight, now)
        self._counters.datagrams_sent += count
        packer.add_run(run, size)
