"""The authorization request and what comes back, against the words of RFC 6749, 7636, 9207 and OpenID Connect."""

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from authpool.config.host_pattern import HostPattern
from authpool.config.pool_config import ClientConfig, PoolConfig, SignInConfig
from authpool.errors import RefusedError
from authpool.oauth.authorization import (
    AuthorizationRequest,
    StrayAnswerError,
    authorization_request,
    code_challenge,
    code_in,
    is_issuer,
    pasted_code,
)
from authpool.oauth.discovery import Endpoints
from authpool.oauth.id_token import LEEWAY_SECONDS, check_id_token

ISSUER = "https://accounts.example.com"
REDIRECT = "http://127.0.0.1:5000/callback"
NOW = 1_800_000_000.0


def pool(*scopes: str, **sign_in: Any) -> PoolConfig:
    return PoolConfig(
        name="google",
        hosts=(HostPattern.parse("api.example"),),
        client=ClientConfig(client_id="the client"),
        scopes=scopes,
        sign_in=SignInConfig(issuers=(ISSUER,), **sign_in),
    )


def asked(*scopes: str, url: str = "https://accounts.example.com/auth", **sign_in: Any) -> AuthorizationRequest:
    return authorization_request(pool(*scopes, **sign_in), Endpoints(authorize_url=url), REDIRECT)


def query_of(request: AuthorizationRequest) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(request.url).query).items()}


# --- the request --------------------------------------------------------------------------------------------------


def test_the_challenge_is_that_of_the_rfc() -> None:
    """RFC 7636, appendix B."""
    assert (
        code_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )


def test_a_request_has_pkce_state_and_for_openid_a_nonce() -> None:
    """Each sign-in has secrets of its own, of which only the challenge goes out."""
    first, second = asked("openid", "email"), asked("openid", "email")
    query = query_of(first)
    assert query == {
        "response_type": "code",
        "client_id": "the client",
        "redirect_uri": REDIRECT,
        "scope": "openid email",
        "state": first.state,
        "nonce": first.nonce,
        "code_challenge": code_challenge(first.verifier),
        "code_challenge_method": "S256",
    }
    assert first.verifier not in first.url
    assert 43 <= len(first.verifier) <= 128
    assert len({first.state, second.state, first.verifier, second.verifier, first.nonce, second.nonce}) == 6


def test_without_openid_there_is_no_nonce_and_without_scopes_no_scope() -> None:
    """What is empty is left out."""
    assert {"nonce", "scope"}.isdisjoint(query_of(asked()))
    assert "nonce" not in query_of(asked("email"))


def test_parameters_of_the_pool_are_added_and_the_endpoint_s_own_query_stays() -> None:
    """RFC 6749 §3.1; an empty parameter takes one of the preset's away."""
    request = asked(url="https://a.example/auth?p=policy", authorize_params={"prompt": "consent", "access_type": ""})
    assert query_of(request)["p"] == "policy"
    assert query_of(request)["prompt"] == "consent"
    assert "access_type" not in query_of(request)


def test_secrets_are_in_no_repr() -> None:
    """A traceback or a log must not tell them."""
    request = asked("openid")
    assert not any(str(secret) in repr(replace(request, url="")) for secret in (request.state, request.verifier))


# --- the answer ---------------------------------------------------------------------------------------------------


def answer(request: AuthorizationRequest, **parameters: str) -> str:
    return urlencode({"state": request.state, **parameters})


def test_the_code_of_the_right_state_is_taken() -> None:
    """With whatever else the provider says beside it."""
    request = asked()
    assert code_in(request, answer(request, code="4/0Ab_c-d", scope="x", iss=ISSUER)) == "4/0Ab_c-d"


@pytest.mark.parametrize(
    "query",
    ("", "code=x", "code=x&state=", "code=x&state=other", "error=access_denied", "%ff", "state=%00&code=1", "a=1;b=2"),
)
def test_what_is_of_no_or_another_state_says_nothing(query: str) -> None:
    """An error without a state as well: anybody could send it."""
    with pytest.raises(StrayAnswerError):
        code_in(asked(), query)


def test_a_parameter_that_is_there_twice_is_none() -> None:
    """RFC 6749 §3.1."""
    request = asked()
    with pytest.raises(StrayAnswerError):
        code_in(request, answer(request, code="good") + "&code=bad")


@pytest.mark.parametrize("code", ("", "a\nb", "ä", "x" * 8193))
def test_a_code_that_is_none_is_stray(code: str) -> None:
    """RFC 6749 A.11: VSCHAR."""
    request = asked()
    with pytest.raises(StrayAnswerError):
        code_in(request, answer(request, code=code))


def test_an_error_ends_the_sign_in_in_plain_words() -> None:
    """The provider's text is kept as far as it can't be a secret; the state is in no message."""
    request = asked()
    told = {"error": "access_denied", "error_description": f"The user said no to {request.state}"}
    with pytest.raises(RefusedError, match=r"declined at the provider \(access_denied: The user said no to") as raised:
        code_in(request, answer(request, **told))
    assert request.state not in str(raised.value)


def test_an_issuer_that_is_another_is_refused() -> None:
    """RFC 9207 §2.4: also where the answer is an error."""
    request = asked()
    for parameters in ({"code": "x"}, {"error": "access_denied"}):
        with pytest.raises(RefusedError, match="from another provider"):
            code_in(request, answer(request, **parameters, iss="https://evil.example"))


def test_an_issuer_that_is_missing_is_refused_where_answers_name_it() -> None:
    """RFC 9207 §2.4, where the provider advertises it; elsewhere it may be missing."""
    request = asked()
    assert code_in(request, answer(request, code="x")) == "x"
    with pytest.raises(RefusedError, match="does not say from which provider"):
        code_in(replace(request, iss_required=True), answer(request, code="x"))


def test_what_is_pasted_may_be_the_address_or_the_code() -> None:
    """In quotes or brackets, as copying goes; from the first slash, or the query alone."""
    request = asked()
    query = answer(request, code="4/x", iss=ISSUER)
    for text in (f"{REDIRECT}?{query}", f" '{REDIRECT}?{query}' \n", f"<{REDIRECT}?{query}>", f"/callback?{query}"):
        assert pasted_code(request, text) == "4/x"
    assert pasted_code(request, f"?{query}") == "4/x"
    assert pasted_code(request, query) == "4/x"
    assert pasted_code(request, " 4/0Ab_c-d ") == "4/0Ab_c-d"
    assert pasted_code(request, "4%2F0Ab_c-d") == "4/0Ab_c-d"  # as it stands in the address bar
    assert pasted_code(request, f"{REDIRECT}?{answer(request, code='x')}&session=a?b#_=_") == "x"


@pytest.mark.parametrize(
    "text",
    ("", "two words", "https://example.com/", f"{REDIRECT}?code=x&state=other", "ä", "http://[::1/", "%ff", "a%00b"),
)
def test_what_is_pasted_and_is_neither_is_stray(text: str) -> None:
    """An address of another sign-in as well: its state is held against ours."""
    with pytest.raises(StrayAnswerError):
        pasted_code(asked(), text)


@pytest.mark.parametrize("text", ("http://[::1/callback?code=x", "http://a\u2100b/callback?code=x"))
def test_a_pasted_address_that_cannot_be_read_ends_nothing(text: str) -> None:
    """A part that was copied badly: the operator is asked again."""
    with pytest.raises(StrayAnswerError):
        pasted_code(asked(), text)


def test_a_pasted_address_of_another_provider_is_refused() -> None:
    """RFC 9207 holds for it as well."""
    request = asked()
    with pytest.raises(RefusedError, match="from another provider"):
        pasted_code(request, f"{REDIRECT}?{answer(request, code='x', iss='https://evil.example')}")


def test_an_issuer_may_have_a_tenant_in_it() -> None:
    """Microsoft's: any tenant at the answer, that of `tid` in the id_token."""
    known = "https://login.example/{tenantid}/v2.0"
    assert is_issuer("https://login.example/abc/v2.0", known, None)
    assert is_issuer("https://login.example/abc/v2.0", known, "abc")
    assert not is_issuer("https://login.example/abc/v2.0", known, "other")
    assert not is_issuer("https://login.example//v2.0", known, None)
    assert not is_issuer("https://login.example/a/b/v2.0", known, None)
    assert not is_issuer("https://login.example/v2.0", known, None)


# --- the id_token -------------------------------------------------------------------------------------------------


def claims(request: AuthorizationRequest, **others: Any) -> dict[str, Any]:
    return {"iss": ISSUER, "aud": "the client", "exp": NOW + 60, "nonce": request.nonce, **others}


@pytest.mark.parametrize(
    "others",
    (
        {},
        {"aud": ["another", "the client"], "azp": "the client"},
        {"exp": NOW - LEEWAY_SECONDS + 1},
    ),
)
def test_an_id_token_of_this_sign_in_is_good(others: dict[str, Any]) -> None:
    """The clocks may differ a little."""
    request = asked("openid")
    check_id_token(claims(request, **others), issuers=(ISSUER,), client_id="the client", nonce=request.nonce, now=NOW)


@pytest.mark.parametrize(
    ("others", "why"),
    (
        ({"iss": "https://evil.example"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "another"}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": ["another", "the client"], "azp": "another"}, "azp"),
        ({"exp": NOW - LEEWAY_SECONDS}, "exp"),
        ({"exp": "soon"}, "exp"),
        ({"exp": True}, "exp"),
        ({"nonce": "another"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"nonce": 7}, "nonce"),
        ({"nonce": "\ud800"}, "nonce"),
    ),
)
def test_an_id_token_of_somebody_or_something_else_is_refused(others: dict[str, Any], why: str) -> None:
    """Each claim by itself."""
    request = asked("openid")
    with pytest.raises(RefusedError, match=rf"\(`{why}`\)"):
        check_id_token(
            claims(request, **others), issuers=(ISSUER,), client_id="the client", nonce=request.nonce, now=NOW
        )
