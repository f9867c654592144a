"""What plugins add to authpool.toml: names that the file may use beside authpool's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from authpool.config.presets import Preset


class Extensions(Protocol):
    """Names that plugins know; each may raise ConfigurationError, when a plugin fails to answer."""

    def configure(self, tables: Mapping[str, Mapping[str, Any]], home: Path) -> None:
        """Take in ``[plugins.NAME]``, before anything is asked."""

    def preset(self, name: str) -> Preset | None:
        """The preset of that name, None when nobody provides one."""

    def provides_type(self, name: str) -> bool:
        """Whether there is a token source of that name."""

    def provides_injection(self, name: str) -> bool:
        """Whether a plugin puts credentials on by that name."""


class _BuiltIn:
    def configure(self, tables: Mapping[str, Mapping[str, Any]], home: Path) -> None:
        """Nobody is there to be configured."""

    def preset(self, name: str) -> Preset | None:  # noqa: ARG002 - there is none of any name
        return None

    def provides_type(self, name: str) -> bool:  # noqa: ARG002 - likewise
        return False

    def provides_injection(self, name: str) -> bool:  # noqa: ARG002 - likewise
        return False


BUILT_IN: Extensions = _BuiltIn()
"""No plugins at all."""
