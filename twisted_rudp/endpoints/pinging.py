"""Pings and pongs without sessions (raknet.md 2.1)."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_rudp.core.engine import Address, Buffer, Demultiplexer, PathError
from twisted_rudp.interfaces import Pong
from twisted_rudp.net.addresses import hostText, resolve, toTwisted
from twisted_rudp.net.hub import Hub
from twisted_rudp.net.udp.open import openPort
from twisted_rudp.net.udp.port import DatagramPort, SocketOptions
from twisted_rudp.raknet import offline
from twisted_rudp.raknet.offline import bedrock_fields, unpack_text

REPEAT = 1.0
"""Seconds until an unanswered ping is sent again."""


@implementer(IListeningPort)
class PongPort:
    """A socket that answers unknown peers and has no sessions."""

    def __init__(
        self,
        reactor: Any,
        demux: Demultiplexer,
        interface: str,
        port: int,
        portKind: str,
        socketOptions: SocketOptions,
    ) -> None:
        """
        Bind at once.

        @raise twisted.internet.error.CannotListenError: the address cannot be had.
        """
        self._hub = Hub(reactor, demux)
        self._port = openPort(
            reactor, self._hub, interface, port, kind=portKind, options=socketOptions
        )
        self._hub.attach(self._port)

    def startListening(self) -> None:
        """It has listened from the start."""

    def stopListening(self) -> Deferred[None]:
        """
        @return: fires when the socket is closed.
        """
        return self._hub.close()

    def getHost(self) -> IPv4Address | IPv6Address:
        """The bound address."""
        return self._port.getHost()


class Pinging:
    """One ping of a host, repeated to all of its addresses until somebody answers."""

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        timeout: float,
        guid: int,
        magic: bytes,
        epoch: int,
    ) -> None:
        """
        @param timeout: seconds until this is given up.
        @param epoch: what the time in a ping starts from, so that a pong cannot be
            made up by somebody who does not see the ping.
        """
        self._reactor = reactor
        self._host = host
        self._number = port
        self._timeout = timeout
        self._guid = guid
        self._magic = magic
        self._epoch = epoch
        self._deferred: Deferred[Pong] = Deferred(self._cancelled)
        self._ports: dict[Address, DatagramPort] = {}
        self._sent: dict[int, float] = {}
        self._calls: list[IDelayedCall] = []

    def start(self) -> Deferred[Pong]:
        """Look the host up and ping it."""
        self._calls.append(self._reactor.callLater(self._timeout, self._timedOut))
        try:
            resolve(self._reactor, hostText(self._host), self._number, self._resolved)
        except ValueError:
            self._finish(Failure())  # type: ignore[no-untyped-call]
        return self._deferred

    def _resolved(self, addresses: list[Address]) -> None:
        if self._deferred.called:
            return
        if not addresses:
            self._fail(error.DNSLookupError(f"no address for {self._host!r}"))
            return
        for address in addresses:
            receiver = _Receiver(self, address)
            self._ports[address] = openPort(
                self._reactor, receiver, "::" if len(address) > 2 else ""
            )
        self._send()

    def _send(self) -> None:
        now = self._reactor.seconds()
        time = (self._epoch + int(now * 1000)) & (1 << 64) - 1
        self._sent[time] = now
        datagram = offline.pack(offline.Ping(time, self._guid), self._magic)
        for address, port in self._ports.items():
            port.send(datagram, len(datagram), address)
        self._calls.append(self._reactor.callLater(REPEAT, self._send))

    def received(self, datagram: Buffer, address: Address) -> None:
        """
        Something has come from an address that was pinged. Some servers put their
        own time into pongs (raknet.md 2.1); their round trip counts from the last
        ping.
        """
        message = offline.parse(datagram, self._magic)
        if not isinstance(message, offline.Pong):
            return
        sent = self._sent.get(message.time, max(self._sent.values()))
        text = unpack_text(message.data)
        seconds = self._reactor.seconds() - sent
        self._finish(
            Pong(toTwisted(address), message.guid, text, bedrock_fields(text), seconds)
        )

    def _timedOut(self) -> None:
        text = f"no pong from {self._host} port {self._number}"
        self._fail(error.TimeoutError(string=text))  # type: ignore[no-untyped-call]

    def _fail(self, problem: Exception) -> None:
        self._finish(Failure(problem))  # type: ignore[no-untyped-call]

    def _finish(self, outcome: Pong | Failure) -> None:
        if not self._deferred.called:
            self._release().addCallback(lambda _: self._tell(outcome))

    def _tell(self, outcome: Pong | Failure) -> None:
        if not self._deferred.called:
            self._deferred.callback(outcome)

    def _cancelled(self, deferred: Deferred[Pong]) -> None:
        self._release()

    def _release(self) -> Deferred[Any]:
        """
        @return: fires when all sockets are closed.
        """
        for call in self._calls:
            if call.active():
                call.cancel()
        self._calls.clear()
        ports, self._ports = self._ports, {}
        return gatherResults([port.stopListening() for port in ports.values()])


class _Receiver:
    """What comes in on the socket of one address."""

    def __init__(self, pinging: Pinging, address: Address) -> None:
        self._pinging = pinging
        self._address = address

    def runReceived(self, run: Buffer, size: int, address: Address) -> None:
        if address == self._address:
            for start in range(0, len(run), size):
                self._pinging.received(run[start : start + size], address)

    def calledAt(self, local: bytes) -> None:
        """Answers leave from wherever routing says."""

    def patience(self) -> int:
        """What comes is looked for at once."""
        return 0

    def turnEnded(self) -> None:
        """Nothing was kept for it."""

    def portWritable(self) -> None:
        """The next ping comes by itself."""

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        """Perhaps the server is just starting; the timeout decides."""

    def portLost(self, failure: Failure) -> None:
        """The timeout decides."""
