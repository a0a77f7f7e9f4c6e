"""Every pattern of losses of the first five datagrams each way: of a beginning and of an end."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.pair import Fate, losing
from tests.raknet.pair import End, Pair
from twisted_rudp.core.engine import Event, Reason

COUNT = 5
PATTERNS = 1 << COUNT


def pattern(bits: int, first: int = 0) -> Fate:
    """Lose those of the next datagrams whose bit is set."""
    return losing(*(first + place for place in range(COUNT) if bits >> place & 1))


def pairs(**settings: bool) -> Iterator[tuple[str, Pair]]:
    """A pair for each pattern of both directions, and the name of the pattern."""
    for there in range(PATTERNS):
        for back in range(PATTERNS):
            name = f"there {there:05b} back {back:05b} {settings}"
            yield name, Pair(there=pattern(there), back=pattern(back), **settings)


class BeginningTests(SynchronousTestCase):
    """Handshakes."""

    def begin(self, **settings: bool) -> None:
        """
        Both ends are connected, once, before a dialler gives up; what it says as soon as it
        is connected arrives, and no session is made beside.
        """
        for name, pair in pairs(**settings):
            engine = pair.dial()
            said = False
            for _ in range(80):
                pair.run(100)
                if pair.client.happened and not said:
                    said = True
                    pair.write(pair.client, b"hello")
                if pair.server.received:
                    break
            for end in (pair.client, pair.server):
                self.assertEqual(end.kinds(), [Event.CONNECTED], name)
            self.assertEqual(bytes(pair.server.received), b"hello", name)
            self.assertEqual(pair.server.admitted, 1, name)
            self.assertFalse(engine.over)

    def test_cookies(self) -> None:
        """With cookies."""
        self.begin()

    def test_withoutCookies(self) -> None:
        """Where the address is validated inside of the session."""
        self.begin(cookies=False)


class EndTests(SynchronousTestCase):
    """Closes, with data that is under way."""

    def closed(self, closers: str) -> None:
        """
        Whoever closes, and whatever is lost: both sides get all that the other had said
        before, hear of an orderly end, and nothing is left.

        @param closers: the names of those who close at once; the other follows when it has
            heard the end.
        """
        for there in range(PATTERNS):
            for back in range(PATTERNS):
                name = f"there {there:05b} back {back:05b} {closers}"
                pair = Pair(own_socket=False)
                pair.connect()
                pair.run(300)
                ends = {"client": pair.client, "server": pair.server}
                first = [len(end.sent) for end in ends.values()]
                pair.fates = {
                    "client": pattern(there, first[0]),
                    "server": pattern(back, first[1]),
                }
                followers = [end for which, end in ends.items() if which not in closers]
                for which in closers.split():
                    pair.write(ends[which], b"last " + which.encode())
                for which in closers.split():
                    self.close(pair, ends[which])
                for _ in range(200):
                    pair.run(100)
                    for end in followers:
                        if end.engines and end.kinds()[-1] == Event.STREAM_ENDED:
                            self.close(pair, end)
                    if not (pair.client.engines or pair.server.engines):
                        break
                for end in ends.values():
                    self.assertEqual(end.happened[-1], (Event.ENDED, Reason.DONE, None), name)
                    self.assertEqual(end.engines, {}, name)
                for which, other in (("client", pair.server), ("server", pair.client)):
                    if which in closers and len(followers) == 1:
                        self.assertEqual(bytes(other.received), b"last " + which.encode(), name)

    def close(self, pair: Pair, end: End) -> None:
        """Have one end close."""
        engine = end.engine
        engine.close(pair.now)
        end.turn(engine)

    def test_client(self) -> None:
        """The client closes."""
        self.closed("client")

    def test_server(self) -> None:
        """The server closes."""
        self.closed("server")

    def test_both(self) -> None:
        """Both close at once: each throws away what the other says from then on."""
        self.closed("client server")
