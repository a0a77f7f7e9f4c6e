"""Tests for L{twisted_rudp.discovery.urls}."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.vectors import load
from twisted_rudp.discovery import v4
from twisted_rudp.discovery.urls import Address, normalised, parse, served


def shown(urls: list[str], source: str = "10.0.0.9", loopback: bool = False) -> list[str]:
    """What is left of announced addresses."""
    return [str(address) for address in normalised(urls, source, loopback)]


class NormaliserTests(SynchronousTestCase):
    """The rules of discovery.md 3.4."""

    def test_vectors(self) -> None:
        """Of each datagram sent to Syncthing, the recommended addresses are left."""
        recorded = load("discovery", "v4_receive")["cases"]
        cases = [case for case in recorded if case["recommended"]["accept"]]
        self.assertTrue(cases)
        for case in cases:
            message = v4.decode(bytes.fromhex(case["wire_hex"]))
            self.assertEqual(
                shown(list(message.addresses), case["source_ip"]),
                case["recommended"]["addresses"],
                case["name"],
            )

    def test_unspecified(self) -> None:
        """An unspecified host is the sender's, with its zone."""
        self.assertEqual(shown(["kcp://:1", "KCP://0.0.0.0:2?a=b", "kcp://[::]:3/x"]), [
            "kcp://10.0.0.9:1", "kcp://10.0.0.9:2?a=b", "kcp://10.0.0.9:3/x",
        ])  # fmt: skip
        [address] = normalised(["kcp://:1"], "fe80::1%eth0")
        self.assertEqual(address, Address("kcp", "fe80::1%eth0", 1))
        self.assertEqual(str(address), "kcp://[fe80::1%25eth0]:1")
        self.assertEqual(parse(str(address)), address)

    def test_served(self) -> None:
        """
        A listener serves the family that it is bound to and its scheme allows; C{[::]},
        no host and names serve both.
        """
        for url, versions in [
            ("kcp://0.0.0.0:1", {4}),
            ("kcp://[::ffff:0.0.0.0]:1", {4}),
            ("kcp://[::]:1", {4, 6}),
            ("kcp://:1", {4, 6}),
            ("kcp://name:1", {4, 6}),
            ("kcp://10.0.0.1:1", {4}),
            ("kcp://[fd00::1]:1", {6}),
            ("kcp4://[::]:1", {4}),
            ("kcp6://name:1", {6}),
            ("kcp6://0.0.0.0:1", set()),
            ("kcp4://[fd00::1]:1", set()),
        ]:
            self.assertEqual(served(parse(url)), versions, url)

    def test_parameters(self) -> None:
        """Names of parameters, from whatever stands behind the port."""
        for rest, names in [
            ("", ()),
            ("?crypt=null&mtu=50", ("crypt", "mtu")),
            ("/path?k%65y=1&b", ("key", "b")),
            ("//[?a=1", ("a",)),
            ("#?a=1", ()),
        ]:
            self.assertEqual(parse(f"kcp://h:1{rest}").parameters, names)

    def test_dropped(self) -> None:
        """What cannot be dialled is dropped."""
        self.assertEqual(
            shown(
                [
                    "kcp://10.0.0.1:0",
                    "kcp://10.0.0.1:65536",
                    "kcp://10.0.0.1",
                    "//10.0.0.1:1",
                    "kcp:10.0.0.1:1",
                    "4kcp://10.0.0.1:1",
                    "kcp://user@10.0.0.1:1",
                    "kcp://127.0.0.1:1",
                    "kcp://[::1]:1",
                    "kcp://[::ffff:127.0.0.1]:1",
                    "kcp://224.0.0.1:1",
                    "kcp://[ff02::1]:1",
                    "kcp://255.255.255.255:1",
                    "kcp6://:1",
                    "tcp4://[fd00::1]:1",
                    "kcp://[1.2.3.4]:1",
                    "kcp://[::1:1",
                    "kcp://a b:1",
                    "kcp://x:1/\n",
                    "kcp://x:1/\x9b2J",
                    "kcp://\u202ex:1",
                    "kcp://x:" + "1" * 6,
                    "kcp://" + "x" * 2083 + ":1",
                ]
            ),
            [],
        )

    def test_names(self) -> None:
        """Names are kept as they are, and not looked up."""
        self.assertEqual(shown(["kcp://example.org:1"]), ["kcp://example.org:1"])

    def test_loopback(self) -> None:
        """Loopback addresses are kept on request."""
        self.assertEqual(shown(["kcp://127.0.0.1:1"], loopback=True), ["kcp://127.0.0.1:1"])

    def test_bounds(self) -> None:
        """The first 32 good ones of the first 64 are kept, each once."""
        urls = [*["bad"] * 10, *["kcp://h:7"] * 30, *(f"kcp://h:{n}" for n in range(100, 200))]
        self.assertEqual(
            shown(urls), ["kcp://h:7", *(f"kcp://h:{n}" for n in range(100, 124))]
        )
        self.assertEqual(len(shown([f"kcp://h:{n}" for n in range(1, 64)])), 32)

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(
        st.one_of(
            st.text(max_size=60),
            st.from_regex(r"[a-z]{1,4}[46]?://(\[[0-9a-f:.%]{0,12}\]|[0-9a-z.]{0,12}):[0-9]{0,6}.*"),
        )
    )
    def test_anything(self, url: str) -> None:
        """Whatever is announced, what is left can be written, read and dialled."""
        for address in normalised([url], "fe80::9%eth0"):
            self.assertTrue(address.host)
            self.assertTrue(0 < address.port < 65536)
            self.assertEqual(parse(str(address)), address)
