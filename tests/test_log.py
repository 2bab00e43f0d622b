"""What the log says of a request, and what nobody is ever told."""

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from running_server import KEY, Answer, RunningServer, running_server, turn
from scripted_upstream import (
    COMPLETION,
    HEAD,
    ROLE,
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
from stream_rules import read_error

UPSTREAM_KEY = "Canary.One"
"""A key that looks like none."""
CALLER_KEY = "Canary.Two"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}

_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')


@pytest.fixture(scope="module")
def careful(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server that writes JSON, tells all it can, and has keys that look like none."""
    settings: dict[str, Any] = {
        "LLM_BASE_URL": f"{_upstream.url}?api-version=canary-in-the-base",
        "LLM_API_KEY": UPSTREAM_KEY,
        "LLM_HEADERS": '{"X-Upstream":"canary-in-its-header"}',
        "SERVER_API_KEYS": CALLER_KEY,
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "DEBUG",
        "FIRST_TOKEN_S": 0.3,
        "KEEPALIVE_S": 0,
    }
    with running_server(**settings) as running:
        yield running


def fields_of(server: RunningServer, request_id: str) -> dict[str, Any]:
    """Return the fields of a request's line in the plain log, which must be the only one."""
    line = server.wait_for_log(f"id={request_id} ")
    assert server.log.count(f"id={request_id} ") == 1
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO request id=", line)
    assert line.isprintable()
    return {name: json.loads(value) if value[0] == '"' else value for name, value in _FIELD.findall(line)}


def ask(server: RunningServer, request_id: str, body: Any = None, **headers: str) -> Answer:
    """Post a turn under a request id."""
    return server.ask(body, headers={"X-Request-Id": request_id, **headers})


def test_a_streamed_answers_line_says_all_there_is_to_say(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([HEAD, 0.05, *answer("Hello", " there.", usage=USAGE)[1:3], 0.05, *answer(" Bye.", usage=USAGE)[2:]])

    ask(server, "log-stream")

    fields = fields_of(server, "log-stream")
    assert list(fields) == [
        "id",
        "endpoint",
        "status",
        "outcome",
        "model",
        "first_byte_ms",
        "first_sentence_ms",
        "total_ms",
        "chunks",
        "tokens",
    ]
    assert fields["endpoint"] == "/chat/completions"
    assert (fields["status"], fields["outcome"], fields["model"]) == ("200", "ok", "up-1")
    assert (fields["chunks"], fields["tokens"]) == ("4", "5")
    assert 45 < float(fields["first_byte_ms"]) < float(fields["total_ms"]) - 45 < 2000


def test_a_whole_answers_line_says_the_same(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([0.05, *reply(200, COMPLETION)])

    ask(server, "log-whole", turn(stream=False))

    fields = fields_of(server, "log-whole")
    assert (fields["status"], fields["outcome"], fields["model"]) == ("200", "ok", "up-1")
    assert fields["tokens"] == "5"
    assert 45 < float(fields["first_byte_ms"]) <= float(fields["total_ms"]) < 1000


def test_the_json_log_has_the_same_fields(careful: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(answer("Hello", usage=USAGE))

    ask(careful, "log-json", Authorization=f"Bearer {CALLER_KEY}")

    line = json.loads(careful.wait_for_log('"id":"log-json"'))
    assert careful.log.count("log-json") == 1
    assert {key: value for key, value in line.items() if not key.endswith(("time", "_ms"))} == {
        "level": "INFO",
        "message": "request",
        "id": "log-json",
        "endpoint": "/chat/completions",
        "status": 200,
        "outcome": "ok",
        "model": "up-1",
        "chunks": 3,
        "tokens": 5,
    }
    assert 0 < line["first_byte_ms"] <= line["first_sentence_ms"] <= line["total_ms"]


CHAT = "/chat/completions"
GETS = {
    "/health": ("/health", 200, "ok"),
    "/ready?a=b": ("/ready", 200, "ok"),
    "/": ("/", 200, "ok"),
    CHAT: ("unknown", 405, "caller_bad_request"),
    "/nowhere/at/all": ("unknown", 404, "caller_bad_request"),
}
POSTS: dict[str, tuple[Any, dict[str, str], int, str]] = {
    "asked": (turn(), {}, 200, "ok"),
    "empty": (turn(messages=[{"role": "user"}]), {}, 200, "empty"),
    "empty-whole": (turn(messages=[{"role": "user"}], stream=False), {}, 200, "empty"),
    "said": (turn(messages=[{"role": "assistant", "content": "Hi"}]), {}, 200, "ok"),
    "no-json": (b"{", {}, 400, "caller_bad_request"),
    "no-turn": ({}, {}, 400, "caller_bad_request"),
    "no-model": (turn(model=None), {}, 400, "caller_bad_request"),
    "no-kind": (turn(), {"Content-Type": "text/plain"}, 415, "caller_bad_request"),
    "no-key": (turn(), {"Authorization": "Bearer x"}, 401, "caller_unauthorized"),
}


@pytest.mark.parametrize("path", GETS)
def test_each_get_has_one_line(server: RunningServer, path: str) -> None:
    endpoint, status, outcome = GETS[path]

    request_id = server.get(path).headers["X-Request-Id"] or ""

    fields = fields_of(server, request_id)
    assert (fields["endpoint"], fields["status"], fields["outcome"]) == (endpoint, str(status), outcome)
    assert float(fields["total_ms"]) >= 0


@pytest.mark.parametrize("name", POSTS)
def test_each_turn_has_one_line(server: RunningServer, upstream: ScriptedUpstream, name: str) -> None:
    body, headers, status, outcome = POSTS[name]

    ask(server, f"log-{name}", body, **headers)

    fields = fields_of(server, f"log-{name}")
    assert (fields["endpoint"], fields["status"], fields["outcome"]) == (CHAT, str(status), outcome)


_BEGUN: list[Step] = [HEAD, framed(event(chunk({"content": "a"}))), 0.05]
OUTCOMES: dict[str, tuple[list[Step], int, str]] = {
    "refused": (reply(400, {"error": {"message": "No."}}), 400, "upstream_status"),
    "broken-server": (reply(500, {}), 502, "upstream_status"),
    "error-event": (stream(ROLE, {"error": "No."}), 502, "upstream_status"),
    "late-error-event": ([*_BEGUN, framed(event({"error": "No."}))], 200, "upstream_status"),
    "no-finish": (stream(ROLE), 502, "upstream_broken"),
    "late-cut": ([*_BEGUN, "close"], 200, "upstream_broken"),
    "too-late": (["hold"], 200, "upstream_timeout"),
    "page": (reply(200, b"<html>", "text/html"), 502, "upstream_broken"),
}


@pytest.mark.parametrize(("script", "status", "outcome"), OUTCOMES.values(), ids=OUTCOMES.keys())
def test_a_failure_is_logged_as_what_it_was(
    server: RunningServer, upstream: ScriptedUpstream, script: list[Step], status: int, outcome: str
) -> None:
    upstream.say(script)

    request_id = ask(server, "").headers["X-Request-Id"]

    fields = fields_of(server, request_id or "")
    assert (fields["status"], fields["outcome"]) == (str(status), outcome)
    assert fields["detail"]


def test_what_is_no_http_has_a_line_too(server: RunningServer) -> None:
    before = server.log.count("endpoint=unparsed")

    with socket.create_connection(("127.0.0.1", server.port), 5) as sock:
        sock.sendall(b"NONSENSE /canary-in-no-http\r\n\r\n")
        got = sock.recv(65536)

    assert got.startswith(b"HTTP/1.1 400 ")
    assert read_error(json.loads(got.partition(b"\r\n\r\n")[2]))
    server.wait_for_log("endpoint=unparsed")
    assert server.log.count("endpoint=unparsed") == before + 1
    assert "canary-in-no-http" not in server.log


# what callers write

HOSTILE = {
    "a line end": "m\n2026-11-22 00:00:00,000 INFO request id=forged outcome=ok",
    "a carriage return": "m\r\nforged",
    "a terminal's orders": "m\x1b[2J\x1b]0;forged\x07",
    "a separator": "m\u2028forged\u0085\x00",
    "the other way round": "m\u202eforged",
    "fields": 'm outcome=forged id="forged"',
    "quotes": 'm" outcome="forged',
    "backslashes": 'm\\" outcome="forged\\',
}


@pytest.mark.parametrize("model", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_callers_text_cannot_forge_a_line_or_a_field(
    server: RunningServer, careful: RunningServer, upstream: ScriptedUpstream, model: str
) -> None:
    upstream.say(reply(400, {"error": {"message": f"No {model}."}}))

    plain = ask(server, "", turn(model=model)).headers["X-Request-Id"] or ""
    as_json = ask(careful, "", turn(model=model), Authorization=f"Bearer {CALLER_KEY}").headers["X-Request-Id"]

    fields = fields_of(server, plain)
    assert (fields["id"], fields["outcome"], fields["status"]) == (plain, "upstream_status", "400")
    assert fields["model"].startswith("m")
    line = careful.wait_for_log(f'"id":"{as_json}"')
    assert line.isprintable()
    assert json.loads(line)["outcome"] == "upstream_status"
    assert not any(line.startswith("2026-11-22 00:00:00,000") for line in server.log.splitlines())


LONG = "long" * 5000
LONG_PLACES: dict[str, Any] = {
    "the model": turn(model=LONG),
    "a role": turn(messages=[{"role": LONG, "content": "x"}]),
    "a name of a field": turn(tools=[{"type": "function", LONG: 1}, LONG]),
    "a value of a wrong type": turn(stream=LONG),
    "the root": [LONG],
    "no JSON": f'{{"messages":{LONG}'.encode(),
}


@pytest.mark.parametrize("body", LONG_PLACES.values(), ids=LONG_PLACES.keys())
def test_a_callers_text_is_cut_in_the_log_and_in_what_is_answered(
    server: RunningServer, upstream: ScriptedUpstream, body: Any
) -> None:
    got = ask(server, "", body)

    line = server.wait_for_log(f"id={got.headers['X-Request-Id']} ")
    assert "long" * 17 not in line
    assert len(got.body) < 5000


# what nobody is told

IN_ANSWERS = {
    "status 400": reply(400, {"error": {"message": f"Key {UPSTREAM_KEY} or {KEY} is no good"}}),
    "status 401": reply(401, {"error": {"message": f"Incorrect API key provided: {UPSTREAM_KEY}"}}),
    "status 422": reply(422, {"detail": [{"msg": "odd", "input": UPSTREAM_KEY}]}),
    "status 500": reply(500, f"<title>{UPSTREAM_KEY}</title>".encode(), "text/html"),
    "text": reply(404, f"nothing for {UPSTREAM_KEY}".encode(), "text/plain"),
    "a page": reply(200, f"<title>{UPSTREAM_KEY}</title>".encode(), "text/html"),
    "JSON": reply(200, {"key": UPSTREAM_KEY}),
    "an error": reply(200, {"error": {"message": f"No {UPSTREAM_KEY}"}}),
    "a reason": [b"HTTP/1.1 403 No " + UPSTREAM_KEY.encode() + b"\r\nContent-Length: 0\r\n\r\n"],
    "a header": reply(400, {}, X_Key=UPSTREAM_KEY),
    "Retry-After": reply(429, {}, Retry_After=UPSTREAM_KEY),
    "Location": reply(302, b"", Location=f"https://x/?key={UPSTREAM_KEY}"),
    "no HTTP": [UPSTREAM_KEY.encode() + b"\r\n\r\n", "close"],
    "a header's line": [b"HTTP/1.1 200 OK\r\n" + UPSTREAM_KEY.encode() + b"\r\n\r\n", "close"],
    "an event": stream(ROLE, {"error": {"message": f"No {UPSTREAM_KEY}"}}),
    "a later event": raw_stream(event(chunk({"content": "a"})) + event({"error": f"No {UPSTREAM_KEY}"})),
    "no JSON": raw_stream(event(chunk({"content": "a"})) + event(UPSTREAM_KEY.encode())),
    "half an event": raw_stream(event(ROLE) + b'data: {"key":"' + UPSTREAM_KEY.encode()),
}


@pytest.mark.parametrize("is_streamed", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("script", IN_ANSWERS.values(), ids=IN_ANSWERS.keys())
def test_a_key_that_an_upstream_repeats_is_told_to_nobody(
    careful: RunningServer, upstream: ScriptedUpstream, script: list[Step], is_streamed: bool
) -> None:
    upstream.say(script)
    before = len(careful.log)

    got = ask(careful, "", turn(stream=is_streamed), Authorization=f"Bearer {CALLER_KEY}")

    careful.wait_for_log(got.headers["X-Request-Id"] or "")
    told = careful.log[before:] + got.body.decode() + str(got.headers)
    assert "upstream_" in told
    assert UPSTREAM_KEY not in told
    assert CALLER_KEY not in told
    assert KEY not in told


def test_what_a_caller_says_is_not_logged(
    server: RunningServer, careful: RunningServer, upstream: ScriptedUpstream
) -> None:
    said = "canary-of-the-caller"
    upstream.say(answer(said))
    body = turn(
        messages=[{"role": "system", "content": said}, {"role": "user", "content": f"{said}?", "name": said}],
        user=said,
        tools=[{"type": "function", "function": {"name": said}}],
        **{said: said},
    )
    path = f"/chat/completions?session={said}"
    headers = {"X-Session": said, "Cookie": said, "User-Agent": said, "Referer": said, "X-Forwarded-For": said}

    for each, key in ((server, KEY), (careful, CALLER_KEY)):
        for asked in (body, {**body, "stream": False}, {**body, "messages": said}, said.encode()):
            each.ask(asked, path, {**headers, "Authorization": f"Bearer {key}"})
        each.ask(body, path, {**headers, "Authorization": f"Bearer {said}"})
        each.ask(body, f"/{said}?{said}", {**headers, "Authorization": f"Bearer {key}"})
        each.request("GET", f"/models?{said}", None, {**headers, "Authorization": f"Bearer {key}"})
        last = each.get("/health").headers["X-Request-Id"]
        each.wait_for_log(last or "")

        assert said not in each.log


PAGES = ["/", "/health", "/ready", "/models", "/v1/models", "/nowhere", CHAT]


@pytest.mark.parametrize("path", PAGES)
def test_no_page_shows_a_key_or_where_the_upstream_is(
    server: RunningServer, careful: RunningServer, upstream: ScriptedUpstream, path: str
) -> None:
    upstream.say(reply(200, {"object": "list", "data": []}))

    for each, key in ((server, KEY), (careful, CALLER_KEY)):
        got = each.get(path, {"Authorization": f"Bearer {key}"})

        told = got.body.decode() + str(got.headers)
        assert got.status < 500
        for secret in (KEY, UPSTREAM_KEY, CALLER_KEY, str(upstream.port), "canary"):
            assert secret not in told


@pytest.mark.parametrize(
    "sent",
    [
        f"GET /{UPSTREAM_KEY} HTTP/9.9\r\n\r\n",
        f"GET / HTTP/1.1\r\nAuthorization: Bearer {CALLER_KEY}\r\n{UPSTREAM_KEY}\r\n\r\n",
        f"GET /?{UPSTREAM_KEY}{'x' * 9000} HTTP/1.1\r\n\r\n",
        f"POST {CHAT} HTTP/1.1\r\nAuthorization: Bearer {CALLER_KEY}\r\nContent-Length: {UPSTREAM_KEY}\r\n\r\n",
        f"POST {CHAT} HTTP/1.1\r\nAuthorization: Bearer {CALLER_KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"
        f"{UPSTREAM_KEY}\r\n",
    ],
    ids=["version", "header", "long line", "length", "chunk"],
)
def test_a_request_that_is_no_http_is_not_quoted(careful: RunningServer, sent: str) -> None:
    before = len(careful.log)

    with socket.create_connection(("127.0.0.1", careful.port), 5) as sock:
        sock.sendall(sent.encode())
        got = sock.recv(65536).decode()
    last = careful.get("/health").headers["X-Request-Id"]
    careful.wait_for_log(last or "")

    assert got.startswith("HTTP/1.1 4")
    assert read_error(json.loads(got.partition("\r\n\r\n")[2]))
    assert not [key for key in (UPSTREAM_KEY, CALLER_KEY) if key in careful.log[before:] + got]


def test_each_line_of_the_json_log_is_json(careful: RunningServer, upstream: ScriptedUpstream) -> None:
    ask(careful, "json-line", Authorization=f"Bearer {CALLER_KEY}")

    careful.wait_for_log("json-line")
    lines = [line for line in careful.log.splitlines() if not line.startswith(("custom-llm-server: ", "knowledge: "))]
    assert [json.loads(line)["message"] for line in lines] == ["request"] * len(lines)


def test_a_callers_own_key_is_told_to_the_upstream_alone(_upstream: ScriptedUpstream) -> None:
    refused = reply(400, {"error": {"message": f"Odd key {CALLER_KEY}"}})
    _upstream.say(reply(200, COMPLETION), refused, stream(ROLE, {"error": f"Odd key {CALLER_KEY}"}))
    with running_server(LLM_BASE_URL=_upstream.url, LOG_LEVEL="DEBUG") as server:
        got = [ask(server, f"own-{place}", Authorization=f"Bearer {CALLER_KEY}") for place in range(3)]

        server.wait_for_log("id=own-2 ")
        assert CALLER_KEY not in server.log + str([each.body.decode() + str(each.headers) for each in got])
        assert {asked.headers["authorization"] for asked in _upstream.asked} == {f"Bearer {CALLER_KEY}"}
