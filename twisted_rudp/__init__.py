"""
Reliable transports over UDP for Twisted.
"""

__version__ = "0.1.0.dev0"
