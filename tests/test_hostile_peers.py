"""Peers that are slow, silent, greedy or many: they get their time, and nobody else waits for them."""

import json
import re
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hostile import TURN, post, said
from running_server import GUNICORN, KEY, RunningServer, read_until, running_server, turn
from scripted_upstream import BEGUN, COMPLETION, REST, Asked, ScriptedUpstream, Step, again, chunk, event, framed, reply
from stream_rules import read_error

HEAD_S, BODY_S, IDLE_S, WRITE_S = 1.0, 4.0, 2, 1.0
LIMIT_S = 0.1
"""Ten times the 10 ms by which one caller may delay another; on a busy machine more, by what a quiet server takes."""
_SENT = re.compile(rb"at ([0-9.]+) ")
HEALTH = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.fixture(scope="module")
def quick(_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server that waits for nobody longer than a test may."""
    command = (*GUNICORN, "--keep-alive", str(IDLE_S))
    settings: dict[str, Any] = {"LLM_BASE_URL": _upstream.url, "LLM_API_KEY": KEY, "WRITE_S": WRITE_S}
    settings |= {"HEAD_S": HEAD_S, "BODY_S": BODY_S}
    with running_server(*command, **settings) as running:
        yield running


def connect(server: RunningServer) -> socket.socket:
    """Open a connection."""
    return socket.create_connection(("127.0.0.1", server.port), 10)


def connect_deaf(server: RunningServer) -> socket.socket:
    """Open a connection on which hardly anything can wait to be read, so that one who does not read soon tells."""
    peer = socket.socket()
    # with small segments, the sender's system keeps little as well
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.settimeout(10)
    peer.connect(("127.0.0.1", server.port))
    return peer


def read_all(peer: socket.socket) -> bytes:
    """Read until the connection is closed."""
    got = b""
    with suppress(ConnectionResetError):
        while data := peer.recv(65536):
            got += data
    return got


def worker_of(server: RunningServer) -> int:
    """Return the process of the one worker."""
    pid = server.process.pid
    (worker,) = [
        int(child)
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if b"wsgi:app" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return worker


def memory_of(pid: int) -> int:
    """Return the bytes of memory that a process has at most had at a time."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


# a head or a body that drips

DRIPS = {
    "a head": (b"", b"GET /health HTTP/1.1\r\nX-A: " + b"a" * 1000, HEAD_S),
    "empty lines": (b"", b"\r\n" + b"GET /" + b"a" * 1000, HEAD_S),
    "a body": (post("Content-Length: 1000"), b" " * 1000, BODY_S),
    "chunks": (post("Transfer-Encoding: chunked"), b"1\r\na\r\n" * 200, BODY_S),
    "a chunk's size": (post("Transfer-Encoding: chunked"), b"0" * 1000, BODY_S),
    "trailers": (post("Transfer-Encoding: chunked", body=b"0\r\n"), b"X-A: 1\r\n" * 100, BODY_S),
}


@pytest.fixture(scope="module")
def dripped(quick: RunningServer) -> dict[str, tuple[bytes, float]]:
    """What each of these got, and after how many seconds."""

    def drip(at_once: bytes, dripping: bytes) -> tuple[bytes, float]:
        with connect(quick) as peer:
            peer.sendall(at_once)
            peer.settimeout(0.02)
            began = time.monotonic()
            for byte in dripping:
                peer.sendall(bytes([byte]))
                with suppress(TimeoutError):
                    return peer.recv(65536), time.monotonic() - began
        return b"", time.monotonic() - began

    with ThreadPoolExecutor(len(DRIPS)) as pool:
        got = pool.map(lambda dripping: drip(*dripping[:2]), DRIPS.values())
        return dict(zip(DRIPS, got, strict=True))


@pytest.mark.parametrize("name", DRIPS)
def test_what_drips_byte_by_byte_is_given_up_in_time(
    quick: RunningServer, dripped: dict[str, tuple[bytes, float]], name: str
) -> None:
    (got, seconds), limit_s = dripped[name], DRIPS[name][2]

    assert got.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nConnection: close\r\n" in got
    assert read_error(json.loads(got.partition(b"\r\n\r\n")[2]))["code"] == "request_timeout"
    assert limit_s - 0.1 < seconds < limit_s + 1
    request_id = got.partition(b"X-Request-Id: ")[2].partition(b"\r\n")[0].decode()
    assert "outcome=caller_too_slow" in quick.wait_for_log(f"id={request_id} ")


def test_a_head_and_a_body_that_come_in_pieces_in_time_are_served(
    quick: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say(reply(200, COMPLETION))
    whole = said(TURN)

    with connect(quick) as peer:
        for start in range(0, len(whole), 20):
            peer.sendall(whole[start : start + 20])
            time.sleep(0.01)
        got = read_all(peer)

    assert got.startswith(b"HTTP/1.1 200 ")


def test_each_request_of_a_connection_has_its_own_time(quick: RunningServer) -> None:
    with connect(quick) as peer:
        for _ in range(3):
            peer.sendall(HEALTH[:20])
            time.sleep(HEAD_S * 0.4)
            peer.sendall(HEALTH[20:])
            read_until(peer, b'{"status":"ok"}')


# connections that are idle

IDLE = 1500


def test_idle_connections_in_thousands_hold_nobody_up_and_are_closed(quick: RunningServer) -> None:
    with ExitStack() as stack:
        began = time.monotonic()
        idle = [stack.enter_context(connect(quick)) for _ in range(IDLE)]
        opened = time.monotonic()

        assert quick.get("/health").status == 200
        served_s = time.monotonic() - opened

        assert {peer.recv(1) for peer in idle} == {b""}
        closed_s = time.monotonic() - began

    assert served_s < 1.5
    assert IDLE_S - 0.1 < closed_s < IDLE_S + 5


def test_idle_connections_give_way_where_there_is_no_room(_upstream: ScriptedUpstream) -> None:
    with running_server(MAX_CONNECTIONS=10) as server, ExitStack() as stack:
        idle = [stack.enter_context(connect(server)) for _ in range(30)]
        used = idle[-1]
        used.sendall(HEALTH)
        read_until(used, b'{"status":"ok"}')
        began = time.monotonic()

        for _ in range(10):
            assert server.get("/health").status == 200

        assert time.monotonic() - began < 2
        assert idle[0].recv(1) == b""


# callers who do not read

DEAF = 50
MUCH = framed(event(chunk({"content": "x" * 8000})) * 8)


def test_callers_who_do_not_read_harm_no_other(
    quick: RunningServer, server: RunningServer, upstream: ScriptedUpstream
) -> None:
    # much, but no more than could be passed on to callers who read
    upstream.judge = lambda asked: [BEGUN, *again(400, 0.02, MUCH)] if asked.body["model"] == "much" else None
    before = memory_of(worker_of(quick))
    times: dict[RunningServer, list[float]] = {quick: [], server: []}

    with ExitStack() as stack:
        for _ in range(DEAF):
            peer = stack.enter_context(connect_deaf(quick))
            peer.sendall(said(json.dumps(turn(model="much")).encode()))
        upstream.wait_for(DEAF)
        given_up = 0
        while given_up < DEAF:
            for each in times:
                sent = time.monotonic()
                assert each.ask().text == "Hello there."
                times[each].append(time.monotonic() - sent)
            given_up = sum(asked.dropped_at is not None for asked in list(upstream.asked))
            assert sum(times[quick]) < 20

    assert statistics.median(times[quick]) < LIMIT_S + 10 * statistics.median(times[server])
    assert memory_of(worker_of(quick)) - before < DEAF * 1024 * 1024


def test_a_caller_who_asks_on_and_on_and_reads_nothing_is_given_up(quick: RunningServer) -> None:
    with connect_deaf(quick) as peer:
        peer.settimeout(20)

        with pytest.raises(ConnectionError):
            while True:
                peer.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\n\r\n" % KEY.encode() * 1000)


# half-closed connections


def test_a_turn_whose_caller_closes_its_half_is_a_hang_up(quick: RunningServer, upstream: ScriptedUpstream) -> None:
    upstream.say([BEGUN, "hold"])

    with quick.open(headers={"X-Request-Id": "half-closed"}) as peer:
        read_until(peer, b"Hello")
        peer.shutdown(socket.SHUT_WR)
        rest = read_all(peer)

    upstream.wait_for_drop(upstream.wait_for(1))
    assert b"[DONE]" not in rest
    assert "outcome=caller_hangup" in quick.wait_for_log("id=half-closed ")


def test_what_needs_no_turn_is_answered_to_a_half_closed_connection(quick: RunningServer) -> None:
    with connect(quick) as peer:
        peer.sendall(HEALTH)
        peer.shutdown(socket.SHUT_WR)

        assert read_all(peer).endswith(b'{"status":"ok"}\n')


# bodies that are too large


@pytest.mark.parametrize("framing", ["a length", "chunks", "a length, of a caller without a key"])
def test_a_body_of_100_mb_is_refused_early_and_kept_nowhere(quick: RunningServer, framing: str) -> None:
    size, block = 100 * 1024 * 1024, b" " * 0x10000
    head = post("Transfer-Encoding: chunked") if framing == "chunks" else post(f"Content-Length: {size}")
    if "without" in framing:
        head = head.replace(KEY.encode(), b"none")
    piece = b"10000\r\n" + block + b"\r\n" if framing == "chunks" else block
    before = memory_of(worker_of(quick))
    sent = 0

    with connect(quick) as peer:
        peer.sendall(head)
        with suppress(ConnectionError):
            for _ in range(size // len(block)):
                peer.sendall(piece)
                sent += len(piece)
        got = read_all(peer)

    assert sent < size / 2
    assert memory_of(worker_of(quick)) - before < 40 * 1024 * 1024
    assert not got or got.startswith(b"HTTP/1.1 401 " if "without" in framing else b"HTTP/1.1 413 ")
    assert quick.get("/health").status == 200


def test_a_refusal_reaches_a_caller_who_sends_all_before_reading(quick: RunningServer) -> None:
    got = quick.ask(b" " * 12_000_000)

    assert got.status == 413
    assert got.headers["Connection"] == "close"
    assert read_error(got.json)["code"] == "request_entity_too_large"


def test_a_small_body_that_nobody_wanted_does_not_cost_the_connection(quick: RunningServer) -> None:
    unwanted = b"POST /models HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n" + b"123456789"

    with connect(quick) as peer:
        peer.sendall(unwanted)
        read_until(peer, b"invalid_api_key")
        peer.sendall(HEALTH)
        read_until(peer, b'{"status":"ok"}')


def test_leave_to_send_a_body_is_given_only_where_it_is_wanted(
    quick: RunningServer, upstream: ScriptedUpstream
) -> None:
    upstream.say(reply(200, COMPLETION))

    with connect(quick) as peer:
        peer.sendall(post(f"Content-Length: {len(TURN)}", "Expect: 100-continue"))
        leave = read_until(peer, b"\r\n\r\n")
        peer.sendall(TURN)
        wanted = read_all(peer)
    with connect(quick) as peer:
        peer.sendall(post("Content-Length: 104857600", "Expect: 100-continue"))
        unwanted = read_all(peer)

    assert leave == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert wanted.startswith(b"HTTP/1.1 200 ")
    assert unwanted.startswith(b"HTTP/1.1 413 ")


# fairness

PACE_S = 0.02
STREAMS = 20
CHUNKS = 50


def drip_10_mb(server: RunningServer, is_over: threading.Event) -> None:
    """Send a large request slowly."""
    with connect(server) as peer, suppress(ConnectionError):
        peer.sendall(post("Content-Length: 10000000"))
        while not is_over.wait(0.005):
            peer.sendall(b" " * 20_000)


def read_nothing(server: RunningServer, is_over: threading.Event) -> None:
    """Ask for much and read nothing."""
    while not is_over.is_set():
        with connect_deaf(server) as peer:
            peer.sendall(said(json.dumps(turn(model="much")).encode()))
            is_over.wait(WRITE_S)


def ask_for_a_broken_stream(server: RunningServer, is_over: threading.Event) -> None:
    """Ask for one stream after another that is cut."""
    while not is_over.wait(PACE_S):
        server.ask(turn(model="broken"))


def send_chunks_of_one_byte(server: RunningServer, is_over: threading.Event) -> None:
    """Send as many chunks as can be sent."""
    while not is_over.is_set():
        with connect(server) as peer, suppress(ConnectionError):
            peer.sendall(post("Transfer-Encoding: chunked"))
            while not is_over.is_set():
                peer.sendall(b"1\r\n \r\n" * 10_000)


def ask_on_and_on(server: RunningServer, is_over: threading.Event) -> None:
    """Ask faster than can be answered, and read what comes."""
    said = b'{"status":"ok"}'
    asked, got = 0, b""
    with connect(server) as peer:
        while not is_over.is_set():
            # a hundred and more lie there always
            peer.sendall(HEALTH * 100)
            asked += 100
            while asked > 100:
                got += peer.recv(65536)
                asked -= got.count(said)
                got = got[got.rfind(said) + len(said) :] if said in got else got


TROUBLE: dict[str, list[Callable[[RunningServer, threading.Event], None]]] = {
    "a slow request of 10 MB, a caller who does not read, a broken stream": [
        drip_10_mb,
        read_nothing,
        ask_for_a_broken_stream,
    ],
    "requests without a pause": [ask_on_and_on],
    "chunks of one byte": [send_chunks_of_one_byte],
}


@contextmanager
def trouble(server: RunningServer, name: str) -> Iterator[None]:
    """Have these callers about."""
    is_over = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(make, server, is_over) for make in TROUBLE[name]]
        try:
            time.sleep(0.1)
            yield
        finally:
            is_over.set()
            for each in done:
                each.result()


def paced() -> Iterator[Step]:
    """Script a stream whose chunks say when they were sent."""
    yield BEGUN
    for _ in range(CHUNKS):
        yield PACE_S
        yield framed(event(chunk({"content": f"at {time.monotonic()} "})))
    yield REST


def delays(server: RunningServer) -> list[float]:
    """Return how many seconds each chunk of a stream was under way."""
    times: list[float] = []
    got = b""
    with server.open(turn(model="paced")) as peer:
        while b"[DONE]" not in got:
            data = peer.recv(65536)
            now = time.monotonic()
            assert data, got
            got += data
            times += [now - float(sent) for sent in _SENT.findall(got)[len(times) :]]
    return times


def script_of(asked: Asked) -> Any:
    """Return what the upstream says to each kind of caller."""
    scripts = {"much": [BEGUN, *again(4000, MUCH)], "broken": [BEGUN, "reset"], "paced": paced()}
    return scripts[asked.body["model"]]


@pytest.mark.alone
@pytest.mark.parametrize("name", TROUBLE)
def test_one_callers_trouble_delays_no_other(
    quick: RunningServer, server: RunningServer, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.judge = script_of
    callers = [quick, server] * STREAMS

    with trouble(quick, name), ThreadPoolExecutor(len(callers)) as pool:
        late = list(pool.map(delays, callers))

    disturbed, undisturbed = (sorted(chain(*late[number::2])) for number in (0, 1))
    p99 = int(STREAMS * CHUNKS * 0.99)
    assert len(disturbed) == len(undisturbed) == STREAMS * CHUNKS
    assert disturbed[p99] < LIMIT_S + 10 * undisturbed[p99]
