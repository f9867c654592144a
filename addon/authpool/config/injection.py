"""How a pool's credential is put on a request: the `inject` table."""

import re

from authpool.config.config_table import ConfigTable, mistake
from authpool.config.pool_config import BasicInjection, HeaderInjection, Injection, QueryInjection

_TOKEN = "{token}"
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_PARAMETER_NAME = re.compile(r"[A-Za-z0-9._~-]+")
_EXAMPLE = 'Write `inject = { header = "Authorization", value = "Bearer {token}" }`.'
_BASIC_EXAMPLE = 'Write `inject = { basic = "x-access-token:{token}" }`.'

# The framing and the connection are the proxy's own business (RFC 9110 §7.2, §7.6.1; RFC 9112 §6).
_REFUSED_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def read_injection(pool: ConfigTable) -> Injection:
    """Read the `inject` table of a pool. Raises ConfigurationError."""
    if "inject" not in pool:
        return HeaderInjection()
    table = ConfigTable(pool.take_table("inject"), pool.at("inject"), ("header", "query", "value", "basic"))
    header, parameter = table.take_string("header"), table.take_string("query")
    if "basic" in table:
        return _basic(table)
    if header is not None and parameter is None:
        _check_header(header, table)
        return HeaderInjection(header=header, template=_template(table))
    if parameter is not None and header is None:
        if not _PARAMETER_NAME.fullmatch(parameter):
            problem = "has characters other than letters, digits, `.`, `_`, `~` and `-`."
            raise mistake(table.at("query"), problem, 'Write it as `query = "key"`.')
        return QueryInjection(parameter=parameter, template=_template(table))
    raise mistake(table.path, "must have one of `header`, `query` and `basic`.", _EXAMPLE)


def _basic(table: ConfigTable) -> BasicInjection:
    """Read ``basic = "USER:{token}"``; the token may also be the user's name."""
    for other in ("header", "query", "value"):
        if other in table:
            raise mistake(table.at(other), "means nothing beside `basic`.", "Remove one of them.")
    template = _template(table, "basic", _BASIC_EXAMPLE)
    if ":" not in template:
        raise mistake(table.at("basic"), "has no colon between user and password.", _BASIC_EXAMPLE)
    return BasicInjection(template=template)


def _check_header(header: str, table: ConfigTable) -> None:
    if not _HEADER_NAME.fullmatch(header):
        raise mistake(table.at("header"), "is not a header name.", 'Write it as `header = "Authorization"`.')
    if header.lower() in _REFUSED_HEADERS:
        problem = "is a header that belongs to the connection, not to the credential."
        raise mistake(table.at("header"), problem, "Use `Authorization`, or the header the API documents.")


def _template(table: ConfigTable, key: str = "value", example: str = _EXAMPLE) -> str:
    template = table.take_string(key)
    if template is None:
        raise mistake(table.at(key), "is missing.", example)
    if any(not " " <= c <= "~" for c in template):
        raise mistake(table.at(key), "has a line end or another character no header can have.", example)
    if template.count(_TOKEN) != 1:
        raise mistake(table.at(key), "must hold {token} exactly once.", example)
    return template
