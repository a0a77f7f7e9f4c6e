"""The timers of a session (L{twisted_rudp.core.timers.Timers}), which the engine sets."""

from __future__ import annotations

from typing import Final

FLUSH: Final = 0
"""A retransmission, a window probe, or what was held back."""

HANDSHAKE: Final = 1
"""The handshake's question is to be sent again."""

KEEP_ALIVE: Final = 2
"""The peer has been silent for a while."""

CLOSE: Final = 3
"""The close is given up, or an unmarked peer left alone."""

LIMIT: Final = 4
"""A time limit of the application's."""

TIME_WAIT: Final = 5
"""The last packet is repeated, or all is over."""

PATH: Final = 6
"""A longer datagram is to be tried."""

COUNT: Final = 7
