"""
Sockets that move from one process to the next: C{twist rudp ... --takeover CONTROL}.

The new process connects to the control socket of the old one and asks for its sockets, which
come as descriptors (SCM_RIGHTS). It listens on them. Then the old process closes what is not
handed over, such as its control socket, and the new one starts everything else. Only when all
of that runs does the old process give up: its sessions go on there until they end, everything
new comes to the new one (L{twisted_rudp.net.handover}). If the new process fails before, the
old one opens again what it has closed, and nothing has changed.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger

from twisted_rudp import __version__
from twisted_rudp.endpoints.base import ServerEndpoint
from twisted_rudp.endpoints.mux import MuxServerEndpoint
from twisted_rudp.net.listen import ListeningPort
from twisted_rudp.net.passing import PassedSocket, PassingSuccessor, channel
from twisted_rudp.service.listening import ListeningService, StartupError

PATIENCE: Final = 10.0
"""Seconds that the new process waits for an answer of the old one."""

MAX_ANSWER: Final = 1 << 20

MAX_DESCRIPTORS: Final = 253
"""In one message; Linux takes no more."""

UDP: Final = "udp"
TCP: Final = "tcp"


ON_UDP: Final = (ServerEndpoint, MuxServerEndpoint)
"""The endpoints that can listen on a UDP socket that is there already."""


class Offer(NamedTuple):
    """
    A socket of the old process.

    @ivar place: as L{placeOf<twisted_rudp.service.places.placeOf>} gives it.
    @ivar kind: L{UDP} or L{TCP}.
    @ivar family: the address family.
    @ivar processes: how many processes share the address, each with a UDP socket of its own.
    @ivar steering: the name of what chooses among them; see L{twisted_rudp.net.udp.steering}.
    @ivar key: see L{Share<twisted_rudp.net.udp.steering.Share>}.
    @ivar secret: see there, in hexadecimal digits.
    """

    place: Sequence[str]
    kind: str
    family: int
    processes: int = 1
    steering: str = ""
    key: int = 0
    secret: str = ""

    @property
    def descriptors(self) -> int:
        """How many come with it: sockets, then for each of UDP the end of a channel."""
        return 2 * self.processes if self.kind == UDP else 1


class Handover:
    """
    The old process's side: sockets that were offered over one connection.

    @ivar offers: what is offered.
    @ivar descriptors: for each offer one, or two for UDP: of the socket, and of the channel.
    @ivar undo: opens again what was closed for the new process.
    """

    _log = Logger()

    def __init__(self, services: Iterable[tuple[ListeningService, Sequence[str]]]) -> None:
        """
        @param services: with their places.
        """
        self.offers: list[Offer] = []
        self.descriptors: list[int] = []
        self._channels: list[tuple[socket.socket, socket.socket] | None] = []
        self._services: list[ListeningService] = []
        self.undo: Callable[[], object] | None = None
        for service, place in services:
            port = service.port
            # Ports of the reactor's own kind do not give their sockets away.
            if isinstance(port, ListeningPort) and port.fileno() >= 0:
                self._offer(service, place, UDP, port.fileno(), channel())
            elif place[0] == TCP and hasattr(port, "addressFamily"):
                self._offer(service, place, TCP, port.fileno(), None)

    def _offer(
        self,
        service: ListeningService,
        place: Sequence[str],
        kind: str,
        descriptor: int,
        ends: tuple[socket.socket, socket.socket] | None,
    ) -> None:
        family = socket.socket(fileno=os.dup(descriptor))
        self.offers.append(Offer(list(place), kind, family.family))
        family.close()
        self.descriptors.append(descriptor)
        if ends is not None:
            self.descriptors.append(ends[1].fileno())
        self._channels.append(ends)
        self._services.append(service)

    def services(self, indices: Sequence[int]) -> list[ListeningService]:
        """Those of some of the offers."""
        return [self._services[index] for index in indices]

    def taken(self, indices: Sequence[int]) -> None:
        """The new process listens on these."""
        self.undo = None
        for index in indices:
            ends, self._channels[index] = self._channels[index], None
            service = self._services[index]
            if ends is not None:
                port = service.port
                port.handOver(PassingSuccessor(ends[0], port.addresses))
                ends[1].close()
            else:
                service.letGo()
        self.close()

    def close(self) -> None:
        """What was not taken stays here."""
        undo, self.undo = self.undo, None
        if undo is not None:
            undo()
        for ends in self._channels:
            if ends is not None:
                for end in ends:
                    end.close()
        self._channels = [None] * len(self._channels)


class Takeover:
    """The new process's side."""

    _log = Logger()

    def __init__(self, reactor: Any, path: str) -> None:
        """
        @param path: the control socket of the old process.
        """
        self._reactor = reactor
        self._path = path
        self._connection: socket.socket | None = None
        self._offers: dict[int, tuple[Offer, list[int]]] = {}
        self._taken: list[int] = []
        self._pid: object = None

    def begin(self) -> None:
        """
        Ask for the sockets.

        @raise StartupError: the old process does not give them.
        """
        try:
            self._connection = socket.socket(socket.AF_UNIX)
            self._connection.settimeout(PATIENCE)
            self._connection.connect(self._path)
            answer, descriptors = self._ask({"command": "takeover", "version": __version__})
            self._pid = answer["pid"]
            offers = {}
            for number, given in enumerate(answer["offers"]):
                offer = Offer(*given)
                offers[number] = (offer, descriptors[: offer.descriptors])
                descriptors = descriptors[offer.descriptors :]
            self.offered(offers)
        except (OSError, ValueError, KeyError, TypeError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            raise StartupError(f"--takeover {self._path}: {reason}") from problem

    def offered(self, offers: Mapping[int, tuple[Offer, list[int]]]) -> None:
        """What there is, with its descriptors."""
        self._offers = dict(offers)

    def sourceFor(
        self, place: Sequence[str]
    ) -> Callable[[IStreamServerEndpoint, IProtocolFactory], Any] | None:
        """
        What listens on the socket for this place; None: the old process has none.

        @raise StartupError: several processes share it.
        """
        found = self.groupFor(place, 1, "")
        if found is None:
            return None
        offer, descriptors = found
        if offer.kind == UDP:
            return self._udp(descriptors)
        return self._tcp(descriptors, offer.family)

    def groupFor(
        self, place: Sequence[str], count: int, steering: str
    ) -> tuple[Offer, list[int]] | None:
        """
        The sockets of several processes for a place. The descriptors are closed by L{close}.

        @param steering: see L{Offer}.
        @return: None: the old process has none.
        @raise StartupError: they were made for another number of processes, or other steering.
        """
        for number, (offer, descriptors) in self._offers.items():
            if number in self._taken or list(offer.place) != list(place):
                continue
            if offer.kind == UDP and (offer.processes, offer.steering) != (count, steering):
                if offer.processes != count:
                    problem = (
                        f"{count} processes cannot have the sockets of {offer.processes}:"
                        f" --workers {offer.processes}"
                    )
                else:
                    problem = (
                        "what decides to which process datagrams go takes a restart"
                    )
                raise StartupError(
                    f"--takeover {self._path}: {' '.join(filter(None, place))}: {problem}"
                )
            self._taken.append(number)
            return offer, descriptors
        return None

    def _udp(self, descriptors: list[int]) -> Callable[[Any, IProtocolFactory], Any]:
        def listen(endpoint: Any, factory: IProtocolFactory) -> Any:
            if not isinstance(endpoint, ON_UDP):
                raise StartupError(f"--takeover {self._path}: {endpoint}: not a UDP endpoint")
            end = socket.socket(fileno=os.dup(descriptors[1]))
            end.setblocking(False)
            return endpoint.listenAfter(PassedSocket(descriptors[0], end), factory)

        return listen

    def _tcp(
        self, descriptors: list[int], family: int
    ) -> Callable[[Any, IProtocolFactory], Any]:
        def listen(endpoint: Any, factory: IProtocolFactory) -> Any:
            # The endpoint closes what it is given.
            adopted = AdoptedStreamServerEndpoint(  # type: ignore[no-untyped-call]
                self._reactor, os.dup(descriptors[0]), socket.AddressFamily(family)
            )
            return adopted.listen(factory)  # type: ignore[no-untyped-call]

        return listen

    def release(self) -> None:
        """
        We listen: the old process closes what we may want to open.

        @raise StartupError: it does not.
        """
        self._say("release")

    def commit(self) -> None:
        """
        Everything runs: the old process gives up.

        @raise StartupError: it does not.
        """
        self._say("taken")
        self._log.info(
            "took over {count} sockets of process {pid}", count=len(self._taken), pid=self._pid
        )
        self.close()

    def close(self) -> None:
        """Let go of everything that was offered; ports have their own copies."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for _, descriptors in self._offers.values():
            for each in descriptors:
                os.close(each)
        self._offers.clear()

    def _say(self, command: str) -> None:
        try:
            self._ask({"command": command, "taken": self._taken})
        except (OSError, ValueError) as problem:
            raise StartupError(f"--takeover {self._path}: {problem}") from problem

    def _ask(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """
        @return: the answer, and the descriptors that came with it.
        """
        connection = self._connection
        assert connection is not None
        connection.sendall(json.dumps(request).encode() + b"\n")
        received = bytearray()
        descriptors = array.array("i")
        room = socket.CMSG_SPACE(MAX_DESCRIPTORS * descriptors.itemsize)
        while not received.endswith(b"\n"):
            data, ancillary, _, _ = connection.recvmsg(1 << 16, room)
            for level, kind, value in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    descriptors.frombytes(value[: len(value) // 4 * 4])
            received += data
            if not data or len(received) > MAX_ANSWER:
                raise OSError(f"no answer from {self._path}")
        answer = json.loads(received)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer, list(descriptors)
