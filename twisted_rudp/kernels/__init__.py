"""
Stateless functions over whole runs: bytes in, bytes out, no protocol decision.

L{twisted_rudp.kernels.pure} is their specification. If the optional extension
was built, C{native.c} takes its place; the environment variable
C{TWISTED_RUDP_PURE=1} forces the Python ones. L{IMPLEMENTATION} says which of
the two is in use. Nothing but the speed depends on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from twisted_rudp.kernels import pure

IMPLEMENTATION = "pure"
build_run = pure.build_run
take_run = pure.take_run
same_column = pure.same_column
gf_matmul: Callable[[pure.Buffer, Sequence[pure.Buffer], int], bytes] | None = None
"""
C{(matrix, shards, length)}: multiply a matrix of bytes, row by row, with shards
over GF(2^8) modulo 0x11D. A shard that is shorter than C{length} ends in zeros.
Answers C{length} bytes for each row, back to back. None without the extension:
L{twisted_rudp.kcp.reed_solomon} has the same by another way, and says how.
"""

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
        gf_matmul = _native.gf_matmul

__all__ = ["IMPLEMENTATION", "build_run", "gf_matmul", "same_column", "take_run"]
