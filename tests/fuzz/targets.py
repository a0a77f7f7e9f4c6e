"""What is fuzzed: functions that take any bytes, and whose only failure is an exception."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv6Address

from tests import vectors
from tests.kcp.pair import Pair as KCPPair
from tests.pair import CLIENT, SERVER
from tests.qotp.pair import Pair as QOTPPair
from tests.raknet.pair import Pair as RakNetPair
from twisted_rudp.core.engine import Capability
from twisted_rudp.decoding.packets import READERS
from twisted_rudp.decoding.wires import WIRES, Decoder
from twisted_rudp.discovery import legacy, v1, v4
from twisted_rudp.discovery.xdr import FormatError
from twisted_rudp.kcp.wire import segments
from twisted_rudp.mux.control import (
    ControlError,
    ControlReader,
    Listen,
    Offer,
    Refused,
    pack_message,
    pack_preface,
    unpack_origin,
)
from twisted_rudp.mux.smux import FrameReader, SmuxError
from twisted_rudp.qotp import wire as qotp
from twisted_rudp.qotp.protection import INITIATOR, RESPONDER, Cipher
from twisted_rudp.raknet import offline
from twisted_rudp.raknet import wire as raknet
from twisted_rudp.service.proxyprotocol import VERSIONS, InvalidHeader, encode
from twisted_rudp.service.proxyprotocol import decode as decode_proxy_header
from twisted_rudp.tracing import series
from twisted_rudp.tracing.pcapng import header, packet
from twisted_rudp.tracing.reading import CaptureError, CaptureReader
from twisted_rudp.tracing.series import TraceError

CORPUS = Path(__file__).parent / "corpus"
ELSEWHERE = ("198.51.100.9", 4242)
LONGEST_STEP = 1500

Target = Callable[[bytes], None]

# parsers


def discovery(data: bytes) -> None:
    """Announcements and queries of all versions."""
    for parse in (v1.decode, v4.decode, legacy.decode):
        with contextlib.suppress(FormatError):
            parse(data)
    legacy.describe(data)


def frames(data: bytes) -> None:
    """RakNet's frames, records and messages."""
    raknet.parse_frames(data)
    raknet.parse_records(data)
    offline.parse(data)
    for parse in (
        raknet.parse_ping,
        raknet.parse_pong,
        raknet.parse_connection_request,
        raknet.parse_request_accepted,
        raknet.parse_new_incoming,
    ):
        with contextlib.suppress(raknet.Malformed):
            parse(data)


def payloads(data: bytes) -> None:
    """QOTP's payloads, and KCP's segments."""
    qotp.decode(data)
    qotp.without_fill(data)
    list(segments(data))


def smux(data: bytes) -> None:
    """Frames of smux, the first byte being the version, in pieces."""
    reader = FrameReader(1 + data[:1].count(b"\2"))
    with contextlib.suppress(SmuxError):
        for at in range(1, len(data), 7):
            list(reader.feed(data[at : at + 7]))


# state machines


def steps(script: bytes) -> Iterator[tuple[int, bytes]]:
    """A number from 0 to 255 and bytes, whose length stands before them, again and again."""
    at = 0
    while at + 3 <= len(script):
        size = int.from_bytes(script[at + 1 : at + 3], "little") % LONGEST_STEP
        yield script[at], script[at + 3 : at + 3 + size]
        at += 3 + size


def changed(datagram: bytes, change: bytes) -> bytes:
    """A datagram with some bytes flipped, at the places that stand before their masks."""
    found = bytearray(datagram)
    for at in range(0, len(change) - 2, 3):
        if found:
            found[int.from_bytes(change[at : at + 2], "little") % len(found)] ^= change[at + 2]
    return bytes(found)


def play(pair: Any, script: bytes, forge: Callable[[bool, bytes], bytes]) -> None:
    """
    A conversation of two ends in which somebody interferes.

    @param forge: what a peer who knows all secrets sends: whether it is the client, and
        the script's bytes.
    """
    finished: dict[int, Any] = {}
    pair.connect()
    for what, data in steps(script):
        kind, client = what % 8, bool(what & 8)
        near, source = (pair.server, CLIENT) if client else (pair.client, SERVER)
        far = pair.client if client else pair.server
        if kind == 0:
            near.arrive(data or b"\0", source)
        elif kind == 1:
            near.arrive(data or b"\0", ELSEWHERE)
        elif kind == 2 and far.sent:
            near.arrive(changed(far.sent[len(data) % len(far.sent)], data), source)
        elif kind == 3:
            near.arrive(forge(client, data), source)
        elif kind == 4:
            pair.run(1 + 40 * len(data))
        elif kind == 5:
            near.reading = not near.reading
        else:
            for engine in dict.fromkeys(near.engines.values()):
                # A transport writes nothing after it has closed; whatever the peer has done
                # meanwhile, also its end, is no reason to raise.
                if kind == 6 and data and id(engine) not in finished:
                    engine.write(0, data)
                elif kind == 7 and not engine.closed and len(data) % 3 == 2:
                    if Capability.HALF_CLOSE in engine.capabilities:
                        engine.close_stream(0)
                        finished[id(engine)] = engine
                elif kind == 7 and not engine.closed:
                    (engine.abort if len(data) % 3 else engine.close)(pair.now)
                    finished[id(engine)] = engine
                near.turn(engine)
    pair.run(100)


def kcp_session(script: bytes) -> None:
    """Two ends of KCP, whose wire has no secrets."""
    play(KCPPair(), script, lambda client, data: data or b"\0")


def raknet_session(script: bytes) -> None:
    """Two ends of RakNet; what is forged is a datagram of the session."""
    play(RakNetPair(), script, lambda client, data: b"\x84" + data)


def qotp_session(script: bytes) -> None:
    """Two ends of QOTP; what is forged is sealed."""
    pair = QOTPPair()
    number = 1000

    def forge(client: bool, data: bytes) -> bytes:
        nonlocal number
        number += 1
        name, secrets = next(iter(pair.secrets.items()))
        keys = secrets.initiator if client else secrets.responder
        prefix = qotp.prefix_of(qotp.Kind.DATA, name, *keys)
        direction = INITIATOR if client else RESPONDER
        return Cipher(secrets.session).seal(prefix, number, direction, data.ljust(8, b"\0"))

    play(pair, script, forge)


def captures(data: bytes) -> None:
    """Captures in files, and datagrams of all wires as a person reads them."""
    with contextlib.suppress(CaptureError):
        list(CaptureReader(io.BytesIO(data)))
    for wire in (None, *WIRES):
        Decoder(wire, shards=(3, 2)).read(data, ELSEWHERE, ELSEWHERE)


def traces(data: bytes) -> None:
    """Traces in files, and datagrams as traces show them."""
    with contextlib.suppress(TraceError):
        series.read(io.BytesIO(data))
    if data:
        for make in READERS.values():
            reader = make()
            reader.sent(data, 0)
            reader.received(data, 0)


def control(data: bytes) -> None:
    """The control stream of a multiplexed session in pieces, and headers of its streams."""
    reader = ControlReader()
    with contextlib.suppress(ControlError):
        for at in range(0, len(data), 7):
            list(reader.feed(data[at : at + 7]))
    with contextlib.suppress(ControlError):
        unpack_origin(data)


def proxies(data: bytes) -> None:
    """Headers of the PROXY protocol."""
    with contextlib.suppress(InvalidHeader):
        decode_proxy_header(data)


TARGETS: dict[str, Target] = {
    "discovery": discovery,
    "frames": frames,
    "payloads": payloads,
    "captures": captures,
    "traces": traces,
    "smux": smux,
    "control": control,
    "proxies": proxies,
    "kcp": kcp_session,
    "raknet": raknet_session,
    "qotp": qotp_session,
}


def script(*steps: tuple[int, bytes]) -> bytes:
    """What L{steps} reads."""
    return b"".join(bytes((what,)) + len(d).to_bytes(2, "little") + d for what, d in steps)


def seeds(name: str) -> Iterator[bytes]:
    """Recorded datagrams, and conversations in which they arrive."""
    found: list[str] = []
    if name == "discovery":
        found = [c["wire_hex"] for c in vectors.load("discovery", "xdr_codec")["cases"]]
        found += [c["wire_hex"] for c in vectors.load("discovery", "v4_receive")["cases"]]
    elif name in ("frames", "raknet"):
        for file in ("codec", "acks", "offline", "handshake"):
            found += [v["hex"] for v in vectors.load("raknet", file)["vectors"]]
        for vector in vectors.load("raknet", "malformed")["vectors"]:
            found += vector["datagrams_hex"]
    elif name in ("payloads", "qotp"):
        headers = vectors.load("qotp", "payload_headers")
        found = [c["payload"] for kind in ("encode", "decode") for c in headers[f"{kind}_cases"]]
    elif name == "control":
        said = pack_message(Listen(1, bytes(16), 80, "::1")) + pack_message(Refused(1, 2, "x"))
        yield pack_preface(Offer.SECRET, bytes(32)) + said
    elif name == "proxies":
        peer, ours = IPv6Address("TCP", "::1", 1), IPv6Address("TCP", "::2", 65535)
        for version in VERSIONS:
            yield encode(version, peer, ours)
            yield encode(version, None, ours)
    elif name == "smux":
        for transcript in vectors.load("kcp", "smux")["transcripts"]:
            yield bytes((transcript["version"],)) + bytes.fromhex(transcript["client_to_server"])
    for each in found:
        data = bytes.fromhex(each)
        if name in ("raknet", "qotp"):
            yield script((3, data), (4, b"12"), (11, data), (6, b"hello"), (4, b"1"))
        else:
            yield data
    if name == "captures":
        for seed in (*seeds("frames"), *seeds("payloads"), *seeds("discovery")):
            yield seed
            yield header() + packet(1, ELSEWHERE, ELSEWHERE, seed, "lost")
    if name == "traces":
        yield from seeds("frames")
        yield b'\x1e{"qlog_format":"JSON-SEQ"}\n\x1e{"time":1,"name":"recovery:packet_lost"}\n'
    if name in ("kcp", "raknet", "qotp"):
        yield script((6, b"a" * 900), (14, b"b" * 100), (2, b"\1\0\xff"), (4, b"123"), (7, b""))
        yield script((5, b""), (6, b"a" * 1400), (10, b"\5\0\x80"), (4, b"1" * 50), (15, b"x"))
    folder = CORPUS / name
    if folder.exists():
        yield from (path.read_bytes() for path in sorted(folder.iterdir()))
