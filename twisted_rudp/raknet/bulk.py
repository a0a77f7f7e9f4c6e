"""
Bulk data: what is alike is put into datagrams, entered as in flight and given to the
port a run at a time. Its frames are reliable and ordered on channel 0; the slow path
of the peer, or ours, understands the same datagrams one by one.
"""

from __future__ import annotations

from twisted_rudp.core.batch import RunWriter, run_capacity
from twisted_rudp.core.queues import ByteQueue
from twisted_rudp.kernels import frame_messages, frame_stream
from twisted_rudp.raknet.order import SendChannel
from twisted_rudp.raknet.queue import MessageBatch, SendQueue
from twisted_rudp.raknet.sent import Build, SentBatch, SentPackets
from twisted_rudp.raknet.settings import Settings
from twisted_rudp.raknet.wire import FRAME_HEADER, HEADER_SIZE, MAX_PAYLOAD, STREAM_LEAD


class Bulk:
    """
    Sends runs of the stream, or of messages that are equally long.

    @ivar mss: bytes of the stream in each datagram.
    @ivar run: bytes of a whole run of the stream.
    """

    __slots__ = (
        "_datagram",
        "_queue",
        "_sent",
        "_settings",
        "_stream",
        "_zero",
        "mss",
        "run",
    )

    def __init__(
        self,
        settings: Settings,
        sent: SentPackets,
        stream: ByteQueue,
        queue: SendQueue,
        zero: SendChannel,
    ) -> None:
        """
        @param zero: channel 0.
        """
        self._settings = settings
        self._sent = sent
        self._stream = stream
        self._queue = queue
        self._zero = zero

    def agree(self, datagram: int, whole: int) -> None:
        """
        @param datagram: bytes of a full one.
        @param whole: longest payload of a frame.
        """
        self._datagram = datagram
        self.mss = min(whole, MAX_PAYLOAD) - 1
        size = STREAM_LEAD + self.mss
        self.run = run_capacity(size) * size

    def send_lone(self, now: int, writer: RunWriter, draining: bool, limited: bool) -> int:
        """
        Send all of the stream, which is no more than L{mss} bytes, in one datagram.

        @param draining: the controller's.
        @param limited: the application, not the window, has held the flow back.
        @return: bytes sent; 0 if the peer's window of numbers does not admit it.
        """
        sent = self._sent
        if sent.frames_room <= 0:
            return 0
        return self._send_pieces(1, now, writer, draining, limited)

    def send(self, now: int, writer: RunWriter, room: int, strict: bool, draining: bool) -> int:
        """
        Send a run of what is next if that comes in runs.

        @param room: bytes that may leave; with C{strict} no more, else at least a datagram.
        @param draining: the controller's.
        @return: bytes sent.
        """
        if not self._queue.size:
            if not self._stream.size:
                return 0
            return self._send_stream(now, writer, room, strict, draining)
        following = self._queue.next_batch()
        if following is None:
            return 0
        batch, alone = following
        return self._send_messages(batch, alone, now, writer, room, strict, draining)

    def frame(self) -> bytes:
        """All that is left of the stream, as one frame for any datagram."""
        data = self._stream.take(self._stream.size)
        order = self._zero.ordered()
        reliable, user_id = self._sent.reliable, self._settings.user_id
        return frame_stream(0, reliable, order, user_id, self.mss, data)[HEADER_SIZE:]

    def _count(self, size: int, per: int, room: int, strict: bool) -> int:
        """How many datagrams of this size, with so many frames, may leave now."""
        count = room // size
        if count < 1 and not strict:
            count = 1
        frames, capacity = self._sent.frames_room // per, run_capacity(size)
        if count > frames:
            count = frames
        return count if count < capacity else capacity

    def _send_stream(
        self, now: int, writer: RunWriter, room: int, strict: bool, draining: bool
    ) -> int:
        count = self._count(STREAM_LEAD + self.mss, 1, room, strict)
        if count <= 0:
            return 0
        return self._send_pieces(count, now, writer, draining)

    def _send_pieces(
        self, count: int, now: int, writer: RunWriter, draining: bool, limited: bool = False
    ) -> int:
        """
        Send so many pieces of the stream, or what there is.

        @param limited: there is room for more.
        @return: bytes sent.
        """
        sent, mss = self._sent, self.mss
        data = self._stream.take(count * mss)
        count = -(-len(data) // mss)
        order = self._zero.ordered(count)
        number, reliable = sent.recovery.next, sent.reliable
        user_id = self._settings.user_id
        run = frame_stream(number, reliable, order, user_id, mss, data)

        def build(index: int) -> bytes:
            piece = memoryview(data)[index * mss : (index + 1) * mss]
            return frame_stream(
                number + index, reliable + index, order + index, user_id, mss, piece
            )

        size = STREAM_LEAD + mss
        return self._enter(run, size, count, 1, build, now, writer, draining, limited)

    def _send_messages(
        self,
        batch: MessageBatch,
        alone: bool,
        now: int,
        writer: RunWriter,
        room: int,
        strict: bool,
        draining: bool,
    ) -> int:
        """
        @param alone: nothing waits that could fill up the last datagram.
        """
        frame = FRAME_HEADER + batch.size
        per = max((self._datagram - HEADER_SIZE) // frame, 1) if self._settings.packed else 1
        waiting = len(batch.messages)
        if waiting < per:
            if not alone:
                return 0
            per = waiting
        elif not alone:
            waiting -= waiting % per
        size = HEADER_SIZE + per * frame
        count = min(self._count(size, per, room, strict) * per, waiting)
        if count <= 0:
            return 0
        sent, order = self._sent, batch.order
        number, reliable = sent.number, sent.reliable
        messages = self._queue.cut(batch, count)
        run = frame_messages(number, reliable, order, per, messages)

        def build(index: int) -> bytes:
            at = index * per
            return frame_messages(
                number + index, reliable + at, order + at, per, messages[at : at + per]
            )

        return self._enter(run, size, count, per, build, now, writer, draining)

    def _enter(
        self,
        run: bytes,
        size: int,
        frames: int,
        per: int,
        build: Build,
        now: int,
        writer: RunWriter,
        draining: bool,
        limited: bool = False,
    ) -> int:
        sent, length = self._sent, len(run)
        number = sent.recovery.next
        batch = SentBatch(number, (sent.reliable, frames, per), length, size, build, now)
        last = length - (batch.end - number - 1) * size
        sent.enter(batch, now, size, last, draining, frames, limited)
        writer.add_run(run, size)
        return length
