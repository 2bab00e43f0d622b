"""How well a passage fits a question: its BM25 score, and the share of the question that it covers."""

import math
import re
from collections.abc import Collection, Iterable, Mapping

from knowledge.tokens import UNSPACED

# the field's usual baseline; on XQuAD it ranks .003 better than FTS5's fixed 1.2 and 0.75, in English as in Chinese
K1, B = 0.9, 0.4
# a word in a title says more about a passage than one in its text
TITLE_WEIGHT = 2.0
# three passages tell little about how rare a word is: count as if so many stood beside them that hold none
PRIOR_PASSAGES = 10
# what a passage must cover to be worth an LLM's attention; it costs XQuAD's nDCG@10 nothing (Chinese: .001), and takes
# away a third of what came behind the right passage
RELEVANT_SHARE = 0.18
# of a long question only a share of what so many unknown words weigh is asked
LONG_QUESTION_WORDS = 8
# more tokens than these, the rarest, do not change which passages come first
MAX_WEIGHED = 64

_PAIR = re.compile(f"[{UNSPACED}]{{1,2}}")
# a pair with one of these is hardly ever a word, so nothing is missing from a passage without it
_FUNCTION_CHARACTERS = frozenset(
    "的了是在有和与與对對为為以由被把從从到于於之其这這那哪個个一不也都而及或但所就還还可能會会要讓让使用著着過过"
    "們们您你我他她它嗎吗呢吧啊什麼么多少怎如何誰谁幾几次年月種种些者"
)


def pack(tokens: Iterable[str]) -> str:
    """Join tokens for `Question.contributions` to count: words between spaces, pairs that overlap in one run."""
    packed: list[str] = []
    last = ""
    for token in tokens:
        if not _is_pair(token):
            packed.append(f" {token} ")
            last = ""
        else:
            packed.append(token[1] if token[0] == last else f" {token}")
            last = token[1]
    return "".join(packed)


class Question:
    """The distinct tokens of a question and their weights: how often it has them, times how rare they are (idf).

    `holding` has the number of passages that hold a token, of all the passages; a token that is in none is not in it.
    `heaviest` are those by which passages are scored, the heaviest first.
    """

    def __init__(self, tokens: Mapping[str, int], passages: int, holding: Mapping[str, int]) -> None:
        self.weights = {token: times * _rarity(passages, holding.get(token, 0)) for token, times in tokens.items()}
        known = sorted(self.weights.keys() & holding.keys(), key=lambda token: (-self.weights[token], token))
        self.heaviest = known[:MAX_WEIGHED]
        self._packed = [(token, token if _is_pair(token) else f" {token} ") for token in self.heaviest]
        pairs = {token: weight for token, weight in self.weights.items() if _PAIR.fullmatch(token)}
        self._pairs = {token: weight for token, weight in pairs.items() if _FUNCTION_CHARACTERS.isdisjoint(token)}
        self._words_weight = sum(weight for token, weight in self.weights.items() if token not in pairs)
        self._words = self.weights.keys() - pairs.keys()
        self._long = LONG_QUESTION_WORDS * _rarity(passages, 0)

    def contributions(self, title: str, text: str, relative_length: float) -> dict[str, float]:
        """Return what each of the tokens that a passage holds adds to its BM25 score.

        `title` and `text` are packed tokens; `relative_length` is the passage's length over the mean.
        """
        damping = K1 * (1 - B + B * relative_length)
        found: dict[str, float] = {}
        for token, packed in self._packed:
            times = TITLE_WEIGHT * title.count(packed) if title else 0.0
            # a substring is told from a token only where there is one: most tokens are not in the text at all
            if token in text:
                times += text.count(packed)
            if times:
                found[token] = self.weights[token] * times * (K1 + 1) / (times + damping)
        return found

    def coverage(self, held: Collection[str]) -> float:
        """Return the share (0 to 1) of the question's weight that a passage with these of its tokens covers.

        A passage that shares only the common words of a question covers little. Most pairs of Chinese characters
        straddle two words: one that is missing counts by those of its characters that no pair found has covered.
        """
        covered = sum(self.weights[token] for token in held)
        missing = self._words_weight - sum(self.weights[token] for token in self._words.intersection(held))
        characters = set("".join(held))
        for token, weight in self._pairs.items():
            if token not in held:
                missing += weight * sum(character not in characters for character in token) / len(token)
        return covered / min(covered + missing, max(covered, self._long)) if covered else 0.0


def _rarity(passages: int, holding: int) -> float:
    return math.log(1 + (passages + PRIOR_PASSAGES - holding + 0.5) / (holding + 0.5))


def _is_pair(token: str) -> bool:
    return len(token) == 2 and token >= UNSPACED[0]
