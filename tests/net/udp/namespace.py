"""
A private network namespace, for links that are narrow or slow.

A thread enters a fresh namespace and makes sockets there; they stay in it wherever they
are used, and it disappears with the last of them. Nothing of the machine's own network
is touched.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000


def whyNot(*tools: str) -> str | None:
    """The reason to skip a test that needs a namespace and these programs, or None."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not installed"
    try:
        inNamespace([], lambda: None)
    except OSError as problem:
        return f"no network namespace: {problem}"
    return None


def inNamespace(commands: Sequence[str], make: Callable[[], T]) -> T:
    """
    Call C{make} inside a new namespace that was set up by C{commands}.

    @raise OSError: namespaces are not ours to make.
    """

    def enter() -> T:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        for command in commands:
            subprocess.run(command.split(), check=True, capture_output=True)
        return make()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(enter).result()
