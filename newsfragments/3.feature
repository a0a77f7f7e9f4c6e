KCP has all of kcp-go: FEC, its ciphers, out-of-band messages, rate limit, listener rules and counters; a mismatch between two ends is named in the log.
