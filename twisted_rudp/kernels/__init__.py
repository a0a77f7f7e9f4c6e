"""
Stateless functions over whole runs: bytes in, bytes out, no protocol decision.

L{twisted_rudp.kernels.pure} is their specification. If the optional extension
was built, C{native.c} takes its place; the environment variable
C{TWISTED_RUDP_PURE=1} forces the Python ones. L{IMPLEMENTATION} says which of
the two is in use. Nothing but the speed depends on it.
"""

from __future__ import annotations

import os

from twisted_rudp.kernels import pure

IMPLEMENTATION = "pure"
build_run = pure.build_run
take_run = pure.take_run
same_column = pure.same_column

if os.environ.get("TWISTED_RUDP_PURE") != "1":
    try:
        from twisted_rudp.kernels import _native
    except ImportError:
        pass
    else:
        IMPLEMENTATION = "native"
        build_run = _native.build_run
        take_run = _native.take_run
        same_column = _native.same_column

__all__ = ["IMPLEMENTATION", "build_run", "same_column", "take_run"]
