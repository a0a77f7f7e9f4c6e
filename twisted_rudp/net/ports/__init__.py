"""The datagram ports behind L{twisted_rudp.net.port}."""
