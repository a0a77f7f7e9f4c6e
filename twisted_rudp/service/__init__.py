"""
What is run rather than imported: the services of C{twist rudp} and the tools of
the C{rudp} command.
"""
