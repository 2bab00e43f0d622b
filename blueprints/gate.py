"""What happens to every request: who may call, its id, its log line, and the one form of every error."""

import hmac
import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from flask import Flask, Response, g, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from protocol.address import is_loopback
from protocol.errors import BadRequest, CallerHungUp, Failure, ServerError, TurnOver, Unauthorized, error_json
from turns.record import Record

log = logging.getLogger("custom_llm")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
OPEN_TO_ALL = frozenset({"health.health", "metrics.page", "playground.page", "playground.file"})
"""What needs no key of a caller's; the counts have a key of their own."""
UNKNOWN = "unknown"
UNPARSED = "unparsed"
NO_ENDPOINTS = frozenset({UNKNOWN, UNPARSED})
"""In the place of an endpoint, in the log and in counts: there is none of that path, or it was no HTTP."""
METRICS = "/metrics"
"""Where there is no such endpoint nobody is asked for a key to it."""
PASSED_THROUGH = frozenset({"chat", "models", "openapi", "playground", "status"})
"""The blueprints that a caller may use with a key of the upstream's own; all else is ours to protect."""


@dataclass(frozen=True)
class Access:
    """Who may call: whoever shows one of the keys; with `pass_through` whoever brings a key for the upstream.

    That is for callers on this machine, unless `from_anywhere`.
    """

    keys: tuple[str, ...] = ()
    pass_through: bool = False
    from_anywhere: bool = False

    def check(self, blueprint: str | None) -> str | None:
        """Return the caller's key if it is to be passed through; raise Unauthorized."""
        shown = bearer()
        if self.keys:
            # all are compared, and in constant time: how long it takes tells nothing of a key
            if not any(hmac.compare_digest(shown.encode(), key.encode()) for key in self.keys):
                raise Unauthorized(
                    "The key is missing or wrong: send `Authorization: Bearer <key>`.", code="invalid_api_key"
                )
            return None
        if not self.pass_through:
            return None
        if blueprint is not None and blueprint not in PASSED_THROUGH:
            raise Unauthorized("This endpoint needs SERVER_API_KEYS or LLM_API_KEY to be set.", code="not_configured")
        if not self.from_anywhere and not is_loopback(request.environ["SERVER_NAME"]):
            # the development server was told another --host than HOST
            raise Unauthorized("Callers from elsewhere need ALLOW_PASS_THROUGH to be set.", code="not_configured")
        if not shown:
            raise Unauthorized(
                "A key for the language model is missing: send `Authorization: Bearer <key>`.", code="invalid_api_key"
            )
        return shown


def bearer() -> str:
    """Return the key that the caller shows, "" for none."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


class GatedFlask(Flask):
    """Flask, which knows that a turn can be over before its response begins."""

    def dispatch_request(self) -> ResponseReturnValue:
        """Return what the endpoint returns; raise the Failure that a turn's end is to who still listens."""
        try:
            return super().dispatch_request()
        except CallerHungUp:
            # nobody is there to read it: what counts is that the log does not take it for an answer
            g.record.outcome = "caller_hangup"
            return Response(status=503, headers={"Connection": "close"})
        except TurnOver as over:
            raise over.failure() from None


@dataclass(frozen=True)
class Origins:
    """The origins, such as `https://shop.example`, whose pages may call from a browser and read what is answered.

    Without one, nothing says so, and no browser lets a page of another origin read anything. Cookies are never meant.
    """

    allowed: frozenset[str] = frozenset()

    def preflight(self) -> Response | None:
        """Answer a browser that asks whether a page may call; None where it is none, or the page may not."""
        method = request.headers.get("Access-Control-Request-Method")
        if request.method != "OPTIONS" or method is None or request.headers.get("Origin") not in self.allowed:
            return None
        headers = {"Access-Control-Allow-Methods": "GET, POST", "Access-Control-Max-Age": "600"}
        if asked := request.headers.get("Access-Control-Request-Headers"):
            headers["Access-Control-Allow-Headers"] = asked
        return Response(status=204, headers=headers)

    def tell(self, response: Response) -> None:
        """Let the browser hand the response to the page, if it may have it."""
        if not self.allowed:
            return
        response.headers.add("Vary", "Origin")
        if (origin := request.headers.get("Origin")) in self.allowed:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = "X-Request-Id, Retry-After"


def guard(
    app: Flask, access: Access, origins: Origins | None = None, count: Callable[[Record], None] | None = None
) -> None:
    """Put every request of this app through the gate; `count` is told of each when it has ended."""
    pages = origins or Origins()

    @app.before_request
    def enter() -> Response | None:
        asked = request.headers.get("X-Request-Id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else f"req-{secrets.token_hex(12)}"
        rule = request.url_rule
        g.record = Record(rule.rule if rule else UNKNOWN, request_id, count)
        g.key = None
        if preflight := pages.preflight():
            return preflight  # a browser sends no key with it
        if not (rule.endpoint in OPEN_TO_ALL if rule else request.path == METRICS):
            g.key = access.check(request.blueprint)
        return None

    @app.after_request
    def leave(response: Response) -> Response:
        record: Record = g.record
        record.status = response.status_code
        response.headers["X-Request-Id"] = record.request_id
        pages.tell(response)
        response.call_on_close(record.write)
        return response

    @app.errorhandler(Failure)
    def fail(failure: Failure) -> Response:
        g.record.fail(failure)
        response = Response(error_json(failure), failure.answered, failure.headers, mimetype="application/json")
        if failure.answered == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> Response:
        code = (error.name or "error").lower().replace(" ", "_")
        kind = BadRequest if (error.code or 500) < 500 else ServerError
        shown = kind(_IN_OUR_WORDS.get(error.code or 0, error.name or "Error."), code=code, status=error.code)
        response = fail(shown)
        for name, value in error.get_headers(request.environ):
            if name.lower() in ("allow", "retry-after"):
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def break_down(error: Exception) -> Response:
        log.error("a request failed", exc_info=error)
        return fail(ServerError("The server failed.", code="server_error", detail=type(error).__name__))


_IN_OUR_WORDS = {
    400: "The request can't be understood.",
    404: "There is no such endpoint; GET / lists them.",
    405: "This method is not allowed here; completions are asked for with POST.",
    413: "The request is larger than this server takes (MAX_BODY_KB).",
}
