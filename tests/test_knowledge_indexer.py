import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from knowledge.documents import list_sources
from knowledge.indexer import NICENESS, Index, start
from knowledge.live import LiveStore
from knowledge.store import StoreError

ROOT = Path(__file__).parent.parent


class Indexer:
    """The real process, with its log."""

    def __init__(self, folder: Path, file: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "knowledge.indexer", folder, file],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        self._limit = threading.Timer(30, self.process.kill)
        self._limit.start()

    def read_until(self, text: str) -> str:
        assert self.process.stderr
        read = ""
        for line in self.process.stderr:
            read += line
            if text in line:
                return read
        raise AssertionError(f"{text!r} is not in the log: {read}")

    def end(self) -> str:
        """End the process and return what is left of its log."""
        self._limit.cancel()
        self.process.kill()
        with self.process as process:
            return process.stderr.read() if process.stderr and not process.stderr.closed else ""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "guide.md").write_text("# Guide\n## Warranty\nTwo years.\n## Shipping\nFree.")
    return folder


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveStore]:
    store = LiveStore(tmp_path / "index")
    yield store
    store.close()


@pytest.fixture
def indexer(tmp_path: Path, folder: Path) -> Iterator[Indexer]:
    indexer = Indexer(folder, tmp_path / "index")
    yield indexer
    indexer.end()


def test_a_folder_is_indexed_and_its_changes_follow(folder: Path, live: LiveStore, indexer: Indexer) -> None:
    indexer.read_until("2 passages from 1 file")
    assert live.search("warranty", 1)[0].text == "Two years."

    (folder / "guide.md").write_text("# Guide\n## Warranty\nThree years.")
    (folder / "faq.jsonl").write_text('{"question": "怎么退货？", "answer": "七天内。"}')
    indexer.read_until("2 passages from 2 files")
    assert live.search("warranty", 1)[0].text == "Three years."
    assert live.search("退货", 1)[0].text == "七天内。"

    (folder / "faq.jsonl").unlink()
    indexer.read_until("1 passage from 1 file")
    assert live.search("退货", 1) == []


def test_what_is_broken_is_named_once(folder: Path, indexer: Indexer) -> None:
    indexer.read_until("1 file")

    (folder / "faq.jsonl").write_text('{"text": "one"}\n{"text": "tw')
    first = indexer.read_until("faq.jsonl line 2: ")
    (folder / "new.txt").write_text("new")
    second = indexer.read_until("3 files")

    assert "3 passages from 2 files" in first
    assert "line 2" not in second + indexer.end()


@pytest.mark.parametrize("how", ["closed", signal.SIGTERM, signal.SIGINT])
def test_it_ends_quietly_when_its_parent_does_or_it_is_told_to(indexer: Indexer, how: str | signal.Signals) -> None:
    indexer.read_until("1 file")

    if isinstance(how, signal.Signals):
        indexer.process.send_signal(how)
    else:
        assert indexer.process.stdin
        indexer.process.stdin.close()
    status = indexer.process.wait(10)

    assert status == 0
    assert indexer.end() == ""


def test_a_folder_that_is_missing_is_named_and_found_later(tmp_path: Path, live: LiveStore) -> None:
    indexer = Indexer(tmp_path / "missing", tmp_path / "index")

    indexer.read_until("missing: no such file or directory")
    assert live.passages == 0
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.txt").write_text("the warranty")
    (tmp_path / "new").rename(tmp_path / "missing")
    indexer.read_until("1 passage from 1 file")
    assert live.search("warranty", 1)
    (tmp_path / "missing").rename(tmp_path / "gone")
    indexer.read_until("missing: no such file or directory")
    indexer.end()

    assert live.search("warranty", 1)


def test_an_empty_folder_is_an_empty_index(tmp_path: Path, live: LiveStore) -> None:
    (tmp_path / "empty").mkdir()
    indexer = Indexer(tmp_path / "empty", tmp_path / "index")

    log = indexer.read_until("empty")
    indexer.end()

    assert "0 passages from 0 files" in log
    assert live.passages == 0


def test_an_index_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    indexer = Indexer(folder, tmp_path / "no" / "index")

    log = indexer.read_until("no/index: ")
    indexer.end()

    assert "No such file or directory" in log


def test_the_server_starts_it_niced_and_ends_it_by_closing_its_stdin(
    folder: Path, tmp_path: Path, live: LiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    process = start(Path("documents"), Path("index"))
    deadline = time.monotonic() + 20
    while live.passages is None and time.monotonic() < deadline:
        time.sleep(0.02)
    nice = os.getpriority(os.PRIO_PROCESS, process.pid)
    assert process.stdin
    process.stdin.close()

    assert live.passages == 2
    assert nice >= NICENESS
    assert process.wait(10) == 0


def test_a_file_that_has_not_changed_is_not_read_again(folder: Path, tmp_path: Path) -> None:
    index = Index(folder, tmp_path / "index")
    listing = list_sources(folder)
    index.build(listing)
    os.truncate(folder / "guide.md", 0)

    again = index.build(listing)
    fresh = index.build(list_sources(folder))

    assert (again.passages, fresh.passages) == (2, 0)


def test_progress_goes_from_nothing_to_all(folder: Path, tmp_path: Path) -> None:
    shares: list[float] = []

    Index(folder, tmp_path / "index").build(list_sources(folder), shares.append)

    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_a_failed_build_keeps_the_index_before_it(folder: Path, tmp_path: Path, live: LiveStore) -> None:
    index = Index(folder, tmp_path / "index")
    index.build(list_sources(folder))
    index.file = tmp_path / "no" / "index"

    with pytest.raises(StoreError):
        index.build(list_sources(folder))

    assert live.search("warranty", 1)
