"""Tests for L{twisted_rudp.service.worker}: what a worker does with what its parent says."""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.endpoints.kcp import KCPServerEndpoint
from twisted_rudp.service.control import Control
from twisted_rudp.service.worker import (
    Assignment,
    Lines,
    Place,
    Reports,
    Requests,
    addressOf,
    adopt,
    firstLine,
)


class AssignmentTests(SynchronousTestCase):
    """What a worker is told first."""

    def test_line(self) -> None:
        """It is read as it was written, and nothing behind it."""
        places = (Place("KCPServerEndpoint  4000", 7, "00" * 32),)
        given = Assignment(1, 2, "info", "twisted.internet.epollreactor", places)
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        os.write(write, given.line() + b"\nrest")
        self.assertEqual(Assignment.of(firstLine(read)), given)
        self.assertEqual(os.read(read, 10), b"rest")
        os.close(write)
        self.assertRaises(SystemExit, firstLine, read)
        share = given.share(0)
        self.assertEqual((share.index, share.count, share.key, share.descriptor), (1, 2, 7, 5))

    def test_changed(self) -> None:
        """Other endpoints than those of the parent are an error: a file has changed."""
        reactor = MemoryReactorClock()
        endpoint = KCPServerEndpoint(reactor, 4000, crypt="null")
        assignment = Assignment(0, 2, "info", "", (Place(addressOf(endpoint), 7, "00" * 32),))
        self.assertEqual(adopt(reactor, assignment, [endpoint]), [endpoint])
        for others in (
            [],
            [KCPServerEndpoint(reactor, 4001, crypt="null")],
            [endpoint, endpoint],
            [TCP4ServerEndpoint(reactor, 4000)],
        ):
            self.assertRaises(SystemExit, adopt, reactor, assignment, others)


class PipeTests(SynchronousTestCase):
    """What goes back and forth afterwards."""

    @given(st.lists(st.binary(max_size=5), max_size=10), st.integers(1, 7))
    @settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=HealthCheck)
    def test_lines(self, wanted: list[bytes], size: int) -> None:
        """Lines are whole however they come."""
        wanted = [each.replace(b"\n", b"") for each in wanted]
        stream = b"".join(each + b"\n" for each in wanted)
        lines = Lines()
        found: list[bytes] = []
        for start in range(0, len(stream), size):
            found += lines.add(stream[start : start + size])
        self.assertEqual(found, wanted)

    def test_requests(self) -> None:
        """A request is answered under its number; the end of the pipe is the end."""
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        ends: list[None] = []
        control = Control(MemoryReactorClock())
        requests = Requests(control, Reports(write), lambda: ends.append(None))
        kick = {"command": "kick", "port": 1 << 40, "session": 1}
        line: dict[str, Any] = {"id": 9, "request": kick}
        requests.childDataReceived("requests", json.dumps(line).encode() + b"\n")
        os.close(write)
        answer = json.loads(os.read(read, 65536))
        self.assertEqual(answer["id"], 9)
        self.assertIn("error", answer["answer"])
        requests.childConnectionLost("requests", None)
        self.assertEqual(len(ends), 1)

    def test_withoutParent(self) -> None:
        """What nobody reads any more is lost, without an error."""
        read, write = os.pipe()
        os.close(read)
        self.addCleanup(os.close, write)
        Reports(write).write({"ready": True})
