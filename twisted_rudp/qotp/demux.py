"""
What the QOTP connections of one socket share: cutting runs by connection id, and
answering those who dial (qotp.md 3, 9.5 and W2 to W5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from twisted_rudp.core.engine import (
    Address,
    Admit,
    Buffer,
    Drop,
    Engine,
    Key,
    Reply,
    SessionTable,
    Verdict,
)
from twisted_rudp.core.limits import TokenBuckets
from twisted_rudp.kernels import same_column
from twisted_rudp.qotp.authentication import ResponderAuthentication, Waiting
from twisted_rudp.qotp.engine import QOTPEngine
from twisted_rudp.qotp.extensions import OFFER, NewId, StatelessReset, offer, window_ack
from twisted_rudp.qotp.handshake import ExchangeLimit, HalfOpen, HalfOpenTable
from twisted_rudp.qotp.keys import KeyPair, LowOrder, Secrets
from twisted_rudp.qotp.protection import INITIATOR, RESPONDER, Cipher, Sealer
from twisted_rudp.qotp.receiver import FIRST
from twisted_rudp.qotp.settings import Settings
from twisted_rudp.qotp.wire import (
    ID_END,
    ID_OFFSET,
    KEY_END,
    PREFIX,
    SHORTEST,
    Ack,
    Kind,
    Segment,
    decode,
    encode,
    parse_opening,
    without_fill,
)

RESETS_PER_SECOND: Final = 1000

MAX_HEARD_EARLY: Final = 65536
"""Openings with early data that are remembered, so that they are not heard again."""


class QOTPDemultiplexer:
    """
    The demultiplexer of one socket.

    @param identity: answers those who dial; None for a socket that only dials.
    @param own: which connection ids come to this process, where several share an address; the
        ids that it gives its diallers are such. None: all.
    """

    overhead: Final = 0

    def __init__(
        self,
        settings: Settings,
        identity: KeyPair | None = None,
        *,
        limit: ExchangeLimit | None = None,
        own: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._settings = settings
        self._own = own
        self._identity = identity
        self._reset: StatelessReset | None = None
        if identity is not None:
            self._reset = StatelessReset(identity.derive(b"stateless reset"))
        self._resets = TokenBuckets(RESETS_PER_SECOND, RESETS_PER_SECOND, 1)
        self._half_open = HalfOpenTable()
        self._limit = limit or ExchangeLimit()
        self._policy = policy = settings.policy
        self._wanted = policy.wanted
        self._offer = offer(policy.wanted) if policy.wanted else OFFER
        self._waiting = Waiting()
        self._heard_early: dict[bytes, None] = {}
        self._dropped: Counter[str] = Counter()

    def open(
        self, run: Buffer, size: int, address: Address
    ) -> Sequence[tuple[Key | None, Buffer, int]]:
        """
        Cut a run where the connection id changes; drop what is too short or of
        another version (2.1).
        """
        view = memoryview(run)
        if SHORTEST <= len(view) <= size and view[0] in PREFIX:
            return ((bytes(view[ID_OFFSET:ID_END]), view, size),)
        parts: list[tuple[Key | None, Buffer, int]] = []
        if size < SHORTEST:
            self._dropped["short"] += -(-len(view) // size) if size else 1
            return parts
        left_over = len(view) % size
        if left_over and left_over < SHORTEST:
            self._dropped["short"] += 1
            view = view[: len(view) - left_over]
        while view:
            # Type and id in one column: the rest of what is unknown is dropped too.
            count = same_column(view, size, 0, ID_END) * size
            if view[0] not in PREFIX:
                self._dropped["version_or_type"] += -(-len(view[:count]) // size)
            elif parts and parts[-1][0] == view[ID_OFFSET:ID_END]:
                before = parts.pop()[1]
                joined = bytes(before) + bytes(view[:count])
                parts.append((bytes(view[ID_OFFSET:ID_END]), joined, size))
            else:
                parts.append((bytes(view[ID_OFFSET:ID_END]), view[:count], size))
            view = view[count:]
        return parts

    def seal(self, run: Buffer, size: int) -> tuple[Buffer, int]:
        """Nothing is added: each connection seals its own."""
        return run, size

    def unknown_peer(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> Verdict:
        """Judge a datagram of an unknown connection."""
        if self._identity is None:
            return Drop("not listening")
        data = bytes(datagram)
        if len(data) < SHORTEST:
            return Drop("short")
        if self._own is not None and not self._own(data[ID_OFFSET:ID_END]):
            # It came joined to datagrams of a connection here. The other process may know it.
            return Drop("of another process")
        kind = data[0]
        if kind == Kind.DATA:
            if self._reset is not None and self._reset.owns(data[ID_OFFSET:ID_END]):
                return self._forgotten(self._reset, data, now)
            return self._first_data(data, address, now, table)
        if kind not in (Kind.INIT_SND, Kind.INIT_CRYPTO_SND):
            return Drop("unknown connection")
        if len(data) < self._settings.mtu:
            return Drop("short opening")
        if not table.room:
            return Drop("no room")
        record = self._half_open.get(data[ID_OFFSET:ID_END])
        if record is not None:
            if record.secrets.initiator[0] != data[ID_OFFSET:KEY_END] or record.address != address:
                return Drop("connection id taken")
            return self._answer(kind, data, record, now)
        return self._opened(self._identity, kind, data, address, now)

    def _opened(
        self, identity: KeyPair, kind: int, data: bytes, address: Address, now: int
    ) -> Verdict:
        """Somebody new."""
        if not self._limit.allow(address, now):
            return Drop("too many key exchanges")
        opening = parse_opening(data)
        try:
            early = None
            if kind == Kind.INIT_CRYPTO_SND:
                early = identity.exchange(opening.ephemeral)
                prefix = PREFIX[Kind.INIT_CRYPTO_SND]
                if Cipher(early).open(data, prefix, INITIATOR, 0) is None:
                    return Drop("not authentic")
            ephemeral = KeyPair(self._settings.entropy(32))
            shared = ephemeral.exchange(opening.ephemeral)
        except LowOrder:
            return Drop("low order")
        secrets = Secrets(
            shared,
            early,
            (opening.ephemeral, opening.identity),
            (ephemeral.public, identity.public),
        )
        record = HalfOpen(
            address,
            secrets,
            Cipher(shared),
            None if early is None else Cipher(early),
            Sealer(RESPONDER, self._settings.mtu),
            b"",
            ephemeral if self._wanted else None,
        )
        answer = Kind.INIT_RCV if early is None else Kind.INIT_CRYPTO_RCV
        record.sealer.use(answer, record.cipher, data[ID_OFFSET:ID_END], *secrets.responder)
        return self._answer(kind, data, record, now)

    def _answer(self, kind: int, data: bytes, record: HalfOpen, now: int) -> Verdict:
        """
        One datagram, much shorter than theirs: the acknowledgement that the release
        expects, and our offer of the extensions.
        """
        ack = Ack(0, 0, 0, FIRST)
        if kind == Kind.INIT_CRYPTO_SND:
            if record.opening is None:
                return Drop("connection id taken")
            opened = record.opening.open(data, PREFIX[Kind.INIT_CRYPTO_SND], INITIATOR, 0)
            plain = None if opened is None else without_fill(opened[1])
            payload = None if plain is None else decode(plain)
            if payload is None:
                return Drop("not authentic or malformed")
            segment = payload.segment
            said = segment is not None and (segment.data or segment.close)
            early = self._settings.early_data and not self._wanted
            if said and payload.ack is None and early:
                return self._early(data, record, record.opening, now)
            ack = self._acknowledgement(payload.segment)
        elif record.opening is not None:
            return Drop("connection id taken")
        record = record._replace(answer=encode(ack, self._offer))
        self._half_open.put(data[ID_OFFSET:ID_END], record, now)
        return Reply((record.datagram(),))

    def _early(self, data: bytes, record: HalfOpen, opening: Cipher, now: int) -> Verdict:
        """
        The release's dialler has something to say at once. The same opening is not
        listened to twice while it is remembered (W4).
        """
        ephemeral = data[ID_OFFSET:KEY_END]
        if ephemeral in self._heard_early:
            return Drop("early data again")
        self._heard_early[ephemeral] = None
        if len(self._heard_early) > MAX_HEARD_EARLY:
            del self._heard_early[next(iter(self._heard_early))]
        self._half_open.pop(data[ID_OFFSET:ID_END])
        engine = QOTPEngine.accept(
            data[ID_OFFSET:ID_END],
            record.address,
            self._settings,
            record.cipher,
            record.secrets,
            now,
            numbers_used=record.sealer.next,
            early=opening,
            own_id=self.new_id(),
        )
        return Admit(engine)

    def _acknowledgement(self, segment: Segment | None) -> Ack:
        """
        A PING is echoed (12.1). Early data could be a replay: it is not taken, not
        acknowledged, and comes again when the handshake is over (W4).
        """
        if segment is None or segment.data or segment.close:
            return window_ack(FIRST)
        return Ack(segment.stream, segment.offset, 0, FIRST)

    def _first_data(
        self, data: bytes, address: Address, now: int, table: SessionTable
    ) -> Verdict:
        """Whoever sends authentic Data has received our answer at its address."""
        name = data[ID_OFFSET:ID_END]
        record = self._half_open.get(name)
        if record is None:
            return Drop("unknown connection")
        if record.address != address:
            return Drop("another address")
        if record.cipher.open(data, PREFIX[Kind.DATA], INITIATOR, 0) is None:
            return Drop("not authentic")
        if not table.room:
            return Drop("no room")
        self._half_open.pop(name)
        authentication = None
        if record.ephemeral is not None:
            if not self._waiting.enter(name, address):
                return Drop("too many not authenticated")
            authentication = ResponderAuthentication(
                self._policy, record.ephemeral, lambda: self._waiting.leave(name)
            )
        engine = QOTPEngine.accept(
            name,
            address,
            self._settings,
            record.cipher,
            record.secrets,
            now,
            numbers_used=record.sealer.next,
            own_id=self.new_id(),
            authentication=authentication,
        )
        return Admit(engine)

    def continues(
        self, datagram: Buffer, address: Address, now: int, table: SessionTable
    ) -> bool:
        """An opening that was answered is here until it lapses."""
        return self._half_open.get(bytes(datagram[ID_OFFSET:ID_END])) is not None

    def _forgotten(self, reset: StatelessReset, data: bytes, now: int) -> Verdict:
        """
        Data of a connection that was here, perhaps before a restart: its dialler is told
        by a stateless reset, which is as short as anything that asks for one.
        """
        name = data[ID_OFFSET:ID_END]
        if reset.new_id(name).resets(data):
            # Of another listener with this key: it would answer ours.
            return Drop("reset")
        if not self._resets.take("all", now):
            return Drop("too many resets")
        return Reply((reset.datagram(name, self._settings.entropy(14)),))

    def new_id(self) -> NewId | None:
        """A connection id of ours, to be given to a peer; None: this socket only dials."""
        reset = self._reset
        if reset is None:
            return None
        new = reset.new_id(self._settings.entropy(5))
        while self._own is not None and not self._own(new.id):
            new = reset.new_id(self._settings.entropy(5))
        return new

    def ended(self, engine: Engine, now: int) -> None:
        """Of one that was never authenticated there is something to forget."""
        self._waiting.leave(engine.keys()[0])  # type: ignore[arg-type]

    def deadline(self) -> int | None:
        """When the oldest half-open record lapses."""
        return self._half_open.deadline()

    def tick(self, now: int) -> Sequence[tuple[bytes, Address]]:
        """Repeat answers; forget who never proved that it had one."""
        self._dropped["half_open_lapsed"] += self._half_open.lapse(now)
        return [(each.datagram(), each.address) for each in self._half_open.again(now)]

    def counters(self) -> Mapping[str, int]:
        """What was dropped before it reached a connection."""
        return {
            **self._dropped,
            "half_open": len(self._half_open),
            "not_authenticated": len(self._waiting),
        }

    def diagnosis(self) -> str | None:
        """Nothing can be told apart from an attack without answering to it."""
        return None
