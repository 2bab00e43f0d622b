"""The index of the passages: one SQLite file, written whole and then only read."""

import os
import sqlite3
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path

from msgspec import Struct

from knowledge.passages import Passage
from knowledge.ranking import RELEVANT_SHARE, TITLE_WEIGHT, Question, pack
from knowledge.tokens import tokens

APPLICATION_ID, FORMAT = 0x4B4E4F57, 1
# an SQLite before 3.32 takes no more than 999 values in a statement
MAX_QUESTION_TOKENS = 900
# FTS5 takes about 2 µs for each pair of a token and a passage that holds it: candidates are sought by the rarest
# tokens whose passages add up to this; all tokens then rank them
MAX_POSTINGS = 2_000
MAX_SOUGHT_TOKENS = 8
SPARE_CANDIDATES = 10
WRITE_BUFFER_BYTES = 64_000_000

# the tokens are ours: FTS5 only has to part them at the spaces, and ascii leaves every other character alone
_SCHEMA = f"""
PRAGMA page_size = 8192;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
CREATE VIRTUAL TABLE postings USING fts5(title, text, content='', tokenize="ascii tokenchars '.'");
INSERT INTO postings(postings, rank) VALUES('rank', 'bm25({TITLE_WEIGHT}, 1.0)');
CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, postings, row);
CREATE TABLE passage(
    number INTEGER PRIMARY KEY, id TEXT, title TEXT, file TEXT, text TEXT,
    title_tokens TEXT, text_tokens TEXT, length INT
);
CREATE TABLE token(token TEXT PRIMARY KEY, passages INT) WITHOUT ROWID;
CREATE TABLE collection(passages INT, mean_length REAL);
"""
_CANDIDATES = """
SELECT id, title, file, text, title_tokens, text_tokens, length FROM passage
WHERE number IN (SELECT rowid FROM postings WHERE postings MATCH ? ORDER BY rank LIMIT ?) ORDER BY number
"""


class StoreError(Exception):
    """An index cannot be written or read; the message says which and why."""


class Match(Struct, frozen=True):
    """A passage, the share of the question that it covers, and what each token adds to its score."""

    passage: Passage
    share: float
    tokens: dict[str, float]


class Store:
    """Search one index file; any number of threads may do so at once.

    Raise StoreError if the file is no index. Nothing is locked: each search borrows a connection of its own.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: deque[sqlite3.Connection] = deque()
        self._closed = False
        with self._connection() as connection:
            marks = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
            if marks != [APPLICATION_ID, FORMAT]:
                raise StoreError(f"{path}: not an index of this version; build it again")
            connection.execute("SELECT rowid FROM postings LIMIT 0")
            self.passages: int = connection.execute("SELECT passages FROM collection").fetchone()[0]

    def search(self, question: str, limit: int) -> list[Passage]:
        """Return at most `limit` passages that bear on a question, the best first; none if none does."""
        relevant = (match.passage for match in self._ranked(question, limit) if match.share >= RELEVANT_SHARE)
        return list(islice(relevant, limit))

    def why(self, question: str, limit: int) -> list[Match]:
        """Return how the candidates for a question were ranked, those that cover too little of it among them."""
        return list(self._ranked(question, limit))

    def files(self) -> list[tuple[str, int]]:
        """Return the files in the index by name, each with the number of its passages."""
        with self._connection() as connection:
            return connection.execute("SELECT file, COUNT(*) FROM passage GROUP BY file ORDER BY file").fetchall()

    def close(self) -> None:
        """Close what is idle; a search that is under way ends well and closes its own connection."""
        self._closed = True
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def _ranked(self, text: str, limit: int) -> Iterator[Match]:
        asked = dict(Counter(tokens(text)).most_common(MAX_QUESTION_TOKENS))
        with self._connection() as connection:
            passages, mean_length = connection.execute("SELECT passages, mean_length FROM collection").fetchone()
            marks = ",".join("?" * len(asked))
            known = f"SELECT token, passages FROM token WHERE token IN ({marks})"
            holding: dict[str, int] = dict(connection.execute(known, list(asked)))
            if not holding:
                return
            question = Question(asked, passages, holding)
            expression = " OR ".join(f'"{token}"' for token in _sought(question.heaviest, holding))
            rows = connection.execute(_CANDIDATES, (expression, limit + SPARE_CANDIDATES)).fetchall()
        matches = []
        for id, title, file, body, title_tokens, body_tokens, length in rows:
            gains = question.contributions(title_tokens, body_tokens, length / mean_length)
            matches.append((Passage(id, title, file, body, sum(gains.values())), gains))
        for passage, gains in sorted(matches, key=lambda match: -match[0].score):
            yield Match(passage, question.coverage(gains), gains)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = self._borrow()
        try:
            yield connection
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"{self._path}: {_explained(error)}") from None
            raise
        self._idle.append(connection)
        if self._closed:
            self.close()

    def _borrow(self) -> sqlite3.Connection:
        with suppress(IndexError):
            return self._idle.pop()
        try:
            uri = f"{self._path.absolute().as_uri()}?mode=ro&immutable=1"
            return sqlite3.connect(uri, uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from None


def write(path: Path, passages: Iterable[Passage]) -> int:
    """Write an index of the passages and return their number.

    The file appears under its name whole and at once, in place of an older one: it is written beside it and renamed.
    Raise StoreError if it cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    try:
        with closing(sqlite3.connect(name)) as connection:
            count = _fill(connection, passages)
        os.replace(name, path)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path}: {_explained(error)}") from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)
    return count


def _fill(connection: sqlite3.Connection, passages: Iterable[Passage]) -> int:
    connection.executescript(_SCHEMA)
    with suppress(sqlite3.OperationalError):  # a setting that FTS5 does not promise; it halves the time
        connection.execute("INSERT INTO postings(postings, rank) VALUES('hashsize', ?)", (WRITE_BUFFER_BYTES,))
    number = total = 0
    for number, passage in enumerate(passages, 1):
        title, text = tokens(passage.title), tokens(passage.text)
        total += (length := len(title) + len(text))
        connection.execute(
            "INSERT INTO postings(rowid, title, text) VALUES(?, ?, ?)", (number, " ".join(title), " ".join(text))
        )
        row = (number, passage.id, passage.title, passage.file, passage.text, pack(title), pack(text), length)
        connection.execute("INSERT INTO passage VALUES(?, ?, ?, ?, ?, ?, ?, ?)", row)
    connection.execute("INSERT INTO collection VALUES(?, ?)", (number, max(total, 1) / max(number, 1)))
    connection.execute("INSERT INTO postings(postings) VALUES('optimize')")
    connection.execute("INSERT INTO token SELECT term, doc FROM vocabulary")
    connection.commit()
    return number


def _sought(heaviest: Iterable[str], holding: Mapping[str, int]) -> Iterator[str]:
    """Yield the tokens to seek candidates by: the heaviest, as long as few enough passages hold them."""
    postings = 0
    for number, token in enumerate(islice(heaviest, MAX_SOUGHT_TOKENS)):
        postings += holding[token]
        if number == 0 or postings <= MAX_POSTINGS:
            yield token


def _explained(error: Exception) -> str:
    if "no such module: fts5" in str(error):
        return f"Python's SQLite {sqlite3.sqlite_version} has no FTS5; use a Python whose SQLite has it"
    return str(error)
