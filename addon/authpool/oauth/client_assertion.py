"""Signed assertions by which a client proves itself (RFC 7523 §2.2, RFC 7521 §4.2): one for each request."""

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from authpool.config.client_key import ClientKey
from authpool.config.signing_key import PrivateKey

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LIFETIME_SECONDS = 120
SKEW_SECONDS = 30
"""So far an assertion is dated back, for providers whose clocks are behind; one may be ahead by its lifetime."""

_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "ES256": hashes.SHA256(),
    "ES384": hashes.SHA384(),
    "ES512": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAssertion:
    """Signs for one client, with its private key or (HS256) with its secret."""

    client_id: str
    audience: str
    key: ClientKey | str = field(repr=False)

    def fresh(self, now: float) -> dict[str, str]:
        """The parameters of a new assertion, at `now` (Unix seconds). Raises ConfigurationError: there is no key."""
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.audience,
            "jti": secrets.token_urlsafe(24),
            "iat": int(now) - SKEW_SECONDS,
            "nbf": int(now) - SKEW_SECONDS,
            "exp": int(now) + LIFETIME_SECONDS,
        }
        return {
            "client_id": self.client_id,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self._signed(claims),
        }

    def _signed(self, claims: Mapping[str, object]) -> str:
        if isinstance(self.key, str):
            text = _signing_input({"alg": "HS256", "typ": "JWT"}, claims)
            mac = hmac.HMAC(self.key.encode(), hashes.SHA256())
            mac.update(text)
            return _joined(text, mac.finalize())
        key, algorithm, key_id = self.key.read()
        header = {"alg": algorithm, "typ": "JWT"} | ({"kid": key_id} if key_id is not None else {})
        text = _signing_input(header, claims)
        return _joined(text, _signature(key.private, algorithm, text))


def _signature(key: PrivateKey, algorithm: str, text: bytes) -> bytes:
    """RFC 7518 §3.3 to §3.5, RFC 8037 §3.1."""
    if isinstance(key, RSAPrivateKey):
        sha256 = hashes.SHA256()
        if algorithm == "PS256":
            return key.sign(text, padding.PSS(padding.MGF1(sha256), sha256.digest_size), sha256)
        return key.sign(text, padding.PKCS1v15(), sha256)
    if isinstance(key, EllipticCurvePrivateKey):
        size = (key.key_size + 7) // 8
        r, s = decode_dss_signature(key.sign(text, ECDSA(_HASHES[algorithm])))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    return key.sign(text)


def _signing_input(header: Mapping[str, object], claims: Mapping[str, object]) -> bytes:
    return b".".join(_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))


def _joined(text: bytes, signature: bytes) -> str:
    return (text + b"." + _encoded(signature)).decode()


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
