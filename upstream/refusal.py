"""What an upstream's error means to our caller."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from protocol.chunks import Chunk, read_body
from protocol.errors import Failure, Unauthorized, UpstreamStatus
from protocol.redaction import for_caller, for_log

_TITLE = re.compile(r"<title[^<>]{0,200}>(.{0,200}?)</title>", re.IGNORECASE | re.DOTALL)
_RETRY_AFTER = re.compile(r"[0-9]{1,9}|[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT")
# the request itself is at fault: sending it again, here or elsewhere, would not help
_CALLERS_FAULT = (400, 404, 413, 422)


class RequestRejected(UpstreamStatus):
    """Pass on that the upstream finds fault with the request itself."""

    type = "invalid_request_error"


class RateLimited(UpstreamStatus):
    """Pass on that the upstream asks for patience."""

    status = 429
    type = "rate_limit_error"


def refusal(
    status: int, headers: Mapping[str, str], body: bytes, key: str | None = None, *, pass_through: bool
) -> Failure:
    """Turn an upstream's error response into the failure that the caller is shown; the log gets the original.

    `key` is the one that was sent: an upstream may quote it. With `pass_through` it is the caller's own.
    """
    said = _message(body)
    original = said or body[:200].decode("utf-8", "replace")
    detail = f"upstream status {status}: {for_log(original, key)}"
    if status in (401, 403):
        if pass_through:
            return Unauthorized(
                "The language model's server does not accept this key.", code="invalid_api_key", detail=detail
            )
        return UpstreamStatus(
            "The server's own key for the language model was not accepted.", code="upstream_auth", detail=detail
        )
    if status == 429:
        retry_after = headers.get("Retry-After")
        return RateLimited(
            "The language model is asked too often.",
            code="upstream_rate_limited",
            detail=detail,
            headers={"Retry-After": retry_after} if retry_after and _RETRY_AFTER.fullmatch(retry_after) else None,
        )
    if status in _CALLERS_FAULT:
        shown = for_caller(said, key) or "The language model's server refused the request."
        return RequestRejected(shown, code="upstream_rejected", status=status, detail=detail)
    if 300 <= status < 400:
        return UpstreamStatus(
            "The language model's server redirects elsewhere, which is not followed.",
            code="upstream_error",
            detail=detail,
        )
    return UpstreamStatus("The language model's server failed.", code="upstream_error", detail=detail)


def refusal_in(chunk: Chunk, key: str | None = None, *, pass_through: bool) -> Failure | None:
    """Return the failure that an event of a stream reports, if it reports one."""
    error: Any = chunk.error or (None if chunk.choices else chunk.detail)
    if not error:
        return None
    status = 0
    if isinstance(error, dict):
        codes = [str(error.get(name)) for name in ("status", "code", "http_status")]
        status = next((int(code) for code in codes if re.fullmatch(r"[45][0-9]{2}", code)), 0)
    if status:
        return refusal(status, {}, msgspec.json.encode({"error": error}), key, pass_through=pass_through)
    said = _message(msgspec.json.encode({"error": error}))
    return UpstreamStatus(
        for_caller(said, key) or "The language model's server failed.",
        code="upstream_error",
        detail=f"upstream error event: {for_log(said, key)}",
    )


def _message(body: bytes) -> str:
    """Find the sentence in an error's body: OpenAI's object, its many relatives, a page's title, or plain text."""
    try:
        _, found = read_body(body)
    except ValueError:
        text = body.decode("utf-8", "replace")
        if title := _TITLE.search(text):
            return title[1].strip()
        return "" if text.lstrip().startswith("<") else text[:2000]
    for _ in range(4):
        if isinstance(found, list) and found:
            found = found[0]
        if not isinstance(found, dict):
            break
        found = next((found[key] for key in ("error", "message", "msg", "detail", "errors") if found.get(key)), "")
    return found if isinstance(found, str) else ""
