QOTP: endpoints ``qotp:`` with always encrypted connections, many streams, early data on request, peer to peer and hole punching; ``rudp keygen``.
