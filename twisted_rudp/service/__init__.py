"""The services of C{twist rudp} and the tools of the C{rudp} command."""
