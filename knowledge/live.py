"""The index as it is now: a store that follows its file from one question to the next."""

import logging
import os
from pathlib import Path
from threading import Lock

from knowledge.passages import Passage
from knowledge.store import Match, Store, StoreError

log = logging.getLogger(__name__)


class LiveStore:
    """Search the index file that stands under a path at the moment of the question.

    Until there is one nothing is found. When the file is replaced the next question is answered from the new one, and a
    search under way ends on the old one. A file that is no index is logged once, and the old one stays in use. Any
    number of threads may share it; nothing is opened before the first question, so it may be made before a fork.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._store: Store | None = None
        self._switching = Lock()

    @property
    def passages(self) -> int | None:
        """Return the number of passages in the index, or None while there is no index yet."""
        store = self._current()
        return store.passages if store else None

    def search(self, question: str, limit: int) -> list[Passage]:
        """Return at most `limit` passages that bear on a question, the best first; none if none does."""
        store = self._current()
        return store.search(question, limit) if store else []

    def why(self, question: str, limit: int) -> list[Match]:
        """Return how the candidates for a question were ranked, those that cover too little of it among them."""
        store = self._current()
        return store.why(question, limit) if store else []

    def files(self) -> list[tuple[str, int]]:
        """Return the files in the index by name, each with the number of its passages."""
        store = self._current()
        return store.files() if store else []

    def close(self) -> None:
        """Close the index; a search under way ends well."""
        if self._store:
            self._store.close()

    def _current(self) -> Store | None:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return self._store
        found = (status.st_ino, status.st_mtime_ns)
        # one thread switches, the others go on with the old index; only for the first do they wait
        if found != self._seen and self._switching.acquire(blocking=self._store is None):
            try:
                if found != self._seen:
                    self._switch(found)
            finally:
                self._switching.release()
        return self._store

    def _switch(self, found: tuple[int, int]) -> None:
        old = self._store
        try:
            self._store = Store(self._path)
        except StoreError as error:
            log.warning("%s", error)
        else:
            if old:
                old.close()
        self._seen = found
