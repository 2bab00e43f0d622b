"""Gives each word of a sentence its time in the sentence's sound."""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from audio.voice import Mark
from audio.wording import Word, Wording
from protocol.language import HAN

# what speaking a character takes, measured in letters of an English word
_HAN_WEIGHT = 3.0
_DIGIT_WEIGHT = 3.5
_CAPITAL_WEIGHT = 2.5  # one of several, which are spelled
_PAUSES = dict.fromkeys(",;:，；：、—–", 3.0) | dict.fromkeys(".!?…。！？", 6.0)
_SIGNS = {"%": 6.0, "$": 5.0, "€": 4.0, "£": 4.0, "¥": 3.0, "&": 2.0, "@": 2.0, "+": 3.0, "=": 5.0, "#": 5.0, "°": 5.0}
# the gap between two words
_WORD_WEIGHT = 0.5

_HAN = re.compile(f"[{HAN}]")
_SPELLED = re.compile(r"(?<![A-Za-z])[A-Z]{2,5}(?![a-z])")
_POINT = re.compile(r"(?<=\w)[.:](?=\w)")

# the sound goes on this long behind its last word, at most
_LONGEST_REST_MS = 300.0
# a word that falls into a gap shorter than this was said within the one beside it
_SHORTEST_GAP_MS = 20.0


class TimedWord(NamedTuple):
    """A word of what is shown, and when it is spoken: ms from the first sample of the sentence's sound."""

    text: str
    start_ms: float
    end_ms: float


def timed(wording: Wording, marks: Sequence[Mark], duration_ms: float) -> list[TimedWord]:
    """Return when each word of a sentence is spoken, by the voice's marks, or estimated where it gave none.

    The times rise, do not overlap and lie within 0 and `duration_ms`; the last one ends at most 300 ms before that.
    """
    words = wording.words
    if not words:
        return []
    duration_ms = max(duration_ms, 0.0)
    spans = _marked(wording, marks, duration_ms)
    _estimate_rest(spans, [_weight(wording.spoken[word.start : word.end]) for word in words], duration_ms)
    return _in_order(words, spans, duration_ms)


# a word's start and end in ms, where they are known
_Spans = list[tuple[float, float] | None]


def _marked(wording: Wording, marks: Sequence[Mark], duration_ms: float) -> _Spans:
    """Return the times of the words that the marks say something about."""
    words = wording.words
    # how far into the sentence each character is, so that a mark of many words is shared among them
    far = list(accumulate((_weight_of(char) + 0.1 for char in wording.spoken), initial=0.0))
    spans: _Spans = [None] * len(words)
    first = 0
    now = 0.0
    for mark in sorted(marks):
        start, end = max(mark.start, 0), min(mark.end, len(wording.spoken))
        start_ms, end_ms = max(mark.start_ms, now), min(mark.end_ms, duration_ms)
        if start >= end or start_ms >= end_ms:
            continue
        now = start_ms
        while first < len(words) and words[first].end <= start:
            first += 1
        speed = (end_ms - start_ms) / (far[end] - far[start])
        for at in range(first, len(words)):
            word = words[at]
            if word.start >= end:
                break
            begins = start_ms + (far[max(word.start, start)] - far[start]) * speed
            ends = start_ms + (far[min(word.end, end)] - far[start]) * speed
            known = spans[at]
            spans[at] = (known[0], max(known[1], ends)) if known else (begins, ends)
    return spans


def _estimate_rest(spans: _Spans, weights: list[tuple[float, float]], duration_ms: float) -> None:
    """Share the time between the words that have one among those that have none."""
    at = 0
    while at < len(spans):
        if spans[at] is not None:
            at += 1
            continue
        first = at
        while at < len(spans) and spans[at] is None:
            at += 1
        before = spans[first - 1] if first else None
        after = spans[at] if at < len(spans) else None
        start_ms, end_ms = before[1] if before else 0.0, after[0] if after else duration_ms
        last = at
        if end_ms - start_ms < _SHORTEST_GAP_MS * (at - first):
            # there is no room: they were said within the word before, or the one behind
            if before:
                first, start_ms = first - 1, before[0]
            elif after:
                last, end_ms = at + 1, after[1]
        spans[first:last] = _shared(start_ms, max(start_ms, end_ms), weights[first:last])


def _shared(start_ms: float, end_ms: float, weights: list[tuple[float, float]]) -> _Spans:
    """Share a time among words by what each weighs, and the pause behind each but the last."""
    total = sum(said + pause for said, pause in weights) - weights[-1][1]
    speed = (end_ms - start_ms) / total if total else 0.0
    spans: _Spans = []
    passed = 0.0
    for said, pause in weights:
        spans.append((start_ms + passed * speed, start_ms + (passed + said) * speed))
        passed += said + pause
    return spans


def _in_order(words: Sequence[Word], spans: _Spans, duration_ms: float) -> list[TimedWord]:
    starts = []
    now = 0.0
    for span in spans:
        now = min(max(now, span[0] if span else now), duration_ms)
        starts.append(now)
    followed_by = [*starts[1:], duration_ms]
    timed_words = []
    for word, span, start_ms, next_ms in zip(words, spans, starts, followed_by, strict=True):
        end_ms = min(max(span[1] if span else start_ms, start_ms), next_ms)
        timed_words.append(TimedWord(word.text, start_ms, end_ms))
    last = timed_words[-1]
    timed_words[-1] = last._replace(end_ms=max(last.end_ms, duration_ms - _LONGEST_REST_MS))
    return timed_words


def _weight(spoken: str) -> tuple[float, float]:
    """Return what saying a word takes, and the pause that its punctuation makes."""
    body = spoken.rstrip("\"'”’)]）」』】》")
    pause = _PAUSES.get(body[-1:], 0.0)
    weight = _WORD_WEIGHT + sum(map(_weight_of, spoken)) + 4.0 * len(_POINT.findall(spoken))
    weight += sum((_CAPITAL_WEIGHT - 1.0) * len(letters) for letters in _SPELLED.findall(spoken))
    return weight, pause


def _weight_of(char: str) -> float:
    if char > "\u3000" and _HAN.match(char):
        return _HAN_WEIGHT
    if char.isdigit():
        return _DIGIT_WEIGHT
    return 1.0 if char.isalpha() else _SIGNS.get(char, 0.0)
