"""Providers authpool knows: their endpoints and their peculiar error codes. Never a client id.

A preset fills what ``[pools.NAME]`` leaves out, key by key. An `issuer` of the pool's own replaces the
preset's endpoints as a whole (they are discovered then): so a pool names its Entra tenant or its own GitLab.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from authpool.config.pool_config import ClientAuth


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What is known of one provider; `codes` as in PoolConfig. Absent `client_auth`: the usual default."""

    token_url: str | None = None
    authorize_url: str | None = None
    device_url: str | None = None
    userinfo_url: str | None = None
    revoke_url: str | None = None
    codes: Mapping[str, str] = field(default_factory=dict)
    client_auth: ClientAuth | None = None
    authorize_params: Mapping[str, str] = field(default_factory=dict)
    """What this provider needs to be asked for beside the usual, so that a sign-in brings a refresh token."""
    issuers: tuple[str, ...] = ()
    """What this provider calls itself in `iss`; ``{tenantid}`` stands for the claim `tid`."""
    refresh_scope: str | None = None
    """The scope without which this provider issues no refresh token."""
    issuer_example: str | None = None
    """What an issuer looks like, where each customer has one and the pool must therefore name it."""


# https://developers.google.com/identity/openid-connect/openid-connect#discovery (endpoints)
# https://developers.google.com/identity/protocols/oauth2/web-server (error `deleted_client`; `access_type=offline` for
# a refresh token, which comes at the first consent only unless `prompt=consent`)
# That a sign-in is due comes as invalid_grant with error_subtype invalid_rapt: the verdict reads it itself.
_GOOGLE = Preset(
    token_url="https://oauth2.googleapis.com/token",
    authorize_url="https://accounts.google.com/o/oauth2/v2/auth",
    device_url="https://oauth2.googleapis.com/device/code",
    userinfo_url="https://openidconnect.googleapis.com/v1/userinfo",
    revoke_url="https://oauth2.googleapis.com/revoke",
    codes={"deleted_client": "invalid_client", "disabled_client": "invalid_client"},
    authorize_params={"access_type": "offline", "prompt": "consent"},
    issuers=("https://accounts.google.com", "accounts.google.com"),
)

# https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc (endpoints; no RFC 7009 revocation)
# https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow (errors of the token endpoint)
# `common` serves apps for any tenant; others name theirs:
# issuer = "https://login.microsoftonline.com/TENANT-ID/v2.0". The numbers in error_codes may change:
# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
# These pass by themselves, by what that page calls them, although they may come as invalid_grant. They stand in the
# description as AADSTS50196 and in error_codes as 50196. For 50196 see
# https://learn.microsoft.com/entra/msal/dotnet/advanced/exceptions/confidential-client-troubleshoot (throttling)
_PASSING_AT_ENTRA = {
    f"{prefix}{number}": standard
    for number, standard in {
        "50196": "slow_down",  # LoopDetected: the client asks too often
        "90012": "temporarily_unavailable",  # RequestTimeout
        "90024": "temporarily_unavailable",  # RequestBudgetExceededError: a transient error has occurred
        "90033": "temporarily_unavailable",  # MsodsServiceUnavailable
        "90055": "slow_down",  # TenantThrottlingError
    }.items()
    for prefix in ("AADSTS", "")
}
_MICROSOFT = Preset(
    token_url="https://login.microsoftonline.com/common/oauth2/v2.0/token",
    authorize_url="https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
    device_url="https://login.microsoftonline.com/common/oauth2/v2.0/devicecode",
    userinfo_url="https://graph.microsoft.com/oidc/userinfo",
    codes={"invalid_resource": "invalid_scope", **_PASSING_AT_ENTRA},
    issuers=("https://login.microsoftonline.com/{tenantid}/v2.0",),
    refresh_scope="offline_access",
)

# https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens
# https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors
# Errors come with status 200. Client credentials are documented as form fields only. There is no userinfo
# and no RFC 7009 revocation endpoint (both are APIs of another shape), so accounts are added with a name.
_GITHUB_APP = Preset(
    token_url="https://github.com/login/oauth/access_token",
    authorize_url="https://github.com/login/oauth/authorize",
    device_url="https://github.com/login/device/code",
    codes={
        "bad_refresh_token": "invalid_grant",
        "incorrect_client_credentials": "invalid_client",
        "unverified_user_email": "interaction_required",
    },
    client_auth="client_secret_post",
)

# https://gitlab.com/.well-known/openid-configuration
# https://docs.gitlab.com/api/oauth2 (the device endpoint, which that document leaves out)
_GITLAB = Preset(
    token_url="https://gitlab.com/oauth/token",
    authorize_url="https://gitlab.com/oauth/authorize",
    device_url="https://gitlab.com/oauth/authorize_device",
    userinfo_url="https://gitlab.com/oauth/userinfo",
    revoke_url="https://gitlab.com/oauth/revoke",
    issuers=("https://gitlab.com",),
)

# https://developer.okta.com/docs/concepts/auth-servers/ (an organisation has its own issuer, or several)
_OKTA = Preset(issuer_example="https://YOUR-ORG.okta.com/oauth2/default", refresh_scope="offline_access")

# https://auth0.com/docs/get-started/applications/configure-applications-with-oidc-discovery
# A dead refresh token is invalid_grant with status 403. The issuer ends in a slash.
# https://auth0.com/docs/secure/tokens/refresh-tokens/use-refresh-tokens (a refresh may ask for a second
# factor: `mfa_required`)
_AUTH0 = Preset(
    codes={"mfa_required": "interaction_required"},
    issuer_example="https://YOUR-TENANT.auth0.com/",
    refresh_scope="offline_access",
)

# https://docs.slack.dev/authentication/using-token-rotation
# https://docs.slack.dev/reference/methods/oauth.v2.access (errors; they come with status 200 and ok:false)
# token_expired and token_revoked are about a token that authenticates a call; a refresh has none: not mapped.
_SLACK = Preset(
    token_url="https://slack.com/api/oauth.v2.access",
    authorize_url="https://slack.com/oauth/v2/authorize",
    codes={
        "invalid_refresh_token": "invalid_grant",
        "bad_client_secret": "invalid_client",
        "invalid_client_id": "invalid_client",
        "invalid_grant_type": "unsupported_grant_type",
        "ratelimited": "slow_down",
        "internal_error": "server_error",
        "fatal_error": "server_error",
        "service_unavailable": "temporarily_unavailable",
    },
)

# https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_endpoints.htm (endpoints; a sandbox or a domain
# of one's own is named by `token_url` and the others, or by issuer = "https://MyDomain.my.salesforce.com")
# https://help.salesforce.com/s/articleView?id=release-notes.rn_security_refresh_token_error.htm (invalid_grant with
# this description: another request with the same refresh token is still under way)
_SALESFORCE = Preset(
    token_url="https://login.salesforce.com/services/oauth2/token",
    authorize_url="https://login.salesforce.com/services/oauth2/authorize",
    userinfo_url="https://login.salesforce.com/services/oauth2/userinfo",
    revoke_url="https://login.salesforce.com/services/oauth2/revoke",
    codes={"token request is already being processed": "temporarily_unavailable"},
    refresh_scope="refresh_token",
)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "google": _GOOGLE,
        "microsoft": _MICROSOFT,
        "github_app": _GITHUB_APP,
        "gitlab": _GITLAB,
        "okta": _OKTA,
        "auth0": _AUTH0,
        "slack": _SLACK,
        "salesforce": _SALESFORCE,
    }
)
