"""How connections end (qotp.md 5.5), whatever is lost and whoever does not read."""

from __future__ import annotations

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from tests.pair import Fate, steady
from tests.qotp.pair import End, Pair
from tests.qotp.test_engine import write
from twisted_rudp.core.engine import MILLISECOND, Event, Reason


def missing(pattern: int, start: int) -> Fate:
    """A link that loses the datagrams from C{start} on whose bits are set."""

    def fate(number: int, datagram: bytes) -> tuple[float, ...]:
        at = number - start
        return () if at >= 0 and pattern >> at & 1 else (10,)

    return fate


def close(end: End) -> None:
    """The application of this side closes."""
    end.engine.close(end.pair.now)
    end.turn(end.engine)


class LossTests(SynchronousTestCase):
    """Every pattern of losses."""

    def check(self, there: int, back: int, own_socket: bool, both: bool) -> None:
        pair = Pair(own_socket=own_socket)
        pair.connect()
        pair.run(500)
        pair.fates["client"] = missing(there, len(pair.client.sent))
        pair.fates["server"] = missing(back, len(pair.server.sent))
        server = pair.server.engine
        write(pair.client, 0, b"last words")
        close(pair.client)
        if both:
            close(pair.server)
        for _ in range(60):
            pair.run(50)
            if (Event.STREAM_ENDED, 0) in pair.server.happened and not both:
                server.write(0, b"mine")
                close(pair.server)
                break
        pair.run(6000)
        for end in (pair.client, pair.server):
            self.assertEqual(
                end.happened[-1], (Event.ENDED, Reason.DONE, None), (there, back, own_socket, both)
            )
        if not both:
            self.assertEqual(pair.server.streams[0], b"last words")

    def test_closes(self) -> None:
        """
        S8: whatever of the first four datagrams each way is lost, both sides learn that all
        was delivered, whether the client's socket closes with it or not.
        """
        for pattern in range(256):
            self.check(pattern & 15, pattern >> 4, bool(pattern & 1), False)
        for pattern in range(0, 256, 5):
            self.check(pattern & 15, pattern >> 4, not pattern & 1, False)

    def test_bothClose(self) -> None:
        """The same when both close at the same time."""
        for pattern in range(0, 256, 3):
            self.check(pattern & 15, pattern >> 4, bool(pattern & 1), True)


class GrowingQueueTests(SynchronousTestCase):
    """A slow link with a long queue, in which all that was written waits for seconds."""

    def test_clean(self) -> None:
        """
        The writer sends much of it again before it knows better. The reader has everything, ends
        and closes its socket; what was sent again is then acknowledged by nobody, and the writer
        does not need it to be.
        """
        free = 0.0

        def queue(number: int, datagram: bytes) -> tuple[float]:
            nonlocal free
            free = max(free, pair.now / MILLISECOND) + len(datagram) / 13
            return (free - pair.now / MILLISECOND,)

        pair = Pair(steady(0), queue, own_socket=True)
        pair.connect()
        client, server = pair.client, pair.server
        client.engine.close_stream(0)
        client.turn(client.engine)
        pair.run(10)
        write(server, 0, bytes(20_000))
        close(server)
        for _ in range(300):
            pair.run(10)
            if (Event.STREAM_ENDED, 0) in client.happened:
                close(client)
                break
        pair.run(5000)
        self.assertEqual(len(client.streams[0]), 20_000)
        self.assertEqual(client.engines, {})
        for end in (client, server):
            self.assertEqual(end.happened[-1], (Event.ENDED, Reason.DONE, None))


class LossyTests(SynchronousTestCase):
    """From the close on most of what the writer sends is lost."""

    def test_peerEndedFirst(self) -> None:
        """
        What was written arrives, or the close fails. Where the peer had ended before, a close was
        clean after three seconds though much of it was still to be sent again.
        """
        clean = 0
        for size, share, start in product((1000, 10_000, 30_000), (2, 4, 8), (0, 3, 6)):
            pair = Pair()
            pair.connect()
            client, server = pair.client, pair.server
            server.engine.close_stream(0)
            server.turn(server.engine)
            pair.run(500)
            first = len(client.sent) + start
            pair.fates["client"] = (
                lambda number, datagram, first=first, share=share: ()
                if number >= first and number % share
                else (10,)
            )
            write(client, 0, bytes(size))
            close(client)
            pair.run(60_000)
            _, reason, _ = client.happened[-1]
            if reason is Reason.DONE:
                clean += 1
                self.assertEqual(len(server.streams[0]), size, (share, start))
            else:
                self.assertIs(reason, Reason.CLOSE_TIMEOUT)
        self.assertGreater(clean, 9)


class ReaderTests(SynchronousTestCase):
    """B3: a reader that pauses loses nothing that was delivered whole."""

    def reads(self, pair: Pair, size: int) -> None:
        """The server's application goes on."""
        pair.server.reading = True
        pair.server.turn(pair.server.engine)
        for _ in range(60):
            pair.run(50)
        self.assertEqual(len(pair.server.streams[0]), size)
        self.assertIn((Event.STREAM_ENDED, 0), pair.server.happened)

    def test_delivered(self) -> None:
        """
        The writer closes and waits in vain for the reader's end; what it then says does
        not take anything from the reader, and the reader may end in order.
        """
        for seconds in (35, 100):
            pair = Pair()
            pair.connect()
            pair.server.reading = False
            write(pair.client, 0, bytes(20_000))
            close(pair.client)
            pair.run(seconds * 1000)
            self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.DONE, None))
            pair.server.reading = True
            pair.server.turn(pair.server.engine)
            self.assertEqual(len(pair.server.streams[0]), 20_000)
            self.assertEqual(pair.server.happened[-1], (Event.STREAM_ENDED, 0))
            close(pair.server)
            self.assertEqual(pair.server.happened[-1], (Event.ENDED, Reason.DONE, None))

    def test_held(self) -> None:
        """While a living peer has no room the close waits, and delivers all in the end."""
        size = 600_000
        pair = Pair()
        pair.connect()
        pair.server.reading = False
        write(pair.client, 0, bytes(size))
        close(pair.client)
        pair.run(200_000)
        self.assertNotIn(Event.ENDED, pair.client.kinds())
        self.reads(pair, size)
        close(pair.server)
        pair.run(1000)
        for end in (pair.client, pair.server):
            self.assertEqual(end.happened[-1], (Event.ENDED, Reason.DONE, None))

    def test_gone(self) -> None:
        """The writer closes and is gone altogether: the reader has all, and an orderly end."""
        pair = Pair()
        pair.connect()
        pair.server.reading = False
        write(pair.client, 0, bytes(20_000))
        close(pair.client)
        pair.run(1000)
        pair.fates["client"] = lambda number, datagram: ()
        pair.run(100_000)
        self.reads(pair, 20_000)
        pair.run(1000)
        self.assertEqual(pair.server.happened[-1][:2], (Event.ENDED, Reason.DONE))

    def test_aborted(self) -> None:
        """
        An abort behind an orderly end takes nothing that came before it: when that was read the
        end is orderly, as in the other transports.
        """
        pair = Pair()
        pair.connect()
        pair.server.reading = False
        pair.client.engine.write(0, bytes(20_000))
        pair.client.engine.close_stream(0)
        pair.client.turn(pair.client.engine)
        pair.run(500)
        pair.client.engine.abort(pair.now)
        pair.client.turn(pair.client.engine)
        pair.run(500)
        self.assertNotIn(Event.ENDED, pair.server.kinds())
        self.reads(pair, 20_000)
        self.assertEqual(pair.server.happened[-1][:2], (Event.ENDED, Reason.DONE))

    def test_nothingToRead(self) -> None:
        """
        The same when there was nothing to read: the reader may have paused, and not know of the
        end. Something of its own that did not arrive makes it a reset.
        """
        for lacking in (False, True):
            pair = Pair()
            pair.connect()
            close(pair.client)
            pair.run(29_000)
            if lacking:
                pair.fates["server"] = lambda number, datagram: ()
                write(pair.server, 0, b"x")
            pair.run(6_000)
            self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.DONE, None))
            reason = Reason.RESET if lacking else Reason.DONE
            self.assertEqual(pair.server.happened[-1], (Event.ENDED, reason, None))

    def test_abortedUnfinished(self) -> None:
        """An abort before the end of what was written discards it at once."""
        pair = Pair()
        pair.connect()
        pair.server.reading = False
        write(pair.client, 0, bytes(20_000))
        pair.run(500)
        pair.client.engine.abort(pair.now)
        pair.client.turn(pair.client.engine)
        pair.run(500)
        self.assertEqual(pair.server.happened[-1][:2], (Event.ENDED, Reason.RESET))
        self.assertEqual(pair.settings.budget.free, 256 << 20)
