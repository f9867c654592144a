"""The plain part of TOML that account files are written in, parsed ten times as fast as all of TOML.

With 10,000 accounts the general parser alone would take most of the time a gateway has to start.
"""

import re

from authpool.accounts.document import Document

# A line: a bare key with a string that needs no escape, a whole number or a truth value; a table header; nothing.
_LINES = re.compile(
    r"""^(?: ([A-Za-z0-9_-]+)[ ]=[ ]
           (?: "([^"\\\x00-\x1f\x7f]*)" | (0|-?[1-9][0-9]{0,17}) | (true|false) )
         | \[([A-Za-z0-9_-]+)\]
         | )$""",
    re.VERBOSE | re.MULTILINE,
)


def parse_plain(text: str) -> Document | None:
    """Parse a document of plain lines just as `tomllib` would; None when any line is more than plain."""
    lines = _LINES.findall(text)
    if len(lines) != text.count("\n") + 1:
        return None
    document: Document = {}
    table = document
    for key, string, number, truth, header in lines:
        if key:
            if key in table:
                return None
            table[key] = int(number) if number else truth == "true" if truth else string
        elif header:
            if header in document:
                return None
            table = document[header] = {}
    return document
