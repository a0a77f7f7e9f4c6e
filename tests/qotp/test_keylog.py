"""The key log (qotp.md 2.7)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.qotp.pair import Pair
from tests.vectors import load
from twisted_rudp.qotp.keys import Secrets
from twisted_rudp.qotp.protection import INITIATOR, Cipher, KeyLog, KeyLogReader, lines_of
from twisted_rudp.qotp.wire import Kind, prefix_of


class KeyLogTests(SynchronousTestCase):
    """Writing it and reading with it."""

    def test_format(self) -> None:
        """
        The first line is the release's; on the second is K0, which decrypts, where the
        release's decrypts nothing.
        """
        vectors = load("qotp", "keylog")
        first, second = vectors["text"].splitlines()
        keys = load("qotp", "keys")["shared_secrets"]
        secrets = Secrets(
            bytes.fromhex(keys["ephemeral_ephemeral"]),
            bytes.fromhex(keys["initiator_ephemeral_responder_identity"]),
            (b"", b""),
            (b"", b""),
        )
        name = bytes.fromhex(vectors["connection_id"]["wire"])
        ours = lines_of(name, secrets).splitlines()
        self.assertEqual(ours[0], first)
        self.assertEqual(ours[1].split()[:2], second.split()[:2])
        self.assertEqual(ours[1].split()[2], keys["initiator_ephemeral_responder_identity"])
        self.assertNotEqual(second.split()[2], ours[1].split()[2])

    def test_zeros(self) -> None:
        """Numbers are written without leading zeros and read all the same."""
        secrets = Secrets(bytes(32), None, (b"", b""), (b"", b""))
        name = b"\x01\x02" + bytes(6)
        self.assertEqual(lines_of(name, secrets).split()[1], "201")
        prefix = prefix_of(Kind.DATA, name, b"", b"")
        datagram = Cipher(bytes(32)).seal(prefix, 5, INITIATOR, b"any text")
        found = KeyLogReader([lines_of(name, secrets)]).read(datagram)
        assert found is not None
        self.assertEqual((found.name, found.number, found.plain), (name, 5, b"any text"))

    def test_conversation(self) -> None:
        """
        The lines that either end writes decrypt the whole conversation; without them
        nothing is read, and no junk is.
        """
        written: list[str] = []
        pair = Pair(key_log=KeyLog(written.append).write)
        pair.connect()
        pair.client.engine.write(0, b"read me")
        pair.client.turn(pair.client.engine)
        pair.run(100)
        # Both ends write the same, and the dialler the id that it was given.
        self.assertEqual(len(written), 3)
        self.assertEqual(written[0], written[1])
        reader = KeyLogReader("".join(written).splitlines())
        datagrams = pair.client.sent + pair.server.sent
        found = [reader.read(each) for each in datagrams]
        self.assertTrue(all(found))
        texts = [
            bytes(each.payload.segment.data)
            for each in found
            if each and each.payload and each.payload.segment
        ]
        self.assertIn(b"read me", texts)
        blind = KeyLogReader(["no key log at all", "QOTP_SHARED_SECRET xyz 00"])
        self.assertEqual([blind.read(each) for each in datagrams], [None] * len(datagrams))
        for junk in (b"", bytes(10), b"\x80" * 60, datagrams[-1][:-1] + b"?"):
            self.assertIsNone(reader.read(junk))
