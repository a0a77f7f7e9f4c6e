"""Our endpoints and the C original."""

from __future__ import annotations

from tests.interop import streams
from tests.interop.harness import ikcp
from tests.interop.streams import MEGABYTE

BULK = 20 * MEGABYTE
"""Less than with kcp-go: this peer acknowledges on its timer only."""


class IKCPServerTests(streams.ClientTests):
    """Our client, a server over the C library."""

    bulk = BULK

    def setUp(self) -> None:
        self.program = ikcp()


class IKCPClientTests(streams.ServerTests):
    """A client over the C library, our listener."""

    bulk = BULK

    def setUp(self) -> None:
        self.program = ikcp()
