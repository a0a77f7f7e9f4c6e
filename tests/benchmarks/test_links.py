"""Tests of the emulated links: what they lose and delay, and how they are named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from tests.benchmarks.links import SERVER, Link, LinkError, carried, road
from tests.interop.harness import unavailable

COUNT = 400
SIZE = 100
HEADERS = 28

RECEIVE = f"""
import json, socket, sys
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
# Forced: on a busy machine the usual buffer overflows before it is read.
receiver.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)
receiver.bind(({SERVER!r}, 9))
receiver.settimeout(0.5)
print(flush=True)
got = []
try:
    while True:
        got.append(int.from_bytes(receiver.recv({SIZE}), "big"))
except TimeoutError:
    print(json.dumps(got))
"""

SEND = f"""
import socket
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range({COUNT}):
    sender.sendto(number.to_bytes({SIZE}, "big"), ({SERVER!r}, 9))
"""


class LinkTests(SynchronousTestCase):
    """Real links, which need root."""

    def cross(self, link: Link) -> tuple[list[int], Mapping[str, int]]:
        """
        Send datagrams over a link.

        @return: the numbers of those that came, and what the link says.
        """
        try:
            with road(link, seed=1) as ends:
                receiver = subprocess.Popen(
                    [*ends.server.prefix, sys.executable, "-c", RECEIVE],
                    stdout=subprocess.PIPE,
                )
                assert receiver.stdout is not None
                receiver.stdout.readline()
                subprocess.run([*ends.client.prefix, sys.executable, "-c", SEND], check=True)
                got = json.loads(receiver.communicate()[0])
        except LinkError as error:
            raise unavailable(str(error)) from None
        return got, ends.traffic

    def test_clean(self) -> None:
        """What fits the queue arrives in order, and is counted with its headers."""
        got, traffic = self.cross(Link(5, 50, 0))
        self.assertEqual(got, list(range(COUNT)))
        self.assertEqual(traffic["wire_bytes"], COUNT * (SIZE + HEADERS))

    def test_loss(self) -> None:
        """What is lost has been sent."""
        got, traffic = self.cross(Link(5, 50, 10))
        self.assertEqual(len(got) + traffic["wire_lost"], COUNT)
        self.assertEqual(traffic["wire_packets"], COUNT)
        self.assertTrue(15 < traffic["wire_lost"] < 70, traffic)

    def test_bursts(self) -> None:
        """Losses in bursts come together."""
        got, traffic = self.cross(Link(5, 50, 20, 10))
        holes = sum(b - a > 1 for a, b in pairwise(got))
        self.assertGreater(traffic["wire_lost"], 4 * holes)

    def test_queue(self) -> None:
        """What the queue does not hold is lost before the link."""
        got, traffic = self.cross(Link(5, 1, 0))
        self.assertGreater(traffic["wire_overflowed"], 0)
        self.assertEqual(len(got) + traffic["wire_overflowed"], COUNT)


class DescriptionTests(SynchronousTestCase):
    """Names, titles, arguments and sums."""

    def test_name(self) -> None:
        """A link is called by its figures."""
        self.assertEqual(Link(20, 50, 1).name, "20ms-50mbit-1%")
        self.assertEqual(Link(100, 500, 1, 10).name, "100ms-500mbit-1%-burst10")
        self.assertEqual(
            Link(100, 500, 1, 10).title,
            "100 ms each way, 500 Mbit/s, 1 % lost in bursts of 10",
        )

    def test_arguments(self) -> None:
        """The emulator is told bytes and shares, and a queue of 50 ms."""
        self.assertEqual(
            [*Link(20, 80, 5).arguments(3)], ["20", "10000000", "500000", "0.05", "0", "3"]
        )

    def test_carried(self) -> None:
        """Both directions count."""
        way = {"packets": 3, "bytes": 100, "lost": 1, "overflowed": 2}
        self.assertEqual(
            carried({"there": way, "back": {**way, "bytes": 10}}),
            {
                "wire_bytes": 110,
                "wire_bytes_back": 10,
                "wire_packets": 6,
                "wire_lost": 2,
                "wire_overflowed": 4,
            },
        )
