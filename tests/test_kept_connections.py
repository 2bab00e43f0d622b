"""A connection to the upstream is used again where its answer ended well, and only there."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from running_server import KEY, RunningServer, read_until, running_server, turn
from scripted_upstream import (
    BEGUN,
    CLOSING_HEAD,
    COMPLETION,
    DONE,
    END,
    HEAD,
    REST,
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
)
from stream_rules import read_good_stream

KEPT: dict[str, tuple[list[Step], bool]] = {
    "a stream": (answer("Hello", " there."), True),
    "a stream in one write": ([HEAD + framed(event(SPOKEN) + event(STOP) + DONE) + END], True),
    "a stream of known length": (reply(200, event(SPOKEN) + event(STOP) + DONE, "text/event-stream"), True),
    "a stream whose end comes late": ([HEAD + framed(event(SPOKEN) + event(STOP) + DONE), 0.02, END], True),
    "a stream with a trailer that comes late": (
        [HEAD + framed(event(SPOKEN) + event(STOP) + DONE), 0.02, b"0\r\nX-Sum: 1\r\n\r\n"],
        True,
    ),
    "a whole answer": (reply(200, COMPLETION), False),
    "a refusal": (reply(400, {"error": {"message": "No."}}), True),
    "an error event at the end": ([HEAD + framed(event({"error": "No."}) + DONE) + END], True),
}


@pytest.mark.parametrize(("script", "is_streamed"), KEPT.values(), ids=KEPT.keys())
def test_the_upstreams_connection_is_used_again_where_an_answer_ended_well(
    either: RunningServer, upstream: ScriptedUpstream, script: list[Step], is_streamed: bool
) -> None:
    upstream.say(script)

    for number in range(1, 11):
        either.ask(turn(stream=is_streamed))
        upstream.wait_until_played(upstream.wait_for(number))

    assert len({asked.connection for asked in upstream.asked}) == 1


NOT_KEPT: dict[str, list[Step]] = {
    "the upstream says so": [CLOSING_HEAD + event(SPOKEN) + event(STOP) + DONE, "close"],
    "HTTP/1.0": [b"HTTP/1.0 200 OK\r\n\r\n" + event(SPOKEN) + event(STOP) + DONE, "close"],
    "more comes after the end": [HEAD + framed(event(SPOKEN) + event(STOP) + DONE) + END + b"HTTP/1.1 200 OK\r\n\r\n"],
    "more comes after [DONE]": [HEAD + framed(event(SPOKEN) + event(STOP) + DONE + event(SPOKEN)), 0.05, "close"],
}


@pytest.mark.parametrize("script", NOT_KEPT.values(), ids=NOT_KEPT.keys())
def test_the_upstreams_connection_is_not_used_again_where_it_is_unfit(
    either: RunningServer, upstream: ScriptedUpstream, script: list[Step]
) -> None:
    upstream.say(script)

    said = [read_good_stream(either.ask()).text for _ in range(3)]

    assert said == ["Hello"] * 3
    assert len({asked.connection for asked in upstream.asked}) == 3


def test_a_connection_that_the_upstream_closed_meanwhile_is_not_used_again(
    either: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say([BEGUN + REST, "close"])

    said = [read_good_stream(either.ask()).text for _ in range(3)]

    assert said == ["Hello"] * 3
    assert len(upstream.asked) == 3


def test_a_callers_answer_never_gets_into_anothers(either: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, "hold"], raw_stream(event(ROLE) + event(chunk({"content": "mine"})) + event(STOP)))
    with either.open() as caller:
        read_until(caller, b"Hello")

    said = read_good_stream(either.ask())

    assert said.text == "mine"
    assert upstream.asked[0].connection != upstream.asked[1].connection


def test_no_more_connections_are_opened_than_are_needed_at_once(upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, 0.1, REST])

    with running_server(LLM_BASE_URL=upstream.url, LLM_API_KEY=KEY) as server:
        for _ in range(3):
            callers = [server.open() for _ in range(5)]
            for caller in callers:
                read_until(caller, b"[DONE]")
                caller.close()
            for asked in list(upstream.asked):
                upstream.wait_until_played(asked)

    assert len(upstream.asked) == 15
    assert len({asked.connection for asked in upstream.asked}) == 5


def test_a_connection_whose_end_is_still_to_come_is_kept_for_later(
    server: RunningServer, upstream: ScriptedUpstream
) -> None:
    said = HEAD + framed(event(SPOKEN) + event(STOP) + DONE)
    slow: list[Step] = [0.2, said + END]
    upstream.say([said, 0.3, END], [said + END], slow, slow)

    server.ask()
    server.ask()
    upstream.wait_until_played(upstream.asked[0])
    with ThreadPoolExecutor(2) as callers:
        list(callers.map(lambda _: server.ask(), range(2)))

    first, second, *both = (asked.connection for asked in upstream.asked)
    assert set(both) == {first, second} and first != second
