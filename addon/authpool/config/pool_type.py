"""Which kind of credential the accounts of a pool are: one of authpool's own, or a plugin's token source."""

from typing import get_args

from authpool.config.config_table import ConfigTable, did_you_mean, mistake
from authpool.config.extensions import Extensions
from authpool.config.named_option import read_named
from authpool.config.pool_config import PoolType

BUILT_IN_TYPES: tuple[str, ...] = get_args(PoolType.__value__)
OAUTH_TYPES = frozenset(BUILT_IN_TYPES) - {"static"}
"""Those that ask an OAuth token endpoint."""


def read_type(table: ConfigTable, extensions: Extensions) -> tuple[str, dict[str, object]]:
    """Read ``type = "NAME"`` or ``type = { name = "NAME", ... }``; the options are the plugin's to read."""
    name, options = read_named(table, "type", "refresh_token")
    if name in BUILT_IN_TYPES:
        if options:
            raise mistake(
                (*table.at("type"), next(iter(options))), f"means nothing here: {name} has no options.", "Remove it."
            )
        return name, {}
    if not extensions.provides_type(name):
        listed = ", ".join(f'"{choice}"' for choice in BUILT_IN_TYPES)
        remedy = did_you_mean(name, BUILT_IN_TYPES, "Write one of these, or load the plugin that provides it.")
        raise mistake(table.at("type"), f"is none of {listed}, and no plugin provides it.", remedy)
    return name, options
