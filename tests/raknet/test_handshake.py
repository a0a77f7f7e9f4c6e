"""Tests for L{twisted_rudp.raknet.handshake}: MTU discovery, the two requests, passwords."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests import vectors
from tests.pair import SERVER
from twisted_rudp.core.engine import MILLISECOND, Reason
from twisted_rudp.raknet.handshake import Dialler, Handshake, Stage, WrongPassword
from twisted_rudp.raknet.offline import (
    REFUSALS,
    Incompatible,
    Refusal,
    Reply1,
    Reply2,
    Request1,
    Request2,
    parse,
)
from twisted_rudp.raknet.settings import DEFAULT, GO_RAKNET_2023
from twisted_rudp.raknet.wire import (
    ConnectionRequest,
    MessageId,
    is_extended,
    parse_request_accepted,
)

GUID = 0x99


class DiallerTests(SynchronousTestCase):
    """The dialler's part outside of the session (raknet.md 2.2 and 3)."""

    def setUp(self) -> None:
        self.now = 0
        self.dialler = Dialler(DEFAULT, GUID, SERVER, 0)

    def sent(self) -> list[object]:
        """What is sent when the time has come."""
        self.now = max(self.now, self.dialler.due)
        return [parse(each) for each in self.dialler.datagrams(self.now)]

    def test_sizes(self) -> None:
        """Four probes of each size half a second apart, and from the top again."""
        probes = [self.sent() for _ in range(13)]
        sizes = [1492] * 4 + [1200] * 4 + [576] * 4 + [1492]
        self.assertEqual(probes, [[Request1(11, size)] for size in sizes])
        self.assertEqual(self.now, 12 * 500 * MILLISECOND)

    def test_likeThem(self) -> None:
        """The order of sizes that C++ has when the path is narrow (the recorded fallback)."""
        session = vectors.load("raknet", "session_mtu_fallback_cpp")
        theirs = []
        for entry in session["datagrams"]:
            parts = entry.get("parts") or [entry["hex"]]
            if entry["dir"] == "c2s" and isinstance(parts[0], str) and parts[0][:2] == "05":
                zeros = sum(part["zeros"] for part in parts if isinstance(part, dict))
                theirs.append(len(parts[0]) // 2 + zeros + 28)
        ours = []
        for _ in theirs:
            (probe,) = self.sent()
            assert isinstance(probe, Request1)
            ours.append(probe.mtu)
        self.assertEqual(ours, theirs)

    def test_tooBig(self) -> None:
        """A probe that the path does not take is followed by the next size at once."""
        self.sent()
        self.dialler.too_big(1464, 5)
        self.assertEqual(self.dialler.due, 5)
        self.assertEqual(self.sent(), [Request1(11, 1200)])
        self.dialler.too_big(1464, 6)
        self.assertNotEqual(self.dialler.due, 6)

    def test_agreed(self) -> None:
        """
        Reply 1 is answered with its cookie and MTU, repeated until reply 2, whose
        MTU counts but never exceeds what was probed.
        """
        self.sent()
        self.dialler.receive(Reply1(7, 5, 1400), 1)
        request = Request2(5, SERVER, 1400, GUID)
        self.assertEqual(self.sent(), [request])
        self.assertEqual(self.sent(), [request])
        self.dialler.receive(Reply1(7, 6, 1300), 2)
        self.assertEqual(self.sent(), [request])
        self.dialler.receive(Reply2(7, ("192.0.2.1", 1), 9000), 3)
        self.assertEqual(self.dialler.stage, Stage.AGREED)
        self.assertEqual((self.dialler.mtu, self.dialler.guid), (1492, 7))

    def test_tooEarly(self) -> None:
        """Reply 2 before reply 1 means nothing."""
        self.dialler.receive(Reply2(7, ("192.0.2.1", 1), 1492), 3)
        self.assertEqual(self.dialler.stage, Stage.PROBING)

    def test_filters(self) -> None:
        """
        Nonsense from a filter in front of the server gets a request 2 and does not
        end the probing (raknet.md 2.4).
        """
        self.sent()
        for nonsense in (Reply1(0, 1, 1492), Reply1(3, 1, 20), Reply1(3, 1, 60000)):
            self.dialler.receive(nonsense, 1)
            (trial,) = map(parse, self.dialler.datagrams(1))
            assert isinstance(trial, Request2)
            self.assertEqual((trial.cookie, self.dialler.stage), (1, Stage.PROBING))

    def test_refused(self) -> None:
        """Each refusal has its reason; after the agreement none counts."""
        reasons = {}
        for kind in REFUSALS:
            dialler = Dialler(DEFAULT, GUID, SERVER, 0)
            dialler.receive(Refusal(kind, 7), 1)
            self.assertEqual(dialler.stage, Stage.REFUSED)
            self.assertEqual(dialler.datagrams(10**12), [])
            reasons[kind] = dialler.refusal[0]
        self.assertEqual(reasons[MessageId.FULL], Reason.FULL)
        self.assertEqual(reasons[MessageId.BANNED], Reason.BANNED)
        self.assertEqual(reasons[MessageId.ALREADY_CONNECTED], Reason.REFUSED)
        self.dialler.receive(Incompatible(9, 7), 1)
        reason, detail = self.dialler.refusal
        self.assertEqual(reason, Reason.VERSION)
        self.assertEqual(detail, "the peer speaks RakNet protocol 9, not 11")

    def test_cookieTooOld(self) -> None:
        """
        Where request 2 stays unanswered, as from a listener that was restarted, probing
        begins anew and brings another cookie.
        """
        self.sent()
        self.dialler.receive(Reply1(7, 5, 1492), 1)
        asked = [self.sent() for _ in range(4)]
        self.assertEqual(asked, [[Request2(5, SERVER, 1492, GUID)]] * 4)
        self.assertEqual(self.sent(), [Request1(11, 1492)])
        self.dialler.receive(Reply1(7, 6, 1492), self.now)
        self.assertEqual(self.sent(), [Request2(6, SERVER, 1492, GUID)])

    def test_answeredSize(self) -> None:
        """
        Some listeners answer with a size of their own: then it is the present probe that
        has got through, not a larger one before.
        """
        for _ in range(5):
            self.sent()
        self.dialler.receive(Reply1(7, 5, 1400), self.now)
        self.assertEqual(self.sent(), [Request2(5, SERVER, 1200, GUID)])
        self.dialler.receive(Reply2(7, ("192.0.2.1", 1), 1400), self.now)
        self.assertEqual(self.dialler.mtu, 1200)

    def test_lateAnswer(self) -> None:
        """The answer to a larger probe may come late; its size is what was probed."""
        for _ in range(5):
            self.sent()
        self.dialler.receive(Reply1(7, 5, 1492), self.now)
        self.dialler.receive(Reply2(7, ("192.0.2.1", 1), 1492), self.now)
        self.assertEqual(self.dialler.mtu, 1492)


class PasswordTests(SynchronousTestCase):
    """L{Handshake} with a password."""

    def test_wrong(self) -> None:
        """Another password, of whatever length, is refused; the right one is answered."""
        settings = replace(DEFAULT, password=b"right")
        for password in (b"", b"righ", b"rightx", b"wrong", b"right"):
            handshake = Handshake(settings, SERVER, GUID, True)
            request = ConnectionRequest(GUID, 5, 0, password)
            if password == b"right":
                self.assertIsNotNone(handshake.asked(request, 6))
            else:
                self.assertRaises(WrongPassword, handshake.asked, request, 6)

    def test_notShown(self) -> None:
        """Nothing that is printed shows the password."""
        self.assertNotIn("secret", repr(replace(DEFAULT, password=b"secret")))


class KindTests(SynchronousTestCase):
    """How our own kind is told from others."""

    def test_extended(self) -> None:
        """The last of the addresses says it; with the older go-raknet's profile nothing does."""
        for settings, extended in ((DEFAULT, True), (GO_RAKNET_2023, False)):
            for validated in (True, False):
                listener = Handshake(settings, SERVER, GUID, validated)
                answer = listener.asked(ConnectionRequest(GUID, 5), 6)
                assert answer is not None
                self.assertEqual(is_extended(answer), extended)
                dialler = Handshake(settings, SERVER, GUID, True)
                dialler.ask(5)
                incoming = dialler.accepted(parse_request_accepted(answer), 7)
                assert incoming is not None
                self.assertEqual(is_extended(incoming), extended)
