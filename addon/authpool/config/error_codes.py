"""The error codes of token endpoints that authpool acts on (RFC 6749 §5.2, OpenID Connect Core §3.1.2.6, RFC 8628)."""

CLIENT_CODES = frozenset(
    {"invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type", "invalid_request"}
)
SIGN_IN_CODES = frozenset({"interaction_required", "login_required", "consent_required"})
SIGN_IN_SUBTYPES = frozenset({"invalid_rapt"})  # Google Workspace session control, beside error=invalid_grant
TRANSIENT_CODES = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
