"""
QOTP endpoints: any Twisted stream protocol over an encrypted connection with many
streams.

C{QOTPServerEndpoint(reactor, 8888, seed="...")} and C{QOTPClientEndpoint(reactor,
host, 8888, serverKey="...")} are enough. Without C{serverKey} everything is encrypted
and nobody is authenticated: an active attacker can sit in the middle. Each argument
has the same name in the endpoint strings C{qotp:...}.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import InitVar, dataclass, replace
from typing import Any, ClassVar, Final, Self

from twisted.logger import Logger

from twisted_rudp.core.engine import Address
from twisted_rudp.core.settings import (
    FileName,
    Flag,
    HexBytes,
    InCode,
    Text,
    apply,
    option,
    option_from,
)
from twisted_rudp.endpoints.authentication import (
    AllowedKeys,
    GivenKeys,
    KeysKind,
    passwordFrom,
)
from twisted_rudp.endpoints.base import (
    ClientEndpoint,
    Endpoint,
    Entropy,
    Layer,
    ServerEndpoint,
    documented,
)
from twisted_rudp.net.udp.steering import Share, Steering
from twisted_rudp.qotp.authentication import Policy
from twisted_rudp.qotp.demux import QOTPDemultiplexer
from twisted_rudp.qotp.engine import QOTPEngine
from twisted_rudp.qotp.extensions import NewId
from twisted_rudp.qotp.handshake import InitiatorHandshake
from twisted_rudp.qotp.keys import KeyPair, parse_key
from twisted_rudp.qotp.protection import KeyLog
from twisted_rudp.qotp.settings import Congestion, Settings
from twisted_rudp.tracing.files import AppendedFile

LARGEST_KEY_LOG: Final = 64 << 20
"""Bytes to which a file with keys grows."""

_log = Logger()


def _unlogged(path: str, problem: OSError) -> None:
    _log.error("keyLogFile {path}: {reason}; no more keys are written", path=path, reason=problem)


class Identity:
    """A private key; without a source for it, one that is made when it is first needed."""

    def __init__(
        self, seed: str | None, seedHex: str | None, keyFile: str | None, entropy: Entropy
    ) -> None:
        """
        @raise ValueError: more than one of the three is given, or one holds no key.
        """
        given = [
            name
            for name, value in (("seed", seed), ("seedHex", seedHex), ("keyFile", keyFile))
            if value is not None
        ]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} cannot be given together")
        self._entropy = entropy
        self._pair: KeyPair | None = None
        self.temporary = not given
        if seed is not None:
            self._pair = KeyPair.from_text(seed)
        elif seedHex is not None:
            try:
                self._pair = KeyPair.from_hex(seedHex)
            except ValueError as error:
                raise ValueError(f"seedHex: {error}") from None
        elif keyFile is not None:
            try:
                self._pair = KeyPair.from_file(keyFile)
            except OSError as error:
                raise ValueError(f"keyFile={keyFile!r}: {error.strerror}") from None
            except ValueError as error:
                raise ValueError(
                    f"keyFile={keyFile!r}: {error}; make one with 'rudp keygen FILE'"
                ) from None

    def use(self, pair: KeyPair) -> None:
        """Replace the key by this one."""
        self._pair = pair

    def pair(self) -> KeyPair:
        """The key and what belongs to it."""
        if self._pair is None:
            self._pair = KeyPair(self._entropy(32))
        return self._pair


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class QOTPEndpoint(Endpoint):
    """
    One side of QOTP. With none of C{seed}, C{seedHex} and C{keyFile} an identity key is made
    for this endpoint.
    """

    seed: InitVar[str | None] = option(
        Text("any text"),
        None,
        "Text that the identity key is derived from, as the Go release does; no stronger than the"
        " text. In a command line everybody on the machine sees it.",
        secret=True,
    )
    seedHex: InitVar[str | None] = option(
        Text("64 hexadecimal digits"), None, "The private identity key itself.", secret=True
    )
    keyFile: str | None = option(
        FileName(),
        None,
        "File that holds the identity key; C{rudp keygen} makes such files.",
    )
    password: InitVar[str | bytes | None] = option(
        Text("any text"),
        None,
        "Password that the other end must know too, and proves before anything else is said."
        " In a command line everybody on the machine sees it.",
        secret=True,
    )
    passwordFile: str | None = option(
        FileName(), None, "File whose first line is the password."
    )
    mtu: int = option_from(Settings, "mtu")
    roaming: bool = option_from(Settings, "roaming")
    idleTimeout: float = option_from(Settings, "idleTimeout")
    keepAlive: float = option_from(Settings, "keepAlive")
    congestion: Congestion = option_from(Settings, "congestion")
    keyLog: Callable[[str], object] | None = option(
        InCode("a function of a line"),
        None,
        "Called with lines with which anybody can decrypt the traffic.",
    )
    keyLogFile: str | None = option(
        FileName(),
        None,
        "For C{rudp decode}: file to which the keys of all connections are appended. Warning:"
        " whoever has it can decrypt all that was captured, so never use it in production.",
    )

    def __post_init__(
        self, seed: str | None, seedHex: str | None, password: str | bytes | None
    ) -> None:
        super().__post_init__()
        self._identity = Identity(seed, seedHex, self.keyFile, self.entropy)
        key_log = None
        if self.keyLog is not None or self.keyLogFile is not None:
            key_log = KeyLog(self._logKeys(self.keyLog, self.keyLogFile)).write
        policy = Policy(passwordFrom(password, self.passwordFile))
        settings = Settings(self.entropy, key_log=key_log, policy=policy)
        self._settings = apply(settings, self._given())

    @staticmethod
    def _logKeys(
        function: Callable[[str], object] | None, path: str | None
    ) -> Callable[[str], object]:
        """
        What takes the lines of the key log.

        @raise ValueError: both a function and a file, or the file cannot be written.
        """
        if path is None:
            assert function is not None
            return function
        if function is not None:
            raise ValueError("keyLog and keyLogFile cannot be given together")
        try:
            file = AppendedFile(path, LARGEST_KEY_LOG, lambda problem: _unlogged(path, problem))
        except OSError as error:
            raise ValueError(f"keyLogFile={path!r}: {error.strerror}") from None
        _log.warn("{path} gets the keys of all connections: for tests only", path=path)
        return file.write

    def carryingStreams(self, layer: Layer) -> Self:
        """QOTP has streams of its own."""
        return self

    @property
    def temporaryIdentity(self) -> bool:
        """Whether the identity key is made for this endpoint only, and lost with it."""
        return self._identity.temporary

    @property
    def publicKey(self) -> bytes:
        """Our own identity, 32 bytes, to be given to those who dial us."""
        return self._identity.pair().public

    def _dial(
        self,
        serverKey: bytes | None,
        address: Address,
        now: int,
        *,
        own_socket: bool = False,
        patient: bool = False,
        own_id: NewId | None = None,
    ) -> tuple[QOTPDemultiplexer, QOTPEngine]:
        """A connection of ours, for L{QOTPEngine.dial}, and a demultiplexer that lets nobody in."""
        opening = InitiatorHandshake(
            KeyPair(self.entropy(32)),
            self._identity.pair(),
            serverKey,
            self.entropy,
            self._settings.mtu,
            now,
        )
        engine = QOTPEngine.dial(
            opening,
            address,
            self._settings,
            now,
            own_socket=own_socket,
            patient=patient,
            own_id=own_id,
        )
        return QOTPDemultiplexer(self._settings), engine


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class QOTPServerEndpoint(QOTPEndpoint, ServerEndpoint):
    """
    Listens for QOTP connections: C{QOTPServerEndpoint(reactor, port, ...)}.
    C{backlog} counts connections that have not got as far as the factory.

    Data that is taken early can be sent again by anybody, so it must do no harm twice;
    C{transport.facts()["early"]} is true until it is certain that nobody did. When refused it
    comes again after the handshake.
    """

    steering: ClassVar[Steering] = Steering.CONNECTION_ID

    allowedKeys: GivenKeys | None = option(
        KeysKind(),
        None,
        "File with the public keys of the clients that may connect, one in a line, C{#} before"
        " comments; read again when it has changed. A program may give the keys themselves. Left"
        " out: everybody may.",
    )
    earlyData: bool = option(
        Flag(),
        False,
        "Take what a dialler of the Go release says in its first datagram; it may be a replay.",
    )

    _asksKey = False

    def __post_init__(
        self, seed: str | None, seedHex: str | None, password: str | bytes | None
    ) -> None:
        super().__post_init__(seed, seedHex, password)
        allowed = None
        self._allowed = None if self.allowedKeys is None else AllowedKeys(self.allowedKeys)
        if self._allowed is not None:
            allowed = self._allowed.__contains__
        policy = replace(self._settings.policy, allowed=allowed, ask_key=self._asksKey)
        self._settings = replace(self._settings, early_data=self.earlyData, policy=policy)

    def reloadKeys(self, keys: Collection[str | bytes] | None = None) -> None:
        """
        Change the keys that may connect from now on. Who is connected stays.

        @param keys: the keys; None: read the file of C{allowedKeys} now.
        @raise RuntimeError: C{allowedKeys} was not given.
        @raise ValueError: the file cannot be read, or something is no key. Then nothing
            changes.
        """
        if self._allowed is None:
            raise RuntimeError("there are no allowedKeys to change")
        if keys is None:
            self._allowed.reload()
        else:
            self._allowed.replace(keys)

    @property
    def authenticates(self) -> bool:
        """Clients have to prove a key that is allowed, or the password."""
        policy = self._settings.policy
        return policy.required

    def share(self, share: Share) -> None:
        """See L{ServerEndpoint.share}. A temporary identity is that of all the processes."""
        super().share(share)
        if self._identity.temporary:
            self._identity.use(KeyPair(share.derive(b"identity", 32)))

    def _listeningDemux(self) -> QOTPDemultiplexer:
        own = None if self._share is None else self._share.ownsId
        return QOTPDemultiplexer(self._settings, self._identity.pair(), own=own)


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class QOTPClientEndpoint(QOTPEndpoint, ClientEndpoint):
    """Dials a QOTP listener: C{QOTPClientEndpoint(reactor, host, port, ...)}."""

    serverKey: str | bytes | None = option(
        HexBytes(32),
        None,
        "Public key of the peer, which then has to prove that it owns it. Left out: nobody is"
        " authenticated.",
    )

    def __post_init__(
        self, seed: str | None, seedHex: str | None, password: str | bytes | None
    ) -> None:
        super().__post_init__(seed, seedHex, password)
        self._serverKey = publicKeyOf(self.serverKey)

    def _diallingSession(self, address: Address, now: int) -> tuple[QOTPDemultiplexer, QOTPEngine]:
        return self._dial(self._serverKey, address, now, own_socket=True)


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
