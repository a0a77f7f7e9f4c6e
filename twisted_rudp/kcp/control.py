"""
What is said about the conversation itself: the verdict about the peer, window
probes, and the segments without data.
"""

from __future__ import annotations

import sys
from array import array
from enum import Enum, auto
from typing import Final

from twisted_rudp.kcp.wire import ACK, HEADER_SIZE, MARK, QUESTION, RESET, WASK, WINS, pack_header

PROBE_LIMIT: Final = 120_000
"""Longest wait between two window probes (kcp.md 1.3)."""

_WORD: Final = "I" if array("I").itemsize == 4 else "L"
_WORDS: Final = HEADER_SIZE // 4
_TS: Final = 2
_SN: Final = 3
"""A header is six words of 32 bits; where timestamp and number are."""


class Peer(Enum):
    """The verdict about the peer (kcp-close.md 2): does it know the mark?"""

    UNKNOWN = auto()
    MARKED = auto()
    UNMARKED = auto()


class Control:
    """
    State of the conversation apart from its data.

    @ivar peer: the verdict so far.
    @ivar heard: a valid segment of the peer has arrived.
    @ivar reset_heard: a valid reset has arrived.
    @ivar heard_controls: how many WASK and WINS have arrived; C{heard_ts} and
        C{heard_una} are those fields of the last.
    @ivar heard_question: the last was a listener's question who is there.
    @ivar ts_out: C{ts} of the WASK and WINS we send.
    @ivar echoes: such a question is answered with its cookie (kcp-close.md 14).
    @ivar ask: a WASK is to be sent; C{tell}: a WINS is.
    @ivar probe_wait: present wait between window probes, 0 while the peer's
        window is open; C{probe_due} is the clock at which the next is due.
    """

    __slots__ = (
        "_asked_ts",
        "_conv",
        "_first_wait",
        "_frg",
        "ask",
        "echoes",
        "heard",
        "heard_controls",
        "heard_question",
        "heard_ts",
        "heard_una",
        "peer",
        "probe_due",
        "probe_wait",
        "reset_heard",
        "tell",
        "ts_out",
    )

    def __init__(self, conv: int, marked: bool, first_wait: int) -> None:
        """
        @param marked: mark what we send.
        @param first_wait: how long a window of 0 is left alone before the first
            probe, in milliseconds.
        """
        self._conv = conv
        self._frg = MARK if marked else 0
        self._first_wait = first_wait
        self.peer = Peer.UNKNOWN
        self.heard = False
        self.reset_heard = False
        self.heard_controls = 0
        self.heard_ts = 0
        self.heard_una = 0
        self.ts_out = 0
        self.heard_question = False
        self.echoes = False
        self._asked_ts = 0
        self.ask = False
        self.tell = False
        self.probe_wait = 0
        self.probe_due = 0

    @property
    def marks(self) -> bool:
        """What we send is marked."""
        return self._frg == MARK

    def judge(self, frg: int) -> None:
        """Draw the conclusion from C{frg} of an ACK, WASK or WINS (kcp-close.md 2)."""
        if frg != MARK:
            self.peer = Peer.UNMARKED
        elif self.peer is Peer.UNKNOWN:
            self.peer = Peer.MARKED

    def receive(self, cmd: int, frg: int, ts: int, sn: int, una: int, regular: bool) -> None:
        """
        Take in a WASK or WINS; a reset has been found valid.

        @param regular: not rebuilt by FEC, so not old news.
        """
        if frg == RESET and cmd == WINS:
            self.reset_heard = True
            self.judge(MARK)
        else:
            self.judge(frg)
        if cmd == WASK:
            self.tell = True
        question = cmd == WASK and frg == MARK and sn == QUESTION
        if question and self.echoes:
            self._asked_ts = ts
        if regular:
            self.heard_question = question
            self.heard_controls += 1
            self.heard_ts = ts
            self.heard_una = una

    def probe(self, peer_window: int, now: int) -> None:
        """
        A flush begins: ask a peer whose window is 0, in growing intervals
        (kcp.md 1.11 step 2).
        """
        if peer_window:
            self.probe_wait = self.probe_due = 0
        elif not self.probe_wait:
            self.probe_wait = self._first_wait
            self.probe_due = now + self.probe_wait
        elif now >= self.probe_due:
            self.probe_wait = min(self.probe_wait + self.probe_wait // 2, PROBE_LIMIT)
            self.probe_due = now + self.probe_wait
            self.ask = True

    def acknowledgements(self, acks: list[tuple[int, int]], wnd: int, una: int) -> bytes:
        """An ACK segment for each pair of number and timestamp."""
        conv, frg = self._conv, self._frg
        if len(acks) == 1:
            sn, ts = acks[0]
            return pack_header(conv, ACK, frg, wnd, ts, sn, una, 0)
        # All but number and timestamp is the same in each.
        words = array(_WORD, pack_header(conv, ACK, frg, wnd, 0, 0, una, 0) * len(acks))
        numbers, times = array(_WORD), array(_WORD)
        numbers.extend([sn for sn, _ in acks])
        times.extend([ts for _, ts in acks])
        if sys.byteorder == "big":
            numbers.byteswap()
            times.byteswap()
        words[_TS::_WORDS], words[_SN::_WORDS] = times, numbers
        return words.tobytes()

    def windows(self, wnd: int, sn: int, una: int, space: int) -> bytes:
        """
        The WASK and WINS segments due; they count as sent.

        @param sn: our C{snd_nxt}; the first word carries 0 instead (kcp-close.md
            7.2 and 8).
        @param space: bytes they may take; what does not fit stays due.
        """
        segments = b""
        if self.ask and space >= HEADER_SIZE:
            self.ask = False
            space -= HEADER_SIZE
            number = sn if self.heard else 0
            segments += pack_header(
                self._conv, WASK, self._frg, wnd, self.ts_out, number, una, 0
            )
        if self.tell and space >= HEADER_SIZE:
            self.tell = False
            ts = self._asked_ts or self.ts_out
            self._asked_ts = 0
            segments += pack_header(self._conv, WINS, self._frg, wnd, ts, sn, una, 0)
        return segments
