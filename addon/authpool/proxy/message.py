"""mitmproxy's messages as the core sees them: a request to choose by, an answer to judge."""

from collections.abc import Mapping, Sequence

from mitmproxy import http

from authpool.config.media_range import is_in_range
from authpool.oauth.content_coding import decoded
from authpool.requests.upstream_answer import UpstreamAnswer
from authpool.rotation.looked_at_body import LOOKED_AT_BYTES, LookedAtBody
from authpool.rotation.rotation import RotationRequest

TELLING_FIELDS = (b"retry-after", b"ratelimit", b"x-ratelimit", b"x-rate-limit", b"grpc-status", b"content-type")
"""How the names of the header fields begin that every answer is searched for."""
STREAMED_TYPES = (
    "text/event-stream",
    "application/grpc",
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/jsonlines",
    "application/json-seq",
    "application/stream+json",
    "application/connect+",
    "application/vnd.amazon.eventstream",
    "multipart/x-mixed-replace",
)
"""How the media types begin whose bodies are streams by their nature."""


def rotation_request(flow: http.HTTPFlow, client: str = "") -> RotationRequest:
    """What a rotation may know; header and body are looked up when it asks for them. `client`: who has the key."""
    request = flow.request
    return RotationRequest(
        method=request.method,
        host=request.host,
        path=request.path,
        client=client or str(flow.client_conn.peername[0]),
        header=request.headers.get,
        body=LookedAtBody(lambda: None if request.stream else looked_at(request)),
    )


def looked_at(message: http.Message) -> bytes:
    """The beginning of a message's body with its content coding undone: a few bytes may say that they are gigabytes."""
    data: bytes = message.data.content or b""
    return decoded(data, content_coding(message), LOOKED_AT_BYTES)[0]


def content_coding(message: http.Message) -> str:
    """The field Content-Encoding, empty where there is none."""
    value: str = message.headers.get("content-encoding", "")
    return value


def answer_to(request: http.Request | None, status: int, body: bytes, headers: Mapping[str, str]) -> http.Response:
    """An answer of our own. HEAD gets the head alone, with the length that GET would be told (RFC 9110 §9.3.2)."""
    response = http.Response.make(status, body, dict(headers))
    if request is not None and request.method == "HEAD":
        response.data.content = b""  # past the property, which would change the length as well
    return response


def telling_fields(headers: http.Headers) -> dict[str, str]:
    """The fields that may tell something about an account, by their names in small letters: one pass for them all."""
    found: dict[str, str] = {}
    for name, value in headers.fields:
        lower = name.lower()
        if lower.startswith(TELLING_FIELDS):
            known = lower.decode("latin-1")
            text = value.decode("latin-1")
            found[known] = f"{found[known]}, {text}" if known in found else text
    return found


def answer_of(response: http.Response, fields: dict[str, str], body: bytes | None = None) -> UpstreamAnswer:
    """The answer with its `telling_fields`, and with its body once that is there."""

    def header(name: str) -> str | None:
        value: str | None = fields.get(name)
        return value if value is not None or name.encode().startswith(TELLING_FIELDS) else response.headers.get(name)

    limits = len(fields) > ("content-type" in fields)
    return UpstreamAnswer(status=response.status_code, header=header, body=body, tells_limits=limits)


def is_grpc(headers: http.Headers) -> bool:
    """Whether a message is gRPC, of whatever kind."""
    for name, value in headers.fields:  # asked of every message: a fifth of what `headers.get` costs
        if name.lower() == b"content-type":
            return value.lstrip().lower().startswith(b"application/grpc")
    return False


def is_stream(fields: Mapping[str, str], also: Sequence[str] = ()) -> bool:
    """Whether an answer is a stream by its content type, or by the media ranges of a pool: it goes on as it comes."""
    content_type = fields.get("content-type", "").lstrip().lower()
    return content_type.startswith(STREAMED_TYPES) or bool(also and is_in_range(content_type, also))
