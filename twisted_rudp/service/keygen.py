"""C{rudp keygen}: create an identity key for QOTP, or show its public part."""

from __future__ import annotations

import os
from typing import Any

from twisted.python import usage

from twisted_rudp.qotp.keys import KeyPair, create_key_file
from twisted_rudp.service.usage import UsageOptions


class KeygenOptions(UsageOptions):
    """C{rudp keygen}."""

    synopsis = "Usage: rudp keygen [--show] FILE"
    longdesc = (
        "Make a new identity key in FILE, which its owner alone can read, and print the public"
        " key, which is for everybody: listen with qotp:port=...:keyFile=FILE and dial with"
        " serverKey=<the public key>."
    )
    examples = """
Examples:

  rudp keygen server.key
  rudp keygen --show server.key
"""
    optFlags = [["show", "s", "Print the public key of a file that is there already."]]

    def parseArgs(self, *paths: str) -> None:
        """
        @raise usage.UsageError: not one file.
        """
        if len(paths) != 1:
            raise usage.UsageError("keygen: one file is needed")
        self["file"] = paths[0]


def runKeygen(reactor: Any, options: usage.Options) -> None:
    """
    Make or read a key file and print the public key.

    @raise usage.UsageError: the file cannot be written or read, or holds no key.
    """
    path = options["file"]
    try:
        if options["show"]:
            pair = KeyPair.from_file(path)
        else:
            pair = create_key_file(path, os.urandom(32))
    except (OSError, ValueError) as error:
        raise usage.UsageError(f"keygen: {path}: {getattr(error, 'strerror', error)}") from None
    print(pair.public.hex())
