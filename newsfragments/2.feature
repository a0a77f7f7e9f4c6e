Any Twisted protocol runs over KCP by an endpoint string (``kcp:port=4000``), and ``twist rudp forward`` and ``twist rudp echo`` run it as services.
