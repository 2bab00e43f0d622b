"""What is counted of requests, by two workers, as Prometheus reads it."""

import http.client
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from running_server import FLASK, GUNICORN, KEY, Answer, RunningServer, free_port, running_server, turn
from scripted_upstream import BEGUN, REST, ScriptedUpstream, answer, reply, scripted_upstream
from stream_rules import read_failure, read_good_stream

from turns.counts import Counts, forget
from turns.metrics import Metrics
from turns.record import Record

METRICS_KEY = "metrics-canary"
CHAT = ("requests_total", "/chat/completions", "ok")
Samples = dict[tuple[str, ...], float]


@pytest.fixture(scope="module")
def own_upstream() -> Iterator[ScriptedUpstream]:
    with scripted_upstream() as upstream:
        yield upstream


@contextmanager
def counting(upstream: ScriptedUpstream, *command: str, **settings: Any) -> Iterator[RunningServer]:
    """Run a server of two workers that counts, for whoever has the key."""
    limits = {"FIRST_TOKEN_S": "0.8", "STALL_S": "0.8", "WEB_CONCURRENCY": 2}
    given = {"LLM_BASE_URL": upstream.url, "LLM_API_KEY": KEY, "METRICS_KEY": METRICS_KEY, **limits, **settings}
    with running_server(*command, **given) as server:
        yield server


@pytest.fixture(scope="module")
def counted(own_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    with counting(own_upstream, METRICS_PORT=free_port(), AUDIO_LEAD_MS=0) as server:
        yield server


@pytest.fixture(scope="module")
def restless(own_upstream: ScriptedUpstream) -> Iterator[RunningServer]:
    """A server whose workers come and go."""
    with counting(own_upstream) as server:
        yield server


def scrape(server: RunningServer, key: str = METRICS_KEY) -> Answer:
    return server.get("/metrics", {"Authorization": f"Bearer {key}"})


def beside(server: RunningServer, path: str, body: bytes | None = None) -> Answer:
    """Send a request to the port of the counts, without a key."""
    connection = http.client.HTTPConnection("127.0.0.1", int(server.environment["METRICS_PORT"]), timeout=20)
    try:
        connection.request("POST" if body else "GET", path, body)
        response = connection.getresponse()
        return Answer(response, response.read(), cut=False)
    finally:
        connection.close()


def read_samples(page: str) -> Samples:
    """Return the samples of a page by name and labels' values, its names without what all of them begin with."""
    found: Samples = {}
    for family in text_string_to_metric_families(page):
        assert family.name.startswith("custom_llm_") and family.documentation
        for sample in family.samples:
            name = (sample.name.removeprefix("custom_llm_"), *sample.labels.values())
            assert name not in found
            found[name] = sample.value
    return found


def samples(server: RunningServer) -> Samples:
    return read_samples(scrape(server).body.decode())


def grown(server: RunningServer, before: Samples, name: tuple[str, ...], by: float) -> Samples:
    """Return the samples when this one has grown: a request is counted just after its last byte."""
    end = time.monotonic() + 5
    while (now := samples(server)).get(name, 0) < before.get(name, 0) + by:
        assert time.monotonic() < end, (name, now.get(name))
        time.sleep(0.01)
    return now


def until(server: RunningServer, name: tuple[str, ...], value: float) -> None:
    """Wait until a sample has this value."""
    end = time.monotonic() + 5
    while samples(server).get(name) != value:
        assert time.monotonic() < end, (name, samples(server).get(name))
        time.sleep(0.01)


def difference(before: Samples, after: Samples) -> Samples:
    return {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}


def workers_of(server: RunningServer) -> set[int]:
    """Return the workers' process ids."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return {pid for pid in map(int, children.split()) if b"gunicorn" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def test_known_traffic_is_counted_once_whichever_worker_it_meets(
    counted: RunningServer, own_upstream: ScriptedUpstream
) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    own_upstream.say(answer("Hello", " there. ", "And", usage=usage))
    before = samples(counted)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: counted.ask(), range(40)))

    new = difference(before, grown(counted, before, CHAT, 40))
    assert all(read_good_stream(each).text == "Hello there. And" for each in answers)
    assert new[CHAT] == 40
    assert new["tokens_total",] == 200
    assert new["chunks_total",] == sum(len(each.chunks) for each in answers)
    for name in ("llm_ttfb_seconds", "llm_ttfs_seconds", "overhead_seconds"):
        assert new[f"{name}_count",] == new[f"{name}_bucket", "+Inf"] == 40
    assert 0 < new["llm_ttfb_seconds_sum",] <= new["llm_ttfs_seconds_sum",]
    assert ("first_audio_seconds_count",) not in new
    assert ("retries_total",) not in new


OUTCOMES: dict[str, Any] = {
    "empty": turn(messages=[{"role": "user", "content": ""}]),
    "caller_bad_request": b"{",
    "upstream_status": [reply(400, {"error": {"message": "no"}})],
    "upstream_broken": [[BEGUN[:-5], "close"]],
    "upstream_timeout": [[BEGUN, "hold"]],
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_each_way_to_end_is_counted_as_what_it_was(
    counted: RunningServer, own_upstream: ScriptedUpstream, outcome: str
) -> None:
    made_by = OUTCOMES[outcome]
    own_upstream.say(*(made_by if isinstance(made_by, list) else [answer("Hello.")]))
    before = samples(counted)

    counted.ask(None if isinstance(made_by, list) else made_by)

    name = ("requests_total", "/chat/completions", outcome)
    new = difference(before, grown(counted, before, name, 1))
    assert {key for key in new if key[0] == "requests_total" and key[1] == "/chat/completions"} == {name}
    assert new[name] == 1


def test_a_key_that_is_wrong_is_counted_as_that(counted: RunningServer) -> None:
    before = samples(counted)

    refused = counted.ask(headers={"Authorization": "Bearer wrong"})

    assert refused.status == 401
    grown(counted, before, ("requests_total", "/chat/completions", "caller_unauthorized"), 1)


def test_a_second_try_and_the_late_answer_to_it_are_counted(
    counted: RunningServer, own_upstream: ScriptedUpstream
) -> None:
    own_upstream.say(reply(503, {}), answer("Hello."))
    before = samples(counted)

    assert read_good_stream(counted.ask()).text == "Hello."

    new = difference(before, grown(counted, before, CHAT, 1))
    assert new["retries_total",] == 1
    assert new["overhead_seconds_sum",] < new["llm_ttfb_seconds_sum",]


def test_open_streams_are_those_of_all_workers_and_come_back_to_none(
    counted: RunningServer, own_upstream: ScriptedUpstream
) -> None:
    own_upstream.say([BEGUN, "hold"])
    gone = ("requests_total", "/chat/completions", "caller_hangup")
    before = samples(counted)

    calls = [counted.open() for _ in range(12)]
    for call in calls:
        assert b"Hello" in call.recv(65536)

    assert samples(counted)["open_streams",] == 12
    for call in calls:
        call.close()
    assert grown(counted, before, gone, 12)[gone] == before.get(gone, 0) + 12
    until(counted, ("open_streams",), 0)


def test_what_documents_and_voices_take_is_counted(counted: RunningServer, own_upstream: ScriptedUpstream) -> None:
    own_upstream.say(answer("It is open from nine to five. ", "Come and see."))
    before = samples(counted)

    counted.ask(turn(messages=[{"role": "user", "content": "When do you open?"}]), "/rag/audio/chat/completions")

    rule = ("requests_total", "/rag/audio/chat/completions", "ok")
    new = difference(before, grown(counted, before, rule, 1))
    for name in ("knowledge_seconds", "synthesis_seconds", "first_audio_seconds"):
        assert new[f"{name}_count",] == 1
        assert new[f"{name}_sum",] > 0


def test_labels_stay_the_same_whatever_callers_send(counted: RunningServer, own_upstream: ScriptedUpstream) -> None:
    own_upstream.say(answer("Hello."))
    unknown = ("requests_total", "unknown", "caller_bad_request")
    before = samples(counted)

    for number in range(30):
        counted.get(f"/garbage-{number}")
        counted.ask(turn(model=f'garbage-{number}"}} 1\n'), headers={"X-Request-Id": f"garbage-{number}"})
    with counted.open(b"") as sock:
        sock.sendall(b"garbage-99\r\n\r\n")

    after = grown(counted, before, unknown, 30)
    assert "garbage" not in scrape(counted).body.decode()
    assert len(after) <= len(before) + 4


def test_only_the_key_to_the_counts_opens_them(counted: RunningServer) -> None:
    for wrong in (KEY, "", METRICS_KEY[:-1]):
        refused = scrape(counted, wrong)

        assert refused.status == 401
        assert read_failure(refused)["code"] == "invalid_api_key"
    assert scrape(counted).headers.get_content_type() == "text/plain"
    assert counted.ask(headers={"Authorization": f"Bearer {METRICS_KEY}"}).status == 401


def test_without_a_key_nothing_is_shown_and_nothing_is_written(server: RunningServer) -> None:
    assert read_failure(server.get("/metrics"))["code"] == "not_found"
    assert server.get("/metrics", {"Authorization": ""}).status == 404
    for pid in workers_of(server):
        assert not [name for name in Path(f"/proc/{pid}/fd").iterdir() if ".counts" in os.readlink(name)]
        assert "custom-llm-server-counts" not in Path(f"/proc/{pid}/maps").read_text()


def test_a_port_of_this_machine_shows_the_counts_and_nothing_else(counted: RunningServer) -> None:
    page = beside(counted, "/metrics")
    elsewhere = beside(counted, "/health")

    assert read_samples(page.body.decode()).keys() == samples(counted).keys()
    assert b"open_streams" in elsewhere.body
    assert beside(counted, "/chat/completions", b"{}").status == 405


def test_the_development_server_counts_too_and_tells_only_at_its_port(own_upstream: ScriptedUpstream) -> None:
    own_upstream.say(answer("Hello."))
    with counting(own_upstream, *FLASK, METRICS_PORT=free_port(), METRICS_KEY="") as server:
        assert read_good_stream(server.ask()).text == "Hello."

        end = time.monotonic() + 5
        while not (shown := read_samples(beside(server, "/metrics").body.decode())).get(CHAT):
            assert time.monotonic() < end
        assert shown[CHAT] == 1
        assert shown["open_streams",] == 0
        assert scrape(server, "").status == 404


def test_a_worker_that_is_killed_breaks_and_doubles_nothing(
    restless: RunningServer, own_upstream: ScriptedUpstream
) -> None:
    own_upstream.say(answer("Hello."))
    before = samples(restless)
    for _ in range(10):
        restless.ask()
    grown(restless, before, CHAT, 10)
    own_upstream.say([BEGUN, "hold"])
    calls = [restless.open() for _ in range(16)]
    for call in calls:
        assert b"Hello" in call.recv(65536)

    for pid in workers_of(restless):
        os.kill(pid, signal.SIGKILL)
    restless.wait_until_ready()

    until(restless, ("open_streams",), 0)
    own_upstream.say(answer("Hello."))
    for _ in range(10):
        restless.ask()
    assert difference(before, grown(restless, before, CHAT, 20))[CHAT] == 20
    for call in calls:
        call.close()


def test_a_reload_keeps_the_counts_and_an_end_leaves_nothing_behind(
    restless: RunningServer, own_upstream: ScriptedUpstream
) -> None:
    own_upstream.say([BEGUN, 0.5, REST])
    before = samples(restless)
    old = workers_of(restless)
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(restless.ask) for _ in range(4)]
        own_upstream.wait_for(4)

        restless.process.send_signal(signal.SIGHUP)

        assert all(read_good_stream(each.result()).text == "Hello" for each in running)
    end = time.monotonic() + 20
    while workers_of(restless) & old:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert difference(before, grown(restless, before, CHAT, 4))[CHAT] == 4
    until(restless, ("open_streams",), 0)
    folder = Path(restless.environment["TMPDIR"])
    assert list(folder.glob("custom-llm-server-counts-*/*.counts"))
    restless.stop()
    assert not list(folder.glob("custom-llm-server-counts-*"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"GUNICORN_CMD_ARGS": "--bind 127.0.0.1:0"}, "--bind takes the place of METRICS_PORT"),
        ({"METRICS_PORT": "taken"}, "set METRICS_PORT"),
    ],
)
def test_a_port_that_can_not_be_served_is_told_at_the_start(
    own_upstream: ScriptedUpstream, settings: dict[str, Any], said: str
) -> None:
    port = own_upstream.port if settings.get("METRICS_PORT") else free_port()
    server = RunningServer(GUNICORN, {"LLM_BASE_URL": own_upstream.url, **settings, "METRICS_PORT": port})
    try:
        server.process.wait(20)

        assert said in server.log
        assert "Traceback" not in server.log
    finally:
        server.kill()


def test_counting_a_request_takes_no_time_to_speak_of(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.begin({"/chat/completions"})
    record = Record("/chat/completions", "id", metrics.count)
    record.waited_s, record.is_streamed, record.chunks, record.tokens = 0.0, True, 20, 30
    record.first_byte = record.first_sentence = record.first_audio = record.began
    record.synthesis_s, record.knowledge_ms, record.tool_calls = 0.1, 2.0, 1
    began = time.process_time()

    for _ in range(1000):
        metrics.note_open(1)
        metrics.count(record)
        metrics.note_open(-1)

    assert (time.process_time() - began) / 1000 < 0.000050 * 2


def test_a_server_that_counts_answers_as_many_requests(
    counted: RunningServer, own_upstream: ScriptedUpstream, server: RunningServer, upstream: ScriptedUpstream
) -> None:
    own_upstream.say(answer("Hello", " there."))

    def seconds(asked: RunningServer) -> float:
        began = time.monotonic()
        for _ in range(50):
            assert asked.ask().status == 200
        return time.monotonic() - began

    assert seconds(counted) < 10 * seconds(server)


def test_what_a_process_has_counted_outlives_it_and_what_was_there_does_not(tmp_path: Path) -> None:
    names = [("now",), ("ever", "a"), ("ever", "b")]
    first, second = Counts(names, tmp_path), Counts([("now",), ("other",)], tmp_path)
    first.numbers[0], first.numbers[1], second.numbers[1] = 3, 5, 7

    forget(tmp_path, os.getpid())

    assert Counter(first.total()) == Counter({("ever", "a"): 5, ("other",): 7})
