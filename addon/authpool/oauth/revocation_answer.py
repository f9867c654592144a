"""What an answer of a revocation endpoint means (RFC 7009 §2.2). Pure."""

from dataclasses import dataclass
from http import HTTPStatus

from authpool.oauth.answer_body import Body, whole_document
from authpool.oauth.error_code import code_of
from authpool.oauth.provider_text import harmless_words
from authpool.oauth.verdict import Answer, NotSent, Reply

_DEAD = "invalid_token"
"""What Google says of a token that is not valid any more, where RFC 7009 §2.2 wants 200. `invalid_grant` would not do:
it may also mean that the token is another client's."""
_OF_THE_CLIENT = frozenset({"invalid_client", "unauthorized_client"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """The grant is at its end; `before`: as the provider says, it was so already."""

    before: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRevoked:
    """The grant lives on, or nobody can tell; `again`: the same question may be answered otherwise in a moment."""

    detail: str
    again: bool = False


def revocation_outcome(answer: Answer) -> Revoked | NotRevoked:
    """Tell whether the grant is at its end. To ask again is harmless: a token is revoked as well the second time."""
    if isinstance(answer, NotSent):
        return NotRevoked(detail=f"the revocation endpoint can't be reached ({answer.detail})", again=True)
    if not isinstance(answer, Reply):
        return NotRevoked(detail=f"the revocation endpoint did not answer ({answer.detail})", again=True)
    document = whole_document(Body(data=answer.body, content_type=answer.content_type)) or {}
    code, _ = code_of(document, {})
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return NotRevoked(detail=f"the revocation endpoint answered HTTP {answer.status}", again=True)
    if code == _DEAD and (answer.status == HTTPStatus.BAD_REQUEST or answer.status < HTTPStatus.MULTIPLE_CHOICES):
        return Revoked(before=True)
    if answer.status < HTTPStatus.MULTIPLE_CHOICES and code is None:
        return Revoked()
    return NotRevoked(detail=_refusal(answer.status, code))


def _refusal(status: int, code: str | None) -> str:
    if code == "unsupported_token_type":  # RFC 7009 §2.2.1
        return "the revocation endpoint does not revoke refresh tokens (unsupported_token_type)"
    if code in _OF_THE_CLIENT:
        return f"the revocation endpoint rejects the client ({code})"
    told = "" if code is None else f" ({harmless_words(code)})"
    return f"the revocation endpoint answered HTTP {status}{told}"
