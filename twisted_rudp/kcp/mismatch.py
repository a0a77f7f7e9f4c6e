"""
The most likely mismatch between two ends, judged by what fails here.

Every datagram that cannot be used leaves a L{Sign}. Now and then the most frequent sign is
reported; L{MEANINGS} says what it means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType
from typing import Final, NamedTuple
from zlib import crc32

from twisted_rudp.core.engine import Address
from twisted_rudp.kcp.fec import DATA, FEC_OVERHEAD, KIND_OFFSET, is_framed
from twisted_rudp.kcp.wire import HEADER_SIZE, PUSH, WINS, Segment, segments, unpack_header
from twisted_rudp.kernels.pure import Buffer
from twisted_rudp.kernels.pure_framing import CHECKED_OVERHEAD, NONCE_SIZE

ENOUGH_LOOKED_AT: Final = 64
"""Failures examined between two reports; more are only counted."""


class Sign(Enum):
    """What is wrong with a datagram or a session."""

    OTHER_KEY = auto()
    PEER_ENCRYPTS = auto()
    PEER_DOES_NOT_ENCRYPT = auto()
    PEER_USES_NONE = auto()
    PEER_WITHOUT_FEC = auto()
    PEER_WITH_FEC = auto()
    OTHER_SHARDS = auto()
    OTHER_CONVERSATION = auto()
    CUT_SHORT = auto()
    COMPRESSED = auto()
    MULTIPLEXED = auto()


class Meaning(NamedTuple):
    """
    @ivar counter: name under which verdicts are counted.
    @ivar least: so many signs make a verdict; a single stray datagram of the
        wide internet does not.
    @ivar text: what is most likely, to follow what was seen.
    """

    counter: str
    least: int
    text: str


MEANINGS: Final[Mapping[Sign, Meaning]] = MappingProxyType(
    {
        Sign.OTHER_KEY: Meaning(
            "mismatch.key",
            3,
            "the peer uses a different key or cipher (kcptun's key is password= in a string)",
        ),
        Sign.PEER_ENCRYPTS: Meaning(
            "mismatch.crypt",
            3,
            "the peer encrypts and this side does not: give both the same crypt and key",
        ),
        Sign.PEER_DOES_NOT_ENCRYPT: Meaning(
            "mismatch.crypt",
            3,
            "the peer does not encrypt (crypt=null) and this side does",
        ),
        Sign.PEER_USES_NONE: Meaning(
            "mismatch.crypt",
            3,
            "the peer uses crypt=none, which is not null: it adds a header of 20 bytes",
        ),
        Sign.PEER_WITHOUT_FEC: Meaning(
            "mismatch.fec",
            1,
            "the peer sends without FEC and this side with it; kcp-go before 5.6 cannot read that,"
            " and 5.6.1 misreads some of it: give both the same dataShards and parityShards",
        ),
        Sign.PEER_WITH_FEC: Meaning(
            "mismatch.fec",
            1,
            "the peer sends with FEC and this side without; kcp-go before 5.6 cannot read that:"
            " give both the same dataShards and parityShards",
        ),
        Sign.OTHER_SHARDS: Meaning(
            "mismatch.shards",
            1,
            "the peer's dataShards and parityShards are different; they were adopted for"
            " receiving",
        ),
        Sign.OTHER_CONVERSATION: Meaning(
            "mismatch.conversation",
            3,
            "the peer uses another conversation: it was restarted, or it or something between"
            " has mixed up sessions",
        ),
        Sign.CUT_SHORT: Meaning(
            "mismatch.mtu",
            3,
            "datagrams are truncated on the way: lower mtu on the sending side",
        ),
        Sign.COMPRESSED: Meaning(
            "mismatch.compression",
            1,
            "the peer is a kcptun: kcptun: instead of kcp: understands it, and so do"
            " rudp kcptun-client and rudp kcptun-server",
        ),
        Sign.MULTIPLEXED: Meaning(
            "mismatch.multiplexing",
            1,
            "the peer is a kcptun without compression: kcptun: with nocomp=yes instead of kcp:"
            " understands it",
        ),
    }
)


class _Form(Enum):
    """What a datagram looks like from outside."""

    KCP = auto()
    CUT = auto()
    FRAMED = auto()
    NONE_HEADER = auto()
    NOISE = auto()


_UNOPENED: Final[Mapping[_Form, Sign]] = MappingProxyType(
    {
        _Form.KCP: Sign.PEER_DOES_NOT_ENCRYPT,
        _Form.CUT: Sign.PEER_DOES_NOT_ENCRYPT,
        _Form.FRAMED: Sign.PEER_DOES_NOT_ENCRYPT,
        _Form.NONE_HEADER: Sign.PEER_USES_NONE,
        _Form.NOISE: Sign.OTHER_KEY,
    }
)
"""A cipher here could not open it."""

_UNREAD: Final[Mapping[_Form, Sign | None]] = MappingProxyType(
    {
        _Form.KCP: None,
        _Form.CUT: Sign.CUT_SHORT,
        _Form.FRAMED: None,
        _Form.NONE_HEADER: Sign.PEER_USES_NONE,
        _Form.NOISE: Sign.PEER_ENCRYPTS,
    }
)
"""Nothing is encrypted here, or it was opened, and it makes no sense."""

SNAPPY_START: Final = bytes.fromhex("ff060000734e61507059")
_SMUX_VERSIONS: Final = (1, 2)
_SMUX_FIRST_STREAMS: Final = (0, 2, 3)
_SMUX_LARGEST_COMMAND: Final = 4


class MismatchSigns:
    """Collects the signs of one socket."""

    def __init__(self, layered: bool = False) -> None:
        """
        @param layered: a multiplexer reads what comes, and knows best whether it fits.
        """
        self._layered = layered
        self._signs: Counter[Sign] = Counter()
        self._last: dict[Sign, Address] = {}
        self._looked_at = 0
        self._verdicts: Counter[str] = Counter()

    def note(self, sign: Sign, address: Address) -> None:
        """Something showed."""
        self._signs[sign] += 1
        self._last[sign] = address

    def unopened(self, datagram: Buffer, address: Address) -> None:
        """The cipher of this side could not open a datagram."""
        if self._may_look():
            self.note(_UNOPENED[_form(datagram)], address)

    def unread(self, datagram: Buffer, address: Address) -> None:
        """A datagram is in clear and is not understood."""
        if self._may_look():
            sign = _UNREAD[_form(datagram)]
            if sign is not None:
                self.note(sign, address)

    def first_bytes(self, data: Buffer, address: Address) -> None:
        """The beginning of what an application is given."""
        if self._layered:
            return
        if data[: len(SNAPPY_START)] == SNAPPY_START:
            self.note(Sign.COMPRESSED, address)
        elif (
            len(data) >= 8
            and data[0] in _SMUX_VERSIONS
            and data[1] <= _SMUX_LARGEST_COMMAND
            and int.from_bytes(data[4:8], "little") in _SMUX_FIRST_STREAMS
            and data[1:4] in (b"\0\0\0", b"\3\0\0")
        ):
            self.note(Sign.MULTIPLEXED, address)

    def verdict(self) -> str | None:
        """
        The most frequent sign in words, if there were enough of it. It is
        counted, and all is begun anew.
        """
        for sign, count in self._signs.most_common():
            meaning = MEANINGS[sign]
            if count >= meaning.least:
                self._verdicts[meaning.counter] += 1
                host, port = self._last[sign][:2]
                self._signs.clear()
                self._last.clear()
                self._looked_at = 0
                return f"{count} times, last from {host} port {port}: {meaning.text}"
        return None

    def counters(self) -> Mapping[str, int]:
        """How often each verdict was given."""
        return dict(self._verdicts)

    def _may_look(self) -> bool:
        self._looked_at += 1
        return self._looked_at <= ENOUGH_LOOKED_AT


def _form(datagram: Buffer) -> _Form:
    """Guess from the structure alone."""
    data = bytes(datagram)
    if is_framed(data):
        known = data[KIND_OFFSET] != DATA or _looks_like_kcp(data[FEC_OVERHEAD:])
        if known:
            return _Form.FRAMED
    if _looks_like_kcp(data):
        whole = sum(HEADER_SIZE + one.length for one in segments(data)) == len(data)
        return _Form.KCP if whole else _Form.CUT
    body = data[CHECKED_OVERHEAD:]
    check = data[NONCE_SIZE:CHECKED_OVERHEAD]
    if body and crc32(body) == int.from_bytes(check, "little"):
        return _Form.NONE_HEADER
    return _Form.NOISE


def _looks_like_kcp(data: bytes) -> bool:
    """
    A segment header that makes sense stands in front; one chance in ten million
    for anything else.
    """
    if len(data) < HEADER_SIZE:
        return False
    header = Segment._make(unpack_header(data, 0))
    return PUSH <= header.cmd <= WINS and header.length < 1 << 16
