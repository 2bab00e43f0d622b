"""The voice that is always there: espeak-ng, in English and Mandarin.

It sounds robotic, starts at once, and tells when each word is spoken. GPL-3: see audio/espeak_library.py.
"""

import re
import time
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from audio.espeak_library import Heard, Manner, library
from audio.voice import Mark, Sound, VoiceFailed
from protocol.errors import ServerError
from protocol.language import HAN, Language
from upstream.waits import Waits

ACCENTS = {
    "en-us": "en-us",
    "en-us-nyc": "en-us-nyc",
    "en-gb": "gmw/en",  # which espeak-ng does not find by its name
    "en-gb-scotland": "en-gb-scotland",
    "en-gb-x-rp": "en-gb-x-rp",
    "en-gb-x-gbclan": "en-gb-x-gbclan",
    "en-gb-x-gbcwmd": "en-gb-x-gbcwmd",
    "en-029": "en-029",
}
"""The accents of English that a request may ask for, and espeak-ng's names of them."""
SPEAKERS = frozenset(["f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8"])
"""The speakers that a request may ask for, in both languages."""

# with espeak-ng's own 175 words a minute Mandarin has three syllables a second, a third less than people have;
# with its own volume of 100 the loudest sounds reach 32,767, and Mandarin is a fifth louder than English
_MANNERS: dict[Language, Manner] = {"en": Manner("en-us", 175, 80), "zh": Manner("cmn", 230, 66)}
# a piece is said at one go: whole clauses, enough of them to be worth it, so that the first sound need not wait for all
_LEAST = {"en": 60, "zh": 20}
_MOST = {"en": 240, "zh": 80}
_CLOSING = "\"'”’」』》） )\n"
_CLAUSE_ENDS = frozenset(",;:!?….，；：、。！？")
_CLAUSE_END = re.compile(r"[,;:!?…][\"'”’)]*\s+|\.[\"'”’)]*\s+(?![a-z])|[，；：、。！？][”’」』》）\"')]*\s*")
_CHINESE = re.compile(rf"[{HAN}](?:[{HAN}0-9，；：、。！？\s]*[{HAN}])?[，；：、。！？”’」』》）,;:.!?\"')]*\s*")
# what a mark is about: a Chinese character or a word, with the punctuation that is written to it
_TOKEN = re.compile(rf"[“‘「『《（(]*[{HAN}][^\w\s“‘「『《（(]*|[^\s{HAN}]+")
# control characters are commands to espeak-ng, and half a surrogate pair can't be encoded
_UNSPEAKABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

_SILENCE = 64  # of 32,768
_QUIET = 500  # below it nothing is heard of a word any more
_BLOCK = 55  # samples, 2.5 ms
_PAUSE_MS = 200
_JOIN_MS = 20


class Piece(NamedTuple):
    """A part of a text that is said at one go, its language, and the most silence after it, in ms."""

    start: int
    end: int
    language: Language
    pause_ms: int


class EspeakVoice:
    """Speak with espeak-ng; raise EspeakUnavailable where it is not installed.

    A request's `voice` is an accent ("en-gb"), a speaker ("f3") or both ("en-gb+f3"). Of any other name nothing is
    taken, and nothing of it reaches espeak-ng, which would look for a file.
    """

    def __init__(self) -> None:
        self._library = library()
        self.rate = self._library.rate
        languages: tuple[Language, ...] = ("en", "zh")
        for language in languages:  # whose dictionaries take a few ms to read for the first time
            self._say("", language, None)

    def speak(self, text: str, language: Language, voice: str | None, waits: Waits) -> Iterator[Sound]:
        """Yield the sound of a text piece by piece, with a mark for each word; raise VoiceFailed.

        Every character is in one mark, but for white space and for what is never spoken at the end. After the last
        mark there are at most 200 ms of silence.
        """
        text = _UNSPEAKABLE.sub(" ", text)
        samples = 0
        marked = 0
        for piece in pieces(text, language):
            waits.pause(time.monotonic())  # which sees a hang-up
            try:
                heard = self._say(text[piece.start : piece.end], piece.language, voice)
            except ServerError as error:
                raise VoiceFailed("The voice failed.", detail=error.detail) from None
            pcm, lead, loud = _trimmed(heard.pcm, self.rate, piece.pause_ms)
            if not loud:
                continue
            marks = _marks(text, marked, piece, heard, 1000 * lead / self.rate, 1000 * loud / self.rate)
            before_ms = 1000 * samples / self.rate
            yield Sound(
                pcm,
                [mark._replace(start_ms=before_ms + mark.start_ms, end_ms=before_ms + mark.end_ms) for mark in marks],
            )
            samples += len(pcm) // 2
            marked = piece.end

    def _say(self, text: str, language: Language, voice: str | None) -> Heard:
        return self._library.say(text, _manner(language, voice))


def pieces(text: str, language: Language) -> Iterator[Piece]:
    """Cut a text where a clause ends, and around the Chinese in English, which the English voice can't read.

    The Chinese voice reads English words as English.
    """
    if language == "zh":
        yield from _clauses(text, 0, len(text), language)
        return
    done = 0
    for chinese in _CHINESE.finditer(text):
        yield from _clauses(text, done, chinese.start(), "en")
        yield from _clauses(text, chinese.start(), chinese.end(), "zh")
        done = chinese.end()
    yield from _clauses(text, done, len(text), "en")


def _clauses(text: str, start: int, end: int, language: Language) -> Iterator[Piece]:
    least, most = _LEAST[language], _MOST[language]
    while start < end:
        clause = _CLAUSE_END.search(text, start + least, min(end, start + most))
        if clause:
            cut = clause.end()
        elif end - start <= most:
            cut = end
        else:
            cut = text.rfind(" ", start + least, start + most) + 1 or start + most
        # only a piece that ends as a clause does has a pause behind it
        ends = cut == len(text) or text[start:cut].rstrip(_CLOSING)[-1:] in _CLAUSE_ENDS
        yield Piece(start, cut, language, _PAUSE_MS if ends else _JOIN_MS)
        start = cut


def _manner(language: Language, voice: str | None) -> Manner:
    usual = _MANNERS[language]
    parts = (voice or "").lower().split("+")
    accents = [ACCENTS[part] for part in parts if part in ACCENTS and language == "en"]
    speakers = [f"+{part}" for part in parts if part in SPEAKERS]
    return usual._replace(voice=(accents or [usual.voice])[0] + (speakers or [""])[0])


def _trimmed(pcm: bytes, rate: int, pause_ms: int) -> tuple[bytes, int, int]:
    """Return a piece's sound with little silence around it, the samples cut off before it, and those until its end."""
    samples = array("h", pcm)
    first = _first_above(samples, range(0, len(samples), _BLOCK), _SILENCE)
    last = _first_above(samples, range(len(samples) - _BLOCK, -_BLOCK, -_BLOCK), _QUIET)
    if first is None or last is None:
        return b"", 0, 0
    lead = max(0, first - _BLOCK)
    loud = last + _BLOCK - lead
    return pcm[2 * lead : 2 * (lead + loud + rate * pause_ms // 1000)], lead, min(loud, len(samples) - lead)


def _first_above(samples: "array[int]", starts: range, level: int) -> int | None:
    for start in starts:
        block = samples[max(0, start) : start + _BLOCK]
        if max(block) > level or min(block) < -level:
            return max(0, start)
    return None


def _marks(text: str, marked: int, piece: Piece, heard: Heard, lead_ms: float, end_ms: float) -> list[Mark]:
    """Mark the words of a piece, from the first character that is in no mark yet."""
    starts = [token.start() for token in _TOKEN.finditer(text, piece.start, piece.end)]
    if not starts:
        return []
    begun: list[tuple[int, float]] = [(0, 0.0)]
    for character, heard_ms in heard.words[1:]:
        token = bisect_right(starts, piece.start + character) - 1
        ms = heard_ms - lead_ms
        # several events can be of one word, and a word without length belongs to the one before
        if token > begun[-1][0] and begun[-1][1] < ms < end_ms:
            begun.append((token, ms))
    marks = []
    for (token, ms), (next_token, next_ms) in zip(begun, [*begun[1:], (len(starts), end_ms)], strict=True):
        start = starts[token] if token else marked
        end = starts[next_token] if next_token < len(starts) else piece.end
        words = text[start:end]
        marks.append(Mark(end - len(words.lstrip()), start + len(words.rstrip()), ms, next_ms))
    return marks
