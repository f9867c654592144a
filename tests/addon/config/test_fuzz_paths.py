"""No reading of a request's path, by any parser that may stand behind the gateway, leads out of what a pool names."""

import json
import re
import shutil
import subprocess
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authpool.config.host_pattern import HostPattern, canonical_host
from authpool.config.path_pattern import PathPattern, comparable_path
from authpool.config.plain_path import is_plain_path

NARROWED = PathPattern.parse("/v1/*").compiled()
PARTS = [
    *("/", "//", ".", "..", "...", ";", ";a=b", "%2e", "%2E", "%252e", "%2f", "%5c", "\\", "%20", "+", "%09", "%00"),
    *("%", "2", "e", "%3b", "%3f", "#", "?", "@", ":", "%ef%bc%8e", "%e2%80%a5", "%c0%ae", "a", "v1", "admin", "\t"),
]
PATHS = st.lists(st.sampled_from(PARTS), max_size=9).map(lambda parts: "/v1/" + "".join(parts))
NODE_RUNS = 3
"""Each starts a process, which is asked of 200 paths and more."""
NODE_READS = """
const paths = JSON.parse(require('fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify(paths.map(p => new URL(`http://h${p}`).pathname)));
"""


def matched(path: str) -> bool:
    found = comparable_path(path)
    return found is not None and NARROWED.fullmatch(found) is not None


def as_nginx(target: str) -> str | None:
    """What nginx matches its locations against: one decoding, then slashes merged and dot segments removed.

    None: it answers 400 (a NUL, a broken escape, a way above the root). `#` ends a path as `?` does.
    """
    path = re.split(r"[?#]", target, maxsplit=1)[0]
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", path):
        return None
    segments: list[str] = []
    for segment in re.sub(r"/+", "/", unquote(path, "latin-1")).split("/")[1:]:
        if segment == ".." and not segments:
            return None
        if segment == "..":
            segments.pop()
        elif segment != ".":
            segments.append(segment)
    return "/" + "/".join(segments)


def stays(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


@given(PATHS)
@example("/v1/+../admin")
@example("/v1/+./admin")
def test_the_quick_way_is_no_laxer_than_the_whole_one(path: str) -> None:
    """Most paths are told to be plain by one search: never one that a closer look would refuse."""
    without_query = path.partition("?")[0]
    assert (comparable_path(path) is None) == (not is_plain_path(without_query))


@given(PATHS)
def test_nginx_and_python_stay_within_the_pool(path: str) -> None:
    """What is matched stays matched for nginx, also behind another nginx, and for `urlsplit`."""
    if not matched(path):
        return
    once = as_nginx(path)
    twice = None if once is None else as_nginx(once)
    for reading in (once, twice, urlsplit(f"http://h{path}").path):
        assert reading is None or stays(reading), reading


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on the PATH")
@settings(max_examples=NODE_RUNS)
@given(st.lists(PATHS, min_size=200, max_size=200))
@example(["/v1/a", "/v1/..", "/v1/%2e%2e/admin"])
def test_node_stays_within_the_pool(paths: list[str]) -> None:
    """What is matched stays matched for Node's URL, as it is and decoded once."""
    asked = [path for path in paths if matched(path)]
    asked += [re.split(r"[?#]", path, maxsplit=1)[0].replace("%2e", ".").replace("%2E", ".") for path in asked]
    for path, reading in zip(asked, node(asked), strict=True):
        assert stays(reading), (path, reading)


def node(paths: list[str]) -> list[str]:
    done = subprocess.run(
        ["node", "-e", NODE_READS], input=json.dumps(paths), capture_output=True, text=True, check=True
    )
    found: list[str] = json.loads(done.stdout)
    return found


@given(st.text(st.sampled_from([*"aZ.-_@:/\\#?%[]*0x1 ", "\x00", "\u3002", "\uff0e", "\u212a", "\xad"]), max_size=24))
def test_a_host_that_matches_is_the_one_that_is_asked(host: str) -> None:
    """Canonical twice is canonical once, and a host that some URL parser would cut in two is none."""
    found = canonical_host(host)
    if found is None:
        return
    assert canonical_host(found) == found
    written = f"[{found}]" if ":" in found else found
    assert urlsplit(f"https://{written}/").hostname == found
    if HostPattern.parse("*.example.com").matches("https", found, 443):
        assert found.endswith(".example.com")
