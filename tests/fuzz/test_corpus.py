"""What once made a parser or a state machine fail does so no more."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.targets import CORPUS, TARGETS, script, seeds, steps


class CorpusTests(SynchronousTestCase):
    """The corpus and a few of the seeds."""

    def test_corpus(self) -> None:
        """Every kept input is taken."""
        for name, target in TARGETS.items():
            for path in sorted((CORPUS / name).glob("*")):
                target(path.read_bytes())

    def test_seeds(self) -> None:
        """Each target has seeds and takes them."""
        chance = random.Random(1)
        for name, target in TARGETS.items():
            found = list(seeds(name))
            for seed in chance.sample(found, min(len(found), 20)):
                target(seed)

    def test_script(self) -> None:
        """A conversation is written and read."""
        wanted = [(3, b"abc"), (255, b""), (4, bytes(1000))]
        self.assertEqual(list(steps(script(*wanted))), wanted)
