"""One table of authpool.toml, taken apart key by key; every mistake is told with file, key and remedy.

No value is ever repeated in a message: it may be a secret that was written under the wrong key.
"""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from authpool.errors import ConfigurationError

CONFIG_NAME = "authpool.toml"

type KeyPath = tuple[str, ...]
"""Where something is in the file: ``("pools", "google", "token_url")``."""

_EXPECTED = {
    str: ("a string", '"..."'),
    bool: ("true or false", "true"),
    int: ("a whole number", "3"),
    float: ("a number", "1.5"),
    list: ("an array of strings", '["...", "..."]'),
    dict: ("a table", "{ ... }"),
}
_FOUND = {
    str: "a string",
    bool: "a boolean",
    int: "a whole number",
    float: "a decimal number",
    list: "an array",
    dict: "a table",
}


def place(path: KeyPath) -> str:
    """Name file and key as ``authpool.toml: pools.google.token_url``."""
    return f"{CONFIG_NAME}: {'.'.join(path)}" if path else CONFIG_NAME


def mistake(path: KeyPath, problem: str, remedy: str) -> ConfigurationError:
    """Tell of a mistake at a key; `problem` and `remedy` are sentences."""
    return ConfigurationError(place(path), problem, remedy)


def did_you_mean(word: str, known: Collection[str], otherwise: str) -> str:
    """Suggest the closest of the known words, or say what else to do."""
    close = difflib.get_close_matches(word.lower(), sorted(known), n=1)
    return f"Did you mean `{close[0]}`?" if close else otherwise


class ConfigTable:
    """A table whose keys are all known ones.

    The `take` methods answer the default when the key is absent, and raise ConfigurationError when its value
    is of another type or kind.
    """

    def __init__(self, document: object, path: KeyPath, known: Collection[str]) -> None:
        if not isinstance(document, dict):
            raise _wrong_type(path, document, dict)
        self.path = path
        self._document: Mapping[str, Any] = document
        for key, value in document.items():
            if key not in known:
                raise _unknown_key((*path, key), known, is_table=isinstance(value, dict))

    @classmethod
    def unchecked(cls, document: Mapping[str, Any], path: KeyPath) -> "ConfigTable":
        """A table whose known keys only a plugin can tell, with `only`."""
        return cls(dict(document), path, document.keys())

    def only(self, *known: str) -> "ConfigTable":
        """This table, if it has no other keys. Raises ConfigurationError."""
        return ConfigTable(dict(self._document), self.path, known)

    def __contains__(self, key: str) -> bool:
        return key in self._document

    def at(self, key: str) -> KeyPath:
        return (*self.path, key)

    def kind_of(self, key: str) -> type | None:
        """The type of a value, where several are allowed; None when the key is absent."""
        return type(self._document[key]) if key in self._document else None

    def take[T](self, key: str, kind: type[T], default: T) -> T:
        value = self._document.get(key, default)
        if key in self._document and type(value) is not kind:
            raise _wrong_type(self.at(key), value, kind)
        return value  # type: ignore[no-any-return]

    def take_string(self, key: str) -> str | None:
        """Take a string that must not be empty when it is there."""
        if key not in self._document:
            return None
        value = self.take(key, str, "")
        if not value.strip():
            raise mistake(self.at(key), "is empty.", "Fill it in, or remove the line.")
        return value

    def take_strings(self, key: str) -> tuple[str, ...]:
        values: list[object] = self.take(key, list, [])
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise _wrong_type(self.item(key, index), value, str)
        return tuple(str(value) for value in values)

    def take_choice(self, key: str, choices: Collection[str], default: str) -> str:
        value = self.take(key, str, default)
        if value not in choices:
            listed = ", ".join(f'"{choice}"' for choice in choices)
            raise mistake(
                self.at(key),
                f"is none of {listed}.",
                did_you_mean(value, choices, "Write one of these, or remove the line for the default."),
            )
        return value

    def take_whole(self, key: str, default: int, low: int, high: int) -> int:
        value = self.take(key, int, default)
        if not low <= value <= high:
            raise mistake(
                self.at(key),
                f"is out of range: {low} to {high}.",
                f"Write `{key} = {default}` for the default.",
            )
        return value

    def take_number(self, key: str, default: float, low: float, high: float) -> float:
        """Take a whole or a decimal number."""
        value = self._document.get(key, default)
        if type(value) not in (int, float):
            raise _wrong_type(self.at(key), value, float)
        if not low <= value <= high:  # nor does nan get through
            raise mistake(
                self.at(key),
                f"is out of range: {low:g} to {high:g}.",
                f"Write `{key} = {default:g}` for the default.",
            )
        return float(value)

    def take_table(self, key: str) -> dict[str, object]:
        return self.take(key, dict, {})

    def item(self, key: str, index: int) -> KeyPath:
        """The path of one item of an array, counted from 0: ``pools.google.hosts[1]``."""
        return self.at(f"{key}[{index}]")


def _unknown_key(path: KeyPath, known: Collection[str], *, is_table: bool) -> ConfigurationError:
    kind = "table" if is_table else "key"
    listed = f"Known here: {', '.join(sorted(known))}."
    return mistake(path, f"there is no such {kind}.", did_you_mean(path[-1], known, listed))


def _wrong_type(path: KeyPath, value: object, kind: type) -> ConfigurationError:
    expected, example = _EXPECTED[kind]
    found = _FOUND.get(type(value), "a date or time")
    key = path[-1].partition("[")[0]
    remedy = f"Write it as {example}." if "[" in path[-1] else f"Write `{key} = {example}`."
    return mistake(path, f"must be {expected}, not {found}.", remedy)
