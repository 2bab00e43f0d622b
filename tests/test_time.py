"""How long an answer is waited for, and what is said meanwhile."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from running_server import KEY, Answer, RunningServer, running_server, turn
from scripted_upstream import (
    BEGUN,
    COMPLETION,
    DONE,
    END,
    HEAD,
    REST,
    ROLE,
    SPOKEN,
    ScriptedUpstream,
    Step,
    again,
    chunk,
    event,
    framed,
    reply,
)
from stream_rules import read_error, read_failed_stream, read_good_stream
from together import Told, ask_together

KEEPALIVE = b": keepalive\n\n"


@pytest.fixture(scope="module")
def silent(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server that never says anything while it waits."""
    times: dict[str, Any] = {"FIRST_TOKEN_S": 0.3, "STALL_S": 0.3, "TOTAL_S": 0.8, "KEEPALIVE_S": 0}
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, **times) as running:
        yield running


class Took:
    """How many seconds something took."""

    seconds = 0.0


@contextmanager
def took() -> Iterator[Took]:
    """Measure how long something takes."""
    measured = Took()
    began = time.monotonic()
    yield measured
    measured.seconds = time.monotonic() - began


def assert_too_late(server: RunningServer, answer: Answer) -> None:
    """Fail the test where an answer is no timeout's, in its status or in the log."""
    assert (answer.status, read_error(answer.json)["code"]) == (504, "upstream_timeout")
    assert "outcome=upstream_timeout" in server.wait_for_log(answer.headers["X-Request-Id"])


# the four clocks

COMMENT = framed(b": processing\n\n")
NO_TOKENS: dict[str, list[Step]] = {
    "nothing": ["hold"],
    "half a head": [HEAD[:30], "hold"],
    "a head": [HEAD, "hold"],
    "a role": [HEAD + framed(event(ROLE)), "hold"],
    "empty content": [HEAD + framed(event(ROLE) + event(chunk({"content": ""}))), "hold"],
    "half an event": [HEAD + framed(event(ROLE) + event(SPOKEN)[:30]), "hold"],
    "comments": [HEAD, *again(20, COMMENT, 0.05)],
    "roles": [HEAD, *again(20, framed(event(ROLE)), 0.05)],
    "pings": [HEAD, *again(20, framed(event(b'{"type":"ping"}')), 0.05)],
    "usage": [HEAD, *again(20, framed(event(chunk(choices=[], usage={"total_tokens": 1}))), 0.05)],
    "byte by byte": [HEAD, *again(20, framed(b":"), 0.05)],
}


@pytest.fixture(scope="module")
def without_tokens(silent: RunningServer, _upstream: ScriptedUpstream) -> dict[str, Told]:
    """What came of each of these."""
    return ask_together(silent, _upstream, NO_TOKENS)


@pytest.mark.parametrize("name", NO_TOKENS)
def test_a_first_token_that_does_not_come_is_a_timeout(
    silent: RunningServer, upstream: ScriptedUpstream, without_tokens: dict[str, Told], name: str
) -> None:
    told = without_tokens[name]

    assert_too_late(silent, told.answer)
    assert 0.25 < told.seconds < 0.75
    upstream.wait_for_drop(told.asked)


@pytest.mark.parametrize("sort", ["gunicorn", "the development server"])
def test_comments_without_a_pause_hold_up_no_clock(
    server: RunningServer, dev_server: RunningServer, upstream: ScriptedUpstream, sort: str
) -> None:
    upstream.say([HEAD, *again(400_000, framed(b": processing\n\n" * 500))])

    with took() as waiting:
        got = (server if sort == "gunicorn" else dev_server).ask()

    assert read_failed_stream(got).chunks == []
    assert 0.75 < waiting.seconds < 1.6
    upstream.wait_for_drop(upstream.wait_for(1))


TOKENS: dict[str, dict[str, Any]] = {
    "content": {"content": "Hello"},
    "reasoning_content": {"reasoning_content": "Hm"},
    "reasoning": {"reasoning": "Hm"},
    "refusal": {"refusal": "No"},
    "a call to a tool": {
        "tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]
    },
    "audio": {"audio": {"id": "a", "data": "AAAA"}},
}


def test_any_token_opens_the_stream_and_stops_the_first_clock(
    silent: RunningServer, upstream: ScriptedUpstream
) -> None:
    scripts: dict[str, list[Step]] = {
        name: [HEAD, 0.2, framed(event(ROLE) + event(chunk(delta))), 0.2, REST] for name, delta in TOKENS.items()
    }

    got = ask_together(silent, upstream, scripts)

    said = {name: read_good_stream(told.answer).deltas for name, told in got.items()}
    assert said == {name: [delta] for name, delta in TOKENS.items()}


def test_a_finish_is_a_token(silent: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([HEAD, 0.2, framed(event(chunk({"role": "assistant"}, "stop"))), 0.2, framed(DONE) + END])

    assert read_good_stream(silent.ask()).text == ""


STALLS: dict[str, list[Step]] = {
    "silence": [BEGUN, "hold"],
    "comments": [BEGUN, *again(40, COMMENT, 0.05)],
    "half an event": [BEGUN, framed(event(SPOKEN)[:30]), "hold"],
    "byte by byte": [BEGUN, *(step for byte in event(SPOKEN) for step in (framed(bytes([byte])), 0.05))],
    "silence after reasoning": [HEAD + framed(event(chunk({"reasoning_content": "Hm"}))), "hold"],
}


@pytest.fixture(scope="module")
def stalled(silent: RunningServer, _upstream: ScriptedUpstream) -> dict[str, Told]:
    """What came of each of these."""
    return ask_together(silent, _upstream, STALLS)


@pytest.mark.parametrize("name", STALLS)
def test_a_stall_between_two_events_ends_the_stream_with_an_error(
    silent: RunningServer, upstream: ScriptedUpstream, stalled: dict[str, Told], name: str
) -> None:
    told = stalled[name]

    failed = read_failed_stream(told.answer)
    assert failed.error and failed.error["code"] == "upstream_timeout"
    assert failed.chunks
    assert failed.keepalives == 0
    assert 0.25 < told.seconds < 0.75
    upstream.wait_for_drop(told.asked)
    assert "outcome=upstream_timeout" in silent.wait_for_log(told.answer.headers["X-Request-Id"])


def test_a_stream_that_goes_on_is_no_stall(silent: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, *again(3, 0.15, framed(event(SPOKEN))), 0.15, REST])

    assert read_good_stream(silent.ask()).text == "Hello" * 4


def test_an_answer_that_goes_on_for_ever_is_ended(silent: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, *again(40, 0.1, framed(event(SPOKEN)))])

    with took() as waiting:
        got = silent.ask()

    failed = read_failed_stream(got)
    assert failed.error and failed.error["code"] == "upstream_timeout"
    assert 0.75 < waiting.seconds < 2.0
    upstream.wait_for_drop(upstream.wait_for(1))


def test_an_answer_that_goes_on_for_ever_without_a_pause_is_ended(
    silent: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say([BEGUN, *again(400_000, framed(event(SPOKEN) * 50))])
    last = b""

    with silent.open() as sock, took() as waiting:
        while not last.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
            last = (last + sock.recv(1 << 20))[-1000:]

    assert b'"code":"upstream_timeout"' in last
    assert 0.75 < waiting.seconds < 2.0


PLAIN = reply(200, COMPLETION)[0]
assert isinstance(PLAIN, bytes)
SLOW_WHOLES: dict[str, list[Step]] = {
    "nothing": ["hold"],
    "a head": [PLAIN[: PLAIN.index(b"{")], "hold"],
    "half a body": [PLAIN[:-9], "hold"],
    "byte by byte": [PLAIN[: PLAIN.index(b"{")], *again(40, b" ", 0.05)],
}


@pytest.fixture(scope="module")
def slow_wholes(silent: RunningServer, _upstream: ScriptedUpstream) -> dict[str, Told]:
    """What came of each of these."""
    return ask_together(silent, _upstream, SLOW_WHOLES, stream=False)


@pytest.mark.parametrize("name", SLOW_WHOLES)
def test_a_whole_answer_has_the_total_clock_alone_and_a_real_status(
    silent: RunningServer, upstream: ScriptedUpstream, slow_wholes: dict[str, Told], name: str
) -> None:
    told = slow_wholes[name]

    assert_too_late(silent, told.answer)
    assert 0.75 < told.seconds < 1.5
    upstream.wait_for_drop(told.asked)


def test_a_whole_answer_may_take_longer_than_a_first_token_and_is_sent_at_once(
    server: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say([1.0, PLAIN])

    got = server.ask(turn(stream=False))

    assert got.status == 200
    assert got.json == COMPLETION


@pytest.mark.parametrize("status", [400, 500])
def test_an_error_whose_body_does_not_come_is_told_all_the_same(
    silent: RunningServer, upstream: ScriptedUpstream, status: int
) -> None:
    upstream.say([b"HTTP/1.1 %d Oh\r\nContent-Length: 100\r\n\r\nToo lo" % status, "hold"])

    with took() as waiting:
        got = silent.ask()

    assert got.status == {400: 400, 500: 502}[status]
    assert waiting.seconds < 1.5


@contextmanager
def full_listener() -> Iterator[int]:
    """Give the port of a listener that takes no more connections: its queue is full, and nobody empties it."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])


def test_a_connection_that_is_not_made_in_time_is_a_timeout() -> None:
    times: dict[str, Any] = {"CONNECT_S": 0.4, "FIRST_TOKEN_S": 1.5, "TOTAL_S": 3}
    with (
        full_listener() as port,
        running_server(LLM_BASE_URL=f"http://127.0.0.1:{port}/v1", LLM_API_KEY=KEY, **times) as server,
    ):
        for is_streamed in (True, False):
            with took() as waiting:
                got = server.ask(turn(stream=is_streamed))

            assert_too_late(server, got)
            assert 0.35 < waiting.seconds < 0.8


@contextmanager
def deaf_listener() -> Iterator[int]:
    """Give the port of a listener that takes a connection and reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def test_an_upstream_that_does_not_take_the_request_is_a_timeout() -> None:
    times: dict[str, Any] = {"FIRST_TOKEN_S": 0.4, "TOTAL_S": 0.8, "KEEPALIVE_S": 0}
    body = turn(messages=[{"role": "user", "content": "x" * 9_500_000}])
    with (
        deaf_listener() as port,
        running_server(LLM_BASE_URL=f"http://127.0.0.1:{port}/v1", LLM_API_KEY=KEY, **times) as server,
    ):
        for is_streamed, limit_s in ((True, 0.4), (False, 0.8)):
            with took() as waiting:
                got = server.ask({**body, "stream": is_streamed})

            assert_too_late(server, got)
            assert limit_s < waiting.seconds < limit_s + 1.0


# keepalives


def test_a_stream_is_opened_after_a_while_of_silence(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([0.7, BEGUN + REST])

    with server.open() as sock, took() as waiting:
        got = sock.recv(65536)

    assert got.startswith(b"HTTP/1.1 200 ")
    assert KEEPALIVE in got
    assert b"data:" not in got
    assert 0.25 < waiting.seconds < 0.65


SILENCES: dict[str, list[Step]] = {
    "before the head": [0.7, BEGUN + REST],
    "before the role": [HEAD, 0.7, framed(event(ROLE) + event(SPOKEN)) + REST],
    "before the text": [HEAD + framed(event(ROLE)), 0.7, framed(event(SPOKEN)) + REST],
    "among comments": [HEAD, *again(9, COMMENT, 0.07), framed(event(ROLE) + event(SPOKEN)) + REST],
    "after the text": [BEGUN, 0.7, REST],
}


@pytest.fixture(scope="module")
def kept_alive(server: RunningServer, _upstream: ScriptedUpstream) -> dict[str, Told]:
    """What came of each of these."""
    return ask_together(server, _upstream, SILENCES)


@pytest.mark.parametrize("name", SILENCES)
def test_keepalives_are_sent_again_and_again(kept_alive: dict[str, Told], name: str) -> None:
    said = read_good_stream(kept_alive[name].answer)

    assert said.text == "Hello"
    assert said.keepalives == 2


def test_no_keepalive_is_sent_where_the_stream_goes_on(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, *again(5, 0.15, framed(event(SPOKEN))), REST])

    said = read_good_stream(server.ask())

    assert said.text == "Hello" * 6
    assert said.keepalives == 0


def test_no_keepalive_is_sent_where_they_are_off(silent: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([0.2, BEGUN, 0.2, REST])

    assert read_good_stream(silent.ask()).keepalives == 0


def test_a_whole_answer_has_no_keepalives(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([0.7, *reply(400, {"error": {"message": "No."}})])

    got = server.ask(turn(stream=False))

    assert got.status == 400
    assert read_error(got.json)["message"] == "No."


FAILING_LATE: dict[str, tuple[list[Step], str]] = {
    "status 500": ([0.45, *reply(500, {})], "upstream_error"),
    "status 400": ([0.45, *reply(400, {"error": {"message": "No."}})], "upstream_rejected"),
    "an error event": ([HEAD, 0.45, framed(event({"error": "No."}))], "upstream_error"),
    "a cut": ([HEAD, 0.45, "close"], "upstream_broken"),
    "no first token": ([HEAD, "hold"], "upstream_timeout"),
    "no head": (["hold"], "upstream_timeout"),
}


@pytest.fixture(scope="module")
def failed_late(server: RunningServer, _upstream: ScriptedUpstream) -> dict[str, Told]:
    """What came of each of these."""
    return ask_together(server, _upstream, {name: script for name, (script, _) in FAILING_LATE.items()})


@pytest.mark.parametrize("name", FAILING_LATE)
def test_a_failure_after_the_first_keepalive_ends_the_stream_with_an_error(
    failed_late: dict[str, Told], name: str
) -> None:
    failed = read_failed_stream(failed_late[name].answer)

    assert failed.keepalives >= 1
    assert failed.chunks == []
    assert failed.error and failed.error["code"] == FAILING_LATE[name][1]


def test_keepalives_go_on_while_a_second_try_is_waited_for(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([0.2, *reply(503, {}, Retry_After="0.15")], [0.3, BEGUN + REST])

    with server.open() as sock, took() as waiting:
        got = sock.recv(65536)

    assert KEEPALIVE in got
    assert waiting.seconds < 0.45


def test_an_error_whose_body_does_not_come_is_told_before_the_first_keepalive(
    server: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say([b"HTTP/1.1 400 Oh\r\nContent-Length: 100\r\n\r\nToo lo", "hold"])

    with took() as waiting:
        got = server.ask()

    assert got.status == 400
    assert waiting.seconds < 0.5
