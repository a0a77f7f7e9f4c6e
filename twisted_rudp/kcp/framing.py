"""Between the ARQ and the wire of one session: FEC both ways, copies, messages out of band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted_rudp.core.batch import RunWriter
from twisted_rudp.core.engine import Address, Buffer
from twisted_rudp.core.queues import OutOfBandQueue
from twisted_rudp.kcp.fec import (
    MOST_BYTES,
    OUT_OF_BAND_OVERHEAD,
    Decoder,
    Encoder,
    Piece,
    out_of_band_packet,
)
from twisted_rudp.kcp.mismatch import MismatchSigns, Sign
from twisted_rudp.kcp.settings import SessionOptions
from twisted_rudp.kcp.shapechange import (
    CONFIRM,
    Shape,
    ShapeSender,
    confirmation,
    is_beyond,
    is_newer,
    read_announcement,
)
from twisted_rudp.kcp.shapechoice import MEASURED, ParityChoice, ShapeChoice
from twisted_rudp.kcp.snmp import SessionCounters
from twisted_rudp.kcp.wire import pack_wins

MESSAGE: Final = 0
"""First byte of the payload of a WINS that is an out-of-band message (kcp-close.md 15)."""

_MESSAGE: Final = bytes((MESSAGE,))


SETTLED: Final = 256
"""Packets of a new shape without one of the shape before: that one is over."""


class _Change:
    """
    A shape that the peer has announced (kcp-close.md 18) and the one before it.

    @ivar before: decodes what lies before C{first}; C{after} the rest.
    @ivar first: sequence id from which the new shape holds.
    @ivar used: something has come in the new shape.
    @ivar settled: packets that have come in it since the last of the shape before.
    """

    __slots__ = ("after", "before", "first", "settled", "used")

    def __init__(self, before: Decoder, after: Decoder, first: int) -> None:
        self.before = before
        self.after = after
        self.first = first
        self.used = False
        self.settled = 0


class Framing:
    """
    The FEC of one session. What comes is understood with it and without,
    whatever is sent here.

    @ivar encoder: None: datagrams leave bare.
    @ivar decoder: None until a packet with FEC has come.
    @ivar shapes: changes the shape of what is sent; None: it stays.
    @ivar answer: confirms a shape of the peer's and is to be sent; empty: there is none.
    @ivar heard: shapes of the peer's that were taken in.
    @ivar refused: what was said about shapes and did not fit.
    """

    __slots__ = (
        "_address",
        "_change",
        "_choice",
        "_data",
        "_form_noted",
        "_limit",
        "_parity",
        "_shape",
        "_shards_noted",
        "_signs",
        "_traffic",
        "answer",
        "decoder",
        "encoder",
        "heard",
        "refused",
        "shapes",
    )

    def __init__(
        self,
        options: SessionOptions,
        listening: bool,
        address: Address,
        signs: MismatchSigns,
        traffic: SessionCounters,
        thrifty: bool = False,
    ) -> None:
        """
        @param signs: is told if the peer does otherwise.
        @param traffic: is given the decoder's counters.
        @param thrifty: of what C{fec=auto} does: little parity counts more than little delay.
        """
        self._data = options.data_shards
        self._parity = options.parity_shards
        self._address = address
        self._signs = signs
        self._traffic = traffic
        self._form_noted = self._shards_noted = False
        self._limit = MOST_BYTES
        self.encoder: Encoder | None = None
        self.decoder: Decoder | None = None
        if options.protects:
            # A listener's first group went to the answer that its demultiplexer gave
            # before there was a session.
            first = self._data + self._parity if listening else 0
            self.encoder = Encoder(self._data, self._parity, options.always_parity, first)
        self.shapes: ShapeSender | None = None
        if self.encoder is not None and options.fec == "auto":
            self.shapes = ShapeSender(self.encoder, ShapeChoice(thrifty))
        self._choice = ParityChoice() if options.fec == "reduced" else None
        self.answer = b""
        self.heard = 0
        self.refused = 0
        self._shape: Shape | None = None
        self._change: _Change | None = None

    def bound(self, limit: int) -> None:
        """Keep no more bytes than this for groups of which something is missing."""
        self._limit = limit
        change = self._change
        if change is not None:
            change.before.limit = change.after.limit = limit // 2
        elif self.decoder is not None:
            self.decoder.limit = limit

    # shapes that change (kcp-close.md 18)

    def receive_shape(self, payload: bytes, now: int, round_trip: int) -> None:
        """Take in what a marked, validated peer says about shapes: its own, or ours."""
        if payload[0] == CONFIRM:
            shapes = self.shapes
            if shapes is None or not shapes.receive(payload, now, round_trip):
                self.refused += 1
            return
        shape = read_announcement(payload)
        known = self._shape
        if shape is None:
            self.refused += 1
        elif known is None or is_newer(shape.generation, known.generation):
            self._follow(shape)
        elif shape != known:
            self.refused += 1
        if shape is not None and shape == self._shape:
            decoder = self._made()
            self.answer = confirmation(shape, decoder.missed, decoder.runs)

    def _follow(self, shape: Shape) -> None:
        """The peer has announced another shape."""
        self._shape = shape
        self.heard += 1
        change = self._change
        if change is not None and change.used:
            # Who announces the next one has changed over to this one long ago.
            self._settle(change)
        before = self._made()
        after = Decoder(shape.data, shape.parity, agreed=True)
        self._change = _Change(before, after, shape.first)
        self.bound(self._limit)

    def _made(self) -> Decoder:
        """The present decoder, made now if there was none."""
        if self.decoder is None:
            self.decoder = Decoder(self._data or 1, self._parity or 1, self._limit)
            self._traffic.decoder = self.decoder
        return self.decoder

    def _use(self, change: _Change) -> None:
        """The first packet of a new shape has come."""
        change.used = True
        change.after.absorb(change.before)
        self.decoder = self._traffic.decoder = change.after

    def _settle(self, change: _Change) -> None:
        """No packet of the shape before is waited for any more."""
        change.after.absorb(change.before)
        self._change = None
        self.bound(self._limit)

    def _decode_across(self, change: _Change, run: Buffer, size: int) -> list[Piece]:
        """As L{decode} while packets of two shapes may come."""
        view = memoryview(run)
        pieces: list[Piece] = []
        start, total = 0, len(view)
        while start < total:
            new = is_beyond(view[start : start + 4], change.first)
            end = start + size
            while end < total and is_beyond(view[end : end + 4], change.first) == new:
                end += size
            part = view[start:end]
            start = end
            if not new:
                change.settled = 0
                pieces += change.before.decode(part, size)
                continue
            if not change.used:
                self._use(change)
            pieces += change.after.decode(part, size)
            change.settled += -(-len(part) // size)
        if change.settled >= SETTLED:
            self._settle(change)
        return pieces

    def measure(self, now: int, repeated: int) -> None:
        """
        Reduce parity where C{fec=reduced} allows it.

        @param repeated: segments that were sent again so far.
        """
        choice, encoder = self._choice, self.encoder
        if (
            choice is not None
            and encoder is not None
            and encoder.numbered - choice.numbered >= MEASURED
        ):
            shape = encoder.data, encoder.parity
            encoder.carried = choice.measure(now, encoder.numbered, repeated, shape)

    def note_bare(self) -> None:
        """Bare datagrams have come."""
        if self.encoder is not None:
            self._note_form(Sign.PEER_WITHOUT_FEC)

    def decode(self, run: Buffer, size: int) -> Sequence[Piece]:
        """The datagrams in a run of FEC packets, and those that were rebuilt."""
        if self.encoder is None:
            self._note_form(Sign.PEER_WITH_FEC)
        if self._change is not None:
            return self._decode_across(self._change, run, size)
        decoder = self._made()
        pieces = decoder.decode(run, size)
        if decoder.tunings and self.encoder is not None and not self._shards_noted:
            self._shards_noted = True
            self._signs.note(Sign.OTHER_SHARDS, self._address)
        return pieces

    def _note_form(self, sign: Sign) -> None:
        if not self._form_noted:
            self._form_noted = True
            self._signs.note(sign, self._address)

    def write(
        self, run: Buffer, size: int, now: int, writer: RunWriter, validated: bool, copies: int
    ) -> bool:
        """
        Frame a run.

        @param validated: what is redundant may be sent too.
        @param copies: so often.
        @return: whether there is room for more.
        """
        if self.encoder is not None:
            self.encoder.encode(run, size, now, writer, validated, copies)
        else:
            view = memoryview(run)
            for start in range(0, len(view), size):
                for _ in range(copies):
                    writer.add(view[start : start + size])
        return not writer.blocked


class OutOfBand:
    """
    The out-of-band messages of one session, both ways: towards kcp-go as packets of FEC
    (kcp.md 5.5), towards a marked peer in segments (kcp-close.md 15).

    @ivar outgoing: those to be sent.
    @ivar incoming: those that came and were not taken.
    """

    __slots__ = ("_conv", "incoming", "outgoing")

    def __init__(self, conv: int) -> None:
        self._conv = conv
        self.outgoing = OutOfBandQueue()
        self.incoming = OutOfBandQueue()

    @property
    def pending(self) -> bool:
        """There is something to send."""
        return self.outgoing.count > 0

    @property
    def dropped(self) -> int:
        """Messages of both ways that made room for newer ones."""
        return self.outgoing.dropped + self.incoming.dropped

    def receive(self, view: memoryview, size: int) -> int:
        """
        Take in a run of out-of-band packets.

        @return: how many there were.
        """
        starts = range(0, len(view), size)
        for start in starts:
            self.incoming.put(bytes(view[start + OUT_OF_BAND_OVERHEAD : start + size]))
        return len(starts)

    def receive_segments(self, payloads: list[bytes]) -> int:
        """
        Take in the payloads of segments, and empty the list.

        @return: how many messages there were.
        """
        count = 0
        for payload in payloads:
            if payload[0] == MESSAGE:
                self.incoming.put(payload[1:])
                count += 1
        payloads.clear()
        return count

    def put(self, data: bytes, longest: int) -> None:
        """
        Keep a message until the next flush.

        @raise ValueError: it has more than C{longest} bytes.
        """
        if len(data) > longest:
            raise ValueError(f"an out-of-band message of {len(data)} bytes: at most {longest} fit")
        self.outgoing.put(bytes(data))

    def flush(self, writer: RunWriter) -> None:
        """Write the outgoing messages, as packets of FEC."""
        while self.outgoing.count and not writer.blocked:
            writer.add(out_of_band_packet(self._conv, self.outgoing.take()))

    def flush_segments(self, writer: RunWriter, wnd: int, sn: int, una: int) -> int:
        """
        Write the outgoing messages, each in a segment and each segment in a datagram.

        @return: how many.
        """
        count = 0
        while self.outgoing.count and not writer.blocked:
            writer.add(pack_wins(self._conv, wnd, sn, una, _MESSAGE + self.outgoing.take()))
            count += 1
        return count
