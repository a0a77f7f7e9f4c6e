"""
One way to everybody on the local network: IPv4 broadcast or IPv6 multicast, on every
interface there is at the moment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_rudp.core.engine import Address, PathError
from twisted_rudp.discovery.journal import Journal
from twisted_rudp.discovery.networks import Enumerate, Interface, broadcasts
from twisted_rudp.discovery.profiles import Profile
from twisted_rudp.discovery.sockets import Ears, openSocket
from twisted_rudp.net.port import DatagramPort

_TAKEN = "cannot listen, though others hear us; another program may have the port"

_UNREACHABLE = (
    "cannot send; a container or machine without a network interface reaches nobody, nor"
    " does one without a default route where no interface can broadcast"
)

Heard = Callable[["Channel", bytes, str], None]


class _Listening(Ears):
    """What comes to the well-known port."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def runReceived(self, run: bytes, size: int, address: Address) -> None:
        for start in range(0, len(run), size):
            self._channel.received(run[start : start + size], address)

    def portLost(self, failure: Failure) -> None:
        self._channel.lost()


class _Sending(Ears):
    """What becomes of what is sent."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def pathError(self, kind: PathError, size: int, address: Address) -> None:
        self._channel.refused(kind, address)


class Channel(ABC):
    """
    Sends from a socket of its own and listens on the well-known port. Where that is
    taken it goes on sending, and tries to listen again at each L{refresh}.

    @ivar via: its name in a L{Source<twisted_rudp.discovery.nodes.Source>}.
    @ivar version: of IP.
    @ivar interfaces: the machine's interfaces, as L{refresh} found them.
    @ivar counters: what happened, by name.
    """

    _log = Logger()

    way: str
    version: int
    everywhere: str

    def __init__(
        self,
        reactor: Any,
        profile: Profile,
        heard: Heard,
        enumerate: Enumerate,
        checkHops: bool = False,
    ) -> None:
        """
        @param heard: called with each datagram and the sender's address as a literal.
        @param checkHops: only with those that nobody has routed here, where the profile
            lets that be seen.
        """
        self._reactor = reactor
        self._profile = profile
        self._heard = heard
        self._enumerate = enumerate
        self._arrivalHops = profile.hops if checkHops else None
        self._listening: DatagramPort | None = None
        self._sending: DatagramPort | None = None
        self._stopped = False
        self.via = f"{profile.name} {self.way}"
        self.interfaces: Sequence[Interface] = ()
        self._journal = Journal(reactor, self._log, f"discovery by {self.via}")
        self.counters = dict.fromkeys(("sent", "send_errors", "not_listening", "far"), 0)

    @abstractmethod
    def _destinations(self) -> list[Address]:
        """Where a datagram goes."""

    def _follow(self, listening: DatagramPort, again: bool) -> None:
        """
        Adapt the listening socket to the interfaces there are.

        @param again: believe nothing of what was done before.
        """

    def _options(self) -> dict[str, Any]:
        """Options of both sockets."""
        return {}

    @property
    def listening(self) -> bool:
        """Whether it hears anything."""
        return self._listening is not None

    @property
    def status(self) -> str:
        """The same for people."""
        return "listening" if self.listening else "sending only"

    def refresh(self, again: bool = False) -> None:
        """
        Look at the interfaces, and listen where that was not possible before.

        @param again: the machine has slept; join groups again.
        """
        self.interfaces = self._enumerate()
        if self._listening is None:
            self._listen()
        if self._listening is not None:
            self._follow(self._listening, again)

    def _listen(self) -> None:
        try:
            self._listening = openSocket(
                self._reactor,
                _Listening(self),
                self.everywhere,
                self._profile.port,
                reuseAddress=True,
                arrivalHops=self._arrivalHops,
                **self._options(),
            )
        except CannotListenError as problem:
            self.counters["not_listening"] += 1
            self._journal.note(_TAKEN, problem)
        else:
            self._journal.clear(_TAKEN)

    def send(self, datagram: bytes) -> None:
        """Send to every network. One that fails stops no other."""
        if self._stopped:
            return
        if self._sending is None:
            try:
                self._sending = openSocket(
                    self._reactor, _Sending(self), self.everywhere, **self._options()
                )
            except CannotListenError as problem:
                self.counters["send_errors"] += 1
                self._journal.note("no socket to send from", problem)
                return
        for destination in self._destinations():
            self.counters["sent"] += 1
            self._sending.send(datagram, len(datagram), destination)

    def received(self, datagram: bytes, address: Address) -> None:
        """The listening socket has heard something."""
        self._heard(self, datagram, self._shown(address))

    def _shown(self, address: Address) -> str:
        """The sender as a literal, an IPv6 link-local one with its interface's name."""
        host: str = address[0].partition("%")[0]
        scope = address[3] if len(address) > 3 else 0
        if not scope:
            return host
        names = {interface.index: interface.name for interface in self.interfaces}
        return f"{host}%{names.get(scope, scope)}"

    def refused(self, kind: PathError, address: Address) -> None:
        """The system did not send to one of the destinations."""
        self.counters["send_errors"] += 1
        self._journal.note(_UNREACHABLE, f"{address[0]}: {kind.name.lower()}")

    def snapshot(self) -> dict[str, int]:
        """All counters, with what the listening socket has turned away."""
        far = 0 if self._listening is None else self._listening.counters.far
        return {**self.counters, "far": self.counters["far"] + far}

    def lost(self) -> None:
        """The listening socket is gone; the next L{refresh} makes another."""
        self.counters = self.snapshot()
        self._listening = None

    def stop(self) -> Deferred[None]:
        """Close the sockets."""
        self._stopped = True
        ports = [port for port in (self._listening, self._sending) if port is not None]
        self._listening = self._sending = None
        closing = gatherResults([port.stopListening() for port in ports])
        return closing.addCallback(lambda _: None)


class Broadcast(Channel):
    """IPv4: the broadcast address of each network."""

    way = "broadcast"
    version = 4
    everywhere = ""

    def _options(self) -> dict[str, Any]:
        return {"broadcast": True, "hopLimit": self._profile.hops}

    def _destinations(self) -> list[Address]:
        return [(host, self._profile.port) for host in broadcasts(self.interfaces)]


class Multicast(Channel):
    """IPv6: a group on each link, whose scope is the link. Interfaces are joined as they appear."""

    way = "multicast"
    version = 6
    everywhere = "::"

    def __init__(
        self,
        reactor: Any,
        profile: Profile,
        heard: Heard,
        enumerate: Enumerate,
        checkHops: bool = False,
    ) -> None:
        super().__init__(reactor, profile, heard, enumerate, checkHops)
        self._group = profile.group or ""
        self._joined: set[int] = set()

    def _options(self) -> dict[str, Any]:
        return {"onlyIPv6": True, "multicastHops": self._profile.hops or 1}

    def _indices(self) -> set[int]:
        return {i.index for i in self.interfaces if i.link_local and not i.loopback}

    def _destinations(self) -> list[Address]:
        return [(self._group, self._profile.port, 0, index) for index in sorted(self._indices())]

    def lost(self) -> None:
        super().lost()
        self._joined.clear()

    def _follow(self, listening: DatagramPort, again: bool) -> None:
        wanted = self._indices()
        gone = self._joined if again else self._joined - wanted
        for index in sorted(gone):
            self._joined.discard(index)
            try:
                listening.leaveGroup(self._group, index)
            except OSError as problem:
                self._log.debug("{via}: {reason}", via=self.via, reason=problem)
        for index in sorted(wanted - self._joined):
            try:
                listening.joinGroup(self._group, index)
            except OSError as problem:
                self._journal.note("cannot join the group on an interface", problem)
            else:
                self._joined.add(index)
