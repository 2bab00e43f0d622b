"""The two READMEs as their parts, for the tests that hold them to what they document."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from running_server import ROOT

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"(?:^\|.*\|\n)+", re.MULTILINE)
_CELL = re.compile(r"(?<!\\)\|")
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, and its text without the fences."""

    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Return a shell block's commands, each on one line."""
        whole = self.text.replace("\\\n", " ")
        return [re.sub(r"\s+", " ", line) for line in whole.splitlines() if line and not line.startswith("#")]


class Page:
    """One page; tables are lists of rows of cells, the heads first, without the line of dashes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text()
        self.blocks = [Block(*found.groups()) for found in _FENCE.finditer(self.text)]
        self.prose = _FENCE.sub("", self.text)
        self.headings = re.findall(r"^(#+) (.+)$", self.prose, re.MULTILINE)
        self.tables = [_rows(found) for found in _TABLE.findall(self.prose)]
        self.links = _LINK.findall(self.prose)

    def table(self, first: str) -> list[list[str]]:
        """Return the rows, without the heads, of the one table whose first row has this in its first cell."""
        (found,) = (table[1:] for table in self.tables if first in table[1][0])
        return found

    @property
    def settings(self) -> list[list[str]]:
        """Return the rows of all the tables whose second column holds defaults: they are one, in groups."""
        return [row for heads, *rows in self.tables if heads[1] in ("Default", "默认值") for row in rows]

    def blocks_in(self, language: str) -> list[Block]:
        """Return the blocks in one language."""
        return [block for block in self.blocks if block.language == language]

    def after(self, block: Block) -> Block:
        """Return the block that follows."""
        return self.blocks[self.blocks.index(block) + 1]


def codes(text: str) -> list[str]:
    """Return what stands between backticks."""
    return _CODE.findall(text)


def _rows(table: str) -> list[list[str]]:
    heads, _, *rows = (
        [cell.strip().replace("\\|", "|") for cell in _CELL.split(line)[1:-1]] for line in table.splitlines()
    )
    return [heads, *rows]


ENGLISH = Page(ROOT / "README.md")
CHINESE = Page(ROOT / "README.zh-CN.md")
PAGES = pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["english", "chinese"])
