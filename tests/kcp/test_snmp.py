"""Tests for L{twisted_rudp.kcp.snmp}, and of the small parts beside it."""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from tests.kcp.test_session import FEC, SessionPair
from tests.pair import steady
from twisted_rudp.kcp.snmp import GAUGES, NAMES, SNMPCounters

KCPTUN_HEADER = (
    "Unix,BytesSent,BytesReceived,MaxConn,ActiveOpens,PassiveOpens,CurrEstab,InErrs,"
    "InCsumErrors,KCPInErrors,InPkts,OutPkts,InSegs,OutSegs,InBytes,OutBytes,RetransSegs,"
    "FastRetransSegs,EarlyRetransSegs,LostSegs,RepeatSegs,FECFullShards,FECParityShards,"
    "FECErrs,FECRecovered,FECShardSet,FECShardMin,RingBufferSndQueue,RingBufferRcvQueue,"
    "RingBufferSndBuffer,OOBPackets"
)


class NamesTests(SynchronousTestCase):
    """The names are kcp-go's (kcp.md 6)."""

    def test_order(self) -> None:
        """They come in the order of kcptun's file, which has one of them under another name."""
        names = [name.replace("FullShardSet", "FullShards") for name in NAMES]
        self.assertEqual(",".join(["Unix", *names]), KCPTUN_HEADER)


class SNMPCountersTests(SynchronousTestCase):
    """L{SNMPCounters}."""

    def pair(self) -> SessionPair:
        """Two ends that have exchanged something, encrypted and with FEC."""
        pair = SessionPair(crypt=("aes", "aes"), there=steady(5), back=steady(5))
        pair.connect()
        pair.write("client", bytes(5000))
        pair.write("server", bytes(700))
        pair.run(300)
        return pair

    def test_bothSides(self) -> None:
        """
        What one side sends the other receives; bytes in are counted without the
        cipher's header and out with it (kcp.md 6).
        """
        pair = self.pair()
        client = pair.session("client").counters()
        server = pair.session("server").counters()
        self.assertEqual((client["BytesSent"], server["BytesReceived"]), (5000, 5000))
        self.assertEqual((server["BytesSent"], client["BytesReceived"]), (700, 700))
        # The first word and its answer are the demultiplexer's.
        self.assertEqual(client["OutPkts"], len(pair.client.sent))
        self.assertEqual(client["OutBytes"], sum(map(len, pair.client.sent)))
        self.assertEqual(server["InPkts"], client["OutPkts"] - 1)
        self.assertEqual(
            server["InBytes"], sum(len(each) - 20 for each in pair.client.sent[1:])
        )
        self.assertEqual(server["KCPInErrors"], 0)
        self.assertEqual((client["ActiveOpens"], server["PassiveOpens"]), (1, 1))

    def test_everyName(self) -> None:
        """A snapshot has every counter of kcp-go, a session all but those of the socket."""
        pair = self.pair()
        self.assertEqual(tuple(pair.client.demux.snmp.snapshot()), NAMES)
        missing = set(NAMES) - set(pair.session("client").counters())
        self.assertEqual(missing, {"MaxConn", "InErrs", "InCsumErrors"})

    def test_outlives(self) -> None:
        """
        What a session has counted stays in the sums when it is gone; it counts
        no longer as established.
        """
        pair = self.pair()
        snmp = pair.client.demux.snmp
        before = snmp.snapshot()
        self.assertEqual(before["CurrEstab"], 1)
        pair.client.engines.clear()
        gc.collect()
        after = snmp.snapshot()
        for name in set(NAMES) - GAUGES:
            self.assertEqual(after[name], before[name], name)
        self.assertEqual((after["CurrEstab"], after["MaxConn"]), (0, 1))

    def test_over(self) -> None:
        """A session that has ended is not established, though it is in TIME-WAIT."""
        pair = self.pair()
        pair.client.engine.abort(pair.now)
        self.assertEqual(pair.client.demux.snmp.snapshot()["CurrEstab"], 0)

    def test_most(self) -> None:
        """
        MaxConn is the most that were established at once: one that has ended makes
        room, though it is in TIME-WAIT (kcp.md 6).
        """
        pair = self.pair()
        snmp = pair.client.demux.snmp
        pair.client.engine.abort(pair.now)
        other = self.pair().session("client")
        kept = [snmp.add(other.traffic)]
        self.assertEqual(snmp.snapshot()["MaxConn"], 1)
        kept.append(snmp.add(self.pair().session("client").traffic))
        self.assertEqual((snmp.established, snmp.snapshot()["MaxConn"]), (2, 2))

    def test_newestGroup(self) -> None:
        """FECShardMin is the number of a group: sums show the newest of all."""
        snmp = SNMPCounters()
        newest = []
        kept = []
        for messages in (30, 3):
            pair = SessionPair(FEC, FEC)
            pair.dial()
            for _ in range(messages):
                pair.write("client", b"abc")
                pair.run(20)
            server = pair.session("server")
            kept.append(snmp.add(server.traffic))
            newest.append(server.traffic.gauges()["FECShardMin"])
        self.assertTrue(newest[0] > newest[1] > 0, newest)
        self.assertEqual(snmp.snapshot()["FECShardMin"], newest[0])

    def test_shortPackets(self) -> None:
        """InErrs counts FEC packets that are too short, and no others (kcp.md 6)."""
        demux = self.pair().client.demux
        before = demux.snmp.snapshot()["InErrs"]
        framed = bytes(4) + b"\xf1\0" + bytes(5)
        for datagram in (framed, bytes(11)):
            sealed, size = demux.seal(datagram, len(datagram))
            self.assertEqual(demux.open(sealed, size, ("192.0.2.1", 1)), [])
        self.assertEqual(demux.snmp.snapshot()["InErrs"] - before, 1)

    def test_reset(self) -> None:
        """A reset begins at 0, here only; gauges stay."""
        pair = self.pair()
        parent = SNMPCounters()
        child = SNMPCounters(parent)
        # Kept: who drops it is not counted any more.
        self.registration = child.add(pair.session("client").traffic)
        child.count("InCsumErrors", 3)
        self.assertEqual(parent.snapshot(), child.snapshot())
        child.reset()
        now = child.snapshot()
        self.assertEqual({now[name] for name in set(NAMES) - GAUGES}, {0})
        self.assertEqual(now["CurrEstab"], 1)
        self.assertEqual(parent.snapshot()["InCsumErrors"], 3)
        pair.write("client", b"abc")
        self.assertEqual(child.snapshot()["BytesSent"], 3)

    def test_gauges(self) -> None:
        """Queues are shown as they are."""
        pair = SessionPair(FEC, FEC)
        pair.server.reading = False
        pair.connect()
        pair.write("client", bytes(1376 * 3))
        pair.run(400)
        self.assertEqual(pair.session("server").traffic.gauges()["RingBufferRcvQueue"], 3)
        pair.fates["client"] = lambda number, datagram: ()
        pair.write("client", bytes(1376 * 100))
        gauges = pair.session("client").traffic.gauges()
        self.assertEqual(gauges["RingBufferSndQueue"] + gauges["RingBufferSndBuffer"], 100)
        self.assertGreater(gauges["RingBufferSndBuffer"], 0)
