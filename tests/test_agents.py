"""A customer's own agents, served by the running server."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from heard import hear
from running_server import DEV, FLASK, GUNICORN, KEY, RunningServer, running_server, turn
from scripted_upstream import COMPLETION, HEAD, ROLE, ScriptedUpstream, answer, event, framed, reply
from stream_rules import read_failed_stream, read_failure, read_good_stream
from test_start import run

AGENTS = Path(__file__).parent / "customer_agents"
PATH = "/temper/chat/completions"


@pytest.fixture(scope="module")
def agents(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server with the tests' agents, and short time limits."""
    limits: dict[str, Any] = {"FIRST_TOKEN_S": "0.6", "STALL_S": "0.6", "KEEPALIVE_S": "0.2", "AUDIO_LEAD_MS": 0}
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, AGENTS_DIR=AGENTS, **limits) as running:
        yield running


def asking(text: str, **changes: Any) -> dict[str, Any]:
    """Return the body of a turn in which the caller says this."""
    return turn(messages=[{"role": "user", "content": text, **changes.pop("message", {})}], **changes)


@pytest.mark.parametrize("path", [PATH, f"/v1{PATH}", "/temper/v1/chat/completions"])
def test_an_agent_is_served_under_its_files_name(agents: RunningServer, path: str) -> None:
    assert read_good_stream(agents.ask(asking("return Hello!"), path)).text == "Hello!"


def test_it_is_spoken_too(agents: RunningServer) -> None:
    heard = hear(agents.ask(asking("return Hello there."), "/temper/audio/chat/completions"))

    assert heard.transcript == "Hello there."
    assert heard.ms > 300


def test_an_answer_that_is_not_streamed_is_asked_for_plainly(agents: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(reply(200, COMPLETION))

    got = agents.ask(asking("twice", stream=False), PATH).json

    assert got["choices"][0]["message"]["content"] == "Hello. And Hello."
    assert got["usage"]["total_tokens"] == 10
    assert [asked.body["stream"] for asked in upstream.asked] == [False, False]


def test_the_model_is_asked_with_other_messages_and_parameters(
    agents: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say(answer("One", usage={"total_tokens": 3}), answer("Two"))

    got = read_good_stream(agents.ask(asking("twice"), PATH))

    assert got.text == "One And Two"
    assert [asked.body["messages"][0]["content"] for asked in upstream.asked] == ["One?", "Two?"]
    assert [asked.body.get("temperature") for asked in upstream.asked] == [0, None]


def test_what_a_turn_knows_of_the_caller(agents: RunningServer) -> None:
    body = asking("who", message={"metadata": {"source": "asr"}}, session_id="s1")

    assert read_good_stream(agents.ask(body, PATH)).text == "en asr a session"
    assert read_good_stream(agents.ask(asking("who 你好，请问你是谁"), PATH)).text == "zh None no session"


def test_the_knowledge_is_searched(agents: RunningServer) -> None:
    assert read_good_stream(agents.ask(asking("search What is barge-in?"), PATH)).text


def test_a_phrase_is_said_meanwhile(agents: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([0.3, *answer("Here.")])

    got = read_good_stream(agents.ask(asking("meanwhile"), PATH))

    assert (got.waiting, got.text) == ("Hold on. ", "Hold on. Here.")


def test_control_metadata_is_the_first_packet(agents: RunningServer) -> None:
    first, *others = agents.ask(asking("control"), PATH).chunks

    assert first["object"] == "chat.completion.custom_metadata"
    assert first["metadata"] == {"interruptable": False, "tts_params": {"params": {"rate": 2}}}
    assert others[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}


class TestFailures:
    @pytest.mark.parametrize("word", ["raise", "number", "nothing"])
    def test_an_error_is_told_safely_and_logged_whole(self, agents: RunningServer, word: str) -> None:
        got = agents.ask(asking(word), PATH)

        assert got.status == 500
        assert read_failure(got)["message"] == "The server failed to answer."
        assert b"secret" not in got.body
        agents.wait_for_log("temper.py" if word == "raise" else "TypeError")

    @pytest.mark.parametrize("word", ["break", "late-control", "none"])
    def test_an_error_later_ends_the_stream_as_one(self, agents: RunningServer, word: str) -> None:
        got = agents.ask(asking(word), PATH)

        assert read_failed_stream(got).text == "Said."
        assert b"secret" not in got.body

    def test_one_that_waits_by_itself_runs_into_the_clocks(self, agents: RunningServer) -> None:
        began = time.monotonic()

        got = agents.ask(asking("sleep 20"), PATH)

        assert got.status == 504
        assert read_failure(got)["code"] == "agent_timeout"
        assert time.monotonic() - began < 6

    def test_a_hang_up_ends_one_that_waits_by_itself(self, agents: RunningServer) -> None:
        sock = agents.open(asking("sleep 20"), PATH, {"X-Request-Id": "sleeper"})
        time.sleep(0.2)

        sock.close()

        assert "outcome=caller_hangup" in agents.wait_for_log("id=sleeper", timeout=0.5 * 10)

    def test_one_that_swallows_failures_does_not_swallow_a_hang_up(
        self, agents: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        upstream.say([HEAD + framed(event(ROLE)), "hold"])
        sock = agents.open(asking("swallow"), PATH, {"X-Request-Id": "swallower"})
        upstream.wait_for(1)

        sock.close()

        assert "outcome=caller_hangup" in agents.wait_for_log("id=swallower")

    def test_one_that_blocks_everybody_is_named(self, agents: RunningServer) -> None:
        agents.ask(asking("block 1.5"), PATH)

        assert "temper.py" in agents.wait_for_log("blocks all")


class TestStart:
    @pytest.mark.parametrize("way", [GUNICORN, DEV, FLASK], ids=["gunicorn", "app.py", "flask run"])
    @pytest.mark.parametrize(
        ("name", "text", "told"),
        [
            ("broken.py", "import time\n\n1 / 0\n", "broken.py:3: ZeroDivisionError"),
            ("half.py", "def answer(turn:\n", "half.py:1: SyntaxError"),
            ("rag.py", "def answer(turn): ...\n", "the server's own name"),
            ("Big.py", "def answer(turn): ...\n", "begins with a letter"),
        ],
    )
    def test_a_file_that_will_not_do_stops_the_start(
        self, way: tuple[str, ...], name: str, text: str, told: str, tmp_path: Path
    ) -> None:
        (tmp_path / name).write_text(text)

        stopped = run(*way, AGENTS_DIR=tmp_path, ENV_FILE="/dev/null")

        assert stopped.returncode not in (0, None)
        assert told in stopped.stderr

    def test_the_examples_are_served_by_the_demo_alone(self, agents: RunningServer) -> None:
        with running_server() as demo:
            assert read_good_stream(demo.ask(asking("Hi!"), "/echo/chat/completions")).text

        assert agents.ask(asking("Hi!"), "/echo/chat/completions").status == 404
