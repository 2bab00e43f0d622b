"""What the caller gets of an answer: streamed or whole, its headers, its thinking."""

import json
from typing import Any

import pytest
from running_server import RunningServer, read_until, turn
from scripted_upstream import (
    COMPLETION,
    DONE,
    HEAD,
    ROLE,
    STOP,
    ScriptedUpstream,
    answer,
    chunk,
    event,
    framed,
    raw_stream,
    reply,
)
from stream_rules import read_good_stream

PATHS = ["/chat/completions", "/v1/chat/completions"]
SAID = [chunk({"content": "Hé, "}), chunk({"content": "你好."})]
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@pytest.mark.parametrize("path", PATHS)
def test_an_answer_is_streamed(server: RunningServer, upstream: ScriptedUpstream, path: str) -> None:
    upstream.say(answer("Hello", " there.", "."))

    said = read_good_stream(server.ask(path=path))

    assert said.text == "Hello there.."
    assert said.finish_reasons == {0: "stop"}
    assert upstream.wait_for(1).target == "/v1/chat/completions"


@pytest.mark.parametrize("path", PATHS)
def test_an_answer_is_sent_whole_where_no_stream_is_asked_for(
    server: RunningServer, upstream: ScriptedUpstream, path: str
) -> None:
    upstream.say(reply(200, COMPLETION))

    got = server.ask(turn(stream=None), path)

    assert got.status == 200
    assert got.headers.get_content_type() == "application/json"
    assert got.json == COMPLETION


def test_each_chunk_is_passed_on_as_soon_as_it_has_come(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([HEAD, framed(event(ROLE) + event(SAID[0])), "hold"])

    with server.open() as caller:
        got = read_until(caller, event(SAID[0]))

    assert got.endswith(event(SAID[0]) + b"\r\n")


def test_chunks_that_need_no_change_go_on_as_the_bytes_that_came(
    server: RunningServer, upstream: ScriptedUpstream
) -> None:
    odd = event(SAID[0]).replace(b'"created": 1760000000', b'"created":1760000000 ,  "x_trace":{"b":1.50,"a":null}')
    upstream.say(raw_stream(event(ROLE) + odd + event(SAID[1]) + event(STOP) + DONE))

    got = server.ask()

    assert got.body == event(ROLE) + odd + event(SAID[1]) + event(STOP) + DONE


# headers


def test_the_headers_of_a_stream_let_nobody_hold_it_back(server: RunningServer, upstream: ScriptedUpstream) -> None:
    got = server.ask(headers={"Accept-Encoding": "gzip, deflate, br"})

    assert got.headers["Cache-Control"] == "no-cache, no-transform"
    assert got.headers["X-Accel-Buffering"] == "no"
    assert got.headers["Content-Encoding"] is None
    assert got.headers["Content-Length"] is None
    assert got.headers.get_content_type() == "text/event-stream"
    assert upstream.wait_for(1).headers.get("accept-encoding", "identity") == "identity"


@pytest.mark.parametrize("request_id", ["a", "Az0._-", "x" * 64])
@pytest.mark.parametrize("body", [turn(), turn(stream=False), b"{"], ids=["stream", "plain", "error"])
def test_a_callers_request_id_is_kept(
    server: RunningServer, upstream: ScriptedUpstream, request_id: str, body: Any
) -> None:
    got = server.ask(body, headers={"X-Request-Id": request_id})

    assert got.headers.get_all("X-Request-Id") == [request_id]


@pytest.mark.parametrize("request_id", ["", "a b", "a/b", "x" * 65, "é", "a;b", '"a"', "a\tb"])
def test_a_request_id_that_is_none_is_made_anew(
    server: RunningServer, upstream: ScriptedUpstream, request_id: str
) -> None:
    ids = [server.ask(headers={"X-Request-Id": request_id}).headers["X-Request-Id"] for _ in range(2)]

    assert ids[0] != ids[1]
    assert request_id not in ids
    assert all(each and each.isascii() and len(each) <= 64 for each in ids)


# plain answers

CALLING = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
}
PLAIN_BODIES: dict[str, bytes] = {
    "odd spacing": b' {"object":"chat.completion" ,"choices":[ {"index":0,"message":{"content":"a"}} ],"x": 1.50}\n',
    "n and logprobs": json.dumps(
        {
            **COMPLETION,
            "choices": [
                {"index": 1, "message": {"role": "assistant", "content": "b"}, "finish_reason": "length"},
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "a", "refusal": None, "annotations": []},
                    "logprobs": {"content": [{"token": "a", "logprob": -0.25, "bytes": [97], "top_logprobs": []}]},
                    "finish_reason": "stop",
                },
            ],
            "system_fingerprint": "fp",
        },
        indent=2,
    ).encode(),
    "a tool call": json.dumps(
        {**COMPLETION, "choices": [{"index": 0, "message": CALLING, "finish_reason": "tool_calls"}]}
    ).encode(),
    "audio": json.dumps(
        {**COMPLETION, "choices": [{"index": 0, "message": {"role": "assistant", "audio": {"id": "a", "data": "AA"}}}]}
    ).encode(),
}


@pytest.mark.parametrize("body", PLAIN_BODIES.values(), ids=PLAIN_BODIES.keys())
def test_a_whole_answer_goes_on_byte_for_byte(server: RunningServer, upstream: ScriptedUpstream, body: bytes) -> None:
    upstream.say(reply(200, body))

    got = server.ask(turn(stream=False, n=2, logprobs=True))

    assert got.status == 200
    assert got.body == body


def test_a_whole_answer_with_half_a_surrogate_pair_is_mended(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(reply(200, json.dumps(COMPLETION).encode().replace(b"Hello.", rb"a\ud83d")))

    got = server.ask(turn(stream=False))

    assert got.json["choices"][0]["message"]["content"] == "a�"


# thinking aloud

THOUGHT = "<think>\nHm, é.</think>\n\nHello <think> there."


def test_a_think_block_goes_on_where_nothing_else_is_set(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(answer(*THOUGHT))

    assert read_good_stream(server.ask()).text == THOUGHT


def test_a_hidden_think_block_becomes_reasoning_wherever_it_is_cut(
    tuned: RunningServer, upstream: ScriptedUpstream
) -> None:
    cuts = range(1, len(THOUGHT))
    upstream.say(*(answer(THOUGHT[:cut], THOUGHT[cut:], usage=USAGE) for cut in cuts), answer(*THOUGHT))

    streams = [read_good_stream(tuned.ask()) for _ in [*cuts, "each character"]]

    assert [said.text for said in streams] == ["Hello <think> there."] * len(streams)
    reasoning = ["".join(delta.get("reasoning_content", "") for delta in said.deltas) for said in streams]
    assert reasoning == ["\nHm, é."] * len(streams)


UNTHOUGHT = ["<b>Hi</b>", "<", "<thin", "Hi <think>x</think>", " \n", "<thinking>x", "</think>Hi"]


@pytest.mark.parametrize("text", UNTHOUGHT)
def test_text_that_is_no_think_block_is_kept(tuned: RunningServer, upstream: ScriptedUpstream, text: str) -> None:
    upstream.say(answer(*text), answer(text))

    assert [read_good_stream(tuned.ask()).text for _ in range(2)] == [text, text]


def test_a_think_block_that_never_closes_is_all_reasoning(tuned: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(answer("<thi", "nk>Hm", ", </thin"))

    said = read_good_stream(tuned.ask())

    assert said.text == ""
    assert [delta["reasoning_content"] for delta in said.deltas] == ["Hm", ", ", "</thin"]


def test_a_hidden_think_block_of_a_whole_answer_becomes_reasoning(
    tuned: RunningServer, upstream: ScriptedUpstream
) -> None:
    message = {"role": "assistant", "content": THOUGHT}
    upstream.say(reply(200, {**COMPLETION, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))

    got = tuned.ask(turn(stream=False)).json

    said = {"role": "assistant", "content": "Hello <think> there.", "reasoning_content": "\nHm, é."}
    assert got["choices"][0]["message"] == said
    assert {**got, "choices": None} == {**COMPLETION, "choices": None}
