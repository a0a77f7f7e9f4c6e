"""L{twisted_rudp.mux.control}: the messages of the control stream."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.lifecycle import Role
from twisted_rudp.mux.control import (
    LONGEST_BODY,
    LONGEST_TEXT,
    MAGIC,
    PREFACE_SIZE,
    ControlError,
    ControlReader,
    Listen,
    Listening,
    NotMultiplexed,
    Offer,
    Origin,
    Preface,
    Proof,
    Refused,
    Stop,
    pack_message,
    pack_origin,
    pack_preface,
    proof,
    unpack_origin,
)

NONCE = bytes(range(32))
MESSAGES = (
    Proof(bytes(32)),
    Listen(7, bytes(16), 8000, "127.0.0.1"),
    Listening(7, 8000, "2001:db8::1"),
    Refused(7, 2, "in use"),
    Stop(7),
)


class ControlTests(SynchronousTestCase):
    """Packing and reading."""

    def read(self, data: bytes, step: int = 1 << 20) -> list[object]:
        reader = ControlReader()
        pieces = [data[at : at + step] for at in range(0, len(data), step)]
        return [item for piece in pieces for item in reader.feed(piece)]

    def test_bytes(self) -> None:
        """The bytes are those of C{mux.md} section 3."""
        self.assertEqual(
            pack_preface(Offer.SECRET | Offer.LISTENS, NONCE),
            b"\xf5rudpmux" + b"\x01\x05" + NONCE,
        )
        self.assertEqual(pack_message(Stop(7)), b"\x05\x00\x02\x00\x07")
        self.assertEqual(
            pack_message(Listen(258, b"c" * 16, 8000, "::1")),
            b"\x02\x00\x17\x01\x02" + b"c" * 16 + b"\x1f\x40::1",
        )
        self.assertEqual(pack_origin(Origin(1, 2, "::1")), b"\x00\x01\x00\x02\x03::1")

    def test_roundTrip(self) -> None:
        """All that is written is read, however it is cut."""
        data = pack_preface(Offer.STREAMS, NONCE) + b"".join(map(pack_message, MESSAGES))
        for step in (1, 2, 41, 42, 43, 1000):
            wanted = [Preface(1, Offer.STREAMS, NONCE), *MESSAGES]
            self.assertEqual(self.read(data, step), wanted)
        self.assertEqual(PREFACE_SIZE, 42)

    def test_notMultiplexed(self) -> None:
        """What is no preface is known from its first byte on."""
        for data in (b"G", b"\xf5rudpmuy", b"SSH-2.0-OpenSSH", b"\0" * 100):
            self.assertRaises(NotMultiplexed, self.read, data)
        self.assertEqual(self.read(MAGIC), [])

    def test_refused(self) -> None:
        """Another version, unknown flags and kinds, and sizes that a message does not have."""
        preface = pack_preface(Offer(0), NONCE)
        for bad in (
            pack_preface(Offer(0), NONCE, version=2),
            pack_preface(Offer(8), NONCE),
            preface + b"\0\0\0",
            preface + b"\x06\0\0",
            preface + b"\x01\0\x1f" + bytes(31),
            preface + b"\x02\0\x14" + bytes(20),
            preface + b"\x02\0\x15" + bytes(20) + b" ",
            preface + b"\x03\0\x05" + bytes(4) + b"\xff",
            preface + b"\x04\0\xff" + bytes(255),
            preface + b"\x05\0\x03" + bytes(3),
            preface + b"\x02" + (LONGEST_BODY + 1).to_bytes(2, "big"),
        ):
            self.assertRaises(ControlError, self.read, bad)

    def test_text(self) -> None:
        """The text of a refusal is cut, and controls nobody's terminal."""
        data = pack_preface(Offer(0), NONCE) + pack_message(Refused(1, 4, "\x1b[2J" + "x" * 1000))
        found = self.read(data)[1]
        assert isinstance(found, Refused)
        self.assertEqual(len(found.text), LONGEST_TEXT)
        self.assertTrue(found.text.startswith("?[2Jxxx"))

    def test_origin(self) -> None:
        """A header comes in pieces, and what follows it is left."""
        data = pack_origin(Origin(9, 1234, "192.0.2.1"))
        for size in range(len(data)):
            self.assertIsNone(unpack_origin(data[:size]))
        self.assertEqual(unpack_origin(data + b"x"), (Origin(9, 1234, "192.0.2.1"), len(data)))
        self.assertRaises(ControlError, unpack_origin, b"\0\0\0\0\x01\n")

    def test_proof(self) -> None:
        """A proof depends on the secret, the role, both prefaces and the session."""
        one, other = pack_preface(Offer(1), NONCE), pack_preface(Offer(1), NONCE[::-1])
        proofs = {
            proof(b"secret", Role.CLIENT, one, other),
            proof(b"secres", Role.CLIENT, one, other),
            proof(b"secret", Role.SERVER, one, other),
            proof(b"secret", Role.CLIENT, other, one),
            proof(b"secret", Role.CLIENT, one, other, b"binding"),
        }
        self.assertEqual(len(proofs), 5)
        self.assertEqual({len(each) for each in proofs}, {32})

    @given(data=st.binary(max_size=300), known=st.booleans(), step=st.integers(1, 50))
    @settings(max_examples=400, deadline=None, derandomize=True)
    def test_anything(self, data: bytes, known: bool, step: int) -> None:
        """Whatever comes is messages or a L{ControlError}, and nothing else."""
        start = pack_preface(Offer(0), NONCE) if known else b""
        try:
            self.read(start + data, step)
            unpack_origin(data)
        except ControlError:
            pass
