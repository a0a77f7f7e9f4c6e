"""What a session counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counters:
    """
    Counters of one session, read from outside.

    @ivar datagrams_sent: with frames; repeats included.
    @ivar datagrams_received: with frames; repeats included, not what was withheld.
    @ivar datagrams_withheld: not acknowledged for lack of room.
    @ivar datagrams_far: numbered beyond belief.
    @ivar datagrams_excess: above the rate that is read.
    @ivar frames_resent: reliable frames sent again.
    @ivar losses_reported: datagrams of ours the peer asked for again.
    @ivar losses_expired: datagrams of ours that timed out.
    @ivar gaps_filled: datagrams sent again under their old numbers, which the peer may
        be missing.
    @ivar messages_foreign: user messages that are not part of the stream.
    @ivar messages_stale: unreliable messages too old to be sent.
    """

    datagrams_sent: int = 0
    datagrams_received: int = 0
    datagrams_repeated: int = 0
    datagrams_withheld: int = 0
    datagrams_far: int = 0
    datagrams_excess: int = 0
    datagrams_malformed: int = 0
    frames_resent: int = 0
    frames_repeated: int = 0
    frames_malformed: int = 0
    losses_reported: int = 0
    losses_expired: int = 0
    gaps_filled: int = 0
    messages_joined: int = 0
    messages_foreign: int = 0
    messages_stale: int = 0
    messages_early_dropped: int = 0
    acknowledgements_sent: int = 0
    acknowledgements_received: int = 0
    system_ignored: int = 0
    pings_sent: int = 0
    path_errors_ignored: int = 0

    def as_dict(self) -> Mapping[str, int]:
        """All of them by name."""
        return asdict(self)
