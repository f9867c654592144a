"""What is kept of a provider's words: no secret that it was sent, however it repeats it."""

import asyncio
import base64
import codecs
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from authpool.errors import RefusedError
from authpool.oauth.identity import provider_identity
from authpool.oauth.provider_text import harmless_words, repeats, without_sent
from authpool.oauth.token_client import TokenClient
from authpool.oauth.verdict import Granted, GrantRejected, Reply, judge
from support.answers import JSON
from support.home import read_account
from support.pool_rig import CLIENT_SECRET, Rig, client, reverse_gateway
from support.rotating_provider import RotatingProvider
from support.token_endpoint import Form, ScriptedTokenEndpoint
from support.upstream import Upstream

REAL = "1//0gXy7-abcDEFghiJKLmnoPQRstuVWXyz_0123456789-L9IrQ"
URL_SAFE = "5bbdlx12aQfSwJ00_JjsRxaozNd_XyeNJvZgO0iJ4tA"
HEX = "9b2f64c07d1e8a35f0c4be71a6d83927e5504fbc1d9a7263"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _spaced(text: str, size: int = 1, gap: str = " ") -> str:
    return gap.join(text[start : start + size] for start in range(0, len(text), size))


ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "percent": lambda text: quote(text, safe=""),
    "percent of every byte": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "base64": _base64,
    "base64, shifted by one": lambda text: _base64(f"x{text}"),
    "base64, shifted by two": lambda text: _base64(f"xy{text}"),
    "base64url": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 in groups": lambda text: _spaced(_base64(text), 4),
    "base64 in pairs": lambda text: _spaced(_base64(text), 2),
    "base64 in letters": lambda text: _spaced(_base64(text)),
    "base32": lambda text: base64.b32encode(text.encode()).decode(),
    "escaped slashes": lambda text: json.dumps(text).replace("/", r"\/"),
    "escaped characters": lambda text: "".join(f"\\u{ord(c):04x}" for c in text),
    "hex": lambda text: text.encode().hex(),
    "hex in pairs": lambda text: _spaced(text.encode().hex(), 2),
    "hex in pairs, with colons": lambda text: _spaced(text.encode().hex(), 2, ":"),
    "upper case": str.upper,
    "lower case": str.lower,
    "backwards": lambda text: text[::-1],
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "two thirds": lambda text: text[: len(text) * 2 // 3],
    "the last half": lambda text: text[len(text) // 2 :],
    "in pieces": lambda text: _spaced(text, 16),
    "in small pieces": lambda text: _spaced(text, 5),
    "in letters": _spaced,
    "on lines": lambda text: _spaced(text, 8, "\n"),
    "wide": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "invisible": lambda text: _spaced(text, 3, "\u200b"),
    "in quotes": lambda text: f"'{text}'",
    "a form": lambda text: urlencode({"refresh_token": text, "x": "y"}),
}


def _rejected(description: str) -> GrantRejected:
    body = json.dumps({"error": "invalid_grant", "error_description": description}).encode()
    found = judge(Reply(status=400, body=body), now=0, presented="rt")
    assert isinstance(found, GrantRejected)
    return found


def _is_told(told: str, secret: str) -> bool:
    """Whether eight characters in a row of any encoding of a secret are left, whatever stands between them."""
    flat = "".join(c for c in told.replace("[redacted]", "\0").casefold() if c.isalnum() or c == "\0")
    forms = [encode(secret) for name, encode in ENCODINGS.items() if name not in {"a form", "in quotes", "wide"}]
    for form in forms:
        squeezed = "".join(c for c in form.casefold() if c.isalnum())
        if any(squeezed[at : at + 8] in flat for at in range(len(squeezed) - 7)):
            return True
    return False


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("secret", (REAL, URL_SAFE, HEX), ids=("a", "b", "c"))
def test_no_encoding_of_a_secret_is_kept(encoding: str, secret: str) -> None:
    """Nor a part of it, wherever in the description it stands; and nobody had to know the secret."""
    said = ENCODINGS[encoding](secret)
    for description in (said, f"Token {said} has expired", f"bad:{said}", f"({said})", f"{said}, {said}"):
        found = _rejected(description)
        assert found.reason.startswith("invalid_grant: ")
        assert not _is_told(without_sent(found.reason, [secret]), secret), found.reason


@pytest.mark.parametrize(
    "encoding", ("plain", "upper case", "backwards", "in letters", "in small pieces", "two thirds")
)
@pytest.mark.parametrize("secret", ("correcthorsebatterystaple", "thepassphrase", "HUNTERSPASSWORD"))
def test_a_secret_of_words_is_known_by_who_sent_it(encoding: str, secret: str) -> None:
    """Nothing tells it from a sentence but that it was sent; the code stays all the same."""
    said = ENCODINGS[encoding](secret)
    told = without_sent(_rejected(f"The word {said} is wrong").reason, [secret])
    assert told.startswith("invalid_grant: ")
    assert not _is_told(told, secret), told


@pytest.mark.parametrize(
    "description",
    (
        "Token has been expired or revoked.",
        "AADSTS700082: The refresh token has expired due to inactivity.",
        "expired access/refresh token",
        "Bad Request",
        "The user's grant (OAuth) isn't valid any more: sign in again!",
        "Unknown or invalid refresh_token.",
        "Das Token ist ungültig oder abgelaufen.",
        "user is not logged in",
        "error 50173",
    ),
)
def test_words_stay(description: str) -> None:
    """What an operator reads to know what happened."""
    assert _rejected(description).reason == f"invalid_grant: {description}"


@pytest.mark.parametrize(
    ("text", "kept"),
    (
        ("see https://example.com/docs?x=1 for more", "see https: [redacted] for more"),
        ("token=abc1 is bad", "token= [redacted] is bad"),
        ("Trace ID: 0f9c8a7b-1c2d now", "Trace ID: [redacted] now"),
        ("a1b2c3 d4e5f6 gone", "[redacted] gone"),
        ("", ""),
        ("x" * 17, "[redacted]"),
    ),
)
def test_what_goes_is_marked_once(text: str, kept: str) -> None:
    """However many words of it there were in a row."""
    assert harmless_words(text) == kept


@pytest.mark.parametrize("text", ("a" * 1_000_000, "a " * 500_000, "=:" * 500_000, "\u200b" * 500_000, "'" * 500_000))
def test_an_endless_description_is_cut(text: str) -> None:
    """It costs no more than a long one."""
    assert len(harmless_words(text)) <= 8192


@pytest.mark.parametrize("body", ({"error": REAL}, {"error": {"code": REAL}}, {"error": "invalid_grant " + REAL}))
def test_a_code_is_told_only_where_it_is_known(body: dict[str, object]) -> None:
    """A secret in the code's place is an unknown code, which nobody repeats."""
    found = judge(Reply(status=400, body=json.dumps(body).encode()), now=0)
    assert REAL not in repr(found)


@pytest.mark.parametrize("key", ("error_uri", "error_subtype", "trace_id", "error_codes", "state"))
def test_nothing_but_the_description_is_told(key: str) -> None:
    """Whatever else an answer has beside its code."""
    body = {"error": "invalid_grant", "error_description": "gone", key: [REAL] if key == "error_codes" else REAL}
    assert judge(Reply(status=400, body=json.dumps(body).encode()), now=0) == GrantRejected(
        reason="invalid_grant: gone"
    )


@pytest.mark.parametrize("claim", ("sub", "email"))
@pytest.mark.parametrize("encoding", ("plain", "base64", "hex", "upper case", "backwards", "two thirds"))
async def test_a_credential_is_nobodys_name(claim: str, encoding: str) -> None:
    """A provider that repeats what it was shown would have it in file names and logs."""
    claims = base64.urlsafe_b64encode(json.dumps({claim: ENCODINGS[encoding](REAL)}).encode()).decode()
    granted = Granted(access_token=REAL, refresh_token="r-" + REAL[::-1], id_token=f"e30.{claims}.c2ln")
    with pytest.raises(RefusedError, match="a credential that it was shown") as refused:
        await provider_identity(TokenClient(), None, granted)
    assert REAL not in str(refused.value)


@pytest.mark.parametrize("name", ("alice@example.com", "auth0|5f7c8ec7c33c6c004bbafe82", "1162", "a"))
def test_a_name_is_no_credential(name: str) -> None:
    """Opaque subjects are as long as tokens are."""
    assert not repeats(name, [REAL, f"token-of-{name}-" + "x" * 20, None, ""])


@pytest.mark.mitmproxy
@pytest.mark.parametrize("encoding", ("percent", "hex in pairs", "in pieces"))
async def test_what_a_token_endpoint_repeats_is_kept_nowhere(
    encoding: str, tmp_path: Path, rotating: RotatingProvider, token_endpoint: ScriptedTokenEndpoint, upstream: Upstream
) -> None:
    """Not in the account's file, the audit trail, the log, the flow or the answer; the code is."""
    rig = Rig(folder=tmp_path, provider=rotating, endpoint=token_endpoint, upstream=upstream)
    home = rig.home("alice", expires_in=-10)
    secret = f"rt.{URL_SAFE}"
    path = next((home / "accounts").rglob("alice.toml"))
    old = read_account(home, "p/alice")["token"]["refresh_token"]
    path.write_text(path.read_text().replace(f'"{old}"', f'"{secret}"'))

    def echo(_number: int, form: Form) -> JSON:
        said = ENCODINGS[encoding](form["refresh_token"])
        return JSON(400, {"error": "invalid_grant", "error_description": f"Token {said} is revoked", "error_uri": said})

    rig.endpoint.script = echo
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.get("/x")
        while not read_account(home, "p/alice").get("disabled"):  # the test's own time limit ends it
            await asyncio.sleep(0.02)
        texts = [*gateway.messages, gateway.finished[0].comment, answer.text, str(answer.headers)]
    reason = read_account(home, "p/alice")["disabled_reason"]
    trail = [path.read_text() for path in home.rglob("*.jsonl")]
    assert reason.startswith("invalid_grant: Token")
    assert reason.endswith("revoked")
    assert trail
    for told in (*texts, reason, *trail):
        for said in (secret, ENCODINGS[encoding](secret), CLIENT_SECRET):
            assert said not in told
