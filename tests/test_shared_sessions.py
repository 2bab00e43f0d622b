import logging
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer, needs_redis, redis_server
from running_server import ROOT, free_port
from session_worker import NotedTurn, Worker, until, worker
from werkzeug.datastructures import Headers

from protocol.request import read_request
from turns.redis_channel import RedisChannel
from turns.redis_connections import check_redis_url, connections_to
from turns.session_keys import SessionKeys
from turns.sessions import Standing
from turns.shared_sessions import CHANNEL, SharedSessions

pytestmark = needs_redis

BOTH, ONLY_ENDED, NEITHER = Standing(True, True), Standing(False, True), Standing(False, False)
# a busy machine may take its time: what is late, and what has failed, is another test's matter
PATIENT: dict[str, Any] = {"deadline_ms": 500, "late_ms": 5000}

_numbers = count(1)


def new_key() -> str:
    return f"{next(_numbers):064x}"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def workers(redis: RedisServer) -> Iterator[dict[str, Worker]]:
    with worker(redis.url) as threads, worker(f"unix://{redis.socket}", "gevent") as greenlets:
        yield {"threads": threads, "greenlets": greenlets}


@pytest.fixture(params=["threads", "greenlets"])
def elsewhere(request: pytest.FixtureRequest, workers: dict[str, Worker]) -> Worker:
    """Another process, of each kind in turn."""
    return workers[request.param]


Share = Callable[..., SharedSessions]


@pytest.fixture
def share() -> Iterator[Share]:
    """Make sessions in this process, which hear the others."""
    with ExitStack() as stack:

        def start(url: str, **options: Any) -> SharedSessions:
            sessions = SharedSessions(url, **{**PATIENT, **options})
            stack.callback(sessions.close)
            sessions.start()
            until(lambda: sessions.is_shared)
            return sessions

        yield start


def barrier(here: SharedSessions, there: SharedSessions) -> None:
    """Wait until each has acted on all that was announced before: Redis has one order for all of it."""
    for a, b in ((here, there), (there, here)):
        key, older = new_key(), NotedTurn()
        a.enter(key, older, *BOTH)
        place(a, key)
        b.enter(key, NotedTurn(), *Standing(True, False))
        assert older.has_ended.wait(10)


def place(sessions: SharedSessions, key: str) -> None:
    """Wait until the turns of this session have their place in the order."""
    assert sessions._here
    running = sessions._here.running
    until(lambda: all(one.is_placed for one in list(running) if one.key == key))


def keys_of(sessions: SharedSessions) -> set[str]:
    """Return the sessions of which something is kept."""
    assert sessions._here
    return {one.key for one in list(sessions._here.running)}


# between processes


def test_a_newer_turn_on_another_worker_ends_an_older_one(redis: RedisServer, share: Share, elsewhere: Worker) -> None:
    here, key, older = share(redis.url), new_key(), NotedTurn()

    here.enter(key, older, *BOTH)
    place(here, key)
    elsewhere.enter(key, f"newer {key}")

    assert older.has_ended.wait(5)
    newest = NotedTurn()
    here.enter(key, newest, *BOTH)
    until(lambda: f"newer {key}" in elsewhere.ended(), 5)
    assert not newest.ended_at
    assert len(older.ended_at) == 1


def test_it_is_ended_within_50_ms(redis: RedisServer, share: Share, elsewhere: Worker) -> None:
    here, took = share(redis.url), []

    for _ in range(20):
        key, older = new_key(), NotedTurn()
        here.enter(key, older, *BOTH)
        place(here, key)
        # its clock is the same: that of the machine
        began, _ = elsewhere.enter(key, f"newer {key}")
        assert older.has_ended.wait(5)
        took.append(older.ended_at[0] - began)

    # the bar is 50 ms, and a busy machine may take ten times as long
    assert statistics.median(took) < 0.5, took


def test_no_turn_waits_for_redis(redis: RedisServer, elsewhere: Worker) -> None:
    times = [elsewhere.enter(new_key(), f"t{number}") for number in range(50)]

    assert statistics.median(ended - began for began, ended in times) < 0.01


@pytest.mark.parametrize("older", [BOTH, ONLY_ENDED, NEITHER])
@pytest.mark.parametrize("newer", [BOTH, ONLY_ENDED, NEITHER])
def test_the_rule_is_the_same_among_workers(redis: RedisServer, share: Share, older: Standing, newer: Standing) -> None:
    here, there, key = share(redis.url), share(redis.url), new_key()
    first, second = NotedTurn(), NotedTurn()

    here.enter(key, first, *older)
    place(here, key)
    there.enter(key, second, *newer)
    barrier(here, there)

    assert len(first.ended_at) == (newer.supersedes and older.can_be_superseded)
    assert not second.ended_at


def test_of_two_turns_that_enter_at_once_exactly_one_is_left(redis: RedisServer, share: Share) -> None:
    both = [share(redis.url), share(redis.url)]
    keys = [new_key() for _ in range(100)]
    turns = [{key: NotedTurn() for key in keys} for _ in both]
    at_once = threading.Barrier(2)

    def enter(sessions: SharedSessions, mine: dict[str, NotedTurn]) -> None:
        at_once.wait()
        for key, turn in mine.items():
            sessions.enter(key, turn, *BOTH)

    threads = [threading.Thread(target=enter, args=pair) for pair in zip(both, turns, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    barrier(*both)

    for key in keys:
        assert sorted(len(mine[key].ended_at) for mine in turns) == [0, 1]


def test_two_hundred_sessions_at_once_never_cross(redis: RedisServer, share: Share, elsewhere: Worker) -> None:
    here = share(redis.url)
    keys = [new_key() for _ in range(200)]
    turns = {key: NotedTurn() for key in keys}

    for key, turn in turns.items():
        here.enter(key, turn, *BOTH)
    for key in keys:
        place(here, key)
    for key in keys[::2]:
        elsewhere.enter(key, key)
    last, marker = NotedTurn(), new_key()
    here.enter(marker, last, *BOTH)
    place(here, marker)
    elsewhere.enter(marker, marker)
    assert last.has_ended.wait(10)

    assert [key for key in keys if turns[key].ended_at] == keys[::2]
    assert not set(elsewhere.ended()) & set(keys)
    assert here.lost == 0


def test_turns_of_one_worker_end_each_other_at_once_and_only_once(redis: RedisServer, share: Share) -> None:
    here, there, key = share(redis.url), share(redis.url), new_key()
    turns = [NotedTurn() for _ in range(20)]

    for turn in turns:
        here.enter(key, turn, *BOTH)
        assert [len(one.ended_at) for one in turns[: turns.index(turn)]] == [1] * turns.index(turn)
    barrier(here, there)

    assert [len(turn.ended_at) for turn in turns] == [*[1] * 19, 0]


def test_a_turn_that_has_left_at_once_still_ends_the_older_one(redis: RedisServer, share: Share) -> None:
    here, there, key = share(redis.url), share(redis.url), new_key()
    older, newer = NotedTurn(), NotedTurn()

    here.enter(key, older, *BOTH)
    place(here, key)
    there.enter(key, newer, *BOTH)
    there.leave(key, newer)

    assert older.has_ended.wait(5)
    here.leave(key, older)
    barrier(here, there)
    assert not newer.ended_at
    assert key not in keys_of(here) | keys_of(there)


def test_an_announcement_that_is_late_ends_nothing_and_gives_its_turn_a_place(redis: RedisServer, share: Share) -> None:
    here, slow, key = share(redis.url), share(redis.url, late_ms=0), new_key()
    first, late, last = NotedTurn(), NotedTurn(), NotedTurn()

    here.enter(key, first, *BOTH)
    place(here, key)
    slow.enter(key, late, *BOTH)
    place(slow, key)
    other = new_key()
    here.enter(other, NotedTurn(), *BOTH)
    place(here, other)

    assert not first.ended_at
    assert slow.lost == 1
    here.enter(key, last, *BOTH)
    assert late.has_ended.wait(5)
    assert (len(first.ended_at), len(last.ended_at)) == (1, 0)


def test_each_process_after_a_fork_has_connections_of_its_own(redis: RedisServer) -> None:
    program = """
import os, sys, threading, time
from session_worker import NotedTurn, until
from turns.shared_sessions import SharedSessions
sessions = SharedSessions(sys.argv[1], deadline_ms=500, late_ms=5000)
older, key = NotedTurn(), "a" * 64
sessions.enter(key, older, True, True)
until(lambda: all(one.is_placed for one in list(sessions._here.running)))
child = os.fork()
newer = NotedTurn()
if not child:
    sessions.enter(key, newer, True, True)
    assert newer.has_ended.wait(10) and len(sessions) == 0
    sessions.close()
    os._exit(0)
assert older.has_ended.wait(10)
sessions.enter(key, newer, True, True)
assert os.waitpid(child, 0)[1] == 0
assert not newer.ended_at and sessions.is_shared and len(sessions) == 1
sessions.close()
"""

    result = subprocess.run(
        [sys.executable, "-c", program, redis.url],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert result.returncode == 0, result.stderr


# what others send


def announcement(**changes: Any) -> bytes:
    said = {"key": f"{0:064x}", "worker": "0" * 16, "turn": 1, "supersedes": True, **changes}
    return repr(said).replace("'", '"').replace("True", "true").replace("None", "null").encode()


GARBAGE = [
    b"",
    b"\x00\xff\xfe",
    b"null",
    b"[]",
    b"{}",
    b'{"key":',
    b"\xed\xa0\x80",
    b"[" * 500,
    announcement(key=7),
    announcement(key="A" * 64),
    announcement(key="a" * 63),
    announcement(worker=None),
    announcement(turn="1"),
    announcement(turn=2**60),
    announcement(supersedes=1),
    announcement(more="x" * 500),
]


def test_what_is_no_announcement_is_not_heard(
    redis: RedisServer, share: Share, caplog: pytest.LogCaptureFixture
) -> None:
    here, there, key = share(redis.url), share(redis.url), f"{0:064x}"
    turn = NotedTurn()
    here.enter(key, turn, *BOTH)
    place(here, key)

    for data in GARBAGE:
        assert redis.command("PUBLISH", CHANNEL, data).startswith(b":")
    barrier(here, there)

    assert not turn.ended_at
    assert not caplog.records
    # and what does end it is the same without a fault in it
    redis.command("PUBLISH", CHANNEL, announcement())
    assert turn.has_ended.wait(5)


def test_a_turn_whose_end_fails_stops_no_other(
    redis: RedisServer, share: Share, caplog: pytest.LogCaptureFixture
) -> None:
    here, there, key = share(redis.url), share(redis.url), new_key()

    class Broken(NotedTurn):
        def supersede(self) -> None:
            super().supersede()
            raise RuntimeError("broken")

    broken = Broken()
    here.enter(key, broken, *BOTH)
    place(here, key)
    there.enter(key, NotedTurn(), *BOTH)
    barrier(here, there)

    assert broken.ended_at
    assert [record.getMessage() for record in caplog.records] == ["a message of another worker could not be acted on"]


def test_nothing_of_a_session_but_its_key_reaches_redis_and_nothing_is_stored(redis: RedisServer, share: Share) -> None:
    here = share(redis.url)
    chat = read_request(b'{"messages": [{"role": "user", "content": "Hello!"}], "session_id": "+49 151 canary"}')
    key = SessionKeys().key_of("chat", "sk-canary", chat, Headers(), Headers())
    assert key

    with socket.create_connection(("127.0.0.1", redis.port), timeout=5) as monitor:
        monitor.sendall(b"MONITOR\r\n")
        assert monitor.recv(5) == b"+OK\r\n"
        turn = NotedTurn()
        here.enter(key, turn, *BOTH)
        said = b""
        while key.encode() not in said or not said.endswith(b"\r\n"):
            said += monitor.recv(4096)

    assert b'"PUBLISH"' in said
    assert b"canary" not in said
    assert redis.command("DBSIZE") == b":0\r\n"


# when Redis is not there


@pytest.fixture
def frail(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that may be killed."""
    with redis_server(tmp_path) as server:
        yield server


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_calls_go_on_while_redis_is_killed_and_are_shared_again_when_it_is_back(
    frail: RedisServer, share: Share, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = share(frail.url), share(frail.url)
    before, during, local = new_key(), new_key(), new_key()
    turns = {key: NotedTurn() for key in (before, during, local)}
    here.enter(before, turns[before], *BOTH)
    place(here, before)

    frail.kill()
    until(lambda: not (here.is_shared or there.is_shared))
    here.enter(during, turns[during], *BOTH)
    for _ in range(50):
        here.enter(local, turns[local], *BOTH)
    here.enter(local, NotedTurn(), *BOTH)
    assert len(turns[local].ended_at) >= 1
    frail.start()
    until(lambda: here.is_shared and there.is_shared)
    place(here, during)
    for key in (before, during):
        there.enter(key, NotedTurn(), *BOTH)

    assert turns[before].has_ended.wait(5)
    assert turns[during].has_ended.wait(5)
    assert len(warnings_of(caplog)) == 2  # one for each of the two
    assert all("Redis can't be used (ConnectionError" in line for line in warnings_of(caplog))


def test_a_redis_that_comes_and_goes_does_not_fill_the_log(
    frail: RedisServer, share: Share, caplog: pytest.LogCaptureFixture
) -> None:
    here = share(frail.url)
    caplog.set_level(logging.INFO)

    frail.kill()
    frail.start()
    until(lambda: len(caplog.records) == 2)
    frail.kill()
    until(lambda: not here.is_shared)
    frail.start()
    until(lambda: here.is_shared)

    assert [(record.levelname, record.getMessage()[:15]) for record in caplog.records] == [
        ("WARNING", "Redis can't be "),
        ("INFO", "Redis is back; "),
    ]


def test_calls_go_on_while_redis_hangs(frail: RedisServer, share: Share, caplog: pytest.LogCaptureFixture) -> None:
    here, there = share(frail.url, deadline_ms=50), share(frail.url)
    key, older = new_key(), NotedTurn()
    there.enter(key, older, *BOTH)
    place(there, key)

    frail.hang()
    lasting, lasts = new_key(), NotedTurn()
    here.enter(lasting, lasts, *BOTH)
    began = time.monotonic()
    for number in range(500):
        turn = NotedTurn()
        here.enter(f"{number:064x}", turn, *BOTH)
        here.leave(f"{number:064x}", turn)
    took = time.monotonic() - began
    until(lambda: warnings_of(caplog))
    frail.go_on()
    place(here, lasting)
    here.enter(key, NotedTurn(), *BOTH)
    there.enter(lasting, NotedTurn(), *BOTH)

    assert took < 1
    assert older.has_ended.wait(5)
    assert lasts.has_ended.wait(5)
    assert keys_of(here) == {key}
    assert [line[:40] for line in warnings_of(caplog)] == ["Redis can't be used (TimeoutError: Timeo"]


def test_a_redis_that_was_never_there_is_logged_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sessions = SharedSessions(f"redis://:canary@127.0.0.1:{free_port()}")
    key, older, newer = new_key(), NotedTurn(), NotedTurn()

    sessions.enter(key, older, *BOTH)
    sessions.enter(key, newer, *BOTH)
    until(lambda: sessions.lost == 2)
    sessions.close()

    assert (len(older.ended_at), len(newer.ended_at)) == (1, 0)
    assert not sessions.is_shared
    [line] = warnings_of(caplog)
    assert "ConnectionError" in line
    assert "canary" not in line


def test_a_wrong_password_is_logged_without_it(frail: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    assert frail.command("CONFIG", "SET", "requirepass", "right") == b"+OK\r\n"
    sessions = SharedSessions(f"redis://:canary@127.0.0.1:{frail.port}", deadline_ms=500)

    sessions.start()
    until(lambda: warnings_of(caplog))
    sessions.close()

    [line] = warnings_of(caplog)
    assert "AuthenticationError" in line
    assert "canary" not in line


def test_the_right_password_is_enough(frail: RedisServer, share: Share) -> None:
    assert frail.command("CONFIG", "SET", "requirepass", "p@ss/word") == b"+OK\r\n"
    url = f"redis://:p%40ss%2Fword@localhost:{frail.port}/3"
    here, there, key, older = share(url), share(url), new_key(), NotedTurn()

    here.enter(key, older, *BOTH)
    place(here, key)
    there.enter(key, NotedTurn(), *BOTH)

    assert older.has_ended.wait(5)


def test_a_user_who_may_only_publish_and_subscribe_is_enough(frail: RedisServer, share: Share) -> None:
    rules = ["on", ">secret", "resetchannels", f"&{CHANNEL}", "-@all", "+publish", "+subscribe", "+ping"]
    assert frail.command("ACL", "SETUSER", "voice", *rules) == b"+OK\r\n"
    url = f"redis://voice:secret@127.0.0.1:{frail.port}"
    here, there, key, older = share(url), share(url), new_key(), NotedTurn()

    here.enter(key, older, *BOTH)
    place(here, key)
    there.enter(key, NotedTurn(), *BOTH)

    assert older.has_ended.wait(5)


def test_a_turn_that_entered_while_nobody_listened_gets_its_place_later(frail: RedisServer, share: Share) -> None:
    here, there, key, turn = share(frail.url), share(frail.url), new_key(), NotedTurn()

    assert frail.command("CLIENT", "KILL", "TYPE", "pubsub") == b":2\r\n"
    until(lambda: not here.is_shared)
    here.enter(key, turn, *BOTH)
    until(lambda: here.is_shared and there.is_shared)
    place(here, key)
    there.enter(key, NotedTurn(), *BOTH)

    assert turn.has_ended.wait(5)


class Words:
    """A letter with always the same words."""

    def __init__(self, words: bytes) -> None:
        self._words = words

    def text(self, is_late: bool) -> bytes:
        return self._words + (b" late" if is_late else b"")


def test_letters_that_were_refused_are_sent_again_as_late_ones(
    frail: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert frail.command("ACL", "SETUSER", "voice", "on", ">secret", "allchannels", "+@all", "-publish") == b"+OK\r\n"
    heard: list[bytes] = []
    connection = connections_to(f"redis://voice:secret@127.0.0.1:{frail.port}", deadline_ms=500)
    channel = RedisChannel(connection, "c", heard.append, lambda: None, late_ms=60_000)

    channel.send(Words(b"one"))
    until(lambda: warnings_of(caplog))
    assert frail.command("ACL", "SETUSER", "voice", "+publish") == b"+OK\r\n"
    channel.send(Words(b"two"))
    until(lambda: len(heard) == 2)
    channel.close()

    assert heard == [b"one late", b"two"]
    assert channel.lost == 1
    assert "NoPermissionError" in warnings_of(caplog)[0]


def test_of_too_many_letters_the_oldest_are_dropped_and_counted() -> None:
    connection = connections_to(f"redis://127.0.0.1:{free_port()}", deadline_ms=50)
    channel = RedisChannel(connection, "c", print, print, late_ms=60_000, limit=10)

    for number in range(100):
        channel.send(Words(b"%d" % number))
    kept = len(channel._letters)
    channel.close()

    assert kept <= 10
    assert channel.lost >= 90


def test_all_letters_are_heard_in_the_order_in_which_they_were_sent(redis: RedisServer) -> None:
    heard: list[bytes] = []
    joined = threading.Event()
    channel = RedisChannel(connections_to(redis.url, deadline_ms=500), "c", heard.append, joined.set, late_ms=5000)
    words = [b"%d" % number for number in range(900)]

    for word in words:
        channel.send(Words(word))
    until(lambda: len(heard) == len(words))
    channel.close()

    assert joined.is_set()
    assert heard == words


def test_a_connection_that_was_closed_while_idle_loses_no_letter(redis: RedisServer) -> None:
    heard: list[bytes] = []
    channel = RedisChannel(connections_to(redis.url, 500), "c", heard.append, lambda: None, late_ms=5000)
    channel.send(Words(b"one"))
    until(lambda: heard == [b"one"])

    assert redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").startswith(b":")
    channel.send(Words(b"two"))
    until(lambda: heard == [b"one", b"two"])
    channel.close()

    assert channel.lost == 0


def test_closing_ends_the_threads_and_the_connections(redis: RedisServer) -> None:
    before = threading.active_count()
    sessions = SharedSessions(redis.url, **PATIENT)
    sessions.start()
    until(lambda: sessions.is_shared)

    sessions.close()
    sessions.close()

    assert threading.active_count() == before
    assert not sessions.is_shared


# the URL


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost:6379/0",
        "redis://user:p%40ss@10.0.0.7:6380/3",
        "redis://[::1]:6379",
        "rediss://cache.example.com:6380",
        "rediss://cache.example.com?ssl_ca_certs=/etc/ca.pem&ssl_check_hostname=true",
        "unix:///run/redis.sock",
        "unix://user:pass@/run/redis.sock",
    ],
)
def test_a_good_url_is_taken(url: str) -> None:
    assert check_redis_url(url) == url
    assert callable(connections_to(url, deadline_ms=50))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "must be a redis://"),
        ("localhost:6379", "must be a redis://"),
        ("http://:canary@localhost", "must be a redis://"),
        ("redis://", "must name a host"),
        ("redis://:canary@", "must name a host"),
        ("redis://:canary#1@localhost", "must have a port"),
        ("redis://:can/ary@localhost", "must have a port"),
        ("redis://localhost:0", "must have a port"),
        ("redis://localhost:65536", "must have a port"),
        ("redis://:canary@local\u2100host", "must have a port"),
        ("redis://:canary@[::1", "must have a port"),
        ("redis://:canary@localhost/db", "a database's number"),
        ("redis://localhost?socket_timeout=9", "no options but ssl_"),
        ("redis://localhost?ssl_cert_reqs=none", "no options but ssl_"),
        ("rediss://localhost?protocol=3", "no options but ssl_"),
        ("unix://", "must name a socket"),
        ("unix://run/redis.sock", "must name a socket"),
        ("rediss://:canary@localhost?ssl_bogus=1", "has an ssl_"),
    ],
)
def test_a_bad_url_is_refused_in_a_sentence_without_its_password(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        SharedSessions(url)

    assert "canary" not in str(caught.value)
