"""Peer to peer over QOTP: one UDP socket that listens, dials, and goes through NATs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from twisted.internet import defer
from twisted.internet.error import TimeoutError as NotReachedInTime
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.core.engine import Address, Demultiplexer
from twisted_rudp.endpoints.qotp import QOTPServerEndpoint, publicKeyOf
from twisted_rudp.net.addresses import toTwisted
from twisted_rudp.net.listen import ListeningPort
from twisted_rudp.net.session import Session
from twisted_rudp.qotp.demux import QOTPDemultiplexer
from twisted_rudp.qotp.engine import QOTPEngine
from twisted_rudp.qotp.extensions import Peer


@dataclass(kw_only=True, eq=False, repr=False)
class QOTPPeer(QOTPServerEndpoint):
    """
    Listens as L{QOTPServerEndpoint} does, with the same arguments, and dials from the
    same socket. A peer that it dials with a key has proved that key, and so has a twisted_rudp
    that dials it: C{transport.facts()["peer_key_proved"]} is then true at both ends.

    @ivar port: 0 to 65535; 0, also when left out: any free one.
    """

    port: int = field(default=0, kw_only=False)

    _asksKey = True

    def __post_init__(
        self, seed: str | None, seedHex: str | None, password: str | bytes | None
    ) -> None:
        super().__post_init__(seed, seedHex, password)
        self._demux = QOTPDemultiplexer(self._settings, self._identity.pair())
        self._listening: ListeningPort | None = None
        self._switch: _Switch | None = None

    def listen(self, factory: IProtocolFactory) -> defer.Deferred[ListeningPort]:
        """
        Bind, once. Dialling is possible from then on.

        @param factory: gets the connections that others open.
        """
        return defer.execute(self._bind, factory)

    def _bind(self, factory: IProtocolFactory) -> ListeningPort:
        if self._listening is not None:
            raise RuntimeError("a peer listens once")
        self._switch = _Switch(self.reactor, factory)
        self._listening = self._listen(self._switch)
        return self._listening

    def _listeningDemux(self) -> QOTPDemultiplexer:
        return self._demux

    def connect(
        self,
        factory: IProtocolFactory,
        host: str,
        port: int,
        serverKey: str | bytes | None = None,
        timeout: float = 30,
    ) -> defer.Deferred[IProtocol]:
        """
        Dial from the peer's socket. Any number of connections may lead to one
        address, and this peer and that may dial each other at the same time.

        @return: as of L{QOTPClientEndpoint.connect
            <twisted_rudp.endpoints.qotp.QOTPClientEndpoint.connect>}.
        @raise RuntimeError: before L{listen}.
        """
        return self._connect(factory, host, port, publicKeyOf(serverKey), timeout, patient=False)

    def _connect(
        self,
        factory: IProtocolFactory,
        host: str,
        port: int,
        key: bytes | None,
        timeout: float,
        *,
        patient: bool,
    ) -> defer.Deferred[IProtocol]:
        if self._listening is None:
            raise RuntimeError("a peer dials from the socket it listens on: listen first")

        def session(address: Address, now: int) -> tuple[Demultiplexer, QOTPEngine]:
            return self._dial(key, address, now, patient=patient, own_id=self._demux.new_id())

        return self._listening.connect(factory, host, port, session=session, timeout=timeout)

    def punch(
        self,
        factory: IProtocolFactory,
        host: str,
        port: int,
        peerKey: str | bytes,
        timeout: float = 30,
    ) -> defer.Deferred[IProtocol]:
        """
        Reach a peer behind a NAT, itself behind one or not. Both sides call this at
        about the same time with each other's address as the world sees it; how they
        know it is not this protocol's business.

        Both dial, and repeat; what one sends opens its own NAT for the other. Only
        well-formed opening messages are sent (C{qotp.md} 9.3). Of the two connections
        that come about, the one dialled by the side with the smaller key is kept, so
        each side calls its factory once.

        @param host: an IP literal.
        @param peerKey: the peer's public key, which the peer has proved. A peer of the
            release that dialled cannot do that: it shows the key and is at this address.
        @return: fires with the protocol of C{factory}; fails as C{connect} does.
        @raise RuntimeError: before L{listen}.
        """
        switch = self._switch
        if switch is None:
            raise RuntimeError("a peer dials from the socket it listens on: listen first")
        theirs = publicKeyOf(peerKey) or b""
        if self.publicKey < theirs:
            switch.ignore(host, port)
            dialled = self._connect(factory, host, port, theirs, timeout, patient=True)
            return dialled.addBoth(_after(lambda: switch.forget(host, port)))
        wanted = switch.expect(host, port, theirs, factory)
        opener = self._connect(_Opener(), host, port, theirs, timeout, patient=True)
        opener.addErrback(lambda failure: None)
        timer = self.reactor.callLater(timeout, switch.giveUp, host, port)

        def arrived() -> None:
            opener.cancel()
            if timer.active():
                timer.cancel()

        return wanted.addBoth(_after(arrived))


class _Opener(Factory):
    """For a connection that was dialled only to open our NAT; it is closed at once."""

    noisy = False

    def buildProtocol(self, addr: Any) -> Protocol:
        return _Leaving()


class _Leaving(Protocol):
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


def _after(function: Callable[[], None]) -> Callable[[Any], Any]:
    def passOn(result: Any) -> Any:
        function()
        return result

    return passOn


@implementer(IProtocolFactory)
class _Switch:
    """
    Gives connections from addresses that are being punched to whom they are for, and
    all others to the peer's own factory.
    """

    def __init__(self, reactor: Any, factory: IProtocolFactory) -> None:
        self._reactor = reactor
        self._factory = factory
        self._expected: dict[tuple[str, int], _Expected] = {}
        self._ignored: set[tuple[str, int]] = set()

    def expect(
        self, host: str, port: int, key: bytes, factory: IProtocolFactory
    ) -> defer.Deferred[Any]:
        """
        @return: fires with the protocol of the next connection of that peer from there.
        """
        wanted: defer.Deferred[Any] = defer.Deferred(
            lambda _: self._expected.pop((host, port), None) and None
        )
        self._expected[host, port] = _Expected(key, factory, wanted)
        return wanted

    def ignore(self, host: str, port: int) -> None:
        """Nobody wants what comes from there."""
        self._ignored.add((host, port))

    def forget(self, host: str, port: int) -> None:
        """Connections from there are like any other again."""
        self._ignored.discard((host, port))

    def giveUp(self, host: str, port: int) -> None:
        """It has taken too long."""
        expected = self._expected.pop((host, port), None)
        if expected is not None and not expected.wanted.called:
            expected.wanted.errback(
                Failure(NotReachedInTime())  # type: ignore[no-untyped-call]
            )

    # IProtocolFactory

    def doStart(self) -> None:
        """The port listens."""
        self._factory.doStart()

    def doStop(self) -> None:
        """The port has stopped."""
        self._factory.doStop()

    def buildProtocol(self, addr: Any) -> IProtocol | None:
        """Ask the peer's own factory."""
        return self._factory.buildProtocol(addr)

    def buildProtocolFor(self, session: Session) -> IProtocol | None:
        """Ask the factory that this connection is for."""
        address = toTwisted(session.address)
        place = (address.host, address.port)
        if place in self._ignored:
            return None
        expected = self._expected.get(place)
        if expected is None or not expected.meets(session.engine.facts()):
            return self._factory.buildProtocol(address)
        del self._expected[place]
        protocol = expected.factory.buildProtocol(address)
        # Whoever waits gets a protocol that is connected.
        self._reactor.callLater(0, _fire, expected.wanted, protocol)
        return protocol


class _Expected(NamedTuple):
    """A peer that is being punched."""

    key: bytes
    factory: IProtocolFactory
    wanted: defer.Deferred[Any]

    def meets(self, facts: Mapping[str, Any]) -> bool:
        """Whether it is this peer. One of the release cannot prove that it owns its key."""
        proved = facts["peer_key_proved"] or facts["peer"] == Peer.BASELINE.name
        return bool(proved and facts["peer_key"] == self.key.hex())


def _fire(wanted: defer.Deferred[Any], result: Any) -> None:
    if not wanted.called:
        wanted.callback(result)
