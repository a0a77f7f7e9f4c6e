"""The kernels of RakNet's bulk data: what they do, and that C and Python do the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_rudp import kernels
from twisted_rudp.kernels import pure_frames
from twisted_rudp.raknet.wire import Frame, parse_frames

try:
    from twisted_rudp.kernels import _native
except ImportError:
    _native = None  # type: ignore[assignment]

PROPERTY = settings(max_examples=150, deadline=None, derandomize=True)

counters = st.one_of(
    st.integers(0, 3), st.integers((1 << 24) - 3, 1 << 24), st.integers(-(1 << 70), 1 << 70)
)
sizes = st.one_of(st.integers(-1, 60), st.sampled_from([8190, 8191, 8192, 1 << 70]))
anything = st.one_of(counters, st.none(), st.text(max_size=1))


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """The result, or the type of the exception."""
    try:
        return function(*args)
    except Exception as error:
        return type(error)


def datagrams(run: bytes, size: int) -> list[tuple[int, int, list[Frame]]]:
    """First byte, number and frames of each, read by the general parser."""
    found = []
    for start in range(0, len(run), size):
        datagram = run[start : start + size]
        frames, broken = parse_frames(datagram)
        assert not broken
        found.append((datagram[0], int.from_bytes(datagram[1:4], "little"), frames))
    return found


class StreamTests(SynchronousTestCase):
    """L{kernels.frame_stream} and L{kernels.take_stream}."""

    def test_datagrams(self) -> None:
        """
        A piece of the stream becomes datagrams of one frame, each behind the user id,
        with all three numbers counting on across 2^24 (raknet.md 5, 6, 12).
        """
        run = kernels.frame_stream(0xFFFFFF, 0xFFFFFE, 5, 0xFE, 4, b"abcdefghij")
        self.assertEqual(
            datagrams(run, 19),
            [
                (0x84, 0xFFFFFF, [Frame(3, b"\xfeabcd", 0xFFFFFE, None, 5, 0)]),
                (0x8C, 0, [Frame(3, b"\xfeefgh", 0xFFFFFF, None, 6, 0)]),
                (0x8C, 1, [Frame(3, b"\xfeij", 0, None, 7, 0)]),
            ],
        )
        taken = kernels.take_stream(run, 19, 0xFFFFFF, 0xFFFFFE, 5, 0xFE)
        self.assertEqual(taken, (3, b"abcdefghij"))

    def test_stops(self) -> None:
        """Taking ends at the first datagram that has another number or another shape."""
        run = kernels.frame_stream(1, 2, 3, 0xFE, 4, b"abcdefghijkl")
        for at in (0, 1, 4, 5, 6, 7, 10, 13, 14):
            changed = bytearray(run)
            changed[19 + at] ^= 0x80
            self.assertEqual(kernels.take_stream(changed, 19, 1, 2, 3, 0xFE), (1, b"abcd"))


class MessageTests(SynchronousTestCase):
    """L{kernels.frame_messages} and L{kernels.take_messages}."""

    def test_datagrams(self) -> None:
        """Messages are packed so many to a datagram and come out one by one."""
        messages = [b"\xfe1", b"\xfe2", b"\xfe3"]
        run = kernels.frame_messages(0xFFFFFF, 7, 0xFFFFFF, 2, messages)
        self.assertEqual(
            datagrams(run, 28),
            [
                (
                    0x84,
                    0xFFFFFF,
                    [
                        Frame(3, b"\xfe1", 7, None, 0xFFFFFF, 0),
                        Frame(3, b"\xfe2", 8, None, 0, 0),
                    ],
                ),
                (0x8C, 0, [Frame(3, b"\xfe3", 9, None, 1, 0)]),
            ],
        )
        taken = kernels.take_messages(run, 28, 0xFFFFFF, 7, 0xFFFFFF, 0x80)
        self.assertEqual(taken, (2, messages))

    def test_wholeDatagramsOnly(self) -> None:
        """
        A datagram with one frame that is not for this path stays as a whole, so that
        none of it is read twice.
        """
        run = kernels.frame_messages(1, 2, 3, 2, [b"\xfe1", b"\xfe2", b"\xfe3", b"\x00p"])
        taken = kernels.take_messages(run, 28, 1, 2, 3, 0x80)
        self.assertEqual(taken, (1, [b"\xfe1", b"\xfe2"]))


class TwinTests(SynchronousTestCase):
    """The C kernels do what the Python ones do, to the byte and to the exception."""

    def setUp(self) -> None:
        if _native is None:
            raise SkipTest("the extension is not built here")

    @PROPERTY
    @given(st.tuples(counters, counters, counters, anything, sizes, st.binary(max_size=200)))
    def test_frameStream(self, args: tuple[Any, ...]) -> None:
        """L{pure_frames.frame_stream}."""
        self.assertEqual(
            outcome(_native.frame_stream, *args), outcome(pure_frames.frame_stream, *args)
        )

    @PROPERTY
    @given(
        st.tuples(
            counters,
            counters,
            anything,
            st.one_of(st.integers(-1, 4), anything),
            st.one_of(
                st.lists(st.one_of(st.binary(max_size=9), st.just(bytes(8192)), st.none())),
                st.lists(st.binary(min_size=1, max_size=20)),
                st.none(),
            ),
        )
    )
    def test_frameMessages(self, args: tuple[Any, ...]) -> None:
        """L{pure_frames.frame_messages}."""
        self.assertEqual(
            outcome(_native.frame_messages, *args), outcome(pure_frames.frame_messages, *args)
        )

    @PROPERTY
    @given(counters, st.integers(1, 30), st.binary(max_size=200), st.data())
    def test_takeStream(self, first: int, mss: int, data: bytes, drawn: st.DataObject) -> None:
        """L{pure_frames.take_stream}, also of what was changed on its way."""
        run = bytearray(pure_frames.frame_stream(first, first, first, 0xFE, mss, data))
        self._damage(run, drawn)
        size = drawn.draw(st.one_of(st.just(mss + 15), sizes))
        args = (bytes(run), size, first, first, first, 0xFE)
        self.assertEqual(
            outcome(_native.take_stream, *args), outcome(pure_frames.take_stream, *args)
        )

    @PROPERTY
    @given(
        counters,
        st.integers(1, 3),
        st.lists(st.binary(min_size=3, max_size=3), max_size=9),
        st.data(),
    )
    def test_takeMessages(
        self, first: int, per: int, messages: list[bytes], drawn: st.DataObject
    ) -> None:
        """L{pure_frames.take_messages}, also of what was changed on its way."""
        run = bytearray(pure_frames.frame_messages(first, first, first, per, messages))
        self._damage(run, drawn)
        size = drawn.draw(st.one_of(st.just(4 + 13 * per), sizes))
        args = (bytes(run), size, first, first, first, drawn.draw(st.sampled_from([0, 0x80])))
        self.assertEqual(
            outcome(_native.take_messages, *args), outcome(pure_frames.take_messages, *args)
        )

    def _damage(self, run: bytearray, drawn: st.DataObject) -> None:
        if run and drawn.draw(st.booleans()):
            at = drawn.draw(st.integers(0, len(run) - 1))
            run[at] ^= drawn.draw(st.sampled_from([0x01, 0x07, 0x08, 0x10, 0x20, 0x80]))
        if drawn.draw(st.booleans()):
            del run[len(run) - drawn.draw(st.integers(0, min(12, len(run)))) :]
