"""C{rudp keygen}: create an identity key for QOTP, or show its public part."""

from __future__ import annotations

import os
from typing import Any

from twisted.python import usage

from twisted_rudp.qotp.keys import KeyPair, create_key_file
from twisted_rudp.service.usage import UsageOptions


class KeygenOptions(UsageOptions):
    """C{rudp keygen}."""

    synopsis = "[--show | --kcp] FILE"
    longdesc = (
        "Create an identity key in FILE, readable by its owner only, and print the public key."
        " Listen with qotp:port=...:keyFile=FILE, and connect with serverKey=<the public key>."
    )
    examples = """
Examples:

  rudp keygen server.key
  rudp keygen --show server.key
  rudp keygen --kcp kcp.key
"""
    optFlags = [
        ["show", "s", "Print the public key of an existing file."],
        ["kcp", "k", "Create a key for both ends of KCP instead."],
    ]

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: C{--show} for a key without a public part.
        """
        if self["show"] and self["kcp"]:
            raise usage.UsageError("keygen: a key for KCP has no public part to show")

    def parseArgs(self, *paths: str) -> None:
        """
        @raise usage.UsageError: not exactly one file.
        """
        if len(paths) != 1:
            raise usage.UsageError("keygen: expected one FILE")
        self["file"] = paths[0]


def runKeygen(reactor: Any, options: usage.Options) -> None:
    """
    Create or read a key file and print the public key.

    @raise usage.UsageError: the file cannot be written or read, or has no key.
    """
    path = options["file"]
    try:
        if options["show"]:
            pair = KeyPair.from_file(path)
        else:
            pair = create_key_file(path, os.urandom(32))
    except (OSError, ValueError) as error:
        raise usage.UsageError(f"keygen: {path}: {getattr(error, 'strerror', error)}") from None
    if options["kcp"]:
        print(f"key written: add keyFile={path} at both ends, best with crypt=aes-256-gcm")
    else:
        print(pair.public.hex())
