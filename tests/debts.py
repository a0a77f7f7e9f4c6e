"""
What does not keep to the conventions that L{tests.test_conventions} looks at. Nothing may be
added; what is mended is taken out.
"""

from __future__ import annotations

MADE: set[str] = {
    "endpoints.kcp.KCPClientEndpoint",
    "endpoints.kcp.KCPServerEndpoint",
    "endpoints.qotp.QOTPServerEndpoint",
    "net.session.Session",
    "service.listening.Tally",
    "service.status.StatusOptions",
}
"""No debt: classes that are made themselves, and have one subclass for another purpose."""

EXERCISED: dict[str, str] = {
    "decoding.discovery": "tests.decoding.test_wires",
    "decoding.kcp": "tests.decoding.test_wires",
    "decoding.qotp": "tests.decoding.test_wires",
    "decoding.raknet": "tests.decoding.test_wires",
    "discovery.announcement": "tests.discovery.test_service",
    "discovery.sockets": "tests.discovery.test_local",
    "discovery.table": "tests.discovery.test_registry",
    "endpoints.origins": "tests.endpoints.test_mux",
    "endpoints.pinging": "tests.endpoints.test_raknet",
    "endpoints.sessions": "tests.endpoints.test_mux",
    "kcp.timers": "tests.kcp.test_engine",
    "mux.layer": "tests.service.test_kcptun",
    "net.shutdown": "tests.net.test_hub",
    "net.udp.reactors": "tests.net.test_open",
    "net.usercode": "tests.net.test_connect",
    "raknet.close": "tests.raknet.test_engine",
    "raknet.queue": "tests.raknet.test_bulk",
    "service.connect": "tests.service.test_command",
    "strings.mux": "tests.endpoints.test_mux",
    "strings.node": "tests.test_strings",
    "strings.parser": "tests.test_strings",
    "strings.transports": "tests.test_strings",
    "testing.conformance.case": "tests.conformance.test_tcp",
    "testing.conformance.closing": "tests.conformance.test_tcp",
    "testing.conformance.connecting": "tests.conformance.test_tcp",
    "testing.conformance.dialling": "tests.conformance.test_tcp",
    "testing.conformance.layers": "tests.conformance.test_tcp",
    "testing.conformance.listening": "tests.conformance.test_tcp",
    "testing.conformance.ordering": "tests.conformance.test_tcp",
    "testing.conformance.simulated": "tests.conformance.test_kcp",
    "testing.conformance.stages": "tests.conformance.test_tcp",
    "testing.conformance.tls": "tests.conformance.test_kcp",
    "testing.conformance.transport": "tests.conformance.test_tcp",
    "testing.conformance.vanishing": "tests.conformance.test_kcp",
    "testing.conformance.writing": "tests.conformance.test_tcp",
    "testing.events": "tests.testing.test_reactor",
    "testing.resolver": "tests.testing.test_reactor",
}
"""No debt: modules that no test imports, and the test module that uses each through others."""

BASES: set[str] = set()
"""Base classes with one subclass that are to be one class with it."""

PARTS: set[str] = set()
"""Parts that a transport lacks."""

CORE: set[str] = set()
"""Modules of C{core} for one transport."""

CIRCLES: set[str] = set()
"""Modules that import each other."""

REACH: dict[str, int] = {
    "discovery.client": 2,
    "discovery.local": 1,
    "endpoints.node": 5,
    "kcp.arq": 8,
    "kcp.engine": 25,
    "kcp.recovery": 1,
    "kcp.snmp": 1,
    "mux.snappy": 1,
    "net.connect": 1,
    "net.hub": 2,
    "net.session": 9,
    "net.transport": 5,
    "qotp.close": 8,
    "qotp.engine": 31,
    "qotp.receiver": 2,
    "qotp.sender": 8,
    "qotp.sent": 2,
    "raknet.close": 2,
    "raknet.engine": 34,
    "raknet.sender": 2,
    "service.echo": 1,
    "service.forward": 1,
    "service.link": 2,
    "testing.conformance.actors": 5,
    "testing.conformance.closing": 3,
    "testing.conformance.dialling": 14,
    "testing.conformance.layers": 1,
    "testing.conformance.listening": 1,
    "testing.conformance.ordering": 2,
    "testing.conformance.reading": 1,
    "testing.conformance.simulated": 8,
    "testing.conformance.stages": 1,
    "testing.conformance.vanishing": 15,
}
"""How often a module reaches deeper than two dots."""

DOCSTRINGS: dict[str, int] = {}
"""Docstrings of one sentence on three lines."""

UNTESTED: set[str] = set()
"""Modules without a test."""

PRIVATE: dict[str, int] = {
    "tests.benchmarks.quicworker": 2,
    "tests.discovery.test_local": 6,
    "tests.discovery.test_suspend": 5,
    "tests.endpoints.test_node": 1,
    "tests.kcp.test_crypto": 1,
    "tests.kcp.test_receiver": 1,
    "tests.kcp.test_sent": 2,
    "tests.net.support": 1,
    "tests.net.test_hub": 1,
    "tests.net.test_multiplex": 1,
    "tests.net.test_stream": 1,
    "tests.net.udp.test_batching": 2,
    "tests.qotp.test_engine": 1,
    "tests.qotp.test_releasepeer": 1,
    "tests.raknet.test_demux": 1,
    "tests.raknet.test_strings": 11,
    "tests.service.test_browse": 3,
    "tests.service.test_forward": 3,
    "tests.service.test_kcptun": 2,
    "tests.service.test_link": 1,
    "tests.test_strings": 3,
}
"""How often a test module touches what is private to others."""
