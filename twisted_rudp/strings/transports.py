"""
What may be written behind C{kcp:}, C{qotp:} and C{raknet:}. Each argument is declared
once; the endpoint reference of the manual is made from these tables. Another transport
is another L{Transport}.
"""

from __future__ import annotations

from dataclasses import replace

from twisted_rudp.strings.arguments import (
    Argument,
    address,
    boolean,
    decimal,
    hexadecimal,
    integer,
    octets,
    oneOf,
    publicKey,
    secret,
    several,
    shortText,
    text,
)
from twisted_rudp.strings.parser import Role, Transport

_SERVER = (
    integer("port", 0, 65535, "UDP port to listen on; 0 lets the system choose one"),
    address("interface", "local address to listen on; all of IPv4 when left out"),
    integer("backlog", 1, 65535, "sessions whose peer has not answered yet"),
    integer("maxSessions", 1, 1_000_000, "sessions at one time, proved or not"),
    decimal(
        "drainTimeout",
        0,
        3600,
        "seconds that live sessions are given when the port stops listening",
    ),
)

_CLIENT = (
    text("host", "name or address of the peer"),
    integer("port", 1, 65535, "UDP port of the peer"),
    decimal("timeout", 0.001, 3600, "seconds to wait for the peer while connecting"),
    address("bindAddress", "local address to send from"),
)

_mode = oneOf("mode", ("stream", "messages"), "bytes without borders, or messages that keep theirs")
_dscp = integer("dscp", 0, 63, "differentiated services code point of what is sent")
_idleTimeout = decimal(
    "idleTimeout", 0.1, 604800, "seconds without a word from the peer until it counts as gone"
)
_portKind = oneOf(
    "portKind",
    ("auto", "gso", "plain", "stock"),
    "how the socket is read and written: C{gso} with the kernel's segmentation, C{plain} "
    "without it, C{stock} by Twisted's own UDP port, C{auto} the best that works",
)


def _transport(
    prefix: str,
    name: str,
    session: tuple[Argument, ...],
    server: tuple[Argument, ...] = (),
    client: tuple[Argument, ...] = (),
) -> Transport:
    """
    A transport whose endpoint classes are called as all of ours are.

    @param session: arguments of both sides, behind those of one.
    """
    return Transport(
        prefix=prefix,
        module=f"twisted_rudp.endpoints.{prefix}",
        server=Role(
            endpoint=f"{name}ServerEndpoint",
            positional=("port", "interface"),
            required=1,
            arguments=(*_SERVER, *server, *session),
        ),
        client=Role(
            endpoint=f"{name}ClientEndpoint",
            positional=("host", "port"),
            required=2,
            arguments=(*_CLIENT, *client, *session),
        ),
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
            "how loss is judged: as noise, or as the original does",
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
    secret("key", "the key itself; everybody on the machine sees it in ps", "hexadecimal digits"),
    secret("password", "what kcptun calls C{key}; the key is made from it", "any text"),
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
    _mode,
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
    _dscp,
    integer("readBuffer", 1, 1 << 30, "bytes asked of the system for what was not read yet"),
    integer("writeBuffer", 1, 1 << 30, "bytes asked of the system for what could not leave yet"),
    _idleTimeout,
    _portKind,
)

KCP = _transport(
    "kcp",
    "KCP",
    _KCP_SESSION,
    server=(
        integer("perHost", 1, 65535, "how much of C{backlog} one address may take"),
        oneOf(
            "sessions",
            ("conversation", "address", "replace"),
            "what sessions of one address are told apart by; C{address}: there is one, "
            "C{replace}: there is one and a new one ends it, as kcp-go has it",
        ),
        decimal("blacklist", 0, 86400, "seconds for which a conversation that ended stays out"),
        boolean("requireSn0", "only the first segment or a window probe opens a session"),
    ),
    client=(
        boolean("waitForPeer", "connected only when the peer has answered"),
        integer(
            "conv",
            0,
            4294967295,
            "conversation, for peers that go by a number agreed on; a random one when left out",
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
        "the identity key is made of it, as the release does; everybody on the machine sees it "
        "in ps, and it is no harder to guess than it looks",
        "any text",
    ),
    secret("seedHex", "the private identity key itself", "64 hex digits"),
    text("keyFile", "where the identity key stands; C{rudp keygen} makes such files", "a path"),
    integer("mtu", 508, 65507, "longest UDP payload in bytes; the same at both ends"),
    boolean("roaming", "follow a peer whose address has changed, once it has answered there"),
    _idleTimeout,
    _portKind,
)

QOTP = _transport(
    "qotp",
    "QOTP",
    _QOTP_SESSION,
    server=(
        boolean(
            "earlyData",
            "take what a dialler of the release says in its first datagram; it may be a replay",
        ),
    ),
    client=(
        publicKey(
            "serverKey",
            "public key of the peer, which then has to prove that it owns it; left out, "
            "nobody is authenticated",
        ),
    ),
)
"""QOTP, with the arguments of the design's section 8."""

_protocol = integer("protocol", 0, 255, "version of the protocol: 11 for today's Bedrock")

_RAKNET_SESSION = (
    hexadecimal("guid", 16, "number that names this end; random when left out"),
    octets("magic", 16, "marks datagrams outside of sessions; for games with their own"),
    oneOf("profile", ("default", "seed"), "named set of a session's numbers"),
    replace(
        integer("mtu", 400, 1492, "longest IP packet as the wire counts it: UDP payload and 28"),
        profiled=True,
    ),
    _mode,
    replace(
        hexadecimal("userId", 2, "first byte of the messages that carry a stream, 80 to ff"),
        profiled=True,
    ),
    shortText("password", 255, "what a connection request must bring; sent in the clear"),
    _dscp,
    replace(_idleTimeout, profiled=True),
    _portKind,
)

RAKNET = _transport(
    "raknet",
    "RakNet",
    _RAKNET_SESSION,
    server=(
        several("protocol", _protocol, "versions of the protocol that are accepted"),
        shortText("motd", 397, "what pongs say"),
        boolean("cookies", "peers prove their address before there is a session"),
        boolean("limitFrequency", "refuse a second session from a host within 100 ms"),
    ),
    client=(_protocol,),
)
"""
RakNet, with the arguments of the design's section 8. Ranges: C{mtu} by raknet.md 3,
C{motd} by what C++ clients read (raknet.md 2.1).
"""

TRANSPORTS = (KCP, QOTP, RAKNET)
