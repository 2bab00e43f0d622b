"""The benchmarks measure: what they count is checked here against streams whose figures are known."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import processes
from benchmarks.answers import Answer, Tally
from benchmarks.client import Load
from benchmarks.endpoints import Endpoint
from benchmarks.framing import Broken
from benchmarks.hangups import Mock, measure_hang_ups
from benchmarks.measurements import Measurement, Meter
from benchmarks.models import read_model
from benchmarks.reports import Result, format_report
from benchmarks.scenarios import HangUpScenario, Scenario
from benchmarks.servers import serve_mock

RELAY = Path(__file__).resolve().parent.parent / "benchmarks" / "relay.py"
FIGURES = ("delivered / due", "TTFT p50, ms", "transit p50, ms")
SECOND = Scenario("T", "5 streams for a second", 10, 20, 5, 0, 0.2, 1, FIGURES)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
ONE = b'data: {"choices":[{"delta":{"content":"@@0:1@@"}}]}\n\n'
TWO = b'data: {"choices":[{"delta":{"content":"@@1:1@@"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve_mock(tmp_path_factory.mktemp("upstream"), None) as url:
        yield url


@pytest.fixture
def endpoint(upstream: str) -> Endpoint:
    return Endpoint.resolve(upstream + "/chat/completions", "a-key")


@pytest.fixture
def scripted() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def run(endpoint: Endpoint, scenario: Scenario) -> Measurement:
    return Load(endpoint, scenario).run(Meter(None, None))


def answer_once(listener: socket.socket, response: bytes) -> None:
    """Answer each connection's first request with `response` and close, until the listener is shut."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(65536)
            connection.sendall(response)


def stream(model: str) -> bytes:
    """Return a whole answer of the mock's, as one piece."""
    said = read_model(model)
    return b"".join([*said.opening, *(said.chunk(number) for number in range(said.chunks)), *said.ending])


def read(response: bytes, chunks: int | None = 2) -> Tally:
    """Read a response that ends with the connection; Broken if it is not what it must be."""
    tally = Tally()
    answer = Answer(tally, asked=0, chunks=chunks)
    if not answer.feed(response, 5):
        answer.close(6)
    return tally


def test_a_paced_stream_is_delivered_whole_and_on_time(endpoint: Endpoint) -> None:
    measurement = run(endpoint, SECOND)

    figures = measurement.figures()
    assert not measurement.tally.failures
    assert measurement.tally.completed >= 15
    assert 0.9 < figures["delivered / due"] < 1.1
    assert 0 < figures["TTFT p50, ms"] < 50
    assert 0 < figures["transit p50, ms"] < 50


@pytest.mark.parametrize("options", ["-close", "-crlf", "-usage", "-ttft50"])
def test_every_variant_of_the_mocks_streams_passes_the_checks(endpoint: Endpoint, options: str) -> None:
    scenario = replace(SECOND, other_model=f"bench-10x2ms{options}", interval_ms=2, warm_s=0, seconds=0.3)

    measurement = run(endpoint, scenario)

    assert not measurement.tally.failures
    assert measurement.tally.completed >= 5


def test_a_plain_answer_is_counted_as_a_request(endpoint: Endpoint) -> None:
    scenario = Scenario("T", "", 1, 0, 4, 0, 0, 0.3, ("requests / s",), plain=True)

    measurement = run(endpoint, scenario)

    assert not measurement.tally.failures
    assert measurement.figures()["requests / s"] > 100


def test_a_model_that_is_not_the_mocks_is_measured_by_its_gaps(endpoint: Endpoint) -> None:
    scenario = replace(SECOND, figures=("transit p50, ms", "gap p50, ms"))
    scenario = replace(scenario.on_model("bench-10x20ms-usage"), warm_s=0, seconds=0.5)

    measurement = run(endpoint, scenario)

    figures = measurement.figures()
    assert not measurement.tally.failures
    assert list(figures) == ["gap p50, ms"]
    assert 10 < figures["gap p50, ms"] < 40


def test_a_stall_is_a_failure_when_time_is_up(endpoint: Endpoint) -> None:
    scenario = replace(SECOND, other_model="bench-10x20ms-ttft9000", streams=2, seconds=2)

    measurement = run(endpoint, scenario)

    assert measurement.tally.failures == {"no chunk for 2 s": 2}


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (HEAD + ONE + TWO, r"ended without \[DONE\]"),
        (HEAD + ONE + DONE, "1 chunks of 2"),
        (HEAD + TWO + ONE + DONE, "chunk 1 in the place of 0"),
        (HEAD + ONE + TWO + DONE + TWO, r"data after \[DONE\]"),
        (HEAD + ONE + TWO + DONE[:-2], "ended inside a line"),
        (HEAD + ONE + b"data: {\n\n" + TWO + DONE, "not one JSON object"),
        (HEAD + ONE + b"data: []\n\n" + TWO + DONE, "not one JSON object"),
        (HEAD + ONE + b"hello\n\n" + TWO + DONE, "not an SSE line"),
        (HEAD + ONE + b'data: {"error":{"message":"too late"}}\n\n' + DONE, "an error frame: too late"),
        (HEAD + b'data: {"choices":[]}\n\n' + DONE, "no chunk bears the mock upstream's mark"),
        (b'HTTP/1.1 401 No\r\n\r\n{"error":{"message":"a key is needed"}}', "status 401: a key is needed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata:", "closed inside the body"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata: {}\r\n", "a chunk is longer than its size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", "not a chunk size"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ndata", "more bytes than Content-Length says"),
        (b"HTTP/1.1 200 OK\r\n", "closed before the response's head"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not an HTTP/1.1 response"),
    ],
)
def test_a_broken_answer_is_told_from_a_good_one(response: bytes, reason: str) -> None:
    assert read(HEAD + ONE + TWO + DONE).completed == 1

    with pytest.raises(Broken, match=reason):
        read(response)


@pytest.mark.parametrize("model", ["bench-3x0ms", "bench-3x0ms-close-crlf", "bench-3x0ms-usage"])
def test_an_answer_cut_anywhere_counts_the_same(model: str) -> None:
    response = stream(model)

    for cut in range(len(response) + 1):
        tally = Tally()
        answer = Answer(tally, asked=0, chunks=3)
        over = [answer.feed(part, 1) for part in (response[:cut], response[cut:]) if part][-1]
        if not over:
            answer.close(1)
        assert (tally.completed, tally.chunks, len(tally.first_tokens), len(tally.gaps)) == (1, 3, 1, 2), cut


def test_a_chunk_that_comes_twice_is_noticed_also_where_reads_look_alike() -> None:
    model = read_model("bench-9x0ms")
    answer = Answer(Tally(), asked=0, chunks=9)
    answer.feed(b"".join(model.opening), 1)
    for number in (0, 1, 2):
        answer.feed(model.chunk(number), 1)

    with pytest.raises(Broken, match="chunk 2 in the place of 3"):
        answer.feed(model.chunk(2), 1)


def test_a_broken_stream_is_counted_as_failed_with_its_reason(scripted: socket.socket) -> None:
    server = threading.Thread(target=answer_once, args=(scripted, HEAD + ONE + TWO))
    server.start()
    endpoint = Endpoint.resolve(f"http://127.0.0.1:{scripted.getsockname()[1]}", "")

    measurement = run(endpoint, replace(SECOND, chunks=2, streams=1, warm_s=0, seconds=0.2))
    scripted.shutdown(socket.SHUT_RDWR)
    server.join()

    assert measurement.tally.completed == 0
    assert measurement.tally.failures["ended without [DONE]"] >= 2
    assert len(measurement.tally.failures) == 1


def test_a_hang_up_is_seen_by_the_upstream(upstream: str, endpoint: Endpoint) -> None:
    models = (("active", "bench-500x10ms"), ("silent", "bench-500x10ms-stall5"))

    figures = measure_hang_ups(endpoint, HangUpScenario("T", "", models, callers=3, wait_s=2), Mock(upstream))

    assert figures["active: closed of 3"] == figures["silent: closed of 3"] == 3
    assert 0 < figures["active: max, ms"] < 100
    assert Mock(upstream).active() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_behind_a_port_is_found_and_its_use_is_read(endpoint: Endpoint) -> None:
    pid = processes.find_listener(endpoint.address[1])
    before = processes.cpu_seconds(pid)

    run(endpoint, replace(SECOND, warm_s=0, seconds=0.2))

    after = processes.cpu_seconds(pid)
    memory = processes.memory_kib(pid)
    assert before and after and 0 < after - before < 0.3
    assert memory and 1_000 < memory < 100_000


def test_a_server_of_another_machine_is_not_measured_unasked() -> None:
    with pytest.raises(ValueError, match="not on this machine"):
        Endpoint.resolve("http://192.0.2.1:8000", "")


def test_a_report_compares_medians_and_marks_what_the_measuring_side_limited() -> None:
    results = [
        Result("ours", "S3", {"chunks / s": 900.0, "CPU ms / 1k chunks": 30.0}),
        Result("ours", "S3", {"chunks / s": 700.0, "CPU ms / 1k chunks": 20.0}),
        Result("ours", "S3", {"chunks / s": 800.0, "CPU ms / 1k chunks": 40.0}),
        Result("nginx", "S3", {"chunks / s": 999.0, "CPU ms / 1k chunks": 10.0}, limit="client 0.99 of a core"),
    ]

    report = format_report(results, [("S3", "no pauses"), ("S4", "not run")], "nginx")

    assert "| ours | 800 (700..900) | 30.0 (20.0..40.0) **×3.00** | 0 | – |" in report
    assert "| nginx | 999 † | 10.0 | 0 | – |" in report
    assert "† nginx: the measuring side was the limit" in report
    assert "S4" not in report


def test_the_command_prints_a_table_of_what_it_measured(upstream: str, endpoint: Endpoint) -> None:
    url = f"http://{endpoint.host}{endpoint.path}"
    command = [sys.executable, str(RELAY), url, "--upstream", upstream, "--scenario", "S6", "--rounds", "1"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert "### S6" in done.stdout
    assert f"| {endpoint.host}{endpoint.path} | 20 | " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["http://127.0.0.1:1", "--scenario", "S9"], "--scenario: S9: there are S1, S2s"),
        (["http://127.0.0.1:1", "--serve"], "either URL or --serve"),
        (["http://127.0.0.1:1", "--rounds", "0"], "--rounds: 1 to 20"),
        (["https://127.0.0.1:1"], "not an http:// URL"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(arguments: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, str(RELAY), *arguments], capture_output=True, text=True, timeout=60)

    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
