"""Which topics the transports are tested on, and where."""

from __future__ import annotations

from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from tests.conformance import test_kcp, test_kcp_protected, test_qotp, test_raknet
from tests.conformance.everywhere import PORT_KINDS, PORT_TOPICS
from twisted_rudp.testing.conformance import (
    TOPICS,
    Capability,
    ConformanceCase,
    RealSockets,
    Simulation,
    Stage,
)
from twisted_rudp.testing.conformance.making import applies

Played = dict[tuple[str, type[Stage]], set[type]]


def played(module: ModuleType) -> Played:
    """The topics in a module by the transport's name and the stage."""
    found: Played = {}
    for case in vars(module).values():
        if isinstance(case, type) and issubclass(case, ConformanceCase):
            key = case.transport.name, case.stageClass
            found.setdefault(key, set()).update(case.__bases__)
    return found


class EverywhereTests(SynchronousTestCase):
    """Nothing is left out but on purpose."""

    def test_transports(self) -> None:
        """
        Each transport plays all its topics in the simulation and on a port of ours, and
        those about ports on the other kinds.
        """
        for name, module in ("KCP", test_kcp), ("QOTP", test_qotp), ("RakNet", test_raknet):
            found = played(module)
            names = [prefix + name for prefix in PORT_KINDS]
            stages = {f"Simulated{name}": Simulation} | dict.fromkeys(names, RealSockets)
            self.assertEqual(found.keys(), set(stages.items()))
            for (transport, stage), topics in found.items():
                (case, *_) = (
                    case
                    for case in vars(module).values()
                    if getattr(getattr(case, "transport", None), "name", None) == transport
                )
                asked = PORT_TOPICS if transport in names[1:] else TOPICS
                self.assertEqual(
                    topics, {topic for topic in asked if applies(topic, case.transport, stage)}
                )

    def test_protected(self) -> None:
        """KCP with encryption and FEC plays what KCP without them does."""
        self.assertEqual(
            played(test_kcp_protected)["SimulatedProtectedKCP", Simulation],
            played(test_kcp)["SimulatedKCP", Simulation],
        )

    def test_ports(self) -> None:
        """A port that hears of refusals has a topic for that, one that does not another."""
        names = {topic.__name__ for topic in PORT_TOPICS}
        self.assertEqual(len(names), 9)
        (refused,) = (topic for topic in PORT_TOPICS if topic.needs & Capability.REFUSES)
        (unanswered,) = (topic for topic in PORT_TOPICS if topic.lacks & Capability.REFUSES)
        self.assertEqual((refused.__name__, unanswered.__name__), ("Refused", "Unanswered"))
