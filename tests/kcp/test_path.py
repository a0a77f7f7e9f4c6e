"""What length of datagram gets through (kcp-close.md 16)."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import SECOND
from twisted_rudp.core.timers import NEVER
from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.kcp.arq import ARQ
from twisted_rudp.kcp.path import (
    LENGTHS,
    MOST_BYTES,
    PIECE_HEAD,
    RAISE_INTERVAL,
    SHORTEST_PIECE,
    STALLED,
    STRIKES,
    Path,
    Pieces,
    pieces,
)
from twisted_rudp.kcp.settings import Settings
from twisted_rudp.kcp.wire import HEADER_SIZE, PUSH, segments
from twisted_rudp.testing import Impairments, MemoryNetwork


class PathTests(SynchronousTestCase):
    """L{Path}."""

    def ask(self, path: Path, una_moved: int, answered: bool = True) -> None:
        """The peer is asked something short when that is due, and answers."""
        self.now = max(self.now, path.due)
        self.assertTrue(path.suspect(una_moved, 0, self.now))
        self.now += 1
        if answered:
            path.answered = True

    def setUp(self) -> None:
        self.now = SECOND

    def test_shrinks(self) -> None:
        """Answers, and nothing acknowledged: the length goes down step by step."""
        path = Path(1400)
        for _ in range(STRIKES + 1):
            self.assertEqual(path.length, 1400)
            self.ask(path, 0)
        self.assertEqual(path.length, LENGTHS[0])
        for length in (*LENGTHS[1:], LENGTHS[-1]):
            self.ask(path, 0)
            self.assertEqual(path.length, length)
        self.assertFalse(path.suspect(0, 0, self.now))

    def test_answeredAtOnce(self) -> None:
        """An answer at the time of its question counts: the two ends may be on one host."""
        path = Path(1400)
        for _ in range(STRIKES + 1):
            self.now = path.due
            path.suspect(0, 0, self.now)
            path.answered = True
        self.assertEqual(path.length, LENGTHS[0])

    def test_answeredBefore(self) -> None:
        """What was said before the question is no answer to it."""
        path = Path(1400)
        path.answered = True
        for _ in range(STRIKES + 2):
            self.ask(path, 0, answered=False)
        self.assertEqual(path.length, 1400)

    def test_silence(self) -> None:
        """Nobody answers: that is not about lengths."""
        path = Path(1400)
        for _ in range(10):
            self.ask(path, 0, answered=False)
        self.assertEqual(path.length, 1400)

    def test_progress(self) -> None:
        """Something is acknowledged now and then: nor is that."""
        path = Path(1400)
        for _ in range(10):
            self.ask(path, self.now)
        self.assertEqual(path.length, 1400)

    def test_raise(self) -> None:
        """A longer one is tried each minute, and used once it has arrived."""
        path = Path(1400)
        self.assertEqual(path.raise_at, NEVER)
        path.reduced(1232, 0)
        self.assertEqual(path.raise_at, RAISE_INTERVAL)
        for expected in (1280, 1400):
            path.try_longer(self.now)
            self.assertEqual(path.trial, expected)
            path.tried, path.trial = path.trial, 0
            path.arrived()
            self.assertEqual(path.length, expected)
        self.assertEqual(path.raise_at, NEVER)
        path.arrived()
        self.assertEqual(path.length, 1400)

    def test_patience(self) -> None:
        """Questions are no closer than a timeout."""
        path = Path(1400)
        self.assertTrue(path.suspect(0, SECOND, SECOND))
        self.assertFalse(path.suspect(0, SECOND, SECOND + STALLED))
        self.assertTrue(path.suspect(0, SECOND, 2 * SECOND))


class RepairTests(SynchronousTestCase):
    """Losses that FEC repairs are no congestion."""

    def test_cubic(self) -> None:
        """A controller that halves at each loss sends at full rate over a link that loses."""
        network = MemoryNetwork(seed=1)
        client, server = network.host("client"), network.host("server")
        link = Impairments(delay=0.02, rate=2_000_000, queue=100_000, loss=0.05)
        network.impair(link, client, server)
        shards: dict[str, Any] = {"dataShards": 10, "parityShards": 3, "congestion": "cubic"}
        got: list[int] = []
        factory = Factory.forProtocol(Protocol)
        made: list[Any] = []

        def build(address: object) -> Protocol:
            made.append(Protocol())
            made[-1].dataReceived = lambda data: got.append(len(data))
            return made[-1]

        factory.buildProtocol = build  # type: ignore[assignment, method-assign]
        KCPServerEndpoint(server.reactor, 4000, **shards).listen(factory)
        connecting = KCPClientEndpoint(client.reactor, "server", 4000, **shards).connect(
            Factory.forProtocol(Protocol)
        )
        network.run(lambda: connecting.called)
        transport: Any = self.successResultOf(connecting).transport
        transport.write(bytes(3_000_000))
        # With parity 2 seconds at the rate of the link; 6 if each loss counted.
        network.run(lambda: sum(got) == 3_000_000, 3.0)
        self.assertGreater(made[0].transport.counters()["FECRecovered"], 20)


class PiecesTests(SynchronousTestCase):
    """L{Pieces} and L{pieces}."""

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(
        st.lists(st.binary(min_size=1, max_size=600), min_size=1, max_size=5),
        st.integers(PIECE_HEAD + SHORTEST_PIECE, 1400),
        st.randoms(use_true_random=False),
    )
    def test_any(self, segments: list[bytes], room: int, chance: Random) -> None:
        """In whatever order they come, and repeated, each segment is put together once."""
        made = [
            each
            for sn, payload in enumerate(segments)
            for each in pieces(sn, 7 * sn, sn, payload, room)
        ]
        self.assertTrue(all(len(each) <= room for each in made))
        chance.shuffle(made)
        held = Pieces()
        found = {}
        for each in made:
            for _ in range(chance.randrange(1, 3)):
                whole = held.take(each)
                if whole is not None and whole[0] not in found:
                    found[whole[0]] = whole
        expected = {sn: (sn, 7 * sn, sn, data) for sn, data in enumerate(segments)}
        self.assertEqual(found, expected)

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(st.lists(st.binary(max_size=40), max_size=50))
    def test_junk(self, bodies: list[bytes]) -> None:
        """Whatever comes, nothing is raised."""
        held = Pieces()
        for body in bodies:
            held.take(body)

    def test_short(self) -> None:
        """Pieces that no path needs are not taken: thousands of them would make one segment."""
        held = Pieces()
        for body in pieces(0, 0, 0, bytes(60_000), PIECE_HEAD + SHORTEST_PIECE - 1):
            self.assertIsNone(held.take(body))
        self.assertIsNotNone(held.take(pieces(1, 0, 0, b"short", 1400)[0]))

    def test_bound(self) -> None:
        """Pieces of segments that are never completed take a bounded room."""
        held = Pieces()
        for sn in range(1000):
            held.take(pieces(sn, 0, 0, bytes(60_000), 1400)[1])
        first, *rest = pieces(0, 0, 0, bytes(2000), 1400)
        self.assertIsNone(held.take(first))
        self.assertIsNotNone(held.take(rest[0]))
        self.assertLess(MOST_BYTES, 1 << 20)


class TrialTests(SynchronousTestCase):
    """The datagram that tries a length."""

    def test_number(self) -> None:
        """It has the number of a segment that the peer has, so that it is never taken for data."""
        arq = ARQ(1, Settings(), epoch=0)
        arq.sender.sent.una = 7
        (one,) = segments(arq.probe_segment(1000, 0))
        self.assertEqual((one.cmd, one.sn, one.length), (PUSH, 6, 1000 - HEADER_SIZE))
