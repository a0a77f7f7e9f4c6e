import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.multimap import Multimap


class MultimapTests(SynchronousTestCase):
    """L{Multimap}."""

    def test_one(self) -> None:
        """A value is found under its key until it is taken away."""
        values = Multimap()
        values.add("key", 1)
        values.add("key", 1)
        self.assertEqual((values.of("key"), values.count("key"), len(values)), ((1,), 1, 1))
        values.discard("key", 2)
        values.discard("other", 1)
        self.assertIn("key", values)
        values.discard("key", 1)
        self.assertNotIn("key", values)
        self.assertEqual((values.of("key"), values.count("key"), len(values)), ((), 0, 0))

    def test_several(self) -> None:
        """They keep the order in which they came; the last one takes its key with it."""
        values = Multimap()
        for value in (3, 1, 2, 1):
            values.add("key", value)
        self.assertEqual((values.of("key"), values.count("key")), ((3, 1, 2), 3))
        values.discard("key", 3)
        self.assertEqual(list(values.items()), [("key", (1, 2))])
        for value in (1, 2):
            values.discard("key", value)
        self.assertEqual(len(values), 0)

    def test_none(self) -> None:
        """C{None} is a value like others."""
        values = Multimap()
        values.discard("key", None)
        values.add("key", None)
        self.assertEqual((values.of("key"), values.count("key")), ((None,), 1))
        values.discard("key", None)
        self.assertEqual(len(values), 0)

    def test_cleared(self) -> None:
        """Nothing is left."""
        values = Multimap()
        values.add("key", 1)
        values.clear()
        self.assertEqual(list(values.items()), [])

    def test_random(self) -> None:
        """It does what a dictionary of dictionaries does."""
        chance = random.Random(1)
        values = Multimap()
        expected: dict[int, dict[Any, None]] = {}
        for _ in range(3000):
            key, value = chance.randrange(5), (chance.randrange(4), "a")
            if chance.random() < 0.5:
                values.add(key, value)
                expected.setdefault(key, {})[value] = None
            else:
                values.discard(key, value)
                if key in expected:
                    expected[key].pop(value, None)
                    if not expected[key]:
                        del expected[key]
            self.assertEqual(
                {key: list(found) for key, found in values.items()},
                {key: list(found) for key, found in expected.items()},
            )
