"""A caller who hangs up costs nothing more: the upstream's connection is closed at once."""

import json
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from running_server import KEY, RunningServer, read_until, turn
from scripted_upstream import (
    BEGUN,
    COMPLETION,
    HEAD,
    REST,
    ROLE,
    SPOKEN,
    STOP,
    ScriptedUpstream,
    Step,
    again,
    answer,
    chunk,
    event,
    framed,
    reply,
)

NEXT = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"
DROP_S = 0.2
"""How soon a hang-up must reach the upstream."""

PLAIN = reply(200, COMPLETION)[0]
assert isinstance(PLAIN, bytes)


# the moment: what the upstream does meanwhile, whether a stream was asked for, and what the caller has heard by then
MOMENTS: dict[str, tuple[list[Step], bool, bytes]] = {
    "before the head": (["hold"], True, b""),
    "in the middle of the head": ([HEAD[:30], "hold"], True, b""),
    "before the first token": ([HEAD + framed(event(ROLE)), "hold"], True, b""),
    "among comments": ([HEAD, *again(40, framed(b": processing\n\n"), 0.05)], True, b""),
    "after a keepalive": ([HEAD, "hold"], True, b": keepalive"),
    "in the middle": ([BEGUN, "hold"], True, b"Hello"),
    "while it speaks": ([BEGUN, *again(100, 0.02, framed(event(SPOKEN)))], True, b"Hello"),
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
    read_until(caller, heard)

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


def test_a_hang_up_ends_the_wait_for_the_list_of_models(either: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say(["hold"])
    caller = socket.create_connection(("127.0.0.1", either.port), 5)
    caller.sendall(f"GET /models HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
    asked = upstream.wait_for(1)

    hung_up = time.monotonic()
    caller.close()

    assert upstream.wait_for_drop(asked) - hung_up < DROP_S


def open_files(pid: int) -> int:
    """Return how many files and sockets a process and its children have open."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return len(list(Path(f"/proc/{pid}/fd").iterdir())) + sum(open_files(int(child)) for child in children)


def test_nothing_is_left_open_by_callers_who_hung_up(either: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, "hold"])
    before = open_files(either.process.pid)
    callers = [either.open() for _ in range(30)]
    for caller in callers:
        read_until(caller, b"Hello")
    during = open_files(either.process.pid)

    for caller in callers:
        caller.close()
    for asked in upstream.asked:
        upstream.wait_for_drop(asked)
    assert either.get("/health").status == 200

    assert during >= before + 30
    wait_until(lambda: open_files(either.process.pid) <= before + 2)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for something that sends no word of it; fail the test where it does not come."""
    end = time.monotonic() + 3
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_many_hang_ups_at_once_are_all_seen(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, "hold"])
    callers = [server.open() for _ in range(40)]
    for caller in callers:
        read_until(caller, b"Hello")

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
    upstream.say([BEGUN, 0.7, REST])
    with either.open() as caller:
        read_until(caller, b"Hello")
        before = cpu_s(either.process.pid)
        caller.sendall(NEXT)
        read_until(caller, b"[DONE]")

        spent = cpu_s(either.process.pid) - before

    assert spent < 0.15


def test_a_next_request_that_came_early_is_answered_after_this_one(
    server: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say([BEGUN, 0.1, REST])

    with server.open() as caller:
        read_until(caller, b"Hello")
        caller.sendall(NEXT)
        read_until(caller, b'{"status":"ok"}')


def test_a_turn_that_came_early_can_be_hung_up_on(server: RunningServer, upstream: ScriptedUpstream) -> None:
    body = json.dumps(turn()).encode()
    head = f"POST /chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    upstream.say([BEGUN, 0.1, REST], [BEGUN, "hold"])
    caller = server.open()
    upstream.wait_for(1)
    caller.sendall(head.encode() + body)
    read_until(caller, b"[DONE]")
    second = upstream.wait_for(2)

    hung_up = time.monotonic()
    caller.close()

    assert upstream.wait_for_drop(second) - hung_up < DROP_S


# a caller who does not read

MUCH = framed(event(chunk({"content": "x" * 8000})) * 8)


def test_a_caller_who_does_not_read_is_given_up(either: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, *again(4000, MUCH)])

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
    upstream.say([BEGUN, *again(4000, MUCH)])
    caller = either.open(headers={"X-Request-Id": "leaves-in-a-write"})
    read_until(caller, b"x" * 8000)

    caller.close()

    upstream.wait_for_drop(upstream.wait_for(1))
    assert "outcome=caller_hangup" in either.wait_for_log("id=leaves-in-a-write ")


def test_a_caller_who_reads_slowly_gets_everything(server: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, *again(200, MUCH), REST])
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
