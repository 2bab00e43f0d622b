"""Who may call, which key goes where, and that no key ever shows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from running_server import FLASK, HELLO, Answer, RunningServer, running_server
from scripted_upstream import (
    CLOSING_HEAD,
    COMPLETION,
    HEAD,
    ROLE,
    ScriptedUpstream,
    Step,
    chunk,
    event,
    framed,
    reply,
    stream,
)
from stream_rules import read_error

UPSTREAM_KEY = "upstream.canary"
ONE, TWO = "sk-one-canary", "two.canary"
CALLERS = "callers.own.canary"
WRONG = "wrong.canary"
KEYS = (UPSTREAM_KEY, ONE, TWO, CALLERS, WRONG)

# each endpoint, and how it answers whoever is let in
ENDPOINTS = {
    ("POST", "/chat/completions"): 200,
    ("POST", "/v1/chat/completions"): 200,
    ("GET", "/models"): 200,
    ("GET", "/v1/models"): 200,
    ("GET", "/"): 200,
    ("GET", "/openapi.json"): 200,
    ("GET", "/docs"): 200,
    ("GET", "/ready"): 200,
    ("GET", "/health"): 200,
    ("GET", "/no/such/path"): 404,
    ("GET", "/chat/completions"): 405,
}
OPEN_TO_ALL = ("GET", "/health")
ASKS_UPSTREAM = [("POST", "/chat/completions"), ("GET", "/models")]
NOTHING: list[dict[str, str]] = [{}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Bearer  "}]


@dataclass
class Row:
    """A row of the table: settings, what callers show who are let in or refused, and what the upstream then gets."""

    settings: dict[str, Any]
    welcome: list[dict[str, str]]
    refused: list[dict[str, str]] = field(default_factory=list)
    upstream_gets: dict[str, str | None] | None = None


def bearer(key: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {key}"}


def all_but(key: str) -> list[dict[str, str]]:
    """Return what is near a key and is none."""
    near = [WRONG, key[:-1], f"{key}x", key.upper(), f"{key},{key}", f"é{key}", f"{key} {key}", f'"{key}"']
    elsewhere = [bearer(key, "Basic"), {"Authorization": key}, {"Api-Key": key}, {"X-Api-Key": key}]
    return [*NOTHING, *map(bearer, near), *elsewhere]


ROWS = {
    "server keys": Row(
        {"SERVER_API_KEYS": f"{ONE}, {TWO}", "LLM_API_KEY": UPSTREAM_KEY},
        [bearer(ONE), bearer(TWO), bearer(TWO, "bearer"), bearer(f" {ONE} ")],
        [*all_but(ONE), bearer(UPSTREAM_KEY), bearer(f"{ONE}, {TWO}")],
        {"authorization": f"Bearer {UPSTREAM_KEY}"},
    ),
    "server keys, keyless upstream": Row(
        {"SERVER_API_KEYS": ONE}, [bearer(ONE)], [*NOTHING, bearer(WRONG)], {"authorization": None}
    ),
    "server keys, demo": Row({"SERVER_API_KEYS": ONE, "LLM_BASE_URL": ""}, [bearer(ONE)], all_but(ONE)),
    "llm key": Row(
        {"LLM_API_KEY": UPSTREAM_KEY, "LLM_KEY_HEADER": "api-key", "LLM_HEADERS": '{"X-Team":"voice"}'},
        [bearer(UPSTREAM_KEY)],
        all_but(UPSTREAM_KEY),
        {"api-key": UPSTREAM_KEY, "authorization": None, "x-team": "voice"},
    ),
    "pass-through": Row(
        {},
        [bearer(CALLERS), bearer(CALLERS, "bearer")],
        [*NOTHING, bearer(CALLERS, "Basic"), {"Api-Key": CALLERS}],
        {"authorization": f"Bearer {CALLERS}"},
    ),
    "pass-through, api-key": Row(
        {"LLM_KEY_HEADER": "api-key"}, [bearer(CALLERS)], NOTHING, {"api-key": CALLERS, "authorization": None}
    ),
    "demo": Row({"LLM_BASE_URL": ""}, [{}, bearer(WRONG), {"Authorization": "Basic x"}]),
}


@pytest.fixture(scope="module", params=ROWS)
def row(request: pytest.FixtureRequest) -> Row:
    return ROWS[request.param]


@pytest.fixture(scope="module")
def guarded(row: Row, _upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """The server of a row."""
    with running_server(**{"LLM_BASE_URL": _upstream.url, **row.settings}) as running:
        yield running


@pytest.fixture
def upstream(upstream: ScriptedUpstream) -> ScriptedUpstream:
    upstream.say(reply(200, COMPLETION))
    return upstream


def send(server: RunningServer, endpoint: tuple[str, str], shown: dict[str, str]) -> Answer:
    """Send a request, with no key but what is shown, and see that the answer shows none."""
    method, path = endpoint
    body = json.dumps({"model": "m", "messages": HELLO}).encode() if method == "POST" else None
    answer = server.request(method, path, body, {"Content-Type": "application/json", **shown})
    assert not [key for key in KEYS if key in f"{answer.headers}{answer.body!r}"], "a key is shown"
    return answer


class TestTable:
    def test_who_shows_what_is_asked_for_is_let_in(
        self, row: Row, guarded: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        for shown in row.welcome:
            statuses = {endpoint: send(guarded, endpoint, shown).status for endpoint in ENDPOINTS}

            assert statuses == ENDPOINTS, shown

    def test_who_does_not_is_refused_everywhere_but_at_health(
        self, row: Row, guarded: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        for shown in row.refused:
            for endpoint in ENDPOINTS.keys() - {OPEN_TO_ALL}:
                answer = send(guarded, endpoint, shown)

                assert answer.status == 401, (endpoint, shown)
                error = read_error(answer.json)
                assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
                assert "Authorization: Bearer" in error["message"]
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert answer.headers["X-Request-Id"]
            assert send(guarded, OPEN_TO_ALL, shown).status == 200
        assert upstream.asked == []

    def test_a_key_in_the_query_opens_nothing(self, row: Row, guarded: RunningServer) -> None:
        if row.refused:
            for name in ("key", "api_key", "api-key", "access_token"):
                assert send(guarded, ("GET", f"/ready?{name}={ONE}"), {}).status == 401

    def test_the_upstream_gets_the_key_that_is_meant_for_it_and_no_other(
        self, row: Row, guarded: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        if row.upstream_gets is None:
            return
        for count, endpoint in enumerate(ASKS_UPSTREAM, start=1):
            send(guarded, endpoint, {**row.welcome[0], "Cookie": f"key={TWO}", "X-Api-Key": TWO})
            asked = upstream.wait_for(count)

            assert {name: asked.headers.get(name) for name in row.upstream_gets} == row.upstream_gets
            allowed = {value.removeprefix("Bearer ") for value in row.upstream_gets.values() if value}
            assert {key for key in KEYS if key in str(asked)} <= allowed

    # the last of each row: the log of all the tests before it
    def test_the_log_holds_no_key(self, row: Row, guarded: RunningServer) -> None:
        send(guarded, ("GET", f"/ready?key={CALLERS}"), {**bearer(WRONG), "X-Request-Id": "the-last"})
        guarded.wait_for_log("the-last")

        assert not [key for key in KEYS if key in guarded.log]
        assert ("caller_unauthorized" in guarded.log) == bool(row.refused)


@pytest.fixture(scope="module")
def keyed(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server with a key that looks like no key."""
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=UPSTREAM_KEY) as running:
        yield running


@pytest.fixture(scope="module")
def open_to_keys(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server that passes the caller's key through."""
    with running_server(LLM_BASE_URL=_upstream.url) as running:
        yield running


TURN = json.dumps({"model": "m", "stream": True, "messages": HELLO}).encode()
JSON = {"Content-Type": "application/json"}


class TestUpstreamThatRepeatsTheKey:
    """Upstreams do: "Incorrect API key provided: …"."""

    @pytest.mark.parametrize(
        "script",
        [
            *(
                reply(status, {"error": {"message": f"key {{key}}, status {status}"}})
                for status in (400, 401, 403, 404)
            ),
            *(reply(status, {"error": {"message": f"key {{key}}, status {status}"}}) for status in (422, 429, 500)),
            reply(400, b"plain text: {key}", "text/plain"),
            reply(502, b"<html><title>{key}</title>{key}</html>", "text/html"),
            reply(200, b"<html><title>{key}</title>{key}</html>", "text/html"),
            reply(302, b"", Location="http://127.0.0.1:9/{key}"),
            stream({"error": {"message": "key {key}"}}),
            stream(ROLE, chunk({"content": "Hi"}), {"error": {"message": "key {key}"}}),
            [HEAD + framed(event(ROLE)) + framed(event(b"{key}")), "close"],
            [CLOSING_HEAD.replace(b"OK", b"{key}"), "close"],
            [b"SSH-2.0-{key}\r\n\r\n", "close"],
        ],
        ids=lambda script: repr(script[0][:40]),
    )
    @pytest.mark.parametrize("shape", ["a key like any", "a key of OpenAI's"])
    def test_neither_the_caller_nor_the_log_sees_it(
        self, request: pytest.FixtureRequest, upstream: ScriptedUpstream, shape: str, script: list[Step]
    ) -> None:
        name, key = ("keyed", UPSTREAM_KEY) if shape == "a key like any" else ("server", "sk-server-canary")
        server: RunningServer = request.getfixturevalue(name)
        steps = [_with_key(step, key) for step in script]
        upstream.say(steps)
        before = len(server.log)

        answer = server.request("POST", "/chat/completions", TURN, {**JSON, **bearer(key), "X-Request-Id": "repeats"})
        server.wait_for_log("repeats")

        assert key not in f"{answer.headers}{answer.body!r}"
        assert key not in server.log[before:]

    def test_the_callers_own_key_stays_out_of_the_log(
        self, open_to_keys: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        upstream.say(reply(400, {"error": {"message": f"bad key {CALLERS}"}}))

        open_to_keys.request("POST", "/chat/completions", TURN, {**JSON, **bearer(CALLERS), "X-Request-Id": "own"})
        open_to_keys.wait_for_log("own")

        assert CALLERS not in open_to_keys.log


def _with_key(step: Step, key: str) -> Step:
    if not isinstance(step, bytes):
        return step
    head, empty, body = step.replace(b"{key}", key.encode()).partition(b"\r\n\r\n")
    if b"Content-Length" in head:
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
        head = b"\r\n".join([*lines, b"Content-Length: %d" % len(body)])
    return head + empty + body


class TestWhereKeysGo:
    @pytest.mark.parametrize("status", [401, 403])
    def test_a_callers_key_that_the_upstream_refuses_is_the_callers_matter(
        self, open_to_keys: RunningServer, upstream: ScriptedUpstream, status: int
    ) -> None:
        upstream.say(reply(status, {"error": {"message": "Their words."}}))

        answer = send(open_to_keys, ("GET", "/models"), bearer(CALLERS))

        assert answer.status == 401
        assert read_error(answer.json)["code"] == "invalid_api_key"
        assert b"Their words" not in answer.body

    def test_pass_through_is_for_this_machine_alone_whatever_host_flask_is_told(
        self, upstream: ScriptedUpstream
    ) -> None:
        with running_server(*FLASK, "--host", "0.0.0.0", LLM_BASE_URL=upstream.url) as server:
            answer = send(server, ("POST", "/chat/completions"), bearer(CALLERS))

        assert answer.status == 401
        assert upstream.asked == []

    def test_one_callers_key_and_cookies_never_go_with_another_ones_request(
        self, open_to_keys: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        upstream.say(reply(200, COMPLETION, Set_Cookie="session=of-the-first; Path=/"))

        for key in (CALLERS, WRONG, CALLERS):
            send(open_to_keys, ("POST", "/chat/completions"), bearer(key))

        sent = [asked.headers.get("authorization") for asked in upstream.asked]
        assert sent == [f"Bearer {key}" for key in (CALLERS, WRONG, CALLERS)]
        assert not any("cookie" in asked.headers for asked in upstream.asked)
        assert {asked.connection for asked in upstream.asked} == {upstream.asked[0].connection}

    def test_netrc_has_no_say(
        self, _upstream: ScriptedUpstream, upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        home = tmp_path_factory.mktemp("home")
        (home / ".netrc").write_text(f"machine 127.0.0.1 login me password {TWO}\n")
        (home / ".netrc").chmod(0o600)

        with running_server(LLM_BASE_URL=upstream.url, SERVER_API_KEYS=ONE, HOME=home) as server:
            send(server, ("POST", "/chat/completions"), bearer(ONE))

        assert "authorization" not in upstream.wait_for(1).headers
