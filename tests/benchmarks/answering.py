"""The servers of L{tests.benchmarks.worker}, and what they find out."""

from __future__ import annotations

import argparse
import math
import struct
import time
from collections.abc import Mapping
from typing import Any

from twisted.internet.protocol import Protocol
from zope.interface import implementer

from tests.benchmarks.metrics import quantiles
from twisted_rudp.interfaces import IMessageProtocol
from twisted_rudp.messages import Message

MESSAGE = b"\xfe" * 64
"""What echo jobs and the warm-up send. Its first byte is one that RakNet leaves to users."""

STAMP = struct.Struct(">Q")
"""How each of the messages begins that are timed: when it was written, by a clock
that all processes of a machine share."""


class Receiving(Protocol):
    """Messages count as the bytes in them."""

    def messageReceived(self, message: Message) -> None:
        self.dataReceived(message.data)


class Meter:
    """How much came."""

    def __init__(self) -> None:
        self._received = 0
        self._first = self._last = 0.0

    def take(self, data: bytes, rest: bytes) -> bytes:
        """
        Count what came in a session.

        @param rest: what this returned before.
        """
        self._last = time.perf_counter()
        if not self._received:
            self._first = self._last
        self._received += len(data)
        return b""

    def result(self) -> Mapping[str, Any]:
        """In the seconds from the first to the last of it."""
        return {"bytes": self._received, "seconds": self._last - self._first}


class Stopwatch:
    """How long messages of C{options.size} bytes were on their way."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._size = options.size
        self._expected = options.sessions * messagesOf(options)
        self._trips: list[float] = []

    def take(self, data: bytes, rest: bytes) -> bytes:
        """
        Time the messages that are complete.

        @param rest: what this returned before: the beginning of a message.
        """
        now = time.time_ns()
        data = rest + data
        size = self._size
        end = len(data) - len(data) % size
        for start in range(0, end, size):
            self._trips.append((now - STAMP.unpack_from(data, start)[0]) / 1e3)
        return data[end:]

    def result(self) -> Mapping[str, Any]:
        """Those that have not come took for ever."""
        missing = self._expected - len(self._trips)
        trips = [*self._trips, *[math.inf] * missing]
        return {
            "bytes": len(self._trips) * self._size,
            "messages": len(self._trips),
            "missing": missing,
            **quantiles(trips),
        }


def messagesOf(options: argparse.Namespace) -> int:
    """How many messages a session sends that are timed."""
    return int(options.seconds * 1000 // options.every)


Gauge = Meter | Stopwatch


@implementer(IMessageProtocol)
class Echoing(Receiving):
    """Sends back whatever comes."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


@implementer(IMessageProtocol)
class Gauging(Receiving):
    """Sends back the warm-up, and measures what comes after it."""

    def __init__(self, gauge: Gauge, warmUp: int) -> None:
        """
        @param warmUp: in bytes.
        """
        self._gauge = gauge
        self._warmUp = warmUp
        self._rest = b""

    def messageReceived(self, message: Message) -> None:
        if self._warmUp:
            self.dataReceived(message.data)
        else:
            self._rest = self._gauge.take(message.data, self._rest)

    def dataReceived(self, data: bytes) -> None:
        if self._warmUp:
            echoed = data[: self._warmUp]
            self._warmUp -= len(echoed)
            self.transport.write(echoed)
            data = data[len(echoed) :]
        if data:
            self._rest = self._gauge.take(data, self._rest)
