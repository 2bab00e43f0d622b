"""What docs/knowledge.md shows is run, and both languages show the same."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from readme import Block, Page, codes
from running_server import ROOT, clean_environment

from knowledge.grounding import MIN_PASSAGE_CHARACTERS
from knowledge.passages import TARGET_CHARACTERS
from knowledge.ranking import RELEVANT_SHARE
from settings import Settings
from upstream.waits import Waits

ENGLISH, CHINESE = Page(ROOT / "docs/knowledge.md"), Page(ROOT / "docs/knowledge.zh-CN.md")
PAGES = pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["english", "chinese"])


def test_the_pages_have_the_same_headings_tables_and_blocks() -> None:
    assert [level for level, _ in ENGLISH.headings] == [level for level, _ in CHINESE.headings]
    assert ENGLISH.blocks == CHINESE.blocks
    for english, chinese in zip(ENGLISH.tables, CHINESE.tables, strict=True):
        assert [[codes(cell) for cell in row] for row in english] == [[codes(cell) for cell in row] for row in chinese]


@PAGES
def test_links_lead_somewhere(page: Page) -> None:
    local = [link.partition("#")[0] for link in page.links if "://" not in link]

    assert local
    assert [link for link in local if not (page.path.parent / link).exists()] == []


@PAGES
def test_what_is_named_like_a_setting_is_one(page: Page) -> None:
    named = set(re.findall(r"\b(?:KNOWLEDGE|RAG)_[A-Z_]+", page.text))

    known = {name.upper() for name in Settings.__struct_fields__ if name.startswith(("knowledge_", "rag_"))}
    assert named == known


@PAGES
def test_the_figures_in_the_text_are_the_codes(page: Page) -> None:
    for figure in (f"{RELEVANT_SHARE:.0%}".replace("%", " %"), f" {TARGET_CHARACTERS} ", f" {MIN_PASSAGE_CHARACTERS} "):
        assert figure in page.text


@pytest.mark.parametrize("block", ENGLISH.blocks_in("sh"), ids=lambda block: block.text.strip())
def test_each_command_says_what_is_shown(block: Block) -> None:
    path = os.pathsep.join([str(Path(sys.prefix, "bin")), os.environ["PATH"]])

    ended = subprocess.run(
        ["sh", "-ec", block.text],
        cwd=ROOT,
        env=clean_environment(ENV_FILE="", PATH=path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=20,
    )

    assert ended.returncode == 0, ended.stdout
    assert settled(ended.stdout) == settled(ENGLISH.after(block).text)


def settled(text: str) -> str:
    """Return a text without what differs each time: seconds, and the fence."""
    return re.sub(r"(?<=-)[0-9a-f]{8}(?=>)|(?<= in )[0-9.]+(?= s$)", "…", text, flags=re.MULTILINE)


def test_another_kind_of_knowledge_is_a_class_as_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("catalogue.db")) as database, database:
        database.execute("CREATE TABLE product(name TEXT, text TEXT)")
        database.executemany("INSERT INTO product VALUES(?, ?)", [("Kettle", "30 euros."), ("Lamp", "50 euros.")])
    (block,) = ENGLISH.blocks_in("python")
    names: dict[str, Any] = {}
    exec(block.text, names)

    found = names["Catalogue"]().search("How much is the lamp?", 4, Waits())

    assert [(passage.title, passage.text) for passage in found] == [("Lamp", "50 euros.")]


def test_the_json_that_is_shown_is_json() -> None:
    shown = list(documents())

    assert {"question", "knowledge_id", "records", "sources"} <= {key for document in shown for key in document}


def documents() -> Iterator[dict[str, Any]]:
    """Yield the objects in the JSON blocks, of which one holds lines."""
    for block in ENGLISH.blocks_in("json"):
        text = block.text.strip()
        yield from map(json.loads, text.splitlines() if text.startswith('{"question"') else [text])
