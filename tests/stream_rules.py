"""The rules of a streamed answer that nine client libraries and a voice engine can read, as one strict check."""

import json
from dataclasses import dataclass, field
from typing import Any

from running_server import Answer

_HEAD = {"id": str, "object": str, "created": int, "model": str, "choices": list}
_WAITING_ID = "waiting_msg"
_ERROR = {"message", "type", "param", "code"}


@dataclass
class Stream:
    """A stream that has kept all the rules, and what it said."""

    chunks: list[dict[str, Any]]
    texts: dict[int, str] = field(default_factory=dict)
    finish_reasons: dict[int, str] = field(default_factory=dict)
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    keepalives: int = 0

    @property
    def waiting(self) -> str:
        """Return the waiting message; it is a part of the text."""
        said = [chunk["choices"][0]["delta"]["content"] for chunk in self.chunks if chunk["id"] == _WAITING_ID]
        return "".join(said)

    @property
    def text(self) -> str:
        """Return the text of the first choice."""
        return self.texts.get(0, "")

    @property
    def deltas(self) -> list[dict[str, Any]]:
        """Return the deltas of the first choice, the role's and the finish's left out where they say nothing else."""
        choices = [choice for chunk in self.chunks for choice in chunk["choices"] if choice["index"] == 0]
        bare: tuple[dict[str, Any], ...] = ({"role": "assistant", "content": ""}, {})
        return [choice["delta"] for choice in choices if choice["delta"] not in bare]

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """Return the calls to tools of the first choice, each put together from its pieces."""
        return _collect_calls([delta for delta in self.deltas if delta.get("tool_calls")])


def read_good_stream(answer: Answer, usage_asked: bool = False) -> Stream:
    """Return a stream that ended well; fail the test where it breaks a rule."""
    stream = _read(answer)
    assert stream.error is None, stream.error
    assert 0 in stream.finish_reasons, "the answer did not finish"
    assert set(stream.finish_reasons) == set(stream.texts), "a choice did not finish"
    assert usage_asked or stream.usage is None, "usage was not asked for"
    return stream


def read_failed_stream(answer: Answer) -> Stream:
    """Return a stream that ended with an error; fail the test where it breaks a rule."""
    stream = _read(answer)
    assert stream.error is not None, "the stream has no error"
    assert not stream.finish_reasons, "a failed answer pretends to have finished"
    assert stream.usage is None
    return stream


def read_error(body: Any) -> dict[str, Any]:
    """Return OpenAI's error object, with all four fields, from its envelope."""
    assert set(body) == {"error"}, body
    error: dict[str, Any] = body["error"]
    assert set(error) == _ERROR, error
    assert error["message"] and isinstance(error["message"], str)
    assert error["type"] and isinstance(error["type"], str)
    assert all(error[key] is None or isinstance(error[key], str) for key in ("param", "code")), error
    return error


def read_failure(answer: Answer) -> dict[str, Any]:
    """Return the error of an answer that has a real status."""
    assert answer.status >= 400
    assert answer.headers.get_content_type() == "application/json"
    assert answer.headers["X-Request-Id"]
    return read_error(answer.json)


def _read(answer: Answer) -> Stream:
    assert answer.status == 200, answer.body
    assert answer.headers.get_content_type() == "text/event-stream"
    assert not answer.cut, "the body was cut"
    blocks = answer.body.split(b"\n\n")
    assert blocks.pop() == b"", "the stream ends in the middle of an event"
    assert all(block.startswith((b"data: ", b": ")) and b"\n" not in block and b"\r" not in block for block in blocks)
    keepalives = sum(block.startswith(b": ") for block in blocks)
    assert blocks[-1] == b"data: [DONE]"
    datas = [json.loads(block[6:]) for block in blocks[:-1] if block.startswith(b"data: ")]
    error = read_error(datas.pop()) if datas and datas[-1].get("error") else None
    stream = Stream(datas, error=error, keepalives=keepalives)
    first = next((chunk for chunk in datas if chunk.get("id") != _WAITING_ID), None)
    for place, chunk in enumerate(datas):
        if chunk.get("id") == _WAITING_ID:
            assert not stream.text, "a waiting message comes before what is waited for"
        _check_head(chunk, first or chunk)
        if chunk.get("usage"):
            assert chunk["choices"] == [], "usage shares a chunk with an answer"
            assert place == len(datas) - 1, "usage is not last"
            stream.usage = chunk["usage"]
        else:
            assert len(chunk["choices"]) == 1, "a chunk has one choice"
            _take_choice(stream, chunk["choices"][0])
    return stream


def _check_head(chunk: dict[str, Any], first: dict[str, Any]) -> None:
    for name, kind in _HEAD.items():
        assert isinstance(chunk.get(name), kind), f"{name} is {chunk.get(name)!r}"
    assert chunk["object"] == "chat.completion.chunk"
    assert chunk["id"] and chunk["model"] and chunk["created"] > 0
    assert chunk["id"] in (first["id"], _WAITING_ID), "an answer has one id"
    assert chunk["created"] == first["created"], "an answer has one time"
    assert not chunk.get("error"), "something comes after the error"


def _take_choice(stream: Stream, choice: dict[str, Any]) -> None:
    index, delta, finish_reason = choice["index"], choice["delta"], choice["finish_reason"]
    assert isinstance(index, int) and isinstance(delta, dict)
    if index not in stream.texts:
        assert delta.get("role") == "assistant", "the role comes first"
        stream.texts[index] = ""
    else:
        assert not delta.get("role"), "the role comes once"
    assert index not in stream.finish_reasons, "something comes after the finish"
    assert delta.get("content") is None or isinstance(delta["content"], str)
    stream.texts[index] += delta.get("content") or ""
    if finish_reason is not None:
        assert finish_reason and isinstance(finish_reason, str)
        assert not any(delta.values()), "the finish is alone in its chunk"
        stream.finish_reasons[index] = finish_reason


def _collect_calls(deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    for delta in deltas:
        (piece,) = delta["tool_calls"]
        place, function = piece["index"], piece.get("function") or {}
        if place == len(calls):
            assert piece["id"] and piece["type"] == "function" and function["name"], piece
            calls.append({"id": piece["id"], "name": function["name"], "arguments": function.get("arguments") or ""})
            continue
        assert 0 <= place < len(calls), "calls are numbered from 0, without gaps"
        assert "id" not in piece and not function.get("name"), "id and name come once"
        calls[place]["arguments"] += function.get("arguments") or ""
    return calls
