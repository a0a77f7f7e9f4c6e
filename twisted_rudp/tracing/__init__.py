"""What a connection did, in files: captures of datagrams, and traces of sessions."""
