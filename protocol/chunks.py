"""What one event of an answer says: a typed view of a chunk beside the bytes that say it."""

from collections.abc import Generator
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

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
    """One of a chunk's choices; `index` is None and `finish_reason` UNSET where the upstream left them out."""

    index: int | None = None
    delta: Delta | None = None
    finish_reason: str | None | UnsetType = UNSET


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


Answer = Generator[Batch | Completion, None, None]
"""What every answer is: batches of events as they come, or one whole completion."""

_decode = msgspec.json.Decoder(Chunk).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def read_chunk(data: bytes) -> Event:
    """Read one event's data; raise ValueError where it is no JSON object."""
    try:
        if not data.isascii():
            data.decode()  # the typed decoder passes over what it does not look at, invalid bytes too
        return Event(_decode(data), data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_leniently(data)


def read_body(data: bytes) -> tuple[bytes, Any]:
    """Read all of a JSON text; return it as strict decoders take it, and its value. Raises ValueError for no JSON."""
    try:
        return data, _decode_any(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        try:
            data = mend(data, nan=True)
            return data, _decode_any(data)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError("it is no JSON") from error


def _read_leniently(data: bytes) -> Event:
    _, body = read_body(data)
    if not isinstance(body, dict):
        raise ValueError("an event is no JSON object")
    # a field of an odd type: content as a list of parts, a number for an id
    _flatten_content(body)
    return Event(msgspec.convert(_without_oddities(body), Chunk), _encode(body))


def _choices(body: dict[str, Any]) -> list[dict[str, Any]]:
    choices = body.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _flatten_content(body: dict[str, Any]) -> None:
    """Make content that is a list of parts the text that it says, as clients expect it."""
    for choice in _choices(body):
        delta = choice.get("delta")
        if isinstance(delta, dict) and isinstance(delta.get("content"), list):
            texts = [part.get("text") for part in delta["content"] if isinstance(part, dict)]
            delta["content"] = "".join(text for text in texts if isinstance(text, str))


def _without_oddities(body: dict[str, Any]) -> dict[str, Any]:
    seen: dict[str, Any] = {key: body[key] for key in ("usage", "error", "detail") if key in body}
    seen |= {key: body[key] for key in ("id", "object", "model") if isinstance(body.get(key), str)}
    if type(body.get("created")) is int:
        seen["created"] = body["created"]
    if isinstance(body.get("choices"), list):
        seen["choices"] = [_plain_choice(choice) for choice in _choices(body)]
    return seen


_SEEN_AS_IT_IS = ("tool_calls", "audio", "function_call")


def _plain_choice(choice: dict[str, Any]) -> dict[str, Any]:
    plain = {key: choice[key] for key in ("index",) if type(choice.get(key)) is int}
    plain |= {key: choice[key] for key in ("finish_reason",) if isinstance(choice.get(key), str)}
    if isinstance(delta := choice.get("delta"), dict):
        plain["delta"] = {key: value for key, value in delta.items() if key in _SEEN_AS_IT_IS or isinstance(value, str)}
        if not isinstance(delta.get("tool_calls"), list):
            plain["delta"].pop("tool_calls", None)
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
    data, body = read_body(data)
    choices = _choices(body) if isinstance(body, dict) else []
    if not choices or len(choices) != len(body["choices"]):
        raise ValueError("it is no chat completion")
    return Completion(data, body)
