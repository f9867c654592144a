"""A private key that signs assertions, from PEM or JWK, and the signature algorithms it can be used with (RFC 7518)."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePrivateKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    RSAPublicNumbers,
    rsa_crt_dmp1,
    rsa_crt_dmq1,
    rsa_crt_iqmp,
    rsa_recover_prime_factors,
)
from cryptography.hazmat.primitives.serialization import load_pem_private_key

type PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey

RSA_ALGORITHMS = ("RS256", "PS256")
ALGORITHMS = (*RSA_ALGORITHMS, "ES256", "ES384", "ES512", "EdDSA")
LEAST_RSA_BITS = 2048
_CURVES: Mapping[str, tuple[str, EllipticCurve]] = {
    "secp256r1": ("ES256", SECP256R1()),
    "secp384r1": ("ES384", SECP384R1()),
    "secp521r1": ("ES512", SECP521R1()),
}
_JWK_CURVES = {"P-256": "secp256r1", "P-384": "secp384r1", "P-521": "secp521r1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key; `algorithms` can be used with it, the usual one first. `key_id` and `algorithm` are the JWK's."""

    private: PrivateKey = field(repr=False)
    algorithms: tuple[str, ...]
    key_id: str | None = None
    algorithm: str | None = None


@lru_cache(maxsize=32)  # to check an RSA key takes longer than to sign with it
def parse_signing_key(text: str) -> SigningKey:
    """Read a key in PEM or JWK. Raises ValueError that says what is wrong, and nothing of the key."""
    text = text.strip()
    if text.startswith("{"):
        return _from_jwk(text)
    if "-----BEGIN" not in text:
        raise ValueError("is neither PEM nor JWK.")
    if "PRIVATE KEY-----" not in text:
        raise ValueError("holds no private key, but a public one or a certificate.")
    try:
        private = load_pem_private_key(text.encode(), password=None)
    except TypeError:
        raise ValueError("is encrypted with a passphrase, which nobody is there to type.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is PEM that can't be read.") from None
    return _signing_key(private)


def _from_jwk(text: str) -> SigningKey:
    try:
        jwk = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("begins as a JWK does, and is no JSON.") from None
    if "keys" in jwk:
        raise ValueError("is a set of keys: write the one that signs.")
    if "d" not in jwk:
        raise ValueError("is a JWK without a private key.")
    try:
        private = _private_of(jwk)
    except (KeyError, TypeError, ValueError, binascii.Error, UnsupportedAlgorithm):
        raise ValueError("is a JWK that can't be read.") from None
    key_id, algorithm = jwk.get("kid"), jwk.get("alg")
    return _signing_key(
        private,
        key_id=key_id if isinstance(key_id, str) and key_id else None,
        algorithm=algorithm if isinstance(algorithm, str) else None,
    )


def _private_of(jwk: Mapping[str, Any]) -> object:
    """RFC 7518 §6.2.2 and §6.3.2, RFC 8037 §2."""
    match jwk.get("kty"):
        case "RSA":
            return _rsa(_number(jwk["n"]), _number(jwk["e"]), _number(jwk["d"]))
        case "EC":
            return derive_private_key(_number(jwk["d"]), _CURVES[_JWK_CURVES[jwk["crv"]]][1])
        case "OKP" if jwk.get("crv") == "Ed25519":
            return Ed25519PrivateKey.from_private_bytes(_bytes(jwk["d"]))
    raise ValueError("of another kind")


def _rsa(n: int, e: int, d: int) -> RSAPrivateKey:
    """The factors of `n` are optional in a JWK, and follow from the rest."""
    p, q = rsa_recover_prime_factors(n, e, d)
    return RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=rsa_crt_dmp1(d, p),
        dmq1=rsa_crt_dmq1(d, q),
        iqmp=rsa_crt_iqmp(p, q),
        public_numbers=RSAPublicNumbers(e, n),
    ).private_key()


def _signing_key(private: object, *, key_id: str | None = None, algorithm: str | None = None) -> SigningKey:
    key, algorithms = _usable(private)
    if algorithm is not None and algorithm not in algorithms:
        raise ValueError(f"is a JWK whose `alg` does not fit it: {', '.join(algorithms)} would.")
    return SigningKey(private=key, algorithms=algorithms, key_id=key_id, algorithm=algorithm)


def _usable(private: object) -> tuple[PrivateKey, tuple[str, ...]]:
    if isinstance(private, RSAPrivateKey):
        if private.key_size < LEAST_RSA_BITS:
            raise ValueError(f"is an RSA key of less than {LEAST_RSA_BITS} bits (RFC 7518 §3.3).")
        return private, RSA_ALGORITHMS
    if isinstance(private, EllipticCurvePrivateKey) and private.curve.name in _CURVES:
        return private, (_CURVES[private.curve.name][0],)
    if isinstance(private, Ed25519PrivateKey):
        return private, ("EdDSA",)
    raise ValueError("is a key of a kind that signs no assertions: use RSA, P-256 or Ed25519.")


def _number(value: str) -> int:
    return int.from_bytes(_bytes(value), "big")


def _bytes(value: str) -> bytes:
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
