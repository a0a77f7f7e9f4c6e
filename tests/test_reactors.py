"""
What is tested on real sockets holds with every reactor, for they report errors and
readiness in different ways (TEST-7).
"""

from __future__ import annotations

import tempfile
from importlib.util import find_spec

from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.conformance import test_kcp
from tests.conformance.everywhere import PORT_TOPICS
from tests.interpreter import CHECKOUT, environment, python
from twisted_rudp.testing.conformance import RealSockets

CONFORMANCE = [
    f"{test_kcp.__name__}.{name}"
    for name, case in vars(test_kcp).items()
    if getattr(case, "stageClass", None) is RealSockets
    and case.transport.name in ("SegmentingKCP", "StockKCP")
    and any(issubclass(case, topic) for topic in PORT_TOPICS)
]
"""
What meets the port, on a descriptor of our own and on the reactor's. All other topics are
about what a session does with its datagrams, which is the same code on every reactor.
"""

UVLOOP = """
import uvloop
from twisted.internet import asyncioreactor
asyncioreactor.install(uvloop.new_event_loop())
from twisted.scripts.trial import run
run()
"""
"""A trial whose reactor is installed already."""

TESTS = (
    "tests.net.test_open",
    "tests.net.udp.test_errors",
    "tests.testing.test_port",
    *CONFORMANCE,
)


class ReactorTests(TestCase):
    """
    Ports, and KCP's conformance on real sockets, in a process of its own for each
    reactor but the one that the whole suite runs with.
    """

    timeout = 300

    async def passes(self, name: str, *options: str) -> None:
        """
        @param options: for the interpreter, instead of trial's module and its choice of a
            reactor.
        """
        from twisted.internet import reactor

        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        output: Deferred[tuple[bytes, bytes, int]] = getProcessOutputAndValue(
            python()[0],
            [
                *(options or ("-m", "twisted.trial", f"--reactor={name}")),
                *(f"--temp-directory={place.name}/trial", *TESTS),
            ],
            env=environment(),
            path=str(CHECKOUT),
            reactor=reactor,
        )
        said, complained, code = await output
        self.assertEqual(code, 0, (said + complained).decode(errors="replace")[-4000:])
        self.assertIn(b"PASSED", said)

    async def test_poll(self) -> None:
        """C{poll}."""
        await self.passes("poll")

    async def test_select(self) -> None:
        """C{select}, which reports errors as readiness."""
        await self.passes("select")

    async def test_asyncio(self) -> None:
        """The loop of C{asyncio}."""
        await self.passes("asyncio")

    async def test_uvloop(self) -> None:
        """
        The loop of libuv under Twisted's asyncio reactor, which stops to watch a descriptor
        that reports an error (F2).
        """
        if find_spec("uvloop") is None:
            self.skipTest("uvloop is not installed")
        await self.passes("uvloop", "-c", UVLOOP)
