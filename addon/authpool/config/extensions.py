"""What plugins add to authpool.toml: names that the file may use beside authpool's own."""

from typing import Protocol

from authpool.config.presets import Preset


class Extensions(Protocol):
    """Names that plugins know; both may raise ConfigurationError, when a plugin fails to answer."""

    def preset(self, name: str) -> Preset | None:
        """The preset of that name, None when nobody provides one."""

    def provides_type(self, name: str) -> bool:
        """Whether there is a token source of that name."""


class _BuiltIn:
    def preset(self, name: str) -> Preset | None:  # noqa: ARG002 - there is none of any name
        return None

    def provides_type(self, name: str) -> bool:  # noqa: ARG002 - likewise
        return False


BUILT_IN: Extensions = _BuiltIn()
"""No plugins at all."""
