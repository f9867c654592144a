"""How a pool's credential is put on a request: the `inject` table."""

import re
from collections.abc import Mapping
from typing import Any

from authpool.config.config_table import ConfigTable, mistake
from authpool.config.extensions import BUILT_IN, Extensions
from authpool.config.named_option import read_named
from authpool.config.pool_config import BasicInjection, HeaderInjection, Injection, PluginInjection, QueryInjection
from authpool.config.pool_type import BUILT_IN_TYPES

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


def read_injection(
    pool: ConfigTable,
    extensions: Extensions = BUILT_IN,
    pool_type: str = "refresh_token",
    type_options: Mapping[str, Any] | None = None,
) -> Injection:
    """Read the `inject` table of a pool, whose type may put its credential on by itself. Raises ConfigurationError."""
    if pool_type not in BUILT_IN_TYPES and extensions.provides_injection(pool_type):
        if "inject" in pool:
            problem = f"means nothing here: a pool of type {pool_type} puts its credential on by itself."
            raise mistake(pool.at("inject"), problem, "Remove the line.")
        return PluginInjection(name=pool_type, options=type_options or {}, by_type=True)
    if "inject" not in pool:
        return HeaderInjection()
    if "name" in pool.take_table("inject"):
        return _by_plugin(pool, extensions)
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


def _by_plugin(pool: ConfigTable, extensions: Extensions) -> PluginInjection:
    """Read ``{ name = "NAME", ... }``: the options are the plugin's to read."""
    name, options = read_named(pool, "inject", "")
    if not extensions.provides_injection(name):
        remedy = "Load the plugin that provides it, or write one of `header`, `query` and `basic`."
        raise mistake((*pool.at("inject"), "name"), "no plugin provides it.", remedy)
    return PluginInjection(name=name, options=options)


def is_header_for_credentials(name: str) -> bool:
    """Whether a credential may be put on as a header of that name."""
    return _HEADER_NAME.fullmatch(name) is not None and name.lower() not in _REFUSED_HEADERS


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
