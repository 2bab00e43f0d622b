"""What the caller gets of an answer, whatever form the upstream gives it, and what the upstream is asked."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest
from running_server import HELLO, KEY, RunningServer, running_server, turn
from scripted_upstream import (
    CLOSING_HEAD,
    COMPLETION,
    DONE,
    END,
    HEAD,
    ROLE,
    STOP,
    ScriptedUpstream,
    Step,
    answer,
    chunk,
    event,
    framed,
    raw_stream,
    reply,
    stream,
)
from stream_rules import read_good_stream
from together import ask_together

PATHS = ["/chat/completions", "/v1/chat/completions"]
SAID = [chunk({"content": "Hé, "}), chunk({"content": "你好."})]
TEXT = "Hé, 你好."
EVENTS = [ROLE, *SAID, STOP]
BODY = b"".join(map(event, EVENTS)) + DONE
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@pytest.fixture(scope="module")
def tuned(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server whose settings say how the upstream is asked."""
    settings: dict[str, Any] = {
        "LLM_BASE_URL": f"{_upstream.url}/deployments/d/?api-version=7&x=a%20b",
        "LLM_API_KEY": KEY,
        "LLM_KEY_HEADER": "api-key",
        "LLM_HEADERS": '{"X-Team":"voice"}',
        "LLM_MODEL": "house-1",
        "LLM_DROP_FIELDS": "account,notes",
        "THINK": "hide",
        "ASSISTANT_LAST": "forward",
    }
    with running_server(**settings) as running:
        yield running


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

    with server.open() as sock:
        got = b""
        while event(SAID[0]) not in got:
            got += sock.recv(65536)

    assert event(SAID[0]) in got


def test_chunks_that_need_no_change_go_on_as_the_bytes_that_came(
    server: RunningServer, upstream: ScriptedUpstream
) -> None:
    odd = event(SAID[0]).replace(b'"created": 1760000000', b'"created":1760000000 ,  "x_trace":{"b":1.50,"a":null}')
    upstream.say(raw_stream(event(ROLE) + odd + event(SAID[1]) + event(STOP) + DONE))

    got = server.ask()

    assert got.body == event(ROLE) + odd + event(SAID[1]) + event(STOP) + DONE


# how upstreams write events


def _lines(end: str) -> list[Step]:
    return raw_stream(BODY.replace(b"\n", end.encode()))


def _over_several_lines(data: dict[str, Any]) -> bytes:
    lines = json.dumps(data, indent=1, ensure_ascii=False).splitlines()
    return "".join(f"data: {line}\n" for line in lines).encode() + b"\n"


def _in_segments(body: bytes, size: int) -> list[Step]:
    """Send each few bytes by themselves: with a pause after them, or one read might bring more."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return [CLOSING_HEAD, *(step for piece in pieces for step in (piece, 0.0003)), "close"]


FRAMINGS: dict[str, list[Step]] = {
    "as OpenAI does": raw_stream(BODY),
    "no space after the colon": raw_stream(BODY.replace(b"data: ", b"data:")),
    "CRLF": _lines("\r\n"),
    "a lone CR": _lines("\r"),
    "a BOM": raw_stream(b"\xef\xbb\xbf" + BODY),
    "a BOM within an event": raw_stream(BODY.replace(b"data: {", b"data: \xef\xbb\xbf{")),
    "comments": raw_stream(b": hi\n\n:\n" + BODY.replace(b"data: ", b": OPENROUTER PROCESSING\n\ndata: ")),
    "a comment within an event": raw_stream(BODY.replace(b"data: ", b": within\ndata: ")),
    "empty lines": raw_stream(b"\n\n" + BODY.replace(b"\n\n", b"\n\n\n\n")),
    "several data lines an event": raw_stream(b"".join(map(_over_several_lines, EVENTS)) + DONE),
    "one byte a segment": _in_segments(BODY, 1),
    "a character cut in two": _in_segments(BODY, BODY.index("你".encode()) + 1),
    "pings": raw_stream(BODY.replace(b"data: ", b"event: ping\n\ndata: ")),
    "pings with data": raw_stream(b'event: ping\ndata: {"type": "ping"}\n\n' + BODY),
    "named events": raw_stream(BODY.replace(b"data: ", b"event: message\ndata: ")),
    "ids and retry": raw_stream(b"retry: 3000\n\nid: 1\n\n" + BODY.replace(b"data: ", b"id: 7\nretry: 9\ndata: ")),
    "empty data": raw_stream(BODY.replace(b"data: {", b"data:\n\ndata: \n\ndata\n\ndata: {")),
    "unknown fields": raw_stream(BODY.replace(b"data: ", b"trace: 1\ndata: ")),
    "no [DONE]": raw_stream(BODY.removesuffix(DONE)),
    "no [DONE] and no last empty line": raw_stream(BODY.removesuffix(b"\n" + DONE)),
    "no line end after the finish": raw_stream(BODY.removesuffix(b"\n\n" + DONE)),
    "no empty line after [DONE]": raw_stream(BODY.removesuffix(b"\n")),
    "no line end after [DONE]": raw_stream(BODY.removesuffix(b"\n\n")),
    "a space after [DONE]": raw_stream(BODY.removesuffix(b"\n\n") + b" \n\n"),
    "[DONE] twice": raw_stream(BODY + DONE),
    "something after [DONE]": raw_stream(BODY + event(SAID[0])),
    "something after [DONE], later": [CLOSING_HEAD, BODY, 0.01, event(SAID[0]), "close"],
    "a cut after the finish": [HEAD + framed(BODY.removesuffix(DONE)), "reset"],
    "a chunk in chunks": [HEAD, framed(BODY[:150]), framed(BODY[150:151]), framed(BODY[151:]), END],
    "a chunk a byte": [HEAD + b"".join(framed(bytes([byte])) for byte in BODY) + END],
    "chunk extensions and a trailer": [HEAD + b"%X;a=b\r\n" % len(BODY) + BODY + b"\r\n0\r\nX-Sum: 1\r\n\r\n"],
    "a known length": reply(200, BODY, "text/event-stream"),
    "no content type": [CLOSING_HEAD.replace(b"Content-Type: text/event-stream\r\n", b"") + BODY, "close"],
    "compressed unasked": reply(200, gzip.compress(BODY), "text/event-stream", Content_Encoding="gzip"),
    "early hints": [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + HEAD + framed(BODY) + END],
}


@pytest.mark.parametrize("script", FRAMINGS.values(), ids=FRAMINGS.keys())
def test_however_an_upstream_writes_its_events_the_stream_is_well_formed(
    server: RunningServer, upstream: ScriptedUpstream, script: list[Step]
) -> None:
    upstream.say(script)

    said = read_good_stream(server.ask())

    assert said.text == TEXT
    assert said.finish_reasons == {0: "stop"}


@pytest.mark.parametrize("written", ["\u2028", "\u2029", "\u0085", "\x7f"], ids=ascii)
def test_other_languages_line_ends_are_text(server: RunningServer, upstream: ScriptedUpstream, written: str) -> None:
    upstream.say(stream(ROLE, chunk({"content": f"a{written}b"}), STOP))

    said = read_good_stream(server.ask())

    assert said.text == f"a{written}b"


@pytest.mark.parametrize("half", [rb"\ud83d", rb"\ude00", rb"\ud83d\ud83d"])
def test_half_a_surrogate_pair_becomes_a_replacement_character(
    server: RunningServer, upstream: ScriptedUpstream, half: bytes
) -> None:
    upstream.say(stream(ROLE, json.dumps(chunk({"content": "a HALF b"})).encode().replace(b"HALF", half), STOP))

    said = read_good_stream(server.ask())

    assert said.text == f"a {'�' * half.count(b'u')} b"


def test_a_whole_surrogate_pair_stays_a_character(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(stream(ROLE, json.dumps(chunk({"content": "😀"})).encode(), STOP))

    assert read_good_stream(server.ask()).text == "😀"


def test_nan_becomes_null(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(stream(ROLE, json.dumps(chunk({"content": "a", "score": float("nan")})).encode(), STOP))

    said = read_good_stream(server.ask())

    assert said.deltas == [{"content": "a", "score": None}]


# what upstreams put into chunks


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

    assert said.tool_calls == [
        {"id": "c1", "name": "weather", "arguments": PARIS},
        {"id": "c2", "name": "weather", "arguments": ROME},
    ]
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


# split points

_SHORT_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_PLAIN = b'data: {"choices":[{"delta":{"content":"\xe4\xbd\xa0"}}]}\n\ndata: {"choices":[{"finish_reason":"stop"}]}\n\n'
SHORT = {
    "LF": _SHORT_HEAD + framed(_PLAIN + DONE) + END,
    "CRLF in chunks": _SHORT_HEAD
    + b"".join(framed(part) for part in (_PLAIN + DONE).replace(b"\n", b"\r\n").partition(b"\xbd"))
    + END,
    "CR": _SHORT_HEAD + framed((b"\xef\xbb\xbf: c\n" + _PLAIN + DONE).replace(b"\n", b"\r")) + END,
}


@pytest.mark.once
@pytest.mark.parametrize("response", SHORT.values(), ids=SHORT.keys())
def test_a_response_may_be_cut_in_two_anywhere(
    server: RunningServer, upstream: ScriptedUpstream, response: bytes
) -> None:
    scripts: dict[int, list[Step]] = {
        place: [response[:place], 0.004, response[place:]] for place in range(1, len(response))
    }

    got = ask_together(server, upstream, scripts)

    for place, told in got.items():
        assert read_good_stream(told.answer).text == "你", f"cut before {response[place:]!r}"


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


# what the upstream is asked

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
            {"role": "assistant", "content": "So"},
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
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": PARIS}}],
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


# plain answers

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
        {**COMPLETION, "choices": [{"index": 0, "message": CONVERSATIONS["tools"][2], "finish_reason": "tool_calls"}]}
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
