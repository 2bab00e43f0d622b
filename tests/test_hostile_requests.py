"""Hostile requests, each on a connection of its own: what they get, and that the next caller is served."""

import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hostile import CLASSES, CLOSED, Case
from running_server import KEY, RunningServer, running_server
from scripted_upstream import COMPLETION, Asked, ScriptedUpstream, reply
from stream_rules import read_error

CASES = {f"{name}: {each}": case for name, cases in CLASSES.items() for each, case in cases.items()}
_STATUS_LINE = re.compile(rb"^HTTP/1\.[01] (\d{3}) ", re.MULTILINE)


@dataclass
class Got:
    """What came back, and when the connection was closed."""

    data: bytes
    seconds: float

    @property
    def statuses(self) -> list[int]:
        """Return the status of each response, without leave to go on."""
        return [status for status in map(int, _STATUS_LINE.findall(self.data)) if status != 100]

    @property
    def request_id(self) -> str:
        """Return the id that the response names."""
        return self.data.partition(b"X-Request-Id: ")[2].partition(b"\r\n")[0].decode()


def send(port: int, case: Case) -> Got:
    """Send a case's bytes and read until the connection is closed, which must not take long."""
    began = time.monotonic()
    got = b""
    with socket.create_connection(("127.0.0.1", port), 10) as peer:
        # the server may close before all is sent
        with suppress(ConnectionError):
            peer.sendall(case.sent)
            if case.half_closes:
                peer.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while data := peer.recv(65536):
                got += data
    return Got(got, time.monotonic() - began)


@pytest.fixture(scope="module")
def quick(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server that waits for nobody longer than a test may."""
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY, HEAD_S=1, BODY_S=4) as running:
        yield running


@dataclass
class Played:
    """What each case got, and what the upstream was asked meanwhile."""

    answers: dict[str, Got]
    asked: list[Asked]


@pytest.fixture(scope="module")
def played(quick: RunningServer, _upstream: ScriptedUpstream) -> Played:
    """What came of all cases: those that have to be waited for all at once, the others four at a time."""
    _upstream.say(reply(200, COMPLETION))
    with ThreadPoolExecutor(20) as waiting, ThreadPoolExecutor(4) as working:
        pools = {
            name: waiting if name.startswith("unfinished") or case.status == 408 else working
            for name, case in CASES.items()
        }
        sent = [pools[name].submit(send, quick.port, case) for name, case in CASES.items()]
        got = [each.result() for each in sent]
    return Played(dict(zip(CASES, got, strict=True)), list(_upstream.asked))


@pytest.fixture(scope="module")
def answers(played: Played) -> dict[str, Got]:
    """What each case got."""
    return played.answers


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_request_gets_its_status_in_our_form_and_nothing_more(
    quick: RunningServer, answers: dict[str, Got], name: str
) -> None:
    expected, got = CASES[name].status, answers[name]

    assert got.statuses == ([] if expected == CLOSED else [expected])
    assert got.seconds < 10
    if expected >= 400:
        head, _, body = got.data.rpartition(b"\r\n\r\n")
        assert read_error(json.loads(body))
        assert b"\r\nContent-Type: application/json\r\n" in head


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.status != CLOSED])
def test_a_hostile_request_has_one_clean_line_in_the_log(
    quick: RunningServer, answers: dict[str, Got], name: str
) -> None:
    line = quick.wait_for_log(f"id={answers[name].request_id} ")

    assert quick.log.count(f"id={answers[name].request_id} ") == 1
    assert line.isprintable()
    assert f"status={CASES[name].status} " in line
    assert (" outcome=ok " in line) == (CASES[name].status == 200)


def test_hostile_requests_leave_nothing_else_in_the_log(quick: RunningServer, answers: dict[str, Got]) -> None:
    answered = [got for got in answers.values() if got.data]
    for got in answered:
        quick.wait_for_log(f"id={got.request_id} ")

    lines = [line for line in quick.log.splitlines() if not line.startswith(("custom-llm-server: ", "knowledge: "))]

    assert [line for line in lines if " INFO request id=" not in line] == []
    assert "smuggled" not in quick.log
    assert [line for line in lines if "status=5" in line and "status=501" not in line] == []
    assert {got.request_id for got in answered} <= {line.split("id=")[1].split()[0] for line in lines}


def test_after_them_the_next_caller_is_served(quick: RunningServer, answers: dict[str, Got]) -> None:
    began = time.monotonic()

    got = quick.ask({"model": "m", "messages": [{"role": "user", "content": "Hello!"}]})

    assert (got.status, got.json) == (200, COMPLETION)
    assert time.monotonic() - began < 1


def test_only_what_is_understood_reaches_the_upstream(played: Played) -> None:
    understood = [case for case in CASES.values() if case.status == 200 and b"POST /chat" in case.sent]

    assert len(played.asked) == len(understood)
    assert {asked.target for asked in played.asked} == {"/v1/chat/completions"}
