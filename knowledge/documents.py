"""What a folder holds: the documents in its files, and what is wrong with those that cannot be read."""

import codecs
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

MAX_FILE_BYTES = 50_000_000
MARKDOWN, TEXT, JSON_LINES, PDF = (".md", ".markdown"), (".txt",), (".jsonl",), (".pdf",)

# a PDF's lines end where its column does: a line's end means something only after the end of a sentence
_WRAPPED_CHINESE = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef])\n(?=[\u3000-\u9fff\uff00-\uffef])")
_WRAPPED_WORD = re.compile(r"(?<=[a-z])-\n(?=[a-z])")
_WRAPPED_SENTENCE = re.compile(r"(?<=[^\n.!?:;。！？：；])\n(?=[^\n])")


class FolderError(Exception):
    """The folder cannot be listed."""


class Document(Struct, frozen=True):
    """A text with a title, from a file named by its path inside the folder."""

    file: str
    title: str
    text: str
    markdown: bool = False


class Source(Struct, frozen=True):
    """A file that can be read: its name in the folder, its path, and what changes when it is written."""

    name: str
    path: str
    inode: int
    modified_ns: int
    size: int


class Listing(Struct, frozen=True):
    """The files of a folder that can be read, in order of their names, and one line about each that cannot."""

    sources: list[Source]
    problems: list[str]


class Reading(Struct, frozen=True):
    """What a file gave: its documents, and one line about each part that could not be read."""

    documents: list[Document]
    problems: list[str]


class _Record(Struct):
    question: str | None = None
    answer: str | None = None
    title: str | None = None
    text: str | None = None
    content: str | None = None


def list_sources(folder: Path) -> Listing:
    """List the files under a folder that `read` understands.

    Hidden files and folders are left out, and links that lead out of the folder; a link that stays inside is followed,
    each target once. Raise FolderError if the folder itself cannot be listed.
    """
    root = os.path.realpath(folder)
    try:
        os.scandir(root).close()
    except OSError as error:
        raise FolderError(f"{folder}: {_reason(error)}") from None
    problems: list[str] = []
    sources = sorted(_walk(root, root, "", {root}, problems), key=lambda source: source.name)
    return Listing(sources, sorted(problems))


def _walk(root: str, folder: str, prefix: str, seen: set[str], problems: list[str]) -> Iterator[Source]:
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError as error:
        problems.append(f"{prefix}: {_reason(error)}")
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        name, path = prefix + entry.name, entry.path
        try:
            if entry.is_symlink():
                path = os.path.realpath(path)
                if os.path.commonpath((root, path)) != root:
                    problems.append(f"{name}: a link that leads out of the folder; skipped")
                    continue
            if path in seen:
                continue
            if entry.is_dir():
                seen.add(path)
                yield from _walk(root, path, name + "/", seen, problems)
            elif not entry.is_file():
                problems.append(f"{name}: neither a file nor a folder; skipped")
            elif name.lower().endswith(MARKDOWN + TEXT + JSON_LINES + PDF):
                seen.add(path)
                status = os.stat(path)
                yield Source(name, path, status.st_ino, status.st_mtime_ns, status.st_size)
            else:
                problems.append(f"{name}: only .md, .txt, .jsonl and .pdf are read; skipped")
        except OSError as error:
            problems.append(f"{name}: {_reason(error)}")


def read(source: Source, max_bytes: int = MAX_FILE_BYTES) -> Reading:
    """Read a file into documents; what is broken in it is told as `name: what` or `name line 7: what`.

    Text is UTF-8, GB18030, or UTF-16 with its byte order mark. A line of JSON Lines is an object with `question` and
    `answer`, or with `text` (or `content`) and perhaps a `title`; each is a document, and a broken one loses no other.
    """
    if source.size > max_bytes:
        return Reading(
            [], [f"{source.name}: {source.size / 1e6:.1f} MB, over the {max_bytes / 1e6:g} MB limit; skipped"]
        )
    kind = os.path.splitext(source.name)[1].lower()
    try:
        if kind in PDF:
            return _read_pdf(source)
        with open(source.path, "rb") as file:
            text = _decoded(file.read(max_bytes + 1))
    except OSError as error:
        return Reading([], [f"{source.name}: {_reason(error)}; skipped"])
    except ValueError as error:
        return Reading([], [f"{source.name}: {error}; skipped"])
    if kind in JSON_LINES:
        return _read_lines(source.name, text)
    return Reading([Document(source.name, _title(source.name), text, kind in MARKDOWN)], [])


def _read_lines(name: str, text: str) -> Reading:
    reading = Reading([], [])
    decoder = msgspec.json.Decoder(_Record)
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = decoder.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            reading.problems.append(f"{name} line {number}: {error}; skipped")
            continue
        title = record.question or record.title or _title(name)
        body = record.answer or record.text or record.content
        if body:
            reading.documents.append(Document(name, title, body))
        else:
            reading.problems.append(f"{name} line {number}: needs `question` and `answer`, or `text`; skipped")
    return reading


def _read_pdf(source: Source) -> Reading:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        with PdfReader(source.path) as reader:
            title = reader.metadata.title if reader.metadata else None
            pages = [page.extract_text() for page in reader.pages]
    except PyPdfError as error:
        return Reading([], [f"{source.name}: {error}; skipped"])
    except Exception as error:  # on a hostile file pypdf raises whatever its parser ran into
        return Reading([], [f"{source.name}: not a readable PDF ({type(error).__name__}); skipped"])
    text = _unwrapped("\n".join(pages)).strip()
    if not text:
        return Reading([], [f"{source.name}: no text in it, only pictures; skipped"])
    return Reading([Document(source.name, (title or "").strip() or _title(source.name), text)], [])


def _unwrapped(text: str) -> str:
    text = "\n".join(line.strip() for line in text.split("\n"))
    for wrapped, joint in ((_WRAPPED_WORD, ""), (_WRAPPED_CHINESE, ""), (_WRAPPED_SENTENCE, " ")):
        text = wrapped.sub(joint, text)
    return text


def _decoded(data: bytes) -> str:
    """Return the text, its lines ended by newlines alone; raise ValueError if it is none."""
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "gb18030"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        return text.replace("\r\n", "\n").replace("\r", "\n")
    raise ValueError("not a text in UTF-8 or GB18030")


def _title(name: str) -> str:
    return re.sub(r"[-_\s]+", " ", os.path.splitext(os.path.basename(name))[0]).strip()


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
