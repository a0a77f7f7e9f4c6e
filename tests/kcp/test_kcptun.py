"""
Recordings of a real kcptun (C{tests/vectors/kcp/kcptun_capture}; kcp.md 8): decrypted,
repaired and put in order by a session of ours. What kcptun has inside is taken apart
here, by the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests import vectors
from twisted_rudp.core.engine import MILLISECOND
from twisted_rudp.core.lifecycle import Role
from twisted_rudp.kcp.crypto import from_password, make_crypt
from twisted_rudp.kcp.demux import KCPDemultiplexer
from twisted_rudp.kcp.engine import KCPEngine
from twisted_rudp.kcp.mismatch import MEANINGS, SNAPPY_START, MismatchSigns, Sign
from twisted_rudp.kcp.settings import SessionOptions, Settings
from twisted_rudp.kcp.snmp import SNMPCounters

PEER = ("192.0.2.7", 29900)
PUSH = 2
"""smux: data."""

FIRST_STREAM = 3


def little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def unsnap(block: bytes) -> bytes:
    """One block of snappy: its length, then literals and copies."""
    at = shift = length = 0
    while True:
        length |= (block[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if block[at - 1] < 128:
            break
    out = bytearray()
    while at < len(block):
        tag, at = block[at], at + 1
        kind, size = tag & 3, tag >> 2
        if kind == 0:
            extra = max(0, size - 59)
            size = (little(block[at : at + extra]) if extra else size) + 1
            out += block[at + extra : at + extra + size]
            at += extra + size
            continue
        width = (0, 1, 2, 4)[kind]
        back = little(block[at : at + width])
        if kind == 1:
            back, size = back | tag >> 5 << 8, size & 7
            size += 3
        at += width
        for _ in range(size + 1):
            out.append(out[-back])
    assert len(out) == length
    return bytes(out)


def uncompressed(data: bytes) -> bytes:
    """What is in a stream of snappy's framing format (kcp.md 8.5)."""
    assert data.startswith(SNAPPY_START)
    out = b""
    at = len(SNAPPY_START)
    while at < len(data):
        kind, length = data[at], little(data[at + 1 : at + 4])
        chunk = data[at + 8 : at + 4 + length]
        out += unsnap(chunk) if kind == 0 else chunk
        at += 4 + length
    return out


def pushed(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The streams and payloads of smux frames with data (kcp.md 7.1)."""
    at = 0
    while at + 8 <= len(data):
        length = little(data[at + 2 : at + 4])
        if data[at + 1] == PUSH:
            yield little(data[at + 4 : at + 8]), data[at + 8 : at + 8 + length]
        at += 8 + length


class CaptureTests(SynchronousTestCase):
    """Each recording, each direction, down to what the applications said."""

    def test_captures(self) -> None:
        """
        A password, a cipher, FEC and lost datagrams, and the bytes of the
        applications come out; what is inside is named (kcp.md 8).
        """
        for capture in vectors.load("kcp", "kcptun_capture")["captures"]:
            for direction in ("c2s", "s2c"):
                self.replay(capture, direction)

    def replay(self, capture: dict[str, Any], direction: str) -> None:
        options = capture["options"]
        signs = MismatchSigns()
        data = self.digested(capture, direction, signs)
        compressed = "--nocomp" not in options
        inside = MEANINGS[Sign.COMPRESSED if compressed else Sign.MULTIPLEXED].text
        if compressed or direction == "c2s":
            # A server opens no streams, so its first frame is not telling.
            self.assertIn(inside, str(signs.verdict()), options)
        frames = list(pushed(uncompressed(data) if compressed else data))
        for connection in {one["connection"] for one in capture["application_echoed"]}:
            said = [
                bytes.fromhex(one["data"])
                for one in capture["application_echoed"]
                if one["connection"] == connection
            ]
            stream = FIRST_STREAM + 2 * connection
            heard = [payload for number, payload in frames if number == stream]
            self.assertEqual(b"".join(heard), b"".join(said), (options, direction))

    def digested(self, capture: dict[str, Any], direction: str, signs: MismatchSigns) -> bytes:
        """The stream that a session of ours makes of the datagrams."""
        options = capture["options"]
        name = options[options.index("--crypt") + 1]
        crypt = make_crypt(name, from_password(capture["key"]), bytes)
        demux = KCPDemultiplexer(crypt=crypt, snmp=SNMPCounters(), signs=signs)
        session: KCPEngine | None = None
        heard = b""
        for one in capture["datagrams"]:
            if one["dir"] != direction or one.get("lost"):
                continue
            datagram, now = bytes.fromhex(one["data"]), one["t"] * MILLISECOND
            for key, run, size in demux.open(datagram, len(datagram), PEER):
                assert isinstance(key, tuple)
                if session is None:
                    session = self.session(key[1], demux, signs, options)
                session.receive(run, size, PEER, now)
            if session is not None:
                while piece := session.take(0, 1 << 20):
                    heard += piece
        assert session is not None
        self.assertEqual(session.counters()["KCPInErrors"], 0, options)
        self.assertEqual(demux.snmp.snapshot()["InCsumErrors"], 0, options)
        return heard

    def session(
        self, conv: int, demux: KCPDemultiplexer, signs: MismatchSigns, options: list[str]
    ) -> KCPEngine:
        """With the shards of the recording, kcptun's own where it names none."""
        shards = [
            int(options[options.index(name) + 1]) if name in options else default
            for name, default in (("--datashard", 10), ("--parityshard", 3))
        ]
        return KCPEngine(
            conv,
            PEER,
            Settings(),
            now=0,
            epoch=0,
            role=Role.CLIENT,
            wait_for_peer=False,
            snmp=demux.snmp,
            signs=signs,
            overhead=demux.overhead,
            options=SessionOptions(*shards),
        )
