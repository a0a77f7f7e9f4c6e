"""Peers that connected honestly and then do as they like: nothing they do is costly."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests import hostile
from tests.hostile import ATTACKS, PAIRS, Victim
from tests.pair import CLIENT

DATAGRAMS = 100
MOST_MEMORY = 1_500_000
"""Bytes that a session may hold more than before."""

MOST_ANSWERED = 10.0
"""Bytes sent for each received, where there is nothing to be sent but answers."""


class HostilePeerTests(SynchronousTestCase):
    """Each attack of L{tests.hostile}."""

    def check(self, transport: str) -> None:
        for name, (_, bulk) in ATTACKS[transport].items():
            cost = hostile.attack(transport, name, DATAGRAMS)
            self.assertLess(cost.memory, MOST_MEMORY, name)
            if not bulk:
                self.assertLess(cost.ratio, MOST_ANSWERED, name)

    def test_kcp(self) -> None:
        """KCP: nothing raises, memory and answers are bounded."""
        self.check("kcp")

    def test_raknet(self) -> None:
        """RakNet: nothing raises, memory and answers are bounded."""
        self.check("raknet")

    def test_qotp(self) -> None:
        """QOTP: nothing raises, memory and answers are bounded."""
        self.check("qotp")

    def test_unreliable(self) -> None:
        """
        RakNet: unreliable messages for an application that does not read are dropped when
        half a megabyte waits, and reliable ones not acknowledged.
        """
        victim = Victim(PAIRS["raknet"](), False)
        victim.near.reading = False
        make, _ = ATTACKS["raknet"]["unreliable"]
        for number in range(800):
            victim.near.arrive(make(victim, number), CLIENT)
            victim.engine.take_messages()
        self.assertLess(victim.engine.facts()["bytes_unread"], 600_000)
        self.assertGreater(victim.engine.counters()["messages_unread_dropped"], 300)

    def test_nacks(self) -> None:
        """RakNet: a peer that says that nothing has arrived is sent little, again and again."""
        victim = Victim(PAIRS["raknet"](), True)
        make, _ = ATTACKS["raknet"]["nacks"]
        for number in range(300):
            victim.near.arrive(make(victim, number), CLIENT)
            victim.pair.run(1)
        victim.near.sent.clear()
        for number in range(300):
            victim.near.arrive(make(victim, number), CLIENT)
            victim.pair.run(1)
        self.assertLess(sum(map(len, victim.near.sent)), 100_000)

    def test_nothingAcknowledged(self) -> None:
        """A peer that talks all the time and acknowledges nothing is ended by the idle timeout."""
        for transport, name in (
            ("kcp", "window probes"),
            ("raknet", "holes"),
            ("qotp", "tiny data"),
        ):
            victim = Victim(PAIRS[transport](), True)
            make, _ = ATTACKS[transport][name]
            for number in range(200):
                if not victim.engine.closed:
                    victim.near.arrive(make(victim, number), CLIENT)
                victim.pair.run(500)
            self.assertIn(victim.engine.facts()["state"], ("TIME_WAIT", "CLOSED"), transport)
