"""Tests for L{twisted_rudp.net.udp.systemd}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.net.udp.systemd import initialEnvironment, passedDescriptor

PASSED = {"LISTEN_PID": "7", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "kcp::game"}


class PassedTests(SynchronousTestCase):
    """Which descriptor a name or a number stands for."""

    def refused(self, wanted: str, pid: int = 7, **changes: str) -> str:
        with self.assertRaises(OSError) as caught:
            passedDescriptor(wanted, {**PASSED, **changes}, pid)
        return str(caught.exception)

    def test_found(self) -> None:
        """By name, or by number from 0."""
        for wanted, expected in (("kcp", 3), ("game", 5), ("0", 3), ("1", 4), ("2", 5)):
            self.assertEqual(passedDescriptor(wanted, PASSED, 7), expected)

    def test_named(self) -> None:
        """A name of digits is a name first."""
        self.assertEqual(passedDescriptor("2", {**PASSED, "LISTEN_FDNAMES": "2:a:b"}, 7), 3)

    def test_unknown(self) -> None:
        """The error has the names that there are."""
        for wanted in ("web", "3", "-1", "\xb2", ""):
            if wanted:
                self.assertIn("3 sockets, but not", self.refused(wanted))
        self.assertIn("kcp, game", self.refused("web"))
        self.assertIn("none of them has a name", self.refused("web", LISTEN_FDNAMES=""))

    def test_notOurs(self) -> None:
        """What is meant for another process, or is no number, was not passed to us."""
        for problem in (
            self.refused("kcp", pid=8),
            self.refused("kcp", LISTEN_FDS="x"),
            self.refused("kcp", LISTEN_FDS=""),
            self.refused("kcp", LISTEN_FDS="0"),
        ):
            self.assertIn("no sockets to this process", problem)

    def test_environment(self) -> None:
        """What this process was started with can be read."""
        self.assertIn("PATH", initialEnvironment())
