"""Frames as a peer writes them, and counters that begin elsewhere than at 0."""

from __future__ import annotations

from typing import NamedTuple

from twisted_rudp.core.recovery import Recovery
from twisted_rudp.raknet.receiver import Receiver
from twisted_rudp.raknet.sender import Sender
from twisted_rudp.raknet.wire import CHANNELS, Frame, pack_frame_header


def pack_frame(frame: Frame) -> bytes:
    """A whole frame."""
    header = pack_frame_header(
        frame.reliability,
        len(frame.payload),
        frame.reliable or 0,
        frame.sequence or 0,
        frame.order or 0,
        frame.channel,
        frame.split,
    )
    return header + frame.payload


class Starts(NamedTuple):
    """Where a side's counters begin. On the wire all begin at 0 (raknet.md 7)."""

    datagram: int = 0
    reliable: int = 0
    order: int = 0
    sequence: int = 0
    split: int = 0


ZERO = Starts()


def startSender(sender: Sender, starts: Starts) -> None:
    """Let the counters of a sender that has sent nothing begin there."""
    sent = sender.sent
    sent.recovery = Recovery(sent.round_trip, starts.datagram)
    sent.reliable = sent.base = starts.reliable
    sender.ident = starts.split
    for number in range(CHANNELS):
        channel = sender.channel(number)
        channel.order, channel.sequence = starts.order, starts.sequence


def startReceiver(receiver: Receiver, starts: Starts) -> None:
    """Let the peer's counters begin there."""
    receiver.datagrams.expected = starts.datagram
    receiver.reliable = starts.reliable
    for number in range(CHANNELS):
        channel = receiver.channel(number)
        channel.next, channel.sequence = starts.order, starts.sequence
