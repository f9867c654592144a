"""What of a request tells one kind of it from another: its client, its path, a header, a field of its JSON body."""

import re
from dataclasses import dataclass
from typing import Literal

from authpool.config.config_table import KeyPath, mistake

type SelectorKind = Literal["account", "client", "path", "header", "json"]

_NAMED = {"header": re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), "json": re.compile(r"[^.]+(?:\.[^.]+)*")}
"""A header's name is a token (RFC 9110 §5.6.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """`name` is the header's, or the dotted way to the field. By `account`, all requests are of one kind."""

    kind: SelectorKind = "account"
    name: str = ""

    @property
    def needs_body(self) -> bool:
        return self.kind == "json"


def parse_selector(text: str, path: KeyPath, *allowed: SelectorKind) -> Selector:
    """Read ``header:X-Session``, ``json:model``, or a bare word. Raises ConfigurationError when it is not `allowed`."""
    kind, colon, name = text.partition(":")
    named = kind in _NAMED and _NAMED[kind].fullmatch(name) is not None
    if kind in allowed and (named or (kind not in _NAMED and not colon)):
        return Selector(kind=kind, name=name)
    forms = [f'"{kind}:NAME"' if kind in _NAMED else f'"{kind}"' for kind in allowed]
    raise mistake(path, f"is none of {', '.join(forms)}.", "Write one of these.")
