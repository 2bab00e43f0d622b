"""Read a chat completions request as voice engines and plain clients send it."""

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from protocol.errors import BadRequest
from protocol.language import Language, language
from protocol.lenient import BOM, deeper_than, mend, more_than

DEPTH_LIMIT = 64
"""Levels of nesting that a request may have."""
PARTS_LIMIT = 150_000
"""Strings, commas and opening brackets that a request may have: as many are decoded in some 50 ms."""

# what the engine adds to say who spoke and when; upstreams that validate strictly refuse it
MESSAGE_EXTRAS = frozenset({"turn_id", "timestamp", "metadata", "interrupted", "interrupt_timestamp", "original"})
INTERRUPTED: Mapping[Language, str] = {
    "en": "[The caller interrupted here.]",
    "zh": "[说到这里被来电者打断。]",
}
"""What the model is told where the caller interrupted its answer."""
ROOT_EXTRAS = frozenset({"turn_id", "timestamp", "interruptable", "context", "params"})

_PLACE = re.compile(r"(?P<problem>.*?)(?: - at `\$\.?(?P<place>.*)`)?", re.DOTALL)


class _Message(msgspec.Struct):
    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Request(msgspec.Struct):
    messages: list[_Message]
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[dict[str, Any]] | None = None
    params: dict[str, Any] | None = None


class ChatRequest:
    """One validated request.

    `body` is what an upstream may be sent: a dict without the engine's own fields, its `messages` included.
    `messages` are the caller's as they came, `extras` the root fields that were taken out of `body`.
    """

    def __init__(
        self, body: dict[str, Any], typed: _Request, drop_fields: frozenset[str], notes_interruptions: bool
    ) -> None:
        self.messages: list[dict[str, Any]] = body["messages"]
        self.stream = bool(typed.stream)
        self.include_usage = bool(typed.stream_options and typed.stream_options.include_usage)
        from_engine = any(not MESSAGE_EXTRAS.isdisjoint(message) for message in self.messages)
        dropped = ROOT_EXTRAS | drop_fields
        if "metadata" in body and (from_engine or not _is_openai_metadata(body["metadata"])):
            dropped |= {"metadata"}
        self.extras = {key: body[key] for key in dropped if key in body}
        self.body = {key: value for key, value in body.items() if key not in dropped}
        self.body["messages"] = [_for_upstream(message, notes_interruptions) for message in self.messages]

    @property
    def model(self) -> str | None:
        """Return the model that the request names, if it names one."""
        return self.body.get("model") or None

    @property
    def last(self) -> dict[str, Any]:
        """Return the last message."""
        return self.messages[-1]

    @property
    def says(self) -> str | None:
        """Return the text that is to be said as it stands: that of a last message which is the assistant's own.

        It is how the engine has an agent without a TTS speak its greeting. A prefill, which the LLM is to go on from,
        is none.
        """
        last = self.last
        if last["role"] != "assistant" or last.get("prefix") or self.body.get("continue_final_message"):
            return None
        text = text_of(last)
        return None if last.get("tool_calls") and not text else text

    @property
    def is_empty_turn(self) -> bool:
        """Tell whether the caller said nothing: engines send such turns for silence, echo and joins."""
        content = self.last.get("content")
        if self.last["role"] != "user":
            return False
        if isinstance(content, list):
            return all(part.get("type") == "text" and not _text(part).strip() for part in content)
        return not (content or "").strip()


def text_of(message: dict[str, Any]) -> str:
    """Return a message's text, whether its content is a string, a list of parts or nothing."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(_text(part) for part in content if part.get("type") == "text")
    return content or ""


def _text(part: dict[str, Any]) -> str:
    text = part.get("text")
    return text if isinstance(text, str) else ""


def read_request(
    data: bytes, drop_fields: frozenset[str] = frozenset(), *, notes_interruptions: bool = False
) -> ChatRequest:
    """Read and check a request's JSON; raise BadRequest that names the place of what is wrong.

    `params`, into which some integrators put what belongs at the root, is merged there; the root wins. With
    `notes_interruptions` the model is told where the caller interrupted it.
    """
    if more_than(PARTS_LIMIT, data) or deeper_than(DEPTH_LIMIT, data):
        raise BadRequest(
            f"The JSON has more than {PARTS_LIMIT} parts, or is nested deeper than {DEPTH_LIMIT} levels.",
            code="invalid_json",
        )
    body = _read_json(data)
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.", code="invalid_json")
    params = body.get("params")
    if isinstance(params, dict):
        body = params | body
    if not body.get("messages"):
        raise BadRequest("messages: at least one message is needed.", param="messages", code="missing_messages")
    try:
        typed = msgspec.convert(body, _Request)
    except msgspec.ValidationError as error:
        raise _misplaced(str(error)) from None
    return ChatRequest(body, typed, drop_fields, notes_interruptions)


def _read_json(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data.removeprefix(BOM))
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            return msgspec.json.decode(mend(data, nan=False))
        except (ValueError, msgspec.DecodeError) as error:
            raise BadRequest("The body is no valid JSON.", code="invalid_json", detail=str(error)) from None


def _misplaced(problem: str) -> BadRequest:
    match = _PLACE.fullmatch(problem)
    place = match["place"] if match else None
    said = (match["problem"] if match else problem).replace("`", "")
    if said.startswith("Invalid enum value"):
        # the only one there is; what came in its place is not repeated
        said = "must be developer, system, user, assistant, tool or function"
    return BadRequest(f"{place or 'body'}: {said}.", param=place or None, code="invalid_type")


def _is_openai_metadata(metadata: Any) -> bool:
    return isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())


def _for_upstream(message: dict[str, Any], notes_interruptions: bool) -> dict[str, Any]:
    if not MESSAGE_EXTRAS.isdisjoint(message):
        if notes_interruptions and message.get("interrupted") is True and message["role"] == "assistant":
            message = _with_note(message)
        message = {key: value for key, value in message.items() if key not in MESSAGE_EXTRAS}
    content = message.get("content")
    if isinstance(content, list) and any(_is_odd_picture(part) for part in content):
        message = {**message, "content": [_picture(part) if _is_odd_picture(part) else part for part in content]}
    return message


def _with_note(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message of the assistant with a note at the place where the caller interrupted it.

    Its content is what was heard; without the note, a model takes the torn sentence for what it meant to say.
    """
    content = message.get("content")
    note = INTERRUPTED[language(text_of(message))]
    if isinstance(content, str) and content:
        return {**message, "content": f"{content} {note}"}
    if isinstance(content, list) and content:
        return {**message, "content": [*content, {"type": "text", "text": note}]}
    return message


def _is_odd_picture(part: dict[str, Any]) -> bool:
    return part.get("type") in ("image", "image_url") and isinstance(part.get("image_url"), str)


def _picture(part: dict[str, Any]) -> dict[str, Any]:
    """Give a picture whose address is a bare string the only form that OpenAI-compatible upstreams know."""
    return {**part, "type": "image_url", "image_url": {"url": part["image_url"]}}
