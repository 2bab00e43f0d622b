"""The form that every client takes: what an answer's events are turned into, where they need it.

Nine client libraries were tried with what real upstreams send. From that: one id, `created` and role for a whole
answer; `usage` once, last, and only if asked for; calls to tools numbered from 0, one a chunk; a finish that is alone
in its chunk. An event that needs no change goes on as the bytes that came.
"""

from typing import Any

import msgspec

from protocol.chunks import CHUNK, CONTROL, WAITING_ID, Batch, Event, read_body
from protocol.errors import Failure, error_json
from protocol.sse import DONE, frame
from turns.tool_calls import ToolCalls
from turns.usage import summed
from upstream.reading import is_token

_encode = msgspec.json.Encoder().encode


class Shape:
    """Bring one answer's events into form; `answer_id`, `created` and `model` are used where the upstream has none.

    With `repeats_audio_id` each audio delta keeps its id, else only the first one. `has_token` tells whether anything
    was said, a waiting message included; `chunks` counts what is sent, `usage` is what the upstream reported.
    """

    def __init__(
        self, answer_id: str, created: int, model: str, include_usage: bool, repeats_audio_id: bool = False
    ) -> None:
        self.has_token = False
        self.chunks = 0
        self.model = model
        self._id = answer_id
        self._created = created
        self._include_usage = include_usage
        self._repeats_audio_id = repeats_audio_id
        self._adopted = False
        self._usages: dict[str | None, Any] = {}
        self._roles: set[int] = set()
        self._audio_ids: set[str] = set()
        self._finishes: dict[int, bytes] = {}
        self._tool_calls: dict[int, ToolCalls] = {}
        self._is_flowing = False  # the role has been sent: a plain piece of text may go on as it came

    def take(self, batch: Batch) -> list[bytes]:
        """Return the data of the events to send for these."""
        datas: list[bytes] = []
        for event in batch:
            chunk = event.chunk
            if self._is_flowing and chunk.id == self._id and chunk.created == self._created and chunk.choices:
                choice = chunk.choices[0]
                delta = choice.delta
                if (
                    delta
                    and delta.role is None
                    and choice.index == 0
                    and choice.finish_reason is None
                    and delta.tool_calls is None
                    and (delta.audio is None or self._repeats_audio_id or "id" not in delta.audio)
                    and chunk.usage is None
                    and chunk.object == CHUNK
                    and chunk.model
                    and len(chunk.choices) == 1
                ):
                    if not self.has_token and is_token(chunk):
                        self.has_token = True
                    datas.append(event.data)
                    continue
            datas += self._reshape(event)
        self.chunks += len(datas)
        return datas

    def _reshape(self, event: Event) -> list[bytes]:
        chunk = event.chunk
        if chunk.object == CONTROL:
            return [event.data]
        _, original = read_body(event.data)
        body = original
        if chunk.usage:
            self._usages[chunk.id] = chunk.usage  # what comes in each chunk of an answer is the sum up to there
            body = {key: value for key, value in original.items() if key != "usage"}
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices:
            # usage alone, Azure's filter results, a ping: nothing that is said
            return []
        if is_token(chunk):
            self.has_token = True
        if chunk.id != WAITING_ID and not self._adopted:
            self._adopt(event)
        datas = []
        for place, choice in enumerate(choices):
            if isinstance(choice, dict):
                datas += self._reshape_choice(event, original, body, choice, place)
        return datas

    def _adopt(self, event: Event) -> None:
        """Take over the upstream's id, time and model, so that its chunks can go on as they come."""
        chunk = event.chunk
        self._adopted = True
        if chunk.id and chunk.object == CHUNK and isinstance(chunk.created, int) and chunk.created:
            self._id = chunk.id
            if not self._roles:
                self._created = chunk.created  # else a waiting message has gone out with ours
        self.model = chunk.model or self.model

    def _reshape_choice(
        self, event: Event, original: dict[str, Any], body: dict[str, Any], choice: dict[str, Any], place: int
    ) -> list[bytes]:
        index = choice["index"] if isinstance(choice.get("index"), int) else place
        delta = dict(choice["delta"]) if isinstance(choice.get("delta"), dict) else {}
        head = {**body, **self._head(), "model": event.chunk.model or self.model}
        if event.chunk.id == WAITING_ID:
            head["id"] = WAITING_ID
        rest = {key: value for key, value in choice.items() if key not in ("index", "delta", "finish_reason")}

        def written(delta: dict[str, Any], finish_reason: str | None) -> bytes:
            nonlocal rest
            whole = {**head, "choices": [{"index": index, "delta": delta, **rest, "finish_reason": finish_reason}]}
            rest = {}  # logprobs and their like go out once, however many chunks are made of this one
            return event.data if whole == original else _encode(whole)

        datas = []
        if index in self._roles or not delta.get("role"):
            # a role that is repeated, as some upstreams do in each chunk, is concatenated by an SDK
            delta.pop("role", None)
        if index not in self._roles and "role" not in delta:
            if event.chunk.id == WAITING_ID:
                delta["role"] = "assistant"
            else:
                datas.append(self._role(index))
        self._drop_known_audio_id(delta)
        self._roles.add(index)
        self._is_flowing = 0 in self._roles
        finish_reason = choice.get("finish_reason")
        calls = delta.get("tool_calls")
        if isinstance(calls, list) and calls:
            for call in self._tool_calls.setdefault(index, ToolCalls()).renumbered(calls):
                datas.append(written({**delta, "tool_calls": [call]}, None))
                delta = {}
        elif not finish_reason or any(delta.values()):
            # text in the chunk of the finish goes before it
            datas.append(written(delta, None))
            delta = {}
        if finish_reason:
            if finish_reason == "stop" and index in self._tool_calls:
                finish_reason = "tool_calls"
            self._finishes[index] = written(delta, str(finish_reason))
        return datas

    def _drop_known_audio_id(self, delta: dict[str, Any]) -> None:
        """Leave out an id of audio that has been sent: an SDK concatenates the text of all deltas."""
        audio = None if self._repeats_audio_id else delta.get("audio")
        if isinstance(audio, dict) and isinstance(audio.get("id"), str):
            if audio["id"] in self._audio_ids:
                delta["audio"] = {key: value for key, value in audio.items() if key != "id"}
            self._audio_ids.add(audio["id"])

    def _role(self, index: int) -> bytes:
        return self._own(index, {"role": "assistant", "content": ""})

    def _own(self, index: int, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
        return _encode({**self._head(), "choices": [choice]})

    def _head(self) -> dict[str, Any]:
        return {"id": self._id, "object": CHUNK, "created": self._created, "model": self.model}

    @property
    def usage(self) -> Any:
        """Return what the upstream reported, of all its answers that are part of this one."""
        return summed(self._usages.values())

    # the endings of a stream; nothing else writes one

    def end(self) -> list[bytes]:
        """Return the data that ends a good answer: its finish, the usage if it was asked for, [DONE]."""
        datas = [] if 0 in self._roles else [self._role(0)]
        datas += self._finishes.values() or [self._own(0, {}, "stop")]
        usage = self.usage if self._include_usage else None
        if usage:
            datas.append(_encode({**self._head(), "choices": [], "usage": usage}))
        self.chunks += len(datas)
        return [*datas, DONE]

    def fail(self, failure: Failure) -> list[bytes]:
        """Return the data that ends a failed answer: the error and [DONE], with no finish and no apology."""
        return [error_json(failure), DONE]


def framed(datas: list[bytes]) -> bytes:
    """Write the data of some events as they go over the wire."""
    return frame(datas) if datas else b""
