import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import cpu_limit

from protocol.errors import BadRequest, error_json
from protocol.request import DEPTH_LIMIT, MESSAGE_EXTRAS, ROOT_EXTRAS, ChatRequest, read_request, text_of

USER: dict[str, Any] = {"role": "user", "content": "Hello!"}
FROM_ENGINE: dict[str, Any] = {
    **USER,
    "turn_id": 0,
    "timestamp": 1760000000000,
    "metadata": {"source": "asr", "user": "1002", "words": [{"text": "Hello"}]},
    "interrupted": True,
    "interrupt_timestamp": 1760000000.5,
    "original": "Hello! And",
}
KNOWN = {"messages", "model", "stream", "stream_options", "tools", "metadata"} | ROOT_EXTRAS


def read(*messages: Any, **root: Any) -> ChatRequest:
    """Read a request with these messages, by default one of the user's, and these fields."""
    return read_request(json.dumps({"messages": list(messages) or [USER], **root}).encode())


def refused(data: bytes | dict[str, Any]) -> BadRequest:
    """Return why a request is refused."""
    with pytest.raises(BadRequest) as caught:
        read_request(data if isinstance(data, bytes) else json.dumps(data).encode())
    return caught.value


def nested(levels: int, closed: bool = True) -> bytes:
    """Write a request of so many levels."""
    inner = levels - 1
    return b'{"messages":[{"role":"user"}],"a":' + b"[" * inner + b"]" * (inner if closed else 0) + b"}"


def test_a_request_goes_on_as_it_came() -> None:
    body = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief.", "name": "s"},
            {"role": "developer", "content": [{"type": "text", "text": "x"}]},
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "f"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "4"},
            {"role": "function", "name": "f", "content": "4"},
            USER,
        ],
        "stream": True,
        "stream_options": {"include_usage": True, "include_obfuscation": False},
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "temperature": 0.7,
        "max_tokens": 150,
        "metadata": {"a": "b"},
        "user": None,
    }

    request = read_request(json.dumps(body).encode())

    assert request.body == body
    assert (request.stream, request.include_usage, request.model) == (True, True, "m")
    assert request.extras == {}


names = st.text(max_size=10)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(names, values, max_size=3),
    max_leaves=8,
)


@given(
    root=st.dictionaries(names.filter(lambda name: name not in KNOWN), json_values, max_size=6),
    message=st.dictionaries(
        names.filter(lambda name: name not in MESSAGE_EXTRAS | {"role", "content", "tool_calls"}),
        json_values,
        max_size=4,
    ),
    part=st.dictionaries(names.filter(lambda name: name not in ("type", "image_url")), json_values, max_size=3),
)
def test_whatever_is_unknown_goes_on_unchanged(
    root: dict[str, Any], message: dict[str, Any], part: dict[str, Any]
) -> None:
    body = {**root, "messages": [{**message, "role": "user", "content": [{"type": "odd", **part}]}]}

    sent = msgspec.json.encode(read_request(json.dumps(body).encode()).body)

    assert json.loads(sent) == body


def test_numbers_too_large_for_64_bits_go_on_unchanged() -> None:
    assert msgspec.json.encode(read(seed=2**64, other=-(2**200)).body).endswith(
        b'"seed":18446744073709551616,"other":%d}' % -(2**200)
    )


@pytest.mark.parametrize("name", sorted(MESSAGE_EXTRAS))
def test_what_the_engine_adds_to_a_message_is_not_sent_on(name: str) -> None:
    request = read({**USER, name: FROM_ENGINE[name]}, USER)

    assert request.body["messages"] == [USER, USER]
    assert request.messages[0] == {**USER, name: FROM_ENGINE[name]}


@pytest.mark.parametrize("name", sorted(ROOT_EXTRAS))
def test_what_the_engine_adds_to_the_root_is_not_sent_on(name: str) -> None:
    value = {"a": 1} if name in ("context", "params") else 7

    request = read(**{name: value, "user": "u"})

    assert not set(request.body) & ROOT_EXTRAS
    assert request.body["user"] == "u"
    assert request.extras == {name: value}


def test_an_engines_request_keeps_what_is_openais() -> None:
    request = read(FROM_ENGINE, model="m", turn_id=0, timestamp=1, interruptable=True, context={"userId": "1"}, n=1)

    assert request.body == {"messages": [USER], "model": "m", "n": 1}
    assert request.extras == {"turn_id": 0, "timestamp": 1, "interruptable": True, "context": {"userId": "1"}}
    assert request.last == FROM_ENGINE


def test_fields_that_the_settings_name_are_not_sent_on() -> None:
    body = {"messages": [USER], "call": {"id": 1}, "customer": None, "phoneNumber": "1", "seed": 1}

    request = read_request(json.dumps(body).encode(), frozenset({"call", "customer", "other"}))

    assert request.body == {"messages": [USER], "phoneNumber": "1", "seed": 1}
    assert request.extras == {"call": {"id": 1}, "customer": None}


@pytest.mark.parametrize(
    ("metadata", "message", "is_sent"),
    [
        ({"a": "b"}, USER, True),
        ({}, USER, True),
        ({"a": 1}, USER, False),
        ({"a": None}, USER, False),
        ({"a": {"b": "c"}}, USER, False),
        ("text", USER, False),
        (["a"], USER, False),
        (None, USER, False),
        *(({"a": "b"}, {**USER, name: FROM_ENGINE[name]}, False) for name in sorted(MESSAGE_EXTRAS)),
    ],
)
def test_metadata_is_sent_on_where_it_is_openais(metadata: Any, message: dict[str, Any], is_sent: bool) -> None:
    request = read(message, USER, metadata=metadata)

    assert ("metadata" in request.body) is is_sent
    assert request.extras == ({} if is_sent else {"metadata": metadata})


def test_params_are_merged_into_the_root_which_wins() -> None:
    request = read(model="root", params={"model": "params", "temperature": 0.5, "stream": True, "context": 1, "x": {}})

    assert request.body == {"messages": [USER], "model": "root", "temperature": 0.5, "stream": True, "x": {}}
    assert (request.model, request.stream) == ("root", True)
    assert request.extras["context"] == 1


def test_params_may_hold_the_messages() -> None:
    request = read_request(json.dumps({"params": {"messages": [FROM_ENGINE], "metadata": {"a": "b"}}}).encode())

    assert request.body == {"messages": [USER]}


@pytest.mark.parametrize(
    ("part", "sent"),
    [
        ({"type": "image_url", "image_url": "https://a/b.png"}, {"image_url": {"url": "https://a/b.png"}}),
        ({"type": "image", "image_url": "https://a/b.png"}, {"image_url": {"url": "https://a/b.png"}}),
        (
            {"type": "image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
            {"image_url": {"url": "data:image/png;base64,AA=="}, "detail": "low"},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "low"}},
            {"image_url": {"url": "https://a/b.png", "detail": "low"}},
        ),
    ],
)
def test_a_picture_is_sent_on_in_the_form_that_upstreams_know(part: dict[str, Any], sent: dict[str, Any]) -> None:
    text = {"type": "text", "text": "What is it?"}

    request = read({"role": "user", "content": [text, part]})

    assert request.body["messages"] == [{"role": "user", "content": [text, {"type": "image_url", **sent}]}]
    assert request.messages == [{"role": "user", "content": [text, part]}]


def test_a_part_of_another_kind_stays_as_it_is() -> None:
    content = [{"type": "odd", "image_url": "https://a/b.png"}, {"image_url": "x"}, {"type": "image", "source": {}}]

    assert read({"role": "user", "content": content}).body["messages"][0]["content"] == content


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (rb'"a\ud83d"', "a\ufffd"),
        (rb'"\ude00 \ud83d\ude00"', "\ufffd 😀"),
        (b'"a\xff"', "a\ufffd"),
        (rb'"\u2028\u0085"', "\u2028\x85"),
    ],
)
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_text_that_was_cut_in_a_character_is_mended(data: bytes, content: str, bom: bytes) -> None:
    request = read_request(bom + b'{"messages": [{"role": "user", "content": ' + data + b"}]}")

    assert request.body["messages"][0]["content"] == content
    assert msgspec.json.encode(request.body)


@pytest.mark.parametrize(
    ("root", "stream", "include_usage"),
    [
        ({}, False, False),
        ({"stream": None, "stream_options": None}, False, False),
        ({"stream": False, "stream_options": {"include_usage": True}}, False, True),
        ({"stream": True, "stream_options": {}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": False}}, True, False),
    ],
)
def test_nothing_is_streamed_or_counted_unless_it_is_asked_for(
    root: dict[str, Any], stream: bool, include_usage: bool
) -> None:
    request = read(**root)

    assert (request.stream, request.include_usage) == (stream, include_usage)


@pytest.mark.parametrize("root", [{}, {"model": None}, {"model": ""}])
def test_a_request_may_name_no_model(root: dict[str, Any]) -> None:
    assert read(**root).model is None


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"messages": "Hello"}, "messages"),
        ({"messages": {"role": "user"}}, "messages"),
        ({"messages": [USER, "Hello"]}, "messages[1]"),
        ({"messages": [USER, None]}, "messages[1]"),
        ({"messages": [{"content": "Hello"}]}, "messages[0]"),
        ({"messages": [USER, USER, {"role": "robot"}]}, "messages[2].role"),
        ({"messages": [{"role": None}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": {"text": "Hello"}}]}, "messages[0].content"),
        ({"messages": [USER, {"role": "user", "content": [{}, "Hello"]}]}, "messages[1].content[1]"),
        ({"messages": [{"role": "assistant", "tool_calls": {}}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [5]}]}, "messages[0].tool_calls[0]"),
        ({"messages": [USER], "model": 5}, "model"),
        ({"messages": [USER], "stream": "true"}, "stream"),
        ({"messages": [USER], "stream": 1}, "stream"),
        ({"messages": [USER], "stream_options": []}, "stream_options"),
        ({"messages": [USER], "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"messages": [USER], "tools": {}}, "tools"),
        ({"messages": [USER], "tools": [{}, "f"]}, "tools[1]"),
        ({"messages": [USER], "params": "x"}, "params"),
        ({"messages": [USER], "params": {"stream": 1}}, "stream"),
    ],
)
def test_a_wrong_type_is_refused_with_its_place(body: dict[str, Any], place: str) -> None:
    failure = refused(body)

    assert (failure.answered, failure.param) == (400, place)
    assert failure.message.startswith(f"{place}: ")


@pytest.mark.parametrize("body", [{}, {"messages": None}, {"messages": []}, {"params": {"messages": []}}])
def test_a_request_without_messages_is_refused(body: dict[str, Any]) -> None:
    failure = refused(body)

    assert (failure.answered, failure.param) == (400, "messages")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"\xef\xbb\xbf",
        b"Hello",
        b"{",
        b"{'messages': []}",
        b'{"messages": [{"role": "user"}],}',
        b'{"messages": [{"role": "user"}]} {}',
        b'{"messages": [{"role": "user"}], "a": NaN}',
        b'{"messages": [{"role": "user"}], "a": -Infinity}',
        b'{"messages": [{"role": "user"}], "a": 1e999}',
        b'{"messages": [{"role": "user", "content": "\\ud83d"}], "a": NaN}',
        b'{"messages": [{"role": "user", "content": "a\nb"}]}',
        b"\xff\xfe{\0}\0",
        b"[]",
        b'"text"',
        b"null",
        b"5",
    ],
)
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    failure = refused(data)

    assert (failure.answered, failure.code, failure.param) == (400, "invalid_json", None)


def test_64_levels_of_nesting_are_read() -> None:
    assert DEPTH_LIMIT == 64
    assert "a" in read_request(nested(64)).body
    assert read(content_of_brackets="[[" * 100 + '\\"{{').body


@pytest.mark.parametrize("levels", [65, 1000, 1_000_000])
@pytest.mark.parametrize("closed", [True, False])
def test_deeper_nesting_is_refused_before_it_is_decoded(levels: int, closed: bool) -> None:
    with cpu_limit(1):
        failure = refused(nested(levels, closed))

    assert failure.answered == 400
    assert "64" in failure.message


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    flood = "Robot\r\nX-Evil: 1\u2028" * 1000

    for body in ({"messages": [{"role": flood}]}, {"messages": [USER], "tools": [flood]}, {"messages": flood}):
        failure = refused(body)
        assert len(failure.message) < 200
        assert failure.message.isprintable()
        assert json.loads(error_json(failure))["error"]["message"] == failure.message


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "Welcome!"}, "Welcome!"),
        ({"content": " Welcome! \n"}, " Welcome! \n"),
        (
            {"content": [{"type": "text", "text": "Wel"}, {"type": "image_url"}, {"type": "text", "text": "come!"}]},
            "Welcome!",
        ),
        ({"content": ""}, ""),
        ({"content": None}, ""),
        ({}, ""),
        ({"content": "Let me see.", "tool_calls": [{"id": "c"}]}, "Let me see."),
        ({"content": "Welcome!", "prefix": False}, "Welcome!"),
    ],
)
def test_a_last_message_of_the_assistants_is_said(message: dict[str, Any], text: str) -> None:
    request = read(USER, {"role": "assistant", **message}, model="m")

    assert request.says == text
    assert not request.is_empty_turn


@pytest.mark.parametrize(
    ("messages", "root"),
    [
        ([{"role": "assistant", "content": "The answer is", "prefix": True}], {}),
        ([{"role": "assistant", "content": "The answer is"}], {"continue_final_message": True}),
        ([{"role": "assistant", "content": "The answer is"}], {"params": {"continue_final_message": True}}),
        ([{"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}], {}),
        ([{"role": "assistant", "content": "Hello!"}, USER], {}),
        ([{"role": "assistant", "content": "Hello!"}, {"role": "tool", "content": "4", "tool_call_id": "c"}], {}),
        ([{"role": "system", "content": "Be brief."}], {}),
    ],
)
def test_a_prefill_and_all_other_last_messages_are_not_said(
    messages: list[dict[str, Any]], root: dict[str, Any]
) -> None:
    assert read(*messages, **root).says is None


EMPTY = ["", " ", "\r\n\t", "\u3000", None, [], [{"type": "text", "text": ""}], [{"type": "text", "text": " \n"}]]


@pytest.mark.parametrize(
    "content", [*EMPTY, [{"type": "text"}], [{"type": "text", "text": None}], [{"type": "text", "text": ""}] * 3]
)
def test_a_turn_in_which_nothing_was_said_is_empty(content: Any) -> None:
    assert read(USER, {**FROM_ENGINE, "content": content}).is_empty_turn


def test_a_turn_without_content_is_empty() -> None:
    assert read({"role": "user"}).is_empty_turn


@pytest.mark.parametrize(
    "content",
    [
        "a",
        ".",
        " 0 ",
        [{"type": "text", "text": ""}, {"type": "text", "text": "a"}],
        [{"type": "image_url", "image_url": {"url": "https://a/b.png"}}],
        [{"type": "text", "text": ""}, {"type": "input_audio", "input_audio": {"data": "AA=="}}],
        [{"type": "odd"}],
        [{}],
    ],
)
def test_a_turn_in_which_something_was_said_is_not_empty(content: Any) -> None:
    assert not read({"role": "user", "content": content}).is_empty_turn


@pytest.mark.parametrize("role", ["system", "developer", "assistant", "tool", "function"])
def test_only_a_users_turn_can_be_empty(role: str) -> None:
    assert not read({"role": role, "content": ""}).is_empty_turn


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Hi", "Hi"),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "H"}, {"type": "image_url"}, {"type": "text", "text": "i"}, {"type": "text"}], "Hi"),
        ([{"type": "text", "text": 5}, {"text": "no"}], ""),
    ],
)
def test_the_text_of_a_message_is_that_of_its_parts(content: Any, text: str) -> None:
    assert text_of({"role": "user", "content": content}) == text


class TestInterruptions:
    @pytest.mark.parametrize(
        ("content", "told"),
        [
            ("Our prices", "Our prices [The caller interrupted here.]"),
            ("我们的价格", "我们的价格 [说到这里被来电者打断。]"),
            ("", ""),
            (None, None),
            (
                [{"type": "text", "text": "Our"}],
                [{"type": "text", "text": "Our"}, {"type": "text", "text": "[The caller interrupted here.]"}],
            ),
        ],
    )
    def test_the_model_is_told_where_it_was_interrupted(self, content: Any, told: Any) -> None:
        message = {"role": "assistant", "content": content, "interrupted": True, "original": "Our prices are …"}
        data = json.dumps({"messages": [message, {"role": "user", "content": "Stop."}]}).encode()

        silent, noted = read_request(data), read_request(data, notes_interruptions=True)

        assert silent.body["messages"][0] == {"role": "assistant", "content": content}
        assert noted.body["messages"][0] == {"role": "assistant", "content": told}

    def test_nobody_else_is_interrupted(self) -> None:
        messages = [{"role": "user", "content": "Stop.", "interrupted": True}]

        request = read_request(json.dumps({"messages": messages}).encode(), notes_interruptions=True)

        assert request.body["messages"] == [{"role": "user", "content": "Stop."}]
