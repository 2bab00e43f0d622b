"""What can be found: passages of about a paragraph, which know the headings that they stand under."""

import re
from collections.abc import Iterator

from msgspec import Struct

from knowledge.documents import Document

TARGET_CHARACTERS = 500
TITLE_SEPARATOR = " › "

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(?:(=+)|(-{2,}))[ \t]*$")
_BLOCK_START = re.compile(r"\s*(?:[-*+>|]|\d+[.)])(?:\s|$)")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?\n)?---[ \t]*\n", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*(['\"]?)(.+?)\1[ \t]*$", re.MULTILINE)
_INVISIBLE = re.compile(r"<!--.*?-->|!\[[^\]]*\]\(\s*data:[^)]*\)", re.DOTALL)
_PARAGRAPH_END = re.compile(r"\n[ \t]*\n\s*")
# the number that opens a list's item ends no sentence; a line's end does only before an item or a table's row
_SENTENCE_END = re.compile(
    r"(?<!^\d)(?<!^\d\d)[.!?…]+[\"'”’)\]]*\s+|[。！？；]+[”’」』）]*\s*|\n+(?=\s*(?:[-*+|>]|\d+[.)])\s)", re.MULTILINE
)


class Passage(Struct, frozen=True):
    """A piece of a document: its id, the headings above it, the file, its text; found: how well it fits (BM25)."""

    id: str
    title: str
    file: str
    text: str
    score: float = 0.0


def split(documents: list[Document], target: int = TARGET_CHARACTERS) -> list[Passage]:
    """Split the documents of one file into passages of about `target` characters.

    A passage ends where a section ends, else between two paragraphs, else between two sentences; only a sentence of
    more than twice the target is cut inside. Ids are the file's name and a running number: the same documents always
    give the same passages.
    """
    found: list[Passage] = []
    for document in documents:
        for title, text in _sections(document):
            for piece in _pieces(text, target):
                found.append(Passage(f"{document.file}#{len(found) + 1}", title, document.file, piece))
    return found


def shorten(text: str, limit: int) -> str:
    """Return the text if it has at most `limit` characters, else its whole sentences that fit, or what fits of one."""
    if len(text) <= limit:
        return text
    ends = [match.end() for match in _SENTENCE_END.finditer(text, 0, limit + 1)]
    cut = text[: ends[-1]].rstrip() if ends else ""
    return cut if cut and len(cut) <= limit else text[: max(0, limit - 1)].rstrip() + "…"


def _sections(document: Document) -> Iterator[tuple[str, str]]:
    """Yield each section's title path and text."""
    if not document.markdown:
        yield document.title, document.text
        return
    text, title = document.text, document.title
    if front := _FRONT_MATTER.match(text):
        text = text[front.end() :]
        if named := _FRONT_TITLE.search(front[0]):
            title = named[2]
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    fence = ""
    for line in _INVISIBLE.sub("", text).split("\n"):
        if fence:
            fence = "" if line.strip().startswith(fence) and not line.strip().strip(fence[0]) else fence
        elif opened := _FENCE.match(line):
            fence = opened[1]
        elif heading := _heading(line, lines):
            yield _title(title, path), "\n".join(lines)
            lines = []
            level, name = heading
            path = [above for above in path if above[0] < level] + [(level, name)]
            continue
        lines.append(line)
    yield _title(title, path), "\n".join(lines)


def _heading(line: str, before: list[str]) -> tuple[int, str] | None:
    """Return the level and text of the heading that ends with this line; take its text off the lines before."""
    if match := _HEADING.match(line):
        return len(match[1]), (match[2] or "").strip()
    match = _UNDERLINE.match(line)
    # only a line that stands alone above its underline: below a longer paragraph it is a rule
    text, *above = [line.strip() for line in reversed(before[-2:])] or [""]
    if not match or not text or any(above) or _BLOCK_START.match(text):
        return None
    before.pop()
    return 1 if match[1] else 2, text


def _title(document: str, path: list[tuple[int, str]]) -> str:
    names = [name for _, name in path if name]
    # a document's own first heading says better than its file's name what it is about
    return TITLE_SEPARATOR.join(names if path and path[0][0] == 1 else [document, *names])


def _pieces(text: str, target: int) -> Iterator[str]:
    """Yield runs of whole paragraphs or sentences, as even in length as their borders allow."""
    text = text.strip()
    even = len(text) / max(1, round(len(text) / target))
    piece, left = "", len(text)
    for unit in _units(text, target) if len(text) > target else [text]:
        # what would be left behind the cut must be worth a passage of its own
        if len(piece) + len(unit) / 2 > even and left > even / 2 and piece.strip():
            yield piece.strip()
            piece = ""
        piece += unit
        left -= len(unit)
    if piece:
        yield piece.strip()


def _units(text: str, target: int) -> Iterator[str]:
    """Yield the text in its smallest parts, each with the space behind it."""
    for paragraph in _cut_after(_PARAGRAPH_END, text):
        if len(paragraph) <= target:
            yield paragraph
            continue
        for sentence in _cut_after(_SENTENCE_END, paragraph):
            while len(sentence) > 2 * target:
                cut = max(sentence.rfind(space, target // 2, target) for space in "\n ") + 1 or target
                yield sentence[:cut]
                sentence = sentence[cut:]
            yield sentence


def _cut_after(border: re.Pattern[str], text: str) -> Iterator[str]:
    start = 0
    for match in border.finditer(text):
        yield text[start : match.end()]
        start = match.end()
    if start < len(text):
        yield text[start:]
