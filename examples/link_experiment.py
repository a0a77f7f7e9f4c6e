"""
An experiment on a simulated link: how long a transfer of 1 MB takes at different loss
rates, and a trace of every datagram as CSV.

    python examples/link_experiment.py kcp 0 1 5 10
    python examples/link_experiment.py qotp 5 --trace trace.csv
"""

from __future__ import annotations

import csv
import sys

from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import Factory, Protocol

from twisted_rudp.endpoints.kcp import KCPClientEndpoint, KCPServerEndpoint
from twisted_rudp.endpoints.qotp import QOTPClientEndpoint, QOTPServerEndpoint
from twisted_rudp.endpoints.raknet import RakNetClientEndpoint, RakNetServerEndpoint
from twisted_rudp.testing import Impairments, MemoryNetwork

ENDPOINTS = {
    "kcp": (KCPServerEndpoint, KCPClientEndpoint),
    "qotp": (QOTPServerEndpoint, QOTPClientEndpoint),
    "raknet": (RakNetServerEndpoint, RakNetClientEndpoint),
}

SIZE = 1_000_000


class Counting(Protocol):
    """Counts what arrives."""

    def dataReceived(self, data):
        self.factory.received += len(data)


def transfer(transport, loss):
    """
    Send SIZE bytes over a link of 20 ms and 50 Mbit/s.

    @return: the network, with its trace, and the seconds that it took.
    """
    network = MemoryNetwork(seed=1)
    client, server = network.host("client"), network.host("server")
    link = Impairments(delay=0.02, rate=6_250_000, queue=312_500, loss=loss)
    network.impair(link, client, server)
    serverEndpoint, clientEndpoint = ENDPOINTS[transport]
    factory = Factory.forProtocol(Counting)
    factory.received = 0
    serverEndpoint(server.reactor, 4000).listen(factory)
    endpoint = clientEndpoint(client.reactor, "server", 4000)
    connecting = connectProtocol(endpoint, Protocol())
    connecting.addCallback(lambda protocol: protocol.transport.write(bytes(SIZE)))
    network.run(lambda: factory.received == SIZE, limit=600.0)
    return network, network.clock.seconds()


def save(trace, path):
    """Write one line for each datagram."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "source", "destination", "bytes", "fate", "arrivals"])
        for sent in trace:
            arrivals = " ".join(f"{at:.6f}" for at in sent.arrivals)
            source, destination = sent.source[0], sent.destination[0]
            row = [f"{sent.time:.6f}", source, destination, len(sent.data), sent.fate, arrivals]
            writer.writerow(row)


def main(transport, *arguments):
    """Print a line for each loss rate."""
    percents, path = list(arguments), None
    if "--trace" in percents:
        at = percents.index("--trace")
        path = percents[at + 1]
        del percents[at : at + 2]
    for percent in percents:
        network, seconds = transfer(transport, float(percent) / 100)
        goodput = SIZE / seconds / 1e6
        print(f"{transport}, {percent} % loss: {seconds:.2f} s, {goodput:.2f} MB/s")
        if path is not None:
            save(network.trace, path)


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ENDPOINTS:
        sys.exit(__doc__)
    main(*sys.argv[1:])
