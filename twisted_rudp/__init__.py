"""
Reliable transports over UDP for Twisted.

Programs need no name from here: C{clientFromString(reactor, "kcp:host=h:port=4000")} and
C{serverFromString} find the transports by Twisted's plugins. Beyond that:

 - L{twisted_rudp.endpoints}: the endpoint classes, one module a transport.
 - L{twisted_rudp.interfaces}: what a transport over UDP can do beyond a TCP connection.
 - L{twisted_rudp.errors}: why connections fail and end.
 - L{twisted_rudp.stats}: counters of sessions, sockets and the process.
 - L{twisted_rudp.discovery}: announcing nodes and finding them.
 - L{twisted_rudp.testing}: a simulated network, and a conformance suite for transports.

Everything else is internal and may change.
"""

__version__ = "0.1.0.dev0"
