"""What to search for: the caller's last turn, with what was said before where it cannot stand alone."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from knowledge.tokens import UNSPACED, tokens

MAX_TURN_CHARACTERS = 1_000
MAX_EARLIER_CHARACTERS = 300
# a reply names its subject at its beginning and makes its offer at its end
MAX_SUBJECT_CHARACTERS = 60
MAX_OFFER_CHARACTERS = 200
# how many messages of either side may help
MAX_MESSAGES = 8
# a turn that points elsewhere stands alone if it has more words of its own than this
MAX_POINTING_WORDS = 4

_POINTING = re.compile(
    r"\b(?:its?|this|that|these|those|they|them|theirs?|he|him|his|she|hers?|ones?|others?|another|same|former|latter)\b"
    "|[它他她其这那這]|另一|别的|別的|前者|后者|後者|同样|同樣|刚才|剛才|上面|一样|一樣"
)
_OPENING = re.compile(
    r"\W*(?:(?:and|or|but|so|then|also|plus|(?:what|how) about)\b|那|还有|還有|然后|然後|另外|而且|可是|但是)"
)
_CLOSING = re.compile(r"呢\W*$")
_ASKING = re.compile(
    "什么|什麼|多少|怎么|怎麼|怎样|怎樣|如何|哪|谁|誰|几|幾|吗|嗎|为何|為何|是否|能不能|可不可以|有没有|有沒有"
)
# what is left of a Chinese turn without these is what it is about
_FUNCTION_WORD = re.compile(
    f"{_ASKING.pattern}|{_OPENING.pattern}|请问|請問|可以|告诉|告訴|知道|一下|前者|后者|後者"
    "|[它他她其这那這个個款种種些的了呢吧啊呀是有在会會能要想我你您们們和跟给給让讓就也都还還再又很太为為么麼]"
)
_COURTESY = re.compile(
    r"\b(?:ok|okay|oh|well|great|good (?:morning|afternoon|evening|night)|good|perfect|nice|thanks?(?: you)?|no"
    r"|(?:so |very )?much|a lot|for your help|(?:good)?bye|see you|later|hello|hi|hey|there|have a (?:nice|good) day"
    r"|that'?s all)\b"
    r"|谢谢|謝謝|多谢|多謝|感谢|感謝|你好|您好|再见|再見|拜拜|早上好|下午好|晚上好|晚安|没事了|沒事了|不用了|好的?|[你您了啦啊哦嗯]"
)
_ASSENT = re.compile(
    r"\b(?:yes|yeah|yep|sure|ok|okay|please|go on|go ahead|continue|of course|right|do|tell me more|i would|i do)\b"
    r"|好的?|对|對|是的?|可以|行|继续|繼續|要|当然|當然|没错|沒錯|[嗯啊呀]"
)
_OFFER = re.compile(r"([^.!?。！？\n]*[?？])\W*$")
_CHARACTER = re.compile(f"[{UNSPACED}]")


class _Turn(NamedTuple):
    role: str
    text: str


def question(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the text to search for, or "" where there is nothing to look up: no turn of the caller, a mere courtesy.

    A fragment ("warranty?") or a turn that points elsewhere ("and how much is that one?", "那它多少钱？") comes after
    the caller's earlier turns, back to one that stands alone, and, where it points, after the beginning of the reply
    before it; it is then given twice, to outweigh them. In follow-ups made of XQuAD's questions this lifts recall@5
    from .95 to .98, in both languages. Who says yes to an offer asks for what was offered.
    """
    turns = list(_latest(messages))
    spoken: list[str] = []
    while turns and turns[0].role == "user":
        spoken.insert(0, turns.pop(0).text)
    last = " ".join(spoken).strip()[-MAX_TURN_CHARACTERS:]
    offer = _OFFER.search(turns[0].text[-MAX_OFFER_CHARACTERS:]) if turns else None
    if offer and _is_only(_ASSENT, last):
        last = offer[1].strip()
        del turns[0]
    elif _is_only(_COURTESY, last):
        return ""
    if _stands_alone(last):
        return last
    points = not _words(last) or bool(_POINTING.search(last.casefold()))
    earlier: list[str] = []
    for number, turn in enumerate(turns):
        if turn.role == "user":
            earlier.insert(0, turn.text[-MAX_EARLIER_CHARACTERS:])
            if _stands_alone(turn.text):
                break
        elif points and number == 0:
            earlier.insert(0, turn.text[:MAX_SUBJECT_CHARACTERS])
    earlier = [text for text in earlier if text]
    return "\n".join([*earlier, last, last]) if earlier else last


def _latest(messages: Sequence[Mapping[str, Any]]) -> Iterator[_Turn]:
    """Yield what was said, the newest first, from the caller's last turn on."""
    found = 0
    for message in reversed(messages):
        role = message.get("role")
        if role == "user" or (role == "assistant" and found):
            text = _text(message.get("content")).strip()
            if text or role == "user":
                found += 1
                yield _Turn(role, text)
        if found == MAX_MESSAGES:
            return


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "\n".join(text for text in texts if isinstance(text, str))


def _is_only(words: re.Pattern[str], text: str) -> bool:
    return not re.search(r"\w", words.sub(" ", text.casefold()))


def _stands_alone(text: str) -> bool:
    if len(text) > MAX_EARLIER_CHARACTERS:
        return True
    text = text.casefold()
    words = _words(text)
    if _POINTING.search(text) or _OPENING.match(text) or _CLOSING.search(text):
        return words > MAX_POINTING_WORDS
    return words > 1 or (words == 1 and bool(_ASKING.search(text)))


def _words(text: str) -> float:
    """Count the words that say something; two Chinese characters are a word."""
    text = _FUNCTION_WORD.sub(" ", text.casefold())
    spaced, characters = _CHARACTER.subn(" ", text)
    return characters / 2 + sum(1 for word in spaced.split() if tokens(word))
