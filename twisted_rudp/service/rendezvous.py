"""C{twist rudp discovery-server}."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from twisted_rudp.discovery.server import DiscoveryServer
from twisted_rudp.service.starting import cannotStart


class DiscoveryServerService(Service):
    """
    A discovery server between start and stop. Binding comes before privileges are
    dropped (SVC-3); an address that cannot be had ends the program (SVC-4).
    """

    _log = Logger()

    def __init__(self, server: DiscoveryServer) -> None:
        self.server = server

    def privilegedStartService(self) -> None:
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._listen()

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._listen()

    def stopService(self) -> Deferred[None]:
        """
        @return: fires when the file is written and the socket closed.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        counters = self.server.snapshot().counters
        shown = {name.rpartition(".")[2]: count for name, count in counters.items()}
        self._log.info(
            "discovery server: stopped: {tally}",
            tally=" ".join(f"{name}={count}" for name, count in shown.items()),
        )
        return self.server.stop()

    def _listen(self) -> None:
        """
        @raise CannotStart: the address cannot be had.
        """
        if self.server.listening:
            return
        try:
            self.server.start()
        except CannotListenError as problem:
            raise cannotStart("discovery server", "--interface, --port", problem) from problem
        self._log.info(
            "discovery server: listening on {host.host} port {host.port} ({host.type})",
            host=self.server.getHost(),
        )
