"""The encryption layer against the release's own bytes (qotp.md section 2)."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.vectors import load
from twisted_rudp.qotp import wire
from twisted_rudp.qotp.protection import INITIATOR, RESPONDER, Cipher, nonce_of
from twisted_rudp.qotp.wire import Kind

DIRECTIONS = {"initiator_to_responder": INITIATOR, "responder_to_initiator": RESPONDER}
bounded = settings(max_examples=100, deadline=None, derandomize=True)


class Vectors:
    """The keys that all files of one set share."""

    def __init__(self) -> None:
        keys = load("qotp", "keys")
        secrets = keys["shared_secrets"]
        self.public = {n: bytes.fromhex(k["public"]) for n, k in keys["keys"].items()}
        self.session = Cipher(bytes.fromhex(secrets["ephemeral_ephemeral"]))
        self.opening = Cipher(bytes.fromhex(secrets["initiator_ephemeral_responder_identity"]))
        self.name = bytes.fromhex(keys["connection_id"]["wire"])


class SealedVectorTests(SynchronousTestCase):
    """All sealed messages."""

    def setUp(self) -> None:
        self.vectors = Vectors()

    def check(self, file: str, kind: Kind, who: str) -> None:
        """Encoding gives the recorded bytes and decoding gives back the payload."""
        vectors = self.vectors
        cipher = vectors.opening if kind is Kind.INIT_CRYPTO_SND else vectors.session
        public = vectors.public
        for case in load("qotp", file)["cases"]:
            direction = DIRECTIONS[case["direction"]]
            prefix = wire.prefix_of(kind, vectors.name, public[f"{who}_ep"], public[f"{who}_id"])
            self.assertEqual(prefix.hex(), case["parts"]["header_and_aad"])
            number = case["epoch"] << 48 | case["sn"]
            self.assertEqual(nonce_of(number, direction).hex(), case["nonce"])
            payload = bytes.fromhex(case["payload"])
            plain = payload
            if kind is Kind.INIT_CRYPTO_SND:
                plain = wire.with_fill(payload, case["mtu"])
                self.assertEqual(int.from_bytes(plain[:2], "little"), case["fill_length"])
                self.assertEqual(wire.without_fill(plain), payload)
            sealed = cipher.seal(prefix, number, direction, plain)
            self.assertEqual(sealed.hex(), case["datagram"])
            opened = cipher.open(sealed, len(prefix), direction, case["epoch"])
            self.assertEqual(opened, (number, plain))

    def test_initRcv(self) -> None:
        """InitRcv, with 73 bytes of cleartext (2.2)."""
        self.check("init_rcv", Kind.INIT_RCV, "b")

    def test_initCryptoSnd(self) -> None:
        """InitCryptoSnd, under K0 and with its fill (2.2)."""
        self.check("init_crypto_snd", Kind.INIT_CRYPTO_SND, "a")

    def test_initCryptoRcv(self) -> None:
        """InitCryptoRcv (2.2)."""
        self.check("init_crypto_rcv", Kind.INIT_CRYPTO_RCV, "b")

    def test_data(self) -> None:
        """Data in both directions, in all epochs of the set (2.3, 2.4)."""
        self.check("data", Kind.DATA, "a")

    def test_initSnd(self) -> None:
        """InitSnd is keys and zeros up to the MTU (2.2)."""
        public = self.vectors.public
        for case in load("qotp", "init_snd")["cases"]:
            datagram = wire.init_snd(public["a_ep"], public["a_id"], case["mtu"])
            self.assertEqual(datagram.hex(), case["datagram"])
            self.assertEqual(wire.connection_id(public["a_ep"]), self.vectors.name)


class EpochTests(SynchronousTestCase):
    """Rolling over (2.5, 2.6)."""

    def setUp(self) -> None:
        vectors = Vectors()
        self.cipher, self.name = vectors.session, vectors.name
        self.prefix = bytes((Kind.DATA,)) + self.name
        self.recorded: Any = load("qotp", "epoch_rollover")

    def test_sequences(self) -> None:
        """Numbers beyond 2^48 go on in the next epoch, to the byte; up to epoch 127."""
        checked = 0
        for sequence in self.recorded["sequences"]:
            direction = DIRECTIONS[sequence["direction"]]
            for packet in sequence["packets"]:
                number = packet["epoch"] << 48 | packet["sn"]
                if packet["epoch"] > wire.LAST_EPOCH:
                    continue
                datagram = bytes.fromhex(packet["datagram"])
                found = self.cipher.open(datagram, len(self.prefix), direction, packet["epoch"])
                assert found is not None
                self.assertEqual(found[0], number)
                again = self.cipher.seal(self.prefix, number, direction, found[1])
                self.assertEqual(again, datagram)
                following = number + 1
                self.assertEqual(
                    (following >> 48, following & (1 << 48) - 1),
                    (packet["next_epoch"], packet["next_sn"]),
                )
                checked += 1
        self.assertTrue(checked)

    def test_acceptance(self) -> None:
        """A receiver takes its own epoch and the two beside it; 127 and 128 alias."""
        numbers = set()
        for case in self.recorded["acceptance"]:
            datagram = bytes.fromhex(case["datagram"])
            epoch = case["receiver_epoch"]
            found = self.cipher.open(datagram, len(self.prefix), INITIATOR, epoch)
            runs = self.cipher.open_run(datagram, len(datagram), INITIATOR, epoch)
            self.assertEqual(runs, [found])
            self.assertEqual(found is not None, case["accepted"], case)
            if found is not None:
                self.assertEqual(found[0] >> 48, case["epoch_found"])
                numbers.add(found[0] & (1 << 48) - 1)
        # One for all cases, in whatever epoch.
        self.assertEqual(len(numbers), 1)


class RunTests(SynchronousTestCase):
    """Runs are nothing but datagrams."""

    cipher = Cipher(bytes(range(32)))
    prefix = bytes((Kind.DATA,)) + b"identity"

    @bounded
    @given(
        first=st.integers(0, (1 << 48) - 50),
        size=st.integers(8, 60),
        count=st.integers(1, 9),
        last=st.integers(8, 60),
    )
    def test_sealRun(self, first: int, size: int, count: int, last: int) -> None:
        """A sealed run is its datagrams sealed one by one, and opens to its payloads."""
        payloads = [bytes([i]) * size for i in range(count - 1)] + [b"z" * min(size, last)]
        run = self.cipher.seal_run(self.prefix, first, INITIATOR, payloads)
        single = [
            self.cipher.seal(self.prefix, number, INITIATOR, payload)
            for number, payload in enumerate(payloads, first)
        ]
        self.assertEqual(run, b"".join(single))
        opened = self.cipher.open_run(run, len(single[0]), INITIATOR, 0)
        self.assertEqual(opened, list(enumerate(payloads, first)))

    @bounded
    @given(run=st.binary(max_size=200), size=st.integers(1, 60))
    def test_junk(self, run: bytes, size: int) -> None:
        """Whatever comes: a None for each datagram, never an exception."""
        opened = self.cipher.open_run(run, size, INITIATOR, 3)
        self.assertEqual(opened, [None] * -(-len(run) // size))

    def test_shortPayload(self) -> None:
        """2.4: a payload under eight bytes is refused."""
        with self.assertRaises(ValueError):
            self.cipher.seal(self.prefix, 0, INITIATOR, bytes(7))

    def test_fillTooLong(self) -> None:
        """2.2: what does not fit into an InitCryptoSnd is refused."""
        self.assertEqual(len(wire.with_fill(bytes(1311), 1400)), 2 + 1311)
        with self.assertRaises(ValueError):
            wire.with_fill(bytes(1312), 1400)
