"""
Peers that completed the handshake honestly and then do not play by the rules: what they send, by
transport and kind, and what it costs the other end.
"""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.kcp.pair import CONV
from tests.kcp.pair import Pair as KCPPair
from tests.kcp.segments import Segment as KCPSegment
from tests.kcp.segments import parse
from tests.pair import CLIENT
from tests.qotp.pair import Pair as QOTPPair
from tests.raknet.frames import pack_frame
from tests.raknet.pair import MESSAGES
from tests.raknet.pair import Pair as RakNetPair
from twisted_rudp.kcp.wire import ACK, MARK, PUSH, RESET, WASK, WINS
from twisted_rudp.qotp.extensions import CHALLENGE, CONTROL, encode_ranges, range_ack
from twisted_rudp.qotp.protection import INITIATOR, Cipher
from twisted_rudp.qotp.wire import Ack, Kind, Segment, encode, prefix_of
from twisted_rudp.raknet.wire import ACK as ACKS
from twisted_rudp.raknet.wire import (
    NACK,
    Frame,
    MessageId,
    Reliability,
    Split,
    pack_header,
    pack_ping,
    pack_records,
)

BULK = 8 << 20
"""Bytes that the victim has to send where it is to send something."""


class Victim:
    """
    The server's end of a connection whose client does as it likes.

    @ivar seen: how much of what the victim has sent the attacker has looked at.
    """

    def __init__(self, pair: Any, bulk: bool) -> None:
        self.pair = pair
        self.chance = random.Random(1)
        pair.connect()
        self.near = pair.server
        self.engine = pair.server.engine
        pair.fates["server"] = lambda number, datagram: ()
        # The honest client is silent from here on.
        pair.client.engines.clear()
        self.seen = len(self.near.sent)
        if bulk:
            self.engine.write(0, bytes(BULK))
            self.near.turn(self.engine)

    def news(self) -> list[bytes]:
        """What the victim has sent since the last time."""
        found = self.near.sent[self.seen :]
        self.seen += len(found)
        return found


Attack = Callable[[Any, int], bytes]
"""The victim and how many datagrams came before -> the next one."""

# KCP


def _kcp(cmd: int, frg: int, wnd: int, ts: int, sn: int, una: int, data: bytes = b"") -> bytes:
    return KCPSegment(CONV, cmd, frg, wnd, ts & 0xFFFFFFFF, sn, una, data).pack()


def _kcp_acks(victim: Victim, number: int) -> bytes:
    """Acknowledgements of what may have been sent, with timestamps of nobody's."""
    return b"".join(
        _kcp(ACK, MARK, 1024, victim.chance.getrandbits(32), number * 50 + each, 0)
        for each in range(50)
    )


def _kcp_optimistic(victim: Victim, number: int) -> bytes:
    """All that was sent has arrived, says the peer, at once."""
    pushes = [each for d in victim.news() for each in parse(d) if each.cmd == PUSH]
    if not pushes:
        return _kcp(ACK, MARK, 65535, 0, 0, 0)
    una = (max(each.sn for each in pushes) + 1) & 0xFFFFFFFF
    return b"".join(_kcp(ACK, MARK, 65535, each.ts, each.sn, una) for each in pushes[-50:])


def _kcp_unsent(victim: Victim, number: int) -> bytes:
    """What was never sent has arrived."""
    return _kcp(ACK, MARK, 65535, number, 100_000 + number, 200_000 + number)


def _kcp_windows(victim: Victim, number: int) -> bytes:
    """The window is closed, and open, and closed."""
    return _kcp(WINS, MARK, 65535 * (number % 2), 0, 0, 0)


def _kcp_holes(victim: Victim, number: int) -> bytes:
    """Single bytes, every other one, and never the first."""
    return _kcp(PUSH, 0, 1024, number, 1 + 2 * number % 1000, 0, b"x")


def _kcp_tiny(victim: Victim, number: int) -> bytes:
    """Single bytes, in order."""
    return _kcp(PUSH, 0, 1024, number, number, 0, b"x")


def _kcp_empty(victim: Victim, number: int) -> bytes:
    """As many empty segments as a datagram takes."""
    return b"".join(_kcp(PUSH, 0, 1024, 0, number * 58 + each, 0) for each in range(58))


def _kcp_probes(victim: Victim, number: int) -> bytes:
    """What is your window?"""
    return _kcp(WASK, MARK, 1024, 0, 0, 0)


def _kcp_resets(victim: Victim, number: int) -> bytes:
    """Resets with numbers of nobody's."""
    return _kcp(WINS, RESET, 0, 0, 5_000_000 + number, 5_000_000)


# RakNet


def _frame(reliability: Reliability, index: int, payload: bytes, **named: Any) -> bytes:
    return pack_frame(Frame(reliability, payload, reliable=index, sequence=0, **named))


def _raknet_acks(victim: Victim, number: int) -> bytes:
    """Acknowledgements of everything there can be, in a hundred records."""
    ranges = [(50 * each, 50 * each + 40) for each in range(100)]
    return pack_records(ACKS, ranges, 1400)[0]


def _raknet_optimistic(victim: Victim, number: int) -> bytes:
    """All that was sent has arrived, says the peer, at once."""
    numbers = [int.from_bytes(d[1:4], "little") for d in victim.news() if d[0] & 0xE0 == 0x80]
    return pack_records(ACKS, [(0, max(numbers, default=0) + 1)], 1400)[0]


def _raknet_nacks(victim: Victim, number: int) -> bytes:
    """Nothing that was sent has arrived, says the peer."""
    return pack_records(NACK, [(0, 1 << 23)], 1400)[0]


def _raknet_holes(victim: Victim, number: int) -> bytes:
    """Datagrams with gaps between their numbers."""
    return pack_header(10 + 2 * number) + _frame(Reliability.UNRELIABLE, 0, b"\xfe")


def _raknet_unreliable(victim: Victim, number: int) -> bytes:
    """Long unreliable messages, to an application that reads none."""
    return pack_header(10 + number) + _frame(Reliability.UNRELIABLE, 0, b"\xfe" * 1300)


def _raknet_jumps(victim: Victim, number: int) -> bytes:
    """Datagrams far ahead of those before."""
    return pack_header(10 + 40_000 * number) + _frame(Reliability.UNRELIABLE, 0, b"\xfe")


def _raknet_order(victim: Victim, number: int) -> bytes:
    """Ordered messages of which the first never comes, on all channels."""
    return pack_header(10 + number) + _frame(
        Reliability.RELIABLE_ORDERED,
        10 + number,
        b"\xfe",
        order=1 + number // 32,
        channel=number % 32,
    )


def _raknet_splits(victim: Victim, number: int) -> bytes:
    """Fragments of one byte, of many messages."""
    return pack_header(10 + number) + _frame(
        Reliability.RELIABLE, 10 + number, b"\xfe", split=Split(2048, number % 64, number // 64)
    )


def _raknet_tiny(victim: Victim, number: int) -> bytes:
    """A hundred messages of a byte in a datagram."""
    frames = (
        _frame(
            Reliability.RELIABLE_ORDERED,
            10 + number * 100 + n,
            b"\xfe",
            order=1 + number * 100 + n,
            channel=0,
        )
        for n in range(100)
    )
    return pack_header(10 + number) + b"".join(frames)


def _raknet_pings(victim: Victim, number: int) -> bytes:
    """Pings, as many as a datagram takes."""
    frames = (_frame(Reliability.UNRELIABLE, 0, pack_ping(number)) for _ in range(100))
    return pack_header(10 + number) + b"".join(frames)


def _raknet_requests(victim: Victim, number: int) -> bytes:
    """The connection request again."""
    body = bytes((MessageId.CONNECTION_REQUEST,)) + bytes(17)
    return pack_header(10 + number) + _frame(Reliability.UNRELIABLE, 0, body)


# QOTP


def _seal(victim: Any, number: int, ack: Ack | None, segment: Segment | None) -> bytes:
    pair = victim.pair
    name, secrets = next(iter(pair.secrets.items()))
    prefix = prefix_of(Kind.DATA, name, *secrets.initiator)
    payload = encode(ack, segment)
    return Cipher(secrets.session).seal(prefix, 1000 + number, INITIATOR, payload.ljust(8, b"\0"))


def _latest(victim: Any) -> int:
    return int(victim.engine.counters().get("datagrams_out", 0))


def _qotp_acks(victim: Victim, number: int) -> bytes:
    """Acknowledgements in as many pieces as there may be."""
    ranges = [(3 * each, 3 * each + 1) for each in range(64, 0, -1)]
    body = encode_ranges(200, ranges)
    return _seal(victim, number, range_ack(200, 201, 1 << 20), Segment(CONTROL, 0, body))


def _qotp_optimistic(victim: Victim, number: int) -> bytes:
    """All that was sent has arrived, says the peer, at once."""
    return _seal(victim, number, range_ack(0, _latest(victim), 1 << 24), None)


def _qotp_unsent(victim: Victim, number: int) -> bytes:
    """What was never sent has arrived."""
    return _seal(victim, number, range_ack(0, _latest(victim) + 500, 1 << 24), None)


def _qotp_windows(victim: Victim, number: int) -> bytes:
    """The window is closed, and open, and closed."""
    return _seal(victim, number, Ack(CONTROL, 0, 0, (1 << 24) * (number % 2)), None)


def _qotp_streams(victim: Victim, number: int) -> bytes:
    """Streams that are opened and left."""
    return _seal(victim, number, None, Segment(2 * number + 2, 0, b"x"))


def _qotp_holes(victim: Victim, number: int) -> bytes:
    """Single bytes, every other one, and never the first."""
    return _seal(victim, number, None, Segment(0, 1 + 2 * number, b"x"))


def _qotp_tiny(victim: Victim, number: int) -> bytes:
    """Single bytes, in order."""
    return _seal(victim, number, None, Segment(0, number, b"x"))


def _qotp_pings(victim: Victim, number: int) -> bytes:
    """Challenges of the victim's address."""
    return _seal(victim, number, None, Segment(CONTROL, CHALLENGE + number, b""))


def _qotp_numbers(victim: Victim, number: int) -> bytes:
    """Packet numbers with gaps."""
    return _seal(victim, 3 * number, None, Segment(0, 0, b""))


ATTACKS: dict[str, dict[str, tuple[Attack, bool]]] = {
    "kcp": {
        "acknowledgements": (_kcp_acks, True),
        "optimistic": (_kcp_optimistic, True),
        "of the unsent": (_kcp_unsent, True),
        "windows": (_kcp_windows, True),
        "holes": (_kcp_holes, False),
        "tiny data": (_kcp_tiny, False),
        "empty data": (_kcp_empty, False),
        "window probes": (_kcp_probes, False),
        "resets": (_kcp_resets, False),
    },
    "raknet": {
        "acknowledgements": (_raknet_acks, True),
        "optimistic": (_raknet_optimistic, True),
        "nacks": (_raknet_nacks, True),
        "holes": (_raknet_holes, False),
        "jumps": (_raknet_jumps, False),
        "unreliable": (_raknet_unreliable, False),
        "order": (_raknet_order, False),
        "splits": (_raknet_splits, False),
        "tiny data": (_raknet_tiny, False),
        "pings": (_raknet_pings, False),
        "requests": (_raknet_requests, False),
    },
    "qotp": {
        "acknowledgements": (_qotp_acks, True),
        "optimistic": (_qotp_optimistic, True),
        "of the unsent": (_qotp_unsent, True),
        "windows": (_qotp_windows, True),
        "streams": (_qotp_streams, False),
        "holes": (_qotp_holes, False),
        "tiny data": (_qotp_tiny, False),
        "challenges": (_qotp_pings, False),
        "numbers": (_qotp_numbers, False),
    },
}
"""By transport and name: what is sent, and whether the victim has something to send."""

PAIRS: dict[str, Callable[[], Any]] = {
    "kcp": KCPPair,
    "raknet": lambda: RakNetPair(MESSAGES),
    "qotp": QOTPPair,
}


class Cost(NamedTuple):
    """
    What an attack has cost.

    @ivar micros: that a datagram took.
    @ivar memory: bytes that the victim holds more than before.
    @ivar ratio: bytes sent for each received.
    @ivar state: of the session.
    """

    micros: float
    memory: int
    ratio: float
    state: str


def attack(
    transport: str, name: str, datagrams: int, reading: bool = False, traced: bool = True
) -> Cost:
    """
    Have a peer send so many datagrams, one in a millisecond.

    @param reading: the victim's application takes what comes.
    @param traced: measure memory, which makes everything slower.
    """
    make, bulk = ATTACKS[transport][name]
    victim = Victim(PAIRS[transport](), bulk)
    victim.near.reading = reading
    received = sent = spent = held = 0
    victim.near.sent.clear()
    victim.seen = 0
    if traced:
        tracemalloc.start()
        held = tracemalloc.get_traced_memory()[0]
    for number in range(datagrams):
        datagram = make(victim, number)
        received += len(datagram)
        began = time.perf_counter_ns()
        victim.near.arrive(datagram, CLIENT)
        spent += time.perf_counter_ns() - began
        victim.pair.run(1)
        if victim.seen or len(victim.near.sent) > 1000:
            sent += sum(map(len, victim.near.sent))
            victim.near.sent.clear()
            victim.seen = 0
    sent += sum(map(len, victim.near.sent))
    victim.near.sent.clear()
    memory = 0
    if traced:
        memory = tracemalloc.get_traced_memory()[0] - held
        tracemalloc.stop()
    return Cost(spent / 1000 / datagrams, memory, sent / received, victim.engine.facts()["state"])


def rows(transport: str, datagrams: int) -> Iterator[str]:
    """A table of all attacks, of so many datagrams each."""
    for name in ATTACKS[transport]:
        cost = attack(transport, name, datagrams, traced=False)
        memory = attack(transport, name, datagrams).memory
        yield (
            f"{transport:8}{name:18}{cost.micros:8.0f} us{memory / 1000:10.0f} kB"
            f"{cost.ratio:10.2f}  {cost.state}"
        )
