r"""Tests for L{twisted_rudp.strings}: everything a person may type behind C{kcp:}."""

from __future__ import annotations

import subprocess
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.endpoints import clientFromString, quoteStringArgument, serverFromString
from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.internet.task import Clock
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.interpreter import environment, python
from twisted_rudp.endpoints import kcp
from twisted_rudp.strings import EVERY, KCP, EndpointParser

_NAMES = st.sampled_from(["port", *KCP.server.table()]) | st.text(max_size=12)
_VALUES = (
    st.integers(-2, 70000).map(str)
    | st.sampled_from(["null", "yes", "stream", "fast", "auto", "::1"])
    | st.text(max_size=12)
)


class _Recorder:
    def __init__(self, reactor: Any, *args: Any, **kwargs: Any) -> None:
        self.reactor = reactor
        self.args = args
        self.kwargs = kwargs


@implementer(IStreamServerEndpoint)
class _Server(_Recorder):
    options = kcp.KCPServerEndpoint.options

    def listen(self, factory: Any) -> Any:
        raise NotImplementedError("only parsed")


@implementer(IStreamClientEndpoint)
class _Client(_Recorder):
    options = kcp.KCPClientEndpoint.options

    def connect(self, factory: Any) -> Any:
        raise NotImplementedError("only parsed")


class BadValueTests(SynchronousTestCase):
    """Values of each argument of each transport."""

    def test_named(self) -> None:
        """What is refused is refused by an error that names the argument."""
        refused = 0
        for transport in EVERY:
            prefix = transport.prefix
            for parse, role, start in (
                (serverFromString, transport.server, f"{prefix}:"),
                (clientFromString, transport.client, f"{prefix}:127.0.0.1:"),
            ):
                for name in {*role.table()} - {"host"}:
                    for value in ("", "\0", "-1", "x" * 300, "a b", "9" * 30):
                        if name == "keyLogFile":
                            # That makes the file.
                            value = self.mktemp() + "\0"
                        text = quoteStringArgument(value)
                        text = text if name == "port" else f"4000:{name}={text}"
                        try:
                            parse(Clock(), start + text)
                        except ValueError as error:
                            refused += 1
                            self.assertIn(name, str(error), start + text)
        self.assertGreater(refused, 500)


class ParserTestCase(SynchronousTestCase):
    """A parser whose endpoint classes only remember what they were given."""

    def setUp(self) -> None:
        self.patch(kcp, "KCPServerEndpoint", _Server)
        self.patch(kcp, "KCPClientEndpoint", _Client)
        self.reactor = Clock()

    def server(self, description: str) -> Any:
        return serverFromString(self.reactor, description)

    def client(self, description: str) -> Any:
        return clientFromString(self.reactor, description)

    def refused(self, parse: Any, description: str) -> str:
        """
        @return: the text of the C{ValueError}, which always names the transport.
        """
        message = str(self.assertRaises(ValueError, parse, description))
        self.assertTrue(message.startswith("kcp: "), message)
        return message


class ServerTests(ParserTestCase):
    """C{serverFromString} with C{kcp:}."""

    def test_plugin(self) -> None:
        """One object provides both parser interfaces and IPlugin (STR-1)."""
        parser = EndpointParser(KCP)
        verifyObject(IPlugin, parser)
        verifyObject(IStreamServerEndpointStringParser, parser)
        verifyObject(IStreamClientEndpointStringParserWithReactor, parser)

    def test_positional(self) -> None:
        """
        C{kcp:4000} is C{kcp:port=4000} (STR-3), and the constructor's own
        defaults stand for the rest.
        """
        for description in ("kcp:4000", "kcp:port=4000", "KCP:4000"):
            endpoint = self.server(description)
            self.assertIsInstance(endpoint, _Server)
            self.assertIs(endpoint.reactor, self.reactor)
            self.assertEqual(endpoint.args, (4000,))
            self.assertEqual(endpoint.kwargs, {})

    def test_everything(self) -> None:
        """
        Every argument reaches the constructor under its own name with its type
        (STR-3, STR-5).
        """
        endpoint = self.server(
            r"kcp:port=0:interface=\:\:1:backlog=7:maxSessions=9:drainTimeout=0.5:crypt=null:"
            "profile=fast2:nodelay=1:interval=20:resend=2:nc=YES:sndwnd=2048:rcvwnd=65535:"
            "perHost=3:sessions=replace:blacklist=600:requireSn0=yes:keyFile=k:dataShards=10:"
            "parityShards=3:alwaysParity=yes:dup=1:rateLimit=9:writeDelay=1:ackNoDelay=no:"
            "readTimeout=2:writeTimeout=3:"
            "mtu=1350:mode=messages:dscp=46:idleTimeout=90:portKind=stock"
        )
        self.assertEqual(endpoint.args, (0,))
        self.assertEqual(
            endpoint.kwargs,
            {
                "interface": "::1",
                "backlog": 7,
                "maxSessions": 9,
                "drainTimeout": 0.5,
                "profile": "fast2",
                "nodelay": 1,
                "interval": 20,
                "resend": 2,
                "nc": True,
                "sndwnd": 2048,
                "rcvwnd": 65535,
                "crypt": "null",
                "perHost": 3,
                "sessions": "replace",
                "blacklist": 600.0,
                "requireSn0": True,
                "keyFile": "k",
                "dataShards": 10,
                "parityShards": 3,
                "alwaysParity": True,
                "dup": 1,
                "rateLimit": 9,
                "writeDelay": True,
                "ackNoDelay": False,
                "readTimeout": 2.0,
                "writeTimeout": 3.0,
                "mtu": 1350,
                "mode": "messages",
                "dscp": 46,
                "idleTimeout": 90.0,
                "portKind": "stock",
            },
        )

    def test_twice(self) -> None:
        """Parsing the same string twice gives two endpoints (STR-8)."""
        first, second = self.server("kcp:4000"), self.server("kcp:4000")
        self.assertIsNot(first, second)

    def test_wrapped(self) -> None:
        """A prefix-style wrapper passes us through (STR-7)."""
        endpoint = self.server(r"haproxy:kcp:port=4000:interface=\:\:1")
        self.assertEqual(endpoint._wrappedEndpoint.kwargs, {"interface": "::1"})

    def test_missingPort(self) -> None:
        """Without a port the error says what is missing; C{kcp:} counts as none (STR-2, STR-4)."""
        for description in ("kcp", "kcp:", r"kcp:interface=\:\:1"):
            message = self.refused(self.server, description)
            self.assertIn("port is missing: expected an integer from 0 to 65535", message)

    def test_badValues(self) -> None:
        """A bad value is named with its argument and with what is expected (STR-4, STR-5)."""
        for name, value, expected in [
            ("port", "65536", "an integer from 0 to 65535"),
            ("port", "-1", "an integer from 0 to 65535"),
            ("port", "http", "an integer from 0 to 65535"),
            ("port", " 1", "an integer from 0 to 65535"),
            ("port", "1_0", "an integer from 0 to 65535"),
            ("port", "٣", "an integer from 0 to 65535"),
            ("port", "9" * 5000, "an integer from 0 to 65535"),
            ("interface", "localhost", "an IPv4 or IPv6 address"),
            ("backlog", "0", "an integer from 1 to 65535"),
            ("rcvwnd", "65536", "an integer from 0 to 65535"),
            ("interval", "9", "an integer from 10 to 5000"),
            ("dscp", "64", "an integer from 0 to 63"),
            ("nc", "maybe", "yes, no, true, false, 1 or 0"),
            ("idleTimeout", "nan", "a number of seconds, at least 0.1"),
            ("idleTimeout", "1e3", "a number of seconds, at least 0.1"),
            ("idleTimeout", "0", "a number of seconds, at least 0.1"),
            ("profile", "fastest", "default, bulk, interactive, normal, fast, fast2 or fast3"),
            ("mode", "bytes", "stream or messages"),
            ("portKind", "raw", "auto, gso, plain or stock"),
        ]:
            arguments = {"port": "4000", name: value}
            description = ":".join(f"{key}={text}" for key, text in arguments.items())
            self.assertEqual(
                self.refused(self.server, "kcp:" + description),
                f"kcp: {name}={value!r} is invalid: expected {expected}",
            )

    def test_nearMiss(self) -> None:
        """A misspelt name is answered with the right one (STR-4)."""
        for wrong, right in [
            ("prot", "port"),
            ("sndWnd", "sndwnd"),
            ("idletimeout", "idleTimeout"),
        ]:
            self.assertIn(
                f"unknown argument {wrong!r}; did you mean {right}?",
                self.refused(self.server, f"kcp:4000:{wrong}=1"),
            )

    def test_unknown(self) -> None:
        """A name like none of ours is answered with all there are (STR-4)."""
        message = self.refused(self.server, "kcp:4000:xyzzy=1")
        self.assertIn("unknown argument 'xyzzy'; the arguments are port, interface,", message)

    def test_parameters(self) -> None:
        """The names of a parser's own parameters are like any other."""
        for name in ("reactor", "self"):
            message = self.refused(self.server, f"kcp:4000:{name}=1")
            self.assertIn(f"unknown argument '{name}'", message)

    def test_otherSide(self) -> None:
        """A client's argument on a server is said to be one (STR-4)."""
        self.assertIn(
            "waitForPeer is an argument of the client endpoint, not the server",
            self.refused(self.server, "kcp:4000:waitForPeer=no"),
        )

    def test_tooManyPositional(self) -> None:
        """An unescaped IPv6 address is answered with how to escape it (STR-2)."""
        for description in ("kcp:::1:4000", "kcp:4000:::1", "kcp:4000:127.0.0.1:1"):
            self.assertIn(r"write '\:'", self.refused(self.server, description))

    def test_givenTwice(self) -> None:
        """The same argument with and without its name is an error."""
        self.assertIn(
            "port is given twice", self.refused(self.server, "kcp:4000:port=4001")
        )

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.dictionaries(_NAMES, _VALUES, max_size=6))
    def test_anything(self, arguments: dict[str, str]) -> None:
        """Whatever is typed gives an endpoint or a ValueError that names the transport (STR-4)."""
        parser: Any = EndpointParser(KCP)
        try:
            endpoint = parser.parseStreamServer(self.reactor, **arguments)
        except ValueError as error:
            self.assertTrue(str(error).startswith("kcp: "))
        else:
            self.assertEqual(endpoint.kwargs.keys() | {"port"}, arguments.keys() - {"crypt"})


class ClientTests(ParserTestCase):
    """C{clientFromString} with C{kcp:}."""

    def test_positional(self) -> None:
        """C{kcp:host:4000} is C{kcp:host=host:port=4000} (STR-3)."""
        for description in (
            "kcp:example.org:4000",
            "kcp:host=example.org:port=4000",
            "kcp:port=4000:host=example.org",
        ):
            endpoint = self.client(description)
            self.assertIsInstance(endpoint, _Client)
            self.assertEqual(endpoint.args, ("example.org", 4000))
            self.assertEqual(endpoint.kwargs, {})

    def test_everything(self) -> None:
        """The client's own arguments reach the constructor (STR-3)."""
        endpoint = self.client(
            "kcp:host=h:port=1:timeout=2.5:bindAddress=127.0.0.1:waitForPeer=no:mtu=1200"
        )
        self.assertEqual(endpoint.args, ("h", 1))
        self.assertEqual(
            endpoint.kwargs,
            {"timeout": 2.5, "bindAddress": "127.0.0.1", "waitForPeer": False, "mtu": 1200},
        )

    def test_ipv6WithZone(self) -> None:
        """A quoted IPv6 host arrives whole, with its zone (STR-2, ADDR-3)."""
        endpoint = self.client(f"kcp:host={quoteStringArgument('fe80::1%eth0')}:port=9")
        self.assertEqual(endpoint.args, ("fe80::1%eth0", 9))

    def test_insideTLS(self) -> None:
        """An argument-style wrapper passes us through (STR-7)."""
        endpoint = self.client(r"tls:host=example.com:port=443:endpoint=kcp\:host=h\:port=4000")
        self.assertEqual(endpoint._wrappedEndpoint.args, ("h", 4000))

    def test_missing(self) -> None:
        """A client needs host and port, and no port is 0 (STR-4)."""
        self.assertIn("host is missing", self.refused(self.client, "kcp:"))
        self.assertIn("port is missing", self.refused(self.client, "kcp:example.org"))
        self.assertIn("port='0' is invalid", self.refused(self.client, "kcp:h:0"))
        self.assertIn("host='' is empty", self.refused(self.client, "kcp:host=:port=1"))

    def test_misspelt(self) -> None:
        """A required argument with a letter wrong is an unknown one, not a missing one (STR-4)."""
        for parse, description in (
            (self.server, "kcp:prot=4000"),
            (self.client, "kcp:host=example.org:prot=4000"),
        ):
            self.assertIn(
                "unknown argument 'prot'; did you mean port?", self.refused(parse, description)
            )

    def test_otherSide(self) -> None:
        """A server's argument on a client is said to be one (STR-4)."""
        self.assertIn(
            "backlog is an argument of the server endpoint, not the client",
            self.refused(self.client, "kcp:h:1:backlog=5"),
        )


class LazyTests(SynchronousTestCase):
    """What importing costs every Twisted program on the machine."""

    def test_transportImportedInsideParse(self) -> None:
        """The parser's module names the transport and does not import it (STR-9)."""
        script = (
            "import sys, twisted_rudp.strings; "
            "print(sorted(m for m in sys.modules if m.startswith('twisted_rudp')))"
        )
        out = subprocess.run(
            python("-c", script), env=environment(), check=True, capture_output=True, text=True
        ).stdout
        strings = ("", ".mux", ".node", ".parser", ".transports")
        expected = ["twisted_rudp", *(f"twisted_rudp.strings{module}" for module in strings)]
        self.assertEqual(out.strip(), repr(expected))


class NodeStringTests(SynchronousTestCase):
    """C{node:ID}."""

    def parse(self, description: str) -> Any:
        return clientFromString(Clock(), description)

    def refused(self, description: str) -> str:
        return str(self.assertRaises(ValueError, self.parse, description))

    def test_everything(self) -> None:
        """
        Arguments of finding and of the transports in one description; those of a
        transport go where they are known.
        """
        endpoint = self.parse(
            r"node:alice:server=h\:7:transports=kcp:timeout=9:lan=v1,v4:mtu=1200:profile=fast"
        )
        endpoint = getattr(endpoint, "_wrapped", endpoint)
        self.assertEqual(endpoint.id.text, "alice")
        self.assertEqual([profile.name for profile in endpoint.profiles], ["v1", "v4"])
        self.assertEqual((endpoint.timeout, endpoint.transports), (9, ("kcp",)))
        self.assertEqual(endpoint._options, {"kcp": {"mtu": 1200, "profile": "fast"}})

    def test_refused(self) -> None:
        """
        Every error names C{node}, the argument and what would be right (STR-4), never
        a value that may be secret.
        """
        for description, expected in [
            ("node:", "node: id is missing"),
            ("node:a:b", "node: only id may be given without a name"),
            ("node:a:id=b", "node: id is given twice"),
            ("node:a:lan=v9", "node: lan: 'v9' is not one of"),
            ("node:a:lan=none", "node: lan='none' needs a server"),
            ("node:a:transports=tcp", "node: transports: 'tcp' is not one of"),
            ("node:a:timeout=x", "node: timeout is invalid: expected a number of seconds from"),
            ("node:a:mtu=secret", "node: kcp's mtu is invalid: expected an integer from"),
            ("node:a:host=b", "node: unknown argument 'host'"),
            ("node:a:server=h\\:x", "node: server: 'h:x' is not HOST"),
            ("node:a:Profile=fast", "did you mean profile?"),
        ]:
            message = self.refused(description)
            self.assertIn(expected, message)
            self.assertNotIn("secret", message)
