"""Every way a request can fail, in words that may reach the caller."""

from typing import ClassVar, Literal

import msgspec

# the closed list of how a request ended: in the log, and wherever outcomes are counted
Outcome = Literal[
    "ok",
    "fallback",
    "superseded",
    "empty",
    "caller_hangup",
    "caller_bad_request",
    "caller_unauthorized",
    "caller_too_slow",
    "upstream_refused",
    "upstream_timeout",
    "upstream_status",
    "upstream_broken",
    "voice_failed",
    "server_error",
    "server_overload",
    "server_drain",
]


class Failure(Exception):
    """Say why a request can't be answered.

    `message` reaches the caller, and through the engine its webhooks: short, with no key, path or address in it.
    `detail` is for the log alone. `headers` go out with the error's response.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    outcome: ClassVar[Outcome] = "server_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        status: int | None = None,
        detail: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.answered = status or self.status
        self.detail = detail
        self.headers = headers or {}


class ServerError(Failure):
    """Report a fault of our own."""


class BadRequest(Failure):
    """Refuse a request that can't be understood; `param` names the place, such as `messages[2].role`."""

    status = 400
    type = "invalid_request_error"
    outcome = "caller_bad_request"


class Unauthorized(Failure):
    """Refuse a caller without the right key."""

    status = 401
    type = "authentication_error"
    outcome = "caller_unauthorized"


class UpstreamRefused(Failure):
    """Report that no connection to the upstream could be made."""

    status = 502
    type = "upstream_error"
    outcome = "upstream_refused"


class UpstreamTimeout(Failure):
    """Report that the upstream was too late."""

    status = 504
    type = "upstream_error"
    outcome = "upstream_timeout"


class UpstreamStatus(Failure):
    """Report that the upstream answered with an error."""

    status = 502
    type = "upstream_error"
    outcome = "upstream_status"


class UpstreamBroken(Failure):
    """Report that the upstream's answer was cut, or was none."""

    status = 502
    type = "upstream_error"
    outcome = "upstream_broken"


class Supersession(Failure):
    """Report that a newer turn took an answer's place: trying again would bring back an old question."""

    status = 409
    type = "conflict"
    outcome = "superseded"

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message, code=code, headers={"x-should-retry": "false"})


class Draining(Failure):
    """Refuse a request, or end an answer, because this server is about to end."""

    status = 503
    type = "server_error"
    outcome = "server_drain"


class TurnOver(BaseException):
    """Leave a turn that is over, whatever it was doing.

    It is no Exception: code that mends failures, a customer's agent too, must not take it for one and go on.
    """

    def failure(self) -> Failure:
        """Return a new failure, which is shown where nothing was sent yet."""
        return ServerError("The turn is over.", code="turn_over")


class CallerHungUp(TurnOver):
    """Leave a turn whose caller has closed the connection."""


class Superseded(TurnOver):
    """Leave a turn in whose place a newer one of the same session has come."""

    def failure(self) -> Failure:
        """Return the conflict."""
        return Supersession("A newer turn of this session has begun.", code="superseded")


class CutShort(TurnOver):
    """Leave a turn that can't be brought to its end before this server ends."""

    def failure(self) -> Failure:
        """Return the refusal."""
        return Draining("The server is about to restart.", code="server_draining")


def error_json(failure: Failure) -> bytes:
    """Write the error object that OpenAI's SDKs parse: `{"error": {message, type, param, code}}`."""
    return msgspec.json.encode(
        {
            "error": {
                "message": failure.message,
                "type": failure.type,
                "param": failure.param,
                "code": failure.code,
            }
        }
    )
