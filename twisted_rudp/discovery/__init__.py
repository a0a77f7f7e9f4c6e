"""
Finding nodes: announcements on the local network, a discovery server beyond it, and
one registry of what was heard.

What is found is a hint. Anybody can announce any id, so results are candidates to
dial; who answers is proved by the transport, where the id is its key.
"""
