"""Whatever an upstream puts into its chunks, the caller gets well-formed ones."""

from typing import Any

import pytest
from running_server import RunningServer, turn
from scripted_upstream import (
    DONE,
    ROLE,
    STOP,
    ScriptedUpstream,
    chunk,
    event,
    stream,
)
from stream_rules import read_good_stream

SAID = [chunk({"content": "Hé, "}), chunk({"content": "你好."})]
TEXT = "Hé, 你好."
EVENTS = [ROLE, *SAID, STOP]
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def _first_choice(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a chunk with changes to its choice; `...` takes a field out."""
    choice = {key: value for key, value in {**data["choices"][0], **changes}.items() if value is not ...}
    return {**data, "choices": [choice]}


def _each(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events of a good answer with changes to each; `...` takes a field out."""
    given = changes if len(changes) > 1 else changes * len(EVENTS)
    return [
        {key: value for key, value in {**data, **change}.items() if value is not ...}
        for data, change in zip(EVENTS, given, strict=True)
    ]


AZURE_FIRST: dict[str, Any] = {
    "choices": [],
    "created": 0,
    "id": "",
    "model": "",
    "object": "",
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False}}}],
}
ALONE = chunk(choices=[], usage=USAGE)
CHUNKS: dict[str, list[Any]] = {
    "Azure's first chunk": [AZURE_FIRST, *EVENTS],
    "no choices": [chunk(choices=None), *_each({}), chunk(choices=[])],
    "choices left out": [chunk(choices=...) | {"choices": None}, *EVENTS],
    "delta: null": [ROLE, _first_choice(ROLE, delta=None), *SAID, _first_choice(STOP, delta=None)],
    "delta left out": [ROLE, *SAID, _first_choice(STOP, delta=...)],
    "content: null": [chunk({"role": "assistant", "content": None}), *SAID, chunk({"content": None}, "stop")],
    "content: null between": [ROLE, SAID[0], chunk({"content": None}), SAID[1], STOP],
    "content in parts": [ROLE, SAID[0], chunk({"content": [{"type": "text", "text": "你好."}]}), STOP],
    "usage in the finish": [*EVENTS[:-1], {**STOP, "usage": USAGE}],
    "usage alone": [*EVENTS, ALONE],
    "usage alone, choices not empty": [*EVENTS, chunk({"content": ""}, usage=USAGE)],
    "usage alone, choices: null": [*EVENTS, chunk(choices=None, usage=USAGE)],
    "usage on every chunk": [{**data, "usage": USAGE} for data in EVENTS],
    "usage: null on every chunk": [{**data, "usage": None} for data in EVENTS],
    "usage: {} on every chunk": [{**data, "usage": {}} for data in EVENTS],
    "usage never": EVENTS,
    "text in the finish": [ROLE, SAID[0], chunk({"content": "你好."}, "stop")],
    "all in one chunk": [chunk({"role": "assistant", "content": TEXT}, "stop")],
    "an empty delta after the finish": [*EVENTS, chunk({})],
    "text after the finish": [ROLE, SAID[0], STOP, SAID[1]],
    "the finish twice": [*EVENTS, STOP],
    "role and text in one chunk": [chunk({"role": "assistant", "content": "Hé, "}), SAID[1], STOP],
    "a role in every chunk": [chunk({"role": "assistant", **data["choices"][0]["delta"]}) for data in EVENTS] + [STOP],
    "role: null": [ROLE, *(chunk({"role": None, **data["choices"][0]["delta"]}) for data in SAID), STOP],
    "no role": [*SAID, STOP],
    "no id": _each({"id": ...}),
    "placeholder ids": _each({"id": ""}),
    "an id that comes later": _each({"id": ""}, {}, {}, {}),
    "an id for each chunk": _each({}, {"id": "b"}, {"id": "c"}, {"id": ""}),
    "an id that is a number": _each({"id": 7}),
    "no time": _each({"created": ...}),
    "a time for each chunk": _each({}, {"created": 1760000001}, {"created": 1760000002}, {"created": 0}),
    "a time with a fraction": _each({"created": 1760000000.5}),
    "a time that is text": _each({"created": "2026-11-01"}),
    "no object": _each({"object": ...}),
    "another object": _each({"object": "chat.completion"}),
    "no model": _each({"model": ...}),
    "model: empty after the first": _each({}, {"model": ""}, {"model": None}, {"model": ...}),
    "no index": [_first_choice(data, index=...) for data in EVENTS],
    "no finish_reason until the end": [*(_first_choice(data, finish_reason=...) for data in EVENTS[:-1]), STOP],
    "an empty finish_reason until the end": [*(_first_choice(data, finish_reason="") for data in EVENTS[:-1]), STOP],
    "errors that are none": [{**data, "error": None, "detail": None} for data in EVENTS],
    "a ping without choices": [ROLE, {"type": "ping"}, *SAID, STOP],
}


@pytest.mark.parametrize("usage_asked", [False, True], ids=["usage unasked", "usage asked"])
@pytest.mark.parametrize("events", CHUNKS.values(), ids=CHUNKS.keys())
def test_whatever_an_upstream_puts_into_its_chunks_the_stream_is_well_formed(
    server: RunningServer, upstream: ScriptedUpstream, events: list[Any], usage_asked: bool
) -> None:
    upstream.say(stream(*events))

    got = server.ask(turn(stream_options={"include_usage": True} if usage_asked else None))
    said = read_good_stream(got, usage_asked)

    assert said.text == TEXT
    assert said.finish_reasons == {0: "stop"}
    is_reported = any(data.get("usage") for data in events)
    assert said.usage == (USAGE if usage_asked and is_reported else None)


DELTAS: dict[str, list[dict[str, Any]]] = {
    "reasoning_content": [{"reasoning_content": "Hm. "}, {"reasoning_content": "So."}, {"content": "Hello."}],
    "reasoning": [{"reasoning": "Hm.", "reasoning_details": [{"type": "t", "text": "Hm."}]}, {"content": "Hello."}],
    "refusal": [{"refusal": "I can't "}, {"refusal": "say."}],
    "audio": [{"audio": {"id": "a1", "data": "AAAA", "transcript": "Hi"}}],
    "unknown fields": [{"content": "Hello.", "annotations": [{"type": "x"}], "x_lang": "en"}, {"x_only": 1}],
}


@pytest.mark.parametrize("deltas", DELTAS.values(), ids=DELTAS.keys())
def test_fields_of_a_delta_are_kept(
    server: RunningServer, upstream: ScriptedUpstream, deltas: list[dict[str, Any]]
) -> None:
    upstream.say(stream(ROLE, *map(chunk, deltas), STOP))

    said = read_good_stream(server.ask())

    assert said.deltas == deltas


def test_fields_of_a_chunk_and_of_a_choice_are_kept(server: RunningServer, upstream: ScriptedUpstream) -> None:
    logprobs = {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]}
    said = _first_choice(chunk({"content": "a"}, system_fingerprint="fp_1", x_groq={"id": "r"}), logprobs=logprobs)
    last = _first_choice({**STOP, "id": "another", "service_tier": "default"}, stop_reason=None)
    upstream.say(stream(ROLE, said, last))

    got = read_good_stream(server.ask())

    assert said in got.chunks
    assert got.chunks[-1] == {**last, "id": ROLE["id"]}


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter", "tool_calls", "function_call", "eos"])
def test_a_finish_reason_is_the_upstreams_own(server: RunningServer, upstream: ScriptedUpstream, reason: str) -> None:
    upstream.say(stream(ROLE, *SAID, chunk({}, reason)))

    assert read_good_stream(server.ask()).finish_reasons == {0: reason}


def test_several_choices_are_streamed(server: RunningServer, upstream: ScriptedUpstream) -> None:
    def of(index: int, data: dict[str, Any]) -> dict[str, Any]:
        return _first_choice(data, index=index)

    both = {**SAID[1], "choices": [of(0, SAID[1])["choices"][0], of(1, SAID[1])["choices"][0]]}
    upstream.say(stream(of(0, ROLE), of(1, ROLE), of(1, SAID[0]), of(0, SAID[0]), both, of(1, STOP), of(0, STOP)))

    said = read_good_stream(server.ask(turn(n=2)))

    assert said.texts == {0: TEXT, 1: TEXT}


def _call(index: Any = ..., id: Any = ..., name: Any = ..., arguments: Any = ...) -> dict[str, Any]:
    function = {key: value for key, value in {"name": name, "arguments": arguments}.items() if value is not ...}
    piece = {"index": index, "id": id, "type": "function" if id is not ... else ..., "function": function}
    return {key: value for key, value in piece.items() if value is not ...}


PARIS, ROME = '{"city":"Paris"}', '{"city":"Rome"}'
CALLS: dict[str, list[list[dict[str, Any]]]] = {
    "as OpenAI does": [
        [_call(0, "c1", "weather", "")],
        [_call(0, arguments='{"city":')],
        [_call(0, arguments='"Paris"}')],
        [_call(1, "c2", "weather", "")],
        [_call(1, arguments=ROME)],
    ],
    "without indexes": [
        [_call(id="c1", name="weather", arguments='{"city":')],
        [_call(arguments='"Paris"}')],
        [_call(id="c2", name="weather", arguments=ROME)],
    ],
    "all at index 0": [[_call(0, "c1", "weather", PARIS)], [_call(0, "c2", "weather", ROME)]],
    "counted from 1": [[_call(1, "c1", "weather", PARIS)], [_call(2, "c2", "weather", ROME)]],
    "several in one chunk": [[_call(0, "c1", "weather", PARIS), _call(1, "c2", "weather", ROME)]],
    "several in one chunk without indexes": [
        [_call(id="c1", name="weather", arguments=PARIS), _call(id="c2", name="weather", arguments=ROME)]
    ],
    "id and name in each piece": [
        [_call(0, "c1", "weather", '{"city":')],
        [_call(0, "c1", "weather", '"Paris"}')],
        [_call(1, "c2", "weather", ROME)],
    ],
    "whole calls without ids": [
        [_call(0, "", "weather", PARIS)],
        [_call(0, "", "weather", ROME)],
    ],
    "pieces of two in turn": [
        [_call(0, "c1", "weather", "")],
        [_call(1, "c2", "weather", "")],
        [_call(0, arguments='{"city":')],
        [_call(1, arguments='{"city":')],
        [_call(0, arguments='"Paris"}'), _call(1, arguments='"Rome"}')],
    ],
    "id: null after the first piece": [
        [_call(0, "c1", "weather", '{"city":')],
        [_call(0, None, None, '"Paris"}')],
        [_call(1, "c2", "weather", ROME)],
    ],
}


@pytest.mark.parametrize("reason", ["tool_calls", "stop"])
@pytest.mark.parametrize("pieces", CALLS.values(), ids=CALLS.keys())
def test_calls_to_tools_are_numbered_from_0_one_a_chunk(
    server: RunningServer, upstream: ScriptedUpstream, pieces: list[list[dict[str, Any]]], reason: str
) -> None:
    upstream.say(stream(ROLE, *(chunk({"tool_calls": calls}) for calls in pieces), chunk({}, reason), ALONE))

    said = read_good_stream(server.ask())

    assert [(call["name"], call["arguments"]) for call in said.tool_calls] == [("weather", PARIS), ("weather", ROME)]
    ids = [call["id"] for call in said.tool_calls]
    assert ids == ["c1", "c2"] or (b'"id": ""' in event(pieces[0]) and ids[0] != ids[1])
    assert said.finish_reasons == {0: "tool_calls"}


def test_a_call_without_an_id_gets_one(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(stream(ROLE, chunk({"tool_calls": [_call(0, "", "weather", PARIS)]}, "tool_calls")))

    (call,) = read_good_stream(server.ask()).tool_calls

    assert call["id"]
    assert call["arguments"] == PARIS


def test_the_call_of_openais_own_stream_goes_on_unchanged(server: RunningServer, upstream: ScriptedUpstream) -> None:
    events = [ROLE, *(chunk({"tool_calls": calls}) for calls in CALLS["as OpenAI does"]), chunk({}, "tool_calls")]
    upstream.say(stream(*events))

    assert server.ask().body == b"".join(map(event, events)) + DONE
