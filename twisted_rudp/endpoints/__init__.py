"""
The endpoint classes, one module a transport, so that a program loads only what it uses:
L{kcp<twisted_rudp.endpoints.kcp>}, L{qotp<twisted_rudp.endpoints.qotp>} with
L{qotppeer<twisted_rudp.endpoints.qotppeer>}, L{raknet<twisted_rudp.endpoints.raknet>}, and
L{node<twisted_rudp.endpoints.node>}, which dials by any of them. What they share is in
L{base<twisted_rudp.endpoints.base>}.
"""
