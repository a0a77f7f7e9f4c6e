"""The timers of a session (L{twisted_rudp.core.timers.Timers}), each set by one of its parts."""

from __future__ import annotations

from typing import Final

ACK: Final = 0
"""The receiver's: acknowledgements have waited long enough."""

NACK: Final = 1
"""The receiver's: a gap has had the time to close by itself."""

LOSS: Final = 2
"""The sender's: what is suspected counts as lost."""

PROBE: Final = 3
"""The sender's: nothing was heard of what is in flight."""

FILL: Final = 4
"""The sender's: gaps that the peer may have are to be filled."""

PACE: Final = 5
"""The sender's: more may leave."""

PING: Final = 6
"""L{Liveness<twisted_rudp.raknet.engine.Liveness>}'s: ask for a sign of life."""

IDLE: Final = 7
"""The same: see whether the peer has been silent for too long."""

HANDSHAKE: Final = 8
"""The dialler's: send a request again."""

CLOSE: Final = 9
"""The close's: give it up."""

PATH: Final = 10
"""The sender's: see whether long datagrams pass."""

COPY: Final = 11
"""The sender's: something is to be sent once more, in case that it is lost."""

COUNT: Final = 12
