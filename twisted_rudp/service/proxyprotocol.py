"""
The PROXY protocol of HAProxy, versions 1 and 2: a header in front of a connection that
names its peer. C{forward} writes it towards C{--to}, and reads it behind C{haproxy:}.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address as V4
from ipaddress import IPv6Address as V6
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.net.ratelog import RateLimitedLog
from twisted_rudp.service.connectionlog import addressText
from twisted_rudp.service.listening import SilentFactory, Tally

VERSIONS: Final = ("v1", "v2")

LONGEST_V1: Final = 107
"""Bytes of a header of version 1, its end of line included."""

LONGEST_V2: Final = 4096
"""Bytes of a header of version 2. The protocol allows 65 551; 536 carry all that is common."""

HEADER_TIMEOUT: Final = 5.0
"""Seconds for a header to arrive."""

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V1: Final = b"PROXY "
_head = struct.Struct("!12sBBH")
_Host = V4 | V6
_NAMES: Final[Mapping[bytes, Callable[[str], _Host]]] = {b"TCP4": V4, b"TCP6": V6}
_DECIMAL: Final = re.compile(rb"0|[1-9][0-9]{0,4}")
_LOCAL, _PROXY = 0x20, 0x21
_FAMILIES: Final[Mapping[int, tuple[Callable[[bytes], _Host], int]]] = {1: (V4, 4), 2: (V6, 16)}
_UNIX_SIZE: Final = 216
_NO_PROXY: Final = b"PROXY UNKNOWN\r\n"


class InvalidHeader(ValueError):
    """What was received is no header of the PROXY protocol."""


class Header(NamedTuple):
    """
    A header that was received.

    @ivar source: the peer of the proxy; None if the header does not tell.
    @ivar destination: what that peer connected to.
    @ivar size: bytes of the header.
    """

    source: IPv4Address | IPv6Address | None
    destination: IPv4Address | IPv6Address | None
    size: int


def encode(version: str, source: object, destination: object) -> bytes:
    """
    The header for a connection. The service behind it reads a stream, whatever carried the
    connection to us, so the header says TCP.

    @param version: one of L{VERSIONS}.
    @param source: the address of the peer.
    @param destination: the address that it connected to. Where one of both is no address
        of IP, or they cannot be said in one family, the header says that it does not know.
    """
    pair = _pair(source, destination)
    if version == "v1":
        if pair is None:
            return _NO_PROXY
        (host, port), (local, localPort) = pair
        return f"PROXY TCP{host.version} {host} {local} {port} {localPort}\r\n".encode()
    if pair is None:
        return _head.pack(_SIGNATURE, _LOCAL, 0, 0)
    (host, port), (local, localPort) = pair
    body = host.packed + local.packed + struct.pack("!HH", port, localPort)
    family = 0x11 if host.version == 4 else 0x21
    return _head.pack(_SIGNATURE, _PROXY, family, len(body)) + body


_Place = tuple[_Host, int]


def _pair(source: object, destination: object) -> tuple[_Place, _Place] | None:
    found = [_place(each) for each in (source, destination)]
    first, second = found
    if first is None or second is None:
        return None
    if first[0].version != second[0].version:
        # A socket of both families names each as it likes; IPv6 has a form for both.
        first, second = _mapped(first), _mapped(second)
    return first, second


def _place(address: object) -> _Place | None:
    if not isinstance(address, IPv4Address | IPv6Address):
        return None
    try:
        host = ip_address(address.host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(host, V6) and host.ipv4_mapped is not None:
        host = host.ipv4_mapped
    return host, address.port


def _mapped(place: _Place) -> _Place:
    host, port = place
    return (V6(b"\0" * 10 + b"\xff\xff" + host.packed), port) if host.version == 4 else place


def decode(data: bytes) -> Header | None:
    """
    Read the header at the beginning of what was received.

    @return: None while it is incomplete.
    @raise InvalidHeader: it is none.
    """
    if data.startswith(_SIGNATURE[: len(data)]):
        return _decodeV2(data)
    if data.startswith(_V1[: len(data)]):
        return _decodeV1(data)
    raise InvalidHeader("no header of the PROXY protocol")


def _decodeV1(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, LONGEST_V1)
    if end < 0:
        if len(data) >= LONGEST_V1:
            raise InvalidHeader(f"a header of more than {LONGEST_V1} bytes")
        return None
    size = end + 2
    family, *fields = data[len(_V1) : end].split(b" ")
    if family == b"UNKNOWN":
        return Header(None, None, size)
    kind = _NAMES.get(family)
    if kind is None or len(fields) != 4:
        raise InvalidHeader(f"unknown family or number of fields: {data[:end]!r}")
    source, destination, *ports = fields
    if not all(_DECIMAL.fullmatch(port) and int(port) < 65536 for port in ports):
        raise InvalidHeader(f"invalid port: {data[:end]!r}")
    try:
        # An interface after a percent sign would be any text of the sender's.
        if b"%" in source + destination:
            raise ValueError
        first, second = kind(source.decode("ascii")), kind(destination.decode("ascii"))
    except ValueError:
        raise InvalidHeader(f"invalid address: {data[:end]!r}") from None
    return Header(_address(first, int(ports[0])), _address(second, int(ports[1])), size)


def _decodeV2(data: bytes) -> Header | None:
    if len(data) < _head.size:
        return None
    _, command, family, length = _head.unpack_from(data)
    if command not in (_LOCAL, _PROXY):
        raise InvalidHeader(f"unknown version or command {command:#04x}")
    size = _head.size + length
    if size > LONGEST_V2:
        raise InvalidHeader(f"a header of {size} bytes, more than {LONGEST_V2}")
    if len(data) < size:
        return None
    body = data[_head.size : size]
    if command == _LOCAL:
        return Header(None, None, size)
    kind, transport = family >> 4, family & 15
    if kind > 3 or transport > 2:
        raise InvalidHeader(f"unknown address family {family:#04x}")
    if kind == 3 and len(body) < _UNIX_SIZE:
        raise InvalidHeader("addresses cut short")
    if kind not in _FAMILIES:
        return Header(None, None, size)
    make, width = _FAMILIES[kind]
    if len(body) < 2 * width + 4:
        raise InvalidHeader("addresses cut short")
    _checkTLVs(body[2 * width + 4 :])
    ports = struct.unpack_from("!HH", body, 2 * width)
    hosts = make(body[:width]), make(body[width : 2 * width])
    protocol = "UDP" if transport == 2 else "TCP"
    return Header(
        _address(hosts[0], ports[0], protocol), _address(hosts[1], ports[1], protocol), size
    )


def _checkTLVs(rest: bytes) -> None:
    while rest:
        size = 3 + int.from_bytes(rest[1:3], "big")
        if len(rest) < size:
            raise InvalidHeader("an extension is cut short")
        rest = rest[size:]


def _address(host: _Host, port: int, protocol: Any = "TCP") -> IPv4Address | IPv6Address:
    kind = IPv4Address if host.version == 4 else IPv6Address
    return kind(protocol, str(host), port)


def versionNamed(given: str) -> str:
    """
    A version for an option.

    @raise ValueError: it is none.
    """
    if given not in VERSIONS:
        raise ValueError(f"{given!r} is not one of {', '.join(VERSIONS)}")
    return given


@implementer(IHalfCloseableProtocol)
class ProxiedProtocol(Protocol):
    """
    An accepted connection that begins with a header. The protocol behind it is built when
    the header is there, with the address that it names.
    """

    noisy = False

    def __init__(self, factory: ProxiedFactory, address: IAddress | None) -> None:
        self._factory = factory
        self._address = address
        self._received = b""
        self._inner: Any = None
        self._timeout: IDelayedCall | None = None

    def connectionMade(self) -> None:
        clock = self._factory.clock
        self._timeout = clock.callLater(
            HEADER_TIMEOUT, self._refuse, f"no header within {HEADER_TIMEOUT:g} seconds"
        )

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self._timeout is None:
            return
        self._received += data
        try:
            header = decode(self._received)
        except InvalidHeader as problem:
            self._refuse(str(problem))
            return
        if header is not None:
            rest, self._received = self._received[header.size :], b""
            self._accept(header, rest)

    def readConnectionLost(self) -> None:
        if self._inner is not None:
            self._inner.readConnectionLost()
        else:
            self._refuse("closed before its header")

    def writeConnectionLost(self) -> None:
        if self._inner is not None:
            self._inner.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop()
        if self._inner is not None:
            self._inner.connectionLost(reason)

    def _accept(self, header: Header, rest: bytes) -> None:
        self._stop()
        inner = self._factory.build(header.source or self._address, header)
        if inner is None:
            self._abort()
            return
        self._inner = inner
        inner.makeConnection(self.transport)
        if rest:
            inner.dataReceived(rest)

    def _refuse(self, why: str) -> None:
        if self._timeout is not None:
            self._stop()
            self._received = b""
            self._factory.refused(why, self._address)
            self._abort()

    def _stop(self) -> None:
        timeout, self._timeout = self._timeout, None
        if timeout is not None:
            self._factory.waiting -= 1
            if timeout.active():
                timeout.cancel()

    def _abort(self) -> None:
        transport: Any = self.transport
        getattr(transport, "abortConnection", transport.loseConnection)()


class ProxiedFactory(SilentFactory):
    """
    Accepts connections that begin with a header, for a factory that is given the addresses
    in it.

    @ivar waiting: connections whose header has not come.
    """

    def __init__(
        self,
        clock: IReactorTime,
        log: Logger,
        description: str,
        limit: int,
        tally: Tally,
        build: Callable[[IAddress | None, Header], Any],
    ) -> None:
        """
        @param description: of the service, for the log.
        @param limit: connections that may wait for their header at one time.
        @param tally: C{refused} in it counts those without a valid header.
        @param build: builds the protocol behind the header, or None; it is half-closeable.
        """
        self.clock = clock
        self.build = build
        self.waiting = 0
        self._limited = RateLimitedLog(clock, log)
        self._description = description
        self._limit = limit
        self._tally = tally

    def buildProtocol(self, addr: IAddress | None) -> ProxiedProtocol | None:
        """What reads the header; None at the limit."""
        if self.waiting >= self._limit:
            self.refused("too many connections wait for their header", addr)
            return None
        self.waiting += 1
        return ProxiedProtocol(self, addr)

    def refused(self, why: str, address: IAddress | None) -> None:
        """A connection is refused."""
        self._tally.add("refused")
        self._limited.note(
            "PROXY protocol",
            "{description}: connection of {peer} refused: {why}",
            description=self._description,
            peer=addressText(address),
            why=why,
        )
