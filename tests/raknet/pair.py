"""Two ends of RakNet on a scripted link, without hub, reactor or sockets."""

from __future__ import annotations

from dataclasses import replace

from tests import pair
from tests.pair import CLIENT, SERVER, Fate
from tests.raknet.frames import ZERO, Starts, startReceiver, startSender
from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import Address
from twisted_rudp.messages import Message
from twisted_rudp.raknet.demux import RakNetDemultiplexer
from twisted_rudp.raknet.engine import RakNetEngine
from twisted_rudp.raknet.offline import Request2
from twisted_rudp.raknet.settings import DEFAULT, Settings

CLIENT_GUID = 0x1111222233334444
SERVER_GUID = 0x5555666677778888

MESSAGES = replace(DEFAULT, stream=False)


class End(pair.End[RakNetEngine, RakNetDemultiplexer]):
    """One end, whose application also takes messages."""

    def __init__(
        self, whole: Pair, name: str, address: Address, demux: RakNetDemultiplexer
    ) -> None:
        super().__init__(whole, name, address, demux)
        self.messages: list[Message] = []

    def read(self, engine: RakNetEngine) -> None:
        super().read(engine)
        self.messages += engine.take_messages()


class Pair(pair.Pair[RakNetEngine, RakNetDemultiplexer]):
    """A dialler and a listener."""

    kind = RakNetEngine
    longest_run = 44
    now = 0
    client: End
    server: End

    def __init__(
        self,
        settings: Settings = DEFAULT,
        there: Fate | None = None,
        back: Fate | None = None,
        *,
        cookies: bool = True,
        own_socket: bool = True,
        starts: Starts = ZERO,
        server_settings: Settings | None = None,
    ) -> None:
        """
        @param there: fate of what the client sends; C{back}: of what it gets.
        @param starts: where the counters of both sides start.
        """
        self.settings = settings
        self.server_settings = server_settings or settings
        self.cookies = Cookies(bytes(range(32))) if cookies else None
        self.own_socket = own_socket
        self.starts = starts
        demux = RakNetDemultiplexer(
            self.server_settings,
            SERVER_GUID,
            self.accept,
            pong_data=lambda: b"\x00\x05hello",
            cookies=self.cookies,
        )
        super().__init__(
            End(self, "client", CLIENT, RakNetDemultiplexer(settings, CLIENT_GUID)),
            End(self, "server", SERVER, demux),
            there,
            back,
        )

    def accept(
        self, request: Request2, address: Address, now: int, validated: bool
    ) -> RakNetEngine:
        """What the server's demultiplexer does with a newcomer."""
        engine = RakNetEngine(
            address,
            self.server_settings,
            now=now,
            guid=SERVER_GUID,
            epoch=7_000_000,
            request=request,
            validated=validated,
        )
        return self.started(engine)

    def started(self, engine: RakNetEngine) -> RakNetEngine:
        """An engine whose counters begin where they are to."""
        if self.starts != ZERO:
            startSender(engine.sender, self.starts)
            startReceiver(engine.receiver, self.starts)
        return engine

    def dial(self, guid: int = CLIENT_GUID) -> RakNetEngine:
        """Make the client's engine and let it speak."""
        engine = RakNetEngine(
            SERVER,
            self.settings,
            now=self.now,
            guid=guid,
            epoch=3_000_000,
            own_socket=self.own_socket,
        )
        return self.begin(self.started(engine))

    def write(self, end: End, data: bytes) -> None:
        """Have one end write to the stream."""
        end.engine.write(0, data)
        end.turn(end.engine)
