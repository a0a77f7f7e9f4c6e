"""Datagram ports: the UDP sockets under everything."""
