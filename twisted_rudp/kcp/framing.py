"""Between the ARQ and the wire of one session: FEC both ways, copies, messages out of band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted_rudp.core.batch import RunWriter
from twisted_rudp.core.engine import Address, Buffer
from twisted_rudp.core.outofband import OutOfBandQueue
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
from twisted_rudp.kcp.wire import MARK, WINS, pack_header

MESSAGE: Final = 0
"""First byte of the payload of a WINS that is an out-of-band message (kcp-close.md 15)."""

_MESSAGE: Final = bytes((MESSAGE,))


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
    The out-of-band messages of one session, both ways: towards kcp-go as packets of FEC
    (kcp.md 5.5), towards a marked peer in segments (kcp-close.md 15).

    @ivar said: those to be sent.
    @ivar heard: those that came and were not taken.
    """

    __slots__ = ("_conv", "heard", "said")

    def __init__(self, conv: int) -> None:
        self._conv = conv
        self.said = OutOfBandQueue()
        self.heard = OutOfBandQueue()

    @property
    def pending(self) -> bool:
        """There is something to send."""
        return len(self.said) > 0

    @property
    def dropped(self) -> int:
        """Messages of both ways that made room for newer ones."""
        return self.said.dropped + self.heard.dropped

    def hear(self, view: memoryview, size: int) -> int:
        """
        Take in a run of out-of-band packets.

        @return: how many there were.
        """
        starts = range(0, len(view), size)
        for start in starts:
            self.heard.put(bytes(view[start + OUT_OF_BAND_OVERHEAD : start + size]))
        return len(starts)

    def hear_segments(self, payloads: list[bytes]) -> int:
        """
        Take in the payloads of segments, and empty the list.

        @return: how many messages there were.
        """
        count = 0
        for payload in payloads:
            if payload[0] == MESSAGE:
                self.heard.put(payload[1:])
                count += 1
        payloads.clear()
        return count

    def say(self, data: bytes, longest: int) -> None:
        """
        Keep a message until the next flush.

        @raise ValueError: it has more than C{longest} bytes.
        """
        if len(data) > longest:
            raise ValueError(f"an out-of-band message of {len(data)} bytes: at most {longest} fit")
        self.said.put(bytes(data))

    def flush(self, writer: RunWriter) -> None:
        """Write what was said, as packets of FEC."""
        while self.said and not writer.blocked:
            writer.add(out_of_band_packet(self._conv, self.said.take()))

    def flush_segments(self, writer: RunWriter, wnd: int, sn: int, una: int) -> int:
        """
        Write what was said, each message in a segment and each segment in a datagram.

        @return: how many.
        """
        count = 0
        while self.said and not writer.blocked:
            data = self.said.take()
            head = pack_header(self._conv, WINS, MARK, wnd, 0, sn, una, len(data) + 1)
            writer.add(head + _MESSAGE + data)
            count += 1
        return count
