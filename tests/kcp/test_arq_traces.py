"""The ARQ against recordings of the original programs (C{tests/vectors/kcp/arq_*}; kcp.md 12)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests import vectors
from tests.kcp.segments import Segment, Wire, parse, split
from twisted_rudp.core.engine import MILLISECOND
from twisted_rudp.core.serial import MASK32, difference32, unwrap32
from twisted_rudp.kcp.arq import ARQ
from twisted_rudp.kcp.congestion import KCPWindow
from twisted_rudp.kcp.sent import SETTLED
from twisted_rudp.kcp.settings import Settings
from twisted_rudp.kcp.wire import ACK, HEADER_SIZE, PUSH

UNLIMITED = 1 << 40
Event = dict[str, Any]

KCP_GO_DEFAULTS = {
    "dead_link": 20,
    "congestion": "kcp-go",
    "nodelay": 0,
    "interval": 100,
    "resend": 0,
    "nc": False,
    "sndwnd": 32,
    "rcvwnd": 32,
    "mtu": 1400,
    "stream": False,
}


def recordings() -> Iterator[dict[str, Any]]:
    """All files of the schema, packed or not."""
    for name in vectors.names("kcp", "arq_"):
        recording = vectors.load("kcp", name)
        if recording["format"] == "kcp-arq-trace/1":
            yield recording


def controls_of(segments: list[Segment]) -> list[tuple[int, ...]]:
    """
    What is comparable of segments without data: of WASK and WINS not C{ts} and
    C{sn}, which have no meaning (kcp.md 1.1).
    """
    return [
        one[1:7] if one.cmd == ACK else (one.cmd, one.frg, one.wnd, one.una)
        for one in segments
        if one.cmd != PUSH
    ]


class SkipModel:
    """
    kcp-go's own fast-ack counting, segment by segment (kcp.md 1.9). It also
    counts for segments that are acknowledged already, which changes nothing but
    when C{Input} flushes by itself.
    """

    def __init__(self, arq: ARQ) -> None:
        self._arq = arq
        self._skips: dict[int, list[int]] = {}

    def sent(self, segments: list[Segment]) -> None:
        sent = self._arq.sender.sent
        for one in segments:
            if one.cmd == PUSH:
                number = unwrap32(one.sn, sent.una)
                own = (sent.batch_of(number).states or {}).get(number)
                settled = own is not None and own.skips == SETTLED
                self._skips[number] = [one.ts, SETTLED if settled else 0]

    def hears(self, datagram: bytes, resend: int) -> bool:
        """
        @return: some count was raised to C{resend} or more.
        """
        reached = False
        sent = self._arq.sender.sent
        una = sent.una
        for one in parse(datagram):
            for number in [each for each in self._skips if difference32(one.una, each) > 0]:
                del self._skips[number]
            distance = difference32(one.sn, una)
            if one.cmd != ACK or not 0 <= distance < sent.nxt - una:
                continue
            for number, counted in self._skips.items():
                ts, skips = counted
                if number < una + distance and skips != SETTLED and difference32(one.ts, ts) >= 0:
                    counted[1] += 1
                    reached = reached or counted[1] >= resend
        return reached


class Endpoint:
    """One endpoint of a trace: settings first, then an L{ARQ} driven by events."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = dict(KCP_GO_DEFAULTS)
        self.numbers = (0, 0)
        self.conv = 0
        self.wire = Wire()
        self.numbered_later = False
        self._clock = 0
        self._arq: ARQ | None = None

    @property
    def arq(self) -> ARQ:
        if self._arq is None:
            self._arq = ARQ(
                self.conv,
                Settings(**self.settings),
                marked=False,
                first_sent=self.numbers[0],
                first_received=self.numbers[1],
            )
            self.model = SkipModel(self._arq)
        return self._arq

    def configure(self, event: Event) -> None:
        op = event["op"]
        if op == "new":
            self.conv = event["conv"]
        elif op == "nodelay":
            for name in "nodelay", "interval", "resend", "nc":
                if event[name] >= 0:
                    self.settings[name] = type(self.settings[name])(event[name])
            self.settings["interval"] = min(max(self.settings["interval"], 10), 5000)
        elif op == "wndsize":
            self.settings["sndwnd"] = event["snd"]
            self.settings["rcvwnd"] = event["rcv"]
        elif op == "stream":
            self.settings["stream"] = bool(event["on"])
        elif op == "setsn":
            self.numbers = (event["snd_nxt"], event["rcv_nxt"])
        elif event["mtu"] > HEADER_SIZE:
            self.settings["mtu"] = event["mtu"]
            if self._arq is not None:
                self._arq.set_mss(event["mtu"] - HEADER_SIZE)

    def _time(self, clock: int) -> int:
        """The nanoseconds of a clock that is modulo 2^32."""
        self._clock = unwrap32(clock, self._clock)
        return self._clock * MILLISECOND

    def flush(self, now: int, full: bool) -> int:
        """
        @return: kcp-go's answer: when it wants to be flushed again.
        """
        before = len(self.wire.runs)
        # An acknowledgement-only flush of kcp-go gives numbers to what it does not send
        # yet; ours gives them when it sends, so they come with the next full flush.
        self.arq.flush(self._time(now), self.wire, UNLIMITED if full else 0)
        self.numbered_later = not full
        for run, size in self.wire.runs[before:]:
            for datagram in split(run, size):
                self.model.sent(parse(datagram))
        answer = int(self.settings["interval"])
        if full:
            for due in self.dues():
                if 0 < difference32(due, now) < answer:
                    answer = difference32(due, now)
        return answer

    def dues(self) -> Iterator[int]:
        """Timeouts of all segments that are not acknowledged."""
        sent = self.arq.sender.sent
        for batch in sent.batches:
            for number in sent.missing_of(batch):
                yield (batch.states or {}).get(number, batch).due

    def receive(self, now: int, data: bytes) -> None:
        """Take in a datagram and nothing else."""
        self.arq.input(data, len(data), self._time(now))

    def input(self, now: int, data: bytes, regular: bool, ack_no_delay: bool) -> bool:
        """
        As kcp-go's C{Input}, which flushes by itself (kcp.md 1.12).

        @return: the datagram was in order.
        """
        errors = self.arq.counters.kcp_in_errors
        before = self.arq.snd_una
        self.arq.input(data, len(data), self._time(now), regular)
        if self.arq.counters.kcp_in_errors > errors:
            return False
        reached = self.model.hears(data, self.settings["resend"])
        urgent = reached or self.arq.snd_una != before
        waiting = len(self.arq.receiver.acks)
        if urgent:
            self.flush(now, True)
        elif waiting >= self.settings["mtu"] // HEADER_SIZE or (ack_no_delay and waiting):
            self.flush(now, False)
        return True

    def state(self) -> dict[str, int]:
        arq = self.arq
        estimate = arq.sender.recovery.round_trip
        values = {
            "srtt": estimate.smoothed,
            "rttvar": estimate.variation,
            "rto": estimate.timeout,
            "snd_una": arq.snd_una,
            "snd_nxt": arq.snd_nxt,
            "rcv_nxt": arq.rcv_nxt,
            "rmt_wnd": arq.sender.peer_window,
            "probe_wait": arq.control.probe_wait,
            "nrcv_buf": len(arq.receiver.held),
            "state": MASK32 if arq.sender.transmitter.dead else 0,
        }
        if isinstance(arq.sender.recovery.controller, KCPWindow):
            values["cwnd"] = arq.sender.recovery.controller.segments
            values["ssthresh"] = arq.sender.recovery.controller.threshold
            values["incr"] = arq.sender.recovery.controller.credit
        return values


class KCPGoTraceTests(SynchronousTestCase):
    """kcp-go 5.6.72, whose policy is ours, event by event."""

    def replay(self, events: list[Event]) -> None:
        endpoint = Endpoint()
        expected: dict[str, int] = {}
        for number, event in enumerate(events):
            expected.update(event.get("state", {}))
            op = event["op"]
            if op in ("new", "nodelay", "wndsize", "stream", "setsn", "setmtu"):
                endpoint.configure(event)
                continue
            where = f"event {number}: {op} at {event['t']}"
            getattr(self, f"do_{op}")(endpoint, event, where)
            self.compareOutput(endpoint, event, where)
            state = endpoint.state()
            if endpoint.numbered_later:
                del state["snd_nxt"]
            self.assertEqual(state, {name: expected[name] for name in state}, where)
        self.assertEqual(endpoint.arq.settings.interval, endpoint.settings["interval"])

    def compareOutput(self, endpoint: Endpoint, event: Event, where: str) -> None:
        ours = endpoint.wire.segments()
        theirs = [one for data in event.get("out", []) for one in parse(bytes.fromhex(data))]
        self.assertEqual(
            [one for one in ours if one.cmd == PUSH],
            [one for one in theirs if one.cmd == PUSH],
            where,
        )
        self.assertEqual(controls_of(ours), controls_of(theirs), where)

    def do_send(self, endpoint: Endpoint, event: Event, where: str) -> None:
        data = bytes.fromhex(event["data"])
        if event["ret"] < 0:
            self.assertRaises(ValueError, endpoint.arq.send, data)
        elif endpoint.settings["stream"]:
            endpoint.arq.write(data)
        else:
            endpoint.arq.send(data)

    def do_flush(self, endpoint: Endpoint, event: Event, where: str) -> None:
        answer = endpoint.flush(event["t"], event["type"] == "full")
        self.assertEqual(answer, event["ret"], where)

    def do_input(self, endpoint: Endpoint, event: Event, where: str) -> None:
        good = endpoint.input(
            event["t"],
            bytes.fromhex(event["data"]),
            bool(event["regular"]),
            bool(event["ack_no_delay"]),
        )
        self.assertEqual(good, event["ret"] == 0, where)

    def do_peek(self, endpoint: Endpoint, event: Event, where: str) -> None:
        self.assertEqual(endpoint.arq.receiver.queue.readable, event["ret"] >= 0, where)

    def do_recv(self, endpoint: Endpoint, event: Event, where: str) -> None:
        arq = endpoint.arq
        data = bytes.fromhex(event.get("recv", ""))
        if event["ret"] == -2:
            self.assertTrue(arq.receiver.queue.readable, where)
        elif endpoint.settings["stream"]:
            self.assertEqual(arq.take(max(event["ret"], 1)), data, where)
        else:
            self.assertEqual(arq.take_message(), None if event["ret"] < 0 else data, where)


class ForeignTraceTests(SynchronousTestCase):
    """What peers of other versions sent, received by us."""

    def replay(self, events: list[Event]) -> None:
        endpoint = Endpoint()
        expected: dict[str, int] = {}
        acknowledged: set[int] = set()
        for number, event in enumerate(events):
            expected.update(event.get("state", {}))
            op = event["op"]
            if op in ("new", "nodelay", "wndsize", "stream", "setsn", "setmtu"):
                endpoint.configure(event)
                endpoint.settings["rcvwnd"] = expected["rcv_wnd"]
                endpoint.settings["stream"] = False
                continue
            where = f"event {number}: {op} at {event['t']}"
            if op == "input":
                data = bytes.fromhex(event["data"])
                endpoint.receive(event["t"], data)
            elif op == "recv" and event["ret"] >= 0:
                taken = endpoint.arq.take_message()
                self.assertEqual(taken, bytes.fromhex(event.get("recv", "")), where)
            endpoint.flush(event["t"], True)
            acknowledged |= {one.sn for one in endpoint.wire.segments() if one.cmd == ACK}
            self.assertEqual(endpoint.arq.rcv_nxt, expected["rcv_nxt"], where)
            free = expected["rcv_wnd"] - expected["nrcv_que"]
            self.assertEqual(endpoint.arq.receiver.free, free, where)
            for data in event.get("out", []):
                for one in parse(bytes.fromhex(data)):
                    if one.cmd == ACK and difference32(one.sn, endpoint.arq.rcv_nxt) >= 0:
                        self.assertIn(one.sn, acknowledged, where)


def _add_tests() -> None:
    for recording in recordings():
        engine = recording["engine"]
        case = KCPGoTraceTests if "v5.6.72" in engine else ForeignTraceTests
        label = "".join(letter if letter.isalnum() else "_" for letter in engine.split(" (")[0])
        for trace in recording["traces"]:
            for name, events in trace["endpoints"].items():
                method = _replaying(events)
                method.__doc__ = f"{engine}: {trace['name']}, endpoint {name}."
                setattr(case, f"test_{label}_{trace['name']}_{name}", method)


def _replaying(events: list[Event]) -> Callable[[Any], None]:
    def test(self: Any) -> None:
        self.replay(events)

    return test


with contextlib.suppress(SkipTest):
    _add_tests()
