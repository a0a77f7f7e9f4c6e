"""C{rudp decode}: what the datagrams of a capture say."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from twisted.python import usage

from twisted_rudp.decoding.wires import WIRES, Decoder
from twisted_rudp.decoding.words import place
from twisted_rudp.endpoints.kcp import secretFor
from twisted_rudp.service.usage import UsageOptions, count, printable, whole
from twisted_rudp.tracing.reading import CaptureError, CaptureReader

SECOND = 1_000_000_000


def wire(given: str) -> str:
    """
    @raise ValueError: not one of the wires.
    """
    if given not in WIRES:
        raise ValueError(f"{given!r} is not one of {', '.join(WIRES)}")
    return given


shards = whole(1, 127, "a number of packets")


class DecodeOptions(UsageOptions):
    """C{rudp decode}."""

    synopsis = "[options] FILE"
    longdesc = (
        "Print the datagrams of a capture, pcap or pcapng, in words: KCP, RakNet, QOTP and"
        " discovery. Which of them a datagram is, is found out unless --wire says it."
    )
    examples = """
Examples:

  rudp link --to 127.0.0.1:4000 --loss 5 --pcap link.pcapng
  rudp decode link.pcapng
  rudp decode --crypt aes --key-file kcp.key link.pcapng
  rudp decode --key-log keys.log link.pcapng
"""
    optParameters = [
        ["wire", "w", None, f"The wire of all datagrams: {', '.join(WIRES)}.", wire],
        ["port", "p", None, "Only datagrams from or to this UDP port.", count],
        ["limit", "n", None, "Stop after so many datagrams.", count],
        ["crypt", None, None, "Cipher of KCP; aes if there is a key."],
        ["key", None, None, "Key of KCP in hexadecimal digits."],
        ["key-file", None, None, "File with the key of KCP."],
        ["password", None, None, "Password of KCP, as in kcptun's --key."],
        ["data-shards", None, 1, "Data packets in a group of KCP's FEC.", shards],
        ["parity-shards", None, 1, "Parity packets in a group, to rebuild lost ones.", shards],
        ["key-log", None, None, "File with the keys of QOTP connections (keyLogFile)."],
    ]

    def parseArgs(self, *files: str) -> None:
        """
        @raise usage.UsageError: not exactly one file.
        """
        if len(files) != 1:
            raise usage.UsageError("decode: expected one FILE")
        self["file"] = files[0]

    def decoder(self) -> Decoder:
        """
        What reads the datagrams.

        @raise usage.UsageError: a key or a file with keys is missing or invalid.
        """
        try:
            secret = secretFor(self["crypt"], self["key"], self["password"], self["key-file"])
            return Decoder(
                self["wire"],
                crypt=secret.crypt,
                key=secret.reveal(),
                shards=(self["data-shards"], self["parity-shards"]),
                key_log=self._keyLog(),
            )
        except ValueError as problem:
            raise usage.UsageError(f"decode: {problem}") from None

    def _keyLog(self) -> list[str]:
        path = self["key-log"]
        if path is None:
            return []
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                return file.readlines()
        except OSError as problem:
            raise usage.UsageError(f"--key-log {path}: {problem.strerror}") from None


def runDecode(reactor: Any, options: DecodeOptions) -> None:
    """
    Print the datagrams of a capture. For C{task.react}.

    @raise usage.UsageError: the file cannot be opened.
    @raise SystemExit: the file is broken; what comes before that place was printed.
    """
    decoder = options.decoder()
    path = options["file"]
    try:
        with open(path, "rb") as file:
            for line in lines(CaptureReader(file), decoder, options["port"], options["limit"]):
                print(line)
    except CaptureError as problem:
        sys.exit(f"rudp: {path}: {problem}")
    except BrokenPipeError:
        # Whoever reads it, such as head, has seen enough. At the end Python flushes again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as problem:
        raise usage.UsageError(f"decode: {path}: {problem.strerror}") from None


def lines(
    reader: CaptureReader, decoder: Decoder, port: int | None = None, limit: int | None = None
) -> Iterator[str]:
    """
    The lines for a capture, times counted from its first datagram, and at the end what was
    seen and what was not.

    @raise CaptureError: the file is broken from here on.
    """
    seen: Counter[str] = Counter()
    start: int | None = None
    for datagram in reader:
        ends = datagram.source, datagram.destination
        if port is not None and port not in (ends[0][1], ends[1][1]):
            continue
        start = datagram.time if start is None else start
        described = decoder.read(datagram.data, *ends)
        seen[described.wire or "unknown"] += 1
        seconds = (datagram.time - start) / SECOND
        notes = f" ({datagram.comment})" if datagram.comment else ""
        if len(datagram.data) < datagram.length:
            notes += f" (only {len(datagram.data)} bytes captured)"
        head = (
            f"{seconds:.6f} {place(ends[0])} > {place(ends[1])}"
            f" {described.wire or '?'} {datagram.length} bytes{notes}"
        )
        for line in (head, *(f"    {line}" for line in described.lines)):
            yield printable(line)
        if limit is not None and seen.total() >= limit:
            break
    found = ", ".join(f"{n} {name}" for name, n in seen.items())
    yield f"{seen.total()} datagrams" + (f": {found}" if found else "")
    if reader.skipped:
        left = ", ".join(f"{n} {why}" for why, n in sorted(reader.skipped.items()))
        yield f"{reader.skipped.total()} other packets: {left}"
