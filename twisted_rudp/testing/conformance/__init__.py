"""
A conformance suite for stream transports, whose specification is Twisted's TCP.

The author of a transport writes a L{Transport}, and in a test module::

    globals().update(makeTestCases(MyTransport(), RealSockets, __name__))
    globals().update(makeTestCases(MyTransport(), Simulation, __name__))

Every topic of the suite whose needs the transport declares becomes a test case of
that module.
"""

from .case import ConformanceCase, Pair
from .making import TOPICS, makeTestCases
from .stages import RealSockets, Simulation, Stage
from .transport import Capability, Transport

__all__ = [
    "TOPICS",
    "Capability",
    "ConformanceCase",
    "Pair",
    "RealSockets",
    "Simulation",
    "Stage",
    "Transport",
    "makeTestCases",
]
