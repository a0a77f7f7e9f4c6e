"""Tests for L{twisted_rudp.mux.smux}, with what smux of Go has written."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import vectors
from tests.mux.pipe import PEER, Pipe
from twisted_rudp.core.engine import SECOND, Address, Buffer, Capability, Event, Reason
from twisted_rudp.core.lifecycle import Role
from twisted_rudp.core.recovery import MOST_COPIED
from twisted_rudp.mux.smux import (
    DRAIN_TIMEOUT,
    HEADER_SIZE,
    INITIAL_WINDOW,
    MOST_ANSWERS,
    MOST_STREAMS,
    Codec,
    Command,
    FrameReader,
    SmuxEngine,
    SmuxError,
    SmuxSettings,
    pack,
    pack_update,
)
from twisted_rudp.mux.snappy import Compressor, Decompressor


class Snappy:
    """Compression, both ways."""

    def __init__(self) -> None:
        self.encode = Compressor().compress
        self.decode = Decompressor().decompress


class End:
    """
    One end and its application, which reads what it may.

    @ivar got: what was read, by stream.
    @ivar ended: the streams whose end was told.
    @ivar flushed: those of which it was told that all has left.
    @ivar reset: those that the peer has given up.
    @ivar paused: streams that are not read.
    """

    def __init__(
        self, role: Role, options: SmuxSettings, codec: Codec | None = None, window: int = 1 << 30
    ) -> None:
        self.pipe = Pipe(window)
        self.engine = SmuxEngine(self.pipe, role, options, 0, codec)
        self.got: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.opened: list[int] = []
        self.ended: list[int] = []
        self.flushed: list[int] = []
        self.reset: list[int] = []
        self.over: tuple[Any, ...] | None = None
        self.paused: set[int] = set()
        self.out: list[bytes] = []

    def emit(self, run: Buffer, size: int, address: Address) -> bool:
        self.out.append(bytes(run))
        return True

    def turn(self, now: int, budget: int = 1 << 20) -> None:
        """Send, then see what happened and read."""
        self.engine.flush(now, self.emit, budget)
        for _ in range(3):
            for event in self.engine.events():
                kind = event[0]
                if kind == Event.STREAM_OPENED:
                    self.opened.append(event[1])
                elif kind == Event.STREAM_ENDED:
                    self.ended.append(event[1])
                elif kind == Event.STREAM_FLUSHED:
                    self.flushed.append(event[1])
                elif kind == Event.STREAM_RESET:
                    self.reset.append(event[1])
                elif kind == Event.ENDED:
                    self.over = event[1:]
                elif kind == Event.READABLE:
                    self.read(event[1])

    def read(self, stream: int) -> None:
        while stream not in self.paused:
            data = self.engine.take(stream, 5000)
            if not data:
                return
            self.got[stream] += data


class Two:
    """Both ends; what one has sent the other has in the same step."""

    def __init__(
        self, version: int = 2, compressed: bool = False, window: int = 1 << 30, **more: int
    ) -> None:
        options = SmuxSettings(version=version, **more)
        codecs = [Snappy() if compressed else None for _ in range(2)]
        self.client = End(Role.CLIENT, options, codecs[0], window)
        self.server = End(Role.SERVER, options, codecs[1], window)
        self.now = SECOND

    def run(self, steps: int = 20, budget: int = 1 << 20) -> None:
        for _ in range(steps):
            self.now += SECOND // 100
            for one, other in ((self.client, self.server), (self.server, self.client)):
                one.turn(self.now, budget)
                sent, one.out = one.out, []
                for run in sent:
                    other.engine.receive(run, len(run), PEER, self.now)


class FrameTests(SynchronousTestCase):
    """Frames, with the bytes that Go's smux wrote."""

    def test_recorded(self) -> None:
        """Every recorded stream is read as the frames it was, however cut, and written anew."""
        chance = random.Random(1)
        for transcript in vectors.load("kcp", "smux")["transcripts"]:
            version = transcript["version"]
            for side, frames in (
                ("client_to_server", "client_frames"),
                ("server_to_client", "server_frames"),
            ):
                data = bytes.fromhex(transcript[side])
                reader, found, at = FrameReader(version), [], 0
                while at < len(data):
                    size = chance.choice([1, 7, 8, 9, 1000, 100_000])
                    found += list(reader.feed(data[at : at + size]))
                    at += size
                wanted = transcript[frames]
                self.assertEqual(len(found), len(wanted))
                again = []
                for frame, want in zip(found, wanted, strict=True):
                    self.assertEqual(Command(frame.command).name, want["cmd"])
                    self.assertEqual((frame.version, frame.stream), (want["ver"], want["sid"]))
                    self.assertEqual(len(frame.payload), want["length"])
                    if want["cmd"] == "UPD":
                        again.append(pack_update(want["sid"], want["consumed"], want["window"]))
                    else:
                        self.assertEqual(frame.payload.hex(), want.get("data", ""))
                        again.append(pack(version, frame.command, frame.stream, frame.payload))
                self.assertEqual(b"".join(again), data)

    def test_refused(self) -> None:
        """Another version, unknown commands and lengths that no frame has."""
        for bad in (
            pack(2, Command.SYN, 3),
            pack(1, Command.UPD, 3, bytes(8)),
            pack(1, 5, 3),
            pack(1, Command.SYN, 3, b"x"),
            pack(1, Command.FIN, 3, b"x"),
            pack(1, Command.NOP, 0, b"x"),
        ):
            self.assertRaises(SmuxError, list, FrameReader(1).feed(bad))
        self.assertRaises(SmuxError, list, FrameReader(2).feed(pack(2, Command.UPD, 3, bytes(7))))

    @given(data=st.binary(max_size=200), version=st.sampled_from([1, 2]))
    @settings(max_examples=300, deadline=None, derandomize=True)
    def test_anything(self, data: bytes, version: int) -> None:
        """Whatever comes is frames or an L{SmuxError}, and nothing else."""
        for start in (b"", bytes((version,)), bytes((version, Command.PSH, 4, 0, 3, 0, 0, 0))):
            try:
                for frame in FrameReader(version).feed(start + data):
                    self.assertTrue(len(frame.payload) <= 65535)
            except SmuxError:
                pass


class SettingsTests(SynchronousTestCase):
    """L{SmuxSettings}."""

    def test_ranges(self) -> None:
        """What is not possible is refused by name."""
        for name, bad in (
            ("version", 3),
            ("frame_size", 0),
            ("frame_size", 65536),
            ("stream_buffer", 5 << 20),
            ("receive_buffer", 0),
            ("keepalive", 0),
            ("keepalive", 31 * SECOND),
        ):
            self.assertRaises(ValueError, SmuxSettings, **{name: bad})


class StreamTests(SynchronousTestCase):
    """Two ends with each other."""

    def everything(self) -> Iterator[Two]:
        """Both versions, with and without compression."""
        for version in (1, 2):
            for compressed in (False, True):
                yield Two(version, compressed)

    def test_echo(self) -> None:
        """Streams of both sides carry bytes both ways, end half by half, and are forgotten."""
        for two in self.everything():
            client, server = two.client, two.server
            numbers = [client.engine.open_stream(), client.engine.open_stream()]
            self.assertEqual(numbers, [3, 5])
            self.assertEqual(server.engine.open_stream(), 2)
            client.engine.write(3, b"to the server")
            server.engine.write(2, b"to the client")
            two.run()
            self.assertEqual((server.opened, client.opened), ([3, 5], [2]))
            self.assertEqual((server.got[3], client.got[2]), (b"to the server", b"to the client"))
            client.engine.close_stream(3)
            two.run()
            self.assertEqual((server.ended, client.flushed), ([3], [3]))
            server.engine.write(3, b"still open this way")
            server.engine.close_stream(3)
            two.run()
            self.assertEqual(client.got[3], b"still open this way")
            self.assertEqual(client.ended, [3])
            for end in (client, server):
                self.assertEqual(end.engine.facts()["streams"], 2)
                self.assertRaises(ValueError, end.engine.write, 3, b"x")

    def test_much(self) -> None:
        """A megabyte on each of ten streams arrives whole, through a narrow session too."""
        data = random.Random(3).randbytes(1_000_000)
        for version, window in ((1, 1 << 30), (2, 1 << 30), (2, 50_000)):
            two = Two(version, window=window)
            numbers = [two.client.engine.open_stream() for _ in range(10)]
            for number in numbers:
                two.client.engine.write(number, data)
                two.client.engine.close_stream(number)
            for _ in range(300):
                two.run(1)
                if len(two.server.ended) == 10:
                    break
            for number in numbers:
                self.assertEqual(two.server.got[number], data)

    def test_copied(self) -> None:
        """
        Of a stream its SYN and the first bytes in each direction are to be sent again, in however
        many frames.
        """

        class Copying(Pipe):
            """Knows what is to be sent twice."""

            def __init__(self) -> None:
                super().__init__()
                self.sizes: list[int] = []

            def copy_next(self, size: int) -> None:
                self.sizes.append(size)

        pipes = [Copying(), Copying()]
        roles = (Role.CLIENT, Role.SERVER)
        client, server = (
            SmuxEngine(pipe, role, SmuxSettings(), 0)
            for pipe, role in zip(pipes, roles, strict=True)
        )

        def exchange() -> None:
            for one, other in ((client, server), (server, client)):
                one.flush(1, partial(carry, other), 1 << 20)

        def carry(other: SmuxEngine, run: Buffer, size: int, address: Address) -> bool:
            other.receive(run, size, address, 1)
            return True

        number = client.open_stream()
        for size in (10, 20):
            client.write(number, bytes(size))
            exchange()
        for size in (5000, 30):
            server.write(number, bytes(size))
            exchange()
        self.assertEqual(pipes[0].sizes, [HEADER_SIZE, HEADER_SIZE + 10, HEADER_SIZE + 20])
        self.assertEqual(pipes[1].sizes, [HEADER_SIZE + MOST_COPIED])

    def test_fair(self) -> None:
        """A stream with much to send does not keep one with little waiting."""
        two = Two(2, window=20_000)
        bulk, small = two.client.engine.open_stream(), two.client.engine.open_stream()
        two.client.engine.write(bulk, bytes(1_000_000))
        two.run(3)
        two.client.engine.write(small, b"hello")
        two.run(6)
        self.assertEqual(two.server.got[small], b"hello")
        self.assertTrue(len(two.server.got[bulk]) < 300_000)

    def test_ahead(self) -> None:
        """
        Little waits where nothing can be interleaved any more: a new stream's bytes stand behind
        about two flushes of what another stream sends, on slow sessions and on fast ones.
        """
        for window in (1000, 10_000):
            two = Two(2, window=window)
            bulk = two.client.engine.open_stream()
            two.client.engine.write(bulk, bytes(200_000))
            two.run(5)
            for _ in range(10):
                two.run(1)
                waiting = two.client.pipe.unsent()
                self.assertTrue(0 < waiting <= max(5000, 2.9 * window), (waiting, window))
            small = two.client.engine.open_stream()
            two.client.engine.write(small, b"hello")
            before = len(two.server.got[bulk])
            while not two.server.got[small]:
                two.run(1)
            self.assertEqual(two.server.got[small], b"hello")
            self.assertTrue(len(two.server.got[bulk]) - before <= max(6000, 5 * window))

    def test_newFirst(self) -> None:
        """A stream that had nothing to send goes before fifty that are sending all the time."""
        two = Two(2, window=10_000)
        numbers = [two.client.engine.open_stream() for _ in range(50)]
        for number in numbers:
            two.client.engine.write(number, bytes(100_000))
        two.run(60)
        small = two.client.engine.open_stream()
        two.client.engine.write(small, b"hello")
        two.run(5)
        self.assertEqual(two.server.got[small], b"hello")

    def test_oftenNew(self) -> None:
        """
        Streams that write whenever they have sent all get no more than those that always have
        something: going first is for one frame, then they wait for their turn.
        """
        two = Two(2, window=10_000, frame_size=1000)
        bulk = two.client.engine.open_stream()
        busy = [two.client.engine.open_stream() for _ in range(20)]
        two.client.engine.write(bulk, bytes(200_000))
        for _ in range(100):
            for number in busy:
                if not two.client.engine.unsent(number):
                    two.client.engine.write(number, bytes(1000))
            two.run(1)
        shares = sorted(len(two.server.got[number]) for number in busy)
        self.assertTrue(len(two.server.got[bulk]) >= 0.7 * shares[10], shares)

    def test_unread(self) -> None:
        """With version 2 a stream that nobody reads stops alone; with version 1 all do."""
        for version in (1, 2):
            two = Two(version, receive_buffer=600_000, stream_buffer=65536)
            stuck, other = two.client.engine.open_stream(), two.client.engine.open_stream()
            two.server.paused.add(stuck)
            two.client.engine.write(stuck, bytes(2_000_000))
            two.run(100)
            held = two.server.engine.unread(stuck)
            self.assertTrue(held <= 600_000 + 65536, held)
            two.client.engine.write(other, b"hello")
            two.run(20)
            self.assertEqual(two.server.got[other], b"hello" if version == 2 else b"")
            if version == 2:
                self.assertEqual(held, INITIAL_WINDOW)
            two.server.paused.clear()
            two.server.read(stuck)
            two.run(200)
            self.assertEqual(len(two.server.got[stuck]), 2_000_000)
            self.assertEqual(two.server.got[other], b"hello")

    def test_reset(self) -> None:
        """A stream that is given up is over for the peer, and what it still sends is dropped."""
        for two in self.everything():
            number = two.client.engine.open_stream()
            two.client.engine.write(number, bytes(100_000))
            two.run()
            two.server.engine.write(number, bytes(1000))
            two.client.engine.reset_stream(number)
            two.run()
            self.assertEqual(two.server.ended, [number])
            self.assertEqual(two.client.engine.facts()["streams"], 0)
            self.assertIsNone(two.server.over)

    def test_close(self) -> None:
        """What was written before a close arrives, then the session ends in order."""
        for two in self.everything():
            number = two.client.engine.open_stream()
            two.client.engine.write(number, bytes(300_000))
            two.client.engine.close(two.now)
            two.run(60)
            self.assertEqual(len(two.server.got[number]), 300_000)
            self.assertEqual(two.server.ended, [number])
            self.assertEqual(two.client.over, (Reason.DONE, None))

    def test_closeStuck(self) -> None:
        """A close that nobody reads the rest of is given up."""
        two = Two(2)
        number = two.client.engine.open_stream()
        two.server.paused.add(number)
        two.client.engine.write(number, bytes(3_000_000))
        two.client.engine.close(two.now)
        two.run(50)
        self.assertIsNone(two.client.over)
        two.client.engine.tick(two.now + DRAIN_TIMEOUT)
        two.run()
        self.assertEqual(two.client.over, (Reason.CLOSE_TIMEOUT, None))

    def test_abort(self) -> None:
        """An end at once."""
        two = Two()
        two.client.engine.open_stream()
        two.run()
        two.client.engine.abort(two.now)
        two.run()
        self.assertEqual(two.client.over, (Reason.ABORTED, None))

    def test_keepalive(self) -> None:
        """A silent peer is asked for a sign of life; without one the session ends."""
        two = Two()
        two.run()
        for _ in range(20):
            two.now += 10 * SECOND
            for end in (two.client, two.server):
                end.engine.tick(two.now)
            two.run(1)
        self.assertIsNone(two.client.over)
        deadline = two.client.engine.deadline()
        assert deadline is not None
        self.assertTrue(two.now < deadline <= two.now + 10 * SECOND)
        for _ in range(7):
            two.now += 10 * SECOND
            two.client.engine.tick(two.now)
            two.client.turn(two.now)
        assert two.client.over is not None
        self.assertIs(two.client.over[0], Reason.IDLE)

    def test_mismatch(self) -> None:
        """Ends that speak differently end with what does not fit in one line."""
        for mine, theirs, word in (
            (SmuxSettings(version=1), SmuxSettings(version=2), "smuxver"),
            (SmuxSettings(version=2), SmuxSettings(version=1), "smuxver"),
        ):
            two = Two()
            two.client = End(Role.CLIENT, mine)
            two.server = End(Role.SERVER, theirs)
            two.client.engine.open_stream()
            two.run()
            assert two.server.over is not None
            self.assertIs(two.server.over[0], Reason.PROTOCOL)
            self.assertIn(word, two.server.over[1])
        two = Two(2, compressed=True)
        two.client = End(Role.CLIENT, SmuxSettings())
        two.client.engine.open_stream()
        two.run()
        assert two.server.over is not None
        self.assertIs(two.server.over[0], Reason.PROTOCOL)

    def test_first(self) -> None:
        """Streams that come with the first datagram are told of behind the connection itself."""
        end = End(Role.SERVER, SmuxSettings())
        end.pipe.told.clear()
        data = pack(2, Command.SYN, 3) + pack(2, Command.PSH, 3, b"early")
        end.engine.receive(data, len(data), PEER, SECOND)
        end.engine.flush(SECOND, end.emit, 1000)
        self.assertEqual(end.engine.events(), [])
        end.pipe.told.append((Event.CONNECTED, False))
        self.assertEqual(
            end.engine.events(),
            [(Event.CONNECTED, False), (Event.STREAM_OPENED, 3), (Event.READABLE, 3)],
        )

    def test_messages(self) -> None:
        """There are none, and stream 0 carries nothing."""
        two = Two()
        self.assertRaises(ValueError, two.client.engine.send, b"x")
        self.assertRaises(ValueError, two.client.engine.write, 0, b"x")
        self.assertEqual(list(two.client.engine.take_messages()), [])
        self.assertIn(Capability.STREAMS, two.client.engine.capabilities)
        self.assertNotIn(Capability.MESSAGES, two.client.engine.capabilities)

    @given(seed=st.integers(0, 1 << 30))
    @settings(max_examples=40, deadline=None, derandomize=True)
    def test_random(self, seed: int) -> None:
        """Whatever both ends do, each stream's bytes arrive whole and in order."""
        chance = random.Random(seed)
        two = Two(chance.choice([1, 2]), chance.random() < 0.3, chance.choice([3000, 1 << 30]))
        ends = (two.client, two.server)
        written: dict[tuple[int, int], bytearray] = defaultdict(bytearray)
        closed: set[tuple[int, int]] = set()
        for _ in range(60):
            index = chance.randrange(2)
            end = ends[index]
            known = [*end.opened, *[n for i, n in written if i == index]]
            action = chance.choice(["open", "write", "write", "close", "pause", "resume", "run"])
            if action == "open" or not known:
                number = end.engine.open_stream()
                written[index, number] += b""
            else:
                number = chance.choice(known)
                if action == "write" and (index, number) not in closed:
                    data = chance.randbytes(chance.choice([1, 100, 20_000]))
                    end.engine.write(number, data)
                    written[index, number] += data
                elif action == "close":
                    end.engine.close_stream(number)
                    closed.add((index, number))
                elif action == "pause":
                    end.paused.add(number)
                elif action == "resume" and end.paused:
                    number = end.paused.pop()
                    end.read(number)
                else:
                    two.run(1, chance.choice([500, 1 << 20]))
        for end in ends:
            for number in list(end.paused):
                end.paused.discard(number)
                end.read(number)
        two.run(400)
        for (index, number), data in written.items():
            self.assertEqual(bytes(ends[1 - index].got[number]), bytes(data))
        for index, number in closed:
            self.assertIn(number, ends[1 - index].ended)
        self.assertIsNone(two.client.over)
        self.assertIsNone(two.server.over)


class HostileTests(SynchronousTestCase):
    """What a peer can send."""

    def server(self, **more: int) -> End:
        """A listening end that has just been connected."""
        end = End(Role.SERVER, SmuxSettings(**more))
        end.turn(SECOND)
        return end

    def test_manyStreams(self) -> None:
        """No more than so many streams; the rest is ended at once."""
        end = self.server()
        data = b"".join(pack(2, Command.SYN, 2 * n + 3) for n in range(MOST_STREAMS + 50))
        end.engine.receive(data, len(data), PEER, SECOND)
        end.turn(SECOND)
        self.assertEqual(end.engine.facts()["streams"], MOST_STREAMS)
        self.assertEqual(end.engine.counters()["streams_refused"], 50)

    def test_longTurn(self) -> None:
        """
        One turn processes a bounded number of frames and of bytes, however many have come at
        once; the next ones follow at once, and in the end nothing is missing.
        """
        for compressed in (False, True):
            for frames in (
                pack(2, Command.NOP, 0) * 200_000,
                pack(2, Command.PSH, 3, random.Random(1).randbytes(500)) * 2_000,
            ):
                pair = Two(compressed=compressed)
                server = pair.server
                pair.run(1)
                data = pack(2, Command.SYN, 3) + frames + pack(2, Command.PSH, 3, b"end")
                if compressed:
                    compressor = Compressor()
                    pieces = (data[at : at + 65536] for at in range(0, len(data), 65536))
                    data = b"".join(compressor.compress(each) for each in pieces)
                before, turns = server.engine.counters().get("frames_in", 0), 0
                server.engine.receive(data, len(data), PEER, pair.now)
                while server.engine.deadline() == 0:
                    after = server.engine.counters()["frames_in"]
                    self.assertLess(after - before, 1025)
                    before, turns = after, turns + 1
                    server.engine.tick(pair.now)
                self.assertGreater(turns, 0)
                server.turn(pair.now)
                self.assertEqual(server.got[3][-3:], b"end")

    def test_stopped(self) -> None:
        """A process that was stopped for longer than the timeout asks before it gives up."""
        pair = Two()
        pair.run(5)
        server = pair.server
        pair.now += 300 * SECOND
        server.engine.tick(pair.now)
        server.turn(pair.now)
        self.assertIsNone(server.over)
        since = pair.now
        while server.over is None and pair.now < since + 100 * SECOND:
            pair.now += SECOND
            server.engine.tick(pair.now)
            server.turn(pair.now)
        self.assertEqual(server.over and server.over[0], Reason.IDLE)
        self.assertGreater(pair.now - since, 25 * SECOND)

    def test_lastTurn(self) -> None:
        """A session that ends with frames unprocessed has nothing to do for them."""
        pair = Two()
        pair.run(1)
        server = pair.server.engine
        server.receive(pack(2, Command.NOP, 0) * 5000 + bytes(8), 1, PEER, pair.now)
        self.assertEqual(server.deadline(), 0)
        server.abort(pair.now)
        server.tick(pair.now)
        pair.server.turn(pair.now)
        self.assertIsNone(server.deadline())
        self.assertEqual(pair.server.over, (Reason.ABORTED, None))

    def test_answersNotTaken(self) -> None:
        """
        Who opens streams beyond the limit and does not take the answers is cut off: they would
        wait here without bound.
        """
        end = self.server()
        end.pipe.window = 0
        frames = [pack(2, Command.SYN, 2 * n + 3) for n in range(100_000)]
        for at in range(0, len(frames), 1000):
            data = b"".join(frames[at : at + 1000])
            end.engine.receive(data, len(data), PEER, 2 * SECOND)
            end.turn(2 * SECOND)
        self.assertTrue(end.pipe.unsent() <= MOST_ANSWERS + 10_000, end.pipe.unsent())
        assert end.over is not None
        self.assertIs(end.over[0], Reason.PROTOCOL)

    def test_wrongNumbers(self) -> None:
        """Numbers of the other side, or 0, open nothing."""
        end = self.server()
        for number in (0, 2, 4):
            data = pack(2, Command.SYN, number)
            end.engine.receive(data, len(data), PEER, SECOND)
        end.turn(SECOND)
        self.assertEqual((end.opened, end.over), ([], None))

    def test_overfull(self) -> None:
        """Who sends past every window is cut off; what is kept stays within the bounds."""
        end = self.server()
        end.paused.add(3)
        data = pack(2, Command.SYN, 3)
        end.engine.receive(data, len(data), PEER, SECOND)
        frame = pack(2, Command.PSH, 3, bytes(60_000))
        for _ in range(100):
            end.engine.receive(frame, len(frame), PEER, SECOND)
            end.turn(SECOND)
        assert end.over is not None
        self.assertIs(end.over[0], Reason.PROTOCOL)
        self.assertTrue(end.engine.unread(3) <= (2 << 20) + 65535)

    def test_consumedTooMuch(self) -> None:
        """Nobody can have read more than was sent."""
        end = self.server()
        for data in (pack(2, Command.SYN, 3), pack_update(3, 5, 1 << 20)):
            end.engine.receive(data, len(data), PEER, SECOND)
        end.turn(SECOND)
        assert end.over is not None
        self.assertIs(end.over[0], Reason.PROTOCOL)

    @given(data=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7), st.binary(max_size=9))))
    @settings(max_examples=200, deadline=None, derandomize=True)
    def test_anyFrames(self, data: list[tuple[int, int, bytes]]) -> None:
        """Frames in any order raise nothing."""
        end = self.server()
        for command, number, payload in data:
            run = pack(2, command, number, payload)
            end.engine.receive(run, len(run), PEER, SECOND)
            end.turn(SECOND)
            if number in end.opened:
                end.engine.close_stream(number)
