"""A newer turn of a session takes an older one's place."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis_server import needs_redis, redis_server
from running_server import HELLO, KEY, Answer, RunningServer, running_server, turn
from scripted_upstream import BEGUN, HEAD, ROLE, ScriptedUpstream, answer, event, framed
from stream_rules import read_failure, read_good_stream

from protocol.errors import Superseded

SESSION = {"X-Session-Id": "call-1"}
SAID = [{"role": "assistant", "content": "Welcome."}]
RESULT = [*HELLO, {"role": "assistant", "content": None, "tool_calls": []}, {"role": "tool", "content": "1"}]


@pytest.fixture
def waiting(upstream: ScriptedUpstream) -> ScriptedUpstream:
    """An upstream that says nothing for long to the first who asks, and answers all others."""
    upstream.say(["hold"], answer("Newer."))
    return upstream


def begin(server: RunningServer, upstream: ScriptedUpstream, pool: ThreadPoolExecutor, body: Any) -> Any:
    """Begin a turn, and return its answer to come when the upstream has been asked."""
    asked = len(upstream.asked)
    older = pool.submit(server.ask, body, headers=SESSION)
    upstream.wait_for(asked + 1)
    return older


def test_an_older_turn_that_has_begun_is_ended(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, "hold"], answer("Newer."))
    connection = server.connect()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **SESSION}
    connection.request("POST", "/chat/completions", json.dumps(turn()), headers)
    response = connection.getresponse()
    body = b""
    while b"Hello" not in body:
        body += response.read1()

    newer = server.ask(headers=SESSION)

    got = Answer(response, body + response.read(), cut=False)
    connection.close()
    stream = read_good_stream(got)
    assert stream.text == "Hello"
    assert stream.finish_reasons == {0: "stop"}
    assert read_good_stream(newer).text == "Newer."
    upstream.wait_for_drop(upstream.asked[0])
    assert "outcome=superseded" in server.wait_for_log(got.headers["X-Request-Id"])


def test_one_that_has_not_begun_is_an_empty_stream(server: RunningServer, waiting: ScriptedUpstream) -> None:
    with ThreadPoolExecutor() as pool:
        older = begin(server, waiting, pool, turn())

        server.ask(headers=SESSION)

        assert read_good_stream(older.result()).text == ""
    waiting.wait_for_drop(waiting.asked[0])


def test_one_that_is_not_streamed_is_a_conflict(server: RunningServer, waiting: ScriptedUpstream) -> None:
    with ThreadPoolExecutor() as pool:
        older = begin(server, waiting, pool, turn(stream=False))

        server.ask(headers=SESSION)

        got = older.result()
    assert got.status == 409
    assert read_failure(got)["code"] == "superseded"
    assert got.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "newer",
    [turn(messages=SAID), turn(messages=RESULT), turn(messages=[{"role": "user", "content": ""}])],
    ids=["an assistant's message", "a tool's result", "silence"],
)
def test_what_is_no_new_question_ends_nothing(server: RunningServer, upstream: ScriptedUpstream, newer: Any) -> None:
    upstream.say([HEAD + framed(event(ROLE)), 0.3, *answer("Older.")[1:]], answer("Newer."))
    with ThreadPoolExecutor() as pool:
        older = begin(server, upstream, pool, turn())

        server.ask(newer, headers=SESSION)

        assert read_good_stream(older.result()).text == "Older."


@pytest.mark.parametrize(
    "other",
    [{"X-Session-Id": "call-2"}, {"X-Session-Id": ""}],
    ids=["another session", "no session"],
)
def test_another_call_is_left_alone(server: RunningServer, upstream: ScriptedUpstream, other: dict[str, str]) -> None:
    upstream.say([HEAD + framed(event(ROLE)), 0.3, *answer("Older.")[1:]], answer("Newer."))
    with ThreadPoolExecutor() as pool:
        older = begin(server, upstream, pool, turn())

        server.ask(headers=other)

        assert read_good_stream(older.result()).text == "Older."


def test_a_request_that_is_refused_ends_nothing(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([HEAD + framed(event(ROLE)), 0.3, *answer("Older.")[1:]], answer("Newer."))
    with ThreadPoolExecutor() as pool:
        older = pool.submit(server.ask, turn(), path="/rag/chat/completions", headers=SESSION)
        upstream.wait_for(1)

        refused = server.ask(turn(modalities=["video"]), path="/rag/audio/chat/completions", headers=SESSION)

        assert refused.status == 400
        assert read_good_stream(older.result()).text.endswith("Older.")


def test_each_turn_shows_a_failure_of_its_own() -> None:
    over = Superseded()

    # one that all turns raised would keep what was in their hands when they did
    assert over.failure() is not over.failure()


def test_the_id_is_not_sent_upstream(server: RunningServer, upstream: ScriptedUpstream) -> None:
    server.ask(turn(session_id="call-1"))

    assert "session_id" not in upstream.asked[-1].body


def test_two_hundred_sessions_at_once_hear_only_their_own(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(["close"])
    upstream.judge = lambda asked: answer(f"For {asked.body.get('user')}.")
    with ThreadPoolExecutor(50) as pool:
        bodies = [turn(user=f"u{place}", session_id=f"s{place}") for place in range(200)]

        answers = list(pool.map(server.ask, bodies))

    assert [read_good_stream(each).text for each in answers] == [f"For u{place}." for place in range(200)]


@pytest.fixture(scope="module")
def two(_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningServer]]:
    """Two servers that share their sessions through Redis, as two machines would."""
    with redis_server(tmp_path_factory.mktemp("redis")) as redis:
        settings: dict[str, Any] = {"LLM_BASE_URL": _upstream.url, "LLM_API_KEY": KEY, "REDIS_URL": redis.url}
        with running_server(**settings) as one, running_server(**settings) as other:
            for server in (one, other):  # which connects with its first turn
                server.ask(headers={"X-Session-Id": "warm"})
            yield [one, other]


@needs_redis
def test_a_turn_on_one_machine_ends_the_older_one_on_another(
    two: list[RunningServer], upstream: ScriptedUpstream
) -> None:
    one, other = two
    upstream.say(["hold"], answer("Newer."))
    with ThreadPoolExecutor() as pool:
        older = begin(one, upstream, pool, turn())
        time.sleep(0.1)  # its announcement is made beside the call
        began = time.monotonic()

        newer = other.ask(headers=SESSION)

        assert read_good_stream(older.result()).text == ""
    assert read_good_stream(newer).text == "Newer."
    assert upstream.wait_for_drop(upstream.asked[0]) - began < 0.5
    one.wait_for_log("outcome=superseded")
