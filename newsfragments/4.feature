RakNet: endpoints ``raknet:`` with messages over ordering channels or a stream, answered server pings, ``rudp ping`` and ``twist rudp raknet-pong``.
