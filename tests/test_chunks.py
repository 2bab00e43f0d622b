import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scripted_upstream import COMPLETION, chunk

from protocol.chunks import Batch, Event, delta, event, read_chunk, read_completion

FIELDS = ["id", "object", "created", "model", "usage", "error", "detail"]
DELTA_FIELDS = ["role", "content", "tool_calls", "audio", "function_call", "reasoning_content", "refusal", "text"]
odd_values: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([None, True, False, 0, 1, 0.5, 1e999, "", "x", "\ud83d", [], {}, [None], ["x"], [{}], {"x": 1}]),
    st.integers(),
    st.floats(),
)
odd_deltas = st.dictionaries(st.sampled_from(DELTA_FIELDS), odd_values, max_size=4) | odd_values
odd_choices = st.fixed_dictionaries(
    {}, optional={"index": odd_values, "delta": odd_deltas, "finish_reason": odd_values}
)
ODD_CHUNKS = st.builds(
    lambda fields, choices: {**fields, **({} if choices is None else {"choices": choices})},
    st.dictionaries(st.sampled_from(FIELDS), odd_values, max_size=4),
    st.none() | st.lists(odd_choices | odd_values, max_size=3) | odd_values,
)


def read(body: Any) -> Event:
    """Read a chunk that is written as upstreams write it."""
    return read_chunk(json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        chunk({"content": "Hi"}),
        chunk({"role": "assistant", "content": ""}, logprobs={"content": []}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}),
        chunk({}, "stop", usage={"total_tokens": 3}),
        chunk(choices=[], id="", created=0, model="", prompt_filter_results=[{}]),
        {"choices": None},
        {"choices": [{"delta": None, "finish_reason": None}]},
        {"choices": [{"delta": {"content": None, "role": None, "tool_calls": None}}]},
        {"created": 1760000000.25, "choices": [{"index": 0}]},
        {},
    ],
)
def test_a_chunk_is_kept_as_the_bytes_that_came(body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()

    assert read_chunk(data).data is data


def test_a_chunk_is_seen_field_by_field() -> None:
    seen = read(chunk({"content": "Hi", "reasoning_content": "hm", "audio": {"id": "a"}}, "stop", usage={"n": 1})).chunk

    assert (seen.id, seen.object, seen.created, seen.model) == (
        "chatcmpl-up",
        "chat.completion.chunk",
        1760000000,
        "up-1",
    )
    assert seen.usage == {"n": 1}
    assert seen.choices and seen.choices[0].index == 0 and seen.choices[0].finish_reason == "stop"
    assert (found := seen.choices[0].delta) is not None
    assert (found.content, found.reasoning_content, found.audio, found.role) == ("Hi", "hm", {"id": "a"}, None)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (chunk({"content": "Hi"}), "Hi"),
        (chunk({"content": "Hi"}, "stop"), "Hi"),
        (chunk({"content": None}), ""),
        (chunk({"reasoning_content": "hm"}), ""),
        ({"choices": [{"delta": {"content": "Hi"}}]}, "Hi"),
        ({"choices": [{"index": 1, "delta": {"content": "Hi"}}]}, ""),
        ({"choices": [{"index": 0, "delta": None}]}, ""),
        ({"choices": []}, ""),
        ({"choices": None}, ""),
        ({"object": "ping"}, ""),
    ],
)
def test_the_text_of_a_chunk_is_its_first_choices(body: dict[str, Any], text: str) -> None:
    each = read(body)

    assert each.text == text
    assert Batch([each, delta({"content": "!"})]).text == text + "!"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (rb'{"choices": [{"index": 0, "delta": {"content": "a\ud83d"}}]}', "a\ufffd"),
        (b'{"choices": [{"index": 0, "delta": {"content": "a\xff"}}]}', "a\ufffd"),
        (b'{"logprobs": "\xff", "choices": [{"index": 0, "delta": {"content": "a"}}]}', "a"),
        (b'\xef\xbb\xbf{"choices": [{"index": 0, "delta": {"content": "a"}}]}', "a"),
        (b'{"n": NaN, "choices": [{"index": 0, "delta": {"content": "a"}}]}', "a"),
        (b'{"usage": {"cost": -Infinity}, "choices": [{"index": 0, "delta": {"content": "a"}}]}', "a"),
        ('{"choices": [{"index": 0, "delta": {"content": "a\u2028\u0085"}}]}'.encode(), "a\u2028\u0085"),
    ],
)
def test_a_chunk_that_strict_clients_refuse_is_mended(data: bytes, text: str) -> None:
    each = read_chunk(data)

    assert each.text == text
    assert msgspec.json.decode(each.data)["choices"][0]["delta"]["content"] == text


def test_content_that_is_a_list_of_parts_becomes_its_text() -> None:
    parts = [
        {"type": "text", "text": "Hi"},
        {"type": "image_url"},
        {"type": "text", "text": " you"},
        "odd",
        {"text": 5},
    ]

    each = read(chunk({"content": parts, "reasoning": "hm"}, "stop"))

    assert each.text == "Hi you"
    assert json.loads(each.data) == chunk({"content": "Hi you", "reasoning": "hm"}, "stop")


@pytest.mark.parametrize(
    "change",
    [
        {"id": 7},
        {"id": None},
        {"created": "1760000000"},
        {"created": 1e999},
        {"model": ["up-1"]},
        {"object": 1},
        {
            "choices": [
                {"index": 0, "delta": {"content": "Hi", "audio": {"id": "a"}, "role": 5}, "finish_reason": "stop"}
            ]
        },
    ],
)
def test_a_field_of_an_odd_type_does_not_hide_the_others(change: dict[str, Any]) -> None:
    body = chunk({"content": "Hi", "audio": {"id": "a"}}, "stop", **change)

    each = read(body)

    assert each.text == "Hi"
    for name in {"id", "object", "created", "model"} - change.keys():
        assert getattr(each.chunk, name) == body[name]
    assert each.chunk.choices and each.chunk.choices[0].finish_reason == "stop"
    assert each.chunk.choices[0].delta and each.chunk.choices[0].delta.audio == {"id": "a"}


@pytest.mark.parametrize(
    "choice",
    [
        {"index": "0", "delta": {"content": "Hi"}},
        {"index": True, "delta": {"content": "Hi"}},
        {"index": 0.5, "delta": {"content": "Hi", "role": 5}},
        {"delta": {"content": "Hi", "tool_calls": {}}, "finish_reason": False},
        {"delta": {"content": "Hi", "tool_calls": ""}},
        {"delta": {"content": "Hi", "reasoning": []}, "finish_reason": 0},
    ],
)
def test_a_choice_with_odd_fields_still_says_its_text_and_is_not_finished(choice: dict[str, Any]) -> None:
    each = read({"choices": [choice]})

    assert each.text == "Hi"
    assert each.chunk.choices and not each.chunk.choices[0].finish_reason


@pytest.mark.parametrize(
    "data",
    [b"", b" ", b"{", b"nope", b"[]", b"[{}]", b"5", b"null", b'"text"', b"{} {}", b'{"a":\n"\n"}', b'{"x":' * 100_000],
)
def test_an_event_that_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_chunk(data)


@given(ODD_CHUNKS)
@example({"choices": 5})
@example({"choices": [None, 5, {"index": True}]})
@example({"choices": [{"finish_reason": False}], "id": 5})
@example({"choices": [{"delta": {"tool_calls": ""}}]})
def test_any_json_object_is_an_event(body: Any) -> None:
    each = read(body)

    assert isinstance(each.text, str)
    assert isinstance(msgspec.json.decode(each.data), dict)


def test_an_event_of_our_own_is_written_and_seen() -> None:
    ours = event({"id": "x", "choices": [{"index": 0, "delta": {"content": "é"}}]})
    said = delta({"content": "é"}, "stop", id="waiting_msg")

    assert ours.data == '{"id":"x","choices":[{"index":0,"delta":{"content":"é"}}]}'.encode()
    assert (ours.text, ours.chunk.id) == ("é", "x")
    assert json.loads(said.data)["choices"] == [{"index": 0, "delta": {"content": "é"}, "finish_reason": "stop"}]
    assert (said.text, said.chunk.id) == ("é", "waiting_msg")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "assistant", "content": "Hello."}, "Hello."),
        ({"role": "assistant", "content": None, "tool_calls": [{}]}, ""),
        ({"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}, ""),
        (None, ""),
    ],
)
def test_a_completion_is_kept_as_it_came(message: Any, text: str) -> None:
    choices = [{"index": 0, "message": message, "logprobs": {}}, {"index": 1, "message": {"content": "Other."}}]
    data = json.dumps({**COMPLETION, "choices": choices}, indent=1).encode()

    answer = read_completion(data)

    assert answer.data is data
    assert answer.text == text
    assert answer.body["choices"] == choices


def test_a_completion_that_strict_clients_refuse_is_mended() -> None:
    answer = read_completion(b'\xef\xbb\xbf{"cost":NaN,"choices":[{"index":0,"message":{"content":"a\\ud83d"}}]}')

    assert answer.text == "a\ufffd"
    assert msgspec.json.decode(answer.data) == answer.body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html></html>",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"error": {"message": "no"}}',
        b'{"choices": null}',
        b'{"choices": []}',
        b'{"choices": {}}',
        b'{"choices": ["text"]}',
        b'{"choices": [{}, null]}',
        b'{"choices": [{"message": {}}]',
        b"[" * 100_000,
    ],
)
def test_what_is_no_completion_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_completion(data)
