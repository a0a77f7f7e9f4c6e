"""
Congestion control: how much may be in flight, and how fast it leaves.

All controllers have the interface of L{Controller<twisted_rudp.core.congestion.controller>}.
"""

from twisted_rudp.core.congestion.controller import Controller, FixedWindow, Sample

__all__ = ["Controller", "FixedWindow", "Sample"]
