"""
Stateless functions over whole runs, without any protocol decision: bytes in, bytes
out, but for the two that make the system calls for many datagrams at once.

L{twisted_rudp.kernels.pure}, L{twisted_rudp.kernels.pure_framing} and
L{twisted_rudp.kernels.pure_frames} are their specification. If the optional extension
was built, it takes their place; the environment variable C{TWISTED_RUDP_PURE=1}
forces the Python ones. L{IMPLEMENTATION} says which of the two is in use. Nothing but
the speed depends on it. L{COMPILED} says whether the modules that call them are compiled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.machinery import ExtensionFileLoader
from importlib.util import find_spec

from twisted_rudp.kernels import pure, pure_frames, pure_framing

IMPLEMENTATION = "pure"
build_run = pure.build_run
take_run = pure.take_run
same_column = pure.same_column
check_frame = pure_framing.check_frame
check_take = pure_framing.check_take
fec_conversation = pure_framing.fec_conversation
fec_take = pure_framing.fec_take
frame_messages = pure_frames.frame_messages
frame_stream = pure_frames.frame_stream
take_messages = pure_frames.take_messages
take_stream = pure_frames.take_stream
gather_run = pure_framing.gather_run
spread_run = pure_framing.spread_run
gf_matmul: Callable[[pure.Buffer, Sequence[pure.Buffer], int], bytes] | None = None
"""
C{(matrix, shards, length)}: multiply a matrix of bytes, row by row, with shards
over GF(2^8) modulo 0x11D. A shard that is shorter than C{length} ends in zeros.
Answers C{length} bytes for each row, back to back. None without the extension:
L{twisted_rudp.kcp.reed_solomon} has the same by another way, and says how.
"""
fec_frame: (
    Callable[[Sequence[pure.Buffer], pure.Buffer, int, int, int, pure.Buffer], bytes] | None
) = None
"""
C{(earlier, run, size, first, data, matrix)}: make FEC packets of a run whose
datagrams all have C{size} bytes, numbered from C{first}, and put parity packets, a
row of C{matrix} each, behind those that complete a group of C{data}. C{earlier} are
the data packets that the first group has already, none of them longer. None without
the extension: L{twisted_rudp.kcp.fec} has the same, step by step.
"""
send_batch: Callable[[int, pure.Buffer, int, bytes, bytes], int] | None = None
"""
C{(fd, run, size, address, source)}: send the datagrams of a run, C{size} bytes each, the
last may be shorter, from a socket that does not block to an address as the system has it.
C{source} is C{b""} or what L{receive_batch} gave as C{local}: the address to send from.
Answers how many bytes of whole datagrams have left: fewer than all when the socket
refused the next one. Raises C{OSError} when it refused the first. None without the
extension and where the system has no C{sendmmsg}: then each takes a call of its own.
"""
receive_batch: (
    Callable[[int, int], tuple[list[tuple[bytes, int, bytes, int, bytes]], int, int]] | None
) = None
"""
C{(fd, most)}: receive up to 64 datagrams, or runs that the system has joined, without
blocking. Answers C{(runs, count, truncated)}. Each run is C{(run, size, address, hops,
local)}: datagrams of C{size} bytes of one sender in the order of their arrival, the last
may be shorter; the address as the system has it; the hop limit they arrived with, -1 if
the socket was not told to report it; and the address they were sent to, as C{struct
in_pktinfo} or C{in6_pktinfo}, C{b""} if that is not reported. A sender has another run only
where his datagrams do not fit into the one before. An empty datagram is a run of its
own, of size 0. C{count} is how many messages there were, fewer than C{most} if none is
left; C{truncated} of them were too long and are not among the runs. Raises C{OSError},
C{BlockingIOError} if there was none. None where L{send_batch} is; the same in Python is
L{twisted_rudp.net.udp.receive.PureBatch}.
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
        fec_frame = _native.fec_frame
        check_frame = _native.check_frame
        check_take = _native.check_take
        fec_conversation = _native.fec_conversation
        fec_take = _native.fec_take
        frame_messages = _native.frame_messages
        frame_stream = _native.frame_stream
        take_messages = _native.take_messages
        take_stream = _native.take_stream
        gather_run = _native.gather_run
        spread_run = _native.spread_run
        send_batch = getattr(_native, "send_batch", None)
        receive_batch = getattr(_native, "receive_batch", None)

_engine = find_spec("twisted_rudp.core.engine")
COMPILED = _engine is not None and isinstance(_engine.loader, ExtensionFileLoader)
"""
The modules on the way of a datagram are those that mypyc has compiled. Like the kernels, that
changes the speed and nothing else.
"""


def description() -> str:
    """What is in use, for versions and logs."""
    return f"{IMPLEMENTATION} kernels, {'compiled' if COMPILED else 'interpreted'} modules"


__all__ = [
    "COMPILED",
    "IMPLEMENTATION",
    "build_run",
    "check_frame",
    "check_take",
    "description",
    "fec_conversation",
    "fec_frame",
    "fec_take",
    "frame_messages",
    "frame_stream",
    "gather_run",
    "gf_matmul",
    "receive_batch",
    "same_column",
    "send_batch",
    "spread_run",
    "take_messages",
    "take_run",
    "take_stream",
]
