"""kcp-go's counters under their own names (kcp.md 6): of a session, of a socket, of the process."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass

from twisted_rudp.core.serial import MASK32
from twisted_rudp.kcp.arq import ARQ
from twisted_rudp.kcp.fec import Decoder

NAMES = (
    "BytesSent", "BytesReceived", "MaxConn", "ActiveOpens", "PassiveOpens", "CurrEstab",
    "InErrs", "InCsumErrors", "KCPInErrors", "InPkts", "OutPkts", "InSegs", "OutSegs",
    "InBytes", "OutBytes", "RetransSegs", "FastRetransSegs", "EarlyRetransSegs", "LostSegs",
    "RepeatSegs", "FECFullShardSet", "FECParityShards", "FECErrs", "FECRecovered",
    "FECShardSet", "FECShardMin", "RingBufferSndQueue", "RingBufferRcvQueue",
    "RingBufferSndBuffer", "OOBPackets",
)  # fmt: skip
"""In the order in which kcptun writes them."""

GAUGES = frozenset(
    {
        "MaxConn",
        "CurrEstab",
        "FECShardSet",
        "FECShardMin",
        "RingBufferSndQueue",
        "RingBufferRcvQueue",
        "RingBufferSndBuffer",
    }
)
"""They tell a present state, so a reset leaves them alone."""


@dataclass(slots=True, eq=False)
class SessionCounters:
    """
    What a session counts beside its ARQ. It outlives the session, so that the
    sums do not shrink.

    @ivar arq: of the session, whose counters and queues are shown.
    @ivar sums: those that count the session as established.
    """

    arq: ARQ
    passive: bool
    decoder: Decoder | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    in_pkts: int = 0
    in_bytes: int = 0
    out_pkts: int = 0
    out_bytes: int = 0
    oob_packets: int = 0
    over: bool = False
    sums: tuple[SNMPCounters, ...] = ()

    def end(self) -> None:
        """The session is established no more."""
        self.over = True
        for snmp in self.sums:
            snmp.established -= 1
        self.sums = ()

    def by_name(self) -> dict[str, int]:
        """All that only grows, under kcp-go's names."""
        arq = self.arq.counters
        found = {
            "BytesSent": self.bytes_sent,
            "BytesReceived": self.bytes_received,
            "ActiveOpens": int(not self.passive),
            "PassiveOpens": int(self.passive),
            "KCPInErrors": arq.kcp_in_errors,
            "InPkts": self.in_pkts,
            "OutPkts": self.out_pkts,
            "InSegs": arq.in_segs,
            "OutSegs": arq.out_segs,
            "InBytes": self.in_bytes,
            "OutBytes": self.out_bytes,
            "RetransSegs": arq.retrans_segs,
            "FastRetransSegs": arq.fast_retrans_segs,
            "EarlyRetransSegs": arq.early_retrans_segs,
            "LostSegs": arq.lost_segs,
            "RepeatSegs": arq.repeat_segs,
            "OOBPackets": self.oob_packets,
        }
        decoder = self.decoder
        if decoder is not None:
            found["FECFullShardSet"] = decoder.full_sets
            found["FECParityShards"] = decoder.parity_shards
            found["FECErrs"] = decoder.errors
            found["FECRecovered"] = decoder.recovered
        return found

    def gauges(self) -> dict[str, int]:
        """The present state under kcp-go's names; C{CurrEstab} is 0 once the session is over."""
        arq, decoder = self.arq, self.decoder
        in_flight = (arq.snd_nxt - arq.snd_una) & MASK32
        return {
            "CurrEstab": int(not self.over),
            "FECShardSet": decoder.groups_held if decoder else 0,
            "FECShardMin": decoder.newest_group if decoder else 0,
            "RingBufferSndQueue": arq.sender.wait_snd - in_flight,
            "RingBufferRcvQueue": arq.receiver.queue.segments,
            "RingBufferSndBuffer": in_flight,
        }


class Registration:
    """
    What a session keeps as long as it wants to be counted. Sessions themselves cannot be
    referred to weakly where they are compiled; this module is not.
    """

    __slots__ = ("__weakref__",)


class SNMPCounters:
    """
    The sums over sessions, living and gone.

    @param parent: is told everything too.
    @ivar established: sessions that have begun and not ended.
    """

    def __init__(self, parent: SNMPCounters | None = None) -> None:
        self._parent = parent
        self._live: dict[weakref.ref[Registration], SessionCounters] = {}
        # One for all sessions: each look-up of a method makes a new object.
        self._leave = self._left
        self._gone: dict[str, int] = {}
        self._base: dict[str, int] = {}
        self.established = 0
        self._most = 0

    def add(self, session: SessionCounters) -> Registration:
        """
        A session begins.

        @return: it is counted as long as somebody has this.
        """
        registration = Registration()
        snmp: SNMPCounters | None = self
        while snmp is not None:
            snmp._live[weakref.ref(registration, snmp._leave)] = session
            snmp.established += 1
            snmp._most = max(snmp._most, snmp.established)
            session.sums += (snmp,)
            snmp = snmp._parent
        return registration

    def _left(self, registration: weakref.ref[Registration]) -> None:
        """Nobody has a session any more: keep its sums."""
        session = self._live.pop(registration)
        session.end()
        _add(self._gone, session.by_name())

    def count(self, name: str, count: int = 1) -> None:
        """Something happened that belongs to no session."""
        snmp: SNMPCounters | None = self
        while snmp is not None:
            _add(snmp._gone, {name: count})
            snmp = snmp._parent

    def snapshot(self) -> dict[str, int]:
        """All counters, in kcp-go's order."""
        sums = dict(self._gone)
        newest = 0
        for session in list(self._live.values()):
            _add(sums, session.by_name())
            gauges = session.gauges()
            _add(sums, gauges)
            newest = max(newest, gauges["FECShardMin"])
        # The number of a group, not a count: a sum would mean nothing.
        sums["FECShardMin"] = newest
        sums["MaxConn"] = self._most
        return {
            name: sums.get(name, 0) - (0 if name in GAUGES else self._base.get(name, 0))
            for name in NAMES
        }

    def reset(self) -> None:
        """Count from 0 again, here and nowhere else."""
        now = self.snapshot()
        _add(self._base, {name: now[name] for name in NAMES if name not in GAUGES})
        self._most = self.established


def _add(sums: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        sums[name] = sums.get(name, 0) + count


process = SNMPCounters()
"""Of all KCP sessions in this process, as kcp-go's C{DefaultSnmp}."""
