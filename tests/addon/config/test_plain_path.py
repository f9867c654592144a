"""A path that servers may read in two ways matches nothing that is narrowed."""

import posixpath
import re
import unicodedata
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authpool.config.path_pattern import comparable_path
from authpool.config.plain_path import is_plain_path


@pytest.mark.parametrize(
    "path",
    (
        # controls, blanks and what is no ASCII, as they are
        "/v1/.\t./admin",
        "/v1/\x00",
        "/v1/\x1b[m",
        "/v1/a b",
        "/v1/a\x7f",
        "/v1/é",
        "/v1/\uff0e\uff0e/admin",
        "/v1/\udcff",
        # encoded
        "/v1/.%09./admin",
        "/v1/%00",
        "/v1/..%00/admin",
        "/v1/a%0d%0ab",
        "/v1/a%7f",
        "/v1/%C2%85",
        "/v1/..%C2%A0/admin",
        "/v1/..%20/admin",
        "/v1/%20../admin",
        "/v1/.%20./admin",
        "/v1/..+/admin",
        "/v1/..%2520/admin",
        "/v1/...",
        # compatibility forms, lookalikes, and what is not seen
        "/v1/%EF%BC%8E%EF%BC%8E/admin",
        "/v1/%E2%80%A5/admin",
        "/v1/%E2%80%A4%E2%80%A4/admin",
        "/v1/%E2%80%A6/admin",
        "/v1/a%EF%BC%8Fb",
        "/v1/a%EF%BC%BCb",
        "/v1/%E2%84%80",
        "/v1/%EF%BC%852e%EF%BC%852e/admin",
        "/v1/a%E2%88%95b",
        "/v1/a%E2%81%84b",
        "/v1/%E3%80%82%E3%80%82/admin",
        "/v1/.%E2%80%8B./admin",
        "/v1/.%C2%AD./admin",
        "/v1/%E2%80%AEx",
        "/v1/%EF%BB%BF",
        # parameters in dot segments
        "/v1/..;/admin",
        "/v1/..;a=b;c/admin",
        "/v1/.;/admin",
        "/v1/%2e%2e%3ba/admin",
        "/v1/..%3fa/admin",
        "/v1/..%23a/admin",
        # other slashes
        "/v1\\..\\admin",
        "/v1/a%5Cb",
        "/v1/a%255Cb",
        "/v1/a%2Fb",
        "/v1/a%25252525252fb",
        # more than once, by halves, and in Microsoft's way
        "/v1/%252e%252e/admin",
        "/v1/%2%65%2%65/admin",
        "/v1/%%32%65%%32%65/admin",
        "/v1/%u002e%u002e/admin",
        "/v1/%25u002e%25u002e/admin",
        "/v1/a%u2215b",
        "/v1/%c0%ae%c0%ae/admin",
        "/v1/%25c0%25ae",
        "/v1/x%25" + "25" * 20,
        "/v1/a#b",
    ),
)
def test_it_matches_nothing(path: str) -> None:
    """Whoever reads it more eagerly than we do may find another path in it."""
    assert not is_plain_path(path)
    assert comparable_path(path) is None


@pytest.mark.parametrize(
    "path",
    (
        "/v1/models/gemini-2.5-pro:generateContent",
        "/v1/caf%C3%A9.pdf",
        "/v1/%E4%B8%AD%E6%96%87",
        "/v1/100%",
        "/v1/100%25",
        "/v1/a%20b+c",
        "/v1/a%2520b",
        "/v1/.well-known/x",
        "/v1/..a/b..",
        "/v1/a;b=c/d",
        "/v1//a",
        "/v1/a,b=(c)'d'!$&*@~|^`{}[]\"<>",
        "/v1/a%3Fb",
    ),
)
def test_usual_paths_are_plain(path: str) -> None:
    """However odd they look, every server takes them for the same."""
    assert is_plain_path(path)
    assert comparable_path(path) is not None


PARTS = [
    *("/", ".", "..", ";", ";a=b", "%2e", "%2E", "%252e", "%2f", "%5c", "\\", "%20", "+", "%09", "%00", "\t", " "),
    *("%", "2", "e", "25", "u002e", "%3b", "%3f", "#", "%ef%bc%8e", "%ef%bc%8f", "%e2%80%a5", "%e2%80%8b", "%c0%ae"),
    *("a", "admin", "\uff0e", "%ef%bc%85", "%c2%a0"),
]


@given(st.lists(st.sampled_from(PARTS), max_size=8))
@example(["..", "%2", "0", "/"])
def test_no_reading_of_a_plain_path_leads_out_of_it(parts: list[str]) -> None:
    """Decoded once, twice, ...; normalised; without parameters, blanks and what is not seen: it stays below /v1."""
    path = "/v1/" + "".join(parts)
    if not is_plain_path(path):
        return
    for reading in readings(path):
        assert (posixpath.normpath(reading) + "/").startswith("/v1/"), reading


def readings(path: str) -> list[str]:
    """What servers make of a path, one after the other."""
    found = [path]
    for _ in range(4):
        path = unicodedata.normalize("NFKC", unquote(path, errors="replace"))
        found.append(path)
    eager = [re.sub(r"[\s\x00-\x1f\u200b\ufeff+]", "", one.replace("\\", "/")) for one in found]
    return [re.sub(r"[;?#][^/]*", "", one) for one in found + eager]
