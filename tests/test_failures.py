"""No failure passes for an answer: a real status before the first byte, an error event after it."""

from typing import Any

import pytest
from running_server import KEY, RunningServer, running_server, turn
from scripted_upstream import (
    CLOSING_HEAD,
    COMPLETION,
    DONE,
    END,
    HEAD,
    ROLE,
    SPOKEN,
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
from stream_rules import read_failed_stream, read_failure, read_good_stream

BOTH = pytest.mark.parametrize("is_streamed", [True, False], ids=["stream", "plain"])


# statuses

STATUSES = {
    400: (400, "upstream_rejected"),
    404: (404, "upstream_rejected"),
    413: (413, "upstream_rejected"),
    422: (422, "upstream_rejected"),
    401: (502, "upstream_auth"),
    403: (502, "upstream_auth"),
    429: (429, "upstream_rate_limited"),
    408: (502, "upstream_error"),
    418: (502, "upstream_error"),
    500: (502, "upstream_error"),
    502: (502, "upstream_error"),
    503: (502, "upstream_error"),
    529: (502, "upstream_error"),
    204: (502, "upstream_error"),
    301: (502, "upstream_error"),
    302: (502, "upstream_error"),
    303: (502, "upstream_error"),
    307: (502, "upstream_error"),
    308: (502, "upstream_error"),
}
"""What an upstream's status becomes, and the error's code."""


@BOTH
@pytest.mark.parametrize("status", STATUSES)
def test_an_upstreams_refusal_has_a_real_status(
    server: RunningServer, upstream: ScriptedUpstream, status: int, is_streamed: bool
) -> None:
    elsewhere = f"http://127.0.0.1:{upstream.port}/elsewhere"
    upstream.say(reply(status, {"error": {"message": "Not so."}} if status != 204 else b"", Location=elsewhere))

    got = server.ask(turn(stream=is_streamed))

    shown, code = STATUSES[status]
    error = read_failure(got)
    assert (got.status, error["code"]) == (shown, code)
    assert (error["message"] == "Not so.") == (code == "upstream_rejected")
    assert {asked.target for asked in upstream.asked} == {"/v1/chat/completions"}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(server: RunningServer, upstream: ScriptedUpstream, status: int) -> None:
    upstream.say(reply(status, b"", Location="/v1/chat/completions"), answer("stolen"))

    got = server.ask()

    assert got.status == 502
    assert len(upstream.asked) == 1


BODIES: dict[str, tuple[bytes, str, str]] = {
    "OpenAI's": (
        b'{"error":{"message":"Too long.","type":"t","param":"p","code":"c"}}',
        "application/json",
        "Too long.",
    ),
    "a string": (b'{"error":"Too long."}', "application/json", "Too long."),
    "a message": (b'{"object":"error","message":"Too long.","code":400}', "application/json", "Too long."),
    "a detail": (b'{"detail":"Too long."}', "application/json", "Too long."),
    "FastAPI's": (b'{"detail":[{"loc":["body"],"msg":"Too long."}]}', "application/json", "Too long."),
    "Google's": (b'[{"error":{"code":400,"message":"Too long.","status":"X"}}]', "application/json", "Too long."),
    "a page": (b"<html><head><title>Too\nlong.</title></head><body>no</body>", "text/html", "Too long."),
    "a page without a title": (b"<html><body>secret</body>", "text/html", "The language model's server refused"),
    "text": (b"Too long.", "text/plain", "Too long."),
    "nothing": (b"", "text/plain", "The language model's server refused"),
    "no UTF-8": (b"\xff\xfe", "text/plain", "��"),
    "numbers": (b'{"error":{"message":7}}', "application/json", "The language model's server refused"),
    "lines": (b'{"error":{"message":"Too\\n\\u0007 long."}}', "application/json", "Too"),
}


@pytest.mark.parametrize(("body", "kind", "message"), BODIES.values(), ids=BODIES.keys())
def test_a_rejections_message_is_found_in_whatever_form_it_has(
    server: RunningServer, upstream: ScriptedUpstream, body: bytes, kind: str, message: str
) -> None:
    upstream.say(reply(400, body, kind))

    error = read_failure(server.ask())

    assert error["message"].startswith(message)
    assert error["message"].isprintable()


LEAKS = [
    "https://llm.internal:8443/v1?key=1",
    "wss://llm.internal/x",
    "10.1.2.3:9000",
    "sk-proj-abcDEF123456",
    "gsk_abcdefgh",
    "Bearer abc.def",
    "eyJhbGciOiJIUzI1NiJ9eyJzdWIiOiIx",
    "0123456789abcdef0123456789abcdef",
    "/srv/app/main.py",
    "C:\\app\\main.py",
    "AIzaSyA1234567890abcdefghijklmnopqrstu",
]


@pytest.mark.parametrize("leak", LEAKS)
def test_addresses_paths_and_keys_are_taken_out_of_an_upstreams_message(
    server: RunningServer, upstream: ScriptedUpstream, leak: str
) -> None:
    message = {"message": f"Odd ({leak}) or '{leak}', says {leak}: end"}
    upstream.say(
        reply(400, {"error": message}),
        stream(ROLE, {"error": message}),
        stream(ROLE, SPOKEN, {"error": {**message, "code": 400}}),
    )

    first, event_first, event_later = (server.ask() for _ in range(3))

    assert read_failure(first)["message"].startswith("Odd (")
    assert read_failure(event_first)["message"].startswith("Odd (")
    later = read_failed_stream(event_later).error
    assert later and later["message"].startswith("Odd (")
    assert leak not in first.json["error"]["message"] + event_first.json["error"]["message"] + later["message"]


def test_an_upstreams_message_is_cut_at_200_characters(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(reply(400, {"error": {"message": "word " * 1000}}))

    message = read_failure(server.ask())["message"]

    assert message.startswith("word word")
    assert 190 <= len(message) <= 200


def test_the_log_has_an_upstreams_own_words_with_keys_masked(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(reply(403, {"error": {"message": "No sk-proj-abcDEF123456 at https://llm.internal/v1\n."}}))

    server.ask(headers={"X-Request-Id": "own-words"})

    line = server.wait_for_log("id=own-words")
    assert "https://llm.internal/v1" in line
    assert "403" in line
    assert "abcDEF" not in line


# answers that are none

NO_STREAM: dict[str, list[Step]] = {
    "a page": reply(200, b"<html><title>Sign in</title>", "text/html"),
    "a whole completion": reply(200, COMPLETION),
    "a JSON error": reply(200, {"error": {"message": "No."}}),
    "a page called a stream": reply(200, b"<html><title>Sign in</title>", "text/event-stream"),
    "a completion called a stream": reply(200, COMPLETION, "text/event-stream"),
    "nothing": reply(200, b"", "text/event-stream"),
    "nothing but [DONE]": raw_stream(DONE),
    "a role and [DONE]": stream(ROLE),
    "a role and the end": stream(ROLE, done=False),
    "a role and a cut": [HEAD, framed(event(ROLE)), "close"],
    "a role and a reset": [HEAD, framed(event(ROLE)), 0.05, "reset"],
    "half an event": raw_stream(event(ROLE) + event(SPOKEN)[:40]),
    "no JSON": stream(ROLE, b"{no"),
    "a list": stream(ROLE, b"[1]"),
    "a string": stream(ROLE, b'"Hello"'),
    "no UTF-8": stream(ROLE, b"\xff"),
    "deep JSON": stream(ROLE, b'{"a":' * 20000),
    "a line without an end": [CLOSING_HEAD + b"data: " + b"x" * (5 << 20), "close"],
    "an event without an end": [CLOSING_HEAD + (b"data: " + b"x" * 1000 + b"\n") * 5000, "close"],
    "no HTTP": [b"hello\r\n\r\n", "close"],
    "half a head": [HEAD[:40], "close"],
    "a head without an end": [b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 20000, "close"],
    "two lengths": [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "close"],
    "a length that is none": [b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabcd", "close"],
    "an unknown transfer coding": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabcd", "close"],
    "a chunk without a size": [HEAD + b"xyz\r\n", "close"],
    "a chunk longer than its size": [HEAD + b"2\r\nabcd\r\n", "close"],
    "a damaged compression": reply(200, b"abcd", "text/event-stream", Content_Encoding="gzip"),
    "an unknown compression": reply(200, b"abcd", "text/event-stream", Content_Encoding="br"),
    "another protocol": [b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "close"],
    "an end at once": ["close"],
    "a reset at once": ["reset"],
}


@pytest.mark.parametrize("script", NO_STREAM.values(), ids=NO_STREAM.keys())
def test_a_stream_that_fails_before_its_first_token_has_a_real_status(
    server: RunningServer, upstream: ScriptedUpstream, script: list[Step]
) -> None:
    upstream.say(script)

    got = server.ask()

    assert (got.status, read_failure(got)["code"]) == (502, "upstream_broken")


_CUT = reply(200, COMPLETION)
NO_COMPLETION: dict[str, list[Step]] = {
    "a page": reply(200, b"<html><title>Sign in</title>", "text/html"),
    "a stream": answer("Hello."),
    "nothing": reply(200, b""),
    "no JSON": reply(200, b"{no"),
    "deep JSON": reply(200, b'{"a":' * 20000),
    "null": reply(200, None),
    "a list": reply(200, [COMPLETION]),
    "no choices": reply(200, {"object": "chat.completion"}),
    "empty choices": reply(200, {**COMPLETION, "choices": []}),
    "odd choices": reply(200, {**COMPLETION, "choices": [1]}),
    "an error": reply(200, {"error": {"message": "No."}}),
    "a cut": [*_CUT[:-1], bytes(_CUT[-1])[:-9] if isinstance(_CUT[-1], bytes) else b"", "close"],
    "a reset": [HEAD + framed(b'{"choices":'), 0.05, "reset"],
    "an end at once": ["close"],
    "no HTTP": [b"hello\r\n\r\n", "close"],
}


@pytest.mark.parametrize("script", NO_COMPLETION.values(), ids=NO_COMPLETION.keys())
def test_a_whole_answer_that_is_none_has_a_real_status(
    server: RunningServer, upstream: ScriptedUpstream, script: list[Step]
) -> None:
    upstream.say(script)

    got = server.ask(turn(stream=False))

    assert (got.status, read_failure(got)["code"]) == (502, "upstream_broken")


ERROR_EVENTS: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "OpenAI's": ({"error": {"message": "Oh no.", "type": "t", "code": None}}, 502, "upstream_error", "Oh no."),
    "a word for a code": ({"error": {"message": "Oh no.", "code": "overloaded"}}, 502, "upstream_error", "Oh no."),
    "a string": ({"error": "Oh no."}, 502, "upstream_error", "Oh no."),
    "a detail": ({"detail": "Oh no."}, 502, "upstream_error", "Oh no."),
    "FastAPI's": ({"detail": [{"loc": ["body"], "msg": "Oh no."}]}, 502, "upstream_error", "Oh no."),
    "status 400": ({"error": {"message": "Oh no.", "code": 400}}, 400, "upstream_rejected", "Oh no."),
    "status 400 as text": ({"error": {"message": "Oh no.", "code": "400"}}, 400, "upstream_rejected", "Oh no."),
    "status 429": ({"error": {"message": "Oh no.", "code": 429}}, 429, "upstream_rate_limited", ""),
    "status 401": ({"error": {"message": "Oh no.", "status": 401}}, 502, "upstream_auth", ""),
    "status 500": ({"error": {"message": "Oh no.", "code": 500}}, 502, "upstream_error", ""),
    "beside a choice": (
        {**chunk({"content": ""}, "error"), "error": {"message": "Oh no.", "code": "e"}},
        502,
        "upstream_error",
        "Oh no.",
    ),
    "no words": ({"error": {"code": "e"}}, 502, "upstream_error", "The language model's server failed."),
    "a number": ({"error": 7}, 502, "upstream_error", "The language model's server failed."),
}


@pytest.mark.parametrize("before", [(), (ROLE,), (b'{"type":"ping"}',)], ids=["first", "after a role", "after a ping"])
@pytest.mark.parametrize(("said", "status", "code", "message"), ERROR_EVENTS.values(), ids=ERROR_EVENTS.keys())
def test_an_error_event_before_the_first_token_has_a_real_status(
    server: RunningServer,
    upstream: ScriptedUpstream,
    before: tuple[Any, ...],
    said: dict[str, Any],
    status: int,
    code: str,
    message: str,
) -> None:
    upstream.say(stream(*before, said))

    got = server.ask()

    error = read_failure(got)
    assert (got.status, error["code"]) == (status, code)
    assert message in error["message"]
    assert len(upstream.asked) == 1


# after the first byte


@pytest.mark.parametrize("pause", [(), (0.02,)], ids=["in one read", "in another read"])
@pytest.mark.parametrize(("said", "status", "code", "message"), ERROR_EVENTS.values(), ids=ERROR_EVENTS.keys())
def test_an_error_event_later_ends_the_stream_with_an_error(
    server: RunningServer,
    upstream: ScriptedUpstream,
    pause: tuple[float, ...],
    said: dict[str, Any],
    status: int,
    code: str,
    message: str,
) -> None:
    upstream.say([HEAD, framed(_SAID), *pause, framed(event(said) + DONE), END])

    got = read_failed_stream(server.ask())

    assert got.text == "Hello"
    assert got.error and got.error["code"] == code
    assert message in got.error["message"]


_SAID = event(ROLE) + event(SPOKEN)
_START: list[Step] = [HEAD + framed(_SAID), 0.02]
_CLOSING_START: list[Step] = [CLOSING_HEAD + _SAID, 0.02]
LATER: dict[str, list[Step]] = {
    "the end": [*_START, END],
    "[DONE]": [*_START, framed(DONE) + END],
    "the connection's end": [*_CLOSING_START, "close"],
    "a cut": [*_START, "close"],
    "a reset": [*_START, "reset"],
    "a cut in an event": [*_CLOSING_START, event(SPOKEN)[:40], "close"],
    "a cut in a chunk": [*_START, framed(event(SPOKEN))[:40], "close"],
    "a cut that leaves JSON": [*_CLOSING_START, b"data: {}", "close"],
    "no JSON": [*_START, framed(event(b"{no")) + END],
    "a list": [*_START, framed(event(b"[]")) + END],
    "a page": [*_START, framed(b"<html>502 Bad Gateway</html>") + END],
    "a line without an end": [*_CLOSING_START, b"data: " + b"x" * (5 << 20), "close"],
    "a chunk without a size": [*_START, b"xyz\r\n", "close"],
    "only its usage": [*_START, framed(event(chunk(choices=[], usage={"total_tokens": 1})) + DONE) + END],
    "an empty finish_reason": [*_START, framed(event(chunk({}, "")) + DONE) + END],
    "an empty finish_reason and a cut": [*_START, framed(event(chunk({"content": ""}, ""))), "close"],
    "finish_reason: error": [*_START, framed(event(chunk({}, "error")) + DONE) + END],
}


@pytest.mark.parametrize("script", LATER.values(), ids=LATER.keys())
def test_a_failure_after_the_first_token_ends_the_stream_with_an_error(
    server: RunningServer, upstream: ScriptedUpstream, script: list[Step]
) -> None:
    upstream.say(script)

    got = read_failed_stream(server.ask(turn(stream_options={"include_usage": True})))

    assert got.text == "Hello"
    assert got.error and got.error["message"]
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("broken", [b"{no", b"[]", b'"Hello"'])
def test_what_came_before_a_broken_event_is_passed_on(
    server: RunningServer, upstream: ScriptedUpstream, broken: bytes
) -> None:
    upstream.say([*_START, framed(event(chunk({"content": " there"})) + event(broken)), "hold"])

    assert read_failed_stream(server.ask()).text == "Hello there"


def test_an_answer_has_finished_when_all_its_choices_have(server: RunningServer, upstream: ScriptedUpstream) -> None:
    second = {**SPOKEN, "choices": [{"index": 1, "delta": {"content": "Hi"}, "finish_reason": None}]}
    upstream.say([*_START, framed(event(second) + event(STOP)), 0.02, "close"])

    assert read_failed_stream(server.ask(turn(n=2))).texts == {0: "Hello", 1: "Hi"}


_FINISHED = event(ROLE) + event(SPOKEN) + event(STOP)
FINISHED: dict[str, list[Step]] = {
    "the connection's end": raw_stream(_FINISHED),
    "a cut": [HEAD + framed(_FINISHED), "close"],
    "a reset": [HEAD + framed(_FINISHED), 0.05, "reset"],
    "a cut in an event": raw_stream(_FINISHED + event(SPOKEN)[:40]),
    "a cut in a chunk": [HEAD + framed(_FINISHED) + framed(DONE)[:9], "close"],
    "silence": [HEAD + framed(_FINISHED), "hold"],
}


@pytest.mark.parametrize("script", FINISHED.values(), ids=FINISHED.keys())
def test_an_answer_that_has_finished_is_whole_however_its_stream_ends(
    server: RunningServer, upstream: ScriptedUpstream, script: list[Step]
) -> None:
    upstream.say(script)

    got = read_good_stream(server.ask())

    assert got.text == "Hello"
    assert got.finish_reasons == {0: "stop"}


def test_in_pass_through_a_callers_key_that_is_refused_is_the_callers_matter(_upstream: ScriptedUpstream) -> None:
    _upstream.say(reply(401, {"error": {"message": "Incorrect API key: sk-se****ary"}}), stream(_ERROR_401))
    with running_server(LLM_BASE_URL=_upstream.url) as server:
        for got in (server.ask(), server.ask()):
            error = read_failure(got)

            assert (got.status, error["code"]) == (401, "invalid_api_key")
            assert "sk-se" not in error["message"]
            assert _upstream.asked[-1].headers["authorization"] == f"Bearer {KEY}"


_ERROR_401 = {"error": {"message": "Incorrect API key: sk-se****ary", "code": 401}}
