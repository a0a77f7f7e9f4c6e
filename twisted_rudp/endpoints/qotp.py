"""
QOTP endpoints: any Twisted stream protocol over an encrypted connection with many
streams.

C{QOTPServerEndpoint(reactor, 8888, seed="...")} and C{QOTPClientEndpoint(reactor,
host, 8888, serverKey="...")} are enough. Without C{serverKey} everything is encrypted
and nobody is authenticated: an active attacker can sit in the middle. Each argument
has the same name in the endpoint strings C{qotp:...}.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from twisted_rudp.core.engine import SECOND, Address, Gate
from twisted_rudp.net.admission import Limits
from twisted_rudp.net.connecting import connect
from twisted_rudp.net.listening import DRAIN_TIMEOUT, ListeningPort, listen
from twisted_rudp.net.port import PortKind
from twisted_rudp.qotp.engine import QOTPEngine
from twisted_rudp.qotp.gate import QOTPGate
from twisted_rudp.qotp.keylog import KeyLog
from twisted_rudp.qotp.keys import KeyPair, parse_key
from twisted_rudp.qotp.life import Settings
from twisted_rudp.qotp.opening import Opening
from twisted_rudp.qotp.wire import MTU

IDLE_TIMEOUT = 30.0
"""Seconds of silence after which a peer counts as gone; it is probed at each third."""

LEAST_MTU = 508
LARGEST_MTU = 65507

Entropy = Callable[[int], bytes]


class Identity:
    """
    A private key that is read or made when it is first needed.
    """

    def __init__(
        self, seed: str | None, seedHex: str | None, keyFile: str | None, entropy: Entropy
    ) -> None:
        """
        @raise ValueError: more than one of the three is given, or C{seedHex} is no
            key.
        """
        given = [
            name
            for name, value in (("seed", seed), ("seedHex", seedHex), ("keyFile", keyFile))
            if value is not None
        ]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} cannot be given together")
        self._entropy = entropy
        self._keyFile = keyFile
        self._pair: KeyPair | None = None
        if seed is not None:
            self._pair = KeyPair.from_text(seed)
        elif seedHex is not None:
            self._pair = KeyPair.from_hex(seedHex)

    def pair(self) -> KeyPair:
        """
        @raise OSError: the key file cannot be read.
        @raise ValueError: it holds no key.
        """
        if self._pair is None:
            if self._keyFile is None:
                self._pair = KeyPair(self._entropy(32))
            else:
                self._pair = KeyPair.from_file(self._keyFile)
        return self._pair


class _Endpoint:
    """
    What both sides have in common. Nothing is opened before C{listen} or
    C{connect} (EP-4).
    """

    def __init__(
        self,
        reactor: Any,
        *,
        seed: str | None,
        seedHex: str | None,
        keyFile: str | None,
        mtu: int,
        roaming: bool,
        idleTimeout: float,
        portKind: str,
        entropy: Entropy,
        keyLog: Callable[[str], object] | None,
        earlyData: bool = False,
    ) -> None:
        self._reactor = reactor
        self._identity = Identity(seed, seedHex, keyFile, entropy)
        if not LEAST_MTU <= mtu <= LARGEST_MTU:
            raise ValueError(f"mtu={mtu!r} is not from {LEAST_MTU} to {LARGEST_MTU}")
        if idleTimeout <= 0:
            raise ValueError(f"idleTimeout={idleTimeout!r} is not a positive number of seconds")
        if portKind != "auto":
            PortKind(portKind)
        self._portKind = portKind
        self._entropy = entropy
        self._settings = Settings(
            entropy,
            mtu=mtu,
            idle_timeout=int(idleTimeout * SECOND),
            roaming=roaming,
            early_data=earlyData,
            key_log=None if keyLog is None else KeyLog(keyLog).write,
        )

    @property
    def publicKey(self) -> bytes:
        """
        Our own identity, 32 bytes, to be given to those who dial us.

        @raise OSError: the key file cannot be read.
        @raise ValueError: it holds no key.
        """
        return self._identity.pair().public

    def _dialling(
        self,
        serverKey: bytes | None,
        address: Address,
        now: int,
        *,
        ownSocket: bool,
        patient: bool = False,
    ) -> QOTPEngine:
        opening = Opening(
            KeyPair(self._entropy(32)),
            self._identity.pair(),
            serverKey,
            self._entropy,
            self._settings.mtu,
            now,
        )
        return QOTPEngine.dial(
            opening, address, self._settings, now, own_socket=ownSocket, patient=patient
        )


@implementer(IStreamServerEndpoint)
class QOTPServerEndpoint(_Endpoint):
    """
    Listens for QOTP connections.
    """

    def __init__(
        self,
        reactor: Any,
        port: int,
        *,
        interface: str = "",
        backlog: int = 128,
        maxSessions: int = 4096,
        drainTimeout: float = DRAIN_TIMEOUT,
        earlyData: bool = False,
        seed: str | None = None,
        seedHex: str | None = None,
        keyFile: str | None = None,
        mtu: int = MTU,
        roaming: bool = True,
        idleTimeout: float = IDLE_TIMEOUT,
        portKind: str = "auto",
        entropy: Entropy = os.urandom,
        keyLog: Callable[[str], object] | None = None,
    ) -> None:
        """
        @param port: 0 to 65535; 0: any free one.
        @param interface: an IP literal; C{""}: all IPv4 addresses; C{"::"}: all of
            both families.
        @param backlog: connections that have not got as far as the factory (EP-7).
        @param maxSessions: all connections.
        @param drainTimeout: seconds given to live connections when the port stops.
        @param earlyData: take what a dialler of the release says in its first
            datagram. Anybody can send that datagram again, so it must do no harm
            twice; C{transport.facts()["early"]} is true until it is certain that
            nobody did. When refused it comes again after the handshake.
        @param seed: text of which the identity key is made, as the release does; no
            stronger than the text.
        @param seedHex: the private identity key in 64 hex digits.
        @param keyFile: where it stands, as C{rudp keygen} writes it. With none of
            the three a key is made for this endpoint.
        @param mtu: longest UDP payload; the same at both ends.
        @param roaming: follow a peer whose address has changed.
        @param idleTimeout: seconds of silence until a peer counts as gone.
        @param portKind: C{auto}, C{gso}, C{plain} or C{stock}.
        @param entropy: source of random bytes.
        @param keyLog: is given lines with which anybody can decrypt the traffic.
        @raise ValueError: an argument is not right; names it.
        """
        super().__init__(
            reactor,
            seed=seed,
            seedHex=seedHex,
            keyFile=keyFile,
            mtu=mtu,
            roaming=roaming,
            idleTimeout=idleTimeout,
            portKind=portKind,
            entropy=entropy,
            keyLog=keyLog,
            earlyData=earlyData,
        )
        self._port = port
        self._interface = interface
        self._limits = Limits(backlog=backlog, maxSessions=maxSessions)
        self._drainTimeout = drainTimeout

    def __repr__(self) -> str:
        return f"<QOTPServerEndpoint {self._interface or '*'}:{self._port}>"

    def listen(self, factory: IProtocolFactory) -> defer.Deferred[IListeningPort]:
        """
        Bind at once and give each connection to a protocol of C{factory}.

        @return: fires, or fails with C{CannotListenError}, before this returns
            (EP-2).
        """
        return defer.execute(self._listen, factory)

    def _listen(self, factory: IProtocolFactory) -> ListeningPort:
        return listen(
            self._reactor,
            factory,
            QOTPGate(self._settings, self._identity.pair()),
            interface=self._interface,
            port=self._port,
            portKind=self._portKind,
            limits=self._limits,
            drainTimeout=self._drainTimeout,
        )


@implementer(IStreamClientEndpoint)
class QOTPClientEndpoint(_Endpoint):
    """
    Dials a QOTP listener.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        *,
        serverKey: str | bytes | None = None,
        timeout: float = 30,
        bindAddress: Any = None,
        seed: str | None = None,
        seedHex: str | None = None,
        keyFile: str | None = None,
        mtu: int = MTU,
        roaming: bool = True,
        idleTimeout: float = IDLE_TIMEOUT,
        portKind: str = "auto",
        entropy: Entropy = os.urandom,
        keyLog: Callable[[str], object] | None = None,
    ) -> None:
        """
        The arguments not named here are those of L{QOTPServerEndpoint}.

        @param host: a name or an IP literal.
        @param port: 1 to 65535.
        @param serverKey: the listener's public key, 32 bytes or 64 hex digits; the
            connection then is to its owner or does not come about. Without it
            nobody knows who answers.
        @param timeout: seconds to wait for the peer, per address.
        @param bindAddress: a local address, or with a port as a pair (EP-5).
        @raise ValueError: an argument is not right; names it.
        """
        super().__init__(
            reactor,
            seed=seed,
            seedHex=seedHex,
            keyFile=keyFile,
            mtu=mtu,
            roaming=roaming,
            idleTimeout=idleTimeout,
            portKind=portKind,
            entropy=entropy,
            keyLog=keyLog,
        )
        self._host = host
        self._port = port
        self._serverKey = publicKeyOf(serverKey)
        self._timeout = timeout
        self._bindAddress = bindAddress

    def __repr__(self) -> str:
        return f"<QOTPClientEndpoint {self._host}:{self._port}>"

    def connect(self, factory: IProtocolFactory) -> defer.Deferred[IProtocol]:
        """
        Dial, each attempt on a socket of its own.

        @return: fires with the protocol when the peer has answered, and with
            C{serverKey} has proved itself; fails as CONN-6 says.
        """
        return connect(
            self._reactor,
            factory,
            self._host,
            self._port,
            timeout=self._timeout,
            bindAddress=self._bindAddress,
            session=self._session,
            portKind=self._portKind,
        )

    def _session(self, address: Address, now: int) -> tuple[Gate, QOTPEngine]:
        engine = self._dialling(self._serverKey, address, now, ownSocket=True)
        return QOTPGate(self._settings), engine


def publicKeyOf(key: str | bytes | None) -> bytes | None:
    """
    A public key as 32 bytes.

    @raise ValueError: neither 32 bytes nor 64 hex digits.
    """
    if isinstance(key, str):
        return parse_key(key)
    if key is not None and len(key) != 32:
        raise ValueError("serverKey: a public key has 32 bytes")
    return key


def exportKey(transport: Any, label: bytes, context: bytes = b"", length: int = 32) -> bytes:
    """
    A secret of the connection that both ends can derive and nobody else, so that an
    application can bind its own authentication to it.

    @param transport: of a QOTP connection, or of one of its streams.
    @param label: what it is for.
    @raise TypeError: the transport is of another kind.
    """
    engine = transport.session.engine
    if not isinstance(engine, QOTPEngine):
        raise TypeError("only QOTP connections have an exporter")
    return engine.export(label, context, length)
