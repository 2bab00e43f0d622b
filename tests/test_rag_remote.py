"""A customer's own retrieval service behind `/rag`: what it is asked, and what happens when it misbehaves."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from running_server import FLASK, KEY, RunningServer, read_until, running_server, turn
from scripted_upstream import END, HEAD, ScriptedUpstream, Step, again, answer, framed, reply, scripted_upstream
from stream_rules import read_good_stream

from knowledge.grounding import reference

RAG = "/rag/chat/completions"
SERVICE_KEY = "kb-canary-key"
TIMEOUT_MS = 300
AFTER_MS = 200
ASKED = "When is the shop open?"
RECORDS = [
    {"content": "The shop opens at nine.", "score": 0.9, "title": "Hours", "metadata": {"path": "shop/hours.md"}},
    {"content": "It closes on Sundays.", "score": 0.5, "title": None, "metadata": None},
    {"content": "  ", "score": 0.4, "title": "Empty"},
    {"content": "On Mondays it opens at ten.", "title": "Mondays", "unknown": [1]},
]
FOUND = reply(200, {"records": RECORDS[:2]})
DROP_S = 0.2


def body(asked: str = ASKED, **more: Any) -> dict[str, Any]:
    return turn(messages=[{"role": "user", "content": asked}], **more)


def last_message(upstream: ScriptedUpstream) -> str:
    """Return the text of the last message that the LLM was sent."""
    text: str = upstream.asked[-1].body["messages"][-1]["content"]
    return text


@pytest.fixture(scope="module")
def _service() -> Iterator[ScriptedUpstream]:
    with scripted_upstream() as service:
        yield service


@pytest.fixture
def service(_service: ScriptedUpstream) -> ScriptedUpstream:
    """The retrieval service, which finds two passages until a test has it say something else."""
    _service.say(FOUND)
    return _service


def settings(upstream: ScriptedUpstream, service: ScriptedUpstream, **more: Any) -> dict[str, Any]:
    return {
        "LLM_BASE_URL": upstream.url,
        "LLM_API_KEY": KEY,
        "KNOWLEDGE_URL": service.url,
        "KNOWLEDGE_KEY": SERVICE_KEY,
        "KNOWLEDGE_ID": "kb-7",
        "KNOWLEDGE_PASSAGES": 3,
        "KNOWLEDGE_TIMEOUT_MS": TIMEOUT_MS,
        "KNOWLEDGE_CITE": 1,
        "WEB_CONCURRENCY": 1,
        **more,
    }


@pytest.fixture(scope="module")
def remote(_upstream: ScriptedUpstream, _service: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server that asks the service, and does not wait long for it."""
    with running_server(**settings(_upstream, _service)) as running:
        yield running


@pytest.fixture(scope="module")
def remote_dev(_upstream: ScriptedUpstream, _service: ScriptedUpstream) -> Iterator[RunningServer]:
    """Flask's development server with the same settings."""
    with running_server(*FLASK, **settings(_upstream, _service)) as running:
        yield running


@pytest.fixture(params=["remote", "remote_dev"])
def any_remote(request: pytest.FixtureRequest) -> RunningServer:
    running: RunningServer = request.getfixturevalue(request.param)
    return running


@pytest.fixture(scope="module")
def patient(_upstream: ScriptedUpstream, _service: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server that waits for the service, and says a waiting message meanwhile."""
    url, more = f"{_service.url}/retrieval", {"KNOWLEDGE_TIMEOUT_MS": 3000, "RAG_WAITING_AFTER_MS": AFTER_MS}
    with running_server(
        **settings(_upstream, _service, **more, KEEPALIVE_S="0.1") | {"KNOWLEDGE_URL": url, "KNOWLEDGE_KEY": ""}
    ) as running:
        yield running


def test_it_is_asked_in_the_form_of_difys_external_knowledge(
    any_remote: RunningServer, upstream: ScriptedUpstream, service: ScriptedUpstream
) -> None:
    read_good_stream(any_remote.ask(body(), RAG))

    asked = service.wait_for(1)
    assert (asked.method, asked.target) == ("POST", "/v1/retrieval")
    assert asked.headers["authorization"] == f"Bearer {SERVICE_KEY}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.body["knowledge_id"] == "kb-7"
    assert asked.body["query"] == ASKED
    assert asked.body["retrieval_setting"]["top_k"] == 3
    assert 0 <= asked.body["retrieval_setting"]["score_threshold"] <= 1
    assert KEY not in json.dumps(asked.headers)
    assert SERVICE_KEY not in json.dumps(upstream.asked[-1].headers)


def test_a_whole_address_is_taken_as_it_is_and_no_key_is_made_up(
    patient: RunningServer, upstream: ScriptedUpstream, service: ScriptedUpstream
) -> None:
    read_good_stream(patient.ask(body(), RAG))

    asked = service.wait_for(1)
    assert asked.target == "/v1/retrieval"
    assert "authorization" not in asked.headers


@pytest.mark.parametrize("path", [RAG, "/chat/completions"])
def test_it_is_asked_for_what_is_asked_of_the_documents_only(
    remote: RunningServer, upstream: ScriptedUpstream, service: ScriptedUpstream, path: str
) -> None:
    asked = "Thanks, bye!" if path == RAG else ASKED

    read_good_stream(remote.ask(body(asked), path))

    assert not service.asked
    assert last_message(upstream) == asked


def test_its_records_are_what_the_model_is_told(
    any_remote: RunningServer, upstream: ScriptedUpstream, service: ScriptedUpstream
) -> None:
    service.say(reply(200, {"records": RECORDS * 2, "more": 1}))

    stream = read_good_stream(any_remote.ask(body(), RAG, {"X-Request-Id": "records"}))

    found = reference(last_message(upstream))
    assert found and found[1] == ASKED
    assert [tuple(excerpt) for excerpt in found[0]] == [
        ("Hours", "The shop opens at nine."),
        ("", "It closes on Sundays."),
        ("Mondays", "On Mondays it opens at ten."),
    ]
    assert stream.chunks[-1]["sources"][0] == {"title": "Hours", "file": "shop/hours.md", "score": 0.9}
    line = any_remote.wait_for_log("id=records ")
    assert "passages=3" in line and "knowledge_ms=" in line and "failed" not in line


def test_where_it_finds_nothing_nothing_is_added(
    remote: RunningServer, upstream: ScriptedUpstream, service: ScriptedUpstream
) -> None:
    service.say(reply(200, {"records": []}))

    read_good_stream(remote.ask(body(), RAG))

    assert last_message(upstream) == ASKED


def test_the_waiting_message_is_sent_before_it_is_heard_from(
    remote: RunningServer, upstream: ScriptedUpstream, service: ScriptedUpstream
) -> None:
    service.say([0.25, *FOUND])

    with remote.open(body(), RAG) as caller:
        read_until(caller, b"waiting_msg")
        assert not upstream.asked
        assert not any(asked.is_played for asked in service.asked)
        upstream.wait_for(1)


def test_its_connection_is_kept(remote: RunningServer, upstream: ScriptedUpstream, service: ScriptedUpstream) -> None:
    for _ in range(3):
        read_good_stream(remote.ask(body(), RAG))

    assert len({asked.connection for asked in service.asked}) == 1


def test_a_kept_connection_that_it_has_closed_costs_nothing(
    remote: RunningServer, upstream: ScriptedUpstream, service: ScriptedUpstream
) -> None:
    service.say([*FOUND, "close"])

    for _ in range(3):
        read_good_stream(remote.ask(body(), RAG))
        assert reference(last_message(upstream))


def html(status: int = 200) -> list[Step]:
    return reply(status, b"<html>Sign in</html>", "text/html")


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
# what the service does, and whether there is time for another try
MISBEHAVIOURS: dict[str, tuple[list[Step], bool]] = {
    "500": (reply(500, {"error_code": 500, "error_msg": "Oh."}), True),
    "401 that shows the key": (reply(401, {"error_msg": f"Bad key {SERVICE_KEY}"}), True),
    "hangs": (["hold"], False),
    "hangs in the head": ([b"HTTP/1.1 200 OK\r\nConte", "hold"], False),
    "hangs in the body": ([LENGTH + b'99\r\n\r\n{"rec', "hold"], False),
    "drips": ([LENGTH + b"999\r\n\r\n", *again(40, b" ", 0.05)], False),
    "never ends": ([HEAD, *again(10, framed(b" " * 1000), 0.05), "hold"], False),
    "cut": ([LENGTH + b'99\r\n\r\n{"records": [', "close"], True),
    "reset": (["reset"], True),
    "no HTTP": ([f"SSH-2.0 {SERVICE_KEY}\r\n\r\n".encode(), "close"], True),
    "HTML": (html(), True),
    "HTML and 404": (html(404), True),
    "no JSON": (reply(200, b"{"), True),
    "no UTF-8": (reply(200, b'{"records": [{"content": "\xff"}]}'), True),
    "no records": (reply(200, {"error_code": 2001, "error_msg": "No such knowledge."}), True),
    "records null": (reply(200, {"records": None}), True),
    "a list": (reply(200, RECORDS), True),
    "content of numbers": (reply(200, {"records": [{"content": 7, "score": 1, "title": SERVICE_KEY}]}), True),
    "huge": (reply(200, {"records": [{"content": "x" * 3_000_000}]}), True),
    "huge without a length": ([HEAD, *again(50, framed(b" " * 60_000)), END], True),
    "redirect": (reply(302, {}, Location="/v1/elsewhere"), True),
}


@pytest.mark.parametrize("how", MISBEHAVIOURS)
def test_when_it_misbehaves_the_answer_goes_on_without_it(
    any_remote: RunningServer, upstream: ScriptedUpstream, service: ScriptedUpstream, how: str
) -> None:
    script, is_tried_again = MISBEHAVIOURS[how]
    service.say(script)
    name = f"misbehaves-{how.replace(' ', '-')}"
    failures = any_remote.get("/ready").json["knowledge_failures"]

    answered = any_remote.ask(body(), RAG, {"X-Request-Id": name})

    stream = read_good_stream(answered)
    assert stream.text == f"{stream.waiting}Hello there."
    assert "sources" not in stream.chunks[-1]
    told = last_message(upstream)
    assert told.startswith("<reference-") and "could not be consulted" in told and told.endswith(f"\n\n{ASKED}")
    line = any_remote.wait_for_log(f"id={name} ")
    assert 'knowledge="failed: ' in line and "outcome=ok" in line and "passages=" not in line
    assert float(line.split("knowledge_ms=")[1].split()[0]) < TIMEOUT_MS + 50
    assert any_remote.get("/ready").json["knowledge_failures"] == failures + 1
    assert {asked.target for asked in service.asked} == {"/v1/retrieval"}
    assert len(service.asked) == (2 if is_tried_again else 1)
    assert SERVICE_KEY not in any_remote.log
    assert b"canary" not in answered.body and "canary" not in json.dumps(upstream.asked[-1].body)


@pytest.mark.parametrize("how", ["500", "cut", "reset", "HTML"])
def test_a_second_try_that_succeeds_mends_it(
    any_remote: RunningServer, upstream: ScriptedUpstream, service: ScriptedUpstream, how: str
) -> None:
    service.say(MISBEHAVIOURS[how][0], FOUND)

    read_good_stream(any_remote.ask(body(), RAG, {"X-Request-Id": f"mended-{how}"}))

    assert reference(last_message(upstream))
    assert "consulted" not in last_message(upstream)
    assert len(service.asked) == 2
    assert "failed" not in any_remote.wait_for_log(f"id=mended-{how} ")


def test_a_chinese_caller_is_not_told_what_could_not_be_looked_up(
    remote: RunningServer, upstream: ScriptedUpstream, service: ScriptedUpstream
) -> None:
    service.say(html())

    whole = remote.ask(body("商店几点开门？"), RAG)

    assert "参考资料暂时无法查询" in last_message(upstream)
    assert "查询" not in read_good_stream(whole).text


def test_a_whole_answer_goes_on_without_it_too(
    remote: RunningServer, upstream: ScriptedUpstream, service: ScriptedUpstream
) -> None:
    service.say(["hold"])
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}
    upstream.say(reply(200, {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}))

    assert remote.ask(body(stream=False), RAG).json["choices"] == [choice]


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("moment", ["before the head", "in the body"])
def test_a_hang_up_meanwhile_ends_the_search_and_the_model_is_not_asked(
    patient: RunningServer, upstream: ScriptedUpstream, service: ScriptedUpstream, moment: str, is_streamed: bool
) -> None:
    service.say(["hold"] if moment == "before the head" else [LENGTH + b"99\r\n\r\n{", "hold"])
    name = f"hung-up-{moment.replace(' ', '-')}-{is_streamed}"
    caller = patient.open(body(stream=is_streamed), RAG, {"X-Request-Id": name})
    asked = service.wait_for(1)

    hung_up = time.monotonic()
    caller.close()

    assert service.wait_for_drop(asked) - hung_up < DROP_S
    assert "outcome=caller_hangup" in patient.wait_for_log(f"id={name} ")
    assert not upstream.asked
    assert len(service.asked) == 1


def test_a_late_waiting_message_does_not_wait_for_it(
    patient: RunningServer, upstream: ScriptedUpstream, service: ScriptedUpstream
) -> None:
    service.say([1.0, *FOUND])
    began = time.monotonic()

    with patient.open(body(), RAG) as caller:
        read_until(caller, b"waiting_msg")
        came_ms = (time.monotonic() - began) * 1000
        assert not upstream.asked

    assert AFTER_MS <= came_ms < AFTER_MS + 250


def test_while_one_caller_waits_for_it_others_are_served(
    patient: RunningServer, upstream: ScriptedUpstream, service: ScriptedUpstream
) -> None:
    service.say(["hold"])

    with patient.open(body(), RAG):
        service.wait_for(1)
        began = time.monotonic()
        assert patient.ask(turn()).text == "Hello there."

    assert time.monotonic() - began < 0.2


def test_the_limits_of_the_search_are_not_those_of_the_model(
    remote: RunningServer, upstream: ScriptedUpstream, service: ScriptedUpstream
) -> None:
    upstream.say([TIMEOUT_MS / 1000 + 0.2, *answer("Late.")])

    assert read_good_stream(remote.ask(body(), RAG)).text.endswith("Late.")
