"""What a text is looked up by: its tokens, made in the same way for passages and for questions."""

import re
import unicodedata
from collections.abc import Iterator
from operator import add

from Stemmer import Stemmer

# the Snowball project's English stop words, then contractions and what people say to an agent whatever they ask
_STOP_WORDS = """
i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
it its itself they them their theirs themselves what which who whom this that these those am is are was were be
been being have has had having do does did doing would should could ought cannot a an the and but if or because as
until while of at by for with about against between into through during before after above below to from up down
in out on off over under again further then once here there when where why how all any both each few more most
other some such no nor not only own same so than too very can will just now
dont doesnt didnt isnt arent wasnt werent hasnt havent hadnt cant couldnt wont wouldnt shouldnt mustnt lets
im ive youre youve theyre whats whos wheres hows thats theres
may might must shall also much many want know tell let please thank thanks hello hi hey ok okay yes yeah um uh
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

# scripts written without spaces, and Hangul, whose particles cling to the word: Thai and Lao, Burmese, Khmer, kana, Han
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\U00020000-\U000323af"
)

_UNSPACED = re.compile(f"[{UNSPACED}]+")
_QUESTION_PHRASE = re.compile(
    "为什么|什么时候|什么样|什么|多少|怎么样|怎么|怎样|如何|哪些|哪个|哪里"
    "|為什麼|什麼時候|什麼樣|什麼|怎麼樣|怎麼|怎樣|哪個|哪裡"
)
# Indic vowel signs are marks, which \w leaves out: those blocks are taken whole
_LETTER = f"[^\\W\\d_{UNSPACED}]"
_WORD = f"{_LETTER}+(?:'{_LETTER}+|[\u0900-\u0963\u0971-\u0dff]+{_LETTER}*)*"
_NUMBER = r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)*"
_PART = re.compile(f"{_WORD}|{_NUMBER}")
# a run of an unspaced script, initials (u.s.), or words and numbers with no more than a hyphen between (xr-200, 4k)
_RUN = re.compile(f"{_UNSPACED.pattern}|(?:[a-z]\\.){{2,}}|(?:{_PART.pattern})(?:[-\u2010]?(?:{_PART.pattern}))*")
_CONTRACTION = re.compile(r"'(?:s|m|re|ve|ll|d)$")
_ELISION = re.compile(r"^(?:[cdjlmnst]|qu)'")

_ACCENTED = re.compile("[\u00c0-\u024f\u0300-\u06ff\u1e00-\u1fff]+")
# combining accents, Hebrew points, Arabic vowel signs and tatweel
_ACCENT = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u065f\u0670]")


def tokens(text: str) -> list[str]:
    """Return the tokens of a text in its order, repeated as they are repeated.

    Words are case-folded, without accents, and stemmed by Snowball's English rules, which do little to other
    languages; stop words are left out. Han, kana, Hangul and Thai become pairs of neighbouring characters, a lone
    character itself. A number is one token; a model number is its parts and the whole: ``XR-200`` and ``xr200``
    are both ``xr``, ``200``, ``xr200``. No token has a space or a quotation mark in it.
    """
    stem = Stemmer("english", 0).stemWord  # not thread-safe, and made in a microsecond
    found: list[str] = []
    for run in _RUN.findall(_folded(text)):
        if _UNSPACED.match(run):
            found.extend(map(add, run, run[1:]) if len(run) > 1 else run)
        elif not run.isalpha():
            found.extend(map(stem, _parts(run)))
        elif run not in STOP_WORDS:
            found.append(stem(run))
    return found


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    return _QUESTION_PHRASE.sub(" ", _ACCENTED.sub(_without_accents, text))


def _without_accents(match: re.Match[str]) -> str:
    return _ACCENT.sub("", unicodedata.normalize("NFKD", match[0]))


def _parts(compound: str) -> Iterator[str]:
    if compound.endswith("."):
        yield compound.replace(".", "")
        return
    parts = [_plain(part) for part in _PART.findall(compound)]
    for part in parts:
        if part not in STOP_WORDS and (len(part) > 1 or len(parts) == 1):
            yield part
    # one writes "Wi-Fi", "check-in" and "XR-200", the other "wifi", "checkin" and "XR200"
    named = any(part.isalpha() for part in parts) and any(part[0].isdigit() for part in parts)
    if named or (len(parts) == 2 and min(map(len, parts)) <= 2 and parts[0].isalpha()):
        yield "".join(parts)


def _plain(part: str) -> str:
    if part[0].isdigit():
        return part.replace(",", "")
    return _ELISION.sub("", _CONTRACTION.sub("", part)).replace("'", "")
