"""Two ends of QOTP on a scripted link, without hub, reactor or sockets."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

from tests import pair
from tests.pair import CLIENT, SERVER, Fate
from twisted_rudp.core.engine import Address, Event
from twisted_rudp.qotp.demux import QOTPDemultiplexer
from twisted_rudp.qotp.engine import QOTPEngine
from twisted_rudp.qotp.handshake import InitiatorHandshake
from twisted_rudp.qotp.keys import KeyPair, Secrets
from twisted_rudp.qotp.protection import INITIATOR, RESPONDER, Cipher
from twisted_rudp.qotp.settings import Settings
from twisted_rudp.qotp.wire import Ack, Kind, Segment, encode, prefix_of


class End(pair.End[QOTPEngine, QOTPDemultiplexer]):
    """
    One end, whose application has streams.

    @ivar streams: what each stream has brought.
    """

    def __init__(self, whole: Pair, name: str, address: Address, demux: QOTPDemultiplexer) -> None:
        super().__init__(whole, name, address, demux)
        self.streams: defaultdict[int, bytearray] = defaultdict(bytearray)

    def turn(self, engine: QOTPEngine) -> None:
        """As a hub does it: also under keys that are new."""
        super().turn(engine)
        if (Event.KEYS,) in self.happened:
            self.happened.remove((Event.KEYS,))
            self.add(engine)

    def read(self, engine: QOTPEngine) -> None:
        for stream in engine.streams:
            while data := engine.take(stream, 65536):
                self.streams[stream] += data


class Pair(pair.Pair[QOTPEngine, QOTPDemultiplexer]):
    """A client and a server."""

    kind = QOTPEngine
    client: End
    server: End

    def __init__(
        self,
        there: Fate | None = None,
        back: Fate | None = None,
        own_socket: bool = False,
        **settings: Any,
    ) -> None:
        self.random = random.Random(7)
        self.secrets: dict[bytes, Secrets] = {}
        settings.setdefault("key_log", self.secrets.__setitem__)
        self.settings = Settings(self.random.randbytes, **settings)
        self.identity = KeyPair.from_text("the server")
        self.own_socket = own_socket
        super().__init__(
            End(self, "client", CLIENT, QOTPDemultiplexer(self.settings)),
            End(self, "server", SERVER, QOTPDemultiplexer(self.settings, self.identity)),
            there,
            back,
        )

    def dial(self, known: bool = True, **options: Any) -> QOTPEngine:
        """
        Make the client's engine and let it speak.

        @param known: with the server's key.
        """
        opening = InitiatorHandshake(
            KeyPair(self.random.randbytes(32)),
            KeyPair.from_text("the client"),
            self.identity.public if known else None,
            self.random.randbytes,
            self.settings.mtu,
            self.now,
        )
        return self.begin(
            QOTPEngine.dial(
                opening, SERVER, self.settings, self.now, own_socket=self.own_socket, **options
            )
        )

    def forge(self, end: End, ack: Ack | None, segment: Segment | None, number: int = 0) -> bytes:
        """
        A Data datagram as C{end} could have sent it.

        @param number: the packet number, counted from the next.
        """
        name, secrets = next(iter(self.secrets.items()))
        number += end.engine.counters()["datagrams_out"]
        mine = end is self.client
        keys = secrets.initiator if mine else secrets.responder
        prefix = prefix_of(Kind.DATA, name, *keys)
        direction = INITIATOR if mine else RESPONDER
        return Cipher(secrets.session).seal(prefix, number, direction, encode(ack, segment))

    def connect(self, known: bool = True) -> None:
        """Dial, and run until both sides know of each other."""
        self.dial(known)
        self.run(200)

    def exchange(self, size: int) -> bool:
        """
        Dial, and send random bytes both ways over links that may lose some.

        @return: both ends have what the other one wrote.
        """
        self.dial()
        self.run(3000)
        data = random.Random(3).randbytes(size)
        client, server = self.client, self.server
        for end, written in ((client, data), (server, data[::-1])):
            end.engine.write(0, written)
            end.turn(end.engine)
        for _ in range(400):
            self.run(50)
            if len(client.streams[0]) + len(server.streams[0]) == 2 * size:
                break
        return server.streams[0] == data and client.streams[0] == data[::-1]
