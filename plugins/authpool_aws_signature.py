"""AWS Signature Version 4: what is signed of a request, and the signature. Pure; a part of `authpool_aws_sigv4`.

The rules are AWS's ("Create a signed AWS API request" in its IAM user guide). Texts are Latin-1: a character is a byte.
"""

import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

ALGORITHM = "AWS4-HMAC-SHA256"
PLAIN_PATHS = frozenset({"s3", "s3-object-lambda", "s3-outposts"})
"""Services whose paths are signed as they are: all others normalize them, and encode them once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """A key pair, with the token of its session where it has one."""

    access_key_id: str
    secret: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    def as_token(self) -> str:
        """What the account's record keeps as its access token: no space in it."""
        return json.dumps([self.access_key_id, self.secret, self.session_token or ""], separators=(",", ":"))

    @classmethod
    def of_token(cls, token: str | None) -> "Keys":
        access_key_id, secret, session_token = json.loads(token or "")
        return cls(access_key_id=access_key_id, secret=secret, session_token=session_token or None)


def canonical_path(path: str, service: str) -> str:
    """The path as it is signed; a character of `path` is a byte."""
    if service in PLAIN_PATHS:
        return "/".join(_encoded(unquote_to_bytes(part.encode("latin-1"))) for part in path.split("/"))
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in {"", "."}:
            kept.append(part)
    ending = "/" if kept and path.endswith(("/", "/.", "/..")) else ""
    return quote(f"/{'/'.join(kept)}{ending}".encode("latin-1"), safe="/-_.~")


def canonical_query(query: str) -> str:
    """The parameters as they are signed: decoded, encoded in one way, sorted."""
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    recoded = sorted((_recoded(name), _recoded(value)) for name, _, value in pairs)
    return "&".join([f"{name}={value}" for name, value in recoded])


def _recoded(text: str) -> str:
    return _encoded(unquote_to_bytes(text.replace("+", " ").encode("latin-1")))


def _encoded(data: bytes) -> str:
    return quote(data, safe="-_.~")


def canonical_headers(headers: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """The headers as they are signed, one a line, and their names; names come in small letters."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(re.sub(" +", " ", value.strip(" \t")))
    names = sorted(values)
    return "".join(f"{name}:{','.join(values[name])}\n" for name in names), ";".join(names)


def authorization(
    keys: Keys, *, method: str, path: str, query: str, headers: Iterable[tuple[str, str]], digest: str, scope: str
) -> tuple[str, str]:
    """The field Authorization, and the signature in it. `path` and `query` are canonical, `scope` is DATE/.../SERVICE.

    Among the headers must be `x-amz-date`.
    """
    headers = list(headers)
    lines, names = canonical_headers(headers)
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}"
    moment = next(value for name, value in headers if name == "x-amz-date")
    whole_scope = f"{scope}/aws4_request"
    text = "\n".join([ALGORITHM, moment, whole_scope, hashlib.sha256(canonical.encode("latin-1")).hexdigest()])
    signature = hmac.new(_signing_key(keys.secret, scope), text.encode(), hashlib.sha256).hexdigest()
    credential = f"{keys.access_key_id}/{whole_scope}"
    return f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}", signature


@lru_cache(maxsize=1024)  # the same all day
def _signing_key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (*scope.split("/"), "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def amz_date(at: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
