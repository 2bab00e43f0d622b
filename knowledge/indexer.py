"""The process that keeps an index up to date with a folder: ``python -m knowledge.indexer FOLDER INDEX_FILE``."""

import argparse
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from msgspec import Struct

from knowledge.documents import MAX_FILE_BYTES, FolderError, Listing, Source, list_sources, read
from knowledge.passages import TARGET_CHARACTERS, Passage, split
from knowledge.store import StoreError, write

NICENESS = 15
POLL_SECONDS = 1.0
# a folder being written is left alone until it has been still for a moment, but not for ever
QUIET_SECONDS = 0.5
PATIENCE_SECONDS = 5.0
RETRY_SECONDS = 10.0
HEARTBEAT_SECONDS = 2.0
# listing a large folder takes CPU: wait this many times as long before the next time
SCAN_SHARE = 20.0

T = TypeVar("T")


class Report(Struct, frozen=True):
    """What was indexed, in how long, and one line about each thing that was skipped."""

    files: int
    passages: int
    seconds: float
    problems: list[str]

    def __str__(self) -> str:
        passages = f"{self.passages} passage{'s' if self.passages != 1 else ''}"
        files = f"{self.files} file{'s' if self.files != 1 else ''}"
        return f"{passages} from {files} in {self.seconds:.1f} s"


class Index:
    """Build the index of a folder, reading again only the files that have changed since the last time."""

    def __init__(
        self, folder: Path, file: Path, *, target: int = TARGET_CHARACTERS, max_bytes: int = MAX_FILE_BYTES
    ) -> None:
        self.folder, self.file = folder, file
        self._target, self._max_bytes = target, max_bytes
        self._read: dict[Source, tuple[list[Passage], list[str]]] = {}

    def build(self, listing: Listing, progress: Callable[[float], None] = lambda share: None) -> Report:
        """Read the files listed and write the index; `progress` is called with the share that is done, 0 to 1.

        Raise StoreError if the index cannot be written; the one before it then stays.
        """
        started = time.monotonic()
        self._read = dict(zip(listing.sources, self._passages(listing.sources, progress), strict=True))
        passages = [passage for found, _ in self._read.values() for passage in found]
        problems = [*listing.problems, *(problem for _, found in self._read.values() for problem in found)]
        write(self.file, _counted(passages, lambda share: progress(0.5 + share / 2)))
        files = sum(1 for found, _ in self._read.values() if found)
        return Report(files, len(passages), time.monotonic() - started, problems)

    def _passages(
        self, sources: list[Source], progress: Callable[[float], None]
    ) -> Iterator[tuple[list[Passage], list[str]]]:
        for source in _counted(sources, lambda share: progress(share / 2)):
            if source in self._read:
                yield self._read[source]
            else:
                reading = read(source, self._max_bytes)
                yield split(reading.documents, self._target), reading.problems


def start(folder: Path, file: Path) -> subprocess.Popen[bytes]:
    """Start the indexer; keep what is returned: when its stdin is closed, or this process ends, the indexer ends."""
    command = [sys.executable, "-m", "knowledge.indexer", str(folder.absolute()), str(file.absolute())]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=Path(__file__).parent.parent,
        start_new_session=True,  # Ctrl-C is for the server, whose end ends the indexer too
    )


def keep(indexer: subprocess.Popen[bytes], folder: Path, file: Path, owner: int) -> None:
    """Start an indexer anew where it has ended, for as long as the process with the number `owner` lives."""
    while True:
        time.sleep(HEARTBEAT_SECONDS)
        if os.getpid() != owner:
            return  # a worker, which was forked with this under way
        assert indexer.stdin
        try:
            # whether it lives is seen by its end of this pipe: gunicorn collects the exit codes of all children
            os.write(indexer.stdin.fileno(), b".")
        except BrokenPipeError:
            _say("the indexer has ended; it is started again")
            indexer = start(folder, file)


def main() -> NoReturn:
    """Index a folder, then watch it until stdin is closed or SIGTERM comes; the log goes to stderr."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    parser = argparse.ArgumentParser(prog="python -m knowledge.indexer", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("index_file", type=Path)
    arguments = parser.parse_args()
    os.nice(NICENESS)
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what matters comes as an exception
    watch(Index(arguments.folder, arguments.index_file))


def watch(index: Index) -> NoReturn:
    """Build the index, and again whenever the folder has changed; exit when stdin is closed."""
    indexed: Listing | None = None
    told: list[str] = []
    trouble = ""
    while True:
        before, trouble, pause = trouble, "", POLL_SECONDS
        started = time.process_time()
        try:
            listing = _settled(index.folder, indexed)
            pause = max(pause, SCAN_SHARE * (time.process_time() - started))
        except FolderError as error:
            trouble = str(error)
            # a folder that is out of reach for a while must not empty the index
            listing = indexed or Listing([], [])
        if listing != indexed or not index.file.exists():
            try:
                report = index.build(listing)
            except StoreError as error:
                trouble, pause = str(error), RETRY_SECONDS
            else:
                indexed = listing
                _say(f"{index.folder}: {report}")
                for problem in report.problems:
                    if problem not in told:
                        _say(problem)
                told = report.problems
        if trouble and trouble != before:
            _say(trouble)
        _wait(pause)


def _settled(folder: Path, indexed: Listing | None) -> Listing:
    """List the folder; if it is changing, wait until it has been still for a moment."""
    listing = list_sources(folder)
    started = changed = time.monotonic()
    while indexed not in (None, listing):
        now = time.monotonic()
        if now - changed >= QUIET_SECONDS or now - started >= PATIENCE_SECONDS:
            break
        _wait(QUIET_SECONDS / 2)
        last, listing = listing, list_sources(folder)
        if listing != last:
            changed = time.monotonic()
    return listing


def _wait(seconds: float) -> None:
    """Wait so long; exit at once when stdin is closed."""
    try:
        readable, _, _ = select.select([0], [], [], seconds)
        closed = bool(readable) and not os.read(0, 4096)
    except OSError:
        closed = True
    if closed:
        sys.exit(0)


def _say(message: str) -> None:
    line = "".join(character if character.isprintable() else " " for character in message)
    print(f"knowledge: {line}", file=sys.stderr, flush=True)


def _counted(items: Sequence[T], progress: Callable[[float], None]) -> Iterator[T]:
    for number, item in enumerate(items, 1):
        yield item
        progress(number / len(items))


if __name__ == "__main__":
    main()
