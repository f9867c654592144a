"""The form that asks a token endpoint for a token, and how the client proves itself with it."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote_plus, urlsplit, urlunsplit

from authpool.accounts.account import Account, OAuthClient
from authpool.config import PoolConfig
from authpool.config.token_extras import TokenExtras
from authpool.oauth.client_assertion import ClientAssertion
from authpool.oauth.provider_text import without_sent

_DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
_FIRST_GRANTS = frozenset({"authorization_code", _DEVICE_CODE})
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRequest:
    """What to POST. `client` names (token endpoint, client) for the storm rule; it is no secret.

    `extras` are parameters beside the grant's own. What is sent, each time, is `sent_form`.
    """

    url: str
    form: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    client: str
    extras: Mapping[str, list[str]] = field(default_factory=dict, repr=False)
    assertion: ClientAssertion | None = None

    @property
    def presented(self) -> str | None:
        """The refresh token that is sent; empty where a first one is asked for, None where there is none."""
        return "" if self.form.get("grant_type") in _FIRST_GRANTS else self.form.get("refresh_token")

    def sent_form(self, now: float) -> dict[str, str | list[str]]:
        """The whole form, with a signed assertion of its own where the client proves itself so.

        Raises ConfigurationError when the key can't be had.
        """
        signed = self.assertion.fresh(now) if self.assertion is not None else {}
        return {**self.extras, **self.form, **signed}


def grant_request(pool: PoolConfig, url: str, account: Account) -> GrantRequest:
    """The request by which accounts of this pool get a new access token."""
    if pool.type == "client_credentials":
        return client_credentials_request(pool, url, account)
    return refresh_request(pool, url, account)


def refresh_request(pool: PoolConfig, url: str, account: Account) -> GrantRequest:
    """RFC 6749 §6. The account must have a refresh token; `scope` is left out, which means: as granted before."""
    refresh_token = account.token.refresh_token
    if refresh_token is None:
        raise ValueError("an account without a refresh token can't be refreshed")
    return _request(pool, url, account, {"grant_type": "refresh_token", "refresh_token": refresh_token})


def client_credentials_request(pool: PoolConfig, url: str, account: Account) -> GrantRequest:
    """RFC 6749 §4.4.2, for a service identity: the client is the account."""
    form = {"grant_type": "client_credentials"}
    if pool.scopes:
        form["scope"] = " ".join(pool.scopes)
    return _request(pool, url, account, form)


def code_request(
    pool: PoolConfig, url: str, account: Account, *, code: str, verifier: str, redirect_uri: str
) -> GrantRequest:
    """RFC 6749 §4.1.3 with RFC 7636 §4.5: exchange the code of a sign-in."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": verifier,
    }
    return _request(pool, url, account, form)


def device_code_request(pool: PoolConfig, url: str, account: Account) -> GrantRequest:
    """RFC 8628 §3.1: ask for a code that a person types on another device."""
    form = {"scope": " ".join(pool.scopes)} if pool.scopes else {}
    audience = pool.token_url or pool.issuer
    return _request(pool, url, account, form, extras=TokenExtras(), audience=audience, names_client=True)


def device_token_request(pool: PoolConfig, url: str, account: Account, device_code: str) -> GrantRequest:
    """RFC 8628 §3.4: ask whether the person has signed in."""
    form = {"grant_type": _DEVICE_CODE, "device_code": device_code}
    return _request(pool, url, account, form, names_client=True)


def revocation_request(pool: PoolConfig, url: str, account: Account) -> GrantRequest:
    """RFC 7009 §2.1. The account must have a refresh token; with that a provider ends the whole grant."""
    refresh_token = account.token.refresh_token
    if refresh_token is None:
        raise ValueError("an account without a refresh token has no grant to revoke")
    form = {"token": refresh_token, "token_type_hint": "refresh_token"}
    audience = pool.token_url or pool.issuer  # RFC 7523 §3 names the token endpoint, here as well
    return _request(pool, url, account, form, extras=TokenExtras(), audience=audience)


def client_of(pool: PoolConfig, account: Account) -> OAuthClient | None:
    """The client an account's grant belongs to: its own where it has one, else the pool's.

    Raises ConfigurationError when the pool's secret is looked up now, and can't be had.
    """
    if account.client is not None:
        return account.client
    if pool.client is None:
        return None
    return OAuthClient(client_id=pool.client.client_id, client_secret=pool.client.secret())


def client_name(url: str, pool: PoolConfig, account: Account) -> str:
    """Name (token endpoint, client) for the storm rule; no secret."""
    client = account.client or pool.client
    return f"{_endpoint(url)} {client.client_id if client is not None else ''}"


def _endpoint(url: str) -> str:
    """One name for an endpoint however its URL is spelled (RFC 3986 §6.2.2, §6.2.3)."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").removesuffix(".")
    except ValueError:
        return url
    host = f"[{host}]" if ":" in host else host
    at = f"{host}:{port}" if port not in {None, _DEFAULT_PORTS.get(parts.scheme)} else host
    return urlunsplit((parts.scheme, at, parts.path or "/", parts.query, ""))


def source_name(pool: PoolConfig) -> str:
    """Name a pool's token source where others have a token endpoint, or a client."""
    return f"{pool.type} of pool {pool.name}"


def doubt(url: str, pool: PoolConfig, *, answered: bool) -> str:
    """Say that a token endpoint's URL is wrong, as it seems, and where it is configured; without its query."""
    parts = urlsplit(url)
    key = "token_url" if pool.token_url is not None or pool.issuer is None else "issuer"
    return (
        f"the URL {parts.scheme}://{parts.netloc}{parts.path} {'is likely' if answered else 'may be'} wrong, "
        f"see authpool.toml: pools.{pool.name}.{key}"
    )


def without_secrets(text: str, account: Account, pool: PoolConfig, *more: str | None) -> str:
    """Take out what was sent, in case the provider's description, or a plugin's, repeats it; `more` was sent too."""
    client = client_of(pool, account)
    token = account.token
    return without_sent(
        text,
        (
            *(token.access_token, token.refresh_token, client.client_secret if client is not None else None),
            *pool.token_extras.resolved().secrets,
            *more,
        ),
    )


def _request(
    pool: PoolConfig,
    url: str,
    account: Account,
    form: dict[str, str],
    *,
    extras: TokenExtras | None = None,
    audience: str | None = None,
    names_client: bool = False,
) -> GrantRequest:
    """Add how the client authenticates; `names_client`: and its `client_id`, which RFC 8628 wants in any case."""
    extras = (pool.token_extras if extras is None else extras).resolved()
    headers: dict[str, str] = {name: str(value) for name, value in extras.headers.items()}
    assertion: ClientAssertion | None = None
    client = client_of(pool, account)
    method = _method(pool, account)
    if client is not None:
        assertion = _assertion(pool, audience or url, client, method)
        if assertion is not None:
            pass  # signed when it is sent
        elif client.client_secret is None or method == "none":
            form["client_id"] = client.client_id
        elif method == "client_secret_basic":
            if names_client:
                form["client_id"] = client.client_id
            headers["Authorization"] = basic_authorization(client.client_id, client.client_secret)
        else:
            form["client_id"] = client.client_id
            form["client_secret"] = client.client_secret
    return GrantRequest(
        url=url,
        form=form,
        headers=headers,
        client=client_name(url, pool, account),
        extras=extras.form(),
        assertion=assertion,
    )


def _method(pool: PoolConfig, account: Account) -> str:
    method: str = pool.client.client_auth if pool.client is not None else "none"
    if account.client is None:
        return method
    if method == "none":
        return "client_secret_post"  # the pool's own client has no secret; this one may
    if method != "private_key_jwt":
        return method
    if account.client.client_secret is not None:
        return "client_secret_post"
    return method if pool.type == "client_credentials" else "none"  # a grant of a public client is not the key's


def _assertion(pool: PoolConfig, audience: str, client: OAuthClient, method: str) -> ClientAssertion | None:
    known = pool.client
    if known is None or method not in {"private_key_jwt", "client_secret_jwt"}:
        return None
    key = known.client_key if method == "private_key_jwt" else client.client_secret
    if key is None:
        return None
    return ClientAssertion(client_id=client.client_id, audience=known.assertion_audience or audience, key=key)


def basic_authorization(client_id: str, client_secret: str) -> str:
    """RFC 6749 §2.3.1: both are form-encoded before they are joined."""
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
