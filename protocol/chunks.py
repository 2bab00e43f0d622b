"""What one event of an answer says: a typed view of a chunk beside the bytes that say it."""

from typing import Any

import msgspec

from protocol.lenient import mend

CHUNK = "chat.completion.chunk"
COMPLETION = "chat.completion"
CONTROL = "chat.completion.custom_metadata"
"""The `object` of the engine's control metadata, which tells it how to speak and says nothing itself."""
WAITING_ID = "waiting_msg"
"""The `id` that the engine's contract gives to a waiting message, whatever the answer's own id."""


class Delta(msgspec.Struct, gc=False):
    """The part of a delta that decides something; what else is in it stays in the bytes."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    function_call: Any = None
    audio: Any = None


class Choice(msgspec.Struct, gc=False):
    """One of a chunk's choices; `index` is None where the upstream left it out."""

    index: int | None = None
    delta: Delta | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct, gc=False):
    """A typed view of one chunk, with every field that an upstream may leave out or fill wrongly."""

    id: str | None = None
    object: str | None = None
    created: int | float | None = None
    model: str | None = None
    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    detail: Any = None


class Event(msgspec.Struct, gc=False):
    """One event of an answer: what it says, and the JSON that says it."""

    chunk: Chunk
    data: bytes

    @property
    def text(self) -> str:
        """Return the content that this event adds to the answer's first choice."""
        choices = self.chunk.choices
        if not choices or choices[0].delta is None or choices[0].index:
            return ""
        return choices[0].delta.content or ""


class Batch(list[Event]):
    """The events that one read brought; an empty one says only that time has passed."""

    @property
    def text(self) -> str:
        """Return the content that these events add to the answer's first choice."""
        return "".join([event.text for event in self])


class Completion(msgspec.Struct):
    """A whole answer that was not streamed: the JSON as it came, and what it says."""

    data: bytes
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """Return the content of the answer's first choice."""
        message = self.body["choices"][0].get("message")
        content = message.get("content") if isinstance(message, dict) else None
        return content if isinstance(content, str) else ""


_decode = msgspec.json.Decoder(Chunk).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def read_chunk(data: bytes) -> Event:
    """Read one event's data; raise ValueError where it is no JSON object."""
    try:
        return Event(_decode(data), data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_leniently(data)


def _read_leniently(data: bytes) -> Event:
    try:
        data = mend(data, nan=True)
        body = _decode_any(data)
    except (RecursionError, msgspec.MsgspecError) as error:
        raise ValueError("an event is no JSON") from error
    if not isinstance(body, dict):
        raise ValueError("an event is no JSON object")
    try:
        return Event(_decode(data), data)
    except msgspec.MsgspecError:
        # a field of an odd type: content as a list of parts, a number for an id
        _flatten_content(body)
        return Event(_decode(_encode(_without_oddities(body))), _encode(body))


def _flatten_content(body: dict[str, Any]) -> None:
    """Make content that is a list of parts the text that it says, as clients expect it."""
    for choice in body.get("choices") or ():
        delta = choice.get("delta") if isinstance(choice, dict) else None
        if isinstance(delta, dict) and isinstance(delta.get("content"), list):
            texts = [part.get("text") for part in delta["content"] if isinstance(part, dict)]
            delta["content"] = "".join(text for text in texts if isinstance(text, str))


def _without_oddities(body: dict[str, Any]) -> dict[str, Any]:
    choices = body.get("choices")
    seen: dict[str, Any] = {key: body[key] for key in ("usage", "error", "detail") if key in body}
    seen |= {key: body[key] for key in ("id", "object", "model") if isinstance(body.get(key), str)}
    if isinstance(choices, list):
        seen["choices"] = [_plain_choice(choice) for choice in choices if isinstance(choice, dict)]
    return seen


def _plain_choice(choice: dict[str, Any]) -> dict[str, Any]:
    index, delta, finish_reason = choice.get("index"), choice.get("delta"), choice.get("finish_reason")
    plain: dict[str, Any] = {"index": index if isinstance(index, int) else None}
    if isinstance(delta, dict):
        plain["delta"] = {key: value for key, value in delta.items() if isinstance(value, str)}
        if isinstance(delta.get("tool_calls"), list):
            plain["delta"]["tool_calls"] = delta["tool_calls"]
    if finish_reason is not None:
        plain["finish_reason"] = str(finish_reason)
    return plain


def event(body: dict[str, Any]) -> Event:
    """Build an event of our own from a chunk's fields."""
    data = _encode(body)
    return Event(_decode(data), data)


def delta(fields: dict[str, Any], finish_reason: str | None = None, **more: Any) -> Event:
    """Build an event whose first choice has this delta."""
    return event({**more, "choices": [{"index": 0, "delta": fields, "finish_reason": finish_reason}]})


def read_completion(data: bytes) -> Completion:
    """Read an answer that was not streamed; raise ValueError where it is no chat completion."""
    try:
        body = _decode_any(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        try:
            data = mend(data, nan=True)
            body = _decode_any(data)
        except (RecursionError, msgspec.MsgspecError) as error:
            raise ValueError("no JSON") from error
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not all(isinstance(c, dict) for c in choices):
        raise ValueError("no chat completion")
    return Completion(data, body)
