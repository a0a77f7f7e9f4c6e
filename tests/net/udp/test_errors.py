"""Tests for L{twisted_rudp.net.udp.errors} and L{twisted_rudp.net.udp.errors}."""

from __future__ import annotations

import errno
import socket
import struct
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.net.udp.fakes import PEER, FakeSocket, Recorder, errorEntry
from twisted_rudp.core.engine import PathError
from twisted_rudp.net.udp.errors import (
    LIMIT,
    REPORTED,
    NetworkError,
    PathErrors,
    drain,
    failedAs,
    parse,
)

V6_PEER = ("2001:db8::1", 4000, 0, 0)


class ParseTests(SynchronousTestCase):
    """Control messages of the error queue."""

    def test_ipv4(self) -> None:
        """errno, offender and the MTU that EMSGSIZE brings."""
        header = struct.pack("=IBBBBII", errno.EMSGSIZE, 2, 3, 4, 0, 1280, 0)
        offender = struct.pack("=H", socket.AF_INET) + bytes([0, 0, 10, 1, 2, 3]) + bytes(8)
        self.assertEqual(
            parse([(0, 11, header + offender)], PEER),
            NetworkError(errno.EMSGSIZE, PEER, "10.1.2.3", 1280),
        )

    def test_ipv6(self) -> None:
        """The same over IPv6."""
        header = struct.pack("=IBBBBII", errno.ECONNREFUSED, 3, 1, 4, 0, 0, 0)
        offender = (
            struct.pack("=H", socket.AF_INET6)
            + bytes(6)
            + socket.inet_pton(socket.AF_INET6, "2001:db8::9")
            + bytes(4)
        )
        self.assertEqual(
            parse([(41, 25, header + offender)], V6_PEER),
            NetworkError(errno.ECONNREFUSED, V6_PEER, "2001:db8::9", 0),
        )

    def test_unknownOffender(self) -> None:
        """An offender that is not told, or cut off, is none."""
        header = struct.pack("=IBBBBII", errno.ECONNREFUSED, 2, 3, 3, 0, 0, 0)
        for rest in (b"", bytes(16), struct.pack("=H", socket.AF_INET)):
            error = parse([(0, 11, header + rest)], PEER)
            assert error is not None
            self.assertIsNone(error.offender)

    def test_notTheNetworks(self) -> None:
        """Local origins, time stamps and other messages are no ICMP errors."""
        for origin in (0, 1, 4, 5, 255):
            [(_, [message], _, _)] = [errorEntry(errno.EMSGSIZE, PEER, origin)]
            self.assertIsNone(parse([message], PEER))
        self.assertIsNone(parse([], PEER))
        self.assertIsNone(parse([(17, 104, bytes(4))], PEER))

    @given(st.lists(st.tuples(st.sampled_from([0, 41]), st.sampled_from([11, 25]), st.binary())))
    @settings(max_examples=100, deadline=None, derandomize=True)
    def test_anything(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        """No control message whatever raises."""
        parse(ancillary, PEER)

    def test_drain(self) -> None:
        """Draining gives every entry and ends with the queue."""
        fake = FakeSocket()
        fake.errors += [errorEntry(errno.ECONNREFUSED, PEER), errorEntry(errno.EIO, PEER, 1)]
        first, second = drain(cast(socket.socket, fake))
        self.assertEqual(first, NetworkError(errno.ECONNREFUSED, PEER, "10.0.0.1", 0))
        self.assertIsNone(second)


class PathErrorsTests(SynchronousTestCase):
    """L{PathErrors} and the tables."""

    def test_tables(self) -> None:
        """A local filter forbids, a remote one makes unreachable."""
        self.assertEqual(failedAs(errno.EPERM), PathError.FORBIDDEN)
        self.assertEqual(REPORTED[errno.EACCES], PathError.UNREACHABLE)
        self.assertEqual(REPORTED[errno.ENOPROTOOPT], PathError.REFUSED)
        self.assertIsNone(failedAs(errno.ENOPROTOOPT))
        self.assertIsNone(failedAs(None))

    def test_onceATurn(self) -> None:
        """Equal errors are told once, different ones in order, in one turn of their own."""
        clock, receiver = Clock(), Recorder()
        errors = PathErrors(clock, receiver)
        for size in (1, 2, 1):
            errors.note(PathError.TOO_BIG, size, PEER)
        self.assertEqual(len(clock.getDelayedCalls()), 1)
        clock.advance(0)
        self.assertEqual(
            receiver.log,
            [
                ("error", PathError.TOO_BIG, 1, PEER),
                ("error", PathError.TOO_BIG, 2, PEER),
                ("turn",),
            ],
        )
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_bounded(self) -> None:
        """Many different errors take bounded memory."""
        clock, receiver = Clock(), Recorder()
        errors = PathErrors(clock, receiver)
        for size in range(LIMIT * 2):
            errors.note(PathError.TOO_BIG, size, PEER)
        clock.advance(0)
        self.assertEqual(len(receiver.log), LIMIT + 1)
