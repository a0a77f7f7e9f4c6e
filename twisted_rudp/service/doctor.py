"""
C{rudp doctor}: what of this machine, of a port and of the way to a peer is not as it should be,
and what to do about it.
"""

from __future__ import annotations

import errno
import json
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectError, DNSLookupError, TimeoutError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.python import usage
from zope.interface import implementer

from twisted_rudp import __version__, kernels
from twisted_rudp.core.engine import Reason
from twisted_rudp.endpoints.base import ClientEndpoint
from twisted_rudp.endpoints.kcp import KCPClientEndpoint
from twisted_rudp.interfaces import IPingable
from twisted_rudp.net.udp.options import (
    bindAddress,
    createSocket,
    enableGRO,
    readFacts,
    supportsGSO,
)
from twisted_rudp.net.udp.port import PortKind, SocketOptions
from twisted_rudp.service.usage import UsageOptions, endpoint, redacted, whole

GUESS_TIMEOUT: Final = 3
"""Seconds for an answer to what else the peer could want."""

LISTENING_TIME: Final = 1.2
"""Seconds that a connection is kept, so that what does not fit can show."""

PROBE_TIME: Final = 0.5
"""Seconds for the network to say that a datagram is too long."""

PROBLEM_STATUS: Final = 1
"""Exit status if something does not work at all."""

_IP_MTU_DISCOVER: Final = 10
_IP_MTU: Final = 14
_IPV6_MTU_DISCOVER: Final = 23
_IPV6_MTU: Final = 24
_PMTUDISC_DO: Final = 2

_HEADERS: Final = {socket.AF_INET: 28, socket.AF_INET6: 48}
"""Bytes of IP and UDP before a datagram."""

CLOCK_SOURCE: Final = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")

FAST_CLOCKS: Final = ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page")

PEERS: Final = {
    "MARKED": "the peer runs twisted_rudp",
    "EXTENDED": "the peer runs twisted_rudp",
    "UNMARKED": "the peer runs another implementation",
    "BASELINE": "the peer runs another implementation",
}
"""What the fact C{peer} of a session means."""

_COLON: Final = re.compile(r"(?<!\\):")

_SECRETS: Final = ("key", "password", "keyFile")


class Level(StrEnum):
    """How bad something is."""

    OK = "ok"
    ADVICE = "advice"
    """It works, and would work better."""

    PROBLEM = "problem"


class Finding(NamedTuple):
    """
    What was found.

    @ivar check: what was looked at.
    @ivar advice: what to do; empty if there is nothing to be done.
    """

    check: str
    level: Level
    text: str
    advice: str = ""


# this machine


def kernelsFinding(implementation: str) -> Finding:
    """Which kernels are in use."""
    if implementation == "native":
        return Finding("kernels", Level.OK, "native kernels")
    return Finding(
        "kernels",
        Level.ADVICE,
        "the kernels in Python, which are slower",
        "install a wheel of your platform, or install again where there is a C compiler, and"
        " leave TWISTED_RUDP_PURE unset",
    )


def bufferFindings(facts: Any) -> Iterator[Finding]:
    """
    Whether the system grants the socket buffers that are asked for.

    @param facts: L{PortFacts<twisted_rudp.net.udp.port.PortFacts>} of a socket.
    """
    for name, option, asked, granted in (
        ("receive buffer", "rmem_max", facts.receiveBufferAsked, facts.receiveBuffer),
        ("send buffer", "wmem_max", facts.sendBufferAsked, facts.sendBuffer),
    ):
        if granted is None or granted >= asked:
            yield Finding(name, Level.OK, f"{granted} bytes granted")
        else:
            yield Finding(
                name,
                Level.ADVICE,
                f"{granted} of {asked} bytes granted: bursts will be lost",
                f"sysctl -w net.core.{option}={asked}, and the same line in a file of"
                " /etc/sysctl.d; or CAP_NET_ADMIN",
            )


def offloadFinding(gso: bool, gro: bool) -> Finding:
    """Whether the kernel cuts and joins runs of datagrams."""
    missing = [name for name, there in (("GSO", gso), ("GRO", gro)) if not there]
    if not missing:
        return Finding("offload", Level.OK, "GSO and GRO for UDP")
    return Finding(
        "offload",
        Level.ADVICE,
        f"no {' and no '.join(missing)} for UDP: more system calls for the same bytes",
        "Linux has GSO since 4.18 and GRO since 5.0",
    )


def clockFinding(source: str | None) -> Finding:
    """
    Whether reading the time is cheap.

    @param source: what the kernel uses; None: it does not say.
    """
    if source is None:
        return Finding("clock", Level.OK, "the system does not name its clock source")
    if source in FAST_CLOCKS:
        return Finding("clock", Level.OK, f"clock source {source}")
    return Finding(
        "clock",
        Level.ADVICE,
        f"clock source {source}: each look at the clock may be a system call",
        "if the machine is virtual, ask for a paravirtual clock; else see 'dmesg | grep tsc'",
    )


def machineFindings() -> Iterator[Finding]:
    """All of this machine."""
    yield kernelsFinding(kernels.IMPLEMENTATION)
    options = SocketOptions()
    with createSocket(("0.0.0.0", 0), options) as sock:
        gso, gro = supportsGSO(sock), enableGRO(sock)
        yield from bufferFindings(readFacts(sock, options, PortKind.GSO, gso, gro))
        yield offloadFinding(gso, gro)
    try:
        source = CLOCK_SOURCE.read_text(encoding="ascii").strip()
    except OSError:
        source = None
    yield clockFinding(source)


def portFinding(port: int, interface: str = "") -> Finding:
    """Whether a UDP port can be bound."""
    address = bindAddress(interface, port)
    family = socket.AF_INET if len(address) == 2 else socket.AF_INET6
    name = f"port {port}"
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(address)
        except OSError as problem:
            advice = {
                errno.EADDRINUSE: f"ss -ulpn 'sport = :{port}' shows by whom, as root",
                errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE, or a socket unit",
            }
            return Finding(
                name, Level.PROBLEM, str(problem.strerror), advice.get(problem.errno or 0, "")
            )
    return Finding(name, Level.OK, "free")


# the way to a peer


class PathProbe:
    """A connected socket, of which the kernel knows the path MTU."""

    def __init__(self, host: str, port: int) -> None:
        """
        @param host: an IP literal.
        @raise OSError: there is no way to it.
        """
        entry = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )[0]
        self.family: socket.AddressFamily = entry[0]
        address = entry[4]
        self._six = self.family == socket.AF_INET6
        self._socket = socket.socket(self.family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._set(_IPV6_MTU_DISCOVER if self._six else _IP_MTU_DISCOVER, _PMTUDISC_DO)
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise

    def send(self, size: int) -> int | None:
        """
        Send zeros, which no peer takes for anything.

        @return: the number of an error.
        """
        try:
            self._socket.send(bytes(size))
        except OSError as problem:
            return problem.errno
        return None

    def mtu(self) -> int:
        """Bytes of the longest packet, as far as the kernel knows."""
        return self._socket.getsockopt(self._level, _IPV6_MTU if self._six else _IP_MTU)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _set(self, option: int, value: int) -> None:
        self._socket.setsockopt(self._level, option, value)

    @property
    def _level(self) -> int:
        return socket.IPPROTO_IPV6 if self._six else socket.IPPROTO_IP


def mtuFinding(mtu: int, headers: int, wanted: int) -> Finding:
    """
    Whether the datagrams of an endpoint fit the path.

    @param mtu: of the path.
    @param headers: bytes of it that are not UDP's payload.
    @param wanted: the longest UDP payload of the endpoint.
    """
    text = f"{mtu} bytes, {mtu - headers} of them for a datagram; the endpoint sends up to {wanted}"
    if wanted <= mtu - headers:
        return Finding("path MTU", Level.OK, text)
    return Finding(
        "path MTU", Level.PROBLEM, text, f"add mtu={mtu - headers} at both ends, or less"
    )


def longestDatagram(client: ClientEndpoint, headers: int) -> int:
    """UDP payload of the longest datagram of an endpoint; RakNet's C{mtu} counts the headers."""
    mtu = int(getattr(client, "mtu", 1400))
    return mtu - headers if IPingable.providedBy(client) else mtu


async def pathFindings(reactor: Any, client: ClientEndpoint, host: str) -> list[Finding]:
    """The path MTU to a peer; one datagram asks for it."""
    if not sys.platform.startswith("linux"):
        return []
    try:
        probe = PathProbe(host, client.port)
    except OSError as problem:
        return [Finding("path MTU", Level.PROBLEM, f"no way to {host}: {problem.strerror}")]
    try:
        headers = _HEADERS[probe.family]
        wanted = longestDatagram(client, headers)
        probe.send(wanted)
        await deferLater(reactor, PROBE_TIME, lambda: None)
        return [mtuFinding(probe.mtu(), headers, wanted)]
    finally:
        probe.close()


# a peer


class _Quiet(Protocol):
    """Says nothing."""


class _Made(NamedTuple):
    seconds: float
    facts: Mapping[str, Any]
    host: str


async def connected(reactor: Any, client: Any, keep: float) -> _Made:
    """
    Connect, stay for a while, and leave.

    @raise ConnectError: there is no connection.
    """
    factory = Factory.forProtocol(_Quiet)
    factory.noisy = False
    began = reactor.seconds()
    protocol = await client.connect(factory)
    seconds = reactor.seconds() - began
    if keep:
        await deferLater(reactor, keep, lambda: None)
    transport = protocol.transport
    facts = transport.facts()
    host = transport.getPeer().host
    transport.abortConnection()
    return _Made(seconds, facts, host)


def factsText(facts: Mapping[str, Any]) -> str:
    """What a connection says about its peer."""
    shown = [
        f"{name} {facts[name]}"
        for name in ("transport", "cipher", "fec_in")
        if facts.get(name) is not None
    ]
    peer = PEERS.get(str(facts.get("peer")))
    if peer is not None:
        shown.append(peer)
    return ", ".join(shown)


class Guess(NamedTuple):
    """
    What a peer that does not answer could be instead.

    @ivar meaning: what it means if it answers to this.
    """

    description: str
    meaning: str
    advice: str


def ciphers() -> Iterable[str]:
    """The names of the ciphers of KCP."""
    kind: Any = KCPClientEndpoint.options()["crypt"].kind
    return tuple(kind.words)


def guesses(description: str) -> list[Guess]:
    """What else to try, for an endpoint that gets no answer."""
    kind, *arguments = _COLON.split(description)
    named = {
        name: value for name, sign, value in (each.partition("=") for each in arguments) if sign
    }
    place = [each for each in arguments if "=" not in each]
    place.extend(f"{name}={named[name]}" for name in ("host", "port") if name in named)
    where = ":".join(place)
    found = []
    if kind == "kcp":
        given = named.get("crypt", "aes" if any(each in named for each in _SECRETS) else "null")
        secrets = [f"{each}={named[each]}" for each in _SECRETS if each in named]
        for crypt in ciphers():
            own = [] if crypt in ("null", "none") else secrets
            if crypt != given and (own or crypt in ("null", "none")):
                found.append(
                    Guess(
                        ":".join(["kcp", where, f"crypt={crypt}", *own]),
                        f"the peer uses crypt={crypt}, and this endpoint {given}",
                        f"write crypt={crypt} here, or crypt={given} there",
                    )
                )
    else:
        found.append(
            Guess(f"kcp:{where}:crypt=null", "the peer is a listener of KCP", "use kcp:")
        )
    other = "the peer has another key than serverKey" if kind == "qotp" else "it listens for QOTP"
    if kind != "qotp" or "serverKey" in named:
        found.append(
            Guess(
                f"qotp:{where}",
                other,
                "compare serverKey with what 'rudp keygen --show' prints there"
                if kind == "qotp"
                else "use qotp:",
            )
        )
    if kind != "raknet":
        found.append(Guess(f"raknet:{where}", "the peer is a server of RakNet", "use raknet:"))
    limit = f":timeout={GUESS_TIMEOUT}"
    return [each._replace(description=each.description + limit) for each in found]


async def tried(reactor: Any, guess: Guess) -> Guess | None:
    """The guess, if it was right."""
    parse: Callable[[Any, str], Any] = clientFromString
    try:
        client = parse(reactor, guess.description)
        await connected(reactor, client, 0)
    except (ConnectError, ValueError):
        # An extra for this cipher may be missing; then it is not tried.
        return None
    return guess


async def mismatchFindings(reactor: Any, description: str) -> list[Finding]:
    """Why a peer may have given no answer."""
    trying = [Deferred.fromCoroutine(tried(reactor, each)) for each in guesses(description)]
    results: list[tuple[bool, Any]] = await DeferredList(trying, consumeErrors=True)
    right = [result for success, result in results if success and result is not None]
    if right:
        return [
            Finding("mismatch", Level.PROBLEM, each.meaning, each.advice) for each in right
        ]
    return [
        Finding(
            "mismatch",
            Level.ADVICE,
            "no other cipher and no other transport was answered either",
            "the host or its port may be wrong, a firewall may drop UDP, or the key may be"
            " another: its log would say so once a minute (mismatch)",
        )
    ]


@implementer(ILogObserver)
class Overheard:
    """Collects what demultiplexers log about the peer while it is dialled."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def __call__(self, event: Mapping[str, Any]) -> None:
        if isinstance(event.get("diagnosis"), str):
            self.found.append(event["diagnosis"])


async def peerFindings(
    reactor: Any, description: str, client: ClientEndpoint
) -> tuple[list[Finding], str]:
    """
    Whether a peer answers, and if not, why.

    @return: also its address, or name.
    """
    overheard = Overheard()
    globalLogPublisher.addObserver(overheard)
    shown = redacted(description)
    try:
        made = await connected(reactor, client, LISTENING_TIME)
    except (ConnectError, DNSLookupError) as problem:
        # What else a silence may mean is looked into below.
        silent = isinstance(problem, TimeoutError)
        text = Reason.HANDSHAKE_TIMEOUT.value if silent else str(problem)
        found = [Finding("peer", Level.PROBLEM, f"{shown}: {text}")]
        failure: Exception | None = problem
        host = client.host
    else:
        failure = None
        host = made.host
        facts = factsText(made.facts)
        text = f"{shown}: connected in {made.seconds * 1000:.1f} ms: {facts}"
        found = [Finding("peer", Level.OK, text)]
    finally:
        globalLogPublisher.removeObserver(overheard)
    found += [Finding("mismatch", Level.PROBLEM, each) for each in overheard.found]
    if isinstance(failure, ConnectError):
        found += await mismatchFindings(reactor, description)
    return found, host


def _isLiteral(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return bool(host)


# the command


class DoctorOptions(UsageOptions):
    """C{rudp doctor}."""

    synopsis = "[options] [ENDPOINT]"
    longdesc = (
        "See whether this machine is set up well, whether ports are free, and, with an endpoint"
        " for connecting, whether the peer answers, which datagrams fit the path, and what does"
        " not fit between the two ends. The exit status is 1 if something does not work."
    )
    optFlags = [["json", "j", "Print the findings as JSON."]]
    examples = """
Examples:

  rudp doctor
  rudp doctor --port 4000
  rudp doctor kcp:host=example.org:port=4000:keyFile=/etc/rudp/kcp.key
"""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ports: list[int] = []

    def opt_port(self, port: str) -> None:
        """UDP port that is to be listened on. May be repeated."""
        try:
            self.ports.append(whole(1, 65535, "a port")(port))
        except ValueError as problem:
            raise usage.UsageError(f"--port: {problem}") from None

    def parseArgs(self, *endpoints: str) -> None:
        """
        @raise usage.UsageError: more than one endpoint.
        """
        if len(endpoints) > 1:
            raise usage.UsageError("expected one endpoint at most, such as kcp:HOST:4000")
        self["endpoint"] = endpoints[0] if endpoints else None


def runDoctor(reactor: Any, options: DoctorOptions) -> Deferred[None]:
    """
    Look at everything, and print what was found.

    @return: fails with C{SystemExit} if something does not work.
    @raise usage.UsageError: the endpoint is invalid, or not one of this library.
    """
    description = options["endpoint"]
    client = None
    if description is not None:
        client = endpoint("endpoint", clientFromString, description)
        if not isinstance(client, ClientEndpoint):
            raise usage.UsageError(f"{redacted(description)}: expected kcp:, qotp: or raknet:")
    return Deferred.fromCoroutine(_doctor(reactor, options, client))


async def _doctor(reactor: Any, options: DoctorOptions, client: Any) -> None:
    findings = [*machineFindings(), *map(portFinding, options.ports)]
    if client is not None:
        found, host = await peerFindings(reactor, options["endpoint"], client)
        findings += found
        if _isLiteral(host):
            findings += await pathFindings(reactor, client, host)
    if options["json"]:
        shown = [{**each._asdict(), "level": each.level.value} for each in findings]
        print(json.dumps({"version": __version__, "findings": shown}, indent=2))
    else:
        for line in lines(findings):
            print(line)
    if any(each.level is Level.PROBLEM for each in findings):
        raise SystemExit(PROBLEM_STATUS)


def lines(findings: Iterable[Finding]) -> Iterator[str]:
    """The findings for a person."""
    for each in findings:
        yield f"{each.level.value:8} {each.check}: {each.text}"
        if each.advice:
            yield f"         -> {each.advice}"
