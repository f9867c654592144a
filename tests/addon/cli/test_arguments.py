"""Options of all verbs, wherever they are written."""

import pytest

from authpool.cli.arguments import arranged

GROUPS = ("client",)


@pytest.mark.parametrize(
    ("given", "meant"),
    (
        ("accounts", "accounts"),
        ("accounts --home /x", "--home /x accounts"),
        ("accounts --home=/x --json", "--home=/x accounts --json"),
        ("--json accounts", "accounts --json"),
        ("--json --home /x pause a/b", "--home /x pause --json a/b"),
        ("pause a/b --json", "pause a/b --json"),
        ("client --json list", "client list --json"),
        ("--json client list --home /x", "--home /x client list --json"),
        ("client --json", "client"),
        ("--json --version", "--version"),
        ("pause -- --home /x --json", "pause -- --home /x --json"),
        ("mitmdump --home /x --json", "mitmdump --home /x --json"),
        ("--home /x mitmdump -s y --json", "--home /x mitmdump -s y --json"),
        ("accounts --home", "accounts --home"),
        ("--json", ""),
        ("", ""),
    ),
)
def test_options_of_all_verbs_are_put_where_they_are_read(given: str, meant: str) -> None:
    """Not those behind ``--``, nor a stock tool's."""
    assert arranged(given.split(), GROUPS) == meant.split()
