"""How a pool's credential is put on a request: the `inject` table."""

import re

from authpool.config.config_table import ConfigTable, mistake
from authpool.config.pool_config import HeaderInjection, QueryInjection

_TOKEN = "{token}"
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_PARAMETER_NAME = re.compile(r"[A-Za-z0-9._~-]+")
_EXAMPLE = 'Write `inject = { header = "Authorization", value = "Bearer {token}" }`.'

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


def read_injection(pool: ConfigTable) -> HeaderInjection | QueryInjection:
    """Read the `inject` table of a pool. Raises ConfigurationError."""
    if "inject" not in pool:
        return HeaderInjection()
    table = ConfigTable(pool.take_table("inject"), pool.at("inject"), ("header", "query", "value"))
    header, parameter = table.take_string("header"), table.take_string("query")
    if header is not None and parameter is None:
        _check_header(header, table)
        return HeaderInjection(header=header, template=_template(table))
    if parameter is not None and header is None:
        if not _PARAMETER_NAME.fullmatch(parameter):
            problem = "has characters other than letters, digits, `.`, `_`, `~` and `-`."
            raise mistake(table.at("query"), problem, 'Write it as `query = "key"`.')
        return QueryInjection(parameter=parameter, template=_template(table))
    raise mistake(table.path, "must have either `header` or `query`.", _EXAMPLE)


def _check_header(header: str, table: ConfigTable) -> None:
    if not _HEADER_NAME.fullmatch(header):
        raise mistake(table.at("header"), "is not a header name.", 'Write it as `header = "Authorization"`.')
    if header.lower() in _REFUSED_HEADERS:
        problem = "is a header that belongs to the connection, not to the credential."
        raise mistake(table.at("header"), problem, "Use `Authorization`, or the header the API documents.")


def _template(table: ConfigTable) -> str:
    template = table.take_string("value")
    if template is None:
        raise mistake(table.at("value"), "is missing.", _EXAMPLE)
    if any(not " " <= c <= "~" for c in template):
        raise mistake(table.at("value"), "has a line end or another character no header can have.", _EXAMPLE)
    if template.count(_TOKEN) != 1:
        raise mistake(table.at("value"), "must hold {token} exactly once.", _EXAMPLE)
    return template
