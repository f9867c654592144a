"""What is signed, held against AWS's public test suite and against botocore, which is not of our making."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool_aws_signature import Keys, authorization, canonical_headers, canonical_path, canonical_query

KEYS = Keys(access_key_id="AKIDEXAMPLE", secret="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
DATE = "20150830T123600Z"
SESSION_TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfp"
    "SPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQ"
    "DYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+s"
    "cqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)


class Vector(NamedTuple):
    """A request of the suite, for service `service` in us-east-1, and the signature it must get."""

    name: str
    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    signature: str


# Two of the suite are left out: a header that goes on over several lines, which RFC 9112 §5.2 forbids, and
# `post-x-www-form-urlencoded-parameters`, whose canonical request does not have the hash that its string to sign tells.
VECTORS = (
    Vector(
        "get-header-key-duplicate",
        "GET",
        "/",
        [("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")],
        b"",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
    ),
    Vector(
        "get-header-value-order",
        "GET",
        "/",
        [("my-header1", "value4"), ("my-header1", "value1"), ("my-header1", "value3"), ("my-header1", "value2")],
        b"",
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
    ),
    Vector(
        "get-header-value-trim",
        "GET",
        "/",
        [("my-header1", " value1"), ("my-header2", ' "a   b   c"')],
        b"",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    Vector(
        "get-unreserved",
        "GET",
        "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        [],
        b"",
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    Vector("get-utf8", "GET", "/ሴ", [], b"", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    Vector(
        "get-vanilla-empty-query-key",
        "GET",
        "/?Param1=value1",
        [],
        b"",
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    Vector(
        "get-vanilla-query-order-key-case",
        "GET",
        "/?Param2=value2&Param1=value1",
        [],
        b"",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    Vector(
        "get-vanilla-query-order-key",
        "GET",
        "/?Param1=value2&Param1=Value1",
        [],
        b"",
        "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
    ),
    Vector(
        "get-vanilla-query-order-value",
        "GET",
        "/?Param1=value2&Param1=value1",
        [],
        b"",
        "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
    ),
    Vector(
        "get-vanilla-query-unreserved",
        "GET",
        "/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        [],
        b"",
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
    ),
    Vector(
        "get-vanilla-query", "GET", "/", [], b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    ),
    Vector(
        "get-vanilla-utf8-query",
        "GET",
        "/?ሴ=bar",
        [],
        b"",
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
    ),
    Vector("get-vanilla", "GET", "/", [], b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    Vector(
        "get-relative-relative",
        "GET",
        "/example1/example2/../..",
        [],
        b"",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    Vector(
        "get-relative",
        "GET",
        "/example/..",
        [],
        b"",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    Vector(
        "get-slash-dot-slash", "GET", "/./", [], b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    ),
    Vector(
        "get-slash-pointless-dot",
        "GET",
        "/./example",
        [],
        b"",
        "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
    ),
    Vector("get-slash", "GET", "//", [], b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    Vector(
        "get-slashes", "GET", "//example//", [], b"", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"
    ),
    Vector(
        "get-space",
        "GET",
        "/example space/",
        [],
        b"",
        "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
    ),
    Vector(
        "post-header-key-case", "POST", "/", [], b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
    ),
    Vector(
        "post-header-key-sort",
        "POST",
        "/",
        [("my-header1", "value1")],
        b"",
        "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
    ),
    Vector(
        "post-header-value-case",
        "POST",
        "/",
        [("my-header1", "VALUE1")],
        b"",
        "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
    ),
    Vector(
        "post-sts-header-after",
        "POST",
        "/",
        [],
        b"",
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    Vector(
        "post-sts-header-before",
        "POST",
        "/",
        [("x-amz-security-token", SESSION_TOKEN)],
        b"",
        "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
    ),
    Vector(
        "post-vanilla-empty-query-value",
        "POST",
        "/?Param1=value1",
        [],
        b"",
        "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
    ),
    Vector(
        "post-vanilla-query",
        "POST",
        "/?Param1=value1",
        [],
        b"",
        "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
    ),
    Vector("post-vanilla", "POST", "/", [], b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    Vector(
        "post-x-www-form-urlencoded",
        "POST",
        "/",
        [("content-type", "application/x-www-form-urlencoded")],
        b"Param1=value1",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
)


def signature(vector: Vector) -> str:
    path, _, query = vector.target.encode().decode("latin-1").partition("?")
    found = authorization(
        KEYS,
        method=vector.method,
        path=canonical_path(path, "service"),
        query=canonical_query(query),
        headers=[("host", "example.amazonaws.com"), ("x-amz-date", DATE), *vector.headers],
        digest=hashlib.sha256(vector.body).hexdigest(),
        scope="20150830/us-east-1/service",
    )
    return found[1]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_the_vectors_of_awss_own_suite(vector: Vector) -> None:
    """Inputs and signatures as AWS published them."""
    assert signature(vector) == vector.signature


def test_the_field_as_it_is_written() -> None:
    """As in AWS's documentation."""
    text, _ = authorization(
        KEYS,
        method="GET",
        path="/",
        query="",
        headers=[("x-amz-date", DATE), ("host", "example.amazonaws.com")],
        digest=hashlib.sha256(b"").hexdigest(),
        scope="20150830/us-east-1/service",
    )
    assert text == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    )


@pytest.mark.parametrize(
    ("path", "plain", "elsewhere"),
    (
        ("/", "/", "/"),
        ("/a%20b", "/a%20b", "/a%2520b"),
        ("/a+b:c=d", "/a%2Bb%3Ac%3Dd", "/a%2Bb%3Ac%3Dd"),
        ("/a%2fb", "/a%2Fb", "/a%252fb"),
        ("/a//b", "/a//b", "/a/b"),
        ("//a", "//a", "/a"),
        ("/a/../b", "/a/../b", "/b"),
        ("/a/./b/", "/a/./b/", "/a/b/"),
        ("/a/b/..", "/a/b/..", "/a/"),
        ("/..", "/..", "/"),
        ("/%7Ea~b", "/~a~b", "/%257Ea~b"),
        ("/\xe1\x88\xb4", "/%E1%88%B4", "/%E1%88%B4"),
    ),
)
def test_s3_takes_paths_as_they_are(path: str, plain: str, elsewhere: str) -> None:
    """Its keys may have any form; other services normalize a path and encode it once more."""
    assert canonical_path(path, "s3") == plain
    assert canonical_path(path, "execute-api") == elsewhere


@pytest.mark.parametrize(
    ("query", "signed"),
    (
        ("", ""),
        ("acl", "acl="),
        ("b=2&a=1", "a=1&b=2"),
        ("a=2&a=10&a=1", "a=1&a=10&a=2"),
        ("A=1&a=1&%61b=1", "A=1&a=1&ab=1"),
        ("x=a+b", "x=a%20b"),
        ("x=a%2Bb&y=%7e", "x=a%2Bb&y=~"),
        ("x=a=b/c", "x=a%3Db%2Fc"),
        ("a&&b=", "a=&b="),
        ("a-=1&a=1", "a=1&a-=1"),
    ),
)
def test_a_query_is_sorted_by_name_then_value(query: str, signed: str) -> None:
    """In one encoding, whatever the client wrote; a name without a value has an empty one."""
    assert canonical_query(query) == signed


def test_headers_are_one_line_for_each_name() -> None:
    """Sorted; repeated ones are joined in their order, and spaces count once."""
    lines, names = canonical_headers([("x-b", " 1   2 "), ("x-a", "\t3"), ("x-b", "4"), ("x-c", "")])
    assert (lines, names) == ("x-a:3\nx-b:1 2,4\nx-c:\n", "x-a;x-b;x-c")


def test_no_secret_shows() -> None:
    """Nor does it in the pair's own repr; what is kept has no space, as a token must not."""
    keys = Keys(access_key_id="AKIA", secret="the secret/+=", session_token="the session")
    assert "the s" not in repr(keys)
    assert Keys.of_token(keys.as_token()) == keys
    assert Keys.of_token(KEYS.as_token()) == KEYS
    assert " " not in KEYS.as_token()


# --- against botocore -------------------------------------------------------------------------------------------------

WORDS = st.text("abzAZ019-._~", min_size=1, max_size=6)
TEXTS = st.text("abZ09-._~ /:=&?+%*'()ü€", max_size=8)
HEADERS = st.dictionaries(
    st.sampled_from(("content-type", "content-md5", "x-amz-target", "x-amz-meta-a", "x-amz-meta-b", "x-amz-acl")),
    st.text('ab Z09-;,=/"', max_size=12).map(str.strip),
    max_size=4,
)


def by_botocore(
    service: str, method: str, url: str, headers: dict[str, str], body: bytes, session_token: str | None
) -> str:
    """The signature that botocore gives the same request."""
    auth: Any = pytest.importorskip("botocore.auth")
    request: Any = pytest.importorskip("botocore.awsrequest").AWSRequest
    credentials: Any = pytest.importorskip("botocore.credentials").Credentials
    made = request(method=method, url=url, headers=headers, data=body)
    made.context["timestamp"] = DATE
    kind = auth.S3SigV4Auth if service == "s3" else auth.SigV4Auth
    signer = kind(credentials(KEYS.access_key_id, KEYS.secret, session_token), service, "us-east-1")
    made.headers["X-Amz-Date"] = DATE
    if session_token:
        made.headers["X-Amz-Security-Token"] = session_token
    if service == "s3":
        made.headers["X-Amz-Content-Sha256"] = hashlib.sha256(body).hexdigest()
    return str(signer.signature(signer.string_to_sign(made, signer.canonical_request(made)), made))


@given(
    service=st.sampled_from(("s3", "dynamodb", "execute-api")),
    method=st.sampled_from(("GET", "PUT", "POST", "DELETE", "HEAD")),
    parts=st.lists(TEXTS, max_size=4),
    pairs=st.lists(st.tuples(WORDS, TEXTS), max_size=4),
    headers=HEADERS,
    body=st.binary(max_size=20),
    session_token=st.none() | WORDS,
)
def test_botocore_signs_the_same(
    service: str,
    method: str,
    parts: list[str],
    pairs: list[tuple[str, str]],
    headers: dict[str, str],
    body: bytes,
    session_token: str | None,
) -> None:
    """Any request whose path and query are encoded as its SDKs do it; S3 and other services."""
    path = "/" + "/".join(quote(part, safe="~") for part in parts)
    query = "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in pairs)
    url = f"https://example.amazonaws.com{path}?{query}" if query else f"https://example.amazonaws.com{path}"
    expected = by_botocore(service, method, url, dict(headers), body, session_token)
    digest = hashlib.sha256(body).hexdigest()
    own = [("host", "example.amazonaws.com"), ("x-amz-date", DATE)]
    own += [("x-amz-security-token", session_token)] if session_token else []
    own += [("x-amz-content-sha256", digest)] if service == "s3" else []
    _, found = authorization(
        KEYS,
        method=method,
        path=canonical_path(path, service),
        query=canonical_query(query),
        headers=[*own, *headers.items()],
        digest=digest,
        scope=f"20150830/us-east-1/{service}",
    )
    assert found == expected
