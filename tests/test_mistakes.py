"""The mistakes that are seen in public servers of this kind: a test for each that these endpoints could make."""

import ast
import inspect
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from running_server import HELLO, KEY, ROOT, RunningServer, turn
from scripted_upstream import (
    COMPLETION,
    DONE,
    HEAD,
    ROLE,
    STOP,
    ScriptedUpstream,
    answer,
    chunk,
    event,
    framed,
    raw_stream,
    reply,
    stream,
)
from stream_rules import read_error, read_failed_stream, read_good_stream

from blueprints.gate import Access

CANARY = "words-that-nobody-else-may-read"
TOOLS = [{"type": "function", "function": {"name": "hang_up", "parameters": {"type": "object", "x-ours": 1}}}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "hang_up", "arguments": "{}"}}
HEARD = {"id": "call_1", "name": "hang_up", "arguments": "{}"}


def test_mistake_1_stream_false_fails_with_a_traceback(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(reply(200, COMPLETION))

    got = server.ask(turn(stream=False))

    assert (got.status, got.json) == (200, COMPLETION)


def test_mistake_2_an_error_in_the_generator_leaves_the_stream_without_an_end(
    server: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say(stream(ROLE, chunk({"content": "Hi"}), b"{no JSON"))

    said = read_failed_stream(server.ask())

    assert said.text == "Hi"


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "{}", "tool_call_id": "call_1"},
    ],
    ids=["a picture", "content null", "tool"],
)
def test_mistake_3_messages_of_openais_are_refused(
    server: RunningServer, upstream: ScriptedUpstream, message: dict[str, Any]
) -> None:
    got = server.ask(turn(messages=[*HELLO, message, *HELLO]))

    assert got.status == 200
    assert upstream.wait_for(1).body["messages"][1] == message


def test_mistake_4_parameters_are_dropped(server: RunningServer, upstream: ScriptedUpstream) -> None:
    given = {"temperature": 0, "max_tokens": 150, "top_p": 0.5, "verbosity": "low", "x_unknown": {"a": [1, None]}}

    server.ask(turn(**given))

    asked = upstream.wait_for(1).body
    assert {name: asked.get(name) for name in given} == given


def test_mistake_5_text_is_evaluated_as_code() -> None:
    rooms = [
        room for room in ROOT.iterdir() if room.is_dir() and not room.name.startswith(".") and room.name != "tests"
    ]
    files = [*ROOT.glob("*.py"), *(path for room in rooms for path in room.rglob("*.py"))]

    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]

    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert "isinstance" in called
    assert not {"eval", "exec", "compile"} & called


def test_mistake_6_one_callers_conversation_is_in_anothers(server: RunningServer, upstream: ScriptedUpstream) -> None:
    server.ask(turn(messages=[{"role": "user", "content": CANARY}]))

    server.ask()

    assert CANARY not in json.dumps(upstream.wait_for(2).body)


def test_mistake_7_the_history_is_doubled(server: RunningServer, upstream: ScriptedUpstream) -> None:
    history = [{"role": role, "content": f"{role} {n}"} for n in range(3) for role in ("user", "assistant")]
    for count in (2, 4):
        server.ask(turn(messages=[*history[:count], *HELLO]))

    assert upstream.wait_for(2).body["messages"] == [*history[:4], *HELLO]


def test_mistake_8_bookkeeping_is_sent_upstream(server: RunningServer, upstream: ScriptedUpstream) -> None:
    engine = {"turn_id": 3, "timestamp": 1760000000000, "metadata": {"source": "asr", "user": "1002"}}

    server.ask(turn(messages=[{**HELLO[0], **engine}], turn_id=3, timestamp=1, interruptable=True, context={"a": 1}))

    assert upstream.wait_for(1).body == turn()


@pytest.mark.parametrize("include_usage", [True, False])
def test_mistake_9_usage_after_a_call_to_a_tool_loses_the_call(
    server: RunningServer, upstream: ScriptedUpstream, include_usage: bool
) -> None:
    calls = chunk({"tool_calls": [{"index": 0, **CALL}]})
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    upstream.say(stream(ROLE, calls, chunk({}, "tool_calls"), chunk(choices=[], usage=usage)))

    said = read_good_stream(server.ask(turn(stream_options={"include_usage": include_usage})), include_usage)

    assert said.tool_calls == [HEARD]
    assert said.finish_reasons == {0: "tool_calls"}
    assert said.usage == (usage if include_usage else None)


def test_mistake_10_each_request_makes_a_new_client(server: RunningServer, upstream: ScriptedUpstream) -> None:
    for _ in range(5):
        server.ask()

    assert len({asked.connection for asked in upstream.asked}) == 1


def test_mistake_10_a_silent_upstream_is_waited_for_without_end(
    server: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say(["hold"])

    chunks = server.ask()

    assert read_failed_stream(chunks).error["code"] == "upstream_timeout"  # type: ignore[index]


def test_mistake_11_the_callers_tools_are_replaced_or_swallowed(
    server: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say(stream(ROLE, chunk({"tool_calls": [{"index": 0, **CALL}]}), chunk({}, "tool_calls")))

    said = read_good_stream(server.ask(turn(tools=TOOLS, tool_choice="auto", parallel_tool_calls=False)))

    asked = upstream.wait_for(1).body
    assert (asked["tools"], asked["tool_choice"], asked["parallel_tool_calls"]) == (TOOLS, "auto", False)
    assert said.tool_calls == [HEARD]


@pytest.mark.parametrize("streamed", [True, False])
def test_mistake_12_a_hang_up_cancels_nothing(
    server: RunningServer, upstream: ScriptedUpstream, streamed: bool
) -> None:
    upstream.say(["hold"])

    with server.open(turn(stream=streamed)):
        asked = upstream.wait_for(1)

    assert upstream.wait_for_drop(asked)


def test_mistake_13_words_and_keys_are_logged(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(answer(CANARY))

    got = server.ask(turn(messages=[{"role": "user", "content": CANARY}]), headers={"X-Request-Id": "canary"})
    server.wait_for_log("id=canary")

    assert CANARY in got.text
    assert CANARY not in server.log
    assert KEY not in server.log


def test_mistake_14_other_lines_than_data_are_sent(server: RunningServer, upstream: ScriptedUpstream) -> None:
    odd = b"event: ping\nid: 7\nretry: 100\n\nevent: message\n"
    upstream.say(
        raw_stream(odd + event(ROLE) + odd + event(chunk({"content": "Hi"})) + b"data:\n\n" + event(STOP) + DONE)
    )

    got = server.ask()

    assert read_good_stream(got).text == "Hi"
    assert all(line.startswith(b"data: ") for line in got.body.splitlines() if line)


def test_mistake_14_chunks_are_not_flushed(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([HEAD + framed(event(ROLE) + event(chunk({"content": "Hi"}))), "hold"])

    with server.open() as caller:
        heard = b""
        while b'"Hi"' not in heard:
            heard += caller.recv(65536)

    assert heard.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("shown", [None, "Bearer sk-anybody", f"Bearer {KEY[:-1]}"])
def test_mistake_15_anybody_may_spend_the_servers_key(
    server: RunningServer, upstream: ScriptedUpstream, shown: str | None
) -> None:
    headers = {"Content-Type": "application/json", **({"Authorization": shown} if shown else {})}

    got = server.request("POST", "/chat/completions", json.dumps(turn()).encode(), headers)

    assert got.status == 401
    assert upstream.asked == []


def test_mistake_15_keys_are_compared_with_equals() -> None:
    source = ast.parse(textwrap.dedent(inspect.getsource(Access.check)))

    compared = [node for node in ast.walk(source) if isinstance(node, ast.Compare)]
    assert not [node for node in compared if any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops)]
    assert "compare_digest" in ast.dump(source)


@pytest.mark.parametrize("method", ["OPTIONS", "GET", "POST"])
def test_mistake_16_pages_of_any_origin_are_let_in(server: RunningServer, method: str) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST", "Cookie": "a=b"}

    for path in ("/chat/completions", "/models", "/"):
        got = server.request(method, path, None, headers)

        assert not [name for name in got.headers if name.lower().startswith("access-control-")]


def test_mistake_17_callers_share_state(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(reply(200, COMPLETION, Set_Cookie=f"a={CANARY}"), answer("Hello."))
    server.ask(turn(stream=False, model="one", temperature=2, user="one"), headers={"X-Request-Id": "one"})

    got = server.ask()

    asked = upstream.wait_for(2)
    assert asked.body == turn()
    assert "cookie" not in asked.headers
    assert got.headers["X-Request-Id"] != "one"


@pytest.mark.parametrize("content", ["", "  \n", None, [], [{"type": "text", "text": " "}]])
def test_mistake_19_an_empty_turn_is_answered_with_noise(
    server: RunningServer, upstream: ScriptedUpstream, content: Any
) -> None:
    said = read_good_stream(server.ask(turn(messages=[*HELLO, {"role": "user", "content": content}])))

    assert said.text == ""
    assert upstream.asked == []


def test_mistake_20_a_test_takes_a_500_for_success() -> None:
    kinds = [
        (path.name, {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)})
        for path in Path(__file__).parent.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare)
        and "status" in ast.dump(node.left)
        and isinstance(node.ops[0], ast.In | ast.Lt)
    ]

    assert not [name for name, statuses in kinds if statuses & {200, 600} and statuses & {500, 502, 599, 600}]


def test_a_traceback_never_reaches_a_caller(server: RunningServer) -> None:
    for body in (b"", b"{", b"null", b"[1]", b'{"messages": 1}', b"\xff", b'{"messages": [{"role": {}}]}'):
        got = server.ask(body)

        assert got.status == 400
        assert "Traceback" not in read_error(got.json)["message"]
