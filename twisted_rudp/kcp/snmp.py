"""kcp-go's counters under their own names (kcp.md 6): of a session, of a socket, of the process."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from twisted_rudp.kcp.fec import Decoder
from twisted_rudp.kcp.wire import Counters

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


@dataclass(slots=True)
class SessionCounters:
    """
    What a session counts beside its ARQ. It outlives the session, so that the
    sums do not shrink.

    @ivar sums: those that count the session as established.
    """

    arq: Counters
    passive: bool
    decoder: Decoder | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    in_pkts: int = 0
    in_bytes: int = 0
    out_pkts: int = 0
    out_bytes: int = 0
    oob_packets: int = 0
    sums: tuple[SNMPCounters, ...] = ()

    def end(self) -> None:
        """The session is established no more."""
        for snmp in self.sums:
            snmp.established -= 1
        self.sums = ()

    def by_name(self) -> dict[str, int]:
        """All that only grows, under kcp-go's names."""
        arq = self.arq
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


class Source(Protocol):
    """
    A session, as the sums see it.

    @ivar traffic: what it counts.
    """

    traffic: SessionCounters

    def gauges(self) -> Mapping[str, int]:
        """Its present state under kcp-go's names; C{CurrEstab} is 0 once it is over."""


class SNMPCounters:
    """
    The sums over sessions, living and gone.

    @param parent: is told everything too.
    @ivar established: sessions that have begun and not ended.
    """

    def __init__(self, parent: SNMPCounters | None = None) -> None:
        self._parent = parent
        self._live: dict[weakref.ref[Source], SessionCounters] = {}
        # One for all sessions: each look-up of a method makes a new object.
        self._leave = self._left
        self._gone: dict[str, int] = {}
        self._base: dict[str, int] = {}
        self.established = 0
        self._most = 0

    def enter(self, source: Source) -> None:
        """A session begins. It is counted as long as anybody has it."""
        snmp: SNMPCounters | None = self
        while snmp is not None:
            snmp._live[weakref.ref(source, snmp._leave)] = source.traffic
            snmp.established += 1
            snmp._most = max(snmp._most, snmp.established)
            source.traffic.sums += (snmp,)
            snmp = snmp._parent

    def _left(self, source: weakref.ref[Source]) -> None:
        """Nobody has a session any more: keep its sums."""
        traffic = self._live.pop(source)
        traffic.end()
        _add(self._gone, traffic.by_name())

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
        for reference, traffic in list(self._live.items()):
            _add(sums, traffic.by_name())
            source = reference()
            if source is not None:
                gauges = source.gauges()
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
