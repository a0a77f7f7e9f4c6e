"""
Our endpoints and the C original.
"""

from __future__ import annotations

from tests.interop import streams
from tests.interop.harness import ikcp


class IKCPServerTests(streams.ClientTests):
    """
    Our client, a server over the C library.
    """

    def setUp(self) -> None:
        self.program = ikcp()


class IKCPClientTests(streams.ServerTests):
    """
    A client over the C library, our listener.
    """

    def setUp(self) -> None:
        self.program = ikcp()
