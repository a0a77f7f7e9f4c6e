"""One of our ends and the model of the release on a scripted link."""

from __future__ import annotations

from collections.abc import Callable

from tests.pair import CLIENT, SERVER, Fate, chancy, steady
from tests.qotp.pair import End, Pair
from tests.qotp.releaseconnection import Application, ReleaseConnection
from tests.qotp.releasepeer import ReleasePeer
from twisted_rudp.core.engine import MILLISECOND, Event
from twisted_rudp.qotp.demux import QOTPDemultiplexer
from twisted_rudp.qotp.keys import KeyPair


def idle(connection: ReleaseConnection, number: int) -> None:
    """An application that does nothing."""


def sink(connection: ReleaseConnection, number: int) -> None:
    """Reads everything."""
    while connection.read(number):
        pass


def echo(connection: ReleaseConnection, number: int) -> None:
    """Writes what it reads."""
    while data := connection.read(number):
        connection.write(number, data)


GRANULARITY = MILLISECOND // 20
"""The release sends when it hears of something, at times ten times in a millisecond."""


class ReleasePair(Pair):
    """
    One of ours and one of the release.

    @ivar release: the latter.
    @ivar mine: the former.
    """

    granularity = GRANULARITY

    def __init__(
        self,
        application: Application,
        *,
        dialling: bool = False,
        there: Fate | None = None,
        back: Fate | None = None,
        **settings: object,
    ) -> None:
        super().__init__(there, back, **settings)
        identity = KeyPair.from_text("the release")
        if dialling:
            self.release = ReleasePeer(self, "client", CLIENT, identity, application)
            self.client = self.release  # type: ignore[assignment]
            self.mine = self.server
        else:
            self.release = ReleasePeer(self, "server", SERVER, identity, application)
            self.server = self.release  # type: ignore[assignment]
            self.identity = identity
            self.mine = End(self, "client", CLIENT, QOTPDemultiplexer(self.settings))
            self.client = self.mine

    def call(self, known: bool = True) -> ReleaseConnection:
        """The release dials us."""
        return self.release.dial(SERVER, self.identity.public if known else None)

    def connected(self, known: bool = True) -> ReleaseConnection:
        """We dial, and it comes about."""
        self.dial(known)
        self.until(lambda: Event.CONNECTED in self.mine.kinds())
        return self.release.connection

    def happens(self, *event: object, within: int = 60_000) -> None:
        """Wait for an event that begins so."""
        size = len(event)
        self.until(lambda: any(each[:size] == event for each in self.mine.happened), within)

    def receives(self, size: int, stream: int = 0) -> bytes:
        """Wait until our side has so much."""
        self.until(lambda: len(self.mine.streams[stream]) >= size)
        return bytes(self.mine.streams[stream])

    def delivers(self, connection: ReleaseConnection, size: int, stream: int = 0) -> bytes:
        """Wait until the release's side has so much."""
        self.until(lambda: len(connection.delivered.get(stream, b"")) >= size)
        return bytes(connection.delivered[stream])

    def close(self) -> None:
        """Our side closes."""
        self.mine.engine.close(self.now)
        self.mine.turn(self.mine.engine)

    def until(self, condition: Callable[[], bool], milliseconds: int = 60_000) -> None:
        """Let time pass until something is so."""
        for _ in range(milliseconds // 10):
            if condition():
                return
            self.run(10)
        raise AssertionError(f"not within {milliseconds} ms")


class ReleaseToRelease(Pair):
    """What the release itself does: it dials another of its kind."""

    granularity = GRANULARITY

    def __init__(
        self, application: Application, there: Fate | None = None, back: Fate | None = None
    ) -> None:
        super().__init__(there, back)
        listening = ReleasePeer(self, "server", SERVER, self.identity, application)
        dialling = ReleasePeer(self, "client", CLIENT, KeyPair.from_text("a client"), idle)
        self.server, self.client = listening, dialling  # type: ignore[assignment]
        self.listening = listening
        self.dialled = dialling.dial(SERVER, self.identity.public)


def links() -> list[tuple[Fate, Fate]]:
    """Without loss, and with more and more."""
    found = [(steady(), steady())]
    for seed in range(1, 7):
        loss = 0.02 if seed < 4 else 0.08
        found.append((chancy(loss, seed), chancy(loss, seed + 10)))
    return found
