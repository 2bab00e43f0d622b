"""`flask knowledge`: build an index, look into it, and see what the LLM would be told."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from flask.cli import AppGroup

from knowledge.documents import FolderError, list_sources
from knowledge.grounding import Place, ground
from knowledge.indexer import Index, Report
from knowledge.passages import Passage
from knowledge.question import question
from knowledge.ranking import RELEVANT_SHARE
from knowledge.source import Documents, Knowledge, KnowledgeFailed
from knowledge.store import Store, StoreError
from protocol.language import language
from upstream.waits import Waits


@dataclass(frozen=True)
class Look:
    """What the commands look into: the knowledge, its index if that is kept, and how the LLM is told."""

    knowledge: Knowledge
    index: Path | None
    limit: int
    budget: int
    place: Place


def knowledge_commands(look: Look) -> AppGroup:
    """Return the commands for what this server knows."""
    group = AppGroup("knowledge", help="Look into what the agent knows.")

    @group.command("index")
    @click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
    def index(path: Path) -> None:
        """Read the documents in PATH and write their index to KNOWLEDGE_INDEX; without one, only try it."""
        with tempfile.TemporaryDirectory() as folder:
            _tell(_build(path, look.index or Path(folder) / "index.sqlite"))
        click.echo(f"written to {look.index or 'nowhere: KNOWLEDGE_INDEX is not set'}")

    @group.command("list")
    def list_files() -> None:
        """List the files that are known, with the number of their passages."""
        with _opened(look) as store:
            for file, passages in store.files():
                click.echo(f"{passages:6}  {file}")

    @group.command("search")
    @click.argument("text", metavar="QUESTION")
    def search(text: str) -> None:
        """Show the passages that a question finds, with their scores, and why."""
        if not isinstance(look.knowledge, Documents):
            for passage in _found(look, text):
                _show(passage)
            return
        with _opened(look) as store:
            for match in store.why(text, look.limit)[: look.limit]:
                _show(match.passage)
                verdict = "found" if match.share >= RELEVANT_SHARE else "left out: it covers too little"
                gains = sorted(match.tokens.items(), key=lambda item: -item[1])
                why = ", ".join(f"{token} {gain:.2f}" for token, gain in gains)
                click.echo(f"    {verdict}, {match.share:.0%} of the question by weight: {why}")

    @group.command("check")
    @click.argument("text", metavar="QUESTION")
    def check(text: str) -> None:
        """Show the messages that would be sent to the language model."""
        messages = [{"role": "user", "content": text}]
        asked = question(messages)
        told = ground(
            messages,
            _found(look, asked) if asked else (),
            budget=look.budget,
            place=look.place,
            language=language(text),
        )
        for message in told:
            click.echo(f"--- {message['role']}\n{message['content']}")

    return group


def _build(folder: Path, file: Path) -> Report:
    try:
        listing = list_sources(folder)
        with click.progressbar(length=1000, label="indexing", file=sys.stderr) as bar:
            return Index(folder, file).build(listing, lambda share: bar.update(int(share * 1000) - bar.pos))
    except (FolderError, StoreError) as error:
        raise click.ClickException(str(error)) from None


def _tell(report: Report) -> None:
    click.echo(str(report), err=True)
    for problem in report.problems:
        click.echo(f"left out: {problem}", err=True)


@contextmanager
def _opened(look: Look) -> Iterator[Store]:
    """Open the index that the server keeps, or one that is made for this look."""
    if not isinstance(look.knowledge, Documents):
        raise click.ClickException("the documents are not this server's own, so their index is not here")
    with tempfile.TemporaryDirectory() as folder:
        file = look.index
        try:
            if file is None or not file.exists():
                file = Path(folder) / "index.sqlite"
                _tell(_build(look.knowledge.folder, file))
            store = Store(file)
            yield store
            store.close()
        except StoreError as error:
            raise click.ClickException(str(error)) from None


def _found(look: Look, text: str) -> list[Passage]:
    if isinstance(look.knowledge, Documents):
        with _opened(look) as store:
            return store.search(text, look.limit)
    try:
        return list(look.knowledge.search(text, look.limit, Waits()))
    except KnowledgeFailed as failed:
        raise click.ClickException(str(failed)) from None


def _show(passage: Passage) -> None:
    click.echo(f"{passage.score:8.3f}  {passage.title}  ({passage.file})")
    click.echo(f"    {' '.join(passage.text.split())[:200]}")
