"""Encryption against recordings of kcp-go, and by its properties (kcp.md 4)."""

from __future__ import annotations

import os
import random
import sys
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import vectors
from tests.kcp.segments import split
from twisted_rudp.kcp.crypto import (
    CIPHERS,
    NAMES,
    CheckedCrypt,
    Crypt,
    Nonces,
    Secret,
    XorCipher,
    from_hex,
    from_password,
    make_crypt,
)

PROPERTY = settings(max_examples=40, deadline=None, derandomize=True)
FAST = [name for name, kind in CIPHERS.items() if not kind.slow]
KEY = bytes(range(32))




def crypt(name: str, key: bytes = KEY, seed: int = 1) -> Crypt:
    """One end with a random source that repeats itself."""
    made = make_crypt(name, key, random.Random(seed).randbytes)
    assert made is not None
    return made


class RecordedTests(SynchronousTestCase):
    """Byte for byte what kcp-go 5.6.1 and 5.6.72 produce."""

    def test_packets(self) -> None:
        """
        The first datagram of every cipher is the recorded one; all are opened,
        one by one and as a run (kcp.md 4.2, 4.3).
        """
        for one in vectors.load("kcp", "crypt")["ciphers"]:
            key = bytes.fromhex(one["key"])
            for packet in one["packets"]:
                nonce, body = bytes.fromhex(packet["nonce"]), bytes.fromhex(packet["body"])
                datagram = bytes.fromhex(packet["datagram"])
                fresh = make_crypt(one["crypt"], key, lambda n, nonce=nonce: nonce.ljust(n))  # type: ignore[misc]
                assert fresh is not None
                self.assertEqual(fresh.seal(body, len(body)), (datagram, len(datagram)))
                opened = fresh.open(datagram, len(datagram))
                self.assertEqual((bytes(opened.run), list(opened.failed)), (body, []))

    def test_bodies(self) -> None:
        """The ciphers alone, from the fixed initial vector (kcp.md 4.2)."""
        for one in vectors.load("kcp", "crypt")["ciphers"]:
            for case in one["cases"]:
                plain, sealed = bytes.fromhex(case["plain"]), bytes.fromhex(case["cipher"])
                end = make_crypt(one["crypt"], bytes.fromhex(one["key"]), bytes)
                assert isinstance(end, CheckedCrypt)
                cipher, length = end.cipher, len(plain)
                pad = bytes(-length % cipher.block)
                encrypted = cipher.encrypt(plain + pad, length)[:length]
                self.assertEqual(encrypted, sealed, (one["crypt"], length))
                lead = cipher.lead
                opened = cipher.decrypt(lead + sealed + pad, len(lead) + length)
                self.assertEqual(opened[len(lead) : len(lead) + length], plain)

    def test_shortKeys(self) -> None:
        """
        Blowfish takes any key from one byte on, and Salsa20 fills a short one up
        with zeros (kcp.md 4.2, 4.3).
        """
        datagram = bytes.fromhex(
            "02fbee91f294284cae6f5469407620f4906c12dd3f3376206f3cf4f9ad8181be752055670596a0681f94cd95"
        )
        body = "d45e2bb4d14adc3164d29b1eee177a18601198880dc26817"
        self.assertEqual(crypt("blowfish", b"\xa5").open(datagram, 44).run.hex(), body)
        sealed, size = crypt("salsa20", b"abc").seal(b"body", 4)
        padded = b"abc".ljust(32, b"\0")
        self.assertEqual(crypt("salsa20", padded).open(sealed, size).run, b"body")

    def test_aead(self) -> None:
        """AES-GCM with each key size (kcp.md 4.4)."""
        for one in vectors.load("kcp", "aead")["ciphers"]:
            key = bytes.fromhex(one["key"])
            for packet in one["packets"]:
                nonce, body = bytes.fromhex(packet["nonce"]), bytes.fromhex(packet["body"])
                datagram = bytes.fromhex(packet["datagram"])
                fresh = make_crypt(one["crypt"], key, lambda n, nonce=nonce: nonce.ljust(n))  # type: ignore[misc]
                assert fresh is not None
                self.assertEqual(fresh.seal(body, len(body))[0], datagram)
                self.assertEqual(bytes(fresh.open(datagram, len(datagram)).run), body)

    def test_derivation(self) -> None:
        """A password becomes kcptun's key (kcp.md 8.2)."""
        for one in vectors.load("kcp", "kdf")["kcptun"]:
            self.assertEqual(from_password(one["password"]).hex(), one["key"])

    def test_xorTable(self) -> None:
        """The table of C{xor} (kcp.md 4.3)."""
        for one in vectors.load("kcp", "kdf")["xor_tables"]:
            cipher = XorCipher(bytes.fromhex(one["key"]))
            self.assertEqual(cipher.encrypt(bytes(1500), 1500).hex(), one["table"])


class ExtraTests(SynchronousTestCase):
    """Salsa20 comes from pycryptodome, the extra C{legacy}."""

    def test_missing(self) -> None:
        """Where it is missing, the error names the cipher and the extra; others work."""
        hidden = {name: None for name in sys.modules if name.partition(".")[0] == "Crypto"}
        hidden["Crypto"] = None
        with mock.patch.dict(sys.modules, hidden):
            error = self.assertRaises(ValueError, Secret, "salsa20", KEY)
        self.assertEqual(
            str(error), "crypt=salsa20 needs pycryptodome: pip install 'twisted_rudp[legacy]'"
        )
        self.assertEqual(Secret("twofish", KEY).crypt, "twofish")


class RunTests(SynchronousTestCase):
    """Whole runs at a time."""

    @PROPERTY
    @given(
        st.sampled_from(FAST),
        st.integers(1, 90),
        st.integers(1, 6),
        st.integers(0, 89),
        st.randoms(),
    )
    def test_property(
        self, name: str, size: int, count: int, less: int, chance: random.Random
    ) -> None:
        """
        What is sealed as a run is opened as a run, one by one and by an end that
        starts anew; what was changed on the way is dropped and nothing else.
        """
        run = chance.randbytes(max(1, size * count - less))
        sender = crypt(name)
        sender.seal(b"something before", 16)
        sealed, width = sender.seal(run, size)
        self.assertEqual(width, size + sender.overhead)
        opened = crypt(name).open(sealed, width)
        self.assertEqual((bytes(opened.run), opened.size, opened.failed), (run, size, []))
        receiver = crypt(name)
        datagrams = split(sealed, width)
        one_by_one = [bytes(receiver.open(each, len(each)).run) for each in datagrams]
        self.assertEqual(one_by_one, split(run, size))
        spoilt = chance.randrange(len(datagrams))
        damaged = bytearray(datagrams[spoilt])
        damaged[chance.randrange(sender.overhead - 4, len(damaged))] ^= 1 << chance.randrange(8)
        datagrams[spoilt] = bytes(damaged)
        opened = receiver.open(b"".join(datagrams), width)
        good = split(run, size)
        del good[spoilt]
        self.assertEqual(bytes(opened.run), b"".join(good))
        self.assertEqual([bytes(each) for each in opened.failed], [bytes(damaged)])

    def test_slow(self) -> None:
        """The same holds for the ciphers in plain Python."""
        for name in sorted(set(CIPHERS) - set(FAST)):
            run = bytes(range(200))
            sealed, width = crypt(name).seal(run, 77)
            opened = crypt(name).open(sealed, width)
            self.assertEqual((bytes(opened.run), opened.size), (run, 77), name)

    @PROPERTY
    @given(st.sampled_from(FAST), st.binary(min_size=1, max_size=200), st.integers(1, 80))
    def test_anything(self, name: str, run: bytes, size: int) -> None:
        """Whatever comes is either opened or among the failed; nothing is raised."""
        opened = crypt(name).open(run, size)
        if name not in ("none", "xor"):
            self.assertEqual(b"".join(bytes(each) for each in opened.failed), run)

    def test_short(self) -> None:
        """A datagram without a body fails (kcp.md 2.2)."""
        for name in FAST:
            end = crypt(name)
            for length in (1, end.overhead - 1, end.overhead):
                self.assertEqual(len(end.open(bytes(length), length).failed), 1)

    def test_otherKey(self) -> None:
        """Another key opens nothing."""
        for name in set(FAST) - {"none"}:
            sealed, width = crypt(name).seal(bytes(60), 30)
            opened = crypt(name, bytes(32)).open(sealed, width)
            self.assertEqual((bytes(opened.run), len(opened.failed)), (b"", 2), name)

    def test_noncesDiffer(self) -> None:
        """The same datagram is never the same on the wire."""
        for name in set(CIPHERS) - {"none", "xor"}:
            end = crypt(name)
            sealed, width = end.seal(bytes(30 * 9), 30)
            self.assertEqual(len({each[8:] for each in split(sealed, width)}), 9, name)


class NoncesTests(SynchronousTestCase):
    """L{Nonces}."""

    def test_batches(self) -> None:
        """The source is asked seldom, and no byte of it is used twice or left out."""
        source = random.Random(7).randbytes(1 << 16)
        given: list[int] = []

        def entropy(count: int) -> bytes:
            start = sum(given)
            given.append(count)
            return source[start : start + count]

        nonces = Nonces(entropy)
        taken = [nonces.take(each) for each in (12, 16, 5000, 12, 4096, 1, 736) * 2]
        self.assertEqual(b"".join(taken), source[: sum(map(len, taken))])
        self.assertLess(len(given), 9)

    def test_fork(self) -> None:
        """
        A child draws no bytes that its parent drew before and has not used: with them both
        would seal under one GCM nonce.
        """
        nonces = Nonces(os.urandom)
        nonces.take(12)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            # Nothing of trial may run in the child.
            os.write(writer, nonces.take(12))
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as pipe:
            theirs = pipe.read()
        os.waitpid(child, 0)
        self.assertEqual(len(theirs), 12)
        self.assertNotEqual(nonces.take(12), theirs)


class SecretTests(SynchronousTestCase):
    """Which cipher goes with which key."""

    def test_defaults(self) -> None:
        """A key without a cipher means C{aes}; neither means C{null}."""
        self.assertEqual(Secret(None, KEY).crypt, "aes")
        self.assertEqual(Secret(None, None).crypt, "null")
        self.assertIsNone(make_crypt("null", b"", bytes))

    def test_refused(self) -> None:
        """
        A cipher without a key, a key without encryption, a key too short, an
        unknown cipher: each is an error, and none repeats the key.
        """
        key = b"\xde\xad\xbe\xef\xfe\xed"
        for name, given_, named in (
            ("aes", None, "keyFile"),
            ("null", key, "no key"),
            ("aes", key, "6 bytes"),
            (None, key, "6 bytes"),
            ("rot13", key, ", ".join(NAMES)),
        ):
            error = self.assertRaises(ValueError, Secret, name, given_)
            self.assertIn(named, str(error))
            self.assertNotIn(key.hex(), str(error))
            self.assertNotIn(repr(key), str(error))

    def test_hidden(self) -> None:
        """A secret does not show itself."""
        secret = Secret("aes", KEY)
        self.assertEqual(f"{secret!r} {secret}", "<Secret aes> <Secret aes>")
        self.assertEqual(secret.reveal(), KEY)

    def test_hex(self) -> None:
        """
        Keys are pairs of hexadecimal digits; a kcptun key is told where it
        belongs, and not repeated.
        """
        self.assertEqual(from_hex(" 00ff\n"), b"\0\xff")
        for wrong in ("", "0", "0g", "it's a secrect", "0x00", "00 ff"):
            error = self.assertRaises(ValueError, from_hex, wrong)
            self.assertIn("password", str(error))
            self.assertFalse(wrong and wrong in str(error))

    def test_lengths(self) -> None:
        """
        A longer key is cut as kcptun cuts it; other lengths that kcp-go takes
        are used as they are.
        """
        self.assertEqual(CIPHERS["aes-128"].fit(KEY), KEY[:16])
        self.assertEqual(CIPHERS["3des"].fit(KEY), KEY[:24])
        self.assertEqual(CIPHERS["twofish"].fit(KEY[:24]), KEY[:24])
        self.assertEqual(CIPHERS["blowfish"].fit(KEY[:5]), KEY[:5])
        self.assertEqual(CIPHERS["blowfish"].fit(KEY * 2), KEY)
