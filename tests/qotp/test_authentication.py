"""Diallers and listeners that say who they are (qotp.md 17.1)."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.pair import SERVER, Fate, chancy, losing
from tests.qotp.pair import Pair
from tests.qotp.releasepair import ReleasePair, sink
from tests.qotp.test_engine import write
from twisted_rudp.core.engine import SECOND, Event, Reason
from twisted_rudp.qotp.authentication import (
    DIALLERS_WORDS,
    KEY,
    LABEL,
    LISTENERS_WORDS,
    MAX_WAITING_OF_NETWORK,
    PASSWORD,
    VERSION,
    InitiatorAuthentication,
    Password,
    Policy,
    Refusal,
    ResponderAuthentication,
    Waiting,
    refusal_of,
)
from twisted_rudp.qotp.extensions import (
    CONTROL,
    OFFER,
    Accepted,
    Proof,
    decode_frame,
    encode_accepted,
    encode_proof,
    encode_reset,
    offer,
    wanted_by,
)
from twisted_rudp.qotp.keys import KeyPair
from twisted_rudp.qotp.wire import Kind, Segment

US = KeyPair.from_text("the client")
SESAME, OTHER = Password("sesame"), Password(b"another")


def authenticated(
    server: Policy,
    client: Policy | None = None,
    there: Fate | None = None,
    back: Fate | None = None,
    known: bool = True,
) -> Pair:
    """A pair whose client has dialled; both ends have said something."""
    pair = Pair(there, back, policy=server)
    pair.settings = replace(pair.settings, policy=client or Policy())
    pair.dial(known)
    return pair


def replaced(value: Any, **changes: Any) -> Any:
    """A named tuple with other values."""
    names = value.__match_args__
    return type(value)(*(changes.get(name, getattr(value, name)) for name in names))


def swallowing(shortest: int) -> Fate:
    """A link that loses proofs or acceptances: all Data of more than so many bytes."""

    def fate(number: int, datagram: bytes) -> tuple[float, ...]:
        return () if datagram[0] == Kind.DATA and len(datagram) > shortest else (10,)

    return fate


class ProofTests(SynchronousTestCase):
    """What proves something, and what does not."""

    def setUp(self) -> None:
        self.ephemeral = KeyPair(bytes(range(32)))
        self.secret = b"s" * 32
        self.policy = Policy(SESAME, allowed={US.public}.__contains__)

    def judge(self, proof: Proof, **named: Any) -> Refusal | None:
        responder = ResponderAuthentication(self.policy, self.ephemeral, lambda: None)
        return responder.judge(
            proof, named.get("identity", US.public), named.get("secret", self.secret)
        )

    def proof(self, password: Password | None = SESAME, identity: KeyPair = US) -> Proof:
        initiator = InitiatorAuthentication(password, self.secret)
        return initiator.proof(KEY | PASSWORD, identity, self.ephemeral.public)

    def test_right(self) -> None:
        """Key and password; the answer proves that the listener knows the password too."""
        self.assertIsNone(self.judge(self.proof()))
        responder = ResponderAuthentication(self.policy, self.ephemeral, lambda: None)
        answer = responder.answer(self.secret)
        self.assertTrue(InitiatorAuthentication(SESAME, self.secret).accepts(answer))
        for password, secret in ((OTHER, self.secret), (SESAME, b"another session")):
            self.assertFalse(InitiatorAuthentication(password, secret).accepts(answer))

    def test_reflected(self) -> None:
        """A listener that sends the dialler's own proof back knows no password."""
        initiator = InitiatorAuthentication(SESAME, self.secret)
        self.assertFalse(initiator.accepts(Accepted(VERSION, self.proof().password)))

    def test_wrong(self) -> None:
        """Everything else has its own reason; the key is looked at before the list."""
        stranger = KeyPair.from_text("a stranger")
        for proof, named, expected in (
            (replaced(self.proof(), version=2), {}, Refusal.VERSION),
            (replaced(self.proof(), key=bytes(32)), {}, Refusal.UNPROVED),
            (replaced(self.proof(), given=PASSWORD), {}, Refusal.UNPROVED),
            (self.proof(), {"secret": b"another session"}, Refusal.UNPROVED),
            (self.proof(identity=stranger), {}, Refusal.UNPROVED),
            (self.proof(), {"identity": stranger.public}, Refusal.UNPROVED),
            (self.proof(), {"identity": bytes(32)}, Refusal.UNPROVED),
            (self.proof(identity=stranger), {"identity": stranger.public}, Refusal.NOT_ALLOWED),
            (self.proof(None), {}, Refusal.PASSWORD),
            (self.proof(OTHER), {}, Refusal.PASSWORD),
            (replaced(self.proof(), given=KEY), {}, Refusal.PASSWORD),
        ):
            self.assertIs(self.judge(proof, **named), expected)

    def test_words(self) -> None:
        """Each reason has a code of its own and words for both ends."""
        for refusal in Refusal:
            self.assertIs(refusal_of(refusal), refusal)
            self.assertTrue(LISTENERS_WORDS[refusal] and DIALLERS_WORDS[refusal])
        self.assertEqual([refusal_of(code) for code in (0, 0x100, 0x105, 1 << 31)], [None] * 4)

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.integers(0, 255), st.integers(0, 255), st.binary(min_size=32, max_size=32))
    def test_frames(self, version: int, given: int, proof: bytes) -> None:
        """Frames are read as they were written, and hide what they prove."""
        for frame in (Proof(version, given, proof, proof[::-1]), Accepted(version, proof)):
            body = encode_proof(frame) if isinstance(frame, Proof) else encode_accepted(frame)
            self.assertEqual(decode_frame(body), frame)
            self.assertIsNone(decode_frame(body + b"x"))
            self.assertIsNone(decode_frame(body[:-1]))
            self.assertNotIn("\\x", repr(frame))

    def test_offers(self) -> None:
        """What a listener asks for is read from its offer, and nothing from what is none."""
        self.assertEqual([wanted_by(offer(wanted)) for wanted in range(4)], [0, 1, 2, 3])
        self.assertEqual(offer(0), OFFER)
        for other in (
            None,
            replaced(OFFER, stream=1),
            replaced(OFFER, data=b"x"),
            replaced(OFFER, offset=OFFER.offset + 1),
            replaced(OFFER, offset=OFFER.offset - 2),
            replaced(OFFER, offset=OFFER.offset + 8),
        ):
            self.assertIsNone(wanted_by(other))


class WaitingTests(SynchronousTestCase):
    """How many may wait."""

    def test_bounds(self) -> None:
        """So many of one network, so many in all; who leaves makes room, once."""
        waiting = Waiting(total=5, each=2)
        self.assertTrue(waiting.enter(b"1", ("192.0.2.1", 1)))
        self.assertTrue(waiting.enter(b"2", ("192.0.2.1", 2)))
        self.assertFalse(waiting.enter(b"3", ("192.0.2.1", 3)))
        for number in range(3):
            self.assertTrue(waiting.enter(b"n%d" % number, (f"198.51.100.{number}", 1)))
        self.assertFalse(waiting.enter(b"4", ("203.0.113.1", 1)))
        waiting.leave(b"1")
        waiting.leave(b"1")
        waiting.leave(b"unknown")
        self.assertTrue(waiting.enter(b"5", ("192.0.2.1", 3)))
        self.assertFalse(waiting.enter(b"6", ("192.0.2.1", 4)))
        self.assertEqual(len(waiting), 5)


class ConnectionTests(SynchronousTestCase):
    """Whole connections."""

    def check(self, pair: Pair) -> None:
        """Both ends are connected, and data passes."""
        write(pair.client, 0, b"from the client")
        write(pair.server, 0, b"from the server")
        pair.run(20_000)
        self.assertEqual(bytes(pair.server.streams[0]), b"from the client")
        self.assertEqual(bytes(pair.client.streams[0]), b"from the server")
        self.assertEqual(pair.server.demux.counters()["not_authenticated"], 0)

    def test_accepted(self) -> None:
        """With the key, the password or both, the server's key known or not; in two round trips."""
        key = Policy(allowed={US.public}.__contains__)
        for server, client in (
            (key, Policy()),
            (Policy(SESAME), Policy(SESAME)),
            (replace(key, password=SESAME), Policy(SESAME)),
            (Policy(ask_key=True), Policy()),
        ):
            for known in (True, False):
                pair = authenticated(server, client, known=known)
                pair.run(45)
                for end in (pair.client, pair.server):
                    self.assertEqual(end.kinds(), [Event.CONNECTED])
                proved = pair.server.engine.facts()["peer_key_proved"]
                self.assertEqual(proved, server.wanted & KEY != 0)
                self.check(pair)

    def test_refused(self) -> None:
        """Each for its reason, which both ends are told; the server's application hears nothing."""
        for server, client, refusal in (
            (Policy(allowed=lambda key: False), Policy(), Refusal.NOT_ALLOWED),
            (Policy(SESAME), Policy(), Refusal.PASSWORD),
            (Policy(SESAME), Policy(OTHER), Refusal.PASSWORD),
        ):
            pair = authenticated(server, client)
            pair.run(500)
            for end, words in (
                (pair.client, DIALLERS_WORDS[refusal]),
                (pair.server, LISTENERS_WORDS[refusal]),
            ):
                ((kind, reason, detail),) = end.happened
                self.assertIs(kind, Event.ENDED)
                self.assertIs(reason, Reason.AUTHENTICATION)
                self.assertIn(words, detail)
                if refusal is Refusal.NOT_ALLOWED:
                    self.assertIn(US.public.hex(), detail)

    def test_notAsked(self) -> None:
        """A client with a password speaks to nobody who does not ask for it."""
        for server in (Policy(), Policy(allowed=lambda key: True)):
            pair = authenticated(server, Policy(SESAME))
            pair.run(500)
            self.assertEqual(pair.client.kinds(), [Event.ENDED])
            self.assertIs(pair.client.happened[0][1], Reason.AUTHENTICATION)
            self.assertEqual((pair.server.happened, pair.server.admitted), ([], 0))

    def test_loss(self) -> None:
        """Proofs and answers that are lost come again."""
        policy = Policy(SESAME, allowed={US.public}.__contains__)
        for seed in range(20):
            pair = authenticated(
                policy, Policy(SESAME), chancy(0.3, seed), chancy(0.3, seed + 100)
            )
            pair.run(15_000)
            for end in (pair.client, pair.server):
                self.assertEqual(end.kinds(), [Event.CONNECTED], seed)
            self.check(pair)

    def test_firstLost(self) -> None:
        """Whichever of the first five datagrams of either side are lost, both are connected."""
        for pattern in range(1, 32):
            lost = [number for number in range(5) if pattern >> number & 1]
            for there, back in ((losing(*lost), None), (None, losing(*lost))):
                pair = authenticated(Policy(SESAME), Policy(SESAME), there, back)
                pair.run(20_000)
                for end in (pair.client, pair.server):
                    self.assertEqual(end.kinds(), [Event.CONNECTED], lost)

    def test_pretender(self) -> None:
        """A server that accepts without knowing the password is left, and hears nothing."""
        pair = authenticated(Policy(SESAME), Policy(SESAME), back=swallowing(70))
        pair.run(100)
        self.assertEqual((pair.client.kinds(), pair.server.kinds()), ([], [Event.CONNECTED]))
        wrong = Segment(CONTROL, 0, encode_accepted(Accepted(VERSION, bytes(32))))
        pair.client.arrive(pair.forge(pair.server, None, wrong, 5), pair.server.address)
        pair.run(1)
        self.assertEqual(
            pair.client.happened,
            [(Event.ENDED, Reason.AUTHENTICATION, "the server does not know the password")],
        )

    def test_refusedWithLoss(self) -> None:
        """A refusal is said several times."""
        told = 0
        for seed in range(20):
            pair = authenticated(
                Policy(SESAME), Policy(OTHER), chancy(0.3, seed), chancy(0.3, seed + 100)
            )
            pair.run(15_000)
            told += (Event.ENDED, Reason.AUTHENTICATION) in {
                event[:2] for event in pair.client.happened
            }
        self.assertGreaterEqual(told, 18)


class StrangerTests(SynchronousTestCase):
    """Who does not follow the rules."""

    def silent(self, policy: Policy) -> Pair:
        """A pair whose client's proofs are lost, however often they are sent."""
        pair = Pair(swallowing(100), policy=policy)
        pair.settings = replace(pair.settings, policy=Policy())
        return pair

    def test_data(self) -> None:
        """
        Data, ends, resets and streams before the proof reach nobody, are not kept, and are not
        acknowledged.
        """
        pair = self.silent(Policy(SESAME))
        pair.dial()
        pair.run(100)
        server = pair.server.engine
        for number, segment in enumerate(
            (
                Segment(0, 0, b"let me in"),
                Segment(0, 9, b"", True),
                Segment(7, 0, b"x" * 1000),
                Segment(CONTROL, 0, encode_reset(0, 1)),
            )
        ):
            pair.server.arrive(pair.forge(pair.client, None, segment, number), pair.client.address)
        pair.run(100)
        self.assertEqual(pair.server.happened, [])
        self.assertEqual(server.counters()["before_authentication"], 3)
        self.assertEqual(server.facts()["bytes_unread"] + server.facts()["bytes_waiting"], 0)
        self.assertLess(server.facts()["receive_window"], 16_000)

    def test_release(self) -> None:
        """A dialler of the release cannot prove anything: refused, or accepted where asked only."""
        for policy, expected in (
            (Policy(SESAME), Event.ENDED),
            (Policy(allowed=lambda key: True), Event.ENDED),
            (Policy(ask_key=True), Event.CONNECTED),
        ):
            pair = ReleasePair(sink, dialling=True, policy=policy)
            connection = pair.release.dial(SERVER, pair.identity.public)
            connection.write(0, b"hello")
            pair.run(1000)
            self.assertEqual(pair.mine.kinds()[0], expected)
            heard = b"hello" if expected is Event.CONNECTED else b""
            self.assertEqual(bytes(pair.mine.streams[0]), heard)

    def test_releaseListens(self) -> None:
        """Neither can a listener of the release: a client with a password leaves it."""
        pair = ReleasePair(sink, policy=Policy(SESAME))
        pair.dial()
        pair.run(1000)
        self.assertEqual(pair.mine.happened[0][:2], (Event.ENDED, Reason.AUTHENTICATION))

    def test_many(self) -> None:
        """Of one network only so many may be waiting, whatever they send."""
        pair = self.silent(Policy(SESAME))
        for _ in range(MAX_WAITING_OF_NETWORK + 5):
            pair.dial()
            pair.run(50)
        self.assertEqual(pair.server.admitted, MAX_WAITING_OF_NETWORK)
        self.assertIn("too many not authenticated", pair.server.drops)
        self.assertEqual(
            pair.server.demux.counters()["not_authenticated"], MAX_WAITING_OF_NETWORK
        )

    def test_noise(self) -> None:
        """Whatever a client says in control frames in place of its proof, it is not let in."""
        chance = random.Random(4)
        pair = self.silent(Policy(SESAME, allowed=lambda key: True))
        pair.dial()
        pair.run(50)
        server = pair.server.engine
        for number in range(300):
            body = bytes([chance.choice((4, 5, 6, 7, 1))]) + chance.randbytes(
                chance.choice((24, 33, 66, 65, 3))
            )
            if body[:2] == b"\x06\x01":
                continue
            datagram = pair.forge(pair.client, None, Segment(CONTROL, 0, body), number)
            pair.server.arrive(datagram, pair.client.address)
        self.assertNotIn(Event.CONNECTED, pair.server.kinds())
        self.assertLessEqual(server.deadline() or 0, pair.now + 31 * SECOND)

    def test_exported(self) -> None:
        """The secret in the proofs is the same at both ends."""
        pair = authenticated(Policy(SESAME), Policy(SESAME))
        pair.run(200)
        self.assertEqual(pair.client.engine.export(LABEL), pair.server.engine.export(LABEL))
