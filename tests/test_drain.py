"""How a server ends, is reloaded, and loses a worker, while people are on the line."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event
from running_server import KEY, Answer, RunningServer, running_server, turn
from scripted_upstream import BEGUN, REST, ScriptedUpstream
from stream_rules import read_failed_stream, read_failure, read_good_stream

from server.worker import Worker

SOON = "--graceful-timeout 3"


@contextmanager
def ending(upstream: ScriptedUpstream, **settings: Any) -> Iterator[RunningServer]:
    """Run a server that drains for a second and is killed after eight."""
    environment = {"DRAIN_S": 1, "GUNICORN_CMD_ARGS": "--graceful-timeout 8", **settings}
    with running_server(LLM_BASE_URL=upstream.url, LLM_API_KEY=KEY, **environment) as server:
        yield server


def workers_of(server: RunningServer) -> list[int]:
    """Return the workers' process ids."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [pid for pid in map(int, children.split()) if b"gunicorn" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def sockets_of(pid: int) -> int:
    """Return how many sockets a process has open."""
    links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
    return sum(link.startswith("socket:") for link in links)


def wait_until_draining(server: RunningServer) -> None:
    end = time.monotonic() + 3
    while server.get("/ready").status != 503:
        assert time.monotonic() < end, "the server does not say that it ends"


def test_a_server_that_ends_refuses_new_turns_and_finishes_the_others(upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, 1.5, REST])
    with ending(upstream) as server, ThreadPoolExecutor() as pool:
        running = pool.submit(server.ask)
        upstream.wait_for(1)

        server.process.send_signal(signal.SIGTERM)
        wait_until_draining(server)
        refused = server.ask()

        assert refused.status == 503
        assert read_failure(refused)["code"] == "server_draining"
        assert refused.headers["Connection"] == "close"
        assert refused.headers["Retry-After"]
        assert server.get("/health").status == 200
        assert read_good_stream(running.result()).text == "Hello"
        assert server.process.wait(10) == 0
        assert "outcome=server_drain" in server.log


def test_a_stream_that_would_be_cut_gets_a_proper_end(upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, "hold"])
    with ending(upstream, DRAIN_S=0, GUNICORN_CMD_ARGS=SOON) as server, ThreadPoolExecutor() as pool:
        running = pool.submit(server.ask)
        upstream.wait_for(1)
        began = time.monotonic()

        server.process.send_signal(signal.SIGTERM)

        got = read_failed_stream(running.result())
        assert got.error and got.error["code"] == "server_draining"
        assert 1 < time.monotonic() - began < 3
        assert server.process.wait(10) == 0


def test_it_gets_one_too_where_draining_would_take_all_the_time(upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, "hold"])
    with ending(upstream, DRAIN_S=5, GUNICORN_CMD_ARGS=SOON) as server, ThreadPoolExecutor() as pool:
        running = pool.submit(server.ask)
        upstream.wait_for(1)

        server.process.send_signal(signal.SIGTERM)

        assert read_failed_stream(running.result()).text == "Hello"


def test_a_worker_that_has_served_its_number_of_requests_brings_its_streams_to_an_end(
    upstream: ScriptedUpstream,
) -> None:
    upstream.say([BEGUN, "hold"])
    with ending(upstream, GUNICORN_CMD_ARGS=f"--max-requests 2 {SOON}") as server:
        got = server.ask()

        error = read_failed_stream(got).error
        assert error and error["code"] == "server_draining"
        assert "outcome=server_drain" in server.wait_for_log(got.headers["X-Request-Id"])


def test_an_idle_connection_whose_next_request_begins_is_not_ended() -> None:
    worker = Worker.__new__(Worker)
    begins, request = Event(), Event()
    idle, busy = gevent.spawn(begins.wait), gevent.spawn(request.wait)
    worker._idle = {idle: None, busy: None}
    gevent.sleep(0)

    worker._let_go(idle)
    worker._let_go(busy)
    del worker._idle[busy]  # its request has begun in the same turn of the loop
    gevent.sleep(0.01)

    assert (idle.dead, busy.dead) == (True, False)
    busy.kill()


def test_an_answer_that_is_not_streamed_is_a_503_then(upstream: ScriptedUpstream) -> None:
    upstream.say(["hold"])
    with ending(upstream, DRAIN_S=0, GUNICORN_CMD_ARGS=SOON) as server, ThreadPoolExecutor() as pool:
        running = pool.submit(server.ask, turn(stream=False))
        upstream.wait_for(1)

        server.process.send_signal(signal.SIGTERM)

        assert read_failure(running.result())["code"] == "server_draining"


def test_a_reload_loses_no_stream_and_refuses_nobody(upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, 0.8, REST])
    with ending(upstream, WEB_CONCURRENCY=2) as server, ThreadPoolExecutor(40) as pool:
        answers = [pool.submit(server.ask) for _ in range(8)]
        upstream.wait_for(8)

        server.process.send_signal(signal.SIGHUP)
        for _ in range(20):
            answers.append(pool.submit(server.ask))
            time.sleep(0.05)

        assert all(read_good_stream(each.result()).text == "Hello" for each in answers)


def test_a_worker_that_is_killed_takes_only_its_own_streams(upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, 2.0, REST])
    with ending(upstream, WEB_CONCURRENCY=2) as server, ThreadPoolExecutor(64) as pool:
        idle = {pid: sockets_of(pid) for pid in workers_of(server)}
        answers: list[Future[Answer]] = []
        while len(answers) < 64 and any(sockets_of(pid) <= idle[pid] for pid in idle):
            answers.append(pool.submit(server.ask))
            upstream.wait_for(len(answers))
        assert all(sockets_of(pid) > idle[pid] for pid in idle), "one worker took all"

        os.kill(next(iter(idle)), signal.SIGKILL)

        whole = [each for each in answers if each.exception() is None and not each.result().cut]
        assert all(read_good_stream(each.result()).text == "Hello" for each in whole)
        assert 0 < len(whole) < len(answers)
        assert read_good_stream(server.ask()).text == "Hello"
