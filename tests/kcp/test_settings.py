"""Settings and named profiles (kcp.md 1.3 and 8.3)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.settings import written
from twisted_rudp.kcp.settings import PROFILES, SessionOptions, Settings


class SettingsTests(SynchronousTestCase):
    """L{Settings}."""

    def test_ranges(self) -> None:
        """
        The ends of every range are accepted, the next values are not, and the
        error names argument, value and range.
        """
        for name, least, most in (
            ("nodelay", 0, 2),
            ("interval", 10, 5000),
            ("resend", 0, 1000),
            ("nc", 0, 1),
            ("sndwnd", 0, 65535),
            ("rcvwnd", 0, 65535),
            ("mtu", 25, 65507),
            ("dead_link", 0, 1_000_000),
            ("probe_wait", 1, 120_000),
        ):
            for value in (least, most):
                self.assertEqual(getattr(Settings(**{name: value}), name), value)
            for value in (least - 1, most + 1):
                error = self.assertRaises(ValueError, Settings, **{name: value})
                self.assertIn(f"{written(name)}={value}", str(error))
                if name != "nc":
                    self.assertIn(f"expected an integer from {least} to {most}", str(error))

    def test_derived(self) -> None:
        """Segment size is what the header leaves; nodelay lowers the least timeout."""
        self.assertEqual(Settings(mtu=1400).mss, 1376)
        self.assertEqual([Settings(nodelay=n).minimum_timeout for n in (0, 1, 2)], [100, 30, 30])


class ProfileTests(SynchronousTestCase):
    """L{PROFILES}."""

    def test_numbers(self) -> None:
        """The names stand for (nodelay, interval, resend, nc)."""
        self.assertEqual(
            {
                name: (chosen.nodelay, chosen.interval, chosen.resend, chosen.nc)
                for name, chosen in PROFILES.items()
            },
            {
                "default": (1, 10, 2, 0),
                "bulk": (1, 10, 2, 0),
                "interactive": (1, 10, 2, 0),
                "normal": (0, 40, 2, 1),
                "fast": (0, 30, 2, 1),
                "fast2": (1, 20, 2, 1),
                "fast3": (1, 10, 2, 1),
            },
        )

    def test_windows(self) -> None:
        """All have windows of 1024 segments and carry streams."""
        for chosen in PROFILES.values():
            self.assertEqual((chosen.receive_window, chosen.stream), (1024, True))


class OptionTests(SynchronousTestCase):
    """L{SessionOptions}."""

    def test_shards(self) -> None:
        """Both numbers or none, 256 together at most (kcp.md 3.2)."""
        for data, parity in ((10, 0), (0, 3), (200, 57), (-1, 3), (256, 1)):
            self.assertRaises(
                ValueError, SessionOptions, data_shards=data, parity_shards=parity
            )
        self.assertTrue(SessionOptions(200, 55).protects)
        self.assertEqual((SessionOptions(1, 1).overhead, SessionOptions().overhead), (8, 0))
