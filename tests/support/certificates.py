"""A certificate authority for one test session."""

import datetime as dt
import functools
import ipaddress
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = dt.timedelta(days=1)
_SIGNS_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


class CertificateAuthority:
    """Signs itself and one server certificate for localhost and 127.0.0.1; its files live in `folder`.

    `ca_file` is what a client must trust: mitmproxy's `ssl_verify_upstream_trusted_ca`, for one. `server_file` holds
    the server's key and certificate.
    """

    def __init__(self, folder: Path) -> None:
        self.ca_file = folder / "ca.pem"
        self.server_file = folder / "server.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("authpool tests")
        authority = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_SIGNS_CERTIFICATES, critical=True)
        )
        self.ca_file.write_bytes(self._sign(authority))
        self._write_server_certificate()

    def server_context(self, *, http2: bool = False) -> ssl.SSLContext:
        """What a server needs; with `http2` it speaks nothing else to a client that offers it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server_file)
        context.set_alpn_protocols(["h2", "http/1.1"] if http2 else ["http/1.1"])
        return context

    def client_context(self) -> ssl.SSLContext:
        """What a client needs that trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    @property
    def pem(self) -> bytes:
        """Its own key and certificate."""
        return _pem(self._key) + self.ca_file.read_bytes()

    def _write_server_certificate(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = (
            self._builder(_name("localhost"), key)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        self.server_file.touch(0o600)
        self.server_file.write_bytes(_pem(key) + self._sign(builder))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )

    def _sign(self, builder: x509.CertificateBuilder) -> bytes:
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM)


@functools.cache
def _spare_authority() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return CertificateAuthority(Path(folder)).pem


def write_spare_ca(confdir: Path) -> None:
    """Give a mitmproxy a CA that no client will know, so that it makes none.

    The key of its own would be RSA: to make one, and to check it when it is read, takes longer than most tests.
    """
    (confdir / "mitmproxy-ca.pem").write_bytes(_spare_authority())


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
