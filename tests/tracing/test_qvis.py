"""Traces of real sessions as qvis shows them; see L{tests.tracing.qvis}."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.decoding.talk import SIZE, talk
from tests.tracing.qvis import Trace, congestion, loaded, sequence
from twisted_rudp.service.tracing import endTraces, traceSessions


class QvisTests(SynchronousTestCase):
    """Both ends of a session of each transport over a bad link."""

    def traced(self, wire: str) -> tuple[Trace, Trace]:
        """The client's trace and the server's."""
        folder = self.mktemp()
        traceSessions(folder)
        self.addCleanup(endTraces)
        talk(self.mktemp(), wire)
        endTraces()
        client, server = map(loaded, sorted(Path(folder).iterdir()))
        return client, server

    def test_loaded(self) -> None:
        """It takes the files as they are, knows both sides, and when they began."""
        for wire in ("kcp", "raknet", "qotp"):
            client, server = self.traced(wire)
            self.assertEqual((client.vantage, server.vantage), ("client", "server"))
            self.assertLessEqual(client.began, server.began)

    def test_congestion(self) -> None:
        """
        Its congestion view has a bar for each datagram, all three lines, and, where datagrams can
        be read, the marks of acknowledgements and losses, which point at bars.
        """
        for wire in ("kcp", "raknet", "qotp"):
            for trace in self.traced(wire):
                seen = congestion(trace)
                self.assertGreater(sum(seen.sent.values()), SIZE)
                for name in ("smoothed_rtt", "congestion_window", "bytes_in_flight"):
                    self.assertIn(name, seen.lines, wire)
                if wire == "qotp":
                    self.assertEqual((seen.acknowledged, seen.lost), (set(), set()))
                    continue
                self.assertLessEqual(seen.acknowledged | seen.lost, seen.sent.keys())
                self.assertGreaterEqual(len(seen.acknowledged), 15)
                self.assertGreater(len(seen.lost), 0)

    def test_sequence(self) -> None:
        """
        Its sequence view has an arrow for each datagram with a number, in the order of time, with
        type, number and the names of what is in it. RakNet's acknowledgements have no numbers.
        """
        words = {"kcp": {"push", "ack", "wask"}, "raknet": {"message"}, "qotp": set()}
        for wire, expected in words.items():
            seen: set[str] = set()
            for trace in self.traced(wire):
                arrows = sequence(trace)
                for name in ("transport:packet_sent", "transport:packet_received"):
                    shown = [each.text.split() for each in arrows if each.name == name]
                    numbers = [int(text[2]) for text in shown]
                    self.assertGreater(len(numbers), 15)
                    self.assertEqual(numbers, sorted(numbers), wire)
                    self.assertEqual({text[0] for text in shown} | {"initial"}, {"initial", "1RTT"})
                    seen |= {word for text in shown for word in text[3:]}
            self.assertLessEqual(expected, seen)
