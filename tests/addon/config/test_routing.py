"""A request belongs to the pool with the most exact host, then the longest path, and to no other."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authpool.config import HostPattern, PoolConfig
from authpool.config.path_pattern import PathPattern, comparable_path
from authpool.config.routing import MEMO_SIZE, Router, find_tie


def make_pool(name: str, *hosts: str, paths: tuple[str, ...] = (), methods: tuple[str, ...] = ()) -> PoolConfig:
    return PoolConfig(
        name=name,
        type="static",
        hosts=tuple(HostPattern.parse(host) for host in hosts),
        paths=paths,
        methods=methods,
    )


def chosen(router: Router, scheme: str, host: str, port: int, path: str = "/", method: str = "GET") -> str | None:
    pool = router.match(scheme, host, port, method, path)
    return None if pool is None else pool.name


@pytest.mark.parametrize(
    ("pattern", "scheme", "host", "port", "matches"),
    (
        ("api.example.com", "https", "api.example.com", 443, True),
        ("api.example.com", "http", "api.example.com", 80, True),
        ("api.example.com", "https", "api.example.com", 80, False),
        ("api.example.com", "http", "api.example.com", 443, False),
        ("api.example.com", "https", "api.example.com", 8443, False),
        ("api.example.com", "", "api.example.com", 443, False),
        ("api.example.com", "HTTPS", "API.Example.COM", 443, True),
        ("API.example.com.", "https", "api.example.com.", 443, True),
        ("api.example.com", "https", "api.example.com..", 443, False),
        ("api.example.com:8443", "https", "api.example.com", 8443, True),
        ("api.example.com:8443", "http", "api.example.com", 8443, True),
        ("api.example.com:8443", "https", "api.example.com", 443, False),
        ("*.example.com", "https", "a.example.com", 443, True),
        ("*.example.com", "https", "a.b.example.com", 443, True),
        ("*.example.com:8443", "https", "a.example.com", 8443, True),
        ("*.example.com", "https", "example.com", 443, False),
        ("*.example.com", "https", ".example.com", 443, False),
        ("*.example.com", "https", "a..example.com", 443, False),
        ("*.example.com", "https", "evilexample.com", 443, False),
        ("*.example.com", "https", "a.example.com.evil.net", 443, False),
        # names that end as they should, and are no names
        ("*.example.com", "https", "evil.net@a.example.com", 443, False),
        ("*.example.com", "https", "evil.net/.example.com", 443, False),
        ("*.example.com", "https", "evil.net#.example.com", 443, False),
        ("*.example.com", "https", "evil.net%00.example.com", 443, False),
        ("*.example.com", "https", "evil.net\x00.example.com", 443, False),
        ("*.example.com", "https", "evil.net\\.example.com", 443, False),
        ("*.example.com", "https", "evil.net:443.example.com", 443, False),
        ("*.example.com", "https", "a .example.com", 443, False),
        ("*.example.com", "https", "a\n.example.com", 443, False),
        ("*.example.com", "https", "fe80::1%.example.com", 443, False),
        ("*.example.com", "https", "[fe80::1%.example.com]", 443, False),
        ("*.example.com", "https", "a" * 64 + ".example.com", 443, False),
        ("*.example.com", "https", "a." * 200 + "example.com", 443, False),
        ("*.example.com", "https", "", 443, False),
        # addresses
        ("127.0.0.1:9000", "http", "127.0.0.1", 9000, True),
        ("127.0.0.1:9000", "http", "127.1", 9000, False),
        ("127.0.0.1:9000", "http", "0x7f000001", 9000, False),
        ("127.0.0.1:9000", "http", "::ffff:127.0.0.1", 9000, False),
        ("[::1]:9000", "http", "::1", 9000, True),
        ("[::1]:9000", "http", "[::1]", 9000, True),
        ("[::1]:9000", "http", "0:0:0:0:0:0:0:1", 9000, True),
        ("[2001:DB8::1]", "https", "2001:db8:0::1", 443, True),
        ("[::1]", "https", "::2", 443, False),
        # international names, as mitmproxy decodes them and as DNS knows them
        ("bücher.example", "https", "bücher.example", 443, True),
        ("bücher.example", "https", "xn--bcher-kva.example", 443, True),
        ("xn--bcher-kva.example", "https", "BÜCHER.example", 443, True),
        ("*.bücher.example", "https", "a.xn--bcher-kva.example", 443, True),
        ("example.com", "https", "ex\u0430mple.com", 443, False),
        ("example.com", "https", "example\ud800.com", 443, False),
    ),
)
def test_a_host_matches_what_its_pattern_says(
    pattern: str, scheme: str, host: str, port: int, *, matches: bool
) -> None:
    """Names compare as DNS sees them; whatever is no host name matches nothing."""
    router = Router([make_pool("a", pattern)])
    assert chosen(router, scheme, host, port) == ("a" if matches else None)
    assert router.manages(scheme, host, port) is matches


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    (
        ("/v1/models", "/v1/models", True),
        ("/v1/models", "/v1/models?alt=sse", True),
        ("/v1/models", "/v1/models/", False),
        ("/v1/models", "/V1/models", False),
        ("/v1/models", "/v1/model%73", True),
        ("/v1/a%2ab", "/v1/a%2Ab", True),
        ("/v1/*", "/v1/", True),
        ("/v1/*", "/v1/a/b?c=../d", True),
        ("/v1/*", "/v1", False),
        ("/v1/*", "/v10/a", False),
        ("/v1/*", "//v1/a", False),
        ("/v1*", "/v1", True),
        ("/v1*", "/v10/a", True),
        ("/*", "/", True),
        ("/*", "*", False),
        ("/*", "", False),
        ("/*", "http://evil.example/", False),
        ("/users/*/mail", "/users/me/mail", True),
        ("/users/*/mail", "/users//mail", False),
        ("/users/*/mail", "/users/a/b/mail", False),
        ("/users/*/mail", "/users/me/mail/1", False),
        ("/users/*/mail*", "/users/me/mail/1", True),
        ("/v1/*", "/v1/a.b/.c/..d/e..", True),
        ("/v1/*", "/v1/caf%C3%A9", True),
        ("/v1/*", "/v1/100%", True),
        # other readings of these paths lead elsewhere
        ("/v1/*", "/v1/../admin", False),
        ("/v1/*", "/v1/..", False),
        ("/v1/*", "/v1/.", False),
        ("/v1/*", "/v1/./a", False),
        ("/v1/*", "/v1/%2e%2e/admin", False),
        ("/v1/*", "/v1/%2E./admin", False),
        ("/v1/*", "/v1/%252e%252e/admin", False),
        ("/v1/*", "/v1/..;/admin", False),
        ("/v1/*", "/v1/..;a=b/admin", False),
        ("/v1/*", "/v1/..%3b/admin", False),
        ("/v1/*", "/v1/a%2fb", False),
        ("/v1/*", "/v1/a%2Fb", False),
        ("/v1/*", "/v1/a%252Fb", False),
        ("/v1/*", "/v1/a%5cb", False),
        ("/v1/*", "/v1/a\\b", False),
        ("/v1/*", "/v1/%c0%afadmin", False),
        ("/v1/*", "/v1/%c0%ae%c0%ae/admin", False),
        ("/v1/*", "/v1/a#b", False),
    ),
)
def test_a_path_matches_what_its_pattern_says(pattern: str, path: str, *, matches: bool) -> None:
    """Paths match without the query; what servers may read differently matches nothing."""
    router = Router([make_pool("a", "h.example", paths=(pattern,))])
    assert chosen(router, "https", "h.example", 443, path) == ("a" if matches else None)


def test_a_path_that_no_narrowed_pool_takes_goes_to_one_that_is_not_narrowed() -> None:
    """Dot segments keep a request out of what is narrowed by paths, and only out of that."""
    router = Router([make_pool("narrow", "h.example", paths=("/v1/*",)), make_pool("wide", "h.example")])
    assert chosen(router, "https", "h.example", 443, "/v1/a") == "narrow"
    assert chosen(router, "https", "h.example", 443, "/v1/../a") == "wide"
    assert chosen(router, "https", "h.example", 443, "/v2/a") == "wide"


@pytest.mark.parametrize(
    ("host", "port", "path", "method", "name"),
    (
        ("api.example.com", 443, "/", "GET", "exact with port"),
        ("api.example.com", 80, "/", "GET", "exact"),
        ("x.api.example.com", 443, "/", "GET", "long suffix"),
        ("x.example.com", 443, "/", "GET", "suffix"),
        ("x.example.com", 443, "/long/path", "GET", "path of suffix"),
        ("api.example.com", 80, "/long/path", "GET", "exact"),
        ("paths.example.com", 443, "/a/b/c", "GET", "long path"),
        ("paths.example.com", 443, "/a/b/", "GET", "closed path"),
        ("paths.example.com", 443, "/a/x", "GET", "short path"),
        ("paths.example.com", 443, "/b", "GET", "suffix"),
        ("methods.example.com", 443, "/", "POST", "writes"),
        ("methods.example.com", 443, "/", "post", "writes"),
        ("methods.example.com", 443, "/", "GET", "reads"),
        ("methods.example.com", 443, "/", "DELETE", "suffix"),
        ("example.com", 443, "/", "GET", None),
    ),
)
def test_the_most_exact_host_wins_then_the_longest_path(
    host: str, port: int, path: str, method: str, name: str | None
) -> None:
    """A table of pools that all could serve the same names."""
    pools = [
        make_pool("suffix", "*.example.com"),
        make_pool("long suffix", "*.api.example.com"),
        make_pool("exact", "api.example.com"),
        make_pool("exact with port", "api.example.com:443"),
        make_pool("short path", "paths.example.com", paths=("/a/*",)),
        make_pool("long path", "paths.example.com", paths=("/a/b/*",)),
        make_pool("closed path", "paths.example.com", paths=("/a/b/",)),
        make_pool("path of suffix", "*.example.com", paths=("/long/path",)),
        make_pool("writes", "methods.example.com", methods=("POST", "PUT")),
        make_pool("reads", "methods.example.com", methods=("GET",)),
    ]
    assert find_tie(pools) is None
    scheme = "https" if port == 443 else "http"
    assert chosen(Router(pools), scheme, host, port, path, method) == name


def test_the_answer_is_the_same_when_it_is_asked_again() -> None:
    """What is remembered of a destination is not what one request to it got."""
    router = Router([make_pool("a", "h.example", paths=("/a/*",)), make_pool("b", "h.example", paths=("/b/*",))])
    for _ in range(3):
        assert chosen(router, "https", "h.example", 443, "/a/1") == "a"
        assert chosen(router, "https", "h.example", 443, "/b/1") == "b"
        assert chosen(router, "https", "h.example", 443, "/c/1") is None


def test_clients_cannot_make_the_router_grow() -> None:
    """More destinations than it remembers are all answered right, and not all kept."""
    router = Router([make_pool("a", "*.example.com")])
    for number in range(MEMO_SIZE + 10):
        assert chosen(router, "https", f"n{number}.example.com", 443) == "a"
    assert len(router._memo) <= MEMO_SIZE
    assert chosen(router, "https", "n1.example.com", 443) == "a"


@pytest.mark.parametrize(
    ("mine", "theirs", "ties"),
    (
        ("/a/*", "/b/*", False),
        ("/a/*", "/a/*", True),
        ("/a/*", "/a*", False),
        ("/*/b/x", "/a/*/x", True),
        ("/*/b/x", "/a/*/y", False),
        ("/a/x", "/a/y", False),
        ("/*/x", "/*/x", True),
        ("/ab*", "/ac*", False),
        ("/a/*/c*", "/a/b*", False),
        ("/*/ab*", "/x/a*", True),
        ("/*/ab*", "/x/c*", False),
    ),
)
def test_paths_tie_when_equally_long_ones_can_meet(mine: str, theirs: str, *, ties: bool) -> None:
    """Equal length alone is no tie: some path must match both."""
    pools = [make_pool("a", "h.example", paths=(mine,)), make_pool("b", "h.example", paths=(theirs,))]
    assert (find_tie(pools) is not None) is ties
    assert (find_tie(pools[::-1]) is not None) is ties


HOSTS = ["h.example", "a.h.example", "*.h.example", "*.example", "h.example:443", "*.example:443", "[::1]"]
SEGMENTS = ["a", "b", "ab", "*"]
ASKED_HOSTS = ["h.example", "a.h.example", "b.a.h.example", "x.example", "::1", "example"]
METHODS = ["GET", "POST"]

patterns = st.builds(
    lambda segments, end: "/" + "/".join(segments) + end,
    st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3),
    st.sampled_from(["", "/", "/*"]),
).filter(lambda text: not text.endswith("*/*") and text != "/*/")
pool_shapes = st.tuples(
    st.lists(st.sampled_from(HOSTS), min_size=1, max_size=2, unique=True),
    st.lists(patterns, max_size=2, unique=True),
    st.lists(st.sampled_from(METHODS), max_size=1),
)
ASKED_PATHS = ["/", "/a", "/a/", "/a/b", "/b/a/?q=/a", "/ab/a/b", "/a/b/a", "/a/../b"]


@settings(max_examples=100, deadline=None)
@given(shapes=st.lists(pool_shapes, min_size=2, max_size=4), shuffle=st.randoms())
def test_the_order_of_pools_decides_nothing(
    shapes: list[tuple[list[str], list[str], list[str]]], shuffle: random.Random
) -> None:
    """Among pools without a tie, each request has one owner, whatever the order they are written in.

    It is the one a plain search finds: of all host and path patterns that match, the highest rank.
    """
    kept: list[PoolConfig] = []
    for number, (hosts, paths, methods) in enumerate(shapes):
        pool = make_pool(str(number), *hosts, paths=tuple(paths), methods=tuple(methods))
        if find_tie([*kept, pool]) is None:
            kept.append(pool)
    shuffled = list(kept)
    shuffle.shuffle(shuffled)
    first, second = Router(kept), Router(shuffled)
    for host, port, method, path in itertools.product(ASKED_HOSTS, (443, 8443), METHODS, ASKED_PATHS):
        expected = plain_search(kept, host, port, method, path)
        assert chosen(first, "https", host, port, path, method) == expected
        assert chosen(second, "https", host, port, path, method) == expected


def plain_search(pools: list[PoolConfig], host: str, port: int, method: str, path: str) -> str | None:
    """Rank every way in; two of the highest rank and different pools would be a tie that went unnoticed."""
    comparable = comparable_path(path)
    ways = []
    for pool in pools:
        hosts = [h.rank for h in pool.hosts if h.matches("https", host, port)]
        parsed = [PathPattern.parse(text) for text in pool.paths]
        paths = [p.rank for p in parsed if comparable and p.compiled().fullmatch(comparable)]
        paths += [] if pool.paths else [(-1, False)]
        if hosts and paths and (not pool.methods or method in pool.methods):
            ways.append((max(hosts), max(paths), pool.name))
    if not ways:
        return None
    best = max(ways)
    assert [way[:2] for way in ways].count(best[:2]) == 1
    return best[2]
