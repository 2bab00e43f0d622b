"""Does the endpoint take what engines and clients send?"""

import json
from collections.abc import Callable

from doctor.check import Opinion, check, fail, not_seen, ok, warn
from doctor.probes import SAY
from doctor.stream import Stream, parsed
from doctor.visit import Visit

Say = Callable[[str], Opinion]
_SPARE = "Don't validate more strictly than you must; "


def answered(visit: Visit, name: str, refused: Say) -> Opinion:
    """See whether a question was answered; `refused` says how bad a clean refusal (4xx) is."""
    heard = visit.answers.get(name)
    if heard is None:
        return not_seen("it was not asked")
    if heard.status == 429:
        return not_seen("the endpoint has had enough of requests (429)")
    if 400 <= heard.status < 500:
        return refused(f"refused with status {heard.status}: {_message(heard.body)}")
    if heard.status != 200:
        return fail(f"status {heard.status}" if heard.status else heard.trouble)
    stream = Stream(heard)
    if stream.error:
        return fail(f"the stream ended with an error: {json.dumps(stream.error)[:100]}")
    if not stream.chunks:
        return fail("an empty stream")
    return ok()


def _message(body: bytes) -> str:
    try:
        error = parsed(body)["error"]
        return str(error["message"])[:100]
    except (ValueError, KeyError, TypeError):
        return body[:60].decode(errors="replace")


@check(
    "request.engine",
    "The engine's own fields (turn_id, timestamp, metadata, interruptable, interrupted, context) do no harm.",
    _SPARE + "take the engine's fields out before an upstream sees them.",
)
def engine(visit: Visit) -> Opinion:
    """See the answer to a request as the engine writes it."""
    return answered(visit, "engine", fail)


@check(
    "request.unknown",
    "A field that nobody knows does no harm: customers put their own into `llm.params`.",
    _SPARE + "forward or drop what is unknown.",
)
def unknown(visit: Visit) -> Opinion:
    """See the answer to a request with a field of our own."""
    return answered(visit, "unknown", warn)


@check(
    "request.params",
    "A `params` object does no harm: some integrators send their parameters nested.",
    _SPARE + "merge `params` into the root, where the root wins.",
)
def params(visit: Visit) -> Opinion:
    """See the answer to nested parameters."""
    return answered(visit, "params", warn)


@check(
    "request.parts",
    "Content may be a list of parts.",
    "Take `content` as a text, a list of parts or null.",
)
def parts(visit: Visit) -> Opinion:
    """See the answer to content in parts."""
    return answered(visit, "parts", fail)


@check(
    "request.null",
    "`content: null` beside `tool_calls`, and messages of the role `tool`, are taken.",
    "Take null content and `tool` messages: the engine sends them after each tool that it runs.",
)
def null(visit: Visit) -> Opinion:
    """See the answer after a tool's result."""
    return answered(visit, "null", fail)


@check(
    "request.picture",
    "A picture (`image_url`) is taken, or refused with 4xx and a message.",
    "Forward pictures to a model that sees, or refuse them with OpenAI's error object.",
)
def picture(visit: Visit) -> Opinion:
    """See the answer to a picture."""
    return answered(visit, "picture", warn)


@check(
    "request.empty",
    "An empty user turn is answered quietly: engines send them for silence and joins.",
    "End such a turn at once with an empty answer: finish, `[DONE]`, no word.",
)
def empty(visit: Visit) -> Opinion:
    """See whether silence was answered with words."""
    opinion = answered(visit, "empty", fail)
    stream = visit.stream("empty")
    if opinion.verdict != "ok" or stream is None:
        return opinion
    return warn(f"it said: {stream.text[:60]}") if stream.text.strip() or stream.sound else ok()


@check(
    "request.assistant",
    "Where the last message is the assistant's, exactly that text is said: greetings and broadcasts come so.",
    "Don't ask the model; say the last message as it stands.",
)
def assistant(visit: Visit) -> Opinion:
    """See whether an assistant's last message was said as it stands: it must be where there is no TTS to say it."""
    say = fail if visit.target.is_audio else warn
    opinion = answered(visit, "assistant", say)
    stream = visit.stream("assistant")
    if opinion.verdict != "ok" or stream is None:
        return opinion
    if stream.text.strip() == SAY:
        return ok()
    return say(f"it said: {stream.text[:60]}" if stream.text else "it said nothing")


CHECKS = (engine, unknown, params, parts, null, picture, empty, assistant)
