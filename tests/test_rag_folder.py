"""A folder that changes while questions are asked: what every worker serves, and who keeps the index."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from running_server import (
    DEV,
    FLASK,
    GUNICORN,
    KEY,
    ROOT,
    RunningServer,
    clean_environment,
    free_port,
    read_until,
    running_server,
    turn,
)
from scripted_upstream import BEGUN, SPOKEN, ScriptedUpstream, again, answer, event, framed, reply, scripted_upstream
from stream_rules import read_good_stream

from knowledge.grounding import reference

RAG = "/rag/chat/completions"
COMMAND = (sys.executable, "-m", "flask", "--app", "app", "knowledge")
NOTHING = "nothing was found"
SOON_S = 5.0
LATE_MS = 50
"""How late a chunk may be beside the indexer: 10 x the figure."""


def guide(version: int, sections: int = 3) -> str:
    """Write a document whose sections all name its version."""
    parts = [f"## Tariff {number}\nThe alpha tariff {number} costs v{version} euros." for number in range(sections)]
    return "\n".join(["# Tariffs", *parts])


def found(server: RunningServer, upstream: ScriptedUpstream, asked: str = "What does the alpha tariff cost?") -> str:
    """Return all that the LLM was told for a question."""
    read_good_stream(server.ask(turn(messages=[{"role": "user", "content": asked}]), RAG))
    told = reference(upstream.asked[-1].body["messages"][-1]["content"])
    return "\n".join(excerpt.text for excerpt in told[0]) if told else NOTHING


def wait_until_found(server: RunningServer, upstream: ScriptedUpstream, text: str, *asked: str) -> None:
    """Ask until what is found holds a text."""
    end = time.monotonic() + SOON_S
    while text not in found(server, upstream, *asked):
        assert time.monotonic() < end, f"{text} is not served"
        time.sleep(0.05)


def children(server: RunningServer) -> dict[int, str]:
    """Return the processes that the server has started, with their command lines."""
    return children_of(server.process.pid)


def children_of(process: int) -> dict[int, str]:
    tasks = Path(f"/proc/{process}/task").glob("*/children")  # of each thread
    numbers = [number for task in tasks for number in task.read_text().split()]
    return {int(number): Path(f"/proc/{number}/cmdline").read_text().replace("\0", " ") for number in numbers}


def indexers(server: RunningServer) -> list[int]:
    return [number for number, command in children(server).items() if "knowledge.indexer" in command]


@contextmanager
def only(server: RunningServer, worker: int) -> Iterator[None]:
    """Have one worker answer: the others stand still."""
    others = [each for each, command in children(server).items() if "gunicorn" in command and each != worker]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        yield
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)


def reload(server: RunningServer) -> None:
    """Have the server replace its workers, and wait until it has."""
    before = set(children(server)) - set(indexers(server))
    server.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 10
    while before & children(server).keys() or len(children(server)) - len(indexers(server)) < len(before):
        assert time.monotonic() < end, "no new workers"
        time.sleep(0.05)


def wait_until_gone(process: int) -> None:
    end = time.monotonic() + SOON_S
    while Path(f"/proc/{process}").exists() and "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2]:
        assert time.monotonic() < end, "the process goes on"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    (folder / "guide.md").write_text(guide(0))
    (folder / "hours.txt").write_text("The shop opens at nine.")
    return folder


@pytest.fixture(scope="module")
def workers(_upstream: ScriptedUpstream, folder: Path) -> Iterator[RunningServer]:
    """Two workers over a folder."""
    settings: dict[str, Any] = {
        "LLM_BASE_URL": _upstream.url,
        "LLM_API_KEY": KEY,
        "KNOWLEDGE_DIR": folder,
        "WEB_CONCURRENCY": 2,
    }
    with running_server(**settings) as running:
        yield running


def test_one_process_keeps_the_index_for_all_workers(workers: RunningServer) -> None:
    started = children(workers)
    of_workers = [command for worker in started for command in children_of(worker).values()]

    assert len(indexers(workers)) == 1
    assert not of_workers


class TestChanges:
    @pytest.mark.parametrize("kind", ["rewritten", "replaced", "added", "taken away"])
    def test_they_are_served_within_seconds_by_every_worker(
        self, workers: RunningServer, upstream: ScriptedUpstream, folder: Path, kind: str
    ) -> None:
        pids = [number for number, command in children(workers).items() if "gunicorn" in command]
        assert len(pids) == 2
        before, after = {
            "rewritten": ("v0", "v1"),
            "replaced": ("v1", "v2"),
            "added": (NOTHING, "vintage beta"),
            "taken away": ("vintage beta", NOTHING),
        }[kind]
        asked = "What does the alpha tariff cost?" if kind.startswith("re") else "Which beta wines are there?"
        for pid in pids:
            with only(workers, pid):
                assert before in found(workers, upstream, asked)

        if kind == "rewritten":
            (folder / "guide.md").write_text(guide(1))
        elif kind == "replaced":
            (folder / "guide.tmp").write_text(guide(2))
            (folder / "guide.tmp").rename(folder / "guide.md")
        elif kind == "added":
            (folder / "wines.jsonl").write_text('{"question": "Which beta wines are there?", "answer": "vintage beta"}')
        else:
            (folder / "wines.jsonl").unlink()

        with only(workers, pids[0]):
            wait_until_found(workers, upstream, after, asked)
        with only(workers, pids[1]):
            told = found(workers, upstream, asked)
        assert after in told and before not in told, "another worker serves what was"

    def test_a_half_built_state_is_never_served(
        self, workers: RunningServer, upstream: ScriptedUpstream, folder: Path
    ) -> None:
        (folder / "guide.md").write_text(guide(10, 300))
        wait_until_found(workers, upstream, "v10")
        seen: list[set[str]] = []

        for version in (11, 12):
            (folder / "guide.md").write_text(guide(version, 300))
            end = time.monotonic() + SOON_S
            while not seen or seen[-1] != {f"v{version}"}:
                assert time.monotonic() < end
                seen.append(set(re.findall(r"v\d+", found(workers, upstream))))

        assert all(len(versions) == 1 for versions in seen), "two versions, or nothing, were served at a time"
        assert set.union(*seen) == {"v10", "v11", "v12"}

    def test_a_broken_file_is_named_in_the_log_and_nothing_else_is_lost(
        self, workers: RunningServer, upstream: ScriptedUpstream, folder: Path
    ) -> None:
        (folder / "broken.pdf").write_bytes(b"%PDF-1.7 no more")
        (folder / "pairs.jsonl").write_text(
            '{"question": "Is gamma good?", "answer": "Gamma is fine."}\n{"question":\n'
        )

        assert "broken.pdf" in workers.wait_for_log("broken.pdf", SOON_S)
        assert "2" in workers.wait_for_log("pairs.jsonl", SOON_S)
        wait_until_found(workers, upstream, "Gamma is fine.", "Is gamma good?")
        assert "nine" in found(workers, upstream, "When does the shop open?")

    def test_they_are_served_after_a_reload_too(
        self, workers: RunningServer, upstream: ScriptedUpstream, folder: Path
    ) -> None:
        for _ in range(3):
            reload(workers)

        (folder / "guide.md").write_text(guide(20))

        wait_until_found(workers, upstream, "v20")
        assert len(indexers(workers)) == 1

    def test_they_are_served_after_the_indexer_was_killed_too(
        self, workers: RunningServer, upstream: ScriptedUpstream, folder: Path
    ) -> None:
        (killed,) = indexers(workers)
        os.kill(killed, signal.SIGKILL)
        wait_until_gone(killed)

        (folder / "guide.md").write_text(guide(30))

        wait_until_found(workers, upstream, "v30")


class TestEnd:
    @pytest.mark.parametrize(
        ("command", "end", "leaves"),
        [
            (GUNICORN, signal.SIGTERM, False),
            (GUNICORN, signal.SIGINT, False),
            (GUNICORN, signal.SIGKILL, True),
            (FLASK, signal.SIGINT, False),
            (DEV, signal.SIGINT, False),
        ],
        ids=["gunicorn-term", "gunicorn-int", "gunicorn-kill", "flask-int", "python-int"],
    )
    def test_the_indexer_ends_with_the_server_and_its_folder_goes(
        self, tmp_path: Path, command: tuple[str, ...], end: signal.Signals, leaves: bool
    ) -> None:
        asked = turn(stream=False, messages=[{"role": "user", "content": "What is the default port?"}])
        with running_server(*command, TMPDIR=tmp_path) as server:
            assert "8000" in server.ask(asked, RAG).json["choices"][0]["message"]["content"]
            (indexer,) = indexers(server)
            (private,) = tmp_path.glob("custom-llm-server-*")

            server.process.send_signal(end)
            server.process.wait(10)

            wait_until_gone(indexer)
            assert private.exists() == leaves

    def test_an_index_that_is_to_be_kept_is_kept_and_found_again(
        self, tmp_path: Path, upstream: ScriptedUpstream, folder: Path
    ) -> None:
        index = tmp_path / "index.sqlite"
        settings: dict[str, Any] = {
            "LLM_BASE_URL": upstream.url,
            "LLM_API_KEY": KEY,
            "KNOWLEDGE_INDEX": index,
            "TMPDIR": tmp_path,
        }
        with running_server(**settings, KNOWLEDGE_DIR=folder) as server:
            assert "euros" in found(server, upstream)
            server.stop()

        assert index.exists()
        assert not list(tmp_path.glob("custom-llm-server-*"))

    @pytest.mark.parametrize(
        "settings", [{"KNOWLEDGE_URL": "http://127.0.0.1:9/v1"}, {"LLM_BASE_URL": "http://127.0.0.1:9"}]
    )
    def test_where_no_documents_are_served_there_is_no_indexer(self, settings: dict[str, Any]) -> None:
        with running_server(**settings) as server:
            assert not indexers(server)


class TestSettings:
    WRONG = {
        "no folder": ({"KNOWLEDGE_DIR": "missing/folder"}, "KNOWLEDGE_DIR must be a folder that exists"),
        "a file": ({"KNOWLEDGE_DIR": "README.md"}, "KNOWLEDGE_DIR must be a folder that exists"),
        "nowhere": ({"KNOWLEDGE_INDEX": "missing/index"}, "KNOWLEDGE_INDEX must be a file's path"),
        "no URL": ({"KNOWLEDGE_URL": "canary"}, "KNOWLEDGE_URL must be an http:// or https:// URL"),
        "place": ({"KNOWLEDGE_PLACE": "canary"}, "KNOWLEDGE_PLACE must be user, system_first or system_before_last"),
        "budget": ({"KNOWLEDGE_BUDGET": "10"}, "KNOWLEDGE_BUDGET must be a whole number, 200 to 100000"),
        "time": ({"RAG_WAITING_AFTER_MS": "-2"}, "RAG_WAITING_AFTER_MS must be a whole number"),
        "key": ({"KNOWLEDGE_KEY": "canary key"}, "KNOWLEDGE_KEY must hold printable"),
    }

    @pytest.mark.parametrize("wrong", WRONG)
    def test_a_wrong_one_is_told_in_one_line(self, tmp_path: Path, wrong: str) -> None:
        settings, says = self.WRONG[wrong]
        # the command reads them as the server does
        command = GUNICORN if wrong == "no folder" else (*COMMAND, "list")
        environment = clean_environment(**settings, PORT=free_port(), TMPDIR=tmp_path)

        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=20)

        assert run.returncode != 0
        assert says in run.stderr
        assert "Traceback" not in run.stderr and "canary" not in run.stderr
        assert len(run.stderr.splitlines()) == 1
        assert not list(tmp_path.iterdir())


def run(*arguments: str | Path, **settings: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `flask knowledge` with these arguments."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=clean_environment(**settings),
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in both languages, with a file that cannot be read."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "guide.md").write_text(
        "# Guide\n## Warranty\nThe warranty lasts two years.\n## Shipping\nFree of charge."
    )
    pair = '{"question": "怎么退货？", "answer": "七天内可以退货。"}'
    (folder / "退货.jsonl").write_text(pair, encoding="utf-8")
    (folder / "broken.pdf").write_bytes(b"%PDF")
    return folder


class TestCommands:
    def test_index_writes_an_index_that_a_server_can_start_from(self, here: Path, tmp_path: Path) -> None:
        index = tmp_path / "index.sqlite"

        built = run("index", here, KNOWLEDGE_INDEX=index)
        listed = run("list", KNOWLEDGE_INDEX=index, KNOWLEDGE_DIR=tmp_path)

        assert built.returncode == 0, built.stderr
        assert "3 passages from 2 files" in built.stderr and "broken.pdf" in built.stderr
        assert str(index) in built.stdout
        assert [line.split() for line in listed.stdout.splitlines()] == [["2", "guide.md"], ["1", "退货.jsonl"]]

    def test_index_of_nothing_is_refused(self, tmp_path: Path) -> None:
        tried = run("index", tmp_path / "missing")

        assert tried.returncode != 0
        assert "does not exist" in tried.stderr and "Traceback" not in tried.stderr

    @pytest.mark.parametrize(
        ("asked", "text", "file"),
        [("How long is the warranty?", "two years", "guide.md"), ("怎么退货", "七天内", "退货.jsonl")],
    )
    def test_search_shows_passages_scores_and_why(self, here: Path, asked: str, text: str, file: str) -> None:
        searched = run("search", asked, KNOWLEDGE_DIR=here)

        assert searched.returncode == 0, searched.stderr
        assert text in searched.stdout and f"({file})" in searched.stdout
        assert re.search(r"^ +\d+\.\d+ ", searched.stdout, re.MULTILINE)
        assert re.search(r"found, \d+% of the question", searched.stdout)

    def test_check_shows_the_messages_that_would_be_sent(self, here: Path) -> None:
        asked = "How long is the warranty?"

        checked = run("check", asked, KNOWLEDGE_DIR=here)
        elsewhere = run("check", asked, KNOWLEDGE_DIR=here, KNOWLEDGE_PLACE="system_first")
        nothing = run("check", "Who won in 1990?", KNOWLEDGE_DIR=here)

        assert checked.stdout.startswith("--- user\n<reference-") and checked.stdout.endswith(f"\n{asked}\n")
        assert "two years" in checked.stdout
        assert elsewhere.stdout.startswith("--- system\n<reference-")
        assert nothing.stdout == "--- user\nWho won in 1990?\n"

    def test_they_leave_nothing_behind(self, here: Path, tmp_path: Path) -> None:
        assert run("list", KNOWLEDGE_DIR=here, TMPDIR=tmp_path).returncode == 0
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(("command", "works"), [("search", True), ("check", True), ("list", False)])
    def test_a_retrieval_service_is_asked_where_there_is_one(self, command: str, works: bool) -> None:
        with scripted_upstream() as service:
            service.say(reply(200, {"records": [{"content": "It is open.", "score": 0.5}]}))

            ran = run(
                command, *(["Is it open?"] if works else []), KNOWLEDGE_URL=service.url, KNOWLEDGE_TIMEOUT_MS="3000"
            )

        assert (ran.returncode == 0) == works
        assert "Traceback" not in ran.stderr
        assert ("It is open." in ran.stdout) if works else ran.stderr.splitlines()[-1].startswith("Error: ")

    def test_a_retrieval_service_that_fails_is_told_in_a_line(self) -> None:
        tried = run("check", "Is it open?", KNOWLEDGE_URL=f"http://127.0.0.1:{free_port()}", KNOWLEDGE_KEY="sk-canary")

        assert tried.returncode != 0
        assert tried.stderr.splitlines()[-1].startswith("Error: ") and "Traceback" not in tried.stderr
        assert "canary" not in tried.stderr


@pytest.mark.alone
def test_a_running_stream_is_not_late_while_thousands_of_documents_are_indexed(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    pace_s = 0.02
    sentences = " ".join(f"Sentence {number} speaks of tariffs, wines, shoes and warranties." for number in range(8))
    lines = [
        json.dumps({"title": f"Product {n}", "text": f"Product {n} costs p{n} euros. {sentences}"}) for n in range(6000)
    ]
    arrived: list[float] = []
    has_heard_enough = threading.Event()

    def listen(server: RunningServer) -> None:
        with server.open() as caller:
            read_until(caller, b"Hello")
            while not has_heard_enough.is_set() and caller.recv(65536):
                arrived.append(time.monotonic())

    settings: dict[str, Any] = {
        "LLM_BASE_URL": upstream.url,
        "LLM_API_KEY": KEY,
        "KNOWLEDGE_DIR": tmp_path,
        "WEB_CONCURRENCY": 1,
    }
    with running_server(**settings) as server:
        server.wait_for_log("0 passages")
        upstream.say([BEGUN, *again(1500, pace_s, framed(event(SPOKEN)))], answer("Hello."))
        listener = threading.Thread(target=listen, args=(server,))
        listener.start()
        upstream.wait_for(1)
        (tmp_path / "products.jsonl").write_text("\n".join(lines))
        server.wait_for_log("passages from 1 file", 20)
        told = found(server, upstream, "What does product 4711 cost?")
        has_heard_enough.set()
        listener.join(5)

    assert "p4711 " in told
    gaps_ms = sorted((after - before - pace_s) * 1000 for before, after in zip(arrived, arrived[1:], strict=False))
    assert len(arrived) > 30
    assert gaps_ms[int(len(gaps_ms) * 0.99)] < LATE_MS, gaps_ms[-10:]
