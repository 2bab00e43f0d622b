import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from knowledge.live import LiveStore
from knowledge.passages import Passage
from knowledge.store import write


def passages(version: str, count: int = 20) -> list[Passage]:
    return [
        Passage(f"{version}-{number}", version, version, f"the warranty, number {number}") for number in range(count)
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def live(path: Path) -> Iterator[LiveStore]:
    store = LiveStore(path)
    yield store
    store.close()


def test_nothing_is_found_until_there_is_an_index(path: Path, live: LiveStore) -> None:
    assert (live.passages, live.search("warranty", 1), live.why("warranty", 1), live.files()) == (None, [], [], [])

    write(path, passages("one"))

    assert live.passages == 20
    assert live.search("warranty", 1)[0].file == "one"
    assert live.why("warranty", 1)[0].passage.file == "one"
    assert live.files() == [("one", 20)]


def test_the_next_question_is_answered_from_the_new_index(path: Path, live: LiveStore) -> None:
    for version in ("one", "two", "three"):
        write(path, passages(version))

        assert live.search("warranty", 1)[0].file == version


def test_an_index_that_goes_away_stays_in_use(path: Path, live: LiveStore) -> None:
    write(path, passages("one"))
    assert live.search("warranty", 1)

    path.unlink()

    assert live.search("warranty", 1)[0].file == "one"


def test_a_file_that_is_no_index_is_logged_once_and_the_old_one_stays(
    path: Path, live: LiveStore, caplog: pytest.LogCaptureFixture
) -> None:
    write(path, passages("one"))
    assert live.search("warranty", 1)
    (path.parent / "bad").write_text("bad")

    os.replace(path.parent / "bad", path)
    found = [live.search("warranty", 1)[0].file for _ in range(3)]

    assert found == ["one"] * 3
    assert len(caplog.messages) == 1 and str(path) in caplog.messages[0]


def test_what_is_replaced_is_closed(path: Path, live: LiveStore) -> None:
    def open_files() -> int:
        descriptors = [Path("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]
        return sum(str(path) in os.readlink(descriptor) for descriptor in descriptors if descriptor.is_symlink())

    for version in range(5):
        write(path, passages(str(version)))
        live.search("warranty", 1)

    assert open_files() == 1
    live.close()
    assert open_files() == 0


def test_threads_find_whole_answers_while_the_index_changes(path: Path, live: LiveStore) -> None:
    write(path, passages("0"))
    answers: list[set[str]] = []
    failures: list[BaseException] = []
    done = threading.Event()

    def ask() -> None:
        try:
            while not done.is_set():
                answers.append({passage.file for passage in live.search("the warranty, number 7", 10)})
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for version in range(1, 40):
        write(path, passages(str(version), 20 + version))
    done.set()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)

    assert failures == []
    assert all(len(files) == 1 for files in answers)
    assert live.search("warranty", 1)[0].file == "39"
