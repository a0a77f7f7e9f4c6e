"""Tests for L{twisted_rudp.kcp.reed_solomon}."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import vectors
from twisted_rudp import kernels
from twisted_rudp.kcp.reed_solomon import (
    coefficients,
    evaluate_by_kernel,
    evaluate_by_zfec,
)

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True)

EVALUATIONS = [evaluate_by_zfec]
"""Those that this machine has."""
if kernels.gf_matmul is not None:
    EVALUATIONS.append(evaluate_by_kernel)


class CodecTests(SynchronousTestCase):
    """L{twisted_rudp.kcp.reed_solomon}."""

    def test_matrix(self) -> None:
        """Parity is the polynomial through the data, at the points that follow (kcp.md 3.3)."""
        for one in vectors.load("kcp", "rs_matrix")["matrices"]:
            data, parity = one["data_shards"], one["parity_shards"]
            points, wanted = tuple(range(data)), tuple(range(data, data + parity))
            rows = "".join(one["parity_rows"])
            self.assertEqual(coefficients(points, wanted).hex(), rows)
            for at in points:
                unit = [bytes([each == at]) for each in points]
                column = "".join(row[2 * at : 2 * at + 2] for row in one["parity_rows"])
                for evaluate in EVALUATIONS:
                    self.assertEqual(evaluate(points, unit, wanted, 1).hex(), column)

    @PROPERTY
    @given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 80), st.randoms())
    def test_recovery(self, data: int, parity: int, length: int, chance: random.Random) -> None:
        """
        Any C{data} shards of a group give back the others, through zfec and
        through the kernel alike, whatever zeros the shards lack at their ends.
        """
        shards = [chance.randbytes(chance.randint(0, length)) for _ in range(data)]
        points, wanted = tuple(range(data)), tuple(range(data, data + parity))
        blocks = {evaluate(points, shards, wanted, length) for evaluate in EVALUATIONS}
        self.assertEqual(len(blocks), 1)
        block = blocks.pop()
        every = shards + [block[at : at + length] for at in range(0, len(block), length)]
        kept = tuple(sorted(chance.sample(range(data + parity), data)))
        for evaluate in EVALUATIONS:
            again = evaluate(kept, [every[at] for at in kept], points, length)
            self.assertEqual(again, b"".join(shard.ljust(length, b"\0") for shard in shards))
