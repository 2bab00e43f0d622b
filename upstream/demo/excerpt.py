"""Finds the few sentences of a reference that answer a question best."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from protocol.language import Language, language
from upstream.demo.sentences import sentences, terms

Passage = tuple[str, str]
"""A title, which may be empty, and a text."""

# the least share of a question that a passage must speak of; pairs of Chinese characters also straddle words, so fewer
# of them are found again
_LEAST_FIT: Mapping[Language, float] = {"en": 0.35, "zh": 0.3}
_MOST_SENTENCES = 3
_WORTH_ADDING = 0.6  # times the best sentence's score

# what a term weighs: in the context, and as a single Chinese character left over between words
_CONTEXT, _LETTER = 0.5, 0.3
# what counts beside a sentence's own terms: those of the sentences before and after it, which often name what it only
# calls "it"; the passage's title, as far as the question is about it; something of the kind that is asked for
_BEFORE, _AFTER, _TITLE, _RIGHT_KIND = 0.25, 0.1, 2.0, 0.15
# a long sentence meets a term more easily; below so many terms length says nothing
_LENGTH, _SHORT = 0.3, 6
# times the score: a question in a document seldom answers one; a caller wants the language that he speaks
_ASKS_ITSELF, _FOREIGN = 0.3, 0.5
# what counts beside a passage's best sentence: all that it covers, and where the search ranked it
_COVERED, _RANK = 0.3, 0.05

# what a question asks for, and how a sentence that has it can be told
_KINDS = [
    (
        re.compile(
            r"\bhow (?:many|much|long|old|far|fast|big|often|high)\b|\bpercent|\bnumber\b|多少|几|多[久长大高快远]|比例"
        ),
        re.compile(
            r"\d|[一二三四五六七八九十百千万两]|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|half|hundred)\b"
        ),
    ),
    (
        re.compile(r"\bwhen\b|\b(?:what|which) (?:year|date|day|time|month)\b|什么时候|何时|哪一?[年天月]|几[点时]"),
        re.compile(
            r"\b[12]\d{3}\b|\d\s*(?:年|月|日|点|世纪|a\.?m|p\.?m)|\b(?:january|february|march|april|may|june|july|august"
            r"|september|october|november|december|(?:mon|tues|wednes|thurs|fri|satur|sun)days?|century)\b"
        ),
    ),
    (
        re.compile(r"\bwhy\b|为什么|为何|原因"),
        re.compile(r"\b(?:because|since|due to|so that|therefore|reason)\b|因为|由于|因此|所以|为了"),
    ),
]
# a sentence that starts so is understood only after the one before it
_LEANS = re.compile(
    r"(?:it|its|they|their|he|his|she|her|this|these|that|those|both|then|otherwise|so)\b|[它他她这此那其]|之后|否则|所以",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d[\d.,:]*")


@dataclass(frozen=True)
class Excerpt:
    """Sentences of one passage, in its order, and the passage's place in the reference."""

    sentences: tuple[str, ...]
    passage: int


@dataclass(frozen=True)
class _Sentence:
    text: str
    terms: frozenset[str]


@dataclass(frozen=True)
class _Document:
    title: frozenset[str]
    body: list[_Sentence]
    language: Language

    def terms(self) -> frozenset[str]:
        return self.title.union(*(sentence.terms for sentence in self.body))


def excerpt(
    question: str,
    reference: Sequence[Passage],
    spoken: Language,
    *,
    context: str = "",
    least: float | None = None,
    length: int = 300,
) -> Excerpt | None:
    """Pick the one to three sentences of a reference that answer a question best, or none where nothing fits.

    `reference` is best first, as a search returns it; passages in the language `spoken` are preferred. Terms of
    `context`, such as the question before this one, count half. `least` is the share of the question, 0 to 1, that a
    passage must speak of. The sentences are of one passage, at most `length` characters together.
    """
    documents = [_read(title, text, spoken, length) for title, text in reference]
    weights = _weigh(question, context, documents)
    needed = (_LEAST_FIT[spoken] if least is None else least) * sum(weights.values())
    best, most = None, 0.0
    for place, document in enumerate(documents):
        covered = _sum(weights, document.terms())
        if not document.body or not covered or covered < needed:
            continue
        scores = _score(document, question, weights)
        value = (max(scores) + _COVERED * covered) / (1 + _RANK * place)
        value *= 1 if document.language == spoken else _FOREIGN
        if value > most:
            best, most = Excerpt(_choose(document.body, scores, weights, length), place), value
    return best


def _read(title: str, text: str, spoken: Language, length: int) -> _Document:
    body = [_Sentence(sentence, frozenset(terms(sentence))) for sentence in sentences(text, length)]
    return _Document(frozenset(terms(title)), body, language(text, default=spoken))


def _weigh(question: str, context: str, documents: Sequence[_Document]) -> dict[str, float]:
    """Weigh each term of the question by how few sentences of the reference have it."""
    seen = Counter(term for document in documents for said in document.body for term in said.terms | document.title)
    count = sum(len(document.body) for document in documents)
    shares = dict.fromkeys(terms(context), _CONTEXT) | dict.fromkeys(terms(question), 1.0)
    weights = {}
    for term, share in shares.items():
        share *= _LETTER if len(term) == 1 else 1
        # what the reference does not have at all is often only another word for what it has
        weights[term] = share * (1 + math.log(1 + (count + 0.5) / (max(seen[term], 1) + 0.5)))
    return weights


def _sum(weights: Mapping[str, float], found: frozenset[str]) -> float:
    return sum(weight for term, weight in weights.items() if term in found)


def _score(document: _Document, question: str, weights: Mapping[str, float]) -> list[float]:
    """Score each sentence of a document in units of the weights."""
    body, title = document.body, document.title
    about = len(title & weights.keys()) / len(title) if title else 0
    base = _TITLE * about * _sum(weights, title)
    kind = _RIGHT_KIND * sum(weights.values())
    right = _has_the_kind_asked_for(question)
    scores = []
    for at, sentence in enumerate(body):
        said = sentence.terms
        before = body[at - 1].terms - said if at else frozenset[str]()
        after = body[at + 1].terms - said if at + 1 < len(body) else frozenset[str]()
        score = _sum(weights, said) + _BEFORE * _sum(weights, before) + _AFTER * _sum(weights, after)
        score = base + score / (1 + _LENGTH * math.log(1 + max(len(said), _SHORT))) + kind * right(sentence.text)
        scores.append(score * (_ASKS_ITSELF if sentence.text.endswith(("?", "？")) else 1))
    return scores


def _has_the_kind_asked_for(question: str) -> Callable[[str], bool]:
    """Return a test of a sentence: has it a number, time or reason of its own, where the question asks for one?"""
    question = question.lower()
    kinds = [shown for asked, shown in _KINDS if asked.search(question)]
    known = set(_NUMBER.findall(question))

    def test(sentence: str) -> bool:
        news = _NUMBER.sub(lambda number: "" if number[0] in known else number[0], sentence.lower())
        return any(shown.search(news) for shown in kinds)

    return test if kinds else lambda sentence: False


def _choose(
    body: Sequence[_Sentence], scores: Sequence[float], weights: Mapping[str, float], length: int
) -> tuple[str, ...]:
    by_score = sorted(range(len(body)), key=lambda at: (-scores[at], at))
    best = by_score[0]
    wanted = [at for at in by_score if scores[at] >= _WORTH_ADDING * scores[best]]
    if best and _LEANS.match(body[best].text):
        wanted.insert(1, best - 1)
    # "yes", or the question said over again
    if body[best].terms <= weights.keys() and best + 1 < len(body):
        wanted.insert(1, best + 1)
    chosen: list[int] = []
    for at in dict.fromkeys(wanted):
        room = length - sum(len(body[other].text) + 1 for other in chosen)
        if len(chosen) < _MOST_SENTENCES and len(body[at].text) <= room:
            chosen.append(at)
    return tuple(body[at].text for at in sorted(chosen))
