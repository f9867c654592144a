"""What can be told of an answer that is no good HTTP."""

import pytest

from authpool.oauth.damaged_answer import read_damaged

BODY = b'{"refresh_token": "r"}'


@pytest.mark.parametrize(
    ("data", "status"),
    (
        (b"HTTP/1.1 200 OK\r\n\r\n" + BODY, 200),
        (b"HTTP/1.1 200\n\n" + BODY, 200),
        (b"HTTP/1.1 503 Busy\r\nno colon\r\n\r\n" + BODY, 503),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 No\r\n\r\n" + BODY, 400),
        (b"HTTP/1.1 200 OK\r\n" + BODY, 200),
    ),
)
def test_status_and_body_are_told_apart(data: bytes, status: int) -> None:
    """The final answer, with what follows its head."""
    found = read_damaged(data)
    assert found is not None
    assert (found.status, found.body) == (status, BODY)
    assert "refresh_token" not in repr(found)


@pytest.mark.parametrize(
    "data",
    (b"", BODY, b"\r\n" + BODY, b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 2OO OK\r\n\r\n" + BODY, b"HTTP/1.1 100 C\r\n\r\n"),
)
def test_what_says_no_status_is_no_answer(data: bytes) -> None:
    """Nobody knows then whether anything was granted."""
    assert read_damaged(data) is None


def test_fields_that_can_be_read_are() -> None:
    """Those beside the bad line, by small names."""
    found = read_damaged(b"HTTP/1.1 200 OK\r\nCONTENT-TYPE : text/x\r\nbad\r\n folded: 1\r\nRetry-After:7\r\n\r\n")
    assert found is not None
    assert dict(found.headers) == {"content-type": "text/x", "retry-after": "7"}
