"""A caller who hangs up costs nothing more: the upstream's connection is closed at once."""

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running_server import KEY, RunningServer, running_server, turn
from scripted_upstream import (
    CLOSING_HEAD,
    COMPLETION,
    DONE,
    END,
    HEAD,
    ROLE,
    STOP,
    Asked,
    ScriptedUpstream,
    Step,
    again,
    answer,
    chunk,
    event,
    framed,
    raw_stream,
    reply,
)
from stream_rules import read_good_stream

SPOKEN = chunk({"content": "Hello"})
START = HEAD + framed(event(ROLE) + event(SPOKEN))
REST = framed(event(STOP) + DONE) + END
NEXT = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"
DROP_S = 0.2
"""How soon a hang-up must reach the upstream."""

PLAIN = reply(200, COMPLETION)[0]
assert isinstance(PLAIN, bytes)


@pytest.fixture(params=["gunicorn", "the development server"])
def either(request: pytest.FixtureRequest) -> RunningServer:
    """Each of the two servers in turn."""
    running: RunningServer = request.getfixturevalue("server" if request.param == "gunicorn" else "dev_server")
    return running


# the moment: what the upstream does meanwhile, whether a stream was asked for, and what the caller has heard by then
MOMENTS: dict[str, tuple[list[Step], bool, bytes]] = {
    "before the head": (["hold"], True, b""),
    "in the middle of the head": ([HEAD[:30], "hold"], True, b""),
    "before the first token": ([HEAD + framed(event(ROLE)), "hold"], True, b""),
    "among comments": ([HEAD, *again(40, framed(b": processing\n\n"), 0.05)], True, b""),
    "after a keepalive": ([HEAD, "hold"], True, b": keepalive"),
    "in the middle": ([START, "hold"], True, b"Hello"),
    "while it speaks": ([START, *again(100, 0.02, framed(event(SPOKEN)))], True, b"Hello"),
    "after the finish": ([HEAD + framed(event(SPOKEN) + event(STOP)), "hold"], True, b"Hello"),
    "before a whole answer": (["hold"], False, b""),
    "in the middle of a whole answer": ([PLAIN[:-9], "hold"], False, b""),
    "while a whole answer drips": ([PLAIN[: PLAIN.index(b"{")], *again(100, b" ", 0.02)], False, b""),
    "in an error's slow body": ([b"HTTP/1.1 500 Oh\r\nContent-Length: 99\r\n\r\nToo lo", "hold"], True, b""),
    "in a refusal's slow body": ([b"HTTP/1.1 400 Oh\r\nContent-Length: 99\r\n\r\nToo lo", "hold"], False, b""),
}


def close(caller: socket.socket) -> None:
    """Hang up."""
    caller.close()


def reset(caller: socket.socket) -> None:
    """Hang up as a crashed caller's kernel does."""
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.close()


def ask_more_and_close(caller: socket.socket) -> None:
    """Send the next request, then hang up."""
    caller.sendall(NEXT)
    caller.close()


def ask_more_and_reset(caller: socket.socket) -> None:
    """Send the next request, then hang up as a crashed caller's kernel does."""
    caller.sendall(NEXT)
    reset(caller)


def listen_for(heard: bytes, caller: socket.socket) -> None:
    """Read until this has come."""
    got = b""
    while heard not in got:
        data = caller.recv(65536)
        assert data, got
        got += data


@pytest.mark.parametrize("hang_up", [close, reset, ask_more_and_close, ask_more_and_reset])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_hang_up_closes_the_upstreams_connection_at_once(
    either: RunningServer, upstream: ScriptedUpstream, moment: str, hang_up: Callable[[socket.socket], None]
) -> None:
    script, is_streamed, heard = MOMENTS[moment]
    upstream.say(script)
    name = f"{hang_up.__name__}-{moment.replace(' ', '-')}".replace("'", "")
    caller = either.open(turn(stream=is_streamed), headers={"X-Request-Id": name})
    asked = upstream.wait_for(1)
    listen_for(heard, caller)

    hung_up = time.monotonic()
    hang_up(caller)

    assert upstream.wait_for_drop(asked) - hung_up < DROP_S
    assert "outcome=caller_hangup" in either.wait_for_log(f"id={name} ")
    assert len(upstream.asked) == 1


def test_a_hang_up_before_a_second_try_ends_it(either: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(reply(503, {}, Retry_After="1.5"), answer("Hello"))
    caller = either.open(turn(stream=False), headers={"X-Request-Id": "no-second-try"})
    upstream.wait_until_played(upstream.wait_for(1))

    caller.close()

    line = either.wait_for_log("id=no-second-try ")
    assert "outcome=caller_hangup" in line
    assert float(line.split("total_ms=")[1].split()[0]) < 1000
    assert len(upstream.asked) == 1


def test_many_hang_ups_at_once_are_all_seen(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([START, "hold"])
    callers = [server.open() for _ in range(40)]
    for caller in callers:
        listen_for(b"Hello", caller)

    hung_up = time.monotonic()
    for caller in callers:
        caller.close()

    assert max(upstream.wait_for_drop(asked) for asked in upstream.asked) - hung_up < 2 * DROP_S
    assert len(upstream.asked) == 40


# bytes of a next request


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU that a process and its children have taken."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(stat[11]) + int(stat[12])) / 100 + sum(cpu_s(int(child)) for child in children)


def test_bytes_of_a_next_request_cost_no_cpu_and_hold_nothing_up(
    either: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say([START, 0.7, REST])
    with either.open() as caller:
        listen_for(b"Hello", caller)
        before = cpu_s(either.process.pid)
        caller.sendall(NEXT)
        listen_for(b"[DONE]", caller)

        spent = cpu_s(either.process.pid) - before

    assert spent < 0.15


def test_a_next_request_that_came_early_is_answered_after_this_one(
    server: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say([START, 0.1, REST])

    with server.open() as caller:
        listen_for(b"Hello", caller)
        caller.sendall(NEXT)
        listen_for(b'{"status":"ok"}', caller)


def test_a_turn_that_came_early_can_be_hung_up_on(server: RunningServer, upstream: ScriptedUpstream) -> None:
    body = json.dumps(turn()).encode()
    head = f"POST /chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    upstream.say([START, 0.1, REST], [START, "hold"])
    caller = server.open()
    upstream.wait_for(1)
    caller.sendall(head.encode() + body)
    listen_for(b"[DONE]", caller)
    second = upstream.wait_for(2)

    hung_up = time.monotonic()
    caller.close()

    assert upstream.wait_for_drop(second) - hung_up < DROP_S


# a caller who does not read

MUCH = framed(event(chunk({"content": "x" * 8000})) * 8)


def test_a_caller_who_does_not_read_is_given_up(either: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([START, *again(4000, MUCH)])

    with either.open(headers={"X-Request-Id": "reads-nothing"}):
        asked = upstream.wait_for(1)

        upstream.wait_for_drop(asked, 4.0)
        line = either.wait_for_log("id=reads-nothing ")

    assert "outcome=caller_too_slow" in line
    assert float(line.split("total_ms=")[1].split()[0]) >= 950


def test_a_caller_who_does_not_read_a_whole_answer_is_given_up(
    either: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say(reply(200, {**COMPLETION, "padding": "x" * 20_000_000}))

    with either.open(turn(stream=False), headers={"X-Request-Id": "reads-no-whole"}):
        line = either.wait_for_log("id=reads-no-whole ")

    assert "outcome=caller_too_slow" in line
    assert 950 <= float(line.split("total_ms=")[1].split()[0]) < 4000


def test_a_caller_who_hangs_up_in_the_middle_of_a_write_is_no_slow_one(
    either: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say([START, *again(4000, MUCH)])
    caller = either.open(headers={"X-Request-Id": "leaves-in-a-write"})
    listen_for(b"x" * 8000, caller)

    caller.close()

    upstream.wait_for_drop(upstream.wait_for(1))
    assert "outcome=caller_hangup" in either.wait_for_log("id=leaves-in-a-write ")


def test_a_caller_who_reads_slowly_gets_everything(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([START, *again(200, MUCH), REST])
    began = time.monotonic()
    got, last = 0, b""

    with server.open() as caller:
        while not last.endswith(b"0\r\n\r\n"):
            data = caller.recv(100_000)
            got += len(data)
            last = (last + data)[-10:]
            # all in all this takes longer than one write may
            time.sleep(0.01)

    assert got > len(MUCH) * 200
    assert time.monotonic() - began > 1.1


# connections to the upstream are kept

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
    upstream.say([START + REST, "close"])

    said = [read_good_stream(either.ask()).text for _ in range(3)]

    assert said == ["Hello"] * 3
    assert len(upstream.asked) == 3


def test_a_callers_answer_never_gets_into_anothers(either: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([START, "hold"], raw_stream(event(ROLE) + event(chunk({"content": "mine"})) + event(STOP)))
    with either.open() as caller:
        listen_for(b"Hello", caller)

    said = read_good_stream(either.ask())

    assert said.text == "mine"
    assert upstream.asked[0].connection != upstream.asked[1].connection


@pytest.fixture
def serving_one_connection(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server of its own, of which nothing is left in the pool."""
    with running_server(LLM_BASE_URL=_upstream.url, LLM_API_KEY=KEY) as running:
        yield running


def test_connections_are_opened_only_as_many_as_are_needed_at_once(
    serving_one_connection: RunningServer, upstream: ScriptedUpstream
) -> None:
    before = upstream.connections
    upstream.say([START, 0.1, REST])

    for _ in range(3):
        callers = [serving_one_connection.open() for _ in range(5)]
        for caller in callers:
            listen_for(b"[DONE]", caller)
        for asked in list[Asked](upstream.asked):
            upstream.wait_until_played(asked)
        for caller in callers:
            caller.close()

    assert upstream.connections - before == 5
