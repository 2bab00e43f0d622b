import http.client
import json
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from running_server import Answer
from scripted_upstream import ROLE, STOP, chunk
from stream_rules import Stream, read_error, read_good_stream
from test_chunks import ODD_CHUNKS

from protocol.chunks import CONTROL, WAITING_ID, Batch, delta, read_chunk
from protocol.errors import UpstreamBroken
from turns.shape import Shape, framed

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
CALL = {"index": 0, "id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
OTHER_CALL = {**CALL, "index": 1, "id": "b"}
HELLO = chunk({"content": "Hello."})
Body = dict[str, Any]


def shape(include_usage: bool = False) -> Shape:
    """Return a shape with an id, a time and a model that no upstream has."""
    return Shape("chatcmpl-own", 1700000000, "default", include_usage)


def events(*bodies: Body) -> Batch:
    """Read chunks as an upstream sends them."""
    return Batch(read_chunk(json.dumps(body).encode()) for body in bodies)


def read(datas: list[bytes], usage_asked: bool = False) -> Stream:
    """Return what a client reads, if all the rules of a good stream are kept."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + framed(datas))
        ours.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(theirs)
        response.begin()
        return read_good_stream(Answer(response, response.read(), cut=False), usage_asked)


def shaped(*bodies: Body, include_usage: bool = False) -> Stream:
    """Return what a client reads of an upstream's good answer."""
    form = shape(include_usage)
    datas = [data for each in events(*bodies) for data in form.take(Batch([each]))]
    return read(datas + form.end(), include_usage)


def without(body: Body, *names: str) -> Body:
    """Return a chunk without some of its fields."""
    return {name: value for name, value in body.items() if name not in names}


def test_a_good_answer_goes_on_as_the_bytes_that_came() -> None:
    finish = chunk({}, "stop", system_fingerprint="fp")
    batch = events(
        ROLE, HELLO, chunk({"content": " You?"}, obfuscation="x"), chunk({"reasoning_content": "hm"}), finish
    )
    form = shape()

    datas = form.take(batch) + form.end()

    assert datas[-1] == b"[DONE]"
    assert all(ours is theirs.data for ours, theirs in zip(datas[:-1], batch, strict=True))


def test_an_answer_that_begins_with_text_in_the_chunk_of_the_role_goes_on_as_it_came() -> None:
    batch = events(chunk({"role": "assistant", "content": "Hello."}), STOP)
    form = shape()

    datas = form.take(batch) + form.end()

    assert datas[0] is batch[0].data and datas[1] is batch[1].data


def test_a_call_that_needs_no_change_goes_on_as_the_bytes_that_came() -> None:
    later = {"index": 0, "function": {"arguments": " "}}
    batch = events(ROLE, chunk({"tool_calls": [CALL]}), chunk({"tool_calls": [later]}), chunk({}, "tool_calls"))
    form = shape()

    datas = form.take(batch) + form.end()

    assert all(ours is theirs.data for ours, theirs in zip(datas[:-1], batch, strict=True))


@pytest.mark.parametrize(
    "deltas",
    [
        [{"content": "Hello."}, {"content": " You?"}],
        [{"role": "assistant"}, {"content": "Hello."}, {"content": " You?"}],
        [{"role": "assistant", "content": None}, {"content": "Hello."}, {"content": " You?"}],
        [{"role": "assistant", "content": "Hello."}, {"role": "assistant", "content": " You?"}],
        [{"role": "assistant", "content": ""}, {"role": "assistant", "content": "Hello. You?"}],
        [{"role": None, "content": "Hello."}, {"role": "", "content": " You?"}],
        [{"content": ""}, {"role": "assistant", "content": "Hello. You?"}],
    ],
)
def test_the_role_comes_once_and_first(deltas: list[Body]) -> None:
    stream = shaped(*map(chunk, deltas), chunk({"role": "assistant"}, "stop"))

    assert stream.text == "Hello. You?"


@pytest.mark.parametrize(
    "change",
    [
        *({"id": value} for value in ("", None, "chatcmpl-other", 7)),
        *({"created": value} for value in (0, None, 1760000001, 1760000000.5, "1760000000")),
        *({"object": value} for value in ("", None, "chat.completion", "text_completion")),
        *({"model": value} for value in ("", None, "up-2", 5)),
        {"id": "", "created": 0, "object": "", "model": ""},
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_an_answer_has_one_id_and_time_and_each_chunk_is_whole(change: Body, first: bool) -> None:
    odd = {**HELLO, **change}
    bodies = [odd, chunk({"content": " You?"})] if first else [ROLE, odd, chunk({"content": " You?"})]

    stream = shaped(*bodies, {**STOP, **change})

    assert stream.text == "Hello. You?"


@pytest.mark.parametrize("missing", ["id", "created", "object", "model"])
def test_a_field_that_is_left_out_is_put_in(missing: str) -> None:
    stream = shaped(*(without(body, missing) for body in (ROLE, HELLO, STOP)))

    assert stream.text == "Hello."
    assert missing != "model" or {body["model"] for body in stream.chunks} == {"default"}


def test_an_upstreams_own_id_time_and_model_are_taken_over() -> None:
    stream = shaped(HELLO, STOP)

    assert {(body["id"], body["created"], body["model"]) for body in stream.chunks} == {
        ("chatcmpl-up", 1760000000, "up-1")
    }


def test_azures_first_chunk_is_left_out() -> None:
    filtered = chunk(choices=[], id="", object="", created=0, model="", prompt_filter_results=[{"prompt_index": 0}])
    later = {**HELLO, "choices": [{**HELLO["choices"][0], "content_filter_results": {"hate": {"filtered": False}}}]}

    stream = shaped(filtered, ROLE, later, STOP)

    assert stream.chunks == [ROLE, later, STOP]


@pytest.mark.parametrize(
    "silent",
    [
        {"choices": None},
        {"choices": []},
        {"choices": {}},
        {"choices": ["odd", None]},
        {"object": "ping"},
        {},
        chunk(choices=None),
        without(ROLE, "choices"),
        chunk({}),
        chunk(choices=[{"index": 0, "delta": None, "finish_reason": None}]),
        chunk(choices=[{"index": 0}]),
        chunk(choices=[{"delta": {"content": None}}]),
        chunk({"content": None, "tool_calls": None, "audio": None, "function_call": None}),
        chunk({"content": "", "tool_calls": []}),
        chunk({}, ""),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_nulls_and_chunks_that_say_nothing_do_no_harm(silent: Body, place: int) -> None:
    bodies = [ROLE, HELLO, STOP]
    bodies.insert(place, silent)

    stream = shaped(*bodies)

    assert stream.text == "Hello."
    assert stream.finish_reasons == {0: "stop"}


@pytest.mark.parametrize(
    "last",
    [
        [chunk({"content": " You?"}, "length")],
        [chunk({"role": "assistant", "content": " You?"}, "length", usage=USAGE)],
        [chunk({}, "length"), chunk({"content": " You?"})],
        [chunk({"content": ""}, "length"), chunk({"content": " You?"}), chunk({"content": ""}, "length")],
    ],
)
def test_the_finish_is_alone_and_last(last: list[Body]) -> None:
    stream = shaped(ROLE, HELLO, *last)

    assert stream.text == "Hello. You?"
    assert stream.finish_reasons == {0: "length"}


def test_the_finish_is_held_until_the_answer_has_ended() -> None:
    form = shape()

    sent = form.take(events(ROLE, HELLO, STOP))

    assert [json.loads(data)["choices"][0]["finish_reason"] for data in sent] == [None, None]
    assert [data.decode() for data in form.end()] == [json.dumps(STOP), "[DONE]"]


@pytest.mark.parametrize("role", [{}, {"role": "assistant"}])
def test_a_whole_answer_in_one_chunk_is_taken_apart(role: Body) -> None:
    body = chunk({**role, "content": "Hello.", "tool_calls": [CALL, OTHER_CALL]}, "stop", usage=USAGE)

    stream = shaped(body, include_usage=True)

    assert stream.text == "Hello."
    assert [call["id"] for call in stream.tool_calls] == ["a", "b"]
    assert stream.finish_reasons == {0: "tool_calls"}
    assert stream.usage == USAGE


@pytest.mark.parametrize(
    ("finish", "expected"), [("stop", "tool_calls"), ("tool_calls", "tool_calls"), ("length", "length")]
)
def test_calls_to_tools_are_one_a_chunk_and_finish_as_such(finish: str, expected: str) -> None:
    both = chunk({"tool_calls": [{**CALL, "index": 1}, {**CALL, "id": "b"}]})

    for before in ([], [ROLE], [ROLE, HELLO]):
        stream = shaped(*before, both, chunk({}, finish))

        assert [(call["id"], call["name"], call["arguments"]) for call in stream.tool_calls] == [
            ("a", "weather", "{}"),
            ("b", "weather", "{}"),
        ]
        assert stream.finish_reasons == {0: expected}


USAGE_SHAPES = {
    "none": [ROLE, HELLO, STOP],
    "null": [{**body, "usage": None} for body in (ROLE, HELLO, STOP)],
    "in the finish": [ROLE, HELLO, {**STOP, "usage": USAGE}],
    "in the finish, with text": [ROLE, chunk({"content": "Hello."}, "stop", usage=USAGE)],
    "in its own chunk": [ROLE, HELLO, STOP, chunk(choices=[], usage=USAGE)],
    "in its own chunk, with null choices": [ROLE, HELLO, STOP, chunk(choices=None, usage=USAGE)],
    "in its own chunk, with a choice": [ROLE, HELLO, STOP, chunk({}, usage=USAGE)],
    "in its own chunk, with a finish": [ROLE, HELLO, STOP, chunk({"content": ""}, "stop", usage=USAGE)],
    "on every chunk": [{**body, "usage": {**USAGE, "total_tokens": 3}} for body in (ROLE, HELLO)]
    + [{**STOP, "usage": USAGE}],
    "before the finish": [ROLE, HELLO, chunk(choices=[], usage=USAGE), STOP],
}


@pytest.mark.parametrize("bodies", USAGE_SHAPES.values(), ids=USAGE_SHAPES)
def test_usage_comes_once_and_last_and_only_if_asked_for_and_known(bodies: list[Body]) -> None:
    known = USAGE if any(body.get("usage") for body in bodies) else None

    asked, not_asked = shaped(*bodies, include_usage=True), shaped(*bodies)

    assert (asked.usage, not_asked.usage) == (known, None)
    assert asked.text == not_asked.text == "Hello."


def test_the_usage_is_known_though_it_was_not_asked_for() -> None:
    form = shape()

    form.take(events(ROLE, HELLO, {**STOP, "usage": USAGE}))

    assert (form.usage, form.model) == (USAGE, "up-1")


def two(first: Any, second: Any, **more: Any) -> Body:
    """Write a chunk with two choices, in the other order."""
    choices = [{"index": 1, "delta": second, **more}, {"index": 0, "delta": first, **more}]
    return chunk(choices=choices)


@pytest.mark.parametrize(
    "bodies",
    [
        [
            two({"role": "assistant", "content": ""}, {"role": "assistant", "content": ""}, finish_reason=None),
            two({"content": "Hello."}, {"content": "Hi."}, finish_reason=None),
            two({}, {}, finish_reason="stop"),
        ],
        [two({"content": "Hello."}, {"content": "Hi."}, finish_reason="stop")],
        [
            chunk(choices=[{"index": 1, "delta": {"content": "Hi."}, "finish_reason": None}]),
            HELLO,
            chunk(choices=[{"index": 1, "delta": {}, "finish_reason": "stop"}]),
            STOP,
        ],
        [
            ROLE,
            chunk(choices=[{**HELLO["choices"][0]}, {"index": 1, "delta": {"content": "Hi."}, "finish_reason": None}]),
            chunk(choices=[{**STOP["choices"][0]}, {"index": 1, "delta": {}, "finish_reason": "stop"}]),
        ],
        [
            HELLO,
            chunk(choices=[{"index": 1, "delta": {"content": "Hi."}, "finish_reason": None}]),
            chunk(choices=[{"index": 1, "delta": {}, "finish_reason": "stop"}]),
            STOP,
        ],
        [
            chunk(choices=[{"delta": {"content": "Hello."}}, {"delta": {"content": "Hi."}}]),
            chunk(choices=[{"delta": {}, "finish_reason": "stop"}, {"delta": {}, "finish_reason": "stop"}]),
        ],
    ],
)
def test_several_choices_come_one_a_chunk_each_with_its_role_and_finish(bodies: list[Body]) -> None:
    stream = shaped(*bodies)

    assert stream.texts == {0: "Hello.", 1: "Hi."}
    assert stream.finish_reasons == {0: "stop", 1: "stop"}


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"refusal": "No."},
        {"content": "Hello.", "annotations": [{"type": "url_citation"}]},
        {"images": [{"type": "image_url", "image_url": {"url": "data:"}}]},
        {"function_call": {"name": "f", "arguments": "{}"}},
    ],
)
@pytest.mark.parametrize("in_the_finish", [False, True])
def test_what_a_delta_has_beside_its_text_is_kept(fields: Body, in_the_finish: bool) -> None:
    bodies = [chunk(fields, "stop" if in_the_finish else None, service_tier="x"), STOP]

    stream = shaped(*bodies[: 1 if in_the_finish else 2])

    assert stream.deltas == [fields]
    assert stream.chunks[1]["service_tier"] == "x"


def test_logprobs_are_sent_once() -> None:
    logprobs = {"content": [{"token": "Hello"}]}
    choice = {"index": 0, "delta": {"content": "Hello.", "tool_calls": [CALL, OTHER_CALL]}, "logprobs": logprobs}

    stream = shaped(chunk(choices=[{**choice, "finish_reason": "stop"}]))

    assert [body["choices"][0]["logprobs"] for body in stream.chunks if "logprobs" in body["choices"][0]] == [logprobs]


def test_half_a_character_in_an_unknown_field_does_no_harm() -> None:
    stream = shaped(chunk({"content": "Hello."}, note="\ud83d"), STOP)

    assert stream.text == "Hello."


def test_the_id_of_audio_is_sent_once() -> None:
    parts: list[Body] = [{"data": "AAAA"}, {"transcript": "Hello."}, {"words": [{"text": "Hello."}]}]

    stream = shaped(*(chunk({"audio": {"id": "audio_1", **part}}) for part in parts), STOP)

    assert stream.deltas == [{"audio": part} for part in ({"id": "audio_1", **parts[0]}, *parts[1:])]


def test_audio_without_a_change_goes_on_as_the_bytes_that_came() -> None:
    batch = events(ROLE, chunk({"audio": {"id": "audio_1"}}), chunk({"audio": {"data": "AAAA"}}))

    assert all(ours is theirs.data for ours, theirs in zip(shape().take(batch), batch, strict=True))


@pytest.mark.parametrize("role", [{}, {"role": "assistant"}])
@pytest.mark.parametrize("upstream", [[HELLO], [ROLE, HELLO], [chunk({"role": "assistant", "content": "Hello."})]])
def test_a_waiting_message_has_its_own_id_and_nothing_else_has(role: Body, upstream: list[Body]) -> None:
    form = shape()
    waiting = delta({**role, "content": "One moment. "}, id=WAITING_ID)

    datas = form.take(Batch([waiting])) + form.take(events(*upstream, STOP)) + form.end()
    first, *others = map(json.loads, datas[:-1])

    assert (first["id"], first["object"]) == (WAITING_ID, "chat.completion.chunk")
    assert first["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": "One moment. "}, "finish_reason": None}
    ]
    assert len({body["id"] for body in others} | {WAITING_ID}) == 2
    assert len({body["created"] for body in (first, *others)}) == 1, "an answer has one time"
    stream = read([json.dumps({**first, "id": others[0]["id"]}).encode(), *datas[1:]])
    assert stream.text == "One moment. Hello."


def test_a_waiting_message_is_a_token() -> None:
    form = shape()

    form.take(Batch([delta({"content": "One moment."}, id=WAITING_ID)]))

    assert form.has_token


@pytest.mark.parametrize(("repeats", "sent"), [(False, ["a1", None, "a2"]), (True, ["a1", "a1", "a2"])])
def test_an_id_of_audio_is_sent_once_unless_it_is_to_be_repeated(repeats: bool, sent: list[str | None]) -> None:
    form = Shape("chatcmpl-own", 1750000000, "own", False, repeats)
    form.take(events(ROLE))

    datas = form.take(events(*(chunk({"audio": {"id": name, "data": "AAAA"}}) for name in ("a1", "a1", "a2"))))

    assert [json.loads(data)["choices"][0]["delta"]["audio"].get("id") for data in datas] == sent


@pytest.mark.parametrize(
    ("body", "is_token"),
    [
        (ROLE, False),
        (chunk({"content": None}), False),
        (chunk(choices=[]), False),
        ({"object": CONTROL, "choices": [], "metadata": {}}, False),
        (HELLO, True),
        (chunk({"reasoning_content": "hm"}), True),
        (chunk({"tool_calls": [CALL]}), True),
        (chunk({"audio": {"data": "AAAA"}}), True),
        (chunk({"refusal": "No."}), True),
        (STOP, True),
    ],
)
def test_a_token_is_something_said_or_a_finish(body: Body, is_token: bool) -> None:
    fresh, flowing = shape(), shape()
    flowing.take(events(ROLE))

    for form in (fresh, flowing):
        form.take(events(body))
        assert form.has_token == is_token


def test_control_metadata_goes_on_as_the_bytes_that_came() -> None:
    control = {"object": CONTROL, "choices": [], "metadata": {"interruptable": False, "tts_params": {"params": {}}}}
    batch = events(control, ROLE, HELLO)

    datas = shape().take(batch)

    assert all(ours is theirs.data for ours, theirs in zip(datas, batch, strict=True))


@pytest.mark.parametrize(("texts", "said"), [(["Hello.", " You?"], "Hello. You?"), ([], "")])
def test_an_answer_of_our_own_is_a_whole_one(texts: list[str], said: str) -> None:
    form = shape(include_usage=True)

    stream = read(form.take(Batch(delta({"content": text}) for text in texts)) + form.end(), usage_asked=True)

    assert (stream.text, stream.finish_reasons, stream.usage) == (said, {0: "stop"}, None)
    assert {(body["id"], body["model"]) for body in stream.chunks} == {("chatcmpl-own", "default")}


def test_a_failed_answer_ends_with_the_error_and_without_a_finish() -> None:
    form = shape(include_usage=True)
    form.take(events(ROLE, HELLO, {**STOP, "usage": USAGE}))

    error, done = form.fail(UpstreamBroken("It broke.", code="upstream_broken", detail="secret"))

    assert done == b"[DONE]"
    assert read_error(json.loads(error)) == {
        "message": "It broke.",
        "type": "upstream_error",
        "param": None,
        "code": "upstream_broken",
    }


def test_nothing_is_framed_as_nothing() -> None:
    assert framed([]) == b""
    assert framed([b"{}", b"[DONE]"]) == b"data: {}\n\ndata: [DONE]\n\n"


CHANGES: list[tuple[str, Any]] = [
    *((name, ...) for name in ("id", "object", "created", "model", "index")),
    *(("id", value) for value in ("", "chatcmpl-other")),
    *(("usage", value) for value in (USAGE, None)),
    ("created", 7),
    ("role", "assistant"),
    ("logprobs", None),
]


def changed(body: Body, name: str, value: Any) -> Body:
    """Return a chunk with another field in its delta, its choice or its root; one that is ... is left out."""
    (choice,) = body["choices"]
    if name == "role":
        choice = {**choice, "delta": {name: value, **choice["delta"]}}
    elif name in ("index", "logprobs"):
        choice = {**choice, name: value}
    else:
        body = {**body, name: value}
    body = {**body, "choices": [{key: each for key, each in choice.items() if each is not ...}]}
    return {key: each for key, each in body.items() if each is not ...}


@given(
    texts=st.lists(st.text(max_size=5), max_size=6),
    changes=st.lists(st.lists(st.sampled_from(CHANGES), max_size=3), min_size=8, max_size=8),
    finish_has_text=st.booleans(),
    include_usage=st.booleans(),
    together=st.booleans(),
)
def test_text_survives_every_dialect(
    texts: list[str], changes: list[list[tuple[str, Any]]], finish_has_text: bool, include_usage: bool, together: bool
) -> None:
    bodies = [ROLE, *(chunk({"content": text}) for text in texts), chunk({}, "stop")]
    if finish_has_text:
        bodies[-1] = chunk({"content": "The end."}, "stop")
    for place, body in enumerate(bodies):
        for name, value in changes[place]:
            body = changed(body, name, value)
        bodies[place] = body
    form = shape(include_usage)

    batches = [events(*bodies)] if together else [events(body) for body in bodies]
    stream = read([data for batch in batches for data in form.take(batch)] + form.end(), include_usage)

    assert stream.text == "".join(texts) + ("The end." if finish_has_text else "")
    assert stream.finish_reasons == {0: "stop"}


@given(st.lists(ODD_CHUNKS, max_size=4))
def test_no_chunk_is_too_odd(bodies: list[Body]) -> None:
    form = shape(include_usage=True)

    datas = form.take(Batch([*events(ROLE, *bodies)])) + form.end()

    assert datas[-1] == b"[DONE]"
    for data in datas[:-1]:
        body = json.loads(data)
        assert isinstance(body["choices"], list)
        assert body["id"] == "chatcmpl-up"
