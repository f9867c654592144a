"""The verb `plugins`: what is loaded, from where, with which hooks, and what was left out. Needs no configuration."""

from authpool.plugins.manager import PluginRow

HEADER = ("NAME", "ORIGIN", "VERSION", "HOOKS", "LEFT OUT")


def plugin_cells(row: PluginRow) -> tuple[str, ...]:
    """One plugin's line under HEADER; an empty cell is what nobody knows, or what has no meaning."""
    return row.name, row.origin, row.version or "", ", ".join(row.hooks), row.left_out
