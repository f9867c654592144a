"""How the story is told: numbered steps in two columns, readable without colour."""

import textwrap
from collections.abc import Mapping
from typing import TextIO

WIDTH = 100
INDENT = 19

_BOLD, _CYAN, _DIM, _PLAIN = "\x1b[1m", "\x1b[36m", "\x1b[2m", "\x1b[0m"


class Narrator:
    """Prints to `out`, at once; in colour only where `environ` and a terminal agree to it."""

    def __init__(self, out: TextIO, environ: Mapping[str, str]) -> None:
        self._out = out
        self._colour = out.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self._number = 0
        self.current = "the beginning"

    def title(self, text: str) -> None:
        """A line that stands by itself."""
        self._print(self._styled(_BOLD, text))

    def remark(self, text: str) -> None:
        """A sentence at the margin."""
        self._print(textwrap.fill(text, WIDTH))

    def pause(self) -> None:
        """An empty line."""
        self._print("")

    def step(self, name: str, text: str) -> None:
        """Begin the next numbered step with a sentence of what happens."""
        self._number += 1
        self.current = f"step {self._number}, {name}"
        self._print("")
        first, *rest = textwrap.wrap(text, WIDTH - INDENT)
        self._print(f"{self._number:>2}  {self._styled(_BOLD, f'{name:<{INDENT - 4}}')}{first}")
        for line in rest:
            self._indented(line)

    def say(self, text: str) -> None:
        """Go on with the step."""
        for line in textwrap.wrap(text, WIDTH - INDENT):
            self._indented(line)

    def command(self, line: str, answer: str) -> None:
        """A command as it was run, and what it answered, word for word."""
        self._indented(self._styled(_CYAN, f"$ {line}"))
        self.quote(answer)

    def quote(self, text: str) -> None:
        """What a program said or a file holds, word for word."""
        for line in text.splitlines():
            self._indented(self._styled(_DIM, f"  {line}"))

    def pairs(self, rows: Mapping[str, str]) -> None:
        """Names and what they stand for, aligned."""
        width = max(map(len, rows))
        for name, value in rows.items():
            self._indented(f"{name:<{width}}  {value}")

    def _indented(self, line: str) -> None:
        self._print(" " * INDENT + line)

    def _styled(self, style: str, text: str) -> str:
        return f"{style}{text}{_PLAIN}" if self._colour else text

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)
