"""The state of several workers as that of one program."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogLevel

from twisted_rudp import stats
from twisted_rudp.service.control import Client, Control, RequestError, RunningServices

Answers = Mapping[int, Mapping[str, Any]]
"""What each worker has answered, by its number. One that is being replaced has not."""


class Askable(Protocol):
    """
    The workers.

    @ivar numbers: more than any number of a worker.
    """

    numbers: int

    def ask(self, **request: Any) -> Deferred[Answers]:
        """Ask all of them."""

    def askOne(self, index: int, **request: Any) -> Deferred[Mapping[str, Any]]:
        """Ask one of them."""


def merged(own: Mapping[str, Any], answers: Answers, numbers: int) -> dict[str, Any]:
    """
    One status of many: a port that workers share is one port, with the sums of its counters
    and all of its sessions. The number of a session says which worker has it.

    @param own: of the parent process itself.
    @param numbers: more than any number of a worker.
    """
    places: dict[str, dict[str, Any]] = {}
    for index, state in sorted(answers.items()):
        for port in state["ports"]:
            found = places.setdefault(
                port["address"],
                {**port, "port": len(places), "counters": {}, "sessions": [], "workers": {}},
            )
            found["counters"] = stats.total((found["counters"], port["counters"]))
            found["workers"][str(index)] = port["port"]
            found["sessions"] += [
                {**session, "session": session["session"] * numbers + index, "worker": index}
                for session in port["sessions"]
            ]
    services: dict[str, dict[str, Any]] = {}
    for state in (own, *(each for _, each in sorted(answers.items()))):
        for service in state.get("services", ()):
            total = services.setdefault(
                service["service"], {**service, "facts": {}, "counters": {}}
            )
            for part in ("facts", "counters"):
                total[part] = stats.total((total[part], service[part]))
    ports = list(places.values())
    ports += [{**port, "port": len(ports) + at} for at, port in enumerate(own["ports"])]
    workers = [{"worker": index, "pid": each["pid"]} for index, each in sorted(answers.items())]
    return {**own, "workers": workers, "ports": ports, "services": list(services.values())}


def processStats(state: Mapping[str, Any]) -> stats.ProcessStats:
    """A status as L{twisted_rudp.stats} has it, for the metrics."""
    ports = tuple(
        stats.PortStats(
            _host(port["address"]),
            port["counters"],
            tuple(
                stats.SessionStats(
                    _split(session["peer"]),
                    session["state"],
                    session["facts"],
                    session["counters"],
                    session["session"],
                    session["age"],
                    session["handshake"],
                )
                for session in port["sessions"]
            ),
            port["facts"],
        )
        for port in state["ports"]
    )
    services = tuple(
        stats.ServiceStats(each["service"], each["facts"], each["counters"])
        for each in state["services"]
    )
    sums = stats.total(port.counters for port in ports)
    return stats.ProcessStats(state["kernels"], ports, sums, services=services)


def _split(text: str) -> tuple[Any, ...]:
    host, _, port = text.rpartition(":")
    return (host[1:-1], int(port), 0, 0) if host.startswith("[") else (host, int(port))


def _host(text: str) -> IPv4Address | IPv6Address | None:
    if text == "none":
        return None
    host, port, *rest = _split(text)
    return IPv6Address("UDP", host, port) if rest else IPv4Address("UDP", host, port)


class GatheredControl:
    """The control socket of a parent: it asks its workers."""

    def __init__(
        self,
        clock: Any,
        workers: Askable,
        setLevel: Callable[[LogLevel], None] | None = None,
        life: RunningServices | None = None,
    ) -> None:
        """
        @param setLevel: changes the level of the log of this process.
        @param life: see L{Control}.
        """
        self._workers = workers
        self._own = Control(clock, setLevel, life)

    def answer(
        self, line: bytes, client: Client | None = None
    ) -> Deferred[dict[str, Any]]:
        """Carry out one request; see L{Control.answer}."""
        try:
            request = json.loads(line)
            command = request.get("command") if isinstance(request, dict) else None
        except (ValueError, RecursionError):
            command = None
        if command == "status":
            return self.status()
        if command == "ban":
            return Deferred.fromCoroutine(self._ban(request))
        if command in ("kick", "configure"):
            return Deferred.fromCoroutine(self._toOne(request))
        answer = self._own.answer(line, client)
        if isinstance(answer, Deferred):
            return answer
        if command in ("log-level", "trace") and "error" not in answer:
            return self._workers.ask(**request).addCallback(lambda _: answer)
        return succeed(answer)

    def status(self) -> Deferred[dict[str, Any]]:
        """The state of all workers as one."""
        own = self._own.status()
        return self._workers.ask(command="status").addCallback(
            lambda answers: merged(own, answers, self._workers.numbers)
        )

    async def _ban(self, request: dict[str, Any]) -> dict[str, Any]:
        answers = await self._workers.ask(**request)
        for answer in answers.values():
            if "error" in answer:
                return dict(answer)
        kicked = sum(answer["kicked"] for answer in answers.values())
        return {"banned": request["host"], "seconds": request["seconds"], "kicked": kicked}

    async def _toOne(self, request: dict[str, Any]) -> dict[str, Any]:
        """Find who has the session, and ask that worker."""
        state = await self.status()
        try:
            worker, port, session = _located(state, request, self._workers.numbers)
        except RequestError as problem:
            return {"error": str(problem)}
        asked = {**request, "port": port, "session": session}
        return dict(await self._workers.askOne(worker, **asked))


def _located(
    state: Mapping[str, Any], request: Mapping[str, Any], numbers: int
) -> tuple[int, int, int]:
    """
    @return: the worker that has a session, and the numbers of port and session there.
    @raise RequestError: there is no such session.
    """
    number, wanted = request.get("port"), request.get("session")
    ports: Sequence[Any] = state["ports"]
    if not isinstance(number, int) or not 0 <= number < len(ports):
        raise RequestError(f"there is no port {number!r}")
    port = ports[number]
    for session in port["sessions"]:
        if session["session"] == wanted and "worker" in session:
            worker = session["worker"]
            return worker, port["workers"][str(worker)], (wanted - worker) // numbers
    raise RequestError(f"port {number} has no session {wanted!r}")
