"""What the upstream is asked, and what it is never asked."""

from typing import Any

import pytest
from running_server import HELLO, KEY, RunningServer, turn
from scripted_upstream import (
    COMPLETION,
    ScriptedUpstream,
    reply,
)
from stream_rules import read_good_stream

ENGINE_MESSAGE = {
    "role": "user",
    "content": "Hi",
    "turn_id": 3,
    "timestamp": 1760000000000,
    "metadata": {"source": "asr", "user": "1002", "more": [1]},
}
ENGINE_ROOT = {"turn_id": 3, "timestamp": 1, "interruptable": True, "context": {"presence": {}}}
VAPI_ROOT = {"call": {"id": "c"}, "phoneNumber": {"n": 1}, "customer": {"number": "+1"}}


def _asked(server: RunningServer, upstream: ScriptedUpstream, body: Any) -> dict[str, Any]:
    """Return the body that the upstream got for this one."""
    assert server.ask(body).status == 200
    asked: dict[str, Any] = upstream.wait_for(1).body
    return asked


def test_what_the_engine_adds_for_itself_is_not_sent_upstream(
    server: RunningServer, upstream: ScriptedUpstream
) -> None:
    interrupted = {
        "role": "assistant",
        "content": "So",
        "interrupted": True,
        "interrupt_timestamp": 9,
        "original": "So…",
    }
    messages = [{"role": "user", "content": "Go on"}, interrupted, ENGINE_MESSAGE]

    asked = _asked(server, upstream, turn(messages=messages, metadata={"a": "b"}, **ENGINE_ROOT, **VAPI_ROOT))

    assert asked == turn(
        messages=[
            {"role": "user", "content": "Go on"},
            {"role": "assistant", "content": "So [The caller interrupted here.]"},
            {"role": "user", "content": "Hi"},
        ]
    )


@pytest.mark.parametrize(
    ("metadata", "is_sent"), [({"a": "b"}, True), ({}, True), ({"a": 1}, False), ({"a": None}, False), ("x", False)]
)
def test_metadata_goes_on_where_it_is_openais(
    server: RunningServer, upstream: ScriptedUpstream, metadata: Any, is_sent: bool
) -> None:
    asked = _asked(server, upstream, turn(metadata=metadata))

    assert asked == turn(metadata=metadata if is_sent else None)


def test_nested_params_are_merged_and_the_root_wins(server: RunningServer, upstream: ScriptedUpstream) -> None:
    params = {"temperature": 0.1, "top_k": 7, "model": "p", "turn_id": 1}

    asked = _asked(server, upstream, turn(params=params, temperature=0.9))

    assert asked == turn(temperature=0.9, top_k=7)


def test_a_model_may_stand_in_params(server: RunningServer, upstream: ScriptedUpstream) -> None:
    asked = _asked(server, upstream, turn(model=None, params={"model": "p"}))

    assert asked == turn(model="p")


UNKNOWN = {
    "temperature": 0.7,
    "max_completion_tokens": 150,
    "verbosity": "low",
    "reasoning_effort": "none",
    "prompt_cache_options": {"ttl": "1h"},
    "moderation": {"a": [1, 2.5, None, True, "é\u2028"]},
    "service_tier": "auto",
    "response_format": {"type": "json_object"},
    "modalities": ["text"],
    "seed": 12345678901234567890123456,
    "x_empty": None,
}


def test_unknown_fields_go_on_unchanged(server: RunningServer, upstream: ScriptedUpstream) -> None:
    body = {**turn(), **UNKNOWN}

    assert _asked(server, upstream, body) == body


def test_stream_options_are_never_added(server: RunningServer, upstream: ScriptedUpstream) -> None:
    assert "stream_options" not in _asked(server, upstream, turn())


def test_stream_options_of_the_caller_go_on(server: RunningServer, upstream: ScriptedUpstream) -> None:
    options = {"include_usage": False, "include_obfuscation": False}

    assert _asked(server, upstream, turn(stream_options=options))["stream_options"] == options


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "tools": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Weather?", "name": "ann"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "Sunny"},
    ],
    "an old function": [*HELLO, {"role": "function", "name": "f", "content": "1"}],
    "parts": [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}]},
    ],
}


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_messages_go_on_unchanged(
    server: RunningServer, upstream: ScriptedUpstream, messages: list[dict[str, Any]]
) -> None:
    body = turn(messages=messages, tools=TOOLS, tool_choice="auto", parallel_tool_calls=False)

    assert _asked(server, upstream, body) == body


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}}


@pytest.mark.parametrize(
    ("part", "sent"),
    [
        (PICTURE, PICTURE),
        ({"type": "image_url", "image_url": "http://p/a"}, {"type": "image_url", "image_url": {"url": "http://p/a"}}),
        ({"type": "image", "image_url": "http://p/a"}, {"type": "image_url", "image_url": {"url": "http://p/a"}}),
    ],
)
def test_pictures_go_on_in_openais_shape(
    server: RunningServer, upstream: ScriptedUpstream, part: dict[str, Any], sent: dict[str, Any]
) -> None:
    asked = _asked(server, upstream, turn(messages=[{"role": "user", "content": [part]}]))

    assert asked["messages"] == [{"role": "user", "content": [sent]}]


@pytest.mark.parametrize("stream_asked", [False, None, ...], ids=["false", "null", "left out"])
def test_where_no_stream_is_asked_for_the_upstream_is_asked_for_none(
    server: RunningServer, upstream: ScriptedUpstream, stream_asked: Any
) -> None:
    upstream.say(reply(200, COMPLETION))
    body = {key: value for key, value in {**turn(), "stream": stream_asked}.items() if value is not ...}

    assert _asked(server, upstream, body) == {**turn(), "stream": False}


@pytest.mark.parametrize("model", [None, ""])
@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_request_without_a_model_is_refused_where_none_is_set(
    server: RunningServer, upstream: ScriptedUpstream, model: str | None, is_streamed: bool
) -> None:
    got = server.ask(turn(model=model, stream=is_streamed))

    assert got.status == 400
    assert got.json["error"]["param"] == "model"
    assert not upstream.asked


def test_a_request_without_a_model_asks_the_one_that_is_set(tuned: RunningServer, upstream: ScriptedUpstream) -> None:
    assert _asked(tuned, upstream, turn(model=None)) == turn(model="house-1")


def test_the_upstream_gets_its_query_its_headers_and_its_own_key(
    tuned: RunningServer, upstream: ScriptedUpstream
) -> None:
    tuned.ask(headers={"Cookie": "a=b", "X-Mine": "1"}, path="/chat/completions?session=7")

    asked = upstream.wait_for(1)
    assert asked.target == "/v1/deployments/d/chat/completions?api-version=7&x=a%20b"
    assert asked.headers["api-key"] == KEY
    assert asked.headers["x-team"] == "voice"
    assert asked.headers["content-type"] == "application/json"
    assert not {"authorization", "cookie", "x-mine"} & set(asked.headers)


def test_the_key_is_sent_as_a_bearer(server: RunningServer, upstream: ScriptedUpstream) -> None:
    server.ask()

    assert upstream.wait_for(1).headers["authorization"] == f"Bearer {KEY}"


def test_fields_that_are_set_to_be_dropped_are_dropped(tuned: RunningServer, upstream: ScriptedUpstream) -> None:
    asked = _asked(tuned, upstream, turn(account=1, notes="x", call={"id": "c"}))

    assert asked == turn(call={"id": "c"})


# turns that are not asked

SPOKEN: dict[str, Any] = {
    "text": {"role": "assistant", "content": "Welcome, é!"},
    "parts": {"role": "assistant", "content": [{"type": "text", "text": "Welcome, "}, {"type": "text", "text": "é!"}]},
    "the engine's": {**ENGINE_MESSAGE, "role": "assistant", "content": "Welcome, é!"},
}
EMPTY: dict[str, Any] = {
    "empty": {"role": "user", "content": ""},
    "blank": {"role": "user", "content": " \n"},
    "null": {"role": "user", "content": None},
    "left out": {"role": "user"},
    "no parts": {"role": "user", "content": []},
    "empty parts": {"role": "user", "content": [{"type": "text", "text": " "}]},
}
UNASKED = [
    *(pytest.param(last, "Welcome, é!", id=f"assistant: {name}") for name, last in SPOKEN.items()),
    *(pytest.param(last, "", id=f"user: {name}") for name, last in EMPTY.items()),
]


@pytest.mark.parametrize(("last", "text"), UNASKED)
def test_a_turn_that_asks_nothing_never_reaches_the_upstream(
    server: RunningServer, upstream: ScriptedUpstream, last: dict[str, Any], text: str
) -> None:
    body = turn(messages=[*HELLO, last], stream_options={"include_usage": True})

    said = read_good_stream(server.ask(body))
    whole = server.ask({**body, "stream": False}).json

    assert said.text == text
    assert said.finish_reasons == {0: "stop"}
    assert whole["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    ]
    assert whole["object"] == "chat.completion"
    assert {"id", "created", "model"} <= set(whole)
    assert not upstream.asked


PREFILLS: dict[str, dict[str, Any]] = {
    "prefix": turn(messages=[*HELLO, {"role": "assistant", "content": "Well, ", "prefix": True}]),
    "continue_final_message": turn(
        messages=[*HELLO, {"role": "assistant", "content": "Well, "}],
        continue_final_message=True,
        add_generation_prompt=False,
    ),
    "a picture alone": turn(messages=[{"role": "user", "content": [PICTURE]}]),
    "a system message alone": turn(messages=[{"role": "system", "content": ""}]),
}


@pytest.mark.parametrize("body", PREFILLS.values(), ids=PREFILLS.keys())
def test_a_prefill_and_a_turn_without_words_are_asked(
    server: RunningServer, upstream: ScriptedUpstream, body: dict[str, Any]
) -> None:
    assert _asked(server, upstream, body) == body


def test_a_last_message_of_the_assistant_is_asked_where_that_is_set(
    tuned: RunningServer, upstream: ScriptedUpstream
) -> None:
    body = turn(messages=[*HELLO, SPOKEN["text"]])

    assert _asked(tuned, upstream, body) == body
