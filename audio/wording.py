"""Makes of a sentence what the voice is given, and what the transcript shows of it, word by word."""

import re
from typing import NamedTuple

from audio.markup import spoken_characters
from protocol.language import HAN

_SPEAKABLE = re.compile(r"[^\W_]")
# a word that is none of letters and digits, and is said all the same
_SAID = re.compile(r"[^\W_]|[%&@#+=<>$€£¥￥％＋＝×÷°±§√∞≈≠≤≥]")
# a mark that closed the sentence before
_CLOSED_BEFORE = re.compile(r"(?:[\s!?…。！？；，,;:：、)\]）」』】》”’—–]|\.{2,}|\.(?!\w)|[\"'](?=\s))+")
_NO_SPACE_BEFORE = frozenset(",.!?;:…，。！？；：、)）")

_OPENING = r"“‘（「『《〈【(\[{"
_IDEOGRAPHIC = r"，。！？；：、）」』》〉】"
_TOKEN = re.compile(
    # a Chinese character with the marks around it
    rf"[{_OPENING}]*[{HAN}][^\w\s{_OPENING}$€£¥￥#@+]*"
    # a run of anything else, up to the next Chinese character or mark
    rf"|(?:(?![{HAN}{_IDEOGRAPHIC}]|[{_OPENING}]+[{HAN}])\S)+[{_IDEOGRAPHIC}”’]*|[^\w\s]"
)


class Word(NamedTuple):
    """A word of what is shown, and the range of characters of `spoken` that say it."""

    text: str
    start: int
    end: int


class Wording(NamedTuple):
    """A sentence as it is spoken, as it is shown, and the words of what is shown.

    The words' texts, joined, are `shown` but for white space; their ranges are in order and do not overlap. A sentence
    that has nothing to say has `spoken` empty and no words.
    """

    spoken: str
    shown: str
    words: tuple[Word, ...]


def wording(text: str, *, verbatim: bool = False) -> Wording:
    """Clean a sentence for speaking.

    Markdown, links, code, emoji, HTML, LaTeX's dollars and what cannot be seen are not spoken. `shown` is the sentence
    as it came where it is `verbatim`. Else it is what is left of it, in which a run of white space is one space, or
    one line's end where it has any, also at both ends: the `shown` of successive sentences are joined as they are.
    """
    said = spoken_characters(text)
    _tidy(text, said)
    kept = [at for at, char in enumerate(said) if char]
    shown = text if verbatim else "".join(said)
    first, last = _spoken_part("".join(said))
    spoken_at = kept[first:last]
    spoken = "".join(said[at] for at in spoken_at).replace("\n", " ")
    if not spoken:
        return Wording("", shown if verbatim else shown.strip(), ())
    offsets = {at: offset for offset, at in enumerate(spoken_at)}
    shown_at = range(len(text)) if verbatim else kept
    return Wording(spoken, shown, _words(shown, [offsets.get(at, -1) for at in shown_at], spoken))


def _tidy(text: str, said: list[str]) -> None:
    """Leave one character of white space between words, and none before a mark that has lost what it stood behind."""
    run: list[int] = []
    is_torn = False
    for at, char in enumerate(said):
        if not char:
            is_torn = is_torn or bool(run)
        elif char.isspace():
            run.append(at)
        elif run:
            _make_one(said, run, is_torn and run[0] > 0 and char in _NO_SPACE_BEFORE)
            run, is_torn = [], False
    _make_one(said, run, False)


def _make_one(said: list[str], run: list[int], is_none: bool) -> None:
    if run:
        space = "\n" if any(said[at] in "\n\r\x0b\x0c\x85\u2028\u2029" for at in run) else " "
        for at in run:
            said[at] = ""
        said[run[0]] = "" if is_none else space


def _spoken_part(text: str) -> tuple[int, int]:
    """Return where what is to be spoken begins and ends; at one place if there is nothing."""
    if not _SPEAKABLE.search(text):
        return 0, 0
    closed = _CLOSED_BEFORE.match(text)
    return closed.end() if closed else 0, len(text.rstrip())


def _words(shown: str, offsets: list[int], spoken: str) -> tuple[Word, ...]:
    words: list[Word] = []
    waiting: int | None = None  # where a token began that is not said, before the first word
    last = 0
    for token in _TOKEN.finditer(shown):
        said = [offset for offset in offsets[token.start() : token.end()] if offset >= 0]
        is_said = any(_SAID.match(spoken, offset) for offset in said)
        if words and not is_said:
            # not said: it belongs to the word before
            before = words[-1]
            words[-1] = Word(shown[last : token.end()], before.start, said[-1] + 1 if said else before.end)
            continue
        if not is_said:
            waiting = token.start() if waiting is None else waiting
            continue
        last = token.start() if waiting is None else waiting
        words.append(Word(shown[last : token.end()], said[0], said[-1] + 1))
        waiting = None
    return tuple(words)
