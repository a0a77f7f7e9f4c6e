"""
What the KCP endpoints of both sides have in common: their arguments, and making
gates and sessions of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from twisted_rudp.core.cookies import Cookies
from twisted_rudp.core.engine import Address
from twisted_rudp.endpoints.kcparguments import secretFor, settingsFor
from twisted_rudp.kcp import snmp
from twisted_rudp.kcp.checking import nanoseconds, require_choice, require_within
from twisted_rudp.kcp.ciphers import CIPHERS, make_crypt, overhead_of
from twisted_rudp.kcp.gate import Accept, KCPGate, Rules
from twisted_rudp.kcp.options import SessionOptions
from twisted_rudp.kcp.profiles import payload_mtu
from twisted_rudp.kcp.scramblers import XOR_REACH
from twisted_rudp.kcp.session import KCPSession
from twisted_rudp.kcp.snmp import Ledger
from twisted_rudp.net.port import PortKind, SocketOptions

IDLE_TIMEOUT = 60.0
"""Seconds of silence after which a peer counts as gone; it is probed at a third and
at two thirds of them."""

BUFFER = 4 << 20
"""Bytes asked of the system for each direction of a socket."""

LARGEST_BUFFER = 1 << 30

Entropy = Callable[[int], bytes]


class KCPEndpoint:
    """
    What both sides have in common. Nothing is opened before C{listen} or
    C{connect} (EP-4).
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        mode: str,
        dscp: int,
        readBuffer: int,
        writeBuffer: int,
        idleTimeout: float,
        portKind: str,
        entropy: Entropy,
        crypt: str | None,
        key: str | None,
        password: str | None,
        keyFile: str | None,
        dataShards: int,
        parityShards: int,
        alwaysParity: bool,
        dup: int,
        rateLimit: int,
        writeDelay: bool,
        ackNoDelay: bool,
        readTimeout: float,
        writeTimeout: float,
        mtu: int,
        **settings: Any,
    ) -> None:
        self._reactor = reactor
        self._secret = secretFor(crypt, key, password, keyFile)
        self._options = SessionOptions(
            data_shards=dataShards,
            parity_shards=parityShards,
            always_parity=alwaysParity,
            dup=dup,
            rate_limit=rateLimit,
            write_delay=writeDelay,
            ack_no_delay=ackNoDelay,
            read_timeout=nanoseconds("readTimeout", readTimeout),
            write_timeout=nanoseconds("writeTimeout", writeTimeout),
        )
        self._overhead = overhead_of(self._secret.crypt)
        headers = self._overhead + self._options.overhead
        if self._secret.crypt == "xor" and mtu > XOR_REACH:
            raise ValueError(f"mtu={mtu!r}: crypt=xor covers {XOR_REACH} bytes")
        self._settings = settingsFor(mode=mode, mtu=payload_mtu(mtu, headers), **settings)
        self._mode = mode
        require_within("dscp", dscp, 0, 63)
        require_within("readBuffer", readBuffer, 1, LARGEST_BUFFER)
        require_within("writeBuffer", writeBuffer, 1, LARGEST_BUFFER)
        self._socketOptions = SocketOptions(
            dscp=dscp or None, receiveBuffer=readBuffer, sendBuffer=writeBuffer
        )
        self._idleTimeout = nanoseconds("idleTimeout", idleTimeout, least=0.1)
        if portKind != "auto":
            require_choice("portKind", portKind, PortKind)
        self._portKind = portKind
        self._entropy = entropy

    def _gate(
        self,
        accept: Accept | None = None,
        cookies: Cookies | None = None,
        rules: Rules | None = None,
    ) -> KCPGate:
        """
        A gate with cipher contexts of its own.
        """
        secret = self._secret
        if secret.crypt in CIPHERS and CIPHERS[secret.crypt].slow:
            self._log.warn(
                "crypt={crypt} is computed in Python, some hundred times slower than aes",
                crypt=secret.crypt,
            )
        return KCPGate(
            accept,
            cookies,
            self._settings.rcvwnd,
            crypt=make_crypt(secret.crypt, secret.reveal(), self._entropy),
            rules=rules or Rules(),
            ledger=Ledger(snmp.process),
        )

    def _engine(
        self, gate: KCPGate, conv: int, address: Address, now: int, **named: Any
    ) -> KCPSession:
        """
        A session for a socket with this gate.
        """
        return KCPSession(
            conv,
            address,
            self._settings,
            now=now,
            epoch=int.from_bytes(self._entropy(4), "little"),
            idle_timeout=self._idleTimeout,
            options=self._options,
            overhead=self._overhead,
            ledger=gate.ledger,
            diagnosis=gate.signs,
            **named,
        )
