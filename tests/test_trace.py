"""What the playground is told of an answer, and nobody else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from heard import listen
from running_server import KEY, Answer, RunningServer, running_server, turn
from scripted_upstream import COMPLETION, ROLE, ScriptedUpstream, answer, chunk, reply, stream
from stream_rules import read_good_stream

AGENTS = Path(__file__).parent / "customer_agents"
ASKS = {"X-Trace": "1"}
RAG = "/rag/chat/completions"
QUESTION = [{"role": "user", "content": "What is barge-in?"}]


@pytest.fixture(scope="module")
def tracing(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server with a playground."""
    settings: dict[str, Any] = {"PLAYGROUND": 1, "AGENTS_DIR": AGENTS, "AUDIO_LEAD_MS": 0}
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def silent(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server without one."""
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, PLAYGROUND=0) as running:
        yield running


def trace_of(got: Answer) -> dict[str, Any]:
    """Return the trace of a streamed answer, after a look that it is in the finish alone."""
    read_good_stream(got)
    told = [each for each in got.chunks if "trace" in each]
    (finish,) = told
    assert finish["choices"][0]["finish_reason"]
    trace: dict[str, Any] = finish["trace"]
    return trace


def test_the_passages_are_told_with_their_scores(tracing: RunningServer, upstream: ScriptedUpstream) -> None:
    trace = trace_of(tracing.ask(turn(messages=QUESTION), RAG, ASKS))

    assert trace["passages"]
    assert {"title", "file", "score", "text"} == set(trace["passages"][0])
    assert trace["timings"]["knowledge_ms"] >= 0
    assert trace["timings"]["total_ms"] >= trace["timings"]["first_byte_ms"]
    assert trace["outcome"] == "ok"


def test_calls_of_tools_are_told_with_their_results(tracing: RunningServer, upstream: ScriptedUpstream) -> None:
    function = {"name": "order", "arguments": '{"item":"tea"}'}
    call = {"index": 0, "id": "c1", "type": "function", "function": function}
    upstream.say(stream(ROLE, chunk({"tool_calls": [call]}), chunk({}, "tool_calls")), answer("Done."))

    (told,) = trace_of(tracing.ask(path="/desk/chat/completions", headers=ASKS))["tools"]

    assert told.pop("ms") >= 0
    assert told == {"name": "order", "arguments": '{"item":"tea"}', "result": "1 x tea ordered", "failed": False}


def test_a_spoken_answer_tells_its_rate(tracing: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(answer("Hello there."))

    got = tracing.ask(path="/audio/chat/completions", headers=ASKS)

    assert listen(read_good_stream(got)).transcript == "Hello there."
    trace = trace_of(got)
    assert trace["audio_hz"] == 16000
    assert trace["timings"]["first_audio_ms"] > 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", turn(stream=False)),
        ("/temper/chat/completions", turn(stream=False, messages=[{"role": "user", "content": "return Hello."}])),
    ],
    ids=["the model's answer", "an agent's own"],
)
def test_an_answer_that_is_not_streamed_has_it_at_its_root(
    tracing: RunningServer, upstream: ScriptedUpstream, path: str, body: dict[str, Any]
) -> None:
    upstream.say(reply(200, COMPLETION))

    got = tracing.ask(body, path, ASKS).json

    assert got["choices"][0]["message"]["content"] == "Hello."
    assert got["trace"]["outcome"] == "ok"


def test_what_is_said_as_it_stands_has_one_too(tracing: RunningServer) -> None:
    got = tracing.ask(turn(messages=[{"role": "assistant", "content": "Welcome."}]), headers=ASKS)

    assert trace_of(got)["passages"] == []


@pytest.mark.parametrize("headers", [{}, {"X-Trace": "0"}, {"X-Trace": "true"}])
def test_nobody_is_told_who_does_not_ask(tracing: RunningServer, headers: dict[str, str]) -> None:
    assert b"trace" not in tracing.ask(turn(messages=QUESTION), RAG, headers).body


def test_nobody_is_told_without_a_playground(silent: RunningServer) -> None:
    assert b"trace" not in silent.ask(turn(messages=QUESTION), RAG, ASKS).body


def test_nobody_is_told_without_the_key(tracing: RunningServer) -> None:
    got = tracing.ask(turn(messages=QUESTION), RAG, {**ASKS, "Authorization": "Bearer wrong"})

    assert got.status == 401
    assert b"trace" not in got.body
