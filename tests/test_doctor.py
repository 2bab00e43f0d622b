"""The doctor finds nothing wrong with our endpoints, and with a bad server everything that it knows."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme
from bad_server import ODD, WELL_KEY, BadServer, bad_server
from flask import Flask
from readme import Page, codes
from running_server import ROOT, RunningServer, clean_environment, free_port, running_server
from scripted_upstream import BEGUN, ScriptedUpstream, scripted_upstream
from test_upstreams import tls_of

from doctor.checks import CHECKS
from doctor.checks.latency import percentile
from doctor.command import command
from doctor.report import VERDICTS, Report
from doctor.running import BargeIn, count_running
from doctor.stream import Stream
from doctor.target import BadTarget, read_target
from doctor.visit import Bounds, Visit
from doctor.wire import Heard

KEY = "sk-doctor-canary"
HEADER = "team-canary-7"
ENGLISH, CHINESE = Page(ROOT / "docs/doctor.md"), Page(ROOT / "docs/doctor.zh-CN.md")
PAGES = pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["english", "chinese"])
ONLY_WARN = {"reach.public", "stream.request_id", "stream.close"}
"""Checks that never fail."""

# the ids that fail at each endpoint of the bad server
SINS: dict[str, set[str]] = {
    "/bad/chat/completions": {
        "access.none", "access.wrong",
        "stream.type", "stream.headers", "stream.lines", "stream.json", "stream.done", "stream.spread",
        "chunk.fields", "chunk.object", "chunk.id", "chunk.created", "chunk.model", "chunk.choice", "chunk.role",
        "chunk.finish", "usage.unasked", "usage.asked",
        "plain.object", "plain.default",
        "request.engine", "request.unknown", "request.params", "request.parts", "request.null", "request.picture",
        "request.empty", "request.assistant", "tools.call",
        "errors.status", "errors.object", "errors.html", "errors.traceback", "errors.secret",
        "calls.overlap", "calls.ids", "calls.next", "calls.cancel",
    },
    "/mute/chat/completions": {"plain.object", "plain.default", "chunk.text", "errors.status", "calls.ids"},
    "/teapot/chat/completions": {"stream.status"},
    "/silent/chat/completions": {"reach.connect", "latency.first_byte"},
    "/slow/audio/chat/completions": {
        "plain.object", "plain.default", "request.assistant", "errors.status", "calls.ids",
        "latency.first_sentence", "latency.first_audio", "audio.format",
    },
    "/noise/audio/chat/completions": {
        "plain.object", "plain.default", "request.assistant", "errors.status", "calls.ids",
        "audio.format", "audio.chunks", "audio.sound", "audio.transcript", "audio.id", "audio.words", "audio.pace",
    },
    "/well/audio/chat/completions": set(),
}  # fmt: skip
# how long a first byte is waited for at endpoints that are slow by nature, in seconds
FIRST_S = {"/silent": 0.4, "/slow": 1.5}


@pytest.fixture(scope="module")
def bad() -> Iterator[BadServer]:
    with bad_server() as server:
        yield server


@pytest.fixture(scope="module")
def ours() -> Iterator[RunningServer]:
    """The demo, as it starts without settings but a key."""
    with running_server(SERVER_API_KEYS=KEY, WEB_CONCURRENCY=1) as running:
        yield running


def examine(url: str, bounds: Bounds, key: str | None, stats_url: str | None = None) -> Report:
    return Report(Visit(read_target(url, key=key, headers={"X-Team": HEADER}), bounds, stats_url))


OURS = ["/chat/completions", "/rag/chat/completions", "/audio/chat/completions"]


@pytest.fixture(scope="module")
def reports(bad: BadServer, ours: RunningServer) -> Iterator[dict[str, Future[Report]]]:
    """The reports of all endpoints, which are visited at the same time."""
    with ThreadPoolExecutor(len(SINS) + len(OURS)) as pool:
        found = {
            path: pool.submit(
                examine,
                bad.url + path,
                Bounds(2, 30.0, FIRST_S.get(f"/{path.split('/')[1]}", 10.0)),
                KEY if path.startswith("/bad") else WELL_KEY if path.startswith("/well") else None,
                f"{bad.url}/stats" if path.startswith("/bad") else None,
            )
            for path in SINS
        }
        found |= {path: pool.submit(examine, ours.url + path, Bounds(2), KEY) for path in OURS}
        yield found


@pytest.mark.parametrize("path", OURS)
def test_nothing_fails_at_our_own_endpoints(reports: dict[str, Future[Report]], path: str) -> None:
    report = reports[path].result()

    assert report.ids("fail") == set(), report.as_table()
    assert {"access.none", "access.wrong", "chunk.finish", "request.assistant", "errors.object"} <= report.ids("ok")
    assert report.counts["ok"] > 35


@pytest.mark.parametrize("path", SINS)
def test_each_sin_of_the_bad_server_is_found_and_no_other(reports: dict[str, Future[Report]], path: str) -> None:
    report = reports[path].result()

    assert report.ids("fail") == SINS[path], report.as_table()


def test_each_check_fails_somewhere() -> None:
    failing = set().union(*SINS.values()) | {"reach.tls"}

    assert failing == {check.id for check in CHECKS} - ONLY_WARN


@pytest.mark.parametrize("path", [path for path in SINS if path.startswith(("/bad", "/well"))])
def test_a_report_never_holds_the_key_or_a_header(reports: dict[str, Future[Report]], path: str) -> None:
    report = reports[path].result()

    said = report.as_table() + report.as_json()

    assert [secret for secret in (KEY, WELL_KEY, HEADER) if secret in said] == []


def test_a_speaking_endpoint_is_judged_by_its_sound(reports: dict[str, Future[Report]]) -> None:
    report = reports["/well/audio/chat/completions"].result()

    assert {check.id for check in CHECKS if check.id.startswith("audio.")} <= report.ids("ok")
    assert "latency.first_audio" in report.ids("ok") | report.ids("warn")


def test_a_table_tells_rule_and_change_of_what_is_wrong(reports: dict[str, Future[Report]]) -> None:
    table = reports["/mute/chat/completions"].result().as_table()

    assert "fail      chunk.text" in table
    assert re.search(r"chunk\.text .*The answer says something\.\n +seen: .+\n +change: .+\n", table)
    assert re.search(r"\d+ ok, \d+ warn, 5 fail, \d+ not seen$", table)


def test_json_has_every_check_in_order(reports: dict[str, Future[Report]]) -> None:
    report = reports["/mute/chat/completions"].result()

    said = json.loads(report.as_json())

    assert [each["id"] for each in said["checks"]] == [check.id for check in CHECKS]
    assert {each["id"] for each in said["checks"] if each["verdict"] == "fail"} == report.ids("fail")
    assert said["counts"]["fail"] == 5 and sum(said["counts"].values()) == len(CHECKS)
    assert all(set(each) == {"id", "verdict", "seen", "rule", "change"} for each in said["checks"])


def test_a_visit_ends_when_its_time_is_over(bad: BadServer) -> None:
    bad.late_answers, bad.late_s = 100, 0.8
    began = time.monotonic()

    report = examine(f"{bad.url}/slow/chat/completions", Bounds(3, 2.0), None)
    bad.late_answers, bad.late_s = 0, 2.0

    assert time.monotonic() - began < 10
    assert report.ids("fail") == {"calls.ids"}
    assert {"stream.done", "chunk.finish"} <= report.ids("ok")
    assert {"plain.object", "calls.overlap", "calls.next"} <= report.ids("not seen")


def test_no_answer_is_so_odd_that_there_is_no_report(bad: BadServer) -> None:
    def visit(place: int) -> Report:
        return examine(f"{bad.url}/odd/audio/{place}", Bounds(1), KEY)

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(visit, range(len(ODD))))

    assert all({"chunk.fields", "stream.json", "plain.object"} <= report.ids("fail") for report in reports)
    assert all(report.as_table() and report.as_json().encode() for report in reports)


def test_a_certificate_that_is_not_trusted_fails_and_gets_no_key(tmp_path: Path) -> None:
    with scripted_upstream(tls=tls_of(trustme.CA(), "127.0.0.1")) as secure:
        report = examine(secure.url, Bounds(), KEY)

    assert report.ids("fail") == {"reach.connect", "reach.tls"}
    assert secure.asked == []


def test_a_certificate_that_is_trusted_is_good(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with scripted_upstream(tls=tls_of(authority, "localhost")) as secure:
        secure.say(["close"])
        url = f"https://localhost:{secure.port}/chat/completions"

        report = Report(Visit(read_target(url, ca_file=str(tmp_path / "ca.pem"))))

    assert "reach.tls" in report.ids("ok")


@pytest.mark.parametrize("page", ["stats", "gauge"])
def test_an_upstream_that_stops_with_its_caller_is_seen(upstream: ScriptedUpstream, bad: BadServer, page: str) -> None:
    upstream.say([BEGUN, "hold"])
    bad.count = lambda: sum(asked.dropped_at is None for asked in upstream.asked)

    target = read_target(f"{upstream.url}/chat/completions")
    visited = BargeIn(target, f"{bad.url}/{page}", time.monotonic() + 10)
    bad.count = lambda: bad.open

    assert visited.heard.was_left
    assert visited.stopped is True


def test_a_page_that_counts_nothing_is_no_statistics(ours: RunningServer) -> None:
    assert count_running(f"{ours.url}/health") is None
    assert count_running(f"http://127.0.0.1:{free_port()}/") is None


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "doctor", *arguments],
        cwd=ROOT,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_the_exit_code_is_0_where_nothing_failed(bad: BadServer) -> None:
    ended = run(f"{bad.url}/well/audio/chat/completions?session=s3", "--calls", "1", DOCTOR_KEY=WELL_KEY)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith(f"{bad.url}/well/audio/chat/completions\n")
    assert WELL_KEY not in ended.stdout + ended.stderr


def test_the_exit_code_is_1_where_something_failed(bad: BadServer) -> None:
    ended = run(f"{bad.url}/teapot/chat/completions", "--json", "--no-audio", "--key", KEY)

    assert ended.returncode == 1
    said = json.loads(ended.stdout)
    assert [each["id"] for each in said["checks"] if each["verdict"] == "fail"][0] == "access.none"
    assert not any(each["id"].startswith("audio.") for each in said["checks"])
    assert KEY not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["ftp://host/"],
        ["host/chat/completions"],
        ["http://"],
        ["http://host:99999/"],
        ["http://host/a b"],
        ["http://host/ü"],
        ["http://host/", "--calls", "0"],
        ["http://host/", "--header", "X-Team"],
        ["http://host/", "--header", "X-Team:a\nb"],
        ["http://host/", "--key", "ключ-secret"],
        ["http://host/", "--ca-file", "/nowhere.pem"],
    ],
    ids=" ".join,
)
def test_the_exit_code_is_2_where_the_command_is_not_understood(arguments: list[str]) -> None:
    runner = Flask(__name__).test_cli_runner()

    ended = runner.invoke(command, arguments)

    assert ended.exit_code == 2
    assert "secret" not in ended.output


def test_it_is_a_command_of_flask_too(bad: BadServer) -> None:
    app = Flask(__name__)
    app.cli.add_command(command)

    ended = app.test_cli_runner().invoke(args=["doctor", f"{bad.url}/teapot/chat/completions"])

    assert ended.exit_code == 1
    assert "fail      stream.status" in ended.output


def test_the_script_runs_from_anywhere(bad: BadServer, tmp_path: Path) -> None:
    tree, elsewhere = tmp_path / "tree", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tree / "script").mkdir(parents=True)
    for name in (
        "script/doctor",
        "script/setup",
        "requirements.txt",
        "requirements-voice.txt",
        "doctor",
        "protocol",
        "upstream",
    ):
        (tree / name).symlink_to(ROOT / name)
    (tree / ".venv/bin").mkdir(parents=True)
    python = tree / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    plain, voice = ((ROOT / name).read_text() for name in ("requirements.txt", "requirements-voice.txt"))
    (tree / ".venv/installed-requirements.txt").write_text(f"{plain}{voice}{plain}")

    ended = subprocess.run(
        [tree / "script/doctor", f"{bad.url}/teapot/chat/completions"],
        cwd=elsewhere,
        env=clean_environment(PATH=os.environ["PATH"]),
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert ended.returncode == 1, ended.stderr
    assert "fail      stream.status" in ended.stdout


GOOD = b'data: {"choices":[{"index":0,"delta":{"content":"Hi."}}]}\n\n'
LINES: dict[str, tuple[bytes, list[str], list[str]]] = {
    "good": (GOOD + b": wait\n\n" + GOOD, [], []),
    "CR LF": (GOOD.replace(b"\n", b"\r\n"), [], ["lines end with CR LF"]),
    "no space": (GOOD.replace(b"data: ", b"data:"), [], ["no space after `data:`"]),
    "retry": (b"retry: 3\n\n" + GOOD, ["a line `retry:`"], []),
    "an empty data": (b"data:\n\n" + GOOD, ["an empty `data:`"], []),
    "two data lines": (GOOD.replace(b',"delta"', b'\ndata: ,"delta"'), ["an event of several `data:` lines"], []),
    "no data": (b"hello\n\n", ["a line that is neither `data:` nor a comment"], []),
    "cut in a line": (GOOD[:-2], ["it ends in the middle of a line", "the last event has no empty line after it"], []),
    "no empty line": (GOOD[:-1], ["the last event has no empty line after it"], []),
}


@pytest.mark.parametrize(("body", "faults", "oddities"), LINES.values(), ids=LINES.keys())
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_lines_are_read_however_they_are_cut(body: bytes, faults: list[str], oddities: list[str], size: int) -> None:
    pieces = [(float(at), body[at : at + size]) for at in range(0, len(body), size)]

    stream = Stream(Heard(status=200, pieces=pieces))

    assert list(dict.fromkeys(stream.line_faults)) == faults
    assert list(dict.fromkeys(stream.line_oddities)) == oddities
    assert stream.text == "Hi." * body.count(b"Hi.")


@pytest.mark.parametrize(
    ("texts", "at"),
    [
        (["Hello", " there", ". How"], 2.0),
        (["It is 3", ".5 degrees", ".", " Good"], 2.0),
        (["你好", "。"], 1.0),
        (["No", " end"], 1.0),
        ([], None),
    ],
)
def test_the_first_sentence_is_timed_at_its_end(texts: list[str], at: float | None) -> None:
    events = [json.dumps({"choices": [{"delta": {"content": text}}]}).encode() for text in texts]
    pieces = [(float(place), b"data: " + data + b"\n\n") for place, data in enumerate(events)]

    assert Stream(Heard(status=200, pieces=pieces)).sentence_at == at


@pytest.mark.parametrize(("share", "value"), [(0.5, 5.0), (0.95, 10.0), (0.99, 10.0), (0.1, 1.0), (1.0, 10.0)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: float) -> None:
    assert percentile([float(each) for each in range(10, 0, -1)], share) == value


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    target = read_target("https://user:pass@host.test:8443/rag/chat/completions?token=t0")

    assert target.place == "https://host.test:8443/rag/chat/completions"
    assert target.path == "/rag/chat/completions?token=t0"


def test_the_path_tells_whether_an_endpoint_speaks_unless_it_is_told() -> None:
    spoken = [
        read_target(f"http://host{path}", audio=audio).is_audio
        for path, audio in (
            ("/audio/chat/completions", None),
            ("/chat/completions", None),
            ("/x", True),
            ("/audio/x", False),
        )
    ]

    assert spoken == [True, False, True, False]


def test_a_bad_key_is_not_repeated_in_what_is_said_of_it() -> None:
    with pytest.raises(BadTarget) as refused:
        read_target("http://host/", key="two\nlines")

    assert "lines" not in str(refused.value)


class TestDocs:
    def test_the_pages_have_the_same_headings_tables_and_blocks(self) -> None:
        assert [level for level, _ in ENGLISH.headings] == [level for level, _ in CHINESE.headings]
        assert ENGLISH.blocks == CHINESE.blocks
        for english, chinese in zip(ENGLISH.tables, CHINESE.tables, strict=True):
            assert [[codes(cell) for cell in row] for row in english] == [
                [codes(cell) for cell in row] for row in chinese
            ]

    @PAGES
    def test_the_table_names_every_check_in_its_order(self, page: Page) -> None:
        assert [codes(row[0])[0] for row in page.table("`reach.connect`")] == [check.id for check in CHECKS]

    @PAGES
    def test_the_table_tells_the_worst_verdicts(self, page: Page) -> None:
        worst = {codes(row[0])[0]: row[2] for row in page.table("`reach.connect`")}

        assert worst == {check.id: "warn" if check.id in ONLY_WARN else "fail" for check in CHECKS}

    @PAGES
    def test_the_verdicts_are_those_that_are_given(self, page: Page) -> None:
        assert tuple(codes(row[0])[0] for row in page.table("`ok`")) == VERDICTS

    def test_the_english_table_has_the_rules(self) -> None:
        said = {codes(row[0])[0]: row[1] for row in ENGLISH.table("`reach.connect`")}

        assert said == {check.id: check.rule for check in CHECKS}

    @PAGES
    def test_the_options_are_those_of_the_command(self, page: Page) -> None:
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} - {"url"}

        said = {name.split()[0] for row in page.table("`--key KEY`") for name in codes(row[0])}

        assert said == known | {"--help"}

    @PAGES
    def test_links_lead_somewhere(self, page: Page) -> None:
        local = [link.partition("#")[0] for link in page.links if "://" not in link]

        assert local
        assert [link for link in local if not (page.path.parent / link).exists()] == []
