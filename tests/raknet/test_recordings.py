"""
The receiving half against complete sessions recorded from other implementations
(C{tests/vectors/raknet/session_*}; raknet.md 7 and 12).
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests import vectors
from tests.raknet.frames import Starts, pack_frame, startReceiver
from twisted_rudp.core.recovery import Recovery
from twisted_rudp.core.serial import unwrap24
from twisted_rudp.core.timers import Timers
from twisted_rudp.raknet import timers
from twisted_rudp.raknet.receiver import Receiver
from twisted_rudp.raknet.sent import SentFrame, SentPacket, SentPackets
from twisted_rudp.raknet.settings import DEFAULT
from twisted_rudp.raknet.wire import (
    ACK_BIT,
    HEADER_SIZE,
    NACK_BIT,
    VALID,
    Reliability,
    parse_frames,
    parse_records,
)

LENIENT = replace(DEFAULT, stream=False)


def pattern(item: dict[str, Any]) -> bytes:
    """A large message of a recording."""
    if "hex" in item:
        return bytes.fromhex(item["hex"])
    length = item["length"]
    if item["pattern"] == "p7":
        data = bytes((7 * i + i // 251) & 0xFF for i in range(length))
    else:
        data = bytes([int(item["pattern"][1:], 16)]) * length
    head = bytes.fromhex(item["head_hex"])
    return head + data[len(head) :]


def datagrams(session: dict[str, Any], direction: str) -> list[bytes]:
    """What arrived in one direction, without messages outside of the session."""
    messages = [pattern(item) for item in session["data"]]
    found = []
    for entry in session["datagrams"]:
        if entry["dir"] != direction or entry.get("dropped"):
            continue
        if "hex" in entry:
            data = bytes.fromhex(entry["hex"])
        else:
            data = b""
            for part in entry["parts"]:
                if isinstance(part, str):
                    data += bytes.fromhex(part)
                elif "zeros" in part:
                    data += bytes(part["zeros"])
                else:
                    data += messages[part["m"]][part["o"] : part["o"] + part["n"]]
        if data and data[0] & VALID:
            found.append(data)
    return found


class RecordedSessionTests(SynchronousTestCase):
    """Every recorded session, in both directions."""

    def sessions(self) -> list[dict[str, Any]]:
        """All of them."""
        names = list(vectors.names("raknet", "session_"))
        self.assertGreater(len(names), 15 if vectors.COMPLETE else 0)
        return [vectors.load("raknet", name) for name in names]

    def test_delivered(self) -> None:
        """
        What an independent model of a correct receiver hands up, ours hands up too:
        the same messages in the same order with the same reliability and channel,
        with all reliabilities, splits, losses and wrap-around.
        """
        for session in self.sessions():
            start = session["start_indices"]
            starts = Starts(start["datagram"], start["reliable"], start["order"])
            for direction in ("c2s", "s2c"):
                receiver = Receiver(LENIENT, Timers(timers.COUNT))
                startReceiver(receiver, starts)
                got: list[tuple[bytes, int, int]] = []
                for number, datagram in enumerate(datagrams(session, direction)):
                    if not datagram[0] & (ACK_BIT | NACK_BIT):
                        got += delivered(receiver, datagram, number)
                expected = session["delivered"][direction]
                self.assertEqual(
                    [(sha256(data).hexdigest(), kind) for data, kind, _ in got],
                    [(item["sha256"], item["reliability"]) for item in expected],
                    f"{session['name']} {direction}",
                )
                for (_, _, channel), item in zip(got, expected, strict=True):
                    self.assertEqual(channel, item.get("order_channel", 0))

    def test_again(self) -> None:
        """
        Every datagram with frames is written again byte for byte, but for flag bits
        that mean nothing (raknet.md 6).
        """
        count = 0
        for session in self.sessions():
            for direction in ("c2s", "s2c"):
                for datagram in datagrams(session, direction):
                    if datagram[0] & (ACK_BIT | NACK_BIT) or len(datagram) < HEADER_SIZE:
                        continue
                    found, broken = parse_frames(datagram)
                    whole = b"".join(map(pack_frame, found))
                    if not broken and len(whole) + HEADER_SIZE == len(datagram):
                        again = parse_frames(datagram[:HEADER_SIZE] + whole)
                        self.assertEqual(again, (found, False))
                        count += 1
        self.assertGreater(count, 3000 if vectors.COMPLETE else 0)

    def test_acknowledged(self) -> None:
        """
        The peers' ACKs name only what was in flight once: fed into our table
        they leave nothing of what they name, across 2^24 too (raknet.md 8).
        """
        for session in self.sessions():
            start = session["start_indices"]
            for direction, back in (("c2s", "s2c"), ("s2c", "c2s")):
                table = SentPackets(DEFAULT)
                table.recovery = Recovery(table.round_trip, start["datagram"])
                table.reliable = table.base = start["reliable"]
                sent = [d for d in datagrams(session, direction) if not d[0] & 0x60]
                numbers = launch(table, sent)
                named: set[int] = set()
                for datagram in datagrams(session, back):
                    if datagram[0] & ACK_BIT:
                        records = parse_records(datagram)
                        table.acknowledged(records, 1)
                        for low, high in records:
                            named.update(range(low, min(high, low + 5000) + 1))
                left = {n & 0xFFFFFF for n in numbers} - named
                self.assertEqual(table.outstanding, len(left), session["name"])


def delivered(receiver: Receiver, datagram: bytes, now: int) -> list[tuple[bytes, int, int]]:
    """
    Payload, reliability and channel of what a datagram delivers, by the path of bulk
    data where that takes it.
    """
    length, taken = receiver.take(datagram, len(datagram), now)
    if length:
        return [(bytes(message), Reliability.RELIABLE_ORDERED, 0) for message in taken]
    return [
        (bytes(one.payload), one.reliability, one.channel)
        for one in receiver.datagram(memoryview(datagram), now, 0, False)
    ]


def launch(table: SentPackets, sent: list[bytes]) -> set[int]:
    """Enter one frame for each datagram number that was seen, in order."""
    numbers = {
        unwrap24(int.from_bytes(d[1:4], "little"), table.number)
        for d in sent
        if len(d) >= HEADER_SIZE
    }
    for number in sorted(numbers):
        if number > table.number:
            table.recovery.on_skipped(number - table.number)
        frame = SentFrame(b"x", table.reliable, None)
        table.framed(1)
        table.enter(SentPacket(number, [frame], [], 0), 0, 1, 1, False)
    return numbers
