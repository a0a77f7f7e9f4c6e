"""
What two listeners of ours answer each other ends: somebody who sends a datagram in the name of one
to the other does not have them talk for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests import pair
from tests.kcp.pair import CONV
from tests.kcp.pair import Pair as KCPPair
from tests.pair import SERVER
from tests.qotp.pair import Pair as QOTPPair
from tests.raknet.pair import Pair as RakNetPair
from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import Address, Admit, Reply
from twisted_rudp.kcp.wire import ACK, MARK, PUSH, QUESTION, RESET, WASK, WINS, pack_header
from twisted_rudp.qotp.demux import QOTPDemultiplexer
from twisted_rudp.qotp.wire import ID_END
from twisted_rudp.raknet.offline import (
    Incompatible,
    Ping,
    Pong,
    Refusal,
    Reply1,
    Reply2,
    Request1,
    Reset,
    pack,
)
from twisted_rudp.raknet.wire import VALID, MessageId

OTHER: Address = ("192.0.2.3", 3333)

ENOUGH = 8
"""Answers to answers."""


def bounces(first: bytes, one: Any, other: Any) -> int:
    """
    How many datagrams two listeners exchange after one got C{first} in the name of the other.
    """
    ends: Sequence[tuple[Any, Address]] = ((one, OTHER), (other, SERVER))
    waiting = [first]
    for number in range(ENOUGH):
        end, source = ends[number % 2]
        found: list[bytes] = []
        for datagram in waiting:
            verdict = end.demux.unknown_peer(datagram, source, end.pair.now, end)
            assert not isinstance(verdict, Admit), datagram
            if isinstance(verdict, Reply):
                found += verdict.datagrams
        if not found:
            return number
        waiting = found
    return ENOUGH


class BouncesTests(SynchronousTestCase):
    """Two listeners."""

    def check(self, one: pair.End[Any, Any], other: Any, firsts: Iterator[bytes]) -> None:
        """No first datagram has them answer each other more than a few times."""
        for first in firsts:
            self.assertLess(bounces(first, one, other), 4, first.hex())

    def test_kcp(self) -> None:
        """Whether they have the conversation with somebody else or not."""
        firsts = [
            pack_header(CONV, cmd, frg, 32, 0, sn, una, 0)
            for cmd, frg, sn, una in product(
                (PUSH, ACK, WASK, WINS),
                (0, 1, MARK, RESET),
                (1 << 20, 0, 1, QUESTION),
                (1, 1 << 20, QUESTION),
            )
        ]
        firsts += [pack_header(CONV, WASK, MARK, 32, 0, 0, 0, 0)]
        for here, there in product((True, False), repeat=2):
            ends = []
            for number, connected in enumerate((here, there)):
                made = KCPPair()
                made.connect()
                if not connected:
                    made.server.engines.clear()
                made.cookies = Cookies(b"%d secrets of a test" % number)
                if not connected:
                    made.server.demux = made.new_demux()
                ends.append(made.server)
            self.check(*ends, iter(firsts))

    def test_qotp(self) -> None:
        """Neither by resets, where both have one key and know the ids of each other."""
        made = QOTPPair()
        made.connect()
        made.run(500)
        (_, own_id) = made.client.engine.keys()
        other = QOTPPair()
        other.identity = made.identity
        for each in (made, other):
            each.server.engines.clear()
            each.server.demux = QOTPDemultiplexer(each.settings, each.identity)
        data = b"\x80" + bytes(own_id)  # type: ignore[call-overload]
        assert len(data) == ID_END
        firsts = (data + bytes(length) for length in (30, 31, 100, 1000))
        self.check(made.server, other.server, firsts)

    def test_raknet(self) -> None:
        """Of messages outside of sessions, and of what seems to belong to one."""
        one, other = RakNetPair(), RakNetPair()
        messages = (
            Ping(1, 2, False),
            Pong(1, 2, b"\x00\x01x"),
            Request1(11, 1400),
            Reply1(1, 2, 1400),
            Reply2(1, SERVER, 1400),
            Incompatible(11, 1),
            Refusal(MessageId.FULL, 1),
            Reset(3),
        )
        firsts = [pack(each, one.settings.magic) for each in messages]  # type: ignore[arg-type]
        firsts += [bytes((VALID,)) + bytes(length) for length in (6, 20, 100)]
        self.check(one.server, other.server, iter(firsts))
