"""
The interfaces that a user of the package sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zope.interface import Interface


class IRUDPTransport(Interface):
    """
    What a transport over UDP can tell about its session, beyond
    C{ITransport} (TR-10).
    """

    def counters() -> Mapping[str, int]:
        """
        This session's counters under their own names.
        """

    def facts() -> Mapping[str, Any]:
        """
        What a person wants to know: ids, round trip in seconds, windows.
        """
