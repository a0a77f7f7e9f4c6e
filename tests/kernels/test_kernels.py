"""The kernels: what they do, and that C and Python do the same."""

from __future__ import annotations

import os
import struct
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
from twisted_rudp.kernels import pure, pure_framing

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
    """The result, or the type of the exception."""
    try:
        return function(*args)
    except Exception as error:
        return type(error)


class BuildTests(SynchronousTestCase):
    """L{kernels.build_run}."""

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

    def test_parts(self) -> None:
        """Parts are cut each on its own, numbers and fragments going on."""
        run = kernels.build_run(7, 9, 5, 1, 3, 2, 4, (b"abcdef", bytearray(b"gh"), b""))
        self.assertEqual(
            list(parse(run)),
            [
                Segment(7, PUSH, 2, 9, 5, 1, 3, b"abcd"),
                Segment(7, PUSH, 1, 9, 5, 2, 3, b"ef"),
                Segment(7, PUSH, 0, 9, 5, 3, 3, b"gh"),
            ],
        )

    def test_tooManyParts(self) -> None:
        """There is a limit to parts."""
        parts = (b"x",) * pure.MAXIMUM_PARTS
        self.assertEqual(len(kernels.build_run(7, 9, 5, 0, 3, 0, 4, parts)), 25 * len(parts))
        self.assertRaises(ValueError, kernels.build_run, 7, 9, 5, 0, 3, 0, 4, (*parts, b"x"))

    def test_nothing(self) -> None:
        """No data makes no segment."""
        self.assertEqual(kernels.build_run(7, 9, 5, 0, 3, 0, 4, b""), b"")

    def test_badSize(self) -> None:
        """A segment has at least one byte."""
        self.assertRaises(ValueError, kernels.build_run, 7, 9, 5, 0, 3, 0, 0, b"x")


class TakeTests(SynchronousTestCase):
    """L{kernels.take_run}."""

    def setUp(self) -> None:
        self.run_ = kernels.build_run(7, 9, 5, 0xFFFFFFFE, 3, 0, 4, b"aaaabbbbccccdd")

    def test_leading(self) -> None:
        """Whole segments in order are joined; the shorter last one is left."""
        self.assertEqual(
            kernels.take_run(self.run_, 28, 7, 0xFFFFFFFE, 64), (3, b"aaaabbbbcccc", 5, 9, 3)
        )

    def test_limit(self) -> None:
        """No more than C{limit} are taken."""
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
        """C{ts}, C{wnd} and C{una} may change from one to the next; the last count."""
        other = kernels.build_run(7, 8, 6, 0, 4, 0, 4, b"cccc")
        self.assertEqual(
            kernels.take_run(self.run_[:56] + other, 28, 7, 0xFFFFFFFE, 64),
            (3, b"aaaabbbbcccc", 6, 8, 4),
        )


class ColumnTests(SynchronousTestCase):
    """L{kernels.same_column}."""

    def test_change(self) -> None:
        """The index of the first datagram with another value is found."""
        self.assertEqual(kernels.same_column(b"xAByABzACwAB", 3, 1, 2), 2)
        self.assertEqual(kernels.same_column(b"xAByABzABwAB", 3, 1, 2), 4)

    def test_cut(self) -> None:
        """A datagram too short for the field differs, even if the first is it."""
        self.assertEqual(kernels.same_column(b"xAByABzA", 3, 1, 2), 2)
        self.assertEqual(kernels.same_column(b"xA", 3, 1, 2), 0)
        self.assertEqual(kernels.same_column(b"", 3, 1, 2), 0)

    def test_notBeyondTheDatagram(self) -> None:
        """A field that does not fit a datagram is nowhere."""
        self.assertEqual(kernels.same_column(b"abcdef", 3, 2, 2), 0)

    def test_badArguments(self) -> None:
        """Sizes are positive, offsets not negative."""
        for size, offset, width in ((0, 0, 1), (1, -1, 1), (1, 0, 0)):
            self.assertRaises(ValueError, kernels.same_column, b"x", size, offset, width)


class TwinTests(SynchronousTestCase):
    """The extension against its specification, C{pure.py} and C{pure_framing.py}."""

    def setUp(self) -> None:
        if _native is None:
            raise SkipTest("the extension was not built")

    @PROPERTY
    @given(
        st.lists(anyInteger, min_size=6, max_size=6),
        smallSize,
        st.one_of(buffers, st.lists(st.one_of(buffers, anything), max_size=70).map(tuple)),
    )
    def test_build(self, fields: list[int], mss: int, data: Any) -> None:
        """build_run: equal results and exceptions."""
        args = (*fields, mss, data)
        self.assertEqual(outcome(_native.build_run, *args), outcome(pure.build_run, *args))

    @PROPERTY
    @given(buffers, smallSize, anyInteger, anyInteger, smallSize)
    def test_takeGarbage(self, run: Any, size: int, conv: int, sn: int, limit: int) -> None:
        """take_run on arbitrary bytes: equal results and exceptions."""
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
        """take_run on what build_run made, with one byte changed: equal."""
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
        """same_column: equal results and exceptions."""
        args = (run, size, offset, width)
        self.assertEqual(outcome(_native.same_column, *args), outcome(pure.same_column, *args))

    @PROPERTY
    @given(st.data(), st.integers(9, 30), st.integers(1, 5), st.integers(0, 3))
    def test_fec(self, draw: st.DataObject, size: int, data: int, parity: int) -> None:
        """
        fec_take and fec_conversation on packets numbered on, of one conversation,
        cut and with a few bytes changed: equal.
        """
        shards = data + parity
        first = draw.draw(st.sampled_from([0, 1, 7, (1 << 32) - 4]))
        run = bytearray()
        for number in range(first, first + draw.draw(st.integers(0, 9))):
            kind = pure_framing.FEC_DATA + (number % shards >= data)
            header = struct.pack("<IHH", number & 0xFFFFFFFF, kind, size)
            run += (header + b"conv" + bytes([number & 0xFF]) * size)[:size]
        del run[draw.draw(st.integers(0, size * 9)) :]
        for at in draw.draw(st.lists(st.integers(0, 300), max_size=2)):
            if at < len(run):
                run[at] = draw.draw(st.integers(0, 255))
        size += draw.draw(st.sampled_from([0, 0, 0, 1, -10, 1 << 70]))
        for name, args in (
            ("fec_take", (run, size, data, shards)),
            ("fec_take", (run, size, data, data - 1 - parity)),
            ("fec_conversation", (run, size)),
        ):
            self.assertEqual(
                outcome(getattr(_native, name), *args), outcome(getattr(pure_framing, name), *args)
            )

    @PROPERTY
    @given(st.data(), st.integers(1, 300), st.integers(0, 6), st.sampled_from([1, 8, 16]))
    def test_checked(self, draw: st.DataObject, size: int, count: int, block: int) -> None:
        """
        check_frame and what reads it again, whatever was changed: equal. Untouched,
        it gives back the run.
        """
        length = max(0, size * count - draw.draw(st.integers(0, size)))
        run = draw.draw(st.randoms()).randbytes(length)
        nonces = bytes(range(16)) * -(-len(run) // size)
        framed = bytearray(_native.check_frame(run, size, nonces, block))
        self.assertEqual(framed, pure_framing.check_frame(run, size, nonces, block))
        width = size + pure_framing.CHECKED_OVERHEAD
        stride = width + -width % block
        total = len(run) + len(nonces) // 16 * pure_framing.CHECKED_OVERHEAD
        args: list[Any] = [framed, stride, 0, width, total]
        self.assertEqual(_native.check_take(*args), (run, []))
        for at in draw.draw(st.lists(st.integers(0, 2000), max_size=2)):
            if framed:
                framed[at % len(framed)] ^= 1
        if draw.draw(st.booleans()):
            args[draw.draw(st.integers(1, 4))] += draw.draw(st.integers(-9, 9))
        for name in ("check_take", "gather_run"):
            self.assertEqual(
                outcome(getattr(_native, name), *args), outcome(getattr(pure_framing, name), *args)
            )

    @PROPERTY
    @given(buffers, st.integers(-1, 90), st.binary(max_size=16), st.integers(-1, 20))
    def test_spread(self, run: Any, size: int, lead: bytes, block: int) -> None:
        """spread_run, and check_frame with any number of nonces: equal."""
        for name, args in (
            ("spread_run", (run, size, lead, block)),
            ("check_frame", (run, size, lead, block)),
        ):
            self.assertEqual(
                outcome(getattr(_native, name), *args), outcome(getattr(pure_framing, name), *args)
            )

    def test_bounds(self) -> None:
        """Pieces beyond the buffer are refused, to the byte and at any size."""
        for module in (_native, pure_framing):
            self.assertEqual(module.gather_run(b"abcdef", 3, 1, 2, 4), b"bcef")
            for args in (
                (3, 1, 2, 5), (3, 2, 2, 4), (4, 1, 2, 4), (1, 1, 2, 4), (3, -1, 2, 4), (3, 1, 0, 4),
                (3, 1, 2, -1), (1 << 70, 1, 2, 4), (3, 1 << 70, 2, 4), (3, 1, 2, 1 << 70),
            ):
                self.assertRaises(ValueError, module.gather_run, b"abcdef", *args)
                self.assertRaises(ValueError, module.check_take, b"abcdef", *args)

    @PROPERTY
    @given(
        st.sampled_from(
            [
                "build_run",
                "check_frame",
                "check_take",
                "fec_conversation",
                "fec_take",
                "gather_run",
                "same_column",
                "spread_run",
                "take_run",
            ]
        ),
        st.data(),
    )
    def test_wrongTypes(self, name: str, data: st.DataObject) -> None:
        """Arguments of a wrong type: equal exceptions."""
        args: list[Any] = {
            "build_run": [1, 2, 3, 4, 5, 0, 7, b"abc"],
            "take_run": [bytes(50), 25, 1, 2, 3],
            "same_column": [bytes(50), 25, 1, 2],
            "check_frame": [bytes(20), 10, bytes(32), 1],
            "check_take": [bytes(90), 40, 3, 30, 60],
            "fec_conversation": [bytes(50), 25],
            "fec_take": [bytes(50), 25, 1, 2],
            "gather_run": [bytes(50), 25, 1, 2, 4],
            "spread_run": [bytes(50), 25, b"", 1],
        }[name][:]
        position = data.draw(st.integers(0, len(args) - 1))
        args[position] = data.draw(st.one_of(st.none(), st.text(max_size=2), st.floats()))
        twin = getattr(pure, name, None) or getattr(pure_framing, name)
        self.assertEqual(outcome(getattr(_native, name), *args), outcome(twin, *args))


class ChoiceTests(SynchronousTestCase):
    """Which implementation is used."""

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
        """C{TWISTED_RUDP_PURE=1} forces the Python kernels."""
        self.assertEqual(self.implementation(TWISTED_RUDP_PURE="1"), "pure")

    def test_native(self) -> None:
        """Without it the extension is used if it was built."""
        expected = "pure" if _native is None else "native"
        self.assertEqual(self.implementation(TWISTED_RUDP_PURE=""), expected)


def product(matrix: bytes, shards: list[bytes], length: int) -> bytes:
    """What C{gf_matmul} is to give, by the definition: polynomials over GF(2) modulo 0x11D."""
    out = bytearray()
    for start in range(0, len(matrix), len(shards)):
        row = matrix[start : start + len(shards)]
        for at in range(length):
            total = 0
            for factor, shard in zip(row, shards, strict=True):
                value = shard[at] if at < len(shard) else 0
                for bit in range(8):
                    if factor >> bit & 1:
                        total ^= value << bit
            for bit in range(14, 7, -1):
                if total >> bit & 1:
                    total ^= 0x11D << (bit - 8)
            out.append(total)
    return bytes(out)


class MatrixTests(SynchronousTestCase):
    """C{gf_matmul}, which has no twin here: see L{twisted_rudp.kcp.reed_solomon}."""

    def setUp(self) -> None:
        if _native is None:
            raise SkipTest("the extension is not built")
        names = ("gf_matmul", "gf_matmul_table", "gf_matmul_ssse3")
        self.ways = [getattr(_native, name) for name in names if hasattr(_native, name)]

    @PROPERTY
    @given(
        st.lists(st.binary(max_size=70), min_size=1, max_size=6),
        st.integers(0, 4),
        st.integers(0, 9),
        st.randoms(),
    )
    def test_property(self, shards: list[bytes], rows: int, more: int, chance: Any) -> None:
        """Every way to multiply gives the product, shorter shards ending in zeros."""
        length = max(map(len, shards)) + more
        matrix = chance.randbytes(rows * len(shards))
        expected = product(matrix, shards, length)
        for way in self.ways:
            self.assertEqual(way(matrix, shards, length), expected)
            self.assertEqual(way(matrix, tuple(map(memoryview, shards)), length), expected)

    def test_refused(self) -> None:
        """What does not fit is an error."""
        for way in self.ways:
            for matrix, shards, length in (
                (b"abc", [b"a", b"b"], 1),
                (b"ab", [], 1),
                (b"ab", [b"abc", b"a"], 2),
                (b"ab", [b"a", b"a"], -1),
            ):
                self.assertRaises(ValueError, way, matrix, shards, length)
            self.assertRaises(TypeError, way, b"ab", [b"a", 5], 1)
            self.assertRaises(TypeError, way, b"ab", 5, 1)
            self.assertRaises(TypeError, way, b"ab", [b"a", b"b"])
