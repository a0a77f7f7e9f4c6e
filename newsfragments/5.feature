QOTP: endpoints ``qotp:`` with always encrypted connections, many streams, peer to peer and hole punching; ``rudp keygen``.
