"""A choice that a plugin may provide: its name, and options that only the plugin can read."""

from authpool.config.config_table import ConfigTable, mistake


def read_named(table: ConfigTable, key: str, default: str) -> tuple[str, dict[str, object]]:
    """Read ``key = "NAME"`` or ``key = { name = "NAME", ... }`` as the name and the rest."""
    if table.kind_of(key) is not dict:
        return table.take_string(key) or default, {}
    options = table.take_table(key)
    name = ConfigTable.unchecked(options, table.at(key)).take_string("name")
    if name is None:
        raise mistake((*table.at(key), "name"), "is missing.", f'Write {{ name = "{default}" }}, or another one.')
    return name, {option: value for option, value in options.items() if option != "name"}
