"""
RakNet as C{raknet.md} describes it, wire-compatible with the C++ original and
with go-raknet. Knows nothing of Twisted.
"""
