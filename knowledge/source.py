"""Where passages come from: the one interface that every kind of knowledge stands behind, and the documents' own."""

import atexit
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Protocol

from knowledge.indexer import start
from knowledge.live import LiveStore
from knowledge.passages import Passage
from knowledge.store import StoreError
from turns.pool import beside_the_hub
from upstream.waits import Waits

BUNDLED = Path(__file__).parent / "bundled"
"""The folder of documents about this server and about voice agents, in both languages."""
POOL_ABOVE = 2000
"""Passages above which a search runs beside the event loop: below, handing it over would take longer."""
_FIRST_INDEX_S = 1.0
_LOOK_S = 0.02


class KnowledgeFailed(Exception):
    """Say, for the log, why nothing could be looked up."""


class Knowledge(Protocol):
    """Whatever can be asked for passages; with `is_remote` it may wait for others, and is asked beside the turn.

    `failures` counts the questions that could not be looked up since the start; GET /ready tells it.
    """

    is_remote: bool = False
    failures: int = 0

    def search(self, question: str, limit: int, waits: Waits) -> Sequence[Passage]:
        """Return the passages that bear on a question, the best first; raise KnowledgeFailed."""
        ...


class Documents(Knowledge):
    """Search the index of a folder; with `indexes` keep that index, in a process that the first question starts.

    Under gunicorn the arbiter keeps it for all workers.
    """

    def __init__(self, folder: Path, index: Path, *, indexes: bool) -> None:
        self.folder = folder
        self.store = LiveStore(index)
        self._index = index
        self._indexes = indexes
        self._indexer: subprocess.Popen[bytes] | None = None
        self._starting = Lock()

    def search(self, question: str, limit: int, waits: Waits) -> Sequence[Passage]:
        """Return the passages that bear on a question, the best first; raise KnowledgeFailed."""
        with self._starting:
            if self._indexes and (self._indexer is None or self._indexer.poll() is not None):
                self._indexer = start(self.folder, self._index)
        try:
            # only the first questions after a start may have to wait: for the first index
            until = time.monotonic() + _FIRST_INDEX_S
            while self.store.passages is None and time.monotonic() < until:
                waits.pause(time.monotonic() + _LOOK_S)
            if (self.store.passages or 0) > POOL_ABOVE:
                return beside_the_hub(self.store.search, question, limit)
            return self.store.search(question, limit)
        except StoreError as error:
            raise KnowledgeFailed(str(error)) from None


def private_index() -> Path:
    """Return a place for an index in a folder of our own, which goes when this process ends."""
    folder = tempfile.mkdtemp(prefix="custom-llm-server-")
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # and not in a worker, which was forked with this
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder) / "index.sqlite"
