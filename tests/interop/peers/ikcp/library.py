"""The C original as a Python object: one control block of C{ikcp.c}."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_OUTPUT = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_char), ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
)
_POINTER, _INT, _UINT, _BYTES = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_char_p

_SIGNATURES: dict[str, tuple[object, ...]] = {
    # name: (result, arguments...)
    "ikcp_create": (_POINTER, _UINT, _POINTER),
    "ikcp_setoutput": (None, _POINTER, _OUTPUT),
    "ikcp_recv": (_INT, _POINTER, _POINTER, _INT),
    "ikcp_send": (_INT, _POINTER, _BYTES, _INT),
    "ikcp_update": (None, _POINTER, _UINT),
    "ikcp_input": (_INT, _POINTER, _BYTES, ctypes.c_long),
    "ikcp_peeksize": (_INT, _POINTER),
    "ikcp_setmtu": (_INT, _POINTER, _INT),
    "ikcp_wndsize": (_INT, _POINTER, _INT, _INT),
    "ikcp_waitsnd": (_INT, _POINTER),
    "ikcp_nodelay": (_INT, _POINTER, _INT, _INT, _INT, _INT),
    "peer_set_stream": (None, _POINTER, _INT),
    "peer_timeouts": (ctypes.c_uint, _POINTER),
}


def load(path: str) -> ctypes.CDLL:
    """Load the shared library that the test set-up compiled."""
    library = ctypes.CDLL(path)
    for name, (result, *arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


class ControlBlock:
    """One conversation. Blocks live as long as the process: a peer of a test has few of them."""

    def __init__(self, library: ctypes.CDLL, conv: int, output: Callable[[bytes], None]) -> None:
        self._library = library
        self._block = library.ikcp_create(conv, None)
        # The library keeps only the address of the callback, we the object.
        self._output = _OUTPUT(lambda buffer, size, *_: self._emit(buffer[:size], output))
        library.ikcp_setoutput(self._block, self._output)

    @staticmethod
    def _emit(datagram: bytes, output: Callable[[bytes], None]) -> int:
        output(datagram)
        return 0

    def tune(
        self, nodelay: tuple[int, int, int, int], windows: tuple[int, int], mtu: int, stream: bool
    ) -> None:
        self._library.ikcp_nodelay(self._block, *nodelay)
        self._library.ikcp_wndsize(self._block, *windows)
        self._library.ikcp_setmtu(self._block, mtu)
        self._library.peer_set_stream(self._block, stream)

    def update(self, milliseconds: int) -> None:
        self._library.ikcp_update(self._block, milliseconds & 0xFFFFFFFF)

    def input(self, datagram: bytes) -> int:
        return int(self._library.ikcp_input(self._block, datagram, len(datagram)))

    def send(self, data: bytes) -> int:
        return int(self._library.ikcp_send(self._block, data, len(data)))

    def receive(self) -> bytes | None:
        """The next message, or in stream mode the next segment."""
        size = self._library.ikcp_peeksize(self._block)
        if size < 0:
            return None
        buffer = ctypes.create_string_buffer(max(1, size))
        self._library.ikcp_recv(self._block, buffer, size)
        return buffer.raw[:size]

    @property
    def waiting(self) -> int:
        """Segments that are not acknowledged, sent or not."""
        return int(self._library.ikcp_waitsnd(self._block))

    @property
    def timeouts(self) -> int:
        return int(self._library.peer_timeouts(self._block))
