"""Keys and key files."""

from __future__ import annotations

import os
import stat

from twisted.trial.unittest import SynchronousTestCase

from tests.vectors import load
from twisted_rudp.qotp.extensions import StatelessReset
from twisted_rudp.qotp.handshake import Answer, HalfOpen
from twisted_rudp.qotp.keys import KeyPair, LowOrder, Secrets, create_key_file
from twisted_rudp.qotp.protection import Cipher, Sealer
from twisted_rudp.qotp.wire import Payload


class VectorTests(SynchronousTestCase):
    """Against the release."""

    def test_seeds(self) -> None:
        """10: the key of a seed text is its SHA-256."""
        for case in load("qotp", "keys")["seed_strings"]:
            pair = KeyPair.from_text(case["seed_string"])
            self.assertEqual(pair.private_hex(), case["private"])
            self.assertEqual(pair.public.hex(), case["public"])

    def test_exchange(self) -> None:
        """1: K and K0 are the raw X25519 outputs, from either side."""
        recorded = load("qotp", "keys")
        pairs = {name: KeyPair.from_hex(key["private"]) for name, key in recorded["keys"].items()}
        for name, pair in pairs.items():
            self.assertEqual(pair.public.hex(), recorded["keys"][name]["public"])
        secrets = recorded["shared_secrets"]
        for one, other, name in [
            ("a_ep", "b_ep", "ephemeral_ephemeral"),
            ("a_ep", "b_id", "initiator_ephemeral_responder_identity"),
        ]:
            for near, far in ((one, other), (other, one)):
                shared = pairs[near].exchange(pairs[far].public)
                self.assertEqual(shared.hex(), secrets[name])


class KeyTests(SynchronousTestCase):
    """What is refused, and files."""

    def test_lowOrder(self) -> None:
        """1: a result of zeros is an error."""
        pair = KeyPair(b"7" * 32)
        for point in (bytes(32), b"\1" + bytes(31)):
            with self.assertRaises(LowOrder):
                pair.exchange(point)

    def test_hex(self) -> None:
        """10: hex with or without 0x; anything else is refused without repeating it."""
        plain = KeyPair.from_hex("ab" * 32)
        self.assertEqual(KeyPair.from_hex("0x" + "AB" * 32).public, plain.public)
        for wrong in ("", "ab" * 31, "xy" * 32, "ab" * 33, "0xx" + "ab" * 32):
            error = self.assertRaises(ValueError, KeyPair.from_hex, wrong)
            self.assertFalse(wrong and wrong in str(error))

    def test_length(self) -> None:
        """A private key of another length is refused."""
        with self.assertRaises(ValueError):
            KeyPair(bytes(31))

    def test_file(self) -> None:
        """A key file is its owner's alone, is read back, and is never overwritten."""
        path = self.mktemp()
        made = create_key_file(path, b"k" * 32)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertEqual(KeyPair.from_file(path).public, made.public)
        with self.assertRaises(FileExistsError):
            create_key_file(path, b"x" * 32)
        self.assertEqual(KeyPair.from_file(path).public, made.public)


class ReprTests(SynchronousTestCase):
    """What a log or a traceback may show."""

    def test_noSecrets(self) -> None:
        """No key stands in the repr of what holds one."""
        ours, theirs = KeyPair(bytes(range(32))), KeyPair(bytes(range(1, 33)))
        shared = ours.exchange(theirs.public)
        secrets = Secrets(shared, shared, (ours.public, ours.public), (theirs.public, b""))
        answer = Answer(Cipher(shared), secrets, 1, Payload(None, None), True)
        half = HalfOpen(("192.0.2.1", 1), secrets, Cipher(shared), None, Sealer(0, 1400), b"")
        token = StatelessReset(shared).new_id(bytes(5))
        for each in (ours, secrets, answer, half, token, StatelessReset(shared)):
            shown = repr(each)
            for secret in (bytes(range(32)), shared, token.token):
                self.assertNotIn(secret.hex(), shown)
                self.assertNotIn(repr(secret)[2:-1], shown)
