"""Between the ARQ and the wire of one session: FEC both ways, copies, messages out of band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted_rudp.core.batch import RunWriter
from twisted_rudp.core.engine import Address, Buffer
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
from twisted_rudp.kcp.snmp import SessionCounters

OUT_OF_BAND_BYTES: Final = 64 * 1500
"""Bytes of out-of-band messages that wait, but for the last one."""

OUT_OF_BAND_HELD: Final = 64
"""Out-of-band messages kept each way; the oldest goes first: they are not worth waiting for."""


class Framing:
    """
    The FEC of one session. What comes is understood with it and without,
    whatever is sent here.

    @ivar encoder: None: datagrams leave bare.
    @ivar decoder: None until a packet with FEC has come.
    """

    __slots__ = (
        "_address",
        "_data",
        "_form_noted",
        "_limit",
        "_parity",
        "_shards_noted",
        "_signs",
        "_traffic",
        "decoder",
        "encoder",
    )

    def __init__(
        self,
        options: SessionOptions,
        listening: bool,
        address: Address,
        signs: MismatchSigns,
        traffic: SessionCounters,
    ) -> None:
        """
        @param signs: is told if the peer does otherwise.
        @param traffic: is given the decoder's counters.
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

    def bound(self, limit: int) -> None:
        """Keep no more bytes than this for groups of which something is missing."""
        self._limit = limit
        if self.decoder is not None:
            self.decoder.limit = limit

    def note_bare(self) -> None:
        """Bare datagrams have come."""
        if self.encoder is not None:
            self._note_form(Sign.PEER_WITHOUT_FEC)

    def decode(self, run: Buffer, size: int) -> Sequence[Piece]:
        """The datagrams in a run of FEC packets, and those that were rebuilt."""
        if self.encoder is None:
            self._note_form(Sign.PEER_WITH_FEC)
        decoder = self.decoder
        if decoder is None:
            decoder = Decoder(self._data or 1, self._parity or 1, self._limit)
            self.decoder = self._traffic.decoder = decoder
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
    The out-of-band messages of one session, both ways.

    @ivar heard: those that came and were not taken.
    """

    __slots__ = ("_conv", "_said", "heard")

    def __init__(self, conv: int) -> None:
        self._conv = conv
        # Lists, because most sessions have none of either and an empty deque is large.
        self._said: list[bytes] = []
        self.heard: list[bytes] = []

    def hear(self, view: memoryview, size: int) -> int:
        """
        Take in a run of out-of-band packets.

        @return: how many there were.
        """
        starts = range(0, len(view), size)
        for start in starts:
            _keep(self.heard, bytes(view[start + OUT_OF_BAND_OVERHEAD : start + size]))
        return len(starts)

    def say(self, data: bytes, longest: int) -> None:
        """
        Keep a message until the next flush.

        @raise ValueError: it has more than C{longest} bytes.
        """
        if len(data) > longest:
            raise ValueError(f"an out-of-band message of {len(data)} bytes: at most {longest} fit")
        _keep(self._said, bytes(data))

    def flush(self, writer: RunWriter) -> None:
        """Write what was said."""
        for data in self._said:
            writer.add(out_of_band_packet(self._conv, data))
        self._said.clear()


def _keep(messages: list[bytes], message: bytes) -> None:
    messages.append(message)
    size = sum(map(len, messages))
    while len(messages) > OUT_OF_BAND_HELD or (size > OUT_OF_BAND_BYTES and len(messages) > 1):
        size -= len(messages.pop(0))
