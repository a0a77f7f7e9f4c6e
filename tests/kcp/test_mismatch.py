"""Tests for L{twisted_rudp.kcp.mismatch}: what is said when the two ends do not fit."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.kcp.pair import End
from tests.kcp.test_demux import ELSEWHERE, PROPERTY, push
from tests.kcp.test_session import FEC, SessionPair
from tests.pair import CLIENT, SERVER
from twisted_rudp.kcp.demux import KCPDemultiplexer
from twisted_rudp.kcp.mismatch import MEANINGS, SNAPPY_START, MismatchSigns, Sign
from twisted_rudp.kcp.settings import SessionOptions


class MismatchTests(SynchronousTestCase):
    """What does not fit is named. Each case with two ends that do not fit."""

    def verdict(self, end: End, sign: Sign) -> None:
        """The end says this and nothing else, and has counted it."""
        text = end.demux.diagnosis()
        assert text is not None
        self.assertIn(MEANINGS[sign].text, text)
        self.assertEqual(end.demux.counters()[MEANINGS[sign].counter], 1)
        self.assertIsNone(end.demux.diagnosis())

    def talk(self, client: str, server: str, options: SessionOptions = FEC) -> SessionPair:
        """A client that tries for two seconds."""
        pair = SessionPair(options, options, crypt=(client, server))
        pair.dial()
        pair.run(2000)
        return pair

    def test_otherCipher(self) -> None:
        """Other ciphers, or keys, or encryption on one side only, bare and framed."""
        for client, server, sign in (
            ("aes", "aes-128", Sign.OTHER_KEY),
            ("aes-128-gcm", "aes", Sign.OTHER_KEY),
            ("aes", "aes-128-gcm", Sign.OTHER_KEY),
            ("aes", "null", Sign.PEER_ENCRYPTS),
            ("aes-128-gcm", "null", Sign.PEER_ENCRYPTS),
            ("none", "null", Sign.PEER_USES_NONE),
            ("none", "aes", Sign.PEER_USES_NONE),
            ("null", "none", Sign.PEER_DOES_NOT_ENCRYPT),
            ("null", "aes", Sign.PEER_DOES_NOT_ENCRYPT),
            ("null", "aes-128-gcm", Sign.PEER_DOES_NOT_ENCRYPT),
        ):
            for options in (FEC, SessionOptions()):
                self.verdict(self.talk(client, server, options).server, sign)

    def test_fecOnOneSide(self) -> None:
        """FEC on one side only is named on both."""
        for client, server, sign, other in (
            (FEC, SessionOptions(), Sign.PEER_WITH_FEC, Sign.PEER_WITHOUT_FEC),
            (SessionOptions(), FEC, Sign.PEER_WITHOUT_FEC, Sign.PEER_WITH_FEC),
        ):
            pair = SessionPair(client, server)
            pair.connect()
            pair.write("server", b"x")
            pair.run(50)
            self.verdict(pair.server, sign)
            self.verdict(pair.client, other)

    def test_otherShards(self) -> None:
        """Other shard numbers are named when they were adopted."""
        pair = SessionPair(SessionOptions(data_shards=3, parity_shards=1), FEC)
        pair.connect()
        pair.write("client", bytes(30_000))
        pair.run(500)
        self.verdict(pair.server, Sign.OTHER_SHARDS)

    def test_otherConversation(self) -> None:
        """A dialler that hears from another conversation says so."""
        pair = SessionPair()
        for _ in range(3):
            pair.client.demux.unknown_peer(push(99), SERVER, pair.now, pair.client)
        self.verdict(pair.client, Sign.OTHER_CONVERSATION)

    def test_cutShort(self) -> None:
        """Datagrams that end too early speak of the path's MTU."""
        pair = SessionPair(SessionOptions(), SessionOptions())
        pair.connect()
        for number in range(3):
            pair.server.arrive(push(sn=number, payload=bytes(500))[:300], CLIENT)
        self.verdict(pair.server, Sign.CUT_SHORT)

    def test_kcptun(self) -> None:
        """What a kcptun with compression or multiplexing sends first is known."""
        for first, sign in (
            (SNAPPY_START + b"\x01\x0c\0\0" + bytes(12), Sign.COMPRESSED),
            (b"\x01\0\0\0\3\0\0\0", Sign.MULTIPLEXED),
            (b"\x02\0\0\0\3\0\0\0" + b"\x02\2\5\0\3\0\0\0hello", Sign.MULTIPLEXED),
            (b"\x02\3\0\0\0\0\0\0", Sign.MULTIPLEXED),
        ):
            pair = SessionPair()
            pair.connect()
            pair.write("client", first)
            pair.run(50)
            self.verdict(pair.server, sign)

    def test_nothing(self) -> None:
        """Ends that fit give no reason for a line, whatever text they begin with."""
        for first in (b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\2\0\1\0\1", b"\x02\0", bytes(9)):
            pair = SessionPair(crypt=("aes", "aes"))
            pair.connect()
            pair.write("client", first)
            pair.run(200)
            self.assertIsNone(pair.server.demux.diagnosis())
            self.assertIsNone(pair.client.demux.diagnosis())

    def test_strayNoise(self) -> None:
        """A stray datagram or two of the wide internet are no reason either."""
        demux = KCPDemultiplexer()
        for _ in range(2):
            demux.signs.unread(random.Random(1).randbytes(60), ELSEWHERE)
        self.assertIsNone(demux.diagnosis())
        demux.signs.unread(random.Random(1).randbytes(60), ELSEWHERE)
        self.assertIsNotNone(demux.diagnosis())

    def test_everySign(self) -> None:
        """Each sign has its words."""
        self.assertEqual(set(MEANINGS), set(Sign))

    @PROPERTY
    @given(st.binary(max_size=80))
    def test_anything(self, datagram: bytes) -> None:
        """Whatever failed can be looked at."""
        signs = MismatchSigns()
        signs.unopened(datagram, CLIENT)
        signs.unread(datagram, CLIENT)
        signs.first_bytes(datagram, CLIENT)
