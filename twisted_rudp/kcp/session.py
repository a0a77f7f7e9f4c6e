"""
A KCP session whole: the engine, and around it what kcp-go's session has beside
its ARQ (kcp.md 2 and 5): FEC, out-of-band messages, pacing, time limits,
counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from twisted_rudp.core.engine import MILLISECOND, SECOND, Address, Buffer, Emit, Event, Reason
from twisted_rudp.core.serial import MASK32
from twisted_rudp.kcp.aside import Aside
from twisted_rudp.kcp.demux import CONV_SIZE
from twisted_rudp.kcp.engine import KCPEngine
from twisted_rudp.kcp.fec import DATA, KIND_OFFSET, OUT_OF_BAND, Piece, is_framed
from twisted_rudp.kcp.framing import Framing
from twisted_rudp.kcp.life import Life, Role
from twisted_rudp.kcp.mismatch import MismatchSigns
from twisted_rudp.kcp.runs import RunWriter
from twisted_rudp.kcp.settings import SessionOptions, Settings, reconfigure
from twisted_rudp.kcp.snmp import SessionCounters, SNMPCounters
from twisted_rudp.kcp.throttle import Throttle
from twisted_rudp.kcp.wire import HEADER_SIZE
from twisted_rudp.messages import Delivery, Message

PLAIN = SessionOptions()

# A name of this module: it is needed several times for each run.
_LIVE = Life.LIVE


class KCPSession(KCPEngine):
    """
    A session as kcp-go has it.

    @ivar traffic: what is counted beside the ARQ.
    """

    __slots__ = (
        "__weakref__",
        "_aside",
        "_bare",
        "_emit",
        "_framing",
        "_hold_until",
        "_options",
        "_over",
        "_patient",
        "_read_since",
        "_receiver",
        "_sealing",
        "_signs",
        "_throttle",
        "_write_since",
        "traffic",
    )

    def __init__(
        self,
        conv: int,
        address: Address,
        settings: Settings,
        *,
        now: int,
        role: Role,
        options: SessionOptions = PLAIN,
        overhead: int = 0,
        snmp: SNMPCounters | None = None,
        signs: MismatchSigns | None = None,
        over: Callable[[tuple[Address, int]], None] | None = None,
        **named: Any,
    ) -> None:
        """
        @param settings: the ARQ's; C{mtu} without C{overhead} and FEC.
        @param overhead: bytes that the demultiplexer adds to each datagram.
        @param snmp: is to count this session.
        @param signs: is told what seems not to fit.
        @param over: is told the key of the session when it has ended.
        @param named: as L{KCPEngine} has it.
        """
        self._aside = Aside(conv)
        self._over = over
        super().__init__(
            conv,
            address,
            settings,
            now=now,
            role=role,
            overhead=overhead + options.overhead,
            **named,
        )
        self._set_options(options)
        self._receiver = self._arq.receiver
        self._sealing = overhead
        self._signs = signs or MismatchSigns()
        self._emit: Emit | None = None
        self._throttle = Throttle(options.rate_limit, now) if options.rate_limit else None
        self._hold_until: int | None = None
        self._read_since: int | None = None
        self._write_since: int | None = None
        listening = role is Role.LISTENER
        self.traffic = SessionCounters(self._arq.counters, listening)
        self._framing = Framing(options, listening, address, self._signs, self.traffic)
        if snmp is not None:
            snmp.enter(self)

    def _set_options(self, options: SessionOptions) -> None:
        self._options = options
        self._patient = options.write_delay or not options.ack_no_delay
        # Most sessions have none of what a flush would have to do for these.
        self._bare = not (options.protects or options.dup or options.write_timeout)

    # wire -> engine

    def receive(
        self, run: Buffer, size: int, address: Address, now: int, regular: bool = True
    ) -> None:
        """Digest a run: all bare datagrams or all with FEC, whatever is sent here."""
        traffic = self.traffic
        length = len(run)
        traffic.in_pkts += 1 if length <= size else -(-length // size)
        traffic.in_bytes += length
        kind = run[KIND_OFFSET]
        pieces: Sequence[Piece]
        if kind < DATA or not is_framed(run):
            if self._framing.encoder is not None:
                self._framing.note_bare()
            pieces = ((run, size, regular),)
        elif kind == OUT_OF_BAND:
            self._hear_aside(memoryview(run), size)
            return
        else:
            pieces = self._framing.decode(run, size)
        arq = self._arq
        errors = arq.counters.kcp_in_errors
        clock = (self._epoch + now // MILLISECOND) & MASK32
        for piece, length, whole in pieces:
            if self._tombstone is not None:
                self._tombstone.receive(piece, length, now)
                continue
            self._heed_news(arq.input(piece, length, clock, whole), now)
            if arq.counters.kcp_in_errors != errors:
                errors = arq.counters.kcp_in_errors
                self._signs.unread(piece[:length], address)
        if self._options.read_timeout and self._tombstone is None and arq.readable:
            self._read_since = now

    def _hear_aside(self, view: memoryview, size: int) -> None:
        if self._tombstone is not None or self._closing is not None:
            return
        self.traffic.oob_packets += self._aside.hear(view, size)
        if self._life is Life.LIVE:
            self._events.append((Event.READABLE, None))

    def _enter(self, life: Life) -> None:
        super()._enter(life)
        if life is Life.FAREWELL or life is Life.ENDED:
            self.traffic.end()
            if self._over is not None:
                self._over(self.key)

    def _connected(self) -> None:
        super()._connected()
        if self._aside.heard:
            self._events.append((Event.READABLE, None))

    # time

    def tick(self, now: int) -> None:
        """As the engine's, and the application's own time limits."""
        super().tick(now)
        if self._life is Life.LIVE:
            for since, limit, what in self._limits():
                if now >= since + limit:
                    text = f"nothing {what} for {limit / SECOND:g} seconds"
                    self._end(Reason.IDLE, now, tell=True, detail=text)
                    return

    def deadline(self) -> int | None:
        """As the engine's, and the application's own time limits."""
        due = KCPEngine.deadline(self)
        options = self._options
        if (options.read_timeout or options.write_timeout) and self._life is Life.LIVE:
            for since, limit, _ in self._limits():
                due = since + limit if due is None else min(due, since + limit)
        return due

    def _limits(self) -> list[tuple[int, int, str]]:
        options = self._options
        found = []
        if options.read_timeout and self._read_since is not None:
            found.append((self._read_since, options.read_timeout, "came"))
        if options.write_timeout and self._write_since is not None:
            since = max(self._write_since, self._una_moved)
            found.append((since, options.write_timeout, "of what was written was acknowledged"))
        return found

    # application -> wire

    def write(self, stream: int, data: bytes) -> None:
        """Queue bytes."""
        self._arq.write(data)
        self.traffic.bytes_sent += len(data)

    def send(
        self,
        data: bytes,
        delivery: Delivery = Delivery.RELIABLE_ORDERED,
        channel: int = 0,
        priority: int = 0,
        receipt: bool = False,
    ) -> int | None:
        """
        Queue a message. With FEC also C{OUT_OF_BAND}: once, unordered, perhaps
        lost (kcp.md 5.5).
        """
        if delivery is not Delivery.OUT_OF_BAND:
            super().send(data, delivery, channel, priority, receipt)
            self.traffic.bytes_sent += len(data)
            return None
        if self._framing.encoder is None:
            raise ValueError("OUT_OF_BAND: KCP has it with FEC only: give dataShards, parityShards")
        if channel or priority or receipt:
            raise ValueError("channel, priority, receipt: KCP has none of them")
        self._aside.say(data, self._arq.settings.mtu - CONV_SIZE)
        return None

    # wire -> application

    def take(self, stream: int, limit: int) -> bytes:
        """The next bytes in order."""
        receiver = self._receiver
        if not receiver.inbox.segments and not self._end_heard:
            # So ends every delivery.
            return b""
        data = receiver.take(limit)
        if self._end_heard and self._arq.end_received:
            self._tell_end()
        if data:
            traffic = self.traffic
            if not traffic.bytes_received and self._closing is None:
                self._signs.first_bytes(data, self._address)
            traffic.bytes_received += len(data)
        return data

    def take_messages(self) -> Iterator[Message]:
        """Messages: those out of band first."""
        heard = self._aside.heard
        while heard:
            yield Message(heard.pop(0), Delivery.OUT_OF_BAND)
        if self._settings.stream:
            return
        for message in super().take_messages():
            self.traffic.bytes_received += len(message.data)
            yield message

    # out

    def flush(self, now: int, emit: Emit, budget: int) -> bool:
        """Send what can be sent now and may be."""
        self._emit = emit
        if self._life is _LIVE:
            if self._read_since is None:
                self._read_since = now
            if self._patient and self._holds(now):
                if self._options.ack_no_delay and self._arq.waiting_acks:
                    self._flush_framed(now, 0)
                assert self._hold_until is not None
                self._flush_at = min(self._flush_at, self._hold_until)
                return False
        if self._throttle is not None and self._tombstone is None:
            return self._flush_throttled(self._throttle, now, budget)
        if self._bare:
            return self._flush(now, self._out, self._out_own, budget)
        return self._flush_framed(now, budget)

    def _flush_throttled(self, throttle: Throttle, now: int, budget: int) -> bool:
        allowance = throttle.allowance(now)
        if allowance <= 0:
            self._flush_at = throttle.ready(now)
            return False
        before = self.traffic.out_bytes
        more = self._flush_framed(now, min(budget, allowance))
        throttle.spend(self.traffic.out_bytes - before)
        if more and allowance <= budget:
            self._flush_at = min(self._flush_at, throttle.ready(now))
            return False
        return more

    def _flush_framed(self, now: int, budget: int) -> bool:
        """Flush the engine, through FEC if that is on."""
        framing = self._framing
        options = self._options
        copies = 1 + options.dup if self.validated else 1
        if framing.encoder is None and copies == 1:
            more = self._flush(now, self._out, self._out_own, budget)
        else:
            writer = RunWriter(self._out_own, self._sealing)

            def frame(run: Buffer, size: int, address: Address) -> bool:
                return framing.write(run, size, now, writer, self.validated, copies)

            if self.validated:
                self._aside.flush(writer)
            more = super().flush(now, frame, budget)
            writer.flush()
        if options.write_timeout:
            if not self._arq.wait_snd:
                self._write_since = None
            elif self._write_since is None:
                self._write_since = now
        return more

    def _out(self, run: Buffer, size: int, address: Address) -> bool:
        # The engine of KCP sends to one address.
        return self._out_own(run, size)

    def _out_own(self, run: Buffer, size: int) -> bool:
        traffic = self.traffic
        length = len(run)
        count = 1 if length <= size else -(-length // size)
        traffic.out_pkts += count
        traffic.out_bytes += length + count * self._sealing
        assert self._emit is not None
        return self._emit(run, size, self._address)

    def _holds(self, now: int) -> bool:
        """
        Whether what there is to send is to wait for company: written data with
        C{write_delay} while it does not fill the window, acknowledgements
        without C{ack_no_delay} while they do not fill a datagram.
        """
        options, arq = self._options, self._arq
        if arq.unsent:
            waits = options.write_delay and arq.wait_snd < self._settings.sndwnd
        else:
            acks = arq.waiting_acks
            waits = not options.ack_no_delay and 0 < acks < self._settings.mtu // HEADER_SIZE
        if not waits or self._hello.due is not None or now >= self._flush_at:
            self._hold_until = None
            return False
        if self._hold_until is None:
            self._hold_until = now + self._settings.interval * MILLISECOND
        return True

    # state

    def gauges(self) -> Mapping[str, int]:
        """The present state under kcp-go's names."""
        arq, decoder = self._arq, self._framing.decoder
        in_flight = (arq.snd_nxt - arq.snd_una) & MASK32
        return {
            "CurrEstab": int(self._tombstone is None),
            "FECShardSet": decoder.groups_held if decoder else 0,
            "FECShardMin": decoder.newest_group if decoder else 0,
            "RingBufferSndQueue": arq.wait_snd - in_flight,
            "RingBufferRcvQueue": max(0, self._settings.rcvwnd - arq.wnd),
            "RingBufferSndBuffer": in_flight,
        }

    def counters(self) -> Mapping[str, int]:
        """kcp-go's counters under its names, then those it does not have."""
        own = self._arq.counters
        return {
            **self.traffic.by_name(),
            **self.gauges(),
            "bad_resets": own.bad_resets,
            "data_after_end": own.data_after_end,
            "second_ends": own.second_ends,
            "unmarked_ends": own.unmarked_ends,
            "una_beyond": own.una_beyond,
            "path_errors_ignored": self._refused_by_path,
        }

    def facts(self) -> Mapping[str, Any]:
        """
        As the engine's, and the FEC in use; C{oob_max} is the longest message out of
        band, 0 where there are none.
        """
        facts = dict(super().facts())
        options, decoder = self._options, self._framing.decoder
        facts["fec_out"] = f"{options.data_shards}+{options.parity_shards}"
        facts["fec_in"] = f"{decoder.data}+{decoder.parity}" if decoder else None
        has_fec = self._framing.encoder is not None
        facts["oob_max"] = self._arq.settings.mtu - CONV_SIZE if has_fec else 0
        return facts

    def configure(self, changes: Mapping[str, Any], now: int) -> None:
        """
        Change settings while the session runs, all but C{mode} and the shards, by
        the names they have for people.

        @param changes: the time limits are seconds.
        @param now: nanoseconds.
        @raise ValueError: a name is not known or cannot be changed, or a value
            is out of its range. Then nothing is changed.
        """
        headers = self._options.overhead + self._sealing
        self._settings, options = reconfigure(changes, self._settings, self._options, headers)
        paced = self._options
        self._set_options(options)
        self._arq.adopt(self._settings)
        if options.rate_limit != paced.rate_limit:
            self._throttle = Throttle(options.rate_limit, now) if options.rate_limit else None
        if options.read_timeout != paced.read_timeout:
            self._read_since = now
        if self._framing.encoder is not None:
            self._framing.encoder.always = options.always_parity
        self._flush_at = min(self._flush_at, now)
