"""Test cases for a transport on a stage."""

from __future__ import annotations

from collections.abc import Iterable

from . import (
    closing,
    connecting,
    dialling,
    layers,
    listening,
    ordering,
    reading,
    simulated,
    vanishing,
    writing,
)
from .case import ConformanceCase
from .stages import Stage
from .transport import Transport


def _tls() -> tuple[type[ConformanceCase], ...]:
    """TLS belongs to the suite where Twisted's C{tls} extra is installed."""
    try:
        from .tls import TLS
    except ImportError:
        return ()
    return (TLS,)


TOPICS: tuple[type[ConformanceCase], ...] = (
    connecting.Success,
    connecting.Unwilling,
    connecting.Cancelling,
    connecting.Failing,
    connecting.Refused,
    connecting.Unanswered,
    listening.Listening,
    listening.Accepting,
    writing.TransportObject,
    writing.Consuming,
    reading.Reading,
    closing.OrderlyClose,
    closing.Aborting,
    closing.ApplicationErrors,
    closing.HalfClose,
    closing.Afterwards,
    ordering.Reentrancy,
    ordering.Collisions,
    ordering.Plain,
    layers.Web,
    layers.WebFiles,
    layers.RemoteCalls,
    layers.Lines,
    layers.Services,
    layers.Wrapped,
    simulated.BadLinks,
    simulated.FlowOverTime,
    simulated.Packing,
    vanishing.Vanishing,
    vanishing.Shutdown,
    vanishing.Draining,
    dialling.Attempts,
    dialling.Names,
    *_tls(),
)
"""All that the suite has to say."""


def applies(topic: type[ConformanceCase], transport: Transport, stage: type[Stage]) -> bool:
    """Whether a topic can be tested with this transport on this stage."""
    if topic.simulated not in (None, stage.simulated):
        return False
    capabilities = transport.capabilities
    return topic.needs in capabilities and not topic.lacks & capabilities


def makeTestCases(
    transport: Transport,
    stage: type[Stage],
    module: str,
    topics: Iterable[type[ConformanceCase]] = TOPICS,
) -> dict[str, type[ConformanceCase]]:
    """
    Make a test case of each topic that applies.

    @param module: the C{__name__} of the module that will hold them; trial wants it.
    @param topics: those to choose from, by default all.
    @return: the classes by their names, for C{globals().update}.
    """
    made: dict[str, type[ConformanceCase]] = {}
    for topic in topics:
        if applies(topic, transport, stage):
            name = f"{transport.name}{stage.__name__}{topic.__name__}Tests"
            attributes = {
                "__module__": module,
                "__doc__": topic.__doc__,
                "transport": transport,
                "stageClass": stage,
            }
            made[name] = type(name, (topic,), attributes)
    return made
