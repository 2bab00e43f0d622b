"""No failure passes for an answer: a real status before the first byte, an error event after it."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from running_server import KEY, Answer, RunningServer, free_port, running_server, turn
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
from stream_rules import read_error, read_failed_stream, read_good_stream

FALLBACK = "One moment, please."
SPOKEN = chunk({"content": "Hello"})
BOTH = pytest.mark.parametrize("is_streamed", [True, False], ids=["stream", "plain"])


@pytest.fixture(scope="module")
def falling_back(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server that says a sentence where the upstream says nothing."""
    times: dict[str, Any] = {"FIRST_TOKEN_S": 0.6, "KEEPALIVE_S": 0.2}
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, FALLBACK=FALLBACK, **times) as running:
        yield running


def failed(answer: Answer) -> dict[str, Any]:
    """Return the error of an answer with a real status."""
    assert answer.headers.get_content_type() == "application/json"
    assert answer.headers["X-Request-Id"]
    return read_error(answer.json)


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
    error = failed(got)
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

    error = failed(server.ask())

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

    assert failed(first)["message"].startswith("Odd (")
    assert failed(event_first)["message"].startswith("Odd (")
    later = read_failed_stream(event_later).error
    assert later and later["message"].startswith("Odd (")
    assert leak not in first.json["error"]["message"] + event_first.json["error"]["message"] + later["message"]


def test_an_upstreams_message_is_cut_at_200_characters(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(reply(400, {"error": {"message": "word " * 1000}}))

    message = failed(server.ask())["message"]

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

    assert (got.status, failed(got)["code"]) == (502, "upstream_broken")


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

    assert (got.status, failed(got)["code"]) == (502, "upstream_broken")


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

    error = failed(got)
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


# the second try

AGAIN = [429, 500, 502, 503, 504, 529]


def use_up_kept_connections(server: RunningServer, upstream: ScriptedUpstream) -> None:
    """Have the server's next request to the upstream open a connection."""
    upstream.say(raw_stream(_FINISHED + DONE))
    is_new = False
    while not is_new:
        before = upstream.connections
        assert server.ask().status == 200
        is_new = upstream.asked[-1].connection > before


@BOTH
@pytest.mark.parametrize("status", AGAIN)
def test_a_server_that_fails_is_asked_once_more(
    server: RunningServer, upstream: ScriptedUpstream, status: int, is_streamed: bool
) -> None:
    good = answer("Hello") if is_streamed else reply(200, COMPLETION)
    upstream.say(reply(status, b"<html>busy</html>", "text/html"), good)

    got = server.ask(turn(stream=is_streamed))

    assert got.status == 200
    assert [asked.body for asked in upstream.asked] == [turn(stream=is_streamed)] * 2


@BOTH
@pytest.mark.parametrize("status", AGAIN)
def test_a_server_that_fails_twice_is_not_asked_again_by_anybody(
    server: RunningServer, upstream: ScriptedUpstream, status: int, is_streamed: bool
) -> None:
    upstream.say(reply(status, {"error": {"message": "busy"}}))

    got = server.ask(turn(stream=is_streamed))

    assert got.status == STATUSES.get(status, (502,))[0]
    assert got.headers["x-should-retry"] == "false"
    assert len(upstream.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 422, 302])
def test_what_another_try_would_not_mend_is_not_tried_again(
    server: RunningServer, upstream: ScriptedUpstream, status: int
) -> None:
    upstream.say(reply(status, {"error": {"message": "No."}}), answer("Hello"))

    got = server.ask()

    assert got.status >= 400
    assert got.headers["x-should-retry"] is None
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("retry_after", ["3", "120", "2.5", "Wed, 21 Oct 2026 07:28:00 GMT"])
@pytest.mark.parametrize("status", [429, 503])
def test_who_asks_for_long_patience_is_not_asked_again(
    server: RunningServer, upstream: ScriptedUpstream, status: int, retry_after: str
) -> None:
    upstream.say(reply(status, {"error": {"message": "Later."}}, Retry_After=retry_after), answer("Hello"))

    got = server.ask(turn(stream=False))

    assert got.status == STATUSES[status][0]
    assert got.headers["Retry-After"] == (retry_after if status == 429 else None)
    assert got.headers["x-should-retry"] is None
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(("retry_after", "least_s"), [("1", 0.95), ("0", 0.0), ("-1", 0.0), ("", 0.0)])
def test_who_asks_for_a_little_patience_gets_it(
    server: RunningServer, upstream: ScriptedUpstream, retry_after: str, least_s: float
) -> None:
    upstream.say(reply(429, {}, Retry_After=retry_after), reply(200, COMPLETION))

    got = server.ask(turn(stream=False), headers={"X-Request-Id": f"patience{retry_after}"})

    line = server.wait_for_log(f"id=patience{retry_after} ")
    assert got.status == 200
    assert len(upstream.asked) == 2
    assert float(line.split("total_ms=")[1].split()[0]) >= least_s * 1000


def test_there_is_no_second_try_once_half_the_time_is_gone(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([0.5, *reply(503, {"error": {"message": "Slowly."}})], answer("Hello"))

    got = server.ask()

    assert read_failed_stream(got).keepalives == 1
    assert len(upstream.asked) == 1


@BOTH
@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_kept_connection_that_was_closed_is_replaced(
    server: RunningServer, upstream: ScriptedUpstream, ending: str, is_streamed: bool
) -> None:
    good = answer("Hello") if is_streamed else reply(200, COMPLETION)
    use_up_kept_connections(server, upstream)
    upstream.say(good, [ending], good)
    bodies = [turn(stream=is_streamed, user=str(number)) for number in range(2)]

    got = [server.ask(body) for body in bodies]

    assert [each.status for each in got] == [200, 200]
    assert [asked.body["user"] for asked in upstream.asked] == ["0", "1", "1"]
    assert upstream.asked[0].connection == upstream.asked[1].connection != upstream.asked[2].connection


def test_a_stale_connection_is_not_replaced_by_another_that_may_be_stale(
    server: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say([HEAD, 0.2, framed(_FINISHED + DONE) + END])
    with ThreadPoolExecutor(3) as pool:
        assert all(got.status == 200 for got in pool.map(server.ask, [turn()] * 3))
    before = upstream.connections
    upstream.say(["close"], answer("Hello"))

    got = server.ask()

    assert got.status == 200
    assert upstream.asked[0].connection <= before < upstream.asked[1].connection


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("heard", [b"HTTP/1.1 2", HEAD, HEAD + framed(event(ROLE))], ids=["a byte", "a head", "a role"])
def test_there_is_no_second_try_once_anything_has_come(
    server: RunningServer, upstream: ScriptedUpstream, heard: bytes, ending: str
) -> None:
    assert server.ask().status == 200
    upstream.say([heard, 0.05, ending], answer("Hello"))

    got = server.ask()

    assert got.status == 502
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_new_connection_that_is_closed_is_a_failure(
    server: RunningServer, upstream: ScriptedUpstream, ending: str
) -> None:
    use_up_kept_connections(server, upstream)
    upstream.say([ending], answer("Hello"))

    got = server.ask()

    assert (got.status, failed(got)["code"]) == (502, "upstream_broken")
    assert len(upstream.asked) == 1


def test_an_upstream_that_is_not_there_is_tried_twice() -> None:
    with running_server(LLM_BASE_URL=f"http://127.0.0.1:{free_port()}/v1", LLM_API_KEY=KEY) as server:
        for is_streamed in (True, False):
            got = server.ask(turn(stream=is_streamed))

            error = failed(got)
            assert (got.status, error["code"]) == (502, "upstream_unreachable")
            assert got.headers["x-should-retry"] == "false"
            assert "127.0.0.1" not in error["message"]
            assert "outcome=upstream_refused" in server.wait_for_log(got.headers["X-Request-Id"])


def test_in_pass_through_a_callers_key_that_is_refused_is_the_callers_matter(_upstream: ScriptedUpstream) -> None:
    _upstream.say(reply(401, {"error": {"message": "Incorrect API key: sk-se****ary"}}), stream(_ERROR_401))
    with running_server(LLM_BASE_URL=_upstream.url) as server:
        for got in (server.ask(), server.ask()):
            error = failed(got)

            assert (got.status, error["code"]) == (401, "invalid_api_key")
            assert "sk-se" not in error["message"]
            assert _upstream.asked[-1].headers["authorization"] == f"Bearer {KEY}"


_ERROR_401 = {"error": {"message": "Incorrect API key: sk-se****ary", "code": 401}}

# the spoken fallback

UNSAID: dict[str, tuple[list[Step], str]] = {
    "status 500": (reply(500, b"<html>", "text/html"), "upstream_status"),
    "status 400": (reply(400, {"error": {"message": "No."}}), "upstream_status"),
    "status 429": (reply(429, {}, Retry_After="9"), "upstream_status"),
    "status 401": (reply(401, {}), "upstream_status"),
    "an error event": (stream(ROLE, {"error": "No."}), "upstream_status"),
    "no finish": (stream(ROLE), "upstream_broken"),
    "a cut": ([HEAD + framed(event(ROLE)), "close"], "upstream_broken"),
    "silence": (["hold"], "upstream_timeout"),
    "silence after a role": ([HEAD + framed(event(ROLE)), "hold"], "upstream_timeout"),
}


@pytest.mark.parametrize(("script", "cause"), UNSAID.values(), ids=UNSAID.keys())
def test_a_fallback_is_said_where_nothing_was(
    falling_back: RunningServer, upstream: ScriptedUpstream, script: list[Step], cause: str
) -> None:
    upstream.say(script)

    got = falling_back.ask(turn(stream_options={"include_usage": True}))

    said = read_good_stream(got, usage_asked=True)
    line = falling_back.wait_for_log(got.headers["X-Request-Id"])
    assert said.text == FALLBACK
    assert said.finish_reasons == {0: "stop"}
    assert said.usage is None
    assert "outcome=fallback" in line
    assert f"cause={cause}" in line


def test_a_fallback_is_not_said_after_something_else(falling_back: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([*_START, "close"])

    assert read_failed_stream(falling_back.ask()).text == "Hello"


def test_a_fallback_is_not_said_in_a_whole_answer(falling_back: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(reply(500, {}))

    assert falling_back.ask(turn(stream=False)).status == 502


@pytest.mark.parametrize("body", [turn(messages=[]), turn(model=None), b"{"], ids=["messages", "model", "JSON"])
def test_a_fallback_is_not_said_to_a_request_that_is_wrong(
    falling_back: RunningServer, upstream: ScriptedUpstream, body: Any
) -> None:
    got = falling_back.ask(body)

    assert got.status == 400
    assert failed(got)["type"] == "invalid_request_error"


def test_nothing_is_said_in_place_of_an_answer_where_no_fallback_is_set(
    server: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say(["hold"])

    got = read_failed_stream(server.ask())

    assert got.chunks == []
    assert json.dumps(got.error)
