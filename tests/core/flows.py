"""
Flows of a sender made of L{Recovery}, L{Pacer} and a controller over one simulated
bottleneck: no wire, no engine, no clock but the numbers.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted_rudp.core.congestion.controller import Controller
from twisted_rudp.core.engine import MILLISECOND, SECOND
from twisted_rudp.core.pacer import Pacer
from twisted_rudp.core.recovery import Recovery
from twisted_rudp.core.rtt import RoundTrip
from twisted_rudp.core.timers import NEVER
from twisted_rudp.testing.impairments import Impairments

MSS = 1400
TURN = MILLISECOND
"""Both ends gather what comes in so long, as a port does that moderates its reads."""


@dataclass
class Flow:
    """
    A bulk transfer and what was seen of it.

    @ivar controller: under test.
    @ivar start: nanoseconds; when it begins.
    @ivar size: bytes to transfer; 0: without end.
    @ivar sent: bytes that left, repetitions included.
    @ivar arrived: bytes that arrived, each once.
    @ivar marks: C{arrived} at each tenth of a second.
    @ivar finished: when the last byte was acknowledged; 0: not yet.
    """

    controller: Controller
    start: int = 0
    size: int = 0
    sent: int = 0
    arrived: int = 0
    marks: list[int] = field(default_factory=list)
    finished: int = 0

    def __post_init__(self) -> None:
        trip = RoundTrip(200 * MILLISECOND, 20 * MILLISECOND, 60 * SECOND)
        self.recovery = Recovery(trip)
        self.pacer = Pacer(MSS, 32 * MSS)
        self.data: dict[int, int] = {}
        self.have: set[int] = set()
        self.lost: list[int] = []
        self.fresh = 0
        self.arrivals: list[int] = []
        self.acked = 0


class Bottleneck:
    """
    Flows that share a link.

    @ivar delays: of the datagrams in the queue, nanoseconds, one for each.
    """

    def __init__(self, there: Impairments, back: Impairments, flows: list[Flow]) -> None:
        """
        @param there: the way of the data.
        @param back: the way of the acknowledgements.
        """
        self.there = there
        self.back = back
        self.flows = flows
        self.now = 0
        self.delays: list[int] = []
        self.on_time: Callable[[int], None] = lambda now: None
        self._heap: list[tuple[int, int, str, int, list[int]]] = []
        self._count = 0
        self._wake = [NEVER] * len(flows)
        for index, flow in enumerate(flows):
            self._push(flow.start, "wake", index, [])

    def _push(self, when: int, kind: str, index: int, numbers: list[int]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, kind, index, numbers))

    def run(self, seconds: float) -> None:
        """Go on for so long."""
        end = self.now + int(seconds * SECOND)
        heap = self._heap
        mark = self.now + SECOND // 10
        while heap and heap[0][0] <= end:
            when, _, kind, index, numbers = heapq.heappop(heap)
            while mark <= when:
                for flow in self.flows:
                    flow.marks.append(flow.arrived)
                self.on_time(mark)
                mark += SECOND // 10
            self.now = when
            flow = self.flows[index]
            if kind == "data":
                if not flow.arrivals:
                    self._push(when + TURN, "answer", index, [])
                flow.arrivals += numbers
                for number in numbers:
                    piece = flow.data[number]
                    if piece not in flow.have:
                        flow.have.add(piece)
                        flow.arrived += MSS
            elif kind == "answer":
                arrivals, flow.arrivals = flow.arrivals, []
                for later in self.back.fate(when / 1e9, 24 + 4 * len(arrivals)):
                    self._push(when + int(later * 1e9), "ack", index, arrivals)
            elif kind == "ack":
                for number in numbers:
                    flow.recovery.on_acknowledged(number, number + 1)
                self._turn(index)
            elif when >= self._wake[index] or when == flow.start:
                self._turn(index)
        self.now = end

    def _turn(self, index: int) -> None:
        flow, now = self.flows[index], self.now
        recovery, controller, pacer = flow.recovery, flow.controller, flow.pacer
        sample = recovery.turn(now)
        if sample is not None:
            controller.on_turn(sample)
        probe = False
        if now >= recovery.probe_deadline():
            if recovery.probe(now):
                controller.on_timeout(now)
            probe = True
        for first, end in recovery.lost:
            flow.lost += [flow.data[n] for n in range(first, end) if flow.data[n] not in flow.have]
        recovery.lost.clear()
        if flow.size and recovery.delivered >= flow.size and not flow.finished:
            flow.finished = now
        pieces = flow.size // MSS if flow.size else 1 << 60
        room = controller.window - recovery.in_flight
        allowed = pacer.allowed(now, controller.pacing_rate)
        count = 1 if probe else max(0, min(room, allowed) // MSS)
        wants = bool(flow.lost) or flow.fresh < pieces
        sending: list[int] = []
        while count and (flow.lost or flow.fresh < pieces):
            count -= 1
            if flow.lost:
                sending.append(flow.lost.pop(0))
            else:
                sending.append(flow.fresh)
                flow.fresh += 1
        if probe and not sending:
            sending = [max(flow.data.values())]
        if sending:
            first = recovery.on_sent(len(sending), MSS, now, draining=controller.draining)
            pacer.credit -= len(sending) * MSS
            flow.sent += len(sending) * MSS
            for number, piece in enumerate(sending, first):
                flow.data[number] = piece
                for later in self.there.fate(now / 1e9, MSS):
                    self.delays.append(int((later - self.there.delay) * 1e9))
                    self._push(now + int(later * 1e9), "data", index, [number])
        wake = min(recovery.loss_at, recovery.probe_deadline())
        if flow.lost or flow.fresh < pieces:
            if controller.window - recovery.in_flight >= MSS:
                wake = min(wake, pacer.wake(now, controller.pacing_rate))
        elif wants or room > 0:
            recovery.on_app_limited()
        self._wake[index] = max(wake, now + 100_000)
        if wake < NEVER:
            self._push(self._wake[index], "wake", index, [])


def link(
    rate: float, round_trip: float, queue: float = 1.0, loss: float = 0.0, seed: int = 1
) -> tuple[Impairments, Impairments]:
    """
    Both ways of a path.

    @param rate: bytes a second.
    @param round_trip: seconds.
    @param queue: bandwidth-delay products that may wait.
    """
    there = Impairments(
        seed=seed, loss=loss, delay=round_trip / 2, rate=rate,
        queue=int(queue * rate * round_trip),
    )  # fmt: skip
    back = Impairments(seed=seed + 1, loss=loss, delay=round_trip / 2)
    return there, back
