# mypy: allow-untyped-calls
"""TLS on top of a transport (LAY-1). Needs Twisted's C{tls} extra."""

from __future__ import annotations

import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import error
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOFactory

from .actors import RecordingFactory, pattern
from .case import ConformanceCase

HOSTNAME = "example.org"


def makeCertificate() -> PrivateCertificate:
    """A self-signed certificate for L{HOSTNAME}."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTNAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOSTNAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made: PrivateCertificate = PrivateCertificate.loadPEM(certificate.public_bytes(pem) + private)
    return made


class TLS(ConformanceCase):
    """TLS wrapped around both ends."""

    def setUp(self) -> None:
        super().setUp()
        self.certificate = makeCertificate()

    async def secure(
        self, client: RecordingFactory, server: RecordingFactory, trusted: PrivateCertificate
    ) -> None:
        """
        Connect two factories through TLS.

        @param trusted: the certificate that the client accepts.
        """
        port = await self.listen(
            TLSMemoryBIOFactory(self.certificate.options(), False, server, self.stage.serverReactor)
        )
        root = trustRootFromCertificates([Certificate(trusted.original)])
        options = optionsForClientTLS(HOSTNAME, root)
        endpoint = self.clientEndpoint(port)
        connecting: Any
        if self.stage.simulated:
            wrapped = TLSMemoryBIOFactory(options, True, client, self.stage.clientReactor)
            connecting = endpoint.connect(wrapped)
        else:
            connecting = wrapClientTLS(options, endpoint).connect(client)
        await self.stage.result(connecting)
        await self.stage.until(lambda: server.made and client.made)

    async def test_exchangeAndClose(self) -> None:
        """LAY-1: data crosses both ways, and an orderly end is ConnectionDone on both sides."""
        client, server = self.factory(), self.factory()
        await self.secure(client, server, self.certificate)
        near, far = client.built[0], server.made[0]
        data = pattern(1_000_000)
        near.transport.write(data)
        far.transport.write(data)
        await self.received(far, len(data))
        await self.received(near, len(data))
        self.assertTrue(near.received == data == far.received)
        self.assertTrue(ISSLTransport.providedBy(near.transport))
        near.transport.loseConnection()
        await self.lost(near, far)
        for end in (near, far):
            self.assertLost(end, error.ConnectionDone)

    async def test_closeInsideDataReceived(self) -> None:
        """
        LAY-1: an answer written and the connection closed inside dataReceived: the
        answer arrives.
        """

        def answer(recorder: Any) -> None:
            recorder.transport.write(b"answer")
            recorder.transport.loseConnection()

        client, server = self.factory(), self.factory(dataReceived=answer)
        await self.secure(client, server, self.certificate)
        client.built[0].transport.write(b"question")
        await self.lost(client.built[0], server.made[0])
        self.assertEqual(client.built[0].received, b"answer")

    async def test_wrongCertificate(self) -> None:
        """LAY-1: a certificate that is not trusted ends the connection on both sides."""
        client, server = self.factory(), self.factory()
        await self.secure(client, server, makeCertificate())
        limit = self.transport.deadPeerLimit
        await self.lost(client.built[0], server.made[0], limit=limit)
        self.assertNotEqual(client.built[0].lost, None)
        self.assertFalse(client.built[0].lost.check(error.ConnectionDone))  # type: ignore[union-attr]
