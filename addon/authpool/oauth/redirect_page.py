"""What a browser is shown that comes back from a sign-in: plain pages without a script, and no secret in them."""

import base64
import hashlib
import html
from dataclasses import dataclass
from http import HTTPStatus

from authpool.accounts.printable import printable

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:38rem;margin:15vh auto 0;padding:0 1.5rem;"
    "color:#1b1b1b;background:#fff}h1{font-size:1.4rem;margin:0 0 .6rem}p{margin:.4rem 0;overflow-wrap:anywhere}"
    "h1.good{color:#0a6b2c}h1.bad{color:#a11}"
    "@media (prefers-color-scheme:dark){body{color:#e6e6e6;background:#1a1a1a}"
    "h1.good{color:#6fd08c}h1.bad{color:#ff8a80}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = (
    "Content-Type: text/html; charset=utf-8\r\n"
    "Cache-Control: no-store\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    f"Content-Security-Policy: default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    "Connection: close\r\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page: `good` says that what was wanted has happened, None that nothing has."""

    title: str
    lines: tuple[str, ...]
    status: HTTPStatus = HTTPStatus.OK
    good: bool | None = None

    def response(self, *, with_body: bool = True) -> bytes:
        """The whole HTTP/1.1 response; without its body for HEAD."""
        body = self._document().encode()
        head = f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n{_HEADERS}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + (body if with_body else b"")

    def _document(self) -> str:
        mood = {True: ' class="good"', False: ' class="bad"', None: ""}[self.good]
        title = _text(self.title)
        lines = "\n".join(f"<p>{_text(line)}</p>" for line in self.lines)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n"
            f"<body>\n<main>\n<h1{mood}>{title}</h1>\n{lines}\n</main>\n</body>\n</html>\n"
        )


def done_page(sentence: str) -> Page:
    """The account was written: the sentence that the terminal says."""
    return Page(title="Signed in", lines=(f"{sentence}.", "You can close this page."), good=True)


def failed_page(reason: str) -> Page:
    """The sign-in is over, and nothing came of it: the reason that the terminal says."""
    lines = (f"{reason}.", "The terminal says the same. You can close this page.")
    return Page(title="Not signed in", lines=lines, good=False)


def stray_page(why: str) -> Page:
    """A request that says nothing about the sign-in under way."""
    lines = (f"This is not the answer to the sign-in that is under way: {why}.", "That one still waits.")
    return Page(title="Not this one", lines=lines, status=HTTPStatus.BAD_REQUEST)


NOT_FOUND = Page(title="Nothing here", lines=("A sign-in waits at another address.",), status=HTTPStatus.NOT_FOUND)
NOT_ALLOWED = Page(title="Only GET", lines=("A sign-in waits here.",), status=HTTPStatus.METHOD_NOT_ALLOWED)
MALFORMED = Page(title="Not HTTP", lines=("That request can't be read.",), status=HTTPStatus.BAD_REQUEST)


def _text(text: str) -> str:
    return html.escape(printable(text))
