"""A process or a machine that was stopped: debuggers, long callbacks, virtual machines."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.hostile import PAIRS
from twisted_rudp.core.engine import SECOND, Event


class StoppedTests(SynchronousTestCase):
    """Both ends do not run for a time that is longer than any timeout of theirs."""

    def connected(self, transport: str, lost: bool = False) -> Any:
        pair = PAIRS[transport]()
        pair.connect()
        pair.run(20_000)
        if lost:
            # Something is in flight, and does not arrive.
            fate, pair.fates["client"] = pair.fates["client"], lambda number, datagram: ()
            if transport == "raknet":
                pair.client.engine.send(b"\xfea")
            else:
                pair.client.engine.write(0, b"a")
            pair.client.turn(pair.client.engine)
            pair.fates["client"] = fate
        pair.now += 300 * SECOND
        return pair

    def test_goesOn(self) -> None:
        """
        Neither takes the other for gone: nobody was asked in that time. Their sessions are as
        good as before, whichever of their timers come first.
        """
        for transport in PAIRS:
            for lost in (False, True):
                pair = self.connected(transport, lost)
                pair.run(100_000)
                for end in (pair.client, pair.server):
                    self.assertEqual(end.kinds(), [Event.CONNECTED], (transport, lost))

    def test_gone(self) -> None:
        """A peer that is gone meanwhile is missed after the idle timeout."""
        for transport in PAIRS:
            pair = self.connected(transport)
            pair.server.engines.clear()
            pair.fates["client"] = lambda number, datagram: ()
            pair.run(1000)
            self.assertEqual(pair.client.kinds(), [Event.CONNECTED], transport)
            pair.run(80_000)
            self.assertEqual(pair.client.kinds(), [Event.CONNECTED, Event.ENDED], transport)
