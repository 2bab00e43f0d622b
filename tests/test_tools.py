"""Tools that the model calls, through the running server."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_server import KEY, RunningServer, running_server, turn
from scripted_upstream import COMPLETION, ROLE, STOP, ScriptedUpstream, Step, answer, chunk, reply, stream
from stream_rules import Stream, read_failed_stream, read_good_stream
from test_tool_calls import SHAPES

AGENTS = Path(__file__).parent / "customer_agents"
DESK = "/desk/chat/completions"
WAITING = "Hold on, please."
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
THEIRS = {"type": "function", "function": {"name": "transfer", "parameters": {"type": "object"}}}


def is_run(name: str, arguments: str) -> bool:
    """Tell whether the desk has this tool and takes these arguments."""
    return name in ("weather", "time") and arguments.startswith("{")


@pytest.fixture(scope="module")
def desk(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server with an agent that has tools."""
    settings: dict[str, Any] = {
        "AGENTS_DIR": AGENTS,
        "TOOL_WAITING_AFTER_MS": 200,
        "WAITING_EN": WAITING,
        "KEEPALIVE_S": 0.3,
    }
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def holding(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server that offers its bundled tools everywhere, and holds text back until it is sure."""
    settings: dict[str, Any] = {"TOOLS": "time,calculate,search", "TOOL_TEXT": "hold"}
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, **settings) as running:
        yield running


def call(name: str, index: int = 0, **arguments: Any) -> dict[str, Any]:
    """Return a call as a piece of a stream."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"index": index, "id": f"call-{name}-{index}", "type": "function", "function": function}


OURS = [name for name, (_, calls) in SHAPES.items() if all(is_run(*call) for call in calls)]


def pieces(chunks: list[list[Any]]) -> list[dict[str, Any]]:
    """Return the chunks that bring these pieces of calls."""
    return [chunk({"tool_calls": each}) for each in chunks]


def calling(*calls: dict[str, Any], text: str = "", answer_id: str = "chatcmpl-1") -> list[Step]:
    """Script a stream that calls tools, after some text."""
    said = [chunk({"content": text})] if text else []
    chunks = [ROLE, *said, *(chunk({"tool_calls": [each]}) for each in calls), chunk({}, "tool_calls")]
    return stream(*({**each, "id": answer_id} for each in chunks), chunk(choices=[], usage=USAGE, id=answer_id))


def whole(*calls: dict[str, Any], text: str | None = None) -> list[Step]:
    """Script an answer that is not streamed and calls tools."""
    message = {"role": "assistant", "content": text, "tool_calls": [*calls]}
    choices = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    return reply(200, {**COMPLETION, "choices": choices})


def ask(server: RunningServer, path: str = DESK, **changes: Any) -> Stream:
    body = turn(stream_options={"include_usage": True}, **changes)
    return read_good_stream(server.ask(body, path), usage_asked=True)


def results(upstream: ScriptedUpstream) -> list[str]:
    """Return what the tools answered, as the model was told in its last request."""
    return [m["content"] for m in upstream.asked[-1].body["messages"] if m["role"] == "tool"]


def test_a_call_is_run_and_its_result_is_answered(desk: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(calling(call("order", item="tea", amount=2)), answer("Two teas are on their way.", usage=USAGE))

    got = ask(desk)

    first, second = upstream.asked
    assert {tool["function"]["name"] for tool in first.body["tools"]} == {
        *("order", "fail", "hang", "slow", "long", "ask_by_itself", "parse", "weather", "time")
    }
    assert second.body["messages"][-2]["tool_calls"][0]["function"]["name"] == "order"
    assert second.body["messages"][-2]["tool_calls"][0]["id"] == second.body["messages"][-1]["tool_call_id"]
    assert results(upstream) == ["2 x tea ordered"]
    assert got.text == "Two teas are on their way."
    assert got.tool_calls == []
    assert got.finish_reasons == {0: "stop"}
    assert got.usage == {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10}
    assert "tool_calls=1" in desk.wait_for_log("tool_calls=1")


def test_an_answer_that_is_not_streamed_calls_tools_too(desk: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(whole(call("order", item="tea")), reply(200, COMPLETION))

    got = desk.ask(turn(stream=False), DESK).json

    assert upstream.asked[0].body["stream"] is False
    assert results(upstream) == ["1 x tea ordered"]
    assert got["choices"][0]["message"]["content"] == "Hello."
    assert got["usage"]["total_tokens"] == 10


def test_the_calls_of_a_round_run_at_once(desk: RunningServer, upstream: ScriptedUpstream) -> None:
    calls = [call("slow", place, seconds=0.5) for place in range(4)]
    upstream.say(calling(*calls), answer("Done."))
    began = time.monotonic()

    ask(desk)

    assert time.monotonic() - began < 1.5
    assert results(upstream) == ["at last"] * 4


def test_a_phrase_is_said_while_a_tool_is_slow(desk: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(calling(call("slow", seconds=0.5)), answer("Done."))

    assert ask(desk).waiting.strip() == WAITING


def test_a_phrase_after_text_is_part_of_it(desk: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(calling(call("slow", seconds=0.5), text="I'll see. "), answer("Done."))

    got = ask(desk)

    assert got.waiting == ""
    assert got.text.replace("  ", " ") == f"I'll see. {WAITING} Done."


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (call("order", item=1.5, amount="many"), "Error: "),
        (call("order"), "item"),
        (call("fail"), "Error: fail failed."),
        (call("hang"), "Error: hang gave no result within 0.3 s."),
        (call("nowhere"), "Error: there is no such tool"),
        (call("ask_by_itself"), "Error: ask_by_itself failed."),
        (call("parse"), "Error: parse failed."),
        ({**call("order"), "function": {"name": "order", "arguments": "{half"}}, "Error: "),
    ],
    ids=[
        "wrong types",
        "a missing argument",
        "an exception",
        "a tool that hangs",
        "an unknown tool",
        "a second wait",
        "a library's error",
        "no JSON",
    ],
)
def test_what_goes_wrong_is_told_to_the_model(
    desk: RunningServer, upstream: ScriptedUpstream, made: dict[str, Any], told: str
) -> None:
    upstream.say(calling(made), answer("Sorry."))

    got = ask(desk)

    (result,) = results(upstream)
    assert told in result
    assert "secret" not in result
    assert got.text.endswith("Sorry.")
    json.loads(upstream.asked[-1].body["messages"][-2]["tool_calls"][0]["function"]["arguments"])


def test_a_long_result_is_cut_with_a_note(desk: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(calling(call("long")), answer("So much."))

    ask(desk)

    (result,) = results(upstream)
    assert len(result) < 10_000
    assert "more characters" in result


def test_after_five_rounds_the_model_has_to_answer(desk: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(*[calling(call("order", item="tea"), answer_id=f"chatcmpl-{n}") for n in range(5)], answer("Enough."))

    got = ask(desk)

    assert len(upstream.asked) == 6
    assert [asked.body.get("tool_choice") for asked in upstream.asked] == [None] * 5 + ["none"]
    assert got.text == "Enough."


@pytest.mark.parametrize("stream", [True, False])
def test_one_that_calls_all_the_same_then_has_finished(
    desk: RunningServer, upstream: ScriptedUpstream, stream: bool
) -> None:
    order = call("order", item="tea")
    upstream.say(calling(order, text="So. ") if stream else whole(order, text="So."))

    got = desk.ask(turn(stream=stream), DESK)

    if stream:
        assert read_good_stream(got).finish_reasons == {0: "stop"}
    else:
        choice = got.json["choices"][0]
        assert choice["finish_reason"] == "stop"
        assert "tool_calls" not in choice["message"]
    assert len(upstream.asked) == 6


def test_a_tool_that_hangs_is_ended(desk: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(calling(call("hang")), answer("Sorry."))

    ask(desk)

    desk.wait_for_log("the tool that hangs was ended")


def test_a_quick_tool_does_not_take_away_what_an_agent_wants_said_meanwhile(
    desk: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say(calling(call("order", item="tea")), [0.6, *answer("Done.")])

    got = ask(desk, messages=[{"role": "user", "content": "meanwhile"}])

    assert got.waiting == "Hold the line. "


def test_a_tool_that_had_to_be_called_is_so_once(desk: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(calling(call("order", item="tea")), answer("Done."))

    ask(desk, tool_choice="required")

    assert [asked.body["tool_choice"] for asked in upstream.asked] == ["required", "auto"]


class TestShapes:
    """Calls as upstreams really stream them."""

    @pytest.mark.parametrize("finish", ["tool_calls", "stop"])
    @pytest.mark.parametrize("name", OURS)
    def test_they_are_run(self, desk: RunningServer, upstream: ScriptedUpstream, name: str, finish: str) -> None:
        chunks, calls = SHAPES[name]
        upstream.say(stream(ROLE, *pieces(chunks), chunk({}, finish)), answer("Done."))

        got = ask(desk)

        expected = [
            f"{json.loads(said).get('city', '')}: fine" if tool == "weather" else "noon" for tool, said in calls
        ]
        assert results(upstream) == expected
        assert (got.text, got.tool_calls) == ("Done.", [])

    @pytest.mark.parametrize("name", OURS)
    def test_the_callers_go_out(self, desk: RunningServer, upstream: ScriptedUpstream, name: str) -> None:
        chunks, calls = SHAPES[name]
        theirs = [{"type": "function", "function": {"name": tool}} for tool in ("weather", "time")]
        upstream.say(stream(ROLE, *pieces(chunks), chunk({}, "stop")))

        got = ask(desk, tools=theirs)

        assert [(each["name"], each["arguments"]) for each in got.tool_calls] == calls
        assert got.finish_reasons == {0: "tool_calls"}


class TestTheCallers:
    def test_calls_go_out_as_they_come(self, desk: RunningServer, upstream: ScriptedUpstream) -> None:
        upstream.say(calling(call("transfer", to="sales")))

        got = ask(desk, tools=[THEIRS])

        assert {tool["function"]["name"] for tool in upstream.asked[0].body["tools"]} > {"transfer", "order"}
        assert got.tool_calls == [{"id": "call-transfer-0", "name": "transfer", "arguments": '{"to": "sales"}'}]
        assert got.finish_reasons == {0: "tool_calls"}

    @pytest.mark.parametrize("ours_first", [True, False])
    def test_in_a_mixed_round_they_go_out_alone(
        self, desk: RunningServer, upstream: ScriptedUpstream, ours_first: bool
    ) -> None:
        names = ["order", "transfer"] if ours_first else ["transfer", "order"]
        upstream.say(calling(*(call(name, place, item="tea") for place, name in enumerate(names))))

        got = ask(desk, tools=[THEIRS])

        assert [each["name"] for each in got.tool_calls] == ["transfer"]
        assert len(upstream.asked) == 1

    def test_in_a_mixed_round_that_is_not_streamed_too(self, desk: RunningServer, upstream: ScriptedUpstream) -> None:
        upstream.say(whole(call("order", item="tea"), call("transfer", 1)))

        message = desk.ask(turn(stream=False, tools=[THEIRS]), DESK).json["choices"][0]["message"]

        assert [each["function"]["name"] for each in message["tool_calls"]] == ["transfer"]

    def test_a_name_that_both_have_is_the_callers(self, desk: RunningServer, upstream: ScriptedUpstream) -> None:
        theirs = {"type": "function", "function": {"name": "order", "parameters": {"type": "object"}}}
        upstream.say(calling(call("order", item="tea")))

        got = ask(desk, tools=[theirs])

        assert [each["name"] for each in got.tool_calls] == ["order"]
        assert sum(tool["function"]["name"] == "order" for tool in upstream.asked[0].body["tools"]) == 1


def test_a_tool_that_has_begun_runs_on_after_a_hang_up(desk: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(calling(call("slow", seconds=1), text="One moment."))
    sock = desk.open(path=DESK)
    while b"One moment." not in sock.recv(65536):
        pass
    time.sleep(0.1)

    sock.close()

    desk.wait_for_log("outcome=caller_hangup")
    desk.wait_for_log("tool slow ended after its call had")


def test_a_failure_in_a_later_round_is_a_failure(desk: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(calling(call("order", item="tea"), text="I'll see."), reply(500, {}), reply(500, {}))

    assert read_failed_stream(desk.ask(path=DESK)).text == "I'll see."


class TestBundled:
    @pytest.mark.parametrize("path", ["/chat/completions", "/rag/chat/completions"])
    def test_they_are_offered_where_they_are_switched_on(
        self, holding: RunningServer, upstream: ScriptedUpstream, path: str
    ) -> None:
        upstream.say(calling(call("calculate", expression="2*21")), answer("42."))

        got = ask(holding, path)

        offered = {tool["function"]["name"] for tool in upstream.asked[0].body["tools"]}
        assert offered == {"current_time", "calculate", "search_knowledge"}
        assert results(upstream) == ["42"]
        assert got.text.endswith("42.")

    def test_the_knowledge_is_searched(self, holding: RunningServer, upstream: ScriptedUpstream) -> None:
        upstream.say(calling(call("search_knowledge", question="What is barge-in?")), answer("That."))

        ask(holding, "/chat/completions")

        assert "interrupt" in results(upstream)[0]

    def test_elsewhere_nothing_is_offered(self, server: RunningServer, upstream: ScriptedUpstream) -> None:
        server.ask()

        assert "tools" not in upstream.asked[0].body

    def test_text_before_a_call_is_not_said_where_it_is_held(
        self, holding: RunningServer, upstream: ScriptedUpstream
    ) -> None:
        upstream.say(calling(call("calculate", expression="6*7"), text="It must be 41."), answer("It is 42."))

        got = ask(holding, "/chat/completions")

        assert got.text == "It is 42."
        assert upstream.asked[-1].body["messages"][-2]["content"] == "It must be 41."

    def test_text_without_a_call_is_said_after_all(self, holding: RunningServer, upstream: ScriptedUpstream) -> None:
        upstream.say(stream(ROLE, chunk({"content": "Hello."}), STOP))

        assert read_good_stream(holding.ask()).text == "Hello."
