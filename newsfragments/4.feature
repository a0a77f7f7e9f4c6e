RakNet: endpoints ``raknet:`` with messages over ordering channels or a stream, server pings, ``rudp ping`` and ``twist rudp raknet-pong``.
