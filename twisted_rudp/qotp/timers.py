"""The timers of a connection (L{twisted_rudp.core.timers.Timers}), each set by one of its parts."""

from __future__ import annotations

from typing import Final

HANDSHAKE: Final = 0
"""The initiator's: the first message is to be sent again."""

IDLE: Final = 1
"""The engine's: nothing was heard of the peer for too long."""

KEEP_ALIVE: Final = 2
"""The engine's: the peer is to be asked whether it is still there."""

LOSS: Final = 3
"""The sender's: what is suspected counts as lost."""

PROBE: Final = 4
"""The sender's: nothing was heard of what is in flight."""

PACE: Final = 5
"""The sender's: more may leave."""

PATH: Final = 6
"""The path's: a new address is to be challenged again."""

CLOSE: Final = 7
"""The close's: it is to be looked at again."""

HOLE: Final = 8
"""The engine's: a peer of the release may be waiting for a larger window."""

RAISE: Final = 9
"""The sender's: a longer datagram may be tried."""

COPY: Final = 10
"""The sender's: something is to be sent once more, in case that it is lost."""

COUNT: Final = 11
