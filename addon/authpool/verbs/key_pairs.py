"""Key pairs of AWS as its own tools write them: JSON, or a credentials file. Pure."""

import configparser
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from authpool.accounts.account import OAuthClient
from authpool.errors import RefusedError

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_PROFILE = re.compile(r"^\s*\[", re.MULTILINE)
_PARTS = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
_LINES = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "x_expiration")
_WRAPPERS = ("Credentials", "AccessKey")
"""What `aws sts assume-role` and `aws iam create-access-key` put them into."""


def key_pair_in(document: Mapping[str, Any], origin: str) -> OAuthClient | None:
    """The key pair in JSON that AWS's command line prints; None where there is none. Raises RefusedError."""
    for name in _WRAPPERS:
        if isinstance(document.get(name), dict):
            document = document[name]
    if "AccessKeyId" not in document and "SecretAccessKey" not in document:
        return None
    return _key_pair([document.get(name) for name in _PARTS], origin)


def key_pair_in_lines(text: str, origin: str) -> OAuthClient | None:
    """The key pair in a credentials file (``~/.aws/credentials``) of one profile; None where it is no such file.

    Raises RefusedError.
    """
    if "aws_access_key_id" not in text.lower():
        return None
    parser = configparser.ConfigParser(interpolation=None, default_section="\n")  # `[DEFAULT]` is a profile as any
    try:
        parser.read_string(text if _PROFILE.search(text) else f"[default]\n{text}")
    except configparser.Error:  # not chained: it repeats the line
        raise RefusedError(f"{origin} is no credentials file that can be read") from None
    profiles = [parser[name] for name in parser.sections() if "aws_access_key_id" in parser[name]]
    if len(profiles) != 1:
        raise RefusedError(f"{origin} holds {len(profiles)} profiles; put the one to add into a file of its own")
    return _key_pair([profiles[0].get(name) for name in _LINES], origin)


def _key_pair(parts: list[Any], origin: str) -> OAuthClient:
    access_key_id, secret, session_token = (
        _visible(part, f"{origin}: `{name}`") for part, name in zip(parts[:3], _PARTS[:3], strict=True)
    )
    if not (access_key_id and secret):
        raise RefusedError(f"{origin} holds no {_PARTS[1] if access_key_id else _PARTS[0]}")
    extra = {"session_token": session_token or None, "expires_at": _unix_seconds(parts[3], origin)}
    known = {key: value for key, value in extra.items() if value is not None}
    return OAuthClient(client_id=access_key_id, client_secret=secret, extra=known)


def _visible(part: object, what: str) -> str:
    if part is None or part == "":
        return ""
    if not (isinstance(part, str) and _VISIBLE.fullmatch(part)):
        raise RefusedError(f"{what} has a space or a character that no key has; copy it again")
    return part


def _unix_seconds(moment: object, origin: str) -> int | None:
    if moment is None or moment == "":
        return None
    try:
        at = datetime.fromisoformat(str(moment))
    except ValueError:
        at = datetime.min  # noqa: DTZ901 - told below
    if at.tzinfo is None:
        raise RefusedError(f"{origin}: `Expiration` is no date with its zone")
    return int(at.timestamp())
