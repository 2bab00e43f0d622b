"""Answers as the built-in demo model: it quotes what it was given and never makes anything up."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from protocol.language import HAN, Language, language
from upstream.demo.conversation import Conversation, Message, read
from upstream.demo.excerpt import Passage, excerpt
from upstream.demo.phrases import (
    CANNOT_ANSWER,
    HEARD,
    NOT_IN_DOCUMENTS,
    NOTICE,
    ONLY_QUOTES,
    OTHER_LANGUAGE,
    PICTURE,
    QUESTION,
    RECORDING,
    SAID,
    SMALL_TALK,
    WHO_ARE_YOU,
)
from upstream.demo.sentences import sentences, terms

# the length of what is said of the conversation, in characters
_ECHO, _QUOTATION = 60, 160
# much in a conversation shares a word with a question and does not answer it
_RECALLED_FIT = 0.55

_ABOUT_CALLER = re.compile(r"\b(?:i|me|my|mine)\b|我", re.IGNORECASE)
_ABOUT_AGENT = re.compile(r"\b(?:you|your|yours)\b|[你您]", re.IGNORECASE)
_ENDED = re.compile(r"[.!?…。！？][\"'”’)）」』]*$")
_FULL_STOP: Mapping[Language, str] = {"en": ".", "zh": "。"}
_HAN_MARK = "，。！？；：、“”（）"
_PIECE = re.compile(rf"\s*(?:[{HAN}][{HAN}{_HAN_MARK}]?|[{_HAN_MARK}]|[^\s{HAN}{_HAN_MARK}]+)\s*|\s+")


def reply(messages: Sequence[Mapping[str, Any]], reference: Sequence[Passage] | None = None) -> str:
    """Answer the caller's last turn by quotation, in the language of that turn.

    `messages` are the request's, as the caller sent them; `reference` is what was found for the turn, best first, as
    (title, text) pairs, or None where nothing was searched. The answer is taken from the reference, else from the
    conversation and its system message; one that is not from the reference says that this is the demo and how to get
    a real LLM. The same arguments always give the same answer.
    """
    talk = read(messages)
    seen = _acknowledge(talk)
    answer = (
        _greet(talk)
        or _quote_reference(talk, reference or ())
        or _quote_conversation(talk)
        or (seen and [NOTICE[talk.language]])
        or _introduce(talk)
        or _remark(talk)
        or _give_up(talk, searched=reference is not None)
    )
    return _join([*seen, *answer])


def words(text: str) -> list[str]:
    """Cut an answer into the pieces in which it is streamed; joined they are exactly the text.

    English comes word by word, each with the space behind it, Chinese by one or two characters.
    """
    return _PIECE.findall(text)


def _acknowledge(talk: Conversation) -> list[str]:
    media = ((talk.question.picture, PICTURE), (talk.question.recording, RECORDING))
    return [phrase[talk.language] for sent, phrase in media if sent]


def _greet(talk: Conversation) -> list[str]:
    phrase, rest = _small_talk(talk)
    return [phrase, NOTICE[talk.language]] if phrase and not terms(rest) else []


def _quote_reference(talk: Conversation, reference: Sequence[Passage]) -> list[str]:
    asked = talk.question.text
    # "and how much is that?" says too little to be understood alone
    earlier = next(talk.history(["user"]), None) if len(terms(asked)) < 2 else None
    found = excerpt(asked, reference, talk.language, context=earlier.text if earlier else "")
    if not found:
        return []
    foreign = language("".join(found.sentences), talk.language) != talk.language
    return [*([OTHER_LANGUAGE[talk.language]] if foreign else []), *map(_close, found.sentences)]


def _quote_conversation(talk: Conversation) -> list[str]:
    asked = talk.question.text
    if not QUESTION.search(asked):
        return []
    about_agent = _ABOUT_AGENT.search(asked) and not _ABOUT_CALLER.search(asked)
    turns = list(talk.history(["assistant"] if about_agent else ["user", "assistant"]))
    for said, least in ((turns, _RECALLED_FIT), (list(talk.history(["system"])), None)):
        reference = [("", _statements(message)) for message in said]
        found = excerpt(asked, reference, talk.language, least=least, length=_QUOTATION)
        if found:
            lead_in = SAID[said[found.passage].role][talk.language]
            return [lead_in.format(_join(map(_close, found.sentences))), NOTICE[talk.language]]
    return []


def _introduce(talk: Conversation) -> list[str]:
    return [NOTICE[talk.language], ONLY_QUOTES[talk.language]] if WHO_ARE_YOU.search(talk.question.text) else []


def _remark(talk: Conversation) -> list[str]:
    phrase, rest = _small_talk(talk)
    if QUESTION.search(rest):
        return []
    heard = _echo(rest, talk.language) if rest and not phrase else ""
    return [phrase, heard, NOTICE[talk.language]]


def _give_up(talk: Conversation, *, searched: bool) -> list[str]:
    if searched:
        return [NOT_IN_DOCUMENTS[talk.language], NOTICE[talk.language]]
    return [_echo(talk.question.text, talk.language), CANNOT_ANSWER[talk.language], NOTICE[talk.language]]


def _small_talk(talk: Conversation) -> tuple[str, str]:
    """Give the answer to the small talk that opens the turn, empty where there is none, and the rest of the turn."""
    text = talk.question.text
    for pattern, answer in SMALL_TALK:
        if opening := pattern.match(text):
            return answer[talk.language], text[opening.end() :]
    return "", text


def _statements(message: Message) -> str:
    """Leave out what answers nothing: the caller's questions, and what the demo said of itself."""
    if any(notice in message.text for notice in NOTICE.values()):
        return ""
    said = sentences(message.text, _QUOTATION)
    return "\n\n".join(s for s in said if message.role != "user" or not QUESTION.search(s))


def _echo(text: str, spoken: Language) -> str:
    text = " ".join(text.split())
    if len(text) > _ECHO:
        cut = text.rfind(" ", _ECHO // 2, _ECHO)
        text = text[: cut if cut > 0 else _ECHO].rstrip(" ,.;:，。；：、") + "…"
    return HEARD[spoken].format(text) + ("" if _ENDED.search(text) else _FULL_STOP[spoken])


def _close(sentence: str) -> str:
    """End a sentence as one does: a list item has no full stop, and one that was cut ends with a comma."""
    if sentence.endswith((",", ";", ":", "，", "；", "：", "、")):
        return sentence[:-1] + "…"
    return sentence if _ENDED.search(sentence) else sentence + _FULL_STOP[language(sentence)]


def _join(said: Iterable[str]) -> str:
    text = ""
    for sentence in filter(None, said):
        wide = text[-1:] in ("。", "！", "？", "：") or not (text[-1:].isascii() or sentence[0].isascii())
        text += sentence if wide or not text else f" {sentence}"
    return text
