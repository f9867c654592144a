"""Searches what a gateway leaves behind for the secrets in play, however they are written."""

import base64
import html
import json
import secrets
import string
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

from support.rotating_provider import RotatingProvider

_LETTERS = string.ascii_letters + string.digits
_THIRD = 16
_PART = 8


def new_secret(kind: str) -> str:
    """Make a secret whose every third has characters that encodings change, and 16 that are random."""
    return "/".join(f"{kind[0]}+{''.join(secrets.choice(_LETTERS) for _ in range(_THIRD))}" for _ in range(3))


class SecretProvider(RotatingProvider):
    """A provider whose tokens can be told from everything else; `issued` grows with each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.issued: list[str] = []

    def _new(self, kind: str, account: str) -> str:
        self.issued.append(new_secret(kind))
        return self.issued[-1]


def whole_forms(secret: str) -> dict[str, bytes]:
    """How a secret may be written: each form by its name, of the whole secret."""
    plain = secret.encode()
    every = "".join(f"%{byte:02X}" for byte in plain)
    return {
        "plain": plain,
        "upper case": plain.upper(),
        "percent-encoded": quote(secret, safe="").encode(),
        "percent-encoded as a path": quote(secret).encode(),
        "percent-encoded twice": quote(quote(secret, safe=""), safe="").encode(),
        "percent-encoded to the last character": every.encode(),
        "a form's value": quote_plus(secret).encode(),
        "JSON": json.dumps(secret)[1:-1].replace("/", "\\/").encode(),
        "JSON, unicode": "".join(c if c.isalnum() else f"\\u{ord(c):04x}" for c in secret).encode(),
        "HTML": html.escape(secret).encode(),
        "HTML, numbers": "".join(c if c.isalnum() else f"&#x{ord(c):x};" for c in secret).encode(),
        "hex": plain.hex().encode(),
        "hex, spaced": plain.hex(" ").encode(),
        **{f"base64, {lead} before": base64.b64encode(b"x" * lead + plain) for lead in range(3)},
        **{f"base64 of URLs, {lead} before": base64.urlsafe_b64encode(b"x" * lead + plain) for lead in range(3)},
    }


def _needles(secret: str) -> set[bytes]:
    """What a text with two thirds of the secret, in any form, must hold, in small letters.

    Whichever two thirds they are, the middle third is among them; so that is what is looked for.
    """
    window = -(-2 * len(secret) // 3)
    middle = secret[len(secret) - window : window]
    forms = {name: form for name, form in whole_forms(middle).items() if not name.startswith("base64")}
    return {form.lower() for form in forms.values()} | {form.lower() for form in _base64_cores(middle.encode())}


def _base64_cores(plain: bytes) -> Iterator[bytes]:
    """The characters that depend on these bytes alone, at each of the three places they may begin at."""
    for lead in range(3):
        bits = 8 * lead
        end = bits + 8 * len(plain)
        first, last = -(-bits // 6), end // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(b"\0" * lead + plain + b"\0\0")[first:last]


class SecretSearch:
    """Collects texts by where they came from, each one once, and tells which secrets are in which."""

    def __init__(self) -> None:
        self.collected_bytes = 0
        self._texts: dict[bytes, str] = {}

    @property
    def searched_bytes(self) -> int:
        """How much is left to search when what came twice counts once."""
        return sum(map(len, self._texts))

    def collect(self, place: str, *texts: str | bytes, split: bytes = b"") -> None:
        """Take texts up; `split` parts them where they repeat themselves, so that repeated parts count once."""
        for text in texts:
            data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
            self.collected_bytes += len(data)
            for part in data.split(split) if split else (data,):
                self._texts.setdefault(part, place)

    def hits(self, wanted: Iterable[str]) -> list[str]:
        """Tell where secrets are, by the place and the number of the secret; never the secret itself."""
        by_place: dict[str, list[bytes]] = {}
        for text, place in self._texts.items():
            by_place.setdefault(place, []).append(text)
        needles = [
            (number, needle) for number, secret in enumerate(dict.fromkeys(wanted)) for needle in _needles(secret)
        ]
        return [
            f"{place}: secret {number}, {needle[:6]!r} among {_around(text, needle)}"
            for place, texts in by_place.items()
            for text in [b"\0".join(texts).lower()]
            for number, needle in _found(needles, text)
        ]


def _found(needles: Iterable[tuple[int, bytes]], text: bytes) -> Iterator[tuple[int, bytes]]:
    """Those that are in the text.

    A text is cut into parts, once. Wherever a needle is in it, one of its parts lies in the needle's beginning:
    a needle none of whose beginning is a part need not be looked for any further, and there are thousands of them.
    """
    parts = {text[at : at + _PART] for at in range(0, len(text), _PART)}
    for number, needle in needles:
        assert len(needle) >= 2 * _PART - 1
        if any(needle[at : at + _PART] in parts for at in range(_PART)) and needle in text:
            yield number, needle


def _around(text: bytes, needle: bytes) -> str:
    """What stands before a hit, for the person who has to find it."""
    at = text.index(needle)
    return repr(text[max(0, at - 120) : at])
