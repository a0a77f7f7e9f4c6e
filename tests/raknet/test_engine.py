"""Tests for L{twisted_rudp.raknet.engine}: sessions from the first word to the last."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.pair import CLIENT, SERVER, Fate, losing, steady
from tests.raknet.frames import ZERO, Starts, pack_frame
from tests.raknet.pair import CLIENT_GUID, MESSAGES, SERVER_GUID, End, Pair
from twisted_rudp.core.engine import MILLISECOND, SECOND, Capability, Event, PathError, Reason
from twisted_rudp.messages import Delivery
from twisted_rudp.raknet.offline import Reset, pack
from twisted_rudp.raknet.settings import DEFAULT, GO_RAKNET_2023
from twisted_rudp.raknet.wire import ABORTED_MESSAGE, Frame, MessageId, pack_header, parse_frames

WRAP = Starts(2**24 - 9, 2**24 - 6, 2**24 - 4, 2**24 - 3, 2**16 - 2)
"""All counters just below 2^24, the identity of split messages below 2^16."""


def lossy(seed: int, rate: float, spread: float = 5) -> Fate:
    """A link that loses and reorders."""
    source = random.Random(seed)
    return lambda number, datagram: (
        () if source.random() < rate else (10 + source.random() * spread,)
    )


def close(pair: Pair, end: End) -> None:
    """Have one end close."""
    engine = end.engine
    engine.close(pair.now)
    end.turn(engine)


class OpeningTests(SynchronousTestCase):
    """The way to a session (raknet.md 2.2 and 4)."""

    def test_connected(self) -> None:
        """Both sides are connected once, know each other's GUID, the MTU and the round trip."""
        pair = Pair()
        pair.connect()
        for end, peer in ((pair.client, SERVER_GUID), (pair.server, CLIENT_GUID)):
            self.assertEqual(end.happened, [(Event.CONNECTED, False)])
            facts = end.engine.facts()
            self.assertEqual((facts["peer_guid"], facts["mtu"]), (peer, 1492))
            self.assertAlmostEqual(facts["latency"], 0.01)
            self.assertTrue(facts["validated"])
        self.assertEqual(
            pair.client.engine.capabilities,
            Capability.BYTES | Capability.ORDERLY_CLOSE | Capability.NEEDS_IDLE_TIMEOUT,
        )

    def asked(self, answered: int) -> set[int]:
        """
        What the dialler's frames say in ten seconds.

        @param answered: so many datagrams of the listener's arrive.
        """
        pair = Pair(back=lambda number, datagram: (10,) if number < answered else ())
        pair.dial()
        pair.run(9000)
        found: set[int] = set()
        for datagram in pair.client.sent:
            if datagram[0] & 0xE0 == 0x80:
                found.update(frame.payload[0] for frame in parse_frames(datagram)[0])
        return found

    def test_asks(self) -> None:
        """
        Until its request is acknowledged the dialler says nothing else, or the C++ listener
        would ban it; then it asks until it is accepted.
        """
        pings = {MessageId.CONNECTED_PING}
        self.assertEqual(self.asked(2), {MessageId.CONNECTION_REQUEST})
        self.assertEqual(self.asked(3), {MessageId.CONNECTION_REQUEST} | pings)

    def test_eachOfTheFirstLost(self) -> None:
        """
        Whichever of the first datagrams of either side is lost, the session comes
        about, once on each side.
        """
        for number in range(7):
            for side in ("there", "back"):
                pair = Pair(**{side: losing(number)})  # type: ignore[arg-type]
                pair.connect()
                pair.run(6000)
                for end in (pair.client, pair.server):
                    self.assertEqual(end.kinds(), [Event.CONNECTED], (number, side))
                self.assertEqual(pair.server.admitted, 1)

    def test_narrowPath(self) -> None:
        """A path that swallows long datagrams ends in a smaller MTU (raknet.md 3)."""

        def narrow(number: int, datagram: bytes) -> tuple[float, ...]:
            return () if len(datagram) > 1200 else (10,)

        pair = Pair(there=narrow, back=narrow)
        pair.connect()
        pair.run(4000)
        self.assertEqual(pair.client.engine.facts()["mtu"], 1200)
        data = random.Random(1).randbytes(100_000)
        pair.write(pair.client, data)
        pair.run(3000)
        self.assertEqual(pair.server.received, data)

    def swallowing(self, size: int, pair: Pair) -> None:
        """From now on the path swallows datagrams of more bytes."""
        for name in ("client", "server"):
            pair.fates[name] = lambda number, datagram: () if len(datagram) > size else (10,)

    def test_blackHole(self) -> None:
        """
        A path that begins to swallow long datagrams makes the session go on with shorter
        ones; what was sent before, and is still missing, goes in pieces.
        """
        data = random.Random(1).randbytes(400_000)
        for size, mtu in ((1300, 1200), (1100, 576)):
            pair = Pair()
            pair.connect()
            pair.write(pair.client, data[:100_000])
            self.swallowing(size, pair)
            pair.write(pair.client, data[100_000:])
            pair.run(20_000)
            self.assertEqual(pair.client.engine.facts()["mtu"], mtu)
            self.assertTrue(pair.server.received == data)
            self.assertEqual(pair.client.engine.facts()["bytes_in_flight"], 0)

    def test_blackHoleOfMessages(self) -> None:
        """Messages too, whole ones and long ones, of every delivery, once; receipts are told."""
        for reliability in list(Delivery)[2:5]:
            pair = Pair(MESSAGES)
            pair.connect()
            pair.run(300)
            engine = pair.client.engine
            sent = [b"\xfe%d" % number + bytes(size) for number, size in enumerate((9, 1400, 9000))]
            receipts = [engine.send(data, reliability, receipt=True) for data in sent]
            self.swallowing(1300, pair)
            pair.client.turn(engine)
            pair.run(20_000)
            self.assertEqual(sorted(message.data for message in pair.server.messages), sent)
            told = [event[1:] for event in pair.client.happened if event[0] == Event.RECEIPT]
            self.assertEqual(sorted(told), [(receipt, True) for receipt in receipts])
            self.assertEqual(engine.sender.sent.open_splits, 0)

    def test_nothingPasses(self) -> None:
        """Where not even the smallest full datagram passes, the idle time-out ends the session."""
        pair = Pair()
        pair.connect()
        self.swallowing(300, pair)
        pair.write(pair.client, bytes(100_000))
        pair.run(60_000)
        self.assertEqual(pair.client.happened[-1][:2], (Event.ENDED, Reason.DEAD_LINK))

    def test_noBlackHole(self) -> None:
        """A peer that has no room for more, and one that is away for a while, keep the MTU."""
        pair = Pair(replace(DEFAULT, receive_buffer=50_000))
        pair.connect()
        pair.server.reading = False
        pair.write(pair.client, bytes(300_000))
        pair.run(60_000)
        self.assertEqual(pair.client.engine.facts()["mtu"], 1492)
        pair = Pair()
        pair.connect()
        fates = dict(pair.fates)
        pair.fates = dict.fromkeys(fates, lambda number, datagram: ())
        pair.write(pair.client, bytes(300_000))
        pair.run(7000)
        pair.fates = fates
        pair.run(10_000)
        self.assertEqual(pair.client.engine.facts()["mtu"], 1492)
        self.assertEqual(len(pair.server.received), 300_000)

    def test_pathError(self) -> None:
        """What the system says of a datagram's size is believed at once."""
        pair = Pair()
        pair.connect()
        engine = pair.client.engine
        engine.path_error(PathError.UNREACHABLE, 0, SERVER, pair.now)
        engine.path_error(PathError.TOO_BIG, 0, SERVER, pair.now)
        self.assertEqual(engine.facts()["mtu"], 1492)
        for size, mtu in ((1464, 1200), (1400, 1200), (1172, 576), (500, 576)):
            engine.path_error(PathError.TOO_BIG, size, SERVER, pair.now)
            self.assertEqual(engine.facts()["mtu"], mtu)
        pair.write(pair.client, bytes(5000))
        pair.run(200)
        self.assertLessEqual(max(map(len, pair.client.sent[-8:])), 548)
        self.assertEqual(len(pair.server.received), 5000)
        self.assertEqual(engine.counters()["path_errors_ignored"], 1)

    def test_withoutCookies(self) -> None:
        """
        Without cookies the listener's application hears of the peer only when
        its address is proved, by the time that 13 echoes (raknet.md 4).
        """
        pair = Pair(cookies=False)
        pair.dial()
        pair.run(55)
        engine = pair.server.engine
        self.assertEqual((engine.validated, pair.server.happened), (False, []))
        pair.run(100)
        self.assertTrue(engine.validated)
        self.assertEqual(pair.server.kinds(), [Event.CONNECTED])

    def test_version(self) -> None:
        """Another version of the protocol ends the attempt with that reason."""
        pair = Pair(replace(DEFAULT, protocol=9))
        pair.connect()
        self.assertEqual(pair.client.happened[0][:2], (Event.ENDED, Reason.VERSION))
        self.assertEqual(pair.server.engines, {})

    def test_password(self) -> None:
        """
        A wrong password is refused with 18 and the session dropped; the right one
        opens (raknet.md 4).
        """
        for theirs, reason in ((b"right", None), (b"wrong", Reason.AUTHENTICATION)):
            server = replace(DEFAULT, password=b"right")
            pair = Pair(replace(DEFAULT, password=theirs), server_settings=server)
            pair.connect()
            pair.run(12_000)
            if reason is None:
                self.assertEqual(pair.server.kinds(), [Event.CONNECTED])
            else:
                self.assertEqual(pair.client.happened[0][:2], (Event.ENDED, reason))
                self.assertEqual(pair.server.engines, {})

    def test_refusedByPath(self) -> None:
        """
        A closed port ends the attempt at once; a probe that is too long goes on
        with the next size (raknet.md 16.10 and 16.11).
        """
        pair = Pair(there=losing(*range(100)))
        engine = pair.dial()
        engine.path_error(PathError.TOO_BIG, 1464, SERVER, pair.now)
        pair.client.turn(engine)
        self.assertEqual(list(map(len, pair.client.sent)), [1464, 1172])
        engine.path_error(PathError.REFUSED, 0, SERVER, pair.now)
        pair.client.turn(engine)
        self.assertEqual(pair.client.happened, [(Event.ENDED, Reason.REFUSED, None)])

    def test_forbidden(self) -> None:
        """A filter on this machine that forbids a request may be gone at the next."""
        pair = Pair()
        engine = pair.dial()
        engine.path_error(PathError.FORBIDDEN, 0, SERVER, pair.now)
        pair.run(200)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])

    def test_olderProfile(self) -> None:
        """
        The older go-raknet's profile connects and carries data with the default one, in both
        roles and with itself (raknet.md 14).
        """
        data = random.Random(3).randbytes(60_000)
        older = GO_RAKNET_2023
        for near, far in ((older, DEFAULT), (DEFAULT, older), (older, older)):
            pair = Pair(near, server_settings=far, there=losing(9, 12))
            pair.connect()
            pair.run(2000)
            pair.write(pair.client, data)
            pair.run(5000)
            self.assertEqual(pair.server.received, data)
            self.assertEqual(pair.server.engine.facts()["mtu"], 1400)


class StreamTests(SynchronousTestCase):
    """Bytes (raknet.md 15)."""

    def test_losses(self) -> None:
        """
        Bytes arrive complete and in order both ways over links that lose and
        reorder, also when every counter wraps on the way (raknet.md 12).
        """
        data = random.Random(2).randbytes(400_000)
        for starts in (ZERO, WRAP):
            for rate in (0.0, 0.02, 0.1):
                pair = Pair(there=lossy(5, rate), back=lossy(6, rate), starts=starts)
                pair.connect()
                pair.run(5000)
                pair.write(pair.client, data)
                pair.write(pair.server, data[:90_000])
                pair.run(60_000)
                self.assertTrue(pair.server.received == data, (starts, rate))
                self.assertTrue(pair.client.received == data[:90_000], (starts, rate))
                self.assertTrue(pair.client.engine.sender.drained)

    def test_messageSize(self) -> None:
        """Every message is one datagram's: the user id and at most MTU - 61 bytes."""
        pair = Pair()
        pair.connect()
        before = len(pair.client.sent)
        pair.write(pair.client, bytes(14_310))
        pair.run(1000)
        payloads = [
            frame.payload
            for datagram in pair.client.sent[before:]
            if datagram[0] & 0xF0 == 0x80
            for frame in parse_frames(datagram)[0]
            if frame.payload[0] == 0xFE
        ]
        self.assertEqual([len(payload) for payload in payloads], [1432] * 10)

    def test_foreignMessages(self) -> None:
        """Messages with another user id are no part of the stream (raknet.md 15)."""
        pair = Pair(MESSAGES, server_settings=DEFAULT)
        pair.connect()
        for data in (b"\xfeab", b"\x90zz", b"\xfecd"):
            pair.client.engine.send(data)
        pair.client.turn(pair.client.engine)
        pair.run(100)
        self.assertEqual(pair.server.received, b"abcd")
        self.assertEqual(pair.server.engine.counters()["messages_foreign"], 1)

    def test_backPressure(self) -> None:
        """
        Who does not read holds no more than its limit and a turn's; the sender
        stops, stays alive, and all arrives once reading goes on (raknet.md 15).
        """
        pair = Pair(replace(DEFAULT, receive_buffer=100_000))
        pair.connect()
        pair.server.reading = False
        data = random.Random(4).randbytes(1_000_000)
        pair.write(pair.client, data)
        pair.run(30_000)
        engine = pair.server.engine
        self.assertLess(engine.unread(), 100_000 + 65_000)
        self.assertGreater(engine.counters()["datagrams_withheld"], 0)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        pair.server.reading = True
        pair.server.turn(engine)
        pair.run(20_000)
        self.assertTrue(pair.server.received == data)

    def test_blockedPort(self) -> None:
        """A full port gets one more run at most, and the rest follows."""
        pair = Pair()
        pair.connect()
        runs: list[int] = []
        engine = pair.client.engine
        engine.write(0, bytes(200_000))
        engine.flush(pair.now, lambda run, size, address: bool(runs.append(len(run))), 1 << 20)
        self.assertEqual(len(runs), 1)
        pair.run(3000)
        self.assertEqual(len(pair.server.received), 200_000)


class PausedReaderTests(SynchronousTestCase):
    """A peer whose application does not read acknowledges nothing that it has no room for."""

    SIZE = 3_000_000

    def setUp(self) -> None:
        self.pair = Pair()
        self.pair.connect()
        self.pair.server.reading = False
        self.pair.write(self.pair.client, bytes(self.SIZE))
        self.pair.run(10_000)

    def rate(self, seconds: int) -> float:
        """Datagrams that the writer sends in a second, pings and acknowledgements among them."""
        before = len(self.pair.client.sent)
        self.pair.run(1000 * seconds)
        return (len(self.pair.client.sent) - before) / seconds

    def resume(self, within: float) -> None:
        """The application reads on, and has everything in so many seconds."""
        server = self.pair.server
        server.reading = True
        server.turn(server.engine)
        self.pair.run(1000 * within)
        self.assertEqual(len(server.received), self.SIZE)

    def test_asksRarely(self) -> None:
        """It is asked now and then whether there is room."""
        self.assertLess(self.rate(60), 4)
        self.resume(1)

    def test_wordLost(self) -> None:
        """What the peer asks for when there is room again is lost: it is sent all the same."""
        self.rate(30)
        lost = len(self.pair.server.sent)
        self.pair.fates["server"] = losing(lost, lost + 1, lost + 2)
        self.resume(5)

    def test_more(self) -> None:
        """What is written meanwhile waits too; an end of the session is said all the same."""
        self.pair.write(self.pair.client, bytes(self.SIZE))
        self.assertLess(self.rate(30), 4)
        self.pair.client.engine.abort(self.pair.now)
        self.pair.client.turn(self.pair.client.engine)
        self.pair.run(1000)
        self.assertIn(Event.ENDED, self.pair.server.kinds())


class MessageTests(SynchronousTestCase):
    """Messages (raknet.md 6, 7 and 9)."""

    def pair(self, there: Fate | None = None, starts: Starts = ZERO) -> Pair:
        """A connected pair."""
        pair = Pair(MESSAGES, there=there, starts=starts)
        pair.connect()
        pair.run(3000)
        return pair

    def test_deliveries(self) -> None:
        """Each delivery arrives as what it was sent as, with its channel."""
        pair = self.pair()
        sent = []
        for delivery in list(Delivery)[:5]:
            for channel in (0, 7, 31):
                if delivery in (Delivery.UNRELIABLE, Delivery.RELIABLE) and channel:
                    continue
                data = b"\xfe%d %d" % (delivery, channel)
                pair.client.engine.send(data, delivery, channel)
                sent.append((data, delivery, channel))
        pair.client.turn(pair.client.engine)
        pair.run(100)
        self.assertEqual([tuple(message) for message in pair.server.messages], sent)

    def test_packed(self) -> None:
        """Small messages of one turn share a datagram (raknet.md 5)."""
        pair = self.pair()
        before = pair.client.engine.counters()["datagrams_out"]
        for number in range(50):
            pair.client.engine.send(b"\xfe%03d" % number)
        pair.client.turn(pair.client.engine)
        self.assertEqual(pair.client.engine.counters()["datagrams_out"] - before, 1)
        pair.run(100)
        self.assertEqual(
            [message.data for message in pair.server.messages],
            [b"\xfe%03d" % number for number in range(50)],
        )

    def test_splits(self) -> None:
        """
        Long messages arrive whole, with losses, whatever the delivery; an
        unreliable one is made reliable by splitting it (raknet.md 6).
        """
        for starts in (ZERO, WRAP):
            pair = self.pair(lossy(3, 0.05), starts)
            big = b"\xfe" + random.Random(9).randbytes(1_000_000)
            for delivery in list(Delivery)[:5]:
                pair.client.engine.send(big[: 100_000 + delivery], delivery)
            pair.client.engine.send(big)
            pair.client.turn(pair.client.engine)
            pair.run(60_000)
            got = {(len(m.data), m.delivery): m.data for m in pair.server.messages}
            self.assertEqual(got[100_000, Delivery.RELIABLE], big[:100_000])
            self.assertEqual(got[100_004, Delivery.RELIABLE_SEQUENCED], big[:100_004])
            self.assertEqual(got[100_003, Delivery.RELIABLE_ORDERED], big[:100_003])
            self.assertEqual(got[1_000_001, Delivery.RELIABLE_ORDERED], big)
            self.assertEqual(pair.server.engine.facts()["bytes_waiting"], 0)

    def test_sequences(self) -> None:
        """
        Sequenced messages pass 2^24 (raknet.md 7): without losses all arrive, on a link
        that loses and reorders never one before a newer one, and behind an ordered
        message they begin anew.
        """
        for delivery in (Delivery.UNRELIABLE_SEQUENCED, Delivery.RELIABLE_SEQUENCED):
            for there, whole in ((None, True), (lossy(4, 0.2, 40), False)):
                pair = self.pair(there, WRAP)
                engine = pair.client.engine
                sent = [b"\xfe%02d" % number for number in range(40)]
                for number, data in enumerate(sent):
                    engine.send(data, delivery, channel=3)
                    if number == 19:
                        engine.send(b"\xfeordered", channel=3)
                    pair.client.turn(engine)
                    pair.run(2)
                pair.run(3000)
                got = [m.data for m in pair.server.messages]
                self.assertIn(b"\xfeordered", got)
                before = got[: got.index(b"\xfeordered")]
                after = got[len(before) + 1 :]
                for part, its in ((before, sent[:20]), (after, sent[20:])):
                    self.assertEqual(part, sorted(set(part)))
                    self.assertTrue(set(part) <= set(its))
                    self.assertEqual(part == its, whole or part == its)
                # Numbers from both sides of the wrap, which is behind the third.
                self.assertTrue({*before} & {*sent[:3]} or not whole)
                self.assertGreater(len(before), 5)

    def test_early(self) -> None:
        """
        However many messages overtake the end of the handshake, those that are reliable
        arrive: what cannot be kept is not acknowledged.
        """
        lost = []

        def there(number: int, datagram: bytes) -> tuple[float, ...]:
            frames = parse_frames(datagram)[0] if datagram[0] & 0xF0 == 0x80 else []
            if pair.now < 500 * MILLISECOND and any(
                frame.payload[0] in (MessageId.NEW_INCOMING, MessageId.CONNECTED_PONG)
                for frame in frames
            ):
                lost.append(number)
                return ()
            return (10.0,)

        pair = Pair(MESSAGES, there=there, cookies=False)
        pair.dial()
        pair.run(100)
        engine = pair.client.engine
        sent = [b"\xfe%03d" % number + bytes(900) for number in range(200)]
        for data in sent:
            engine.send(data, Delivery.RELIABLE)
        pair.client.turn(engine)
        pair.run(400)
        self.assertEqual(pair.server.messages, [])
        self.assertTrue(lost)
        self.assertGreater(pair.server.engine.counters()["datagrams_withheld"], 0)
        pair.run(5000)
        self.assertEqual(sorted(m.data for m in pair.server.messages), sent)
        self.assertEqual(pair.server.engine.counters()["messages_early_dropped"], 0)

    def test_channels(self) -> None:
        """A loss on one channel keeps no other waiting (raknet.md 7)."""
        pair = self.pair()
        engine = pair.client.engine
        pair.fates["client"] = losing(len(pair.client.sent))
        engine.send(b"\xfe1 lost", channel=1)
        pair.client.turn(engine)
        pair.fates["client"] = steady()
        engine.send(b"\xfe1 late", channel=1)
        engine.send(b"\xfe2", channel=2)
        pair.client.turn(engine)
        pair.run(15)
        self.assertEqual([m.data for m in pair.server.messages], [b"\xfe2"])
        pair.run(500)
        self.assertEqual(
            [m.data for m in pair.server.messages], [b"\xfe2", b"\xfe1 lost", b"\xfe1 late"]
        )

    def test_receipts(self) -> None:
        """
        A receipt tells that a message was acknowledged, all fragments of it, or that
        an unreliable one was not (raknet.md 6).
        """
        pair = self.pair()
        engine = pair.client.engine
        big = engine.send(b"\xfe" + bytes(50_000), receipt=True)
        small = engine.send(b"\xfex", Delivery.RELIABLE, receipt=True)
        loose = engine.send(b"\xfey", Delivery.UNRELIABLE, receipt=True)
        self.assertIsNone(engine.send(b"\xfez"))
        pair.client.turn(engine)
        pair.run(1000)
        pair.fates["client"] = lambda number, datagram: ()
        gone = engine.send(b"\xfey", Delivery.UNRELIABLE, receipt=True)
        pair.client.turn(engine)
        pair.run(1000)
        told = {event[1]: event[2] for event in pair.client.happened if event[0] == Event.RECEIPT}
        self.assertEqual(told, {big: True, small: True, loose: True, gone: False})

    def test_receiptsAtTheEnd(self) -> None:
        """Receipts that nobody will tell any more are told False at an abort."""
        pair = self.pair()
        engine = pair.client.engine
        receipt = engine.send(b"\xfe" + bytes(500_000), receipt=True)
        engine.abort(pair.now)
        pair.client.turn(engine)
        self.assertIn((Event.RECEIPT, receipt, False), pair.client.happened)

    def test_priorities(self) -> None:
        """The more urgent goes first, also between the fragments of a long message."""
        pair = self.pair()
        engine = pair.client.engine
        engine.send(b"\xfelow" + bytes(300_000), Delivery.RELIABLE, priority=0)
        pair.client.turn(engine)
        engine.send(b"\xfehigh", Delivery.RELIABLE, priority=3)
        pair.client.turn(engine)
        pair.run(3000)
        self.assertEqual([m.data[1:4] for m in pair.server.messages], [b"hig", b"low"])

    def test_refused(self) -> None:
        """What the wire cannot carry is refused with the argument's name (raknet.md 15)."""
        engine = self.pair().client.engine
        for arguments, name in (
            ((b"",), "data"),
            ((b"\x15",), "data"),
            ((b"\xfe", Delivery.OUT_OF_BAND), "delivery"),
            ((b"\xfe", Delivery.RELIABLE, 32), "channel"),
            ((b"\xfe", Delivery.RELIABLE, 0, 4), "priority"),
            ((b"\xfe" + bytes(2048 * 1432),), "at most"),
        ):
            error = self.assertRaises(ValueError, engine.send, *arguments)
            self.assertIn(name, str(error))

    @given(seed=st.integers(0, 1000), rate=st.sampled_from([0.0, 0.1, 0.3]), wrap=st.booleans())
    @settings(max_examples=25, deadline=None, derandomize=True)
    def test_promises(self, seed: int, rate: float, wrap: bool) -> None:
        """
        On every link: reliable messages arrive once, ordered ones in order within
        their channel, sequenced ones never go back, nothing comes that was not sent.
        """
        source = random.Random(seed)
        pair = Pair(
            MESSAGES,
            there=lossy(seed, rate, 60),
            back=lossy(seed + 1, rate, 60),
            starts=WRAP if wrap else ZERO,
        )
        pair.connect()
        pair.run(10_000)
        engine = pair.client.engine
        sent: dict[tuple[Delivery, int], list[bytes]] = {}
        for number in range(120):
            kind = Delivery(source.randrange(5))
            ordered = kind not in (Delivery.UNRELIABLE, Delivery.RELIABLE)
            channel = source.randrange(3) if ordered else 0
            size = source.choice([0, 10, 700, 4000])
            if kind in (Delivery.UNRELIABLE, Delivery.UNRELIABLE_SEQUENCED):
                size = min(size, 700)
            data = b"\xfe%05d" % number + bytes(size)
            engine.send(data, kind, channel)
            sent.setdefault((kind, channel), []).append(data)
            if source.random() < 0.3:
                pair.client.turn(engine)
                pair.run(source.randrange(30))
        pair.client.turn(engine)
        pair.run(60_000)
        got: dict[tuple[Delivery, int], list[bytes]] = {}
        for message in pair.server.messages:
            got.setdefault((message.delivery, message.channel), []).append(message.data)
        for key, messages in sent.items():
            found = got.get(key, [])
            kind = key[0]
            self.assertTrue(set(found) <= set(messages))
            self.assertEqual(len(set(found)), len(found))
            if kind is Delivery.RELIABLE:
                self.assertEqual(sorted(found), messages)
            elif kind is Delivery.RELIABLE_ORDERED:
                self.assertEqual(found, messages)
            elif kind is not Delivery.UNRELIABLE:
                self.assertEqual(found, sorted(found))


class ClosingTests(SynchronousTestCase):
    """Ends (raknet.md 11.2 and 11.3)."""

    def test_inOrder(self) -> None:
        """
        All that was written arrives before the end; both ends are orderly, and the
        listener's TIME-WAIT ends by itself.
        """
        for rate in (0.0, 0.1):
            pair = Pair(there=lossy(1, rate), back=lossy(2, rate))
            pair.connect()
            pair.run(5000)
            data = random.Random(1).randbytes(300_000)
            pair.write(pair.client, data)
            close(pair, pair.client)
            pair.run(30_000)
            self.assertTrue(pair.server.received == data)
            self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.DONE, None))
            self.assertEqual(pair.server.kinds()[-1], Event.STREAM_ENDED)
            close(pair, pair.server)
            pair.run(10_000)
            self.assertEqual(pair.server.happened[-1], (Event.ENDED, Reason.DONE, None))
            self.assertEqual(pair.server.engines, {})

    def test_reliablePings(self) -> None:
        """
        A close does not wait for pings that the peer has to acknowledge: on a path that is longer
        than their interval some are always on their way.
        """
        pair = Pair(GO_RAKNET_2023, steady(150), steady(150))
        pair.connect()
        pair.run(3000)
        pair.write(pair.client, bytes(5000))
        close(pair, pair.client)
        pair.run(4000)
        self.assertEqual(len(pair.server.received), 5000)
        self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.DONE, None))

    def test_unread(self) -> None:
        """The peer's end is told only after its last byte was taken."""
        pair = Pair()
        pair.connect()
        pair.server.reading = False
        pair.write(pair.client, b"last")
        close(pair, pair.client)
        pair.run(30_000)
        self.assertEqual(pair.server.kinds(), [Event.CONNECTED])
        pair.server.reading = True
        pair.server.turn(pair.server.engine)
        self.assertEqual(pair.server.received, b"last")
        self.assertEqual(pair.server.kinds(), [Event.CONNECTED, Event.STREAM_ENDED])

    def test_both(self) -> None:
        """When both close at once both end in order."""
        pair = Pair()
        pair.connect()
        for end in (pair.client, pair.server):
            pair.write(end, b"bye")
            close(pair, end)
        pair.run(10_000)
        for end in (pair.client, pair.server):
            self.assertEqual(end.happened[-1], (Event.ENDED, Reason.DONE, None))

    def test_lastWordUnacknowledged(self) -> None:
        """
        A peer that never acknowledges the last word does not make the end a
        failure, and does not delay it for ever (raknet.md 11.3).
        """
        pair = Pair()
        pair.connect()
        close(pair, pair.client)
        pair.fates["server"] = lambda number, datagram: ()
        pair.run(6000)
        self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.DONE, None))

    def test_notDelivered(self) -> None:
        """A close whose data nobody acknowledges fails in bounded time."""
        pair = Pair(replace(DEFAULT, stall=4_000_000_000))
        pair.connect()
        pair.fates["client"] = lambda number, datagram: ()
        pair.write(pair.client, b"into the void")
        close(pair, pair.client)
        pair.run(6000)
        self.assertEqual(pair.client.happened[-1][:2], (Event.ENDED, Reason.CLOSE_TIMEOUT))

    def test_abort(self) -> None:
        """
        An abort is a reset at our own kind, to which the second byte of the last message
        says so. It is said three times before the socket closes.
        """
        pair = Pair()
        pair.connect()
        pair.write(pair.client, bytes(500_000))
        engine = pair.client.engine
        engine.abort(pair.now)
        pair.client.turn(engine)
        self.assertTrue(pair.client.sent[-1].endswith(ABORTED_MESSAGE))
        pair.run(100)
        self.assertEqual(pair.client.happened[-1][:2], (Event.ENDED, Reason.ABORTED))
        self.assertEqual(pair.client.sent[-3:], 3 * pair.client.sent[-1:])
        self.assertEqual(pair.server.happened[-1][:2], (Event.ENDED, Reason.RESET))

    def test_abortIsRepeated(self) -> None:
        """
        If the word of an abort is lost, who goes on sending hears it again and gets
        no acknowledgement.
        """
        pair = Pair()
        pair.connect()
        engine = pair.server.engine
        pair.fates["server"] = losing(len(pair.server.sent))
        engine.abort(pair.now)
        pair.server.turn(engine)
        pair.write(pair.client, b"are you there")
        pair.run(100)
        self.assertEqual(pair.client.happened[-1][:2], (Event.ENDED, Reason.RESET))

    def test_silence(self) -> None:
        """
        A peer that says nothing for ten seconds is gone; one that is merely idle is
        not, and costs a ping every two seconds (raknet.md 11.1 and 11.2).
        """
        pair = Pair()
        pair.connect()
        pair.run(60_000)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        self.assertIn(pair.client.engine.counters()["pings_out"], range(28, 34))
        pair.fates["server"] = lambda number, datagram: ()
        pair.run(9_000)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])
        pair.run(4_000)
        self.assertEqual(pair.client.happened[-1][:2], (Event.ENDED, Reason.IDLE))

    def test_shortTimeout(self) -> None:
        """However short the idle time-out is, a healthy idle session lives."""
        pair = Pair(replace(DEFAULT, timeout=2 * SECOND))
        pair.connect()
        pair.run(120_000)
        for end in (pair.client, pair.server):
            self.assertEqual(end.kinds(), [Event.CONNECTED])

    def test_idleOnALossyLink(self) -> None:
        """At a loss of a fifth each way an idle session lives on."""
        for seed in range(2):
            pair = Pair(there=lossy(seed, 0.2), back=lossy(seed + 9, 0.2))
            pair.connect()
            pair.run(3600 * 1000)
            for end in (pair.client, pair.server):
                self.assertEqual(end.kinds(), [Event.CONNECTED], seed)

    def test_restarted(self) -> None:
        """
        A listener that was restarted is noticed as soon as something is sent to it; what
        names another datagram than the newest does nothing.
        """
        pair = Pair()
        pair.connect()
        pair.run(500)
        client = pair.client.engine
        for number in (client.sender.sent.number + 5, client.sender.sent.number - 600):
            forged = pack(Reset(number & 0xFFFFFF))
            client.receive(forged, len(forged), SERVER, pair.now)
        self.assertFalse(client.over)
        pair.server.engines.clear()
        pair.write(pair.client, b"are you there")
        pair.run(25)
        self.assertEqual(pair.client.happened[-1], (Event.ENDED, Reason.FORGOTTEN, None))

    def test_lateForTheNext(self) -> None:
        """
        A session that made room for its peer's next attempt ends once: what still comes for
        it is passed over.
        """
        pair = Pair()
        pair.connect()
        engine = pair.server.engine
        engine.make_room()
        late = pack_header(9) + pack_frame(Frame(0, ABORTED_MESSAGE))
        for datagram in (late, b"\xc0\x00\x00", pack(Reset(0))):
            engine.receive(datagram, len(datagram), CLIENT, pair.now)
        engine.tick(pair.now + 60 * SECOND)
        pair.server.turn(engine)
        self.assertEqual(
            [event for event in pair.server.happened if event[0] is Event.ENDED],
            [(Event.ENDED, Reason.FORGOTTEN, "the peer has connected anew")],
        )

    def test_crashing(self) -> None:
        """A client that crashes, and returns from other ports with one GUID, gets in each time."""
        pair = Pair()
        pair.connect()
        for count, port in enumerate((1112, 1113, 1114), 2):
            pair.client.engines.clear()
            pair.run(4000)
            pair.client.address = (CLIENT[0], port)
            pair.dial()
            pair.run(3000)
            self.assertEqual(pair.client.kinds(), count * [Event.CONNECTED])

    def test_afterAWrongPassword(self) -> None:
        """Who has given a wrong password may try again at once, from the same port."""
        pair = Pair(server_settings=replace(DEFAULT, password=b"right"))
        pair.connect()
        self.assertEqual(pair.client.happened[-1][:2], (Event.ENDED, Reason.AUTHENTICATION))
        pair.settings = replace(DEFAULT, password=b"right")
        pair.client.happened.clear()
        pair.dial()
        pair.run(2000)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED])

    def test_anew(self) -> None:
        """
        A client that has crashed gets in again from the same port, with a new GUID,
        once the old session has been silent for some seconds (raknet.md 2.2).
        """
        pair = Pair()
        pair.connect()
        pair.client.engines.clear()
        pair.run(3500)
        pair.dial(guid=CLIENT_GUID + 1)
        pair.run(3000)
        self.assertEqual(pair.client.kinds(), [Event.CONNECTED, Event.CONNECTED])
        self.assertEqual(
            [event[:2] for event in pair.server.happened if event[0] != Event.READABLE],
            [
                (Event.CONNECTED, False),
                (Event.ENDED, Reason.FORGOTTEN),
                (Event.CONNECTED, False),
            ],
        )

    def test_writingAfterwards(self) -> None:
        """Writing after close is misuse; after an end that came by itself it is not."""
        pair = Pair()
        pair.connect()
        server, client = pair.server.engine, pair.client.engine
        close(pair, pair.client)
        self.assertRaises(RuntimeError, client.write, 0, b"x")
        pair.run(200)
        server.write(0, b"nobody hears")
        self.assertEqual(server.unsent(), 0)
        self.assertEqual(pair.server.get(CLIENT), server)
