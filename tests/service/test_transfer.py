"""Tests for L{twisted_rudp.service.transfer}."""

from __future__ import annotations

import errno
import os
import random
from hashlib import blake2b
from pathlib import Path
from struct import pack
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.service.destination import Destination, Place
from twisted_rudp.service.transfer import (
    AHEAD,
    HASH_RATE,
    HELLO_TIMEOUT,
    LARGEST_BODY,
    MOST_WRONG,
    SILENCE_TIMEOUT,
    Frame,
    Outcome,
    Receiving,
    Sending,
    Side,
    Transfer,
    TransferFailed,
    sourcesOf,
)
from twisted_rudp.testing import MemoryNetwork


def frame(kind: int, body: bytes = b"") -> bytes:
    return pack(">BI", kind, len(body)) + body


def hello(side: int, version: int = 1, magic: bytes = b"rudp files") -> bytes:
    return frame(Frame.HELLO, magic + bytes((version, side)))


def announced(name: bytes, size: int, flags: int = 0) -> bytes:
    return frame(Frame.FILE, pack(">QB", size, flags) + name)


def digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=32).digest()


class Notes:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def began(self, name: str, size: int, offset: int) -> None:
        self.events.append((name, size, offset))

    def moved(self, done: int) -> None:
        pass

    def ended(self, name: str, digest: bytes | None, problem: str | None) -> None:
        self.events.append((name, digest, problem))


class Folders(SynchronousTestCase):
    """A directory to send from and one to receive in."""

    def setUp(self) -> None:
        self.source = Path(self.mktemp())
        self.target = Path(self.mktemp())
        for each in (self.source, self.target):
            each.mkdir()

    def destination(self, force: bool = False) -> Destination:
        made = Destination(str(self.target), force=force)
        self.addCleanup(made.close)
        return made


class TransferCase(Folders):
    """Both sides over a network that loses datagrams."""

    def transfer(self, *paths: Path, transport: str = "qotp", **options: Any) -> Any:
        """
        @return: what became of both sides, and of both displays.
        """
        network = MemoryNetwork(seed=5, delay=0.01)
        hosts = [network.host("sender"), network.host("receiver")]
        for ends in (hosts, hosts[::-1]):
            network.link(*ends).loss = options.get("loss", 0.02)
        notes = Notes(), Notes()
        receiver = Receiving(
            hosts[1].reactor, notes[1], self.destination(options.get("force", False))
        )
        sender = Sending(
            hosts[0].reactor, notes[0], list(sourcesOf([str(each) for each in paths]))
        )
        more = ":crypt=null" if transport == "kcp" else ""
        listening = serverFromString(hosts[1].reactor, f"{transport}:4000{more}")
        self.successResultOf(listening.listen(OneOf(receiver)))
        dialling = clientFromString(hosts[0].reactor, f"{transport}:receiver:4000{more}")
        dialling.connect(OneOf(sender))
        if options.get("until"):
            network.run(lambda: options["until"](sender, receiver))
            options["then"](sender, receiver)
        network.run(lambda: sender.finished.called and receiver.finished.called, limit=300)
        network.runFor(15)
        return sender.finished, receiver.finished, *notes

    def arrived(self, results: Any) -> Outcome:
        outcomes = [self.successResultOf(each) for each in results[:2]]
        self.assertEqual(outcomes[0].arrived, outcomes[1].arrived)
        self.assertEqual(outcomes[0].moved, outcomes[1].moved)
        self.assertEqual(len(outcomes[0].failed), len(outcomes[1].failed))
        return outcomes[0]


class WholeTests(TransferCase):
    """What arrives, and what of it is sent."""

    def test_files(self) -> None:
        """Files, empty ones and those of directories, arrive whole over each transport."""
        chance = random.Random(1)
        (self.source / "d/e").mkdir(parents=True)
        contents = {"one": chance.randbytes(300_000), "d/none": b"", "d/e/two": b"2"}
        for number in range(2 * AHEAD):
            contents[f"d/many{number}"] = b"%d" % number
        for name, content in contents.items():
            (self.source / name).write_bytes(content)
        (self.source / "d/e/two").chmod(0o755)
        (self.source / "d/link").symlink_to("/etc/passwd")
        for transport in ("kcp", "qotp", "raknet"):
            self.target = Path(self.mktemp())
            self.target.mkdir()
            results = self.transfer(
                self.source / "one", self.source / "d", transport=transport
            )
            outcome = self.arrived(results)
            self.assertEqual(outcome.arrived, len(contents), transport)
            self.assertEqual(outcome.moved, sum(map(len, contents.values())))
            found = {
                path.relative_to(self.target).as_posix(): path.read_bytes()
                for path in self.target.rglob("*")
                if path.is_file()
            }
            self.assertEqual(found, contents)
            self.assertTrue(os.access(self.target / "d/e/two", os.X_OK))
            for notes in results[2:]:
                self.assertIn(("one", digest(contents["one"]), None), notes.events)

    def test_resumed(self) -> None:
        """A part that is the same is continued, another one is not; what is there is not sent."""
        data = random.Random(2).randbytes(500_000)
        (self.source / "x").write_bytes(data)
        part = self.target / ".x.rudp-part"
        for had, offset in ((data[:200_000], 200_000), (data[:199_999] + b"!", 0), (data, 500_000)):
            part.write_bytes(had)
            results = self.transfer(self.source / "x")
            self.assertEqual(self.arrived(results).moved, len(data) - offset)
            self.assertIn(("x", len(data), offset), results[2].events)
            self.assertEqual((self.target / "x").read_bytes(), data)
            self.assertEqual(self.arrived(self.transfer(self.source / "x")).moved, 0)
            (self.target / "x").unlink()
        part.write_bytes(data + b"too long")
        self.arrived(self.transfer(self.source / "x"))
        self.assertEqual((self.target / "x").read_bytes(), data)

    def test_existing(self) -> None:
        """Another file of the name stays, whatever its size, unless the receiver says otherwise."""
        (self.source / "x").write_bytes(b"theirs")
        for mine in (b"mine", b"mine!!"):
            (self.target / "x").write_bytes(mine)
            outcome = self.arrived(self.transfer(self.source / "x"))
            ((name, problem),) = outcome.failed
            self.assertEqual((name, outcome.arrived, outcome.moved), ("x", 0, 0))
            self.assertIn("another file of this name", problem)
            self.assertEqual((self.target / "x").read_bytes(), mine)
        self.arrived(self.transfer(self.source / "x", force=True))
        self.assertEqual((self.target / "x").read_bytes(), b"theirs")

    def test_left(self) -> None:
        """Who leaves says so to the other; the part that has come is kept and used."""
        data = random.Random(3).randbytes(2_000_000)
        (self.source / "x").write_bytes(data)
        part = self.target / ".x.rudp-part"
        for index in (0, 1):
            results = self.transfer(
                self.source / "x",
                until=lambda sender, receiver: receiver.outcome.moved > 300_000,
                then=lambda *ends, index=index: ends[index].leave("interrupted"),
            )
            texts = [str(self.failureResultOf(each, TransferFailed).value) for each in results[:2]]
            self.assertEqual(texts[index], "interrupted")
            self.assertEqual(texts[1 - index], "the other side ended it: interrupted")
            size = part.stat().st_size
            self.assertEqual(part.read_bytes(), data[:size])
            self.assertGreater(size, 200_000)
        outcome = self.arrived(self.transfer(self.source / "x"))
        self.assertEqual(outcome.moved, len(data) - size)

    def test_changed(self) -> None:
        """A file that shrinks while it is sent does not arrive, and no part of it stays."""
        path = self.source / "x"
        path.write_bytes(bytes(2_000_000))
        results = self.transfer(
            path,
            until=lambda sender, receiver: receiver.outcome.moved > 300_000,
            then=lambda *ends: os.truncate(path, 100_000),
        )
        ((_, problem),) = self.arrived(results).failed
        self.assertIn("changed", problem)
        self.assertEqual(list(self.target.iterdir()), [])


class ProblemTests(TransferCase):
    """A file that cannot be read or written costs that file only, and both sides say which."""

    def problem(self, results: Any, name: str, moved: int) -> str:
        """All but one file have arrived."""
        outcome = self.arrived(results)
        ((failed, text),) = outcome.failed
        self.assertEqual((failed, outcome.arrived, outcome.moved), (name, 1, moved))
        self.assertEqual([each.name for each in self.target.rglob("*.rudp-part")], [])
        return str(text)

    def test_gone(self) -> None:
        """A file that is gone before its turn."""
        for name in "ab":
            (self.source / name).write_bytes(name.encode())
        results = self.transfer(
            self.source / "a",
            self.source / "b",
            until=lambda *ends: True,
            then=lambda *ends: (self.source / "a").unlink(),
        )
        sent, received = (self.successResultOf(each) for each in results[:2])
        self.assertEqual(sent.failed, [("a", "cannot be read: No such file or directory")])
        self.assertEqual((received.arrived, received.failed), (1, []))
        self.assertEqual((self.target / "b").read_bytes(), b"b")

    def test_noDirectory(self) -> None:
        """Something that is no directory stands where one is needed."""
        (self.source / "d").mkdir()
        (self.source / "d/a").write_bytes(b"a")
        (self.source / "b").write_bytes(b"b")
        (self.target / "d").write_bytes(b"a file")
        results = self.transfer(self.source / "d", self.source / "b")
        self.assertIn("cannot be written", self.problem(results, "d/a", 1))
        self.assertEqual((self.target / "d").read_bytes(), b"a file")

    def test_full(self) -> None:
        """The file system has no room for all of it."""
        (self.source / "a").write_bytes(bytes(200_000))
        (self.source / "b").write_bytes(b"b")
        opened = Place.open

        def scarce(place: Place, offset: int) -> Any:
            file = opened(place, offset)
            return Scarce(file) if place.name == "a" else file

        self.patch(Place, "open", scarce)
        results = self.transfer(self.source / "a", self.source / "b")
        text = "cannot be written: No space left on device"
        self.assertEqual(self.arrived(results).failed, [("a", text)])
        self.assertEqual((self.target / "b").read_bytes(), b"b")
        self.assertFalse((self.target / "a").exists())

    def test_directory(self) -> None:
        """A directory has the name of the file."""
        (self.source / "a").write_bytes(b"a")
        (self.source / "b").write_bytes(b"b")
        (self.target / "a").mkdir()
        results = self.transfer(self.source / "a", self.source / "b")
        self.assertIn("that is no file", self.problem(results, "a", 1))


class Scarce:
    """A file on a full file system."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        self._file.close()


class OneOf(Factory):
    """One protocol that exists."""

    noisy = False

    def __init__(self, made: Transfer) -> None:
        self.made = made

    def buildProtocol(self, addr: Any) -> Transfer:
        return self.made


class SourcesTests(Folders):
    """What is sent."""

    def test_refused(self) -> None:
        """What cannot be sent is said before anything is."""
        (self.source / "x").write_bytes(b"")
        for paths in (
            [self.source / "nothing"],
            [self.source / "x", self.source / "x"],
            ["/dev/null"],
        ):
            self.assertRaises(ValueError, list, sourcesOf([str(each) for each in paths]))
        (self.source / "line\nbreak").write_bytes(b"")
        self.assertRaises(ValueError, list, sourcesOf([str(self.source)]))


class StrangerTests(Folders):
    """The other side is something else."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()

    def side(self, side: Side = Side.RECEIVER) -> tuple[Transfer, StringTransport]:
        made: Transfer
        if side is Side.RECEIVER:
            made = Receiving(self.clock, Notes(), self.destination())
        else:
            (self.source / "x").write_bytes(b"12345")
            made = Sending(self.clock, Notes(), list(sourcesOf([str(self.source / "x")])))
        transport = Transport()
        made.makeConnection(transport)
        return made, transport

    def say(self, side: Side, *said: bytes) -> str:
        """
        @return: why this side has left.
        """
        made, transport = self.side(side)
        for each in said:
            made.dataReceived(each)
            self.clock.pump([0] * 4)
        self.assertTrue(transport.disconnecting, said)
        made.connectionLost()
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])
        return str(self.failureResultOf(made.finished, TransferFailed).value)

    def test_hello(self) -> None:
        """Whoever is no other side is left, for a reason; so is who says nothing."""
        for said, expected in (
            (b"GET / HTTP/1.1\r\n\r\n", "no rudp send or recv"),
            (hello(Side.SENDER, magic=b"rudp_files"), "no rudp send or recv"),
            (hello(Side.SENDER, version=2), "version 2"),
            (hello(Side.RECEIVER), "both sides receive"),
            (announced(b"x", 1), "no rudp send or recv"),
            (frame(Frame.HELLO, b"x"), "wrong length"),
            (hello(Side.SENDER) + hello(Side.SENDER), "twice"),
            (frame(Frame.ABORT, b"tired\x1b[2J"), "the other side ended it: tired?[2J"),
        ):
            self.assertIn(expected, self.say(Side.RECEIVER, said))
        self.assertIn("both sides send", self.say(Side.SENDER, hello(Side.SENDER)))
        made, transport = self.side()
        self.clock.advance(HELLO_TIMEOUT)
        self.assertTrue(transport.disconnecting)
        self.clock.advance(10)
        self.assertTrue(transport.aborted)
        made.connectionLost()
        self.failureResultOf(made.finished, TransferFailed)

    def test_sender(self) -> None:
        """A sender that breaks the rules is left, and nothing of it stays but parts."""
        start = frame(Frame.START, pack(">Q", 0))
        for said, expected in (
            ([frame(Frame.DATA, b"x")], "data of no file"),
            ([start], "out of turn"),
            ([announced(b"x", 3), frame(Frame.START, pack(">Q", 2))], "in the middle"),
            ([announced(b"x", 3), start, start], "out of turn"),
            ([announced(b"x", 3), start, frame(Frame.DATA, b"1234")], "more of a file"),
            ([announced(b"x", 3), start, frame(Frame.END, b"short")], "ends no file"),
            ([announced(b"x", 3), frame(Frame.DONE)], "too early"),
            ([frame(Frame.FILE, b"x")], "too many files, or nothing"),
            ([announced(b"x%d" % n, 1) for n in range(3 * AHEAD)], "too many files"),
            ([announced(b"/", 1)] * (MOST_WRONG + 1), "names that cannot be used"),
            ([frame(Frame.HAVE, bytes(41))], "only a receiver"),
            ([frame(99)], "only a receiver"),
            ([pack(">BI", Frame.DATA, LARGEST_BODY + 1)], "broken"),
        ):
            self.assertIn(expected, self.say(Side.RECEIVER, hello(Side.SENDER), *said))
        for path in self.target.iterdir():
            self.assertTrue(path.name.endswith(".rudp-part"))
            path.unlink()

    def test_receiver(self) -> None:
        """So is a receiver."""
        have = frame(Frame.HAVE, pack(">Q32sB", 0, digest(b""), 0))
        for said, expected in (
            ([have, have], "not asked"),
            ([frame(Frame.RESULT)], "not sent"),
            ([frame(Frame.DONE)], "too early"),
            ([frame(Frame.FILE, b"")], "only a sender"),
            ([frame(Frame.HAVE, b"")], "wrong length"),
        ):
            self.assertIn(expected, self.say(Side.SENDER, hello(Side.RECEIVER), *said))

    def test_silent(self) -> None:
        """Whoever does not go on when it is his turn is left: he would keep all others out."""
        start = frame(Frame.START, pack(">Q", 0))
        have = frame(Frame.HAVE, pack(">Q32sB", 0, digest(b""), 0))
        for side, other, said in (
            (Side.RECEIVER, Side.SENDER, []),
            (Side.RECEIVER, Side.SENDER, [announced(b"x", 9)]),
            (Side.RECEIVER, Side.SENDER, [announced(b"x", 9), start, frame(Frame.DATA, b"1")]),
            (Side.SENDER, Side.RECEIVER, []),
            (Side.SENDER, Side.RECEIVER, [have]),
        ):
            made, transport = self.side(side)
            made.dataReceived(hello(other))
            for each in said:
                self.clock.advance(SILENCE_TIMEOUT * 0.9)
                made.dataReceived(each)
                self.clock.pump([0] * 4)
                self.assertFalse(transport.disconnecting)
            self.clock.advance(SILENCE_TIMEOUT * 0.9)
            self.assertFalse(transport.disconnecting, said)
            self.clock.pump([SILENCE_TIMEOUT * 0.1] * 2)
            self.assertTrue(transport.disconnecting, said)
            made.connectionLost()
            problem = self.failureResultOf(made.finished, TransferFailed)
            self.assertIn("the other side has said nothing for", str(problem.value))

    def test_hashing(self) -> None:
        """A sender that has to look at what the receiver has of a file has the time for it."""
        made, transport = self.side()
        start = frame(Frame.START, pack(">Q", 0))
        made.dataReceived(hello(Side.SENDER) + announced(b"x", 9))
        self.clock.pump([0] * 4)
        made.dataReceived(start + frame(Frame.DATA, b"1"))
        self.clock.pump([0] * 4)
        made.leave("to be continued")
        made.connectionLost()
        self.failureResultOf(made.finished)
        (part,) = self.target.iterdir()
        with part.open("wb") as file:
            file.truncate(9 * HASH_RATE)
        made, transport = self.side()
        made.dataReceived(hello(Side.SENDER) + announced(b"x", 10 * HASH_RATE))
        while transport.value().count(bytes((Frame.HAVE, 0, 0))) < 1:
            self.clock.advance(0)
        self.clock.advance(SILENCE_TIMEOUT + 8)
        self.assertFalse(transport.disconnecting)
        self.clock.pump([1, 1])
        self.assertTrue(transport.disconnecting)
        made.connectionLost()
        self.failureResultOf(made.finished)

    def test_afterTheEnd(self) -> None:
        """What comes when all has been said is not kept, and the connection does not stay."""
        made, transport = self.side()
        done = frame(Frame.DONE)
        made.dataReceived(hello(Side.SENDER) + done + announced(b"x", 1))
        for _ in range(100):
            made.dataReceived(bytes(1 << 16))
        held = sum(len(each) for each in vars(made).values() if isinstance(each, bytes))
        self.assertLess(held, 1 << 16)
        self.assertEqual(transport.value().count(bytes((Frame.HAVE, 0, 0))), 0)
        self.clock.pump([SILENCE_TIMEOUT / 2] * 3)
        self.assertTrue(transport.aborted)
        made.connectionLost()
        self.assertEqual(self.successResultOf(made.finished).failed, [])

    def test_names(self) -> None:
        """Names that lead elsewhere are refused, one by one, and the others are taken."""
        made, transport = self.side()
        names = (b"../x", b"/x", b"a/../../x", b"a", b"a", b"b\0")
        made.dataReceived(hello(Side.SENDER) + b"".join(announced(each, 1) for each in names))
        made.dataReceived(announced(b"c", 1 << 62))
        self.clock.pump([0] * 9)
        self.assertEqual(transport.value().count(b"\x04\0\0"), 6)
        self.assertEqual(made.outcome.failed[-1], ("c", "there is no room for it"))
        made.leave("enough")
        made.connectionLost()
        self.failureResultOf(made.finished)
        self.assertEqual(list(self.target.parent.glob("x")), [])

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.lists(st.tuples(st.integers(0, 12), st.binary(max_size=60)), max_size=12), st.data())
    def test_noise(self, frames: list[tuple[int, bytes]], data: st.DataObject) -> None:
        """Whatever comes, in whatever pieces, is no exception."""
        for side in Side:
            made, _ = self.side(side)
            other = Side.SENDER if side is Side.RECEIVER else Side.RECEIVER
            stream = hello(other) + b"".join(frame(*each) for each in frames)
            cut = data.draw(st.integers(0, len(stream)))
            for piece in (stream[:cut], stream[cut:]):
                made.dataReceived(piece)
                self.clock.pump([0] * 3)
            made.connectionLost()
            made.finished.addBoth(lambda _: None)


class Transport(StringTransport):
    """Knows aborting."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        super().registerProducer(producer, streaming)
        producer.resumeProducing()
