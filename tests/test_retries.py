"""Where another try may help there is one, and no more."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from running_server import KEY, RunningServer, free_port, running_server, turn
from scripted_upstream import (
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
    event,
    framed,
    raw_stream,
    reply,
)
from stream_rules import read_failed_stream, read_failure, read_good_stream

FINISHED = event(ROLE) + event(SPOKEN) + event(STOP) + DONE
BOTH = pytest.mark.parametrize("is_streamed", [True, False], ids=["stream", "plain"])

AGAIN = [429, 500, 502, 503, 504, 529]


def use_up_kept_connections(server: RunningServer, upstream: ScriptedUpstream) -> None:
    """Have the server's next request to the upstream open a connection."""
    upstream.say(raw_stream(FINISHED))
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


def test_a_second_try_over_another_connection_is_heard_as_it_comes(
    server: RunningServer, upstream: ScriptedUpstream
) -> None:
    busy: list[Step] = [b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 4\r\n\r\n", 0.05, b"busy", "close"]
    good: list[Step] = [0.05, HEAD, 0.05, framed(event(ROLE) + event(SPOKEN)), 0.05, framed(event(STOP) + DONE) + END]
    upstream.say(busy, good)

    said = read_good_stream(server.ask())

    assert said.text == "Hello"
    assert upstream.asked[0].connection != upstream.asked[1].connection


@BOTH
@pytest.mark.parametrize("status", AGAIN)
def test_a_server_that_fails_twice_is_not_asked_again_by_anybody(
    server: RunningServer, upstream: ScriptedUpstream, status: int, is_streamed: bool
) -> None:
    upstream.say(reply(status, {"error": {"message": "busy"}}))

    got = server.ask(turn(stream=is_streamed))

    assert got.status == (429 if status == 429 else 502)
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


@pytest.mark.parametrize("retry_after", ["3", "120", "Wed, 21 Oct 2026 07:28:00 GMT"])
@pytest.mark.parametrize("status", [429, 503])
def test_who_asks_for_long_patience_is_not_asked_again(
    server: RunningServer, upstream: ScriptedUpstream, status: int, retry_after: str
) -> None:
    upstream.say(reply(status, {"error": {"message": "Later."}}, Retry_After=retry_after), answer("Hello"))

    got = server.ask(turn(stream=False))

    assert got.status == (429 if status == 429 else 502)
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
    upstream.say([HEAD, 0.2, framed(FINISHED) + END])
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

    assert (got.status, read_failure(got)["code"]) == (502, "upstream_broken")
    assert len(upstream.asked) == 1


def test_an_upstream_that_is_not_there_is_tried_twice() -> None:
    with running_server(LLM_BASE_URL=f"http://127.0.0.1:{free_port()}/v1", LLM_API_KEY=KEY) as server:
        for is_streamed in (True, False):
            got = server.ask(turn(stream=is_streamed))

            error = read_failure(got)
            assert (got.status, error["code"]) == (502, "upstream_unreachable")
            assert got.headers["x-should-retry"] == "false"
            assert "127.0.0.1" not in error["message"]
            assert "outcome=upstream_refused" in server.wait_for_log(got.headers["X-Request-Id"])
