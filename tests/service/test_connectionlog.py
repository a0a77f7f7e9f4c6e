"""Tests for L{twisted_rudp.service.connectionlog}."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.service.transports import CountingTransport, HalfTransport
from twisted_rudp.service.connectionlog import BURST, ConnectionLog, addressText, transportText


class TextTests(SynchronousTestCase):
    """Addresses and transports in words."""

    def test_addresses(self) -> None:
        """Addresses as people write them, and the kind of those that have none."""
        for address, text in [
            (IPv4Address("UDP", "192.0.2.1", 4000), "192.0.2.1:4000"),
            (IPv6Address("TCP", "fd00::1", 80), "[fd00::1]:80"),
            (UNIXAddress(b"/run/x"), "/run/x"),
            (UNIXAddress(None), "unix"),
            (HostnameAddress(b"h", 1), "hostname"),
        ]:
            self.assertEqual(addressText(address), text)

    def test_transports(self) -> None:
        """Sessions say what they are; of others the address has the kind."""
        self.assertEqual(transportText(CountingTransport()), "udp")
        transport = HalfTransport(hostAddress=IPv4Address("TCP", "192.0.2.1", 4000))
        self.assertEqual(transportText(transport), "tcp")


class ConnectionLogTests(SynchronousTestCase):
    """Lines and their values."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[dict[str, Any]] = []
        log = Logger(observer=self.events.append)
        self.log = ConnectionLog(self.clock, log, "forward a -> b")

    def test_lines(self) -> None:
        """Both sides are named, and each value can be read from the event."""
        ends = {"peer": "p:1", "transport": "kcp", "far": "f:2", "far_transport": "tcp"}
        self.log.opened(1, **ends)
        self.log.closed(1, duration=12.34, reason="done", sent=5, received=6, **ends)
        self.assertEqual(
            [formatEvent(event) for event in self.events],
            [
                "forward a -> b: connection 1 opened: p:1 (kcp) -> f:2 (tcp)",
                "forward a -> b: connection 1 closed after 12.3 s: 5 bytes to the far side, 6"
                " bytes back, peer p:1 (kcp) -> f:2 (tcp): done",
            ],
        )
        values = {name: self.events[1][name] for name in ("duration", "sent", "peer", "reason")}
        self.assertEqual(values, {"duration": 12.34, "sent": 5, "peer": "p:1", "reason": "done"})

    def test_bounded(self) -> None:
        """Somebody who opens connections without end does not fill the log (LOG-2)."""
        for number in range(BURST + 50):
            self.log.opened(number, "p:1", "kcp")
        self.assertEqual(len(self.events), BURST)
        self.clock.advance(1)
        self.log.opened(0, "p:1", "kcp")
        self.assertIn("(50 lines about other connections suppressed)", formatEvent(self.events[-1]))
