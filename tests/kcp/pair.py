"""Two ends of KCP on a scripted link, without hub, reactor or sockets."""

from __future__ import annotations

from typing import Any, TypeAlias

from tests import pair
from tests.pair import CLIENT, SERVER, Fate
from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import Address
from twisted_rudp.core.lifecycle import Role
from twisted_rudp.kcp.demux import KCPDemultiplexer
from twisted_rudp.kcp.engine import KCPEngine
from twisted_rudp.kcp.settings import PROFILES, Settings

CONV = 0x01020304

End: TypeAlias = pair.End[KCPEngine, KCPDemultiplexer]


class Pair(pair.Pair[KCPEngine, KCPDemultiplexer]):
    """A client and a server."""

    kind = KCPEngine

    def __init__(
        self,
        there: Fate | None = None,
        back: Fate | None = None,
        settings: Settings | None = None,
        own_socket: bool = False,
    ) -> None:
        self.settings = settings or PROFILES["default"]
        self.cookies = Cookies(b"secret of a test" * 2)
        self.own_socket = own_socket
        client = End(self, "client", CLIENT, KCPDemultiplexer())
        super().__init__(client, End(self, "server", SERVER, self.new_demux()), there, back)

    def new_demux(self) -> KCPDemultiplexer:
        """A listening demultiplexer, as a server makes it at its start."""
        return KCPDemultiplexer(self._accept, self.cookies, self.settings.receive_window)

    def new_engine(self, side: str, *arguments: Any, **named: Any) -> KCPEngine:
        """An engine of one side."""
        return KCPEngine(*arguments, self.settings, **named)

    def _accept(self, conv: int, address: Address, now: int) -> KCPEngine:
        return self.new_engine(
            "server", conv, address, now=now, epoch=77, role=Role.SERVER, cookies=self.cookies
        )

    def dial(self, **options: Any) -> KCPEngine:
        """Make the client's engine and let it speak."""
        return self.begin(
            self.new_engine(
                "client",
                CONV,
                SERVER,
                now=self.now,
                epoch=0xFFFFFF00,
                role=Role.CLIENT,
                own_socket=self.own_socket,
                **options,
            )
        )

    def connect(self) -> None:
        """Dial, and run until both sides know of each other."""
        self.dial()
        self.run(100)
