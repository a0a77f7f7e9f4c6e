"""
Tools for testing programs that run over datagrams: a simulated network on a
C{twisted.internet.task.Clock}, and a conformance suite for stream transports.
"""

from .host import MemoryHost
from .impairments import BurstLoss, Fate, Impairments
from .network import MemoryNetwork, Traced
from .port import MemoryUDPPort
from .reactor import MemoryUDPReactor
from .resolver import MemoryResolution, MemoryResolver
from .stepping import NotReached

__all__ = [
    "BurstLoss",
    "Fate",
    "Impairments",
    "MemoryHost",
    "MemoryNetwork",
    "MemoryResolution",
    "MemoryResolver",
    "MemoryUDPPort",
    "MemoryUDPReactor",
    "NotReached",
    "Traced",
]
