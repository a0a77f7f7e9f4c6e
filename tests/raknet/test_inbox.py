"""Tests for L{twisted_rudp.raknet.inbox}: what waits for the application."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.messages import Delivery, Message
from twisted_rudp.raknet.counters import Counters
from twisted_rudp.raknet.inbox import Inbox
from twisted_rudp.raknet.profiles import DEFAULT
from twisted_rudp.raknet.receiver import Delivered

ORDERED = int(Delivery.RELIABLE_ORDERED)
UNRELIABLE = int(Delivery.UNRELIABLE)
USER = DEFAULT.user_id


class InboxTests(SynchronousTestCase):
    """Sessions of both kinds, before and after the handshake."""

    def setUp(self) -> None:
        """One that carries bytes and one that carries messages."""
        self.counters = Counters()
        self.bytes = Inbox(DEFAULT, self.counters)
        self.messages = Inbox(replace(DEFAULT, stream=False, early=2), self.counters)

    def test_stream(self) -> None:
        """A stream takes messages with its own id, without the id, and counts others."""
        self.bytes.put(Delivered(bytes((USER,)) + b"ab", ORDERED, 0))
        self.bytes.put(Delivered(bytes((USER ^ 1,)) + b"cd", ORDERED, 0))
        self.assertEqual((self.bytes.size, self.bytes.stream.take(9)), (2, b"ab"))
        self.assertEqual(self.counters.messages_foreign, 1)

    def test_messages(self) -> None:
        """Messages are kept whole, with delivery and channel, whatever their id."""
        self.messages.put(Delivered(memoryview(b"\xf0x"), ORDERED, 7))
        self.assertEqual(self.messages.size, 2)
        expected = Message(b"\xf0x", Delivery.RELIABLE_ORDERED, 7)
        self.assertEqual(list(self.messages.messages.take()), [expected])

    def test_early(self) -> None:
        """
        What comes before the handshake is done waits apart, copied out of its
        datagram; then it is there in order, once. Beyond the limit only what is
        acknowledged is kept.
        """
        datagram = bytearray(b"\x80a")
        self.messages.keep(Delivered(memoryview(datagram), ORDERED, 0))
        datagram[:] = b"\x80b"
        self.messages.keep(Delivered(memoryview(datagram), ORDERED, 0))
        self.assertTrue(self.messages.early_full)
        self.messages.keep(Delivered(b"\x80c", UNRELIABLE, 0))
        self.messages.keep(Delivered(b"\x80d", ORDERED, 0))
        self.assertEqual((self.messages.size, self.counters.messages_early_dropped), (0, 1))
        self.messages.put_kept()
        self.messages.put_kept()
        found = [message.data for message in self.messages.messages.take()]
        self.assertEqual(found, [b"\x80a", b"\x80b", b"\x80d"])

    def test_earlyBytes(self) -> None:
        """The limit is one of bytes as well."""
        settings = replace(DEFAULT, stream=False, receive_buffer=10)
        inbox = Inbox(settings, self.counters)
        inbox.keep(Delivered(bytes(9), UNRELIABLE, 0))
        self.assertFalse(inbox.early_full)
        inbox.keep(Delivered(bytes(9), UNRELIABLE, 0))
        self.assertTrue(inbox.early_full)
        inbox.clear()
        self.assertFalse(inbox.early_full)

    def test_clear(self) -> None:
        """Nothing is left, of what was put aside neither."""
        self.messages.put(Delivered(b"\x80a", ORDERED, 0))
        self.messages.keep(Delivered(b"\x80b", ORDERED, 0))
        self.messages.clear()
        self.messages.put_kept()
        self.assertEqual((self.messages.size, list(self.messages.messages.take())), (0, []))
