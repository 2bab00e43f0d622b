"""Is an answer that is not streamed one JSON object?"""

from typing import Any

from doctor.check import Opinion, check, fail, not_seen, ok, warn
from doctor.stream import parsed
from doctor.visit import Visit
from doctor.wire import Heard


@check(
    "plain.object",
    "With `stream: false` one chat.completion object comes, as JSON.",
    "Collect the answer and send it whole where `stream` is false.",
)
def object_(visit: Visit) -> Opinion:
    """See the answer to `stream: false`."""
    return _whole(visit.answers.get("plain"))


@check(
    "plain.default",
    "A request without `stream` means false, as OpenAI's clients mean it.",
    "Take a missing `stream` for false.",
)
def default(visit: Visit) -> Opinion:
    """See the answer to a request that says nothing about streaming."""
    return _whole(visit.answers.get("default"))


def _whole(heard: Heard | None) -> Opinion:
    if heard is None:
        return not_seen("it was not asked")
    if heard.status == 429:
        return not_seen("the endpoint has had enough of requests (429)")
    if heard.status != 200:
        return fail(f"status {heard.status}" if heard.status else heard.trouble)
    if heard.trouble:
        return fail(f"the body is not whole: {heard.trouble}")
    if heard.kind == "text/event-stream":
        return fail("a stream came")
    try:
        body = parsed(heard.body)
    except ValueError:
        return fail(f"no JSON: {heard.body[:60].decode(errors='replace')}")
    fault = _fault(body)
    if fault:
        return fail(fault)
    return ok() if heard.kind == "application/json" else warn(f"its content type is {heard.kind or 'missing'}")


def _fault(body: Any) -> str:
    if not isinstance(body, dict) or body.get("object") != "chat.completion":
        return "no object of the kind `chat.completion`"
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return "no `choices[0].message`"
    if not (message.get("content") or message.get("tool_calls") or message.get("audio")):
        return "the message says nothing"
    return "" if choice and choice.get("finish_reason") else "no `finish_reason`"


CHECKS = (object_, default)
