"""The plain part of TOML that account files are written in, parsed ten times as fast as all of TOML.

With 10,000 accounts the general parser alone would take most of the time a gateway has to start.
"""

import re

from authpool.account_document import Document

# A bare key with a string that needs no escape, a whole number or a truth value; a table header; nothing.
_LINE = re.compile(
    r"""(?P<key>[A-Za-z0-9_-]+)[ ]=[ ]
        (?: "(?P<string>[^"\\\x00-\x1f\x7f]*)" | (?P<number>0|-?[1-9][0-9]{0,17}) | (?P<truth>true|false) )
      | \[(?P<table>[A-Za-z0-9_-]+)\]
      | """,
    re.VERBOSE,
)


def parse_plain(text: str) -> Document | None:
    """Parse a document of plain lines just as `tomllib` would; None when any line is more than plain."""
    document: Document = {}
    table = document
    for line in text.split("\n"):
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        key, string, number, truth, header = match.groups()
        if header is not None:
            if header in document:
                return None
            table = document[header] = {}
        elif key is not None:
            if key in table:
                return None
            table[key] = string if string is not None else int(number) if number else truth == "true"
    return document
