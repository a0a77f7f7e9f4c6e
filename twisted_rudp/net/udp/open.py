"""
A datagram port: runs in, runs out.

Three ports with one interface, L{DatagramPort}; L{openPort} chooses. None knows a
wire.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Final, cast

from twisted.internet.interfaces import IReactorFDSet

from twisted_rudp.core.engine import Address
from twisted_rudp.net.udp.captured import CapturedPort, CapturedReceiver, Places, captures
from twisted_rudp.net.udp.options import (
    bind,
    bindAddress,
    cannotListen,
    createSocket,
    enableGRO,
    reportLocal,
    supportsGSO,
)
from twisted_rudp.net.udp.own import OwnPort
from twisted_rudp.net.udp.port import (
    DatagramPort,
    PortKind,
    Receiver,
    SocketOptions,
)
from twisted_rudp.net.udp.reactors import IDescriptorReactor, IPortReactor
from twisted_rudp.net.udp.receive import batchOf
from twisted_rudp.net.udp.stock import StockPort
from twisted_rudp.net.udp.whentoread import readiness

_DEFAULTS: Final = SocketOptions()


def openPort(
    reactor: IPortReactor | IDescriptorReactor,
    receiver: Receiver,
    interface: str = "",
    port: int = 0,
    *,
    kind: str = "auto",
    options: SocketOptions = _DEFAULTS,
    answers: bool = True,
    reads: bool = True,
) -> DatagramPort:
    """
    Bind a UDP socket and begin to receive. Done on return, without any wait (EP-2).

    @param interface: an IP literal, also with a zone (C{fe80::1%eth0}); C{""} for all
        IPv4 addresses, C{"::"} for all of both families.
    @param port: 0 to 65535; 0: any free one.
    @param kind: a L{PortKind}, or C{"auto"}: own descriptor if the reactor watches
        descriptors (UDP-10), with GSO and GRO if the kernel has either; else the stock
        port.
    @param answers: bound to all addresses, the port tells which of them was called
        (L{Receiver.calledAt}). One that only dials needs that not.
    @param reads: False, with an inherited socket: another owner still reads it, until
        L{OwnPort.startReading}.

    @raise CannotListenError: the address cannot be had, or the kind cannot.
    @raise ValueError: no such kind.
    """
    capture = captures.current
    if capture is None:
        return _openPort(reactor, receiver, interface, port, kind, options, answers, reads)
    noting = CapturedReceiver(capture, reactor, receiver)
    opened = _openPort(reactor, noting, interface, port, kind, options, answers, reads)
    noting.places = Places(opened)
    return CapturedPort(capture, reactor, opened, noting.places)


def _openPort(
    reactor: IPortReactor | IDescriptorReactor,
    receiver: Receiver,
    interface: str,
    port: int,
    kind: str,
    options: SocketOptions,
    answers: bool,
    reads: bool,
) -> DatagramPort:
    wanted = None if kind == "auto" else PortKind(kind)
    if wanted is PortKind.STOCK and options.descriptor is not None:
        cause = OSError(errno.EOPNOTSUPP, "the stock port cannot use an inherited socket")
        raise cannotListen((interface or "0.0.0.0", port), cause)
    address = bindAddress(interface, port)
    if wanted is not PortKind.STOCK:
        try:
            sock = _openSocket(reactor, address, options)
        except OSError as problem:
            if wanted is not None or options.descriptor is not None:
                raise cannotListen(address, problem) from problem
        else:
            return _openDescriptor(
                cast(IDescriptorReactor, reactor),
                receiver,
                sock,
                address,
                wanted,
                options,
                answers,
                reads,
            )
    if options.arrivalHops is not None:
        cause = OSError(errno.EOPNOTSUPP, "this port cannot see the hop limit of what arrives")
        raise cannotListen(address, cause)
    try:
        return StockPort(cast(IPortReactor, reactor), receiver, interface, port, options)
    except OSError as problem:
        # Twisted passes on that there is no descriptor left.
        raise cannotListen(address, problem) from problem


def _openSocket(
    reactor: IPortReactor | IDescriptorReactor, address: Address, options: SocketOptions
) -> socket.socket:
    """
    @raise OSError: this reactor and this system allow no descriptor of our own.
    """
    if not IReactorFDSet.providedBy(reactor):
        raise OSError(errno.EOPNOTSUPP, "this reactor watches no descriptors")
    if not hasattr(socket.socket, "recvmsg"):
        raise OSError(errno.EOPNOTSUPP, "this system has no recvmsg")
    return createSocket(address, options)


def _openDescriptor(
    reactor: IDescriptorReactor,
    receiver: Receiver,
    sock: socket.socket,
    address: Address,
    wanted: PortKind | None,
    options: SocketOptions,
    answers: bool,
    reads: bool,
) -> OwnPort:
    gso = gro = False
    if wanted is not PortKind.PLAIN:
        gso = supportsGSO(sock)
        gro = options.arrivalHops is None and enableGRO(sock)
    if wanted is PortKind.GSO and not (gso or gro):
        sock.close()
        problem = OSError(errno.EOPNOTSUPP, "this kernel has neither GSO nor GRO for UDP")
        raise cannotListen(address, problem)
    if options.descriptor is not None:
        address = sock.getsockname()
    everywhere = ipaddress.ip_address(address[0].partition("%")[0]).is_unspecified
    local = answers and everywhere and reportLocal(sock)
    if options.descriptor is None:
        bind(sock, address)
    ready = readiness(sock.fileno())
    opened = OwnPort(reactor, receiver, sock, options, gso, gro, batchOf(sock), ready, local)
    if reads:
        opened.startReading()
    return opened
