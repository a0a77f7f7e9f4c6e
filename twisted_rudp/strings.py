"""
From an endpoint description to an endpoint: everything a person may type behind
C{kcp:}, and the only place where it is checked.

Each argument is declared once, as an L{Argument} in a table; a L{Transport}
joins the tables with the names of its endpoint classes, and L{EndpointParser}
works from that. Another transport is another L{Transport}.

Parsing constructs an endpoint and does nothing else (STR-8). The transport's
code is imported inside the parse (STR-9).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from twisted.internet.interfaces import (
    IReactorCore,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer

from twisted_rudp.arguments import (
    Argument,
    address,
    boolean,
    decimal,
    hexadecimal,
    integer,
    oneOf,
    publicKey,
    secret,
    shortText,
    text,
)


@dataclass(frozen=True)
class Role:
    """
    One side of a transport: what may be written for it and what it makes.

    @ivar endpoint: name of the endpoint class in the transport's module.
    @ivar positional: arguments that may be given without their names, in this
        order; all of them in front are required, as many as C{required} says.
    @ivar required: how many of C{positional} must be given.
    """

    endpoint: str
    positional: tuple[str, ...]
    required: int
    arguments: tuple[Argument, ...]

    def table(self) -> Mapping[str, Argument]:
        """
        The arguments by name.
        """
        return {argument.name: argument for argument in self.arguments}


@dataclass(frozen=True)
class Transport:
    """
    A transport as strings see it.

    @ivar module: where its endpoint classes are; imported at the first parse.
    """

    prefix: str
    module: str
    server: Role
    client: Role


@implementer(
    IPlugin,
    IStreamServerEndpointStringParser,
    IStreamClientEndpointStringParserWithReactor,
)
class EndpointParser:
    """
    Makes the server and client endpoints of one transport from what
    C{serverFromString} and C{clientFromString} split at the colons.

    Every error is a C{ValueError} that names the transport, the argument, the
    value and what would be right (STR-4).
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.prefix = transport.prefix

    def parseStreamServer(
        self, reactor: IReactorCore, *args: object, **kwargs: object
    ) -> IStreamServerEndpoint:
        """
        @raise ValueError: something in the description is not right.
        """
        endpoint: IStreamServerEndpoint = self._construct("server", reactor, args, kwargs)
        return endpoint

    def parseStreamClient(
        self, reactor: IReactorCore, *args: object, **kwargs: object
    ) -> IStreamClientEndpoint:
        """
        @raise ValueError: something in the description is not right.
        """
        endpoint: IStreamClientEndpoint = self._construct("client", reactor, args, kwargs)
        return endpoint

    def _construct(
        self,
        side: str,
        reactor: IReactorCore,
        args: Sequence[object],
        kwargs: Mapping[str, object],
    ) -> Any:
        role = self._role(side)
        named = self._named(
            role,
            [str(value) for value in args],
            {name: str(value) for name, value in kwargs.items()},
        )
        values = self._values(side, named)
        constructor = getattr(import_module(self.transport.module), role.endpoint)
        leading = [values.pop(name) for name in role.positional[: role.required]]
        try:
            return constructor(reactor, *leading, **values)
        except ValueError as error:
            raise self._error(str(error)) from None

    def _role(self, side: str) -> Role:
        return self.transport.server if side == "server" else self.transport.client

    def _named(
        self, role: Role, args: Sequence[str], kwargs: Mapping[str, str]
    ) -> Mapping[str, str]:
        """
        Give the positional arguments their names.
        """
        positional = [] if list(args) == [""] else list(args)
        if len(positional) > len(role.positional) or "" in positional:
            raise self._error(
                f"only {' and '.join(role.positional)} may stand without a name, in this"
                r" order; a ':' inside a value, as in an IPv6 address, is written '\:'"
            )
        named = dict(zip(role.positional, positional, strict=False))
        twice = sorted(named.keys() & kwargs.keys())
        if twice:
            raise self._error(f"{twice[0]} is given twice, with and without its name")
        named.update(kwargs)
        for name in role.positional[: role.required]:
            if name not in named:
                raise self._error(
                    f"{name} is missing: {role.table()[name].expected} is required"
                )
        return named

    def _values(self, side: str, named: Mapping[str, str]) -> dict[str, Any]:
        """
        Convert every argument; what is not given is left to the constructor.
        """
        table = self._role(side).table()
        values = {}
        for name, given in named.items():
            argument = table.get(name)
            if argument is not None:
                try:
                    values[name] = argument.convert(given)
                except ValueError:
                    shown = name if argument.secret else f"{name}={given!r}"
                    raise self._error(
                        f"{shown} is not right: {argument.expected} is expected"
                    ) from None
            else:
                raise self._error(self._unknown(side, name))
        return values

    def _unknown(self, side: str, name: str) -> str:
        other = "client" if side == "server" else "server"
        if name in self._role(other).table():
            return f"{name} is an argument of the {other} endpoint, not of the {side}"
        known = list(self._role(side).table())
        lowered = {candidate.lower(): candidate for candidate in known}
        near = get_close_matches(name.lower(), lowered, n=1)
        if near:
            return f"unknown argument {name!r}; did you mean {lowered[near[0]]}?"
        return f"unknown argument {name!r}; known are {', '.join(known)}"

    def _error(self, problem: str) -> ValueError:
        return ValueError(f"{self.prefix}: {problem}")




_port = integer("port", 0, 65535, "UDP port to listen on; 0 lets the system choose one")
_interface = address("interface", "local address to listen on; all of IPv4 when left out")
_backlog = integer("backlog", 1, 65535, "sessions whose peer has not answered yet")
_maxSessions = integer("maxSessions", 1, 1_000_000, "sessions at one time, proved or not")
_drainTimeout = decimal(
    "drainTimeout", 0, 3600, "seconds that live sessions are given when the port stops listening"
)
_host = text("host", "name or address of the peer")
_peerPort = integer("port", 1, 65535, "UDP port of the peer")
_timeout = decimal("timeout", 0.001, 3600, "seconds to wait for the peer while connecting")
_bindAddress = address("bindAddress", "local address to send from")
_idleTimeout = decimal(
    "idleTimeout", 0.1, 604800, "seconds without a word from the peer until it counts as gone"
)
_portKind = oneOf(
    "portKind",
    ("auto", "gso", "plain", "stock"),
    "how the socket is read and written: C{gso} with the kernel's segmentation, C{plain} "
    "without it, C{stock} by Twisted's own UDP port, C{auto} the best that works",
)

_PROFILED = tuple(
    replace(argument, profiled=True)
    for argument in (
        integer("nodelay", 0, 2, "how eagerly lost segments are sent again"),
        integer("interval", 10, 5000, "milliseconds between two looks at the timers"),
        integer("resend", 0, 1000, "later acknowledgements that make a segment lost; 0: never"),
        boolean("nc", "no congestion window: send what both windows allow"),
        integer("sndwnd", 1, 65535, "send window in segments"),
        integer("rcvwnd", 1, 65535, "receive window in segments"),
        oneOf(
            "congestion",
            ("tolerant", "kcp-go"),
            "how the congestion window is judged where C{nc} is not set",
        ),
        integer(
            "deadLink", 0, 1_000_000, "end when one segment was sent so often; 0: never, the best"
        ),
    )
)

_KCP_PROTECTION = (
    oneOf(
        "crypt",
        (
            "null",
            "none",
            "aes",
            "aes-128",
            "aes-192",
            "aes-128-gcm",
            "aes-192-gcm",
            "aes-256-gcm",
            "sm4",
            "blowfish",
            "cast5",
            "3des",
            "xor",
            "salsa20",
            "twofish",
            "tea",
            "xtea",
        ),
        "cipher, by kcptun's name; C{aes} when there is a key and this is left out; the last four "
        "are computed in Python and slow",
    ),
    secret("key", "hexadecimal digits", "the key itself; everybody on the machine sees it in ps"),
    secret("password", "any text", "what kcptun calls C{key}; the key is made from it"),
    text("keyFile", "file that holds the key in hexadecimal digits", "the name of a file"),
    integer("dataShards", 0, 255, "data packets of an FEC group; 0: send without FEC"),
    integer("parityShards", 0, 255, "parity packets of an FEC group"),
    boolean("alwaysParity", "send parity after pauses too, as kcp-go did until 5.6.5"),
)

_KCP_SESSION = (
    oneOf(
        "profile",
        ("default", "normal", "fast", "fast2", "fast3"),
        "named set of the numbers that follow; all but C{default} are kcptun's",
    ),
    *_PROFILED,
    integer(
        "mtu", 25, 65507, "longest UDP payload in bytes; kcp-go reads 1500, since 5.7 it reads 1472"
    ),
    oneOf("mode", ("stream", "messages"), "bytes without borders, or messages that keep theirs"),
    *_KCP_PROTECTION,
    integer("dup", 0, 16, "send every datagram so often again, to test networks"),
    integer("rateLimit", 0, 10**12, "bytes a second that are sent at most; 0: no limit"),
    boolean("writeDelay", "what is written waits for the next interval, so that more can join it"),
    boolean(
        "ackNoDelay",
        "acknowledge at the end of each turn in which data came; C{no} waits up to an interval",
    ),
    decimal("readTimeout", 0, 604800, "seconds without data until the session ends; 0: never"),
    decimal(
        "writeTimeout", 0, 604800, "seconds without an acknowledgement until it ends; 0: never"
    ),
    integer("dscp", 0, 63, "differentiated services code point of what is sent"),
    integer("readBuffer", 1, 1 << 30, "bytes asked of the system for what was not read yet"),
    integer("writeBuffer", 1, 1 << 30, "bytes asked of the system for what could not leave yet"),
    _idleTimeout,
    _portKind,
)

KCP = Transport(
    prefix="kcp",
    module="twisted_rudp.endpoints.kcp",
    server=Role(
        endpoint="KCPServerEndpoint",
        positional=("port", "interface"),
        required=1,
        arguments=(
            _port,
            _interface,
            _backlog,
            _maxSessions,
            integer("perHost", 1, 65535, "how much of C{backlog} one address may take"),
            oneOf(
                "sessions",
                ("conversation", "address", "replace"),
                "what sessions of one address are told apart by; C{address}: there is one, "
                "C{replace}: there is one and a new one ends it, as kcp-go has it",
            ),
            decimal(
                "blacklist", 0, 86400, "seconds for which a conversation that ended stays out"
            ),
            boolean("requireSn0", "only the first segment or a window probe opens a session"),
            _drainTimeout,
            *_KCP_SESSION,
        ),
    ),
    client=Role(
        endpoint="KCPClientEndpoint",
        positional=("host", "port"),
        required=2,
        arguments=(
            _host,
            _peerPort,
            _timeout,
            _bindAddress,
            boolean("waitForPeer", "connected only when the peer has answered"),
            integer(
                "conv",
                0,
                4294967295,
                "conversation, for peers that go by a number agreed on; a random one when left out",
            ),
            *_KCP_SESSION,
        ),
    ),
)
"""
KCP, with the arguments of the design's section 8. Ranges: C{rcvwnd} by the 16
bits of the wire (kcp.md 1.6), C{interval} by the originals' clamp (kcp.md 1.3).
"""

_QOTP_SESSION = (
    secret(
        "seed",
        "any text",
        "the identity key is made of it, as the release does; everybody on the machine sees it "
        "in ps, and it is no harder to guess than it looks",
    ),
    secret("seedHex", "64 hex digits", "the private identity key itself"),
    text("keyFile", "where the identity key stands; C{rudp keygen} makes such files", "a path"),
    integer("mtu", 508, 65507, "longest UDP payload in bytes; the same at both ends"),
    boolean("roaming", "follow a peer whose address has changed, once it has answered there"),
    _idleTimeout,
    _portKind,
)

QOTP = Transport(
    prefix="qotp",
    module="twisted_rudp.endpoints.qotp",
    server=Role(
        endpoint="QOTPServerEndpoint",
        positional=("port", "interface"),
        required=1,
        arguments=(_port, _interface, _backlog, _maxSessions, _drainTimeout, *_QOTP_SESSION),
    ),
    client=Role(
        endpoint="QOTPClientEndpoint",
        positional=("host", "port"),
        required=2,
        arguments=(
            _host,
            _peerPort,
            publicKey(
                "serverKey",
                "public key of the peer, which then has to prove that it owns it; left out, "
                "nobody is authenticated",
            ),
            _timeout,
            _bindAddress,
            *_QOTP_SESSION,
        ),
    ),
)
"""
QOTP, with the arguments of the design's section 8.
"""

_RAKNET_SESSION = (
    hexadecimal("guid", 16, "number that names this end; random when left out"),
    integer("protocol", 0, 255, "version of the protocol: 11 for today's Bedrock"),
    oneOf("profile", ("default", "seed"), "named set of a session's numbers"),
    replace(
        integer("mtu", 400, 1492, "longest IP packet as the wire counts it: UDP payload and 28"),
        profiled=True,
    ),
    oneOf("mode", ("stream", "messages"), "bytes without borders, or messages that keep theirs"),
    replace(
        hexadecimal("userId", 2, "first byte of the messages that carry a stream, 80 to ff"),
        profiled=True,
    ),
    shortText("password", 255, "what a connection request must bring; sent in the clear"),
    integer("dscp", 0, 63, "differentiated services code point of what is sent"),
    replace(_idleTimeout, profiled=True),
    _portKind,
)

RAKNET = Transport(
    prefix="raknet",
    module="twisted_rudp.endpoints.raknet",
    server=Role(
        endpoint="RakNetServerEndpoint",
        positional=("port", "interface"),
        required=1,
        arguments=(
            _port,
            _interface,
            _backlog,
            _maxSessions,
            _drainTimeout,
            shortText("motd", 397, "what pongs say"),
            boolean("cookies", "peers prove their address before there is a session"),
            boolean("limitFrequency", "refuse a second session from a host within 100 ms"),
            *_RAKNET_SESSION,
        ),
    ),
    client=Role(
        endpoint="RakNetClientEndpoint",
        positional=("host", "port"),
        required=2,
        arguments=(_host, _peerPort, _timeout, _bindAddress, *_RAKNET_SESSION),
    ),
)
"""
RakNet, with the arguments of the design's section 8. Ranges: C{mtu} by raknet.md 3,
C{motd} by what C++ clients read (raknet.md 2.1).
"""
