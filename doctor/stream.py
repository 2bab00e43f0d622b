"""An event stream as it came: its lines, its chunks and their times."""

import base64
import binascii
import json
import re
from functools import cached_property
from typing import Any, NamedTuple

from doctor.wire import Heard

_SENTENCE = re.compile(r"[.!?](?=\s|$)|[。！？…]")
_FIELDS = ("event", "id", "retry")


class Chunk(NamedTuple):
    """One event's JSON object, and the second at which its line had come."""

    at: float
    body: dict[str, Any]

    @property
    def choices(self) -> list[dict[str, Any]]:
        """Return its choices, those that are objects."""
        found = self.body.get("choices")
        return [choice for choice in found if isinstance(choice, dict)] if isinstance(found, list) else []

    @property
    def deltas(self) -> list[dict[str, Any]]:
        """Return the deltas of its choices."""
        return [choice["delta"] for choice in self.choices if isinstance(choice.get("delta"), dict)]

    @property
    def is_control(self) -> bool:
        """Tell whether it is the engine's control metadata, which is no part of the answer."""
        return self.body.get("object") == "chat.completion.custom_metadata"

    @property
    def is_waiting(self) -> bool:
        """Tell whether it is the waiting message, which may bear an id of its own."""
        return self.body.get("id") == "waiting_msg"


class Stream:
    """The events of an answer. `line_faults` break clients, `line_oddities` only some."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        self.line_faults: list[str] = []
        self.line_oddities: list[str] = []
        self.json_faults: list[str] = []
        self.chunks: list[Chunk] = []
        self.done_at: list[float] = []
        self.is_done_last = False
        self._data: list[str] = []
        self._read()

    def _read(self) -> None:
        rest = b""
        at = 0.0
        for at, piece in self.heard.pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self._line(line, at)
        if rest and not self.heard.was_left:
            self.line_faults.append("it ends in the middle of a line")
            self._line(rest, at)
        if self._data and not self.heard.was_left:
            self.line_faults.append("the last event has no empty line after it")
            self._line(b"", at)

    def _line(self, line: bytes, at: float) -> None:
        if line.endswith(b"\r"):
            self.line_oddities.append("lines end with CR LF")
            line = line[:-1]
        try:
            text = line.decode()
        except UnicodeDecodeError:
            self.json_faults.append("a line is no UTF-8")
            text = line.decode(errors="replace")
        name, colon, value = text.partition(":")
        if not text:
            self._end_event(at)
        elif name == "data" and colon:
            if not value.strip():
                self.line_faults.append("an empty `data:`")
            elif not value.startswith(" "):
                self.line_oddities.append("no space after `data:`")
            self._data.append(value.removeprefix(" "))
        elif name in _FIELDS:
            self.line_faults.append(f"a line `{name}:`")
        elif name:
            self.line_faults.append("a line that is neither `data:` nor a comment")

    def _end_event(self, at: float) -> None:
        datas, self._data = self._data, []
        if len(datas) > 1:
            self.line_faults.append("an event of several `data:` lines")
        data = "\n".join(datas)
        if not data.strip():
            return
        self.is_done_last = data == "[DONE]"
        if data.strip() == "[DONE]":
            self.done_at.append(at)
            return
        try:
            body = parsed(data)
        except ValueError:
            self.json_faults.append(f"no JSON: {data[:60]}")
            return
        if not isinstance(body, dict):
            self.json_faults.append(f"no JSON object: {data[:60]}")
            return
        self.chunks.append(Chunk(at, body))

    @property
    def answer_chunks(self) -> list[Chunk]:
        """Return the chunks of the answer itself: no control metadata, no error."""
        return [chunk for chunk in self.chunks if not chunk.is_control and not chunk.body.get("error")]

    @property
    def error(self) -> Any:
        """Return the error that the stream tells of, if it does."""
        return next((chunk.body["error"] for chunk in self.chunks if chunk.body.get("error")), None)

    @property
    def finish_reasons(self) -> list[str]:
        """Return each finish_reason that came."""
        found = (choice.get("finish_reason") for chunk in self.answer_chunks for choice in chunk.choices)
        return [str(reason) for reason in found if reason]

    @cached_property
    def contents(self) -> list[tuple[float, str]]:
        """Return each text with its second."""
        found = [(chunk.at, delta.get("content")) for chunk in self.answer_chunks for delta in chunk.deltas]
        return [(at, content) for at, content in found if isinstance(content, str) and content]

    @cached_property
    def audio(self) -> list[tuple[float, dict[str, Any]]]:
        """Return each `audio` with its second."""
        found = [(chunk.at, delta.get("audio")) for chunk in self.answer_chunks for delta in chunk.deltas]
        return [(at, audio) for at, audio in found if isinstance(audio, dict)]

    @cached_property
    def sound(self) -> list[tuple[float, bytes | None]]:
        """Return each piece of sound with its second, None for what is no base64."""
        return [(at, _decoded(part["data"])) for at, part in self.audio if part.get("data")]

    @property
    def transcript(self) -> str:
        """Return what the sound says."""
        return "".join(part["transcript"] for _, part in self.audio if isinstance(part.get("transcript"), str))

    @property
    def text(self) -> str:
        """Return what was said: the text, or where there is none the transcript."""
        return "".join(content for _, content in self.contents) or self.transcript

    @property
    def tool_pieces(self) -> list[Any]:
        """Return each piece of a tool call."""
        found = (delta.get("tool_calls") for chunk in self.answer_chunks for delta in chunk.deltas)
        return [piece for pieces in found if isinstance(pieces, list) for piece in pieces]

    @property
    def spoken_at(self) -> list[float]:
        """Return the second of each part of the answer: of a text, a sound or a tool call."""
        return [
            chunk.at
            for chunk in self.answer_chunks
            if any(delta.get("content") or delta.get("audio") or delta.get("tool_calls") for delta in chunk.deltas)
        ]

    @property
    def has_ended_well(self) -> bool:
        """Tell whether a client would take it for a whole answer."""
        return bool(self.finish_reasons) and len(self.done_at) == 1 and not self.error

    @property
    def sentence_at(self) -> float | None:
        """Return when the first sentence was whole, or an answer without one."""
        said = self.contents or [(at, str(part.get("transcript") or "")) for at, part in self.audio]
        so_far = ""
        for at, content in said:
            so_far += content
            if _SENTENCE.search(so_far.strip()):
                return at
        return said[-1][0] if so_far else None

    @property
    def sound_at(self) -> float | None:
        """Return when the first sound came."""
        return self.sound[0][0] if self.sound else None


def parsed(text: str | bytes) -> Any:
    """Return the value of a JSON text; raise ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _decoded(data: Any) -> bytes | None:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError, TypeError):
        return None
