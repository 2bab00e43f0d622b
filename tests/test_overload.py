"""A worker that has as many streams as it bears says no in time, and does those inside no harm."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from running_server import KEY, RunningServer, read_until, running_server, turn
from scripted_upstream import BEGUN, REST, ScriptedUpstream, answer, scripted_upstream
from stream_rules import read_failure, read_good_stream

LIMIT = 3
WITHIN_S = 0.005 * 10


@pytest.fixture(scope="module")
def own_upstream() -> Iterator[ScriptedUpstream]:
    with scripted_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def small(own_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server that bears three streams."""
    settings: dict[str, Any] = {
        "MAX_STREAMS": LIMIT,
        "METRICS_KEY": "metrics-canary",
        "STALL_S": "2",
        "FIRST_TOKEN_S": "2",
    }
    with running_server(LLM_BASE_URL=own_upstream.url, LLM_API_KEY=KEY, **settings) as server:
        yield server


def fill(server: RunningServer, upstream: ScriptedUpstream, *steps: Any) -> list[socket.socket]:
    """Have as many streams under way as the server bears, each of which goes on with these steps."""
    upstream.say([BEGUN, *steps])
    calls = [server.open() for _ in range(LIMIT)]
    for call in calls:
        read_until(call, b"Hello")
    return calls


def wait_until_admitted(server: RunningServer) -> None:
    """Ask until there is room again, which comes just after an answer's last byte."""
    end = time.monotonic() + 5
    while server.ask().status == 503:
        assert time.monotonic() < end, "the streams are over, and still counted"
        time.sleep(0.01)


def open_streams(server: RunningServer) -> float:
    page = server.get("/metrics", {"Authorization": "Bearer metrics-canary"}).body.decode()
    line = next(line for line in page.splitlines() if line.startswith("custom_llm_open_streams "))
    return float(line.split()[1])


def test_one_more_than_it_bears_is_refused_at_once_and_the_others_go_on(
    small: RunningServer, own_upstream: ScriptedUpstream
) -> None:
    calls = fill(small, own_upstream, 1.0, REST)
    times = []
    for _ in range(5):
        began = time.monotonic()
        refused = small.ask()
        times.append(time.monotonic() - began)

        assert refused.status == 503
        assert read_failure(refused)["code"] == "overloaded"
        assert int(refused.headers["Retry-After"]) >= 1

    assert sorted(times)[2] < WITHIN_S
    assert len(own_upstream.asked) == LIMIT
    for call in calls:
        assert read_until(call, b"0\r\n\r\n").count(b"[DONE]") == 1
        call.close()


def test_a_refusal_waits_for_no_body(small: RunningServer, own_upstream: ScriptedUpstream) -> None:
    calls = fill(small, own_upstream, "hold")

    with socket.create_connection(("127.0.0.1", small.port), timeout=5) as sock:
        head = f"POST /chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        sock.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 900000\r\n\r\n{{".encode())
        said = read_until(sock, b"overloaded")

    assert said.startswith(b"HTTP/1.1 503 ")
    assert b"Connection: close" in said
    for call in calls:
        call.close()
    wait_until_admitted(small)


def test_callers_who_send_their_bodies_late_are_counted_all_the_same(
    small: RunningServer, own_upstream: ScriptedUpstream
) -> None:
    own_upstream.say([BEGUN, 0.5, REST])
    body = json.dumps(turn()).encode()
    head = f"POST /chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    calls = [socket.create_connection(("127.0.0.1", small.port), timeout=5) for _ in range(2 * LIMIT)]
    for call in calls:
        call.sendall(head.encode())
    time.sleep(0.2)  # each has passed the first look by now
    for call in calls:
        call.sendall(body)

    statuses = [read_until(call, b"\r\n")[9:12] for call in calls]

    assert sorted(statuses) == [b"200"] * LIMIT + [b"503"] * LIMIT
    for call in calls:
        call.close()
    wait_until_admitted(small)


def test_a_refusal_is_in_the_log_and_in_the_counts(small: RunningServer, own_upstream: ScriptedUpstream) -> None:
    calls = fill(small, own_upstream, "hold")

    refused = small.ask()
    other = small.get("/ready")

    line = small.wait_for_log(refused.headers["X-Request-Id"])
    assert "outcome=server_overload" in line and "status=503" in line
    page = small.get("/metrics", {"Authorization": "Bearer metrics-canary"}).body.decode()
    assert 'custom_llm_requests_total{endpoint="/chat/completions",outcome="server_overload"}' in page
    assert other.status == 200
    assert open_streams(small) == LIMIT
    for call in calls:
        call.close()
    wait_until_admitted(small)


def hang_up(server: RunningServer, upstream: ScriptedUpstream) -> None:
    for call in fill(server, upstream, "hold"):
        call.close()


def fail(server: RunningServer, upstream: ScriptedUpstream) -> None:
    for call in fill(server, upstream, 0.3, "close"):
        with call:
            assert b'"error"' in read_until(call, b"[DONE]")


def end_well(server: RunningServer, upstream: ScriptedUpstream) -> None:
    for call in fill(server, upstream, 0.3, REST):
        with call:
            assert b'"stop"' in read_until(call, b"[DONE]")


def ask_badly(server: RunningServer, upstream: ScriptedUpstream) -> None:
    for _ in range(LIMIT):
        assert server.ask(b"{").status == 400
        assert server.ask(json.dumps(turn(messages=[])).encode()).status == 400


def list_models(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(["hold"])
    socks = []
    for _ in range(LIMIT):
        sock = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        sock.sendall(f"GET /models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        socks.append(sock)
    upstream.wait_for(LIMIT)
    assert open_streams(server) == 0
    for sock in socks:
        sock.close()


@pytest.mark.parametrize("end", [hang_up, fail, end_well, ask_badly, list_models], ids=lambda end: end.__name__)
def test_what_is_over_is_not_counted_however_it_ended(
    small: RunningServer, own_upstream: ScriptedUpstream, end: Callable[[RunningServer, ScriptedUpstream], None]
) -> None:
    for _ in range(2):
        end(small, own_upstream)

        own_upstream.say(answer("Hello."))
        wait_until_admitted(small)
    deadline = time.monotonic() + 5
    while open_streams(small) > 0:
        assert time.monotonic() < deadline
    assert read_good_stream(small.ask()).text == "Hello."
