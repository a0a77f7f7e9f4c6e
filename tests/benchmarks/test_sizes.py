from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks.sizes import Point, points


def result(server: str, sessions: int, **named: Any) -> dict[str, Any]:
    return {
        "server": server,
        "sessions": sessions,
        "seconds": 4.0,
        "cpu": 0.1,
        "answered": 8000,
        "a_session": 9000,
        **named,
    }


class PointTests(SynchronousTestCase):
    """L{points}."""

    def test_medians(self) -> None:
        """What was measured several times counts once, with the median."""
        results = [result("ours", 100, cpu=each) for each in (0.1, 0.9, 0.2)]
        results += [result("ours", 10), result("other", 10, cpu=1.0)]
        self.assertEqual(points(results, "ours"), [Point(10, 50.0, 9000), Point(100, 100.0, 9000)])

    def test_unanswered(self) -> None:
        """A server that answered nothing has no cost an exchange."""
        self.assertEqual(points([result("ours", 10, answered=0)], "ours"), [])
