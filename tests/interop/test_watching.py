"""C{rudp top} beside a link's own counters; see L{tests.watching}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks.links import LinkError
from tests.interop.harness import unavailable
from tests.watching import LINK, watched


class WatchingTests(SynchronousTestCase):
    """A forward between two machines, over a link that loses."""

    def test_top(self) -> None:
        """
        Its numbers agree with the link's to 2 %. The share of what is lost, which the sender
        can only guess, does to a fiftieth of what was sent.
        """
        try:
            seen = watched("kcp")
        except LinkError as problem:
            raise unavailable(str(problem)) from None
        pairs = dict(seen.pairs())
        ours, link = pairs.pop("thousandths lost")
        self.assertApproximates(ours, link, 20)
        self.assertGreater(link, 10)
        for name, (ours, link) in pairs.items():
            self.assertApproximates(ours / link, 1, 0.02, name)
        self.assertGreaterEqual(seen.shown["last"]["round_trip"], 2 * LINK.delay / 1000)
