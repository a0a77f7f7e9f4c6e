"""Tests for L{twisted_rudp.service.gathered}: many states as one."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp import stats
from twisted_rudp.service.gathered import Answers, GatheredControl, processStats
from twisted_rudp.service.status import rows, text


def session(number: int, peer: str) -> dict[str, Any]:
    return {
        "session": number,
        "peer": peer,
        "state": "ESTABLISHED",
        "age": 2.0,
        "handshake": 0.25,
        "facts": {"transport": "kcp"},
        "counters": {"InPkts": number},
    }


def port(number: int, address: str, *sessions: dict[str, Any]) -> dict[str, Any]:
    return {
        "port": number,
        "address": address,
        "facts": {"kind": "gso"},
        "counters": {"admitted": len(sessions), "port.datagramsIn": 10},
        "sessions": list(sessions),
    }


def service(name: str, associations: int, forth: int) -> dict[str, Any]:
    return {
        "service": name,
        "facts": {"associations": associations},
        "counters": {"forth": forth},
    }


class Workers:
    """Three workers, one of which is being replaced."""

    numbers = 3

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.states: dict[int, Any] = {
            0: {
                "pid": 70,
                "ports": [port(0, "192.0.2.1:4000", session(5, "192.0.2.9:1"))],
                "services": [service("forward", 2, 30)],
            },
            2: {
                "pid": 72,
                "services": [service("forward", 3, 40)],
                "ports": [
                    port(0, "192.0.2.1:5000", session(1, "[2001:db8::1]:7")),
                    port(1, "192.0.2.1:4000", session(5, "192.0.2.8:2")),
                ],
            },
        }

    def ask(self, **request: Any) -> Deferred[Answers]:
        if request["command"] == "status":
            return succeed(self.states)
        self.asked.append(request)
        if request.get("host") == "nobody":
            return succeed({0: {"error": "not an address"}, 2: {"error": "not an address"}})
        return succeed({0: {"kicked": 1}, 2: {"kicked": 2}})

    def askOne(self, index: int, **request: Any) -> Deferred[Any]:
        self.asked.append((index, request))
        return succeed({"kicked": 1})


class GatheredTests(SynchronousTestCase):
    """Over two workers."""

    def setUp(self) -> None:
        self.patch(stats, "ports", stats.Registry())
        self.workers = Workers()
        self.levels: list[LogLevel] = []
        self.control = GatheredControl(Clock(), self.workers, self.levels.append)

    def ask(self, **request: Any) -> dict[str, Any]:
        return self.successResultOf(self.control.answer(json.dumps(request).encode()))

    def test_status(self) -> None:
        """A shared port is one, with sums; sessions have numbers of their own."""
        state = self.ask(command="status")
        self.assertEqual(
            [(each["port"], each["address"], each["counters"]["admitted"])
             for each in state["ports"]],
            [(0, "192.0.2.1:4000", 2), (1, "192.0.2.1:5000", 1)],
        )  # fmt: skip
        found = [(row.port, row.session, row.peer) for row in rows(state)]
        self.assertEqual(
            found,
            [(0, 15, "192.0.2.9:1"), (0, 17, "192.0.2.8:2"), (1, 5, "[2001:db8::1]:7")],
        )
        self.assertIn("2 workers (0: 70, 2: 72)", text(state))
        self.assertIn(", no worker is ready", text({**state, "workers": []}))
        self.assertEqual(state["services"], [service("forward", 5, 70)])
        self.assertEqual(self.workers.states[0]["ports"][0]["counters"]["admitted"], 1)

    def test_metrics(self) -> None:
        """The same as the metrics see it."""
        found = processStats(self.ask(command="status"))
        self.assertEqual(found.counters["port.datagramsIn"], 30)
        [forward] = found.services
        self.assertEqual((forward.facts["associations"], forward.counters["forth"]), (5, 70))
        one, two = found.ports
        self.assertEqual((one.host.host, one.host.port), ("192.0.2.1", 4000))  # type: ignore[union-attr]
        self.assertEqual([each.peer[:2] for each in two.sessions], [("2001:db8::1", 7)])
        self.assertEqual(one.sessions[0].handshake, 0.25)

    def test_toOne(self) -> None:
        """A change of a session goes to its worker, with the numbers it has there."""
        self.assertEqual(self.ask(command="kick", port=0, session=17), {"kicked": 1})
        self.ask(command="configure", port=1, session=5, changes={"x": 1})
        self.assertEqual(
            self.workers.asked,
            [
                (2, {"command": "kick", "port": 1, "session": 5}),
                (2, {"command": "configure", "port": 0, "session": 1, "changes": {"x": 1}}),
            ],
        )

    def test_nobody(self) -> None:
        """There is no such port or session."""
        for port, session in ((0, 16), (7, 15), ("x", 15), (0, None)):
            self.assertIn("error", self.ask(command="kick", port=port, session=session))
        self.assertEqual(self.workers.asked, [])

    def test_all(self) -> None:
        """A ban and the level of the log are for all."""
        answer = self.ask(command="ban", host="192.0.2.9", seconds=5)
        self.assertEqual(answer, {"banned": "192.0.2.9", "seconds": 5, "kicked": 3})
        self.assertIn("error", self.ask(command="ban", host="nobody", seconds=5))
        self.assertEqual(self.ask(command="log-level", level="debug"), {"level": "debug"})
        self.assertEqual(self.levels, [LogLevel.debug])
        self.assertEqual(self.workers.asked[-1], {"command": "log-level", "level": "debug"})
        self.assertEqual(self.ask(command="trace"), {"traces": "off"})
        self.assertEqual(self.workers.asked[-1], {"command": "trace"})
        self.workers.asked.clear()
        self.assertIn("error", self.ask(command="log-level", level="loud"))
        self.assertIn("error", self.ask(command="trace", directory="relative"))
        self.assertEqual(self.workers.asked, [])

    def test_malformed(self) -> None:
        """What is no request is answered by an error."""
        for line in (b"", b"7", b"{", b'{"command": "fly"}', b'{"command": ["status"]}'):
            self.assertIn("error", self.successResultOf(self.control.answer(line)))
