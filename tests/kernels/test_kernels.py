"""
The kernels: what they do, and that C and Python do the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.kcp.segments import Segment, parse, split
from twisted_rudp import kernels
from twisted_rudp.kcp.wire import PUSH
from twisted_rudp.kernels import pure

try:
    from twisted_rudp.kernels import _native
except ImportError:
    _native = None  # type: ignore[assignment]

PROPERTY = settings(max_examples=100, deadline=None, derandomize=True)

anyInteger = st.one_of(
    st.integers(0, 3),
    st.integers(-(1 << 70), 1 << 70),
    st.sampled_from([0xFFFFFFFF, 1 << 32, 1 << 63, (1 << 63) - 1, 1 << 64, -(1 << 63)]),
)
anything = st.one_of(anyInteger, st.none(), st.text(max_size=2), st.floats(allow_nan=False))
smallSize = st.one_of(st.integers(-2, 80), anyInteger)
buffers = st.binary(max_size=600).flatmap(
    lambda data: st.sampled_from([data, bytearray(data), memoryview(data)])
)


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """
    The result, or the type of the exception.
    """
    try:
        return function(*args)
    except Exception as error:
        return type(error)


class BuildTests(SynchronousTestCase):
    """
    L{kernels.build_run}.
    """

    def test_segments(self) -> None:
        """
        Data is cut into PUSH segments of C{mss} bytes, numbered on across
        2^32, with C{frg} counting down to 0 (kcp.md 1.1, 1.4).
        """
        run = kernels.build_run(7, 9, 5, 0xFFFFFFFF, 3, 1, 4, b"abcdefghij")
        self.assertEqual(
            [segment for datagram in split(run, 28) for segment in parse(datagram)],
            [
                Segment(7, PUSH, 1, 9, 5, 0xFFFFFFFF, 3, b"abcd"),
                Segment(7, PUSH, 0, 9, 5, 0, 3, b"efgh"),
                Segment(7, PUSH, 0, 9, 5, 1, 3, b"ij"),
            ],
        )

    def test_nothing(self) -> None:
        """
        No data makes no segment.
        """
        self.assertEqual(kernels.build_run(7, 9, 5, 0, 3, 0, 4, b""), b"")

    def test_badSize(self) -> None:
        """
        A segment has at least one byte.
        """
        self.assertRaises(ValueError, kernels.build_run, 7, 9, 5, 0, 3, 0, 0, b"x")


class TakeTests(SynchronousTestCase):
    """
    L{kernels.take_run}.
    """

    def setUp(self) -> None:
        self.run_ = kernels.build_run(7, 9, 5, 0xFFFFFFFE, 3, 0, 4, b"aaaabbbbccccdd")

    def test_leading(self) -> None:
        """
        Whole segments in order are joined; the shorter last one is left.
        """
        self.assertEqual(
            kernels.take_run(self.run_, 28, 7, 0xFFFFFFFE, 64), (3, b"aaaabbbbcccc", 5, 9, 3)
        )

    def test_limit(self) -> None:
        """
        No more than C{limit} are taken.
        """
        self.assertEqual(
            kernels.take_run(self.run_, 28, 7, 0xFFFFFFFE, 2), (2, b"aaaabbbb", 5, 9, 3)
        )
        self.assertEqual(kernels.take_run(self.run_, 28, 7, 0xFFFFFFFE, 0)[0], 0)

    def test_stops(self) -> None:
        """
        The first datagram that differs in number, kind, fragment, conversation
        or length ends it, and the values are those of the one before.
        """
        for offset in (0, 4, 5, 12, 20):
            damaged = bytearray(self.run_)
            damaged[28 + offset] ^= 1
            self.assertEqual(
                kernels.take_run(damaged, 28, 7, 0xFFFFFFFE, 64), (1, b"aaaa", 5, 9, 3)
            )

    def test_valuesOfTheLast(self) -> None:
        """
        C{ts}, C{wnd} and C{una} may change from one to the next; the last count.
        """
        other = kernels.build_run(7, 8, 6, 0, 4, 0, 4, b"cccc")
        self.assertEqual(
            kernels.take_run(self.run_[:56] + other, 28, 7, 0xFFFFFFFE, 64),
            (3, b"aaaabbbbcccc", 6, 8, 4),
        )


class ColumnTests(SynchronousTestCase):
    """
    L{kernels.same_column}.
    """

    def test_change(self) -> None:
        """
        The index of the first datagram with another value is found.
        """
        self.assertEqual(kernels.same_column(b"xAByABzACwAB", 3, 1, 2), 2)
        self.assertEqual(kernels.same_column(b"xAByABzABwAB", 3, 1, 2), 4)

    def test_cut(self) -> None:
        """
        A datagram too short for the field differs, even if the first is it.
        """
        self.assertEqual(kernels.same_column(b"xAByABzA", 3, 1, 2), 2)
        self.assertEqual(kernels.same_column(b"xA", 3, 1, 2), 0)
        self.assertEqual(kernels.same_column(b"", 3, 1, 2), 0)

    def test_notBeyondTheDatagram(self) -> None:
        """
        A field that does not fit a datagram is nowhere.
        """
        self.assertEqual(kernels.same_column(b"abcdef", 3, 2, 2), 0)

    def test_badArguments(self) -> None:
        """
        Sizes are positive, offsets not negative.
        """
        for size, offset, width in ((0, 0, 1), (1, -1, 1), (1, 0, 0)):
            self.assertRaises(ValueError, kernels.same_column, b"x", size, offset, width)


class TwinTests(SynchronousTestCase):
    """
    C{native.c} against its specification C{pure.py}.
    """

    def setUp(self) -> None:
        if _native is None:
            raise SkipTest("the extension was not built")

    @PROPERTY
    @given(st.lists(anyInteger, min_size=6, max_size=6), smallSize, buffers)
    def test_build(self, fields: list[int], mss: int, data: Any) -> None:
        """
        build_run: equal results and exceptions.
        """
        args = (*fields, mss, data)
        self.assertEqual(outcome(_native.build_run, *args), outcome(pure.build_run, *args))

    @PROPERTY
    @given(buffers, smallSize, anyInteger, anyInteger, smallSize)
    def test_takeGarbage(self, run: Any, size: int, conv: int, sn: int, limit: int) -> None:
        """
        take_run on arbitrary bytes: equal results and exceptions.
        """
        args = (run, size, conv, sn, limit)
        self.assertEqual(outcome(_native.take_run, *args), outcome(pure.take_run, *args))

    @PROPERTY
    @given(
        st.binary(min_size=1, max_size=300),
        st.integers(1, 40),
        anyInteger,
        st.integers(-1, 12),
        st.one_of(st.none(), st.tuples(st.integers(0, 600), st.integers(0, 255))),
    )
    def test_takeBuilt(
        self, data: bytes, mss: int, sn: int, limit: int, damage: tuple[int, int] | None
    ) -> None:
        """
        take_run on what build_run made, with one byte changed: equal.
        """
        run = bytearray(pure.build_run(1, 2, 3, sn, 5, 0, mss, data))
        if damage is not None:
            run[damage[0] % len(run)] = damage[1]
        args = (run, mss + 24, 1, sn, limit)
        self.assertEqual(outcome(_native.take_run, *args), outcome(pure.take_run, *args))

    @PROPERTY
    @given(
        st.lists(st.integers(0, 1), max_size=60).map(bytes), smallSize, smallSize, smallSize
    )
    def test_column(self, run: bytes, size: int, offset: int, width: int) -> None:
        """
        same_column: equal results and exceptions.
        """
        args = (run, size, offset, width)
        self.assertEqual(outcome(_native.same_column, *args), outcome(pure.same_column, *args))

    @PROPERTY
    @given(st.sampled_from(["build_run", "take_run", "same_column"]), st.data())
    def test_wrongTypes(self, name: str, data: st.DataObject) -> None:
        """
        Arguments of a wrong type: equal exceptions.
        """
        args: list[Any] = {
            "build_run": [1, 2, 3, 4, 5, 0, 7, b"abc"],
            "take_run": [bytes(50), 25, 1, 2, 3],
            "same_column": [bytes(50), 25, 1, 2],
        }[name][:]
        position = data.draw(st.integers(0, len(args) - 1))
        args[position] = data.draw(anything)
        self.assertEqual(
            outcome(getattr(_native, name), *args), outcome(getattr(pure, name), *args)
        )


class ChoiceTests(SynchronousTestCase):
    """
    Which implementation is used.
    """

    def implementation(self, **environment: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", "from twisted_rudp import kernels as k;"
             "assert (k.take_run is k.pure.take_run) == (k.IMPLEMENTATION == 'pure');"
             "import sys; sys.stdout.write(k.IMPLEMENTATION)"],
            env={**os.environ, **environment},
            cwd=Path(kernels.__file__).parents[2],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def test_forced(self) -> None:
        """
        C{TWISTED_RUDP_PURE=1} forces the Python kernels.
        """
        self.assertEqual(self.implementation(TWISTED_RUDP_PURE="1"), "pure")

    def test_native(self) -> None:
        """
        Without it the extension is used if it was built.
        """
        expected = "pure" if _native is None else "native"
        self.assertEqual(self.implementation(TWISTED_RUDP_PURE=""), expected)
