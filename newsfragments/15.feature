kcptun: ``rudp kcptun-client`` and ``rudp kcptun-server`` take kcptun's options and JSON files and talk to its
programs; ``kcptun:`` endpoints make any Twisted program such an end. smux 1 and 2, snappy and QPP.
