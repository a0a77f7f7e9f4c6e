"""One ARQ that a test speaks to by hand."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.kcp.segments import Segment, Wire
from twisted_rudp.core.engine import MILLISECOND
from twisted_rudp.core.timers import NEVER
from twisted_rudp.kcp.arq import ARQ
from twisted_rudp.kcp.settings import Settings
from twisted_rudp.kcp.wire import END, MARK, PUSH, WINS

CONV = 0x11223344
UNLIMITED = 1 << 40
WORD = 0xFFFFFFFF


def wait_of(arq: ARQ, now: int) -> int | None:
    """Milliseconds until an ARQ wants to be flushed; None if it never does."""
    due = arq.deadline()
    return None if due >= NEVER else max(0, -(-due // MILLISECOND) - now)


class ARQTestCase(SynchronousTestCase):
    """One ARQ, spoken to by hand. Times are milliseconds."""

    def make(self, first: tuple[int, int] = (0, 0), overhead: int = 0, **changes: Any) -> ARQ:
        chosen = Settings(**{"nc": True, "mtu": 124, "sndwnd": 32, "rcvwnd": 32, **changes})
        return ARQ(CONV, chosen, first_sent=first[0], first_received=first[1], overhead=overhead)

    def hear(self, arq: ARQ, *segments: Segment, now: int = 0, regular: bool = True) -> None:
        datagram = b"".join(segment.pack() for segment in segments)
        arq.input(datagram, len(datagram), now * MILLISECOND, regular)

    def flush(self, arq: ARQ, now: int = 0, budget: int = UNLIMITED, **how: Any) -> list[Segment]:
        wire = Wire()
        arq.flush(now * MILLISECOND, wire, budget, **how)
        return wire.segments()

    def push(
        self, sn: int, payload: bytes = b"x", frg: int = 0, una: int = 0, wnd: int = 32, ts: int = 0
    ) -> Segment:
        return Segment(CONV, PUSH, frg, wnd, ts, sn & WORD, una, payload)

    def end(self, sn: int) -> Segment:
        return self.push(sn, b"", frg=END)

    def control(
        self,
        cmd: int = WINS,
        frg: int = MARK,
        sn: int = 0,
        una: int = 0,
        wnd: int = 32,
        ts: int = 0,
    ) -> Segment:
        return Segment(CONV, cmd, frg, wnd, ts, sn & WORD, una & WORD)
