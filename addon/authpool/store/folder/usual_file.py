"""The file of an account that nothing is special about, read in one step: nearly all of 100,000 are like that.

Only what authpool itself writes, key by key in its order, is read here; anything else is for `account_file`.
"""

import re

from authpool.accounts.account import Account, Token

_TEXT = r'"([^"\\\x00-\x1f\x7f]*)"'  # needs no escape
_NUMBER = r"(0|[1-9][0-9]{0,17})"
_USUAL = re.compile(
    rf"""version = 1
name = {_TEXT}
generation = {_NUMBER}
(?:subject = {_TEXT}
)?created_at = {_NUMBER}
disabled = false
proxy_disabled = false

\[token\]
(?:access_token = {_TEXT}
)?(?:refresh_token = {_TEXT}
)?token_type = {_TEXT}
(?:expires_at = {_NUMBER}
)?(?:scope = {_TEXT}
)?"""
)


def parse_usual(pool: str, name: str, text: str) -> Account | None:
    """Read the account that the file of `name` (decoded) holds; None when it is no usual one."""
    found = _USUAL.fullmatch(text)
    if found is None:
        return None
    written_name, generation, subject, created_at, access, refresh, token_type, expires_at, scope = found.groups()
    if written_name != name and written_name.casefold() != name.casefold():
        return None
    return Account(
        pool=pool,
        name=written_name,
        generation=int(generation),
        subject=subject or None,
        created_at=int(created_at),
        token=Token(
            access_token=access or None,
            refresh_token=refresh or None,
            token_type=token_type,
            expires_at=None if expires_at is None else int(expires_at),
            scope=scope,
        ),
    )
