Any Twisted protocol runs over KCP when its endpoint string changes (``kcp:port=4000``). ``twist rudp forward`` and ``twist rudp echo`` are services for it.
