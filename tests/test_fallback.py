"""The sentence that is said where the upstream failed before it said anything."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from running_server import KEY, RunningServer, running_server, turn
from scripted_upstream import (
    HEAD,
    ROLE,
    SPOKEN,
    ScriptedUpstream,
    Step,
    event,
    framed,
    reply,
    stream,
)
from stream_rules import read_failed_stream, read_failure, read_good_stream

FALLBACK = "One moment, please."


@pytest.fixture(scope="module")
def falling_back(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server that says a sentence where the upstream says nothing."""
    times: dict[str, Any] = {"FIRST_TOKEN_S": 0.6, "KEEPALIVE_S": 0.2}
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, FALLBACK=FALLBACK, **times) as running:
        yield running


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
    upstream.say([HEAD + framed(event(ROLE) + event(SPOKEN)), 0.02, "close"])

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
    assert read_failure(got)["type"] == "invalid_request_error"


def test_nothing_is_said_in_place_of_an_answer_where_no_fallback_is_set(
    server: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say(["hold"])

    got = read_failed_stream(server.ask())

    assert got.chunks == []
    assert json.dumps(got.error)
