"""How connections begin (qotp.md 3 and 12.1), whatever is lost."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.qotp.pair import Pair
from tests.qotp.test_close import missing
from tests.qotp.test_engine import write
from twisted_rudp.core.engine import Event


class LossTests(SynchronousTestCase):
    """Every pattern of losses among the first five datagrams each way."""

    def check(self, there: int, back: int, known: bool, client: bool, server: bool) -> None:
        """
        @param client: it writes as soon as it is connected.
        @param server: so does it.
        """
        pair = Pair(missing(there, 0), missing(back, 0))
        pair.dial(known)
        case = (there, back, known, client, server)
        said: set[str] = set()
        for _ in range(40):
            pair.run(250)
            for end, wanted in ((pair.client, client), (pair.server, server)):
                if wanted and end.name not in said and Event.CONNECTED in end.kinds():
                    said.add(end.name)
                    write(end, 0, b"first words")
            if pair.client.kinds() and pair.server.kinds() and len(said) == client + server:
                break
        pair.run(4000)
        for end in (pair.client, pair.server):
            self.assertEqual(end.kinds(), [Event.CONNECTED], case)
            self.assertEqual(end.engine.facts()["peer"], "EXTENDED", case)
            self.assertEqual(end.engine.facts()["bytes_in_flight"], 0, case)
        if client:
            self.assertEqual(pair.server.streams[0], b"first words", case)
        if server:
            self.assertEqual(pair.client.streams[0], b"first words", case)
        self.assertTrue(sum(map(len, pair.server.sent[:6])) <= 6 * 1400)

    def test_patterns(self) -> None:
        """
        It comes about on both sides, each knows what the other is, and what is written at once
        arrives.
        """
        for pattern in range(1024):
            mode = pattern * 7 % 8
            self.check(pattern & 31, pattern >> 5, bool(mode & 1), bool(mode & 2), bool(mode & 4))
